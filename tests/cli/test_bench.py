"""``wirespeed bench``: rows of one form, a peer where it is installed, and clear words where nothing moves.

What the figures are is no test's business; a few are measured with --quick to see that they are measured at all.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import wirespeed as ws
from wirespeed.bench import forward
from wirespeed.bench.errors import BenchError
from wirespeed.bench.settings import Settings
from wirespeed.cli import main
from wirespeed.graph.graph import Graph
from wirespeed.jit import COMPILED
from wirespeed.ports.port import port

SOURCE = Path(ws.__file__).parents[1]
KEYS = ["bench", "metric", "unit", "value", "peer", "peer_value", "ratio"]

pytestmark = pytest.mark.skipif(not COMPILED, reason="nothing is compiled: there is nothing to measure")


def needs(program):
    return pytest.mark.skipif(not shutil.which(program), reason=f"{program} is not installed")


def rows(tmp_path, *arguments):
    """Run it where ../shared is not found, so that it takes what it makes itself."""
    command = [sys.executable, "-m", "wirespeed", "bench", *arguments, "--quick", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=580, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for row in found:
        assert list(row) == KEYS
        assert row["bench"] == arguments[0]
        assert row["value"] > 0
        assert [row[key] is None for key in KEYS[4:]] in ([True] * 3, [False] * 3)
        if row["ratio"] is not None:
            assert row["ratio"] > 0
            assert row["peer_value"] > 0
    return found


FORWARD = [
    ("macswap, 60 B", "packets/s"), ("macswap, 60 B", "cycles/packet"),
    ("router, 60 B", "packets/s"), ("router, 60 B", "cycles/packet"),
]  # fmt: skip


def test_forward(tmp_path):
    found = rows(tmp_path, "forward")
    assert [(row["metric"], row["unit"]) for row in found] == FORWARD
    assert all(row["peer"] is None for row in found)


def test_forward_with_a_table(tmp_path):
    (tmp_path / "routes.txt").write_text("10.0.0.0/8\n192.0.2.0/24\n")
    found = rows(tmp_path, "forward", "--routes", "routes.txt")
    assert [(row["metric"], row["unit"]) for row in found[:4]] == FORWARD
    full = "router, 2 routes, random destinations"
    assert [(row["metric"], row["unit"]) for row in found[4:]] == [(full, "packets/s"), (full, "cycles/packet")]


@needs("dpdk-testpmd")
def test_forward_beside_testpmd(tmp_path):
    found = rows(tmp_path, "forward", "--peer", "dpdk")
    assert [(row["metric"], row["unit"]) for row in found] == FORWARD
    assert "testpmd macswap" in found[0]["peer"]
    assert all(row["peer"] for row in found)
    for packets, cycles in zip(found[::2], found[1::2], strict=True):
        assert packets["ratio"] == cycles["ratio"]
        assert packets["value"] * cycles["value"] == pytest.approx(packets["peer_value"] * cycles["peer_value"])


@pytest.mark.long
def test_start(tmp_path):
    found = rows(tmp_path, "start")
    assert [(row["metric"], row["unit"]) for row in found] == [
        ("command to first packet, warm", "s"),
        ("command to first packet, cold", "s"),
    ]


@needs("ip")
@pytest.mark.long
def test_idle(tmp_path):
    found = rows(tmp_path, "idle")
    assert len(found) == 1 + 3 * 4
    assert [row["peer"] for row in found if row["metric"].startswith("first packet")] == ["Linux forwarding"] * 3


@needs("tcpdump")
def test_pcap(tmp_path):
    pytest.importorskip("dpkt")
    found = rows(tmp_path, "pcap")
    assert [(row["metric"], row["unit"]) for row in found] == [("DNS queries per client", "s")] * 2
    assert "tcpdump" in found[0]["peer"]
    assert "dpkt" in found[1]["peer"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_leaves_no_folder_behind(monkeypatch, tmp_path, number, code):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen = []

    def signalled(*_):
        seen.extend(tmp_path.iterdir())
        os.kill(os.getpid(), number)
        raise AssertionError("the signal ends it")

    monkeypatch.setattr(forward, "_against_testpmd", signalled)
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as ended:
        main(["bench", "forward", "--quick"])
    assert ended.value.code == code
    assert len(seen) == 1
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(number) == before


def test_a_turn_in_which_nothing_moves(monkeypatch):
    """A machine too busy to run the worker at all, for which an input without packets stands."""
    monkeypatch.setattr(forward, "_PATIENCE_S", 0.3)
    graph = Graph()
    graph.add(port("null:count=0") >> port("sink"))
    said = pytest.raises(BenchError, match=r"no packet was forwarded in \d+ s: something else holds the core")
    with forward.turns(graph, Settings(quick=True)) as ours, said:
        ours.measure()

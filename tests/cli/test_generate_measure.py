"""``wirespeed generate`` and ``wirespeed measure``: JSON and its figures, files, and mistakes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
from scapy.layers.inet import IP, UDP
from scapy.utils import rdpcap

from wirespeed.cli.generate import end, facts
from wirespeed.jit import COMPILED
from wirespeed.ports.generator.port import Pace

SOURCE = Path(__file__).parents[2] / "src"
compiled = pytest.mark.skipif(not COMPILED, reason="nothing is compiled: the children compile for themselves")


def run(*arguments, code=0):
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "COLUMNS": "200"}
    command = [sys.executable, "-m", "wirespeed", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=580)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_what_was_on_its_way_at_the_end_is_sent():
    """The worker is inside a burst when it is told to stop; what left with it is counted on both sides."""

    class Sender:
        left = 1000

        def halt(self):
            pass

        def pace(self):
            return Pace(self.left, 0.0, 1e6, 0)

        def stop(self):
            self.left += 64
            return SimpleNamespace(sent=self.left)

    sender = Sender()
    assert facts(*end(sender, sender), 84.0)["refused"] == 0


@compiled
def test_generate_into_a_capture(tmp_path):
    file = tmp_path / "out.pcap"
    options = ["--count", "1k", "--size", 128, "--flows", 10, "--dst", "10.0.0.0/24", "--stamp", "--more", "sport=7"]
    said = json.loads(run("generate", f"pcap:{file}", *options, "--json").stdout)
    assert said["packets"] == said["report"]["sent"] == 1000
    assert (said["refused"], said["target_rate"], said["error_ppm"]) == (0, None, None)
    frames = rdpcap(str(file))
    assert len(frames) == 1000
    assert {len(frame) for frame in frames} == {124}
    assert len({frame[IP].dst for frame in frames}) == 10
    assert {frame[UDP].sport for frame in frames} == {7}
    assert [int.from_bytes(bytes(frame)[54:58], "big") for frame in frames] == list(range(1000))


@compiled
def test_generate_at_a_rate():
    done = run("generate", "sink:", "--rate", "10k", "--seconds", 0.3, "--imix")
    assert "packets sent" in done.stdout
    assert "asked for 10,000 packets/s: off by" in done.stdout
    said = json.loads(run("generate", "sink:", "--bits", "1G", "--seconds", 0.2, "--burst", 8, "--json").stdout)
    assert said["target_rate"] == pytest.approx(1e9 / 84 / 8)
    assert said["packets"] % 8 == 0 or said["packets"] > 0
    assert said["achieved_rate"] <= said["target_rate"] * 1.05


@compiled
def test_measure_on_a_ring():
    told = json.loads(run("measure", "ring:a", "ring:a", "--rate", "20k", "--seconds", 0.2, "--json").stdout)
    assert told["sent"] == told["received"] > 0
    assert (told["lost"], told["reordered"], told["duplicates"]) == (0, 0, 0)
    assert told["latency_ns"]["count"] == told["received"]
    assert "software" in told["caveat"]
    text = run("measure", "ring:a", "ring:a", "--rate", "20k", "--seconds", 0.2, "--size", 128).stdout
    assert "lost      0 (0.0000%)" in text
    assert "p99.999" in text


@compiled
def test_the_search_on_a_ring(tmp_path):
    plot = tmp_path / "plot.svg"
    options = ["--rfc2544", "--sizes", "64,512", "--seconds", 0.1, "--confirm", 0.2, "--plot", plot]
    told = json.loads(run("measure", "ring:a", "ring:a", *options, "--rate", "50k", "--json").stdout)
    assert [each["size"] for each in told["sizes"]] == [64, 512]
    for each in told["sizes"]:
        assert each["throughput"]["packets_per_second"] > 0
        assert each["throughput"]["tester_limited"]  # a ring loses nothing
        assert each["loss"][0]["lost"] == 0
        assert each["back_to_back"]["frames"] > 0
    assert told["settings"]["confirm"] == 0.2
    assert ElementTree.parse(plot).getroot().tag.endswith("svg")


@compiled
def test_nothing_comes_back():
    done = run("measure", "sink:", "ring:nothing", "--seconds", 0.1, "--rate", "10k", "--settle", 0)
    assert "lost      " in done.stdout and "(100.0000%)" in done.stdout
    assert "nothing of what was sent came back" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["generate", "sink:", "--size", 10], "size=10 must be 64 to 9018"),
        (["generate", "sonk:"], "no port is called 'sonk'"),
        (["generate", "sink:", "--rate", "fast"], "option rate='fast' must be a whole number"),
        (["generate", "sink:", "--rate", "1k", "--bits", "1k"], "rate and rate_bits exclude"),
        (["generate", "sink:", "--more", "sizes=64,speed=1"], "has no option 'speed'"),
        (["measure", "ring:a", "ring:a", "--workers", 2], "one port cannot be opened by two"),
        (["measure", "ring:a", "ring:b", "--plot", "p.svg"], "--plot is for --rfc2544"),
        (["measure", "ring:a", "ring:b", "--rfc2544", "--tests", "latencies"], "did you mean 'latency'?"),
        (["measure", "ring:a", "ring:b", "--rfc2544", "--sizes", "64;128"], "must be frame sizes with commas"),
        (["measure", "ring:a", "ring:b", "--rfc2544", "--plot", "/nowhere/p.svg"], "there is no folder /nowhere"),
    ],
)
def test_mistakes(arguments, says):
    done = run(*arguments, code=2)
    assert done.stdout == ""
    assert done.stderr.startswith("wirespeed: ") and says in done.stderr
    assert done.stderr.count("\n") == 1

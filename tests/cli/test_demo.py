"""``wirespeed demo``: figures that agree, routes of one's own, two workers, drops by their reason."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import wirespeed as ws
from wirespeed.apps.demo import demo, make_router, route
from wirespeed.errors import TableError
from wirespeed.jit import COMPILED
from wirespeed.ports.generator.port import Generator

SOURCE = Path(ws.__file__).parents[1]
ROUTES = "# two sites\n10.0.0.0/8\n192.168.4.0/22\n"
KEYS = {
    "packets", "packets_per_second", "cycles_per_packet", "line_rate_share", "nodes", "drops", "first_packet_seconds",
    "first_packet_monotonic", "compile_seconds", "cached", "faster_with", "report", "why_no_counters",
}  # fmt: skip
PATH = ["ethernet_input", "ipv4_validate", "ipv4_lookup", "ipv4_ttl", "ipv4_rewrite"]

compiled = pytest.mark.skipif(not COMPILED, reason="nothing is compiled: the children compile for themselves")


def run(*arguments):
    command = [sys.executable, "-m", "wirespeed", "demo", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=580)
    assert done.returncode == 0, done.stderr
    return done


def figures(*arguments):
    done = run("--seconds", "0.2", "--json", *arguments)
    said = json.loads(done.stdout)  # nothing else on stdout
    assert set(said) == KEYS
    report = said["report"]
    assert said["packets"] == report["packets"] > 0
    assert said["drops"] == report["drops"]
    assert report["packets"] == report["sent"] + sum(said["drops"].values())
    assert report["bytes"] == 60 * report["packets"]
    assert (report["in_use"], report["faults"], report["interrupted"]) == (0, [], False)
    assert list(report["nodes"]) == PATH
    arriving = report["packets"]
    for name in PATH:  # what one node sends on the next one sees
        node = report["nodes"][name]
        assert sum(node["outputs"].values()) + sum(node["drops"].values()) == arriving, name
        arriving = node["outputs"][""]
    source, sink = report["ports"].values()
    assert source["rx_packets"] == report["packets"]
    assert sink["tx_packets"] == arriving == report["sent"]
    assert said["packets_per_second"] > 0
    assert said["cycles_per_packet"] > 0
    shares = list(said["line_rate_share"].values())
    assert list(said["line_rate_share"]) == ["10 GbE", "25 GbE", "100 GbE"]
    assert shares == pytest.approx([shares[2] * 10, shares[2] * 4, shares[2]])
    assert shares[2] == pytest.approx(said["packets_per_second"] / (100e9 / (84 * 8)), rel=1e-3)
    assert said["first_packet_seconds"] > 0
    return said, done.stderr


@compiled
def test_json_and_its_figures():
    said, told = figures()
    assert said["drops"] == {}
    assert [place["kind"] for place in said["nodes"]] == ["in", *["node"] * 5, "out"]
    assert [place["name"] for place in said["nodes"]][1:6] == PATH
    assert all(place["cycles"] > 0 for place in said["nodes"])
    assert "256 routes; the loop was " in told
    assert "first packet " in told


@compiled
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_routes(tmp_path, packed):
    file = tmp_path / ("routes.txt.gz" if packed else "routes.txt")
    file.write_bytes(gzip.compress(ROUTES.encode()) if packed else ROUTES.encode())
    said, told = figures("--no-profile", "--routes", file)
    assert "2 routes; the loop was " in told
    assert said["drops"] == {}


@compiled
def test_a_default_route_and_what_may_not_cross_a_router(tmp_path):
    file = tmp_path / "default.txt"
    file.write_text("0.0.0.0/0\n")
    said, _ = figures("--no-profile", "--routes", file)
    assert set(said["drops"]) == {"ipv4_validate: martian"}  # of 16384 random destinations some are in 0/8 or 127/8
    assert 0 < said["drops"]["ipv4_validate: martian"] < said["packets"] / 20


@compiled
def test_two_workers():
    said, _ = figures("--no-profile", "--workers", "2")
    assert said["drops"] == {}


@compiled
def test_tables_for_people():
    done = run("--seconds", "0.2")
    for part in ("wirespeed demo", "ethernet_input", "ipv4_rewrite", "no drops", "faster here with: ", "of 10 GbE"):
        assert part in done.stdout
    assert "Traceback" not in done.stderr


def test_routes_that_do_not_cover_the_traffic(tmp_path):
    file = tmp_path / "half.txt"
    file.write_text("10.0.0.0/16\n10.1.0.0/16\n")
    router = make_router(file)
    known = router.destinations(60)
    assert {address >> 16 for address in known} == {0x0A00, 0x0A01}
    strangers = np.array([0x0A02_0001, 0x7F00_0001, 0x0001_0001, 0xC000_0201], np.uint32)
    source = Generator.from_options(
        destinations=np.concatenate([known, strangers]), size=64, flows=64, count=640, dmac="02:00:00:00:00:01"
    )
    report = ws.run(route(router, source, ws.port("sink")), cells=3072)
    router.close()
    assert report.drops == {"ipv4_validate: martian": 20, "ipv4_lookup: no-route": 20}
    assert (report.packets, report.sent, report.in_use) == (640, 600, 0)
    assert "node ipv4_lookup: default 600, drop no-route 20" in str(report)


def test_the_demos_graph():
    router = make_router()
    graph = demo(router, size=128, flows=16)
    graph.check()
    assert [node.name for node in graph.nodes] == PATH
    assert len(router.fib) == 256
    assert {int(address) >> 24 for address in router.destinations(1000)} == {10}
    assert (router.destinations(50, seed=7) == router.destinations(50, seed=7)).all()
    router.close()


def test_a_file_without_routes(tmp_path):
    file = tmp_path / "none.txt"
    file.write_text("127.0.0.0/8\n2001:db8::/32\n0.0.0.0/8\n")
    with pytest.raises(TableError, match=r"none.txt has no route to forward by: name IPv4 prefixes"):
        make_router(file)

"""The router between two Linux hosts: unmodified ping, curl and iperf3 pass, and it answers as a router must.

The hosts keep their offloads: checksums left to hardware, TCP in super-packets. Nobody touches ethtool.
"""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys

import pytest
from topology import CONFIG, SOURCE, Router, eventually

FILE_BYTES = 100 << 20


def _needs(name):
    return pytest.mark.skipif(not shutil.which(name), reason=f"needs {name}")


@pytest.fixture(scope="module", params=[1, 2], ids=["one-worker", "two-workers"])
def router(request, network, tmp_path_factory):
    """A router for all tests of this file; at the end it must stop cleanly and hold no packet."""
    text = CONFIG.format(left=network.spec("left"), right=network.spec("right"))
    options = ("--workers", str(request.param), "--symmetric", "--json")
    made = Router(tmp_path_factory.mktemp("router"), text, *options)
    try:
        yield made
    finally:
        code = made.stop()
    assert code == 0, made.err.read_text()
    report = made.report()
    assert report["in_use"] == 0
    assert report["faults"] == []
    assert report["interrupted"]
    assert report["packets"] > 0


def _received(output):
    """Answers that ping waited for: with -w it goes on until it has as many as -c says (else only for two RTTs)."""
    return int(re.search(r"(\d+) (?:packets )?received", output)[1])


@pytest.mark.parametrize(("source", "target"), [("left", "10.2.0.2"), ("right", "10.1.0.2")])
def test_ping_through(router, network, source, target):
    output = getattr(network, source).run("ping", "-n", "-c", "5", "-i", "0.2", "-w", "30", target)
    assert "ttl=63" in output
    assert _received(output) == 5


@pytest.mark.parametrize("target", ["10.1.0.1", "10.2.0.1"])
def test_ping_the_router(router, network, target):
    output = network.left.run("ping", "-n", "-c", "3", "-i", "0.2", "-w", "30", target)
    assert "ttl=64" in output


def test_a_flood_of_pings(router, network):
    output = network.left.run("ping", "-n", "-f", "-c", "2000", "-w", "30", "-s", "1400", "10.2.0.2")
    assert _received(output) == 2000


def test_large_pings_are_fragments(router, network):
    output = network.left.run("ping", "-n", "-c", "3", "-i", "0.2", "-s", "20000", "-w", "30", "10.2.0.2")
    assert _received(output) == 3


def test_ttl_ends_at_the_router(router, network):
    output = network.left.run("ping", "-n", "-c", "1", "-t", "1", "-w", "30", "10.2.0.2", check=False)
    assert "From 10.1.0.1" in output
    assert "Time to live exceeded" in output


def test_no_route(router, network):
    output = network.left.run("ping", "-n", "-c", "1", "-w", "30", "198.51.100.1", check=False)
    assert "From 10.1.0.1" in output
    assert "Destination Net Unreachable" in output


def test_a_host_that_is_not_there(router, network):
    output = network.left.run("ping", "-n", "-c", "1", "-w", "30", "10.2.0.200", check=False)
    assert "From 10.1.0.1" in output
    assert "Destination Host Unreachable" in output


def test_the_neighbours_know_the_router(router, network):
    assert "10.1.0.1" in network.left.run("ip", "neighbour", "show", "dev", "eth0")


@pytest.fixture(scope="module")
def served(network, tmp_path_factory):
    """A web server on the right with one large file; its SHA-256."""
    folder = tmp_path_factory.mktemp("served")
    data = os.urandom(1 << 20) * (FILE_BYTES >> 20)
    (folder / "large").write_bytes(data)
    network.right.start(sys.executable, "-m", "http.server", "8000", "--bind", "10.2.0.2", cwd=folder)
    eventually(lambda: network.right.listens(8000), "the web server listens")
    return hashlib.sha256(data).hexdigest()


@_needs("curl")
def test_a_large_file(router, network, served, tmp_path):
    network.left.run("curl", "-sS", "--fail", "-o", str(tmp_path / "got"), "http://10.2.0.2:8000/large")
    assert hashlib.sha256((tmp_path / "got").read_bytes()).hexdigest() == served


def _iperf(network, *options):
    server = network.right.start("iperf3", "-s", "-1")
    eventually(lambda: network.right.listens(5201), "iperf3 listens")
    result = json.loads(network.left.run("iperf3", "-J", "-c", "10.2.0.2", "-t", "2", *options))
    server.wait()
    assert "error" not in result
    return result["end"]


@_needs("iperf3")
@pytest.mark.parametrize("options", [(), ("-R",), ("-P", "4")], ids=["forth", "back", "four"])
def test_tcp(router, network, options):
    assert _iperf(network, *options)["sum_received"]["bytes"] > 1 << 20


@_needs("iperf3")
def test_udp(router, network):
    end = _iperf(network, "-u", "-b", "20M")
    assert end["sum"]["packets"] > 100
    assert end["sum"]["lost_packets"] < end["sum"]["packets"] / 2


def test_what_is_too_big_is_said(router, network):
    """The right link takes less: with DF the sender learns the MTU, without it the router cuts (RFC 1191, RFC 791).

    The router knows its own ports' MTU; so this is a packet larger than that, from a host whose link takes more.
    """
    network.left.run("ip", "link", "set", "dev", "eth0", "mtu", "1600")
    network.middle.run("ip", "link", "set", "dev", "left", "mtu", "1600")
    try:
        output = network.left.run(
            "ping", "-n", "-c", "1", "-M", "do", "-s", "1552", "-w", "30", "10.2.0.2", check=False
        )
        assert "Frag needed" in output or "Message too long" in output or "mtu=1500" in output, output
        assert "mtu 1500" in network.left.run("ip", "route", "get", "10.2.0.2")
        network.left.run("ip", "route", "flush", "cache")
        cut = ("-M", "dont", "-s", "1552", "10.2.0.2")
        output = network.left.run("ping", "-n", "-c", "3", "-i", "0.2", "-w", "30", *cut)
        assert _received(output) == 3
    finally:
        network.left.run("ip", "link", "set", "dev", "eth0", "mtu", "1500")
        network.middle.run("ip", "link", "set", "dev", "left", "mtu", "1500")
        network.left.run("ip", "route", "flush", "cache")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_a_report(network, tmp_path, number):
    text = CONFIG.format(left=network.spec("left"), right=network.spec("right"))
    made = Router(tmp_path, text)
    network.left.run("ping", "-n", "-c", "1", "-w", "30", "10.2.0.2")
    assert made.stop(number) == 0
    said = made.out.read_text()
    assert said.count("forwarding: ") == 1
    assert "node ipv4_lookup: default" in said
    assert made.err.read_text() == ""


def test_it_stops_by_itself(network, tmp_path):
    text = CONFIG.format(left=network.spec("left"), right=network.spec("right"))
    made = Router(tmp_path, text, "--seconds", "0.2", "--json")
    assert made.process.wait(60) == 0
    assert not made.report()["interrupted"]


def test_an_interface_that_is_not_there(network, tmp_path):
    file = tmp_path / "router.toml"
    text = CONFIG.format(left=network.spec("left"), right=network.spec("rihgt"))
    file.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "wirespeed", "run", str(file)],
        capture_output=True, text=True, timeout=600, env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )  # fmt: skip
    assert done.returncode == 2
    assert "no interface is called 'rihgt'; did you mean 'right'?" in done.stderr
    assert "Traceback" not in done.stderr

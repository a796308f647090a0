"""The router on af_xdp ports: only its port lines are others. Unmodified ping, curl and iperf3 pass.

A kernel that sends through a veth leaves checksums to hardware that is not there, and XDP sees frames before anybody
makes up for it; so hosts behind AF_XDP sum their checksums themselves (``ethtool -K eth0 tx off``), as with every XDP
program on veths.
"""

import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator

import pytest
from topology import CONFIG, WHY_NOT, Network, Router, eventually

from wirespeed.ports.af_xdp.query import attached
from wirespeed.ports.netdev import facts, within

pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "-")

FILE_BYTES = 20 << 20


def _needs(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not shutil.which(name), reason=f"needs {name}")


@pytest.fixture(scope="module")
def hosts(network: Network) -> Network:
    for host in (network.left, network.right):
        host.run("ethtool", "-K", "eth0", "tx", "off")
    return network


@pytest.fixture(scope="module", params=["native", "generic"])
def router(request, hosts, tmp_path_factory) -> Iterator[Router]:
    specs = {end: f"af_xdp:{end},netns={hosts.middle.name},mode={request.param}" for end in ("left", "right")}
    made = Router(tmp_path_factory.mktemp("router"), CONFIG.format(**specs), "--symmetric", "--json")
    try:
        yield made
    finally:
        code = made.stop()
    assert code == 0, made.err.read_text()
    report = made.report()
    assert report["in_use"] == 0
    assert report["faults"] == []
    assert report["packets"] > 0
    assert within(hosts.middle.name, lambda: attached(facts("test", "left").index)) == 0


def _received(output: str) -> int:
    found = re.search(r"(\d+) (?:packets )?received", output)
    assert found
    return int(found[1])


@pytest.mark.parametrize("target", ["10.2.0.2", "10.1.0.1"])
def test_ping(router, hosts, target: str) -> None:
    output = hosts.left.run("ping", "-n", "-c", "5", "-i", "0.2", "-w", "30", target)
    assert _received(output) == 5


def test_a_flood_of_pings(router, hosts) -> None:
    output = hosts.left.run("ping", "-n", "-f", "-c", "1000", "-w", "30", "-s", "1400", "10.2.0.2")
    assert _received(output) == 1000


@_needs("curl")
def test_a_large_file(router, hosts, tmp_path) -> None:
    data = os.urandom(1 << 20) * (FILE_BYTES >> 20)
    (tmp_path / "large").write_bytes(data)
    server = hosts.right.start(sys.executable, "-m", "http.server", "8000", "--bind", "10.2.0.2", cwd=tmp_path)
    eventually(lambda: hosts.right.listens(8000), "the web server listens")
    hosts.left.run("curl", "-sS", "--fail", "-o", str(tmp_path / "got"), "http://10.2.0.2:8000/large")
    server.kill()
    server.wait()
    assert hashlib.sha256((tmp_path / "got").read_bytes()).digest() == hashlib.sha256(data).digest()


@_needs("iperf3")
@pytest.mark.parametrize("options", [(), ("-R",), ("-u", "-b", "20M")], ids=["forth", "back", "udp"])
def test_iperf3(router, hosts, options) -> None:
    server = hosts.right.start("iperf3", "-s", "-1")
    eventually(lambda: hosts.right.listens(5201), "iperf3 listens")
    result = json.loads(hosts.left.run("iperf3", "-J", "-c", "10.2.0.2", "-t", "1", *options))
    server.wait()
    assert "error" not in result
    end = result["end"]
    assert end.get("sum_received", end.get("sum"))["bytes"] > 1 << 16

"""af_packet and tap with peers that are not ours: testpmd at the other end, Linux hosts behind a router on TAPs.

Counters of both sides must agree; interfaces are removed while packets flow, and the graph goes on.
"""

import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from topology import CONFIG, WHY_NOT, Host, Network, Router, eventually

from wirespeed.bench.testpmd import Setting, Testpmd
from wirespeed.engine.engine import Engine
from wirespeed.graph.graph import Graph
from wirespeed.nodes import macswap
from wirespeed.ports.port import port

pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "-")
needs_testpmd = pytest.mark.skipif(not shutil.which("dpdk-testpmd"), reason="needs dpdk-testpmd: apt-get install dpdk")

FRAMES = 3000
SLOTS = 4096  # of both sides' rings: none is lost when one of them has no core for a while


@pytest.fixture(scope="module")
def space() -> Iterator[Host]:
    made = Host("k")
    made.run("sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6")
    yield made
    made.remove()


@pytest.fixture
def veth(space: Host) -> Iterator[tuple[str, str]]:
    """A cable with both ends in one namespace: ours and testpmd's."""
    space.run("ip", "link", "add", "ours", "mtu", "1500", "type", "veth", "peer", "name", "theirs")
    for end in ("ours", "theirs"):
        space.run("ip", "link", "set", "dev", end, "up")
    yield "ours", "theirs"
    space.run("ip", "link", "del", "ours", check=False)


def _settled(count: Any) -> int:
    """The figure once it has stood still for longer than a worker is kept from its core."""
    last, still = -1, 0
    while still < 5:
        time.sleep(0.05)  # between two looks; what is waited for is that nothing moves
        still = still + 1 if (now := count()) == last else 0
        last = now
    return int(last)


def _meet(spec: str, vdev: str, space: Host, frames: int = FRAMES) -> None:
    """Frames go to testpmd, which swaps their addresses and sends them back: four counters, one number."""
    made = port(spec)
    graph = Graph()
    source = port(f"generator:count={frames},size=64,rate=20k")
    graph.add(source >> made)
    graph.add(made >> port("sink"))
    with Testpmd(None, Setting("macswap"), vdevs=[vdev], netns=space.name) as peer:
        engine = Engine(graph)
        peer.start()
        engine.start()
        try:
            eventually(lambda: made.stats().tx_packets + made.stats().tx_dropped >= frames, "all frames to be sent")
            eventually(lambda: peer.stats()["RX-packets"] >= made.stats().tx_packets, "testpmd to receive them")
            eventually(lambda: made.stats().rx_packets >= frames, "them to come back")
            theirs = peer.stats()
            ours = made.stats()
        finally:
            peer.stop()
            report = engine.stop()
    assert report.in_use == 0
    assert ours.tx_packets == theirs["RX-packets"] == frames
    assert ours.rx_packets == theirs["TX-packets"] == frames
    assert ours.tx_bytes == theirs["RX-bytes"]
    assert ours.rx_bytes == theirs["TX-bytes"]
    assert ours.rx_errors == ours.tx_errors == 0


@needs_testpmd
@pytest.mark.parametrize("way", ["", ",ring=v3,send=call"])
def test_af_packet_with_testpmds(space: Host, veth: tuple[str, str], way: str) -> None:
    ours, theirs = f"frames={SLOTS}{way}", f"iface=theirs,qdisc_bypass=1,framecnt={SLOTS}"
    _meet(f"af_packet:ours,netns={space.name},{ours}", f"net_af_packet0,{theirs}", space)


@needs_testpmd
@pytest.mark.parametrize("way", ["", ",offloads=no,uring=no"])
def test_tap_with_testpmds_af_packet_on_it(space: Host, way: str) -> None:
    """testpmd sits where the host would: on the TAP's interface."""
    made = port(f"tap:tp0,netns={space.name}{way}")
    graph = Graph()
    graph.add(made >> macswap >> made)
    engine = Engine(graph)
    engine.start()
    try:
        options = ["--txpkts=60"]
        device = ["net_af_packet0,iface=tp0"]
        with Testpmd(None, Setting("txonly"), vdevs=device, netns=space.name, options=options) as peer:
            peer.start()
            eventually(lambda: made.stats().rx_packets > FRAMES, "frames of testpmd")
            peer.stop()
            _settled(lambda: made.stats().tx_packets)
            theirs, ours = peer.stats(), made.stats()
            dropped = made.extended()["host-drops"]
            host = {
                name: int(space.run("cat", f"/sys/class/net/tp0/statistics/{name}"))
                for name in ("tx_packets", "tx_dropped", "rx_packets")
            }
    finally:
        report = engine.stop()
    assert report.in_use == 0
    assert ours.rx_packets == host["tx_packets"]
    assert dropped == host["tx_dropped"]
    assert ours.tx_packets == host["rx_packets"] == ours.rx_packets
    assert theirs["TX-packets"] >= ours.rx_packets


@needs_testpmd
def test_af_packet_on_testpmds_tap(space: Host) -> None:
    """The other way round: testpmd makes the TAP, we sit where its host would."""
    options = ["--txpkts=60"]
    with Testpmd(None, Setting("txonly"), vdevs=["net_tap0,iface=dt0"], netns=space.name, options=options) as peer:
        space.run("ip", "link", "set", "dev", "dt0", "up")
        made = port(f"af_packet:dt0,netns={space.name}")
        graph = Graph()
        graph.add(made >> port("sink"))
        engine = Engine(graph)
        engine.start()
        try:
            peer.start()
            eventually(lambda: made.stats().rx_packets > FRAMES, "frames of testpmd")
            peer.stop()
            _settled(lambda: made.stats().rx_packets)
            engine.refresh()
            ours, theirs = made.stats(), peer.stats()
        finally:
            report = engine.stop()
    assert report.in_use == 0
    assert ours.rx_packets + ours.rx_dropped >= theirs["TX-packets"]  # and a few of the host's own
    assert ours.rx_packets + ours.rx_dropped <= theirs["TX-packets"] + 20


# Routers on TAPs -------------------------------------------------------------------------------------------

TAPS = """
app = "router"
[[port]]
name = "left"
spec = "tap:eth0,netns={left},address=10.1.0.2/24"
addresses = ["10.1.0.1/24"]
[[port]]
name = "right"
spec = "tap:eth0,netns={right},address=10.2.0.2/24"
addresses = ["10.2.0.1/24"]
"""


@pytest.fixture(scope="module")
def ends() -> Iterator[tuple[Host, Host]]:
    made: list[Host] = []
    try:
        for suffix in ("tl", "tr"):
            made.append(Host(suffix))
        yield made[0], made[1]
    finally:
        for each in made:
            each.remove()


def _routes(left: Host, right: Host) -> None:
    left.run("ip", "route", "replace", "default", "via", "10.1.0.1")
    right.run("ip", "route", "replace", "default", "via", "10.2.0.1")


def _ping(left: Host, *more: str) -> str:
    said = left.run("ping", "-n", "-c", "3", "-i", "0.2", "-w", "30", *more, "10.2.0.2")
    assert re.search(r"3 (?:packets )?received", said), said
    return said


def test_a_router_between_taps(ends: tuple[Host, Host], tmp_path: Any) -> None:
    left, right = ends
    made = Router(tmp_path, TAPS.format(left=left.name, right=right.name), "--json")
    try:
        _routes(left, right)
        assert "ttl=63" in _ping(left)
        _ping(left, "-s", "20000")
        if shutil.which("iperf3"):
            for options in ([], ["-R"]):
                right.start("iperf3", "-s", "-1")
                eventually(lambda: right.listens(5201), "iperf3 listens")
                said = left.run("iperf3", "-J", "-c", "10.2.0.2", "-n", "50M", *options)
                assert '"error"' not in said
        if shutil.which("curl"):
            (tmp_path / "content").write_bytes(os.urandom(1 << 20))
            right.start(sys.executable, "-m", "http.server", "8000", cwd=tmp_path)
            eventually(lambda: right.listens(8000), "the web server listens")
            left.run("curl", "-sS", "--fail", "-o", str(tmp_path / "got"), "http://10.2.0.2:8000/content")
            assert (tmp_path / "got").read_bytes() == (tmp_path / "content").read_bytes()
    finally:
        code = made.stop()
    assert code == 0, made.err.read_text()
    assert made.report()["in_use"] == 0
    assert "eth0" not in left.run("ip", "link")


def test_a_router_whose_tap_is_removed_goes_on(ends: tuple[Host, Host], tmp_path: Any) -> None:
    left, right = ends
    made = Router(tmp_path, TAPS.format(left=left.name, right=right.name), "--json")
    try:
        _routes(left, right)
        _ping(left)
        for _ in range(3):
            before = left.run("cat", "/sys/class/net/eth0/ifindex")
            left.run("ip", "link", "del", "eth0")
            eventually(
                lambda before=before: (
                    left.run("cat", "/sys/class/net/eth0/ifindex", check=False) not in ("", before)
                    and "10.1.0.2" in left.run("ip", "address", "show", "eth0", check=False)
                ),
                "the interface to be made again",
            )
            _routes(left, right)
            _ping(left)
    finally:
        code = made.stop()
    assert code == 0, made.err.read_text()
    assert made.report()["in_use"] == 0


def test_a_killed_router_leaves_nothing_and_starts_again(ends: tuple[Host, Host], tmp_path: Any) -> None:
    left, right = ends
    text = TAPS.format(left=left.name, right=right.name)
    for number in (signal.SIGKILL, signal.SIGTERM):
        made = Router(tmp_path, text)
        _routes(left, right)
        _ping(left)
        assert made.stop(number) == (-9 if number == signal.SIGKILL else 0)
        eventually(lambda: "eth0" not in left.run("ip", "link") + right.run("ip", "link"), "the interfaces to be gone")


# Routers on veths whose ends come and go -------------------------------------------------------------------


def test_a_router_whose_veth_is_removed_and_flaps_goes_on(tmp_path: Any) -> None:
    """Other ways of receiving and sending, and many queues, are in tests/ports/test_af_packet_ways.py."""
    network = Network()
    try:
        text = CONFIG.format(left=network.spec("left"), right=network.spec("right"))
        made = Router(tmp_path, text, "--json")
        try:
            _ping(network.left)
            for turn in range(3):
                network.middle.run("ip", "link", "set", "dev", "left", "down")
                network.middle.run("ip", "link", "set", "dev", "left", "up")
                _ping(network.left)
                network.left.run("ip", "link", "del", "eth0")
                assert made.process.poll() is None, turn
                network.cable(network.left, "left", "10.1.0.2/24", "10.1.0.1")
                eventually(
                    lambda: re.search(
                        r"1 (?:packets )?received",
                        network.left.run("ping", "-n", "-c", "1", "-W", "1", "10.2.0.2", check=False),
                    ),
                    "pings to pass again",
                )
        finally:
            code = made.stop()
        assert code == 0, made.err.read_text()
        assert made.report()["in_use"] == 0
    finally:
        network.remove()

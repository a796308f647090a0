"""vhost_user with DPDK's net_virtio_user at the other end: both roles, both ring layouts, and a peer that is killed.

``WIRESPEED_KILLS`` says how often (20): the peer is killed with kill -9 in the middle of its bursts, and started again.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from topology import eventually

from wirespeed.bench.errors import BenchError
from wirespeed.bench.testpmd import Setting, Testpmd
from wirespeed.engine.engine import Engine
from wirespeed.graph.graph import Graph
from wirespeed.jit import COMPILED
from wirespeed.nodes import macswap
from wirespeed.ports.port import port

pytestmark = [
    pytest.mark.skipif(not shutil.which("dpdk-testpmd"), reason="needs dpdk-testpmd"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: huge pages for dpdk-testpmd"),
    pytest.mark.skipif(not COMPILED, reason="too much traffic for an interpreted run"),
]

KILLS = int(os.environ.get("WIRESPEED_KILLS", "20"))
DRIVERS = [
    "packed_vq=0,mrg_rxbuf=1,in_order=1",
    "packed_vq=0,mrg_rxbuf=0,in_order=0",
    "packed_vq=0,mrg_rxbuf=0,in_order=1,vectorized=1",
    "packed_vq=1,mrg_rxbuf=1,in_order=0",
    "packed_vq=1,mrg_rxbuf=0,in_order=1,vectorized=1",
]


@contextlib.contextmanager
def running(graph: Graph) -> Iterator[Engine]:
    """An engine that must hold no packet afterwards."""
    engine = Engine(graph)
    engine.start()
    try:
        yield engine
    finally:
        assert engine.stop().in_use == 0


def driven(path: Any, driver: str, role: str = "server", mode: str = "io", **settings: Any) -> Testpmd:
    """A testpmd whose only port is at the other end of the socket."""
    server = ",server=1" if role == "client" else ""
    vdev = f"net_virtio_user0,path={path},{driver}{server}"
    return Testpmd(None, Setting(mode), vdevs=[vdev], **settings)


def frame(size: int, number: int) -> bytes:
    return b"\2\0\0\0\0\2\2\0\0\0\0\1\x88\xb5" + number.to_bytes(4, "big") + os.urandom(size - 18)


@pytest.mark.parametrize("role", ["server", "client"])
@pytest.mark.parametrize("options", DRIVERS)
def test_every_byte_comes_back_and_the_counters_agree(tmp_path, role, options) -> None:
    path = tmp_path / "v.sock"
    device, hand = port(f"vhost_user:{path},role={role}"), port("host:hand,size=256")
    graph = Graph()
    graph.add(hand >> device)
    graph.add(device >> hand)
    with running(graph), driven(path, options, role) as peer:
        eventually(lambda: len(device.session.live) == 2 if device.session else False, "both rings")
        peer.start()
        sent = [frame(60 + number * 13, number) for number in range(110)]
        for data in sent:
            assert hand.send(data)
        found: list[bytes] = []

        def enough() -> bool:
            found.extend(received.data for received in hand.poll())
            return len(found) >= len(sent)

        eventually(enough, "all frames")
        assert found == sent
        theirs, ours = peer.stats(), device.stats()
        assert theirs["RX-packets"] == theirs["TX-packets"] == ours.rx_packets == ours.tx_packets == len(sent)
        assert theirs["RX-bytes"] == ours.tx_bytes == ours.rx_bytes == sum(map(len, sent))
        assert ours.rx_errors == ours.tx_errors == ours.tx_dropped == 0
    kinds = [event.kind for event in device.events.since(0)]
    assert kinds[0] == "connected"
    assert "link-up" in kinds
    assert "refused" not in kinds
    assert "error" not in kinds


@pytest.mark.parametrize("options", ["queues=2,packed_vq=0", "queues=2,packed_vq=1"])
def test_two_queues(tmp_path, options) -> None:
    path = tmp_path / "v.sock"
    device = port(f"vhost_user:{path},queues=2")
    graph = Graph()
    graph.add(device >> macswap >> device)
    with running(graph), driven(path, options, mode="macswap", options=("--rxq=2", "--txq=2")) as peer:
        eventually(lambda: len(device.session.live) == 4 if device.session else False, "four rings")
        peer.start("start tx_first 2")
        eventually(lambda: device.stats().rx_packets > 20_000, "packets to go round")
        peer.stop()
        theirs = peer.stats()
        eventually(lambda: device.stats().rx_packets == theirs["TX-packets"], "the last packets")
        eventually(lambda: device.stats().tx_packets >= theirs["RX-packets"], "the last to be counted")
        assert theirs["RX-packets"] <= device.stats().tx_packets <= theirs["RX-packets"] + 128


@pytest.mark.parametrize("role", ["server", "client"])
def test_a_peer_that_is_killed_and_comes_again(tmp_path, role) -> None:
    path = tmp_path / "v.sock"
    device = port(f"vhost_user:{path},role={role}")
    graph = Graph()
    graph.add(device >> macswap >> device)
    with running(graph):
        fds = len(os.listdir("/proc/self/fd"))
        for number in range(KILLS // 2):
            options = DRIVERS[number % len(DRIVERS)]
            if role == "client":
                path.unlink(missing_ok=True)  # what it leaves when it is killed
            with contextlib.suppress(BenchError), driven(path, options, role, mode="macswap") as peer:
                before = device.stats().rx_packets
                eventually(lambda: len(device.session.live) == 2 if device.session else False, "both rings")
                peer.start("start tx_first 4")
                eventually(lambda: device.stats().rx_packets > before + 1000, "packets to go round")  # noqa: B023
                os.kill(peer.pid, 9)
                eventually(lambda: device.session is None, "its end to be heard")
            assert not device.link().up
        assert len(os.listdir("/proc/self/fd")) <= fds
        events = [event.kind for event in device.events.since(0)]
        assert events.count("connected") == events.count("disconnected") == KILLS // 2
        assert "refused" not in events
        assert "error" not in events
    assert "dpdk" not in (maps := open("/proc/self/maps").read()), maps  # noqa: SIM115

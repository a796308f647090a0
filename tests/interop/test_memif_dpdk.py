"""memif with DPDK's net_memif in dpdk-testpmd at the other end, once as server and once as client.

``WIRESPEED_RESTARTS`` says how often the peer is killed in the middle of traffic (20 unless it says otherwise).
"""

import os
import random
import shutil
import signal
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "ports"))

from memif_peer import closing
from topology import Router, eventually

from wirespeed.bench.testpmd import Setting, Testpmd
from wirespeed.engine.engine import Engine
from wirespeed.graph.graph import Graph
from wirespeed.jit import COMPILED
from wirespeed.mem.pool import Pool
from wirespeed.nodes import macswap
from wirespeed.ports.port import port

RESTARTS = int(os.environ.get("WIRESPEED_RESTARTS", "20"))
EXAMPLE = Path(__file__).parents[2] / "examples" / "router.toml"
ROLES = ("server", "client")

pytestmark = [
    pytest.mark.skipif(not shutil.which("dpdk-testpmd"), reason="needs dpdk-testpmd (apt-get install dpdk)"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: DPDK takes huge pages"),
    pytest.mark.skipif(not COMPILED, reason="too much traffic for an interpreted run"),
]


def other(role: str) -> str:
    """The role of the peer."""
    return ROLES[role == "server"]


def dpdk(role: str, address: str, mode: str, **more: Any) -> Testpmd:
    """DPDK's end. Abstract sockets unless ``address`` is a path."""
    file = "socket-abstract=no" if address.startswith("/") else "socket-abstract=yes"
    extra = "".join(f",{name}={value}" for name, value in more.items())
    device = f"net_memif0,role={role},socket={address.removeprefix('@')},{file}{extra}"
    return Testpmd(None, Setting(mode, mbcache=256), vdevs=[device])


@pytest.fixture
def pool() -> Iterator[Pool]:
    """Every packet must be back at the end."""
    pool = Pool(4096)
    try:
        yield pool
        assert pool.in_use == 0
    finally:
        pool.close()


@pytest.fixture
def worker(pool: Pool) -> Iterator[Any]:
    """A worker without a graph."""
    from tests.ports.conftest import Worker

    with closing(Worker(pool)) as made:
        yield made


class Pair:
    """A port of ours, and testpmd."""

    def __init__(self, ours: Any, peer: Testpmd) -> None:
        self.ours, self.peer = ours, peer

    @classmethod
    def make(cls, pool: Pool, address: str, role: str, mode: str, options: str = "", **more: Any) -> "Pair":
        """Whoever is the server comes first: testpmd asks only once."""
        peer = dpdk(other(role), address, mode, **more)
        ours = port(f"memif:{address},role={role}{options}")
        if role == "client":
            peer.__enter__()
        ours.open(pool, 1, 1)
        if role == "server":
            peer.__enter__()
        eventually(lambda: ours.link().up, "the connection")
        return cls(ours, peer)

    def close(self) -> None:
        self.peer.__exit__(None, None, None)
        self.ours.close()


def _lengths(count: int, longest: int) -> list[int]:
    chance = random.Random(4)
    return [chance.choice([60, 61, 64, 128, 590, 1514, chance.randint(60, longest)]) for _ in range(count)]


@pytest.mark.parametrize("longest", [1514, 8000])
@pytest.mark.parametrize(
    ("role", "options"), [("server", ""), ("client", ",zero_copy=on"), ("client", ",zero_copy=off")]
)
def test_what_comes_back_is_what_was_sent(
    pool: Pool, worker: Any, tmp_path: Path, role: str, options: str, longest: int
) -> None:
    """testpmd sends everything back as it is; bytes, order and both sides' counters agree. Over 2048 bytes a packet
    takes several buffers, and cells."""
    with closing(Pair.make(pool, str(tmp_path / "s"), role, "io", options)) as pair:
        pair.peer.start()
        chance = random.Random(3)
        frames = [chance.randbytes(length) for length in _lengths(2000, longest)]
        came: list[bytes] = []
        for first in range(0, len(frames), 16):
            part = frames[first : first + 16]
            descs = [worker.make(each) for each in part]
            sent = worker.send(pair.ours, descs)
            assert sent == len(part)
            eventually(
                lambda wanted=first + sent: came.extend(worker.packet_list(pair.ours)) or len(came) >= wanted,
                "the packets to come back",
            )
        assert came == frames
        theirs, ours = pair.peer.stats(), pair.ours.stats()
        assert theirs["RX-packets"] == theirs["TX-packets"] == ours.tx_packets == ours.rx_packets == len(frames)
        assert theirs["RX-bytes"] == theirs["TX-bytes"] == ours.tx_bytes == ours.rx_bytes == sum(map(len, frames))
        assert ours.rx_errors == ours.tx_errors == ours.rx_dropped == 0


@pytest.mark.parametrize("role", ROLES)
def test_abstract_sockets_numbers_and_secrets(pool: Pool, worker: Any, role: str) -> None:
    address = f"@ws{os.getpid()}-{role}"
    with closing(Pair.make(pool, address, role, "macswap", ",id=9,secret=sesame", id=9, secret="sesame")) as pair:
        pair.peer.start()
        frame = bytes(range(60))
        worker.send(pair.ours, [worker.make(frame)])
        got = eventually(lambda: worker.packet_list(pair.ours), "the packet")
        assert got == [frame[6:12] + frame[:6] + frame[12:]]


def test_a_wrong_secret(pool: Pool, tmp_path: Path) -> None:
    ours = port(f"memif:{tmp_path / 's'},role=server,secret=sesame")
    ours.open(pool, 1, 1)
    with closing(ours), dpdk("client", str(tmp_path / "s"), "io", secret="simsim"):
        eventually(lambda: any(each.kind == "refused" for each in ours.events.since()), "the refusal")
        assert not ours.link().up


def _times(ours: Any, kind: str) -> int:
    """How often something has happened."""
    return [each.kind for each in ours.events.since()].count(kind)


@pytest.mark.parametrize("role", ROLES)
def test_the_peer_is_killed_again_and_again(role: str, open_files: Any) -> None:
    """In the middle of a burst, every time: the graph goes on, and in the end nothing is missing."""
    address = f"@ws{os.getpid()}-killed-{role}"
    graph = Graph()
    ours = port(f"memif:{address},role={role}")
    graph.add(ours >> macswap >> ours)
    engine = Engine(graph)
    engine.start()
    files = 0
    try:
        for turn in range(RESTARTS):
            peer = dpdk(other(role), address, "flowgen")
            with peer:
                eventually(lambda: ours.link().up, "the connection")
                files = files or open_files()
                before = ours.stats().rx_packets
                peer.start()
                eventually(lambda before=before: ours.stats().rx_packets > before + 1000, "traffic")
                os.kill(peer.pid, signal.SIGKILL)
                eventually(lambda turn=turn: _times(ours, "disconnected") > turn, "the end to be seen")
            assert _times(ours, "connected") == _times(ours, "disconnected") == turn + 1, ours.events.since()
            eventually(lambda most=files: open_files() <= most, "descriptors to be closed")
        with open("/proc/self/maps") as maps:
            assert "memif_region" not in maps.read()
    finally:
        report = engine.stop()
    assert report.in_use == 0
    assert report.faults == ()
    assert ours.extended()["connections"] == RESTARTS


# The example -----------------------------------------------------------------------------------------------

HOST, ROUTER_LEFT = bytes([10, 1, 0, 2]), bytes([10, 1, 0, 1])
FAR = bytes([10, 2, 0, 2])
HOST_MAC = b"\x02\0\0\0\0\x42"


def _sum(data: bytes) -> int:
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def arp_request() -> bytes:
    """Who has 10.1.0.1? Tell 10.1.0.2."""
    body = struct.pack(">HHBBH", 1, 0x0800, 6, 4, 1) + HOST_MAC + HOST + bytes(6) + ROUTER_LEFT
    return (b"\xff" * 6 + HOST_MAC + b"\x08\x06" + body).ljust(60, b"\0")


def echo_request(router_mac: bytes, number: int) -> bytes:
    """A ping to 10.2.0.2."""
    body = struct.pack(">HH", 0x77, number) + bytes(range(48))
    icmp = struct.pack(">BBH", 8, 0, _sum(b"\x08\0\0\0" + body)) + body
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(icmp), number, 0, 64, 1, 0) + HOST + FAR
    head = head[:10] + struct.pack(">H", _sum(head)) + head[12:]
    return router_mac + HOST_MAC + b"\x08\0" + head + icmp


class LeftHost:
    """The host on the router's left port: a worker of ours."""

    def __init__(self, worker: Any, ours: Any) -> None:
        self.worker, self.ours = worker, ours

    def ask(self, frame: bytes, found: Any) -> bytes:
        """Send until an answer comes."""

        def again() -> Any:
            for each in self.worker.packet_list(self.ours):
                if found(each):
                    return each
            descs = [self.worker.make(frame)]
            self.worker.free(descs[self.worker.send(self.ours, descs) :])
            return None

        return bytes(eventually(again, "an answer"))

    def ping(self, number: int) -> None:
        """Through the router, which is asked for its address first."""
        answer = self.ask(arp_request(), lambda frame: frame[12:14] == b"\x08\x06" and frame[21] == 2)
        router_mac = answer[22:28]
        request = echo_request(router_mac, number)
        wanted = struct.pack(">HH", 0x77, number)
        reply = self.ask(request, lambda frame: frame[12:14] == b"\x08\0" and frame[38:42] == wanted)
        assert reply[:6] == HOST_MAC
        assert reply[6:12] == router_mac
        assert reply[26:34] == FAR + HOST
        assert reply[34] == 0  # echo reply
        assert reply[42:90] == bytes(range(48))
        assert _sum(reply[14:34]) == 0
        assert _sum(reply[34:90]) == 0


def _routing(left: str, right: str) -> str:
    """examples/router.toml with other ports, and nothing else."""
    text = EXAMPLE.read_text()
    for said, wanted in (("af_packet:ws-l,netns=ws-router", left), ("af_packet:ws-r,netns=ws-router", right)):
        assert said in text
        text = text.replace(said, wanted)
    return text


def test_the_router_is_killed_and_comes_back(pool: Pool, worker: Any, tmp_path: Path) -> None:
    """examples/router.toml between a host of ours and testpmd, which answers ARP and pings; kill -9 and a new start.

    testpmd stands still meanwhile: DPDK unmaps a peer's memory under its own forwarding core, which may end it.
    """
    text = _routing(f"memif:{tmp_path}/left,role=client", f"memif:{tmp_path}/right,role=client")
    ours = port(f"memif:{tmp_path}/left,role=server")
    ours.open(pool, 1, 1)
    host = LeftHost(worker, ours)
    with closing(ours), dpdk("server", f"{tmp_path}/right", "icmpecho") as peer:
        for life in range(3):
            router = Router(tmp_path, text, "--json")
            try:
                peer.start()
                eventually(lambda: ours.link().up, "the router")
                for number in range(3):
                    host.ping(life * 16 + number)
                peer.stop()
            finally:
                code = router.stop(signal.SIGTERM if life == 2 else signal.SIGKILL)
            eventually(lambda: not ours.link().up, "the router's end to be seen")
        assert code == 0, router.err.read_text()
        assert router.report()["in_use"] == 0
        assert router.report()["faults"] == []

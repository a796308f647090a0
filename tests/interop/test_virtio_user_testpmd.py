"""virtio_user beside DPDK's vhost: the device is testpmd's net_vhost, in both socket roles and every kind of ring."""

import contextlib
import os
import random
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from topology import CONFIG, Network, Router, eventually

sys.path.insert(0, str(Path(__file__).parents[1] / "ports"))

from netns import hand, needs_compiler

from wirespeed.bench.errors import BenchError
from wirespeed.bench.testpmd import Setting, Testpmd
from wirespeed.engine.engine import Engine
from wirespeed.graph.graph import Graph
from wirespeed.nodes import macswap
from wirespeed.ports.port import port as make_port

KILLS = int(os.environ.get("WIRESPEED_KILLS", "20"))
"""How often the peer is killed, in both roles together."""

pytestmark = [
    needs_compiler,
    pytest.mark.skipif(not shutil.which("dpdk-testpmd"), reason="needs dpdk-testpmd"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: testpmd"),
]


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "vhost.sock")


def device(path: str, client: bool, queues: int = 1, mode: str = "io", options: tuple[str, ...] = ()) -> Testpmd:
    """testpmd with one net_vhost; ``client`` is its side of the socket."""
    vdev = f"net_vhost0,iface={path},queues={queues},client={int(client)}"
    more = [f"--rxq={queues}", f"--txq={queues}", "--max-pkt-len=9600", *options]
    return Testpmd(None, Setting(mode), vdevs=[vdev], options=more)


@contextlib.contextmanager
def both(path: str, role: str, options: str, mode: str = "io") -> Iterator[tuple[Any, Testpmd]]:
    """A port moved by hand and testpmd, connected; whoever makes the socket starts first."""
    with contextlib.ExitStack() as stack:
        if role == "client":
            peer = stack.enter_context(device(path, client=False, mode=mode))
        ours = stack.enter_context(hand(f"virtio_user:{path},role={role},{options}"))
        if role == "server":
            peer = stack.enter_context(device(path, client=True, mode=mode))
        eventually(lambda: ours.port.link().up, "connected")
        yield ours, peer


def exchange(ours: Any, frames: list[bytes]) -> list[bytes]:
    """Send frames and collect what comes back until all did; so few at a time that the peer never lacks buffers."""
    waiting, back = list(frames), []

    def turn() -> bool:
        for _ in range(100):
            flying = len(frames) - len(waiting) - len(back)
            if waiting and flying <= 16:
                del waiting[: ours.send(*waiting[:8])]
            back.extend(frame for frame, _ in ours.receive())
        return len(back) == len(frames)

    eventually(turn, f"{len(frames)} frames back")
    return back


@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize("packed", ["no", "yes"])
@pytest.mark.parametrize(
    "options",
    ["mergeable=yes", "mergeable=no", "indirect=no", "in_order=no", "indirect=no,in_order=no", "event_index=yes"],
)
def test_every_byte_comes_back(path, role, packed, options):
    chance = random.Random(options)
    options += ",mtu=9000" if "mergeable=no" not in options else ""
    largest = 8000 if "mtu" in options else 1514
    frames = [chance.randbytes(chance.choice([60, 64, 300, 1514, chance.randrange(60, largest)])) for _ in range(1000)]
    with both(path, role, f"packed={packed},{options}") as (ours, peer):
        ours.receive()
        peer.start()
        assert exchange(ours, frames) == frames
        peer.stop()
        theirs, stats = peer.stats(), ours.port.stats()
        assert ours.port.facts()["layout"] == {"yes": "packed", "no": "split"}[packed]
    total = sum(map(len, frames))
    assert (theirs["RX-packets"], theirs["RX-bytes"]) == (stats.tx_packets, stats.tx_bytes) == (1000, total)
    assert (theirs["TX-packets"], theirs["TX-bytes"]) == (stats.rx_packets, stats.rx_bytes) == (1000, total)
    assert stats.rx_errors == stats.tx_errors == stats.rx_dropped == 0


@contextlib.contextmanager
def echo(path: str, role: str, options: str = "", workers: int = 1, **settings: Any) -> Iterator[Engine]:
    """An engine that swaps addresses and sends everything back."""
    ours = make_port(f"virtio_user:{path},role={role},{options or 'queues=1'}")
    graph = Graph()
    graph.add(ours >> macswap >> ours)
    engine = Engine(graph, workers, **settings)
    engine.start()
    try:
        yield engine
    finally:
        report = engine.stop()
    assert report.in_use == 0
    assert report.faults == ()


def test_two_queues(path):
    with device(path, client=False, queues=2, mode="macswap") as peer, echo(path, "client", "queues=2", 2) as engine:
        ours = engine.graph.ports[0]
        eventually(lambda: engine.pool.in_use >= 2 * 128, "both rings are filled")
        peer.start("start tx_first 4")
        eventually(lambda: all(each.rx_packets > 10_000 for each in ours.queue_stats()), "both queues work")
        peer.stop()
        eventually(lambda: ours.stats().rx_packets == peer.stats()["TX-packets"], "what was sent is received")


@pytest.mark.parametrize("packed", ["no", "yes"])
@pytest.mark.parametrize("events", ["no", "yes"])
def test_a_sleeping_worker_is_roused(path, packed, events):
    with (
        device(path, client=False, mode="rxonly") as peer,
        echo(path, "client", f"packed={packed},event_index={events}", idle="power") as engine,
    ):
        ours = engine.graph.ports[0]
        for turn in range(1, 6):
            asleep = engine.memory.stats().asleep
            eventually(lambda asleep=asleep: engine.memory.stats().asleep > 0 or asleep, "the worker sleeps")
            peer.ask("set fwd txonly")
            peer.ask("set txpkts 64")
            before = ours.stats().rx_packets
            peer.start()
            eventually(lambda before=before: ours.stats().rx_packets > before + 1000, f"turn {turn}: packets come")
            peer.stop()


@pytest.mark.parametrize("role", ["client", "server"])
def test_the_peer_is_killed_again_and_again(path, role):
    """In the middle of bursts, with kill -9; each time all cells come back, and the next one finds a working port."""
    with echo(path, role) as engine:
        ours = engine.graph.ports[0]
        for turn in range(KILLS // 2):
            before = ours.stats().rx_packets
            with contextlib.suppress(BenchError), device(path, client=role == "server", mode="macswap") as peer:
                eventually(lambda: ours.link().up and engine.pool.in_use >= 128, f"turn {turn}: connected and filled")
                peer.start("start tx_first 4")
                eventually(lambda before=before: ours.stats().rx_packets > before + 5000, f"turn {turn}: packets move")
                os.kill(peer.pid, signal.SIGKILL)
                peer._prompt.child.wait()
            assert ours.stats().rx_packets > before + 5000
            if role == "client":
                os.unlink(path)  # the dead one's
            eventually(lambda: not ours.link().up and engine.pool.in_use == 0, f"turn {turn}: the cells come back")
        assert ours.extended()["connections"] == KILLS // 2
        kinds = [event.kind for event in ours.events.since()]
        assert kinds.count("disconnected") == kinds.count("connected") == KILLS // 2
        assert "refused" not in kinds


# The router with a port behind testpmd ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    made = Network()
    try:
        yield made
    finally:
        made.remove()


def test_the_router(network, tmp_path):
    """examples/router.toml's router: its left port is the driver of a card that testpmd plays, on a veth."""
    path = str(tmp_path / "vhost.sock")
    for host in (network.left, network.right):  # net_af_packet neither sums nor cuts
        host.run("ethtool", "-K", "eth0", "tx", "off", "tso", "off", "gso", "off")
    vdevs = [f"net_vhost0,iface={path},queues=1,client=0", "net_af_packet0,iface=left"]
    with Testpmd(None, Setting("io"), vdevs=vdevs, netns=network.middle.name) as peer:
        text = CONFIG.format(left=f"virtio_user:{path}", right=network.spec("right"))
        router = Router(tmp_path, text, "--json")
        try:
            peer.start()
            output = network.left.run("ping", "-n", "-c", "20", "-i", "0.05", "-w", "30", "10.2.0.2")
            assert int(re.search(r"(\d+) (?:packets )?received", output)[1]) == 20
            output = network.right.run("ping", "-n", "-f", "-c", "500", "-s", "1400", "-w", "30", "10.1.0.2")
            assert int(re.search(r"(\d+) (?:packets )?received", output)[1]) == 500
            output = network.left.run("ping", "-n", "-c", "3", "-i", "0.2", "-w", "30", "10.1.0.1")
            assert "ttl=64" in output
        finally:
            code = router.stop()
        assert code == 0, router.err.read_text()
        assert router.report()["in_use"] == 0

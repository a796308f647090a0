"""How fast does one core forward 60-byte frames (64 with FCS)? Against DPDK's testpmd, macswap, on the same core.

Both sides receive a capture from memory over and over, each packet copied into a fresh buffer (net_pcap with
``infinite_rx``; our pcap port with ``loop=yes``), forward it, and free it at a port without a wire. Rows:

- macswap: the same work on both sides.
- router: the demo's IPv4 router; the peer still only swaps addresses.
- router, full table: random destinations drawn from the Internet table; no peer, with cycles a packet.

The two take turns on the same core within one run; ratios are pair by pair, the medians of both are shown.
"""

import contextlib
import functools
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from wirespeed.apps.demo import Router, make_router, route
from wirespeed.bench.capture import write_capture
from wirespeed.bench.disturbance import observer
from wirespeed.bench.errors import BenchError
from wirespeed.bench.frames import Frame
from wirespeed.bench.pairing import Paired, interleave
from wirespeed.bench.result import Row
from wirespeed.bench.settings import Settings
from wirespeed.bench.synthetic import udp4
from wirespeed.bench.testpmd import Setting, Testpmd, calibrate, version
from wirespeed.eal import cores
from wirespeed.eal.clock import tsc_hz
from wirespeed.engine.engine import Engine
from wirespeed.graph.graph import Graph
from wirespeed.nodes import macswap
from wirespeed.ports.port import port

FRAMES: int = 256
FULL_TABLE_FRAMES: int = 65536
_SETTLE_S = 0.05
_PATIENCE_S = 10.0
_PAYLOAD = bytes(18)

Tell = Callable[[str], None]


def rows(settings: Settings, tell: Tell) -> Sequence[Row]:
    """Measure every row."""
    with tempfile.TemporaryDirectory(prefix="wirespeed-bench-") as folder:
        return [*_against_testpmd(settings, tell, Path(folder)), *_full_table(settings, tell, Path(folder))]


def _frames(router: Router, count: int) -> list[Frame]:
    """UDP packets that the router has routes for; a source and a port for each."""
    return [
        Frame(udp4(b"\xc6\x12\x00\x01", int(dst).to_bytes(4, "big"), 1024 + n % 60000, 9, _PAYLOAD), 60)
        for n, dst in enumerate(router.destinations(count))
    ]


class Turns:
    """Our side of an interleaved run: an engine that works only during its turns."""

    def __init__(self, graph: Graph, settings: Settings) -> None:
        self.engine = Engine(graph)
        self.seconds = settings.seconds
        self.engine.start()
        self.engine.pause()

    def measure(self) -> float:
        """One turn: packets a second out of the sink; longer where the machine lets nothing move for so long."""
        engine = self.engine
        engine.resume()
        time.sleep(_SETTLE_S)
        before, begun = engine.report().sent, time.perf_counter()
        sent, spent = 0, 0.0
        while not sent and spent < _PATIENCE_S:
            time.sleep(self.seconds)
            sent, spent = engine.report().sent - before, time.perf_counter() - begun
        engine.pause()
        if not sent:
            raise BenchError(f"no packet was forwarded in {spent:.0f} s: something else holds the core: end that first")
        return sent / spent


@contextlib.contextmanager
def turns(graph: Graph, settings: Settings) -> Iterator[Turns]:
    """An engine for its turns; stopped, its report checked for a balanced pool, at the end."""
    ours = Turns(graph, settings)
    try:
        yield ours
    finally:
        left = ours.engine.stop().in_use
        assert left == 0, f"{left} cells are missing after the run"


def _source(path: Path) -> str:
    return f"pcap:{path},loop=yes"


def _against_testpmd(settings: Settings, tell: Tell, folder: Path) -> list[Row]:
    router = make_router()
    path = folder / "frames.pcap"
    write_capture(path, _frames(router, FRAMES))
    swap = Graph()
    swap.add(port(_source(path)) >> macswap >> port("sink"))
    graphs = {"macswap, 60 B": swap, "router, 60 B": route(router, port(_source(path)), port("sink"))}
    placement = cores.choose(1)
    both = (placement.control, placement.workers[0])
    found = []
    with contextlib.ExitStack() as stack:
        peer, name = None, None
        if settings.peer:
            best = Setting()
            if not settings.quick:
                calibration = calibrate(path, cores=both, progress=tell)
                best = calibration.best
                settings.notes.append(f"testpmd {calibration}")
            peer = stack.enter_context(Testpmd(path, best, cores=both))
            name = f"{version()} testpmd macswap"
            settings.notes.append(peer.note)
        for metric, graph in graphs.items():
            tell(f"{metric}: compiling")
            with turns(graph, settings) as ours:
                paired = interleave(
                    ours.measure,
                    functools.partial(peer.measure, settings.seconds) if peer else None,
                    pairs=settings.pairs,
                    progress=_teller(tell, metric),
                    observe=observer([peer.pid]) if peer else None,
                )
            settings.notes += [f"{metric}: {paired.note}"] if paired.note else []
            found.append(Row.of("forward", metric, "packets/s", paired, name))
            found.append(_cycles(metric, paired))
    router.close()
    return found


def _teller(tell: Tell, metric: str) -> Callable[[int, int, str], None]:
    return lambda done, wanted, text: tell(f"{metric}: pair {done}/{wanted} {text}")


def _cycles(metric: str, paired: Paired) -> Row:
    """The same figure as time-stamp cycles a packet."""
    theirs = tsc_hz() / paired.peer_value if paired.peer_value else None
    peer = "the same" if theirs else None
    return Row("forward", metric, "cycles/packet", tsc_hz() / paired.value, peer, theirs, paired.ratio)


def _full_table(settings: Settings, tell: Tell, folder: Path) -> list[Row]:
    table = settings.routing_table()
    if table is None:
        settings.notes.append("no Internet routing table at hand (--routes FILE): its row is left out")
        return []
    tell(f"reading {table.name}")
    router = make_router(table)
    path = folder / "full.pcap"
    write_capture(path, _frames(router, FULL_TABLE_FRAMES if not settings.quick else 4096))
    metric = f"router, {len(router.fib):,} routes, random destinations"
    tell(f"{metric}: compiling")
    with turns(route(router, port(_source(path)), port("sink")), settings) as ours:
        paired = interleave(ours.measure, None, pairs=settings.pairs)
    router.close()
    return [Row.of("forward", metric, "packets/s", paired, None), _cycles(metric, paired)]

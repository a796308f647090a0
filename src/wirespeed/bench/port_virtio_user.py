"""How fast is virtio_user? Beside DPDK's net_virtio_user, each with a net_vhost of its own as the device.

::

    ours         <-- vhost-user -->  testpmd net_vhost      on one core, the device on the other
    testpmd net_virtio_user  <-->    testpmd net_vhost      the same two cores, in turns

What is counted is what the device's testpmd received or sent. Both sides come as they are by default, which is also the
fastest we have for small packets; the peer is tried in several settings, and its best is what is compared with.
Rows: receive, transmit and forward (macswap, an echo of packets
that the device sent first), at 64 and at 1,500 bytes; forward of 1,000 flows, which the device makes (flowgen); an
echo at low load and what idling costs (:mod:`wirespeed.bench.port_probe`). Packed rings at 64 bytes.
"""

import contextlib
import functools
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from wirespeed.bench import port_probe
from wirespeed.bench.disturbance import observer
from wirespeed.bench.errors import BenchError
from wirespeed.bench.pairing import interleave
from wirespeed.bench.result import Row
from wirespeed.bench.settings import Settings
from wirespeed.bench.testpmd import Setting, Testpmd, version
from wirespeed.eal import cores
from wirespeed.engine.engine import Engine
from wirespeed.engine.idle import LATENCY
from wirespeed.graph.graph import Graph
from wirespeed.nodes import macswap
from wirespeed.ports.port import port

PEERS: dict[str, tuple[str, ...]] = {
    "split": ("packed_vq=0", "packed_vq=0,mrg_rxbuf=0,vectorized=1", "packed_vq=1"),
    "packed": ("packed_vq=1", "packed_vq=1,mrg_rxbuf=0,vectorized=1"),
}
"""Settings of net_virtio_user that are tried beside each layout of ours; split is what ours comes as."""

_SETTLE_S, _PATIENCE_S = 0.05, 20.0

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Work:
    """One kind of row: what the device's testpmd does, what ours does, and which counter of the device tells."""

    name: str
    device: str
    peer: str
    start: str
    counter: str


WORKS: tuple[Work, ...] = (
    Work("receive", "txonly", "rxonly", "start", "TX-packets"),
    Work("transmit", "rxonly", "txonly", "start", "RX-packets"),
    Work("forward", "macswap", "macswap", "start tx_first 8", "RX-packets"),
)
FLOWS: Work = Work("forward of 1,000 flows", "flowgen", "macswap", "start", "RX-packets")


def rows(settings: Settings, tell: Tell) -> Sequence[Row]:
    """Measure every row."""
    found: list[Row] = []
    for layout, sizes in (("split", (64, 1500)), ("packed", (64,))):
        for size in sizes[:1] if settings.quick else sizes:
            for work in (*WORKS, FLOWS) if size == 64 else WORKS:
                found.append(_row(settings, tell, work, size, layout))
        name = f"{version()} net_virtio_user" if settings.peer else None
        vdev = f"net_virtio_user0,path={{}},queue_size=256,{PEERS[layout][0]}"
        stand = port_probe.Stand("virtio_user", layout, vdev)
        found += port_probe.rows(stand, settings, tell, name)
    return found


def _row(settings: Settings, tell: Tell, work: Work, size: int, layout: str) -> Row:
    metric = f"virtio_user {work.name}, {size} B, {layout}"
    tell(f"{metric}: starting")
    placement = cores.choose(1)
    both = (placement.control, placement.workers[0])
    with tempfile.TemporaryDirectory(prefix="ws-") as folder, contextlib.ExitStack() as stack:
        ours = stack.enter_context(_ours(Path(folder), work, size, both, settings.seconds, layout))
        theirs: dict[str, Turn] = {}
        if settings.peer:
            for number, options in enumerate(PEERS[layout][:1] if settings.quick else PEERS[layout]):
                turn = _theirs(Path(folder) / f"{number}", work, size, both, settings.seconds, options)
                theirs[options] = stack.enter_context(turn)
        best = _best(theirs, settings, tell, metric)
        paired = interleave(
            ours.measure,
            theirs[best].measure if best else None,
            pairs=settings.pairs,
            progress=lambda done, wanted, text: tell(f"{metric}: pair {done}/{wanted} {text}"),
            observe=observer(ours.pids + theirs[best].pids) if best else None,
        )
    settings.notes += [f"{metric}: {paired.note}"] if paired.note else []
    name = f"{version()} net_virtio_user, {best}" if best else None
    return Row.of("port", metric, "packets/s", paired, name)


def _best(theirs: "dict[str, Turn]", settings: Settings, tell: Tell, metric: str) -> str:
    """Which of the peer's settings is fastest here; empty without a peer."""
    if len(theirs) < 2:
        return next(iter(theirs), "")
    figures: dict[str, list[float]] = {options: [] for options in theirs}
    for _ in range(3):
        for options, turn in theirs.items():
            tell(f"{metric}: trying the peer with {options}")
            figures[options].append(turn.measure())
    return max(figures, key=lambda options: median(figures[options]))


class Turn:
    """One pair of processes that moves packets only during its turns."""

    def __init__(
        self, device: Testpmd, work: Work, seconds: float, go: Callable[[], None], halt: Callable[[], None],
        pids: list[int],
    ) -> None:  # fmt: skip
        self.pids = [device.pid, *pids]
        self._device, self._work, self._seconds = device, work, seconds
        self._go, self._halt = go, halt

    def measure(self) -> float:
        """Packets a second that the device sent or received."""
        self._go()
        try:
            self._device.start(self._work.start)
            time.sleep(_SETTLE_S)
            before, begun = self._count()
            moved, spent = 0, 0.0
            while not moved and spent < _PATIENCE_S:
                time.sleep(self._seconds)
                count, now = self._count()
                moved, spent = count - before, now - begun
            self._device.stop()
        finally:
            self._halt()
        if not moved:
            raise BenchError(f"no packet moved in {spent:.0f} s: something else holds the cores: end that first")
        return moved / spent

    def _count(self) -> tuple[int, float]:
        before = time.monotonic()
        count = self._device.stats()[self._work.counter]
        return count, (before + time.monotonic()) / 2


def _device(path: Path, work: Work, size: int, core: int) -> Testpmd:
    """The testpmd that plays the card, on the control core."""
    vdev = f"net_vhost0,iface={path},queues=1,client=0"
    options = [f"--txpkts={size}", *(["--flowgen-flows=1000"] if work is FLOWS else [])]
    return Testpmd(None, Setting(work.device), vdevs=[vdev], cores=(core, core), options=options)


@contextlib.contextmanager
def _ours(folder: Path, work: Work, size: int, both: tuple[int, int], seconds: float, layout: str) -> Iterator[Turn]:
    path = folder / "ours.sock"
    with _device(path, work, size, both[0]) as device:
        wire = port(f"virtio_user:{path},packed={'yes' if layout == 'packed' else 'no'}")
        graph = Graph()
        if work.name == "receive":
            graph.add(wire >> port("sink"))
        elif work.name == "transmit":
            graph.add(port(f"null:size={size}") >> wire)
        else:
            graph.add(wire >> macswap >> wire)
        engine = Engine(graph, idle=LATENCY)
        engine.start()
        engine.pause()
        try:
            yield Turn(device, work, seconds, engine.resume, engine.pause, [])
        finally:
            left = engine.stop().in_use
        assert left == 0, f"{left} cells are missing after the run"


@contextlib.contextmanager
def _theirs(path: Path, work: Work, size: int, both: tuple[int, int], seconds: float, options: str) -> Iterator[Turn]:
    vdev = f"net_virtio_user0,path={path}.sock,queue_size=256,{options}"
    with _device(path.with_suffix(".sock"), work, size, both[0]) as device:
        peer = Testpmd(None, Setting(work.peer), vdevs=[vdev], cores=both, options=[f"--txpkts={size}"])
        with peer:
            yield Turn(device, work, seconds, functools.partial(peer.start, "start"), peer.stop, [peer.pid])


__all__ = ["FLOWS", "PEERS", "WORKS", "Turn", "Work", "rows"]

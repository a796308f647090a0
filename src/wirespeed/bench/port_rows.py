"""The rows that benches of interfaces of the kernel have in common: ours beside testpmd's port of the same kind.

========================  =========================================================================================
receive                   the source sends as fast as it can; who receives only counts and frees
transmit                  frames from memory, as fast as the port takes them (testpmd: txonly)
forward                   an echo, addresses swapped: every frame that comes in goes out again
echo                      the time there and back of single frames, 0.5 ms apart: half of them, and 99 of 100, take less
idle                      time on a core while nothing comes
========================  =========================================================================================

Ours and testpmd's stand on interfaces of their own, made alike: a packet socket sees what others send on its interface,
and would be paid for by them. Frames of 60 bytes are 64 on a wire; 1514 bytes are full ones of Ethernet.
"""

from __future__ import annotations

import contextlib
import functools
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from wirespeed.bench.capture import write_capture
from wirespeed.bench.disturbance import observer
from wirespeed.bench.frames import Frame
from wirespeed.bench.pairing import interleave
from wirespeed.bench.port_echo import cpu_s, percentiles
from wirespeed.bench.port_load import Load
from wirespeed.bench.port_turns import Nothing, Ours, Switch, ours, peer_turn
from wirespeed.bench.result import Row
from wirespeed.bench.settings import Settings
from wirespeed.bench.synthetic import udp4
from wirespeed.bench.testpmd import Setting, Testpmd, version
from wirespeed.bench.xdp_traffic import Source
from wirespeed.eal import cores
from wirespeed.graph.graph import Graph
from wirespeed.nodes import macswap
from wirespeed.ports.port import port

SMALL, FULL = 60, 1514
_HEADERS = 42

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Side:
    """Where one side's packets come from: ``interface`` in ``netns``, seen from the far end."""

    netns: str
    interface: str


@dataclass(frozen=True)
class Stand:
    """What a bench of one driver measures.

    Attributes:
        name: of the driver.
        spec: the port's text.
        device: testpmd's port, as its ``--vdev``.
        netns: where testpmd runs.
        far, peer_far: the far ends.
        source: what sends there.
    """

    name: str
    spec: str
    device: str
    netns: str
    far: Side
    peer_far: Side
    source: type[Load] | type[Source] = Load


def frame(size: int) -> bytes:
    """A UDP datagram of that size from the left host to the right one, for nobody's Ethernet address."""
    return udp4(b"\x0a\x01\x00\x02", b"\x0a\x02\x00\x02", 1024, 9, bytes(size - _HEADERS))


def rows(stand: Stand, settings: Settings, tell: Tell) -> list[Row]:
    """Measure all of a stand's rows."""
    placement = cores.choose(1)
    both = (placement.control, placement.workers[0])
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wirespeed-bench-")))
        peer, name = None, None
        if settings.peer:
            setting = Setting("rxonly", burst=64)
            peer = Testpmd(None, setting, cores=both, vdevs=[stand.device], netns=stand.netns)
            stack.enter_context(peer)
            name = f"{version()} testpmd {stand.device.partition(',')[0].rstrip('0')}"
            settings.notes.append(f"{stand.name}: testpmd {stand.device}, {peer.note}")
        run = _Run(stand, settings, tell, both[0], peer, name)
        found = []
        for size in (SMALL, FULL):
            found += run.receive(size)
        for size in (SMALL, FULL):
            found += run.transmit(size, folder)
        return [*found, *run.forward()]


@dataclass
class _Run:
    stand: Stand
    settings: Settings
    tell: Tell
    core: int
    peer: Testpmd | None
    name: str | None

    @property
    def _bench(self) -> str:
        return f"port {self.stand.name}"

    @contextlib.contextmanager
    def _source(self, side: Side, size: int, flows: int) -> Iterator[Switch]:
        with self.stand.source(side.netns, side.interface, frame(size), self.core, flows) as made:
            yield made

    def receive(self, size: int) -> list[Row]:
        """Load in, nothing out."""
        made, graph = port(self.stand.spec), Graph()
        graph.add(made >> port("sink"))
        with ours(graph, made, self.settings) as mine:
            return [self._compare(f"receive, {_wire(size)}", mine, "rxonly", False, size)]

    def transmit(self, size: int, folder: Path) -> list[Row]:
        """Frames from memory."""
        path = folder / f"{size}.pcap"
        write_capture(path, [Frame(frame(size), size)] * 256)
        made, graph = port(self.stand.spec), Graph()
        graph.add(port(f"pcap:{path},loop=yes") >> made)
        if self.peer:
            self.peer.ask(f"set txpkts {size}")
        with ours(graph, made, self.settings) as mine:
            return [self._compare(f"transmit, {_wire(size)}", mine, "txonly", True, None)]

    def forward(self) -> list[Row]:
        """The echo: at full load, at low load, and without any."""
        made, graph = port(self.stand.spec), Graph()
        graph.add(made >> macswap >> made)
        found = []
        with ours(graph, made, self.settings) as mine:
            for size, flows in ((SMALL, 1), (SMALL, 1000), (FULL, 1)):
                many = f", {flows:,} flows" if flows > 1 else ""
                found.append(self._compare(f"forward, {_wire(size)}{many}", mine, "macswap", True, size, flows))
            found += self._echo(mine)
            found.append(self._idle(mine))
        return found

    def _compare(self, metric: str, mine: Ours, mode: str, sent: bool, size: int | None, flows: int = 1) -> Row:
        """Turns of both under the same load."""
        self.tell(metric)
        with contextlib.ExitStack() as stack:
            switches: list[Switch] = [Nothing(), Nothing()]
            if size is not None:
                sides = [self.stand.far, self.stand.peer_far][: 2 if self.peer else 1]
                switches = [stack.enter_context(self._source(side, size, flows)) for side in sides]
            theirs = None
            if self.peer:
                theirs = functools.partial(peer_turn, self.peer, mode, sent, self.settings.seconds, switches[-1])
            paired = interleave(
                functools.partial(mine.turn, sent, switches[0]),
                theirs,
                pairs=self.settings.pairs,
                progress=lambda done, wanted, text: self.tell(f"{metric}: pair {done}/{wanted} {text}"),
                observe=observer([self.peer.pid]) if self.peer else None,
            )
        self.settings.notes.append(f"{self.stand.name} {metric}: {paired.note}")
        return Row.of(self._bench, metric, "packets/s", paired, self.name)

    def _echo(self, mine: Ours) -> list[Row]:
        """Half and 99 of 100 echoes, of both in turns."""
        self.tell("echo")
        count = 200 if self.settings.quick else 2000
        samples: list[tuple[list[float], list[float]]] = []
        for _ in range(self.settings.pairs):
            mine.engine.resume()
            here = percentiles(self.stand.far.netns, self.stand.far.interface, frame(SMALL), count, (0.5, 0.99))
            mine.engine.pause()
            there: list[float] = []
            if self.peer:
                self.peer.start()
                far = self.stand.peer_far
                there = percentiles(far.netns, far.interface, frame(SMALL), count, (0.5, 0.99))
                self.peer.stop()
            samples.append((here, there))
        found = []
        for place, share in enumerate(("p50", "p99")):
            value = median(here[place] for here, _ in samples)
            metric = f"echo at low load, {share}"
            if self.peer:
                theirs = median(there[place] for _, there in samples)
                ratio = median(there[place] / here[place] for here, there in samples)
                found.append(Row(self._bench, metric, "us", value, self.name, theirs, ratio))
            else:
                found.append(Row(self._bench, metric, "us", value))
        return found

    def _idle(self, mine: Ours) -> Row:
        """Hundredths of a core, of both."""
        self.tell("idle")
        mine.engine.resume()
        time.sleep(0.2)
        here = _share(None, self.settings.seconds)
        mine.engine.pause()
        if not self.peer:
            return Row(self._bench, "idle", "% of a core", here)
        self.peer.start()
        there = _share(self.peer.pid, self.settings.seconds)
        self.peer.stop()
        return Row(self._bench, "idle", "% of a core", here, self.name, there, there / max(here, 0.001))


def _share(pid: int | None, seconds: float) -> float:
    before, begun = cpu_s(pid), time.monotonic()
    time.sleep(seconds)
    return 100 * (cpu_s(pid) - before) / (time.monotonic() - begun)


def _wire(size: int) -> str:
    """As people call it: with the frame check sequence for small ones, by the MTU for full ones."""
    return "64 B" if size == SMALL else "1500 B"


def forwarded(found: Sequence[Row]) -> float:
    """What our forwarding of small frames came to: what today's ways are held against."""
    return next(row.value for row in found if row.metric == f"forward, {_wire(SMALL)}")


__all__ = ["FULL", "SMALL", "Side", "Stand", "forwarded", "frame", "rows"]

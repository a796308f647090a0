"""A tester: a generator and a meter around a device under test.

::

    tester = Tester(Generator.from_options(size=64, stamp=True), "af_packet:left", "af_packet:right")
    with tester:
        trial = tester.trial(rate=1_000_000, seconds=2)
        print(trial.lost, trial.latency.percentile(99.9))

The device is whatever carries packets from the one port to the other: a switch, a router in another namespace, a
virtual machine, a graph. One worker sends and receives in turns, or two do, each on a core of its own.

A trial is fair to the device when the tester did what it was asked: :attr:`Trial.offered` is what really left, by
the clock, and a trial that offered less than its rate says so. What the sending port had no room for was not offered.
"""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from wirespeed.eal import cores
from wirespeed.engine.engine import Engine
from wirespeed.errors import ConfigError
from wirespeed.graph.graph import Graph
from wirespeed.ports.generator.plan import WIRE
from wirespeed.ports.generator.port import Generator
from wirespeed.ports.generator.queue import UNLIMITED
from wirespeed.ports.generator.stream import FCS
from wirespeed.ports.meter.port import Meter, MeterPort
from wirespeed.ports.port import Port, port
from wirespeed.tables.hdr import Distribution

SHORT: float = 0.01
"""A trial that offers this share less than it was asked has fallen short."""

_POLL_S = 0.002
_REFRESH_S = 0.2
_GRACE_S = 0.25  # longer than its time a trial takes at most, for its last packets to leave


@dataclass(frozen=True)
class Trial:
    """What one trial found.

    Attributes:
        rate: packets a second asked for; 0: as fast as the tester can.
        offered: packets a second that left.
        seconds: how long it sent.
        sent: packets that left.
        received: of them, those that came, each once.
        duplicates, reordered: of those that came.
        refused: packets that the sending port had no room for; they were not offered.
        missed: packets that the generator could not make up for, having been kept from working.
        plain: packets that came and were not the tester's.
        frame: bytes of a frame with FCS, on average.
        latency: nanoseconds, of each packet that came.
        jitter_ns: RFC 3550.
    """

    rate: float
    offered: float
    seconds: float
    sent: int
    received: int
    duplicates: int
    reordered: int
    refused: int
    missed: int
    plain: int
    frame: float
    latency: Distribution
    jitter_ns: float

    @property
    def lost(self) -> int:
        """Packets that left and did not come."""
        return max(0, self.sent - self.received)

    @property
    def loss(self) -> float:
        """The share of packets that did not come, 0 to 1."""
        return self.lost / self.sent if self.sent else 0.0

    @property
    def fell_short(self) -> bool:
        """Whether the tester offered less than it was asked: it says nothing of the device at that rate."""
        return bool(self.rate) and self.offered < self.rate * (1 - SHORT)

    @property
    def received_rate(self) -> float:
        """Packets a second that came."""
        return self.offered * (1 - self.loss)

    def bits(self, rate: float) -> float:
        """Bits a second that so many packets a second are on a wire, preamble and gap included."""
        return rate * (self.frame + WIRE) * 8

    def to_dict(self) -> dict[str, Any]:
        """For JSON; latencies in nanoseconds."""
        names = (
            "rate", "offered", "seconds", "sent", "received", "lost", "loss", "duplicates", "reordered", "refused",
            "missed", "plain", "frame", "received_rate", "fell_short", "jitter_ns",
        )  # fmt: skip
        found = {name: getattr(self, name) for name in names}
        return {**found, "offered_bits": self.bits(self.offered), "latency_ns": self.latency.to_dict()}


class Tester:
    """A generator that sends to one port, a meter that listens at another; a context manager.

    Args:
        generator: what to send; stamped, and not in a graph yet.
        tx, rx: the ports, or their texts; the same one where the device sends back by the way it came.
        workers: 1: sending and receiving in turns; 2: a core for each.
        device: a chain of our own to be measured, in the graph that sends; None: the device is outside.
        progress: told what is being compiled.
        options: of each :class:`wirespeed.engine.engine.Engine`.

    Raises:
        WirespeedError: a port cannot be opened, or there is no such number of workers.
    """

    __test__ = False  # not a test class, whatever pytest thinks of the name

    def __init__(
        self,
        generator: Generator,
        tx: Port | str,
        rx: Port | str,
        workers: int = 1,
        device: Any = None,
        progress: Callable[[str], None] | None = None,
        **options: Any,
    ) -> None:
        if workers not in (1, 2):
            raise ConfigError(f"a tester has 1 worker or 2, one to send and one to receive, not {workers}")
        same = tx is rx or (isinstance(tx, str) and tx == rx)
        if same and workers == 2:
            raise ConfigError(f"one port cannot be opened by two workers' graphs: use one worker for {tx}")
        self.generator = generator
        self.tx = port(tx) if isinstance(tx, str) else tx
        self.rx = self.tx if same else port(rx) if isinstance(rx, str) else rx
        self.meter = Meter(streams=max(part.stream for part in generator.parts) + 1)
        generator.wait_for_rounds()
        sending, receiving = Graph(), Graph()
        target = sending if workers == 1 else receiving
        sending.add(generator >> self.tx)
        target.add(self.rx >> MeterPort.of(self.meter))
        if device is not None:
            sending.add(device)
        graphs = [sending] if workers == 1 else [receiving, sending]
        self.engines: list[Engine] = []
        self._aside = contextlib.ExitStack()
        try:
            for graph in graphs:
                self.engines.append(Engine(graph, idle="latency", progress=progress, **options))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Tester":
        placed = cores.choose(len(self.engines)).workers
        try:
            for engine, core in zip(self.engines, placed, strict=True):
                engine.start([core])
                self._aside.enter_context(engine.aside())
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the workers, close the ports."""
        self._aside.close()
        for engine in self.engines:
            if engine.workers.started:
                engine.stop()
            else:
                engine.close()
        self.engines = []
        self.meter.close()

    def trial(
        self,
        rate: float = 0.0,
        seconds: float = 1.0,
        count: int = 0,
        settle: float = 2.0,
        burst: int = 1,
        watch: Callable[["Tester"], None] | None = None,
    ) -> Trial:
        """Send for a while, wait for what is on its way.

        Args:
            rate: packets a second; 0: as fast as the tester can.
            seconds: how long.
            count: packets instead; then ``seconds`` bounds it.
            settle: how long to wait for the last packets, unless all have come (RFC 2544 section 23: two seconds).
            burst: packets that leave back to back.
            watch: called now and then.

        Raises:
            BaseException: what a worker died of.
        """
        generator, meter = self.generator, self.meter
        meter.clear()
        self.tx.refresh()
        before = self.tx.stats()
        begun = time.perf_counter()
        generator.send(count or (max(1, round(rate * seconds)) if rate else UNLIMITED), rate, burst)
        self._wait(lambda: generator.idle, seconds + (_GRACE_S if rate or count else 0.0), watch)
        generator.halt()
        time.sleep(_POLL_S)  # the burst that was on its way
        pace, spent = generator.pace(), time.perf_counter() - begun
        self.tx.refresh()
        after = self.tx.stats()
        sent = after.tx_packets - before.tx_packets
        self._wait(lambda: meter_received(meter) >= sent, settle, watch)
        streams = meter.counts()
        lasted = pace.packets / pace.achieved if pace.achieved else spent
        return Trial(
            rate=rate,
            offered=sent / lasted if lasted else 0.0,
            seconds=lasted,
            sent=sent,
            received=sum(stream.unique for stream in streams),
            duplicates=sum(stream.duplicates for stream in streams),
            reordered=sum(stream.reordered for stream in streams),
            refused=pace.packets - sent,
            missed=pace.missed,
            plain=meter.plain,
            frame=sum(generator.mix) / len(generator.mix) + FCS,
            latency=_latency(meter, [stream.stream for stream in streams] or [0]),
            jitter_ns=max((stream.jitter_ns for stream in streams), default=0.0),
        )

    def _wait(self, over: Callable[[], bool], seconds: float, watch: Callable[["Tester"], None] | None) -> None:
        until = time.perf_counter() + seconds
        look = 0.0
        while not over() and (now := time.perf_counter()) < until:
            if now >= look:
                look = now + _REFRESH_S
                for engine in self.engines:
                    engine.refresh()
                    if engine.workers.failure is not None:
                        raise engine.workers.failure
                if watch:
                    watch(self)
            time.sleep(min(_POLL_S, max(0.0, until - now)))


def meter_received(meter: Meter) -> int:
    """Packets of all streams, each once."""
    return sum(reading.unique for reading in meter.counts())


def _latency(meter: Meter, streams: list[int]) -> Distribution:
    """Of all these streams together."""
    found = [latency for stream in streams if (latency := meter[stream].latency) is not None]
    return sum(found[1:], found[0])

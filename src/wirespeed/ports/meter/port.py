"""meter: where stamped packets end: loss, reordering, duplicates, latency, jitter, of each stream.

::

    graph.add(ws.port("generator:stamp=yes,rate=1M") >> ws.port("af_packet:left"))
    graph.add(ws.port("af_packet:right") >> ws.port("meter:streams=4"))

As a node, with the packets going on:

    seen = ws.Meter(streams=4)

    @ws.node
    def look(pkt):
        seen.see(pkt.start, pkt.end - pkt.start, cycles())

Latency is from the moment a burst is made by the generator to the moment a burst is seen here, by the time-stamp
counter, which all cores of a machine share: software times. They contain what the two ports, the kernel and the
scheduler do, and what a burst waits for the rest of itself; a device alone needs hardware times. A sequence is
followed by one worker: the port has one queue.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from wirespeed.eal.clock import tsc_hz
from wirespeed.errors import PortError, TableError
from wirespeed.mem.pool import Pool
from wirespeed.mem.region import Region
from wirespeed.mem.shared import Shared
from wirespeed.ports.meter.path import COUNTERS, SCALE, MeterQueue, MeterView, StreamView, transmit
from wirespeed.ports.meter.reading import StreamReading
from wirespeed.ports.options import option
from wirespeed.ports.port import Port
from wirespeed.tables import hdr
from wirespeed.tables.hdr import Distribution

MAX_STREAMS: int = 1024
MAX_WINDOW: int = 1 << 20
HIGHEST_NS: int = 1 << 36
"""Latencies up to 68 s have slots of their own."""


class Meter(Shared):
    """What stamped packets say, for a port or for nodes.

    Args:
        streams: how many, from number 0 on (1 to 1024); 221 KB for each with three digits.
        window: sequence numbers that are remembered, to tell late packets from duplicates: a power of two, 64 to 2**20.
        digits: significant digits of latencies, 1 to 4.
        name: under which other processes can attach it.

    Raises:
        TableError: out of range.
        ArenaError: no memory, or the name is taken.
    """

    View: ClassVar[type[MeterView]] = MeterView
    KIND = "meter"
    stride = 0

    def __init__(self, streams: int = 1, window: int = 1024, digits: int = 3, name: str | None = None) -> None:
        told = name or self.KIND
        if not 1 <= streams <= MAX_STREAMS:
            raise TableError(f"{told}: streams={streams} must be 1 to {MAX_STREAMS}")
        if not 64 <= window <= MAX_WINDOW or window & (window - 1):
            raise TableError(f"{told}: window={window} must be a power of two, 64 to {MAX_WINDOW}")
        if not 1 <= digits <= 4:
            raise TableError(f"{told}: digits={digits} must be 1 to 4")
        histogram = -(-(COUNTERS + window // 8) // 128) * 128
        block = histogram + hdr.record_bytes(HIGHEST_NS, digits)
        self._create(
            MeterView.SIZE + streams * block, name, streams=streams, block=block, histogram=histogram, digits=digits,
            hz=tsc_hz(),
        )  # fmt: skip
        view = MeterView(self.address)
        view.streams, view.stride, view.words = streams, block, window // 32
        view.scale, view.histogram, view.at = round((10**9 << SCALE) / tsc_hz()), histogram, -1
        for number in range(streams):
            hdr.format_record(self._block(number) + histogram, HIGHEST_NS, digits)
        self._attached()

    def _attached(self) -> None:
        self.streams, self.digits = self.parameters["streams"], self.parameters["digits"]

    def _block(self, stream: int) -> int:
        return self.address + MeterView.SIZE + stream * int(self.parameters["block"])

    def prepare(self, workers: int) -> None:
        """The engine's question before a start.

        Raises:
            TableError: several workers would see one sequence.
        """
        if workers > 1:
            raise TableError(
                f"{self.name}: {workers} workers would see one sequence: give each a meter, or use one worker"
            )

    def see(self, address: int, length: int, now: int) -> int:
        """Count a packet, in plain Python; see :meth:`wirespeed.ports.meter.path.MeterView.see`."""
        self._check_writable()
        return MeterView(self.address).see(address, length, now)

    @property
    def plain(self) -> int:
        """Packets without a stamp."""
        return int(MeterView(self.address).plain)

    @property
    def strangers(self) -> int:
        """Packets of streams beyond the last."""
        return int(MeterView(self.address).strangers)

    def __len__(self) -> int:
        return int(self.streams)

    def __getitem__(self, stream: int) -> StreamReading:
        """What is known of a stream now."""
        if not 0 <= stream < self.streams:
            raise IndexError(f"{self.name}: stream {stream} is not one of 0 to {self.streams - 1}")
        block, histogram = self._block(stream), int(self.parameters["histogram"])
        counts = self._words(
            np.int64, block - self.address + histogram + hdr.DATA, hdr.slots_for(HIGHEST_NS, self.digits)
        )
        return self._read(stream, hdr.read_record(block + histogram, counts, self.digits))

    def _read(self, stream: int, latency: Distribution | None) -> StreamReading:
        view = StreamView(self._block(stream))
        received, duplicates = int(view.received), int(view.duplicates)
        span = view.spans + view.expected - view.first
        return StreamReading(
            stream, received, int(view.bytes), max(0, int(span) - received + duplicates), duplicates,
            int(view.reordered), int(view.late), int(view.gaps), int(view.farthest), int(view.early),
            int(view.restarts), view.jitter / 16, (view.last - view.began) / self.parameters["hz"], latency,
        )  # fmt: skip

    def _seen(self) -> list[int]:
        return [stream for stream in range(self.streams) if StreamView(self._block(stream)).received]

    def readings(self) -> list[StreamReading]:
        """Of all streams that were seen."""
        return [self[stream] for stream in self._seen()]

    def counts(self) -> list[StreamReading]:
        """The same without latencies, which are what takes time to read."""
        return [self._read(stream, None) for stream in self._seen()]

    def clear(self) -> None:
        """Forget all; what arrives at the same moment may be counted in part."""
        self._check_writable()
        window = self._words(np.uint8, 0, self.region.size)
        histogram, block = int(self.parameters["histogram"]), int(self.parameters["block"])
        for stream in self._seen():
            at = self._block(stream) - self.address
            window[at : at + block] = 0
            hdr.format_record(self._block(stream) + histogram, HIGHEST_NS, self.digits)
        view = MeterView(self.address)
        view.plain = view.strangers = 0

    def __repr__(self) -> str:
        return f"<Meter {self.name}: {self.streams} streams, {len(self._seen())} seen>"


@dataclass(frozen=True)
class MeterOptions:
    """Options of ``meter``."""

    streams: int = option(16, f"streams that are told apart, from number 0 on (1 to {MAX_STREAMS})")
    window: int = option(1024, "sequence numbers remembered, to tell late packets from duplicates (a power of two)")
    digits: int = option(3, "significant digits of latencies (1 to 4)")
    name: str = option("", "under which other processes find the meter")


class MeterPort(Port):
    """Nothing in; what comes out is measured and freed.

    Attributes:
        meter: what it measures with; its last figures stay readable after the port was closed.
    """

    Options = MeterOptions
    transmit = staticmethod(transmit)
    rx_queues = 0
    tx_queues = 1

    def __init__(self, spec: str, options: MeterOptions, meter: Meter | None = None) -> None:
        super().__init__(spec, options)
        try:
            self.meter = meter or Meter(options.streams, options.window, options.digits, options.name or None)
        except TableError as error:
            raise PortError(f"port {spec!r}: {error}") from None

    @classmethod
    def of(cls, meter: Meter) -> "MeterPort":
        """A port that measures with a meter that exists."""
        return cls(f"meter:{meter.name}", MeterOptions(), meter)

    def open(self, pool: Pool, rx_queues: int, tx_queues: int) -> None:
        self._memory = Region(MeterQueue.SIZE, "wirespeed-meter-port", huge=False)
        self.tx = [self._memory.address][:tx_queues]
        MeterQueue(self._memory.address).meter = self.meter.address

    def extended(self) -> dict[str, int]:
        """Packets without a stamp, and what each stream lost, got twice and out of order."""
        found = {"plain": self.meter.plain, "strangers": self.meter.strangers}
        for reading in self.meter.counts():
            for name in ("received", "lost", "duplicates", "reordered"):
                found[f"stream_{reading.stream}_{name}"] = getattr(reading, name)
        return found

    def close(self) -> None:
        self._memory.close()

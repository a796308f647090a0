"""generator: packets that are written down before the first one leaves.

``generator:size=64,flows=1024,dst=10.0.0.0/8,rate=1M,stamp=yes``. All headers and checksums are right; a packet costs
a copy of one cache line and one descriptor. Each queue has every Nth flow, so that a flow stays with its
worker. ``size`` counts the FCS, as the field does; the cell then holds four bytes less.

:meth:`Generator.from_streams` sends any packets, several kinds of them (:mod:`wirespeed.ports.generator.stream`).
:meth:`Generator.send` asks for another round while it runs: so many packets at such a rate.

One region holds it all::

    queue records | streams' records | templates, queue after queue | a word for each | bodies of longer frames
"""

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wirespeed.eal.clock import tsc_hz
from wirespeed.errors import PortError
from wirespeed.mem.descriptor import ROOM
from wirespeed.mem.pool import Pool
from wirespeed.mem.region import Region
from wirespeed.ports.generator import frames
from wirespeed.ports.generator.flows import Column
from wirespeed.ports.generator.frames import Fields
from wirespeed.ports.generator.path import (
    STREAM,
    TEMPLATE,
    receive_long,
    receive_random,
    receive_short,
    receive_streams,
)
from wirespeed.ports.generator.plan import (
    TEMPLATES,
    GeneratorOptions,
    check_pace,
    mean_wire_bytes,
    per_packet,
    plan,
)
from wirespeed.ports.generator.queue import FRACTION, UNLIMITED, GeneratorQueue
from wirespeed.ports.generator.stream import Part, Stream, spread, work_out
from wirespeed.ports.options import parse_options
from wirespeed.ports.port import Port

_RECORD = GeneratorQueue.SIZE
_HUGE = 1 << 20
_SHORTEST = 512  # templates of a queue, at least
_SLOWEST = 1 << 62  # of the pace, that a burst may cost: as much as 64 bits hold, some hours


@dataclass(frozen=True)
class Pace:
    """How fast a generator was in its last round.

    Attributes:
        packets: that left.
        target: packets a second it was told; 0: as fast as it is asked.
        achieved: packets a second, from the first to the last one by the time-stamp counter; 0 before two have left.
        missed: packets that it could not make up for, having been kept from working for too long.
    """

    packets: int
    target: float
    achieved: float
    missed: int

    @property
    def error_ppm(self) -> float:
        """How far off the target it was, in millionths; 0 without a target."""
        return (self.achieved / self.target - 1) * 1e6 if self.target and self.achieved else 0.0


class Generator(Port):
    """Packets of precomputed flows in, nothing out.

    Args:
        spec, options: the text and what it says.
        destinations: IPv4 addresses, uint32 in host order, instead of ``dst``: taken in turn, or drawn if
            ``dst_mode=random``.
        streams: what to send instead of what the options say of packets.

    Raises:
        PortError: an option is wrong.
    """

    Options = GeneratorOptions
    receive = staticmethod(receive_short)
    rx_queues = 0
    tx_queues = 0

    def __init__(
        self,
        spec: str,
        options: GeneratorOptions,
        destinations: NDArray[np.uint32] | None = None,
        streams: tuple[Stream, ...] = (),
    ) -> None:
        super().__init__(spec, options)
        self.waiting = False
        self._rate = 0.0
        self._active: list[int] = []
        self._ended: Pace | None = None
        self._drawn: dict[str, tuple[int, int]] = {}
        if streams:
            check_pace(spec, options)
            self.parts = [work_out(stream, place, options.seed) for place, stream in enumerate(streams)]
        else:
            made = plan(spec, options, destinations)
            self.parts = [made.part(options)]
            self._drawn = {field.name: per_packet(spec, field) for field in made.fields if made.redraw}
        self._width = -(-max(part.width for part in self.parts) // TEMPLATE) * TEMPLATE
        lengths = {length for part in self.parts for length in part.lengths}
        self._longest = max(lengths)
        if self._drawn:
            self.receive = receive_random
        elif streams or options.stamp:
            self.receive = receive_streams
        elif len(lengths) > 1 or self._longest > TEMPLATE or self._width > TEMPLATE:
            self.receive = receive_long

    @classmethod
    def from_options(cls, destinations: NDArray[np.uint32] | None = None, **options: Any) -> "Generator":
        """A generator from Python: ``Generator.from_options(size=64, flows=65536, destinations=array)``.

        Args:
            destinations: IPv4 addresses, uint32 in host order.
            options: as in the text; see :class:`GeneratorOptions`.

        Raises:
            PortError: an option is wrong.
        """
        spec, text = _spelled(options)
        return cls(spec, parse_options(spec, text, cls.Options), destinations)

    @classmethod
    def from_streams(cls, *streams: Stream, **options: Any) -> "Generator":
        """A generator of any packets: ``Generator.from_streams(web, names, rate=1_000_000)``.

        Args:
            streams: what to send; they take turns by their weights.
            options: how many and how fast: ``count``, ``seconds``, ``rate``, ``rate_bits``, ``burst``, ``late``,
                ``seed``.

        Raises:
            PortError: a stream or an option is wrong.
        """
        allowed = ("count", "seconds", "rate", "rate_bits", "burst", "late", "seed")
        for name in options:
            if name not in allowed:
                raise PortError(f"generator of streams: {name} is said by a stream; options here: {', '.join(allowed)}")
        if not streams:
            raise PortError("generator of streams: there is none: Generator.from_streams(ws.Stream(packet))")
        spec, text = _spelled(options)
        return cls(spec, parse_options(spec, text, cls.Options), None, streams)

    # ---------------------------------------------------------------------------------------------------

    def open(self, pool: Pool, rx_queues: int, tx_queues: int) -> None:
        step, parts = self._width, self.parts
        rows = [[_entries(part, queue, rx_queues) for part in parts] for queue in range(rx_queues)]
        orders = [_interleaved([len(chosen) for chosen, _ in each], parts) for each in rows]
        entries = [len(order) for order, _ in orders]
        if sum(entries) > TEMPLATES:
            raise PortError(f"port {self.spec!r}: {sum(entries)} packets to write down; {TEMPLATES} are possible")
        streams = rx_queues * _RECORD
        templates = -(-(streams + rx_queues * len(parts) * STREAM) // 128) * 128
        words = templates + sum(entries) * step
        bodies = words + sum(entries) * 8
        rest = -(-max(0, self._longest - step) // 64) * 64  # read in whole cache lines
        size = bodies + rest * len(parts)
        self._memory = Region(max(size, 1), "wirespeed-generator", huge=size >= _HUGE)
        base = self._memory.address
        numbers = [part.stream for part in parts]
        span = max(numbers) - min(numbers) + 1  # each queue numbers packets by itself: its streams are others
        for number, part in enumerate(parts):
            _array(base + bodies + number * rest, rest)[:] = frames.tail(part.shape, step + rest)[step:]
        self.rx = [base + queue * _RECORD for queue in range(rx_queues)]
        for queue in range(rx_queues):
            record = GeneratorQueue(self.rx[queue])
            record.first = record.next = base + templates
            record.end = record.first + entries[queue] * step
            record.lengths, record.body = base + words, base + bodies
            record.streams = base + streams + queue * len(parts) * STREAM
            for number, part in enumerate(parts):
                at = record.streams + number * STREAM
                word = _array(at, STREAM).view(np.int64)
                word[1:3] = (part.stream + queue * span) & 0xFFFF, base + bodies + number * rest
            self._write(record, rows[queue], orders[queue])
            self._describe(record, queue)
            templates += entries[queue] * step
            words += entries[queue] * 8
        self._ended = None
        self._active = [address for address, many in zip(self.rx, entries, strict=True) if many]
        options = self.options
        self.send(
            0 if self.waiting else UNLIMITED if options.count < 0 else options.count,
            options.rate or options.rate_bits / 8 / mean_wire_bytes(self.mix),
            options.burst,
        )
        for address in self.rx:
            GeneratorQueue(address).span = int(options.seconds * tsc_hz())
            if address not in self._active:
                GeneratorQueue(address).limit = 0

    def close(self) -> None:
        """Give the memory back; :meth:`pace` goes on saying how it was."""
        self._ended = self.pace()
        self._active = []
        self._memory.close()

    def facts(self) -> dict[str, str]:
        """What is written down, and where."""
        rows = sum((GeneratorQueue(a).end - GeneratorQueue(a).first) // self._width for a in self._active)
        numbers = ", ".join(str(part.stream) for part in self.parts if part.shape.stamp) or "none"
        return {"packets": f"{rows:,} of {self._width} bytes", "pages": self._memory.kind, "stamped streams": numbers}

    def extended(self) -> dict[str, int]:
        """How fast it was in its last round, and what it could not make up for."""
        pace = self.pace()
        return {"target_rate": round(pace.target), "achieved_rate": round(pace.achieved), "missed": pace.missed}

    # While it runs --------------------------------------------------------------------------------------

    @property
    def mix(self) -> list[int]:
        """Bytes of frames in memory, as often as they come."""
        return [length for part in self.parts for length in part.lengths * part.weight]

    def wait_for_rounds(self) -> None:
        """From now on a queue that has sent all it was asked for waits for :meth:`send`, instead of having ended.

        Call it before the graph starts: nothing leaves before the first round.
        """
        self.waiting = True

    def send(self, count: int, rate: float = 0.0, burst: int = 1) -> None:
        """Begin another round.

        Args:
            count: packets to send, all queues together.
            rate: packets a second; 0: as fast as they are asked for.
            burst: packets that leave back to back.
        """
        self._rate = rate
        active = len(self._active)
        hz = tsc_hz()
        for queue, address in enumerate(self._active):
            record = GeneratorQueue(address)
            cost = int((hz << FRACTION) * active / rate) if rate else 0
            record.cost = min(max(1, cost), _SLOWEST // burst) if rate else 0
            record.depth = max(record.cost * burst, int((hz << FRACTION) * self.options.late / 1e6))
            record.train = burst
            record.hold = int(self.waiting)
            share = count // active + (queue < count % active)
            record.round += 1  # before there is anything to send, so that all of it is of this round
            record.limit = min(UNLIMITED, record.packets + share)

    def halt(self) -> None:
        """End the round here; what was asked for and has not left is not sent."""
        for address in self._active:
            GeneratorQueue(address).limit = 0

    def pace(self) -> Pace:
        """How fast the round was up to now, or up to the end."""
        if self._ended is not None:
            return self._ended
        hz = tsc_hz()
        packets = missed = 0
        achieved = 0.0
        for address in self._active:
            record = GeneratorQueue(address)
            packets += record.packets - record.before
            missed += (record.missed << FRACTION) // record.cost if record.cost else 0
            if record.sent > record.begun:
                achieved += (record.packets - record.before - record.burst) * hz / (record.sent - record.begun)
        return Pace(packets, self._rate, achieved, missed)

    @property
    def idle(self) -> bool:
        """Whether every queue has sent what it was asked for."""
        return all(GeneratorQueue(a).packets >= GeneratorQueue(a).limit for a in self._active)

    # ---------------------------------------------------------------------------------------------------

    def _write(self, record: GeneratorQueue, rows: "list[Rows]", order: "tuple[Indices, Indices]") -> None:
        """The templates of one queue, and a word for each."""
        owners, entries = order
        memory = _array(record.first, len(owners) * self._width).reshape(-1, self._width)
        words = _array(record.lengths, len(owners) * 8).view(np.int64)
        for number, (part, (chosen, lengths)) in enumerate(zip(self.parts, rows, strict=True)):
            mine = np.flatnonzero(owners == number)
            which = entries[mine]
            shown: Fields = [
                (place, Column(column.high[chosen[which]], column.low[chosen[which]])) for place, column in part.fields
            ]
            if len(self.parts) == 1:
                frames.fill(memory, part.shape, shown, lengths[which])
            else:
                filled = np.empty((len(mine), self._width), np.uint8)
                frames.fill(filled, part.shape, shown, lengths[which])
                memory[mine] = filled
            words[mine] = lengths[which] | part.shape.stamp << 16 | number * STREAM << 32

    def _describe(self, record: GeneratorQueue, queue: int) -> None:
        """What frames look like, for those who cut, chain and redraw them."""
        shape = self.parts[0].shape
        record.frame, record.template = self._longest, self._width
        record.cells = -(-self._longest // ROOM)
        record.state = (self.options.seed * 0x9E3779B97F4A7C15 + (queue + 1) * 0xBF58476D1CE4E5B9) | 1
        record.ip_sum = shape.network + 10 if shape.version == 4 else 0
        record.sum = shape.sum
        record.covers = int(shape.covers_addresses)
        record.udp = int(shape.is_udp)
        last = shape.address_size - 4
        places = {
            "src": shape.source + last,
            "dst": shape.destination + last,
            "sport": shape.ports,
            "dport": shape.ports + 2,
        }
        for name, at in places.items():
            low, span = self._drawn.get(name, (0, 0))
            setattr(record, f"{name}_at", at)
            setattr(record, f"{name}_low", low)
            setattr(record, f"{name}_span", span)


Indices = NDArray[np.int64]
Rows = tuple[Indices, Indices]
"""Which packet of a part, and how long."""


def _entries(part: Part, queue: int, queues: int) -> Rows:
    """A queue's packets of a part: every Nth goes by once for each length, each time with the next one.

    Few packets are written down several times, so that a burst seldom meets the end of the table.
    """
    share = np.arange(queue, part.count, queues)
    many = len(share) * len(part.lengths)
    laps = -(-_SHORTEST // max(1, many))
    turn, local = np.divmod(np.arange(many * laps), max(1, len(share)))
    lengths = np.array(part.lengths, np.int64)
    return share[local], lengths[(local + turn) % len(lengths)]


def _interleaved(entries: list[int], parts: list[Part]) -> tuple[Indices, Indices]:
    """In which order: whose turn it is, and which of its entries. Nobody's round is cut short."""
    if len(parts) == 1:
        return np.zeros(entries[0], np.int64), np.arange(entries[0])
    weights = [part.weight if many else 0 for part, many in zip(parts, entries, strict=True)]
    if not any(weights):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    rounds = max(-(-many // weight) for many, weight in zip(entries, weights, strict=True) if weight)
    owners = np.tile(np.array(spread(weights), np.int64), rounds)
    which = np.zeros(len(owners), np.int64)
    for number, many in enumerate(entries):
        mine = np.flatnonzero(owners == number)
        which[mine] = np.arange(len(mine)) % max(many, 1)
    return owners, which


def _spelled(options: dict[str, Any]) -> tuple[str, str]:
    """Options as (specification, text behind the colon)."""
    words = {True: "yes", False: "no"}
    text = ",".join(f"{name}={words[value] if isinstance(value, bool) else value}" for name, value in options.items())
    return f"generator:{text}", text


def _array(address: int, size: int) -> NDArray[np.uint8]:
    """``size`` bytes at ``address``, to write with NumPy."""
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))

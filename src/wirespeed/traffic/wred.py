"""RED and WRED: drop a few packets early, at random, so that senders slow down before a queue is full.

S. Floyd and V. Jacobson, "Random early detection gateways for congestion avoidance", IEEE/ACM Transactions on
Networking 1(4), 1993; weighted by colour as every router has it. For each queue::

    average  moves by (length - average) / 2^weight at each packet; while the queue is empty it decays as if
             packets of ``packet_ns`` had passed
    below ``lowest``: keep.  ``highest`` and above: drop.  Between: with probability
             p = most * (average - lowest) / (highest - lowest),  spread evenly: p / (1 - kept_since * p)

Spread so, the gap between two drops is uniform on 1 to 1/p, as section 7 of the paper wants (its pseudo-code counts
from 0 after a drop and never draws the longest gap).

Averages and probabilities are fixed-point; the paper's exponential decay is taken as powers of two with a straight
line between (at most 6 % off, of an average that only idles). In a node, before a packet joins queue ``q``::

    if queues.drops(q, length, now_ns, color): return "early"

    0     record: mask, weight, packet_ns, then three colours' thresholds
    128   queues, 64 bytes each: average, kept since the last drop, empty since, random state, dropped, kept

O(1), 64 bytes a queue, which belongs to one worker at a time.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from wirespeed.errors import TableError
from wirespeed.jit import View, inline, kernel, le64, load64, multiply, shift_right
from wirespeed.mem.shared import Shared

_HEAD, _RECORD = 128, 64
_POINT = 16  # fractional bits of an average
_ONE = 1 << 30  # probability 1
MAX_QUEUES: int = 1 << 20
MAX_LENGTH: int = 1 << 24
"""The longest queue, in whatever unit lengths are given: packets or bytes."""


class WredQueueView(View):
    """One queue's state."""

    average = le64(0, "length, with _POINT fractional bits")
    kept_since = le64(8, "packets since the last drop, less one")
    empty_since = le64(16, "time it became empty, or -1")
    random = le64(24)
    dropped = le64(32)
    kept = le64(40)
    SIZE = _RECORD


@inline
def _decayed(average, weight, idle_packets):  # type: ignore[no-untyped-def]
    """``average * (1 - 2^-weight)^idle_packets``, by powers of two: e^-x = 2^(-1.4427 x)."""
    halvings = (idle_packets * 94548) >> weight  # 1.4427 * 2^16, so 16 fractional bits
    whole = halvings >> 16
    if whole > 40:
        return 0
    rest = average >> whole
    return rest - ((rest >> 1) * (halvings & 0xFFFF) >> 16)


class WredView(View):
    """The queues as nodes see them. An index outside them wraps."""

    mask = le64(0, "queues - 1")
    weight = le64(8, "log2 of the averaging weight")
    packet_ns = le64(16, "time of a typical packet")
    thresholds = le64(24, "of each colour: lowest, highest (both as averages), slope, most: 32 bytes")
    SIZE = _HEAD

    def _queue(self, index: int) -> int:
        return self.address + _HEAD + (index & self.mask) * _RECORD  # type: ignore[no-any-return]

    def drops(self, index: int, length: int, now_ns: int, color: int = 0) -> int:
        """1 if the packet that comes now must go, 0 if it may join; ``length``: of the queue without it."""
        queue = WredQueueView(self._queue(index))
        average = queue.average
        if length > 0:
            average += ((length << _POINT) - average) >> self.weight
        else:
            if queue.empty_since >= 0 and now_ns > queue.empty_since:
                packets = min((now_ns - queue.empty_since) // self.packet_ns, 1 << 40)
                average = _decayed(average, self.weight, packets)
                queue.empty_since = now_ns
            average -= average >> self.weight
        queue.average = average
        colour = self.address + 24 + (color if 0 <= color <= 2 else 2) * 32
        drop = 0
        kept_since = queue.kept_since
        if average < load64(colour):
            kept_since = -1
        elif average >= load64(colour + 8):
            drop, kept_since = 1, -1
        else:
            kept_since += 1
            chance = ((average - load64(colour)) >> 4) * load64(colour + 16) >> 32
            left = _ONE - kept_since * chance
            queue.random = multiply(queue.random, 6364136223846793005) + 1442695040888963407  # Knuth's MMIX
            drawn = shift_right(queue.random, 34)
            if left <= 0 or (drawn * left) >> 30 < chance:
                drop, kept_since = 1, -1
        queue.kept_since = kept_since
        queue.dropped += drop
        queue.kept += 1 - drop
        return drop

    def emptied(self, index: int, now_ns: int) -> None:
        """Say that a queue has just become empty: from now on its average decays with time."""
        WredQueueView(self._queue(index)).empty_since = now_ns


@kernel
def _drops_many(address, index, lengths, times, colors, dropped):  # type: ignore[no-untyped-def]
    queues = WredView(address)
    for i in range(len(lengths)):
        dropped[i] = queues.drops(index, int(lengths[i]), int(times[i]), int(colors[i]))


@dataclass(frozen=True)
class Thresholds:
    """When packets of a colour are dropped: from an average length of ``lowest`` on, with a probability that grows to
    ``most`` at ``highest``, and all of them beyond."""

    lowest: int
    highest: int
    most: float = 0.1


@dataclass(frozen=True)
class WredStats:
    """Of all queues: packets that were dropped early, and kept."""

    queues: int
    dropped: int
    kept: int
    memory_bytes: int
    pages: str


class Wred(Shared):
    """Early drop for ``count`` queues.

    Args:
        count: rounded up to a power of two.
        thresholds: one for all colours (RED), or three for GREEN, YELLOW and RED.
        weight: log2 of how slowly the average follows, 1 to 12; the paper's 0.002 is about 9.
        packet_ns: how long a typical packet takes to send: what the average decays by while a queue is empty.
        seed: of the random draws; secret if not given.
        name: under which other processes can attach it.

    Raises:
        TableError: out of range.
    """

    View: ClassVar[type[WredView]] = WredView
    KIND = "wred"

    def __init__(
        self,
        count: int,
        thresholds: Thresholds | Sequence[Thresholds],
        weight: int = 9,
        packet_ns: int = 1000,
        seed: int | None = None,
        name: str | None = None,
    ) -> None:
        what = name or self.KIND
        three = [thresholds] * 3 if isinstance(thresholds, Thresholds) else list(thresholds)
        if not 1 <= count <= MAX_QUEUES:
            raise TableError(f"{what}: {count} queues are not possible: use 1 to {MAX_QUEUES}")
        if not 1 <= weight <= 12:
            raise TableError(f"{what}: weight {weight} is not 1 to 12")
        if packet_ns < 1:
            raise TableError(f"{what}: a packet of {packet_ns} ns is not possible: use 1 or more")
        if len(three) != 3:
            raise TableError(f"{what}: {len(three)} thresholds: give one, or one for each of three colours")
        for each in three:
            if not 0 <= each.lowest < each.highest <= MAX_LENGTH:
                raise TableError(f"{what}: {each} must have 0 <= lowest < highest <= {MAX_LENGTH}")
            if not 0 < each.most <= 1:
                raise TableError(f"{what}: {each} must have a probability above 0, up to 1")
        size = 1 << (count - 1).bit_length()
        self._create(_HEAD + size * _RECORD, name)
        self._attached()
        self._view.mask, self._view.weight, self._view.packet_ns = size - 1, weight, packet_ns
        colours = self._words(np.int64, 24, 12).reshape(3, 4)
        for row, each in zip(colours, three, strict=True):
            span = (each.highest - each.lowest) << _POINT
            row[:] = (each.lowest << _POINT, each.highest << _POINT, round(each.most * _ONE * (1 << 36) / span), 0)
        records = self._records()
        records[:, 1], records[:, 2] = -1, -1
        first = secrets.randbits(62) if seed is None else seed
        records[:, 3] = np.random.default_rng(first).integers(1, 1 << 62, size)

    def _attached(self) -> None:
        self._view = WredView(self.address)

    def __len__(self) -> int:
        return int(self._view.mask) + 1

    def drops(self, index: int, length: int, now_ns: int, color: int = 0) -> int:
        """See :meth:`WredView.drops`."""
        self._check_writable()
        return int(self._view.drops(index, length, now_ns, color))

    def drops_many(self, index: int, lengths: Any, times_ns: Any, colors: Any = 0) -> NDArray[np.int64]:
        """1 or 0 for each packet that comes to one queue: arrays of one length, or numbers that count for all."""
        self._check_writable()
        asked = [np.array(each, dtype=np.int64) for each in np.broadcast_arrays(lengths, times_ns, colors)]
        dropped = np.empty(asked[0].size, dtype=np.int64)
        _drops_many(self.address, index, asked[0].ravel(), asked[1].ravel(), asked[2].ravel(), dropped)
        return dropped

    def emptied(self, index: int, now_ns: int) -> None:
        """See :meth:`WredView.emptied`."""
        self._check_writable()
        self._view.emptied(index, now_ns)

    def average(self, index: int) -> float:
        """The average length of a queue."""
        if not 0 <= index < len(self):
            raise TableError(f"{self.name}: queue {index} is out of range: 0 to {len(self) - 1}")
        return float(self._records()[index, 0] / (1 << _POINT))

    def stats(self) -> WredStats:
        """Packets dropped early and kept, all queues together."""
        records = self._records()
        dropped, kept = int(records[:, 4].sum()), int(records[:, 5].sum())
        return WredStats(len(self), dropped, kept, self.memory_bytes, self.pages)

    def _records(self) -> NDArray[np.int64]:
        return self._words(np.int64, _HEAD, len(self) * _RECORD // 8).reshape(-1, _RECORD // 8)

    def __repr__(self) -> str:
        return f"<Wred {self.name}: {len(self)} queues>"

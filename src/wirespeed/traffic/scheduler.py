"""A hierarchical scheduler: whose packet goes next, and when.

Five levels, as in DPDK's rte_sched and in any broadband gateway::

    port > subport (a group of users) > pipe (a user) > traffic class (4, strict priority) > queue (4, weighted)

- The port, each subport and each pipe has a token bucket; so has each class within a subport and within a pipe, which
  bounds what strict priority may take.
- Pipes that have packets take turns by bytes (a quantum a turn, less what the last one took too many). Within a pipe
  a lower class goes only when the higher ones are empty or at their own limit. Within a class, queues share by deficit
  round robin (Shreedhar and Varghese, SIGCOMM 1995) with their weights.
- A packet goes while every bucket above it holds something, and is then charged in full: a bucket may owe one packet,
  and large packets wait no longer than small ones. So a level sends at most its rate, its burst and one packet more.

::

    0     record (:class:`SchedulerView`)
    256   buckets of the port and of each subport: (1 + 4) * 40 bytes, rounded to 256
          bitmap of pipes that have packets
          pipes: :class:`PipeView`, 384 bytes
          queues: 16 a pipe, ``queue_size`` descriptors each

O(1) a packet to enqueue; dequeueing looks at one pipe with packets at a time. 384 + 128 * queue_size bytes a pipe. One
worker at a time uses a scheduler.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from wirespeed.errors import TableError
from wirespeed.jit import (
    View,
    cold,
    inline,
    kernel,
    le16,
    le32,
    le64,
    lent,
    load8,
    load16,
    load32,
    load64,
    store8,
    store16,
    store32,
    store64,
    trailing_zeros,
)
from wirespeed.mem.buffer import LONGEST
from wirespeed.mem.descriptor import CHAINED, CellHeader, header_of, length_of
from wirespeed.mem.shared import Shared
from wirespeed.traffic.tokens import scale, shift_for

CLASSES: int = 4
QUEUES: int = 4
"""Queues of a class."""
MAX_PIPES: int = 1 << 20
MAX_SUBPORTS: int = 1 << 12

_HEAD = 256
_BUCKET = 40
_LEVEL = 256  # five buckets: the whole, then one a class
_QUANTUM = 1600  # bytes: of a pipe's turn, and of a queue of weight 1
_LARGEST = LONGEST + 1024  # bytes of a packet on the wire, at the most
_TURNS = QUEUES * (-(-_LARGEST // _QUANTUM) + 1)  # steps of the round robin in a class: one of weight 1 pays that off


class BucketView(View):
    """A token bucket; figures scaled (wirespeed.traffic.tokens)."""

    tokens = le64(0)
    capacity = le64(8)
    rate = le64(16)
    fill_ns = le64(24)
    last_ns = le64(32)
    SIZE = _BUCKET


class PipeView(View):
    """One user."""

    active = le16(200, "bit 4 * class + queue: it has packets")
    subport = le32(204)
    owed = le32(356, "bytes its last turn took too many, less than a quantum")
    SIZE = 384


_ENDS = 208  # head and tail of each queue, 2 bytes each: counts, masked to find a slot
_WEIGHTS = 272  # a byte a queue
_CREDITS = 288  # bytes a queue may still send in its turn, 4 bytes each, biased
_CURRENT = 352  # whose turn it is, a byte a class
_DROPPED, _SENT, _SENT_BYTES = 360, 368, 376
_BIAS = 1 << 30  # credits are stored without sign


class SchedulerView(View):
    """The scheduler as nodes and ports see it."""

    pipes = le64(0)
    queue_mask = le64(8, "slots of a queue - 1")
    shift = le64(16, "tokens are scaled by 2 to this")
    overhead = le64(24, "bytes a packet takes on the wire beside its own")
    bitmap = le64(32, "offset")
    pipe_records = le64(40, "offset")
    queues = le64(48, "offset")
    cursor = le64(56, "the pipe to look at next")
    held = le64(64, "packets in all queues")
    busy = le64(72, "pipes that have packets")
    stray = le64(80, "packets for pipes, classes or queues that there are not")
    words = le64(88, "of the bitmap")
    turn_left = le64(96, "bytes the pipe at the cursor may still send in its turn; 0: a new turn")
    SIZE = _HEAD

    def enqueue(self, pipe: int, traffic_class: int, queue: int, desc: int) -> int:
        """Take a packet; 0 if its queue is full or does not exist: it is the caller's still."""
        if pipe < 0 or pipe >= self.pipes or traffic_class & ~3 != 0 or queue & ~3 != 0:
            self.stray += 1
            return 0
        number = (traffic_class << 2) | queue
        record = self.address + self.pipe_records + pipe * 384
        ends = record + _ENDS + (number << 2)
        head, tail = load16(ends), load16(ends + 2)
        if ((tail - head) & 0xFFFF) > self.queue_mask:
            store64(record + _DROPPED, load64(record + _DROPPED) + 1)
            return 0
        slots = self.address + self.queues + ((pipe << 4) + number) * ((self.queue_mask + 1) << 3)
        store64(slots + ((tail & self.queue_mask) << 3), desc)
        store16(ends + 2, tail + 1)
        if tail == head:
            active = PipeView(record).active
            if active == 0:
                word = self.address + self.bitmap + ((pipe >> 6) << 3)
                store64(word, load64(word) | (1 << (pipe & 63)))
                self.busy += 1
            PipeView(record).active = active | (1 << number)
        self.held += 1
        return 1

    def length(self, pipe: int, traffic_class: int, queue: int) -> int:
        """Packets in a queue: what early drop (:class:`~wirespeed.traffic.wred.Wred`) asks for."""
        if pipe < 0 or pipe >= self.pipes:
            return 0
        ends = self.address + self.pipe_records + pipe * 384 + _ENDS + ((((traffic_class & 3) << 2) | (queue & 3)) << 2)
        return (load16(ends + 2) - load16(ends)) & 0xFFFF

    def dequeue(self, vector: int, room: int, now_ns: int, cells: int = 0) -> int:
        """Put up to ``room`` packets that may go now at ``vector``; returns how many.

        ``cells``: where cell 0 is, for the length of chained packets.
        """
        sent = 0
        idle = 0  # pipes looked at since one sent
        port = self.address + _HEAD
        _refill(port, now_ns)
        while sent < room and idle < self.busy and idle < 512 and BucketView(port).tokens > 0:
            pipe = _next_pipe(self)
            got = _serve(self, pipe, vector + (sent << 3), room - sent, now_ns, cells)
            idle = 0 if got > 0 else idle + 1
            sent += got
        self.held -= sent
        return sent


@cold
def empty(scheduler, vector, room):  # type: ignore[no-untyped-def]
    """Take packets out whatever the rates say, to be thrown away; how many are at ``vector``."""
    got = 0
    while got < room and scheduler.busy > 0:
        pipe = _next_pipe(scheduler)
        record = scheduler.address + scheduler.pipe_records + pipe * 384
        number = trailing_zeros(PipeView(record).active)
        ends = record + _ENDS + (number << 2)
        head = load16(ends)
        slots = scheduler.address + scheduler.queues + ((pipe << 4) + number) * ((scheduler.queue_mask + 1) << 3)
        store64(vector + (got << 3), load64(slots + ((head & scheduler.queue_mask) << 3)))
        store16(ends, head + 1)
        if (head + 1) & 0xFFFF == load16(ends + 2):
            _leave(scheduler, pipe, record, number)
        got += 1
    scheduler.held -= got
    return got


@inline
def _refill(bucket, now_ns):  # type: ignore[no-untyped-def]
    record = BucketView(bucket)
    elapsed = now_ns - record.last_ns
    if elapsed > 0:
        earned = min(elapsed, record.fill_ns << 1) * record.rate  # twice: it may have owed as much
        record.tokens = min(record.tokens + earned, record.capacity)
        record.last_ns = now_ns


@inline
def _next_pipe(scheduler):  # type: ignore[no-untyped-def]
    """The pipe whose turn it is, from the cursor on, among those that have packets; there is one."""
    bitmap = scheduler.address + scheduler.bitmap
    at = scheduler.cursor
    word = at >> 6
    bits = load64(bitmap + (word << 3)) & (-1 << (at & 63))
    while bits == 0:
        word += 1
        if word == scheduler.words:
            word = 0
        bits = load64(bitmap + (word << 3))
    pipe = (word << 6) + trailing_zeros(bits)
    if pipe != at or scheduler.turn_left <= 0:
        record = scheduler.address + scheduler.pipe_records + pipe * 384
        scheduler.turn_left = _QUANTUM - PipeView(record).owed
    scheduler.cursor = pipe
    return pipe


@inline
def _bytes(desc, cells, overhead):  # type: ignore[no-untyped-def]
    if cells != 0 and desc & CHAINED != 0:
        return CellHeader(header_of(cells, desc)).length + overhead
    return length_of(desc) + overhead


@inline
def _turn(record, traffic_class, active):  # type: ignore[no-untyped-def]
    """The queue of a class whose turn it is: deficit round robin; ``active`` has a bit of this class."""
    queue = load8(record + _CURRENT + traffic_class)
    for _ in range(_TURNS):
        number = (traffic_class << 2) | queue
        credit = record + _CREDITS + (number << 2)
        if active >> number & 1:
            if load32(credit) > _BIAS:
                break
        else:
            store32(credit, _BIAS)  # an empty queue saves nothing up
        queue = (queue + 1) & 3
        number = (traffic_class << 2) | queue
        if active >> number & 1:
            credit = record + _CREDITS + (number << 2)
            store32(credit, load32(credit) + load8(record + _WEIGHTS + number) * _QUANTUM)
    store8(record + _CURRENT + traffic_class, queue)
    return queue


@cold
def _serve(scheduler, pipe, vector, room, now_ns, cells):  # type: ignore[no-untyped-def]
    """A pipe's turn: a quantum of its packets, highest class first; how many went."""
    base = scheduler.address
    record = base + scheduler.pipe_records + pipe * 384
    port = base + _HEAD
    subport = base + _HEAD + _LEVEL * (1 + PipeView(record).subport)
    _refill(subport, now_ns)
    _refill(record, now_ns)
    for traffic_class in range(CLASSES):
        at = (1 + traffic_class) * _BUCKET
        if PipeView(record).active >> (traffic_class << 2) & 15:
            _refill(subport + at, now_ns)
            _refill(record + at, now_ns)
    sent, total, left = 0, 0, scheduler.turn_left
    while sent < room and left > 0:
        size = _send_one(scheduler, pipe, record, subport, port, vector + (sent << 3), cells)
        if size < 0:
            break
        sent += 1
        total += size
        left -= size
    if left <= 0 or (sent < room and BucketView(port).tokens > 0):  # its turn is over; else it goes on where it was
        scheduler.cursor = pipe + 1 if pipe + 1 < scheduler.pipes else 0
        PipeView(record).owed = min(max(-left, 0), _QUANTUM - 1)
        left = 0
    scheduler.turn_left = left
    store64(record + _SENT, load64(record + _SENT) + sent)
    store64(record + _SENT_BYTES, load64(record + _SENT_BYTES) + total)
    return sent


@inline
def _send_one(scheduler, pipe, record, subport, port, vector, cells):  # type: ignore[no-untyped-def]
    """The packet of the highest class that may go: its bytes on the wire; -1 if none may."""
    active = PipeView(record).active
    if min(BucketView(port).tokens, BucketView(subport).tokens, BucketView(record).tokens) <= 0:
        return -1
    for traffic_class in range(CLASSES):
        at = (1 + traffic_class) * _BUCKET
        if active >> (traffic_class << 2) & 15 == 0:
            continue
        if min(BucketView(subport + at).tokens, BucketView(record + at).tokens) <= 0:
            continue  # this class is at its limit
        queue = _turn(record, traffic_class, active)
        number = (traffic_class << 2) | queue
        if active >> number & 1 == 0:
            continue
        ends = record + _ENDS + (number << 2)
        head = load16(ends)
        slots = scheduler.address + scheduler.queues + ((pipe << 4) + number) * ((scheduler.queue_mask + 1) << 3)
        desc = load64(slots + ((head & scheduler.queue_mask) << 3))
        size = _bytes(desc, cells, scheduler.overhead)
        cost = size << scheduler.shift
        for bucket in (port, subport, record, subport + at, record + at):
            BucketView(bucket).tokens -= cost
        credit = record + _CREDITS + (number << 2)
        store32(credit, load32(credit) - size)
        store64(vector, desc)
        store16(ends, head + 1)
        if (head + 1) & 0xFFFF == load16(ends + 2):
            _leave(scheduler, pipe, record, number)
        return size
    return -1


@inline
def _leave(scheduler, pipe, record, number):  # type: ignore[no-untyped-def]
    """A queue has become empty."""
    left = PipeView(record).active & ~(1 << number)
    PipeView(record).active = left
    if left == 0:
        word = scheduler.address + scheduler.bitmap + ((pipe >> 6) << 3)
        store64(word, load64(word) & ~(1 << (pipe & 63)))
        scheduler.busy -= 1


@kernel
def _enqueue_many(address, pipes, classes, queues, descs, taken):  # type: ignore[no-untyped-def]
    scheduler = SchedulerView(address)
    for i in range(len(pipes)):
        taken[i] = scheduler.enqueue(int(pipes[i]), int(classes[i]), int(queues[i]), int(descs[i]))


@kernel
def _dequeue(address, vector, room, now_ns, cells):  # type: ignore[no-untyped-def]
    return SchedulerView(address).dequeue(vector, room, now_ns, cells)


@dataclass(frozen=True)
class Rates:
    """What a level may send: ``rate`` bytes a second and ``burst`` bytes at once; ``classes``: the most that each of
    its four classes may take of that, in bytes a second (all of it if not said)."""

    rate: float
    burst: int
    classes: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class SchedulerStats:
    """Packets that are ``held`` now in ``busy`` pipes, were ``sent``, were ``dropped`` at full queues, and were
    ``stray``: for a pipe, class or queue that there is not."""

    held: int
    busy: int
    sent: int
    sent_bytes: int
    dropped: int
    stray: int
    pipes: int
    memory_bytes: int
    pages: str


class Scheduler(Shared):
    """A scheduler for one output.

    Args:
        port: what the output sends.
        subports: one each; pipe ``i`` belongs to subport ``i // pipes``.
        pipe: what a pipe may send until :meth:`set_pipe` says otherwise.
        pipes: of each subport.
        weights: of the four queues of a class, 1 to 64.
        queue_size: packets a queue holds; rounded up to a power of two, at most 16384.
        overhead: bytes that a packet takes on the wire beside its own (24: preamble, checksum, gap).
        largest_burst: the most that :meth:`set_pipe` may give.
        name: under which other processes can attach it.

    Raises:
        TableError: out of range.
    """

    View: ClassVar[type[SchedulerView]] = SchedulerView
    KIND = "scheduler"

    def __init__(
        self,
        port: Rates,
        subports: Sequence[Rates],
        pipe: Rates,
        pipes: int,
        *,
        weights: Sequence[int] = (1, 1, 1, 1),
        queue_size: int = 64,
        overhead: int = 24,
        largest_burst: int = 1 << 20,
        name: str | None = None,
    ) -> None:
        what = name or self.KIND
        if not 1 <= len(subports) <= MAX_SUBPORTS:
            raise TableError(f"{what}: {len(subports)} subports are not possible: use 1 to {MAX_SUBPORTS}")
        total = pipes * len(subports)
        if pipes < 1 or total > MAX_PIPES:
            raise TableError(f"{what}: {total} pipes are not possible: use 1 to {MAX_PIPES}")
        if not 1 <= queue_size <= 1 << 14:
            raise TableError(f"{what}: queues of {queue_size} are not possible: use 1 to {1 << 14}")
        if not 0 <= overhead <= 1024:
            raise TableError(f"{what}: an overhead of {overhead} bytes is not 0 to 1024")
        if len(weights) != QUEUES or not all(1 <= weight <= 64 for weight in weights):
            raise TableError(f"{what}: weights {tuple(weights)}: give four, each 1 to 64")
        slots = 1 << (queue_size - 1).bit_length()
        words = -(-total // 64)
        shift = shift_for(_LARGEST, largest_burst, *(rates.burst for rates in (port, pipe, *subports)))
        levels = [_level(what, rates, shift) for rates in (port, *subports)]
        each = _level(what, pipe, shift)
        bitmap = _HEAD + _LEVEL * len(levels)
        records = -(-(bitmap + 8 * words) // 64) * 64
        queues = records + PipeView.SIZE * total
        self._create(queues + total * CLASSES * QUEUES * slots * 8, name, pipes_of_subport=pipes)
        self._attached()
        view = self._view
        view.pipes, view.queue_mask, view.shift, view.overhead = total, slots - 1, shift, overhead
        view.bitmap, view.pipe_records, view.queues, view.words = bitmap, records, queues, words
        for index, level in enumerate(levels):
            self._words(np.int64, _HEAD + index * _LEVEL, 25)[:] = level
        table = self._pipes()
        table[:, :25] = each
        everything = table.view(np.uint8).reshape(total, PipeView.SIZE)
        everything[:, _WEIGHTS : _WEIGHTS + 16] = np.tile(np.array(weights, dtype=np.uint8), CLASSES)
        everything[:, _CREDITS : _CREDITS + 64].reshape(total, 64).view(np.uint32)[:] = _BIAS
        everything[:, 204:208].reshape(total, 4).view(np.uint32)[:, 0] = np.arange(total) // pipes

    def _attached(self) -> None:
        self._view = SchedulerView(self.address)

    def set_pipe(self, pipe: int, rates: Rates, weights: Sequence[int] | None = None) -> None:
        """Give a pipe other rates, live, and its queues other weights. Raises TableError, and changes nothing then."""
        self._check_writable()
        if not 0 <= pipe < self._view.pipes:
            raise TableError(f"{self.name}: pipe {pipe} is out of range: 0 to {self._view.pipes - 1}")
        if rates.burst.bit_length() + self._view.shift > 61:
            raise TableError(f"{self.name}: a burst of {rates.burst} is more than it was made for: see largest_burst")
        if weights is not None and (len(weights) != QUEUES or not all(1 <= weight <= 64 for weight in weights)):
            raise TableError(f"{self.name}: weights {tuple(weights)}: give four, each 1 to 64")
        level = _level(self.name, rates, self._view.shift).reshape(5, 5)
        buckets = self._pipes()[pipe, :25].reshape(5, 5)
        buckets[:, 3] = np.minimum(buckets[:, 3], level[:, 3])  # first: neither rate earns too much for 64 bits
        buckets[:, 1:3] = level[:, 1:3]
        buckets[:, 3] = level[:, 3]
        if weights is not None:
            at = self._view.pipe_records + pipe * PipeView.SIZE + _WEIGHTS
            self._words(np.uint8, int(at), 16)[:] = np.tile(np.array(weights, dtype=np.uint8), CLASSES)

    def enqueue(self, pipe: int, traffic_class: int, queue: int, desc: int) -> int:
        """See :meth:`SchedulerView.enqueue`."""
        self._check_writable()
        return int(self._view.enqueue(pipe, traffic_class, queue, desc))

    def enqueue_many(self, pipes: Any, classes: Any, queues: Any, descs: Any) -> NDArray[np.int64]:
        """1 or 0 for each of many packets: arrays of one length, or single numbers that count for all."""
        self._check_writable()
        asked = [np.array(each, dtype=np.int64) for each in np.broadcast_arrays(pipes, classes, queues, descs)]
        taken = np.empty(asked[0].size, dtype=np.int64)
        pipe, traffic_class, queue, desc = (each.ravel() for each in asked)
        _enqueue_many(self.address, pipe, traffic_class, queue, desc, taken)
        return taken

    def dequeue_many(self, room: int, now_ns: int) -> NDArray[np.int64]:
        """Up to ``room`` descriptors of packets that may go at ``now_ns``, in order."""
        self._check_writable()
        descs = np.empty(max(room, 0), dtype=np.int64)
        with lent(descs) as (vector,):
            return descs[: _dequeue(self.address, vector, len(descs), now_ns, 0)]

    def length(self, pipe: int, traffic_class: int, queue: int) -> int:
        """Packets in a queue."""
        return int(self._view.length(pipe, traffic_class, queue))

    def __len__(self) -> int:
        return int(self._view.held)

    def stats(self) -> SchedulerStats:
        """All pipes together."""
        view, table = self._view, self._pipes()
        dropped, sent, size = table[:, _DROPPED // 8 :].sum(axis=0).tolist()
        return SchedulerStats(
            view.held, view.busy, sent, size, dropped, view.stray, view.pipes, self.memory_bytes, self.pages
        )

    def sent(self, pipe: int) -> tuple[int, int]:
        """Packets and bytes (with overhead) that a pipe has sent."""
        if not 0 <= pipe < self._view.pipes:
            raise TableError(f"{self.name}: pipe {pipe} is out of range: 0 to {self._view.pipes - 1}")
        packets, size = self._pipes()[pipe, _SENT // 8 :].tolist()
        return packets, size

    def _pipes(self) -> NDArray[np.int64]:
        total = int(self._view.pipes)
        words = PipeView.SIZE // 8
        return self._words(np.int64, int(self._view.pipe_records), total * words).reshape(total, words)

    def __repr__(self) -> str:
        return f"<Scheduler {self.name}: {len(self)} packets in {self._view.busy} of {self._view.pipes} pipes>"


def _level(what: str, rates: Rates, shift: int) -> NDArray[np.int64]:
    """Five buckets: the whole, then each class."""
    words = []
    for rate in (rates.rate, *(rates.classes or (rates.rate,) * CLASSES)):
        scaled = scale(what, rate, rates.burst, shift)
        words += [scaled.capacity, scaled.capacity, scaled.rate, scaled.fill_ns, -(1 << 62)]
    return np.array(words, dtype=np.int64)


__all__ = ["CLASSES", "QUEUES", "Rates", "Scheduler", "SchedulerStats", "SchedulerView"]

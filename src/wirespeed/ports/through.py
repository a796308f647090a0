# mypy: allow-untyped-defs, allow-untyped-calls
"""Through: packets go in at one place of the graph and come out at another, later, in another order, or as others.

::

    shaper = ws.through(ws.Scheduler(...))
    graph.add(ws.port("tap:ws0") >> classify >> shaper)
    graph.add(shaper >> ws.port("tap:ws1"))

What is inside decides:

    =============  ===================================================================================
    Scheduler      pipe, class and queue are the flow mark: ``pipe << 4 | class << 2 | queue``
    Reorder        the sequence number is the flow mark
    Reassembly     fragments wait for each other
    Gro            segments of a stream become one packet
    Fragment(mtu)  packets too long for the MTU become fragments
    Segment()      super-packets become segments, as their header line says
    =============  ===================================================================================

The flow mark is ``pkt.with_meta().mark``; a packet without one has 0. What comes out waits in a ring of 1024 packets;
when it is full, nothing more is taken, and what is not taken is dropped and counted, as at every port. One worker does
both sides, and does not sleep while something is inside. A through port does not keep a graph running: what it still
holds at the end is freed.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from wirespeed.eal.clock import clock
from wirespeed.errors import PortError
from wirespeed.jit import View, cold, cycles, inline, kernel, le64, load64, multiply_high, signed64, store64
from wirespeed.jit.entry import enter4, entry
from wirespeed.mem.buffer import bytes_of_packet
from wirespeed.mem.descriptor import META, CellHeader, header_of
from wirespeed.mem.pool import Pool
from wirespeed.mem.pool_cache import Cache, release, release_one
from wirespeed.mem.region import Region
from wirespeed.ports.offloads import Offload
from wirespeed.ports.port import Port
from wirespeed.ports.queue import Queue, bytes_of, count_burst
from wirespeed.sync.ring import RingView, format_ring, free, sc_dequeue, sp_enqueue
from wirespeed.traffic import gro, reassembly, scheduler
from wirespeed.traffic.fragment import MOST_FRAGMENTS, fragment
from wirespeed.traffic.gro import Gro, GroView
from wirespeed.traffic.gso import MOST_SEGMENTS, segment
from wirespeed.traffic.reassembly import HELD, REFUSED, Reassembly, ReassemblyView
from wirespeed.traffic.reorder import EARLY, LATE, Reorder, ReorderView
from wirespeed.traffic.scheduler import Scheduler, SchedulerView

_RECORD = 128
_SCRATCH = 128
_RING = _SCRATCH + 8 * MOST_SEGMENTS
_ROOM = 1024  # packets that wait to be received
_LATE = 4 * reassembly.WAYS  # first fragments of what waited too long, at most, at once
_EVER = 1 << 62  # nanoseconds: every wait is over
_NS_PER_S = 1_000_000_000


class ThroughQueue(Queue):
    """A queue record with what the port's two sides share."""

    box = le64(64, "address of the box")
    kernel = le64(72, "of a function (queue, cache, vector, count), as entry() gave it")
    SIZE = _RECORD


class Box(View):
    """What is inside, the clock, and the ring that packets come out of."""

    inside = le64(0, "address of the object")
    mtu = le64(8)
    anchor_cycles = le64(16)
    anchor_ns = le64(24)
    whole = le64(32, "nanoseconds of a cycle")
    fraction = le64(40, "and 1 / 2^64 of them")
    held = le64(48, "address of the count of packets inside; 0: none stay there")
    SIZE = _SCRATCH

    def now(self) -> int:
        """The time in nanoseconds."""
        since = cycles() - self.anchor_cycles
        return self.anchor_ns + since * self.whole + multiply_high(since, self.fraction)


# The two sides ---------------------------------------------------------------------------------------------


@inline
def _mark(cells, desc):
    """The flow mark."""
    return CellHeader(header_of(cells, desc)).mark if desc & META != 0 else 0


@inline
def _put(box, count):
    """Let the ``count`` packets in the scratch vector come out next; there is room."""
    sp_enqueue(box.address + _RING, box.address + _SCRATCH, count)


@inline
def _come_out(queue, cache, vector, room):
    got = sc_dequeue(ThroughQueue(queue).box + _RING, vector, room)
    if got > 0:
        count_burst(Queue(queue), got, bytes_of(Cache(cache).cells, vector, got))
    return got


@inline
def _count_in(queue, packets, total):
    if packets > 0:
        count_burst(Queue(queue), packets, total)


@kernel
def receive_made(queue, cache, vector, room):
    """Packets that something was made into when it went in."""
    return _come_out(queue, cache, vector, room)


@kernel
def transmit_fragment(queue, cache, vector, count):
    """Cut what is longer than the MTU; what cannot be cut is dropped and counted as an error."""
    box, free_cells = Box(ThroughQueue(queue).box), Cache(cache)
    total, taken = 0, 0
    while taken < count and free(box.address + _RING) >= MOST_FRAGMENTS:
        desc = load64(vector + (taken << 3))
        total += bytes_of_packet(free_cells.cells, desc)
        made = fragment(free_cells, desc, box.mtu, cycles() & 0xFFFF_FFFF, box.address + _SCRATCH, MOST_FRAGMENTS)
        if made == 0:
            Queue(queue).errors += 1
            release_one(free_cells, desc)
        else:
            _put(box, made)
        taken += 1
    _count_in(queue, taken, total)
    return taken


@kernel
def transmit_segment(queue, cache, vector, count):
    """Cut super-packets; what is none passes, what cannot be cut is dropped and counted as an error."""
    box, free_cells = Box(ThroughQueue(queue).box), Cache(cache)
    total, taken = 0, 0
    while taken < count and free(box.address + _RING) >= MOST_SEGMENTS:
        desc = load64(vector + (taken << 3))
        total += bytes_of_packet(free_cells.cells, desc)
        made = 1
        if desc & META != 0 and CellHeader(header_of(free_cells.cells, desc)).gso_size != 0:
            made = segment(free_cells, desc, 0, box.address + _SCRATCH, MOST_SEGMENTS)
        else:
            store64(box.address + _SCRATCH, desc)
        if made == 0:
            Queue(queue).errors += 1
            release_one(free_cells, desc)
        else:
            _put(box, made)
        taken += 1
    _count_in(queue, taken, total)
    return taken


@kernel
def transmit_gro(queue, cache, vector, count):
    """Merge what follows each other."""
    box, free_cells = Box(ThroughQueue(queue).box), Cache(cache)
    table, now_ns = GroView(box.inside), box.now()
    total, taken = 0, 0
    while taken < count and free(box.address + _RING) >= 2:
        desc = load64(vector + (taken << 3))
        total += bytes_of_packet(free_cells.cells, desc)
        _put(box, gro.add(table, free_cells, desc, now_ns, box.address + _SCRATCH))
        taken += 1
    _count_in(queue, taken, total)
    return taken


@kernel
def receive_gro(queue, cache, vector, room):
    """What is merged, and what has waited long enough."""
    box = Box(ThroughQueue(queue).box)
    table = GroView(box.inside)
    if table.held > 0 and free(box.address + _RING) >= 64:
        _put(box, gro.flush(table, Cache(cache).cells, box.now(), box.address + _SCRATCH, 64))
    return _come_out(queue, cache, vector, room)


@kernel
def transmit_reassembly(queue, cache, vector, count):
    """Fragments wait; what is whole goes on."""
    box, free_cells = Box(ThroughQueue(queue).box), Cache(cache)
    table, now_ns = ReassemblyView(box.inside), box.now()
    total, taken = 0, 0
    while taken < count and free(box.address + _RING) >= 1:
        desc = load64(vector + (taken << 3))
        total += bytes_of_packet(free_cells.cells, desc)
        found = reassembly.add(table, free_cells, desc, now_ns)
        if found == REFUSED:
            Queue(queue).errors += 1
            release_one(free_cells, desc)
        elif found != HELD:
            store64(box.address + _SCRATCH, found)
            _put(box, 1)
        taken += 1
    _count_in(queue, taken, total)
    return taken


@kernel
def receive_reassembly(queue, cache, vector, room):
    """What is whole; and a look at some datagrams that may have waited too long."""
    box = Box(ThroughQueue(queue).box)
    table = ReassemblyView(box.inside)
    if table.waiting > 0 and free(box.address + _RING) >= _LATE:
        reassembly.expire(table, Cache(cache), box.now(), 4, box.address + _SCRATCH if table.gives_late != 0 else 0)
        _put(box, table.late)
    return _come_out(queue, cache, vector, room)


@kernel
def transmit_reorder(queue, cache, vector, count):
    """Into the window; too late a packet is dropped and counted as an error."""
    box, free_cells = Box(ThroughQueue(queue).box), Cache(cache)
    window, now_ns = ReorderView(box.inside), box.now()
    total, taken = 0, 0
    while taken < count:
        desc = load64(vector + (taken << 3))
        found = window.insert(_mark(free_cells.cells, desc), desc, now_ns)
        while found == EARLY:
            room = min(free(box.address + _RING), MOST_SEGMENTS)
            got = window.drain(box.address + _SCRATCH, room, now_ns)
            _put(box, got)
            if got == 0 and window.floor > 0:
                break  # the ring is full
            found = window.insert(_mark(free_cells.cells, desc), desc, now_ns)
        if found == EARLY:
            break
        total += bytes_of_packet(free_cells.cells, desc)
        if found == LATE:
            Queue(queue).errors += 1
            release_one(free_cells, desc)
        taken += 1
    _count_in(queue, taken, total)
    return taken


@kernel
def receive_reorder(queue, cache, vector, room):
    """The next ones in order."""
    box = Box(ThroughQueue(queue).box)
    space = min(free(box.address + _RING), MOST_SEGMENTS)
    _put(box, ReorderView(box.inside).drain(box.address + _SCRATCH, space, box.now()))
    return _come_out(queue, cache, vector, room)


@kernel
def transmit_scheduler(queue, cache, vector, count):
    """Into the queues; what finds its queue full, or has none, is dropped and counted as an error."""
    free_cells, inside = Cache(cache), SchedulerView(Box(ThroughQueue(queue).box).inside)
    total = 0
    for i in range(count):
        desc = load64(vector + (i << 3))
        total += bytes_of_packet(free_cells.cells, desc)
        mark = _mark(free_cells.cells, desc)
        if inside.enqueue(mark >> 4, (mark >> 2) & 3, mark & 3, desc) == 0:
            Queue(queue).errors += 1
            release_one(free_cells, desc)
    _count_in(queue, count, total)
    return count


@kernel
def receive_scheduler(queue, cache, vector, room):
    """What may go now."""
    box, cells = Box(ThroughQueue(queue).box), Cache(cache).cells
    inside = SchedulerView(box.inside)
    got = inside.dequeue(vector, room, box.now(), cells) if inside.held > 0 else 0
    if got > 0:
        count_burst(Queue(queue), got, bytes_of(cells, vector, got))
    return got


# For graphs -------------------------------------------------------------------------------------------------


@inline
def call(queue, cache, vector, count):
    """Whatever is inside: its code is a kernel of its own, so that a graph does not compile it once more."""
    return enter4(ThroughQueue(queue).kernel, queue, cache, vector, count)


@inline
def arm(queue, on):
    """Only the worker itself puts something in, so nobody has to wake it; but what is inside may be due any time."""
    return _stirs(Box(ThroughQueue(queue).box)) if on != 0 else 0


@cold
def _stirs(box):
    if box.held != 0 and load64(box.held) > 0:
        return 1
    return 1 if RingView(box.address + _RING).count > 0 else 0


# Freeing what is still inside -------------------------------------------------------------------------------


@kernel
def _empty(box_address, cache_address, which):
    """Free everything inside, through the scratch vector; what a control thread does once the workers are gone."""
    box, cache = Box(box_address), Cache(cache_address)
    vector = box.address + _SCRATCH
    got = sc_dequeue(box.address + _RING, vector, MOST_SEGMENTS)
    while got > 0:
        release(cache, vector, got)
        got = sc_dequeue(box.address + _RING, vector, MOST_SEGMENTS)
    while True:
        if which == 1:
            got = gro.flush(GroView(box.inside), cache.cells, _EVER, vector, MOST_SEGMENTS)
        elif which == 2:
            got = 0
            reassembly.expire(ReassemblyView(box.inside), cache, _EVER, 1 << 40, 0)
        elif which == 3:
            got = ReorderView(box.inside).drain(vector, MOST_SEGMENTS, _EVER)
        elif which == 4:
            got = scheduler.empty(SchedulerView(box.inside), vector, MOST_SEGMENTS)
        else:
            got = 0
        if got == 0:
            break
        release(cache, vector, got)


# Control ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fragment:
    """Cut packets whose IP packet is longer than ``mtu`` bytes (:mod:`wirespeed.traffic.fragment`)."""

    mtu: int


@dataclass(frozen=True)
class Segment:
    """Cut super-packets as their header line says (:mod:`wirespeed.traffic.gso`)."""


Inside = Scheduler | Reorder | Reassembly | Gro | Fragment | Segment

_KINDS: dict[type, tuple[Callable[..., Any], Callable[..., Any], int]] = {
    Fragment: (receive_made, transmit_fragment, 0),
    Segment: (receive_made, transmit_segment, 0),
    Gro: (receive_gro, transmit_gro, 1),
    Reassembly: (receive_reassembly, transmit_reassembly, 2),
    Reorder: (receive_reorder, transmit_reorder, 3),
    Scheduler: (receive_scheduler, transmit_scheduler, 4),
}


_HELD: dict[type, int] = {
    Gro: GroView.held.offset,
    Reassembly: ReassemblyView.waiting.offset,
    Reorder: ReorderView.held.offset,
    Scheduler: SchedulerView.held.offset,
}
"""Where each counts what is inside."""


class Through(Port):
    """A port into something and out of it again. Made by :func:`through`."""

    offloads = Offload.HANDED_ON
    rx_queues = tx_queues = 1
    passive = True
    receive = transmit = staticmethod(call)
    arm = staticmethod(arm)

    asks = Offload.HANDED_ON  # it may have made super-packets

    def __init__(self, inside: Inside) -> None:
        kind = type(inside)
        if kind not in _KINDS:
            known = ", ".join(each.__name__ for each in _KINDS)
            raise PortError(f"packets cannot go through {inside!r}: give one of {known}")
        if not getattr(inside, "writable", True):
            owner = getattr(inside, "owner", 0)
            raise PortError(f"packets cannot go through {inside!r}: it belongs to process {owner}; make one here")
        if isinstance(inside, Fragment) and not 28 <= inside.mtu <= 65535:
            raise PortError(f"an MTU of {inside.mtu} is not possible: use 28 to 65535")
        super().__init__(f"through:{getattr(inside, 'name', kind.__name__.lower())}", None)
        self.inside = inside
        self._receive, self._transmit, self._which = _KINDS[kind]

    def open(self, pool: Pool, rx_queues: int, tx_queues: int) -> None:
        inside, measured = self.inside, clock()
        if not isinstance(inside, Fragment | Segment) and len(inside):
            raise PortError(f"port {self.spec!r}: {inside!r} holds packets of somebody else: make another")
        self._pool = pool
        records = _RECORD * (rx_queues + tx_queues)
        self._memory = Region(records + _RING + RingView.bytes_needed(_ROOM), "wirespeed-through", huge=False)
        at = self._memory.address
        self._box = box = Box(at + records)
        self.rx = [at + i * _RECORD for i in range(rx_queues)]
        self.tx = [at + (rx_queues + i) * _RECORD for i in range(tx_queues)]
        for address in (*self.rx, *self.tx):
            ThroughQueue(address).box = box.address
            ThroughQueue(address).kernel = entry(self._receive if address in self.rx else self._transmit, 4)
        box.inside = getattr(inside, "address", 0)
        box.mtu = inside.mtu if isinstance(inside, Fragment) else 0
        box.anchor_cycles, box.anchor_ns = measured.anchor_cycles, measured.anchor_ns
        whole, rest = divmod(_NS_PER_S, measured.hz)
        box.whole, box.fraction = whole, signed64((rest << 64) // measured.hz)
        counted = _HELD.get(type(inside))
        box.held = box.inside + counted if counted is not None else 0
        format_ring(box.address + _RING, _ROOM)
        self._never = os.eventfd(0, os.EFD_CLOEXEC)
        self._free()  # compiled now, not when the graph ends

    def descriptors(self, queue: int) -> list[int]:
        """One that is never readable: a worker may sleep while nothing is inside (:func:`arm`)."""
        return [self._never]

    def _free(self) -> None:
        _empty(self._box.address, self._pool.cache(self._pool.workers), self._which)

    def close(self) -> None:
        """Free what is still inside."""
        self._free()
        os.close(self._never)
        self._memory.close()


def through(inside: Inside) -> Through:
    """A port whose packets go through ``inside`` and come out again; see :mod:`wirespeed.ports.through`.

    Raises:
        PortError: packets cannot go through that.
    """
    return Through(inside)

"""Packets that change workers: spreading flows, nodes that choose their worker, and sending by another's port.

Every pair (channel, worker) has one ring: many producers, that worker the only consumer. Channels are the
graph's sources that spread (packets on their way in, by flow), then its nodes that choose (:attr:`wirespeed.node`'s
``worker``), in the order packets pass them, and then its sinks (packets for the worker that owns the port). Nothing is
lost between workers: a worker takes a burst only while every ring has room for what it might put there (:func:`room`),
so a slow worker holds back the input instead.

A worker's record::

    0     workers, how to spread, ring table, owners, wake-ups
    64    one scratch vector of MAX_BURST descriptors for every worker
"""

from wirespeed.graph.layout import Worker
from wirespeed.jit import View, cold, fence, fill, inline, le64, load64, load_relaxed, store64
from wirespeed.jit.libc import write
from wirespeed.mem.descriptor import META, CellHeader, header_of
from wirespeed.mem.pool import MAX_BURST, Cache
from wirespeed.ports.spread import NOT_AT_ALL, SpreadView, target_of
from wirespeed.sync.ring import RingView, mp_enqueue, sc_dequeue
from wirespeed.wire.packet import Packet
from wirespeed.wire.parse import parse_transport

_RING_SIZE = 4096  # descriptors a ring between workers holds at the least


def ring_size(workers: int, burst: int) -> int:
    """Descriptors a ring between workers holds: several bursts from each, see :func:`room`."""
    return max(_RING_SIZE, 1 << (4 * workers * burst - 1).bit_length())


_SCRATCH = 64
_FILLED = (MAX_BURST - 1) * 8  # in a line of the scratch: how many descriptors are in it
_POSITIVE = (1 << 63) - 1
_ASLEEP: int = Worker.asleep.offset


class Handoff(View):
    """What one worker knows of the others."""

    workers = le64(0)
    rings = le64(16, "ring addresses: channel * workers + worker")
    channels = le64(24)
    owners = le64(32, "for each channel, the worker that owns the port, where it is a sink")
    wakeups = le64(40, "for each worker: its record, its eventfd, a word of 1")
    spreads = le64(48, "for each source that spreads, the address of its SpreadView")
    keep_port = le64(56, "1 if nodes ask for pkt.port: it then travels in the header line")
    SIZE = 64


def handoff_bytes(workers: int) -> int:
    """Bytes of one worker's record."""
    return _SCRATCH + workers * MAX_BURST * 8


@inline
def _ring(record, channel, worker):  # type: ignore[no-untyped-def]
    return load64(record.rings + ((channel * record.workers + worker) << 3))


@inline
def _wake(record, worker):  # type: ignore[no-untyped-def]
    """Rouse a worker that blocks. The fence pairs with the one before it blocks."""
    fence()
    at = record.wakeups + worker * 24
    if load_relaxed(load64(at) + _ASLEEP) != 0:
        write(load64(at + 8), at + 16, 8)


@cold
def room(work, first, burst):  # type: ignore[no-untyped-def]
    """Whether this worker may process a burst: each ring of the channels from ``first`` on takes one of every worker.

    Asked before each burst: with ``first`` 0 before one is received, which may be spread; with the channel behind its
    own before one comes from another worker. A packet only ever goes to a later channel, and rings of sinks wait for
    nobody, so nobody waits in a circle.
    """
    record = Handoff(Worker(work).handoff)
    least = burst * record.workers
    enough = True
    for index in range(first * record.workers, record.channels * record.workers):
        if RingView(load64(record.rings + (index << 3))).free < least:
            enough = False
    return enough


@cold
def spread(work, source, vector, count, port):  # type: ignore[no-untyped-def]
    """Give each flow to its worker; returns how many packets stay, now at the front of ``vector``."""
    worker = Worker(work)
    record = Handoff(worker.handoff)
    how = SpreadView(load64(record.spreads + (source << 3)))
    if how.how == NOT_AT_ALL:
        return count
    workers = record.workers
    pkt = Packet()
    pkt.cells = Cache(worker.cache).cells
    pkt.port = port
    kept = 0
    begin_lines(work)
    for i in range(count):
        pkt.desc = load64(vector + (i << 3))
        parse_transport(pkt)
        target = target_of(how, pkt, i, worker.index)
        if target == worker.index or target >= workers:
            store64(vector + (kept << 3), pkt.desc)
            kept += 1
        else:
            set_aside(work, target, pkt.desc, port)
    send_lines(work, source)
    return kept


@inline
def choose(work, number):  # type: ignore[no-untyped-def]
    """The worker of this number, whatever its sign: packets of one number meet."""
    return (number & _POSITIVE) % Handoff(Worker(work).handoff).workers


@inline
def begin_lines(work):  # type: ignore[no-untyped-def]
    """Nothing is set aside yet."""
    worker = Worker(work)
    for target in range(Handoff(worker.handoff).workers):
        store64(worker.handoff + _SCRATCH + target * MAX_BURST * 8 + _FILLED, 0)


@cold
def set_aside(work, target, desc, port):  # type: ignore[no-untyped-def]
    """Keep a packet for another worker until the burst is through; a negative port says that the header line has it."""
    worker = Worker(work)
    line = worker.handoff + _SCRATCH + target * MAX_BURST * 8
    filled = load64(line + _FILLED)
    if Handoff(worker.handoff).keep_port and port >= 0:
        desc = _with_port(Cache(worker.cache).cells, desc, port)
    store64(line + (filled << 3), desc)
    store64(line + _FILLED, filled + 1)


@cold
def send_lines(work, channel):  # type: ignore[no-untyped-def]
    """Give what was set aside to whom it is for."""
    worker = Worker(work)
    record = Handoff(worker.handoff)
    for target in range(record.workers):
        line = worker.handoff + _SCRATCH + target * MAX_BURST * 8
        filled = load64(line + _FILLED)
        if filled > 0:
            mp_enqueue(_ring(record, channel, target), line, filled)
            _wake(record, target)


@inline
def _with_port(cells, desc, port):  # type: ignore[no-untyped-def]
    """Write the ingress port in the header line, which is cleared first if it said nothing."""
    header = CellHeader(header_of(cells, desc))
    if desc & META == 0:
        following = header.next
        length = header.length
        references = header.references
        fill(header.address, 0, 64)
        header.next = following
        header.length = length
        header.references = references
    header.port = port
    return desc | META


@cold
def hand_over(work, channel, vector, count):  # type: ignore[no-untyped-def]
    """Give packets to the worker that owns the port of this channel."""
    record = Handoff(Worker(work).handoff)
    owner = load64(record.owners + (channel << 3))
    mp_enqueue(_ring(record, channel, owner), vector, count)
    _wake(record, owner)


@cold
def gather(work, channel, vector, burst):  # type: ignore[no-untyped-def]
    """Up to ``burst`` packets that others have for this worker on ``channel``.

    A worker that takes some has not ended, and says so before the ring looks empty.
    """
    worker = Worker(work)
    ring = _ring(Handoff(worker.handoff), channel, worker.index)
    if RingView(ring).count == 0:
        return 0
    worker.ended = 0
    return sc_dequeue(ring, vector, burst)


@cold
def pending(work):  # type: ignore[no-untyped-def]
    """Packets that others have for this worker; asked once more between saying that it sleeps and sleeping."""
    worker = Worker(work)
    count = 0
    if worker.handoff != 0:
        record = Handoff(worker.handoff)
        for channel in range(record.channels):
            count += RingView(_ring(record, channel, worker.index)).count
    return count

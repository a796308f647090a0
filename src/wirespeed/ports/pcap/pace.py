"""Replaying a capture: packets are held back until they are due.

``speed=1`` keeps the capture's own times (2 is twice as fast), ``rate=1M`` so many packets a second, ``bits=10G`` so
many bits a second on the wire, with preamble, frame check and gap. Due times are time-stamp cycles: the first packet
is due at once, and by the capture's times each further one is due where it stood after the first, however late those
before it were; with a rate, a worker that was held up makes up for a hundredth of a second at the most.

The reader fills a burst into the record; from there packets leave as they become due::

    0     counters, the reader's record, the pacer
    256   descriptors, BURST of 8 bytes: those from `next` on wait

Whatever reads (a file, a stream, a table in memory) is called by its record.
"""
# mypy: allow-untyped-calls, no-warn-return-any

from wirespeed.eal.clock import tsc_hz
from wirespeed.jit import cold, cycles, inline, kernel, le64, load64, multiply_high, signed64, store64
from wirespeed.mem.descriptor import META, CellHeader, header_of
from wirespeed.mem.pool import Cache
from wirespeed.ports.pcap.called import CalledQueue, call
from wirespeed.ports.pcap.loop import LoopQueue, stamp_times
from wirespeed.ports.queue import ENDED, Queue, bytes_of, count_burst

BURST: int = 64
"""Packets that are read at once."""

FRACTION: int = 16
"""Bits after the point of what a packet costs."""

_ON_THE_WIRE = 24  # bytes: preamble 8, frame check 4, gap 12
_CATCH_UP_S = 0.01
_STASH = 256


class PacedQueue(CalledQueue):
    """A queue record that holds packets of another one back."""

    reader = le64(64, "address of the record that is read from")
    next = le64(72, "the first descriptor that waits")
    waiting = le64(80, "descriptors that were filled in")
    begun = le64(88, "cycle counter when the first packet was due; 0: not yet")
    due = le64(96, "cycle counter when the next one is")
    rest = le64(104, "of `due`, FRACTION bits after the point")
    per_packet = le64(112, "cycles from one packet to the next, FRACTION bits after the point")
    per_byte = le64(120, "and for each byte of a packet")
    by_time = le64(128, "1: packets have times")
    first_ns = le64(136, "the first packet's time")
    whole = le64(144, "cycles of a nanosecond of the capture")
    fraction = le64(152, "and 1 / 2^64 of them")
    bare = le64(160, "1: take the metadata off, which was only for this")
    late = le64(168, "cycles that may be made up for")
    looped = le64(176, "1: the reader's is a table, whose packets have times only here")
    SIZE = 256


RECORD_BYTES: int = _STASH + 8 * BURST


def set_rate(record: PacedQueue, packets: float, bits: float) -> None:
    """So many packets, or bits, a second."""
    hz = tsc_hz()
    if packets:
        record.per_packet = max(1, int((hz << FRACTION) / packets))
    else:
        record.per_byte = max(1, int((hz << FRACTION) * 8 / bits))
        record.per_packet = record.per_byte * _ON_THE_WIRE
    record.late = int(hz * _CATCH_UP_S)


def set_speed(record: PacedQueue, speed: float, bare: bool) -> None:
    """So many times as fast as the capture."""
    cycles_2_64 = int((tsc_hz() << 64) / (1_000_000_000 * speed))
    record.by_time, record.bare = 1, int(bare)
    record.whole, record.fraction = cycles_2_64 >> 64, signed64(cycles_2_64 & ((1 << 64) - 1))


@inline
def _stash(queue: int) -> int:
    return queue + _STASH


@inline
def _filled(record: PacedQueue, got: int) -> None:
    """``got`` packets have come from the reader, whose counters of what did not come are ours."""
    record.next = 0
    record.waiting = max(got, 0)
    reader = Queue(record.reader)
    record.errors = reader.errors
    record.no_buffer = reader.no_buffer


@cold
def _due(record: PacedQueue, cache: int, vector: int, room: int) -> int:
    """Let go of what is due, up to ``room`` packets."""
    now = cycles()
    cells = Cache(cache).cells
    if record.begun == 0:
        record.begun = now
        record.due = now
        record.first_ns = -1
    if record.by_time == 0:
        record.due = max(record.due, now - record.late)
    source = _stash(record.address)
    done = 0
    while done < room and record.next < record.waiting:
        desc = load64(source + (record.next << 3))
        if record.by_time != 0 and desc & META != 0:
            own = CellHeader(header_of(cells, desc)).timestamp
            if record.first_ns < 0:
                record.first_ns = own
            since = max(own - record.first_ns, 0)
            record.due = record.begun + since * record.whole + multiply_high(since, record.fraction)
            if record.bare != 0:
                desc &= ~META
        if record.due > now:
            break
        store64(vector + (done << 3), desc)
        if record.by_time == 0:
            cost = record.per_packet + record.rest
            if record.per_byte != 0:
                cost += record.per_byte * bytes_of(cells, vector + (done << 3), 1)
            record.due += cost >> FRACTION
            record.rest = cost & ((1 << FRACTION) - 1)
        record.next += 1
        done += 1
    if done > 0:
        count_burst(record, done, bytes_of(cells, vector, done))
    return done


@kernel
def read_paced(queue: int, cache: int, vector: int, room: int) -> int:
    """Packets that are due."""
    record = PacedQueue(queue)
    if record.next == record.waiting:
        timed = record.looped != 0 and record.by_time != 0
        index = LoopQueue(record.reader).index if timed else 0
        got = call(record.reader, cache, _stash(queue), BURST)
        _filled(record, got)
        if got == ENDED:
            return ENDED
        if timed:
            stamp_times(record.reader, Cache(cache).cells, _stash(queue), got, index)
    return _due(record, cache, vector, room)


__all__ = [
    "BURST",
    "RECORD_BYTES",
    "PacedQueue",
    "read_paced",
    "set_rate",
    "set_speed",
]

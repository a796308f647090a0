# mypy: allow-untyped-defs, allow-untyped-calls
"""The meter's packet path: what the stamps of packets say, counted for each stream.

A meter is one record, then for each stream a block of its own, so that what one stream does costs no other::

    meter | stream 0: counters 256 | window | histogram of latencies | stream 1: ...

The window remembers which of the last so many sequence numbers arrived, a bit each, in words of 32 that are used in
turn. The word of the highest number is always there; a word is emptied when it becomes that. So a packet that comes
late is told from one that comes twice as long as it is not later than the window is long.

- **lost**: numbers between the first and the highest that did not come (RFC 7680). Not counted here: it is the
  difference of two counters, and a packet that comes late takes its loss back.
- **reordered**: a packet whose number is smaller than the highest before it (RFC 4737 section 3.3); ``farthest`` is
  the largest such difference.
- **duplicates**: a number that had come already (RFC 5560 section 3).
- **jitter**: RFC 3550 section 6.4.1, in nanoseconds, four bits after the point.

References: also RFC 1982 for sequence numbers that wrap.
"""

from wirespeed.jit import View, cold, cycles, inline, le64, load32, load64, store32
from wirespeed.mem.buffer import bytes_of_packet
from wirespeed.mem.descriptor import address_of, length_of
from wirespeed.mem.pool import Cache, release
from wirespeed.ports.queue import Queue, count_burst
from wirespeed.ports.stamp import TIME, Stamp, stamp_offset
from wirespeed.tables.hdr import HdrView

COUNTERS: int = 256
"""Bytes of a stream's counters; its window follows."""

SCALE: int = 20
"""Bits after the point in nanoseconds a cycle."""

RESTARTED: int = 64
"""So many packets in a row that are too late to tell: the sender has begun anew."""

_LONGEST = 1 << 43  # cycles, an hour or less: more cannot be told from a wrong time
_HALF = 1 << 31
_WORD = 32
_HEAD = 128


class StreamView(View):
    """One stream's counters."""

    received = le64(0, "packets")
    bytes = le64(8, "theirs")
    expected = le64(16, "one more than the highest sequence number, without the wrap")
    first = le64(24, "the smallest")
    spans = le64(32, "numbers between first and highest before the sender began anew")
    duplicates = le64(40)
    reordered = le64(48)
    late = le64(56, "of these, so late that they may be duplicates")
    gaps = le64(64, "times that numbers were jumped over")
    farthest = le64(72, "the most that one came late by, in numbers")
    early = le64(80, "stamped after they arrived: clocks that disagree")
    jitter = le64(88, "nanoseconds, four bits after the point")
    transit = le64(96, "nanoseconds that the last packet took")
    began = le64(104, "when the first packet arrived, in cycles")
    last = le64(112, "when the last one did")
    strays = le64(120, "packets in a row that were too late to tell")
    restarts = le64(128, "times that the sender began anew")
    SIZE = COUNTERS


class MeterView(View):
    """The meter: how its streams are laid out, and what was none of them."""

    streams = le64(0, "how many")
    stride = le64(8, "bytes from one to the next")
    words = le64(16, "words of a window, a power of two")
    scale = le64(24, "nanoseconds a cycle, SCALE bits after the point")
    histogram = le64(32, "offset of a stream's histogram")
    at = le64(64, "where the last stamp was")
    plain = le64(72, "packets without a stamp")
    strangers = le64(80, "packets with the stamp of a stream beyond the last")
    SIZE = _HEAD

    def see(self, address: int, length: int, now: int) -> int:
        """Count the packet whose first ``length`` bytes are at an address and which arrived at cycle ``now``.

        Returns its stream, or -1 if it has no stamp or that of a stream beyond the last.
        """
        return _see(self, address, length, length, now)


@inline
def _see(meter, address, length, whole, now):
    at = stamp_offset(address, length, meter.at)
    if at < 0:
        meter.plain += 1
        return -1
    meter.at = at
    stamp = Stamp(address + at)
    number = stamp.stream
    if number >= meter.streams:
        meter.strangers += 1
        return -1
    block = meter.address + _HEAD + number * meter.stride
    stream = StreamView(block)
    _order(meter, stream, stamp.sequence, now)
    stream.received += 1
    stream.bytes += whole
    stream.last = now
    _time(meter, stream, (now - ((stamp.time_high << 32) | stamp.time_low)) & (TIME - 1))
    return number


@inline
def _order(meter, stream, sequence, now):
    """Note a sequence number: as the next one, which costs a bit, or as anything else."""
    if stream.received == 0:
        _first(stream, sequence, now)
    expected = stream.expected
    if ((sequence - expected) & 0xFFFF_FFFF) == 0:
        word = stream.address + COUNTERS + (((expected >> 5) & (meter.words - 1)) << 2)
        bit = expected & (_WORD - 1)
        seen = 0
        if bit:
            seen = load32(word)
        store32(word, seen | (1 << bit))
        stream.expected = expected + 1
        stream.strays = 0
    else:
        _disorder(meter, stream, ((sequence - expected + _HALF) & 0xFFFF_FFFF) - _HALF)


@cold
def _first(stream, sequence, now):
    stream.expected = stream.first = sequence
    stream.began = now


@cold
def _disorder(meter, stream, distance):
    """A number that is ``distance`` from the one expected."""
    words = meter.words
    window = stream.address + COUNTERS
    number = stream.expected + distance
    highest = (stream.expected - 1) >> 5
    word = window + (((number >> 5) & (words - 1)) << 2)
    bit = 1 << (number & (_WORD - 1))
    if distance > 0:
        stream.gaps += 1
        stream.strays = 0
        for passed in range(1, min((number >> 5) - highest, words) + 1):
            store32(window + (((highest + passed) & (words - 1)) << 2), 0)
        store32(word, load32(word) | bit)
        stream.expected = number + 1
        return
    if highest - (number >> 5) >= words:
        _too_late(meter, stream, number)
        return
    stream.strays = 0
    if load32(word) & bit:
        stream.duplicates += 1
        return
    store32(word, load32(word) | bit)
    stream.reordered += 1
    stream.farthest = max(stream.farthest, -distance)
    stream.first = min(stream.first, number)


@cold
def _too_late(meter, stream, number):
    """Beyond the window: late or a duplicate, nobody knows; but many in a row are another beginning."""
    stream.strays += 1
    stream.reordered += 1
    stream.late += 1
    if stream.strays < RESTARTED:
        stream.farthest = max(stream.farthest, stream.expected - number)
        return
    stream.spans += stream.expected - stream.first
    stream.reordered -= RESTARTED
    stream.late -= RESTARTED
    stream.first = number - (RESTARTED - 1)
    stream.expected = number + 1
    _begin_anew(stream.address + COUNTERS, meter.words, stream.first, number)
    stream.strays = 0
    stream.restarts += 1


@cold
def _begin_anew(window, words, first, last):
    """Forget all that was seen but these, as far as the window goes back."""
    for index in range(words):
        store32(window + (index << 2), 0)
    for number in range(max(first, ((last >> 5) - words + 1) << 5), last + 1):
        word = window + (((number >> 5) & (words - 1)) << 2)
        store32(word, load32(word) | (1 << (number & (_WORD - 1))))


@inline
def _time(meter, stream, elapsed):
    """Note how long a packet took, in cycles modulo TIME."""
    if elapsed >= TIME >> 1:
        stream.early += 1
        elapsed = 0
    ns = (min(elapsed, _LONGEST) * meter.scale) >> SCALE
    HdrView(stream.address + meter.histogram).record(ns)
    jitter = stream.jitter
    if stream.received > 1:
        stream.jitter = jitter + abs(ns - stream.transit) - ((jitter + 8) >> 4)
    stream.transit = ns


class MeterQueue(Queue):
    """A queue record with its meter."""

    meter = le64(64, "address of the meter")
    SIZE = 128


@inline
def transmit(queue, cache, vector, count):
    """Read each packet's stamp, and free it. All of a burst arrive at the time of the call."""
    record = MeterQueue(queue)
    meter = MeterView(record.meter)
    now = cycles()
    stack = Cache(cache)
    cells = stack.cells
    total = 0
    for i in range(count):
        desc = load64(vector + (i << 3))
        whole = bytes_of_packet(cells, desc)
        total += whole
        _see(meter, address_of(cells, desc), length_of(desc), whole, now)
    release(stack, vector, count)
    count_burst(record, count, total)
    return count


__all__ = ["COUNTERS", "SCALE", "MeterQueue", "MeterView", "StreamView", "transmit"]

# mypy: allow-untyped-defs, allow-untyped-calls
"""The generator's packet path: from a table of finished headers to fresh cells.

Everything a packet says is written before the first one leaves (:mod:`wirespeed.ports.generator_frames`).
A queue walks its own part of that table, round and round::

    first                                 next                        end
    | template | template | template |    | template | ...            |     64 bytes each (128 if the
    +----------+----------+----------+----+----------+----------------+     headers alone are longer)

Three functions, of which a port takes the one its options call for:

- :func:`receive_short`: frames that fit a template. Two vector loads and stores and one descriptor each.
- :func:`receive_long`: frames of any length: the rest comes from one body that all share, over a chain of
  cells where one is not enough.
- :func:`receive_random`: like either, then draws addresses or ports anew for every packet and mends the
  checksums (RFC 1624 eqn. 3).

A generator that has a rate asks :func:`allowance` first and is never ahead of it.
"""

from wirespeed.jit import (
    bswap16,
    bswap32,
    cold,
    copy,
    copy64,
    cycles,
    inline,
    le64,
    load16,
    load32,
    load64,
    multiply,
    shift_right,
    store16,
    store32,
    store64,
)
from wirespeed.mem.descriptor import CHAINED, ROOM, CellHeader, address_of, header_of
from wirespeed.mem.pool import MAX_BURST, Cache, take, taken, untake
from wirespeed.ports.queue import ENDED, Queue

TEMPLATE: int = 64
"""Bytes of a template: a cache line, which is what :func:`receive_short` copies."""

FRACTION: int = 16
"""Bits after the point in the pacer's cycles."""

_LONGEST_PAUSE = 1 << 40  # cycles, some minutes: more cannot be told from a pause of this length


class GeneratorQueue(Queue):
    """A queue record: where its templates are, what is left to do, how fast, what is drawn anew."""

    first = le64(64, "address of the first template")
    end = le64(72, "address after the last")
    next = le64(80, "address of the one to send next")
    left = le64(88, "packets still to come; negative: no end")
    frame = le64(96, "bytes of each frame; the longest where lengths differ")
    template = le64(104, "bytes from one template to the next")
    lengths = le64(112, "address of one word a template: bytes of its frame")
    body = le64(120, "address of what follows the template in a longer frame")
    cells = le64(128, "cells a frame takes")
    cost = le64(136, "cycles between two packets, FRACTION bits after the point; 0: no rate")
    credit = le64(144, "cycles saved up, FRACTION bits after the point")
    depth = le64(152, "the most that may be saved up, FRACTION bits after the point")
    last = le64(160, "when allowance was asked last, 0: never")
    state = le64(168, "the random generator's, never 0")
    ip_sum = le64(192, "offset of the IPv4 header checksum, 0: none")
    sum = le64(200, "offset of the transport checksum")
    covers = le64(208, "1: the transport checksum covers the addresses too")
    udp = le64(216, "1: a checksum of 0 is sent as 0xFFFF (RFC 768)")
    src_at = le64(224, "offset of the last four bytes of the source address")
    src_low = le64(232, "smallest value drawn")
    src_span = le64(240, "how many values there are; 0: keep the template's")
    dst_at = le64(248)
    dst_low = le64(256)
    dst_span = le64(264)
    sport_at = le64(272, "offset of the source port")
    sport_low = le64(280)
    sport_span = le64(288)
    dport_at = le64(296)
    dport_low = le64(304)
    dport_span = le64(312)
    SIZE = 320


@inline
def allowance(record, now, room):
    """How many of ``room`` packets may leave at cycle ``now``.

    A token bucket whose tokens are cycles. The first call starts the clock and allows one packet. Nothing is
    spent here: see :func:`spend`.
    """
    elapsed = now - record.last
    if record.last == 0:
        record.credit = record.cost
        elapsed = 0
    record.last = now
    elapsed = min(max(elapsed, 0), _LONGEST_PAUSE)
    record.credit = min(record.credit + (elapsed << FRACTION), record.depth)
    if record.credit < record.cost:
        return 0
    return min(room, record.credit // record.cost)


@inline
def spend(record, packets):
    """Pay for the packets that left."""
    record.credit -= packets * record.cost


@inline
def _wanted(record, room):
    """How many packets are to leave now."""
    wanted = room
    if record.left > 0:
        wanted = min(room, record.left)
    if record.cost:
        wanted = allowance(record, cycles(), wanted)
    return wanted


@inline
def _count(record, packets, total):
    record.left -= packets
    record.packets += packets
    record.bytes += total
    if packets:
        record.calls += 1
    if record.cost:
        spend(record, packets)


@cold
def _ended(record):
    record.ended = 1
    return ENDED


@inline
def receive_short(queue, cache, vector, room):
    """Frames of one length that fit a template."""
    record = GeneratorQueue(queue)
    if record.left == 0:
        return _ended(record)
    stack = Cache(cache)
    got = take(stack, _wanted(record, room))
    source = taken(stack, got)
    cells = stack.cells
    length = record.frame << 48
    template = record.next
    done = 0
    while done < got:  # once, or twice where the table starts again
        run = min(got - done, (record.end - template) // TEMPLATE)
        for i in range(done, done + run):
            desc = load64(source - (i << 3))
            copy64(address_of(cells, desc), template)
            store64(vector + (i << 3), desc | length)
            template += TEMPLATE
        done += run
        if template == record.end:
            template = record.first
    record.next = template
    _count(record, got, got * record.frame)
    return got


@inline
def receive_long(queue, cache, vector, room):
    """Frames of any length, each of its own."""
    return _receive_any(queue, cache, vector, room, False)


@inline
def receive_random(queue, cache, vector, room):
    """Frames of any length; what is random is drawn anew for each."""
    return _receive_any(queue, cache, vector, room, True)


@inline
def _receive_any(queue, cache, vector, room, random):
    record = GeneratorQueue(queue)
    if record.left == 0:
        return _ended(record)
    stack = Cache(cache)
    each = record.cells
    wanted = _wanted(record, min(room, MAX_BURST // each))
    got = take(stack, wanted * each)
    source = taken(stack, got)
    packets = got // each
    untake(stack, got - packets * each)
    template, step, end = record.next, record.template, record.end
    lengths = record.lengths + (template - record.first) // step * 8
    body = record.body - step
    cells = stack.cells
    total = 0
    for i in range(packets):
        length = load64(lengths)
        desc = load64(source)
        to = address_of(cells, desc)
        copy64(to, template)
        if step > TEMPLATE:
            copy64(to + TEMPLATE, template + TEMPLATE)
        if random:
            _redraw(record, template, to)
        here = min(length, ROOM)
        for at in range(step, here, 64):  # the last of these may go beyond the frame: there is room
            copy64(to + at, body + at)
        if each > 1:
            desc = _chain(record, cells, source, desc, length)
        store64(vector + (i << 3), desc | (here << 48))
        source -= each << 3
        total += length
        template += step
        lengths += 8
        if template == end:
            template = record.first
            lengths = record.lengths
    record.next = template
    _count(record, packets, total)
    return packets


@cold
def _chain(record, cells, source, desc, length):
    """Put what does not fit the first cell in the following ones; returns the first's descriptor."""
    header = header_of(cells, desc)
    CellHeader(header).length = length
    done = ROOM
    for j in range(1, record.cells):
        here = min(length - done, ROOM)
        following = load64(source - (j << 3)) | (here << 48)
        if done + here < length:
            following |= CHAINED
        copy(address_of(cells, following), record.body + done - record.template, here)
        CellHeader(header).next = following
        header = header_of(cells, following)
        done += here
    return desc | CHAINED


# What is drawn for each packet -----------------------------------------------------------------------------


@inline
def _draw(record):
    """The next 32 random bits: xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift
    generators, scrambled", 2016)."""
    x = record.state
    x ^= shift_right(x, 12)
    x ^= multiply(x, 1 << 25)
    x ^= shift_right(x, 27)
    record.state = x
    return shift_right(multiply(x, 0x2545F4914F6CDD1D), 32)


@inline
def _within(bits, span):
    """32 random bits as a number below ``span`` (at most 2**32), without a division (Lemire 2019)."""
    return shift_right(multiply(bits, span), 32)


# Old values are read from the template, not from the copy: a load would wait for the vector store before it.


@inline
def _redraw32(record, template, to, at, low, span):
    """A new last word of an address; returns ~m + m' of RFC 1624, unfolded."""
    old = load32(template + at)
    new = bswap32(low + _within(_draw(record), span))
    store32(to + at, new)
    return (0xFFFF - (old & 0xFFFF)) + (0xFFFF - (old >> 16)) + (new & 0xFFFF) + (new >> 16)


@inline
def _redraw16(record, template, to, at, low, span):
    """The same for a port."""
    old = load16(template + at)
    new = bswap16(low + _within(_draw(record), span))
    store16(to + at, new)
    return (0xFFFF - old) + new


@inline
def _mend(template, to, at, change, udp):
    """RFC 1624 eqn. 3, HC' = ~(~HC + ~m + m'). The byte order does not matter (RFC 1071 section 2B)."""
    total = (0xFFFF - load16(template + at)) + change
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    checksum = 0xFFFF - total
    if udp and checksum == 0:
        checksum = 0xFFFF
    store16(to + at, checksum)


@inline
def _redraw(record, template, to):
    addresses = 0
    if record.src_span:
        addresses += _redraw32(record, template, to, record.src_at, record.src_low, record.src_span)
    if record.dst_span:
        addresses += _redraw32(record, template, to, record.dst_at, record.dst_low, record.dst_span)
    ports = 0
    if record.sport_span:
        ports += _redraw16(record, template, to, record.sport_at, record.sport_low, record.sport_span)
    if record.dport_span:
        ports += _redraw16(record, template, to, record.dport_at, record.dport_low, record.dport_span)
    if record.ip_sum:
        _mend(template, to, record.ip_sum, addresses, 0)
    _mend(template, to, record.sum, ports + addresses * record.covers, record.udp)

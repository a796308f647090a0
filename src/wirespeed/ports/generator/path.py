# mypy: allow-untyped-defs, allow-untyped-calls
"""The generator's packet path: from a table of finished headers to fresh cells.

Everything a packet says is written before the first one leaves (:mod:`wirespeed.ports.generator.frames`).
A queue walks its own part of that table, round and round::

    first                                 next                        end
    | template | template | template |    | template | ...            |     64 bytes each (more if the
    +----------+----------+----------+----+----------+----------------+     headers alone are longer)

and beside it a word for each template::

     63       32 31        16 15       0
    +-----------+------------+----------+    stream: offset of its record; stamp: offset in the frame, 0: none;
    |  stream   |   stamp    |  length  |    of these, only receive_streams looks at more than the length
    +-----------+------------+----------+

Four functions, of which a port takes the one its options call for:

- :func:`receive_short`: frames that fit a template. Two vector loads and stores and one descriptor each.
- :func:`receive_long`: frames of any length: the rest comes from one body that all share, over a chain of
  cells where one is not enough.
- :func:`receive_random`: like either, then draws addresses or ports anew for every packet and mends the
  checksums (RFC 1624 eqn. 3).
- :func:`receive_streams`: frames of several streams, each with a body of its own, and stamped.

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
from wirespeed.ports.generator.queue import (
    FRACTION,
    GeneratorQueue,
    allowance,
    count_sent,
    granted,
    spend,
)
from wirespeed.ports.queue import ENDED
from wirespeed.ports.stamp import write_stamp

TEMPLATE: int = 64
"""Bytes of a template: a cache line, which is what :func:`receive_short` copies."""

STREAM: int = 64
"""Bytes of a stream's record: its next sequence number, its identifier, the address of its body."""


@inline
def receive_short(queue, cache, vector, room):
    """Frames of one length that fit a template."""
    record = GeneratorQueue(queue)
    now = cycles()
    wanted = granted(record, now, room)
    if wanted < 0:
        return ENDED
    stack = Cache(cache)
    got = take(stack, wanted)
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
    count_sent(record, now, got, got * record.frame)
    return got


@inline
def receive_long(queue, cache, vector, room):
    """Frames of any length, each of its own."""
    return _receive_any(queue, cache, vector, room, False, False)


@inline
def receive_random(queue, cache, vector, room):
    """Frames of any length; what is random is drawn anew for each."""
    return _receive_any(queue, cache, vector, room, True, False)


@inline
def receive_streams(queue, cache, vector, room):
    """Frames of any length, of several streams; stamped."""
    return _receive_any(queue, cache, vector, room, False, True)


@inline
def _receive_any(queue, cache, vector, room, random, streams):
    record = GeneratorQueue(queue)
    each = record.cells
    now = cycles()
    wanted = granted(record, now, min(room, MAX_BURST // each))
    if wanted < 0:
        return ENDED
    stack = Cache(cache)
    got = take(stack, wanted * each)
    source = taken(stack, got)
    packets = got // each
    used = 0
    template, step, end = record.next, record.template, record.end
    lengths = record.lengths + (template - record.first) // step * 8
    body = record.body - step
    table = record.streams
    cells = stack.cells
    total = 0
    for i in range(packets):
        word = load64(lengths)
        length = word & 0xFFFF
        desc = load64(source)
        to = address_of(cells, desc)
        copy64(to, template)
        for at in range(TEMPLATE, step, TEMPLATE):
            copy64(to + at, template + at)
        if random:
            _redraw(record, template, to)
        if streams:
            stream = table + (word >> 32)
            body = load64(stream + 16) - step
            _stamp(stream, to, (word >> 16) & 0xFFFF, now)
        here = min(length, ROOM)
        for at in range(step, here, 64):  # the last of these may go beyond the frame: there is room
            copy64(to + at, body + at)
        need = 1
        if length > ROOM:
            need = (length + ROOM - 1) // ROOM
            desc = _chain(need, cells, source, desc, length, body)
        store64(vector + (i << 3), desc | (here << 48))
        source -= need << 3
        used += need
        total += length
        template += step
        lengths += 8
        if template == end:
            template = record.first
            lengths = record.lengths
    untake(stack, got - used)
    record.next = template
    count_sent(record, now, packets, total)
    return packets


@inline
def _stamp(stream, to, at, now):
    """Number a packet, and say when it left: the time of its burst."""
    sequence = load64(stream)
    store64(stream, sequence + 1)
    if at > 0:
        write_stamp(to + at, load64(stream + 8), now, sequence)


@cold
def _chain(need, cells, source, desc, length, body):
    """Put what does not fit the first of ``need`` cells in the following ones; returns the first's descriptor."""
    header = header_of(cells, desc)
    CellHeader(header).length = length
    done = ROOM
    for j in range(1, need):
        here = min(length - done, ROOM)
        following = load64(source - (j << 3)) | (here << 48)
        if done + here < length:
            following |= CHAINED
        copy(address_of(cells, following), body + done, here)
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


__all__ = [
    "FRACTION",
    "STREAM",
    "TEMPLATE",
    "GeneratorQueue",
    "allowance",
    "receive_long",
    "receive_random",
    "receive_short",
    "receive_streams",
    "spend",
]

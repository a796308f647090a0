# mypy: allow-untyped-defs, allow-untyped-calls
"""The load's packet path: requests out by schedule, answers in by number.

Number n leaves by connection n mod N, as its request n div N, and is due ``n * cost`` cycles after number 0. The pacer
is the generator's, with all that is saved up: who was kept from sending makes up for it at once, and what left late
is counted from when it was due all the same.

The checksum of a request is that of its frame, found once, and its port and number (RFC 1071: sums are added).
"""

from wirespeed.apps.load.answers import kind_of
from wirespeed.apps.load.state import ENTRY, HISTOGRAM_AT, KINDS_AT, SCALE, Entry, LoadQueue, LoadView
from wirespeed.jit import (
    bswap16,
    bswap64,
    copy64,
    cycles,
    inline,
    load16,
    load32,
    load64,
    store16,
    store32,
    store64,
)
from wirespeed.mem.descriptor import address_of
from wirespeed.mem.pool import Cache, take, taken
from wirespeed.ports.generator.queue import FRACTION, count_sent, granted
from wirespeed.ports.queue import ENDED
from wirespeed.ports.stamp import fold, words_of
from wirespeed.tables.hdr import HdrView

_LONGEST = 1 << 43  # cycles, an hour or less
_NUMBER = 8  # bytes of payload that numbers and what is read of an answer take
_UDP = 8


@inline
def receive_load(queue, cache, vector, room):
    """Requests that are due."""
    return send_due(queue, cache, vector, room, cycles())


@inline
def send_due(queue, cache, vector, room, now):
    """Requests that are due at cycle ``now``; their descriptors go to ``vector``. As a driver's ``receive``."""
    record = LoadQueue(queue)
    wanted = granted(record, now, room)
    if wanted < 0:
        return ENDED
    if wanted > 0:
        return _write(record, cache, vector, wanted, now)
    return 0


@inline
def _write(record, cache, vector, wanted, now):
    stack = Cache(cache)
    got = take(stack, wanted)
    source = taken(stack, got)
    cells = stack.cells
    ago = (record.credit - record.cost) >> FRACTION  # since the first of these was due
    if record.begun == 0:
        record.start, record.behind = now - ago, 0
        record.connection = record.identity = 0
    record.behind = max(record.behind, ago)
    number = record.packets - record.before
    entry, connection, identity = record.entry, record.connection, record.identity
    connections, udp_at, wide = record.connections, record.udp_at, record.wide
    bits, mask = record.bits, record.mask
    total = 0
    for i in range(got):
        desc = load64(source - (i << 3))
        to = address_of(cells, desc)
        request = Entry(entry)
        frame, length = request.frame, request.length
        for at in range(0, length, 64):
            copy64(to + at, frame + at)
        udp = to + udp_at
        port = bswap16(record.first_port + connection)
        store16(udp, port)
        checksum = request.sum + port
        if wide != 0:
            word = bswap64(number)
            store64(udp + _UDP, word)
            checksum += words_of(word)
        else:
            short = bswap16(identity & 0xFFFF)
            store16(udp + _UDP, short)
            checksum += short
        checksum = 0xFFFF - fold(checksum)
        store16(udp + 6, checksum if checksum != 0 else 0xFFFF)
        store64(vector + (i << 3), desc | (length << 48))
        place = bits + (((number & mask) >> 5) << 2)
        store32(place, load32(place) & ~(1 << (number & 31)))
        total += length
        number += 1
        connection += 1
        if connection == connections:
            connection = 0
            identity += 1
        entry += ENTRY
        if entry == record.end_entry:
            entry = record.first_entry
    record.entry, record.connection, record.identity = entry, connection, identity
    count_sent(record, now, got, total)
    return got


@inline
def see(load, at, length, connection, now):
    """Count an answer: ``length`` bytes of payload at an address, which came for a connection at cycle ``now``."""
    state, record = LoadView(load), LoadQueue(load)
    if length < _NUMBER:
        state.short += 1
        return
    sent = record.packets - record.before
    connections = record.connections
    if record.wide != 0:
        number = bswap64(load64(at))
    else:
        lap = connections << 16
        number = sent - 1 - (sent - 1 - bswap16(load16(at)) * connections - connection) % lap
    if number < 0 or number >= sent or sent - number > record.mask or number % connections != connection:
        state.strangers += 1
        return
    kind = kind_of(state.protocol, at, length)
    if kind < 0:
        state.parts += 1
        return
    place = record.bits + (((number & record.mask) >> 5) << 2)
    seen, bit = load32(place), 1 << (number & 31)
    if seen & bit != 0:
        state.duplicates += 1
        return
    store32(place, seen | bit)
    state.answered += 1
    state.bytes += length
    state.last = now
    passed = now - record.start - ((number * record.cost) >> FRACTION)
    ns = (min(max(passed, 0), _LONGEST) * state.scale) >> SCALE
    HdrView(load + HISTOGRAM_AT).record(ns)
    if ns > state.timeout_ns:
        state.late += 1
    counter = load + KINDS_AT + (kind << 3)
    store64(counter, load64(counter) + 1)


__all__ = ["receive_load", "see", "send_due"]

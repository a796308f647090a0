# mypy: allow-untyped-defs, allow-untyped-calls
"""The load's packet path: requests out by schedule, answers in by number.

Each worker has a schedule of its own, and numbers of its own which never begin anew: number n leaves by connection
n mod N of the worker's N, as its request n div N, and is due ``(n - base) * cost`` cycles after the round's first. The
pacer is the generator's, with all that is saved up: who was kept from sending makes up for it at once, and what left
late is counted from when it was due all the same.

An answer may come to another worker than the one that asked (RSS hashes what the server sends). It is counted where it
comes, in that worker's record; the port it came to says who asked, whose record says when it was due. A number that
has its answer is tagged in memory of its connection, by the lap of its 16 bits: nobody has to clear a tag, so that
who asks never writes what others read. All answers of a connection come to one worker as long as the port spreads
by flow; where it does not, an answer that comes twice at the same moment to two may count twice.

As numbers go on, an answer to an earlier round is known as such: it counts as ``earlier``, and in no latency. With 16
bits that holds for the last 65,536 requests of a connection, which take longer than the time of waiting.

The checksum of a request is that of its frame, found once, and its port, number and key (RFC 1071: sums are added).
"""

from wirespeed.apps.load.answers import kind_of
from wirespeed.apps.load.state import (
    COUNTERS,
    COUNTERS_AT,
    ENTRY,
    HISTOGRAM_AT,
    KINDS,
    KINDS_AT,
    SCALE,
    TAGS,
    Entry,
    LoadQueue,
    LoadView,
)
from wirespeed.hashes.splitmix64 import word_of
from wirespeed.jit import (
    add,
    bswap16,
    bswap64,
    cold,
    copy64,
    cycles,
    fill,
    inline,
    load16,
    load64,
    shift_right,
    store8,
    store16,
    store64,
)
from wirespeed.mem.descriptor import address_of
from wirespeed.mem.pool import Cache, take, taken
from wirespeed.ports.generator.queue import FRACTION, count_sent, granted
from wirespeed.ports.queue import ENDED
from wirespeed.ports.stamp import fold, words_of
from wirespeed.tables.hdr import DATA, HdrView

_LONGEST = 1 << 43  # cycles, an hour or less
_NUMBER = 8  # bytes of payload that numbers and what is read of an answer take
_UDP = 8
_NONE = (1 << 63) - 1  # smallest latency of none
_LAPS = 0x7FFF
_KEY_BITS = 0xFFFF_FFFF


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
        record.start, record.behind, record.base = now - ago, 0, record.packets
        record.opened = record.seen
    record.behind = max(record.behind, ago)
    number = record.packets
    entry, connection, identity = record.entry, record.connection, record.identity
    connections, udp_at, wide, keys = record.connections, record.udp_at, record.wide, record.keys
    first, workers = record.first_port + record.worker, record.workers
    total = 0
    for i in range(got):
        desc = load64(source - (i << 3))
        to = address_of(cells, desc)
        key = 0
        if keys != 0:
            key = _draw(record, number)
            entry = record.first_entry
            if key < 0:
                entry, key = entry + ENTRY, -1 - key
        request = Entry(entry)
        frame, length = request.frame, request.length
        for at in range(0, length, 64):
            copy64(to + at, frame + at)
        udp = to + udp_at
        port = bswap16(first + connection * workers)
        store16(udp, port)
        checksum = request.sum + port
        if keys != 0:
            checksum += _write_key(to + record.last_digit, record.digits, key)
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
def _draw(record, number):
    """The key of a request, from 0 on, if it is to get; -1 less the key if it is to set."""
    if record.filling != 0:
        return -1 - ((number - record.base) * record.workers + record.worker)
    word = word_of(add(record.seed, number))
    key = ((word & _KEY_BITS) * record.keys) >> 32
    if (shift_right(word, 32) * record.draws) >> 32 < record.gets:
        return key
    return -1 - key


@inline
def _write_key(last, digits, key):
    """Write a key's digits, the last of them at an address; how much more they are than zeros, as checksums count."""
    more = 0
    for i in range(digits):
        at, left = last - i, key // 10
        digit = key - left * 10
        store8(at, 48 + digit)
        more += digit << ((at & 1) << 3)
        key = left
    return more


@inline
def see(load, at, length, connection, now):
    """Count an answer: ``length`` bytes of payload at an address, which came for a connection at cycle ``now``.

    ``load`` is the record of the worker that it came to.
    """
    state = LoadView(load)
    own, workers, asking = connection, state.workers, load
    if workers != 1:
        own = connection // workers
        asking = state.home + (connection - own * workers) * state.stride
    asker = LoadQueue(asking)
    if asker.opened > state.round:
        _forget(load, asker.opened)
    if length < _NUMBER:
        state.short += 1
        return
    sent, connections = asker.packets, asker.connections
    lap = connections << 16
    if asker.wide != 0:
        number = bswap64(load64(at))
    else:
        number = sent - 1 - (sent - 1 - bswap16(load16(at)) * connections - own) % lap
    identity = number // connections
    if number < 0 or number >= sent or sent - number > lap or number - identity * connections != own:
        state.strangers += 1
        return
    if number < asker.base or asker.opened != state.round:
        state.earlier += 1
        return
    kind = kind_of(state.protocol, at, length)
    if kind < 0:
        state.parts += 1
        return
    tag = ((identity >> 16) & _LAPS) + 1
    place = state.tags + connection * TAGS + ((identity & 0xFFFF) << 1)
    if load16(place) == tag:
        state.duplicates += 1
        return
    store16(place, tag)
    state.answered += 1
    state.bytes += length
    state.last = now
    passed = now - asker.start - (((number - asker.base) * asker.cost) >> FRACTION)
    ns = (min(max(passed, 0), _LONGEST) * state.scale) >> SCALE
    HdrView(load + HISTOGRAM_AT).record(ns)
    if ns > state.timeout_ns:
        state.late += 1
    counter = load + KINDS_AT + (kind << 3)
    store64(counter, load64(counter) + 1)


@cold
def _forget(load, round):
    """Another round: what was counted is of the one before."""
    fill(load + COUNTERS_AT, 0, COUNTERS << 3)
    fill(load + KINDS_AT, 0, KINDS << 3)
    latencies = HdrView(load + HISTOGRAM_AT)
    latencies.sum = latencies.largest = latencies.beyond = 0
    latencies.smallest = _NONE
    fill(latencies.address + DATA, 0, LoadView(load).slots_bytes)
    LoadView(load).round = round


__all__ = ["receive_load", "see", "send_due"]

"""memif without a copy: a client that lends the pool's cells themselves, both ways.

The arena is a region like any other, and slots say where in it a cell's data is. A cell that is in a ring belongs to
this driver; which one is in which slot stands in memory of ours (``held``, a descriptor for each slot), and what the
peer writes into a slot is read once, for the packet's length and whether it goes on, and never believed to say where::

                        freed / position            position / given
    transmit   ──────────┬───────────────────────────┬──────────   taken by the peer │ sent │ free
    receive    ──────────┬───────────────────────────┬──────────   received │ given to the peer │ free

Cells to receive into are given in batches, since giving costs a line per four slots. Cells that were sent come back
when half of the ring is out, in bulk: the peer's index is a line that both cores want.

A short packet is copied even so, into a buffer of the slot: its cell is free at once and taken again while it is warm,
and 64 bytes went out faster that way (docs/design/0015, which also says what was not measured).
"""
# mypy: no-warn-return-any

from wirespeed.jit import cold, inline, kernel, load64, load_relaxed, shift_right, store64, store_release16
from wirespeed.mem.buffer import LONGEST
from wirespeed.mem.descriptor import CHAINED, META, ROOM, CellHeader, address_of, header_of, length_of
from wirespeed.mem.pool import MAX_BURST, Cache, release, take, taken
from wirespeed.mem.pool_cache import get_shared, release_one, release_shared
from wirespeed.ports.memif.copy import SHORTEST, copy_packet
from wirespeed.ports.memif.ring import BAD_CHAIN, BAD_INDEX, BAD_RANGE, NEXT, PIECES, PIECES_AT, MemifQueue, look
from wirespeed.ports.memif.transmit import notify
from wirespeed.ports.queue import count_burst

GIVEN: int = 512
"""Most cells that wait in a ring to be received into."""
SHORT: int = 256
"""Bytes of the longest packet that is copied all the same."""
_ETHERNET = 14
_ALONE = ~(CHAINED | META)  # what is kept of a descriptor: a cell by itself, which others may hold, too


# Receiving -------------------------------------------------------------------------------------------------


@kernel
def receive_cells(queue, cache, vector, room):  # type: ignore[no-untyped-def]
    """Packets of one slot each, whose cells we know; anything else the other way."""
    record = MemifQueue(queue)
    begun = record.position
    if record.limit > record.given:
        record.fault, record.live = BAD_INDEX, 0
        return 0
    most = min(room, record.limit - begun)
    slots, mask, held = record.slots, record.mask, record.held
    done, total = 0, 0
    while done < most:
        at = (begun + done) & mask
        word = load_relaxed(slots + (at << 4))
        length = shift_right(word, 32)
        if word & NEXT != 0 or length < _ETHERNET or length > ROOM:
            break
        store64(vector + (done << 3), load64(held + (at << 3)) | (length << 48))
        total += length
        done += 1
    record.position = begun + done
    if done != 0:
        count_burst(record, done, total)
    elif most > 0:
        done = _receive_any(queue, cache, vector, room)
    if record.room - (record.given - record.position) >= record.batch:
        _give(queue, cache)
    return done


@inline
def _give(queue, cache):  # type: ignore[no-untyped-def]
    """Put cells into the ring for the peer to fill."""
    record = MemifQueue(queue)
    stack = Cache(cache)
    got = take(stack, min(record.room - (record.given - record.position), MAX_BURST))
    _post(record, stack.cells, taken(stack, got), -8, got)


@kernel
def give_first(queue, cache):  # type: ignore[no-untyped-def]
    """Fill the ring, by control code before a worker knows of it: the peer may send as soon as it is connected."""
    record = MemifQueue(queue)
    stack = Cache(cache)
    _post(record, stack.cells, queue + PIECES_AT, 8, get_shared(stack, queue + PIECES_AT, record.room))


@inline
def _post(record, cells, source, step, got):  # type: ignore[no-untyped-def]
    slots, mask, held, given = record.slots, record.mask, record.held, record.given
    arena = cells - record.hot_base
    word = (ROOM << 32) | record.hot
    for i in range(got):
        at = (given + i) & mask
        desc = load64(source + i * step)
        store64(slots + (at << 4), word)
        store64(slots + (at << 4) + 8, address_of(arena, desc))
        store64(held + (at << 3), desc)
    record.given = given + got
    store_release16(record.ours, record.given)
    record.hungry = 1 if record.given == record.position else 0


@cold
def _receive_any(queue, cache, vector, room):  # type: ignore[no-untyped-def]
    """Packets of several slots, and those that are none."""
    record = MemifQueue(queue)
    stack = Cache(cache)
    done, total = 0, 0
    while done < room and record.position < record.limit:
        pieces, length = _measure(queue)
        if pieces == 0:
            break
        first = record.position
        record.position += pieces
        if pieces > PIECES or length < _ETHERNET or length > LONGEST:
            record.errors += 1
            for at in range(first, first + pieces):
                release_one(stack, load64(record.held + ((at & record.mask) << 3)))
        else:
            store64(vector + (done << 3), _chain(queue, cache, first, pieces, length))
            total += length
            done += 1
    if done != 0:
        count_burst(record, done, total)
    return done


@cold
def _measure(queue):  # type: ignore[no-untyped-def]
    """How many slots the next packet takes and its bytes; their lengths are written down. 0 slots for a fault."""
    record = MemifQueue(queue)
    count, total, more = 0, 0, True
    while more:
        at = record.position + count
        if at == record.limit:
            record.fault, record.live = BAD_CHAIN, 0
            return 0, 0
        word = load_relaxed(record.slots + ((at & record.mask) << 4))
        length = shift_right(word, 32)
        if length > ROOM:
            record.fault, record.live = BAD_RANGE, 0
            return 0, 0
        if count < PIECES:
            store64(queue + PIECES_AT + (count << 3), length)
        total += length
        more = word & NEXT != 0
        count += 1
    return count, total


@cold
def _chain(queue, cache, first, pieces, length):  # type: ignore[no-untyped-def]
    """The packet in ``pieces`` slots from ``first`` on; cells in which there is nothing are freed."""
    record = MemifQueue(queue)
    stack = Cache(cache)
    packet = 0
    for i in range(pieces - 1, -1, -1):
        desc = load64(record.held + (((first + i) & record.mask) << 3))
        size = load64(queue + PIECES_AT + (i << 3))
        if size == 0:
            release_one(stack, desc)
        else:
            desc |= size << 48
            if packet != 0:
                line = CellHeader(header_of(stack.cells, desc))
                line.next, line.length = packet, length
                desc |= CHAINED
            packet = desc
    return packet


# Sending ---------------------------------------------------------------------------------------------------


@kernel
def transmit_cells(queue, cache, vector, count):  # type: ignore[no-untyped-def]
    """Give the peer the cells of packets, a slot each, or a copy of short ones; as many as there are slots for."""
    record = MemifQueue(queue)
    stack = Cache(cache)
    cells, position, mask = stack.cells, record.position, record.mask
    flying = record.lent - record.freed
    if flying + flying > mask or record.limit - position < count:
        _look_back(queue, cache)
    limit, slots, held = record.limit, record.slots, record.held
    hot, arena = record.hot, cells - record.hot_base
    first, pitch, home = record.first, record.pitch, load64(record.regions)
    lent, done, short, total = record.lent, 0, 0, 0
    while done < count and position < limit:
        desc = load64(vector + (done << 3))
        length = length_of(desc)
        at = position & mask
        slot = slots + (at << 4)
        if _is_short(desc):
            to = first + at * pitch
            copy_packet(to, address_of(cells, desc), length)
            store64(slot, length << 32)
            store64(slot + 8, to - home)
            store64(held + (at << 3), 0)
            position += 1
            short += 1
        elif desc & CHAINED == 0:
            store64(slot, (length << 32) | hot)
            store64(slot + 8, address_of(arena, desc))
            store64(held + (at << 3), desc & _ALONE)
            position += 1
            lent = position
        else:
            length = CellHeader(header_of(cells, desc)).length
            used = _send_chain(queue, cells, desc, position, limit)
            if used == 0:
                _look_back(queue, cache)  # perhaps there are more slots by now
                if record.limit <= limit:
                    break
                limit = record.limit
                continue
            position += used
            lent = position
        total += length
        done += 1
    if done != 0:
        record.position, record.lent = position, lent
        store_release16(record.ours, position)
        notify(record)
        count_burst(record, done, total)
        if short == done:
            release(stack, vector, done)
        elif short != 0:
            _release_short(cache, vector, done)
    return done


@inline
def _is_short(desc):  # type: ignore[no-untyped-def]
    length = length_of(desc)
    return desc & CHAINED == 0 and length <= SHORT and length >= SHORTEST


@cold
def _release_short(cache, vector, count):  # type: ignore[no-untyped-def]
    for i in range(count):
        desc = load64(vector + (i << 3))
        if _is_short(desc):
            release_one(Cache(cache), desc)


@cold
def _look_back(queue, cache):  # type: ignore[no-untyped-def]
    """See how far the peer is, and free what it has taken."""
    record = MemifQueue(queue)
    look(record)
    until = min(record.limit - (record.mask + 1), record.lent)  # behind are copies only
    while record.freed < until:
        at = record.freed & record.mask
        part = min(until - record.freed, record.mask + 1 - at, MAX_BURST)
        _release_held(cache, record.held + (at << 3), part)
        record.freed += part
    record.freed = max(record.freed, record.limit - (record.mask + 1))


@inline
def _release_held(cache, held, count):  # type: ignore[no-untyped-def]
    """Free the cells in so many slots; those of copies hold none."""
    kept = 0
    for i in range(count):
        desc = load64(held + (i << 3))
        store64(held + (kept << 3), desc)
        kept += 1 if desc != 0 else 0
    release(Cache(cache), held, kept)


@cold
def _send_chain(queue, cells, desc, position, limit):  # type: ignore[no-untyped-def]
    """A slot for each cell of a packet; how many, 0 if there are not enough."""
    record = MemifQueue(queue)
    begun = position
    more = True
    while more:
        if position == limit:
            return 0
        at = position & record.mask
        more = desc & CHAINED != 0
        slot = record.slots + (at << 4)
        store64(slot, (length_of(desc) << 32) | record.hot | (NEXT if more else 0))
        store64(slot + 8, address_of(cells - record.hot_base, desc))
        store64(record.held + (at << 3), desc & _ALONE)
        position += 1
        if more:
            desc = CellHeader(header_of(cells, desc)).next
    return position - begun


# Afterwards ------------------------------------------------------------------------------------------------


@kernel
def take_back(queue, cache, sends):  # type: ignore[no-untyped-def]
    """Free the cells that are in the ring: by control code, when the peer has left and no worker is inside."""
    record = MemifQueue(queue)
    first, last = record.position, record.given
    if sends != 0:
        first, last = record.freed, record.position
    for at in range(first, last):
        desc = load64(record.held + ((at & record.mask) << 3))
        if desc != 0:
            release_shared(Cache(cache), desc, queue + PIECES_AT)
    record.given = record.freed = record.position


__all__ = ["GIVEN", "SHORT", "give_first", "receive_cells", "take_back", "transmit_cells"]

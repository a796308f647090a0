"""memif's way in: from the peer's buffers into cells.

Everything in shared memory may change while we look at it. A slot is therefore read once, as two words, and checked
as those; the index only ever tells how many slots there are. What cannot be (a region that does not exist, a buffer
that does not lie in it, a chain without an end) stops the queue, and control code sends the peer away.

Most packets are one slot and fit a cell, in the region that the one before was in: they go one way
(:func:`receive_burst`), chains and all else the other (:func:`_receive_any`).
"""
# mypy: no-warn-return-any

from wirespeed.jit import (
    cold,
    copy,
    inline,
    kernel,
    load64,
    load_relaxed,
    prefetch,
    shift_right,
    store16,
    store64,
    store_release16,
)
from wirespeed.jit.entry import enter4
from wirespeed.mem.buffer import LONGEST, chain_of
from wirespeed.mem.descriptor import CHAINED, ROOM, CellHeader, address_of, header_of, length_of
from wirespeed.mem.pool import Cache, take, taken, untake
from wirespeed.ports.memif.copy import SHORTEST, copy_packet
from wirespeed.ports.memif.ring import BAD_CHAIN, BAD_RANGE, BAD_REGION, NEXT, PIECES, PIECES_AT, MemifQueue, look
from wirespeed.ports.queue import count_burst

_LOW = 0xFFFF_FFFF
_ETHERNET = 14
_AHEAD = 4  # slots whose data is asked for early


@inline
def receive(queue, cache, vector, room):  # type: ignore[no-untyped-def]
    """What the peer has filled."""
    record = MemifQueue(queue)
    if record.live == 0:
        return 0
    if record.limit == record.position and look(record) == 0 and record.hungry == 0:
        return 0
    return enter4(record.burst, queue, cache, vector, room)


@kernel
def receive_burst(queue, cache, vector, room):  # type: ignore[no-untyped-def]
    record = MemifQueue(queue)
    stack = Cache(cache)
    cells = stack.cells
    begun = record.position
    got = take(stack, min(room, record.limit - begun))
    window = taken(stack, got)
    slots, mask = record.slots, record.mask
    hot, base, size = record.hot, record.hot_base, record.hot_size
    table, regions = record.regions, record.region_count
    for i in range(got):
        slot = slots + (((begun + i) & mask) << 4)
        data = base + (load_relaxed(slot + 8) & _LOW)
        prefetch(data)
        prefetch(data + min(shift_right(load_relaxed(slot), 32) - 1, 64))  # the second line, if there is one
    done, total = 0, 0
    while done < got:
        slot = slots + (((begun + done) & mask) << 4)
        word = load_relaxed(slot)
        offset = load_relaxed(slot + 8) & _LOW
        length = shift_right(word, 32)
        if word & _LOW != hot:
            region = (word >> 16) & 0xFFFF
            if word & 0xFFFF != 0 or region >= regions:
                break
            hot, base, size = region << 16, load64(table + (region << 4)), load64(table + (region << 4) + 8)
        if length < SHORTEST or length > ROOM or offset + length > size:
            break
        desc = load64(window - (done << 3))
        copy_packet(address_of(cells, desc), base + offset, length)
        store64(vector + (done << 3), desc | (length << 48))
        total += length
        done += 1
    untake(stack, got - done)
    record.hot, record.hot_base, record.hot_size = hot, base, size
    if done == 0:
        if got == 0:
            return 0
        return _receive_any(queue, cache, vector, room)
    _give_back(record, begun, begun + done)
    count_burst(record, done, total)
    return done


@inline
def _give_back(record, begun, position):  # type: ignore[no-untyped-def]
    """The slots from ``begun`` to ``position`` are done with: a client hands their buffers out again, whole."""
    record.position = position
    if record.lead != 0:
        word = record.capacity << 32
        for at in range(begun, position):
            store64(record.slots + ((at & record.mask) << 4), word)
    store_release16(record.ours, position + record.lead)


@cold
def _give_back_chain(record, begun, pieces):  # type: ignore[no-untyped-def]
    """:func:`_give_back` of a packet of several slots, their flags taken off: DPDK's client never does that, and would
    send the next packet that lies in one of them as the beginning of a chain."""
    if pieces > 1:
        for at in range(begun, begun + pieces):
            store16(record.slots + ((at & record.mask) << 4), 0)
    _give_back(record, begun, begun + pieces)


@cold
def _receive_any(queue, cache, vector, room):  # type: ignore[no-untyped-def]
    """Packets of several slots or cells, short ones, and those in another region."""
    record = MemifQueue(queue)
    stack = Cache(cache)
    done, total = 0, 0
    while done < room and record.position < record.limit:
        begun = record.position
        pieces = _gather(queue)
        if pieces == 0:  # a fault
            break
        length = 0
        for i in range(min(pieces, PIECES)):
            length += load64(queue + PIECES_AT + (i << 4) + 8)
        if pieces > PIECES or length < _ETHERNET or length > LONGEST:
            record.errors += 1
            _give_back_chain(record, begun, pieces)
            continue
        desc = chain_of(stack, length)
        if desc == 0:
            break
        _scatter(stack.cells, desc, queue + PIECES_AT, pieces)
        store64(vector + (done << 3), desc)
        _give_back_chain(record, begun, pieces)
        total += length
        done += 1
    if done != 0:
        count_burst(record, done, total)
    return done


@cold
def _gather(queue):  # type: ignore[no-untyped-def]
    """Write down the pieces of the next packet, checked; how many slots it takes, 0 for a fault."""
    record = MemifQueue(queue)
    count, more = 0, True
    while more:
        at = record.position + count
        if at == record.limit:
            return _stop(record, BAD_CHAIN)
        slot = record.slots + ((at & record.mask) << 4)
        word = load_relaxed(slot)
        offset = load_relaxed(slot + 8) & _LOW
        region = (word >> 16) & 0xFFFF
        length = shift_right(word, 32)
        if region >= record.region_count:
            return _stop(record, BAD_REGION)
        base, size = load64(record.regions + (region << 4)), load64(record.regions + (region << 4) + 8)
        if offset + length > size:
            return _stop(record, BAD_RANGE)
        record.hot, record.hot_base, record.hot_size = region << 16, base, size
        if count < PIECES:
            piece = queue + PIECES_AT + (count << 4)
            store64(piece, base + offset)
            store64(piece + 8, length)
        more = word & NEXT != 0
        count += 1
    return count


@inline
def _stop(record, fault):  # type: ignore[no-untyped-def]
    record.fault = fault
    record.live = 0
    return 0


@cold
def _scatter(cells, desc, pieces, count):  # type: ignore[no-untyped-def]
    """Copy the pieces into a packet of as many bytes."""
    filled = 0  # of the segment
    for i in range(count):
        source, left = load64(pieces + (i << 4)), load64(pieces + (i << 4) + 8)
        while left > 0:
            if filled == length_of(desc):
                if desc & CHAINED == 0:
                    return
                desc = CellHeader(header_of(cells, desc)).next
                filled = 0
            part = min(left, length_of(desc) - filled)
            copy(address_of(cells, desc) + filled, source, part)
            source += part
            left -= part
            filled += part


__all__ = ["receive", "receive_burst"]

"""memif's way out: from cells into buffers, our own as client, lent by the peer as server.

A lent buffer is checked like a received one (:mod:`wirespeed.ports.memif.receive`): its slot is read once. Our own
buffers are where the slot's number says; what the peer may have written into the slot does not matter.

The peer is notified at the end of a burst if it has asked for that. Its asking and our index cross: without a fence
either may miss the other's store, and the peer would sleep on a full ring. The fence costs what the stores before it
take to leave this core, so it is there only for a peer that has ever been seen to sleep.
"""
# mypy: no-warn-return-any

from wirespeed.jit import (
    cold,
    copy,
    fence,
    inline,
    kernel,
    load16,
    load64,
    load_relaxed,
    shift_right,
    store64,
    store_release16,
)
from wirespeed.jit.entry import enter4
from wirespeed.jit.libc import write
from wirespeed.mem.descriptor import CHAINED, CellHeader, address_of, header_of, length_of
from wirespeed.mem.pool import Cache, release
from wirespeed.ports.memif.copy import SHORTEST, copy_packet
from wirespeed.ports.memif.ring import BAD_RANGE, BAD_REGION, MASK_INTERRUPT, NEXT, MemifQueue, look
from wirespeed.ports.queue import count_burst

_LOW = 0xFFFF_FFFF
_ONE: int = MemifQueue.one.offset


@inline
def transmit(queue, cache, vector, count):  # type: ignore[no-untyped-def]
    """Give packets to the peer, as many as there are buffers for."""
    record = MemifQueue(queue)
    if count == 0 or record.live == 0:
        return 0
    return enter4(record.burst, queue, cache, vector, count)


@kernel
def transmit_burst(queue, cache, vector, count):  # type: ignore[no-untyped-def]
    record = MemifQueue(queue)
    stack = Cache(cache)
    cells = stack.cells
    position = record.position
    if record.limit - position < count:
        look(record)
    limit = record.limit
    slots, mask = record.slots, record.mask
    first, pitch, capacity = record.first, record.pitch, record.capacity
    hot, base, size = record.hot, record.hot_base, record.hot_size
    done, total = 0, 0
    while done < count and position < limit:
        desc = load64(vector + (done << 3))
        length = length_of(desc)
        slot = slots + ((position & mask) << 4)
        to = first + (position & mask) * pitch
        fits = desc & CHAINED == 0 and length >= SHORTEST
        if first == 0:
            word = load_relaxed(slot)
            offset = load_relaxed(slot + 8) & _LOW
            to = base + offset
            capacity = shift_right(word, 32)
            fits = fits and word & 0xFFFF_0000 == hot and offset + length <= size
        if fits and length <= capacity:
            copy_packet(to, address_of(cells, desc), length)
            store64(slot, (length << 32) | hot)
            position += 1
        else:
            used = _send_any(queue, cells, desc, position, limit)
            if used == 0 and look(record) != 0 and record.limit > limit:  # perhaps there are more buffers by now
                limit = record.limit
                continue
            if used <= 0:
                break
            position += used
            hot, base, size = record.hot, record.hot_base, record.hot_size
            if desc & CHAINED != 0:
                length = CellHeader(header_of(cells, desc)).length
        total += length
        done += 1
    if done != 0:
        record.position = position
        store_release16(record.ours, position)
        notify(record)
        count_burst(record, done, total)
        release(stack, vector, done)
    return done


@inline
def notify(record):  # type: ignore[no-untyped-def]
    """Ring the ring's bell if the receiver has asked for it."""
    if record.sleeps != 0:
        fence()
    if load16(record.flags) & MASK_INTERRUPT == 0:
        _ring(record)


@cold
def _ring(record):  # type: ignore[no-untyped-def]
    record.sleeps = 1
    if record.doorbell >= 0:
        record.notified += 1
        write(record.doorbell, record.address + _ONE, 8)


@cold
def _send_any(queue, cells, desc, position, limit):  # type: ignore[no-untyped-def]
    """Send one packet over as many buffers as it takes; how many slots, 0 if there are not enough, -1 for a fault."""
    record = MemifQueue(queue)
    begun = position
    to, room, slot, word = 0, 0, 0, 0
    at, left = 0, 0  # in the segment
    more = True
    source = desc
    left = length_of(source)
    while more:
        if left == 0:
            if source & CHAINED == 0:
                more = False
                continue
            source = CellHeader(header_of(cells, source)).next
            at, left = 0, length_of(source)
            continue
        if room == 0:
            if slot != 0:
                store64(slot, word | NEXT)
            if position == limit:
                return 0
            to, room = _buffer(record, position)
            if room <= 0:
                return -1
            slot = record.slots + ((position & record.mask) << 4)
            word = record.hot
            position += 1
        part = min(left, room)
        copy(to, address_of(cells, source) + at, part)
        word += part << 32
        store64(slot, word)
        to += part
        room -= part
        at += part
        left -= part
    return position - begun


@cold
def _buffer(record, position):  # type: ignore[no-untyped-def]
    """The slot's buffer: where, and how many bytes; 0 bytes for a fault, which stops the queue."""
    index = position & record.mask
    if record.first != 0:
        return record.first + index * record.pitch, record.capacity
    slot = record.slots + (index << 4)
    word = load_relaxed(slot)
    offset = load_relaxed(slot + 8) & _LOW
    region = (word >> 16) & 0xFFFF
    length = shift_right(word, 32)
    if region >= record.region_count:
        record.fault, record.live = BAD_REGION, 0
        return 0, 0
    base, size = load64(record.regions + (region << 4)), load64(record.regions + (region << 4) + 8)
    if length == 0 or offset + length > size:
        record.fault, record.live = BAD_RANGE, 0
        return 0, 0
    record.hot, record.hot_base, record.hot_size = region << 16, base, size
    return base + offset, length


__all__ = ["notify", "transmit", "transmit_burst"]

"""virtio_user's packet path: bursts into and out of a virtqueue, in whichever layout was agreed on.

A cell that is given to the device belongs to this driver until the device has used it; there is no copy. The virtio-net
header goes right before the data, received or sent, and the data begins a cache line: the device, who copies, is the
slower side, and copies to an unaligned place take it half as long again (docs/design/0017).

What is ordinary goes through the loops of :mod:`~wirespeed.ports.virtio.split` and
:mod:`~wirespeed.ports.virtio.packed`; what is not, one by one through :mod:`~wirespeed.ports.virtio.general`.
Cells that the device has sent are fetched back in bulk, once half of the ring is out; notifications are asked for only
while a worker sleeps, and given only if the device asked for them, once a burst.
"""

from wirespeed.jit import cold, fence, inline, load64, store16, store32, store64
from wirespeed.jit.libc import epoll_wait
from wirespeed.mem.pool import MAX_BURST, Cache, release, take
from wirespeed.mem.pool_cache import release_one
from wirespeed.ports.virtio import packed, split
from wirespeed.ports.virtio.general import REFUSED, complete_general, peek, post_general, receive_one, transmit_one
from wirespeed.ports.virtio.record import EVENT_IDX, PACKED, VirtioQueue, notify, scratch_of
from wirespeed.ports.virtio.vring import EVENTS_AT, EVENTS_OFF, EVENTS_ON, NO_NOTIFY


@inline
def receive(queue, cache, vector, room):  # type: ignore[no-untyped-def]
    """What the device has sent us, as much as is there."""
    if VirtioQueue(queue).live == 0:
        return 0
    return _receive(queue, cache, vector, room)


@cold
def _receive(queue, cache, vector, room):  # type: ignore[no-untyped-def]
    record = VirtioQueue(queue)
    cells = Cache(cache).cells
    got = 0
    more = record.fault == 0
    while more:
        if record.plain:
            if record.mode & PACKED:
                got += packed.receive_run(record, cells, vector + (got << 3), room - got)
            else:
                got += split.receive_run(record, cells, vector + (got << 3), room - got)
        more = got < room
        if more:
            desc = receive_one(queue, cache)
            more = desc != 0
            if more and desc != REFUSED:
                store64(vector + (got << 3), desc)
                got += 1
    if record.size - (record.given - record.taken) >= record.batch:
        _refill(queue, cache)
    if got > 0:
        record.packets += got
        record.calls += 1
    return got


@inline
def _refill(queue, cache):  # type: ignore[no-untyped-def]
    """Give the device cells to receive into."""
    record = VirtioQueue(queue)
    stack = Cache(cache)
    if record.fault != 0:
        return
    got = take(stack, min(record.size - (record.given - record.taken), MAX_BURST))
    if got > 0:
        before = record.given
        if record.plain == 0:
            post_general(queue, cache, got)
        elif record.mode & PACKED:
            packed.post_run(record, stack, got)
        else:
            split.post_run(record, stack, got)
        notify(queue, before, before + got)


@inline
def transmit(queue, cache, vector, count):  # type: ignore[no-untyped-def]
    """Give packets to the device; those the ring has no room for are left to the caller."""
    if count == 0 or VirtioQueue(queue).live == 0:
        return 0
    return _transmit(queue, cache, vector, count)


@cold
def _transmit(queue, cache, vector, count):  # type: ignore[no-untyped-def]
    record = VirtioQueue(queue)
    cells = Cache(cache).cells
    flying = record.given - record.taken
    if flying + flying >= record.size or flying + count > record.size:
        _complete(queue, cache)
    before = record.given if record.mode & PACKED else record.offered
    done, refused = 0, 0
    more = record.fault == 0
    while more and done < count:
        if record.plain:
            room = min(count - done, record.size - (record.given - record.taken))
            if record.mode & PACKED:
                done += packed.transmit_run(record, cells, vector + (done << 3), room)
            else:
                done += split.transmit_run(record, cells, vector + (done << 3), room)
            more = record.given - record.taken < record.size
        if more and done < count:
            desc = load64(vector + (done << 3))
            sent = transmit_one(queue, cells, desc)
            more = sent != 0
            if sent == REFUSED:
                refused += 1
                release_one(Cache(cache), desc)
            if more:
                done += 1
    if done > refused:
        after = record.given
        if record.mode & PACKED == 0:
            split.publish(record)
            after = record.offered
        notify(queue, before, after)
        record.packets += done - refused
        record.calls += 1
    record.errors += refused
    return done


@cold
def _complete(queue, cache):  # type: ignore[no-untyped-def]
    """Free what the device has sent."""
    record = VirtioQueue(queue)
    back = 0
    if record.plain:
        if record.mode & PACKED:
            back = packed.used_run(record, MAX_BURST)
        else:
            back = split.used_run(record, MAX_BURST)
        slot = record.taken & (record.size - 1)
        left = back
        while left > 0:
            part = min(left, record.size - slot, MAX_BURST)
            release(Cache(cache), record.held + (slot << 3), part)
            slot = (slot + part) & (record.size - 1)
            left -= part
        record.taken += back
        record.seen += back
    if record.plain == 0:
        complete_general(queue, cache, MAX_BURST)


# Sleeping ------------------------------------------------------------------------------------------------


@cold
def arm(queue, on):  # type: ignore[no-untyped-def]
    """Ask the device to notify us (1), or no longer (0); 1 if something is there already."""
    record = VirtioQueue(queue)
    if on == 0:
        epoll_wait(record.epoll, scratch_of(record) + 16, 2, 0)  # never read: the device could make that block
    if record.live == 0 or record.fault != 0:
        return 0
    if record.mode & PACKED:
        wanted = EVENTS_OFF << 16
        if on:
            wanted = EVENTS_ON << 16
            if record.mode & EVENT_IDX:
                lap = 0 if record.taken & record.size else 0x8000
                wanted = (EVENTS_AT << 16) | lap | (record.taken & (record.size - 1))
        store32(record.driver, wanted)
    elif record.mode & EVENT_IDX == 0:
        store16(record.driver, 0 if on else NO_NOTIFY)
    elif on:
        store16(record.driver + 4 + (record.size << 1), record.seen)
    if on == 0:
        return 0
    fence()  # the device must see that we want to know, before we look for the last time
    slot, _ = peek(record, 0)
    return 1 if slot >= 0 else 0


__all__ = ["arm", "receive", "transmit"]

"""Sending through AF_XDP sockets: packets' own cells go into the ring, and come back when they have been sent.

In copy mode (an interface whose driver has no zero-copy) the kernel sends only while we are in ``sendto`` or asleep. It
reads our index and remembers it, so what it has looked at cannot be taken back: when it would send no more (its far
side does not read) the rest stays in the ring, and goes with the next burst or when the worker sleeps. Only what it
refused unseen, because the interface is down, is taken back and left to the caller. A drop in the interface ends such a
call with EBUSY; the next call goes on behind that packet. In zero-copy mode the ring is the hardware's.

A chain is a descriptor for each cell. One that the interface would not take in pieces, or in so many, is copied
together first (:func:`wirespeed.mem.buffer.copy_packet`). A packet with several holders is sent like any other: the
ledger remembers to release it as one of them.

References: Documentation/networking/af_xdp.rst; net/xdp/xsk.c (xsk_generic_xmit).
"""

from wirespeed.jit import (
    cold,
    fence,
    fetch_add,
    inline,
    kernel,
    load8,
    load32,
    load64,
    load_acquire32,
    store8,
    store64,
    store_release32,
)
from wirespeed.jit.entry import enter4
from wirespeed.jit.libc import errno, sendto
from wirespeed.mem.buffer import bytes_of_packet, copy_packet
from wirespeed.mem.descriptor import CELL, CHAINED, META, SHARED, CellHeader, cell_of, header_of, length_of, offset_of
from wirespeed.mem.pool_cache import Cache, put_shared, release, release_one
from wirespeed.ports.af_xdp.rings import (
    BATCH,
    CONTINUED,
    DONT_WAIT,
    EAGAIN,
    EBUSY,
    ENOBUFS,
    HELD,
    MOST_SENT,
    NEED_WAKEUP,
    TxQueue,
)

_INDEX = 0xFFFF_FFFF
_LIVE = TxQueue.live.offset
_ETHERNET = 14
_MOST_CALLS = 4096  # of one burst: a drop for each packet ends each; never endless


@inline
def transmit(queue, cache, vector, count):  # type: ignore[no-untyped-def]
    """Send packets; what there is no room for is left to the caller."""
    if count == 0:
        return 0
    return enter4(TxQueue(queue).burst, queue, cache, vector, count)


@kernel
def transmit_burst(queue, cache, vector, count):  # type: ignore[no-untyped-def]
    record = TxQueue(queue)
    if load64(queue + _LIVE) == 0:
        return 0
    _complete(queue, cache)
    produced, ring, mask, ledger, longest = record.produced, record.ring, record.size - 1, record.ledger, record.longest
    free = record.size - ((produced - load_acquire32(record.consumer)) & _INDEX)
    before = produced
    done, sent, total = 0, 0, 0
    plain = 1
    while done < count and free > 0:
        desc = load64(vector + (done << 3))
        length = length_of(desc)
        if desc & (CHAINED | SHARED) or length < _ETHERNET or length > longest or offset_of(desc) + length > CELL:
            plain = 0
            taken = _special(queue, cache, desc, produced, free)
            if taken < 0:  # no room
                break
            if taken > 0:
                sent += 1
                total += load64(record.scratch)
            produced = (produced + taken) & _INDEX
            free -= taken
        else:
            cell = cell_of(desc)
            slot = ring + ((produced & mask) << 4)
            store64(slot, (cell << 11) + offset_of(desc))
            store64(slot + 8, length)
            store8(ledger + cell, 1)
            produced = (produced + 1) & _INDEX
            free -= 1
            sent += 1
            total += length
        done += 1
    record.produced = produced
    store_release32(record.producer, produced)
    if record.synchronous:
        left = _push(queue, cache)
        if left and plain:
            left = min(left, (produced - before) & _INDEX)
            total -= _take_back(queue, left)
            done -= left
            sent -= left
    else:
        fence()  # the kernel sets the flag and then reads our index
        if load32(record.flags) & NEED_WAKEUP:
            sendto(record.fd, 0, 0, DONT_WAIT, 0, 0)
    if sent:
        record.packets += sent
        record.bytes += total
        record.calls += 1
    return done


@cold
def _push(queue, cache):  # type: ignore[no-untyped-def]
    """Copy mode: let the kernel send what is in the ring; descriptors that it would not even look at.

    After an error its index says little: before Linux 6.17 it is written when the ring is empty, since then when a
    packet was sent. So calls that show no progress are repeated, as often as the smallest budget (32) may need.
    """
    record = TxQueue(queue)
    produced = record.produced
    consumer = record.consumer
    before = load_acquire32(consumer)
    patience = 1 + (((produced - before) & _INDEX) >> 5)
    for attempt in range(_MOST_CALLS):
        if sendto(record.fd, 0, 0, DONT_WAIT, 0, 0) >= 0:
            return 0
        reason = errno()
        if reason == EBUSY:  # the interface dropped one
            record.dropped += 1
            record.packets -= 1
        elif reason not in (EAGAIN, ENOBUFS):
            return (produced - load_acquire32(consumer)) & _INDEX if attempt == 0 else 0
        now = load_acquire32(consumer)
        if now == produced:
            return 0
        if now != before:
            before = now
            patience = 1 + (((produced - now) & _INDEX) >> 5)
        elif reason != EBUSY:  # which is one packet further at least
            patience -= 1
            if patience == 0:
                return 0
        _complete(queue, cache)
    return 0


@cold
def _take_back(queue, count):  # type: ignore[no-untyped-def]
    """Take the last ``count`` descriptors, each a packet, out of the ring again; their bytes."""
    record = TxQueue(queue)
    total = 0
    produced = (record.produced - count) & _INDEX
    for i in range(count):
        slot = record.ring + (((produced + i) & (record.size - 1)) << 4)
        store8(record.ledger + (load64(slot) >> 11), 0)
        total += load64(slot + 8)
    record.produced = produced
    store_release32(record.producer, produced)
    return total


@cold
def _special(queue, cache, desc, produced, free):  # type: ignore[no-untyped-def]
    """A packet that is not one cell of our own: descriptors used, 0: refused and freed, -1: there is no room.

    Its length is left in the first word of ``scratch``.
    """
    record = TxQueue(queue)
    stack = Cache(cache)
    cells = stack.cells
    length = bytes_of_packet(cells, desc)
    if length < _ETHERNET or length > record.longest:
        record.errors += 1
        release_one(stack, desc)
        return 0
    needed = _count(queue, cells, desc)
    if needed > record.segments:
        copied = copy_packet(stack, desc)
        if copied == 0:
            return -1
        needed = _count(queue, cells, copied)
        if needed > free:
            release_one(stack, copied)
            return -1
        release_one(stack, desc)
        if needed > record.segments:
            record.errors += 1
            release_one(stack, copied)
            return 0
        desc = copied
    if needed > free:
        return -1
    store64(record.scratch, length)
    mask, ledger = record.size - 1, record.ledger
    more = True
    while more:
        more = (desc & CHAINED) != 0
        cell = cell_of(desc)
        slot = record.ring + ((produced & mask) << 4)
        store64(slot, (cell << 11) + offset_of(desc))
        store64(slot + 8, length_of(desc) | (CONTINUED << 32 if more else 0))
        if desc & SHARED:
            store8(ledger + cell, HELD | ((load8(ledger + cell) & MOST_SENT) + 1))
        else:
            store8(ledger + cell, 1)
        produced = (produced + 1) & _INDEX
        desc = CellHeader(header_of(cells, desc)).next
    return needed


@cold
def _count(queue, cells, desc):  # type: ignore[no-untyped-def]
    """Descriptors that a packet takes; too many if one of its cells cannot be sent: it is empty, or there too often."""
    record = TxQueue(queue)
    count = 0
    more = True
    while more and count <= record.segments:
        more = (desc & CHAINED) != 0
        length = length_of(desc)
        often = load8(record.ledger + cell_of(desc)) & MOST_SENT
        count += 1
        if length == 0 or offset_of(desc) + length > CELL or often == MOST_SENT:
            count = record.segments + 1
        desc = CellHeader(header_of(cells, desc)).next
    return count


@inline
def _complete(queue, cache):  # type: ignore[no-untyped-def]
    """Free the cells that have been sent."""
    record = TxQueue(queue)
    if load_acquire32(record.done_producer) != record.completed:
        _free(queue, cache)


@cold
def _free(queue, cache):  # type: ignore[no-untyped-def]
    record = TxQueue(queue)
    stack = Cache(cache)
    ring, mask, ledger, scratch = record.done_ring, record.done_mask, record.ledger, record.scratch
    completed = record.completed
    left = (load_acquire32(record.done_producer) - completed) & _INDEX
    while left > 0:
        many = min(left, BATCH)
        found = 0
        for i in range(many):
            cell = load64(ring + (((completed + i) & mask) << 3)) >> 11
            state = load8(ledger + cell)
            if state == 1:
                store8(ledger + cell, 0)
                store64(scratch + (found << 3), cell << 12)
                found += 1
            elif state & HELD:
                state -= 1
                store8(ledger + cell, state if state & MOST_SENT else 0)
                release_one(stack, (cell << 12) | SHARED)
        release(stack, scratch, found)
        completed = (completed + many) & _INDEX
        left -= many
    record.completed = completed
    store_release32(record.done_consumer, completed)


@kernel
def give_back(cache, cell, times, vector):  # type: ignore[no-untyped-def]
    """Control code, any thread: a cell that a closed socket had goes to the pool.

    Args:
        times: 0 for a cell of our own, else how often we are one of its holders.
        vector: room for a descriptor.
    """
    stack = Cache(cache)
    line = CellHeader(header_of(stack.cells, cell << 12))
    last = times == 0
    for _ in range(times):
        last = (fetch_add(line.address + 8, -1) & _INDEX) == 1
    if last:
        store64(vector, cell << 12)
        put_shared(stack, vector, 1)


__all__ = ["META", "give_back", "transmit", "transmit_burst"]

"""A packed virtqueue, from the device's side: a burst out of it, a burst into it.

As :mod:`wirespeed.ports.vhost.split`: runs of packets of one descriptor each, and single packets of any shape. A run
ends with the ring. The guest looks for used descriptors in order, so of a run the first is marked last, and that
publishes all of them.

Reference: virtio 1.2 section 2.8.
"""

from wirespeed.jit import (
    cold,
    inline,
    kernel,
    load64,
    load_acquire,
    prefetch,
    shift_right,
    store16,
    store64,
    store_release,
    store_release16,
)
from wirespeed.jit.entry import enter3
from wirespeed.mem.descriptor import CHAINED, META, ROOM, length_of
from wirespeed.mem.pool import Cache, release
from wirespeed.ports.queue import Queue
from wirespeed.ports.vhost.chain import SHORTEST, flatten_packed
from wirespeed.ports.vhost.copy import bring, bring_one, give
from wirespeed.ports.vhost.notify import notify_packed
from wirespeed.ports.vhost.ring import BURST, IN_ORDER, VhostRing, blame, inside, seek, words_of
from wirespeed.ports.vhost.send import NO_ROOM, SENT
from wirespeed.ports.vhost.slots import advance, is_available, mark_of, packed_available
from wirespeed.ports.vhost.split import count_all
from wirespeed.ports.virtio.vring import AVAIL, INDIRECT, NEXT, USED, WRITE

_SHAPE = NEXT | WRITE | INDIRECT
_FLAGS = 14
"""Offset of a descriptor's flags."""
_MARKS = BURST * 8
"""Offset in the words of what a run writes into used descriptors."""


@inline
def _move(record, spans):  # type: ignore[no-untyped-def]
    """So many more entries of the ring were used."""
    record.next, record.wrap = advance(record, record.next, record.wrap, spans)


@kernel
def receive_packed(ring, queue, cache, vector, room):  # type: ignore[no-untyped-def]
    """Up to ``room`` packets that the guest sent; how many."""
    record = VhostRing(ring)
    before = record.next
    packets, total, errors, buffers = 0, 0, 0, 0
    while packets < room:
        run = _readable(record, min(room - packets, BURST, record.size - record.next))
        if run > 0:
            done, made, size = bring(ring, cache, vector + (packets << 3), run)
            packets += made
            total += size
            errors += done - made
            buffers += done
            _return(record, done)
            if done < run:
                break
        elif packed_available(record, record.next, record.wrap):
            count = flatten_packed(ring, record.next, 0, 0)
            if count < 0:
                blame(record, -count)
                break
            made = bring_one(ring, cache, vector + (packets << 3), count)
            if made < 0:
                break
            if made == 0:
                errors += 1
            else:
                packets += 1
                total += record.length
            buffers += 1
            place = record.descriptors + (record.next << 4) + 8
            store_release(place, mark_of(record.buffer, 0, record.wrap, 0))
            _move(record, record.spans)
        else:
            break
    if buffers > 0:
        notify_packed(record, before, record.next)
    count_all(queue, packets, total, errors)
    return packets


@inline
def _return(record, done):  # type: ignore[no-untyped-def]
    """Mark a run of buffers that were read as used; ids and lengths are what they were."""
    if done > 0:
        first = record.descriptors + (record.next << 4)
        flags = AVAIL | USED if record.wrap != 0 else 0
        if record.mode & IN_ORDER != 0:  # the last one's id says the same of all before it (section 2.8.9)
            last = (load64(first + ((done - 1) << 4) + 8) >> 32) & 0xFFFF
            store_release(first + 8, mark_of(last, 0, record.wrap, 0))
        else:
            for i in range(1, done):
                store16(first + (i << 4) + _FLAGS, flags)
            store_release16(first + _FLAGS, flags)
        _move(record, done)


@cold
def _readable(record, most):  # type: ignore[no-untyped-def]
    """Check a run of buffers that hold one packet each, in one piece and short enough for a cell; how many."""
    table, wrap, words = record.descriptors + (record.next << 4), record.wrap, words_of(record)
    low, high, delta = record.low, record.high, record.delta
    least, largest = record.header + SHORTEST, record.header + ROOM
    for i in range(most):
        word = load_acquire(table + (i << 4) + 8)
        base = load64(table + (i << 4))
        length = word & 0xFFFF_FFFF
        wrong = not is_available(word, wrap)
        if wrong | (shift_right(word, 48) & _SHAPE != 0) | (length < least) | (length > largest):
            return i
        if not inside(low, high, base, length):
            if seek(record, base) < length:
                return i
            low, high, delta = record.low, record.high, record.delta
        prefetch(base + delta)
        prefetch(base + delta + 64)
        store64(words + (i << 3), (base + delta) | (length << 48))
    return most


@kernel
def transmit_packed(ring, queue, cache, vector, count):  # type: ignore[no-untyped-def]
    """Give the guest up to ``count`` packets, as many as it has buffers for; how many were taken."""
    record = VhostRing(ring)
    cells = Cache(cache).cells
    before = record.next
    taken, sent, total, errors = 0, 0, 0, 0
    while taken < count:
        run = _writable(record, vector + (taken << 3), min(count - taken, BURST, record.size - record.next))
        if run > 0:
            total += give(ring, cells, vector + (taken << 3), run)
            _publish(record, run)
            taken += run
            sent += run
        else:
            said = enter3(record.single, ring, cache, vector + (taken << 3))
            if said == NO_ROOM:
                break
            taken += 1
            sent += record.packets
            total += record.length
            if record.lost != 0:
                Queue(queue).dropped += record.lost
            if said != SENT:
                errors += 1
    if sent > 0:
        notify_packed(record, before, record.next)
    release(Cache(cache), vector, taken)
    count_all(queue, sent, total, errors)
    return taken


@inline
def _publish(record, run):  # type: ignore[no-untyped-def]
    """Mark a run of buffers that were written as used."""
    first, marks = record.descriptors + (record.next << 4) + 8, words_of(record) + _MARKS
    for i in range(1, run):
        store64(first + (i << 4), load64(marks + (i << 3)))
    store_release(first, load64(marks))
    _move(record, run)


@cold
def _writable(record, vector, most):  # type: ignore[no-untyped-def]
    """Check a run of packets in one cell and buffers that take one each; how many. What marks them used is noted."""
    table, wrap, words = record.descriptors + (record.next << 4), record.wrap, words_of(record)
    low, high, delta, header = record.low, record.high, record.delta, record.header
    for i in range(most):
        desc = load64(vector + (i << 3))
        word = load_acquire(table + (i << 4) + 8)
        base = load64(table + (i << 4))
        length = length_of(desc) + header
        wrong = (desc & (CHAINED | META) != 0) | (not is_available(word, wrap))
        if wrong | (shift_right(word, 48) & _SHAPE != WRITE) | (word & 0xFFFF_FFFF < length):
            return i
        if not inside(low, high, base, length):
            if seek(record, base) < length:
                return i
            low, high, delta = record.low, record.high, record.delta
        prefetch(base + delta)
        prefetch(base + delta + 64)
        store64(words + (i << 3), base + delta)
        store64(words + _MARKS + (i << 3), mark_of((word >> 32) & 0xFFFF, length, wrap, WRITE))
    return most


__all__ = ["receive_packed", "transmit_packed"]

"""A split virtqueue, from the device's side: a burst out of it, a burst into it.

Both directions alternate between *runs*, stretches of packets that are one descriptor each, checked in one pass and
copied in another (:mod:`wirespeed.ports.vhost.copy`), and single packets of any shape. Used entries are published once
a burst. Buffers are always used in the order they were made available, so one counter serves for both rings.

Reference: virtio 1.2 section 2.7.
"""

from wirespeed.jit import cold, inline, kernel, load16, load64, prefetch, store64, store_release16
from wirespeed.jit.entry import enter3
from wirespeed.mem.descriptor import CHAINED, META, ROOM, length_of
from wirespeed.mem.pool import Cache, release
from wirespeed.ports.queue import Queue, count_burst
from wirespeed.ports.vhost.chain import SHORTEST, flatten_split
from wirespeed.ports.vhost.copy import bring, bring_one, give
from wirespeed.ports.vhost.notify import notify_split
from wirespeed.ports.vhost.ring import BURST, IN_ORDER, JUMPED, VhostRing, blame, inside, seek, words_of
from wirespeed.ports.vhost.send import NO_ROOM, SENT
from wirespeed.ports.vhost.slots import RING, available, head_of, use
from wirespeed.ports.virtio.vring import WRITE


@inline
def _begin(record):  # type: ignore[no-untyped-def]
    """How many buffers there are now; 0 as well if the guest says what cannot be."""
    ready = available(record, record.next)
    if ready < 0:
        blame(record, JUMPED)
        ready = 0
    record.ready = ready
    return ready


@inline
def _publish(record, before):  # type: ignore[no-untyped-def]
    """The guest may take back what was used."""
    at = record.next
    if at != before:
        store_release16(record.device + 2, at)
        notify_split(record, before, at)


@inline
def _move(record, buffers):  # type: ignore[no-untyped-def]
    """So many more were used."""
    record.next = (record.next + buffers) & 0xFFFF
    record.ready -= buffers


@inline
def count_all(queue, packets, total, errors):  # type: ignore[no-untyped-def]
    """Count a burst in its queue's record; the packets."""
    record = Queue(queue)
    if errors != 0:
        record.errors += errors
    if packets != 0:
        count_burst(record, packets, total)


@kernel
def receive_split(ring, queue, cache, vector, room):  # type: ignore[no-untyped-def]
    """Up to ``room`` packets that the guest sent; how many."""
    record = VhostRing(ring)
    if _begin(record) == 0:
        return 0
    before = record.next
    packets, total, errors = 0, 0, 0
    while record.ready > 0 and packets < room:
        run = _readable(record, min(record.ready, room - packets, BURST))
        if run > 0:
            done, made, size = bring(ring, cache, vector + (packets << 3), run)
            packets += made
            total += size
            errors += done - made
            if done > 0 and record.mode & IN_ORDER != 0:
                last = head_of(record, record.next + done - 1)
                use(record, record.next, last, 0)  # one entry for all of them, where the first's would be (2.7.9)
            _move(record, done)
            if done < run:
                break
        else:
            head = head_of(record, record.next)
            count = flatten_split(ring, head, 0, 0)
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
            use(record, record.next, head, 0)
            _move(record, 1)
    _publish(record, before)
    count_all(queue, packets, total, errors)
    return packets


@cold
def _readable(record, most):  # type: ignore[no-untyped-def]
    """Check a run of buffers that hold one packet each, in one piece and short enough for a cell; how many."""
    at, mask, table, words = record.next, record.size - 1, record.descriptors, words_of(record)
    low, high, delta = record.low, record.high, record.delta
    heads, used = record.driver + RING, record.device + RING
    least, largest = record.header + SHORTEST, record.header + ROOM
    each = record.mode & IN_ORDER == 0
    for i in range(most):
        place = (at + i) & mask
        head = load16(heads + (place << 1))
        if head > mask:
            return i
        base = load64(table + (head << 4))
        word = load64(table + (head << 4) + 8)
        length = word & 0xFFFF_FFFF
        if ((word >> 32) & 7 != 0) | (length < least) | (length > largest):
            return i
        if not inside(low, high, base, length):
            if seek(record, base) < length:
                return i
            low, high, delta = record.low, record.high, record.delta
        prefetch(base + delta)
        prefetch(base + delta + 64)
        store64(words + (i << 3), (base + delta) | (length << 48))
        if each:
            store64(used + (place << 3), head)
    return most


@kernel
def transmit_split(ring, queue, cache, vector, count):  # type: ignore[no-untyped-def]
    """Give the guest up to ``count`` packets, as many as it has buffers for; how many were taken."""
    record = VhostRing(ring)
    if _begin(record) == 0:
        return 0
    cells = Cache(cache).cells
    before = record.next
    taken, sent, total, errors = 0, 0, 0, 0
    while taken < count and record.ready > 0:
        run = _writable(record, vector + (taken << 3), min(record.ready, count - taken, BURST))
        if run > 0:
            total += give(ring, cells, vector + (taken << 3), run)
            taken += run
            sent += run
            _move(record, run)
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
    _publish(record, before)
    release(Cache(cache), vector, taken)
    count_all(queue, sent, total, errors)
    return taken


@cold
def _writable(record, vector, most):  # type: ignore[no-untyped-def]
    """Check a run of packets in one cell and buffers that take one each; how many. Their used entries are written."""
    at, mask, table, words = record.next, record.size - 1, record.descriptors, words_of(record)
    low, high, delta = record.low, record.high, record.delta
    heads, used, header = record.driver + RING, record.device + RING, record.header
    for i in range(most):
        desc = load64(vector + (i << 3))
        place = (at + i) & mask
        head = load16(heads + (place << 1))
        if (desc & (CHAINED | META) != 0) | (head > mask):
            return i
        base = load64(table + (head << 4))
        word = load64(table + (head << 4) + 8)
        length = length_of(desc) + header
        if ((word >> 32) & 7 != WRITE) | (word & 0xFFFF_FFFF < length):
            return i
        if not inside(low, high, base, length):
            if seek(record, base) < length:
                return i
            low, high, delta = record.low, record.high, record.delta
        prefetch(base + delta)
        prefetch(base + delta + 64)
        store64(words + (i << 3), base + delta)
        store64(used + (place << 3), head | (length << 32))
    return most


__all__ = ["count_all", "receive_split", "transmit_split"]

"""The split ring as its driver works it: the short loops for plain queues, and single steps for the others.

In a plain queue (:mod:`wirespeed.ports.virtio.record`) position ``p`` of the available ring is always slot ``p``, and a
receive buffer always has the same length and flags: so giving a buffer is one store, of its address, and the lines of
the available ring's entries are never dirtied. What the device may write is loaded once, checked, then used.

Reference: virtio 1.2 section 2.7.
"""

from wirespeed.jit import inline, load32, load64, load_acquire32, store16, store64, store_release16
from wirespeed.mem.descriptor import FLAGS, address_of, length_of, offset_of
from wirespeed.mem.pool import taken
from wirespeed.ports.virtio.record import (
    HEADER,
    IN_ORDER,
    JUMPED,
    LEAST_OFFSET,
    LONGEST,
    SHORTEST,
    blame,
    clear,
    generalize,
    is_odd,
    oddities,
)


@inline
def waiting(record):  # type: ignore[no-untyped-def]
    """Buffers that the device has used and we have not seen; -1 if it says more than it has."""
    count = ((load_acquire32(record.device) >> 16) - record.seen) & 0xFFFF
    if count > record.offered - record.seen:
        blame(record.address, JUMPED)
        return -1
    return count


@inline
def peek(record, ahead):  # type: ignore[no-untyped-def]
    """Slot and length of the used buffer ``ahead`` of the next one; slot -1 if there is none yet."""
    slot, length = -1, 0
    if ahead < waiting(record):
        word = load64(record.device + 4 + (((record.seen + ahead) & (record.size - 1)) << 3))
        slot, length = word & 0xFFFF_FFFF, (word >> 32) & 0xFFFF_FFFF
    return slot, length


# Plain queues --------------------------------------------------------------------------------------------


@inline
def receive_run(record, cells, vector, room):  # type: ignore[no-untyped-def]
    """Packets of one buffer each, in order, with nothing said in their headers; stops before the first other one."""
    count = min(waiting(record), room)
    mask = record.size - 1
    held, ring = record.held, record.device + 4
    first = record.taken
    odd = oddities(record)
    total = 0
    got = 0
    while got < count:
        slot = (first + got) & mask
        word = load64(ring + (slot << 3))
        length = ((word >> 32) & 0xFFFF_FFFF) - HEADER
        desc = load64(held + (slot << 3))
        if (word & 0xFFFF_FFFF) != slot or length < SHORTEST or length > LONGEST:
            break
        if odd != 0 and is_odd(address_of(cells, desc), odd):
            break
        store64(vector + (got << 3), desc | (length << 48))
        total += length
        got += 1
    record.taken = first + got
    record.seen += got
    record.bytes += total
    return got


@inline
def post_run(record, stack, got):  # type: ignore[no-untyped-def]
    """Give the ``got`` cells just taken to the device."""
    source = taken(stack, got)
    cells = stack.cells
    mask = record.size - 1
    held, table = record.held, record.descriptors
    first = record.given
    for i in range(got):
        slot = (first + i) & mask
        desc = load64(source - (i << 3))
        store64(table + (slot << 4), address_of(cells, desc) - HEADER)
        store64(held + (slot << 3), desc)
    record.given = first + got
    record.offered += got
    store_release16(record.driver + 2, record.offered)


@inline
def transmit_run(record, cells, vector, room):  # type: ignore[no-untyped-def]
    """Packets of one cell with room for the header and nothing to say in it; stops before the first other one."""
    mask = record.size - 1
    held, table = record.held, record.descriptors
    first = record.given
    total = 0
    sent = 0
    while sent < room:
        desc = load64(vector + (sent << 3))
        if desc & FLAGS or offset_of(desc) < LEAST_OFFSET:
            break
        slot = (first + sent) & mask
        length = length_of(desc)
        header = address_of(cells, desc) - HEADER
        clear(header)
        store64(table + (slot << 4), header)
        store64(table + (slot << 4) + 8, length + HEADER)
        store64(held + (slot << 3), desc)
        total += length
        sent += 1
    record.given = first + sent
    record.offered += sent
    record.bytes += total
    return sent


@inline
def publish(record):  # type: ignore[no-untyped-def]
    """Make visible what was written since."""
    store_release16(record.driver + 2, record.offered)


@inline
def used_run(record, most):  # type: ignore[no-untyped-def]
    """Transmitted buffers that are back in order, at most ``most``."""
    count = min(waiting(record), most)
    if record.mode & IN_ORDER:
        return max(count, 0)  # section 2.7.9: only the last of a batch need be written down
    mask = record.size - 1
    ring = record.device + 4
    first = record.taken
    back = 0
    while back < count and load32(ring + (((first + back) & mask) << 3)) == (first + back) & mask:
        back += 1
    if back == 0 and count > 0:
        generalize(record.address)
    return back


# General queues ------------------------------------------------------------------------------------------


@inline
def give(record, slot, base, word, following):  # type: ignore[no-untyped-def]
    """Fill in a slot's descriptor; ``word`` is its length and, from bit 32 on, its flags."""
    at = record.descriptors + (slot << 4)
    store64(at, base)
    store64(at + 8, word | (following << 48))


@inline
def offer(record, slot):  # type: ignore[no-untyped-def]
    """Put a chain's first slot in the available ring, and make it visible."""
    store16(record.driver + 4 + ((record.offered & (record.size - 1)) << 1), slot)
    record.offered += 1
    store_release16(record.driver + 2, record.offered)


__all__ = [
    "give", "offer", "peek", "post_run", "publish", "receive_run", "transmit_run", "used_run",
    "waiting",
]  # fmt: skip

"""The packed ring as its driver works it: the short loops for plain queues, and single steps for the others.

Both sides write the same descriptors in turns; two bits of ``flags`` and the lap say whose turn it is. The second half
of a descriptor (length, id, flags) is one 64-bit word, loaded once and stored last; of a burst, the first descriptor's
is stored last of all, so that the device finds the whole burst and not its beginning.

Reference: virtio 1.2 section 2.8.
"""

from wirespeed.jit import inline, load64, load_acquire, store64, store_release
from wirespeed.mem.descriptor import FLAGS, ROOM, address_of, length_of, offset_of
from wirespeed.mem.pool import taken
from wirespeed.ports.virtio.record import (
    DISORDER,
    HEADER,
    IN_ORDER,
    LEAST_OFFSET,
    LONGEST,
    SHORTEST,
    blame,
    clear,
    generalize,
    is_odd,
    oddities,
)
from wirespeed.ports.virtio.vring import AVAIL, USED, WRITE

_ID_AND_TURN: int = (USED | AVAIL) << 16 | 0xFFFF  # of a word's upper half


@inline
def available(record, position):  # type: ignore[no-untyped-def]
    """Flags that make a descriptor available in the lap that ``position`` is in (section 2.8.1)."""
    return USED if position & record.size else AVAIL


@inline
def used(record, position):  # type: ignore[no-untyped-def]
    """Flags of a descriptor that the device has used in that lap."""
    return 0 if position & record.size else USED | AVAIL


@inline
def peek(record, ahead):  # type: ignore[no-untyped-def]
    """Id and length of the used descriptor ``ahead`` of the next one; id -1 if there is none yet."""
    position = record.taken + ahead
    slot, length = -1, 0
    if position < record.given:
        word = load_acquire(record.descriptors + ((position & (record.size - 1)) << 4) + 8)
        if (word >> 48) & (USED | AVAIL) == used(record, position):
            slot, length = (word >> 32) & 0xFFFF, word & 0xFFFF_FFFF
    return slot, length


# Plain queues --------------------------------------------------------------------------------------------


@inline
def receive_run(record, cells, vector, room):  # type: ignore[no-untyped-def]
    """Packets of one buffer each, in order, with nothing said in their headers; stops before the first other one."""
    mask = record.size - 1
    held, ring = record.held, record.descriptors + 8
    first = record.taken
    count = min(record.given - first, room)
    odd = oddities(record)
    total = 0
    got = 0
    while got < count:
        slot = (first + got) & mask
        word = load_acquire(ring + (slot << 4))
        length = (word & 0xFFFF_FFFF) - HEADER
        desc = load64(held + (slot << 3))
        if (word >> 32) & _ID_AND_TURN != slot | (used(record, first + got) << 16):
            break
        if length < SHORTEST or length > LONGEST:
            break
        if odd != 0 and is_odd(address_of(cells, desc), odd):
            break
        store64(vector + (got << 3), desc | (length << 48))
        total += length
        got += 1
    record.taken = first + got
    record.bytes += total
    return got


@inline
def post_run(record, stack, got):  # type: ignore[no-untyped-def]
    """Give the ``got`` cells just taken to the device, the first one last."""
    source = taken(stack, got)
    cells = stack.cells
    mask = record.size - 1
    held, ring = record.held, record.descriptors
    first = record.given
    for i in range(got - 1, -1, -1):
        slot = (first + i) & mask
        desc = load64(source - (i << 3))
        store64(held + (slot << 3), desc)
        store64(ring + (slot << 4), address_of(cells, desc) - HEADER)
        word = ROOM | (slot << 32) | ((available(record, first + i) | WRITE) << 48)
        store_release(ring + (slot << 4) + 8, word)
    record.given = first + got


@inline
def transmit_run(record, cells, vector, room):  # type: ignore[no-untyped-def]
    """Packets of one cell with room for the header and nothing to say in it; stops before the first other one."""
    mask = record.size - 1
    held, ring = record.held, record.descriptors
    first = record.given
    total = 0
    sent = 0
    lead = 0
    while sent < room:
        desc = load64(vector + (sent << 3))
        if desc & FLAGS or offset_of(desc) < LEAST_OFFSET:
            break
        slot = (first + sent) & mask
        length = length_of(desc)
        header = address_of(cells, desc) - HEADER
        clear(header)
        store64(held + (slot << 3), desc)
        store64(ring + (slot << 4), header)
        word = (length + HEADER) | (slot << 32) | (available(record, first + sent) << 48)
        if sent == 0:
            lead = word
        else:
            store_release(ring + (slot << 4) + 8, word)
        total += length
        sent += 1
    if sent:
        store_release(ring + ((first & mask) << 4) + 8, lead)
    record.given = first + sent
    record.bytes += total
    return sent


@inline
def used_run(record, most):  # type: ignore[no-untyped-def]
    """Transmitted buffers that are back in order, at most ``most``; a device that agreed to order skips (2.8.11)."""
    mask = record.size - 1
    first = record.taken
    limit = min(record.given - first, most)
    in_order = record.mode & IN_ORDER
    back = 0
    more = True
    while more and back < limit:
        position = first + back
        word = load_acquire(record.descriptors + ((position & mask) << 4) + 8)
        slot = (word >> 32) & 0xFFFF
        more = (word >> 48) & (USED | AVAIL) == used(record, position)
        if more and slot == position & mask:
            back += 1
        elif more and in_order and in_flight(record, position, slot):
            back += ((slot - position) & mask) + 1
        elif more:
            more = False
            if in_order:
                blame(record.address, DISORDER)
            elif back == 0:
                generalize(record.address)
    return back


@inline
def in_flight(record, position, slot):  # type: ignore[no-untyped-def]
    """Whether the device has all from ``position`` to the position whose number ``slot`` is, as in order it must."""
    return slot < record.size and ((slot - position) & (record.size - 1)) < record.given - position


# General queues ------------------------------------------------------------------------------------------


@inline
def give(record, position, slot, base, word):  # type: ignore[no-untyped-def]
    """Make the descriptor at a position available; ``word`` is its length and, from bit 32 on, its flags."""
    flags = (word >> 32) | available(record, position)
    at = record.descriptors + ((position & (record.size - 1)) << 4)
    store64(at, base)
    store_release(at + 8, (word & 0xFFFF_FFFF) | (slot << 32) | (flags << 48))


__all__ = ["available", "give", "in_flight", "peek", "post_run", "receive_run", "transmit_run", "used", "used_run"]

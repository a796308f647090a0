"""One packet at a time: what the short loops leave over.

Received: packets in several buffers, offloads in their header, buffers that came back out of their turn, and whatever a
device should not have done. Transmitted: chains, shared cells, offloads, packets with no headroom left. Here every
step works for both layouts, plain queues and general ones (:mod:`wirespeed.ports.virtio.record`).

A transmitted packet is described in its slot's table first: its virtio-net header, in the headroom if that is ours,
then its segments. The table becomes one indirect descriptor, or a chain in the ring where there are no indirect ones.

References: virtio 1.2 sections 2.7.5.3, 2.8.7 (indirect descriptors), 5.1.6 (network device operation).
"""

from wirespeed.jit import cold, inline, load16, load32, load64, store16, store32, store64
from wirespeed.mem.buffer import LONGEST as LONGEST_PACKET
from wirespeed.mem.descriptor import (
    CHAINED,
    META,
    NEEDS_CHECKSUM,
    ROOM,
    SHARED,
    CellHeader,
    address_of,
    header_of,
    length_of,
    offset_of,
)
from wirespeed.mem.pool import Cache, taken
from wirespeed.mem.pool_cache import release_one
from wirespeed.ports.scatter import ENTRIES
from wirespeed.ports.virtio import packed, split
from wirespeed.ports.virtio.net import HOSTILE, load_offloads, store_offloads
from wirespeed.ports.virtio.record import (
    CHECKSUM,
    DISORDER,
    HEADER,
    IN_ORDER,
    INDIRECT_TABLES,
    LEAST_OFFSET,
    LENGTH,
    MERGE,
    NOT_HELD,
    OFFLOADS,
    PACKED,
    SEGMENTATION,
    SHORTEST,
    SPREAD,
    UNKNOWN,
    VirtioQueue,
    blame,
    generalize,
    held_at,
    scratch_of,
    table_of,
)
from wirespeed.ports.virtio.vring import INDIRECT, NEXT, WRITE

REFUSED: int = -1
"""A packet that was counted as an error and is gone."""


@inline
def peek(record, ahead):  # type: ignore[no-untyped-def]
    """Slot and length of the used buffer ``ahead`` of the next one; slot -1 if there is none yet."""
    if record.mode & PACKED:
        return packed.peek(record, ahead)
    return split.peek(record, ahead)


@inline
def next_slot(record):  # type: ignore[no-untyped-def]
    """The slot that is given next."""
    at = record.given & (record.size - 1)
    if record.plain == 0:
        at = load16(record.order + (at << 1))
    return at


@cold
def _claim(queue, slot):  # type: ignore[no-untyped-def]
    """Take a buffer back from the device, who says which; its descriptor, 0 if the device does not have it."""
    record = VirtioQueue(queue)
    mask = record.size - 1
    if slot > mask:
        blame(queue, UNKNOWN)
        return 0
    if record.plain and slot != record.taken & mask:
        if record.mode & IN_ORDER:
            blame(queue, DISORDER)
            return 0
        generalize(queue)
    desc = held_at(record, slot)
    if desc == 0:
        blame(queue, NOT_HELD)
        return 0
    record.seen += 1
    if record.plain:
        record.taken += 1
        return desc
    store64(record.held + (slot << 3), 0)
    for _ in range(load16(record.spans + (slot << 1))):
        store16(record.order + ((record.taken & mask) << 1), slot)
        record.taken += 1
        slot = load16(record.following + (slot << 1))
    return desc


# Receiving -----------------------------------------------------------------------------------------------


@cold
def receive_one(queue, cache):  # type: ignore[no-untyped-def]
    """The next packet's descriptor, whatever it is like; 0 if none is whole yet, REFUSED."""
    record = VirtioQueue(queue)
    cells = Cache(cache).cells
    slot, length = peek(record, 0)
    if slot < 0 or record.fault != 0:
        return 0
    if slot >= record.size:
        blame(queue, UNKNOWN)
        return 0
    header = scratch_of(record)
    buffers = 1
    if held_at(record, slot) != 0 and record.mode & (MERGE | OFFLOADS) != 0:
        theirs = address_of(cells, held_at(record, slot)) - HEADER
        store64(header, load64(theirs))
        store32(header + 8, load32(theirs + 8))
        if record.mode & MERGE:
            buffers = load16(header + 10)
    if buffers == 0 or buffers > ENTRIES:
        blame(queue, SPREAD)
        return 0
    if buffers > 1:
        last, _ = peek(record, buffers - 1)
        if last < 0:
            return 0
    desc = _gather(queue, cache, slot, length, buffers)
    if desc == 0:
        return 0
    whole = length_of(desc)
    if buffers > 1:
        whole = CellHeader(header_of(cells, desc)).length
        record.merged += 1
    meta = 0
    if record.mode & OFFLOADS:
        meta = load_offloads(header, header_of(cells, desc), address_of(cells, desc), length_of(desc), 0)
    if meta == HOSTILE or length_of(desc) < SHORTEST or whole > LONGEST_PACKET:
        record.errors += 1
        release_one(Cache(cache), desc)
        return REFUSED
    record.bytes += whole
    return desc | meta


@cold
def _gather(queue, cache, slot, length, buffers):  # type: ignore[no-untyped-def]
    """Claim a packet's buffers and chain their cells; 0 if the device lied about one."""
    record = VirtioQueue(queue)
    cells = Cache(cache).cells
    first, whole = 0, -HEADER
    last, place = 0, 0  # the descriptor of the chain's last cell, and the header line that holds it; 0: it is the first
    for number in range(buffers):
        if number > 0:
            slot, length = peek(record, 0)
        desc = 0
        if slot >= 0:
            desc = _claim(queue, slot)
        least = HEADER if number == 0 else 1
        if desc != 0 and (length < least or length > ROOM):
            blame(queue, LENGTH)
            release_one(Cache(cache), desc)
            desc = 0
        if desc == 0:
            if number > 0:
                release_one(Cache(cache), first)
            return 0
        whole += length
        if number == 0:
            first = last = desc | ((length - HEADER) << 48)
        else:
            if place == 0:
                first |= CHAINED
            else:
                store64(place, last | CHAINED)
            place = header_of(cells, last)
            last = (desc - HEADER) | (length << 48)
            store64(place, last)
    CellHeader(header_of(cells, first)).length = whole
    return first


@cold
def post_general(queue, cache, got):  # type: ignore[no-untyped-def]
    """Give the ``got`` cells just taken to the device, of a queue that is not plain."""
    record = VirtioQueue(queue)
    stack = Cache(cache)
    source = taken(stack, got)
    for i in range(got):
        slot = next_slot(record)
        desc = load64(source - (i << 3))
        store64(record.held + (slot << 3), desc)
        give(record, record.given, slot, address_of(stack.cells, desc) - HEADER, ROOM | (WRITE << 32), 0)
        record.given += 1
        if record.mode & PACKED == 0:
            split.offer(record, slot)


# Transmitting --------------------------------------------------------------------------------------------


@cold
def give(record, position, slot, base, word, following):  # type: ignore[no-untyped-def]
    """Fill in a descriptor: address, then length and flags, and the next slot of a split ring's chain."""
    if record.mode & PACKED:
        packed.give(record, position, slot, base, word)
    else:
        split.give(record, slot, base, word, following)


@cold
def transmit_one(queue, cells, desc):  # type: ignore[no-untyped-def]
    """Send any packet: 1, or 0 if there is no room for it now; REFUSED, and it stays the caller's, if it cannot be."""
    record = VirtioQueue(queue)
    slot = next_slot(record)
    entries = _describe(record, cells, desc, slot)
    if entries == 0:
        return REFUSED
    table = table_of(record, slot)
    needed = 1
    base, word = load64(table), load64(table + 8) & 0xFFFF_FFFF
    if entries > 1:
        if record.mode & INDIRECT_TABLES:
            base, word = table, (entries << 4) | (INDIRECT << 32)
        else:
            needed = entries
    if needed > record.size:
        return REFUSED
    if needed > record.size - (record.given - record.taken):
        return 0
    if needed > 1:
        if record.plain:
            generalize(queue)
        _give_chain(record, table, slot, needed)
    else:
        give(record, record.given, slot, base, word, 0)
        record.given += 1
    if record.plain == 0:
        store16(record.spans + (slot << 1), needed)
    store64(record.held + (slot << 3), desc)
    if record.mode & PACKED == 0:
        split.offer(record, slot)
    record.bytes += _bytes_of(cells, desc)
    return 1


@inline
def _bytes_of(cells, desc):  # type: ignore[no-untyped-def]
    return CellHeader(header_of(cells, desc)).length if desc & CHAINED else length_of(desc)


@cold
def _give_chain(record, table, head, entries):  # type: ignore[no-untyped-def]
    """Copy a table into the ring, from its end, so that the first entry becomes available last."""
    mask = record.size - 1
    first = record.given
    following = 0
    for number in range(entries - 1, -1, -1):
        slot = load16(record.order + (((first + number) & mask) << 1))
        length = load32(table + (number << 4) + 8)
        flags = NEXT if number < entries - 1 else 0
        name = head if record.mode & PACKED else slot  # the buffer's id, or the entry's place
        give(record, first + number, name, load64(table + (number << 4)), length | (flags << 32), following)
        store16(record.following + (slot << 1), following)
        following = slot
    record.given = first + entries


@cold
def _describe(record, cells, desc, slot):  # type: ignore[no-untyped-def]
    """Write a packet's header, and its table; how many entries that has, 0 if the packet cannot be sent."""
    table = table_of(record, slot)
    data = address_of(cells, desc)
    header = data - HEADER
    own = offset_of(desc) >= LEAST_OFFSET and desc & SHARED == 0
    if not own:  # no room, or what is before the data may be another holder's
        header = record.headers + (slot << 4)
    store64(header, 0)
    store32(header + 8, 0)
    if desc & META:
        line = CellHeader(header_of(cells, desc))
        if line.checksum_state == NEEDS_CHECKSUM and record.mode & CHECKSUM == 0:
            return 0
        if line.gso_size != 0 and record.mode & SEGMENTATION == 0:
            return 0
        store_offloads(line.address, header)
    if own:
        _entry(record, table, 0, header, length_of(desc) + HEADER)
        entries = 1
    else:
        _entry(record, table, 0, header, HEADER)
        _entry(record, table, 1, data, length_of(desc))
        entries = 2
    while desc & CHAINED:
        if entries == ENTRIES:
            return 0
        desc = CellHeader(header_of(cells, desc)).next
        _entry(record, table, entries, address_of(cells, desc), length_of(desc))
        entries += 1
    if record.mode & PACKED == 0:
        store32(table + ((entries - 1) << 4) + 12, 0)  # the last one has no next
    return entries


@inline
def _entry(record, table, number, base, length):  # type: ignore[no-untyped-def]
    """An entry of a table. Those of a packed ring follow each other and have no flags (section 2.8.7)."""
    at = table + (number << 4)
    store64(at, base)
    store64(at + 8, length)
    if record.mode & PACKED == 0:
        store32(at + 12, NEXT | ((number + 1) << 16))


@cold
def complete_general(queue, cache, most):  # type: ignore[no-untyped-def]
    """Free what the device has sent, of a queue that is not plain; at most ``most`` packets and a batch."""
    record = VirtioQueue(queue)
    back = 0
    while back < most and record.fault == 0:
        last, _ = peek(record, 0)
        if last < 0:
            break
        slot = last
        if record.mode & IN_ORDER:  # what comes next is known; of a batch only the last one was written down
            slot = record.taken & (record.size - 1)
            if record.mode & PACKED == 0:
                last = slot
            if not packed.in_flight(record, record.taken, last):
                blame(queue, DISORDER)
                break
        more = True
        while more:
            desc = _claim(queue, slot)
            more = desc != 0 and slot != last
            if desc != 0:
                release_one(Cache(cache), desc)
                back += 1
            slot = record.taken & (record.size - 1)


__all__ = ["REFUSED", "complete_general", "next_slot", "peek", "post_general", "receive_one", "transmit_one"]

"""One packet in the guest's memory, in as many pieces as the guest likes: chains of descriptors, flattened and copied.

This is the general way, a packet at a time. Packets of one descriptor and one cell, nearly all of them, go the short
way of :mod:`wirespeed.ports.vhost.copy`.

``flatten_*`` walk a chain once and leave its pieces in the ring's own memory; from there on nothing the guest changes
matters. :func:`gather` and :func:`scatter` copy between the pieces and a packet's cells.

References: virtio 1.2 sections 2.7.5.3 (indirect descriptors), 2.8.6 (chaining in packed rings), 5.1.6.
"""

from wirespeed.jit import cold, copy, inline, load64, shift_right, store16, store64
from wirespeed.mem.descriptor import CHAINED, META, ROOM, CellHeader, address_of, blank, header_of, length_of
from wirespeed.ports.scatter import SEGMENTS, assemble
from wirespeed.ports.vhost.ring import (
    CHAIN,
    DIRECTION,
    ENDLESS,
    INDEX,
    INDIRECT_TABLES,
    INDIRECTION,
    OUTSIDE,
    VhostRing,
    append,
    locate,
    pieces_of,
    scratch_of,
)
from wirespeed.ports.virtio.net import store_offloads
from wirespeed.ports.virtio.vring import INDIRECT, NEXT, WRITE

LONGEST: int = 65535 + 14 + 8
"""Bytes of the largest packet a guest may send: 65,535 bytes of IP, an Ethernet header and tags."""
SHORTEST: int = 14
"""Bytes of the smallest: an Ethernet header."""

_WIDEST = 32768  # entries of a table of indirect descriptors


@inline
def _flags(word):  # type: ignore[no-untyped-def]
    """The flags of a split descriptor, from its second word."""
    return (word >> 32) & 0xFFFF


@cold
def flatten_split(ring, head, count, writable):  # type: ignore[no-untyped-def]
    """Note the pieces of the chain that begins at descriptor ``head``.

    Args:
        count: pieces noted before.
        writable: WRITE for buffers that we write, 0 for those that we read.

    Returns:
        Pieces noted now; or minus the fault.
    """
    record = VhostRing(ring)
    table, entries, index, direct = record.descriptors, record.size, head, 1
    for _ in range(CHAIN):
        if index >= entries:
            return -INDEX
        at = table + (index << 4)
        base = load64(at)
        word = load64(at + 8)
        flags = _flags(word)
        length = word & 0xFFFF_FFFF
        if flags & INDIRECT != 0:
            entries = length >> 4
            table = 0
            if direct == 1 and flags & NEXT == 0 and record.mode & INDIRECT_TABLES != 0 and length & 15 == 0:
                if 0 < entries <= _WIDEST:
                    table = locate(record, base, length)
                    if table == 0:
                        return -OUTSIDE
            if table == 0:
                return -INDIRECTION
            direct, index = 0, 0
        else:
            if flags & WRITE != writable:
                return -DIRECTION
            count = append(record, count, base, length)
            if count < 0 or flags & NEXT == 0:
                return count
            index = shift_right(word, 48)
    return -ENDLESS


@cold
def flatten_packed(ring, position, count, writable):  # type: ignore[no-untyped-def]
    """:func:`flatten_split` for a packed ring: the chain that begins at ``position``, known to be available.

    ``record.spans`` and ``record.buffer`` are the ring entries it takes and its buffer id.
    """
    record = VhostRing(ring)
    table, entries = record.descriptors, record.size
    for number in range(min(CHAIN, entries)):
        at = table + (position << 4)
        base = load64(at)
        word = load64(at + 8)
        flags = shift_right(word, 48)
        length = word & 0xFFFF_FFFF
        record.buffer = (word >> 32) & 0xFFFF
        record.spans = number + 1
        if flags & INDIRECT != 0:
            if number > 0 or flags & NEXT != 0:
                return -INDIRECTION
            return _flatten_table(record, count, base, length, writable)
        if flags & WRITE != writable:
            return -DIRECTION
        count = append(record, count, base, length)
        if count < 0 or flags & NEXT == 0:
            return count
        position += 1
        if position == entries:
            position = 0
    return -ENDLESS


@cold
def _flatten_table(record, count, base, length, writable):  # type: ignore[no-untyped-def]
    """A packed ring's table of indirect descriptors: all of its entries, in order (section 2.8.7)."""
    entries = length >> 4
    if record.mode & INDIRECT_TABLES == 0 or length & 15 != 0 or entries < 1 or entries > CHAIN:
        return -INDIRECTION
    table = locate(record, base, length)
    if table == 0:
        return -OUTSIDE
    for i in range(entries):
        piece = load64(table + (i << 4))
        word = load64(table + (i << 4) + 8)
        flags = shift_right(word, 48)
        if flags & INDIRECT != 0:
            return -INDIRECTION
        if flags & WRITE != writable:
            return -DIRECTION
        count = append(record, count, piece, word & 0xFFFF_FFFF)
        if count < 0:
            return count
    return count


@inline
def bytes_of_pieces(record, first, count):  # type: ignore[no-untyped-def]
    """Bytes of the pieces from number ``first`` on."""
    total = 0
    for i in range(first, count):
        total += load64(pieces_of(record) + (i << 4) + 8)
    return total


@cold
def gather(ring, count, window, cells, first):  # type: ignore[no-untyped-def]
    """Copy a packet's pieces, behind its virtio-net header, into the window's cells from number ``first`` on.

    The header is copied to the ring's scratch; ``record.length`` is the packet's length.

    Returns:
        The packet's descriptor; 0 if it is shorter or longer than a frame can be.
    """
    record = VhostRing(ring)
    pieces = pieces_of(record)
    length = bytes_of_pieces(record, 0, count) - record.header
    if length < SHORTEST or length > LONGEST:
        return 0
    skip, to, room, cell = record.header, 0, 0, first
    scratch = scratch_of(record)
    for i in range(count):
        source = load64(pieces + (i << 4))
        left = load64(pieces + (i << 4) + 8)
        if skip > 0:
            part = min(skip, left)
            copy(scratch + record.header - skip, source, part)
            skip -= part
            source += part
            left -= part
        while left > 0:
            if room == 0:
                to = address_of(cells, blank(load64(window - (cell << 3))))
                room = ROOM
                cell += 1
            part = min(left, room)
            copy(to, source, part)
            to += part
            room -= part
            source += part
            left -= part
    record.length = length
    return assemble(window, cells, first, length)


@cold
def scatter(ring, count, buffers, cells, desc):  # type: ignore[no-untyped-def]
    """Copy a virtio-net header for ``buffers`` buffers and a packet's bytes into the pieces, which have the room."""
    record = VhostRing(ring)
    pieces = pieces_of(record)
    scratch = scratch_of(record)
    store64(scratch, 0)
    store64(scratch + 8, 0)
    if desc & META != 0:
        store_offloads(header_of(cells, desc), scratch)
    store16(scratch + 10, buffers)
    source, left, first = scratch, record.header, 1
    at = 0
    to = load64(pieces)
    room = load64(pieces + 8)
    while True:
        while room == 0:
            at += 1
            if at >= count:
                return
            to = load64(pieces + (at << 4))
            room = load64(pieces + (at << 4) + 8)
        part = min(left, room)
        copy(to, source, part)
        to += part
        room -= part
        source += part
        left -= part
        while left == 0:
            if first == 1:
                first = 0
            elif desc & CHAINED == 0:
                return
            else:
                desc = CellHeader(header_of(cells, desc)).next
            source, left = address_of(cells, desc), length_of(desc)


__all__ = [
    "LONGEST", "SEGMENTS", "SHORTEST", "bytes_of_pieces", "flatten_packed", "flatten_split", "gather", "scatter",
]  # fmt: skip

"""Packets as buffers: copy, join, straighten, and what the header line says. Protocols are not looked at.

A packet is a descriptor and the cells it leads to (:mod:`wirespeed.mem.descriptor`). What DPDK calls a clone is
:func:`wirespeed.mem.pool.share` here: one more holder of the same cells. A copy has cells of its own.

Nothing raises and nothing is lost: what cannot be done (no free cell, too long, shared with others) returns 0 and the
packet is what it was. A packet is at most ``LONGEST`` bytes: 64 KiB of payload and its headers.
"""
# mypy: no-warn-return-any

from wirespeed.jit import cold, copy, inline, load64, store64
from wirespeed.mem.descriptor import (
    CELL,
    CHAINED,
    META,
    ROOM,
    SHARED,
    CellHeader,
    address_of,
    blank,
    header_of,
    length_of,
    offset_of,
    with_data,
)
from wirespeed.mem.pool_cache import release_one, take, taken, untake

LONGEST: int = 65535 + 40 + 14 + 8
"""Bytes of the largest packet: 65,535 and an IPv6 header, Ethernet, two VLAN tags."""
MOST_CELLS: int = -(-LONGEST // ROOM)

_CLEARED: int = CellHeader.timestamp.offset  # what META vouches for lies behind; before are chain and holders
_LINE: int = CellHeader.SIZE


@inline
def bytes_of_packet(cells, desc):  # type: ignore[no-untyped-def]
    """Bytes of the whole packet, over all its segments."""
    if desc & CHAINED != 0:
        return CellHeader(header_of(cells, desc)).length
    return length_of(desc)


@cold
def is_own(cells, desc):  # type: ignore[no-untyped-def]
    """Whether nobody else holds any of its cells: it may be written, cut and joined. A packet that is not shared
    itself may have had a shared one joined to it."""
    while desc & CHAINED != 0 and desc & SHARED == 0:
        desc = CellHeader(header_of(cells, desc)).next
    return desc & SHARED == 0


@inline
def describe_meta(cells, desc):  # type: ignore[no-untyped-def]
    """Make the header line say something about this packet: the descriptor with META; what was stale is zeros."""
    if desc & META == 0:
        line = header_of(cells, desc)
        for at in range(_CLEARED, _LINE, 8):
            store64(line + at, 0)
    return desc | META


@inline
def copy_meta(cells, to, source):  # type: ignore[no-untyped-def]
    """Let one packet's header line say what the other's does: the first one's descriptor from now on."""
    copy(header_of(cells, to) + _CLEARED, header_of(cells, source) + _CLEARED, _LINE - _CLEARED)
    return to | META


@cold
def chain_of(cache, length):  # type: ignore[no-untyped-def]
    """A packet of ``length`` bytes in fresh cells, chained if it takes several; 0 if they cannot be had."""
    if length < 0 or length > LONGEST:
        return 0
    count = max(1, (length + ROOM - 1) // ROOM)
    got = take(cache, count)
    if got < count:
        untake(cache, got)
        return 0
    source = taken(cache, got)
    following = 0
    size = length - (count - 1) * ROOM
    for i in range(count - 1, -1, -1):
        desc = blank(load64(source - (i << 3))) | (size << 48)
        if following != 0:
            line = CellHeader(header_of(cache.cells, desc))
            line.next = following
            line.length = length  # only the first cell's is read
            desc |= CHAINED
        following = desc
        size = ROOM
    return following


@inline
def strip(cells, desc, count):  # type: ignore[no-untyped-def]
    """Take ``count`` bytes, which lie in the first segment, off the front: the descriptor, which replaces ``desc``."""
    if desc & CHAINED != 0:
        CellHeader(header_of(cells, desc)).length -= count
    return with_data(desc, offset_of(desc) + count, length_of(desc) - count)


@inline
def seek(cells, desc, at):  # type: ignore[no-untyped-def]
    """The cell of a chain that byte ``at`` lies in, and where in it: who copies piece by piece goes on from there."""
    while at >= length_of(desc) and desc & CHAINED != 0:
        at -= length_of(desc)
        desc = CellHeader(header_of(cells, desc)).next
    return desc, at


@cold
def copy_bytes(cells, to, to_at, source, source_at, count):  # type: ignore[no-untyped-def]
    """Copy ``count`` bytes between packets, from byte ``source_at`` of one to byte ``to_at`` of the other, across their
    segments; returns how many there were room and bytes for."""
    done = 0
    while to_at >= length_of(to) and to & CHAINED != 0:
        to_at -= length_of(to)
        to = CellHeader(header_of(cells, to)).next
    while source_at >= length_of(source) and source & CHAINED != 0:
        source_at -= length_of(source)
        source = CellHeader(header_of(cells, source)).next
    while done < count:
        if to_at >= length_of(to):
            if to & CHAINED == 0:
                break
            to_at = 0
            to = CellHeader(header_of(cells, to)).next
            continue
        if source_at >= length_of(source):
            if source & CHAINED == 0:
                break
            source_at = 0
            source = CellHeader(header_of(cells, source)).next
            continue
        part = min(count - done, length_of(to) - to_at, length_of(source) - source_at)
        copy(address_of(cells, to) + to_at, address_of(cells, source) + source_at, part)
        done += part
        to_at += part
        source_at += part
    return done


@cold
def copy_packet(cache, desc):  # type: ignore[no-untyped-def]
    """A copy in cells of its own, with what the header line says; 0 if there are not enough cells."""
    cells = cache.cells
    length = bytes_of_packet(cells, desc)
    made = chain_of(cache, length)
    if made == 0:
        return 0
    copy_bytes(cells, made, 0, desc, 0, length)
    if desc & META != 0:
        made = copy_meta(cells, made, desc)
    return made


@cold
def linearise(cache, desc):  # type: ignore[no-untyped-def]
    """The same packet in one cell: its descriptor, which replaces ``desc``; 0 if it is too long or there is no cell.

    Uses the first cell if the rest fits behind it and nobody shares it, else a fresh one.
    """
    if desc & CHAINED == 0:
        return desc
    cells = cache.cells
    line = CellHeader(header_of(cells, desc))
    total = line.length
    first = length_of(desc)
    if desc & SHARED == 0 and offset_of(desc) + total <= CELL:
        rest = line.next
        whole = with_data(desc & ~CHAINED, offset_of(desc), total)
        copy_bytes(cells, whole, first, rest, 0, total - first)
        release_one(cache, rest)
        return whole
    if total > ROOM:
        return 0
    made = copy_packet(cache, desc)
    if made != 0:
        release_one(cache, desc)
    return made


@cold
def join(cells, first, second):  # type: ignore[no-untyped-def]
    """One packet of two, the second's bytes behind the first's; 0 if that is too long, or somebody shares the first.

    What the header line says of the second is forgotten.
    """
    total = bytes_of_packet(cells, first) + bytes_of_packet(cells, second)
    if total > LONGEST:
        return 0
    at, above = first, 0
    while True:
        if at & SHARED != 0:
            return 0
        if at & CHAINED == 0:
            break
        above = header_of(cells, at)
        at = CellHeader(above).next
    CellHeader(header_of(cells, at)).next = second
    if above != 0:
        CellHeader(above).next = at | CHAINED
    CellHeader(header_of(cells, first)).length = total
    return first | CHAINED


@cold
def cut(cache, desc, count):  # type: ignore[no-untyped-def]
    """Take ``count`` bytes off the end, freeing the cells that become empty: the packet's descriptor, which replaces
    ``desc``; 0 if it is shorter than that, or chained and shared."""
    cells = cache.cells
    left = bytes_of_packet(cells, desc) - count
    if count < 0 or left < 0:
        return 0
    if desc & CHAINED == 0:
        return with_data(desc, offset_of(desc), left)
    at = desc
    while at & CHAINED != 0:
        if at & SHARED != 0:
            return 0
        at = CellHeader(header_of(cells, at)).next
    at, above, room = desc, 0, left
    while room > length_of(at):
        room -= length_of(at)
        above = header_of(cells, at)
        at = CellHeader(above).next
    if at & CHAINED != 0:
        release_one(cache, CellHeader(header_of(cells, at)).next)
    last = with_data(at & ~CHAINED, offset_of(at), room)
    if above == 0:
        return last
    CellHeader(above).next = last
    CellHeader(header_of(cells, desc)).length = left
    return desc

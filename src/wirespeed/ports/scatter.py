"""Packets over several cells, and the vectors (struct iovec) by which the kernel reads and writes them.

A receive call takes a *window* of cells from its worker's pool and uses them from the front; what is left
at the end goes back at once (``untake``), so that a queue holds no cell between calls. A packet of up to 64
KiB can come next at any time, so the vector of a read always covers ``SEGMENTS`` cells. It is built once
for the window and then moves along: entry ``i + 1`` is cell ``i`` of the window, and the entry before a
packet's first cell, which the packet before has used up, becomes that packet's virtio-net header.

::

    entry     0        1       2       3       4          the next packet, if this one took 2 cells:
            header   cell 0  cell 1  cell 2  cell 3 ...                     header   cell 2  cell 3 ...
"""

from wirespeed.jit import View, cold, copy, inline, le64, load64
from wirespeed.mem.descriptor import (
    CHAINED,
    META,
    ROOM,
    CellHeader,
    address_of,
    blank,
    header_of,
    length_of,
)
from wirespeed.ports.virtio.net import HEADER_BYTES, store_offloads

SEGMENTS: int = -(-(65535 + 14 + 8) // ROOM)
"""Cells of the largest packet: 65,535 bytes of IP, an Ethernet header and tags."""
ENTRIES: int = 64
"""Entries that a packet to be sent may take: nodes may have put cells before those it came in."""
VECTORS: int = 2048
"""Entries of a queue's vector."""


class Iovec(View):
    """struct iovec: where, and how many bytes."""

    base = le64(0)
    size = le64(8)
    SIZE = 16


# Receiving ---------------------------------------------------------------------------------------------


@inline
def arm(vector, window, cells, first, last):  # type: ignore[no-untyped-def]
    """Point the entries of cells ``first`` to ``last`` of the window at their data.

    Args:
        vector: address of the entries.
        window: what ``taken`` returned: the first cell's descriptor; each next one lies 8 bytes below.
        cells: address of cell 0.
    """
    for i in range(first, last):
        entry = Iovec(vector + ((i + 1) << 4))
        entry.base = address_of(cells, load64(window - (i << 3)))
        entry.size = ROOM


@inline
def aim(vector, first, header):  # type: ignore[no-untyped-def]
    """Make a read into the window from cell ``first`` on put the virtio-net header at ``header``."""
    entry = Iovec(vector + (first << 4))
    entry.base = header
    entry.size = HEADER_BYTES
    return entry.address


@inline
def cells_for(length):  # type: ignore[no-untyped-def]
    """Cells that a frame of ``length`` bytes takes; at least one."""
    return max(1, (length + ROOM - 1) // ROOM)


@inline
def assemble(window, cells, first, length):  # type: ignore[no-untyped-def]
    """The descriptor of the packet of ``length`` bytes whose data is in the window from cell ``first`` on."""
    if length <= ROOM:
        return blank(load64(window - (first << 3))) | (length << 48)
    return _chain(window, cells, first, length)


@cold
def _chain(window, cells, first, length):  # type: ignore[no-untyped-def]
    count = cells_for(length)
    following = 0
    size = length - (count - 1) * ROOM
    for i in range(first + count - 1, first - 1, -1):
        desc = blank(load64(window - (i << 3))) | (size << 48)
        if following:
            header = CellHeader(header_of(cells, desc))
            header.next = following
            header.length = length  # only the first cell's is read
            desc |= CHAINED
        following = desc
        size = ROOM
    return following


@inline
def copy_in(window, cells, first, source, length):  # type: ignore[no-untyped-def]
    """Copy a frame into the window's cells from ``first`` on."""
    left = length
    at = first
    while left > ROOM:
        copy(address_of(cells, load64(window - (at << 3))), source, ROOM)
        left -= ROOM
        source += ROOM
        at += 1
    copy(address_of(cells, load64(window - (at << 3))), source, left)


# Sending -----------------------------------------------------------------------------------------------


@inline
def gather(vector, cells, desc, header, blank_header):  # type: ignore[no-untyped-def]
    """Describe a packet at ``vector``: its virtio-net header, then each of its segments.

    Args:
        header: where to write the virtio-net header if the packet has META.
        blank_header: address of one that says nothing, for the others.

    Returns:
        Entries written; 0 if the packet takes more than ``ENTRIES``.
    """
    lead = Iovec(vector)
    lead.base = blank_header
    lead.size = HEADER_BYTES
    line = header_of(cells, desc)
    if desc & META:
        store_offloads(line, header)
        lead.base = header
    entry = Iovec(vector + 16)
    entry.base = address_of(cells, desc)
    entry.size = length_of(desc)
    if desc & CHAINED:
        return _gather_rest(vector, cells, desc)
    return 2


@cold
def _gather_rest(vector, cells, desc):  # type: ignore[no-untyped-def]
    entries = 2
    while desc & CHAINED:
        if entries == ENTRIES:
            return 0
        desc = CellHeader(header_of(cells, desc)).next
        entry = Iovec(vector + (entries << 4))
        entry.base = address_of(cells, desc)
        entry.size = length_of(desc)
        entries += 1
    return entries


__all__ = ["ENTRIES", "SEGMENTS", "VECTORS", "Iovec", "aim", "arm", "assemble", "cells_for", "copy_in", "gather"]

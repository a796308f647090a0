"""Bytes into fresh cells: the one copy that reading a file takes.

Short data goes in 64-byte pieces, without a call: a cell's ``ROOM`` is a whole number of them, so writing
too much stays in the cell; reading too much is guarded by the end of the source.
"""
# mypy: allow-untyped-calls, no-warn-return-any

from wirespeed.jit import cold, copy, copy64, inline, load64, store64
from wirespeed.mem.descriptor import CELL, CHAINED, META, ROOM, CellHeader, header_of
from wirespeed.mem.pool import Cache, take, taken, untake

assert ROOM % 64 == 0
assert CELL * 2 == 1 << 12


@inline
def fresh_address(cells: int, desc: int) -> int:
    """Where the data of a blank descriptor goes; :func:`address_of` with less to mask.

    A blank descriptor is ``cell << 12 | offset`` and nothing else, so half of it is ``cell * 2048`` and some
    bits below.
    """
    return cells + ((desc >> 1) & -CELL) + (desc & 0xFFF)


@inline
def copy_in(to: int, source: int, length: int, end: int) -> None:
    """Copy ``length`` (1 to ROOM) bytes to where a cell's data starts, reading nothing from ``end`` on."""
    if end - source < ((length + 63) & -64):
        copy(to, source, length)
        return
    copy64(to, source)
    at = 64
    while at < length:
        copy64(to + at, source + at)
        at += 64


@cold
def chain(stack: Cache, source: int, length: int) -> int:
    """Copy ``length`` bytes, more than ROOM, into a chain of cells; its descriptor, or 0 if cells lack."""
    cells = (length + ROOM - 1) // ROOM
    got = take(stack, cells)
    if got < cells:
        untake(stack, got)
        return 0
    vector = taken(stack, got)
    first = 0
    above = 0  # header line of the cell before
    for i in range(cells):
        desc = load64(vector - (i << 3))
        size = min(ROOM, length - i * ROOM)
        copy(fresh_address(stack.cells, desc), source + i * ROOM, size)
        whole = desc | (size << 48)
        if i < cells - 1:
            whole |= CHAINED
        if i == 0:
            first = whole
        else:
            CellHeader(above).next = whole
        above = header_of(stack.cells, desc)
    CellHeader(header_of(stack.cells, first)).length = length
    return first


@inline
def stamp(cells: int, desc: int, timestamp_ns: int) -> int:
    """Say in the header line when the packet was received, and nothing else; the descriptor."""
    header = header_of(cells, desc)
    store64(header + 16, timestamp_ns)
    for at in range(24, 64, 8):
        store64(header + at, 0)
    return desc | META

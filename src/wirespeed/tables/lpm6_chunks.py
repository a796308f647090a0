"""Chunks of memory for nodes and lists: a buddy allocator (Knowlton, "A fast storage allocator", CACM 1965).

Chunks have 2^order units of 32 bytes, order 0 to 7 (32 bytes to 4 KiB), and lie at multiples of their size. A free one
holds the numbers of the next and the one before in the list of its order; its byte in the map is 0x80 | order, every
other byte is 0. Two free halves become a whole at once, so what is freed can be used for any size again. Memory that
was never used is not touched: blocks of 4 KiB come from the frontier when no list has one.

A chunk that readers may hold goes to a ring first, and from there to the lists after a grace period.
"""
# mypy: no-warn-return-any

from wirespeed.jit import cold, inline, kernel, leading_zeros, load8, load64, store8, store64
from wirespeed.tables.lpm6_memory import FREE_HEADS, UNIT_SHIFT, Record

ORDERS: int = 8
BLOCK_UNITS: int = 1 << (ORDERS - 1)
_FREE: int = 0x80


@inline
def order_of(size: int) -> int:
    """The order of a chunk that holds ``size`` bytes (1 to 4096)."""
    return 64 - leading_zeros((size - 1) >> UNIT_SHIFT)


@inline
def _push(base: int, unit: int, order: int) -> None:
    record = Record(base)
    head = base + FREE_HEADS + (order << 3)
    chunk, after = base + (unit << UNIT_SHIFT), load64(head)
    store64(chunk, after)
    store64(chunk + 8, 0)
    if after != 0:
        store64(base + (after << UNIT_SHIFT) + 8, unit)
    store64(head, unit)
    store8(base + record.map + unit - record.units_first, _FREE | order)


@inline
def _unlink(base: int, unit: int, order: int) -> None:
    record = Record(base)
    chunk = base + (unit << UNIT_SHIFT)
    after, before = load64(chunk), load64(chunk + 8)
    if before != 0:
        store64(base + (before << UNIT_SHIFT), after)
    else:
        store64(base + FREE_HEADS + (order << 3), after)
    if after != 0:
        store64(base + (after << UNIT_SHIFT) + 8, before)
    store8(base + record.map + unit - record.units_first, 0)


@cold
def allocate(base: int, order: int) -> int:
    """The unit of a chunk with whatever was in it; 0 if there is none left."""
    record = Record(base)
    have, unit = order, 0
    while have < ORDERS:
        unit = load64(base + FREE_HEADS + (have << 3))
        if unit != 0:
            _unlink(base, unit, have)
            break
        have += 1
    if unit == 0:
        unit = record.frontier
        if unit + BLOCK_UNITS > record.units_end:
            return 0
        record.frontier = unit + BLOCK_UNITS
        have = ORDERS - 1
    while have > order:
        have -= 1
        _push(base, unit + (1 << have), have)
    record.units_used += 1 << order
    return unit


@inline
def has_block(base: int) -> bool:
    """Whether 4 KiB in one piece are left: then chunks of 4 KiB in all can be had, whatever their sizes."""
    record = Record(base)
    return load64(base + FREE_HEADS + ((ORDERS - 1) << 3)) != 0 or record.frontier + BLOCK_UNITS <= record.units_end


@cold
def release(base: int, unit: int, order: int) -> None:
    """Give a chunk back that nobody reads."""
    record = Record(base)
    record.units_used -= 1 << order
    while order < ORDERS - 1:
        buddy = unit ^ (1 << order)
        if load8(base + record.map + buddy - record.units_first) != _FREE | order:
            break
        _unlink(base, buddy, order)
        unit &= ~(1 << order)
        order += 1
    _push(base, unit, order)


@inline
def retire(base: int, unit: int, order: int, live: int) -> None:
    """Give a chunk back that readers may hold: at once if nobody reads (``live`` is 0)."""
    if live == 0:
        release(base, unit, order)
        return
    record = Record(base)
    tail = record.ring_tail
    store64(base + record.ring + ((tail & (record.ring_size - 1)) << 3), unit << 8 | order)
    record.ring_tail = tail + 1
    record.units_waiting += 1 << order


@kernel
def release_until(base: int, tail: int) -> None:
    """Give back what has been waiting since before the ring's tail was ``tail``."""
    record = Record(base)
    while record.ring_head < tail:
        what = load64(base + record.ring + ((record.ring_head & (record.ring_size - 1)) << 3))
        record.ring_head += 1
        record.units_waiting -= 1 << (what & 255)
        release(base, what >> 8, what & 255)

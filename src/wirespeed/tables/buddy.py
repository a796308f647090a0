"""A buddy allocator for what readers may still be looking at: blocks of 16 to 512 bytes of a pool in shared memory.

D. E. Knuth, TAOCP 1, 2.5: a block of 2^k units is free, in use, or split in two halves ("buddies") whose numbers
differ in one bit; two free halves become one again. So memory never crumbles beyond what is in use, a block of up to
64 bytes lies in one cache line, and allocating and freeing take at most 5 steps.

    pool       16 bytes a unit; a free block's first 8 bytes are its next and previous free block, + 1
    heap + 0   record (:class:`BuddyView`)
    heap + 256 a byte a unit: order + 1 where a free block begins, else 0
    then       4 bytes a place, a power of two of them: the ring of retired blocks, each unit << 3 | order

An update takes blocks, retires others, and then either commits or aborts, so that it happens as a whole or not::

    ring:  ... head [retired, waiting for readers] tail [retired by this update] pending ... [taken by it] head ...

Aborting frees what it took and forgets what it retired. Committed, the retired blocks wait; :func:`release` frees the
oldest after a grace period.
"""

from wirespeed.jit import View, inline, kernel, le64, load8, load32, load64, store8, store32, store64

UNIT_BYTES: int = 16
ORDERS: int = 6
LARGEST: int = 1 << (ORDERS - 1)
"""Units of the largest block."""
_HEADS, _TAGS = 128, 256


class BuddyView(View):
    """The allocator's record."""

    distance = le64(0, "bytes from the pool's start to this record")
    units = le64(8, "there are; a multiple of the largest block's")
    free = le64(16, "units that are free")
    floor = le64(24, "units that an update leaves free")
    failed = le64(32, "an allocation of this update found no block")
    ring = le64(40, "offset of the ring from this record")
    mask = le64(48, "places of the ring - 1")
    head = le64(56, "blocks ever released")
    tail = le64(64, "blocks ever retired by an update that was committed")
    pending = le64(72, "and by the present one")
    fresh = le64(80, "blocks the present one took")
    SIZE = _TAGS


def heap_bytes(units: int) -> int:
    """Bytes of the record, the tags and the ring for a pool of so many units."""
    return _TAGS + units + 4 * _places(units)


def _places(units: int) -> int:
    return 1 << (units + LARGEST - 1).bit_length()


def format_heap(heap: int, pool: int, units: int) -> None:
    """Lay out a pool that is all free, in zeroed memory."""
    view = BuddyView(heap)
    view.distance, view.units, view.free = heap - pool, units, units
    view.ring, view.mask = _TAGS + units, _places(units) - 1
    _fill(heap)


@inline
def _push(heap: int, unit: int, order: int) -> None:
    """Put a block at the head of the free blocks of its order."""
    block = heap - BuddyView(heap).distance + (unit << 4)
    first = heap + _HEADS + (order << 3)
    following = load64(first)
    store32(block, following)
    store32(block + 4, 0)
    if following:
        store32(heap - BuddyView(heap).distance + ((following - 1) << 4) + 4, unit + 1)
    store64(first, unit + 1)
    store8(heap + _TAGS + unit, order + 1)


@inline
def _unlink(heap: int, unit: int, order: int) -> None:
    pool = heap - BuddyView(heap).distance
    block = pool + (unit << 4)
    following, previous = load32(block), load32(block + 4)
    if following:
        store32(pool + ((following - 1) << 4) + 4, previous)
    if previous:
        store32(pool + ((previous - 1) << 4), following)
    else:
        store64(heap + _HEADS + (order << 3), following)
    store8(heap + _TAGS + unit, 0)


@kernel
def _fill(heap: int) -> None:
    """Free the whole pool, so that its start is taken first."""
    for unit in range(BuddyView(heap).units - LARGEST, -1, -LARGEST):
        _push(heap, unit, ORDERS - 1)


@inline
def take(heap: int, order: int) -> int:
    """The first unit of a block of 2^order units; -1 and ``failed`` if there is none."""
    view = BuddyView(heap)
    found = order
    while found < ORDERS and load64(heap + _HEADS + (found << 3)) == 0:
        found += 1
    room = view.pending - view.head + view.fresh <= view.mask
    if found == ORDERS or view.free - (1 << order) < view.floor or not room:
        view.failed = 1
        return -1
    unit = load64(heap + _HEADS + (found << 3)) - 1
    _unlink(heap, unit, found)
    while found > order:
        found -= 1
        _push(heap, unit + (1 << found), found)
    view.free -= 1 << order
    view.fresh += 1
    store32(heap + view.ring + (((view.head - view.fresh) & view.mask) << 2), unit << 3 | order)
    return int(unit)


@inline
def _give(heap: int, held: int) -> None:
    """Free a block, given as in the ring."""
    view = BuddyView(heap)
    unit, order = held >> 3, held & 7
    view.free += 1 << order
    while order < ORDERS - 1 and load8(heap + _TAGS + (unit ^ (1 << order))) == order + 1:
        _unlink(heap, unit ^ (1 << order), order)
        unit &= ~(1 << order)
        order += 1
    _push(heap, unit, order)


@inline
def retire(heap: int, unit: int, order: int) -> None:
    """Say that nothing will lead to a block once the present update is committed."""
    view = BuddyView(heap)
    if view.pending - view.head + view.fresh > view.mask:
        view.failed = 1
        return
    store32(heap + view.ring + ((view.pending & view.mask) << 2), unit << 3 | order)
    view.pending += 1


@inline
def begin(heap: int, floor: int) -> None:
    """Begin an update that leaves ``floor`` units free."""
    view = BuddyView(heap)
    view.floor = floor
    view.failed = 0


@inline
def abort(heap: int) -> None:
    """Take the present update back."""
    view = BuddyView(heap)
    while view.fresh > 0:
        held = load32(heap + view.ring + (((view.head - view.fresh) & view.mask) << 2))
        view.fresh -= 1
        _give(heap, held)
    view.pending = view.tail


@inline
def commit(heap: int) -> int:
    """The present update is published; how many blocks it retired."""
    view = BuddyView(heap)
    retired = view.pending - view.tail
    view.tail = view.pending
    view.fresh = 0
    return int(retired)


@kernel
def release(heap: int, count: int) -> None:
    """Free the ``count`` oldest of the retired blocks."""
    view = BuddyView(heap)
    for _ in range(count):
        held = load32(heap + view.ring + ((view.head & view.mask) << 2))
        view.head += 1
        _give(heap, held)

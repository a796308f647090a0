"""One worker's free cells, and how cells are taken and freed on the packet path.

A worker takes from a stack of its own, last in first out: the cell freed last is still in the processor's cache. It
goes to the ring that all share only when the stack runs dry or over, and then moves many cells at once. A stack's
memory (:class:`Cache`)::

    0      counters and the top, which the worker writes
    64     offsets and limits, which nobody writes
    128    blank descriptors, 8 bytes each, the warm end last

Two ways to use it. Drivers ``take`` cells, read their descriptors where they are and fill them in; whoever is done
with packets ``release`` s them, chains, holders and all. ``get`` and ``put`` move blank cells to and from a vector, as
rte_mempool's bulk operations do; ``get_shared`` and ``put_shared`` go to the ring directly, for a thread that has no
stack. All are O(1) and a copy; when there is no cell, that is counted and the caller gets fewer or none.

The scheme is Bonwick and Adams, "Magazines and Vmem" (USENIX 2001), with one magazine that spills and refills in part.
"""

from wirespeed.jit import (
    View,
    cold,
    copy,
    fetch_add,
    inline,
    le64,
    load64,
    load64_apart,
    move,
    store32,
    store64,
    store64_apart,
)
from wirespeed.mem.descriptor import CHAINED, FLAGS, SHARED, CellHeader, blank, cell_of, header_of
from wirespeed.sync.ring import dequeue_bulk, mc_dequeue, mp_enqueue
from wirespeed.sync.ring_sides import MULTI, mode_of

BATCH: int = 256
"""Cells moved between a worker's stack and the shared ring at once, unless said otherwise."""

LIMIT: int = 512
"""Cells above which a stack spills, unless said otherwise."""

MAX_BURST: int = 512
"""The most packets one call may take or release."""

STACK: int = 128
"""Where the descriptors begin."""

_LONGEST_CHAIN = 64
_SHARED: int = mode_of(MULTI, MULTI)


class Cache(View):
    """One worker's free cells."""

    top = le64(0, "cells on the stack")
    takes = le64(8, "calls that took cells")
    misses = le64(16, "of them, those that the stack alone could not serve")
    refilled = le64(24, "cells fetched from the shared ring")
    spilled = le64(32, "cells given back to the shared ring")
    refused = le64(40, "cells that were wanted and not there")
    to_cells = le64(64, "bytes from here to cell 0")
    to_ring = le64(72, "bytes from here to the shared ring")
    to_holders = le64(80, "bytes from here to who held each cell last; 0: nobody writes it down")
    limit = le64(88, "cells above which the stack spills")
    batch = le64(96, "cells to move at once")
    spilling = le64(104, "1 while cells may be both here and in the shared ring")
    SIZE = 128

    @property
    def cells(self) -> int:
        """Address of cell 0, in this process."""
        return self.address + self.to_cells

    @property
    def ring(self) -> int:
        """Address of the shared ring, in this process."""
        return self.address + self.to_ring


def cache_bytes(limit: int, batch: int) -> int:
    """Bytes of one stack: filled to its limit it takes another burst, and a short one takes a batch for a burst."""
    return -(-(STACK + 8 * (max(limit, batch) + MAX_BURST)) // 128) * 128


@cold
def _refill(cache, wanted):  # type: ignore[no-untyped-def]
    """Fetch a batch from the ring, or what is wanted."""
    missing = wanted - cache.top
    got = mc_dequeue(cache.ring, cache.address + STACK + cache.top * 8, max(missing, cache.batch))
    cache.misses += 1
    cache.refilled += got
    cache.top += got
    if got < missing:
        cache.refused += missing - got


@cold
def _spill(cache):  # type: ignore[no-untyped-def]
    """Give the coldest cells, those at the bottom, back to the ring until the stack is within its limit."""
    stack = cache.address + STACK
    cache.spilling = 1
    while cache.top > cache.limit:
        many = min(cache.batch, cache.top)
        mp_enqueue(cache.ring, stack, many)  # the ring has room for every cell there is
        cache.spilled += many
        cache.top -= many
        move(stack, stack + many * 8, cache.top * 8)
    cache.spilling = 0


@inline
def take(cache, wanted):  # type: ignore[no-untyped-def]
    """Take up to ``wanted`` (at most MAX_BURST) blank cells; returns how many."""
    cache.takes += 1
    if cache.top < wanted:
        _refill(cache, wanted)
    got = min(wanted, cache.top)
    cache.top -= got
    return got


@inline
def taken(cache, got):  # type: ignore[no-untyped-def]
    """Address of the first of the ``got`` descriptors just taken, the warmest; each next one is 8 bytes *below*.

    Read them before anything is released.
    """
    return cache.address + STACK + ((cache.top + got - 1) << 3)


@inline
def untake(cache, unused):  # type: ignore[no-untyped-def]
    """Put back the last ``unused`` of the cells just taken; the earlier ones must still be where they were.

    The unused ones are the coldest, those at the low end: the stack grows over them again.
    """
    cache.top += unused


@inline
def release(cache, vector, count):  # type: ignore[no-untyped-def]
    """Free the ``count`` (at most MAX_BURST) packets whose descriptors are at ``vector``, with their chains.

    One pass: cells are put on the stack as if each were a packet of its own, which counts only if that proves true.
    """
    if cache.top > cache.limit:
        _spill(cache)
    seen = 0
    to = cache.address + STACK + cache.top * 8
    for i in range(count):
        desc = load64_apart(vector + (i << 3))
        seen |= desc
        store64_apart(to + (i << 3), blank(desc))
    if seen & FLAGS:
        _release_each(cache, vector, count)
    else:
        cache.top += count


@cold
def _release_each(cache, vector, count):  # type: ignore[no-untyped-def]
    for i in range(count):
        release_one(cache, load64(vector + (i << 3)))


@cold
def release_one(cache, desc):  # type: ignore[no-untyped-def]
    """Free one packet that may be chained, shared or carry metadata."""
    more = True
    while more:
        header = CellHeader(header_of(cache.cells, desc))
        following = header.next
        more = (desc & CHAINED) != 0
        last = True
        if desc & SHARED:
            last = (fetch_add(header.address + 8, -1) & 0xFFFF_FFFF) == 1
        if last:
            if cache.top > cache.limit:
                _spill(cache)
            store64(cache.address + STACK + cache.top * 8, blank(desc))
            cache.top += 1
        desc = following


@cold
def release_shared(cache, desc, scratch):  # type: ignore[no-untyped-def]
    """:func:`release_one` by any thread at any time: the cells go to the shared ring; ``cache`` is anybody's.

    Args:
        scratch: address of 8 bytes of the caller's.
    """
    more = True
    while more:
        header = CellHeader(header_of(cache.cells, desc))
        following = header.next
        more = (desc & CHAINED) != 0
        if desc & SHARED == 0 or (fetch_add(header.address + 8, -1) & 0xFFFF_FFFF) == 1:
            store64(scratch, blank(desc))
            put_shared(cache, scratch, 1)
        desc = following


@cold
def share(cells, desc):  # type: ignore[no-untyped-def]
    """One more holder for a packet, chain and all; returns the descriptor that every holder must use from now on."""
    at = desc
    above = 0  # header of the cell before
    while True:
        header = CellHeader(header_of(cells, at))
        if at & SHARED:
            fetch_add(header.address + 8, 1)
        else:
            header.references = 2
            if above:
                CellHeader(above).next = at | SHARED
        above = header.address
        if not at & CHAINED:
            return desc | SHARED
        at = header.next


# Blank cells, in vectors -----------------------------------------------------------------------------------


@inline
def get(cache, vector, count):  # type: ignore[no-untyped-def]
    """Take up to ``count`` (at most MAX_BURST) blank cells, their descriptors written at ``vector``; how many."""
    top = cache.top - count
    if top < 0:
        return _get_rest(cache, vector, count, False)
    cache.takes += 1
    copy(vector, cache.address + STACK + top * 8, count * 8)
    cache.top = top
    return count


@inline
def get_all(cache, vector, count):  # type: ignore[no-untyped-def]
    """:func:`get` of all ``count``, or of none."""
    top = cache.top - count
    if top < 0:
        return _get_rest(cache, vector, count, True)
    cache.takes += 1
    copy(vector, cache.address + STACK + top * 8, count * 8)
    cache.top = top
    return count


@cold
def _get_rest(cache, vector, count, whole):  # type: ignore[no-untyped-def]
    got = take(cache, count)
    if whole and got < count:
        untake(cache, got)
        got = 0
    copy(vector, cache.address + STACK + cache.top * 8, got * 8)
    return got


@inline
def put(cache, vector, count):  # type: ignore[no-untyped-def]
    """Give ``count`` (at most MAX_BURST) blank cells back, as :func:`get` gave them; packets are ``release`` d."""
    if cache.top > cache.limit:
        _spill(cache)
    copy(cache.address + STACK + cache.top * 8, vector, count * 8)
    cache.top += count


@inline
def get_shared(cache, vector, count):  # type: ignore[no-untyped-def]
    """:func:`get_all` from the shared ring itself, by any thread at any time; ``cache`` is anybody's."""
    return dequeue_bulk(cache.ring, _SHARED, 8, vector, count)


@inline
def put_shared(cache, vector, count):  # type: ignore[no-untyped-def]
    """:func:`put` to the shared ring itself, by any thread at any time; ``cache`` is anybody's."""
    mp_enqueue(cache.ring, vector, count)


# Checked mode ----------------------------------------------------------------------------------------------


@cold
def hold(cache, desc, place):  # type: ignore[no-untyped-def]
    """Write down that a packet, chain and all, has come to ``place`` of the graph."""
    for _ in range(_LONGEST_CHAIN):
        store32(cache.address + cache.to_holders + (cell_of(desc) << 2), place + 1)
        if not desc & CHAINED:
            break
        desc = CellHeader(header_of(cache.cells, desc)).next


@cold
def hold_all(cache, vector, count, place):  # type: ignore[no-untyped-def]
    """:func:`hold` for a vector."""
    for i in range(count):
        hold(cache, load64(vector + (i << 3)), place)

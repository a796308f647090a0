"""The pool: who owns which cell.

Free cells are in two places: on a stack that each worker has to itself (last in, first out: the cell freed
last is still in the cache), and in a ring that all share. A worker goes to the ring only when its stack runs
dry or over, and then moves ``BATCH`` cells at once. Every cell is accounted for: when a graph has stopped,
``pool.in_use`` is 0.

One stack's memory (:class:`Cache`)::

    0      the record below
    64     blank descriptors, 8 bytes each, the warm end last
"""

from wirespeed.errors import ArenaError
from wirespeed.jit import View, cold, fetch_add, inline, kernel, le64, load64, move, store64
from wirespeed.mem.descriptor import (
    CELL,
    CHAINED,
    FLAGS,
    SHARED,
    CellHeader,
    blank,
    describe,
    header_of,
)
from wirespeed.mem.region import Region
from wirespeed.sync.ring import RingView, format_ring, mc_dequeue, mp_enqueue

BATCH: int = 256
"""Cells moved between a worker's stack and the shared ring at once."""

_STACK = 64
_LIMIT = 512  # a stack above this spills BATCH cells
MAX_BURST: int = 512
"""The most packets one call may take or release."""
_CACHE_BYTES = _STACK + 8 * (_LIMIT + MAX_BURST + BATCH)


class Cache(View):
    """One worker's free cells."""

    cells = le64(0, "address of cell 0")
    top = le64(8, "cells on the stack")
    ring = le64(16, "address of the shared ring")
    refused = le64(24, "cells that were wanted and not there")
    SIZE = 64


@cold
def _refill(cache):  # type: ignore[no-untyped-def]
    """Fetch a batch from the ring."""
    cache.top += mc_dequeue(cache.ring, cache.address + _STACK + cache.top * 8, BATCH)


@cold
def _spill(cache):  # type: ignore[no-untyped-def]
    """Give the coldest cells, those at the bottom, back to the ring until the stack is within its limit."""
    stack = cache.address + _STACK
    while cache.top > _LIMIT:
        mp_enqueue(cache.ring, stack, BATCH)  # the ring has room for every cell there is
        cache.top -= BATCH
        move(stack, stack + BATCH * 8, cache.top * 8)


@inline
def take(cache, wanted):  # type: ignore[no-untyped-def]
    """Take up to ``wanted`` (at most MAX_BURST) blank cells; returns how many."""
    if cache.top < wanted:
        _refill(cache)
        if cache.top < wanted:
            _refill(cache)
    got = min(wanted, cache.top)
    cache.refused += wanted - got
    cache.top -= got
    return got


@inline
def taken(cache, got):  # type: ignore[no-untyped-def]
    """Address of the first of the ``got`` descriptors just taken, the warmest; each next one is 8 bytes *below*.

    Read them before anything is released.
    """
    return cache.address + _STACK + ((cache.top + got - 1) << 3)


@inline
def untake(cache, unused):  # type: ignore[no-untyped-def]
    """Put back the last ``unused`` of the cells just taken; the earlier ones must still be where they were.

    The unused ones are the coldest, those at the low end: the stack grows over them again.
    """
    cache.top += unused


@inline
def release(cache, vector, count):  # type: ignore[no-untyped-def]
    """Free the ``count`` (at most MAX_BURST) packets whose descriptors are at ``vector``, with their chains."""
    if cache.top > _LIMIT:
        _spill(cache)
    seen = 0
    for i in range(count):
        seen |= load64(vector + (i << 3))
    if seen & FLAGS:
        for i in range(count):
            _release_one(cache, load64(vector + (i << 3)))
    else:
        to = cache.address + _STACK + cache.top * 8
        for i in range(count):
            store64(to + (i << 3), blank(load64(vector + (i << 3))))
        cache.top += count


@cold
def _release_one(cache, desc):  # type: ignore[no-untyped-def]
    """Free one packet that is chained, shared or carries metadata."""
    more = True
    while more:
        header = CellHeader(header_of(cache.cells, desc))
        following = header.next
        more = (desc & CHAINED) != 0
        last = True
        if desc & SHARED:
            last = (fetch_add(header.address + 8, -1) & 0xFFFF_FFFF) == 1
        if last:
            if cache.top > _LIMIT:
                _spill(cache)
            store64(cache.address + _STACK + cache.top * 8, blank(desc))
            cache.top += 1
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


@kernel
def _take_into(cache_address, vector, wanted):  # type: ignore[no-untyped-def]
    cache = Cache(cache_address)
    got = take(cache, wanted)
    source = taken(cache, got)
    for i in range(got):
        store64(vector + (i << 3), load64(source - (i << 3)))
    return got


@kernel
def _release_from(cache_address, vector, count):  # type: ignore[no-untyped-def]
    release(Cache(cache_address), vector, count)


@kernel
def _release_ring(cache_address, ring):  # type: ignore[no-untyped-def]
    cache = Cache(cache_address)
    vector = cache_address + _CACHE_BYTES
    got = mc_dequeue(ring, vector, BATCH)
    while got > 0:
        release(cache, vector, got)
        got = mc_dequeue(ring, vector, BATCH)


@kernel
def _stock(cache_address, cells):  # type: ignore[no-untyped-def]
    """Put every cell in the ring, through the stack's memory."""
    cache = Cache(cache_address)
    words = cache.address + _STACK
    for first in range(0, cells, BATCH):
        for i in range(BATCH):
            store64(words + (i << 3), blank((first + i) << 12))
        mp_enqueue(cache.ring, words, BATCH)


class Pool:
    """``cells`` cells of ``CELL`` bytes for ``workers`` workers and the control thread.

    Args:
        cells: rounded up to a power of two; 2 KiB each.
        workers: how many workers will take and release; each gets a stack.

    Raises:
        ArenaError: fewer cells than the workers' stacks need, or no memory.
    """

    def __init__(self, cells: int = 16384, workers: int = 1) -> None:
        least = (workers + 1) * (_LIMIT + BATCH)
        if cells < least:
            raise ArenaError(f"a pool of {cells} cells starves {workers} workers: give it at least {least}")
        self.size = 1 << (cells - 1).bit_length()
        self.workers = workers
        ring_bytes = -(-RingView.bytes_needed(self.size) // 4096) * 4096
        caches_bytes = -(-((workers + 1) * _CACHE_BYTES + 8 * BATCH) // 4096) * 4096  # and scratch behind the last
        self.region = Region(ring_bytes + caches_bytes + self.size * CELL, "wirespeed-pool")
        self.ring = self.region.address
        self.cells = self.region.address + ring_bytes + caches_bytes
        format_ring(self.ring, self.size)
        self._caches = [self.region.address + ring_bytes + i * _CACHE_BYTES for i in range(workers + 1)]
        for address in self._caches:
            cache = Cache(address)
            cache.cells, cache.top, cache.ring = self.cells, 0, self.ring
        _stock(self._caches[-1], self.size)

    def cache(self, worker: int) -> int:
        """Address of a worker's stack; index ``workers`` is the control thread's."""
        return self._caches[worker]

    @property
    def free(self) -> int:
        """Cells nobody uses."""
        return int(RingView(self.ring).count) + sum(Cache(address).top for address in self._caches)

    @property
    def in_use(self) -> int:
        """Cells that hold packets; 0 once every packet has left."""
        return self.size - self.free

    @property
    def refused(self) -> int:
        """Cells that were wanted when there was none."""
        return sum(Cache(address).refused for address in self._caches)

    def take(self, vector: int, wanted: int) -> int:
        """Control thread: take up to ``wanted`` cells, descriptors written at ``vector``; returns how many."""
        return int(_take_into(self._caches[-1], vector, wanted))

    def release(self, vector: int, count: int) -> None:
        """Control thread: free ``count`` packets whose descriptors are at ``vector``."""
        for first in range(0, count, MAX_BURST):
            _release_from(self._caches[-1], vector + 8 * first, min(MAX_BURST, count - first))

    def release_ring(self, ring: int) -> None:
        """Control thread: free every packet whose descriptor is in the ring at address ``ring``."""
        _release_ring(self._caches[-1], ring)

    def close(self) -> None:
        """Give the memory back. No worker may run any more."""
        self.region.close()

    def __repr__(self) -> str:
        return f"<Pool {self.in_use} of {self.size} cells in use, {self.region.kind} memory>"


__all__ = ["BATCH", "MAX_BURST", "Cache", "Pool", "describe", "release", "share", "take", "taken", "untake"]

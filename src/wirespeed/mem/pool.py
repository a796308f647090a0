"""The pool: who owns which cell.

Free cells are on a stack that each worker has to itself, and in a ring that all share (:mod:`wirespeed.mem.pool_cache`
has what workers do with them). Every cell is accounted for: when a graph has stopped, ``pool.in_use`` is 0. When no
cell is free, whoever wanted one gets none and that is counted; nothing else happens.

One region, every place an offset, so that another process can attach it and look::

    0        the shared ring of free cells, one 64-bit slot a cell
    page     a stack for each worker, one for the control thread, and those that guests may claim
    page     in checked mode: who held each cell last, 4 bytes a cell
    page     the cells, CELL bytes each

A *guest* is another graph, in most cases another process, that works with the packets of this pool (:meth:`Pool.join`).
It claims stacks of its own by locking one byte of the memory's file for each (F_OFD_SETLK, fcntl(2)): the kernel takes
the locks back when it ends, however it ends. What it held in its hands then is lost to the pool; what lay on its
stacks goes to the next guest. A guest that was killed inside the shared ring itself, some nanoseconds of each spill or
refill, would stop all of them: what cannot be trusted that far belongs behind ``memif``.

A cell's data starts at one of four cache lines (docs/design/0006), so that the headers of a burst spread over the
processor's cache. A pool takes about 2,060 bytes a cell.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from wirespeed.errors import ArenaError, TableError
from wirespeed.jit import inline, kernel, load64, register, store64, unregister
from wirespeed.mem.descriptor import CELL, blank, describe
from wirespeed.mem.pool_cache import (
    BATCH,
    LIMIT,
    MAX_BURST,
    STACK,
    Cache,
    cache_bytes,
    get,
    get_all,
    get_shared,
    hold,
    hold_all,
    put,
    put_shared,
    release,
    share,
    take,
    taken,
    untake,
)
from wirespeed.mem.region import Region
from wirespeed.mem.shared import Shared, hold_byte
from wirespeed.sync.ring import LARGEST, SLOTS, RingView, format_ring, mc_dequeue, mp_enqueue

_PAGE = 4096
_CONTROL = "the control thread"


@kernel
def _take_into(cache_address, vector, wanted):  # type: ignore[no-untyped-def]
    cache = Cache(cache_address)
    got = take(cache, wanted)
    source = taken(cache, got)
    for i in range(got):
        store64(vector + (i << 3), load64(source - (i << 3)))
    if cache.to_holders != 0:
        hold_all(cache, vector, got, 0)
    return got


@inline
def _get_many(cache, vector, count, bulk):  # type: ignore[no-untyped-def]
    """In bursts; all or nothing gives back what it has got."""
    done = 0
    while done < count:
        chunk = min(count - done, MAX_BURST)
        got = get(cache, vector + (done << 3), chunk)
        done += got
        if got < chunk:
            break
    if bulk and done < count:
        _put_many(cache, vector, done)
        done = 0
    return done


@inline
def _put_many(cache, vector, count):  # type: ignore[no-untyped-def]
    for first in range(0, count, MAX_BURST):
        put(cache, vector + (first << 3), min(MAX_BURST, count - first))


@kernel
def _get_array(cache_address, vector, count, bulk):  # type: ignore[no-untyped-def]
    cache = Cache(cache_address)
    got = _get_many(cache, vector, count, bulk)
    if cache.to_holders != 0:
        hold_all(cache, vector, got, 0)
    return got


@kernel
def _release_from(cache_address, vector, count):  # type: ignore[no-untyped-def]
    for first in range(0, count, MAX_BURST):
        release(Cache(cache_address), vector + (first << 3), min(MAX_BURST, count - first))


@kernel
def _release_ring(cache_address, ring, scratch):  # type: ignore[no-untyped-def]
    cache = Cache(cache_address)
    got = mc_dequeue(ring, scratch, BATCH)
    while got > 0:
        release(cache, scratch, got)
        got = mc_dequeue(ring, scratch, BATCH)


@kernel
def _empty(cache_address):  # type: ignore[no-untyped-def]
    """Give a whole stack to the shared ring, which has room for every cell there is."""
    cache = Cache(cache_address)
    cache.spilling = 1
    mp_enqueue(cache.ring, cache_address + STACK, cache.top)
    cache.top = 0
    cache.spilling = 0


@kernel
def _stock(ring, scratch, cells):  # type: ignore[no-untyped-def]
    """Put every cell in the ring."""
    for first in range(0, cells, BATCH):
        for i in range(BATCH):
            store64(scratch + (i << 3), blank((first + i) << 12))
        mp_enqueue(ring, scratch, min(BATCH, cells - first))


@dataclass(frozen=True)
class CacheStats:
    """What one worker did with the pool.

    Attributes:
        cells: free cells on its stack now.
        hits: calls that took cells and found them on the stack.
        misses: calls that had to go to the shared ring.
        refills: cells fetched from the shared ring.
        spills: cells given back to the shared ring.
        refused: cells that were wanted when there was none.
    """

    cells: int
    hits: int
    misses: int
    refills: int
    spills: int
    refused: int


@dataclass(frozen=True)
class PoolStats:
    """A pool at one moment.

    Attributes:
        cells: how many there are.
        free, in_use: how many are free, wherever they are, and how many hold packets.
        shared: free cells in the shared ring.
        cache, batch: cells above which a worker's stack spills, and how many it moves at once.
        workers: by worker.
        control: the control thread's.
    """

    cells: int
    free: int
    in_use: int
    shared: int
    cache: int
    batch: int
    workers: tuple[CacheStats, ...]
    control: CacheStats

    @property
    def refused(self) -> int:
        """Cells that were wanted when there was none, by all together."""
        return sum(each.refused for each in (*self.workers, self.control))


class Pool(Shared):
    """``cells`` cells of ``CELL`` bytes for ``workers`` workers and the control thread.

    Args:
        cells: rounded up to a power of two (``pool.size`` says to what); 2 KiB each.
        workers: how many workers will take and release; each gets a stack.
        name: what other processes attach it by, to look at it.
        cache: free cells a worker keeps: above that its stack spills.
        batch: cells moved between a stack and the shared ring at once.
        places: the graph's, for a pool that notes which of them held each cell last; see :meth:`leaks`.
        guests: how many workers of other graphs may join; see :meth:`join`.

    Attributes:
        guest: whether it is another graph's, joined from here.

    Raises:
        ArenaError: fewer cells than the workers' stacks need, or no memory.
    """

    KIND = "pool"
    VERSION = 2

    def __init__(
        self,
        cells: int = 16384,
        workers: int = 1,
        name: str | None = None,
        *,
        cache: int = LIMIT,
        batch: int = BATCH,
        places: Sequence[str] | None = None,
        guests: int = 0,
    ) -> None:
        if cache < 0 or not 1 <= batch <= max(cache, 1):
            raise ArenaError(
                f"a stack that spills above cache={cache} cannot move batch={batch} cells: use 1 to {max(cache, 1)}"
            )
        if guests and places is not None:
            raise ArenaError("a pool that notes who held each cell takes no guests: their places are not its own")
        least = _stacks(workers, guests) * (cache + batch)
        if cells < least:
            raise ArenaError(f"a pool of {cells} cells starves {workers} workers: give it at least {least}")
        size = 1 << (cells - 1).bit_length()
        if size > LARGEST:
            raise ArenaError(f"a pool of {cells} cells is not possible: use up to {LARGEST}")
        layout = _layout(size, workers, cache, batch, places is not None, guests)
        self._create(
            layout[-1] + size * CELL, name, cells=size, workers=workers, cache=cache, batch=batch, guests=guests,
            places=None if places is None else list(places),
        )  # fmt: skip
        self._attached()
        format_ring(self.ring, size)
        for address in self._stacks:
            stack = Cache(address)
            stack.to_cells, stack.to_ring = self.cells - address, self.ring - address
            stack.to_holders = self._holders - address if places is not None else 0
            stack.limit, stack.batch = cache, batch
        _stock(self.ring, self._scratch, size)

    def _attached(self) -> None:
        known = self.parameters
        self.size, self.workers = known["cells"], known["workers"]
        self.places: list[str] | None = known["places"]
        self.guests: int = known["guests"]
        self.guest = False
        caches, scratch, holders, cells = _layout(
            self.size, self.workers, known["cache"], known["batch"], self.places is not None, self.guests
        )
        each = cache_bytes(known["cache"], known["batch"])
        self.ring, self.cells = self.address, self.address + cells
        self._stacks = [self.address + caches + i * each for i in range(_stacks(self.workers, self.guests))]
        self._caches = self._stacks[: self.workers + 1]
        self._scratch, self._holders = self.address + scratch, self.address + holders

    @classmethod
    def join(cls, name: str, workers: int = 1, pid: int | None = None) -> Self:
        """The pool called ``name`` of another graph, to work with its packets: this graph becomes its guest.

        Args:
            name: of the pool; that of a graph that runs as ``edge`` is ``edge.pool``.
            workers: how many workers will take and release here.
            pid: whose, if several processes have one.

        Raises:
            ArenaError: there is none, or no room for so many.
        """
        pool = cls._attach(name, pid, True)
        try:
            pool._claim(workers)
        except BaseException:
            pool.close()  # with its file the locks go
            raise
        return pool

    def _claim(self, workers: int) -> None:
        """Make stacks that nobody uses ours: one for each worker and one for our control thread."""
        mine: list[int] = []
        for index in range(self.workers + 1, len(self._stacks)):
            if not hold_byte(self.region.fd, index):
                continue  # another guest's
            mine.append(self._stacks[index])
            if len(mine) == workers + 1:
                break
        else:
            raise ArenaError(
                f"{self.name!r} of process {self.owner} has no room for {workers} more workers of other graphs: it "
                f"takes {self.guests} in all, say so there by guests="
            )
        for address in mine:
            stack = Cache(address)
            if stack.spilling:  # whoever had it was killed just then: who owns what it held is not known
                stack.top = stack.spilling = 0
        self._own_scratch = Region(8 * BATCH, "wirespeed-guest", huge=False)
        self._scratch = self._own_scratch.address
        self._caches, self.workers, self.guest = mine, workers, True

    def close(self) -> None:
        """Give the memory back, a guest its stacks first; no worker may use it any more."""
        if self.guest and self._finalizer.alive:
            for address in self._caches:
                _empty(address)
            self._own_scratch.close()
        super().close()

    def cache(self, worker: int) -> int:
        """Address of a worker's stack; index ``workers`` is the control thread's."""
        return self._caches[worker]

    @property
    def free(self) -> int:
        """Cells nobody uses."""
        return int(RingView(self.ring).count) + sum(Cache(address).top for address in self._stacks)

    @property
    def in_use(self) -> int:
        """Cells that hold packets, of guests too; 0 once every packet has left."""
        return self.size - self.free

    @property
    def refused(self) -> int:
        """Cells that were wanted when there was none."""
        return sum(Cache(address).refused for address in self._caches)

    def __len__(self) -> int:
        return self.size

    def stats(self) -> PoolStats:
        """Its state now, and what each worker did."""
        each = [_stats_of(Cache(address)) for address in self._caches]
        return PoolStats(
            self.size, self.free, self.in_use, RingView(self.ring).count, self.parameters["cache"],
            self.parameters["batch"], tuple(each[:-1]), each[-1],
        )  # fmt: skip

    # The control thread -----------------------------------------------------------------------------------

    @property
    def control_cache(self) -> int:
        """Address of the control thread's free cells, for its kernels."""
        return self._caches[-1]

    def take(self, vector: int, wanted: int) -> int:
        """Control thread: take up to ``wanted`` cells, descriptors written at ``vector``; returns how many."""
        self._check_writable()
        return int(_take_into(self._caches[-1], vector, wanted))

    def release(self, vector: int, count: int) -> None:
        """Control thread: free ``count`` packets whose descriptors are at ``vector``."""
        self._check_writable()
        _release_from(self._caches[-1], vector, count)

    def release_ring(self, ring: int) -> None:
        """Control thread: free every packet whose descriptor is in the ring at address ``ring``."""
        self._check_writable()
        _release_ring(self._caches[-1], ring, self._scratch)

    def get_many(self, count: int, *, bulk: bool = False) -> NDArray[np.int64]:
        """Control thread: the descriptors of up to ``count`` blank cells; ``bulk``: of all or none.

        Raises:
            TableError: a negative count, or the pool is attached read-only.
        """
        self._check_writable()
        if count < 0:
            raise TableError(f"cannot take {count} cells: ask for 0 or more")
        array = np.empty(min(count, self.size), np.int64)
        got = 0 if bulk and count > self.size else self._with(array, _get_array, int(bulk))
        return array[:got]

    def put_many(self, descriptors: NDArray[np.int64]) -> None:
        """Control thread: free the packets that these descriptors say, chains and all.

        Raises:
            TableError: an array of another type, or a cell that the pool does not have; nothing is freed.
        """
        self._check_writable()
        array = np.ascontiguousarray(descriptors)
        if array.dtype != np.int64 or array.ndim != 1:
            raise TableError(f"descriptors are one dimension of int64, not {array.dtype} of shape {array.shape}")
        cells = array >> 12 & 0xFFFF_FFFF
        if len(array) and int(cells.max()) >= self.size:
            raise TableError(f"cell {cells.max()} is not one of the {self.size} cells of this pool")
        self._with(array, _release_from)

    def _with(self, array: NDArray[np.int64], function: Any, *more: int) -> int:
        if not len(array):
            return 0
        vector = array.ctypes.data
        register(vector, array.nbytes, "array")
        try:
            return int(function(self._caches[-1], vector, len(array), *more) or 0)
        finally:
            unregister(vector)

    # What is missing --------------------------------------------------------------------------------------

    def used_cells(self) -> NDArray[np.int64]:
        """Indices of the cells in use. Ask while no worker runs: cells on their way are neither here nor there."""
        used = np.ones(self.size, bool)
        ring = RingView(self.ring)
        slots = self._int64s(self.ring + SLOTS, self.size)
        waiting = np.arange(ring.consumer_tail, ring.producer_tail) & ring.mask
        used[slots[waiting] >> 12 & 0xFFFF_FFFF] = False
        for address in self._stacks:
            used[self._int64s(address + STACK, Cache(address).top) >> 12 & 0xFFFF_FFFF] = False
        return np.flatnonzero(used)

    def leaks(self) -> dict[str, int]:
        """Cells in use, by the place that held each last: a node or port of the graph. Ask while no worker runs.

        A pool knows the places if it was made with them (``ws.run(graph, checked=True)``); one that does not has
        one line that says so.
        """
        used = self.used_cells()
        if not len(used):
            return {}
        if self.places is None:
            return {"unknown (run with checked=True)": len(used)}
        holders = self._int64s(self._holders, self.size // 2).view(np.int32)[used]
        names = ["nobody", _CONTROL, *self.places]
        counts = np.bincount(holders, minlength=len(names))
        return {name: int(count) for name, count in zip(names, counts, strict=True) if count}

    def _int64s(self, address: int, count: int) -> NDArray[np.int64]:
        if not count:
            return np.empty(0, np.int64)
        memory: Any = (ctypes.c_int64 * count).from_address(address)
        return np.frombuffer(memory, np.int64)

    def __repr__(self) -> str:
        return f"<Pool {self.in_use} of {self.size} cells in use, {self.region.kind} memory>"


def _stacks(workers: int, guests: int) -> int:
    """How many: each worker has one and each control thread, and every guest's worker may be a process of its own."""
    return workers + 1 + 2 * guests


def _layout(size: int, workers: int, cache: int, batch: int, checked: bool, guests: int) -> tuple[int, int, int, int]:
    """Where the stacks, the control thread's scratch vector, the holders and the cells begin."""
    caches = _pages(RingView.bytes_needed(size))
    scratch = caches + _stacks(workers, guests) * cache_bytes(cache, batch)
    holders = _pages(scratch + 8 * BATCH)
    return caches, scratch, holders, holders + (_pages(4 * size) if checked else 0)


def _pages(size: int) -> int:
    return -(-size // _PAGE) * _PAGE


def _stats_of(cache: Cache) -> CacheStats:
    return CacheStats(cache.top, cache.takes - cache.misses, cache.misses, cache.refilled, cache.spilled, cache.refused)


__all__ = [
    "BATCH", "LIMIT", "MAX_BURST", "Cache", "CacheStats", "Pool", "PoolStats", "describe", "get", "get_all",
    "get_shared", "hold", "hold_all", "put", "put_shared", "release", "share", "take", "taken", "untake",
]  # fmt: skip

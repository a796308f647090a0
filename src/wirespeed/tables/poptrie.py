"""Poptrie4: IPv4 longest prefix match in a tenth of the memory of DIR-24-8, for tables that should fit the cache.

::

    fib = Poptrie4()
    fib.add("0.0.0.0/0", 1)
    fib.add("192.0.2.0/24", 7)
    fib.lookup("192.0.2.9")      # 7

The same interface as :class:`~wirespeed.tables.lpm.Lpm4` (:mod:`wirespeed.tables.table4`), another structure for the
packets (:mod:`wirespeed.tables.poptrie_memory`). docs/howto/routes.md says which to take.
"""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from wirespeed.errors import TableError
from wirespeed.jit import fill
from wirespeed.tables import buddy
from wirespeed.tables import poptrie_memory as memory
from wirespeed.tables.buddy import UNIT_BYTES, BuddyView
from wirespeed.tables.poptrie_memory import Poptrie4View
from wirespeed.tables.reclaimer import Reclaimer
from wirespeed.tables.rib4 import MAX_HOP, rib_bytes
from wirespeed.tables.table4 import DEFAULT_ROUTES, Table4, Words

CHUNK_BYTES_PER_ROUTE: int = 16
"""Default room for chunks; the Internet's table of 2026 takes 7, and while much is changed at once the old and the
new chunks are both there."""
LEAST_BYTES: int = 1 << 20
_BLOCK = buddy.LARGEST * UNIT_BYTES
_MOST_BYTES = 1 << 32


@dataclass(frozen=True)
class PoptrieStats:
    """What a table holds.

    ``routes`` of ``routes_limit`` are there; ``chunk_bytes`` of ``chunk_bytes_limit`` are taken, among them
    ``chunks_retired`` chunks that wait for a grace period; ``pages`` is the kind of memory its ``memory_bytes`` are:
    ``hugetlb``, ``thp`` or ``normal``.
    """

    routes: int
    routes_limit: int
    chunk_bytes: int
    chunk_bytes_limit: int
    chunks_retired: int
    memory_bytes: int
    pages: str


class Poptrie4(Table4):
    """A forwarding table of IPv4 prefixes to next hops (0 to 2^25 - 2): Poptrie.

    A lookup is one load from a table of 1 MiB and, where more than one answer is below the leading 18 bits, one
    chunk for each further 6: one for prefixes of up to /24, two to /30, three to /32. Memory that packets see: 1 MiB
    and some 7 bytes a route; beside it, 7 MiB, a third of the chunks' and 16 to 32 bytes for each route there may be.
    An update packs anew the chunks its prefix reaches, some 300 cycles each.

    Args:
        name: for other processes to attach it by.
        reclaimer: knows when workers have let go of replaced chunks; see :class:`~wirespeed.tables.table4.Table4`.
        routes: how many there may be.
        memory: bytes for chunks, rounded up to 512; 16 a route and at least 1 MiB by default. A host route far from
            all others takes up to 96. A change of many routes at once needs room for the old and the new chunks.

    Raises:
        TableError: ``routes`` or ``memory`` out of range.
        ArenaError: no memory, or a bad name.
    """

    View: ClassVar[type[Poptrie4View]] = Poptrie4View
    KIND = "poptrie4"

    def __init__(
        self,
        name: str | None = None,
        reclaimer: Reclaimer | None = None,
        routes: int = DEFAULT_ROUTES,
        memory: int | None = None,
    ) -> None:
        routes = self._check_limit(name or self.KIND, routes)
        wanted = max(routes * CHUNK_BYTES_PER_ROUTE, LEAST_BYTES) if memory is None else memory
        if not 1 <= wanted <= _MOST_BYTES:
            raise TableError(f"{name or self.KIND}: {wanted} bytes of chunks are not possible: use 1 to {_MOST_BYTES}")
        self._lay_out(name, routes, -(-wanted // _BLOCK) * buddy.LARGEST)
        self.reclaimer = reclaimer

    def _lay_out(self, name: str | None, routes: int, units: int) -> None:
        pool = memory.RECORD_BYTES + memory.FIRST_TABLE_BYTES
        heap = pool + units * UNIT_BYTES
        staged = heap + -(-buddy.heap_bytes(units) // 64) * 64
        touched = staged + memory.FIRST_TABLE_BYTES
        rib = touched + memory.FIRST_TABLE_BYTES
        self._create(rib + rib_bytes(routes), name)
        view = Poptrie4View(self.address)
        view.heap, view.staged, view.touched, view.rib = heap, staged, touched, rib
        fill(self.address + staged, 0xFF, memory.FIRST_TABLE_BYTES)
        buddy.format_heap(self.address + heap, self.address + pool, units)
        self._format(self.address + rib, routes)
        self._heap = BuddyView(self.address + heap)

    def _attached(self) -> None:
        view = Poptrie4View(self.address)
        self._begin(self.address + view.rib)
        self._heap = BuddyView(self.address + view.heap)

    def outgrows_cache(self) -> bool:
        """Whether lookups will miss the cache so often that a node should prefetch: a first table's line and a chunk
        for each route, 256 KiB."""
        return len(self) * 128 > 256 << 10

    def stats(self) -> PoptrieStats:
        """How full it is."""
        heap = self._heap
        return PoptrieStats(
            len(self),
            self._record.limit,
            (heap.units - heap.free) * UNIT_BYTES,
            heap.units * UNIT_BYTES,
            heap.tail - heap.head,
            self.memory_bytes,
            self.pages,
        )

    # Inside -------------------------------------------------------------------------------------------------

    def _insert(self, words: Words) -> None:
        if not self._change(memory.insert_words, words):
            taken, limit = self.stats().chunk_bytes, self.stats().chunk_bytes_limit
            raise TableError(
                f"{self.name} is full: no room for the chunks of {len(words)} more routes, {taken} of {limit} bytes "
                f"are taken: add fewer at a time, or create it with memory={2 * limit}"
            )

    def _remove(self, words: Words) -> None:
        if self._change(memory.remove_words, words):
            return
        if len(words) == 1:
            free, limit = self._heap.free * UNIT_BYTES, self.stats().chunk_bytes_limit
            raise TableError(
                f"{self.name} is full: a chunk cannot be replaced beside its old one, {free} of {limit} bytes are "
                "free: delete a longer prefix first"
            )
        middle = len(words) // 2
        self._remove(words[middle:].copy())
        self._remove(words[:middle].copy())

    def _change(self, kernel: Callable[[int, Words, int], int], words: Words) -> bool:
        retired = kernel(self.address, words, self.reclaimer is None)
        if retired < 0 and self._heap.tail > self._heap.head and self.reclaimer is not None:
            self.reclaimer.synchronize()
            retired = kernel(self.address, words, self.reclaimer is None)
        self._reclaim(max(retired, 0))
        return retired >= 0

    def _release(self, count: int) -> None:
        buddy.release(self._heap.address, count)

    def _lookup_array(self, addresses: NDArray[np.uint32], hops: NDArray[np.int64]) -> None:
        memory.lookup_array(self.address, addresses, hops)

    def _first_table(self) -> NDArray[np.uint32]:
        return self._entries(memory.RECORD_BYTES)

    def _staged(self) -> NDArray[np.uint32]:
        return self._entries(self._view.staged)

    def _entries(self, offset: int) -> NDArray[np.uint32]:
        return np.ctypeslib.as_array((ctypes.c_uint32 * (1 << memory.FIRST_BITS)).from_address(self.address + offset))


__all__ = ["CHUNK_BYTES_PER_ROUTE", "MAX_HOP", "Poptrie4", "Poptrie4View", "PoptrieStats"]

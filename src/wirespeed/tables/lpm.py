"""Lpm4: IPv4 longest prefix match that is updated while workers look up.

::

    fib = Lpm4()
    fib.add("0.0.0.0/0", 1)
    fib.add("192.0.2.0/24", 7)
    fib.lookup("192.0.2.9")      # 7

The table that packets see is in :mod:`wirespeed.tables.lpm_memory`, the routes beside it in
:mod:`wirespeed.tables.rib4`, and what one does with both in :mod:`wirespeed.tables.table4`.
:class:`~wirespeed.tables.poptrie.Poptrie4` has the same interface and a tenth of the memory.
"""

import ctypes
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from wirespeed.errors import TableError
from wirespeed.tables import lpm_memory as memory
from wirespeed.tables.lpm_memory import MAX_HOP, Lpm4View
from wirespeed.tables.reclaimer import Reclaimer
from wirespeed.tables.rib4 import rib_bytes
from wirespeed.tables.table4 import DEFAULT_ROUTES, Table4, Words

DEFAULT_GROUPS: int = 4095
"""/24s that may have longer prefixes: the Internet's table of 2026 has 451."""


@dataclass(frozen=True)
class LpmStats:
    """What a table holds.

    ``routes`` of ``routes_limit`` are there; ``groups`` of ``groups_limit`` are used and ``groups_retired`` wait for
    a grace period; ``pages`` is the kind of memory its ``memory_bytes`` are: ``hugetlb``, ``thp`` or ``normal``.
    """

    routes: int
    routes_limit: int
    groups: int
    groups_limit: int
    groups_retired: int
    memory_bytes: int
    pages: str


class Lpm4(Table4):
    """A forwarding table of IPv4 prefixes to next hops (0 to 2^25 - 2): DIR-24-8.

    A lookup is one load for a prefix of up to /24 and two for a longer one, each usually a cache miss. Memory: 64
    MiB, 1 KiB for each group, 4 MiB and 16 to 32 bytes for each route there may be. An update writes each entry its
    prefix covers, 2^(24 - length) of them.

    Args:
        groups: how many /24s may hold prefixes longer than /24; 1 KiB each.
        name: for other processes to attach it by.
        reclaimer: knows when workers have let go of freed groups; see :class:`~wirespeed.tables.table4.Table4`.
        routes: how many there may be.

    Raises:
        TableError: ``groups`` or ``routes`` out of range.
        ArenaError: no memory, or a bad name.
    """

    View: ClassVar[type[Lpm4View]] = Lpm4View
    KIND = "lpm4"

    def __init__(
        self,
        groups: int = DEFAULT_GROUPS,
        name: str | None = None,
        reclaimer: Reclaimer | None = None,
        routes: int = DEFAULT_ROUTES,
    ) -> None:
        if not 1 <= groups <= 1 << 24:
            raise TableError(f"{name or 'lpm4'}: {groups} groups are not possible: use 1 to {1 << 24}")
        routes = self._check_limit(name or "lpm4", routes)
        ring = memory.RECORD_BYTES + memory.FIRST_TABLE_BYTES + groups * memory.GROUP_BYTES
        rib = ring + -(-groups * 4 // 64) * 64
        self._create(rib + rib_bytes(routes), name)
        self.reclaimer = reclaimer
        view = Lpm4View(self.address)
        view.groups, view.ring, view.rib = groups, ring, rib
        memory.format_ring(self.address)
        self._format(self.address + rib, routes)

    def _attached(self) -> None:
        self._begin(self.address + Lpm4View(self.address).rib)

    def outgrows_cache(self) -> bool:
        """Whether lookups will miss the cache so often that a node should prefetch: a line a route, 256 KiB."""
        return len(self) * 64 > 256 << 10

    def stats(self) -> LpmStats:
        """How full it is."""
        view = self._view
        used = view.groups - (view.given - view.taken)
        return LpmStats(
            len(self), self._record.limit, used, view.groups, view.given - view.ready, self.memory_bytes, self.pages
        )

    # Inside -------------------------------------------------------------------------------------------------

    def _insert(self, words: Words) -> None:
        view, wanted = self._view, memory.groups_wanted(self.address, words)
        if wanted > view.ready - view.taken and view.given > view.ready and self.reclaimer is not None:
            self.reclaimer.synchronize()
        if wanted > view.ready - view.taken:
            raise TableError(
                f"{self.name} is full: {wanted} more /24s need a group for prefixes longer than /24, and "
                f"{view.ready - view.taken} of {view.groups} are free: create it with groups={2 * view.groups}"
            )
        memory.insert_words(self.address, words)

    def _remove(self, words: Words) -> None:
        self._reclaim(memory.remove_words(self.address, words, self.reclaimer is None))

    def _release(self, count: int) -> None:
        self._view.ready += count

    def _lookup_array(self, addresses: NDArray[np.uint32], hops: NDArray[np.int64]) -> None:
        memory.lookup_array(self.address, addresses, hops)

    def _first_table(self) -> NDArray[np.uint32]:
        start = self.address + memory.RECORD_BYTES
        return np.ctypeslib.as_array((ctypes.c_uint32 * (1 << 24)).from_address(start))


__all__ = ["DEFAULT_GROUPS", "MAX_HOP", "Lpm4", "Lpm4View", "LpmStats", "Reclaimer"]

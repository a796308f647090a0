"""Lpm4: IPv4 longest prefix match that is updated while workers look up.

::

    fib = Lpm4()
    fib.add("0.0.0.0/0", 1)
    fib.add("192.0.2.0/24", 7)
    fib.lookup("192.0.2.9")      # 7

The table that packets see is in :mod:`wirespeed.tables.lpm_memory`; the routes themselves are a dict here,
which only control code reads: to find what covers a prefix that goes, to list, to count.
"""

import ctypes
import operator
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from wirespeed.errors import TableError
from wirespeed.jit import load32
from wirespeed.mem.region import Region
from wirespeed.tables import lpm_memory as memory
from wirespeed.tables.lpm_memory import FIRST_GROUP, LENGTH_SHIFT, MAX_HOP, Lpm4View
from wirespeed.tables.prefix import Address4, Prefix4, parse_address, parse_prefix, prefix_keys, prefix_text
from wirespeed.tables.reclaimer import Reclaimer

DEFAULT_GROUPS: int = 4095
"""/24s that may have longer prefixes: the Internet's table of 2026 has about 300. In all exactly 68 MiB."""


@dataclass(frozen=True)
class LpmStats:
    """What a table holds.

    ``groups`` of ``groups_limit`` are used and ``groups_retired`` wait for a grace period; ``pages`` is the
    kind of memory its ``memory_bytes`` are: ``hugetlb``, ``thp`` or ``normal``.
    """

    routes: int
    groups: int
    groups_limit: int
    groups_retired: int
    memory_bytes: int
    pages: str


class Lpm4:
    """A forwarding table of IPv4 prefixes to next hops (0 to 2^25 - 2).

    Args:
        groups: how many /24s may hold prefixes longer than /24; 1 KiB each, beside 64 MiB.
        name: shown in /proc/self/maps and errors.
        reclaimer: knows when workers have let go of freed groups; without one they are reused at once, which
            is right only while nobody looks up. May be set later.

    Raises:
        TableError: ``groups`` out of range.
        ArenaError: no memory.
    """

    View: ClassVar[type[Lpm4View]] = Lpm4View

    def __init__(self, groups: int = DEFAULT_GROUPS, name: str = "lpm4", reclaimer: Reclaimer | None = None) -> None:
        if not 1 <= groups <= 1 << 24:
            raise TableError(f"{name}: {groups} groups are not possible: use 1 to {1 << 24}")
        self.name = name
        self.reclaimer = reclaimer
        size = memory.RECORD_BYTES + memory.FIRST_TABLE_BYTES + groups * memory.GROUP_BYTES
        self.region = Region(size, f"wirespeed-{name}")
        self.address = self.region.address
        self._base = self.address + memory.RECORD_BYTES
        self._view = Lpm4View(self.address)
        self._view.groups = groups
        self._limit = groups
        self._routes: dict[int, int] = {}
        self._spare = list(range(FIRST_GROUP + groups - 1, FIRST_GROUP - 1, -1))
        self._retired = 0

    # What nodes call too ------------------------------------------------------------------------------------

    def lookup(self, address: Address4) -> int:
        """Next hop of the longest prefix that covers ``address``, or -1."""
        return int(self._view.lookup(parse_address(address)))

    def prefetch(self, address: int) -> None:
        """A hint in nodes; nothing in plain Python."""

    def outgrows_cache(self) -> bool:
        """Whether lookups will miss the cache so often that a node should prefetch: a line a route, 256 KiB."""
        return len(self) * 64 > 256 << 10

    # Routes -------------------------------------------------------------------------------------------------

    def add(self, prefix: Prefix4, next_hop: int) -> None:
        """Add a route, or change its next hop. Workers see the old or the new answer, nothing else.

        Raises:
            TableError: not a prefix, host bits set, next hop out of range, or no group free for a prefix
                longer than /24. Nothing is changed then.
        """
        key, next_hop = parse_prefix(prefix), operator.index(next_hop)
        if not 0 <= next_hop <= MAX_HOP:
            raise TableError(
                f"{self.name}: next hop {next_hop} of {prefix_text(key)} is not 0 to {MAX_HOP}: number the "
                "next hops densely and keep what they mean in a table of their own"
            )
        spare = self._spare_groups(1)[0] if key & 63 > 24 and not self._is_extended(key) else 0
        if memory.paint(self._base, key >> 6, _entry(key, next_hop), spare):
            self._spare.pop()
        self._routes[key] = next_hop

    def add_many(
        self, prefixes: "tuple[NDArray[Any], NDArray[Any]] | Iterable[Prefix4]", next_hops: "Iterable[int]"
    ) -> None:
        """Add many routes at once; of two with the same prefix the last counts.

        Args:
            prefixes: arrays (addresses, lengths) as :func:`~wirespeed.tables.routes.load_routes` gives them,
                or any iterable of what :meth:`add` takes.
            next_hops: one each.

        Raises:
            TableError: as :meth:`add`; names the first bad one. Nothing is changed then.
        """
        if isinstance(prefixes, tuple) and len(prefixes) == 2 and isinstance(prefixes[0], np.ndarray):
            keys = prefix_keys(*prefixes)
        else:
            keys = np.array([parse_prefix(prefix) for prefix in prefixes], dtype=np.int64)  # type: ignore[arg-type]
        hops = np.asarray(next_hops if isinstance(next_hops, np.ndarray) else list(next_hops), dtype=np.int64)
        self._refuse_bad(keys, hops)
        addresses, lengths = keys >> 6, keys & 63
        long = np.unique(addresses[lengths > 24] >> 8)
        spare = self._spare_groups(int((self._first_table()[long] < memory.EXTENDED).sum()))
        values = lengths << LENGTH_SHIFT | hops + 1
        taken = memory.paint_many(self._base, addresses, values, np.array(spare, dtype=np.int64))
        del self._spare[len(self._spare) - taken :]
        self._routes.update(zip(keys.tolist(), hops.tolist(), strict=True))

    def delete(self, prefix: Prefix4) -> None:
        """Delete a route; what it covered falls back to the next shorter one.

        Raises:
            TableError: there is no such route.
        """
        key = parse_prefix(prefix)
        if self._routes.pop(key, None) is None:
            raise TableError(f"{self.name}: there is no route {prefix_text(key)} to delete")
        page = memory.unpaint(self._base, key >> 6, key & 63, self._covering_entry(key))
        if page:
            self._retire(page)

    def clear(self) -> None:
        """Delete every route, one by one: fit for live tables."""
        for key in sorted(self._routes, key=lambda key: -(key & 63)):  # longest first: least repainting
            self.delete((key >> 6, key & 63))

    def get(self, prefix: Prefix4) -> int | None:
        """The next hop of exactly this route, or None."""
        return self._routes.get(parse_prefix(prefix))

    def __contains__(self, prefix: Prefix4) -> bool:
        return parse_prefix(prefix) in self._routes

    def __len__(self) -> int:
        return len(self._routes)

    def __iter__(self) -> Iterator[tuple[str, int]]:
        """(prefix as text, next hop), in the order they were added."""
        for key, hop in self._routes.items():
            yield prefix_text(key), hop

    def lookup_many(self, addresses: NDArray[Any]) -> NDArray[np.int64]:
        """Next hop or -1 of each address of an array of integers."""
        wanted = np.ascontiguousarray(addresses, dtype=np.uint32)
        hops = np.empty(len(wanted), dtype=np.int64)
        memory.lookup_array(self.address, wanted, hops)
        return hops

    def stats(self) -> LpmStats:
        """How full it is."""
        used = self._limit - len(self._spare) - self._retired
        return LpmStats(len(self._routes), used, self._limit, self._retired, self.region.size, self.region.kind)

    def close(self) -> None:
        """Give the memory back. No worker may look up any more."""
        self.region.close()

    def __enter__(self) -> "Lpm4":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Lpm4 {self.name}: {len(self)} routes, {self.region.kind} pages>"

    # Inside -------------------------------------------------------------------------------------------------

    def _covering_entry(self, key: int) -> int:
        """The entry of the longest prefix that covers ``key`` and is shorter; 0 if there is none."""
        address, hop_of = key >> 6, self._routes.get
        for length in range((key & 63) - 1, -1, -1):
            shorter = (address >> (32 - length) << (32 - length)) << 6 | length
            hop = hop_of(shorter)
            if hop is not None:
                return _entry(shorter, hop)
        return 0

    def _is_extended(self, key: int) -> bool:
        return bool(load32(self._base + (key >> 14 << 2)) >= memory.EXTENDED)

    def _first_table(self) -> NDArray[np.uint32]:
        return np.ctypeslib.as_array((ctypes.c_uint32 * (1 << 24)).from_address(self._base))

    def _spare_groups(self, count: int) -> list[int]:
        """The next ``count`` free pages, first one first; they stay on the list. Raises TableError."""
        if len(self._spare) < count and self._retired and self.reclaimer is not None:
            self.reclaimer.synchronize()
        if len(self._spare) < count:
            raise TableError(
                f"{self.name} is full: {count} more /24s need a group for prefixes longer than /24, and "
                f"{len(self._spare)} of {self._limit} are free: create it with groups={2 * self._limit}"
            )
        return self._spare[len(self._spare) - count :][::-1]

    def _retire(self, page: int) -> None:
        """Reuse a page that nothing leads to, once no worker can be reading it."""
        if self.reclaimer is None:
            self._spare.append(page)
            return
        self._retired += 1

        def reuse() -> None:
            self._retired -= 1
            self._spare.append(page)

        self.reclaimer.defer(reuse)

    def _refuse_bad(self, keys: NDArray[np.int64], hops: NDArray[np.int64]) -> None:
        if len(keys) != len(hops):
            raise TableError(f"{self.name}: {len(keys)} prefixes have {len(hops)} next hops: give one each")
        bad = (hops < 0) | (hops > MAX_HOP)
        if bad.any():
            at = int(bad.argmax())
            raise TableError(f"{self.name}: next hop {hops[at]} of {prefix_text(int(keys[at]))} is not 0 to {MAX_HOP}")


def _entry(key: int, hop: int) -> int:
    return (key & 63) << LENGTH_SHIFT | hop + 1


__all__ = ["DEFAULT_GROUPS", "MAX_HOP", "Lpm4", "Lpm4View", "LpmStats", "Reclaimer"]

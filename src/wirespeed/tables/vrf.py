"""Vrfs: a routing table for each of many VRFs (virtual routing and forwarding instances), in one memory.

::

    tables = Vrfs(vrfs=4096, routes=100_000)
    tables.add(7, "10.0.0.0/8", 1)
    tables.add(7, "2001:db8::/32", 2)
    tables.lookup(7, "10.1.2.3")                        # 1; nodes: tables.lookup(vrf, pkt.ipv4.dst)
    tables.lookup6(7, *pkt.ipv6.dst)                    # in a node

The tries of :mod:`wirespeed.tables.lpm6_memory`, two for each VRF, of IPv4 and IPv6; all take nodes from the same
chunks and a root is one word, so that an empty VRF takes 64 bytes and one with a few routes 100 to 200, where a
DIR-24-8 table (:mod:`wirespeed.tables.lpm_memory`) takes 64 MiB. Everything is an offset: other processes attach all
tables at once by one name.

    offset     bytes  what
    4096       32     IPv4 table of VRF 0 (:class:`~wirespeed.tables.lpm6_memory.Table`): root word, routes
    4096 + 32  32     its IPv6 table, and so on
"""

import ipaddress
import operator
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from wirespeed.errors import TableError
from wirespeed.jit import View, inline, kernel, le64, lent, load64, signed64, store64
from wirespeed.jit import prefetch as prefetch_line
from wirespeed.tables.lpm6_memory import MAX_HOP, RECORD_BYTES, UNIT_SHIFT, Record, Table, find
from wirespeed.tables.lpm6_store import Tries, Words
from wirespeed.tables.prefix import Address4, Prefix4, parse_address, parse_prefix, prefix_keys, prefix_text
from wirespeed.tables.prefix6 import (
    Address6,
    Prefix6,
    address_words,
    parse_address6,
    parse_prefix6,
    prefix_text6,
    prefix_words,
)  # fmt: skip
from wirespeed.tables.reclaimer import Reclaimer

DEFAULT_ROUTES: int = 1 << 16
VRFS_MAX: int = 1 << 24
_NODE_BYTES_A_ROUTE: int = 96
_NODE_BYTES_A_VRF: int = 256
_SIX: int = Table.SIZE  # from a VRF's IPv4 table to its IPv6 table


@inline
def _find(base: int, vrf: int, side: int, high: int, low: int) -> int:
    if vrf < 0 or vrf >= Record(base).tables:
        return -1
    return find(base, load64(base + RECORD_BYTES + (vrf << 6) + side), high, low, 0)


class VrfsView(View):
    """The data side of :class:`Vrfs`."""

    vrfs = le64(Record.tables.offset, "how many VRFs there are")
    SIZE = RECORD_BYTES

    def lookup(self, vrf: int, ip: int) -> int:
        """Next hop of the longest IPv4 prefix in ``vrf`` that covers ``ip``, or -1; also if there is no such VRF."""
        return _find(self.address, vrf, 0, (ip & 0xFFFF_FFFF) << 32, 0)

    def lookup6(self, vrf: int, high: int, low: int) -> int:
        """The same for the IPv6 address (high, low)."""
        return _find(self.address, vrf, _SIX, high, low)

    def prefetch(self, vrf: int) -> None:
        """Ask for the line with the roots of a VRF."""
        prefetch_line(self.address + RECORD_BYTES + (vrf << 6))


@kernel
def lookup_array(base: int, vrfs: int, highs: int, lows: int, hops: int, count: int, side: int) -> None:
    """Look up ``count`` addresses, each in its VRF, in the tables of one family: ``side`` is 0 for IPv4."""
    for i in range(count):
        at = i << 3
        store64(hops + at, _find(base, load64(vrfs + at), side, load64(highs + at), load64(lows + at)))


@dataclass(frozen=True)
class VrfsStats:
    """What the tables hold.

    ``vrfs_used`` of ``vrfs`` have routes; ``routes`` of ``routes_limit`` in all. Of ``node_bytes_limit`` bytes for
    nodes and lists ``node_bytes`` are used, and ``node_bytes_waiting`` of these wait for a grace period.
    ``memory_bytes`` is everything, and ``pages`` what kind: ``hugetlb``, ``thp`` or ``normal``.
    """

    vrfs: int
    vrfs_used: int
    routes: int
    routes_limit: int
    node_bytes: int
    node_bytes_limit: int
    node_bytes_waiting: int
    memory_bytes: int
    pages: str


class Vrfs(Tries):
    """IPv4 and IPv6 routes of many VRFs to next hops (0 to 2^27 - 2).

    A lookup takes two lines for each eight bits in which routes of the VRF really differ there, and a list; updates
    cost what they do in :class:`~wirespeed.tables.lpm6.Lpm6`. Memory: 64 bytes a VRF, and for each route 64
    bytes of what is set aside for ``routes`` and 20 to 50 in nodes and lists.

    Args:
        vrfs: how many; they are numbered from 0.
        name: other processes attach it by this.
        routes: how many there may be in all.
        memory: bytes for nodes and lists; 96 a route and 256 a VRF unless said.
        reclaimer: knows when workers have let go of freed nodes; without one they are reused at once, which is right
            only while nobody looks up. May be set later.

    Raises:
        TableError: ``vrfs``, ``routes`` or ``memory`` out of range.
        ArenaError: no memory.
    """

    KIND = "vrfs"
    View = VrfsView

    def __init__(
        self,
        vrfs: int = 256,
        name: str | None = None,
        routes: int = DEFAULT_ROUTES,
        memory: int | None = None,
        reclaimer: Reclaimer | None = None,
    ) -> None:
        if not 1 <= vrfs <= VRFS_MAX:
            raise TableError(f"{name or self.KIND}: {vrfs} VRFs are not possible: use 1 to {VRFS_MAX}")
        if memory is None and routes >= 1:
            memory = routes * _NODE_BYTES_A_ROUTE + vrfs * _NODE_BYTES_A_VRF + (64 << 10)
        record = self._lay_out(name, routes, memory, vrfs * 2 * Table.SIZE)
        record.tables = vrfs
        for offset in range(RECORD_BYTES, RECORD_BYTES + vrfs * 2 * Table.SIZE, Table.SIZE):
            Table(self.address + offset).roots = offset
        self.reclaimer = reclaimer
        self._attached()

    def _attached(self) -> None:
        self.reclaimer = self.reclaimer if self.writable else None
        self._bits, self._deferred = 0, 0

    # What nodes call too ------------------------------------------------------------------------------------

    def lookup(self, vrf: int, address: Address4 | Address6) -> int:
        """Next hop of the longest prefix in ``vrf`` that covers ``address``, or -1. Nodes give IPv4 addresses only.

        Raises:
            TableError: not an address, or no such VRF.
        """
        base, where = self.address, self._check(vrf)
        if _is6(address):
            high, low = parse_address6(address)  # type: ignore[arg-type]
            return int(VrfsView(base).lookup6(where, signed64(high), signed64(low)))
        return int(VrfsView(base).lookup(where, parse_address(address)))  # type: ignore[arg-type]

    def lookup6(self, vrf: int, high: int, low: int) -> int:
        """The same for the IPv6 address (high, low), as in a node."""
        return self.lookup(vrf, (high, low))

    def prefetch(self, vrf: int) -> None:
        """A hint in nodes; nothing in plain Python."""

    def outgrows_cache(self) -> bool:
        """Whether lookups will miss the cache so often that a node should prefetch: some 100 bytes a route, 256 KiB."""
        return len(self) * 100 > 256 << 10

    def lookup_many(self, vrfs: "int | NDArray[Any]", addresses: Any) -> NDArray[np.int64]:
        """Next hop or -1 of each address.

        Args:
            vrfs: one VRF, or an array with one for each address; -1 where there is no such VRF.
            addresses: an array of integers (IPv4), of shape (n, 2) (IPv6), or an iterable of addresses of one family.

        Raises:
            TableError: something is no address, or the numbers of both differ.
        """
        if not isinstance(addresses, np.ndarray):
            addresses = addresses if isinstance(addresses, tuple) else list(addresses)
        if isinstance(addresses, np.ndarray) and addresses.ndim == 1 and addresses.dtype != object:
            highs, side = prefix_keys(addresses, np.full(len(addresses), 32)) >> 6 << 32, 0
            lows = np.zeros(len(highs), np.int64)
        elif isinstance(addresses, list) and not any(map(_is6, addresses)):
            highs, side = np.array([parse_address(ip) << 32 for ip in addresses], np.uint64).view(np.int64), 0
            lows = np.zeros(len(highs), np.int64)
        else:
            (highs, lows), side = address_words(addresses), Table.SIZE
        tables = np.ascontiguousarray(np.broadcast_to(vrfs, highs.shape) if np.ndim(vrfs) == 0 else vrfs, np.int64)
        if tables.shape != highs.shape:
            raise TableError(
                f"{self.name}: {len(highs)} addresses have {len(tables)} VRFs: give one each, or one for all"
            )
        hops = np.empty(len(highs), np.int64)
        with lent(tables, highs, lows, hops) as (vrf, high, low, out):
            lookup_array(self.address, vrf, high, low, out, len(hops), side)
        return hops

    # Routes -------------------------------------------------------------------------------------------------

    def add(self, vrf: int, prefix: Prefix4 | Prefix6, next_hop: int) -> None:
        """Add a route, or change its next hop. Workers see the old or the new answer, nothing else.

        Raises:
            TableError: no such VRF, not a prefix, host bits set, next hop out of range, or full; then nothing is
                changed.
        """
        self.add_many(vrf, [prefix], [next_hop])

    def add_many(self, vrf: int, prefixes: Any, next_hops: Iterable[int]) -> None:
        """Add many routes of one family to one VRF; of two with the same prefix the last counts.

        Args:
            vrf: which.
            prefixes: arrays (addresses, lengths), where addresses are integers (IPv4) or (n, 2) words (IPv6); or any
                iterable of what :meth:`add` takes, of one family.
            next_hops: one each.

        Raises:
            TableError: as :meth:`add`; names the first bad one. Nothing is changed then.
        """
        table, highs, lows, lengths = self._rows(vrf, prefixes)
        self._change(table, highs, lows, lengths, self._hops(next_hops, table, highs, lows, lengths))

    def delete(self, vrf: int, prefix: Prefix4 | Prefix6) -> None:
        """Delete a route; what it covered falls back to the next shorter one.

        Raises:
            TableError: there is no such route.
        """
        self.delete_many(vrf, [prefix])

    def delete_many(self, vrf: int, prefixes: Any) -> None:
        """Delete many routes of one family from one VRF; ``prefixes`` as for :meth:`add_many`.

        Raises:
            TableError: there is no such route; names the first. Nothing is changed then.
        """
        table, highs, lows, lengths = self._rows(vrf, prefixes)
        self._delete(table, highs, lows, lengths)

    def clear(self, vrf: int | None = None) -> None:
        """Delete the routes of one VRF, or of all, one by one: fit for live tables."""
        for number in range(self.vrfs) if vrf is None else [self._check(vrf)]:
            for table in self._tables(number):
                if Table(table).routes:
                    self._clear(table)

    def get(self, vrf: int, prefix: Prefix4 | Prefix6) -> int | None:
        """The next hop of exactly this route, or None."""
        table, highs, lows, lengths = self._rows(vrf, [prefix])
        return self._get(table, int(highs[0]), int(lows[0]), int(lengths[0]))

    def routes(self, vrf: int) -> list[tuple[str, int]]:
        """(prefix as text, next hop) of one VRF: IPv4, then IPv6, each by address and then length."""
        found = []
        for table in self._tables(self._check(vrf)):
            for high, low, length, hop in zip(*(array.tolist() for array in self._export(table)), strict=True):
                found.append((self._text(table, high, low, length), hop))
        return found

    @property
    def vrfs(self) -> int:
        """How many VRFs there are."""
        return int(Record(self.address).tables)

    def __contains__(self, route: tuple[int, Prefix4 | Prefix6]) -> bool:
        """Whether (VRF, prefix) is a route."""
        return self.get(*route) is not None

    def __len__(self) -> int:
        """Routes in all VRFs."""
        return int(Record(self.address).routes)

    def __iter__(self) -> Iterator[tuple[int, str, int]]:
        """(VRF, prefix as text, next hop) of all routes."""
        for vrf in np.flatnonzero(self._counts()).tolist():
            for prefix, hop in self.routes(vrf):
                yield vrf, prefix, hop

    def stats(self) -> VrfsStats:
        """How full it is."""
        record = Record(self.address)
        return VrfsStats(
            self.vrfs, int((self._counts() > 0).sum()), len(self), record.routes_limit,
            record.units_used << UNIT_SHIFT, (record.units_end - record.units_first) << UNIT_SHIFT,
            record.units_waiting << UNIT_SHIFT, self.memory_bytes, self.pages,
        )  # fmt: skip

    def __repr__(self) -> str:
        if self.region.fd < 0:
            return f"<Vrfs {self.name}: closed>"
        return f"<Vrfs {self.name}: {len(self)} routes in {self.vrfs} VRFs, {self.pages} pages>"

    # Inside -------------------------------------------------------------------------------------------------

    def _check(self, vrf: SupportsIndex) -> int:
        number = operator.index(vrf)
        if not 0 <= number < self.vrfs:
            raise TableError(f"{self.name}: VRF {number} is not 0 to {self.vrfs - 1}")
        return number

    def _tables(self, vrf: int) -> tuple[int, int]:
        four = self.address + RECORD_BYTES + (vrf << 6)
        return four, four + Table.SIZE

    def _counts(self) -> NDArray[np.int64]:
        """Routes of each VRF."""
        words = self._words(np.int64, RECORD_BYTES, self.vrfs * 8).reshape(-1, 8)
        column = Table.routes.offset // 8
        return np.asarray(words[:, column] + words[:, column + Table.SIZE // 8])

    def _rows(self, vrf: int, prefixes: Any) -> tuple[int, Words, Words, Words]:
        """(table, highs, lows, lengths) of prefixes of one family."""
        four, six = self._tables(self._check(vrf))
        if isinstance(prefixes, tuple) and isinstance(prefixes[0], np.ndarray):
            if len(prefixes) == 3 or prefixes[0].ndim == 2:
                return (six, *prefix_words(prefixes))
            keys = prefix_keys(*prefixes)
        else:
            many = list(prefixes)
            families = [_is6_prefix(prefix) for prefix in many]
            if any(families):
                if not all(families):
                    raise TableError(f"{self.name}: IPv4 and IPv6 prefixes in one call: give one family at a time")
                return (six, *prefix_words([parse_prefix6(prefix) for prefix in many]))
            keys = np.array([parse_prefix(prefix) for prefix in many], dtype=np.int64)
        return four, keys >> 6 << 32, np.zeros(len(keys), np.int64), keys & 63

    def _text(self, table: int, high: int, low: int, length: int) -> str:
        if (table - self.address) & Table.SIZE:
            return prefix_text6(high, low, length)
        return prefix_text((high >> 32 & 0xFFFF_FFFF) << 6 | length)


def _is6(address: Any) -> bool:
    """Whether an address is one of IPv6: text by its colons, an int by its size, a pair always."""
    if isinstance(address, str):
        return ":" in address
    if isinstance(address, SupportsIndex):
        return operator.index(address) > 0xFFFF_FFFF
    return isinstance(address, (tuple, ipaddress.IPv6Address, ipaddress.IPv6Network))


def _is6_prefix(prefix: Any) -> bool:
    """The same for a prefix; (address, length) by its address, (high, low, length) always."""
    return _is6(prefix[0]) if isinstance(prefix, tuple) and len(prefix) == 2 else _is6(prefix)


__all__ = ["DEFAULT_ROUTES", "MAX_HOP", "VRFS_MAX", "Vrfs", "VrfsStats", "VrfsView"]

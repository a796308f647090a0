"""Lpm6: IPv6 longest prefix match that is updated while workers look up.

::

    fib = Lpm6()
    fib.add("::/0", 1)
    fib.add("2001:db8::/32", 7)
    fib.lookup("2001:db8::9")              # 7
    fib.lookup(*pkt.ipv6.dst)              # in a node

A trie of eight bits a step behind 65,536 root words, with lists in place of sparse branches: memory and lookup are in
:mod:`wirespeed.tables.lpm6_memory`, updates in :mod:`wirespeed.tables.lpm6_update`, the routes as they were added in
:mod:`wirespeed.tables.rib6`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from wirespeed.jit import inline, kernel, lent, load64, prefetch, shift_right, signed64, store64
from wirespeed.tables.lpm6_memory import (
    HOP_MASK,
    LOW_MASK,
    MAX_HOP,
    NODE,
    RECORD_BYTES,
    ROOT_BITS,
    ROOT_BYTES,
    UNIT_SHIFT,
    Lpm6View,
    Record,
    Table,
    piece_word,
    search,
)  # fmt: skip
from wirespeed.tables.lpm6_store import Tries
from wirespeed.tables.prefix6 import (
    Address6,
    Prefix6,
    address_words,
    parse_address6,
    parse_prefix6,
    prefix_text6,
    prefix_words,
)
from wirespeed.tables.reclaimer import Reclaimer
from wirespeed.tables.routes_save import save_prefixes

DEFAULT_ROUTES: int = 1 << 18
"""Routes there is memory for: the Internet's table of 2026 has 160,000 to 230,000, by where one looks from."""
_TABLE: int = RECORD_BYTES + ROOT_BYTES
_BURST: int = 32


@inline
def _ask(address: int, word: int) -> None:
    """Ask for the two lines below a word: a small node, or a list."""
    below = address + (shift_right(word, 35) << UNIT_SHIFT)
    prefetch(below)
    prefetch(below + 64)


@kernel
def lookup_array(address: int, highs: int, lows: int, step: int, hops: int, count: int) -> None:
    """Look up ``count`` addresses whose words are ``step`` bytes apart; ``hops`` gets a word each.

    A burst goes down together, eight bits at a time, so that the misses of a level overlap: a lookup alone ends in a
    branch that is mispredicted before the next one has begun. A word of ``hops`` is first what the lookup has reached:
    what is below << 32 | next hop + 1 so far.
    """
    for first in range(0, count, _BURST):
        last = min(first + _BURST, count)
        for i in range(first, last):
            word = load64(address + RECORD_BYTES + (shift_right(load64(highs + i * step), 48) << 3))
            store64(hops + (i << 3), (word & ~LOW_MASK) | word & HOP_MASK)
            _ask(address, word)
        depth, nodes = ROOT_BITS, 1
        while nodes > 0:
            nodes = 0
            for i in range(first, last):
                reached = load64(hops + (i << 3))
                if shift_right(reached, 32) & 7 == NODE:
                    at = i * step
                    word = load64(piece_word(address, reached, load64(highs + at), load64(lows + at), depth))
                    found = word & HOP_MASK
                    store64(hops + (i << 3), (word & ~LOW_MASK) | (found if found != 0 else reached & HOP_MASK))
                    _ask(address, word)
                    nodes += 1
            depth += 8
        for i in range(first, last):
            at = i * step
            hop = search(address, load64(hops + (i << 3)), load64(highs + at), load64(lows + at))
            store64(hops + (i << 3), hop)


@dataclass(frozen=True)
class Lpm6Stats:
    """What a table holds.

    ``routes`` of ``routes_limit``. Of ``node_bytes_limit`` bytes for nodes and lists ``node_bytes`` are used, and
    ``node_bytes_waiting`` of these wait for a grace period. ``memory_bytes`` is everything, the root words and the
    routes themselves included, and ``pages`` what kind: ``hugetlb``, ``thp`` or ``normal``.
    """

    routes: int
    routes_limit: int
    node_bytes: int
    node_bytes_limit: int
    node_bytes_waiting: int
    memory_bytes: int
    pages: str


class Lpm6(Tries):
    """A forwarding table of IPv6 prefixes to next hops (0 to 2^27 - 2).

    A lookup reads a root word, two lines for each further eight bits in which routes differ there, and a list. A change
    is a walk down the routes (log2 of their number) and one node made anew; a prefix of up to /16 is written to
    2^(16 - length) root words. Beside 512 KiB, a route takes 64 bytes of the memory that is set aside for ``routes``
    and, with the Internet's table, 29 more in nodes and lists.

    Args:
        name: other processes attach it by this.
        routes: how many there may be.
        memory: bytes for nodes and lists; 64 a route unless said.
        reclaimer: knows when workers have let go of freed nodes; without one they are reused at once, which is right
            only while nobody looks up. May be set later.

    Raises:
        TableError: ``routes`` or ``memory`` out of range.
        ArenaError: no memory.
    """

    KIND = "lpm6"
    View = Lpm6View

    def __init__(
        self,
        name: str | None = None,
        routes: int = DEFAULT_ROUTES,
        memory: int | None = None,
        reclaimer: Reclaimer | None = None,
    ) -> None:
        self._lay_out(name, routes, memory, ROOT_BYTES + Table.SIZE)
        self.reclaimer = reclaimer
        self._attached()
        Table(self._table).roots = RECORD_BYTES

    def _attached(self) -> None:
        self.reclaimer = self.reclaimer if self.writable else None
        self._bits, self._deferred = ROOT_BITS, 0
        self._table = self.address + _TABLE

    # What nodes call too ------------------------------------------------------------------------------------

    def lookup(self, address: Address6, low: SupportsIndex | None = None) -> int:
        """Next hop of the longest prefix that covers ``address``, or -1. Nodes give (high, low) as two arguments."""
        high, rest = parse_address6(address if low is None else (address, low))  # type: ignore[arg-type]
        return int(Lpm6View(self.address).lookup(signed64(high), signed64(rest)))

    def prefetch(self, high: int, low: int) -> None:
        """A hint in nodes; nothing in plain Python."""

    def outgrows_cache(self) -> bool:
        """Whether lookups will miss the cache so often that a node should prefetch: some 100 bytes a route, 256 KiB."""
        return len(self) * 100 > 256 << 10

    # Routes -------------------------------------------------------------------------------------------------

    def add(self, prefix: Prefix6, next_hop: int) -> None:
        """Add a route, or change its next hop. Workers see the old or the new answer, nothing else.

        Raises:
            TableError: not a prefix, host bits set, next hop out of range, or the table is full; then nothing
                is changed.
        """
        self.add_many([prefix], [next_hop])

    def add_many(self, prefixes: "tuple[NDArray[Any], ...] | Iterable[Prefix6]", next_hops: Iterable[int]) -> None:
        """Add many routes at once; of two with the same prefix the last counts.

        Args:
            prefixes: arrays (addresses, lengths), where addresses is (n, 2) words as
                :func:`~wirespeed.tables.routes.read_routes` gives them; or arrays (highs, lows, lengths); or any
                iterable of what :meth:`add` takes.
            next_hops: one each.

        Raises:
            TableError: as :meth:`add`; names the first bad one. Nothing is changed then.
        """
        highs, lows, lengths = prefix_words(prefixes)
        hops = self._hops(next_hops, self._table, highs, lows, lengths)
        self._change(self._table, highs, lows, lengths, hops)

    def delete(self, prefix: Prefix6) -> None:
        """Delete a route; what it covered falls back to the next shorter one.

        Raises:
            TableError: there is no such route.
        """
        self.delete_many([prefix])

    def delete_many(self, prefixes: "tuple[NDArray[Any], ...] | Iterable[Prefix6]") -> None:
        """Delete many routes at once; ``prefixes`` as for :meth:`add_many`.

        Raises:
            TableError: there is no such route; names the first. Nothing is changed then.
        """
        highs, lows, lengths = prefix_words(prefixes)
        self._delete(self._table, highs, lows, lengths)

    def clear(self) -> None:
        """Delete every route, one by one: fit for live tables."""
        self._clear(self._table)

    def get(self, prefix: Prefix6) -> int | None:
        """The next hop of exactly this route, or None."""
        high, low, length = parse_prefix6(prefix)
        return self._get(self._table, signed64(high), signed64(low), length)

    def __contains__(self, prefix: Prefix6) -> bool:
        return self.get(prefix) is not None

    def __len__(self) -> int:
        return int(Table(self._table).routes)

    def __iter__(self) -> Iterator[tuple[str, int]]:
        """(prefix as text, next hop), by address and then length: as they are when the iteration starts."""
        for high, low, length, hop in zip(*(array.tolist() for array in self._export(self._table)), strict=True):
            yield prefix_text6(high, low, length), hop

    def to_arrays(self) -> tuple[NDArray[np.uint64], NDArray[np.uint8], NDArray[np.int64]]:
        """(addresses as (n, 2) words, lengths, next hops), by address and then length."""
        highs, lows, lengths, hops = self._export(self._table)
        return np.stack([highs, lows], axis=1).view(np.uint64), lengths.astype(np.uint8), hops

    def save(self, path: str | Path) -> None:
        """Write the routes as text, ``2001:db8::/32 7`` a line, sorted; gzip if the name ends in ``.gz``.

        The file appears whole or not at all.

        Raises:
            TableError: the file cannot be written.
        """
        save_prefixes(path, self)

    def lookup_many(self, addresses: Any) -> NDArray[np.int64]:
        """Next hop or -1 of each address of an array (n, 2) of words, a pair of arrays, or an iterable of addresses."""
        pairs = isinstance(addresses, np.ndarray) and addresses.ndim == 2 and addresses.shape[1] == 2
        if pairs and addresses.dtype.itemsize == 8 and addresses.dtype.kind in "iu" and addresses.flags.c_contiguous:
            hops = np.empty(len(addresses), np.int64)
            with lent(addresses, hops) as (words, out):
                lookup_array(self.address, words, words + 8, 16, out, len(hops))
            return hops
        highs, lows = address_words(addresses)
        hops = np.empty(len(highs), np.int64)
        with lent(highs, lows, hops) as places:
            lookup_array(self.address, places[0], places[1], 8, places[2], len(hops))
        return hops

    def stats(self) -> Lpm6Stats:
        """How full it is."""
        record = Record(self.address)
        return Lpm6Stats(
            len(self), record.routes_limit, record.units_used << UNIT_SHIFT,
            (record.units_end - record.units_first) << UNIT_SHIFT, record.units_waiting << UNIT_SHIFT,
            self.memory_bytes, self.pages,
        )  # fmt: skip

    def __repr__(self) -> str:
        if self.region.fd < 0:
            return f"<Lpm6 {self.name}: closed>"
        return f"<Lpm6 {self.name}: {len(self)} routes, {self.pages} pages>"

    def _text(self, table: int, high: int, low: int, length: int) -> str:
        return prefix_text6(high, low, length)


__all__ = ["DEFAULT_ROUTES", "MAX_HOP", "Lpm6", "Lpm6Stats", "Lpm6View", "Reclaimer"]

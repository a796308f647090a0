"""Table4: what the IPv4 tables have in common: routes, and how Python changes, asks and lists them.

::

    fib = ws.Lpm4()                                   # or ws.Poptrie4(): the same interface
    fib.add("0.0.0.0/0", 1)
    fib.add_many((addresses, lengths), next_hops)     # NumPy arrays: a million routes in some 100 ms
    fib.lookup("192.0.2.9"), fib.lookup_many(ips)
    fib.save("routes.txt.gz")

A table is two things side by side in one region: the routes (:mod:`wirespeed.tables.rib4`), which control code
reads and writes, and a forwarding structure that workers read, which each table lays out in its own way. Whatever
changes several routes sorts them first, and is one compiled call; either all of it happens or nothing.
"""

import gzip
import operator
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from wirespeed.errors import TableError
from wirespeed.jit import kernel
from wirespeed.mem.shared import Shared
from wirespeed.tables.prefix import Address4, Prefix4, parse_address, parse_prefix, prefix_keys, prefix_text
from wirespeed.tables.reclaimer import Reclaimer
from wirespeed.tables.rib4 import (
    HOP_MASK,
    LENGTH_SHIFT,
    MAX_HOP,
    MAX_ROUTES,
    RibView,
    format_rib,
    one_each,
    rib_get,
    rib_missing,
    routes_of,
)

DEFAULT_ROUTES: int = 1 << 20
"""Routes there may be: the Internet's table of 2026 has 0.9 million."""

Prefixes4: TypeAlias = tuple[NDArray[Any], NDArray[Any]] | Iterable[Prefix4]
"""Arrays (addresses, lengths), as :func:`~wirespeed.tables.routes.load_routes` gives them, or any iterable."""

Words: TypeAlias = NDArray[np.int64]


class Table4(Shared):
    """Base of the IPv4 tables; make a :class:`~wirespeed.tables.lpm.Lpm4` or a
    :class:`~wirespeed.tables.poptrie.Poptrie4`.

    Next hops are 0 to 2^25 - 2. One process writes, with one thread at a time; others may attach the table by its
    name and look up, get, list and count. Costs, without what Python itself takes for a call: ``add`` and ``delete``
    change what the prefix covers, ``get`` is one hash lookup, listing reads the whole table and sorts it.

    Attributes:
        reclaimer: knows when workers have let go of memory that an update unlinked; without one it is reused at
            once, which is right only while nobody looks up. May be set later.
    """

    reclaimer: Reclaimer | None = None
    _rib: int

    @staticmethod
    def _check_limit(name: str, routes: int) -> int:
        routes = operator.index(routes)
        if not 1 <= routes <= MAX_ROUTES:
            raise TableError(f"{name}: a table of {routes} routes is not possible: use 1 to {MAX_ROUTES}")
        return routes

    def _format(self, rib: int, routes: int) -> None:
        format_rib(rib, routes)
        self._begin(rib)

    def _begin(self, rib: int) -> None:
        self._rib, self._record = rib, RibView(rib)
        self._view: Any = self.View(self.address)
        self._one: Words = np.empty(1, np.int64)

    # What a table adds to this ------------------------------------------------------------------------------

    def _insert(self, words: Words) -> None:
        """Put sorted words in, all or none. Raises TableError: no memory for them."""
        raise NotImplementedError

    def _remove(self, words: Words) -> None:
        """Take out what is known to be there, sorted."""
        raise NotImplementedError

    def _lookup_array(self, addresses: NDArray[np.uint32], hops: NDArray[np.int64]) -> None:
        raise NotImplementedError

    # Looking up ---------------------------------------------------------------------------------------------

    def lookup(self, address: Address4) -> int:
        """Next hop of the longest prefix that covers ``address``, or -1."""
        return int(self._view.lookup(parse_address(address)))

    def prefetch(self, address: int) -> None:
        """A hint in nodes; nothing in plain Python."""

    def lookup_many(self, addresses: "NDArray[Any] | Iterable[Address4]") -> NDArray[np.int64]:
        """Next hop or -1 of each address: an array of integers, or any iterable of addresses.

        Raises:
            TableError: something is no IPv4 address; names the first.
        """
        wanted = _addresses(addresses)
        hops = np.empty(len(wanted), dtype=np.int64)
        self._lookup_array(wanted, hops)
        return hops

    # Changing -----------------------------------------------------------------------------------------------

    def add(self, prefix: Prefix4, next_hop: int) -> None:
        """Add a route, or change its next hop. Workers see the old or the new answer, nothing else.

        Raises:
            TableError: not a prefix, host bits set, next hop out of range, or no room. Nothing is changed then.
        """
        self._check_writable()
        key, next_hop = parse_prefix(prefix), operator.index(next_hop)
        if not 0 <= next_hop <= MAX_HOP:
            raise self._bad_hop(next_hop, key)
        self._one[0] = key << LENGTH_SHIFT | next_hop + 1
        self._check_room(self._one)
        self._insert(self._one)

    def add_many(self, prefixes: Prefixes4, next_hops: "NDArray[Any] | Iterable[int]") -> None:
        """Add many routes at once; of two with the same prefix the last counts.

        Args:
            prefixes: arrays (addresses, lengths), or any iterable of what :meth:`add` takes.
            next_hops: one each.

        Raises:
            TableError: as :meth:`add`; names the first bad one. Nothing is changed then.
        """
        self._check_writable()
        keys = _keys(prefixes)
        given = next_hops if isinstance(next_hops, np.ndarray) else np.array(list(next_hops), dtype=np.int64)
        if given.dtype.kind not in "iu":
            raise TableError(f"{self.name}: next hops of type {given.dtype} are not possible: give integers")
        if len(keys) != len(given):
            raise TableError(f"{self.name}: {len(keys)} prefixes have {len(given)} next hops: give one each")
        bad = (given < 0) | (given > MAX_HOP)
        if bad.any():
            at = int(bad.argmax())
            raise self._bad_hop(int(given[at]), int(keys[at]))
        words = _sorted(keys, given.astype(np.int64))
        self._check_room(words)
        if len(words):
            self._insert(words)

    def delete(self, prefix: Prefix4) -> None:
        """Delete a route; what it covered falls back to the next shorter one.

        Raises:
            TableError: there is no such route.
        """
        self._check_writable()
        self._one[0] = parse_prefix(prefix) << LENGTH_SHIFT
        self._check_present(self._one)
        self._remove(self._one)

    def delete_many(self, prefixes: Prefixes4) -> None:
        """Delete many routes at once.

        Raises:
            TableError: one of them is not there, or no prefix; names the first. Nothing is changed then.
        """
        self._check_writable()
        words = one_each(np.sort(_keys(prefixes) << LENGTH_SHIFT))
        self._check_present(words)
        if len(words):
            self._remove(words)

    def clear(self) -> None:
        """Delete every route, one by one: fit for live tables."""
        self._check_writable()
        words = routes_of(self._rib)
        if len(words):
            self._remove(words & ~np.int64(HOP_MASK))

    # Routes -------------------------------------------------------------------------------------------------

    def get(self, prefix: Prefix4) -> int | None:
        """The next hop of exactly this route, or None."""
        entry = rib_get(self._rib, parse_prefix(prefix))
        return (entry & HOP_MASK) - 1 if entry else None

    def __contains__(self, prefix: Prefix4) -> bool:
        return bool(rib_get(self._rib, parse_prefix(prefix)))

    def __len__(self) -> int:
        return int(self._record.routes)

    def __iter__(self) -> Iterator[tuple[str, int]]:
        """(prefix as text, next hop), sorted: by address, shorter prefixes first. As they were when it began."""
        for word in routes_of(self._rib).tolist():
            yield prefix_text(word >> LENGTH_SHIFT), (word & HOP_MASK) - 1

    def to_arrays(self) -> tuple[NDArray[np.uint32], NDArray[np.uint8], NDArray[np.int64]]:
        """(addresses, lengths, next hops), sorted as by iterating: what :meth:`add_many` takes."""
        words = routes_of(self._rib)
        lengths = (words >> LENGTH_SHIFT) & 63
        return (words >> LENGTH_SHIFT + 6).astype(np.uint32), lengths.astype(np.uint8), (words & HOP_MASK) - 1

    def save(self, path: str | Path) -> None:
        """Write the routes as text, ``192.0.2.0/24 7`` a line, sorted; gzip if the name ends in ``.gz``.

        :func:`~wirespeed.tables.routes.load_routes` reads the prefixes back. The file appears whole or not at all.

        Raises:
            TableError: it cannot be written.
        """
        words, path = routes_of(self._rib), Path(path)
        text = np.empty(len(words) * 28, np.uint8)
        data = text[: _write_lines(words, text)].tobytes()
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            fresh.write_bytes(gzip.compress(data, 6, mtime=0) if path.suffix == ".gz" else data)
            fresh.replace(path)
        except OSError as error:
            fresh.unlink(missing_ok=True)
            raise TableError(f"{path}: cannot write routes: {error.strerror or error}") from error

    def __repr__(self) -> str:
        if self.region.fd < 0:
            return f"<{type(self).__name__} {self.name}: closed>"
        return f"<{type(self).__name__} {self.name}: {len(self)} routes, {self.pages} pages>"

    # Inside -------------------------------------------------------------------------------------------------

    def _bad_hop(self, hop: int, key: int) -> TableError:
        return TableError(
            f"{self.name}: next hop {hop} of {prefix_text(key)} is not 0 to {MAX_HOP}: number the next hops densely "
            "and keep what they mean in a table of their own"
        )

    def _check_room(self, words: Words) -> None:
        left = self._record.limit - self._record.routes
        if len(words) <= left:
            return
        fresh = rib_missing(self._rib, words)[0]
        if fresh > left:
            raise TableError(
                f"{self.name} is full: {fresh} more routes are too many, {len(self)} of {self._record.limit} are "
                f"taken: create it with routes={2 * max(self._record.limit, fresh)}"
            )

    def _check_present(self, words: Words) -> None:
        missing, first = rib_missing(self._rib, words)
        if missing:
            raise TableError(
                f"{self.name}: there is no route {prefix_text(int(words[first]) >> LENGTH_SHIFT)} to delete"
            )

    def _reclaim(self, retired: int) -> None:
        """Let ``retired`` pieces of memory that nothing leads to be used again, once no worker can be reading them."""
        if retired and self.reclaimer is not None:
            self.reclaimer.defer(lambda: self._release(retired))

    def _release(self, count: int) -> None:
        raise NotImplementedError


def _addresses(addresses: Any) -> NDArray[np.uint32]:
    if not isinstance(addresses, np.ndarray):
        return np.array([parse_address(address) for address in addresses], dtype=np.uint32)
    if addresses.dtype.kind not in "iu" or addresses.ndim != 1:
        raise TableError(f"{addresses.ndim}-dimensional {addresses.dtype} are no addresses: give one row of integers")
    if addresses.dtype != np.uint32 and len(addresses) and not 0 <= addresses.min() <= addresses.max() <= 0xFFFF_FFFF:
        parse_address(int(addresses.min() if addresses.min() < 0 else addresses.max()))  # says what is wrong with it
    return np.ascontiguousarray(addresses, dtype=np.uint32)


def _keys(prefixes: Any) -> Words:
    if isinstance(prefixes, tuple) and len(prefixes) == 2 and isinstance(prefixes[0], np.ndarray):
        return prefix_keys(*prefixes)
    return np.array([parse_prefix(prefix) for prefix in prefixes], dtype=np.int64)


def _sorted(keys: Words, hops: Words) -> Words:
    """Words in order, one for each prefix: its last."""
    words = np.sort(keys << LENGTH_SHIFT | hops + 1)
    if len(one_each(words)) < len(words):
        order = np.argsort(keys, kind="stable")
        words = one_each(keys[order] << LENGTH_SHIFT | hops[order] + 1)
    return words


@kernel
def _write_lines(words: Any, text: Any) -> int:
    """``192.0.2.0/24 7`` a line; bytes written."""
    end = 0
    for i in range(len(words)):
        word = int(words[i])
        for part in range(6):
            value = (word >> (55 - 8 * part)) & 255
            if part == 4:
                value = (word >> LENGTH_SHIFT) & 63
            elif part == 5:
                value = (word & HOP_MASK) - 1
            unit = 1
            while value // unit >= 10:
                unit *= 10
            while unit > 0:
                text[end] = 48 + value // unit % 10
                unit //= 10
                end += 1
            text[end] = 46 if part < 3 else 47 if part == 3 else 32 if part == 4 else 10
            end += 1
    return end

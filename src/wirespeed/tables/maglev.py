"""Maglev: which backend serves a flow, even and steady when backends come and go.

D. E. Eisenbud et al., "Maglev: A fast and reliable software network load balancer", NSDI 2016, section 3.4.

::

    backends = ws.Maglev(["10.0.0.1", "10.0.0.2"])
    ...
    backend = backends.pick(flow_hash)        # in a node: an index; -1 when there is none
    backends.names[backend]                   # in Python

Each backend fills the table in an order of its own, derived from its name alone, taking turns: so all have the same
share (one entry more or less), and when one leaves, few flows of the others move (the paper: about 1 % at 100 entries
a backend). Two load balancers with the same names and size agree without talking.

    0    record: which of two tables is in use, size, backends, changes
    64   two tables of ``size`` entries of 4 bytes: backend + 1; 0 is none

A change fills the other table and publishes it with one store; the first is filled again only after a grace period. A
lookup is one load, a change O(size). Weights: a backend of weight 2 takes two turns.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from wirespeed.errors import TableError
from wirespeed.jit import View, kernel, le64, load32, load_relaxed, store_release
from wirespeed.mem.shared import Shared
from wirespeed.tables.reclaimer import Reclaimer

_HEAD = 64
MAX_SIZE: int = 1 << 24
MAX_WEIGHT: int = 1000


class MaglevView(View):
    """The table as nodes see it."""

    table = le64(0, "offset of the table in use")
    size = le64(8, "entries of a table, a prime")
    backends = le64(16, "how many")
    changes = le64(24, "how often a table was filled")
    SIZE = _HEAD

    def pick(self, flow_hash: int) -> int:
        """The backend's index for a 32-bit hash of the flow; -1 when there is no backend."""
        table = self.address + load_relaxed(self.address)
        at = ((flow_hash & 0xFFFF_FFFF) * self.size) >> 32  # no division, and even: the hash is
        return int(load32(table + (at << 2)) - 1)


@kernel
def _populate(table, turns):  # type: ignore[no-untyped-def]
    """Section 3.4, algorithm 1. ``turns``: rows of a backend, its next entry and its step."""
    size = len(table)
    table[:] = 0
    filled = 0
    while filled < size:
        for turn in range(len(turns)):
            at, step = int(turns[turn, 1]), int(turns[turn, 2])
            while table[at] != 0:
                at += step
                if at >= size:
                    at -= size
            table[at] = turns[turn, 0] + 1
            turns[turn, 1] = at
            filled += 1
            if filled == size:
                return


@kernel
def _pick_many(address, hashes, picked):  # type: ignore[no-untyped-def]
    view = MaglevView(address)
    for i in range(len(hashes)):
        picked[i] = view.pick(int(hashes[i]))


@kernel
def _publish(address, table):  # type: ignore[no-untyped-def]
    store_release(address, table)


@dataclass(frozen=True)
class MaglevStats:
    """``shares``: entries of the table for each backend, by name; ``changes``: how often it was filled."""

    backends: int
    size: int
    shares: dict[str, int]
    changes: int
    memory_bytes: int
    pages: str


class Maglev(Shared):
    """A lookup table of ``size`` entries over the backends.

    Args:
        backends: names, or names with weights (1 to 1000); what they mean is the caller's.
        size: entries; the next prime is taken. The paper uses 65537, and 655373 for many backends: 100 entries a
            backend keep shares within 1 %.
        name: under which other processes can attach it.
        reclaimer: knows when workers have let go of a table (an engine sets it).

    Raises:
        TableError: too many backends for the size, a weight out of range, a name twice.
    """

    View: ClassVar[type[MaglevView]] = MaglevView
    KIND = "maglev"

    def __init__(
        self,
        backends: "Mapping[str, int] | Iterable[str]" = (),
        size: int = 65537,
        name: str | None = None,
        reclaimer: Reclaimer | None = None,
    ) -> None:
        if not 2 <= size <= MAX_SIZE:
            raise TableError(f"{name or self.KIND}: {size} entries are not possible: use 2 to {MAX_SIZE}")
        size = _next_prime(size)
        weights = _weights(name or self.KIND, backends, size)
        stride = -(-4 * size // 64) * 64
        self._create(_HEAD + 2 * stride, name)
        self.reclaimer = reclaimer
        self._attached()
        self._view.size = size
        self._view.table = _HEAD + stride
        self.set(weights)

    def _attached(self) -> None:
        self._view = MaglevView(self.address)
        self._weights: dict[str, int] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The backends; :meth:`pick` gives an index into this. Known to the process that made the table."""
        return tuple(self._weights)

    def set(self, backends: "Mapping[str, int] | Iterable[str]") -> None:
        """Serve by these backends from now on; workers see the old table or the new one.

        The indices of backends that stay may change: those of the new order count from the call on.

        Raises:
            TableError: as when it is made; nothing changes then.
        """
        self._check_writable()
        size = int(self._view.size)
        weights = _weights(self.name, backends, size)
        if self.reclaimer is not None:
            self.reclaimer.synchronize()  # nobody reads the table that is not in use any more
        spare = _HEAD + (-(-4 * size // 64) * 64 if self._view.table == _HEAD else 0)
        turns = [
            (index, *_permutation(name, turn, size))
            for turn in range(max(weights.values(), default=0))
            for index, (name, weight) in enumerate(weights.items())
            if turn < weight
        ]
        table = self._words(np.uint32, spare, size)
        table[:] = 0
        if turns:
            _populate(table, np.array(turns, dtype=np.int64))
        _publish(self.address, spare)
        self._weights = weights
        self._view.backends, self._view.changes = len(weights), self._view.changes + 1

    def pick(self, flow_hash: int) -> int:
        """See :meth:`MaglevView.pick`."""
        return int(self._view.pick(flow_hash))

    def pick_many(self, hashes: Any) -> NDArray[np.int64]:
        """The backend's index, or -1, for each of an array of hashes."""
        wanted = np.ascontiguousarray(hashes, dtype=np.int64)
        picked = np.empty(wanted.size, dtype=np.int64)
        _pick_many(self.address, wanted.ravel(), picked)
        return picked.reshape(wanted.shape)

    def __len__(self) -> int:
        return int(self._view.backends)

    def stats(self) -> MaglevStats:
        """How many entries each backend has."""
        entries = self._entries()
        counts = np.bincount(entries, minlength=len(self) + 1)[1:].tolist()
        names = self.names or tuple(str(index) for index in range(len(counts)))
        shares = dict(zip(names, counts, strict=True))
        return MaglevStats(len(self), len(entries), shares, int(self._view.changes), self.memory_bytes, self.pages)

    def _entries(self) -> NDArray[np.uint32]:
        return self._words(np.uint32, int(self._view.table), int(self._view.size))

    def __repr__(self) -> str:
        return f"<Maglev {self.name}: {len(self)} backends in {self._view.size} entries>"


def _weights(what: str, backends: "Mapping[str, int] | Iterable[str]", size: int) -> dict[str, int]:
    pairs = list(backends.items()) if isinstance(backends, Mapping) else [(name, 1) for name in backends]
    weights = dict(pairs)
    if len(weights) != len(pairs):
        twice = next(name for name, _ in pairs if sum(other == name for other, _ in pairs) > 1)
        raise TableError(f"{what}: backend {twice!r} is there twice: give it a weight instead")
    for name, weight in weights.items():
        if not 1 <= weight <= MAX_WEIGHT:
            raise TableError(f"{what}: backend {name!r} has weight {weight}: use 1 to {MAX_WEIGHT}")
    if sum(weights.values()) > size:
        raise TableError(f"{what}: weights of {sum(weights.values())} in all need as many entries, it has {size}")
    return weights


def _permutation(name: str, turn: int, size: int) -> tuple[int, int]:
    """Where a backend begins and how it steps: from its name only, the same on every machine."""
    digest = hashlib.blake2b(f"{name}\0{turn}".encode(), digest_size=16).digest()
    return int.from_bytes(digest[:8]) % size, int.from_bytes(digest[8:]) % (size - 1) + 1


def _next_prime(at_least: int) -> int:
    """The smallest prime that is not below."""
    number = max(at_least, 2)
    while any(number % factor == 0 for factor in range(2, int(number**0.5) + 1)):
        number += 1
    return number

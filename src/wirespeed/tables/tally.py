"""Tally: count by key, in nodes; read it from Python while it counts.

::

    talkers = Tally(10_000, workers=2)
    ...
    talkers.add(pkt.ipv4.src, pkt.length)          # in a node
    talkers.most_common(10)                        # any time, in Python: [(key, count), ...]

Each worker counts in a block of its own, and reading sums them. A block is an open-addressed hash table:

    offset  bytes  what
    0       128    record (:class:`TallyView`)
    128     16     slot: key, count; count 0 is an empty slot. 2 to 4 slots for each key it may hold

The key is stored before its first count, and a reader takes the counts before the keys, so it never sees a
count beside a key that is not its own. Strangers choose the keys: the hash is seeded, a search is bounded,
and what comes after the table is full goes to ``overflow``.
"""

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import nlargest
from operator import itemgetter
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from wirespeed.errors import TableError
from wirespeed.jit import View, le64, load64, shift_right, store64, store_release
from wirespeed.mem.shared import Shared
from wirespeed.tables.seed import SEED, mix

_RECORD = 128
_PROBES = 64  # a seeded table that is half empty needs more than 20 once in a lifetime
MAX_CAPACITY: int = 1 << 28


class TallyView(View):
    """One worker's block."""

    capacity = le64(0, "keys it may hold")
    mask = le64(8, "slots - 1")
    shift = le64(16, "64 - log2(slots)")
    seed0 = le64(24)
    seed1 = le64(32)
    seed2 = le64(40)
    used = le64(64, "keys it holds")
    overflow = le64(72, "sum of what was added for keys that found no place")
    SIZE = _RECORD

    def add(self, key: int, n: int = 1) -> None:
        """Add ``n`` (1 or more; less is ignored) to the count of a 64-bit ``key``."""
        if n < 1:
            return
        at = shift_right(mix(key, self.seed0, self.seed1, self.seed2), self.shift)
        for _ in range(_PROBES):
            slot = self.address + _RECORD + (at << 4)
            held = load64(slot + 8)
            if held == 0:
                if self.used >= self.capacity:
                    break
                self.used += 1
                store64(slot, key)
                store_release(slot + 8, n)
                return
            if load64(slot) == key:
                store64(slot + 8, held + n)
                return
            at = (at + 1) & self.mask
        self.overflow += n

    def count(self, key: int) -> int:
        """This worker's count of ``key``."""
        at = shift_right(mix(key, self.seed0, self.seed1, self.seed2), self.shift)
        for _ in range(_PROBES):
            slot = self.address + _RECORD + (at << 4)
            held = load64(slot + 8)
            if held == 0:
                break
            if load64(slot) == key:
                return int(held)
            at = (at + 1) & self.mask
        return 0


@dataclass(frozen=True)
class TallyStats:
    """How full a tally is: different ``keys`` over all workers, what each may hold, what found no place."""

    keys: int
    capacity: int
    workers: int
    overflow: int
    memory_bytes: int
    pages: str


class Tally(Shared):
    """Counts of up to ``capacity`` different keys a worker.

    Iterating gives (key, count), so ``dict(tally)`` is a snapshot. Keys are int64.

    Args:
        capacity: keys each worker may hold; 32 to 64 bytes for each.
        workers: how many count. Worker ``i`` uses ``View(address + i * stride)``.
        name: under which other processes can attach it; ``tally`` in errors without one.

    Raises:
        TableError: capacity or workers out of range.
        ArenaError: no memory.
    """

    View: ClassVar[type[TallyView]] = TallyView
    KIND = "tally"

    def __init__(self, capacity: int, workers: int = 1, name: str | None = None) -> None:
        if not 1 <= capacity <= MAX_CAPACITY:
            raise TableError(f"{name or self.KIND}: capacity {capacity} is not 1 to {MAX_CAPACITY}")
        if workers < 1:
            raise TableError(f"{name or self.KIND}: {workers} workers cannot count: 1 or more")
        bits = max((2 * capacity - 1).bit_length(), 1)
        stride = -(-(_RECORD + (16 << bits)) // _RECORD) * _RECORD
        self._create(stride * workers, name, workers=workers, stride=stride)
        for worker in range(workers):
            block = TallyView(self.address + worker * stride)
            block.capacity, block.mask, block.shift = capacity, (1 << bits) - 1, 64 - bits
            block.seed0, block.seed1, block.seed2 = SEED
        self._attached()

    def _attached(self) -> None:
        self.workers, self.stride = self.parameters["workers"], self.parameters["stride"]
        self._blocks = [TallyView(self.address + worker * self.stride) for worker in range(self.workers)]
        self.capacity, self._slots = self._blocks[0].capacity, self._blocks[0].mask + 1

    def prepare(self, workers: int) -> None:
        """The engine's question before a start: can so many workers count here?

        Raises:
            TableError: the tally was made for fewer.
        """
        if workers > self.workers:
            raise TableError(
                f"{self.name} counts for {self.workers} of {workers} workers: make it with workers={workers}"
            )

    def add(self, key: int, n: int = 1) -> None:
        """Count in worker 0's block, when a node runs as plain Python."""
        self._check_writable()
        self._blocks[0].add(key, n)

    def count(self, key: int) -> int:
        """The count of one key, over all workers; 0 if it was never seen."""
        return int(sum(block.count(key) for block in self._blocks))

    __getitem__ = count

    def most_common(self, n: int | None = None) -> list[tuple[int, int]]:
        """The ``n`` keys with the highest counts (all of them if None), highest first."""
        if n is None:
            return sorted(self, key=itemgetter(1), reverse=True)
        return nlargest(n, self, key=itemgetter(1))

    def __iter__(self) -> Iterator[tuple[int, int]]:
        keys, counts = self.arrays()
        return iter(list(zip(keys.tolist(), counts.tolist(), strict=True)))

    def __len__(self) -> int:
        return len(self.arrays()[0])

    def arrays(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(keys, counts) summed over the workers, sorted by key: the quick way for many."""
        parts = [self._read(block) for block in self._blocks]
        keys, which = np.unique(np.concatenate([part[0] for part in parts]), return_inverse=True)
        counts = np.zeros(len(keys), dtype=np.int64)
        np.add.at(counts, which, np.concatenate([part[1] for part in parts]))
        return keys, counts

    @property
    def overflow(self) -> int:
        """What was added for keys that found no place, over all workers."""
        return int(sum(block.overflow for block in self._blocks))

    def stats(self) -> TallyStats:
        """How full it is."""
        return TallyStats(len(self), self.capacity, self.workers, self.overflow, self.memory_bytes, self.pages)

    def __repr__(self) -> str:
        return f"<Tally {self.name}: {len(self)} keys, overflow {self.overflow}>"

    def _read(self, block: TallyView) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        memory = (ctypes.c_int64 * (2 * self._slots)).from_address(block.address + _RECORD)
        pairs = np.ctypeslib.as_array(memory).reshape(-1, 2)
        counts = pairs[:, 1].copy()  # before the keys: see above
        filled = counts > 0
        return pairs[filled, 0], counts[filled]

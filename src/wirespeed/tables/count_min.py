"""Count-min: how often (or how many bytes) for each key, never too low, in memory that does not grow with the keys.

::

    usage = ws.CountMin(error=0.0001, workers=2)
    ...
    if usage.add(pkt.ipv4.src, pkt.length) > limit:      # in a node: adds, and says how much it is now
    usage.count(0xC0000201)                              # in Python, over all workers

Some rows of counters; a key has one counter in each row, and its count is the lowest of them. It is never less than
the truth, and more than ``error`` times the sum of all counts too much at most
so often as 1 - ``confidence`` says.
``conservative``: adding raises only the counters that have to be raised (Estan and Varghese), which errs far less and
makes it impossible to take counts away again.

    offset  bytes              what (in each worker's copy)
    0       256                record (:class:`CountMinView`)
    256     8 * width * depth  the rows of counters

Adding reads and writes ``depth`` counters, one in each row: as many cache misses when it is large. Each worker adds
to a copy of its own, and Python sums what the copies say.

G. Cormode and S. Muthukrishnan, "An improved data stream summary: the count-min sketch and its applications", Journal
of Algorithms 55 (2005), section 3; C. Estan and G. Varghese, "New directions in traffic measurement and accounting",
SIGCOMM 2002 (conservative update).
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wirespeed.errors import TableError
from wirespeed.jit import kernel, le64, lent, load64, multiply, prefetch, shift_right, store64
from wirespeed.tables.sketch import DATA, Sketch, SketchView

_ROW_SECRETS = 32  # of the record: a word for each row
_BATCH = 16
MAX_DEPTH: int = 8
MAX_BYTES: int = 1 << 33


class CountMinView(SketchView):
    """One worker's counters."""

    depth = le64(128, "rows, 1 to 8")
    shift = le64(136, "64 - log2(counters of a row)")
    row_bytes = le64(144, "bytes of a row")
    conservative = le64(152, "1: raise only what has to be")
    total = le64(160, "sum of what was added")
    SIZE = DATA

    def counter(self, digest: int, row: int) -> int:
        """Address of a key's counter in a row."""
        column = shift_right(multiply(digest, load64(self.address + _ROW_SECRETS + (row << 3))), self.shift)
        return self.address + DATA + row * self.row_bytes + (column << 3)

    def count_digest(self, digest: int) -> int:
        """This worker's count of a key, by its digest."""
        least = load64(self.counter(digest, 0))
        for row in range(1, self.depth):
            least = min(least, load64(self.counter(digest, row)))
        return least

    def add_digest(self, digest: int, n: int) -> int:
        """Add to a key, by its digest; its count in this worker now."""
        now = self.count_digest(digest) + n
        if self.conservative:
            for row in range(self.depth):
                at = self.counter(digest, row)
                store64(at, max(load64(at), now))
        else:
            for row in range(self.depth):
                at = self.counter(digest, row)
                store64(at, load64(at) + n)
        self.total += n
        return now

    def add(self, key: int, n: int = 1) -> int:
        """Add ``n`` (0 or more) to an integer key; its count in this worker now."""
        return self.add_digest(self.digest(key), n)

    def count(self, key: int) -> int:
        """This worker's count of an integer key."""
        return self.count_digest(self.digest(key))

    def add_at(self, address: int, n: int = 1) -> int:
        """:meth:`add` for the key of ``key_bytes`` bytes at an address."""
        return self.add_digest(self.digest_at(address), n)

    def count_at(self, address: int) -> int:
        """:meth:`count` for the key of ``key_bytes`` bytes at an address."""
        return self.count_digest(self.digest_at(address))


@kernel
def _add_rows(sketch: int, address: int, count: int, stride: int, amounts: int, step: int, out: int) -> None:
    """Add the amounts (``step`` bytes apart; 0 for one amount) to each row, in batches that prefetch."""
    view = CountMinView(sketch)
    for first in range(0, count, _BATCH):
        last = min(first + _BATCH, count)
        for i in range(first, last):
            digest = view.digest_row(address + i * stride)
            for row in range(view.depth):
                prefetch(view.counter(digest, row))
            store64(out + i * 8, digest)
        for i in range(first, last):
            store64(out + i * 8, view.add_digest(load64(out + i * 8), load64(amounts + i * step)))


@kernel
def _count_rows(sketch: int, address: int, count: int, stride: int, copies: int, copy_bytes: int, out: int) -> None:
    """Sum the counts of each row over all workers' copies."""
    first_copy = CountMinView(sketch)
    for first in range(0, count, _BATCH):
        last = min(first + _BATCH, count)
        for i in range(first, last):
            digest = first_copy.digest_row(address + i * stride)
            for copy in range(copies):
                view = CountMinView(sketch + copy * copy_bytes)
                for row in range(view.depth):
                    prefetch(view.counter(digest, row))
            store64(out + i * 8, digest)
        for i in range(first, last):
            total = 0
            for copy in range(copies):
                total += CountMinView(sketch + copy * copy_bytes).count_digest(load64(out + i * 8))
            store64(out + i * 8, total)


@dataclass(frozen=True)
class CountMinStats:
    """``total`` of all counts; a share ``confidence`` of counts is too high by ``error_bound`` at most."""

    total: int
    error_bound: float
    confidence: float
    width: int
    depth: int
    workers: int
    memory_bytes: int
    pages: str


class CountMin(Sketch):
    """Counts by key, never too low; 8 bytes * (2.72 / error, up to a power of two) * ln(1 / (1 - confidence)).

    Args:
        error: what a count may be too high by, as a share of the sum of all counts, 1e-8 to 0.5.
        confidence: how many counts are within the error, 0.5 to 0.9996.
        conservative: raise only the counters that have to be raised.
        workers: how many add; each has a copy.
        key_bytes: 1 to 64 when keys are bytes, 0 when they are integers of 64 bits.
        seed: for runs that can be repeated; secret by default.
        name: for other processes to attach it by.

    Raises:
        TableError: an argument out of range.
        ArenaError: no memory, or the name is taken.
    """

    View = CountMinView
    KIND = "count-min"

    def __init__(
        self, error: float = 0.001, confidence: float = 0.98, conservative: bool = True, workers: int = 1,
        key_bytes: int = 0, seed: int | None = None, name: str | None = None,
    ) -> None:  # fmt: skip
        if not 1e-8 <= error <= 0.5:
            raise TableError(f"{name or self.KIND}: error {error} is not 1e-8 to 0.5")
        if not 0.5 <= confidence <= 1 - math.exp(-MAX_DEPTH):
            raise TableError(
                f"{name or self.KIND}: confidence {confidence} is not 0.5 to {1 - math.exp(-MAX_DEPTH):.4f}"
            )
        bits = math.ceil(math.log2(math.e / error))
        depth = math.ceil(-math.log(1 - confidence) - 1e-9)
        if 8 * depth << bits > MAX_BYTES:
            raise TableError(
                f"{name or self.KIND}: error {error} takes {8 * depth << bits} bytes; the limit is {MAX_BYTES}"
            )
        self._begin(name, 8 * depth << bits, workers, key_bytes, seed, width=1 << bits, depth=depth)
        self._attached()
        for block in self._blocks:
            block.depth, block.shift, block.row_bytes = depth, 64 - bits, 8 << bits
            block.conservative = int(conservative)

    def add(self, key: "int | bytes", n: int = 1) -> int:
        """Add ``n`` to a key, as worker 0; its count there now."""
        self._check_writable()
        if n < 0:
            raise TableError(f"{self.name}: {n} cannot be added: counts only grow")
        return int(self._blocks[0].add_digest(self._digest(key), n))

    def count(self, key: "int | bytes") -> int:
        """The count of a key over all workers; never too low."""
        digest = self._digest(key)
        return int(sum(block.count_digest(digest) for block in self._blocks))

    __getitem__ = count

    def add_at(self, address: int, n: int = 1) -> int:
        """:meth:`add` for the key at an address, when a node runs as plain Python."""
        return int(self._blocks[0].add_at(address, n))

    def count_at(self, address: int) -> int:
        """:meth:`count` for the key at an address, when a node runs as plain Python."""
        return int(self._blocks[0].count_at(address))

    def add_many(self, keys: NDArray[Any], n: "int | NDArray[Any]" = 1) -> NDArray[np.int64]:
        """Add to an array of keys, one after the other, as worker 0; the count of each when it was added.

        Args:
            keys: integers, or rows of bytes.
            n: what to add to all, or to each.

        Raises:
            TableError: a negative amount, or not one for each key. Nothing is added then.
        """
        self._check_writable()
        amounts = np.ascontiguousarray(n, dtype=np.int64).reshape(-1)
        if np.ndim(n) and len(amounts) != len(keys):
            raise TableError(f"{self.name}: {len(keys)} keys have {len(amounts)} amounts: give one each")
        if (amounts < 0).any():
            raise TableError(f"{self.name}: {amounts.min()} cannot be added: counts only grow")
        with lent(amounts):
            return self._bulk(_add_rows, keys, amounts.ctypes.data, 8 if np.ndim(n) else 0)

    def count_many(self, keys: NDArray[Any]) -> NDArray[np.int64]:
        """The count of each key of an array, over all workers."""
        return self._bulk(_count_rows, keys, self.workers, self._stride)

    @property
    def total(self) -> int:
        """The sum of all that was added."""
        return int(sum(block.total for block in self._blocks))

    def clear(self) -> None:
        """All counts to zero; what workers add at the same moment may be lost."""
        self._check_writable()
        for block in self._blocks:
            words = self.parameters["width"] * self.parameters["depth"]
            self._words(np.int64, block.address - self.address + DATA, words)[:] = 0
            block.total = 0

    def stats(self) -> CountMinStats:
        """How much was added, and what that makes the error."""
        width, depth = self.parameters["width"], self.parameters["depth"]
        total = self.total
        return CountMinStats(
            total, math.e * total / width, 1 - math.exp(-depth), width, depth, self.workers, self.memory_bytes,
            self.pages,
        )  # fmt: skip

    def __repr__(self) -> str:
        return (
            f"<CountMin {self.name}: total {self.total}, {self.parameters['depth']} rows of {self.parameters['width']}>"
        )


__all__ = ["CountMin", "CountMinStats", "CountMinView"]

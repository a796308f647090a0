"""HyperLogLog: how many different keys there were, within a per cent or so, in some kilobytes.

::

    sources = ws.HyperLogLog(error=0.01, workers=2)
    ...
    sources.add(pkt.ipv4.src)            # in a node
    sources.estimate()                   # in Python: different sources over all workers

A register keeps the longest run of zeros that any digest sent to it began with. The more different keys, the longer;
the mean of 2^-register over all registers says how many. A key that comes again changes nothing.

    offset  bytes      what (in each worker's copy)
    0       256        record (:class:`HyperLogLogView`)
    256     registers  the registers, a byte each

Digests have 64 bits, so there is no correction for large numbers (Heule et al., section 4.1). For small and middling
ones Heule et al. correct a bias by tables that they measured; O. Ertl derived an estimator that has none and needs no
tables, which is what :meth:`HyperLogLog.estimate` computes (algorithm 6). The standard error is theirs, 1.04 /
sqrt(registers). Workers add to a copy of their own; the union of the copies is the highest of each register, exactly.

P. Flajolet, É. Fusy, O. Gandouet and F. Meunier, "HyperLogLog: the analysis of a near-optimal cardinality estimation
algorithm", AofA 2007; S. Heule, M. Nunkesser and A. Hall, "HyperLogLog in practice", EDBT 2013; O. Ertl, "New
cardinality estimation algorithms for HyperLogLog sketches", arXiv:1702.01284, 2017.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wirespeed.errors import TableError
from wirespeed.jit import fill, kernel, le64, leading_zeros, load8, multiply, rotate_left, shift_right, store8, store64
from wirespeed.tables.sketch import DATA, Sketch, SketchView

MIN_PRECISION: int = 4
MAX_PRECISION: int = 18


class HyperLogLogView(SketchView):
    """One worker's registers."""

    precision = le64(128, "log2 of how many registers there are")
    SIZE = DATA

    def add_digest(self, digest: int) -> int:
        """Add a key by its digest; 1 if that changed a register."""
        precision = self.precision
        register = self.address + DATA + shift_right(digest, 64 - precision)
        # the bits behind the index, and a one behind them that bounds the run
        rest = multiply(digest, rotate_left(1, precision)) | rotate_left(1, precision - 1)
        run = leading_zeros(rest) + 1
        if run > load8(register):
            store8(register, run)
            return 1
        return 0

    def clear(self) -> None:
        """Forget all keys."""
        fill(self.address + DATA, 0, rotate_left(1, self.precision))

    def add(self, key: int) -> int:
        """Add an integer key; 1 if that changed a register."""
        return self.add_digest(self.digest(key))

    def add_at(self, address: int) -> int:
        """Add the key of ``key_bytes`` bytes at an address; 1 if that changed a register."""
        return self.add_digest(self.digest_at(address))


@kernel
def _add_rows(sketch: int, address: int, count: int, stride: int, out: int) -> None:
    view = HyperLogLogView(sketch)
    for i in range(count):
        store64(out + i * 8, view.add_digest(view.digest_row(address + i * stride)))


def estimate_from(registers: NDArray[np.uint8], precision: int) -> float:
    """How many different keys made registers like these: Ertl's algorithm 6."""
    size, longest = 1 << precision, 64 - precision
    how_many = np.bincount(registers, minlength=longest + 2)
    total = size * _tau(1 - how_many[longest + 1] / size)
    for run in range(longest, 0, -1):
        total = 0.5 * (total + how_many[run])
    total += size * _sigma(how_many[0] / size)
    return float(size * size / (2 * math.log(2) * total)) if total < math.inf else 0.0


def _sigma(x: float) -> float:
    """x + sum of x^(2^k) * 2^(k-1): for registers that are still zero."""
    if x == 1:
        return math.inf
    y, z, before = 1.0, x, -1.0
    while z != before:
        x *= x
        before = z
        z += x * y
        y += y
    return z


def _tau(x: float) -> float:
    """(1 - x - sum of (1 - x^(2^-k))^2 * 2^-k) / 3: for registers that cannot grow any more."""
    if x in (0, 1):
        return 0.0
    y, z, before = 1.0, 1 - x, -1.0
    while z != before:
        x = math.sqrt(x)
        before = z
        y *= 0.5
        z -= (1 - x) ** 2 * y
    return z / 3


@dataclass(frozen=True)
class HyperLogLogStats:
    """The ``estimate``, its relative ``standard_error``, and how many ``registers`` of each worker it rests on."""

    estimate: float
    standard_error: float
    registers: int
    workers: int
    memory_bytes: int
    pages: str


class HyperLogLog(Sketch):
    """Counts different keys; (1.04 / error)^2 bytes, up to a power of two.

    Args:
        error: relative standard error, 0.0021 to 0.26; what comes out is that or better, see ``stats()``.
        workers: how many add; each has registers of its own.
        key_bytes: 1 to 64 when keys are bytes, 0 when they are integers of 64 bits.
        seed: for runs that can be repeated; secret by default.
        name: for other processes to attach it by.

    Raises:
        TableError: an argument out of range.
        ArenaError: no memory, or the name is taken.
    """

    View = HyperLogLogView
    KIND = "hyperloglog"

    def __init__(
        self, error: float = 0.01, workers: int = 1, key_bytes: int = 0, seed: int | None = None,
        name: str | None = None,
    ) -> None:  # fmt: skip
        precision = math.ceil(2 * math.log2(1.04 / error) - 1e-9) if error > 0 else MAX_PRECISION + 1
        if not MIN_PRECISION <= precision <= MAX_PRECISION:
            low, high = (1.04 / 2 ** (bits / 2) for bits in (MAX_PRECISION, MIN_PRECISION))
            raise TableError(f"{name or self.KIND}: error {error} is not {low:.5f} to {high:.2f}")
        self._begin(name, 1 << precision, workers, key_bytes, seed, precision=precision)
        self._attached()
        for block in self._blocks:
            block.precision = precision

    def add(self, key: "int | bytes") -> int:
        """Add a key, as worker 0; 1 if that changed a register."""
        self._check_writable()
        return int(self._blocks[0].add_digest(self._digest(key)))

    def add_at(self, address: int) -> int:
        """:meth:`add` for the key at an address, when a node runs as plain Python."""
        return int(self._blocks[0].add_at(address))

    def add_many(self, keys: NDArray[Any]) -> None:
        """Add an array of keys, as worker 0."""
        self._check_writable()
        self._bulk(_add_rows, keys)

    def estimate(self, workers: Iterable[int] | None = None) -> float:
        """How many different keys all workers, or some of them, have seen together."""
        return estimate_from(self.registers(workers), self.parameters["precision"])

    def registers(self, workers: Iterable[int] | None = None) -> NDArray[np.uint8]:
        """The registers of the union of all workers, or of some."""
        chosen = range(self.workers) if workers is None else workers
        copies = [self._registers(self._blocks[worker].address) for worker in chosen]
        return np.maximum.reduce([np.zeros(1 << self.parameters["precision"], np.uint8), *copies])

    def __int__(self) -> int:
        return round(self.estimate())

    def merge(self, other: "HyperLogLog") -> None:
        """Add all that ``other``, made with the same seed and error, has seen (into worker 0's registers).

        Raises:
            TableError: another seed, precision or kind of keys: their registers mean something else.
        """
        self._check_writable()
        same = ("seed", "precision", "key_bytes")
        if self.seed is None or any(self.parameters[name] != other.parameters[name] for name in same):
            raise TableError(f"{self.name}: {other.name} cannot be merged: make both with the same seed= and error=")
        mine = self._registers(self.address)
        np.maximum(mine, other.registers(), out=mine)

    def clear(self) -> None:
        """Forget all keys; what workers add at the same moment may stay or be lost."""
        self._check_writable()
        for block in self._blocks:
            self._registers(block.address)[:] = 0

    def stats(self) -> HyperLogLogStats:
        """The estimate and what it rests on."""
        registers = 1 << self.parameters["precision"]
        return HyperLogLogStats(
            self.estimate(), 1.04 / math.sqrt(registers), registers, self.workers, self.memory_bytes, self.pages
        )

    def __repr__(self) -> str:
        return f"<HyperLogLog {self.name}: about {int(self)} different keys>"

    def _registers(self, block: int) -> NDArray[np.uint8]:
        registers = 1 << self.parameters["precision"]
        return self._words(np.uint8, block - self.address + DATA, registers)


__all__ = ["HyperLogLog", "HyperLogLogStats", "HyperLogLogView", "estimate_from"]

"""Bloom filter: has this key been seen? No is certain; yes is wrong at a rate that is chosen.

::

    seen = ws.Bloom(1_000_000, error_rate=0.01)
    ...
    if seen.add(pkt.ipv4.src):        # in a node: 1 if it is new
    seen.contains(pkt.ipv4.dst)       # 1 or 0
    12 in seen                        # in Python

Blocked: all bits of a key are in one cache line, one in each of some of its 8 words, so a question costs one cache
miss however many bits it asks for. Lines fill unevenly, which a filter that is not blocked does not suffer from; the
price is computed, not guessed (6 % more bits for 1 %, 12 % for 0.1 %): with ``n`` keys in ``b`` lines the number in a
line is Poisson with mean n / b, a bit of a line of ``i`` keys is set with probability 1 - (1 - k / 512)^i, and k of
them have to be.

    offset  bytes  what
    0       256    record (:class:`BloomView`)
    256     64     lines of 512 bits

One copy for all workers. A bit is set by an atomic compare-exchange, and only if it is not set yet, so any number of
workers and processes may add, and what one has added the others see. Nothing can be deleted.

F. Putze, P. Sanders and J. Singler, "Cache-, hash- and space-efficient Bloom filters", WEA 2007.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wirespeed.errors import TableError
from wirespeed.jit import (
    compare_exchange,
    kernel,
    le64,
    load64,
    load_relaxed,
    multiply,
    multiply_high,
    prefetch,
    rotate_left,
    shift_right,
    signed64,
    store64,
)
from wirespeed.tables.sketch import DATA, Sketch, SketchView

_LINE = 64
_BATCH = 16  # keys whose lines are asked for before the first is looked at
_SPREAD: int = signed64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio, odd
MAX_CAPACITY: int = 1 << 33


class BloomView(SketchView):
    """The filter as nodes see it."""

    lines = le64(128, "lines of 512 bits")
    probes = le64(136, "bits of a key, 1 to 8")
    SIZE = DATA

    def line_of(self, digest: int) -> int:
        """Address of the line that has all bits of a key."""
        return self.address + DATA + (multiply_high(digest, self.lines) << 6)

    def add_digest(self, digest: int) -> int:
        """Add a key by its digest; 1 if it is new, 0 if all its bits were set."""
        line = self.line_of(digest)
        choice = multiply(digest, _SPREAD)
        choice ^= shift_right(choice, 32)
        new = 0
        for probe in range(self.probes):
            word = line + (((choice + probe) & 7) << 3)
            mask = rotate_left(1, shift_right(choice, 3 + probe * 6) & 63)
            held = load_relaxed(word)
            while held & mask == 0:
                new = 1
                if compare_exchange(word, held, held | mask):
                    break
                held = load_relaxed(word)
        return new

    def contains_digest(self, digest: int) -> int:
        """Whether all bits of a key are set, 1 or 0, by its digest."""
        line = self.line_of(digest)
        choice = multiply(digest, _SPREAD)
        choice ^= shift_right(choice, 32)
        found = 1
        for probe in range(self.probes):
            word = load64(line + (((choice + probe) & 7) << 3))
            found &= shift_right(word, shift_right(choice, 3 + probe * 6) & 63)
        return found

    def add(self, key: int) -> int:
        """Add an integer key; 1 if it is new, 0 if it was there (or seems so)."""
        return self.add_digest(self.digest(key))

    def contains(self, key: int) -> int:
        """1 if an integer key was added, or seems so; 0 if it certainly was not."""
        return self.contains_digest(self.digest(key))

    def add_at(self, address: int) -> int:
        """:meth:`add` of the key of ``key_bytes`` bytes at an address."""
        return self.add_digest(self.digest_at(address))

    def contains_at(self, address: int) -> int:
        """:meth:`contains` for the key of ``key_bytes`` bytes at an address."""
        return self.contains_digest(self.digest_at(address))

    def prefetch(self, key: int) -> None:
        """Ask for the line of an integer key."""
        prefetch(self.line_of(self.digest(key)))


@kernel
def _rows(filter: int, address: int, count: int, stride: int, adding: int, out: int) -> None:
    """Add or look up each row, in batches: the misses of a batch are in flight together."""
    view = BloomView(filter)
    for first in range(0, count, _BATCH):
        last = min(first + _BATCH, count)
        for i in range(first, last):
            digest = view.digest_row(address + i * stride)
            prefetch(view.line_of(digest))
            store64(out + i * 8, digest)
        if adding:
            for i in range(first, last):
                store64(out + i * 8, view.add_digest(load64(out + i * 8)))
        else:
            for i in range(first, last):
                store64(out + i * 8, view.contains_digest(load64(out + i * 8)))


def false_positive_rate(keys_per_line: float, probes: int) -> float:
    """The rate of a filter that is filled like this; see above."""
    limit = int(keys_per_line + 12 * math.sqrt(keys_per_line) + 24)
    weight, total = math.exp(-keys_per_line), 0.0
    for keys in range(limit):
        total += weight * (1 - (1 - probes / 512) ** keys) ** probes
        weight *= keys_per_line / (keys + 1)
    return total


def _plan(capacity: int, error_rate: float) -> tuple[int, int]:
    """(lines, probes) of the smallest filter that keeps the rate."""
    best = (0, 0)
    for probes in range(1, 9):
        low, high = 0.01, 512.0  # keys per line: the rate grows with them
        if false_positive_rate(low, probes) > error_rate:
            continue
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if false_positive_rate(middle, probes) <= error_rate else (low, middle)
        lines = math.ceil(capacity / low)
        if not best[0] or lines < best[0]:
            best = (lines, probes)
    return best


@dataclass(frozen=True)
class BloomStats:
    """A filter's state.

    ``keys`` is an estimate from the share of bits that are set (``fill``); ``error_rate`` is what that many keys make
    the rate now, ``capacity`` and ``wanted_error_rate`` are what it was made for.
    """

    keys: int
    capacity: int
    fill: float
    error_rate: float
    wanted_error_rate: float
    probes: int
    memory_bytes: int
    pages: str


class Bloom(Sketch):
    """A set that is asked only whether a key is in it; 10.2 bits a key for an error rate of 1 %.

    Args:
        capacity: keys for which the error rate holds; more may be added, and the rate grows.
        error_rate: how often a key that was never added seems to have been, 1e-7 to 0.5.
        key_bytes: 1 to 64 when keys are bytes, 0 when they are integers of 64 bits.
        seed: for runs that can be repeated; secret by default.
        name: for other processes to attach it by; they may add too (``writable=True``).

    Raises:
        TableError: capacity, rate or key size out of range.
        ArenaError: no memory, or the name is taken.
    """

    View = BloomView
    KIND = "bloom"
    ATTACH_WRITABLE = True

    def __init__(
        self, capacity: int, error_rate: float = 0.01, key_bytes: int = 0, seed: int | None = None,
        name: str | None = None,
    ) -> None:  # fmt: skip
        if not 1 <= capacity <= MAX_CAPACITY:
            raise TableError(f"{name or self.KIND}: capacity {capacity} is not 1 to {MAX_CAPACITY}")
        if not 1e-7 <= error_rate <= 0.5:
            raise TableError(f"{name or self.KIND}: error rate {error_rate} is not 1e-7 to 0.5")
        lines, probes = _plan(capacity, error_rate)
        self._begin(
            name, lines * _LINE, 1, key_bytes, seed, capacity=capacity, error_rate=error_rate, lines=lines,
            probes=probes,
        )  # fmt: skip
        view = BloomView(self.address)
        view.lines, view.probes = lines, probes
        self._attached()

    def prepare(self, workers: int) -> None:
        """Any number of workers may add."""

    def add(self, key: "int | bytes") -> int:
        """Add a key; 1 if it is new, 0 if it was there (or seems so)."""
        self._check_writable()
        return int(BloomView(self.address).add_digest(self._digest(key)))

    def contains(self, key: "int | bytes") -> int:
        """1 if a key was added, or seems so; 0 if it certainly was not."""
        return int(BloomView(self.address).contains_digest(self._digest(key)))

    def add_at(self, address: int) -> int:
        """:meth:`add` for the key at an address, when a node runs as plain Python."""
        return int(BloomView(self.address).add_at(address))

    def contains_at(self, address: int) -> int:
        """:meth:`contains` for the key at an address, when a node runs as plain Python."""
        return int(BloomView(self.address).contains_at(address))

    def prefetch(self, key: int) -> None:
        """A hint in nodes; nothing in plain Python."""

    def outgrows_cache(self) -> bool:
        """Whether questions will miss the cache so often that a node should prefetch: 256 KiB."""
        return self.memory_bytes > 256 << 10

    def __contains__(self, key: "int | bytes") -> bool:
        return self.contains(key) == 1

    def add_many(self, keys: NDArray[Any]) -> NDArray[np.bool_]:
        """Add an array of keys; which of them are new."""
        self._check_writable()
        return self._bulk(_rows, keys, 1).astype(bool)

    def contains_many(self, keys: NDArray[Any]) -> NDArray[np.bool_]:
        """Which keys of an array were added, or seem so."""
        return self._bulk(_rows, keys, 0).astype(bool)

    def clear(self) -> None:
        """Forget all keys; what is added at the same moment may be lost or stay in part."""
        self._check_writable()
        self._bits()[:] = 0

    def stats(self) -> BloomStats:
        """How full it is; reads all of it."""
        parameters = self.parameters
        lines, probes = parameters["lines"], parameters["probes"]
        fill = int(np.bitwise_count(self._bits()).sum()) / (512 * lines)
        keys = round(-lines * 512 / probes * math.log1p(-fill)) if fill < 1 else 64 * lines
        return BloomStats(
            keys, parameters["capacity"], fill, false_positive_rate(keys / lines, probes), parameters["error_rate"],
            probes, self.memory_bytes, self.pages,
        )  # fmt: skip

    def __repr__(self) -> str:
        parameters = self.parameters
        return f"<Bloom {self.name}: for {parameters['capacity']} keys at {parameters['error_rate']:g}>"

    def _bits(self) -> NDArray[np.uint64]:
        return self._words(np.uint64, DATA, self.parameters["lines"] * 8)


__all__ = ["Bloom", "BloomStats", "BloomView", "false_positive_rate"]

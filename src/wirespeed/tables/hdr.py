"""HDR histograms in flat memory: values of any size, counted to a fixed number of significant digits.

A value is counted in a slot whose width is at most 1/1000 of it (with three digits). Up to twice that many units each
value has its own slot; above, every power of two is cut into the same number of slots::

    slot    0 ... 1023 | 1024 ... 2047 | 2048 ... 3071 | 3072 ...        (three digits: 1024 a power of two)
    values  0 ... 1023 | 1024 ... 2047 | 2048 ... 4095 | 4096 ... 8191
    width            1 |             1 |             2 |             4

so the slot is a shift, found by counting leading zeros, and an addition: no logarithm, no search, no allocation. The
highest value says how many slots there are: 2**36 (68 s in nanoseconds) are 27,648 slots, of which those that are
used cost cache. A record::

    0     what the histogram is, which nobody writes
    64    sum, smallest, largest, values beyond the highest: one worker writes
    128   counts, 8 bytes each

Reference: Tene, HdrHistogram (hdrhistogram.org), whose slots these are; ours begin at a unit of 1.
"""

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from wirespeed.errors import TableError
from wirespeed.jit import View, le64, leading_zeros, load64, store64

DATA: int = 128
"""Where the counts begin."""

MAX_DIGITS: int = 5
_NONE = (1 << 63) - 1  # smallest value of a histogram without values

PERCENTILES: tuple[float, ...] = (50.0, 90.0, 99.0, 99.9, 99.99, 99.999)
"""Those that reports show."""


def sub_bits(digits: int) -> int:
    """log2 of the values that have slots of their own: the power of two that holds ``2 * 10**digits``."""
    return math.ceil(math.log2(2 * 10**digits))


def slots_for(highest: int, digits: int) -> int:
    """How many slots count values up to ``highest``."""
    bits = sub_bits(digits)
    shift = max(0, highest.bit_length() - bits)
    return (shift << (bits - 1)) + (1 << bits)


def record_bytes(highest: int, digits: int) -> int:
    """Bytes of a record, whole pairs of cache lines."""
    return -(-(DATA + 8 * slots_for(highest, digits)) // 128) * 128


def check(name: str, highest: int, digits: int) -> None:
    """Raises TableError: no histogram is like that."""
    if not 1 <= digits <= MAX_DIGITS:
        raise TableError(f"{name}: {digits} significant digits are not 1 to {MAX_DIGITS}")
    if not 2 * 10**digits <= highest <= 1 << 62:
        raise TableError(f"{name}: a highest value of {highest} is not {2 * 10**digits} to 2**62")


class HdrView(View):
    """One worker's record."""

    highest = le64(0, "largest value that has a slot of its width; what is larger counts as this")
    half_bits = le64(8, "log2 of the slots of a power of two")
    mask = le64(16, "values up to this have slots of their own")
    sum = le64(64, "of all values")
    smallest = le64(72)
    largest = le64(80)
    beyond = le64(88, "values above the highest")
    SIZE = DATA

    def record(self, value: int) -> None:
        """Count a value; below 0 counts as 0."""
        value = max(value, 0)
        self.sum += value
        self.smallest = min(self.smallest, value)
        self.largest = max(self.largest, value)
        if value > self.highest:
            self.beyond += 1
            value = self.highest
        half_bits = self.half_bits
        shift = 63 - half_bits - leading_zeros(value | self.mask)
        at = self.address + DATA + (((shift << half_bits) + (value >> shift)) << 3)
        store64(at, load64(at) + 1)


def format_record(address: int, highest: int, digits: int) -> None:
    """Make an empty histogram of :func:`record_bytes` zeros."""
    view = HdrView(address)
    bits = sub_bits(digits)
    view.highest, view.half_bits, view.mask = highest, bits - 1, (1 << bits) - 1
    view.smallest = _NONE


def slots_of(values: NDArray[np.int64], digits: int) -> NDArray[np.int64]:
    """The slot of each value: :meth:`HdrView.record` for arrays."""
    bits = sub_bits(digits)
    _, exponents = np.frexp((values | ((1 << bits) - 1)).astype(np.float64))
    shifts = exponents.astype(np.int64) - bits
    shifts -= (values >> np.maximum(shifts - 1 + bits, 0)) == 0  # a float rounds 2**n - 1 up to 2**n
    shifts = np.maximum(shifts, 0)
    return (shifts << (bits - 1)) + (values >> shifts)


def edges(count: int, digits: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Smallest and largest value of each of the first ``count`` slots."""
    half_bits = sub_bits(digits) - 1
    slots = np.arange(count, dtype=np.int64)
    shifts = np.maximum((slots >> half_bits) - 1, 0)
    low = (slots - (shifts << half_bits)) << shifts
    return low, low + (np.int64(1) << shifts) - 1


@dataclass(frozen=True)
class Distribution:
    """What a histogram had counted at one moment; two can be added, and an earlier one subtracted.

    Attributes:
        counts: of each slot.
        digits: significant digits.
        sum: of all values.
        smallest, largest: to the unit; of a difference, to the width of a slot.
        beyond: values above the highest.
    """

    counts: NDArray[np.int64] = field(repr=False)
    digits: int
    sum: int
    smallest: int
    largest: int
    beyond: int = 0

    @cached_property
    def count(self) -> int:
        """How many values."""
        return int(self.counts.sum())

    @property
    def mean(self) -> float:
        """Exact; nan without values."""
        return self.sum / self.count if self.count else math.nan

    @cached_property
    def deviation(self) -> float:
        """Standard deviation, each value taken for the middle of its slot; nan without values."""
        if not self.count:
            return math.nan
        low, high = edges(len(self.counts), self.digits)
        middle = (low + high) / 2
        mean = float((self.counts * middle).sum()) / self.count
        return math.sqrt(float((self.counts * (middle - mean) ** 2).sum()) / self.count)

    def percentile(self, percent: float) -> int:
        """The smallest value that ``percent`` of all values do not exceed, to the digits; 0 without values.

        100 is the largest value, to the unit.
        """
        return self.percentiles([percent])[0]

    def percentiles(self, percents: "tuple[float, ...] | list[float]" = PERCENTILES) -> list[int]:
        """:meth:`percentile` of each.

        Raises:
            TableError: one is not 0 to 100.
        """
        if any(not 0 <= percent <= 100 for percent in percents):
            raise TableError(f"percentiles {list(percents)} are not all 0 to 100")
        if not self.count:
            return [0] * len(percents)
        total = np.cumsum(self.counts)
        _, high = edges(len(self.counts), self.digits)
        found = []
        for percent in percents:
            rank = min(max(1, math.ceil(percent * self.count / 100 - 1e-9 * self.count)), self.count)
            slot = int(np.searchsorted(total, rank))
            found.append(self.largest if rank == self.count else min(int(high[slot]), self.largest))
        return found

    def steps(self) -> list[tuple[int, int]]:
        """(largest value of the slot, count) of each slot that has any, in order."""
        _, high = edges(len(self.counts), self.digits)
        used = np.flatnonzero(self.counts)
        return list(zip(high[used].tolist(), self.counts[used].tolist(), strict=True))

    def to_dict(self) -> dict[str, float | int | None]:
        """Count, mean, deviation, least, percentiles by name (``p99.9``) and largest, for JSON."""
        empty = not self.count
        shown = {f"p{percent:g}": value for percent, value in zip(PERCENTILES, self.percentiles(), strict=True)}
        return {
            "count": self.count, "mean": None if empty else self.mean, "deviation": None if empty else self.deviation,
            "min": self.smallest, **shown, "max": self.largest, "beyond": self.beyond,
        }  # fmt: skip

    def __add__(self, other: "Distribution") -> "Distribution":
        self._alike(other)
        long, short = sorted((self.counts, other.counts), key=len, reverse=True)
        counts = long.copy()
        counts[: len(short)] += short
        some = [each for each in (self, other) if each.count]
        return Distribution(
            counts, self.digits, self.sum + other.sum,
            min((each.smallest for each in some), default=0), max((each.largest for each in some), default=0),
            self.beyond + other.beyond,
        )  # fmt: skip

    def __sub__(self, earlier: "Distribution") -> "Distribution":
        self._alike(earlier)
        counts = self.counts - earlier.counts
        used = np.flatnonzero(counts)
        low, high = edges(len(counts), self.digits)
        smallest, largest = (max(int(low[used[0]]), self.smallest), int(high[used[-1]])) if len(used) else (0, 0)
        return Distribution(
            counts, self.digits, self.sum - earlier.sum, smallest, min(largest, self.largest),
            self.beyond - earlier.beyond,
        )  # fmt: skip

    def _alike(self, other: "Distribution") -> None:
        if self.digits != other.digits:
            raise TableError(f"histograms of {self.digits} and {other.digits} digits have different slots")


def read_record(address: int, counts: NDArray[np.int64], digits: int) -> Distribution:
    """What the record at ``address`` has counted in ``counts``, its slots."""
    view = HdrView(address)
    taken = counts.copy()
    some = bool(taken.any())
    return Distribution(
        taken, digits, int(view.sum), int(view.smallest) if some else 0, int(view.largest), int(view.beyond)
    )

"""Token arithmetic: what meters, buckets and the scheduler have in common.

Tokens are bytes (or packets) scaled by a power of two, so that a nanosecond's share of a slow rate is not rounded to
nothing: ``tokens << shift``, with the shift chosen for the largest burst. Adding what a time span earned is then one
product and one comparison, with no division::

    earned = elapsed_ns * rate         rate = tokens a second * 2^shift / 10^9, rounded
    full   = elapsed_ns >= fill_ns     fill_ns: how long an empty bucket takes; bounds the product

Time that stands still or runs backwards (two workers' clocks, a clock that was set) earns nothing.
"""

from dataclasses import dataclass

from wirespeed.errors import TableError
from wirespeed.jit import inline

NS_PER_S: int = 1_000_000_000
MAX_BURST_TOKENS: int = 1 << 40
_BITS = 61  # of a scaled bucket: a sum of two stays in 64 bits with sign
_LEAST_STEP = 512  # of a scaled rate: rounding changes it by less than 0.1 %


@inline
def filled(tokens, capacity, rate, fill_ns, elapsed):  # type: ignore[no-untyped-def]
    """Tokens of a bucket ``elapsed`` nanoseconds after it held ``tokens``; all figures scaled."""
    if elapsed <= 0:
        return tokens
    if elapsed >= fill_ns:
        return capacity
    return min(tokens + elapsed * rate, capacity)


@dataclass(frozen=True)
class Scaled:
    """A rate and a burst as records hold them."""

    rate: int
    capacity: int
    fill_ns: int


def shift_for(*bursts: int) -> int:
    """The scale that the largest of the bursts allows."""
    return _BITS - max(1, *bursts).bit_length()


def scale(what: str, rate: float, burst: int, shift: int) -> Scaled:
    """Check a rate (tokens a second) and a burst (tokens), and scale them.

    Raises:
        TableError: out of range, or so slow beside its burst that it could not be kept.
    """
    if not 1 <= burst <= MAX_BURST_TOKENS:
        raise TableError(f"{what}: a burst of {burst} is not possible: use 1 to {MAX_BURST_TOKENS}")
    if not rate > 0:
        raise TableError(f"{what}: a rate of {rate} a second is not possible: use more than 0")
    scaled = round(rate * (1 << shift) / NS_PER_S)
    if scaled < _LEAST_STEP:
        least = _LEAST_STEP * NS_PER_S / (1 << shift)
        raise TableError(f"{what}: {rate:g} a second is too slow for a burst of {burst}: use {least:.3g} or more")
    if scaled >= 1 << _BITS - 1:  # a bucket that owes as much as it holds is filled by a sum within 63 bits
        raise TableError(f"{what}: {rate:g} a second cannot be counted with a burst of {burst}: give a smaller burst")
    capacity = burst << shift
    return Scaled(scaled, capacity, capacity // scaled + 1)

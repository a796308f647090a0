"""A wheel's time: cycles of the time-stamp counter as nanoseconds, by one multiplication.

``now = anchor_ns + (cycles - anchor_cycles) * (whole + fraction / 2^64)``: always from the anchor, so rounding
does not add up, and no division. The anchor is :func:`wirespeed.eal.clock.clock`'s, so the nanoseconds are those
of CLOCK_MONOTONIC, as far as that was not steered since.
"""

from wirespeed.eal.clock import Clock
from wirespeed.jit import inline, multiply_high, signed64
from wirespeed.timers.layout import Wheel

_NS_PER_S = 1_000_000_000


def set_clock(wheel: Wheel, clock: Clock) -> None:
    """Let the wheel count time as ``clock`` does."""
    whole, rest = divmod(_NS_PER_S, clock.hz)
    wheel.anchor_cycles, wheel.anchor_ns = clock.anchor_cycles, clock.anchor_ns
    wheel.whole, wheel.fraction = whole, signed64((rest << 64) // clock.hz)


@inline
def told(base: int, cycles: int) -> int:
    """The nanoseconds at which the cycle counter read ``cycles``."""
    wheel = Wheel(base)
    since = cycles - wheel.anchor_cycles
    return wheel.anchor_ns + since * wheel.whole + multiply_high(since, wheel.fraction)

"""The time-stamp counter as a clock.

Reading the TSC costs about 20 cycles and no system call, so it is the clock of workers, timers and
protocols. It counts at a fixed rate on CPUs that say so (``constant_tsc nonstop_tsc``); how fast, it
does not say. So it is measured once per process against CLOCK_MONOTONIC_RAW, which nobody steers:

    read TSC, clock, TSC; keep the pair with the smallest gap between the two TSC reads (nothing
    interrupted it); do it again 20 ms later; the rate is the quotient.  Error: about 100 ns in 20 ms, 5 ppm.

Where the kernel tells its own figure (``tsc_freq_khz``, an add-on module), that one is taken if
the measurement agrees: in interpreted mode the counter's plain-Python twin may tick differently.

Conversions are exact integer arithmetic on Python's integers. :attr:`Clock.anchor_ns` ties the counter to
CLOCK_MONOTONIC, which NTP steers by up to 500 ppm: calibrate again for long-lived absolute times.

References: Intel SDM vol. 3 section 17.17 "Time-Stamp Counter"; clock_gettime(2).
"""

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wirespeed.eal import cpu, sysfs

_CALIBRATION_S = 0.020
_ATTEMPTS = 32
_NS_PER_S = 1_000_000_000


@dataclass(frozen=True)
class Clock:
    """A calibrated counter: ``hz`` ticks a second; at ``anchor_cycles`` CLOCK_MONOTONIC was ``anchor_ns``."""

    hz: int
    anchor_cycles: int
    anchor_ns: int
    source: str

    def ns(self, cycles: int) -> int:
        """A duration in nanoseconds, rounded down."""
        return cycles * _NS_PER_S // self.hz

    def cycles(self, ns: int) -> int:
        """A duration in cycles, rounded down."""
        return ns * self.hz // _NS_PER_S

    def monotonic_ns(self, at_cycles: int) -> int:
        """The CLOCK_MONOTONIC time at which the counter read ``at_cycles``."""
        return self.anchor_ns + self.ns(at_cycles - self.anchor_cycles)


@functools.cache
def clock() -> Clock:
    """This machine's TSC, calibrated on first use (20 ms), then remembered."""
    from wirespeed.jit import tsc  # here: ``wirespeed doctor`` reads this file and starts without Numba

    return calibrate(tsc)


def tsc_hz() -> int:
    """Cycles of the TSC in a second."""
    return clock().hz


def cycles_to_ns(cycles: int) -> int:
    """A duration in cycles as nanoseconds, rounded down."""
    return clock().ns(cycles)


def ns_to_cycles(ns: int) -> int:
    """A duration in nanoseconds as cycles, rounded down."""
    return clock().cycles(ns)


def calibrate(
    counter: Callable[[], int],
    reference_ns: Callable[[], int] | None = None,
    wait: Callable[[float], None] = time.sleep,
    root: Path = sysfs.ROOT,
) -> Clock:
    """Measure how fast ``counter`` ticks.

    Args:
        counter: reads the counter.
        reference_ns: a steady clock in nanoseconds; None is CLOCK_MONOTONIC_RAW.
        wait: lets that many seconds pass.
        root: where the kernel's own figure is looked for.
    """
    raw = reference_ns or (lambda: time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW))
    _bracket(counter, raw)  # a first call may compile, or fault pages in
    first_cycles, first_ns = _bracket(counter, raw)
    wait(_CALIBRATION_S)
    last_cycles, last_ns = _bracket(counter, raw)
    measured = (last_cycles - first_cycles) * _NS_PER_S // (last_ns - first_ns)
    told = sysfs.number(root / "sys/devices/system/cpu/cpu0/tsc_freq_khz", 0) * 1000
    trusted = told > 0 and abs(told - measured) * 1000 < told
    anchor_cycles, anchor_ns = _bracket(counter, reference_ns or time.monotonic_ns)
    return Clock(
        hz=told if trusted else measured,
        anchor_cycles=anchor_cycles,
        anchor_ns=anchor_ns,
        source="kernel" if trusted else "measured",
    )


def tsc_is_invariant(root: Path = sysfs.ROOT) -> bool:
    """True if the TSC ticks at one rate in every power state (on aarch64 the counter always does)."""
    flags = cpu.flags(root)
    return {"constant_tsc", "nonstop_tsc"} <= flags or ("tsc" not in flags and "evtstrm" in flags)


def _bracket(counter: Callable[[], int], reference_ns: Callable[[], int]) -> tuple[int, int]:
    """One instant on both clocks: of several tries, the one with the smallest gap around the reference."""
    best = (1 << 62, 0, 0)
    for _ in range(_ATTEMPTS):
        before = counter()
        now_ns = reference_ns()
        after = counter()
        best = min(best, (after - before, (before + after) // 2, now_ns))
    return best[1], best[2]

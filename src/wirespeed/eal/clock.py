"""The time-stamp counter as a clock.

Reading the TSC costs about 20 cycles and no system call, so it is the clock of workers, timers and
protocols. It counts at a fixed rate on CPUs that say so (``constant_tsc nonstop_tsc``); how fast, it
does not say. So it is measured once per process against CLOCK_MONOTONIC_RAW, which nobody steers:

    read TSC, clock, TSC; keep the pair with the smallest gap between the two TSC reads (nothing
    interrupted it); do it again 20 ms later; the rate is the quotient.

The two gaps bound the error: the reference was read somewhere within each, so the rate is wrong by half of both
over the time between at most. :attr:`Clock.error_ppm` says it (some 30 ppm), :attr:`Clock.uncertainty_ns` how far
off the anchor may be (some 250 ns, the way from Python to the counter and back).

Where the kernel tells its own figure (``tsc_freq_khz``, an add-on module), that one is taken if
the measurement agrees: in interpreted mode the counter's plain-Python twin may tick differently.

Conversions are exact integer arithmetic on Python's integers. :attr:`Clock.anchor_ns` ties the counter to
CLOCK_MONOTONIC, which NTP steers by up to 500 ppm: a long-lived absolute time comes from a :class:`Follower`,
which ties it anew now and then and never goes back. Whether the counters of two cores agree, and how well that is
known: :mod:`wirespeed.eal.skew`.

References: Intel SDM vol. 3 section 17.17 "Time-Stamp Counter"; clock_gettime(2); Mills, RFC 5905 section 11.3
for steering a clock by its rate.
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
_SHORTEST_NS = 1_000_000  # below a millisecond, the error of reading both clocks would be taken for a rate
_STEP_NS = 1_000_000
_SLEW_PPM = 500


@dataclass(frozen=True)
class Clock:
    """A calibrated counter: ``hz`` ticks a second; at ``anchor_cycles`` CLOCK_MONOTONIC was ``anchor_ns``.

    ``error_ppm`` bounds the error of ``hz`` in parts per million, ``uncertainty_ns`` that of the anchor; ``source``
    is ``measured``, ``kernel`` (which told the rate) or ``followed``.
    """

    hz: int
    anchor_cycles: int
    anchor_ns: int
    source: str
    error_ppm: float = 0.0
    uncertainty_ns: int = 0

    def ns(self, cycles: int) -> int:
        """A duration in nanoseconds, rounded down."""
        return cycles * _NS_PER_S // self.hz

    def cycles(self, ns: int) -> int:
        """A duration in cycles, rounded down."""
        return ns * self.hz // _NS_PER_S

    def monotonic_ns(self, at_cycles: int) -> int:
        """The CLOCK_MONOTONIC time at which the counter read ``at_cycles``."""
        return self.anchor_ns + self.ns(at_cycles - self.anchor_cycles)

    def uncertainty_at(self, at_cycles: int) -> int:
        """How far :meth:`monotonic_ns` may be off there, in nanoseconds, while nobody steers CLOCK_MONOTONIC."""
        away_ns = abs(self.ns(at_cycles - self.anchor_cycles))
        return self.uncertainty_ns + int(away_ns * self.error_ppm / 1e6) + 1


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
    bracket(counter, raw)  # a first call may compile, or fault pages in
    first_cycles, first_ns, first_gap = bracket(counter, raw)
    wait(_CALIBRATION_S)
    last_cycles, last_ns, last_gap = bracket(counter, raw)
    elapsed_cycles = last_cycles - first_cycles
    measured = elapsed_cycles * _NS_PER_S // (last_ns - first_ns)
    told = sysfs.number(root / "sys/devices/system/cpu/cpu0/tsc_freq_khz", 0) * 1000
    trusted = told > 0 and abs(told - measured) * 1000 < told
    anchor_cycles, anchor_ns, anchor_gap = bracket(counter, reference_ns or time.monotonic_ns)
    hz = told if trusted else measured
    return Clock(
        hz=hz,
        anchor_cycles=anchor_cycles,
        anchor_ns=anchor_ns,
        source="kernel" if trusted else "measured",
        error_ppm=(first_gap + last_gap) / 2 / elapsed_cycles * 1e6,
        uncertainty_ns=anchor_gap * _NS_PER_S // hz // 2 + 1,
    )


class Follower:
    """The TSC as CLOCK_MONOTONIC, kept close to it: call :meth:`follow` every second or so.

    What it says never goes back and has no jumps below a millisecond: an offset is taken out by running a little
    faster or slower (at most 500 ppm, as NTP does) until the next time. A lag of more than that, after a machine
    was suspended or moved, is made good at once. An alarm can call it::

        time = Follower()
        ws.Alarm(1.0, time.follow, every=1.0)

    Args:
        start: a calibrated clock; None calibrates one, in 20 ms.
        counter, reference_ns: as for :func:`calibrate`.
    """

    def __init__(
        self,
        start: Clock | None = None,
        counter: Callable[[], int] | None = None,
        reference_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        from wirespeed.jit import tsc

        self._counter, self._reference_ns = counter or tsc, reference_ns
        self.clock = start or (clock() if counter is None else calibrate(counter, reference_ns))
        self._hz = self.clock.hz
        self._seen = (self.clock.anchor_cycles, self.clock.anchor_ns)
        self.offset_ns = 0

    def now_ns(self) -> int:
        """CLOCK_MONOTONIC now, from the counter."""
        return self.clock.monotonic_ns(self._counter())

    def follow(self) -> Clock:
        """Look how far off the clock is (:attr:`offset_ns`, positive if behind), and steer it; the steered clock."""
        cycles, true_ns, gap = bracket(self._counter, self._reference_ns)
        seen_cycles, seen_ns = self._seen
        if true_ns - seen_ns < _SHORTEST_NS:
            return self.clock
        span_ns = true_ns - seen_ns
        rate = (cycles - seen_cycles) * _NS_PER_S // span_ns  # of the counter, by the reference
        if abs(rate - self._hz) * 1_000_000 > 2 * _SLEW_PPM * self._hz:
            rate = self._hz  # that was no steering: a jump, or a machine that was suspended
        shown_ns = self.clock.monotonic_ns(cycles)
        self.offset_ns = true_ns - shown_ns
        left_ns = 0
        if self.offset_ns > _STEP_NS:
            shown_ns = true_ns
        else:  # so many nanoseconds more until the next look, taken to be as far away as the last one
            most = span_ns * _SLEW_PPM // 1_000_000
            left_ns = max(-most, min(self.offset_ns, most))
        hz = rate * span_ns // (span_ns + left_ns)
        self._seen = (cycles, true_ns)
        uncertainty_ns = gap * _NS_PER_S // rate // 2 + 1
        self.clock = Clock(hz, cycles, shown_ns, "followed", 2e6 * uncertainty_ns / span_ns, uncertainty_ns)
        return self.clock


def tsc_is_invariant(root: Path = sysfs.ROOT) -> bool:
    """True if the TSC ticks at one rate in every power state (on aarch64 the counter always does)."""
    flags = cpu.flags(root)
    return {"constant_tsc", "nonstop_tsc"} <= flags or ("tsc" not in flags and "evtstrm" in flags)


def bracket(counter: Callable[[], int], reference_ns: Callable[[], int]) -> tuple[int, int, int]:
    """One instant on both clocks, and the gap around it in cycles: of several tries, that with the smallest gap."""
    best = (1 << 62, 0, 0)
    for _ in range(_ATTEMPTS):
        before = counter()
        now_ns = reference_ns()
        after = counter()
        best = min(best, (after - before, (before + after) // 2, now_ns))
    return best[1], best[2], best[0]

"""The time of day by the cycle counter, and what there is to say of it.

A worker reads no clock of the kernel: it has the counter's value at one moment, the time then, and the rate between
the two (:class:`wirespeed.apps.ntp.state.TimeSheet`). Control code writes that anew ten times a second, so that what
the kernel's clock is steered by, up to 500 ppm, cannot add up to more than 50 microseconds, nor to a tenth of one once
the rate has been seen.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

from wirespeed.eal.clock import Clock, Follower, calibrate, clock
from wirespeed.eal.kernel_clock import KernelClock
from wirespeed.errors import ConfigError
from wirespeed.jit import tsc
from wirespeed.wire.ntp import LEAP_DELETE, LEAP_INSERT, LEAP_NONE, LEAP_UNKNOWN, NTP_SERVER, NTP_UNIX_S

LOCAL_ID: bytes = bytes([127, 127, 1, 1])
"""Reference id of a clock that only follows itself, as ntpd and chronyd give it."""

_SET_BACK_NS = 1_000_000
_NS_PER_S = 1_000_000_000
_MICROS = 1_000_000


class TimeOfDay:
    """CLOCK_REALTIME by the cycle counter: a :class:`wirespeed.eal.clock.Follower` of it, which begins anew when the
    clock is set back, for to tell a wrong time is worse than to tell one twice.

    Args:
        counter: reads the cycle counter.
        reference_ns: nanoseconds since 1970.
        hz: of the counter; measured unless given.
    """

    def __init__(
        self,
        counter: Callable[[], int] = tsc,
        reference_ns: Callable[[], int] = time.time_ns,
        hz: int = 0,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._counter, self._reference_ns, self._wait = counter, reference_ns, wait
        self._hz = hz or clock().hz
        self._begin()

    def _begin(self) -> None:
        start = replace(calibrate(self._counter, self._reference_ns, self._wait), hz=self._hz)
        self._follower = Follower(start, self._counter, self._reference_ns)

    def follow(self) -> Clock:
        """Look at the clock; the counter's relation to it from now on."""
        if self._reference_ns() - self._follower.now_ns() < -_SET_BACK_NS:
            self._begin()
        return self._follower.follow()


@dataclass(frozen=True)
class Standing:
    """How this server stands towards others.

    Attributes:
        stratum: while the kernel's clock is synchronised, 1 to 15: one more than that of the clock it follows. The
            kernel does not know it. A clock that follows a pulse each second is of stratum 1, whatever this says.
        local: stratum while it is not synchronised, as of a clock that follows itself: for networks without another
            one. 0: such a clock is not to be followed, and answers say so.
        reference: IPv4 address of the clock it follows, or up to four letters.

    Raises:
        ConfigError: a stratum or a reference that cannot be.
    """

    stratum: int = 3
    local: int = 0
    reference: str = ""

    def __post_init__(self) -> None:
        if not 1 <= self.stratum <= 15:
            raise ConfigError(f"stratum {self.stratum} must be 1 to 15")
        if not 0 <= self.local <= 15:
            raise ConfigError(f"local stratum {self.local} must be 1 to 15, or 0 for a clock not to be followed")
        self.reference_bytes()

    def reference_bytes(self) -> bytes:
        """The reference id, RFC 5905 section 7.3: an address, or letters padded with zeros."""
        if not self.reference:
            return LOCAL_ID
        try:
            return IPv4Address(self.reference).packed
        except ValueError:
            pass
        if not (self.reference.isascii() and self.reference.isprintable() and len(self.reference) <= 4):
            raise ConfigError(f"reference {self.reference!r} must be an IPv4 address, or up to four letters: GPS, PTP")
        return self.reference.encode().ljust(4, b"\0")


def describe(kernel: KernelClock, standing: Standing, uncertainty_ns: int) -> bytes:
    """The first sixteen bytes of an answer, version and poll being 0: leap, stratum, root delay and dispersion, id.

    What the kernel knows, its maximum error, is half the delay to the reference clock and the dispersion together, and
    so it is told as dispersion: clients only ever add the two (RFC 5905 section 11.2, root distance).
    """
    leap, stratum, reference = LEAP_NONE, standing.stratum, standing.reference_bytes()
    error_us = kernel.max_error_us + uncertainty_ns / 1000
    if not kernel.synchronised:
        stratum, reference = standing.local, LOCAL_ID
        error_us = uncertainty_ns / 1000
        if not stratum:
            leap, reference = LEAP_UNKNOWN, b"INIT"
            error_us = 16 * _MICROS  # MAXDISP
    else:
        leap = {1: LEAP_INSERT, -1: LEAP_DELETE}.get(kernel.leap_s, LEAP_NONE)
        if kernel.pps:
            stratum, reference = 1, b"PPS\0"
    precision = math.ceil(math.log2(max(uncertainty_ns, 1) / _NS_PER_S))
    dispersion = min(math.ceil(error_us * 65536 / _MICROS), 0xFFFF_FFFF)
    head = bytes([leap << 6 | NTP_SERVER, stratum, 0, precision & 0xFF])
    return head + bytes(4) + dispersion.to_bytes(4, "big") + reference


def ntp_time(unix_ns: int) -> int:
    """Nanoseconds since 1970 as a timestamp of 64 bits, RFC 5905 section 6."""
    seconds, ns = divmod(unix_ns, _NS_PER_S)
    return (((seconds + NTP_UNIX_S) & 0xFFFF_FFFF) << 32) | (ns << 32) // _NS_PER_S


__all__ = ["LOCAL_ID", "Standing", "TimeOfDay", "describe", "ntp_time"]

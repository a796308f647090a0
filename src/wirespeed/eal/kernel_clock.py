"""What the kernel knows of its own time of day: whether somebody steers it, how wrong it may be, leap seconds.

Whoever steers the clock (chronyd, ntpd, systemd-timesyncd, ptp4l through phc2sys) tells the kernel; anybody may ask.
How far the clock is from a reference clock, its stratum, is not among what the kernel is told.

References: adjtimex(2); include/uapi/linux/timex.h; RFC 5905 appendix A.5.6.1 for leap seconds.
"""

import ctypes
import os
from dataclasses import dataclass

_INSERT, _DELETE, _ERROR = 1, 2, 5  # what the call returns
_STA_PPSFREQ, _STA_PPSTIME, _STA_UNSYNC, _STA_PPSSIGNAL = 0x0002, 0x0004, 0x0040, 0x0100


class _Timex(ctypes.Structure):
    """struct timex."""

    _fields_ = [
        ("modes", ctypes.c_uint), ("offset", ctypes.c_long), ("freq", ctypes.c_long), ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long), ("status", ctypes.c_int), ("constant", ctypes.c_long),
        ("precision", ctypes.c_long), ("tolerance", ctypes.c_long), ("tv_sec", ctypes.c_long),
        ("tv_usec", ctypes.c_long), ("tick", ctypes.c_long), ("ppsfreq", ctypes.c_long), ("jitter", ctypes.c_long),
        ("shift", ctypes.c_int), ("stabil", ctypes.c_long), ("jitcnt", ctypes.c_long), ("calcnt", ctypes.c_long),
        ("errcnt", ctypes.c_long), ("stbcnt", ctypes.c_long), ("tai", ctypes.c_int), ("pad", ctypes.c_int * 11),
    ]  # fmt: skip


@dataclass(frozen=True)
class KernelClock:
    """The state of CLOCK_REALTIME.

    Attributes:
        synchronised: whether somebody steers it.
        max_error_us: what it may be wrong by at most; grows by 500 microseconds a second until it is set again.
        leap_s: 1: the day ends with a leap second; -1: it ends a second early; else 0.
        pps: whether it follows a pulse each second.
    """

    synchronised: bool
    max_error_us: int
    leap_s: int = 0
    pps: bool = False


def kernel_clock() -> KernelClock:
    """How the kernel's time of day is now.

    Raises:
        OSError: the kernel does not say: a sandbox forbids adjtimex.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    told = _Timex()
    state = libc.adjtimex(ctypes.byref(told))
    if state < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    pulses = told.status & _STA_PPSSIGNAL != 0 and told.status & (_STA_PPSFREQ | _STA_PPSTIME) != 0
    return KernelClock(
        synchronised=state != _ERROR and told.status & _STA_UNSYNC == 0,
        max_error_us=max(told.maxerror, 0),
        leap_s={_INSERT: 1, _DELETE: -1}.get(state, 0),
        pps=pulses,
    )


__all__ = ["KernelClock", "kernel_clock"]

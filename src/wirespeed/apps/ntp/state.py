"""What a worker of the server has for itself: the time sheet that counts, how it limits, what it counted.

::

    0      generation of the time sheet; the table of rates
    64     time sheet of even generations
    128    time sheet of odd generations
    192    counters

Control code writes the sheet that does not count, then the generation: who reads a sheet looks at the generation
before and after, and reads again if it is another. No reader ever waits, whatever happens to the writer.
"""

from wirespeed.jit import View, le64

DROPS: tuple[str, ...] = ("short", "control", "private", "mode", "version", "rate-limited", "no-time")
"""Names of what :func:`wirespeed.apps.ntp.serve.serve` drops: the first is -1."""
SHORT, CONTROL, PRIVATE, MODE, VERSION, RATE_LIMITED, NO_TIME = range(-1, -8, -1)

SHEETS: int = 64
"""Offset of the two time sheets."""


class NtpView(View):
    """One worker's state; ``rates`` to ``slip``, ``limited`` and ``slipped`` are what the limiter of
    :mod:`wirespeed.apps.dns.limit` works with."""

    generation = le64(0, "of the time sheet; 0: there is none yet")
    rates = le64(8, "address of the table of rates")
    rates_mask = le64(16, "its sets - 1")
    interval = le64(24, "cycles between requests of one address, on average; 0: no limit")
    burst = le64(32, "cycles that they may run ahead of that")
    slip = le64(40, "each so manieth request beyond is answered with a kiss-o'-death")
    seed0 = le64(48)
    seed1 = le64(56)
    answered = le64(192, "requests that were told the time")
    stamped = le64(200, "of these, those whose time of arrival the port told")
    limited = le64(208, "requests beyond the rate")
    slipped = le64(216, "of these, those that were answered with a kiss-o'-death")
    unknown_keys = le64(224, "requests with a digest: answered with a crypto-NAK")
    refused = le64(232, "that are no request of a client, or of a version that is not spoken here")
    SIZE = 256


class TimeSheet(View):
    """From cycles to the time of day; and what an answer says of the clock, as it lies in the answer."""

    anchor_cycles = le64(0, "the cycle counter")
    anchor = le64(8, "NTP timestamp at that cycle")
    whole = le64(16, "2**-32 s a cycle")
    fraction = le64(24, "and 2**-96 s a cycle")
    head = le64(32, "bytes 0 to 7 of the answer, version and poll being 0")
    tail = le64(40, "bytes 8 to 15")
    reference = le64(48, "bytes 16 to 23")
    SIZE = 64


COUNTERS: tuple[str, ...] = ("answered", "stamped", "limited", "slipped", "unknown_keys", "refused")

__all__ = [
    "CONTROL", "COUNTERS", "DROPS", "MODE", "NO_TIME", "PRIVATE", "RATE_LIMITED", "SHEETS", "SHORT", "VERSION",
    "NtpView", "TimeSheet",
]  # fmt: skip

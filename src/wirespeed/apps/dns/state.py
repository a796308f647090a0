"""What a worker of the server has for itself: which store counts, how it limits, what it counted.

::

    0      the store that counts, written by control code with one store; then settings
    64     counters
    256    nodes of the chain of aliases that is being followed
    512    requests that were asked ahead for, in turn: which, and the hash of its name, or its slot when that is there
    ...    the name that an alias led to, whole
"""

from wirespeed.jit import View, le64

DROPS: tuple[str, ...] = ("short", "response", "small-room", "rate-limited")
"""Names of what :func:`wirespeed.apps.dns.serve.serve` drops: the first is -1."""
SHORT, RESPONSE, NO_ROOM, RATE_LIMITED = -1, -2, -3, -4

AHEAD: int = 16
"""Slots asked for whose nodes are not yet."""
HINTS: int = 256
"""Requests of which is kept what was found ahead: a burst has no more."""
HOPS: int = 28
"""Names looked up for one answer, with those that aliases lead to; a resolver asks on from the last."""


class DnsView(View):
    """One worker's state."""

    store = le64(0, "address of the store's head")
    size_max = le64(8, "bytes of the largest answer")
    interval = le64(16, "ticks between equal answers to one network, on average; 0: no limit")
    burst = le64(24, "ticks that they may run ahead of that")
    slip = le64(32, "each so manieth answer that is refused is truncated instead of dropped; 0: none")
    rates = le64(40, "address of the table of rates")
    rates_mask = le64(48, "its sets - 1")
    asked = le64(56, "slots asked for so far")
    queries = le64(64, "requests that came")
    answered = le64(72, "answers with records")
    no_data = le64(80, "names without records of that type")
    no_name = le64(88, "names that are not there")
    referrals = le64(96, "names beyond a delegation")
    refused = le64(104, "questions for other zones, classes, or about transfers")
    malformed = le64(112, "requests that are none: FORMERR")
    not_implemented = le64(120, "other operations: NOTIMP")
    bad_version = le64(128, "other versions of EDNS: BADVERS")
    truncated = le64(136, "answers that did not fit: TC")
    limited = le64(144, "answers beyond the rate: dropped, or slipped")
    slipped = le64(152, "of these, answers that were truncated")
    dropped = le64(160, "too short, or responses")
    seed0 = le64(168, "of the table of rates")
    seed1 = le64(176)
    fetched = le64(184, "slots whose nodes were asked for")
    served = le64(192, "requests served of those asked for")
    SIZE = 512 + 16 * HINTS + 256


CHAIN: int = 256
"""Offset of the nodes of a chain."""
KNOWN: int = 512
"""Offset of what was found ahead."""
TARGET: int = KNOWN + 16 * HINTS
"""Offset of the name that an alias led to."""

COUNTERS: tuple[str, ...] = (
    "queries", "answered", "no_data", "no_name", "referrals", "refused", "malformed", "not_implemented", "bad_version",
    "truncated", "limited", "slipped", "dropped",
)  # fmt: skip

__all__ = [
    "AHEAD", "CHAIN", "COUNTERS", "DROPS", "HINTS", "HOPS", "KNOWN", "NO_ROOM", "RATE_LIMITED", "RESPONSE",
    "SHORT", "TARGET", "DnsView",
]  # fmt: skip

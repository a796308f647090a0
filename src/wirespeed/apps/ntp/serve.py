"""From a request to its answer, in place: RFC 5905 section 9.2 and figure 22 (a server needs no state of its clients).

The answer is never longer than the request: no amplifier. Symmetric and broadcast modes are not spoken, nor is
the management of modes 6 and 7, which made other servers into amplifiers.
"""
# mypy: no-warn-return-any

from wirespeed.apps.dns.limit import DROP, PASS, admit
from wirespeed.apps.ntp.state import (
    CONTROL,
    MODE,
    NO_TIME,
    PRIVATE,
    RATE_LIMITED,
    SHEETS,
    SHORT,
    VERSION,
    NtpView,
    TimeSheet,
)
from wirespeed.jit import (
    add,
    bswap32,
    bswap64,
    cold,
    fence_acquire,
    inline,
    load8,
    load64,
    load_acquire,
    load_relaxed,
    multiply_high,
    store32,
    store64,
)
from wirespeed.wire.ntp import KISS_RATE, LEAP_UNKNOWN, NTP_CLIENT, NTP_CONTROL, NTP_PRIVATE, NTP_SERVER, NTP_UNIX_S

_HEADER = 48
_KEY = 4
_MD5, _SHA1 = _KEY + 16, _KEY + 20  # no extension field that is the last one is that short: RFC 7822 section 3
_NS_PER_S = 1_000_000_000
_OLDEST = (1 << 32) // 10  # a tenth of a second
_ATTEMPTS = 4
_RATE = bswap32(KISS_RATE)
_LONGEST_POLL = 17  # section 7.3


@inline
def time_at(sheet: TimeSheet, now: int) -> int:
    """The NTP timestamp at cycle ``now``, modulo 2**64: seconds and 32 bits behind the point."""
    since = now - sheet.anchor_cycles
    part = multiply_high(since, sheet.fraction)
    if since < 0:  # the product is one of unsigned numbers
        part -= sheet.fraction
    return add(sheet.anchor, add(since * sheet.whole, part))


@inline
def time_of(arrival: int) -> int:
    """The NTP timestamp of nanoseconds since 1970."""
    seconds = arrival // _NS_PER_S
    part = ((arrival - seconds * _NS_PER_S) << 32) // _NS_PER_S
    return add(((seconds + NTP_UNIX_S) & 0xFFFF_FFFF) << 32, part)


@inline
def serve(
    state: NtpView, now: int, arrival: int, peer: int, request: int, length: int, reply: int, room: int
) -> int:  # fmt: skip
    """Answer one request.

    Args:
        state: the worker's.
        now: the cycle counter.
        arrival: when the port received the request, nanoseconds since 1970; 0: it does not say. What lies more than
            a tenth of a second back, or ahead, is of another clock and does not count.
        peer: who asks, as :attr:`wirespeed.stack.request.Request.peer` has it.
        request: address of the datagram's payload, ``length`` bytes.
        reply: where the answer is written, ``room`` bytes at most; may be ``request``.

    Returns:
        Bytes of the answer; negative: ``DROPS[-1 - n]``.
    """
    if length < _HEADER or room < _HEADER + _KEY:
        return _refuse(state, SHORT)
    first = load8(request)
    version = (first >> 3) & 7
    if first & 7 != NTP_CLIENT or version < 3 or version > 4:
        return _unwanted(state, first & 7)
    poll, origin = load8(request + 2), load64(request + 40)
    if state.interval != 0:
        verdict = admit(state, now, peer, peer)  # type: ignore[arg-type]  # it has the fields
        if verdict != PASS:
            return _kiss(state, verdict, version, poll, origin, reply)
    for _ in range(_ATTEMPTS):
        generation = load_acquire(state.address)
        sheet = TimeSheet(state.address + SHEETS + ((generation & 1) << 6))
        transmit = time_at(sheet, now)
        head, tail, reference = sheet.head, sheet.tail, sheet.reference
        fence_acquire()
        if load_relaxed(state.address) == generation and generation != 0:
            break
    else:
        return _refuse(state, NO_TIME)
    receive = transmit
    if arrival != 0:
        received = time_of(arrival)
        ago = add(transmit, -received)
        if 0 <= ago < _OLDEST:
            receive = received
            state.stamped += 1
    store64(reply, head | (version << 3) | (poll << 16))
    store64(reply + 8, tail)
    store64(reply + 16, reference)
    store64(reply + 24, origin)
    store64(reply + 32, bswap64(receive))
    store64(reply + 40, bswap64(transmit))
    state.answered += 1
    if length == _HEADER + _MD5 or length == _HEADER + _SHA1:
        return _crypto_nak(state, reply)
    return _HEADER


@cold
def _refuse(state: NtpView, reason: int) -> int:
    state.refused += 1
    return reason


@cold
def _unwanted(state: NtpView, mode: int) -> int:
    if mode == NTP_CONTROL:
        return _refuse(state, CONTROL)
    if mode == NTP_PRIVATE:
        return _refuse(state, PRIVATE)
    return _refuse(state, VERSION if mode == NTP_CLIENT else MODE)


@cold
def _kiss(state: NtpView, verdict: int, version: int, poll: int, origin: int, reply: int) -> int:
    """Section 7.4: stratum 0, and what to do in letters. No time is told: the client's own is given back, so that
    nobody can set a clock by it."""
    if verdict == DROP:
        return RATE_LIMITED
    wait = poll + 1 if poll < _LONGEST_POLL else _LONGEST_POLL
    store64(reply, (LEAP_UNKNOWN << 6) | (version << 3) | NTP_SERVER | (wait << 16))
    store32(reply + 8, 0)
    store32(reply + 12, _RATE)
    for at in range(16, _HEADER, 8):
        store64(reply + at, origin)
    return _HEADER


@cold
def _crypto_nak(state: NtpView, reply: int) -> int:
    """Section 9.2: key identifier 0 tells the client that its key is not known here."""
    state.unknown_keys += 1
    store32(reply + _HEADER, 0)
    return _HEADER + _KEY


__all__ = ["serve", "time_at", "time_of"]

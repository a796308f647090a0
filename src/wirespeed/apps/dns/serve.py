"""From a request to its reply: RFC 1035, 6891 (EDNS0), 2308 (negative answers), 3597 (any type), 4592 (wildcards).

The common question (a name that is there, of a type that it has, in a reply that holds it) is found and copied here;
all others go to :func:`wirespeed.apps.dns.answer.compose`. The reply is the request up to the end of its question,
flags and counts set, then the answer, then the OPT record if the request had one.

Nothing is read beyond the request: a name ends four bytes before its end or there is no answer but FORMERR.
"""
# mypy: no-warn-return-any

from wirespeed.apps.dns.answer import AUTHORITATIVE, TRUNCATED, compose, counts_of, data_of, size_of
from wirespeed.apps.dns.find import (
    CUT,
    StoreView,
    answer_of,
    fetch_node,
    fetch_slot,
    find_hashed,
    find_name,
    name_end,
    name_hash,
)
from wirespeed.apps.dns.limit import DROP, PASS, admit
from wirespeed.apps.dns.state import AHEAD, ASKED, HINTS, KNOWN, NO_ROOM, RATE_LIMITED, RESPONSE, SHORT, DnsView
from wirespeed.jit import (
    bswap16,
    cold,
    copy,
    inline,
    load8,
    load16,
    load64,
    load_acquire,
    store16,
    store32,
    store64,
)
from wirespeed.wire.dns import (
    NAME_MAX,
    OPT_BYTES,
    PLAIN_MAX,
    QUESTION,
    RCODE_BAD_VERSION,
    RCODE_FORMAT,
    RCODE_NO_NAME,
    RCODE_NOT_IMPLEMENTED,
    RCODE_REFUSED,
    TYPE_ANY,
)

# Words as they stand in memory.
_QR, _OPCODE, _RD = 0x80, 0x78, 0x01
_ONE_QUESTION = 0x0100  # counts of a request: one question, nothing else
_ONE_ADDITIONAL = 1 << 56  # or one additional record
_IN = 0x0100
_OPT = 0x2900
_DO = 0x80
_META = 128  # RFC 6895 section 3.1: types from here to 255 are of questions only
_ONE_ADDRESS = 16
_CELL_BITS, _LINE_BITS = 11, 6
_SHORTEST = QUESTION + 5


@inline
def serve(state: DnsView, now: int, peer: int, request: int, length: int, reply: int, room: int) -> int:
    """Answer one request.

    Args:
        state: the worker's.
        now: time in ticks of :class:`wirespeed.apps.dns.server.DnsServer`; of no use without a limit of rates.
        peer: who asks, as :attr:`wirespeed.stack.request.Request.peer` has it.
        request: address of the datagram's payload, ``length`` bytes.
        reply: where the answer is written, ``room`` bytes at most; may be ``request``.

    Returns:
        Bytes of the reply; negative: ``DROPS[-1 - n]``.
    """
    state.queries += 1
    if length < _SHORTEST or room < PLAIN_MAX:
        return _odd(state, request, length, reply, room)
    flags, counts, name, end = load16(request + 2), load64(request + 4), request + QUESTION, request + length
    after = name_end(name, min(end - 4, name + NAME_MAX))
    if flags & (_QR | _OPCODE) != 0 or counts & ~_ONE_ADDITIONAL != _ONE_QUESTION or after == 0:
        return _odd(state, request, length, reply, room)
    kind, kin, size = bswap16(load16(after)), load16(after + 2), after - name
    after += 4
    limit, opt, extended = PLAIN_MAX, 0, 0
    if counts != _ONE_QUESTION:
        if end - after < OPT_BYTES or load8(after) != 0 or load16(after + 1) != _OPT:
            return _odd(state, request, length, reply, room)
        if bswap16(load16(after + 9)) != end - after - OPT_BYTES:
            return _odd(state, request, length, reply, room)
        opt, limit = OPT_BYTES, min(max(bswap16(load16(after + 3)), PLAIN_MAX), state.size_max)
        extended = load16(after + 6)
    elif after != end:
        return _odd(state, request, length, reply, room)
    limit = min(limit, room) - opt
    used = after - request
    if reply != request:
        copy(reply, request, used)
    if kin != _IN or extended & 0xFF != 0 or _META <= kind < TYPE_ANY:
        return _refuse(state, now, peer, reply, used, flags, opt, extended)
    store = StoreView(load_acquire(state.address))
    if state.asked != state.fetched:
        _fetch_next(state, store)
    node = _find(state, store, request, reply + QUESTION, size)
    if node != 0 and load8(node + 1) & CUT == 0:
        answer = answer_of(node, kind)
        if answer != 0:
            total = size_of(answer)
            if used + total <= limit:
                verdict = admit(state, now, peer, node) if state.interval != 0 else PASS
                if verdict != PASS:
                    return _limited(state, verdict, reply, used, flags, opt, extended)
                data = data_of(answer)
                if total == _ONE_ADDRESS:  # no call, and no byte of the next line, which may be far away
                    store64(reply + used, load64(data))
                    store64(reply + used + 8, load64(data + 8))
                else:
                    copy(reply + used, data, total)
                state.answered += 1
                return finish(state, reply, used + total, flags, AUTHORITATIVE, counts_of(answer), opt, extended)
    return _compose(state, store, now, peer, reply, used, kind, node, limit, flags, opt, extended)


@inline
def ahead(state: DnsView, request: int, length: int) -> None:
    """Ask for the memory that :func:`serve` will read: this request's slot, and the node of the one that was asked for
    some calls ago; the last ones are left to :func:`serve`. Call it for each request of a burst first."""
    if length < _SHORTEST:
        return
    name = request + QUESTION
    after = name_end(name, min(request + length - 4, name + NAME_MAX))
    if after == 0:
        return
    store = StoreView(load_acquire(state.address))
    asked, h = state.asked, name_hash(store, name, after - name)
    fetch_slot(store, h)
    known = _known(state, request)
    store64(known, request)
    store64(known + 8, h)
    store64(state.address + ASKED + ((asked & (AHEAD - 1)) << 3), h)
    state.asked = asked + 1
    if asked - state.fetched >= AHEAD - 1:
        _fetch_next(state, store)


@inline
def _known(state: DnsView, request: int) -> int:
    """Where the hash of a request is kept. Requests in cells, or one after the other, have each their own place."""
    return state.address + KNOWN + (((request >> _CELL_BITS ^ request >> _LINE_BITS) & (HINTS - 1)) << 4)


@inline
def _find(state: DnsView, store: StoreView, request: int, name: int, size: int) -> int:
    """The node of a request's name. The hash that is kept may be of what was there before: then nothing is found by
    it, or something by that name, which is as good."""
    known = _known(state, request)
    if load64(known) == request:
        node = find_hashed(store, load64(known + 8), name, size)
        if node != 0:
            return node
    return find_name(store, name, size)


@inline
def _fetch_next(state: DnsView, store: StoreView) -> None:
    """Ask for the node of the oldest slot that was asked for."""
    fetched = state.fetched
    state.fetched = fetched + 1
    fetch_node(store, load64(state.address + ASKED + ((fetched & (AHEAD - 1)) << 3)))


@inline
def finish(state: DnsView, reply: int, used: int, flags: int, given: int, counts: int, opt: int, extended: int) -> int:
    """Set flags and counts, append the OPT record; bytes of the reply. ``given`` are flags and rcode."""
    rcode = given >> 8
    store16(reply + 2, _QR | flags & _RD | given & 0xFF | (rcode & 15) << 8)
    if opt != 0:
        at = reply + used
        store64(at, 0x29 << 16 | bswap16(state.size_max) << 24 | (rcode >> 4) << 40)
        store32(at + 7, extended >> 8 & _DO)
        counts += _ONE_ADDITIONAL
        used += opt
    store64(reply + 4, counts | _ONE_QUESTION)
    return used


@cold
def _compose(
    state: DnsView, store: StoreView, now: int, peer: int, reply: int, used: int, kind: int, node: int, limit: int,
    flags: int, opt: int, extended: int,
) -> int:  # fmt: skip
    """All answers but the common one."""
    end, given, counts, key = compose(state, store, reply, used, kind, node, limit)
    verdict = admit(state, now, peer, key | 1) if state.interval != 0 else PASS
    if verdict != PASS:
        return _limited(state, verdict, reply, used, flags, opt, extended)
    rcode = given >> 8
    if given & TRUNCATED != 0:
        state.truncated += 1
    elif rcode == RCODE_NO_NAME:
        state.no_name += 1
    elif rcode == RCODE_REFUSED:
        state.refused += 1
    elif counts & 0xFFFF_0000 != 0:
        state.answered += 1
    elif given & AUTHORITATIVE != 0:
        state.no_data += 1
    else:
        state.referrals += 1
    return finish(state, reply, end, flags, given, counts, opt, extended)


@cold
def _limited(state: DnsView, verdict: int, reply: int, used: int, flags: int, opt: int, extended: int) -> int:
    """What goes instead of an answer that is beyond the limit."""
    if verdict == DROP:
        return RATE_LIMITED
    return finish(state, reply, used, flags, TRUNCATED, 0, opt, extended)


@cold
def _refuse(state: DnsView, now: int, peer: int, reply: int, used: int, flags: int, opt: int, extended: int) -> int:
    """Another class, a transfer, or another version of EDNS."""
    verdict = admit(state, now, peer, 1) if state.interval != 0 else PASS
    if verdict != PASS:
        return _limited(state, verdict, reply, used, flags, opt, extended)
    if extended & 0xFF != 0:
        state.bad_version += 1
        return finish(state, reply, used, flags, RCODE_BAD_VERSION << 8, 0, opt, extended)
    state.refused += 1
    return finish(state, reply, used, flags, RCODE_REFUSED << 8, 0, opt, extended)


@cold
def _odd(state: DnsView, request: int, length: int, reply: int, room: int) -> int:
    """What is no question: dropped, or answered by a header. A header is never larger than what it answers."""
    if length < QUESTION:
        state.dropped += 1
        return SHORT
    flags = load16(request + 2)
    if flags & _QR != 0:  # answering these, two servers could keep each other busy
        state.dropped += 1
        return RESPONSE
    if room < PLAIN_MAX:
        state.dropped += 1
        return NO_ROOM
    if flags & _OPCODE != 0:
        rcode = RCODE_NOT_IMPLEMENTED
        state.not_implemented += 1
    else:
        rcode = RCODE_FORMAT
        state.malformed += 1
    store16(reply, load16(request))
    store16(reply + 2, _QR | flags & (_OPCODE | _RD) | rcode << 8)
    store64(reply + 4, 0)
    return QUESTION


__all__ = ["ahead", "finish", "serve"]

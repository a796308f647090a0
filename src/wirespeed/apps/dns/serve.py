"""From a request to its reply: RFC 1035, 6891 (EDNS0), 2308 (negative answers), 3597 (any type), 4592 (wildcards).

The common question (a name that is there, of a type that it has, in a reply that holds it) is found and copied here;
all others go to :func:`wirespeed.apps.dns.answer.compose`. The reply is the request up to the end of its question,
flags and counts set, then the answer, then the OPT record if the request had one.

Nothing is read beyond the request: a name ends four bytes before its end or there is no answer but FORMERR.
"""
# mypy: no-warn-return-any

from wirespeed.apps.dns.answer import ALIKE, AUTHORITATIVE, TRUNCATED, compose, counts_of, data_of
from wirespeed.apps.dns.find import (
    CUT,
    StoreView,
    answer_of,
    fetch_node,
    fetch_slot,
    find_name,
    name_end,
    name_hash,
    node_of,
    same_name,
)
from wirespeed.apps.dns.limit import DROP, PASS, admit
from wirespeed.apps.dns.state import AHEAD, HINTS, KNOWN, NO_ROOM, RATE_LIMITED, RESPONSE, SHORT, DnsView
from wirespeed.jit import (
    bswap16,
    cold,
    copy,
    inline,
    load8,
    load16,
    load32,
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
    TYPE_AXFR,
    TYPE_IXFR,
)

# Words as they stand in memory.
_QR, _OPCODE, _RD = 0x80, 0x78, 0x01
_ONE_QUESTION = 0x0100  # counts of a request: one question, nothing else
_ONE_ADDITIONAL = 1 << 56  # or one additional record
_IN = 0x0100
_OPT = 0x2900
_DO = 0x80
_OPTION_HEAD = 4
_SIZE = ~ALIKE & 0xFFFF  # of an answer's first word
_HALF = 16
_ADDRESS_BITS = 48
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
    store = StoreView(load_acquire(state.address))
    if state.asked != state.fetched:
        _fetch_next(state, store)
    size = name_size(request, length)
    node = _find(state, store, request, size)
    if node != 0:  # then the name is one, and as long as it seemed
        flags, counts = load16(request + 2), load64(request + 4)
        used, end = QUESTION + size + 4, request + length
        after = request + used
        opt = opt_bytes(after, end, counts)
        if flags & (_QR | _OPCODE) == 0 and opt >= 0 and load16(after - 2) == _IN and load8(node + 1) & CUT == 0:
            answer = answer_of(node, bswap16(load16(after - 4)))
            extended = load16(after + 6) if opt != 0 else 0
            limit = _limit(state, after, opt, room)
            if answer != 0 and extended & 0xFF == 0:
                head = load32(answer)
                total = head & _SIZE
                if used + total <= limit:
                    verdict = admit(state, now, peer, node) if state.interval != 0 else PASS
                    if reply != request:
                        copy(reply, request, used)
                    if verdict != PASS:
                        return _limited(state, verdict, reply, used, flags, opt, extended)
                    copy_answer(reply + used, data_of(answer), total)
                    state.answered += 1
                    counts = counts_of(answer)
                    return finish(state, reply, used + total, flags, AUTHORITATIVE, counts, opt, extended)
    return _other(state, store, now, peer, request, length, reply, room, node, size)


@inline
def name_size(request: int, length: int) -> int:
    """Bytes of the name that is asked for, if there is nothing behind the question but an OPT record without options;
    whether it is a name is not looked at. Else what the name itself says; 0 if it is none."""
    end = request + length
    size = length - QUESTION - 4
    if load64(request + 4) != _ONE_QUESTION:
        size = size - OPT_BYTES if load16(end - OPT_BYTES + 1) == _OPT else NAME_MAX + 1
    if 0 < size <= NAME_MAX and load8(request + QUESTION + size - 1) == 0:
        return size
    return _walked_size(request, length)


@cold
def _walked_size(request: int, length: int) -> int:
    """Bytes of the name that is asked for, by its labels; 0 if it is none."""
    name = request + QUESTION
    after = name_end(name, min(request + length - 4, name + NAME_MAX))
    return after - name if after != 0 else 0


@inline
def opt_bytes(after: int, end: int, counts: int) -> int:
    """Bytes of an OPT record that stands between a question and the end, without its options; 0: nothing stands there;
    -1: something else does."""
    if counts == _ONE_QUESTION:
        return 0 if after == end else -1
    if counts != _ONE_QUESTION | _ONE_ADDITIONAL or end - after < OPT_BYTES:
        return -1
    size = bswap16(load16(after + 9))
    if load8(after) != 0 or load16(after + 1) != _OPT or size != end - after - OPT_BYTES:
        return -1
    return OPT_BYTES if size == 0 or _are_options(after + OPT_BYTES, end) else -1


@cold
def _are_options(at: int, end: int) -> bool:
    """Whether there is nothing but whole options up to ``end`` (RFC 6891 section 6.1.2); what they say is not looked
    at."""
    while at + _OPTION_HEAD <= end:
        at += _OPTION_HEAD + bswap16(load16(at + 2))
    return at == end


@inline
def _limit(state: DnsView, after: int, opt: int, room: int) -> int:
    """Bytes that the reply may have without its OPT record."""
    if opt == 0:
        return min(PLAIN_MAX, room)
    return min(min(max(bswap16(load16(after + 3)), PLAIN_MAX), state.size_max), room) - opt


@inline
def copy_answer(to: int, data: int, size: int) -> None:
    """Copy records: no call for one address, and no byte of the next line, which may be far away."""
    if size < _HALF or size > 2 * _HALF:
        copy(to, data, size)
        return
    last = size - _HALF
    one, two, three, four = load64(data), load64(data + 8), load64(data + last), load64(data + last + 8)
    store64(to, one)
    store64(to + 8, two)
    store64(to + last, three)
    store64(to + last + 8, four)


@inline
def ahead(state: DnsView, request: int, length: int) -> None:
    """Ask for the memory that :func:`serve` will read: this request's slot, and the node of the one that was asked for
    some calls ago; the last ones are left to :func:`serve`. Call it for each request of a burst first."""
    if length < _SHORTEST:
        return
    size = name_size(request, length)
    if size == 0:
        return
    store = StoreView(load_acquire(state.address))
    asked, h = state.asked, name_hash(store, request + QUESTION, size)
    fetch_slot(store, h)
    known = _known(state, asked)
    store64(known, _key(store, request))
    store64(known + 8, h)
    state.asked = asked + 1
    if asked - state.fetched >= AHEAD - 1:
        _fetch_next(state, store)


@inline
def _known(state: DnsView, index: int) -> int:
    """Where it is kept what was found ahead for a request."""
    return state.address + KNOWN + ((index & (HINTS - 1)) << 4)


@inline
def _key(store: StoreView, request: int) -> int:
    """What stands for a request: what was found for it in another store is not its."""
    return request ^ store.serial << _ADDRESS_BITS


@inline
def _fetch_next(state: DnsView, store: StoreView) -> None:
    """Ask for the node of the oldest slot that was asked for."""
    fetched = state.fetched
    state.fetched = fetched + 1
    known = _known(state, fetched)
    store64(known + 8, fetch_node(store, load64(known + 8)))


@inline
def _find(state: DnsView, store: StoreView, request: int, size: int) -> int:
    """The node of a request's name, 0 if there is none. What is known may be of what was there before: then it has
    another name, or that name, which is as good."""
    served = state.served
    known = _known(state, served)
    if served == state.asked or load64(known) != _key(store, request):
        known = _known_late(state, _key(store, request))
    else:
        state.served = served + 1
    if known != 0:
        node = node_of(store, load64(known + 8))
        if same_name(node, request + QUESTION, size):
            return node
    return find_name(store, request + QUESTION, size)


@cold
def _known_late(state: DnsView, key: int) -> int:
    """Where it is kept what was found for a request that is not the next, as some before it were never served; 0 if
    nothing is."""
    fetched = state.fetched
    for index in range(max(state.served, fetched - HINTS), fetched):
        known = _known(state, index)
        if load64(known) == key:
            state.served = index + 1
            return known
    return 0


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
def _other(
    state: DnsView, store: StoreView, now: int, peer: int, request: int, length: int, reply: int, room: int, node: int,
    size: int,
) -> int:  # fmt: skip
    """All answers but the common one. ``node`` is that of the name, if the name has ``size`` bytes."""
    walked = _walked_size(request, length)
    used, flags, counts, end = QUESTION + walked + 4, load16(request + 2), load64(request + 4), request + length
    after = request + used
    opt = opt_bytes(after, end, counts) if walked != 0 else -1
    if opt < 0 or flags & (_QR | _OPCODE) != 0:
        return _odd(state, request, length, reply, room)
    extended = load16(after + 6) if opt != 0 else 0
    limit = _limit(state, after, opt, room)
    kind, kin = bswap16(load16(after - 4)), load16(after - 2)
    if reply != request:
        copy(reply, request, used)
    if kin != _IN or extended & 0xFF != 0 or TYPE_IXFR <= kind <= TYPE_AXFR:
        return _refuse(state, now, peer, reply, used, flags, opt, extended)
    if walked != size:
        node = find_name(store, reply + QUESTION, walked)
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

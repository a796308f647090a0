"""Lines of routes, by a kernel: prefixes with next hops, and the lines of ``bgpdump -m``.

A line is ``PREFIX``, ``PREFIX NEXT-HOP ...`` or ``PREFIX via NEXT-HOP ...`` (``ip route``); or, from bgpdump 1.6,
``TABLE_DUMP2|time|B|peer|AS|PREFIX|AS path|origin|NEXT-HOP|...``, of which several in a row with one prefix (one for
each peer) count as the first. Empty lines and lines that start with ``#`` are passed over.

What a kernel finds goes into six rows of words: high, low, length, family (4 or 6; an IPv4 address is the top 32 bits
of high), where its next hop is written (offset << 8 | bytes; 0: there is none), and a hash of that.
"""
# mypy: no-warn-return-any

from wirespeed.jit import inline, kernel, load8, load64, multiply, shift_right, store64, trailing_zeros

ROWS: int = 6
HOP_BYTES_MAX: int = 64

_NEWLINE, _CR, _TAB, _SPACE, _HASH, _DOT, _SLASH, _ZERO, _COLON, _T, _BAR = 10, 13, 9, 32, 35, 46, 47, 48, 58, 84, 124
_PREFIX_FIELD, _HOP_FIELD = 5, 8  # of bgpdump's line
_STRANGE: int = -1


@inline
def store_route(
    rows: int, room: int, count: int, high: int, low: int, length: int, family: int, hop: int, hashed: int
) -> None:
    """Fill column ``count`` of six rows of ``room`` words."""
    at, row = rows + (count << 3), room << 3
    store64(at, high)
    store64(at + row, low)
    store64(at + row * 2, length)
    store64(at + row * 3, family)
    store64(at + row * 4, hop)
    store64(at + row * 5, hashed)


@inline
def hash_bytes(at: int, size: int, seed: int) -> int:
    """A hash of a few bytes, for telling next hops apart; seeded, since strangers write files."""
    value = seed ^ size
    for i in range(size):
        value = multiply(value ^ load8(at + i), 0x2127_599B_F432_5C37)
        value ^= shift_right(value, 29)
    return value


@kernel
def hash_hop(data: int, where: int, seed: int) -> int:
    """The hash of a next hop from where it is written."""
    return hash_bytes(data + (where >> 8), where & 255, seed)


@inline
def _ends(byte: int, bar: int) -> bool:
    return byte in (_NEWLINE, bar, _SPACE, _TAB, _CR)


@inline
def _token(at: int, end: int, bar: int) -> int:
    """Where the token at ``at`` ends."""
    while at < end and not _ends(load8(at), bar):
        at += 1
    return at


@inline
def _blanks(at: int, end: int) -> int:
    while at < end and (load8(at) == _SPACE or load8(at) == _TAB):
        at += 1
    return at


@inline
def _field(at: int, end: int, number: int) -> int:
    """Where the field ``number`` fields on begins; ``end`` or the line's end if there is none."""
    while number > 0 and at < end and load8(at) != _NEWLINE:
        number -= load8(at) == _BAR
        at += 1
    return at


@inline
def _number(at: int, stop: int) -> int:
    """One to three decimal digits, or _STRANGE."""
    if not 0 < stop - at <= 3:
        return _STRANGE
    value = 0
    while at < stop:
        digit = load8(at) - _ZERO
        if not 0 <= digit <= 9:
            return _STRANGE
        value = value * 10 + digit
        at += 1
    return value


@inline
def _address4(at: int, stop: int) -> int:
    """Four decimal bytes, or _STRANGE."""
    address, value, digits, dots = 0, 0, 0, 0
    while at < stop:
        byte = load8(at)
        if byte == _DOT:
            if digits == 0:
                return _STRANGE
            address, value, digits, dots = address << 8 | value, 0, 0, dots + 1
        else:
            value, digits = value * 10 + byte - _ZERO, digits + 1
            if not 0 <= byte - _ZERO <= 9 or value > 255 or digits > 3:
                return _STRANGE
        at += 1
    return address << 8 | value if dots == 3 and digits > 0 else _STRANGE


@inline
def _address6(at: int, stop: int) -> tuple[int, int, int]:
    """(high, low, 0) of hexadecimal groups, or _STRANGE in the third place: also for dotted ends, which are rare."""
    high, low, head_high, head_low = 0, 0, 0, 0
    value, digits, groups, gap = 0, 0, 0, _STRANGE
    while at <= stop:
        byte = load8(at) if at < stop else _COLON
        if byte == _COLON:
            if digits > 0:
                high, low = multiply(high, 65536) | shift_right(low, 48), multiply(low, 65536) | value
                value, digits, groups = 0, 0, groups + 1
                if at < stop and at + 1 == stop:
                    return 0, 0, _STRANGE  # ends in one colon
            elif at < stop and (gap == _STRANGE) and at + 1 < stop + 1 and load8(at + 1) == _COLON and groups == 0:
                at += 1  # begins with two
                gap = 0
            elif at < stop or gap != groups:
                return 0, 0, _STRANGE
            if at + 1 < stop and load8(at) == _COLON and load8(at + 1) == _COLON:
                if gap != _STRANGE:
                    return 0, 0, _STRANGE
                gap, head_high, head_low, high, low = groups, high, low, 0, 0
                at += 1
        else:
            lower = byte | 32
            digit = byte - _ZERO if byte <= 57 else lower - 87
            if digit < 0 or digit > 15 or (byte > 57 and lower < 97) or digits == 4 or groups == 8:
                return 0, 0, _STRANGE
            value, digits = value << 4 | digit, digits + 1
        at += 1
    if groups > 8 or (gap == _STRANGE and groups != 8) or (gap != _STRANGE and groups > 7):
        return 0, 0, _STRANGE
    if gap != _STRANGE:
        for _ in range(8 - gap):
            head_high, head_low = multiply(head_high, 65536) | shift_right(head_low, 48), multiply(head_low, 65536)
        high, low = high | head_high, low | head_low
    return high, low, 0


@inline
def _host_bits(high: int, low: int, length: int) -> bool:
    if length < 64:
        return low != 0 or trailing_zeros(high) < 64 - length
    return trailing_zeros(low) < 128 - length


@kernel
def parse_lines(
    data: int, start: int, size: int, rows: int, room: int, count: int, seed: int
) -> tuple[int, int, int, int]:
    """Read lines of ``data`` from offset ``start`` on.

    Returns (routes in ``rows``, how many of all the lines were of bgpdump, offset of the line after, offset of a line
    that only Python may understand, or -1 at the end).
    """
    at, end, dumps, row = data + start, data + size, 0, room << 3
    while at < end:
        line = at
        at = _blanks(at, end)
        byte = load8(at) if at < end else _NEWLINE
        dump = byte == _T
        bar = _BAR if dump else _NEWLINE
        if dump:
            at = _field(at, end, _PREFIX_FIELD)
        prefix = at
        slash, colons = 0, 0
        while at < end and not _ends(load8(at), bar):
            if load8(at) == _SLASH:
                slash = at
            colons += load8(at) == _COLON
            at += 1
        stop, hop = at, 0
        if dump:
            hop = _field(at, end, _HOP_FIELD - _PREFIX_FIELD)
        else:
            hop = _blanks(at, end)
            if end - hop > 4 and load8(hop) == 118 and load8(hop + 1) == 105 and load8(hop + 2) == 97:  # via
                if load8(hop + 3) == _SPACE or load8(hop + 3) == _TAB:
                    hop = _blanks(hop + 3, end)
        hop_bytes = _token(hop, end, bar) - hop
        at = hop
        while at < end and load8(at) != _NEWLINE:
            at += 1
        at += 1
        if byte == _HASH or (stop == prefix and not dump):
            continue
        length = _number(slash + 1, stop) if slash != 0 else _STRANGE
        high, low, wrong, family = 0, 0, 0, 4
        if colons > 0 and slash != 0:
            high, low, wrong = _address6(prefix, slash)
            family = 6
        elif slash != 0:
            wrong = _address4(prefix, slash)
            high = wrong << 32
        if length < 0 or wrong == _STRANGE or length > (128 if family == 6 else 32) or _host_bits(high, low, length):
            return count, dumps, at - data, line - data
        if hop_bytes > HOP_BYTES_MAX:
            return count, dumps, at - data, line - data
        if dump:
            dumps += 1
            last = rows + ((count - 1) << 3)
            if count > 0 and load64(last) == high and load64(last + row) == low:
                if load64(last + row * 2) == length and load64(last + row * 3) == family:
                    continue
        where = (hop - data) << 8 | hop_bytes if hop_bytes > 0 else 0
        store_route(rows, room, count, high, low, length, family, where, hash_bytes(hop, hop_bytes, seed))
        count += 1
    return count, dumps, size, -1

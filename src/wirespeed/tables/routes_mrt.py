"""Routes of an MRT file, as route collectors publish them: TABLE_DUMP_V2 (RFC 6396 section 4.3).

    record            time 4, type 2, subtype 2, length 4, then so many bytes (all big endian)
    PEER_INDEX_TABLE  collector 4, name length 2, name, peers 2, then for each: type 1, id 4, address 4 or 16, AS 2 or 4
    RIB_IPV*_UNICAST  sequence 4, prefix length 1, prefix 0 to 16, entries 2, then for each entry:
    entry             peer 2, time 4 (then a path identifier 4: RFC 8050), attributes' length 2, attributes
    attribute         flags 1, type 1, length 1 (2 if flags has 0x10), value

Of a prefix with several entries the first counts. Its next hop is attribute 3 (NEXT_HOP), or 14 (MP_REACH_NLRI), which
a RIB has in short: next hop length and next hop; some write it whole, beginning with a zero (the high byte of the
address family), and both are read. Bits of a prefix beyond its length mean nothing (section 4.3.2) and are cleared.
"""
# mypy: no-warn-return-any

import struct

from wirespeed.errors import TableError
from wirespeed.jit import bswap16, bswap32, inline, kernel, load8, load16, load32
from wirespeed.tables.routes_text import hash_bytes, store_route

TABLE_DUMP_V2: int = 13
PEER_INDEX_TABLE: int = 1
HEADER_BYTES: int = 12
_IPV4, _IPV6, _IPV4_PATHS, _IPV6_PATHS = 2, 4, 8, 10

FINE, PEERS, SHORT, LENGTH, PREFIX, ENTRIES, PEER, ATTRIBUTES = range(8)
WHY: dict[int, str] = {
    SHORT: "the record is longer than what is left of the file",
    LENGTH: "the record is too short for a prefix",
    PREFIX: "the prefix is longer than an address",
    ENTRIES: "the entries are longer than the record",
    PEER: "an entry is of a peer that the peer index table does not have",
    ATTRIBUTES: "the attributes of an entry are longer than the entry",
}
"""What is wrong with a record, in words."""


@inline
def _big(at: int, size: int) -> int:
    """The first ``size`` (0 to 8) bytes as the top ones of a word."""
    value = 0
    for i in range(size):
        value |= load8(at + i) << (56 - 8 * i)
    return value


@inline
def _next_hop(at: int, end: int) -> tuple[int, int]:
    """(offset, size) of the next hop among attributes; size 0: there is none, -1: they are broken."""
    found, size = at, 0
    while at < end:
        if end - at < 3:
            return at, -1
        flags, kind = load8(at), load8(at + 1)
        if flags & 0x10:
            if end - at < 4:
                return at, -1
            length, at = bswap16(load16(at + 2)), at + 4
        else:
            length, at = load8(at + 2), at + 3
        if length > end - at:
            return at, -1
        if kind == 3 and size == 0 and length == 4:
            found, size = at, 4
        elif kind == 14 and length > 0:
            hop = at if load8(at) != 0 else at + 3  # whole: family 2, subfamily 1, and then the same
            if hop < at + length and hop + 1 + load8(hop) <= at + length:
                if load8(hop) == 16 or load8(hop) == 32:
                    found, size = hop + 1, 16
                elif load8(hop) == 4:
                    found, size = hop + 1, 4
        at += length
    return found, size


@kernel
def parse_records(
    data: int, start: int, size: int, rows: int, room: int, count: int, seed: int, peers: int
) -> tuple[int, int, int, int]:
    """Read records from offset ``start`` on, until one is a peer index table (for Python to read) or wrong.

    Returns (routes in ``rows``, records passed over, offset of that record or the end, what it is).
    """
    at, end, skipped = data + start, data + size, 0
    while at < end:
        record = at
        if end - at < HEADER_BYTES:
            return count, skipped, record - data, SHORT
        kind, subtype = bswap16(load16(at + 4)), bswap16(load16(at + 6))
        length = bswap32(load32(at + 8))
        at += HEADER_BYTES
        if length > end - at:
            return count, skipped, record - data, SHORT
        stop = at + length
        paths = subtype in (_IPV4_PATHS, _IPV6_PATHS)
        family = 4 if subtype in (_IPV4, _IPV4_PATHS) else 6
        if kind == TABLE_DUMP_V2 and subtype == PEER_INDEX_TABLE:
            return count, skipped, record - data, PEERS
        if kind != TABLE_DUMP_V2 or not (subtype in (_IPV4, _IPV6) or paths):
            skipped += 1
            at = stop
            continue
        if length < 5:
            return count, skipped, record - data, LENGTH
        bits = load8(at + 4)
        octets = (bits + 7) >> 3
        if bits > (32 if family == 4 else 128):
            return count, skipped, record - data, PREFIX
        if length < 7 + octets:
            return count, skipped, record - data, LENGTH
        prefix = at + 5
        high, low = _big(prefix, min(octets, 8)), _big(prefix + 8, max(octets - 8, 0))
        if bits == 0:
            high = 0
        elif bits < 64:
            high = high >> (64 - bits) << (64 - bits)
        elif 64 < bits < 128:
            low = low >> (128 - bits) << (128 - bits)
        at = prefix + octets
        entries = bswap16(load16(at))
        at += 2
        hop, hop_bytes = at, 0
        head = 12 if paths else 8
        for entry in range(entries):
            if stop - at < head:
                return count, skipped, record - data, ENTRIES
            attributes = bswap16(load16(at + head - 2))
            if attributes > stop - at - head:
                return count, skipped, record - data, ENTRIES
            if bswap16(load16(at)) >= peers:
                return count, skipped, record - data, PEER
            at += head
            if entry == 0:
                hop, hop_bytes = _next_hop(at, at + attributes)
                if hop_bytes < 0:
                    return count, skipped, record - data, ATTRIBUTES
            at += attributes
        if at != stop:
            return count, skipped, record - data, ENTRIES
        if entries == 0:
            skipped += 1
            continue
        where = (hop - data) << 8 | hop_bytes if hop_bytes > 0 else 0
        store_route(rows, room, count, high, low, bits, family, where, hash_bytes(hop, hop_bytes, seed))
        count += 1
    return count, skipped, size, FINE


def read_peers(data: bytes, at: int) -> tuple[int, int]:
    """(peers, offset of the record after) of the peer index table at offset ``at``. Raises TableError."""
    (length,) = struct.unpack_from(">I", data, at + 8)
    body = data[at + HEADER_BYTES : at + HEADER_BYTES + length]
    try:
        (name,) = struct.unpack_from(">H", body, 4)
        (count,) = struct.unpack_from(">H", body, 6 + name)
        place = 8 + name
        for _ in range(count):
            kind = body[place]
            place += 5 + (16 if kind & 1 else 4) + (4 if kind & 2 else 2)
    except (struct.error, IndexError):
        place = length + 1
    if place != length:
        raise TableError(f"offset {at}: the peer index table is of another length than its record, {length} bytes")
    return count, at + HEADER_BYTES + length


def count_records(data: bytes) -> int:
    """How many routes the file can have at most: the shortest takes 19 bytes."""
    return len(data) // (HEADER_BYTES + 7) + 1

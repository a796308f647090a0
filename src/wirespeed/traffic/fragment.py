"""IP fragmentation: a packet that is too long for a link, in pieces that are not.

IPv4: RFC 791 sections 2.3 and 3.2: the fragments of a fragment keep its offset and its "more"; options
that are not to be copied become no-operations in all but the first piece, so every header has the same length (as Linux
does). IPv6: RFC 8200 section 4.5; only a sender may do that, not a router.

Each piece is a packet of its own, with the frame's Ethernet header, its tags and what its header line says; bytes are
copied, so nobody shares cells. O(bytes).
"""

from wirespeed.jit import cold, inline, load8, load64, store8, store16, store64
from wirespeed.mem.buffer import chain_of, copy_bytes, copy_meta, copy_packet, seek
from wirespeed.mem.descriptor import META, NEEDS_CHECKSUM, ROOM, SHARED, CellHeader, address_of, header_of
from wirespeed.mem.pool_cache import release_one
from wirespeed.traffic.sums import complete
from wirespeed.wire.checksum import ipv4_header_checksum
from wirespeed.wire.ipv4 import (
    IPV4_DONT_FRAGMENT,
    IPV4_MORE_FRAGMENTS,
    PROTOCOL_DESTINATION,
    PROTOCOL_FRAGMENT,
    PROTOCOL_HOP_BY_HOP,
    PROTOCOL_ROUTING,
    Ipv4,
)
from wirespeed.wire.ipv6 import Ipv6, Ipv6Extension, Ipv6Fragment
from wirespeed.wire.packet import Packet
from wirespeed.wire.parse import parse_network

MOST_FRAGMENTS: int = 128
"""Pieces that one packet may become."""

_HEADERS_MAX = 8
_LONGEST = 65535


@cold
def fragment(cache, desc, mtu, identification, vector, room):  # type: ignore[no-untyped-def]
    """Cut a packet into fragments that fit ``mtu`` bytes, IP header included.

    Args:
        cache: the worker's free cells.
        desc: the packet; freed if it is cut.
        identification: of the IPv6 datagram; IPv4 has its own.
        vector: where the fragments' descriptors go.
        room: how many there may be.

    Returns:
        How many packets are at ``vector``: 1 is the packet itself, which fits. 0: it cannot be cut (it is no IP
        packet, says DF, is an IPv6 fragment already, needs more room or cells, reaches beyond 65,535 bytes, or the
        MTU is below its header and eight bytes); it is the caller's still.
    """
    pkt = Packet()
    pkt.cells, pkt.desc = cache.cells, desc
    parse_network(pkt)
    if pkt.ip_bytes <= mtu and (pkt.ipv4 or pkt.ipv6):
        store64(vector, desc)
        return 1
    room = min(room, MOST_FRAGMENTS)
    if desc & META != 0 and CellHeader(header_of(cache.cells, desc)).checksum_state == NEEDS_CHECKSUM:
        if desc & SHARED == 0:
            complete(cache.cells, desc)
        else:  # the others' bytes stay as they are
            own = copy_packet(cache, desc)
            if own == 0:
                return 0
            complete(cache.cells, own)
            count = fragment_summed(cache, own, mtu, identification, vector, room)
            release_one(cache, desc if count > 0 else own)
            return count
    return fragment_summed(cache, desc, mtu, identification, vector, room)


@cold
def fragment_summed(cache, desc, mtu, identification, vector, room):  # type: ignore[no-untyped-def]
    """:func:`fragment` of a packet that is too long and has its checksum."""
    pkt = Packet()
    pkt.cells, pkt.desc = cache.cells, desc
    parse_network(pkt)
    start = pkt.start
    if pkt.ipv4:
        ip = Ipv4(pkt.ipv4.address)
        return _fragment4(cache, desc, ip.address - start, pkt.ip_bytes, mtu, vector, room)
    if pkt.ipv6:
        return _fragment6(
            cache, desc, pkt.ipv6.address - start, pkt.ip_bytes, pkt.end - start, mtu, identification, vector, room
        )
    return 0


@inline
def _piece(cache, desc, head, gap, source, at, part):  # type: ignore[no-untyped-def]
    """A packet of the first ``head`` bytes, ``gap`` bytes, and ``part`` bytes from byte ``at`` of the cell ``source``
    on; 0 without cells."""
    made = chain_of(cache, head + gap + part)
    if made != 0:
        cells = cache.cells
        copy_bytes(cells, made, 0, desc, 0, head)
        copy_bytes(cells, made, head + gap, source, at, part)
        if desc & META != 0:
            made = copy_meta(cells, made, desc)
            line = CellHeader(header_of(cells, made))
            line.gso_size = 0
            line.gso_type = 0
            line.checksum_state = 0
    return made


@inline
def _undo(cache, vector, count):  # type: ignore[no-untyped-def]
    """Give back what was made; 0."""
    for i in range(count):
        release_one(cache, load64(vector + (i << 3)))
    return 0


@cold
def _fragment4(cache, desc, network, total, mtu, vector, room):  # type: ignore[no-untyped-def]
    cells = cache.cells
    ip = Ipv4(address_of(cells, desc) + network)
    header = ip.header_bytes
    unit = (mtu - header) & ~7
    data = total - header
    if ip.flags_fragment & IPV4_DONT_FRAGMENT != 0 or unit < 8 or (data + unit - 1) // unit > room:
        return 0
    if (ip.fragment_offset << 3) + header + data > _LONGEST:  # offsets would wrap, to the front of the datagram
        return 0
    count = 0
    source, source_at = desc, network + header
    for at in range(0, data, unit):
        part = min(unit, data - at)
        source, source_at = seek(cells, source, source_at)
        made = _piece(cache, desc, network + header, 0, source, source_at, part)
        source_at += part
        if made == 0:
            return _undo(cache, vector, count)
        piece = Ipv4(address_of(cells, made) + network)
        piece.total_length = header + part
        piece.fragment_offset = ip.fragment_offset + (at >> 3)
        if at + part < data:
            piece.flags_fragment |= IPV4_MORE_FRAGMENTS
        if at > 0:
            _blank_options(piece)
        piece.checksum = ipv4_header_checksum(piece)
        store64(vector + (count << 3), made)
        count += 1
    release_one(cache, desc)
    return count


@inline
def _blank_options(ip):  # type: ignore[no-untyped-def]
    """Options that belong in the first fragment only (copied flag 0, RFC 791 section 3.1) become no-operations."""
    at, end = ip.address + 20, ip.address + ip.header_bytes
    while at < end:
        kind = load8(at)
        if kind == 0:
            break
        size = 1
        if kind != 1:
            size = load8(at + 1) if at + 1 < end else 1
            if size < 2 or at + size > end:
                break  # not an option: leave the rest as it is
            if kind & 0x80 == 0:
                for i in range(size):
                    store8(at + i, 1)
        at += size


@cold
def _fragment6(cache, desc, network, total, first, mtu, identification, vector, room):  # type: ignore[no-untyped-def]
    """``first``: bytes of the first segment, which must hold the headers."""
    cells = cache.cells
    ip = Ipv6(address_of(cells, desc) + network)
    kind, at, says = ip.next_header, network + 40, network + 6
    for _ in range(_HEADERS_MAX):  # the per-fragment headers: up to routing, RFC 8200 section 4.5
        ahead = load8(address_of(cells, desc) + at) if at + 8 <= first else 0
        wanted = kind in (PROTOCOL_HOP_BY_HOP, PROTOCOL_ROUTING)
        wanted |= kind == PROTOCOL_DESTINATION and ahead == PROTOCOL_ROUTING
        if not wanted or at + 8 > first:
            break
        extension = Ipv6Extension(address_of(cells, desc) + at)
        kind, says = extension.next_header, at
        at += extension.header_bytes
    head = at
    unit = (mtu - (head - network) - 8) & ~7
    data = total - (head - network)
    if kind == PROTOCOL_FRAGMENT or head > first or unit < 8 or data < 1 or (data + unit - 1) // unit > room:
        return 0
    if head + 8 > ROOM or total - 40 > _LONGEST:  # a fresh cell holds all headers; offsets do not wrap
        return 0
    count = 0
    source, source_at = desc, head
    for done in range(0, data, unit):
        part = min(unit, data - done)
        source, source_at = seek(cells, source, source_at)
        made = _piece(cache, desc, head, 8, source, source_at, part)
        source_at += part
        if made == 0:
            return _undo(cache, vector, count)
        start = address_of(cells, made)
        store8(start + says, PROTOCOL_FRAGMENT)
        Ipv6(start + network).payload_length = head - network - 40 + 8 + part
        header = Ipv6Fragment(start + head)
        header.next_header = kind
        store8(start + head + 1, 0)
        store16(start + head + 2, 0)
        header.fragment_offset = done >> 3
        header.more_fragments = 1 if done + part < data else 0
        header.identification = identification
        store64(vector + (count << 3), made)
        count += 1
    release_one(cache, desc)
    return count


__all__ = ["MOST_FRAGMENTS", "fragment"]

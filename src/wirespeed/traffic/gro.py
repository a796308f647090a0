"""Generic receive offload (GRO): segments of one TCP stream that follow each other become one packet.

What comes behind (a stack, a tunnel, a TAP into the kernel) then works once for up to 64 KiB. The rules are
Linux's (tcp_gro_receive): same addresses, ports, TTL, TOS, acknowledgment and options; ACK and PSH are the only flags;
the sequence number is the next one; no segment is longer than the first, and a shorter one, or PSH, ends the packet.
Checksums must be right: what is wrong is passed on as it is, and so are fragments, super-packets, and what others hold
too. Payloads are joined, not copied; the result says how to
cut it again (:mod:`wirespeed.traffic.gso`, virtio-net's fields).

::

    count = gro.add(cache, desc, now_ns, vector)       # packets to pass on now, in order: 0, 1 or 2
    count = gro.flush(cache, now_ns, vector, room)     # those held for ``wait_ns`` or longer

    0     record
    64    streams, 128 bytes each, in sets of four found by a seeded hash; the oldest of a full set is passed on

A packet is held for at most ``wait_ns``, if :meth:`Gro.flush` is called; 0 merges what comes in one burst. O(1) a
packet, 128 bytes a stream. One worker at a time uses a table.
"""

from dataclasses import dataclass
from typing import ClassVar

from wirespeed.errors import TableError
from wirespeed.hashes.internet import fold
from wirespeed.jit import View, cold, inline, kernel, le64, load8, shift_right, store16, store64
from wirespeed.mem.buffer import bytes_of_packet, cut, describe_meta, is_own, strip
from wirespeed.mem.descriptor import (
    CHAINED,
    CHECKSUM_VALID,
    META,
    NEEDS_CHECKSUM,
    CellHeader,
    address_of,
    header_of,
)
from wirespeed.mem.pool_cache import Cache
from wirespeed.mem.shared import Shared
from wirespeed.tables.seed import SEED, mix
from wirespeed.wire.checksum import ipv4_header_checksum, ipv4_header_valid, pseudo_v4, pseudo_v6, transport_valid
from wirespeed.wire.ipv4 import PROTOCOL_TCP, Ipv4
from wirespeed.wire.ipv6 import Ipv6
from wirespeed.wire.packet import Packet
from wirespeed.wire.parse import parse_network, parse_transport
from wirespeed.wire.tcp import TCP_ACK, TCP_PSH, Tcp

WAYS: int = 4
MAX_STREAMS: int = 1 << 20
MOST_SEGMENTS: int = 64
"""Segments that one packet is made of."""

_HEAD, _ENTRY = 64, 128
_GSO_TCP4, _GSO_TCP6 = 1, 4  # VIRTIO_NET_HDR_GSO_TCPV4, _TCPV6
_LONGEST = 65535


class GroView(View):
    """The table."""

    mask = le64(0, "sets - 1")
    wait_ns = le64(8)
    held = le64(16, "packets that are held")
    merged = le64(24, "segments that were joined to one before")
    seed0 = le64(32)
    seed1 = le64(40)
    seed2 = le64(48)
    cursor = le64(56, "the set that flush() looks at first")
    SIZE = _HEAD


class StreamView(View):
    """A packet that is held, and what must come next."""

    desc = le64(0, "0: free")
    src_high = le64(8)
    src_low = le64(16)
    dst_high = le64(24)
    dst_low = le64(32)
    ports = le64(40, "and the VLAN tags' bytes")
    first_ns = le64(48)
    next_seq = le64(56)
    size = le64(64, "payload bytes of a segment")
    payload = le64(72, "bytes so far")
    count = le64(80, "segments so far")
    tail = le64(88, "its last cell")
    above = le64(96, "bytes from cell 0 to the header line of the cell before that; -1: there is none")
    SIZE = _ENTRY


@cold
def add(table, cache, desc, now_ns, vector):  # type: ignore[no-untyped-def]
    """A packet comes; how many packets are at ``vector`` to be passed on, in order: at most 2."""
    pkt = Packet()
    pkt.cells, pkt.desc = cache.cells, desc
    parse_transport(pkt)
    if not pkt.tcp:
        store64(vector, desc)
        return 1
    tcp = Tcp(pkt.l4)
    network, header = pkt.l3 - pkt.start, tcp.header_bytes
    transport = pkt.l4 - pkt.start
    payload = network + pkt.ip_bytes - transport - header
    if pkt.ipv4:
        s0, d0, plain = 0, 0, transport - network == 20 and ipv4_header_valid(Ipv4(pkt.ipv4.address))
        plain &= not pkt.ipv4.is_fragment
        s1, d1 = pkt.ipv4.src, pkt.ipv4.dst
    else:
        src, dst = pkt.ipv6.src, pkt.ipv6.dst
        s0, s1, d0, d1, plain = src[0], src[1], dst[0], dst[1], transport - network == 40
    ports = (tcp.sport << 16) | tcp.dport | (network << 32)
    found = _find(table, s0, s1, d0, d1, ports)
    held = StreamView(found)
    flags = tcp.flags
    whole = transport + header <= pkt.end - pkt.start and payload > 0 and network + pkt.ip_bytes <= _LONGEST
    plain &= is_own(cache.cells, desc) and (not pkt.meta or pkt.meta.gso_size == 0)
    good = plain and whole and flags | TCP_PSH == TCP_ACK | TCP_PSH and _valid(pkt)
    if not good:
        count = 0
        if found != 0:
            count = _pass_on(table, cache.cells, held, vector)
        store64(vector + (count << 3), desc)
        return count + 1
    if found != 0 and _fits(cache.cells, held, desc, network, transport, header, payload):
        excess = bytes_of_packet(cache.cells, desc) - network - pkt.ip_bytes  # padding
        return _merge(table, cache, held, desc, transport, header, payload, excess, vector)
    count = 0
    if found != 0:
        count = _pass_on(table, cache.cells, held, vector)
    desc = cut(cache, desc, bytes_of_packet(cache.cells, desc) - network - pkt.ip_bytes)
    if flags & TCP_PSH != 0:
        store64(vector + (count << 3), desc)
        return count + 1
    place = found if found != 0 else _place(table, s0, s1, d0, d1, ports)
    stream = StreamView(place)
    if stream.desc != 0:  # the oldest of a full set
        count += _pass_on(table, cache.cells, stream, vector + (count << 3))
    stream.src_high, stream.src_low, stream.dst_high, stream.dst_low, stream.ports = s0, s1, d0, d1, ports
    stream.desc, stream.first_ns, stream.next_seq = desc, now_ns, (tcp.seq + payload) & 0xFFFF_FFFF
    stream.size, stream.payload, stream.count = payload, payload, 1
    stream.tail, stream.above = desc, -1
    _find_tail(cache.cells, stream)
    table.held += 1
    return count


@inline
def _valid(pkt):  # type: ignore[no-untyped-def]
    """Whether the checksum is right, or was found so by who received it."""
    if pkt.desc & META != 0 and CellHeader(header_of(pkt.cells, pkt.desc)).checksum_state == CHECKSUM_VALID:
        return True
    return transport_valid(pkt)


@inline
def _set_of(table, s0, s1, d0, d1, ports):  # type: ignore[no-untyped-def]
    seed0, seed1, seed2 = table.seed0, table.seed1, table.seed2
    word = mix(mix(s0 ^ (d0 << 1), seed0, seed1, seed2) ^ s1, seed0, seed1, seed2)
    word = mix(mix(word ^ d1, seed0, seed1, seed2) ^ ports, seed0, seed1, seed2)
    return table.address + _HEAD + (shift_right(word, 20) & table.mask) * (WAYS * _ENTRY)


@inline
def _find(table, s0, s1, d0, d1, ports):  # type: ignore[no-untyped-def]
    """Address of the stream's entry; 0 if nothing of it is held."""
    first = _set_of(table, s0, s1, d0, d1, ports)
    for way in range(WAYS):
        entry = StreamView(first + way * _ENTRY)
        if entry.desc != 0 and entry.ports == ports and entry.src_low == s1 and entry.dst_low == d1:
            if entry.src_high == s0 and entry.dst_high == d0:
                return entry.address
    return 0


@inline
def _place(table, s0, s1, d0, d1, ports):  # type: ignore[no-untyped-def]
    """A free entry of the stream's set, or the oldest."""
    first = _set_of(table, s0, s1, d0, d1, ports)
    best = first
    for way in range(WAYS):
        entry = StreamView(first + way * _ENTRY)
        if entry.desc == 0:
            return entry.address
        if entry.first_ns < StreamView(best).first_ns:
            best = entry.address
    return best


@inline
def _tag(cells, desc):  # type: ignore[no-untyped-def]
    """The VLAN tag that the port took off."""
    return CellHeader(header_of(cells, desc)).vlan_tci if desc & META != 0 else 0


@inline
def _same(a, b, count):  # type: ignore[no-untyped-def]
    different = 0
    for at in range(count):
        different |= load8(a + at) ^ load8(b + at)
    return different == 0


@inline
def _fits(cells, held, desc, network, transport, header, payload):  # type: ignore[no-untyped-def]
    """Whether a segment is the next of what is held: its headers differ only where they must."""
    here, there = address_of(cells, desc), address_of(cells, held.desc)
    tcp, first = Tcp(here + transport), Tcp(there + transport)
    if tcp.seq != held.next_seq or payload > held.size or held.count >= MOST_SEGMENTS:
        return False
    if transport + header + held.payload + payload > _LONGEST or tcp.ack != first.ack:
        return False
    if not _same(here, there, network):  # Ethernet and tags
        return False
    if _tag(cells, desc) != _tag(cells, held.desc):
        return False
    if transport - network == 20:
        ip, ours = Ipv4(here + network), Ipv4(there + network)
        if ip.ttl != ours.ttl or ip.tos != ours.tos or (ip.flags_fragment ^ ours.flags_fragment) != 0:
            return False
    else:
        six, first6 = here + network, there + network
        if not _same(six, first6, 4) or not _same(six + 7, first6 + 7, 1):  # class and flow label; hop limit
            return False
    return first.header_bytes == header and _same(tcp.address + 20, first.address + 20, header - 20)


@inline
def _find_tail(cells, held):  # type: ignore[no-untyped-def]
    """Go on to the last cell, from the one that was."""
    tail = held.tail
    while tail & CHAINED != 0:
        line = header_of(cells, tail)
        held.above = line - cells
        tail = CellHeader(line).next
    held.tail = tail


@inline
def _append(cells, held, desc):  # type: ignore[no-untyped-def]
    """:func:`~wirespeed.mem.buffer.join`, which walks the whole chain, from its last cell on; never too long, never
    shared: :func:`_fits` and :func:`add` have looked."""
    first, tail, above = held.desc, held.tail, held.above
    total = bytes_of_packet(cells, first) + bytes_of_packet(cells, desc)
    CellHeader(header_of(cells, tail)).next = desc
    if above >= 0:
        CellHeader(cells + above).next = tail | CHAINED
    CellHeader(header_of(cells, first)).length = total
    held.desc = first | CHAINED
    held.above, held.tail = header_of(cells, tail) - cells, desc
    _find_tail(cells, held)


@cold
def _merge(table, cache, held, desc, transport, header, payload, excess, vector):  # type: ignore[no-untyped-def]
    """Join a segment to what is held; pass that on if it was the last."""
    cells = cache.cells
    tcp, first = Tcp(address_of(cells, desc) + transport), Tcp(address_of(cells, held.desc) + transport)
    flags, window = tcp.flags, tcp.window
    desc = strip(cells, cut(cache, desc, excess), transport + header)
    _append(cells, held, desc & ~META)
    first.flags = first.flags | (flags & TCP_PSH)
    first.window = window
    held.next_seq = (held.next_seq + payload) & 0xFFFF_FFFF
    held.payload += payload
    held.count += 1
    table.merged += 1
    if flags & TCP_PSH != 0 or payload < held.size or held.count == MOST_SEGMENTS:
        return _pass_on(table, cells, held, vector)
    return 0


@cold
def _pass_on(table, cells, held, vector):  # type: ignore[no-untyped-def]
    """Put what is held at ``vector``, its headers made right; 1."""
    desc = held.desc
    if held.count > 1:
        pkt = Packet()
        pkt.cells, pkt.desc = cells, desc
        parse_network(pkt)
        start, network = pkt.start, pkt.l3 - pkt.start
        six = 1 if pkt.ipv6 else 0
        transport = network + (40 if six else 20)
        tcp = Tcp(start + transport)
        length = tcp.header_bytes + held.payload
        if six:
            Ipv6(start + network).payload_length = length
            total = pseudo_v6(Ipv6(start + network), PROTOCOL_TCP, length)
        else:
            ip = Ipv4(start + network)
            ip.total_length = 20 + length
            ip.checksum = ipv4_header_checksum(ip)
            total = pseudo_v4(ip, PROTOCOL_TCP, length)
        store16(tcp.address + 16, fold(total))
        desc = describe_meta(cells, desc)
        line = CellHeader(header_of(cells, desc))
        line.gso_size = held.size
        line.gso_type = _GSO_TCP6 if six else _GSO_TCP4
        line.headers_length = transport + tcp.header_bytes
        line.checksum_state = NEEDS_CHECKSUM
        line.checksum_start = transport
        line.checksum_offset = 16
    held.desc = 0
    table.held -= 1
    store64(vector, desc)
    return 1


@cold
def flush(table, cells, now_ns, vector, room):  # type: ignore[no-untyped-def]
    """Pass on what has been held for ``wait_ns`` or longer: how many packets are at ``vector``, at most ``room``."""
    count = 0
    for _ in range(table.mask + 1):
        if table.held == 0 or count + WAYS > room:
            break
        first = table.address + _HEAD + table.cursor * (WAYS * _ENTRY)
        for way in range(WAYS):
            entry = StreamView(first + way * _ENTRY)
            if entry.desc != 0 and now_ns - entry.first_ns >= table.wait_ns:
                count += _pass_on(table, cells, entry, vector + (count << 3))
        table.cursor = (table.cursor + 1) & table.mask
    return count


@kernel
def _add_one(address, cache, desc, now_ns, vector):  # type: ignore[no-untyped-def]
    return add(GroView(address), Cache(cache), desc, now_ns, vector)


@kernel
def _flush(address, cache, now_ns, vector, room):  # type: ignore[no-untyped-def]
    return flush(GroView(address), Cache(cache).cells, now_ns, vector, room)


@dataclass(frozen=True)
class GroStats:
    """Packets ``held`` now; segments that were ``merged`` into one before."""

    held: int
    merged: int
    streams: int
    memory_bytes: int
    pages: str


class Gro(Shared):
    """A table of ``streams`` whose packets may be held.

    Args:
        streams: rounded up to a power of two, at least 4.
        wait_ns: how long a packet may be held for the next one.
        name: under which other processes can attach it.

    Raises:
        TableError: out of range.
    """

    View: ClassVar[type[GroView]] = GroView
    KIND = "gro"

    def __init__(self, streams: int = 256, wait_ns: int = 0, name: str | None = None) -> None:
        if not 1 <= streams <= MAX_STREAMS:
            raise TableError(f"{name or self.KIND}: {streams} streams are not possible: use 1 to {MAX_STREAMS}")
        if wait_ns < 0:
            raise TableError(f"{name or self.KIND}: a wait of {wait_ns} ns is not possible: use 0 or more")
        sets = 1 << max((-(-streams // WAYS) - 1).bit_length(), 0)
        self._create(_HEAD + sets * WAYS * _ENTRY, name)
        self._attached()
        self._view.mask, self._view.wait_ns = sets - 1, wait_ns
        self._view.seed0, self._view.seed1, self._view.seed2 = SEED

    def _attached(self) -> None:
        self._view = GroView(self.address)

    def add(self, cache: int, desc: int, now_ns: int, vector: int) -> int:
        """A packet comes; how many packets are at ``vector`` to be passed on now, in order: 0, 1 or 2."""
        self._check_writable()
        return int(_add_one(self.address, cache, desc, now_ns, vector))

    def flush(self, cache: int, now_ns: int, vector: int, room: int) -> int:
        """Pass on what has been held for ``wait_ns`` or longer; ``room`` of 4 or more. How many are at ``vector``."""
        self._check_writable()
        return int(_flush(self.address, cache, now_ns, vector, room))

    def __len__(self) -> int:
        return int(self._view.held)

    def stats(self) -> GroStats:
        """What it holds, and how much it merged."""
        view = self._view
        return GroStats(view.held, view.merged, (view.mask + 1) * WAYS, self.memory_bytes, self.pages)

    def __repr__(self) -> str:
        return f"<Gro {self.name}: {len(self)} packets held>"

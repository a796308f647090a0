"""IP reassembly: datagrams from their fragments, with limits on everything a stranger could fill.

RFC 791 section 3.2 and RFC 815; RFC 8200 section 4.5, RFC 5722 (a datagram with overlapping fragments is thrown away,
in IPv4 too, as Linux does).

::

    whole = fragments.add(cache, desc, now_ns)     # a packet; HELD; or REFUSED: it is the caller's still

A table of datagrams that wait, in sets of four found by a seeded hash of (addresses, identification, protocol). When a
set is full the oldest goes; what waits longer than ``timeout_ns`` goes when its set is touched, or by :meth:`expire`,
which looks at a few sets a call. A datagram takes at most ``MOST`` fragments, and 65,535 bytes by its length field.

Fragments of different VLANs never meet. RFC 3168 section 5.3: one fragment that met congestion marks the whole; if
another says that its sender knows no ECN, the datagram is thrown away. RFC 7112: a first fragment in IPv6 has all
headers, up to TCP's, UDP's or ICMP's, or is refused. The header line of the whole is the first fragment's, except for
what it says of checksums and segments.

    0     record
    128   datagrams, 64 + 16 * MOST bytes each: key, times and lengths; then (descriptor, start and end) by offset

O(fragments of the datagram) a fragment; 1,024 bytes a datagram, beside the cells that it holds. One worker at a time
uses a table.
"""

from dataclasses import dataclass
from typing import ClassVar

from wirespeed.errors import TableError
from wirespeed.jit import (
    View,
    cold,
    inline,
    kernel,
    le16,
    le32,
    le64,
    load8,
    load64,
    move,
    shift_right,
    store8,
    store64,
    u8,
)
from wirespeed.mem.buffer import bytes_of_packet, cut, is_own, join, strip
from wirespeed.mem.descriptor import (
    META,
    CellHeader,
    address_of,
    header_of,
    length_of,
)
from wirespeed.mem.pool_cache import Cache, release_one
from wirespeed.mem.shared import Shared
from wirespeed.tables.seed import SEED, mix
from wirespeed.wire.checksum import ipv4_header_checksum
from wirespeed.wire.ipv4 import (
    IPV4_FRAGMENT_OFFSET,
    IPV4_MORE_FRAGMENTS,
    PROTOCOL_AH,
    PROTOCOL_FRAGMENT,
    PROTOCOL_ICMP6,
    PROTOCOL_TCP,
    PROTOCOL_UDP,
    Ipv4,
)
from wirespeed.wire.ipv6 import NO_TRANSPORT, Ipv6, Ipv6Fragment, is_extension, skip_extensions
from wirespeed.wire.packet import Packet
from wirespeed.wire.parse import parse_network

HELD: int = 0
REFUSED: int = -1
MOST: int = 60
"""Fragments of a datagram: 65,535 bytes over links of 1,280, the least that IPv6 allows, are 54."""
WAYS: int = 4
MAX_DATAGRAMS: int = 1 << 20

_HEAD = 128
_ENTRY = 64 + 16 * MOST
_HEADERS_MAX = 8
_LONGEST = 65535
_LOW = 0xFFFF_FFFF
_NO_ECN, _CONGESTED = 1 << 0, 1 << 3  # bits of DatagramView.ecn


class ReassemblyView(View):
    """The table."""

    mask = le64(0, "sets - 1")
    timeout_ns = le64(8)
    seed0 = le64(16)
    seed1 = le64(24)
    seed2 = le64(32)
    cursor = le64(40, "the set that expire() looks at next")
    waiting = le64(48, "datagrams that wait")
    whole = le64(56, "datagrams that were put together")
    timeouts = le64(64, "datagrams that waited too long")
    evicted = le64(72, "datagrams that made room for others")
    overlaps = le64(80, "datagrams whose fragments overlapped")
    malformed = le64(88, "fragments that make no sense, or would make too much")
    fragments = le64(96, "fragments that came")
    gives_late = le64(104, "whether expire() gives out first fragments of what it frees")
    late = le64(112, "how many it gave out last time")
    SIZE = _HEAD


class DatagramView(View):
    """One datagram that waits."""

    src_high = le64(0)
    src_low = le64(8)
    dst_high = le64(16)
    dst_low = le64(24)
    tag = le64(32, "identification, protocol and version, and a bit that is always set; 0: free")
    first_ns = le64(40)
    counts = le16(48, "fragments that are here")
    ecn = u8(50, "bit n: a fragment had ECN codepoint n")
    vlans = le32(52, "VLAN identifiers, the inner 12 bits up")
    lengths = le64(56, "bytes that are here, and 32 bits up the length of all of it, once known")
    SIZE = 64


@cold
def add(table, cache, desc, now_ns):  # type: ignore[no-untyped-def]
    """A packet comes: itself, if it is no fragment; the whole datagram, if it was the last piece; HELD; or REFUSED."""
    pkt = Packet()
    pkt.cells, pkt.desc = cache.cells, desc
    parse_network(pkt)
    if pkt.ipv4:
        if not pkt.ipv4.is_fragment:
            return desc
        ip = Ipv4(pkt.ipv4.address)
        header = ip.header_bytes
        start = ip.fragment_offset << 3
        tag = ip.identification | (ip.protocol << 32) | (1 << 40) | (1 << 62)
        return _add(
            table, cache, desc, now_ns, 0, ip.src, 0, ip.dst, tag, _vlans(pkt), ip.ecn,
            pkt.l3 - pkt.start, pkt.ip_bytes, header, header, start, ip.more_fragments,
        )  # fmt: skip
    if pkt.ipv6:
        ip6 = Ipv6(pkt.ipv6.address)
        end = min(pkt.end, pkt.l3 + pkt.ip_bytes)
        at, _ = _fragment_header(ip6, end)
        if at == 0:
            return desc
        piece = Ipv6Fragment(at)
        if piece.fragment_offset == 0 and piece.more_fragments == 0:
            tag = 0  # an atomic fragment is a datagram of its own: RFC 6946
        else:
            tag = piece.identification | (2 << 40) | (1 << 62)
            if piece.fragment_offset == 0 and not _has_all_headers(at, end):
                table.fragments += 1
                table.malformed += 1
                return REFUSED
        src, dst = ip6.src, ip6.dst
        return _add(
            table, cache, desc, now_ns, src[0], src[1], dst[0], dst[1], tag, _vlans(pkt), ip6.ecn,
            pkt.l3 - pkt.start, pkt.ip_bytes, at + 8 - ip6.address, at - ip6.address - 40,
            piece.fragment_offset << 3, piece.more_fragments,
        )  # fmt: skip
    return desc


@inline
def _fragment_header(ip, end):  # type: ignore[no-untyped-def]
    """Addresses of the fragment header and of the byte that says it follows; 0 if there is none before ``end``."""
    kind, at, says = ip.next_header, ip.address + 40, ip.address + 6
    for _ in range(_HEADERS_MAX):
        if at + 8 > end or not is_extension(kind):
            break
        if kind == PROTOCOL_FRAGMENT:
            return at, says
        size = (load8(at + 1) + 2) * 4 if kind == PROTOCOL_AH else (load8(at + 1) + 1) * 8
        kind, says = load8(at), at
        at += size
    return 0, 0


@inline
def _has_all_headers(at, end):  # type: ignore[no-untyped-def]
    """RFC 7112 section 5: what a first fragment must have. ``at``: its fragment header."""
    protocol, transport, what = skip_extensions(at + 8, end, load8(at))
    size = 0
    if protocol == PROTOCOL_TCP:
        size = 20
    elif protocol in (PROTOCOL_UDP, PROTOCOL_ICMP6):
        size = 8
    return what != NO_TRANSPORT and transport + size <= end


@inline
def _vlans(pkt):  # type: ignore[no-untyped-def]
    """Which VLAN a packet is in, and the one inside."""
    if pkt.qinq:
        return (pkt.vlan.tci & 0xFFF) | (pkt.qinq.tci & 0xFFF) << 12
    if pkt.vlan:
        return pkt.vlan.tci & 0xFFF
    if pkt.desc & META != 0:
        return CellHeader(header_of(pkt.cells, pkt.desc)).vlan_tci & 0xFFF
    return 0


@cold
def _add(table, cache, desc, now_ns, s0, s1, d0, d1, tag, vlans, ecn, network, total, header, kept, start, more):  # type: ignore[no-untyped-def]
    """``header``: bytes from the IP header to the fragment's data; ``kept``: of them, those that the whole datagram's
    length field will count."""
    table.fragments += 1
    size = total - header
    end = start + size
    if size < 1 or (more != 0 and size & 7 != 0) or end + kept > _LONGEST:
        table.malformed += 1
        return REFUSED
    if not is_own(cache.cells, desc):
        table.malformed += 1
        return REFUSED
    cells = cache.cells
    desc = cut(cache, desc, bytes_of_packet(cells, desc) - network - total)  # no padding behind the packet
    if desc == 0:
        table.malformed += 1
        return REFUSED
    if tag == 0:
        return _whole6(cells, desc, size)
    if start > 0:
        desc = strip(cells, desc & ~META, network + header)
    datagram = DatagramView(_find(table, cache, now_ns, s0, s1, d0, d1, tag, vlans))
    count, known = datagram.counts, shift_right(datagram.lengths, 32)
    extent = start | (end << 32)
    slots = datagram.address + 64
    place = count
    while place > 0 and load64(slots + (place << 4) - 8) & _LOW > start:
        place -= 1
    if place > 0 and load64(slots + (place << 4) - 8) == extent:
        release_one(cache, desc)  # the same fragment twice: RFC 8200 section 4.5 lets it go
        return HELD
    before = shift_right(load64(slots + (place << 4) - 8), 32) if place > 0 else 0
    after = load64(slots + (place << 4) + 8) & _LOW if place < count else _LOW
    if before > start or after < end or (more == 0 and (place < count or known != 0)) or (known != 0 and end > known):
        table.overlaps += 1
        return _give_up(table, cache, datagram, desc)
    if count == MOST:
        table.malformed += 1
        return _give_up(table, cache, datagram, desc)
    move(slots + ((place + 1) << 4), slots + (place << 4), (count - place) << 4)
    store64(slots + (place << 4), desc)
    store64(slots + (place << 4) + 8, extent)
    datagram.counts = count + 1
    datagram.ecn |= 1 << ecn
    if more == 0:
        known = end
    here = (datagram.lengths & _LOW) + size
    datagram.lengths = here | (known << 32)
    if here == known:
        return _assemble(table, cache, datagram, known)
    return HELD


@inline
def _find(table, cache, now_ns, s0, s1, d0, d1, tag, vlans):  # type: ignore[no-untyped-def]
    """Address of the datagram's entry: the one it has, a free one, or the oldest of its set, which goes."""
    seed0, seed1, seed2 = table.seed0, table.seed1, table.seed2
    word = mix(mix(mix(s0, seed0, seed1, seed2) ^ s1, seed0, seed1, seed2) ^ d0, seed0, seed1, seed2)
    word = mix(mix(word ^ d1, seed0, seed1, seed2) ^ tag, seed0, seed1, seed2)
    word = mix(word ^ vlans, seed0, seed1, seed2)
    first = table.address + _HEAD + (shift_right(word, 20) & table.mask) * (WAYS * _ENTRY)
    free, oldest, oldest_ns = 0, 0, 0
    for way in range(WAYS):
        entry = DatagramView(first + way * _ENTRY)
        if entry.tag != 0 and now_ns - entry.first_ns > table.timeout_ns:
            table.timeouts += 1
            _forget(table, cache, entry)
        if entry.tag == tag and entry.src_low == s1 and entry.dst_low == d1 and entry.vlans == vlans:
            if entry.src_high == s0 and entry.dst_high == d0:
                return entry.address
        if entry.tag == 0:
            free = entry.address
        elif oldest == 0 or entry.first_ns < oldest_ns:
            oldest, oldest_ns = entry.address, entry.first_ns
    if free == 0:
        table.evicted += 1
        _forget(table, cache, DatagramView(oldest))
        free = oldest
    entry = DatagramView(free)
    entry.src_high, entry.src_low, entry.dst_high, entry.dst_low, entry.tag = s0, s1, d0, d1, tag
    entry.first_ns, entry.counts, entry.lengths, entry.ecn, entry.vlans = now_ns, 0, 0, 0, vlans
    table.waiting += 1
    return free


@cold
def _forget(table, cache, datagram):  # type: ignore[no-untyped-def]
    """Free a datagram's fragments and its entry."""
    for i in range(datagram.counts):
        release_one(cache, load64(datagram.address + 64 + (i << 4)))
    datagram.tag = 0
    table.waiting -= 1


@cold
def _give_up(table, cache, datagram, desc):  # type: ignore[no-untyped-def]
    """A fragment that spoils its datagram: all of it goes."""
    _forget(table, cache, datagram)
    release_one(cache, desc)
    return HELD


@cold
def _assemble(table, cache, datagram, size):  # type: ignore[no-untyped-def]
    """All pieces are here, in order and without gaps: one packet."""
    cells = cache.cells
    first = load64(datagram.address + 64)
    six = shift_right(datagram.tag, 40) & 3 == 2
    ecn = datagram.ecn
    congested = ecn & _CONGESTED != 0
    good = not congested or ecn & _NO_ECN == 0
    if good and six:
        ip6 = Ipv6(address_of(cells, first) + _network(cells, first))
        if congested:
            ip6.ecn = 3
        first = _whole6(cells, first, size)
        good = first != 0
    elif good:
        ip = Ipv4(address_of(cells, first) + _network(cells, first))
        good = ip.header_bytes + size <= _LONGEST
        if good:
            ip.total_length = ip.header_bytes + size
            ip.flags_fragment = ip.flags_fragment & ~(IPV4_MORE_FRAGMENTS | IPV4_FRAGMENT_OFFSET)
            if congested:
                ip.ecn = 3
            ip.checksum = ipv4_header_checksum(ip)
    if not good:
        table.malformed += 1
        _forget(table, cache, datagram)
        return HELD
    if first & META != 0:
        line = CellHeader(header_of(cells, first))
        line.gso_size = 0
        line.gso_type = 0
        line.checksum_state = 0
    behind = 0
    for i in range(datagram.counts - 1, 0, -1):  # from the back: no chain is walked twice
        piece = load64(datagram.address + 64 + (i << 4))
        behind = join(cells, piece, behind) if behind != 0 else piece
    first = join(cells, first, behind)
    datagram.tag = 0
    table.waiting -= 1
    table.whole += 1
    return first


@inline
def _network(cells, desc):  # type: ignore[no-untyped-def]
    """Bytes before the IP header."""
    pkt = Packet()
    pkt.cells, pkt.desc = cells, desc
    parse_network(pkt)
    return pkt.l3 - pkt.start


@inline
def _whole6(cells, desc, size):  # type: ignore[no-untyped-def]
    """Take the fragment header out of a first fragment, whose datagram has ``size`` bytes behind it: the descriptor,
    or 0 (and nothing changes) if that is too long."""
    start = address_of(cells, desc)
    ip = Ipv6(start + _network(cells, desc))
    at, says = _fragment_header(ip, start + length_of(desc))
    length = at - ip.address - 40 + size
    if length > _LONGEST:
        return 0
    store8(says, load8(at))
    ip.payload_length = length
    move(start + 8, start, at - start)
    return strip(cells, desc, 8)


@cold
def expire(table, cache, now_ns, sets, vector):  # type: ignore[no-untyped-def]
    """Look at the next ``sets`` sets and free what has waited too long; returns how many datagrams that were.

    With a ``vector`` (of 4 a set, and not 0) their first fragments, where they came, are not freed but put there, and
    counted in ``late``: their senders may be told (RFC 1122 section 3.3.2, RFC 8200 section 4.5).
    """
    found, late = 0, 0
    for _ in range(min(sets, table.mask + 1)):
        first = table.address + _HEAD + table.cursor * (WAYS * _ENTRY)
        for way in range(WAYS):
            entry = DatagramView(first + way * _ENTRY)
            if entry.tag != 0 and now_ns - entry.first_ns > table.timeout_ns:
                if vector != 0 and load64(entry.address + 64 + 8) & _LOW == 0:
                    store64(vector + (late << 3), load64(entry.address + 64))
                    late += 1
                    entry.counts -= 1
                    move(entry.address + 64, entry.address + 64 + 16, entry.counts << 4)
                _forget(table, cache, entry)
                found += 1
        table.cursor = (table.cursor + 1) & table.mask
    table.timeouts += found
    table.late = late
    return found


@kernel
def _add_one(address, cache, desc, now_ns):  # type: ignore[no-untyped-def]
    return add(ReassemblyView(address), Cache(cache), desc, now_ns)


@kernel
def _expire(address, cache, now_ns, sets, vector):  # type: ignore[no-untyped-def]
    return expire(ReassemblyView(address), Cache(cache), now_ns, sets, vector)


@dataclass(frozen=True)
class ReassemblyStats:
    """Datagrams ``waiting`` now, put together (``whole``), timed out, ``evicted`` for others, with ``overlaps``;
    ``fragments`` that came and those ``malformed``."""

    waiting: int
    whole: int
    timeouts: int
    evicted: int
    overlaps: int
    malformed: int
    fragments: int
    memory_bytes: int
    pages: str


class Reassembly(Shared):
    """A table of ``datagrams`` that may wait for their fragments.

    Args:
        datagrams: rounded up to a power of two, at least 4.
        timeout_ns: how long one waits: RFC 1122 section 3.3.2 and RFC 8200 section 4.5 say 60 s; Linux takes 30.
        name: under which other processes can attach it.
        late: through a port, first fragments of datagrams that waited too long come out, to be told of.

    Raises:
        TableError: out of range.
    """

    View: ClassVar[type[ReassemblyView]] = ReassemblyView
    KIND = "reassembly"

    def __init__(
        self, datagrams: int = 1024, timeout_ns: int = 30_000_000_000, name: str | None = None, late: bool = False
    ) -> None:
        if not 1 <= datagrams <= MAX_DATAGRAMS:
            raise TableError(f"{name or self.KIND}: {datagrams} datagrams are not possible: use 1 to {MAX_DATAGRAMS}")
        if timeout_ns < 1:
            raise TableError(f"{name or self.KIND}: a timeout of {timeout_ns} ns is not possible: use 1 or more")
        sets = 1 << max((-(-datagrams // WAYS) - 1).bit_length(), 0)
        self._create(_HEAD + sets * WAYS * _ENTRY, name)
        self._attached()
        self._view.mask, self._view.timeout_ns = sets - 1, timeout_ns
        self._view.gives_late = int(late)
        self._view.seed0, self._view.seed1, self._view.seed2 = SEED

    def _attached(self) -> None:
        self._view = ReassemblyView(self.address)

    def add(self, cache: int, desc: int, now_ns: int) -> int:
        """A packet comes: itself if it is no fragment, the whole datagram if it was the last piece, HELD, or REFUSED.

        Args:
            cache: address of the worker's free cells.
            desc: the packet; taken, unless REFUSED is returned.
            now_ns: a steady clock.
        """
        self._check_writable()
        return int(_add_one(self.address, cache, desc, now_ns))

    def expire(self, cache: int, now_ns: int, sets: int = 1 << 20, vector: int = 0) -> int:
        """Free what has waited too long, looking at so many sets; returns how many datagrams.

        Args:
            vector: address of room for four descriptors a set: first fragments are put there instead of being freed.
        """
        self._check_writable()
        return int(_expire(self.address, cache, now_ns, sets, vector))

    @property
    def late(self) -> int:
        """How many first fragments :meth:`expire` put at its ``vector``, the last time."""
        return int(self._view.late)

    def __len__(self) -> int:
        return int(self._view.waiting)

    def stats(self) -> ReassemblyStats:
        """What became of the fragments."""
        view = self._view
        return ReassemblyStats(
            view.waiting, view.whole, view.timeouts, view.evicted, view.overlaps, view.malformed, view.fragments,
            self.memory_bytes, self.pages,
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"<Reassembly {self.name}: {len(self)} datagrams wait>"

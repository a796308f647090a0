"""A request and its reply: what a UDP handler sees of a packet, and the packet turned round.

The reply is written where the request lies: the headers are the request's with addresses and ports exchanged, so an
answer costs no cell and no copy::

    request      Ethernet | IP | UDP | payload ........ |
    reply        Ethernet | IP | UDP | reply ................... |  room: to the end of the cell
                                     ^ request.payload.start == reply.start

Both are records in registers (:class:`wirespeed.jit.Local`); what a handler does not ask for is never computed.
"""
# mypy: allow-untyped-calls, no-warn-return-any

from typing import Any

from wirespeed.jit import (
    Local,
    bswap16,
    bswap32,
    cold,
    fill,
    inline,
    load16,
    load32,
    load64,
    move,
    shift_right,
    slot,
    store8,
    store16,
    store32,
    store64,
    word,
)
from wirespeed.mem.descriptor import CELL, CHAINED, META, SHARED, CellHeader, offset_of, with_data
from wirespeed.wire.checksum import finish, fold, nonzero, sum_bytes, sum_inside
from wirespeed.wire.ipv4 import PROTOCOL_UDP
from wirespeed.wire.packet import Packet
from wirespeed.wire.payload import Bytes, Payload, pack_payload
from wirespeed.wire.udp import Udp

TTL: int = 64
"""Of what we send (RFC 1700)."""

LONGEST_REPLY: int = 65507
"""RFC 768 and 791: what is left of 65,535 bytes behind both headers."""

NOTHING: int = -1
"""``reply.length`` of a handler that wrote nothing: there is no answer then."""

_SAME, _OTHER = 1, 2  # of Reply.same
_DONT_FRAGMENT = 0x0040  # flags and offset as they stand in memory; identification 0 goes with it (RFC 6864)


class Request(Local):
    """A datagram that came in."""

    payload = slot(Bytes)  # its bytes
    opened = word()  # a header on the payload was asked for: it may have been written
    ip = word()  # address of the IP header
    six = word()  # whether that is IPv6
    udp = slot(Udp)
    meta = slot(CellHeader)

    @property
    def length(self) -> int:
        """Bytes of payload."""
        return self.payload.length

    @property
    def source_port(self) -> int:
        """The sender's port."""
        return self.udp.sport

    @property
    def port(self) -> int:
        """The port it was sent to."""
        return self.udp.dport

    @property
    def source(self) -> int:
        """The sender's IPv4 address; 0 if it is IPv6."""
        return bswap32(load32(self.ip + 12)) if self.six == 0 else 0

    @property
    def destination(self) -> int:
        """The IPv4 address it was sent to; 0 if it is IPv6."""
        return bswap32(load32(self.ip + 16)) if self.six == 0 else 0

    @property
    def peer(self) -> int:
        """64 bits that stand for the sender's address: an IPv4 address, or the first half of an IPv6 one, which is
        what one subscriber has (RFC 6177). For tables; not in a form to be shown."""
        return load32(self.ip + 12) if self.six == 0 else load64(self.ip + 8)

    @property
    def arrival(self) -> int:
        """When it was received, in nanoseconds, if the port says so; else 0."""
        return self.meta.timestamp if self.meta else 0

    @classmethod
    def finder_of(cls, header: Any) -> Any:
        """See :meth:`wirespeed.jit.Local.finder_of`."""
        return header.at_front()

    def __getitem__(self, header: Any) -> Any:
        """The payload as a declared header: ``request[DnsHeader]``; absent if the payload is shorter."""
        return self.finder_of(header)(self)


class Reply(Local):
    """The answer to a request, written where the request lies."""

    at = word()  # address of its first byte
    same = word()  # 1: the request's payload, untouched; 2 and 3: it may be something else
    room = word()  # bytes that may be written
    length = word()  # bytes written so far; NOTHING: there is to be no answer

    @property
    def start(self) -> int:
        """Address of its first byte, to be written from there on; set ``length`` then."""
        self.same |= _OTHER
        return self.at

    def write(self, data: Bytes) -> int:
        """Append the bytes of a payload; 0 when they do not fit (nothing changes), else 1.

        The request's own payload stays where it is: an echo copies nothing.
        """
        used = max(self.length, 0)
        count = data.length
        if count > self.room - used:
            return 0
        apart = data.start != self.at + used
        if apart and count != 0:
            move(self.at + used, data.start, count)
        self.same |= _OTHER if apart or used != 0 else _SAME
        self.length = used + count
        return 1

    def keep(self, count: int) -> int:
        """Append the next ``count`` bytes as they are: at first the request's. 0 when there is no room, else 1."""
        used = max(self.length, 0)
        if count < 0 or count > self.room - used:
            return 0
        self.same |= _OTHER
        self.length = used + count
        return 1

    def u8(self, value: int) -> int:
        """Append a byte; 0 when there is no room, else 1."""
        used = max(self.length, 0)
        if used + 1 > self.room:
            return 0
        self.same |= _OTHER
        store8(self.at + used, value)
        self.length = used + 1
        return 1

    def be16(self, value: int) -> int:
        """Append 16 bits in network order; 0 when there is no room, else 1."""
        used = max(self.length, 0)
        if used + 2 > self.room:
            return 0
        self.same |= _OTHER
        store16(self.at + used, bswap16(value))
        self.length = used + 2
        return 1

    def be32(self, value: int) -> int:
        """Append 32 bits in network order; 0 when there is no room, else 1."""
        used = max(self.length, 0)
        if used + 4 > self.room:
            return 0
        self.same |= _OTHER
        store32(self.at + used, bswap32(value))
        self.length = used + 4
        return 1

    @property
    def payload(self) -> Payload:
        """What is written so far, to be read and changed."""
        self.same |= _OTHER
        return Payload(pack_payload(self.at, self.at + max(self.length, 0)))


@inline
def begin(pkt: Packet, request: Request, reply: Reply) -> None:
    """Look at a packet whose UDP header was found sound, in one cell, as a request."""
    request.payload = Bytes(pkt.payload.address)
    request.opened = 0
    request.ip = pkt.l3
    request.six = 0 if pkt.ipv4 else 1
    request.udp = Udp(pkt.l4)
    request.meta = CellHeader(pkt.meta.address)
    reply.at = pkt.l4 + 8
    reply.same = 0
    reply.room = pkt.start - offset_of(pkt.desc) + CELL - (pkt.l4 + 8)
    reply.length = NOTHING


@inline
def answerable(pkt: Packet) -> bool:
    """Whether the packet lies in one cell that nobody else holds, so that it may be turned round where it is."""
    return pkt.desc & (CHAINED | SHARED) == 0


@inline
def untouched(request: Request, reply: Reply) -> bool:
    """Whether the reply is the request's payload and nobody can have written to it: its checksum is still right."""
    return (reply.same == _SAME) & (request.opened == 0) & (reply.length == request.payload.length)


@inline
def turn4(pkt: Packet, source: int, length: int, same: bool) -> None:
    """Make the IPv4 packet the reply to itself: ``length`` bytes of payload, ``source`` (0: whom it was sent to) as
    sender. Options become No Operation (RFC 791): they said how the request was to travel."""
    ip, udp = pkt.l3, pkt.l4
    same = same & (source == 0) & (load16(udp + 6) != 0) & (pkt.desc & META == 0)
    # First: it reads over headers, and must not wait for what is written below.
    data = sum_inside(udp + 8, length) if not same else 0
    if udp - ip != 20:
        fill(ip + 20, 1, udp - ip - 20)
    sender = load32(ip + 12)
    own = load32(ip + 16) if source == 0 else bswap32(source)
    total = udp - ip + 8 + length
    store16(ip, (udp - ip) >> 2 | 0x40)
    store16(ip + 2, bswap16(total))
    store32(ip + 4, _DONT_FRAGMENT << 16)
    store32(ip + 8, TTL | PROTOCOL_UDP << 8)
    store32(ip + 12, own)
    store32(ip + 16, sender)
    words = own + sender
    header = ((udp - ip) >> 2 | 0x40) + bswap16(total) + _DONT_FRAGMENT + (TTL | PROTOCOL_UDP << 8)
    if udp - ip != 20:
        header += sum_bytes(ip + 20, udp - ip - 20)
    store16(ip + 10, ~fold(header + words))
    _turn_udp(udp, data + words + bswap16(PROTOCOL_UDP), length, same)
    pkt.desc = with_data(pkt.desc & ~META, offset_of(pkt.desc), udp + 8 + length - pkt.start)


@inline
def _turn_udp(udp: int, total: int, length: int, same: bool) -> None:
    """Exchange the ports; ``total`` is of payload and pseudo header but for the length, and does not count when all that
    the checksum covers is the ``same``: what only changed places adds up to the same.

    The checksum is always sent (RFC 1122 section 4.1.3.4, RFC 8200 section 8.1).
    """
    ports = load32(udp)
    if same:
        store32(udp, (ports & 0xFFFF) << 16 | ports >> 16)
        return
    size = bswap16(8 + length)
    store32(udp, (ports & 0xFFFF) << 16 | ports >> 16)
    store32(udp + 4, size)
    store16(udp + 6, bswap16(nonzero(finish(total + size + size + ports))))


@cold
def _strip_extensions(pkt: Packet) -> int:
    """Bring Ethernet and IPv6 headers to the UDP header, over the extension headers; by how many bytes."""
    gap = pkt.l4 - pkt.l3 - 40
    size = pkt.l3 + 40 - pkt.start
    move(pkt.start + gap, pkt.start, size)
    return gap


@inline
def turn6(pkt: Packet, high: int, low: int, length: int, same: bool) -> None:
    """The same for IPv6; ``high`` and ``low`` as they stand in the header, both 0: whom it was sent to. Extension
    headers are not sent back."""
    same = same & (high | low == 0) & (pkt.desc & META == 0)
    total = bswap16(PROTOCOL_UDP) + (sum_inside(pkt.l4 + 8, length) if not same else 0)
    gap = _strip_extensions(pkt) if pkt.l4 - pkt.l3 != 40 else 0
    ip, udp = pkt.l3 + gap, pkt.l4
    sender_high, sender_low = load64(ip + 8), load64(ip + 16)
    asked = high | low == 0
    own_high = load64(ip + 24) if asked else high
    own_low = load64(ip + 32) if asked else low
    store32(ip, 0x60)
    store16(ip + 4, bswap16(8 + length))
    store16(ip + 6, PROTOCOL_UDP | TTL << 8)
    store64(ip + 8, own_high)
    store64(ip + 16, own_low)
    store64(ip + 24, sender_high)
    store64(ip + 32, sender_low)
    for address in (own_high, own_low, sender_high, sender_low):
        total += (address & 0xFFFF_FFFF) + shift_right(address, 32)
    _turn_udp(udp, total, length, same)
    pkt.desc = with_data(pkt.desc & ~META, offset_of(pkt.desc) + gap, udp + 8 + length - pkt.start - gap)


__all__ = [
    "LONGEST_REPLY", "NOTHING", "TTL", "Reply", "Request", "answerable", "begin", "turn4", "turn6", "untouched",
]  # fmt: skip

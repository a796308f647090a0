"""A reply: written where the request lies, sent as a datagram of its own, or one of several. ::

    reply.write(request.payload)      an echo: nothing moves
    reply.u8(7)                       one byte more
    reply.send()                      off it goes; what is written from now on is the next datagram

What is left written when the handler returns is the last datagram; it leaves in the request's own cell.
"""
# mypy: allow-untyped-calls, no-warn-return-any

from wirespeed.jit import (
    Local,
    bswap16,
    bswap32,
    bswap64,
    cold,
    copy,
    inline,
    load16,
    move,
    slot,
    store8,
    store16,
    store32,
    store64,
    word,
)
from wirespeed.mem.buffer import chain_of
from wirespeed.mem.descriptor import (
    CELL,
    CHAINED,
    META,
    ROOM,
    SHARED,
    CellHeader,
    address_of,
    header_of,
    length_of,
    offset_of,
    with_data,
)
from wirespeed.mem.pool import Cache
from wirespeed.stack.desk import lay_out, second_of
from wirespeed.stack.interface_view import InterfaceView
from wirespeed.stack.outbox import post
from wirespeed.stack.request import Request
from wirespeed.stack.turn import turn4, turn6
from wirespeed.wire.ethernet import ETHERTYPE_IPV6, MAC_GROUP_BIT
from wirespeed.wire.packet import Packet
from wirespeed.wire.payload import Bytes, Payload, pack_payload
from wirespeed.wire.udp import Udp

LONGEST_REPLY: int = 65507
"""RFC 768 and 791: what is left of 65,535 bytes behind both headers."""

NOTHING: int = -1
"""``reply.length`` of a handler that wrote nothing: there is no answer then."""

UNLIMITED: int = 1 << 62
"""``reply.allowed`` where there is no limit of amplification."""

_SAME, _OTHER = 1, 2  # of Reply.same


class Reply(Local):
    """The answer to a request, written where the request lies."""

    at = word()  # address of its first byte
    same = word()  # 1: the request's payload, untouched; 2 and 3: it may be something else
    room = word()  # bytes that may be written
    length = word()  # bytes written so far; NOTHING: there is to be no answer
    sent = word()  # datagrams sent already
    frame = word()  # where the request's frame begins
    ip = word()  # its IP header
    six = word()  # whether that is IPv6
    group = word()  # whether it was sent to a group
    cache = word()  # the worker's free cells; 0 in a trace
    interface = slot(InterfaceView)
    outbox = word()
    desk = word()  # where the request lies, if that is not in a cell; else 0
    allowed = word()  # bytes of payload that may still be sent to whom asked; negative: something was beyond that

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

    def verified(self) -> None:
        """Who asked is who it says it is, a cookie has shown: there is no limit of amplification for it."""
        self.allowed = UNLIMITED

    def send(self) -> int:
        """Send what is written as a datagram of its own, and begin anew; 0 if there was no cell or no room, or it is
        beyond the limit of amplification, else 1.

        It is copied: the request stays where it is, under what was written over it.
        """
        return self._post(0, 0, 0)

    def send_to(self, address: int, port: int) -> int:
        """The same, to another IPv4 address, as a number, and UDP port; 0 too if the request is not IPv4. No limit of
        amplification holds for it."""
        return self._post(address, 0, port) if self.six == 0 else 0

    def send_to6(self, high: int, low: int, port: int) -> int:
        """The same for IPv6, a pair of numbers."""
        return self._post(high, low, port) if self.six != 0 else 0

    def _post(self, high: int, low: int, port: int) -> int:
        length = max(self.length, 0)
        self.length = NOTHING
        self.same |= _OTHER
        if port == 0:
            if length > self.allowed:
                self.allowed = -1  # and nothing more
                return 0
            self.allowed -= length
        if self.cache == 0:
            return 0
        face = self.interface.address if self.group != 0 else 0
        made = _copy_turned(
            self.cache, self.frame, self.ip, self.at - 8, length, self.six, face, high, low, port, self.desk
        )  # fmt: skip
        if made == 0:
            return 0
        done = post(self.outbox, self.cache, made)
        self.sent += done
        return done


@cold
def _copy_turned(
    cache: int, frame: int, ip: int, udp: int, length: int, six: int, face: int, high: int, low: int, port: int,
    desk: int,
) -> int:  # fmt: skip
    """The reply so far in cells of its own, turned round: its descriptor; 0 if there are none.

    ``face`` is the interface if the request was sent to a group, else 0; with a ``port`` it goes there, and to the
    address given, instead of to whom asked. One that is too long for a cell is turned at the ``desk``.
    """
    size = udp + 8 + length - frame
    if size > ROOM and desk == 0:
        return 0
    made, to = 0, 0
    if size <= ROOM:
        made = chain_of(Cache(cache), size)
        if made == 0:
            return 0
        to = address_of(Cache(cache).cells, made)
    else:
        to = second_of(desk)
    copy(to, frame, size)
    ip += to - frame
    udp += to - frame
    own4, own_high, own_low = 0, 0, 0
    if face != 0:
        own4 = InterfaceView(face).address4
        own_high, own_low = InterfaceView(face).address6
    if port != 0:
        store16(udp, bswap16(port))
        if six == 0:
            store32(ip + 12, bswap32(high))
        else:
            store64(ip + 8, bswap64(high))
            store64(ip + 16, bswap64(low))
    gap = 0
    if six == 0:
        turn4(ip, udp, own4, length, False)
    else:
        gap = turn6(to, ip, udp, own_high, own_low, length, False)
    if size <= ROOM:
        return with_data(made, offset_of(made) + gap, size - gap)
    return _to_cells(Cache(cache), to + gap, size - gap)


@cold
def _to_cells(cache: Cache, source: int, size: int) -> int:
    """A packet of these bytes in as many cells as it takes; 0 if there are not so many."""
    made = chain_of(cache, size)
    desc, done = made, 0
    while made != 0 and done < size:
        part = length_of(desc)
        copy(address_of(cache.cells, desc), source + done, part)
        done += part
        if done < size:
            desc = CellHeader(header_of(cache.cells, desc)).next
    return made


@inline
def begin(pkt: Packet, request: Request, reply: Reply) -> None:
    """Look at a packet whose UDP header was found sound, in one cell, as a request."""
    request.payload = Bytes(pkt.payload.address)
    request.opened = 0
    request.ip = pkt.l3
    request.six = 1 if pkt.ethertype == ETHERTYPE_IPV6 else 0
    request.udp = Udp(pkt.l4)
    request.meta = CellHeader(pkt.meta.address)
    reply.at = pkt.l4 + 8
    reply.same = 0
    reply.room = pkt.start - offset_of(pkt.desc) + CELL - (pkt.l4 + 8)
    reply.length = NOTHING
    reply.sent = 0
    reply.frame = pkt.start
    reply.ip = pkt.l3
    reply.six = request.six
    reply.group = pkt.eth.dst & MAC_GROUP_BIT
    reply.cache = pkt.cache
    reply.desk = 0


@inline
def begin_long(pkt: Packet, request: Request, reply: Reply, desk: int) -> int:
    """Look at a request that does not lie in one cell of ours where it is copied to: 0 if it is too long, else 1."""
    frame = lay_out(pkt.cells, pkt.desc, desk)
    if frame == 0:
        return 0
    ip, udp = frame + (pkt.l3 - pkt.start), frame + (pkt.l4 - pkt.start)
    request.ip = ip
    request.udp = Udp(udp)
    request.payload = Bytes(pack_payload(udp + 8, udp + bswap16(load16(udp + 4))))
    reply.at = udp + 8
    reply.room = LONGEST_REPLY
    reply.frame = frame
    reply.ip = ip
    reply.desk = desk
    return 1


@inline
def answerable(pkt: Packet) -> bool:
    """Whether the packet lies in one cell that nobody else holds, so that it may be turned round where it is."""
    return pkt.desc & (CHAINED | SHARED) == 0


@inline
def turn(pkt: Packet, request: Request, reply: Reply) -> None:
    """Make the packet the reply. An echo keeps its checksum, if nobody can have written to what it is of: only what
    changes places was summed up."""
    same = (reply.same == _SAME) & (request.opened == 0) & (reply.length == request.payload.length)
    same = same & (pkt.desc & META == 0)
    gap = 0
    if request.six == 0:
        turn4(pkt.l3, pkt.l4, reply.interface.address4 if reply.group != 0 else 0, reply.length, same)
    else:
        high, low = 0, 0
        if reply.group != 0:
            high, low = reply.interface.address6
        gap = turn6(pkt.start, pkt.l3, pkt.l4, high, low, reply.length, same)
    length = pkt.l4 + 8 + reply.length - pkt.start - gap
    pkt.desc = with_data(pkt.desc & ~META, offset_of(pkt.desc) + gap, length)


__all__ = ["LONGEST_REPLY", "NOTHING", "UNLIMITED", "Reply", "answerable", "begin", "begin_long", "turn"]

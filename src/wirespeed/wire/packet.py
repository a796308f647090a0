"""The packet a node sees: its headers by name, its length, and room to grow in front and behind.

Compiled, a packet is a handful of registers (:class:`wirespeed.jit.Local`); interpreted, an ordinary object.
The bytes stay where they are: methods that change the packet's extent move ``desc``, ``start`` and ``end``
within the cell, never outside it, and find the headers anew.
"""
# mypy: no-warn-return-any, allow-untyped-calls

from typing import Any

from wirespeed.jit import Local, bswap16, load32, load64, slot, store16, store32, store64, word
from wirespeed.mem.buffer import copy_packet, cut, describe_meta, join, linearise
from wirespeed.mem.descriptor import (
    CELL,
    CELL_HEADER,
    CHAINED,
    META,
    SHARED,
    CellHeader,
    header_of,
    length_of,
    offset_of,
    with_data,
)
from wirespeed.mem.pool import Cache, share
from wirespeed.wire.arp import Arp
from wirespeed.wire.ethernet import Ethernet
from wirespeed.wire.icmp import Icmp, Icmp6
from wirespeed.wire.ipv4 import Ipv4
from wirespeed.wire.ipv6 import Ipv6
from wirespeed.wire.parse import parse_transport
from wirespeed.wire.payload import Payload
from wirespeed.wire.tcp import Tcp
from wirespeed.wire.udp import Udp
from wirespeed.wire.vlan import Vlan


class Packet(Local):
    """A packet in the hands of a node."""

    desc = word()  # the 64-bit descriptor (wirespeed.mem.descriptor)
    cells = word()  # address of cell 0
    cache = word()  # address of the worker's free cells; 0 in a trace
    port = word()  # index of the port it came in by
    mark = word()  # for nodes to tell each other something: 0 when received, travels with the packet
    start = word()  # address of the first byte
    end = word()  # address after the last byte of the first segment
    meta = slot(CellHeader)  # what the header line says: timestamp, RSS hash, flow mark, VLAN tag, user words

    eth = slot(Ethernet)
    vlan = slot(Vlan)  # the outer tag
    qinq = slot(Vlan)  # the inner tag, when there are two
    ethertype = word()  # of what follows the tags
    l3 = word()  # address of what follows the tags

    arp = slot(Arp)
    ipv4 = slot(Ipv4)
    ipv6 = slot(Ipv6)
    ip_bytes = word()  # length of the IP packet, header included; may exceed the first segment

    protocol = word()  # transport protocol, behind extension headers
    l4 = word()  # address of the transport header; 0 in later fragments
    icmp = slot(Icmp)
    icmp6 = slot(Icmp6)
    udp = slot(Udp)
    tcp = slot(Tcp)
    limit = word()  # address after the last byte of the content: padding is beyond, other segments too
    payload = slot(Payload)

    @property
    def length(self) -> int:
        """Bytes of the whole packet, over all its segments."""
        if self.desc & CHAINED != 0:
            return CellHeader(header_of(self.cells, self.desc)).length
        return self.end - self.start

    def parse(self) -> None:
        """Find the headers anew, after their bytes were rewritten into others."""
        parse_transport(self)

    def prepend(self, count: int) -> int:
        """Grow by ``count`` bytes in front; 0 when the headroom is too small, or it is chained and shared (nothing
        changes), else 1.

        The new bytes are whatever lay there. Headers are found anew; write yours, then call ``parse()``.
        """
        offset = offset_of(self.desc)
        if count < 0 or offset - count < CELL_HEADER or self._extent_is_shared():
            return 0
        self._extend_front(count)
        return 1

    def adjust(self, count: int) -> int:
        """Take ``count`` bytes off the front; 0 when the segment is shorter, or it is chained and shared (nothing
        changes), else 1."""
        if count < 0 or count > self.end - self.start or self._extent_is_shared():
            return 0
        self._extend_front(-count)
        return 1

    def append(self, count: int) -> int:
        """Grow by ``count`` bytes behind; 0 when the cell is full or the packet is chained, else 1."""
        length = length_of(self.desc)
        offset = offset_of(self.desc)
        if count < 0 or self.desc & CHAINED != 0 or offset + length + count > CELL:
            return 0
        self.desc = with_data(self.desc, offset, length + count)
        parse_transport(self)
        return 1

    def trim(self, count: int) -> int:
        """Take ``count`` bytes off the end; 0 when it is shorter, or chained and shared (nothing changes), else 1."""
        length = length_of(self.desc)
        made = 0
        if self.desc & CHAINED == 0:
            if count >= 0 and count <= length:
                made = with_data(self.desc, offset_of(self.desc), length - count)
        elif self.cache != 0:
            made = cut(Cache(self.cache), self.desc, count)
        if made == 0:
            return 0
        self.desc = made
        parse_transport(self)
        return 1

    def with_meta(self) -> CellHeader:
        """``meta``, there from now on, to be written: it travels with the packet until that is freed."""
        line = CellHeader(header_of(self.cells, self.desc))
        self.desc = describe_meta(self.cells, self.desc)
        self.meta = line
        return line

    def copy(self) -> int:
        """The descriptor of a copy in cells of its own, to be put in a ring; 0 when there are no free cells."""
        return copy_packet(Cache(self.cache), self.desc) if self.cache != 0 else 0

    def clone(self) -> int:
        """One more holder of the same bytes: the descriptor for it to hold, never 0. Nobody may write any more."""
        self.desc = share(self.cells, self.desc)
        return self.desc

    def linearise(self) -> int:
        """Bring a chained packet into one cell; 0 when it is too long or there is no free cell, else 1."""
        if self.desc & CHAINED == 0:
            return 1
        made = linearise(Cache(self.cache), self.desc) if self.cache != 0 else 0
        if made == 0:
            return 0
        self.desc = made
        parse_transport(self)
        return 1

    def join(self, desc: int) -> int:
        """Put another packet behind; 0 (and nothing changes) when that is too long or this one shared, else 1."""
        made = join(self.cells, self.desc, desc)
        if made == 0:
            return 0
        self.desc = made
        parse_transport(self)
        return 1

    def push_vlan(self, tpid: int, tci: int) -> int:
        """Put a VLAN tag in front of those there are; 0 when the headroom is too small, else 1."""
        if not self.eth or self.prepend(4) == 0:
            return 0
        start = self.start
        first, second = load64(start + 4), load32(start + 12)
        store64(start, first)
        store32(start + 8, second)
        store16(start + 12, bswap16(tpid))
        store16(start + 14, bswap16(tci))
        parse_transport(self)
        return 1

    def pop_vlan(self) -> int:
        """Take the outer VLAN tag off; 0 when there is none, else 1."""
        if not self.vlan or self._extent_is_shared():
            return 0
        start = self.start
        first, second = load64(start), load32(start + 8)
        store64(start + 4, first)
        store32(start + 12, second)
        return self.adjust(4)

    def _extent_is_shared(self) -> bool:
        """Whether the length of the whole packet is in a header line that others read."""
        return self.desc & (CHAINED | SHARED) == CHAINED | SHARED

    def _extend_front(self, count: int) -> None:
        """Move the start back by ``count``, which may be negative; what counts from the start follows."""
        desc = self.desc
        if desc & (CHAINED | META) != 0:
            line = CellHeader(header_of(self.cells, desc))
            if desc & CHAINED != 0:
                line.length += count
            if desc & META != 0:
                line.checksum_start += count
                line.headers_length += count
        self.desc = with_data(desc, offset_of(desc) - count, length_of(desc) + count)
        parse_transport(self)

    def __getitem__(self, header: Any) -> Any:
        """The view of a header class: ``pkt[Telemetry]``; absent when it is not there."""
        return header.finder()(self)

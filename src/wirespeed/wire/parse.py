"""From bytes to headers: what a packet holds is found once, checked once, and trusted afterwards.

Four levels, each with the ones before it; a graph uses the least that its nodes ask for (:data:`LEVEL`):

    frame      start, end
    link       Ethernet, up to two VLAN tags
    network    ARP, IPv4, IPv6
    transport  extension headers, ICMP, UDP, TCP, payload

What a level does not look at is absent. A header is present only if it is whole, in the first segment, and
its lengths agree with the bytes that are really there; so no packet, however hostile, leads a view outside
its cell. Everything here is loads and comparisons without side effects: what no node reads, LLVM removes.
"""
# mypy: allow-untyped-calls

from typing import TYPE_CHECKING

from wirespeed.jit import inline
from wirespeed.mem.descriptor import CHAINED, META, CellHeader, address_of, header_of, length_of
from wirespeed.wire.arp import Arp
from wirespeed.wire.ethernet import (
    ETHERTYPE_ARP,
    ETHERTYPE_IPV4,
    ETHERTYPE_IPV6,
    ETHERTYPE_QINQ,
    ETHERTYPE_QINQ_OLD,
    ETHERTYPE_VLAN,
    Ethernet,
)
from wirespeed.wire.icmp import Icmp, Icmp6
from wirespeed.wire.ipv4 import (
    IPV4_FRAGMENT_OFFSET,
    IPV4_MORE_FRAGMENTS,
    PROTOCOL_ICMP,
    PROTOCOL_ICMP6,
    PROTOCOL_TCP,
    PROTOCOL_UDP,
    Ipv4,
)
from wirespeed.wire.ipv6 import FIRST_FRAGMENT, NO_TRANSPORT, WHOLE, Ipv6, skip_extensions
from wirespeed.wire.payload import Payload, pack_payload
from wirespeed.wire.tcp import Tcp
from wirespeed.wire.udp import Udp
from wirespeed.wire.vlan import Vlan

if TYPE_CHECKING:
    from wirespeed.wire.packet import Packet

FRAME, LINK, NETWORK, TRANSPORT = 0, 1, 2, 3

LEVEL: dict[str, int] = {
    **dict.fromkeys(("desc", "cells", "port", "mark", "start", "end", "length"), FRAME),
    **dict.fromkeys(("prepend", "adjust", "append", "trim", "parse"), FRAME),
    **dict.fromkeys(("meta", "with_meta", "copy", "clone", "linearise", "join", "cache"), FRAME),
    **dict.fromkeys(("eth", "vlan", "qinq", "ethertype", "l3", "push_vlan", "pop_vlan"), LINK),
    **dict.fromkeys(("arp", "ipv4", "ipv6", "ip_bytes"), NETWORK),
    **dict.fromkeys(("protocol", "l4", "icmp", "icmp6", "udp", "tcp", "limit", "payload"), TRANSPORT),
}
"""The parse level that each attribute and method of a packet needs; ``pkt[H]`` needs ``H.level()``."""


@inline
def parse_frame(pkt: "Packet") -> None:
    """Where the packet starts and where its first segment ends."""
    _frame(pkt)
    _no_link(pkt)
    _no_network(pkt)
    _no_transport(pkt)


@inline
def parse_link(pkt: "Packet") -> None:
    """Ethernet and its VLAN tags."""
    _frame(pkt)
    _link(pkt)
    _no_network(pkt)
    _no_transport(pkt)


@inline
def parse_network(pkt: "Packet") -> None:
    """ARP, IPv4 or IPv6."""
    _frame(pkt)
    _link(pkt)
    _network(pkt)
    _no_transport(pkt)


@inline
def parse_transport(pkt: "Packet") -> None:
    """Everything: ICMP, UDP or TCP, and the payload."""
    _frame(pkt)
    _link(pkt)
    _network(pkt)
    _transport(pkt)


PARSERS = (parse_frame, parse_link, parse_network, parse_transport)
"""By level."""

# Each stage computes plain integers and stores every attribute once, at its end. Stores under a condition
# would be merged by LLVM into one store through a computed pointer, and the packet would live in memory.


@inline
def _frame(pkt: "Packet") -> None:
    start = address_of(pkt.cells, pkt.desc)
    pkt.start = start
    pkt.end = start + length_of(pkt.desc)
    pkt.meta = CellHeader(header_of(pkt.cells, pkt.desc) if pkt.desc & META != 0 else 0)


@inline
def is_tag(ethertype: int) -> bool:
    """Whether an ethertype is the TPID of a VLAN tag."""
    return (ethertype == ETHERTYPE_VLAN) | (ethertype == ETHERTYPE_QINQ) | (ethertype == ETHERTYPE_QINQ_OLD)


@inline
def _link(pkt: "Packet") -> None:
    start, end = pkt.start, pkt.end
    eth = vlan = qinq = ethertype = l3 = 0
    if end - start >= 14:
        eth = start
        ethertype = Ethernet(start).ethertype
        l3 = start + 14
        # IPv4 first: one comparison decides for most packets, here and in _network.
        if ethertype != ETHERTYPE_IPV4:
            if is_tag(ethertype) and end - l3 >= 4:
                vlan = l3
                ethertype = Vlan(l3).ethertype
                l3 += 4
                if is_tag(ethertype) and end - l3 >= 4:
                    qinq = l3
                    ethertype = Vlan(l3).ethertype
                    l3 += 4
    pkt.eth = Ethernet(eth)
    pkt.vlan = Vlan(vlan)
    pkt.qinq = Vlan(qinq)
    pkt.ethertype = ethertype
    pkt.l3 = l3


@inline
def _no_link(pkt: "Packet") -> None:
    pkt.eth = Ethernet(0)
    pkt.vlan = Vlan(0)
    pkt.qinq = Vlan(0)
    pkt.ethertype = 0
    pkt.l3 = 0


@inline
def _network(pkt: "Packet") -> None:
    l3, ethertype = pkt.l3, pkt.ethertype
    room = pkt.end - l3
    arp = ipv4 = ipv6 = ip_bytes = 0
    if ethertype == ETHERTYPE_IPV4:
        if room >= 20:
            ip = Ipv4(l3)
            first, total = ip.version_ihl, ip.total_length
            header = (first & 15) * 4
            # RFC 1122 section 3.2.1.1, RFC 1812 section 5.2.2: version 4, IHL at least 5, lengths that agree.
            good = (first >= 0x45) & (first <= 0x4F)
            if good & (header <= total) & (total <= room):
                ipv4, ip_bytes = l3, total
            elif good & (header <= room) & (pkt.desc & CHAINED != 0):
                total = _length_over_segments(pkt, l3, total)
                if total >= header:
                    ipv4, ip_bytes = l3, total
    elif ethertype == ETHERTYPE_IPV6:
        if room >= 40:
            header6 = Ipv6(l3)
            total = header6.payload_length + 40
            if header6.version == 6:
                if total > room or total == 40:
                    if pkt.desc & CHAINED != 0:
                        real = _length_over_segments(pkt, l3, total if total > 40 else 0)
                        # A payload length of 0 that no super-packet explains is an empty packet.
                        total = real if real > 40 else (40 if total == 40 else 0)
                    elif total > room:
                        total = 0
                if total != 0:
                    ipv6, ip_bytes = l3, total
    elif ethertype == ETHERTYPE_ARP:
        if room >= 28:
            header_arp = Arp(l3)
            kinds = (header_arp.htype == 1) & (header_arp.ptype == ETHERTYPE_IPV4)
            if kinds & (header_arp.hlen == 6) & (header_arp.plen == 4):
                arp = l3
    pkt.arp = Arp(arp)
    pkt.ipv4 = Ipv4(ipv4)
    pkt.ipv6 = Ipv6(ipv6)
    pkt.ip_bytes = ip_bytes


@inline
def _no_network(pkt: "Packet") -> None:
    pkt.arp = Arp(0)
    pkt.ipv4 = Ipv4(0)
    pkt.ipv6 = Ipv6(0)
    pkt.ip_bytes = 0


@inline
def _length_over_segments(pkt: "Packet", l3: int, claimed: int) -> int:
    """The length of an IP packet that does not end in the first segment of its chain; 0 when it lies.

    A super-packet (segmentation offload) may be too long for the 16-bit field, which is then 0.
    """
    line = CellHeader(header_of(pkt.cells, pkt.desc))
    real = line.length - (l3 - pkt.start)
    if claimed == 0:
        return real if (pkt.desc & META != 0) & (line.gso_size != 0) else 0
    return claimed if claimed <= real else 0


@inline
def _transport(pkt: "Packet") -> None:
    end, l3 = pkt.end, pkt.l3
    icmp = icmp6 = udp = tcp = l4 = protocol = after = 0
    limit = end
    what = NO_TRANSPORT
    ipv4, ipv6 = pkt.ipv4.address, pkt.ipv6.address
    if ipv4 != 0:
        ip = Ipv4(ipv4)
        protocol = ip.protocol
        after = l3 + (ip.version_ihl & 15) * 4
        limit = min(l3 + pkt.ip_bytes, end)
        fragment = ip.flags_fragment
        what = WHOLE
        if fragment & (IPV4_FRAGMENT_OFFSET | IPV4_MORE_FRAGMENTS) != 0:
            what = FIRST_FRAGMENT if fragment & IPV4_FRAGMENT_OFFSET == 0 else NO_TRANSPORT
    elif ipv6 != 0:
        limit = min(l3 + pkt.ip_bytes, end)
        protocol, after, what = skip_extensions(l3 + 40, limit, Ipv6(ipv6).next_header)
    elif pkt.arp.address == 0 and l3 != 0:
        after = l3
    else:
        after = end
    if what != NO_TRANSPORT:
        l4 = after
        room = limit - l4
        if protocol == PROTOCOL_UDP:
            if room >= 8:
                length = Udp(l4).length
                # RFC 768; the length of a first fragment is that of the whole datagram.
                if length >= 8 and (length <= l3 + pkt.ip_bytes - l4 or what == FIRST_FRAGMENT):
                    udp = l4
                    limit = min(l4 + length, limit)
                    after = l4 + 8
        elif protocol == PROTOCOL_TCP:
            if room >= 20:
                header = Tcp(l4).data_offset * 4
                if (header >= 20) & (header <= room):
                    tcp = l4
                    after = l4 + header
        elif protocol == PROTOCOL_ICMP:
            if ipv4 != 0 and room >= 8:
                icmp = l4
                after = l4 + 8
        elif protocol == PROTOCOL_ICMP6:
            if ipv4 == 0 and room >= 8:
                icmp6 = l4
                after = l4 + 8
    pkt.protocol = protocol
    pkt.l4 = l4
    pkt.icmp = Icmp(icmp)
    pkt.icmp6 = Icmp6(icmp6)
    pkt.udp = Udp(udp)
    pkt.tcp = Tcp(tcp)
    pkt.limit = limit
    pkt.payload = Payload(pack_payload(after, limit))


@inline
def _no_transport(pkt: "Packet") -> None:
    pkt.protocol = 0
    pkt.l4 = 0
    pkt.icmp = Icmp(0)
    pkt.icmp6 = Icmp6(0)
    pkt.udp = Udp(0)
    pkt.tcp = Tcp(0)
    pkt.limit = pkt.end
    pkt.payload = Payload(0)

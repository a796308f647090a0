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
    **dict.fromkeys(("desc", "cells", "port", "start", "end", "length"), FRAME),
    **dict.fromkeys(("prepend", "adjust", "append", "trim", "parse", "push_vlan", "pop_vlan"), FRAME),
    **dict.fromkeys(("eth", "vlan", "qinq", "ethertype", "l3"), LINK),
    **dict.fromkeys(("arp", "ipv4", "ipv6", "ip_bytes"), NETWORK),
    **dict.fromkeys(("protocol", "l4", "icmp", "icmp6", "udp", "tcp", "limit", "payload"), TRANSPORT),
}
"""The parse level that each attribute and method of a packet needs; ``pkt[H]`` needs ``H.level()``."""


@inline
def parse_frame(pkt: "Packet") -> None:
    """Where the packet starts and where its first segment ends."""
    start = address_of(pkt.cells, pkt.desc)
    pkt.start = start
    pkt.end = start + length_of(pkt.desc)
    _clear(pkt)


@inline
def parse_link(pkt: "Packet") -> None:
    """Ethernet and its VLAN tags."""
    parse_frame(pkt)
    _link(pkt)


@inline
def parse_network(pkt: "Packet") -> None:
    """ARP, IPv4 or IPv6."""
    parse_frame(pkt)
    _link(pkt)
    _network(pkt)


@inline
def parse_transport(pkt: "Packet") -> None:
    """Everything: ICMP, UDP or TCP, and the payload."""
    parse_frame(pkt)
    _link(pkt)
    _network(pkt)
    _transport(pkt)


PARSERS = (parse_frame, parse_link, parse_network, parse_transport)
"""By level."""


@inline
def _clear(pkt: "Packet") -> None:
    pkt.ethertype = 0
    pkt.l3 = 0
    pkt.ip_bytes = 0
    pkt.protocol = 0
    pkt.l4 = 0
    pkt.limit = pkt.end
    pkt.eth = Ethernet(0)
    pkt.vlan = Vlan(0)
    pkt.qinq = Vlan(0)
    pkt.arp = Arp(0)
    pkt.ipv4 = Ipv4(0)
    pkt.ipv6 = Ipv6(0)
    pkt.icmp = Icmp(0)
    pkt.icmp6 = Icmp6(0)
    pkt.udp = Udp(0)
    pkt.tcp = Tcp(0)
    pkt.payload = Payload(0)


@inline
def is_tag(ethertype: int) -> bool:
    """Whether an ethertype is the TPID of a VLAN tag."""
    return (ethertype == ETHERTYPE_VLAN) | (ethertype == ETHERTYPE_QINQ) | (ethertype == ETHERTYPE_QINQ_OLD)


@inline
def _link(pkt: "Packet") -> None:
    start, end = pkt.start, pkt.end
    if end - start < 14:
        return
    eth = Ethernet(start)
    ethertype = eth.ethertype
    l3 = start + 14
    pkt.eth = eth
    # IPv4 first: one comparison decides for most packets, here and in _network.
    if ethertype != ETHERTYPE_IPV4:
        if is_tag(ethertype) and end - l3 >= 4:
            outer = Vlan(l3)
            pkt.vlan = outer
            ethertype = outer.ethertype
            l3 += 4
            if is_tag(ethertype) and end - l3 >= 4:
                inner = Vlan(l3)
                pkt.qinq = inner
                ethertype = inner.ethertype
                l3 += 4
    pkt.ethertype = ethertype
    pkt.l3 = l3


@inline
def _network(pkt: "Packet") -> None:
    l3, ethertype = pkt.l3, pkt.ethertype
    room = pkt.end - l3
    if ethertype == ETHERTYPE_IPV4:
        if room >= 20:
            ip = Ipv4(l3)
            first, total = ip.version_ihl, ip.total_length
            header = (first & 15) * 4
            # RFC 1122 section 3.2.1.1, RFC 1812 section 5.2.2: version 4, IHL at least 5, lengths that agree.
            if (first >= 0x45) & (first <= 0x4F) & (header <= room):
                if total > room or total == 0:
                    total = _length_over_segments(pkt, l3, total)
                if total >= header:
                    pkt.ipv4 = ip
                    pkt.ip_bytes = total
    elif ethertype == ETHERTYPE_IPV6:
        if room >= 40:
            ip6 = Ipv6(l3)
            if ip6.version == 6:
                bytes6 = ip6.payload_length + 40
                if bytes6 > room or bytes6 == 40:
                    bytes6 = _jumbo_or_plain(pkt, l3, bytes6, room)
                if bytes6 >= 40:
                    pkt.ipv6 = ip6
                    pkt.ip_bytes = bytes6
    elif ethertype == ETHERTYPE_ARP:
        if room >= 28:
            arp = Arp(l3)
            if (arp.htype == 1) & (arp.ptype == ETHERTYPE_IPV4) & (arp.hlen == 6) & (arp.plen == 4):
                pkt.arp = arp


@inline
def _length_over_segments(pkt: "Packet", l3: int, claimed: int) -> int:
    """The length of an IP packet that does not end in its first segment; 0 when it lies.

    A super-packet (segmentation offload) may be too long for the 16-bit field, which is then 0.
    """
    if pkt.desc & CHAINED == 0:
        return 0
    line = CellHeader(header_of(pkt.cells, pkt.desc))
    real = line.length - (l3 - pkt.start)
    if claimed == 0:
        return real if (pkt.desc & META != 0) & (line.gso_size != 0) else 0
    return claimed if claimed <= real else 0


@inline
def _jumbo_or_plain(pkt: "Packet", l3: int, claimed: int, room: int) -> int:
    """As :func:`_length_over_segments`, for IPv6: there a payload length of 0 is also just an empty packet."""
    if claimed > 40:
        return _length_over_segments(pkt, l3, claimed)
    real = _length_over_segments(pkt, l3, 0)
    return real if real > 40 else 40


@inline
def _transport(pkt: "Packet") -> None:
    end, l3 = pkt.end, pkt.l3
    if pkt.ipv4:
        ip = Ipv4(l3)
        protocol = ip.protocol
        at = l3 + (ip.version_ihl & 15) * 4
        limit = min(l3 + pkt.ip_bytes, end)
        what = WHOLE
        fragment = ip.flags_fragment
        if fragment & (IPV4_FRAGMENT_OFFSET | IPV4_MORE_FRAGMENTS) != 0:
            what = FIRST_FRAGMENT if fragment & IPV4_FRAGMENT_OFFSET == 0 else NO_TRANSPORT
    elif pkt.ipv6:
        limit = min(l3 + pkt.ip_bytes, end)
        protocol, at, what = skip_extensions(l3 + 40, limit, Ipv6(l3).next_header)
    else:
        if pkt.eth and not pkt.arp:
            pkt.payload = Payload(pack_payload(l3, end))
        return
    pkt.protocol = protocol
    pkt.limit = limit
    after = at
    if what != NO_TRANSPORT:
        pkt.l4 = at
        room = limit - at
        if protocol == PROTOCOL_UDP:
            if room >= 8:
                udp = Udp(at)
                length = udp.length
                # RFC 768; the length of a first fragment is that of the whole datagram.
                if length >= 8 and (l3 + pkt.ip_bytes - at >= length or what == FIRST_FRAGMENT):
                    pkt.udp = udp
                    pkt.limit = limit = min(at + length, limit)
                    after = at + 8
        elif protocol == PROTOCOL_TCP:
            if room >= 20:
                tcp = Tcp(at)
                header = tcp.data_offset * 4
                if (header >= 20) & (header <= room):
                    pkt.tcp = tcp
                    after = at + header
        elif protocol == PROTOCOL_ICMP:
            if pkt.ipv4 and room >= 8:
                pkt.icmp = Icmp(at)
                after = at + 8
        elif protocol == PROTOCOL_ICMP6:
            if pkt.ipv6 and room >= 8:
                pkt.icmp6 = Icmp6(at)
                after = at + 8
    pkt.payload = Payload(pack_payload(after, limit))

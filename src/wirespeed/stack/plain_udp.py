"""plain_udp: the datagrams that nearly all are, recognised by a few wide comparisons.

IPv4 without options, untagged, whole, in one cell, to our first address: for these the general way through the parser,
:mod:`wirespeed.stack.input` and all their cases costs twice as many instructions. They must pass the same checks;
whatever is not so in any way, a wrong checksum too, leaves by ``unusual`` for the general way, which knows its name.

::

    0  destination | 6  source | 12  08 00 | 14  45 .. length .. .. flags ttl 11 .. source destination | 34  UDP
"""

from typing import Any

from wirespeed.graph.node import Node, node
from wirespeed.hashes.internet import fold, sum_inside
from wirespeed.jit import bswap16, bswap32, load16, load32, load64
from wirespeed.mem.descriptor import CHAINED, META, SHARED
from wirespeed.stack.interface import Interface
from wirespeed.wire.checksum import pseudo_v4
from wirespeed.wire.ethernet import ETHERTYPE_IPV4, Ethernet
from wirespeed.wire.ipv4 import PROTOCOL_UDP, Ipv4
from wirespeed.wire.payload import Payload, pack_payload
from wirespeed.wire.udp import Udp

_TYPE_AND_VERSION = 0x45_0008  # three bytes as they stand in memory: ethertype, and version with header length
_WHOLE_UDP_MASK = 0xFF00_FF3F  # flags and offset, TTL, protocol: but for "don't fragment", the reserved bit and TTL
_WHOLE_UDP = PROTOCOL_UDP << 24
_HEADERS = 14 + 20 + 8
_GROUPS = 224
_LOOPBACK = 127


def plain_udp(interface: Interface) -> Node:
    """Make the node for one interface; it finds the headers itself, so nothing is parsed before it."""

    def plain_udp(pkt: Any) -> str | None:
        """Sound IPv4 datagrams to our first address go on, all else leaves by ``unusual``."""
        frame = pkt.start
        ip, udp = frame + 14, frame + 34
        if pkt.end - frame < _HEADERS or pkt.desc & (META | CHAINED | SHARED) != 0:
            return "unusual"
        if (
            load64(frame) & 0xFFFF_FFFF_FFFF != interface.untagged_mac
            or load32(frame + 12) & 0xFF_FFFF != _TYPE_AND_VERSION
        ):
            return "unusual"
        total = bswap16(load16(ip + 2))
        length = bswap16(load16(udp + 4))
        if load32(ip + 6) & _WHOLE_UDP_MASK != _WHOLE_UDP or total != length + 20 or length < 8 or ip + total > pkt.end:
            return "unusual"
        first = load32(ip + 12) & 255
        if first == 0 or first == _LOOPBACK or first >= _GROUPS or interface.is_first4(bswap32(load32(ip + 16))) == 0:
            return "unusual"
        header = load32(ip) + load32(ip + 4) + load32(ip + 8) + load32(ip + 12) + load32(ip + 16)
        if fold(header) != 0xFFFF:
            return "unusual"
        if load16(udp + 6) != 0:
            if fold(sum_inside(udp, length) + pseudo_v4(Ipv4(ip), PROTOCOL_UDP, length)) != 0xFFFF:
                return "unusual"
        pkt.eth = Ethernet(frame)
        pkt.ethertype = ETHERTYPE_IPV4
        pkt.l3 = ip
        pkt.ipv4 = Ipv4(ip)
        pkt.ip_bytes = total
        pkt.protocol = PROTOCOL_UDP
        pkt.l4 = udp
        pkt.udp = Udp(udp)
        pkt.limit = ip + total
        pkt.payload = Payload(pack_payload(udp + 8, ip + total))
        return None

    return Node(plain_udp, ["unusual"], parses=True)


@node
def unusual(pkt: Any) -> None:
    """Find the headers of what ``plain_udp`` did not take."""
    pkt.parse()


__all__ = ["plain_udp", "unusual"]

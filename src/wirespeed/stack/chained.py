"""Packets in several cells: their checksums, and what reassembly made of fragments."""
# mypy: allow-untyped-calls, no-warn-return-any

from typing import Any

from wirespeed.graph.node import node
from wirespeed.hashes.internet import fold
from wirespeed.jit import inline
from wirespeed.mem.buffer import is_own
from wirespeed.stack.refused import is_piece6
from wirespeed.traffic.sums import sum_packet
from wirespeed.wire.checksum import pseudo
from wirespeed.wire.ipv4 import PROTOCOL_ICMP, PROTOCOL_UDP
from wirespeed.wire.packet import Packet
from wirespeed.wire.udp import Udp


@inline
def chained_udp_valid(pkt: Packet) -> bool:
    """Whether the checksum of a UDP datagram is right that reaches beyond its first cell (RFC 768, RFC 8200 8.1)."""
    udp = Udp(pkt.l4)
    length = udp.length
    if udp.checksum == 0:
        return pkt.ipv4.address != 0
    total = sum_packet(pkt.cells, pkt.desc, pkt.l4 - pkt.start, length)
    return fold(total + pseudo(pkt, PROTOCOL_UDP, length)) == 0xFFFF


@inline
def chained_icmp_valid(pkt: Packet) -> bool:
    """The same for ICMP and ICMPv6; False too if somebody else holds some of its cells."""
    if pkt.l4 == 0 or not is_own(pkt.cells, pkt.desc):
        return False
    length = pkt.l3 + pkt.ip_bytes - pkt.l4
    total = sum_packet(pkt.cells, pkt.desc, pkt.l4 - pkt.start, length)
    if pkt.protocol != PROTOCOL_ICMP:
        total += pseudo(pkt, pkt.protocol, length)
    return fold(total) == 0xFFFF


@node(outputs=["other"])
def reassembled(pkt: Any) -> str | None:
    """What was put together goes on; what the table gave back, for it is no fragment that can be one, by ``other``."""
    if pkt.ipv4:
        return "other" if pkt.ipv4.is_fragment else None
    return "other" if not pkt.ipv6 or is_piece6(pkt) else None


__all__ = ["chained_icmp_valid", "chained_udp_valid", "reassembled"]

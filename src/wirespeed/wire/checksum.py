"""The Internet checksum in packets: headers, pseudo headers, transport; finished where it was left to hardware.

The sums themselves are in :mod:`wirespeed.hashes.internet`; as there, a ``total`` is a running sum in the machine's
byte order, not folded, and a ``checksum`` is 16 bits as a header field holds them.
"""
# mypy: allow-untyped-calls, no-warn-return-any

from typing import TYPE_CHECKING

from wirespeed.hashes.internet import checksum_at as checksum
from wirespeed.hashes.internet import finish, fold, sum_bytes, sum_inside, update16, update32, update64
from wirespeed.jit import bswap16, bswap32, cold, inline, load16, load32, store16
from wirespeed.wire.icmp import Icmp, Icmp6
from wirespeed.wire.ipv4 import PROTOCOL_ICMP6, PROTOCOL_TCP, PROTOCOL_UDP, Ipv4
from wirespeed.wire.ipv6 import Ipv6
from wirespeed.wire.tcp import Tcp
from wirespeed.wire.udp import Udp

if TYPE_CHECKING:
    from wirespeed.wire.packet import Packet


@inline
def nonzero(value: int) -> int:
    """A checksum as UDP sends it: 0 would mean there is none, all ones are the same number (RFC 768)."""
    return value if value != 0 else 0xFFFF


# IPv4 header ---------------------------------------------------------------------------------------------


@inline
def _ipv4_header_total(ip: Ipv4) -> int:
    at = ip.address
    total = load32(at) + load32(at + 4) + load32(at + 8) + load32(at + 12) + load32(at + 16)
    return total if ip.version_ihl == 0x45 else total + _options_total(ip)


@cold
def _options_total(ip: Ipv4) -> int:
    return sum_bytes(ip.address + 20, ip.options_bytes)


@inline
def ipv4_header_checksum(ip: Ipv4) -> int:
    """What ``ip.checksum`` should be, options included; the field's present value does not count."""
    return finish(_ipv4_header_total(ip) - load16(ip.address + 10))


@inline
def ipv4_header_valid(ip: Ipv4) -> bool:
    """Whether the header checksum is right (RFC 1812 section 5.2.2): all words add up to all ones."""
    return fold(_ipv4_header_total(ip)) == 0xFFFF


# Pseudo headers ------------------------------------------------------------------------------------------


@inline
def pseudo_v4(ip: Ipv4, protocol: int, length: int) -> int:
    """Total of the IPv4 pseudo header (RFC 768, RFC 9293 section 3.1); ``length`` of the transport packet."""
    at = ip.address
    return load32(at + 12) + load32(at + 16) + bswap16(protocol) + bswap32(length)


@inline
def pseudo_v6(ip: Ipv6, protocol: int, length: int) -> int:
    """Total of the IPv6 pseudo header (RFC 8200 section 8.1); ``length`` of the transport packet."""
    at = ip.address
    source = load32(at + 8) + load32(at + 12) + load32(at + 16) + load32(at + 20)
    target = load32(at + 24) + load32(at + 28) + load32(at + 32) + load32(at + 36)
    return source + target + bswap16(protocol) + bswap32(length)


@inline
def pseudo(pkt: "Packet", protocol: int, length: int) -> int:
    """Total of the pseudo header of whichever IP version ``pkt`` is; 0 if none."""
    if pkt.ipv4:
        return pseudo_v4(Ipv4(pkt.l3), protocol, length)
    if pkt.ipv6:
        return pseudo_v6(Ipv6(pkt.l3), protocol, length)
    return 0


# Transport -----------------------------------------------------------------------------------------------


@inline
def transport_total(pkt: "Packet") -> int:
    """Total of the transport packet in this segment, with its pseudo header (ICMP in IPv4 has none).

    RFC 8200 section 8.1 names the final destination for a packet with a routing header; this takes the
    header's own destination, which is the same once the packet has arrived.
    """
    length = pkt.limit - pkt.l4
    total = sum_bytes(pkt.l4, length)
    if pkt.udp:
        total += pseudo(pkt, PROTOCOL_UDP, length)
    elif pkt.tcp:
        total += pseudo(pkt, PROTOCOL_TCP, length)
    elif pkt.icmp6:
        total += pseudo(pkt, PROTOCOL_ICMP6, length)
    return total


@inline
def udp_valid(pkt: "Packet") -> bool:
    """:func:`transport_valid` for a UDP datagram that is known to lie whole in this segment."""
    udp = Udp(pkt.l4)
    length = pkt.limit - pkt.l4
    if udp.checksum == 0:
        return pkt.ipv4.address != 0
    return fold(sum_inside(pkt.l4, length) + pseudo(pkt, PROTOCOL_UDP, length)) == 0xFFFF


@inline
def fill_transport(pkt: "Packet") -> None:
    """Set the checksum of the UDP, TCP, ICMP or ICMPv6 packet that lies whole in this segment."""
    if pkt.udp:
        udp = Udp(pkt.l4)
        udp.checksum = 0
        udp.checksum = nonzero(finish(transport_total(pkt)))
    elif pkt.tcp:
        tcp = Tcp(pkt.l4)
        tcp.checksum = 0
        tcp.checksum = finish(transport_total(pkt))
    elif pkt.icmp:
        icmp = Icmp(pkt.l4)
        icmp.checksum = 0
        icmp.checksum = finish(transport_total(pkt))
    elif pkt.icmp6:
        icmp6 = Icmp6(pkt.l4)
        icmp6.checksum = 0
        icmp6.checksum = finish(transport_total(pkt))


@inline
def transport_valid(pkt: "Packet") -> bool:
    """Whether the checksum of the UDP, TCP, ICMP or ICMPv6 packet is right.

    False when there is no such header, or when the packet goes on elsewhere (fragments, chains). A UDP
    checksum of 0 is right in IPv4 and wrong in IPv6 (RFC 8200 section 8.1).
    """
    udp = pkt.udp.address
    if udp == 0 and pkt.tcp.address == 0 and pkt.icmp.address == 0 and pkt.icmp6.address == 0:
        return False
    if udp != 0 and Udp(udp).checksum == 0:
        return pkt.ipv4.address != 0
    if pkt.l3 + pkt.ip_bytes > pkt.end or pkt.ipv4.is_fragment:
        return False
    return fold(transport_total(pkt)) == 0xFFFF


# Incremental update --------------------------------------------------------------------------------------


@inline
def decrement_ttl(ip: Ipv4) -> None:
    """Take one off the TTL, which must not be 0, and keep the header checksum right.

    RFC 1624 eqn. 3, HC' = ~(~HC + ~m + m'); TTL is the high byte of its word, so m - m' = 0x0100 and
    ~m + m' = 0xFFFF - 0x0100 = 0xFEFF. The sum is at most 0x1FEFE: one fold leaves no carry.
    """
    ip.ttl -= 1
    total = (0xFFFF - ip.checksum) + 0xFEFF
    ip.checksum = ~(total + (total >> 16))


# Checksums left to hardware ------------------------------------------------------------------------------


@inline
def complete_checksum(start: int, length: int, csum_start: int, csum_offset: int) -> int:
    """Do what a sender left to the hardware: VIRTIO 1.2 section 5.1.6.2, Linux's CHECKSUM_PARTIAL.

    The frame is ``length`` bytes at ``start``; the field at ``csum_start + csum_offset`` holds the folded
    total of the pseudo header. Sums from ``csum_start`` to the end, into the field; a result of 0 is sent as
    all ones. Returns 1, or 0 (nothing written) when the field is not inside the frame.
    """
    field = csum_start + csum_offset
    if csum_start < 0 or csum_offset < 0 or field + 2 > length:
        return 0
    total = fold(sum_bytes(start + csum_start, length - csum_start))
    store16(start + field, nonzero(~total & 0xFFFF))
    return 1


__all__ = [
    "checksum", "complete_checksum", "decrement_ttl", "fill_transport", "finish", "fold", "ipv4_header_checksum",
    "ipv4_header_valid", "nonzero", "pseudo", "pseudo_v4", "pseudo_v6", "sum_bytes", "sum_inside", "transport_total",
    "transport_valid", "udp_valid", "update16", "update32", "update64",
]  # fmt: skip

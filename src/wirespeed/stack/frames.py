"""Frames that a router itself sends, as bytes: ARP, IPv4, ICMP; and a packet cut into fragments.

A few a second, in plain Python. What is read here comes from the network: every reader checks what it reads and
gives None for what is not whole.
"""

import struct
from dataclasses import dataclass

from wirespeed.stack.refused import refused
from wirespeed.wire.arp import ARP_HTYPE_ETHERNET, ARP_REPLY, ARP_REQUEST
from wirespeed.wire.ethernet import ETHERTYPE_ARP, ETHERTYPE_IPV4, MAC_BROADCAST
from wirespeed.wire.icmp import (
    ICMP_ECHO_REPLY,
    ICMP_TIME_EXCEEDED,
    ICMP_TIME_EXCEEDED_REASSEMBLY,
    ICMP_UNREACHABLE,
    ICMP_UNREACHABLE_PROTOCOL,
)
from wirespeed.wire.ipv4 import IPV4_DONT_FRAGMENT, IPV4_FRAGMENT_OFFSET, IPV4_MORE_FRAGMENTS, PROTOCOL_ICMP

ETHERNET_BYTES = 14
DEFAULT_TTL: int = 64
"""RFC 1700, IP time to live parameter."""
QUOTED_BYTES: int = 576
"""The longest ICMP error. RFC 1812 section 4.3.2.3: as much of the original packet as fits in 576 bytes."""

_IPV4 = struct.Struct("!BBHHHBBHII")
_ARP = struct.Struct("!HHBBH6sI6sI")


@dataclass(frozen=True, slots=True)
class ArpPacket:
    """ARP for IPv4 over Ethernet, addresses as integers."""

    operation: int
    sender_mac: int
    sender: int
    target_mac: int
    target: int


@dataclass(frozen=True, slots=True)
class Ipv4Packet:
    """An IPv4 packet that is whole: ``data`` is exactly it, padding cut off.

    ``flags`` are the flags and the fragment offset together, as in the header.
    """

    data: bytes
    header_bytes: int
    tos: int
    flags: int
    ttl: int
    protocol: int
    source: int
    destination: int

    @property
    def payload(self) -> bytes:
        """What follows the header."""
        return self.data[self.header_bytes :]


def checksum(data: bytes) -> int:
    """The Internet checksum, RFC 1071."""
    if len(data) & 1:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return int(~(total + (total >> 16)) & 0xFFFF)


def ethernet(destination: int, source: int, ethertype: int, payload: bytes) -> bytes:
    """A frame of at least 60 bytes (IEEE 802.3: 64 with the checksum that the device adds)."""
    frame = destination.to_bytes(6) + source.to_bytes(6) + ethertype.to_bytes(2) + payload
    return frame.ljust(60, b"\0")


# ARP -------------------------------------------------------------------------------------------------------


def read_arp(frame: bytes) -> ArpPacket | None:
    """The ARP packet in a frame; None if it is none, or for other than IPv4 over Ethernet."""
    if len(frame) < ETHERNET_BYTES + _ARP.size or frame[12:14] != ETHERTYPE_ARP.to_bytes(2):
        return None
    fields = _ARP.unpack_from(frame, ETHERNET_BYTES)
    if fields[:4] != (ARP_HTYPE_ETHERNET, ETHERTYPE_IPV4, 6, 4):
        return None
    operation, sender_mac, sender, target_mac, target = fields[4:]
    return ArpPacket(operation, int.from_bytes(sender_mac), sender, int.from_bytes(target_mac), target)


def arp(to: int, packet: ArpPacket) -> bytes:
    """A frame with an ARP packet, to the Ethernet address ``to``."""
    body = _ARP.pack(
        ARP_HTYPE_ETHERNET, ETHERTYPE_IPV4, 6, 4, packet.operation,
        packet.sender_mac.to_bytes(6), packet.sender, packet.target_mac.to_bytes(6), packet.target,
    )  # fmt: skip
    return ethernet(to, packet.sender_mac, ETHERTYPE_ARP, body)


def arp_request(our_mac: int, ours: int, wanted: int, known_mac: int = 0) -> bytes:
    """Who has ``wanted``? To its last known address, else to all (RFC 1122 section 2.3.2.1: unicast poll)."""
    return arp(known_mac or MAC_BROADCAST, ArpPacket(ARP_REQUEST, our_mac, ours, 0, wanted))


def arp_reply(request: ArpPacket, our_mac: int) -> bytes:
    """``request.target`` is at ``our_mac``."""
    return arp(request.sender_mac, ArpPacket(ARP_REPLY, our_mac, request.target, request.sender_mac, request.sender))


# IPv4 ------------------------------------------------------------------------------------------------------


def read_ipv4(frame: bytes) -> Ipv4Packet | None:
    """The IPv4 packet in a frame without tags; None if it is none or not whole."""
    if len(frame) < ETHERNET_BYTES + _IPV4.size or frame[12:14] != ETHERTYPE_IPV4.to_bytes(2):
        return None
    return parse_ipv4(frame[ETHERNET_BYTES:])


def parse_ipv4(data: bytes) -> Ipv4Packet | None:
    """An IPv4 packet from its first byte on; None if it is not whole."""
    if len(data) < _IPV4.size:
        return None
    first, tos, total, _, flags, ttl, protocol, _, source, destination = _IPV4.unpack_from(data)
    header = (first & 15) * 4
    if first >> 4 != 4 or header < 20 or not header <= total <= len(data):
        return None
    return Ipv4Packet(data[:total], header, tos, flags, ttl, protocol, source, destination)


def ipv4(source: int, destination: int, protocol: int, payload: bytes, tos: int = 0, identification: int = 0) -> bytes:
    """An IPv4 packet of our own."""
    header = _IPV4.pack(
        0x45, tos, 20 + len(payload), identification & 0xFFFF, 0, DEFAULT_TTL, protocol, 0, source, destination
    )
    return _with_checksum(header) + payload


def with_ttl(packet: Ipv4Packet, ttl: int) -> bytes:
    """The packet with another time to live."""
    header = bytearray(packet.data[: packet.header_bytes])
    header[8] = ttl
    return _with_checksum(bytes(header)) + packet.payload


def _with_checksum(header: bytes) -> bytes:
    bare = header[:10] + b"\0\0" + header[12:]
    return bare[:10] + checksum(bare).to_bytes(2) + bare[12:]


def fragments(packet: Ipv4Packet, mtu: int) -> list[bytes]:
    """The packet in pieces of at most ``mtu`` bytes (RFC 791 section 3.2); empty if it must not or cannot be cut."""
    if len(packet.data) <= mtu:
        return [packet.data]
    room = (mtu - packet.header_bytes) & ~7
    if packet.flags & IPV4_DONT_FRAGMENT or room < 8:
        return []
    payload, pieces = packet.payload, []
    for at in range(0, len(payload), room):
        part = payload[at : at + room]
        more = at + room < len(payload) or packet.flags & IPV4_MORE_FRAGMENTS
        offset = (packet.flags & IPV4_FRAGMENT_OFFSET) + at // 8
        own = packet.data[:20] + (_copied_options(packet) if at else packet.data[20 : packet.header_bytes])
        header = bytearray(own)
        header[0] = 0x40 | len(header) // 4
        struct.pack_into("!H", header, 2, len(header) + len(part))
        struct.pack_into("!H", header, 6, offset | (IPV4_MORE_FRAGMENTS if more else 0))
        pieces.append(_with_checksum(bytes(header)) + part)
    return pieces


def fragments_of_own(packet: Ipv4Packet, mtu: int, identification: int) -> list[bytes]:
    """A packet that we made in pieces: "don't fragment" is said of those that fit, and only whole ones may do without
    an identification (RFC 6864 section 4)."""
    header = bytearray(packet.data[: packet.header_bytes])
    struct.pack_into("!HH", header, 4, identification, packet.flags & ~IPV4_DONT_FRAGMENT)
    whole = parse_ipv4(_with_checksum(bytes(header)) + packet.payload)
    return fragments(whole, mtu) if whole is not None else []


def _copied_options(packet: Ipv4Packet) -> bytes:
    """Options that every fragment carries: those with the copied flag, padded to whole words (RFC 791 3.1)."""
    options, kept, at = packet.data[20 : packet.header_bytes], b"", 0
    while at < len(options) and options[at] != 0:
        size = 1 if options[at] == 1 else options[at + 1] if at + 1 < len(options) else 0
        if size < 1 or at + size > len(options) or (options[at] != 1 and size < 2):
            break
        if options[at] & 0x80:
            kept += options[at : at + size]
        at += size
    return kept.ljust(-(-len(kept) // 4) * 4, b"\0")


# ICMP ------------------------------------------------------------------------------------------------------


def icmp(kind: int, code: int, rest: int, payload: bytes) -> bytes:
    """An ICMP message, RFC 792."""
    bare = struct.pack("!BBHI", kind, code, 0, rest) + payload
    return bare[:2] + checksum(bare).to_bytes(2) + bare[4:]


def echo_reply(request: Ipv4Packet) -> bytes:
    """The packet that answers an echo request: same addresses the other way round, same data (RFC 1812 4.3.3.6)."""
    body = request.payload
    message = icmp(ICMP_ECHO_REPLY, 0, int.from_bytes(body[4:8]), body[8:])
    return ipv4(request.destination, request.source, PROTOCOL_ICMP, message, request.tos)


def problem(packet: Ipv4Packet) -> tuple[int, int, int]:
    """What is to be said of a packet to us that nobody here takes: ICMP type, code and pointer, as 32 bits.

    RFC 1122 section 3.2.2.5: an option that is malformed, and where; section 3.3.5: a route through us. Section 3.3.2:
    a fragment whose datagram never came together. Section 3.2.2.1: a transport that we do not have.
    """
    found = refused(packet.data)
    if found is not None:
        return found[0], found[1], found[2] << 24  # the pointer is the first of four bytes
    if packet.flags & (IPV4_MORE_FRAGMENTS | IPV4_FRAGMENT_OFFSET):
        return ICMP_TIME_EXCEEDED, ICMP_TIME_EXCEEDED_REASSEMBLY, 0
    return ICMP_UNREACHABLE, ICMP_UNREACHABLE_PROTOCOL, 0


def icmp_error(source: int, kind: int, code: int, rest: int, about: Ipv4Packet) -> bytes:
    """The packet that tells the sender of ``about`` what became of it.

    RFC 1812 section 4.3.2.5: precedence 6 (internetwork control), as answers of routers have.
    """
    quoted = about.data[: QUOTED_BYTES - 28]
    return ipv4(source, about.source, PROTOCOL_ICMP, icmp(kind, code, rest, quoted), tos=0xC0)


__all__ = [
    "ETHERNET_BYTES", "ArpPacket", "Ipv4Packet", "arp", "arp_reply", "arp_request", "checksum", "echo_reply",
    "ethernet", "fragments", "fragments_of_own", "icmp", "icmp_error", "ipv4", "parse_ipv4", "problem", "read_arp",
    "read_ipv4", "with_ttl",
]  # fmt: skip

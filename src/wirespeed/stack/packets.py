"""Whole packets that a host's control protocols send, as bytes: IPv4, IPv6, UDP, ICMPv6, router alerts.

A few a minute, in plain Python; addresses are those of :mod:`ipaddress`. What carries data is built by compiled code,
not here. Every protocol of this folder that is a state machine answers with a list of outputs: :class:`SendPacket`
for the wire, and events of its own.
"""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from wirespeed.hashes.internet import checksum
from wirespeed.wire.ipv4 import PROTOCOL_HOP_BY_HOP, PROTOCOL_ICMP6, PROTOCOL_UDP

ANY4 = IPv4Address("0.0.0.0")
BROADCAST4 = IPv4Address("255.255.255.255")
ANY6 = IPv6Address("::")
ALL_NODES6 = IPv6Address("ff02::1")
ALL_ROUTERS6 = IPv6Address("ff02::2")

ROUTER_ALERT4: bytes = bytes.fromhex("94040000")
"""The IPv4 option by which every router looks into the packet, RFC 2113."""
ROUTER_ALERT6_MLD: bytes = bytes.fromhex("050200000100")
"""The hop-by-hop option of MLD, RFC 2711, and a PadN of two bytes that makes the header eight."""
INTERNETWORK_CONTROL: int = 0xC0
"""Type of service of membership reports: RFC 3376 section 4, RFC 3810 section 5 leaves it to us."""

_IPV4 = struct.Struct("!BBHHHBBH4s4s")
_IPV6 = struct.Struct("!IHBB16s16s")


@dataclass(frozen=True, slots=True)
class SendPacket:
    """A whole IP packet for the wire; its destination says whether to all, to a group or to a neighbour."""

    packet: bytes


def ipv4(
    source: IPv4Address,
    destination: IPv4Address,
    protocol: int,
    payload: bytes,
    ttl: int = 64,
    tos: int = 0,
    options: bytes = b"",
) -> bytes:
    """An IPv4 packet that fits one frame: never cut, so its identification is 0 (RFC 6864 section 4.1).

    Args:
        options: whole, padded to four bytes.
    """
    header_bytes = 20 + len(options)
    bare = _IPV4.pack(
        0x40 | header_bytes // 4, tos, header_bytes + len(payload), 0, 0x4000, ttl, protocol, 0,
        source.packed, destination.packed,
    ) + options  # fmt: skip
    return bare[:10] + checksum(bare).to_bytes(2) + bare[12:] + payload


def ipv6(
    source: IPv6Address,
    destination: IPv6Address,
    protocol: int,
    payload: bytes,
    hop_limit: int = 64,
    hop_by_hop: bytes = b"",
) -> bytes:
    """An IPv6 packet.

    Args:
        hop_by_hop: options of such a header; their length is 6 more than a multiple of 8 (RFC 8200 section 4.3).
    """
    if hop_by_hop:
        payload = bytes((protocol, (len(hop_by_hop) + 2) // 8 - 1)) + hop_by_hop + payload
        protocol = PROTOCOL_HOP_BY_HOP
    header = _IPV6.pack(6 << 28, len(payload), protocol, hop_limit, source.packed, destination.packed)
    return header + payload


def udp4(source: tuple[IPv4Address, int], destination: tuple[IPv4Address, int], payload: bytes) -> bytes:
    """An IPv4 packet with a UDP datagram (RFC 768); each end is (address, port)."""
    length = 8 + len(payload)
    pseudo = source[0].packed + destination[0].packed + struct.pack("!HH", PROTOCOL_UDP, length)
    ports = struct.pack("!HHH", source[1], destination[1], length)
    total = checksum(pseudo + ports + b"\0\0" + payload) or 0xFFFF  # 0 would say that there is none
    return ipv4(source[0], destination[0], PROTOCOL_UDP, ports + total.to_bytes(2) + payload)


def udp6(source: tuple[IPv6Address, int], destination: tuple[IPv6Address, int], payload: bytes) -> bytes:
    """The same over IPv6 (RFC 8200 section 8.1)."""
    length = 8 + len(payload)
    pseudo = source[0].packed + destination[0].packed + struct.pack("!II", length, PROTOCOL_UDP)
    ports = struct.pack("!HHH", source[1], destination[1], length)
    total = checksum(pseudo + ports + b"\0\0" + payload) or 0xFFFF
    return ipv6(source[0], destination[0], PROTOCOL_UDP, ports + total.to_bytes(2) + payload)


def icmp6(source: IPv6Address, destination: IPv6Address, kind: int, code: int, body: bytes) -> bytes:
    """An ICMPv6 message (not the packet): type, code, the checksum of RFC 4443 section 2.3, and ``body``."""
    pseudo = source.packed + destination.packed + struct.pack("!II", 4 + len(body), PROTOCOL_ICMP6)
    bare = bytes((kind, code, 0, 0)) + body
    return bare[:2] + checksum(pseudo + bare).to_bytes(2) + bare[4:]


def solicited_node(address: IPv6Address) -> IPv6Address:
    """The group that every owner of ``address`` hears, RFC 4291 section 2.7.1."""
    return IPv6Address(bytes.fromhex("ff0200000000000000000001ff") + address.packed[13:])


__all__ = [
    "ALL_NODES6", "ALL_ROUTERS6", "ANY4", "ANY6", "BROADCAST4", "INTERNETWORK_CONTROL", "ROUTER_ALERT4",
    "ROUTER_ALERT6_MLD", "SendPacket", "icmp6", "ipv4", "ipv6", "solicited_node", "udp4",
    "udp6",
]  # fmt: skip

"""Packets that a host itself sends, as bytes: IPv6, ICMPv6 and neighbour discovery (RFC 8200, 4443, 4861).

As in :mod:`wirespeed.stack.frames`: a few a second, in plain Python, and every reader gives None for what is not whole.
"""

import struct
from dataclasses import dataclass

from wirespeed.stack.frames import DEFAULT_TTL, checksum
from wirespeed.stack.refused import refused
from wirespeed.wire.icmp import (
    ICMP6_NEIGHBOUR_ADVERTISEMENT,
    ICMP6_NEIGHBOUR_SOLICITATION,
    ICMP6_PARAMETER_PROBLEM,
    ICMP6_TIME_EXCEEDED,
    ICMP6_TIME_EXCEEDED_REASSEMBLY,
)
from wirespeed.wire.ipv4 import (
    PROTOCOL_DESTINATION,
    PROTOCOL_FRAGMENT,
    PROTOCOL_HOP_BY_HOP,
    PROTOCOL_ICMP6,
    PROTOCOL_NONE,
    PROTOCOL_ROUTING,
)

QUOTED_BYTES6: int = 1280
"""The longest ICMPv6 error: the least MTU there is (RFC 4443 section 2.4 (c))."""
ND_HOPS: int = 255
"""Of neighbour discovery: who is further away cannot send it (RFC 4861 section 3.1)."""

_IPV6 = struct.Struct("!IHBB16s16s")
_OPTION_SOURCE, _OPTION_TARGET = 1, 2
_OPTION_ALERT = 5
_HEADERS_MAX = 8
_NEXT_HEADER = 6  # where that field is
_UNKNOWN_HEADER = 1  # code of a parameter problem
_ROUTER, _SOLICITED, _OVERRIDE = 0x80, 0x40, 0x20


@dataclass(frozen=True, slots=True)
class Ipv6Packet:
    """An IPv6 packet that is whole and has no extension headers; addresses are integers."""

    data: bytes
    hop_limit: int
    protocol: int
    source: int
    destination: int

    @property
    def payload(self) -> bytes:
        """What follows the header."""
        return self.data[40:]


@dataclass(frozen=True, slots=True)
class Discovery:
    """A neighbour solicitation or advertisement that is valid. ``mac`` is 0 where the option is missing."""

    kind: int
    target: int
    mac: int
    solicited: bool
    override: bool


def parse_ipv6(data: bytes) -> Ipv6Packet | None:
    """An IPv6 packet from its first byte on; None if it is not whole."""
    if len(data) < _IPV6.size or data[0] >> 4 != 6:
        return None
    _, length, protocol, hops, source, destination = _IPV6.unpack_from(data)
    if 40 + length > len(data):
        return None
    return Ipv6Packet(data[: 40 + length], hops, protocol, int.from_bytes(source), int.from_bytes(destination))


def upper_layer(packet: Ipv6Packet) -> tuple[int, bytes, bool]:
    """What lies behind options for every router and for the destination (RFC 8200 section 4): protocol, bytes, and
    whether a router alert is among the former. Protocol -1: headers that are not whole, or not these."""
    protocol, at, alert = packet.protocol, 40, False
    for _ in range(_HEADERS_MAX):
        if protocol not in (PROTOCOL_HOP_BY_HOP, PROTOCOL_DESTINATION):
            return protocol, packet.data[at:], alert
        size = (packet.data[at + 1] + 1) * 8 if at + 8 <= len(packet.data) else len(packet.data)
        if at + size > len(packet.data):
            break
        alert |= protocol == PROTOCOL_HOP_BY_HOP and _has_alert(packet.data[at + 2 : at + size])
        protocol, at = packet.data[at], at + size
    return -1, b"", False


def _has_alert(options: bytes) -> bool:
    """RFC 2711."""
    at = 0
    while at < len(options):
        if options[at] == _OPTION_ALERT:
            return True
        at += 1 if options[at] == 0 else 2 + (options[at + 1] if at + 1 < len(options) else 0)
    return False


def ipv6(source: int, destination: int, protocol: int, payload: bytes, hops: int = DEFAULT_TTL) -> bytes:
    """An IPv6 packet of our own."""
    header = _IPV6.pack(6 << 28, len(payload), protocol, hops, source.to_bytes(16), destination.to_bytes(16))
    return header + payload


def fragments(packet: Ipv6Packet, mtu: int, identification: int) -> list[bytes]:
    """A packet of our own, without extension headers, in pieces of at most ``mtu`` bytes (RFC 8200 section 4.5)."""
    room, payload, pieces = (mtu - 48) & ~7, packet.payload, []
    for at in range(0, len(payload), room):
        part = payload[at : at + room]
        more = at + room < len(payload)
        header = struct.pack("!BBHI", packet.protocol, 0, at | more, identification)
        pieces.append(ipv6(packet.source, packet.destination, PROTOCOL_FRAGMENT, header + part, packet.hop_limit))
    return pieces


def problem(packet: Ipv6Packet) -> tuple[int, int, int]:
    """What is to be said of a packet whose headers lead to nothing we know: ICMPv6 type, code and pointer.

    RFC 8200 section 4: a header that is unknown, an option whose type says that its sender wants to know. Section
    4.5: a first fragment whose datagram never came together. A type of -1: nothing.
    """
    found = refused(packet.data)
    if found is not None:
        return found
    kind, at, says = packet.protocol, 40, _NEXT_HEADER
    for _ in range(_HEADERS_MAX):
        if kind == PROTOCOL_NONE:
            return -1, 0, 0
        if kind == PROTOCOL_FRAGMENT:
            first = at + 8 <= len(packet.data) and int.from_bytes(packet.data[at + 2 : at + 4]) >> 3 == 0
            return (ICMP6_TIME_EXCEEDED if first else -1), ICMP6_TIME_EXCEEDED_REASSEMBLY, 0
        if kind not in (PROTOCOL_HOP_BY_HOP, PROTOCOL_DESTINATION, PROTOCOL_ROUTING) or at + 8 > len(packet.data):
            break
        kind, says, at = packet.data[at], at, at + (packet.data[at + 1] + 1) * 8
    return ICMP6_PARAMETER_PROBLEM, _UNKNOWN_HEADER, says


def pseudo_checksum(source: int, destination: int, protocol: int, payload: bytes) -> int:
    """The checksum of a transport packet with its pseudo header (RFC 8200 section 8.1); 0 over one that is sound."""
    head = source.to_bytes(16) + destination.to_bytes(16) + struct.pack("!II", len(payload), protocol)
    return checksum(head + payload)


def icmp6(source: int, destination: int, kind: int, code: int, body: bytes, hops: int = DEFAULT_TTL) -> bytes:
    """An IPv6 packet with an ICMPv6 message; ``body`` is what follows the checksum."""
    bare = bytes((kind, code, 0, 0)) + body
    found = pseudo_checksum(source, destination, PROTOCOL_ICMP6, bare)
    return ipv6(source, destination, PROTOCOL_ICMP6, bare[:2] + found.to_bytes(2) + bare[4:], hops)


def icmp6_error(source: int, kind: int, code: int, rest: int, about: Ipv6Packet) -> bytes:
    """The packet that tells the sender of ``about`` what became of it."""
    body = rest.to_bytes(4) + about.data[: QUOTED_BYTES6 - 48]
    return icmp6(source, about.source, kind, code, body)


def solicitation(source: int, destination: int, target: int, our_mac: int) -> bytes:
    """Who has ``target``? RFC 4861 section 4.3; a source of 0 asks whether anybody has it (RFC 4862)."""
    option = bytes((_OPTION_SOURCE, 1)) + our_mac.to_bytes(6) if source else b""
    body = bytes(4) + target.to_bytes(16) + option
    return icmp6(source, destination, ICMP6_NEIGHBOUR_SOLICITATION, 0, body, ND_HOPS)


def advertisement(source: int, destination: int, target: int, our_mac: int, solicited: bool) -> bytes:
    """``target`` is at ``our_mac``: RFC 4861 section 4.4."""
    flags = _OVERRIDE | (_SOLICITED if solicited else 0)
    body = bytes((flags, 0, 0, 0)) + target.to_bytes(16) + bytes((_OPTION_TARGET, 1)) + our_mac.to_bytes(6)
    return icmp6(source, destination, ICMP6_NEIGHBOUR_ADVERTISEMENT, 0, body, ND_HOPS)


def read_discovery(packet: Ipv6Packet) -> Discovery | None:
    """What a packet says, if it passes the checks of RFC 4861 sections 7.1.1 and 7.1.2; else None."""
    body = packet.payload
    if packet.protocol != PROTOCOL_ICMP6 or packet.hop_limit != ND_HOPS or len(body) < 24 or body[1] != 0:
        return None
    kind = body[0]
    if kind not in (ICMP6_NEIGHBOUR_SOLICITATION, ICMP6_NEIGHBOUR_ADVERTISEMENT):
        return None
    if pseudo_checksum(packet.source, packet.destination, PROTOCOL_ICMP6, body) != 0:
        return None
    target = int.from_bytes(body[8:24])
    wanted = _OPTION_SOURCE if kind == ICMP6_NEIGHBOUR_SOLICITATION else _OPTION_TARGET
    mac, at = 0, 24
    while at < len(body):
        size = body[at + 1] * 8 if at + 2 <= len(body) else 0
        if size == 0 or at + size > len(body):
            return None
        if body[at] == wanted and size == 8:
            mac = int.from_bytes(body[at + 2 : at + 8])
        at += size
    if target >> 120 == 0xFF or (kind == ICMP6_NEIGHBOUR_SOLICITATION and packet.source == 0 and mac):
        return None
    flags = body[4] if kind == ICMP6_NEIGHBOUR_ADVERTISEMENT else 0
    if flags & _SOLICITED and packet.destination >> 120 == 0xFF:
        return None
    return Discovery(kind, target, mac, bool(flags & _SOLICITED), bool(flags & _OVERRIDE))


__all__ = [
    "Discovery", "Ipv6Packet", "advertisement", "fragments", "icmp6", "icmp6_error", "ipv6", "parse_ipv6", "problem",
    "pseudo_checksum",    "read_discovery", "solicitation", "upper_layer",
]  # fmt: skip

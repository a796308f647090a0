"""What the frames of a stream have in common: their first bytes, and where the headers in them are.

A shape is made from options (:func:`make_shape`: Ethernet, a tag, IP, UDP, TCP or ICMP echo) or found in a packet
that somebody wrote with scapy, with header declarations, or took from a capture (:func:`find_shape`). Of what is
found, the outermost IP header and what it carries have their lengths and checksums kept right; what is behind, a
tunnel's inside for instance, is bytes.

References: RFC 791, 8200, 768, 9293, 792, 4443; IEEE 802.3, 802.1Q.
"""

from dataclasses import dataclass

from wirespeed.ports.stamp import STAMP
from wirespeed.wire.ethernet import (
    ETHERTYPE_IPV4,
    ETHERTYPE_IPV6,
    ETHERTYPE_QINQ,
    ETHERTYPE_QINQ_OLD,
    ETHERTYPE_VLAN,
)
from wirespeed.wire.ipv4 import IPV4_FRAGMENT_OFFSET, PROTOCOL_ICMP, PROTOCOL_ICMP6, PROTOCOL_TCP, PROTOCOL_UDP

PROTOCOLS = {"udp": PROTOCOL_UDP, "tcp": PROTOCOL_TCP, "icmp": PROTOCOL_ICMP}
_SUM_AT = {PROTOCOL_UDP: 6, PROTOCOL_TCP: 16, PROTOCOL_ICMP: 2, PROTOCOL_ICMP6: 2}
_PORTS_AT = {PROTOCOL_UDP: 0, PROTOCOL_TCP: 0, PROTOCOL_ICMP: 4, PROTOCOL_ICMP6: 4}
_TRANSPORT = {PROTOCOL_UDP: 8, PROTOCOL_TCP: 20, PROTOCOL_ICMP: 8, PROTOCOL_ICMP6: 8}
_TAGS = (ETHERTYPE_VLAN, ETHERTYPE_QINQ, ETHERTYPE_QINQ_OLD)


@dataclass(frozen=True)
class Shape:
    """Where things are in a frame. Offsets are from its start; 0 where there is no such thing."""

    base: bytes
    """The first bytes of every frame; as many, that what follows begins on an even offset."""
    stamp: int = 0
    """Offset of the stamp."""
    network: int = 0
    """Offset of the IP header."""
    version: int = 0
    """4 or 6."""
    network_bytes: int = 0
    """Bytes of the IP header."""
    transport: int = 0
    """Offset of the transport header."""
    protocol: int = 0
    """Of the transport, when it is one that has ports or a sum."""
    sum: int = 0
    """Offset of the transport checksum; 0 when the packet says it has none."""

    @property
    def stamp_end(self) -> int:
        """Offset behind the stamp."""
        return self.stamp + STAMP if self.stamp else 0

    @property
    def head(self) -> int:
        """Bytes that are not payload: a frame has them at least."""
        return max(len(self.base), self.stamp_end)

    @property
    def source(self) -> int:
        """Offset of the source address; the destination follows."""
        return self.network + (12 if self.version == 4 else 8)

    @property
    def address_size(self) -> int:
        """Bytes of an address."""
        return 4 if self.version == 4 else 16

    @property
    def destination(self) -> int:
        """Offset of the destination address."""
        return self.source + self.address_size

    @property
    def ports(self) -> int:
        """Offset of the two ports; of identifier and sequence number for ICMP."""
        return self.transport + _PORTS_AT.get(self.protocol, 0)

    @property
    def is_udp(self) -> bool:
        """Whether it carries UDP: a length, and a checksum that is never sent as zero."""
        return self.protocol == PROTOCOL_UDP

    @property
    def covers_addresses(self) -> bool:
        """Whether the transport checksum has a pseudo-header; ICMP's has one over IPv6 only (RFC 4443)."""
        return self.version == 6 or self.protocol != PROTOCOL_ICMP


def make_shape(version: int, proto: str, macs: bytes, vlan: int = -1, stamped: bool = False) -> Shape:
    """Headers of an IP packet, with zeros where flows differ.

    Args:
        version: 4 or 6.
        proto: ``udp``, ``tcp`` or ``icmp`` (an echo request).
        macs: destination and source, twelve bytes.
        vlan: identifier of a tag; negative: none.
        stamped: a stamp follows the headers.
    """
    protocol = PROTOCOL_ICMP6 if (version, proto) == (6, "icmp") else PROTOCOLS[proto]
    ethertype = (ETHERTYPE_IPV4 if version == 4 else ETHERTYPE_IPV6).to_bytes(2, "big")
    tag = b"" if vlan < 0 else b"\x81\0" + vlan.to_bytes(2, "big")
    if version == 4:  # 20 bytes of header; don't fragment; TTL 64
        network = bytes.fromhex("4500 0000 0000 4000 40") + bytes([protocol]) + bytes(10)
    else:  # hop limit 64
        network = bytes.fromhex("60000000 0000") + bytes([protocol, 64]) + bytes(32)
    transport = bytearray(_TRANSPORT[protocol])
    if proto == "tcp":
        transport[12:16] = bytes.fromhex("5010 ffff")  # 20 bytes of header, ACK, window 65535
    elif proto == "icmp":
        transport[0] = 8 if version == 4 else 128  # echo request
    at = 14 + len(tag)
    base = macs + tag + ethertype + network + bytes(transport)
    where = at + len(network)
    return Shape(
        base, len(base) if stamped else 0, at, version, len(network), where, protocol, where + _SUM_AT[protocol]
    )


def find_shape(packet: bytes, stamped: bool = False, stamp_at: int | None = None) -> Shape:
    """The headers that a packet has; what it does not have is 0. Never fails: anything is bytes.

    Args:
        packet: from the Ethernet header on.
        stamped: it gets a stamp, behind the packet's own bytes or at ``stamp_at``.
        stamp_at: offset of the stamp in the packet; negative: from its end. The packet's bytes there should be zero
            if checksums beyond the outermost cover them.
    """
    at, kind = 12, int.from_bytes(packet[12:14], "big")
    while kind in _TAGS and len(packet) >= at + 6:
        at += 4
        kind = int.from_bytes(packet[at : at + 2], "big")
    network = at + 2
    version, network_bytes, protocol = _find_network(packet, network, kind)
    transport = network + network_bytes if version else 0
    sum_at = 0
    if protocol in _SUM_AT and len(packet) >= transport + _TRANSPORT[protocol]:
        sum_at = transport + _SUM_AT[protocol]
        if (
            protocol == PROTOCOL_UDP
            and packet[sum_at : sum_at + 2] == b"\0\0"
            and packet[transport + 4 :][:2] != b"\0\0"
        ):
            sum_at = 0  # whoever wrote it wants none; scapy's and ours have it filled in
    else:
        protocol = 0
    if (len(packet) - transport) & 1:  # sums are of 16-bit words
        packet += bytes([len(packet) & 0xFF])
    stamp = 0
    if stamped:
        stamp = len(packet) if stamp_at is None else stamp_at if stamp_at >= 0 else len(packet) + stamp_at
    if not version:
        return Shape(packet, stamp)
    return Shape(packet, stamp, network, version, network_bytes, transport, protocol, sum_at)


def _find_network(packet: bytes, at: int, kind: int) -> tuple[int, int, int]:
    """(version, bytes of header, protocol) of an IP header; protocol 0 in a fragment."""
    if kind == ETHERTYPE_IPV4 and len(packet) >= at + 20 and packet[at] >> 4 == 4:
        size = (packet[at] & 15) * 4
        later = int.from_bytes(packet[at + 6 : at + 8], "big") & IPV4_FRAGMENT_OFFSET
        if 20 <= size <= len(packet) - at:
            return 4, size, 0 if later else packet[at + 9]
    elif kind == ETHERTYPE_IPV6 and len(packet) >= at + 40:
        return 6, 40, packet[at + 6]
    return 0, 0, 0

"""What a rule asks of a packet: header fields, as values, and the text they are written in.

::

    udp/53              UDP to port 53              sport/1024-65535    from such a port
    tcp                 any TCP                     from/10.0.0.0/8     the source address
    vlan/7              the outer tag's VLAN        to/2001:db8::/32    the destination address
    ether/0x88b5        an EtherType                teid/42, vni/7      in a GTP-U, in a VXLAN packet
    arp, ip, ip6, icmp, icmp6, sctp                 proto/47            any other protocol of IP

Terms are joined by ``&``; every one must hold: ``udp/53&from/10.0.0.0/8``. Alternatives are joined by ``|``.

What all who carry rules out must agree on, and :func:`matches` is the reference of:

- Up to two VLAN tags stand before the EtherType; ``vlan`` is the first.
- Ports, TEID and VNI are those of a packet that is no fragment, or the first one; of IPv6, only where the transport
  header follows the fixed header at once. A packet without a field does not match a rule that asks for it.

References: IEEE 802.1Q, RFC 791, 8200, 768, 9293, 7348 (VXLAN), 3GPP TS 29.281 (GTP-U).
"""

import dataclasses
import ipaddress
from dataclasses import dataclass
from typing import Any

from wirespeed.errors import PortError
from wirespeed.ports.options import nearest

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

IPV4, IPV6, ARP = 0x0800, 0x86DD, 0x0806
TAGS: tuple[int, ...] = (0x8100, 0x88A8)
"""EtherTypes of VLAN tags."""
TCP, UDP, SCTP = 6, 17, 132
GTP_PORT, VXLAN_PORT = 2152, 4789
G_PDU: int = 255
"""GTP-U's message that carries a user's packet."""

_PROTOCOLS = {"tcp": TCP, "udp": UDP, "sctp": SCTP, "icmp": 1, "icmp6": 58}
_ETHERTYPES = {"arp": ARP, "ip": IPV4, "ip6": IPV6}
_NUMBERS = {"vlan": 4095, "ether": 0xFFFF, "proto": 255, "teid": 0xFFFF_FFFF, "vni": 0xFF_FFFF}
_WORDS = [*_PROTOCOLS, *_ETHERTYPES, *_NUMBERS, "sport", "dport", "from", "to"]


@dataclass(frozen=True)
class Match:
    """What a packet must have; None is anything. Port ranges include both ends."""

    ethertype: int | None = None
    vlan: int | None = None
    source: Network | None = None
    destination: Network | None = None
    protocol: int | None = None
    sport: tuple[int, int] | None = None
    dport: tuple[int, int] | None = None
    teid: int | None = None
    vni: int | None = None

    def __post_init__(self) -> None:
        if self.source and self.destination and self.source.version != self.destination.version:
            raise PortError(f"no packet is from {self.source} and to {self.destination}: one is IPv4, the other IPv6")
        for low, high in filter(None, (self.sport, self.dport)):
            if not 0 <= low <= high <= 0xFFFF:
                raise PortError(f"ports {low}-{high} must be 0 to 65535, the lower one first")

    @property
    def versions(self) -> tuple[int, ...]:
        """EtherTypes of IP that it can match: of packets whose addresses, protocol or ports it asks for."""
        network = self.source or self.destination
        both = (IPV4 if network.version == 4 else IPV6,) if network else (IPV4, IPV6)
        return tuple(each for each in both if self.ethertype in (None, each))

    @property
    def wants_ip(self) -> bool:
        """Whether it asks for anything behind the EtherType."""
        asked = (self.source, self.destination, self.protocol)
        return any(each is not None for each in asked) or self.wants_transport

    @property
    def wants_transport(self) -> bool:
        """Whether it asks for anything behind the IP header."""
        return any(each is not None for each in (self.sport, self.dport, self.teid, self.vni))

    def __str__(self) -> str:
        named = {number: name for name, number in _PROTOCOLS.items()}
        terms = []
        if self.ethertype is not None:
            words = [name for name, number in _ETHERTYPES.items() if number == self.ethertype]
            terms.append(words[0] if words else f"ether/{self.ethertype:#06x}")
        terms += [f"vlan/{self.vlan}"] if self.vlan is not None else []
        terms += [f"from/{self.source}"] if self.source else []
        terms += [f"to/{self.destination}"] if self.destination else []
        if self.protocol is not None:
            terms.append(named.get(self.protocol, f"proto/{self.protocol}"))
        for word, ports in (("sport", self.sport), ("dport", self.dport)):
            terms += [f"{word}/{_range(ports)}"] if ports else []
        terms += [f"teid/{self.teid}"] if self.teid is not None else []
        terms += [f"vni/{self.vni}"] if self.vni is not None else []
        return "&".join(terms) or "any"


def parse_matches(text: str) -> tuple[Match, ...]:
    """Alternatives, joined by ``|``; see :func:`parse_match`."""
    return tuple(parse_match(part) for part in text.split("|"))


def parse_match(text: str) -> Match:
    """Read what :class:`Match` writes; ``any`` asks for nothing.

    Raises:
        PortError: a word nobody knows (with the nearest), a value that is not one, or one thing asked for twice.
    """
    match = Match()
    for term in (part.strip() for part in text.split("&")):
        word, _, value = term.partition("/")
        if term == "any":
            continue
        for field, found in _read(text, word, value).items():
            if getattr(match, field) not in (None, found):
                raise PortError(f"match {text!r} asks for two kinds of {field}: join alternatives by |")
            match = dataclasses.replace(match, **{field: found})
    return match


def _read(text: str, word: str, value: str) -> dict[str, Any]:
    """The fields that a term sets."""
    try:
        if word in _PROTOCOLS:
            return {"protocol": _PROTOCOLS[word]} | ({"dport": _ports(value)} if value else {})
        if word in _ETHERTYPES and not value:
            return {"ethertype": _ETHERTYPES[word]}
        if word in _NUMBERS:
            return _number(word, int(value, 0))
        if word in ("sport", "dport"):
            return {word: _ports(value)}
        if word in ("from", "to"):
            return {"source" if word == "from" else "destination": ipaddress.ip_network(value)}
    except ValueError as error:
        raise PortError(f"match {text!r}: {word}/{value}: {error}") from None
    raise PortError(f"match {text!r}: there is no {word!r}; {nearest(word, _WORDS)}")


def _number(word: str, number: int) -> dict[str, Any]:
    most = _NUMBERS[word]
    if not 0 <= number <= most:
        raise ValueError(f"must be 0 to {most}")
    if word in ("teid", "vni"):
        port = GTP_PORT if word == "teid" else VXLAN_PORT
        return {word: number, "protocol": UDP, "dport": (port, port)}
    return {{"ether": "ethertype", "proto": "protocol"}.get(word, word): number}


def _ports(text: str) -> tuple[int, int]:
    low, dash, high = text.partition("-")
    ports = (int(low), int(high if dash else low))
    if not 0 <= ports[0] <= ports[1] <= 0xFFFF:
        raise ValueError("must be ports, 0 to 65535, the lower one first")
    return ports


def _range(ports: tuple[int, int]) -> str:
    return str(ports[0]) if ports[0] == ports[1] else f"{ports[0]}-{ports[1]}"


def matches(match: Match, frame: bytes) -> bool:
    """Whether a frame has what ``match`` asks for: the reference, in plain Python."""
    at, vlan = 12, None
    for _ in range(2):
        if _be(frame, at, 2) in TAGS and len(frame) >= at + 6:
            vlan = _be(frame, at + 2, 2) & 0xFFF if vlan is None else vlan
            at += 4
    ethertype = _be(frame, at, 2)
    if len(frame) < at + 2 or match.ethertype not in (None, ethertype) or match.vlan not in (None, vlan):
        return False
    if not match.wants_ip:
        return True
    packet = frame[at + 2 :]
    return ethertype in match.versions and (_matches4 if ethertype == IPV4 else _matches6)(match, packet)


def _matches4(match: Match, packet: bytes) -> bool:
    header = (packet[0] & 15) * 4 if packet else 0
    if header < 20 or len(packet) < header or packet[0] >> 4 != 4:
        return False
    if not _addresses(match, packet[12:16], packet[16:20]) or match.protocol not in (None, packet[9]):
        return False
    later = _be(packet, 6, 2) & 0x1FFF != 0
    return not match.wants_transport or (not later and _transport(match, packet[9], packet[header:]))


def _matches6(match: Match, packet: bytes) -> bool:
    if len(packet) < 40 or packet[0] >> 4 != 6:
        return False
    if not _addresses(match, packet[8:24], packet[24:40]) or match.protocol not in (None, packet[6]):
        return False
    return not match.wants_transport or _transport(match, packet[6], packet[40:])


def _addresses(match: Match, source: bytes, destination: bytes) -> bool:
    wanted = ((match.source, source), (match.destination, destination))
    return all(network is None or ipaddress.ip_address(octets) in network for network, octets in wanted)


def _transport(match: Match, protocol: int, segment: bytes) -> bool:
    if protocol not in (TCP, UDP, SCTP) or len(segment) < 4:
        return False
    for ports, at in ((match.sport, 0), (match.dport, 2)):
        if ports is not None and not ports[0] <= _be(segment, at, 2) <= ports[1]:
            return False
    if match.teid is not None and (len(segment) < 16 or segment[9] != G_PDU or _be(segment, 12, 4) != match.teid):
        return False
    return match.vni is None or (len(segment) >= 16 and segment[8] & 8 != 0 and _be(segment, 12, 3) == match.vni)


def _be(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size])


__all__ = ["Match", "matches", "parse_match", "parse_matches"]

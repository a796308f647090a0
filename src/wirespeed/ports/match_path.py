"""Matches in compiled code: does a packet have what a rule asks for? :func:`.match.matches` is the reference.

A rule is laid out as words, eight bytes each (:class:`Rule`); alternatives follow each other. Nothing is read beyond
the packet's first cell; headers that go on in the next one do not match.
"""
# mypy: allow-untyped-defs, allow-untyped-calls

from collections.abc import Sequence

from wirespeed.jit import View, cold, inline, le64, load8, write_bytes
from wirespeed.mem.descriptor import address_of, length_of
from wirespeed.ports.match import G_PDU, IPV4, IPV6, SCTP, TCP, UDP, Match, Network

_ANY = -1


class Rule(View):
    """One alternative; -1 is anything."""

    ethertype = le64(0)
    vlan = le64(8)
    ipv4 = le64(16, "1: packets of IPv4 can match")
    ipv6 = le64(24)
    wants_ip = le64(32, "1: something behind the EtherType is asked for")
    wants_transport = le64(40)
    source_bits = le64(48, "length of the prefix; -1: any address")
    destination_bits = le64(56)
    protocol = le64(64)
    sport_low = le64(72)
    sport_high = le64(80)
    dport_low = le64(88)
    dport_high = le64(96)
    teid = le64(104)
    vni = le64(112)
    source = le64(128, "16 bytes of address, as on the wire")
    destination = le64(144)
    SIZE = 192


_RULE: int = Rule.SIZE
_SOURCE, _DESTINATION = Rule.source.offset, Rule.destination.offset


def write_rules(address: int, matches: Sequence[Match]) -> None:
    """Lay the alternatives out from ``address`` on, ``Rule.SIZE`` bytes each."""
    for number, match in enumerate(matches):
        rule = Rule(address + number * Rule.SIZE)
        rule.ethertype, rule.vlan = _or_any(match.ethertype), _or_any(match.vlan)
        rule.ipv4, rule.ipv6 = int(IPV4 in match.versions), int(IPV6 in match.versions)
        rule.wants_ip, rule.wants_transport = int(match.wants_ip), int(match.wants_transport)
        rule.protocol, rule.teid, rule.vni = _or_any(match.protocol), _or_any(match.teid), _or_any(match.vni)
        rule.sport_low, rule.sport_high = match.sport or (_ANY, 0xFFFF)
        rule.dport_low, rule.dport_high = match.dport or (_ANY, 0xFFFF)
        rule.source_bits = _prefix(rule.address + _SOURCE, match.source)
        rule.destination_bits = _prefix(rule.address + _DESTINATION, match.destination)


def _or_any(value: int | None) -> int:
    return _ANY if value is None else value


def _prefix(address: int, network: Network | None) -> int:
    if network is None:
        return _ANY
    write_bytes(address, network.network_address.packed)
    return network.prefixlen


@inline
def _be16(at):
    return load8(at) << 8 | load8(at + 1)


@inline
def _be32(at):
    return _be16(at) << 16 | _be16(at + 2)


@cold
def any_matches(rules, count, cells, desc):
    """Whether one of ``count`` rules matches the packet; 1 or 0."""
    for number in range(count):
        if _matches(Rule(rules + number * _RULE), address_of(cells, desc), length_of(desc)):
            return 1
    return 0


@cold
def _matches(rule, frame, length):
    at, vlan = 12, _ANY
    for _ in range(2):
        if length >= at + 6 and (_be16(frame + at) == 0x8100 or _be16(frame + at) == 0x88A8):
            if vlan == _ANY:
                vlan = _be16(frame + at + 2) & 0xFFF
            at += 4
    if length < at + 2:
        return False
    ethertype = _be16(frame + at)
    if rule.ethertype != _ANY and rule.ethertype != ethertype:
        return False
    if rule.vlan != _ANY and rule.vlan != vlan:
        return False
    if rule.wants_ip == 0:
        return True
    if ethertype == IPV4 and rule.ipv4 != 0:
        return _matches4(rule, frame + at + 2, length - at - 2)
    if ethertype == IPV6 and rule.ipv6 != 0:
        return _matches6(rule, frame + at + 2, length - at - 2)
    return False


@cold
def _matches4(rule, packet, length):
    if length < 20 or load8(packet) >> 4 != 4:
        return False
    header = (load8(packet) & 15) << 2
    if header < 20 or length < header:
        return False
    protocol = load8(packet + 9)
    if rule.protocol != _ANY and rule.protocol != protocol:
        return False
    if not _within(packet + 12, rule.address + _SOURCE, rule.source_bits):
        return False
    if not _within(packet + 16, rule.address + _DESTINATION, rule.destination_bits):
        return False
    if rule.wants_transport == 0:
        return True
    if _be16(packet + 6) & 0x1FFF != 0:
        return False
    return _transport(rule, protocol, packet + header, length - header)


@cold
def _matches6(rule, packet, length):
    if length < 40 or load8(packet) >> 4 != 6:
        return False
    protocol = load8(packet + 6)
    if rule.protocol != _ANY and rule.protocol != protocol:
        return False
    if not _within(packet + 8, rule.address + _SOURCE, rule.source_bits):
        return False
    if not _within(packet + 24, rule.address + _DESTINATION, rule.destination_bits):
        return False
    if rule.wants_transport == 0:
        return True
    return _transport(rule, protocol, packet + 40, length - 40)


@inline
def _within(address, network, bits):
    """Whether the first ``bits`` bits are the same; -1: whatever they are."""
    whole = bits >> 3
    for i in range(whole):
        if load8(address + i) != load8(network + i):
            return False
    rest = bits & 7
    if bits > 0 and rest != 0:
        return (load8(address + whole) ^ load8(network + whole)) >> (8 - rest) == 0
    return True


@cold
def _transport(rule, protocol, segment, length):
    if length < 4 or (protocol != TCP and protocol != UDP and protocol != SCTP):
        return False
    if not rule.sport_low <= _be16(segment) <= rule.sport_high:
        return False
    if not rule.dport_low <= _be16(segment + 2) <= rule.dport_high:
        return False
    if rule.teid != _ANY and (length < 16 or load8(segment + 9) != G_PDU or _be32(segment + 12) != rule.teid):
        return False
    if rule.vni == _ANY:
        return True
    return length >= 16 and load8(segment + 8) & 8 != 0 and _be32(segment + 12) >> 8 == rule.vni


__all__ = ["Rule", "any_matches", "write_rules"]

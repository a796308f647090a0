"""The headers of a sampled packet: what the first hundred bytes of it say of its flow.

The packet was cut, so its lengths say more than is here: only what lies before ``end`` is looked at, and a transport
header that is not here leaves ports of 0.
"""

from wirespeed.apps.collector.flow import FlowRow, put_ipv4
from wirespeed.apps.collector.reasons import OK, SAMPLED_HEADER, UNKNOWN_PROTOCOL
from wirespeed.jit import bswap16, cold, copy, inline, load8, load16, load32
from wirespeed.wire.ethernet import ETHERTYPE_IPV4, ETHERTYPE_IPV6
from wirespeed.wire.ipv4 import IPV4_FRAGMENT_OFFSET, PROTOCOL_TCP, PROTOCOL_UDP, Ipv4
from wirespeed.wire.ipv6 import NO_TRANSPORT, Ipv6, skip_extensions
from wirespeed.wire.parse import is_tag
from wirespeed.wire.sflow import PROTOCOL_ETHERNET, PROTOCOL_IPV4, PROTOCOL_IPV6
from wirespeed.wire.vlan import Vlan

_SCTP = 132
_TAGS = 2


@cold
def sampled(row: FlowRow, protocol: int, at: int, end: int) -> int:
    """Fill a row from the headers at ``at``: OK, or why they cannot be read. ``protocol``: what they begin with."""
    if protocol == PROTOCOL_IPV4:
        return _ipv4(row, at, end)
    if protocol == PROTOCOL_IPV6:
        return _ipv6(row, at, end)
    if protocol != PROTOCOL_ETHERNET:
        return UNKNOWN_PROTOCOL
    if end - at < 14:
        return SAMPLED_HEADER
    ethertype = bswap16(load16(at + 12))
    at += 14
    for index in range(_TAGS):
        if is_tag(ethertype) and end - at >= 4:
            tag = Vlan(at)
            if index == 0:
                row.vlan = tag.vid
            ethertype = tag.ethertype
            at += 4
    if ethertype == ETHERTYPE_IPV4:
        return _ipv4(row, at, end)
    if ethertype == ETHERTYPE_IPV6:
        return _ipv6(row, at, end)
    return OK  # a frame of another kind: counted, without addresses


@cold
def _ipv4(row: FlowRow, at: int, end: int) -> int:
    if end - at < 20:
        return SAMPLED_HEADER
    ip = Ipv4(at)
    first = ip.version_ihl
    if first < 0x45 or first > 0x4F:
        return SAMPLED_HEADER
    put_ipv4(row.address, load32(at + 12))
    put_ipv4(row.address + 16, load32(at + 16))
    row.protocol, row.tos = ip.protocol, load8(at + 1)
    if ip.flags_fragment & IPV4_FRAGMENT_OFFSET == 0:
        _ports(row, at + (first & 15) * 4, end)
    return OK


@cold
def _ipv6(row: FlowRow, at: int, end: int) -> int:
    if end - at < 40:
        return SAMPLED_HEADER
    ip = Ipv6(at)
    if ip.version != 6:
        return SAMPLED_HEADER
    copy(row.address, at + 8, 16)
    copy(row.address + 16, at + 24, 16)
    protocol, transport, what = skip_extensions(at + 40, end, ip.next_header)
    row.protocol, row.tos = protocol, ip.traffic_class
    if what != NO_TRANSPORT:
        _ports(row, transport, end)
    return OK


@inline
def _ports(row: FlowRow, at: int, end: int) -> None:
    protocol = row.protocol
    if protocol in (PROTOCOL_TCP, PROTOCOL_UDP, _SCTP) and end - at >= 4:
        row.sport, row.dport = bswap16(load16(at)), bswap16(load16(at + 2))
    if protocol == PROTOCOL_TCP and end - at >= 14:
        row.tcp_flags = load8(at + 13)


__all__ = ["sampled"]

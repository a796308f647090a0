"""What a host refuses for the headers before its transport: IPv4 options, IPv6 extension headers (RFC 1122, RFC 8200).

A finding is one integer: 0 if there is nothing to refuse, :data:`SILENT`, or what the sender is to be told::

    40: ICMP or ICMPv6 type | 32: code | 0: the pointer, in bytes from the start of the IP header

The packet path asks whether there is one (:mod:`wirespeed.stack.input`), and the control code, for few packets, which.
"""
# mypy: allow-untyped-calls, allow-untyped-defs

import numpy as np

from wirespeed.jit import cold, inline, kernel, lent, load8
from wirespeed.wire.icmp import ICMP6_PARAMETER_PROBLEM, ICMP_PARAMETER_PROBLEM, ICMP_UNREACHABLE
from wirespeed.wire.ipv4 import PROTOCOL_DESTINATION, PROTOCOL_FRAGMENT, PROTOCOL_HOP_BY_HOP, PROTOCOL_ROUTING, Ipv4
from wirespeed.wire.ipv6 import EXTENSIONS_MAX, WHOLE, Ipv6, is_extension, skip_extensions

SILENT: int = -1
"""Refused, and nobody is told."""

_END, _NOTHING, _RECORD_ROUTE, _LOOSE_ROUTE, _STRICT_ROUTE = 0, 1, 7, 131, 137
_FIRST_POINTER = 4  # of routes: RFC 791 section 3.1
_SOURCE_ROUTE_FAILED = 5  # code of "unreachable"
_UNKNOWN_HEADER, _UNKNOWN_OPTION = 1, 2  # codes of ICMPv6's parameter problem
_SILENTLY, _UNLESS_GROUP = 1, 3  # the two highest bits of an option's type: RFC 8200 section 4.2


@inline
def _told(kind, code, pointer):
    return kind << 40 | code << 32 | pointer


@cold
def refused4(ip):
    """The first IPv4 option that is malformed, or a source route that goes on from here (RFC 1122 section 3.2.1.8).

    RFC 1122 section 3.2.2.5: the sender hears where the fault is. Section 3.3.5: nothing is forwarded here.
    """
    header, at = ip.header_bytes, 20
    while at < header:
        kind = load8(ip.address + at)
        if kind == _END:
            break
        if kind == _NOTHING:
            at += 1
            continue
        size = load8(ip.address + at + 1) if at + 1 < header else 0
        if size < 2 or at + size > header:
            return _told(ICMP_PARAMETER_PROBLEM, 0, min(at + 1, header - 1))
        if kind in (_RECORD_ROUTE, _LOOSE_ROUTE, _STRICT_ROUTE):
            if size < 3:
                return _told(ICMP_PARAMETER_PROBLEM, 0, at + 1)
            pointer = load8(ip.address + at + 2)
            if pointer < _FIRST_POINTER:
                return _told(ICMP_PARAMETER_PROBLEM, 0, at + 2)
            if kind != _RECORD_ROUTE and pointer <= size:
                return _told(ICMP_UNREACHABLE, _SOURCE_ROUTE_FAILED, 0)
        at += size
    return 0


@cold
def refused6(ip, end):
    """The first IPv6 extension header, or option in one, that is to be refused; ``end``: where the packet's first
    segment ends.

    Unknown options say themselves what is to be done (RFC 8200 section 4.2), no kind of route through us is known
    (section 4.4, RFC 5095), options for every router stand first (section 4.1), and nothing here can check an
    authentication header (RFC 4302): to a host without it an unknown one.
    """
    protocol, says, at = ip.next_header, 6, 40
    for _ in range(EXTENSIONS_MAX):
        if not is_extension(protocol) or protocol == PROTOCOL_FRAGMENT or ip.address + at + 8 > end:
            break
        if protocol == PROTOCOL_HOP_BY_HOP and at > 40:
            return _told(ICMP6_PARAMETER_PROBLEM, _UNKNOWN_HEADER, says)
        size = (load8(ip.address + at + 1) + 1) * 8
        if protocol == PROTOCOL_ROUTING:
            if load8(ip.address + at + 3) != 0:
                return _told(ICMP6_PARAMETER_PROBLEM, 0, at + 2)
        elif protocol != PROTOCOL_HOP_BY_HOP and protocol != PROTOCOL_DESTINATION:
            return _told(ICMP6_PARAMETER_PROBLEM, _UNKNOWN_HEADER, says)
        elif ip.address + at + size <= end:
            found = _option6(ip, at, size)
            if found != 0:
                return found
        protocol, says = load8(ip.address + at), at
        at += size
    return 0


@inline
def _option6(ip, start, size):
    """The first option of a header that does not let itself be passed over."""
    at, end = start + 2, start + size
    while at < end:
        kind = load8(ip.address + at)
        if kind == 0:
            at += 1
            continue
        action = kind >> 6
        if action != 0:
            to_group = load8(ip.address + 24) == 255
            if action == _SILENTLY or (action == _UNLESS_GROUP and to_group):
                return SILENT
            return _told(ICMP6_PARAMETER_PROBLEM, _UNKNOWN_OPTION, at)
        at += 2 + (load8(ip.address + at + 1) if at + 1 < end else 0)
    return 0


@inline
def is_piece6(pkt):
    """Whether an IPv6 packet is a fragment, wherever its header stands, or has headers that lead to no transport."""
    following = pkt.ipv6.next_header
    if pkt.l4 == 0 or following == PROTOCOL_FRAGMENT:
        return True
    if not is_extension(following):
        return False
    _, _, what = skip_extensions(pkt.l3 + 40, min(pkt.end, pkt.l3 + pkt.ip_bytes), following)
    return what != WHOLE


@kernel
def _refused(at, size, six):
    return refused6(Ipv6(at), at + size) if six else refused4(Ipv4(at))


def refused(packet: bytes) -> tuple[int, int, int] | None:
    """What a whole IP packet is refused for: ICMP type, code and pointer; a type of -1: nobody is told; None: nothing.

    Args:
        packet: from its first byte on; its header, and the lengths in it, have been checked.
    """
    with lent(np.frombuffer(packet, dtype=np.uint8)) as (at,):
        found = int(_refused(at, len(packet), packet[0] >> 4 == 6))
    if found == 0:
        return None
    return (-1, 0, 0) if found == SILENT else (found >> 40, found >> 32 & 255, found & 0xFFFF_FFFF)


__all__ = ["SILENT", "is_piece6", "refused", "refused4", "refused6"]

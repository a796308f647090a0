"""ICMP for IPv4 (RFC 792) and for IPv6 (RFC 4443).

::

     0       8       16              32
    +-------+-------+---------------+-------------------------------+
    | type  | code  |   checksum    |     what the type says        |
    +-------+-------+---------------+-------------------------------+

``pkt.icmp`` is ICMP in IPv4, ``pkt.icmp6`` is ICMPv6 in IPv6: their types, codes and checksums differ.
"""

from wirespeed.jit import be16, be32, u8
from wirespeed.wire.header import Found, Header

ICMP_ECHO_REPLY = 0
ICMP_UNREACHABLE = 3
ICMP_REDIRECT = 5
ICMP_ECHO_REQUEST = 8
ICMP_TIME_EXCEEDED = 11
ICMP_PARAMETER_PROBLEM = 12

ICMP_UNREACHABLE_NET = 0
ICMP_UNREACHABLE_HOST = 1
ICMP_UNREACHABLE_PROTOCOL = 2
ICMP_UNREACHABLE_PORT = 3
ICMP_UNREACHABLE_TOO_BIG = 4
"""Fragmentation needed and DF set; ``mtu`` tells the next hop's (RFC 1191)."""
ICMP_UNREACHABLE_PROHIBITED = 13
ICMP_TIME_EXCEEDED_TTL = 0
ICMP_TIME_EXCEEDED_REASSEMBLY = 1

ICMP6_UNREACHABLE = 1
ICMP6_TOO_BIG = 2
ICMP6_TIME_EXCEEDED = 3
ICMP6_PARAMETER_PROBLEM = 4
ICMP6_ECHO_REQUEST = 128
ICMP6_ECHO_REPLY = 129
ICMP6_MLD_QUERY = 130
ICMP6_MLD_REPORT = 131
ICMP6_MLD_DONE = 132
ICMP6_ROUTER_SOLICITATION = 133
ICMP6_ROUTER_ADVERTISEMENT = 134
ICMP6_NEIGHBOUR_SOLICITATION = 135
ICMP6_NEIGHBOUR_ADVERTISEMENT = 136
ICMP6_REDIRECT = 137
ICMP6_MLD2_REPORT = 143

ICMP6_UNREACHABLE_ROUTE = 0
ICMP6_UNREACHABLE_PROHIBITED = 1
ICMP6_UNREACHABLE_ADDRESS = 3
ICMP6_UNREACHABLE_PORT = 4
ICMP6_TIME_EXCEEDED_HOPS = 0
ICMP6_TIME_EXCEEDED_REASSEMBLY = 1


class Icmp(Header):
    """ICMP message header, RFC 792: eight bytes, the last four by type."""

    type = u8(0)
    code = u8(1)
    checksum = be16(2)
    rest = be32(4, "all four bytes that the type gives a meaning")
    identifier = be16(4, "echo")
    sequence = be16(6, "echo")
    gateway = be32(4, "redirect")
    mtu = be16(6, "next-hop MTU, with ICMP_UNREACHABLE_TOO_BIG")
    pointer = u8(4, "parameter problem")
    SIZE = 8
    FOUND = Found("icmp")


class Icmp6(Header):
    """ICMPv6 message header, RFC 4443 section 2.1: eight bytes, the last four by type."""

    type = u8(0)
    code = u8(1)
    checksum = be16(2)
    rest = be32(4, "all four bytes that the type gives a meaning")
    identifier = be16(4, "echo")
    sequence = be16(6, "echo")
    mtu = be32(4, "packet too big")
    pointer = be32(4, "parameter problem")
    SIZE = 8
    FOUND = Found("icmp6")

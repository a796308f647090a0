"""IPv4, RFC 791.

::

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-------+-------+-----------+---+-------------------------------+
    |version|  IHL  |   DSCP    |ECN|         total length          |
    +-------+-------+-----------+---+-----+-------------------------+
    |        identification         |R|D|M|     fragment offset     |
    +---------------+---------------+-----+-------------------------+
    |      TTL      |   protocol    |        header checksum        |
    +---------------+---------------+-------------------------------+
    |                        source address                         |
    +---------------------------------------------------------------+
    |                      destination address                      |
    +---------------------------------------------------------------+
"""
# mypy: no-warn-return-any

from wirespeed.jit import be16, be32, bits, u8
from wirespeed.wire.header import Found, Header

PROTOCOL_HOP_BY_HOP = 0
PROTOCOL_ICMP = 1
PROTOCOL_IGMP = 2
PROTOCOL_IPIP = 4
PROTOCOL_TCP = 6
PROTOCOL_UDP = 17
PROTOCOL_IPV6 = 41
PROTOCOL_ROUTING = 43
PROTOCOL_FRAGMENT = 44
PROTOCOL_GRE = 47
PROTOCOL_ESP = 50
PROTOCOL_AH = 51
PROTOCOL_ICMP6 = 58
PROTOCOL_NONE = 59
PROTOCOL_DESTINATION = 60
PROTOCOL_OSPF = 89
PROTOCOL_VRRP = 112
PROTOCOL_SCTP = 132

IPV4_DONT_FRAGMENT = 0x4000
IPV4_MORE_FRAGMENTS = 0x2000
IPV4_FRAGMENT_OFFSET = 0x1FFF
"""In ``flags_fragment``: the offset, in units of eight bytes."""


class Ipv4(Header):
    """IPv4 header, RFC 791 section 3.1 (DSCP: RFC 2474, ECN: RFC 3168)."""

    version = bits(0, 4)
    ihl = bits(4, 4, "header length in 32-bit words")
    version_ihl = u8(0)
    tos = u8(1, "DSCP and ECN together")
    dscp = bits(8, 6)
    ecn = bits(14, 2)
    total_length = be16(2, "bytes of header and payload")
    identification = be16(4)
    flags_fragment = be16(6, "flags and fragment offset together")
    dont_fragment = bits(49, 1)
    more_fragments = bits(50, 1)
    fragment_offset = bits(51, 13, "in units of eight bytes")
    ttl = u8(8)
    protocol = u8(9, "what follows: PROTOCOL_*")
    checksum = be16(10, "header checksum")
    src = be32(12)
    dst = be32(16)
    SIZE = 20
    FOUND = Found("ipv4", inside="l4", level=2)

    @property
    def header_bytes(self) -> int:
        """Bytes of the header with its options: IHL * 4."""
        return self.ihl * 4

    @property
    def options_bytes(self) -> int:
        """Bytes of options, 0 to 40."""
        return self.ihl * 4 - 20

    @property
    def options(self) -> int:
        """Address of the first option."""
        return self.address + 20

    @property
    def is_fragment(self) -> bool:
        """Whether this is a piece of a larger packet: more follow, or some came before."""
        return (self.flags_fragment & (IPV4_MORE_FRAGMENTS | IPV4_FRAGMENT_OFFSET)) != 0

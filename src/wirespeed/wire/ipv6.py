"""IPv6 and its extension headers, RFC 8200.

::

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-------+-----------+---+---------------------------------------+
    |version|   DSCP    |ECN|              flow label               |
    +-------+-----------+---+-------+---------------+---------------+
    |        payload length         |  next header  |   hop limit   |
    +-------------------------------+---------------+---------------+
    |                source address, destination address            |
    :                       (16 bytes each)                         :

An address is a pair (high, low) of int64.
"""
# mypy: no-warn-return-any

from wirespeed.jit import be16, be32, bits, inline, ipv6, load8, shift_right, u8
from wirespeed.wire.header import Found, Header
from wirespeed.wire.ipv4 import (
    PROTOCOL_AH,
    PROTOCOL_DESTINATION,
    PROTOCOL_FRAGMENT,
    PROTOCOL_HOP_BY_HOP,
    PROTOCOL_ROUTING,
)

EXTENSIONS_MAX = 8
"""Extension headers walked before a packet is left without a transport header."""

WHOLE, FIRST_FRAGMENT, NO_TRANSPORT = 0, 1, 2
"""What the walk found: a whole packet, the first fragment of one, or no transport header."""

_EXTENSIONS = (
    1 << PROTOCOL_HOP_BY_HOP
    | 1 << PROTOCOL_ROUTING
    | 1 << PROTOCOL_FRAGMENT
    | 1 << PROTOCOL_AH
    | 1 << PROTOCOL_DESTINATION
)


class Ipv6(Header):
    """IPv6 header, RFC 8200 section 3."""

    version = bits(0, 4)
    traffic_class = bits(4, 8, "DSCP and ECN together")
    dscp = bits(4, 6)
    ecn = bits(10, 2)
    flow_label = bits(12, 20)
    payload_length = be16(4, "bytes after this header, extension headers included")
    next_header = u8(6, "what follows: PROTOCOL_*")
    hop_limit = u8(7)
    src = ipv6(8)
    dst = ipv6(24)
    SIZE = 40
    FOUND = Found(
        "ipv6",
        inside="l4",
        level=2,
        conditions={"next_header": "pkt.protocol", "protocol": "pkt.protocol"},
    )


class Ipv6Extension(Header):
    """Hop-by-hop, routing or destination options header, RFC 8200 sections 4.3, 4.4, 4.6."""

    next_header = u8(0)
    length = u8(1, "in units of eight bytes, the first eight not counted")
    SIZE = 8

    @property
    def header_bytes(self) -> int:
        """Bytes of the whole extension header."""
        return (self.length + 1) * 8


class Ipv6Fragment(Header):
    """Fragment header, RFC 8200 section 4.5."""

    next_header = u8(0)
    fragment_offset = bits(16, 13, "in units of eight bytes")
    more_fragments = bits(31, 1)
    identification = be32(4)
    SIZE = 8


class Authentication(Header):
    """Authentication header, RFC 4302 section 2: the one extension that counts in words of four bytes."""

    next_header = u8(0)
    length = u8(1, "in units of four bytes, minus 2")
    spi = be32(4)
    sequence = be32(8)
    reserved = be16(2)
    SIZE = 12

    @property
    def header_bytes(self) -> int:
        """Bytes of the whole header."""
        return (self.length + 2) * 4


@inline
def is_extension(protocol: int) -> bool:
    """Whether a next-header value names an extension header that the walk steps over."""
    return protocol < 64 and (shift_right(_EXTENSIONS, protocol) & 1) != 0


@inline
def skip_extensions(at: int, end: int, protocol: int) -> tuple[int, int, int]:
    """Walk the extension headers from ``at``; ``protocol`` is the next header of what came before.

    Returns (protocol, address, what): the first protocol that is no extension and where it starts, and
    ``what`` is WHOLE, FIRST_FRAGMENT or NO_TRANSPORT. At most EXTENSIONS_MAX headers, all before ``end``.
    """
    what = WHOLE
    # An address is never negative; the compiler, not knowing, keeps this one loop instead of eight copies.
    for _ in range(EXTENSIONS_MAX + (at >> 62)):
        if what == NO_TRANSPORT or not is_extension(protocol):
            break
        if end - at < 8:
            what = NO_TRANSPORT
            break
        if protocol == PROTOCOL_FRAGMENT:
            fragment = Ipv6Fragment(at)
            if fragment.fragment_offset != 0:
                what = NO_TRANSPORT
            elif fragment.more_fragments != 0:
                what = FIRST_FRAGMENT
            size = 8
        elif protocol == PROTOCOL_AH:
            size = (load8(at + 1) + 2) * 4
        else:
            size = (load8(at + 1) + 1) * 8
        protocol = load8(at)
        at += size
    if is_extension(protocol) or at > end:
        what = NO_TRANSPORT
    return protocol, at, what

"""ipv4_validate: the checks a router owes the network before it looks at an IPv4 packet (RFC 1812 section 5.2.2)."""

from typing import Any

from wirespeed.graph.node import node
from wirespeed.wire.checksum import ipv4_header_valid


@node(drops=["malformed", "bad-checksum", "martian"])
def ipv4_validate(pkt: Any) -> str | None:
    """Version, lengths and checksum are right, and the addresses may cross a router.

    The lengths were checked when the packet was parsed: without a sound header there is no ``pkt.ipv4``. Sources
    that no packet on a wire may have (RFC 1812 section 5.3.7) are martians: 0/8, 127/8, 224/3; so are
    destinations in 0/8 and 127/8.
    """
    if not pkt.ipv4:
        return "malformed"
    if not ipv4_header_valid(pkt.ipv4):
        return "bad-checksum"
    source = pkt.ipv4.src >> 24
    destination = pkt.ipv4.dst >> 24
    if source == 0 or source == 127 or source >= 224 or destination == 0 or destination == 127:
        return "martian"
    return None

"""ARP for IPv4 over Ethernet, RFC 826.

::

     0        2        4  5  6        8         14        18         24        28
    +--------+--------+--+--+--------+---------+---------+----------+---------+
    | htype  | ptype  |hl|pl|  oper  |   sha   |   spa   |   tha    |   tpa   |
    +--------+--------+--+--+--------+---------+---------+----------+---------+
"""

from wirespeed.jit import be16, be32, mac, u8
from wirespeed.wire.header import Found, Header

ARP_HTYPE_ETHERNET = 1
ARP_REQUEST = 1
ARP_REPLY = 2


class Arp(Header):
    """ARP packet, RFC 826; ``pkt.arp`` is there only for IPv4 over Ethernet."""

    htype = be16(0, "hardware type, 1: Ethernet")
    ptype = be16(2, "protocol type, 0x0800: IPv4")
    hlen = u8(4, "bytes of a hardware address, 6")
    plen = u8(5, "bytes of a protocol address, 4")
    oper = be16(6, "1 request, 2 reply")
    sha = mac(8, "sender hardware address")
    spa = be32(14, "sender protocol address")
    tha = mac(18, "target hardware address")
    tpa = be32(24, "target protocol address")
    SIZE = 28
    FOUND = Found("arp", bound="end", level=2)

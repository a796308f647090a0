"""VLAN tags, IEEE 802.1Q: four bytes between the source address and the ethertype.

The tag's TPID stands where the frame's ethertype was; the view starts behind it, like rte_vlan_hdr::

     0                             16
    +-----+-+----------------------+----------------------+
    | PCP |D|     VLAN id (12)     |  ethertype (content)  |
    +-----+-+----------------------+----------------------+
"""

from wirespeed.jit import be16, bits
from wirespeed.wire.header import Found, Header

VLAN_NONE = 0
"""VID 0: a priority tag, no VLAN."""
VLAN_RESERVED = 0xFFF


class Vlan(Header):
    """VLAN tag, IEEE 802.1Q section 9.6: TCI and the ethertype that follows."""

    tci = be16(0, "the whole tag control information")
    pcp = bits(0, 3, "priority code point")
    dei = bits(3, 1, "drop eligible")
    vid = bits(4, 12, "VLAN identifier")
    ethertype = be16(2, "what follows the tag")
    SIZE = 4
    FOUND = Found("vlan", bound="end", level=1)

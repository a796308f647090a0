"""Ethernet II, IEEE 802.3.

::

     0                       6                       12        14
    +-----------------------+-----------------------+---------+
    |      destination      |        source         |ethertype|
    +-----------------------+-----------------------+---------+

Behind VLAN tags the ethertype here is the outer tag's TPID; ``pkt.ethertype`` is that of the content.
"""
# mypy: no-warn-return-any

from wirespeed.jit import be16, mac
from wirespeed.wire.header import Found, Header

ETHERTYPE_IPV4 = 0x0800
ETHERTYPE_ARP = 0x0806
ETHERTYPE_VLAN = 0x8100
ETHERTYPE_IPV6 = 0x86DD
ETHERTYPE_MPLS = 0x8847
ETHERTYPE_SLOW = 0x8809
ETHERTYPE_QINQ = 0x88A8
ETHERTYPE_LLDP = 0x88CC
ETHERTYPE_PTP = 0x88F7
ETHERTYPE_QINQ_OLD = 0x9100
"""What some equipment put on the outer tag before 802.1ad gave it 0x88A8."""

MAC_BROADCAST = 0xFFFF_FFFF_FFFF
MAC_GROUP_BIT = 1 << 40
"""Set in a multicast or broadcast address: the lowest bit of its first byte."""
MAC_LOCAL_BIT = 1 << 41
"""Set in an address that no manufacturer assigned."""


class Ethernet(Header):
    """Ethernet II header, IEEE 802.3 section 3.1.1; addresses are 48-bit integers."""

    dst = mac(0, "destination address")
    src = mac(6, "source address")
    ethertype = be16(12, "what follows: an ethertype, or the TPID of a VLAN tag")
    SIZE = 14
    FOUND = Found("eth", inside="l3", bound="end", level=1, conditions={"ethertype": "pkt.ethertype"})

    @property
    def is_multicast(self) -> bool:
        """Whether the destination is a group address; broadcast is one."""
        return (self.dst & MAC_GROUP_BIT) != 0

    @property
    def is_broadcast(self) -> bool:
        """Whether the destination is ff:ff:ff:ff:ff:ff."""
        return self.dst == MAC_BROADCAST


def mac_address(text: str) -> int:
    """``"02:00:00:00:00:01"`` as the integer that fields hold. Raises ValueError."""
    digits = text.replace("-", ":").split(":")
    if len(digits) != 6 or not all(1 <= len(part) <= 2 for part in digits):
        raise ValueError(f"{text!r} is no Ethernet address: six pairs of hex digits, like 02:00:00:00:00:01")
    return int.from_bytes(bytes(int(part, 16) for part in digits), "big")


def mac_text(address: int) -> str:
    """The integer of a field as ``"02:00:00:00:00:01"``."""
    return address.to_bytes(6, "big").hex(":")

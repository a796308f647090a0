"""host_input: what comes in at a host's link, sorted by who is to deal with it (RFC 1122 section 3, RFC 8504)."""

from typing import Any

from wirespeed.graph.node import Node, node
from wirespeed.mem.descriptor import META
from wirespeed.stack.chained import chained_udp_valid
from wirespeed.stack.interface import Interface
from wirespeed.stack.refused import SILENT, is_piece6, refused4, refused6
from wirespeed.wire.checksum import ipv4_header_valid, udp_valid
from wirespeed.wire.ethernet import ETHERTYPE_ARP, MAC_GROUP_BIT
from wirespeed.wire.ipv4 import PROTOCOL_ICMP, PROTOCOL_ICMP6, PROTOCOL_IGMP, PROTOCOL_UDP
from wirespeed.wire.ipv6 import is_extension

_LOOPBACK = 127
_GROUPS = 224  # first byte of the first address that no single host has


def host_input(interface: Interface) -> Node:
    """Make the node for one interface: UDP to one of its addresses goes on."""

    @node(
        outputs=["arp", "icmp", "icmp6", "igmp", "fragment", "other"],
        drops=["runt", "not-for-us", "not-ip", "malformed", "bad-checksum", "bad-option", "martian"],
    )
    def host_input(pkt: Any) -> str | None:
        """Take what is for this host, whole and sound; the rest is dropped by name.

        Frames to other stations, packets to other addresses and from addresses that no host has are not for us
        (RFC 1122 sections 3.2.1.3, 3.3.6); other transports than UDP, fragments, ARP and ICMP leave by their doors.
        Options and extension headers that must be refused are so (RFC 1122 section 3.2.1.8, RFC 8200 section 4).
        """
        if not pkt.eth:
            return "runt"
        if interface.vlan != (pkt.vlan.vid if pkt.vlan else -1):
            return "not-for-us"
        group = pkt.eth.dst & MAC_GROUP_BIT
        if group == 0 and pkt.eth.dst != interface.mac:
            return "not-for-us"
        if pkt.ipv4:
            if not ipv4_header_valid(pkt.ipv4):
                return "bad-checksum"
            first = pkt.ipv4.src >> 24
            if first == 0 or first == _LOOPBACK or first >= _GROUPS:
                return "martian"
            if group != 0:
                if not interface.in_group4(pkt.ipv4.dst):
                    return "not-for-us"
            elif not interface.owns4(pkt.ipv4.dst):
                return "not-for-us"
            if pkt.ipv4.options_bytes != 0 and refused4(pkt.ipv4) != 0:
                return "other"
            if pkt.ipv4.is_fragment:
                return "fragment"
            if pkt.protocol == PROTOCOL_UDP:
                return None if pkt.udp else "malformed"
            if pkt.protocol == PROTOCOL_ICMP:
                return "icmp"
            return "igmp" if pkt.protocol == PROTOCOL_IGMP else "other"
        if pkt.ethertype == ETHERTYPE_ARP:
            return "arp"
        if pkt.ipv6:
            high, low = pkt.ipv6.src
            if (high >> 56) & 255 == 255 or (high == 0 and low == 1):
                return "martian"
            high, low = pkt.ipv6.dst
            if group != 0:
                if not interface.in_group6(high, low):
                    return "not-for-us"
            elif not interface.owns6(high, low):
                return "not-for-us"
            if is_extension(pkt.ipv6.next_header):
                found = refused6(pkt.ipv6, min(pkt.end, pkt.l3 + pkt.ip_bytes))
                if found != 0:
                    return "bad-option" if found == SILENT else "other"
            if is_piece6(pkt):
                return "fragment"
            if pkt.protocol == PROTOCOL_UDP:
                return None if pkt.udp else "malformed"
            if pkt.protocol == PROTOCOL_ICMP6:
                return "icmp6"
            return "other"
        return "not-ip"

    return host_input


@node(drops=["bad-checksum"])
def udp_input(pkt: Any) -> str | None:
    """Drop a datagram whose checksum is wrong (RFC 1122 section 4.1.3.4), unless the port has looked already.

    What another host's stack left to its device (a virtual one: nothing can have happened to it) counts as looked at.
    """
    if pkt.desc & META != 0 and pkt.meta.checksum_state != 0:
        return None
    if pkt.l3 + pkt.ip_bytes > pkt.end:
        return None if chained_udp_valid(pkt) else "bad-checksum"
    return None if udp_valid(pkt) else "bad-checksum"


def udp_to(port: int, name: str) -> Node:
    """Make the node that picks the datagrams for a port."""

    @node(outputs=["here"])
    def udp_to(pkt: Any) -> str | None:
        """Datagrams for this port leave by ``here``, the others go on."""
        return "here" if pkt.udp.dport == port else None

    return udp_to.named(name)


__all__ = ["host_input", "udp_input", "udp_to"]

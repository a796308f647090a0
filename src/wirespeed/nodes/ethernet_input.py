"""ethernet_input: what comes from a link, sorted by what it carries."""

from typing import Any

from wirespeed.graph.node import Node, node
from wirespeed.tables.station import Station
from wirespeed.wire.ethernet import ETHERTYPE_ARP, ETHERTYPE_IPV4

_GROUP = 1 << 40  # the lowest bit of the first byte: multicast or broadcast


def ethernet_input(mac: int | Station | None = None, port: int | str | None = None) -> Node:
    """Make the node for the port whose address is ``mac``; None takes every frame that is not to a group.

    Args:
        mac: the address, as an integer; or a station, whose address may be set later.
        port: gives the node a name of its own, ``ethernet_input_<port>``, where a graph has several.
    """
    promiscuous = mac is None
    ours = mac if isinstance(mac, Station) else Station(mac or 0)

    @node(outputs=["arp"], drops=["runt", "not-for-us", "not-ip"])
    def ethernet_input(pkt: Any) -> str | None:
        """Take IPv4 on, set ARP aside, drop what is for somebody else (RFC 1812 section 5.3.4: no link broadcasts)."""
        if not pkt.eth:
            return "runt"
        if pkt.ethertype == ETHERTYPE_ARP:
            return "arp"
        if pkt.ethertype != ETHERTYPE_IPV4:
            return "not-ip"
        if pkt.eth.dst & _GROUP != 0 or (not promiscuous and pkt.eth.dst != ours.mac):
            return "not-for-us"
        return None

    return ethernet_input if port is None else ethernet_input.named(f"ethernet_input_{port}")

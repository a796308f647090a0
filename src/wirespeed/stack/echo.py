"""icmp_echo: a ping is answered where it lies."""

from typing import Any

from wirespeed.graph.node import Node, node
from wirespeed.hashes.internet import update16
from wirespeed.mem.descriptor import CHAINED, META, SHARED
from wirespeed.stack.chained import chained_icmp_valid
from wirespeed.stack.interface import Interface
from wirespeed.stack.turn import TTL
from wirespeed.wire.checksum import ipv4_header_checksum, transport_valid
from wirespeed.wire.icmp import (
    ICMP6_ECHO_REPLY,
    ICMP6_ECHO_REQUEST,
    ICMP6_MLD2_REPORT,
    ICMP6_MLD_QUERY,
    ICMP6_REDIRECT,
    ICMP_ECHO_REPLY,
    ICMP_ECHO_REQUEST,
)


def icmp_echo(interface: Interface) -> Node:
    """Make the node for one interface."""

    @node(outputs=["link", "other"])
    def icmp_echo(pkt: Any) -> str | None:
        """Turn an echo request into its reply (RFC 1122 section 3.2.2.6, RFC 4443 section 4.2), same data, same TOS.

        Discovery and group membership, which only this link says, leave by ``link``; what is not sound, not a request
        to one address of ours, or held by somebody else, by ``other``.
        """
        if pkt.desc & SHARED != 0:
            return "other"
        if not (transport_valid(pkt) if pkt.desc & CHAINED == 0 else chained_icmp_valid(pkt)):
            return "other"
        if pkt.icmp:
            if pkt.icmp.type != ICMP_ECHO_REQUEST or pkt.icmp.code != 0 or not interface.owns4(pkt.ipv4.dst):
                return "other"
            sender, own = pkt.ipv4.src, pkt.ipv4.dst
            pkt.ipv4.src = own
            pkt.ipv4.dst = sender
            pkt.ipv4.ttl = TTL
            pkt.ipv4.checksum = ipv4_header_checksum(pkt.ipv4)
            pkt.icmp.checksum = update16(pkt.icmp.checksum, ICMP_ECHO_REQUEST << 8, ICMP_ECHO_REPLY << 8)
            pkt.icmp.type = ICMP_ECHO_REPLY
            pkt.desc = pkt.desc & ~META
            return None
        kind = pkt.icmp6.type if pkt.icmp6 else 0
        if (kind >= ICMP6_MLD_QUERY and kind <= ICMP6_REDIRECT) or kind == ICMP6_MLD2_REPORT:
            return "link"
        if kind == ICMP6_ECHO_REQUEST and pkt.icmp6.code == 0:
            high, low = pkt.ipv6.dst
            if not interface.owns6(high, low):
                return "other"
            sender6 = pkt.ipv6.src
            pkt.ipv6.src = (high, low)
            pkt.ipv6.dst = sender6
            pkt.ipv6.hop_limit = TTL
            pkt.icmp6.checksum = update16(pkt.icmp6.checksum, ICMP6_ECHO_REQUEST << 8, ICMP6_ECHO_REPLY << 8)
            pkt.icmp6.type = ICMP6_ECHO_REPLY
            pkt.desc = pkt.desc & ~META
            return None
        return "other"

    return icmp_echo


__all__ = ["icmp_echo"]

"""ipv4_ttl: a router takes one off the time to live, and keeps the checksum right."""

from typing import Any

from wirespeed.graph.node import Node, node
from wirespeed.wire.checksum import decrement_ttl


def ipv4_ttl(answer: bool = False) -> Node:
    """Make the node; with ``answer`` the door ``ttl-expired`` is an output, for who tells the sender."""
    outputs, drops = (["ttl-expired"], []) if answer else ([], ["ttl-expired"])

    @node(outputs=outputs, drops=drops)
    def ipv4_ttl(pkt: Any) -> str | None:
        """Decrement TTL (RFC 1812 section 5.3.1); a packet that would reach 0 goes no further."""
        if pkt.ipv4.ttl <= 1:
            return "ttl-expired"
        decrement_ttl(pkt.ipv4)
        return None

    return ipv4_ttl

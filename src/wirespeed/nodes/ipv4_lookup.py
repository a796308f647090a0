"""ipv4_lookup: the longest prefix that covers the destination decides the next hop."""

from typing import Any

from wirespeed.graph.node import Node, node
from wirespeed.tables.lpm import Lpm4


def ipv4_lookup(fib: Lpm4, answer: bool = False) -> Node:
    """Make the node for one forwarding table; with ``answer`` the door ``no-route`` is an output."""
    outputs, drops = (["no-route"], []) if answer else ([], ["no-route"])

    def ahead(pkt: Any) -> None:
        fib.prefetch(pkt.ipv4.dst)

    @node(outputs=outputs, drops=drops, prefetch=ahead)
    def ipv4_lookup(pkt: Any) -> str | None:
        """Put the index of the next hop in ``pkt.mark`` (RFC 1812 section 5.2.4.3)."""
        hop = fib.lookup(pkt.ipv4.dst)
        if hop < 0:
            return "no-route"
        pkt.mark = hop
        return None

    return ipv4_lookup

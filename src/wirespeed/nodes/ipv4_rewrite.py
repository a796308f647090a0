"""ipv4_rewrite: the frame gets the addresses of its next link."""

from typing import Any

from wirespeed.graph.node import Node, node
from wirespeed.tables.adjacency import Adjacencies


def ipv4_rewrite(adjacencies: Adjacencies) -> Node:
    """Make the node for one table of next hops."""

    @node
    def ipv4_rewrite(pkt: Any) -> None:
        """Write the next hop's MAC as destination and the port's own as source."""
        if pkt.eth:
            adjacencies.rewrite(pkt.eth.address, pkt.mark)

    return ipv4_rewrite

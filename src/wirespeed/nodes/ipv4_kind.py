"""ipv4_kind: what kind of next hop the lookup found."""

from typing import Any

from wirespeed.graph.node import Node, node
from wirespeed.tables.adjacency import FORWARD, GLEAN, LOCAL, Adjacencies


def ipv4_kind(adjacencies: Adjacencies) -> Node:
    """Make the node for one table of next hops."""

    @node(outputs=["local", "glean"], drops=["unreachable"])
    def ipv4_kind(pkt: Any) -> str | None:
        """Packets to forward go on; those for the router itself and those whose neighbour is unknown leave aside."""
        kind = adjacencies.kind(pkt.mark)
        if kind == FORWARD:
            return None
        if kind == LOCAL:
            return "local"
        if kind == GLEAN:
            return "glean"
        return "unreachable"

    return ipv4_kind

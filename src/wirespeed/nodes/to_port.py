"""to_port: is this the port that the next hop is behind? A chain of them is how a router chooses its exit."""

from typing import Any

from wirespeed.graph.node import Node, node
from wirespeed.tables.adjacency import Adjacencies


def to_port(adjacencies: Adjacencies, port: int) -> Node:
    """Make the node that picks the packets for ``port``, called ``to_port_<port>``."""

    @node(outputs=["here"])
    def to_port(pkt: Any) -> str | None:
        """Packets for this port leave by ``here``, the others go on."""
        if adjacencies.port(pkt.mark) == port:
            return "here"
        return None

    return to_port.named(f"to_port_{port}")

"""ipv4_mtu: does the packet fit the link it is to leave by?"""

from typing import Any

from wirespeed.graph.node import Node, node
from wirespeed.mem.descriptor import META, CellHeader, header_of
from wirespeed.tables.adjacency import Adjacencies


def ipv4_mtu(adjacencies: Adjacencies) -> Node:
    """Make the node for one table of next hops."""

    @node(outputs=["too-big"])
    def ipv4_mtu(pkt: Any) -> str | None:
        """Packets larger than the link's MTU leave aside; super-packets that will be cut by the sender's port fit."""
        if pkt.ip_bytes > adjacencies.mtu(pkt.mark):
            if pkt.desc & META == 0 or CellHeader(header_of(pkt.cells, pkt.desc)).gso_size == 0:
                return "too-big"
        return None

    return ipv4_mtu

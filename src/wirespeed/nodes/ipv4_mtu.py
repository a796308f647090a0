"""ipv4_mtu: does the packet fit the link it is to leave by?"""

from typing import Any

from wirespeed.graph.node import Node, node
from wirespeed.mem.descriptor import META, CellHeader, header_of
from wirespeed.tables.adjacency import Adjacencies


def ipv4_mtu(adjacencies: Adjacencies) -> Node:
    """Make the node for one table of next hops."""

    @node(outputs=["too-big"])
    def ipv4_mtu(pkt: Any) -> str | None:
        """Packets larger than the link's MTU leave aside; of a super-packet each segment must fit."""
        mtu = adjacencies.mtu(pkt.mark)
        if pkt.ip_bytes > mtu:
            if pkt.desc & META == 0:
                return "too-big"
            line = CellHeader(header_of(pkt.cells, pkt.desc))
            if line.gso_size == 0 or line.headers_length - (pkt.l3 - pkt.start) + line.gso_size > mtu:
                return "too-big"
        return None

    return ipv4_mtu

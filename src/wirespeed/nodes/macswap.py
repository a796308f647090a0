"""macswap: send each frame back to where it came from."""

from typing import Any

from wirespeed.graph.node import node


@node
def macswap(pkt: Any) -> None:
    """Exchange source and destination MAC address."""
    source = pkt.eth.src
    pkt.eth.src = pkt.eth.dst
    pkt.eth.dst = source

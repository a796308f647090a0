"""nodes: what happens to packets on the way, one node a file.

A node that needs a table is made by a function that takes the table: ``ipv4_lookup(fib)``.
"""

from wirespeed.nodes.ethernet_input import ethernet_input
from wirespeed.nodes.ipv4_kind import ipv4_kind
from wirespeed.nodes.ipv4_lookup import ipv4_lookup
from wirespeed.nodes.ipv4_mtu import ipv4_mtu
from wirespeed.nodes.ipv4_rewrite import ipv4_rewrite
from wirespeed.nodes.ipv4_ttl import ipv4_ttl
from wirespeed.nodes.ipv4_validate import ipv4_validate
from wirespeed.nodes.macswap import macswap
from wirespeed.nodes.to_port import to_port

__all__ = [
    "ethernet_input", "ipv4_kind", "ipv4_lookup", "ipv4_mtu", "ipv4_rewrite", "ipv4_ttl", "ipv4_validate",
    "macswap", "to_port",
]  # fmt: skip

"""The demo: a traffic generator feeds an IPv4 router into a sink. No root, no network card, no huge pages.

The router is the real one: Ethernet input, validation, longest-prefix match, TTL, checksum, rewrite. With
``routes`` it holds a full Internet table and the generator draws its destinations from it.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wirespeed.errors import TableError
from wirespeed.graph.graph import Graph
from wirespeed.nodes import ethernet_input, ipv4_lookup, ipv4_rewrite, ipv4_ttl, ipv4_validate
from wirespeed.ports.generator.port import Generator
from wirespeed.ports.generator.program import inside
from wirespeed.ports.port import Port, port
from wirespeed.tables.adjacency import FORWARD, Adjacencies, Adjacency
from wirespeed.tables.lpm import Lpm4
from wirespeed.tables.routes import load_routes

NEXT_HOPS: int = 256
FLOWS: int = 16384
"""Different packets the generator has: 1 MiB of them."""

_ROUTER_MAC = 0x0200_0000_0001


@dataclass(frozen=True)
class Router:
    """A router's tables."""

    fib: Lpm4
    adjacencies: Adjacencies
    prefixes: NDArray[np.uint32]
    lengths: NDArray[np.uint8]

    def close(self) -> None:
        """Give the tables' memory back."""
        self.fib.close()
        self.adjacencies.close()

    def destinations(self, count: int, seed: int = 1) -> NDArray[np.uint32]:
        """``count`` addresses that the table has routes for: a random one inside a random prefix each."""
        return inside(self.prefixes, self.lengths, count, np.random.default_rng(seed))


def make_router(routes: Path | None = None) -> Router:
    """Tables with the routes of a file, or 256 of our own: 10.0.0.0/16 to 10.255.0.0/16.

    Raises:
        TableError: the file cannot be read, says something that is no prefix, or has none to forward to.
    """
    if routes is None:
        prefixes = (np.arange(256, dtype=np.uint32) << np.uint32(16)) | np.uint32(10 << 24)
        lengths = np.full(256, 16, np.uint8)
    else:
        prefixes, lengths, _ = load_routes(routes)
        local = np.isin(prefixes >> np.uint32(24), (0, 127)) & (lengths >= 8)  # a router forwards to neither
        prefixes, lengths = prefixes[~local], lengths[~local]
        if not len(prefixes):
            raise TableError(f"{routes} has no route to forward by: name IPv4 prefixes, one a line, as 192.0.2.0/24")
    fib = Lpm4()
    fib.add_many((prefixes, lengths), np.arange(len(prefixes)) % NEXT_HOPS)
    adjacencies = Adjacencies(NEXT_HOPS)
    for hop in range(NEXT_HOPS):
        adjacencies.set(hop, Adjacency(FORWARD, port=0, dst=0x0200_0000_1000 + hop, src=_ROUTER_MAC))
    return Router(fib, adjacencies, prefixes, lengths)


def route(router: Router, source: Port, sink: Port) -> Graph:
    """The router's graph between two ports."""
    graph = Graph()
    ethernet = ethernet_input()
    graph.add(
        source
        >> ethernet
        >> ipv4_validate
        >> ipv4_lookup(router.fib)
        >> ipv4_ttl()
        >> ipv4_rewrite(router.adjacencies)
        >> sink
    )
    graph.add(ethernet["arp"] >> sink)
    return graph


def demo(router: Router, size: int = 64, flows: int = FLOWS) -> Graph:
    """The demo's graph: ``flows`` different packets of ``size`` bytes, destinations drawn from the routes."""
    source = Generator.from_options(destinations=router.destinations(flows), size=size, flows=flows, dmac=_mac())
    return route(router, source, port("sink"))


def _mac() -> str:
    return ":".join(f"{byte:02x}" for byte in _ROUTER_MAC.to_bytes(6, "big"))

"""The plan: which nodes share a loop, and where everything is counted and found.

A *region* is a node and the nodes fused behind it: one pass over one vector of packets. A region starts where
a source leads, where several doors lead to the same node, before a node with a ``prefetch`` half, so that
all its memory is on its way before the first lookup, and before one that chooses its worker. In the ``split`` and
``profile`` shapes every node is a region of its own. All shapes give the same packets.
"""

from dataclasses import dataclass, field
from typing import Any

from wirespeed.graph.graph import Graph
from wirespeed.graph.node import DEFAULT, Node
from wirespeed.graph.source import doors
from wirespeed.ports.port import Port

FUSED, SPLIT, PROFILE = "fused", "split", "profile"


@dataclass(frozen=True)
class Exit:
    """One door of one node: where it leads and which counter counts it."""

    node: Node
    door: str
    target: Any  # a Node, a Port, or None for a drop
    counter: int


@dataclass
class Plan:
    """Everything the emitter and the engine must agree on."""

    graph: Graph
    shape: str
    workers: int
    burst: int
    order: list[Node] = field(default_factory=list)
    entries: list[Node] = field(default_factory=list)
    exits: dict[Node, list[Exit]] = field(default_factory=dict)
    counters: int = 0
    bindings: dict[Any, int] = field(default_factory=dict)
    checked: bool = False  # the loop writes down who holds each cell
    asks_port: bool = True  # whether some node may read ``pkt.port``; known once the nodes were read

    def vector(self, place: Any) -> int:
        """Index of the vector that leads to a region or a port; the last one collects drops."""
        if place is None:
            return len(self.entries) + len(self.graph.sinks)
        if isinstance(place, Port):
            return len(self.entries) + self.graph.sinks.index(place)
        return self.entries.index(place)

    @property
    def spreading(self) -> list[Port]:
        """Sources whose flows may go to other workers, where there are several."""
        return [port for port in self.graph.sources if not port.stays and self.workers > 1]

    @property
    def choosing(self) -> list[Node]:
        """Nodes that choose their worker, where there are several, in the order packets pass them."""
        return [node for node in self.order if node.worker is not None and self.workers > 1]

    def channel(self, place: Any, sink: bool = False) -> int:
        """Index of the rings that lead to a place from other workers: sources that spread, nodes that choose, sinks."""
        spreading, choosing = self.spreading, self.choosing
        if isinstance(place, Node):
            return len(spreading) + choosing.index(place)
        if not sink:
            return spreading.index(place)
        return len(spreading) + len(choosing) + self.graph.sinks.index(place)

    @property
    def channels(self) -> int:
        """How many of those there are."""
        return len(self.spreading) + len(self.choosing) + len(self.graph.sinks) if self.workers > 1 else 0

    @property
    def vectors(self) -> int:
        """How many vectors a worker has; the last is scratch for handing over."""
        return len(self.entries) + len(self.graph.sinks) + 2

    def outputs(self, node: Node) -> list[Exit]:
        """The doors by which packets go on; the default one only if it leads somewhere."""
        return [e for e in self.exits[node] if e.door not in node.drops and (e.door != DEFAULT or e.target is not None)]

    def drops(self, node: Node) -> list[Exit]:
        """The doors by which packets are dropped."""
        return [e for e in self.exits[node] if e.door in node.drops]

    @property
    def places(self) -> list[str]:
        """What every place is called, in the order of their slots: sources, nodes, sinks."""
        graph = self.graph
        return [
            *(f"{port.spec} (in)" for port in graph.sources),
            *(node.name for node in self.order),
            *(f"{port.spec} (out)" for port in graph.sinks),
        ]

    def bind(self, key: Any) -> int:
        """Index of the binding of ``("rx" or "tx", port)``, ``("stage", port, name)`` or a captured state's name."""
        return self.bindings.setdefault(key, len(self.bindings))


def prefers_prefetch(node: Node) -> bool:
    """Whether a node's prefetch half pays: only when a table it uses says that it outgrows the cache."""
    if node.prefetch is None:
        return False
    from wirespeed.graph.capture import scope_of

    near, far = scope_of(node.prefetch)
    names = node.prefetch.__code__.co_names + node.prefetch.__code__.co_freevars
    for name in names:
        value = near.get(name, far.get(name))
        outgrows = getattr(value, "outgrows_cache", None)
        if callable(outgrows):
            return bool(outgrows())
    return True


def make_plan(graph: Graph, shape: str = FUSED, workers: int = 1, burst: int = 32, checked: bool = False) -> Plan:
    """Check the graph and lay it out.

    Raises:
        GraphError: the graph cannot run.
    """
    graph.check()
    plan = Plan(graph, shape, workers, burst, order=graph.order(), checked=checked)
    leads: dict[Node, int] = {}
    for (source, _), target in graph.edges.items():
        if isinstance(target, Node):
            leads[target] = leads.get(target, 0) + (2 if isinstance(source, Port) else 1)
    for node in plan.order:
        if shape != FUSED or leads[node] > 1 or prefers_prefetch(node) or node in plan.choosing:
            plan.entries.append(node)
        exits = []
        for door in doors(node):
            target = graph.edges.get((node, door))
            exits.append(Exit(node, door, target, plan.counters))
            plan.counters += 1
        plan.exits[node] = exits
    for port in graph.sources:
        plan.bind(("rx", port))
    for port in graph.sinks:
        plan.bind(("tx", port))
    return plan


__all__ = ["DEFAULT", "FUSED", "PROFILE", "SPLIT", "Exit", "Plan", "make_plan"]

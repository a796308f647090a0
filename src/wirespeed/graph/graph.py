"""A graph: ports and nodes, joined, and checked before any packet moves."""

from collections.abc import Iterable
from typing import Any

from wirespeed.errors import GraphError
from wirespeed.graph.node import DEFAULT, Node
from wirespeed.graph.source import number_doors
from wirespeed.ports.port import Port
from wirespeed.ports.wiring import Chain
from wirespeed.timers.timers import Timers


def _door(node: Node, door: str) -> str:
    return f"{node.name}[{door!r}]" if door else f"{node.name}'s default output"


class Graph:
    """Places and the edges between them. Build with :meth:`add`; nothing is opened or compiled here."""

    def __init__(self) -> None:
        self.edges: dict[tuple[Any, str], Any] = {}
        self._places: list[Any] = []
        self._numbers: dict[Port, int] = {}
        self._last = -1
        self.timers: list[Timers] = []

    def add(self, chain: Chain) -> None:
        """Add every edge of ``a >> b >> c``.

        Raises:
            GraphError: a door that already leads elsewhere, or not a chain. Nothing is added then.
        """
        if not isinstance(chain, Chain) or not chain.edges:
            raise GraphError(f"graph.add takes a chain such as `port >> node >> port`, not {chain!r}")
        edges = dict(self.edges)
        for edge in chain.edges:
            if edges.setdefault((edge.source, edge.door), edge.target) is not edge.target:
                name = _door(edge.source, edge.door) if isinstance(edge.source, Node) else repr(edge.source)
                led = edges[edge.source, edge.door]
                raise GraphError(f"{name} already leads to {led!r}; a door leads to one place")
        self.edges = edges
        for edge in chain.edges:
            for place in (edge.source, edge.target):
                if not any(place is known for known in self._places):
                    self._places.append(place)
                    if isinstance(place, Port):
                        self._last += 1
                        self._numbers[place] = self._last

    def drive(self, timers: Timers) -> None:
        """Let this graph's workers drive ``timers``. Those that a node holds they drive anyway.

        Raises:
            GraphError: not timers.
        """
        if not isinstance(timers, Timers):
            raise GraphError(f"graph.drive takes timers, ws.Timers(...), not {timers!r}")
        if timers not in self.timers:
            self.timers.append(timers)

    @property
    def nodes(self) -> list[Node]:
        """Nodes, in the order they were added."""
        return [place for place in self._places if isinstance(place, Node)]

    @property
    def ports(self) -> list[Port]:
        """Ports, in the order they were added."""
        return [place for place in self._places if isinstance(place, Port)]

    def number(self, port: Port) -> int:
        """What ``pkt.port`` says of packets from ``port``: its index in ``ports``, as long as none was taken away."""
        return self._numbers[port]

    @property
    def sources(self) -> list[Port]:
        """Ports that packets come in by."""
        return [port for port in self.ports if (port, DEFAULT) in self.edges]

    @property
    def sinks(self) -> list[Port]:
        """Ports that packets go out by."""
        return [port for port in self.ports if any(target is port for target in self.edges.values())]

    # Other graphs made of this one, for a graph that runs --------------------------------------------------

    def copy(self) -> "Graph":
        """The same places and edges once more, to be changed; ports keep their numbers."""
        made = Graph()
        made.edges, made._places, made.timers = dict(self.edges), list(self._places), list(self.timers)
        made._numbers, made._last = dict(self._numbers), self._last
        return made

    def without(self, port: Port, instead: Any) -> "Graph":
        """This graph without ``port``: what led to it leads to ``instead``; what no packet reaches then is left out.

        Raises:
            GraphError: it is not one of the graph's ports, or no source is left.
        """
        if port not in self._numbers:
            raise GraphError(f"{port!r} is not in this graph, which has {', '.join(each.spec for each in self.ports)}")
        made = self.copy()
        made._places = [place for place in self._places if place is not port]
        led = any(target is port and source is not port for (source, _), target in self.edges.items())
        if led and not any(place is instead for place in made._places):
            made._places.append(instead)
            if isinstance(instead, Port):
                made._last += 1
                made._numbers[instead] = made._last
        made.edges = {
            (source, door): instead if target is port else target
            for (source, door), target in self.edges.items()
            if source is not port
        }
        if not made.sources:
            raise GraphError(f"{port!r} is the only source of this graph: stop the engine instead of removing it")
        reached = made._reached()
        made._places = [place for place in made._places if any(place is each for each in reached)]
        made.edges = {key: target for key, target in made.edges.items() if any(key[0] is each for each in reached)}
        made._numbers = {each: number for each, number in made._numbers.items() if each in made._places}
        return made

    def follow(self, other: "Graph") -> None:
        """Give ports that are in ``other`` too the numbers they have there, and no other port a number used there."""
        if other is self:
            return
        last = max(other._last, self._last)
        for port, number in self._numbers.items():
            if port in other._numbers:
                self._numbers[port] = other._numbers[port]
            elif number <= other._last:
                last += 1
                self._numbers[port] = last
        self._last = last

    # Checks ------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Find what would make the graph not run.

        Raises:
            GraphError: no source; a port that cannot do what it is joined for; two nodes of one name; a dangling
                output; a cycle without a queue; a place that no packet can reach.
            NodeError: a node that returns a door it does not declare.
        """
        if not self.sources:
            raise GraphError("the graph has no source: join a port to its first node, ws.port(...) >> node")
        for port in self.sources:
            if port.receive is None:
                raise GraphError(f"port {port.spec!r} gives no packets: it can only stand at the end of a chain")
        for port in self.sinks:
            if port.transmit is None:
                raise GraphError(f"port {port.spec!r} takes no packets: it can only stand at the start of a chain")
        names: dict[str, Node] = {}
        for node in self.nodes:
            if names.setdefault(node.name, node) is not node:
                raise GraphError(
                    f"two nodes are called {node.name!r}; call one of them something else: node.named('...')"
                )
            self._check_doors(node)
        self._check_reach()
        self.order()

    def _check_doors(self, node: Node) -> None:
        _, used = number_doors(node)
        for door in node.outputs:
            if (node, door) not in self.edges:
                raise GraphError(
                    f"{_door(node, door)} leads nowhere ({node.where}): join it, "
                    f"graph.add({node.name}[{door!r}] >> ...), or declare it in drops"
                )
        if DEFAULT in used and (node, DEFAULT) not in self.edges:
            raise GraphError(
                f"{_door(node, DEFAULT)} leads nowhere ({node.where}): join it, graph.add({node.name} >> ...), "
                "or return the name of a door on every path"
            )

    def _reached(self) -> list[Any]:
        """Every place that packets can come to."""
        reached: list[Any] = []
        waiting: list[Any] = list(self.sources)
        while waiting:
            place = waiting.pop()
            if not any(place is known for known in reached):
                reached.append(place)
                waiting.extend(self.targets(place))
        return reached

    def _check_reach(self) -> None:
        reached = self._reached()
        for place in self._places:
            if not any(place is known for known in reached):
                raise GraphError(f"no packet can reach {place!r}: nothing that starts at a port leads there")

    def targets(self, place: Any) -> Iterable[Any]:
        """Where the doors of ``place`` lead."""
        return [target for (source, _), target in self.edges.items() if source is place]

    def order(self) -> list[Node]:
        """Nodes so that each comes before those its doors lead to.

        Raises:
            GraphError: there is a cycle; packets would go round within one burst for ever.
        """
        state: dict[Node, int] = {}
        done: list[Node] = []

        def visit(node: Node, path: list[Node]) -> None:
            if state.get(node) == 2:
                return
            if state.get(node) == 1:
                circle = " >> ".join(step.name for step in [*path[path.index(node) :], node])
                raise GraphError(
                    f"the graph goes in a circle: {circle}; put a queue in it: >> ws.port('ring:again') and from "
                    "the same ring on"
                )
            state[node] = 1
            for target in self.targets(node):
                if isinstance(target, Node):
                    visit(target, [*path, node])
            state[node] = 2
            done.insert(0, node)

        for port in reversed(self.sources):
            first = self.edges[port, DEFAULT]
            if isinstance(first, Node):
                visit(first, [])
        return done

    def __str__(self) -> str:
        lines = []
        for (source, door), target in self.edges.items():
            left = f"{source.name}[{door!r}]" if door else getattr(source, "name", source)
            lines.append(f"{left} >> {getattr(target, 'name', target)}")
        return "\n".join(lines)

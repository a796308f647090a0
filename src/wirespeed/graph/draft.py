"""What the parts of a generated module share: the nodes' text, their names in it, and the lines written so far."""

from collections.abc import Callable
from typing import Any

from wirespeed.errors import GraphError
from wirespeed.graph.capture import Captured, rename
from wirespeed.graph.layout import MAX_WHEELS, binding
from wirespeed.graph.node import Node
from wirespeed.graph.plan import PROFILE, Exit, Plan, prefers_prefetch
from wirespeed.graph.source import number_doors, plain
from wirespeed.ports.offloads import Offload
from wirespeed.ports.port import Port
from wirespeed.ports.software.software import Stage
from wirespeed.timers.timers import Timers
from wirespeed.wire.header import Header
from wirespeed.wire.parse import LEVEL

_WRITTEN = {
    "gso_size": Offload.HANDED_ON,
    "checksum_state": Offload.TX_CHECKSUM,
    "vlan_tci": Offload.VLAN_INSERT,
}
"""What a node asks for that names such a field of the header line."""


class Writer:
    """Lines of Python, indented by ``depth``."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.depth = 0

    def __call__(self, line: str = "") -> None:
        self.lines.append("    " * self.depth + line if line else "")

    def block(self, text: str) -> None:
        """Several lines at once."""
        for line in text.splitlines():
            self(line)


class Draft:
    """A module being written.

    Attributes:
        names: the function that each node became.
        prefetches: the function that a node's prefetch half became, where it is used.
        choices: the function that says which worker runs a node, where nodes choose.
        used: the doors that each node can leave by.
        alone: there is one worker; nothing is handed over.
        profile: the loop measures each place.
        asked: what packets may ask of the port that sends them: some source or node may write it in the header line.
        marks: some node uses ``pkt.mark``, which then travels beside the descriptor.
        timers: the functions that the callbacks of each set of timers became, by the name of that state.
    """

    def __init__(self, plan: Plan, reserved: frozenset[str]) -> None:
        self.plan = plan
        self.captured = Captured(reserved=reserved)
        self.write = Writer()
        self.names: dict[Node, str] = {}
        self.prefetches: dict[Node, str] = {}
        self.choices: dict[Node, str] = {}
        self.used: dict[Node, set[str]] = {}
        self.alone = plan.workers == 1
        self.profile = plan.shape == PROFILE
        self.marks = False
        self.asked = Offload.NONE
        self.timers: dict[str, list[str]] = {}
        self.read_nodes()

    def read_nodes(self) -> None:
        """Read every node; afterwards ``captured`` holds their text."""
        for index, node in enumerate(self.plan.order):
            name = f"n{index}_{''.join(c if c.isalnum() else '_' for c in node.name)}"
            source, used = number_doors(node)
            if node.around is None:
                rename(source, node.function, node.name, name, self.captured)
            else:
                inner = self.captured.name_for(node.function, f"{name}_inside")
                if inner not in self.captured.functions:  # one function may stand behind several nodes
                    rename(source, node.function, node.name, inner, self.captured)
                outer = node.around.make(node.function)
                rename(plain(outer, node.name), outer, node.name, name, self.captured)
            self.names[node], self.used[node] = name, used
            if prefers_prefetch(node) and node.prefetch is not None:
                self.prefetches[node] = self.read_beside(node, node.prefetch, f"{name}_prefetch")
            if node in self.plan.choosing and node.worker is not None:
                self.choices[node] = self.read_beside(node, node.worker, f"{name}_worker")
        self.read_callbacks()
        touched = set().union(*self.captured.touches.values())
        self.marks = "mark" in touched
        if self.marks and self.choices:
            names = ", ".join(node.name for node in self.choices)
            raise GraphError(f"pkt.mark does not go to another worker, and {names} may: keep it in a table instead")
        for port in self.plan.graph.sources:
            self.asked |= port.asks
        for name, offloads in _WRITTEN.items():
            if name in touched:
                self.asked |= offloads
        self.plan.asks_port = "port" in touched
        for state in self.captured.states:
            self.plan.bind(state)

    def read_beside(self, node: Node, function: Callable[..., Any], name: str) -> str:
        """Read a function of the packet that belongs to a node; its name."""
        rename(plain(function, node.name), function, node.name, name, self.captured)
        return name

    def read_callbacks(self) -> None:
        """Read what is called when timers expire: of those the graph drives, nodes hold, and callbacks hold."""
        captured = self.captured
        for timers in self.plan.graph.timers:
            captured.states[captured.name_for(timers, "state_timers")] = timers
        while found := {n: s for n, s in captured.states.items() if isinstance(s, Timers) and n not in self.timers}:
            for state, timers in found.items():
                if len(self.timers) >= MAX_WHEELS:
                    raise GraphError(f"more than {MAX_WHEELS} sets of timers in one graph: let some share one")
                self.timers[state] = []
                for number, function in enumerate(timers.callbacks):
                    name = f"{state}_on{number}_{function.__name__}"
                    rename(plain(function, function.__name__), function, function.__name__, name, captured)
                    self.timers[state].append(name)

    def level(self, functions: list[str]) -> int:
        """The parse level that these functions need."""
        touched = set().union(*(self.captured.touches[name] for name in functions)) if functions else set()
        levels = [LEVEL.get(attribute, 0) for attribute in touched]
        for value in self.captured.objects.values():
            if isinstance(value, type) and issubclass(value, Header):
                levels.append(value.level())
        return max(levels, default=0)

    def call(self, name: str, subject: str = "pkt") -> str:
        """The call of a node's function, or of a callback's."""
        return f"{name}({', '.join([*self.captured.needs[name], subject])})"

    def view(self, state: Any) -> str:
        """The name in the module of a state's view."""
        view = self.captured.name_for(type(state).View, f"{type(state).__name__}View")
        self.captured.objects[view] = type(state).View
        return view

    def bind_states(self) -> None:
        """Fetch every state from the worker's bindings."""
        for name, state in self.captured.states.items():
            self.write(f"{name} = {self.view(state)}(load64(work + {binding(self.plan.bind(name))}))")

    def members(self, entry: Node) -> list[Node]:
        """The nodes of the region that starts at ``entry``."""
        found, waiting = [entry], [entry]
        while waiting:
            for target in self.plan.graph.targets(waiting.pop()):
                if isinstance(target, Node) and target not in self.plan.entries and target not in found:
                    found.append(target)
                    waiting.append(target)
        return found

    def exits(self, node: Node) -> list[Exit]:
        """The doors that the node can leave by."""
        return [exit_ for exit_ in self.plan.exits[node] if exit_.door in self.used[node]]

    def is_inner(self, exit_: Exit) -> bool:
        """Whether a door leads on inside its region: its count is then that of the next node's doors together."""
        return isinstance(exit_.target, Node) and exit_.target not in self.plan.entries

    def led_by(self, entry: Any) -> tuple[bool, bool]:
        """Whether packets come to a place from ports, and whether from nodes."""
        sources = [source for (source, _), target in self.plan.graph.edges.items() if target is entry]
        return any(isinstance(each, Port) for each in sources), any(isinstance(each, Node) for each in sources)

    def place(self, place: Any) -> str:
        """A node by its name; a port by its number, as ``pkt.port`` says it, and its kind."""
        if isinstance(place, Node):
            return place.name
        return f"port {self.plan.graph.number(place)} ({place.kind})"

    def stages(self, index: int, port: Port) -> list[tuple[Stage, str]]:
        """What workers do with packets that source ``index`` has received, and what the functions are called."""
        found = port.software.rx if port.software else []
        named = [(stage, f"stage_{index}_{stage.name}") for stage in found]
        self.captured.objects |= {name: stage.function for stage, name in named}
        return named

    def finishes(self, port: Port) -> bool:
        """Whether packets may ask for something that the device of this sink does not do."""
        return bool(self.asked & ~port.offloads) and port.software is not None and port.software.tx is not None

    def sending(self, index: int, port: Port, cache: str, vector: str, count: str) -> list[str]:
        """The lines that send a vector by sink ``index``, and lose what it does not take."""
        if self.finishes(port) and port.software and port.software.tx:
            record = f"load64(work + {binding(self.plan.bind(('stage', port, port.software.tx.name)))})"
            return [f"send_{index}({record}, queue, {cache}, {vector}, {count})"]
        return [
            f"sent = transmit_{index}(queue, {cache}, {vector}, {count})",
            f"if sent < {count}:",
            f"    lose(queue, {cache}, {vector} + (sent << 3), {count} - sent)",
        ]

    def slot(self, place: Any, sink: bool = False) -> int:
        """The profile slot of a place: sources, then nodes, then sinks."""
        graph = self.plan.graph
        if isinstance(place, Node):
            return len(graph.sources) + self.plan.order.index(place)
        if sink:
            return len(graph.sources) + len(self.plan.order) + graph.sinks.index(place)
        return graph.sources.index(place)

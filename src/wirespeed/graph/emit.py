"""From a plan to the text of a Python module: the loop that one worker runs.

The module is meant to be read. It has the nodes with their doors as numbers, ``process``, which takes one
burst through the graph, and ``run``, which a worker thread calls once. Its name is the digest of all it is
made from, so an old one is never mistaken for a new one, and a second start finds its machine code on disk.
Ports stand in it by number and kind, without their options: which file or interface it is the loop finds at
run time, so the next file needs no compiling.
"""

import ast
import hashlib
from dataclasses import dataclass
from typing import Any

from wirespeed.graph.capture import Captured, identity, rename
from wirespeed.graph.layout import MARKS, VECTOR_STRIDE, binding
from wirespeed.graph.node import DEFAULT, Node
from wirespeed.graph.plan import PROFILE, Exit, Plan, prefers_prefetch
from wirespeed.graph.source import number_doors, plain
from wirespeed.ports.port import Port
from wirespeed.wire.header import Header
from wirespeed.wire.parse import LEVEL, PARSERS

_IMPORTS = """\
from wirespeed.graph.handoff import gather, hand_over, room, spread
from wirespeed.graph.layout import DRAIN, EXIT, RCU_SLOT, RUN, Worker
from wirespeed.graph.support import begin, lose, mark, wait
from wirespeed.jit import cold, cycles, inline, kernel, load64, load_relaxed, store64
from wirespeed.mem.descriptor import META, CellHeader, header_of
from wirespeed.mem.pool import Cache, release
from wirespeed.sync.rcu import offline, online, quiescent
from wirespeed.wire.packet import Packet
"""

_RESERVED = frozenset(
    [alias.name for part in ast.parse(_IMPORTS).body if isinstance(part, ast.ImportFrom) for alias in part.names]
    + [parser.__name__ for parser in PARSERS]
    + ["process", "run"]
)
"""What the module calls its own; a class of the user's with such a name gets another one in it."""


@dataclass
class Emitted:
    """The text of a module and what to put in its globals before its code runs."""

    text: str
    digest: str
    captured: Captured
    nodes: dict[Node, str]  # the function each node became


class _Writer:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.depth = 0

    def __call__(self, line: str = "") -> None:
        self.lines.append("    " * self.depth + line if line else "")

    def block(self, text: str) -> None:
        for line in text.splitlines():
            self(line)


class _Emitter:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.captured = Captured(reserved=_RESERVED)
        self.write = _Writer()
        self.names: dict[Node, str] = {}
        self.prefetches: dict[Node, str] = {}
        self.used: dict[Node, set[str]] = {}
        self.alone = plan.workers == 1
        self.profile = plan.shape == PROFILE
        self.marks = False  # whether any node uses pkt.mark, which then travels beside the descriptor

    # Nodes ---------------------------------------------------------------------------------------------

    def nodes(self) -> None:
        """Read every node; afterwards ``captured`` holds their text."""
        for index, node in enumerate(self.plan.order):
            name = f"n{index}_{''.join(c if c.isalnum() else '_' for c in node.name)}"
            source, used = number_doors(node)
            rename(source, node.function, node.name, name, self.captured)
            self.names[node], self.used[node] = name, used
            if prefers_prefetch(node) and node.prefetch is not None:
                self.prefetches[node] = f"{name}_prefetch"
                source = plain(node.prefetch, node.name)
                rename(source, node.prefetch, node.name, f"{name}_prefetch", self.captured)
        self.marks = any("mark" in touched for touched in self.captured.touches.values())
        for state in self.captured.states:
            self.plan.bind(state)

    def level(self, functions: list[str]) -> int:
        """The parse level that these functions need."""
        touched = set().union(*(self.captured.touches[name] for name in functions)) if functions else set()
        levels = [LEVEL.get(attribute, 0) for attribute in touched]
        for value in self.captured.objects.values():
            if isinstance(value, type) and issubclass(value, Header):
                levels.append(value.level())
        return max(levels, default=0)

    def call(self, name: str) -> str:
        return f"{name}({', '.join([*self.captured.needs[name], 'pkt'])})"

    # process -------------------------------------------------------------------------------------------

    def members(self, entry: Node) -> list[Node]:
        """The nodes of the region that starts at ``entry``."""
        found, waiting = [entry], [entry]
        while waiting:
            for target in self.plan.graph.targets(waiting.pop()):
                if isinstance(target, Node) and target not in self.plan.entries and target not in found:
                    found.append(target)
                    waiting.append(target)
        return found

    def process(self) -> None:
        write, plan = self.write, self.plan
        write("@cold")
        write("def process(work, leads_to, count, port):")
        write.depth += 1
        write('"""Take the burst in vector ``leads_to`` through the graph, send what is to be sent, free the rest."""')
        write("worker = Worker(work)")
        write("cache = Cache(worker.cache)")
        write("cells = cache.cells")
        self.bind_states()
        for index in range(plan.vectors - 1):
            write(f"v{index} = worker.vectors + {index * VECTOR_STRIDE}")
            write(f"c{index} = count if leads_to == {index} else 0")
        for node in plan.order:
            for exit_ in self.exits(node):
                if not self.is_inner(exit_):
                    write(f"d{exit_.counter} = 0")
        write("pkt = Packet()")
        write("pkt.cells = cells")
        if self.alone:
            write("pkt.port = port")
        for entry in plan.entries:
            self.region(entry)
        for port in plan.graph.sinks:
            self.send(port)
        dropped = plan.vector(None)
        write(f"if c{dropped} > 0:")
        write(f"    release(cache, v{dropped}, c{dropped})")
        write("counters = worker.counters")
        for node in reversed(plan.order):
            for exit_ in self.exits(node):
                if self.is_inner(exit_):
                    write(f"d{exit_.counter} = {' + '.join(f'd{e.counter}' for e in self.exits(exit_.target))}")
        for node in plan.order:
            for exit_ in self.exits(node):
                at = f"counters + {exit_.counter * 8}"
                write(f"store64({at}, load64({at}) + d{exit_.counter})")
        write.depth -= 1

    def exits(self, node: Node) -> list[Exit]:
        """The doors that the node can leave by."""
        return [exit_ for exit_ in self.plan.exits[node] if exit_.door in self.used[node]]

    def is_inner(self, exit_: Exit) -> bool:
        """Whether a door leads on inside its region: its count is then that of the next node's doors together."""
        return isinstance(exit_.target, Node) and exit_.target not in self.plan.entries

    def bind_states(self) -> None:
        for name, state in self.captured.states.items():
            view = self.captured.name_for(type(state).View, f"{type(state).__name__}View")
            self.captured.objects[view] = type(state).View
            self.write(f"{name} = {view}(load64(work + {binding(self.plan.bind(name))}))")

    def region(self, entry: Node) -> None:
        write, plan = self.write, self.plan
        vector = plan.vector(entry)
        members = self.members(entry)
        functions = [self.names[node] for node in members]
        following = {target for node in members for target in plan.graph.targets(node)}
        functions += [self.prefetches[target] for target in following if target in self.prefetches]
        parse = PARSERS[self.level(functions)].__name__
        write()
        write(f"# {' + '.join(node.name for node in members)}")
        if entry in self.prefetches and any(plan.graph.edges[port, DEFAULT] is entry for port in plan.graph.sources):
            level = PARSERS[self.level([self.prefetches[entry]])].__name__
            self.loop(vector, level)
            write(self.call(self.prefetches[entry]))
            write.depth -= 1
        if self.profile:
            write("begin(work)")
        self.loop(vector, parse)
        self.tree(entry)
        write.depth -= 1
        if self.profile:
            write(f"mark(work, {self.slot(entry)}, c{vector})")

    def loop(self, vector: int, parse: str) -> None:
        write = self.write
        write(f"for i in range(c{vector}):")
        write.depth += 1
        write(f"pkt.desc = load64(v{vector} + (i << 3))")
        if not self.alone:
            write("pkt.port = port if port >= 0 else CellHeader(header_of(cells, pkt.desc)).port")
        if self.marks:
            write(f"pkt.mark = load64(v{vector} + {MARKS} + (i << 3))" if self.led_by_node(vector) else "pkt.mark = 0")
        write(f"{parse}(pkt)")

    def led_by_node(self, vector: int) -> bool:
        """Whether packets come to this vector from a node, with marks, rather than from a port."""
        entry = self.plan.entries[vector]
        return all(isinstance(source, Node) for (source, _), target in self.plan.graph.edges.items() if target is entry)

    def tree(self, node: Node) -> None:
        """Run a node on ``pkt`` and follow its doors, inside the region's loop."""
        write = self.write
        used = self.exits(node)
        call = self.call(self.names[node])
        if len(used) == 1:
            write(call)
            self.leave(used[0])
            return
        door = f"door_{self.names[node]}"
        write(f"{door} = {call}")
        numbers = {exit_.door: number for number, exit_ in enumerate(self.plan.exits[node])}
        for position, exit_ in enumerate(used):
            last = position == len(used) - 1
            keyword = "if" if position == 0 else "elif"
            write("else:" if last else f"{keyword} {door} == {numbers[exit_.door]}:")
            write.depth += 1
            self.leave(exit_)
            write.depth -= 1

    def leave(self, exit_: Exit) -> None:
        write, plan = self.write, self.plan
        target = exit_.target
        if self.is_inner(exit_):
            self.tree(target)
            return
        write(f"d{exit_.counter} += 1")
        vector = plan.vector(target)
        write(f"store64(v{vector} + (c{vector} << 3), pkt.desc)")
        if self.marks and isinstance(target, Node):
            write(f"store64(v{vector} + {MARKS} + (c{vector} << 3), pkt.mark)")
        write(f"c{vector} += 1")
        if target in self.prefetches:
            write(self.call(self.prefetches[target]))

    def send(self, port: Port) -> None:
        write, plan = self.write, self.plan
        vector, index = plan.vector(port), plan.graph.sinks.index(port)
        write()
        write(f"# to {self.place(port)}")
        write(f"if c{vector} > 0:")
        write.depth += 1
        if self.profile:
            write("begin(work)")
        write(f"queue = load64(work + {binding(plan.bind(('tx', port)))})")
        if not self.alone:
            write("if queue == 0:")
            write(f"    hand_over(work, {len(plan.graph.sources) + index}, v{vector}, c{vector})")
            write("else:")
            write.depth += 1
        write(f"sent = transmit_{index}(queue, cache.address, v{vector}, c{vector})")
        write(f"if sent < c{vector}:")
        write(f"    lose(queue, cache.address, v{vector} + (sent << 3), c{vector} - sent)")
        if not self.alone:
            write.depth -= 1
        if self.profile:
            write(f"mark(work, {self.slot(port, sink=True)}, c{vector})")
        write.depth -= 1

    def place(self, place: Any) -> str:
        """A node by its name; a port by its number, as ``pkt.port`` says it, and its kind."""
        if isinstance(place, Node):
            return place.name
        return f"port {self.plan.graph.ports.index(place)} ({place.spec.partition(':')[0]})"

    def slot(self, place: Any, sink: bool = False) -> int:
        """The profile slot of a place: sources, then nodes, then sinks."""
        graph = self.plan.graph
        if isinstance(place, Node):
            return len(graph.sources) + self.plan.order.index(place)
        if sink:
            return len(graph.sources) + len(self.plan.order) + graph.sinks.index(place)
        return graph.sources.index(place)

    # run -----------------------------------------------------------------------------------------------

    def run(self) -> None:
        write, plan = self.write, self.plan
        write("@kernel")
        write("def run(work):")
        write.depth += 1
        write('"""The worker: receive, process, send, until told otherwise; returns the command that ended it."""')
        write("worker = Worker(work)")
        write("cache = worker.cache")
        for index, port in enumerate(plan.graph.sources):
            write(f"rx{index} = load64(work + {binding(plan.bind(('rx', port)))})")
            write(f"open{index} = rx{index} != 0")
        write("online(work + RCU_SLOT)")
        write("idle = 0")
        write("while True:")
        write.depth += 1
        write("command = load_relaxed(work)")
        write("if command >= EXIT:")
        write("    break")
        write("moved = 0")
        write("if command == RUN:")
        write.depth += 1
        for index, port in enumerate(plan.graph.sources):
            self.receive(index, port)
        write.depth -= 1
        if not self.alone:
            self.gather()
        self.turn()
        write.depth -= 1
        write("offline(work + RCU_SLOT)")
        write("return command")
        write.depth -= 1

    def receive(self, index: int, port: Port) -> None:
        write, plan = self.write, self.plan
        target = plan.vector(plan.graph.edges[port, DEFAULT])
        number = plan.graph.ports.index(port)
        write(f"# from {self.place(port)}")
        write(f"if open{index}:" if self.alone else f"if open{index} and room(work, 0, {plan.burst}):")
        write.depth += 1
        if self.profile:
            write("begin(work)")
        write(f"count = receive_{index}(rx{index}, cache, worker.vectors + {target * VECTOR_STRIDE}, {plan.burst})")
        if self.profile:
            write(f"mark(work, {self.slot(port)}, max(count, 0))")
        write("if count > 0:")
        write.depth += 1
        write("moved += count")
        if not self.alone:
            write(f"count = spread(work, {index}, worker.vectors + {target * VECTOR_STRIDE}, count, {number})")
        write(f"process(work, {target}, count, {number})")
        write("if worker.first == 0:")
        write("    worker.first = cycles()")
        write.depth -= 1
        write("elif count < 0:")
        write(f"    open{index} = False")
        write.depth -= 1

    def gather(self) -> None:
        write, plan = self.write, self.plan
        scratch = plan.vectors - 1
        for index, port in enumerate(plan.graph.sources):
            target = plan.vector(plan.graph.edges[port, DEFAULT])
            write(f"# from other workers: {self.place(port)}")
            write(f"if room(work, {len(plan.graph.sources)}, {plan.burst}):")
            write.depth += 1
            write(f"count = gather(work, {index}, worker.vectors + {target * VECTOR_STRIDE}, {plan.burst})")
            write("if count > 0:")
            write("    moved += count")
            write(f"    process(work, {target}, count, -1)")
            write.depth -= 1
        for index, port in enumerate(plan.graph.sinks):
            write(f"# for this worker to send: {self.place(port)}")
            write(f"queue = load64(work + {binding(plan.bind(('tx', port)))})")
            write("if queue != 0:")
            write.depth += 1
            vector = f"worker.vectors + {scratch * VECTOR_STRIDE}"
            write(f"count = gather(work, {len(plan.graph.sources) + index}, {vector}, {plan.burst})")
            write("if count > 0:")
            write.depth += 1
            write("moved += count")
            write(f"sent = transmit_{index}(queue, cache, {vector}, count)")
            write("if sent < count:")
            write(f"    lose(queue, cache, {vector} + (sent << 3), count - sent)")
            write.depth -= 2

    def turn(self) -> None:
        write, plan = self.write, self.plan
        write("quiescent(work + RCU_SLOT)")
        write("worker.loops += 1")
        write("if moved > 0:")
        write("    worker.busy += 1")
        write("    idle = 0")
        write("else:")
        write.depth += 1
        active = [f"open{i}" for i, port in enumerate(plan.graph.sources) if not port.passive]
        over = f"not ({' or '.join(active)})" if active else "False"
        write(f"if {over}:")
        write("    worker.ended = 1")
        if self.alone:
            write("    break")
        write("idle += 1")
        write("wait(work, idle)")
        write.depth -= 1

    # the module ----------------------------------------------------------------------------------------

    def module(self) -> Emitted:
        self.nodes()
        write = self.write
        for port in self.plan.graph.sources:
            self.captured.objects[f"receive_{self.plan.graph.sources.index(port)}"] = port.receive
        for port in self.plan.graph.sinks:
            self.captured.objects[f"transmit_{self.plan.graph.sinks.index(port)}"] = port.transmit
        self.process()
        write()
        write()
        self.run()
        body = "\n".join(self.write.lines)
        head = _Writer()
        head(f'"""One worker\'s loop, {self.plan.shape}; written by wirespeed, do not edit.')
        head()
        for (source, door), target in self.plan.graph.edges.items():
            left = f"{source.name}[{door!r}]" if door else self.place(source)
            head(f"    {left} >> {self.place(target)}")
        head('"""')
        head()
        head.block(_IMPORTS)
        head.block(f"from wirespeed.wire.parse import {', '.join(parser.__name__ for parser in PARSERS)}")
        head()
        head("# Put here before this module runs:")
        for name, value in sorted(self.captured.objects.items()):
            head(f"#     {name} = {identity(value)}")
        for name, text in self.captured.functions.items():
            head()
            head()
            head(f"# {self.captured.origins[name]}")
            head("@inline")
            head.block(text)
        head()
        head()
        whole = "\n".join(head.lines) + "\n" + body + "\n"
        digest = hashlib.sha256(whole.encode()).hexdigest()[:20]
        return Emitted(whole, digest, self.captured, dict(self.names))


def emit(plan: Plan) -> Emitted:
    """Write the module for ``plan``; binds the states it captures in ``plan.bindings``."""
    return _Emitter(plan).module()


__all__ = ["Emitted", "emit"]

"""The middle of a generated module: ``process``, which takes one burst through the graph.

Each region is a loop over its vector. Inside it the region's nodes are nested by their doors; a door that leads out
of the region puts the descriptor in the vector of a later region, of a port, or of the drops. Packets are counted
where they leave a region; what passed the doors inside follows from that.
"""

from wirespeed.graph.draft import Draft
from wirespeed.graph.layout import MARKS, VECTOR_STRIDE, binding
from wirespeed.graph.node import DEFAULT, Node
from wirespeed.graph.plan import Exit
from wirespeed.ports.port import Port
from wirespeed.wire.parse import PARSERS


class ProcessPart:
    """Writes ``process``."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft

    def process(self) -> None:
        draft = self.draft
        write, plan = draft.write, draft.plan
        write("@cold")
        write("def process(work, leads_to, count, port):")
        write.depth += 1
        write('"""Take the burst in vector ``leads_to`` through the graph, send what is to be sent, free the rest."""')
        write("worker = Worker(work)")
        write("cache = Cache(worker.cache)")
        write("cells = cache.cells")
        draft.bind_states()
        for index in range(plan.vectors - 1):
            write(f"v{index} = worker.vectors + {index * VECTOR_STRIDE}")
            write(f"c{index} = count if leads_to == {index} else 0")
        for node in plan.order:
            for exit_ in draft.exits(node):
                if not draft.is_inner(exit_):
                    write(f"d{exit_.counter} = 0")
        write("pkt = Packet()")
        write("pkt.cells = cells")
        write("pkt.cache = cache.address")
        if draft.alone:
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
            for exit_ in draft.exits(node):
                if draft.is_inner(exit_):
                    write(f"d{exit_.counter} = {' + '.join(f'd{e.counter}' for e in draft.exits(exit_.target))}")
        for node in plan.order:
            for exit_ in draft.exits(node):
                at = f"counters + {exit_.counter * 8}"
                write(f"store64({at}, load64({at}) + d{exit_.counter})")
        write.depth -= 1

    def region(self, entry: Node) -> None:
        draft = self.draft
        write, plan = draft.write, draft.plan
        vector = plan.vector(entry)
        members = draft.members(entry)
        functions = [draft.names[node] for node in members]
        following = {target for node in members for target in plan.graph.targets(node)}
        functions += [draft.prefetches[target] for target in following if target in draft.prefetches]
        parse = PARSERS[0 if entry.parses else draft.level(functions)].__name__
        write()
        write(f"# {' + '.join(node.name for node in members)}")
        from_ports = entry in draft.prefetches and entry not in draft.choices
        if from_ports and any(plan.graph.edges[port, DEFAULT] is entry for port in plan.graph.sources):
            level = PARSERS[draft.level([draft.prefetches[entry]])].__name__
            self.loop(vector, level)
            write(draft.call(draft.prefetches[entry]))
            write.depth -= 1
        if draft.profile:
            write("begin(work)")
        if entry in draft.choices:
            self.choose(entry)
        self.loop(vector, parse)
        self.tree(entry)
        write.depth -= 1
        if draft.profile:
            write(f"mark(work, {draft.slot(entry)}, c{vector})")

    def choose(self, entry: Node) -> None:
        """Keep what this worker is to run ``entry`` on, give others theirs. What came from them has been through it."""
        draft = self.draft
        write, plan = draft.write, draft.plan
        vector = plan.vector(entry)
        write(f"if leads_to != {vector} or port != -2:")
        write.depth += 1
        write(f"before{vector} = c{vector}")
        write(f"c{vector} = 0")
        write("begin_lines(work)")
        self.loop(vector, PARSERS[draft.level([draft.choices[entry]])].__name__, f"before{vector}")
        write(f"chosen = choose(work, {draft.call(draft.choices[entry])})")
        write("if chosen == worker.index:")
        write(f"    store64(v{vector} + (c{vector} << 3), pkt.desc)")
        write(f"    c{vector} += 1")
        write("else:")
        write("    set_aside(work, chosen, pkt.desc, port)")
        write.depth -= 1
        write(f"send_lines(work, {plan.channel(entry)})")
        write.depth -= 1
        if entry in draft.prefetches:
            self.loop(vector, PARSERS[draft.level([draft.prefetches[entry]])].__name__)
            write(draft.call(draft.prefetches[entry]))
            write.depth -= 1

    def loop(self, vector: int, parse: str, count: str = "") -> None:
        draft = self.draft
        write = draft.write
        write(f"for i in range({count or f'c{vector}'}):")
        write.depth += 1
        write(f"pkt.desc = load64(v{vector} + (i << 3))")
        if not draft.alone:
            write("pkt.port = port if port >= 0 else CellHeader(header_of(cells, pkt.desc)).port")
        if draft.marks:
            _, by_nodes = draft.led_by(draft.plan.entries[vector])
            write(f"pkt.mark = load64(v{vector} + {MARKS} + (i << 3))" if by_nodes else "pkt.mark = 0")
        write(f"{parse}(pkt)")

    def tree(self, node: Node) -> None:
        """Run a node on ``pkt`` and follow its doors, inside the region's loop."""
        draft = self.draft
        write, plan = draft.write, draft.plan
        used = draft.exits(node)
        if plan.checked:
            write(f"hold(cache, pkt.desc, {draft.slot(node) + 1})")
        call = draft.call(draft.names[node])
        if len(used) == 1:
            write(call)
            self.leave(used[0])
            return
        door = f"door_{draft.names[node]}"
        write(f"{door} = {call}")
        numbers = {exit_.door: number for number, exit_ in enumerate(plan.exits[node])}
        for position, exit_ in enumerate(used):
            last = position == len(used) - 1
            keyword = "if" if position == 0 else "elif"
            write("else:" if last else f"{keyword} {door} == {numbers[exit_.door]}:")
            write.depth += 1
            self.leave(exit_)
            write.depth -= 1

    def leave(self, exit_: Exit) -> None:
        draft = self.draft
        write, plan = draft.write, draft.plan
        target = exit_.target
        if draft.is_inner(exit_):
            self.tree(target)
            return
        write(f"d{exit_.counter} += 1")
        vector = plan.vector(target)
        write(f"store64(v{vector} + (c{vector} << 3), pkt.desc)")
        if draft.marks and isinstance(target, Node):
            write(f"store64(v{vector} + {MARKS} + (c{vector} << 3), pkt.mark)")
        write(f"c{vector} += 1")
        if target in draft.prefetches and target not in draft.choices:
            write(draft.call(draft.prefetches[target]))

    def send(self, port: Port) -> None:
        draft = self.draft
        write, plan = draft.write, draft.plan
        vector, index = plan.vector(port), plan.graph.sinks.index(port)
        write()
        write(f"# to {draft.place(port)}")
        write(f"if c{vector} > 0:")
        write.depth += 1
        if plan.checked:
            write(f"hold_all(cache, v{vector}, c{vector}, {draft.slot(port, sink=True) + 1})")
        if draft.profile:
            write("begin(work)")
        write(f"queue = load64(work + {binding(plan.bind(('tx', port)))})")
        if not draft.alone:
            write("if queue == 0:")
            write(f"    hand_over(work, {plan.channel(port, sink=True)}, v{vector}, c{vector})")
            write("else:")
            write.depth += 1
        for line in draft.sending(index, port, "cache.address", f"v{vector}", f"c{vector}"):
            write(line)
        if not draft.alone:
            write.depth -= 1
        if draft.profile:
            write(f"mark(work, {draft.slot(port, sink=True)}, c{vector})")
        write.depth -= 1

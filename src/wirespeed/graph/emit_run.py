"""The end of a generated module: ``run``, which a worker thread calls once.

A turn receives a burst from each source and takes it through the graph, so that a node knows by which port a packet
came; with several workers it then takes what the others have for it. Between turns nothing shared is held. Timers
come first in a turn, so that nodes start theirs from the time of this turn.

A source that seldom has something (:attr:`wirespeed.ports.port.Port.seldom`) is left out of most turns of a worker
that has enough to do: it is looked at when the turn before moved nothing, when it had something last time, and in one
turn of eight.
"""

from wirespeed.graph.draft import Draft
from wirespeed.graph.emit_timers import TimersPart
from wirespeed.graph.layout import MARKS, VECTOR_STRIDE, binding
from wirespeed.graph.node import DEFAULT, Node
from wirespeed.ports.port import Port

_SELDOM = 8  # turns of a busy worker from one look at a source that seldom has something to the next, a power of two


class RunPart:
    """Writes ``run``."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft

    def run(self) -> None:
        draft = self.draft
        write, plan = draft.write, draft.plan
        write("@kernel")
        write("def run(work):")
        write.depth += 1
        write('"""The worker: receive, process, send, until told otherwise; returns the command that ended it."""')
        write("worker = Worker(work)")
        write("cache = worker.cache")
        for index, port in enumerate(plan.graph.sources):
            write(f"rx{index} = load64(work + {binding(plan.bind(('rx', port)))})")
            write(f"open{index} = rx{index} != 0")
            if port.seldom:
                write(f"last{index} = 0")
        timers = TimersPart(draft)
        timers.begin()
        write("online(work + RCU_SLOT)")
        write("idle = 0")
        write("while True:")
        write.depth += 1
        write("command = load_relaxed(work)")
        write("if command >= EXIT:")
        write("    break")
        write("moved = 0")
        timers.turn()
        write("if command == RUN:")
        write.depth += 1
        for index, port in enumerate(plan.graph.sources):
            self.receive(index, port)
        write.depth -= 1
        if not draft.alone:
            self.gather()
        self.flush()
        self.turn()
        write.depth -= 1
        write("offline(work + RCU_SLOT)")
        write("return command")
        write.depth -= 1

    def receive(self, index: int, port: Port) -> None:
        draft = self.draft
        write, plan = draft.write, draft.plan
        target = plan.vector(plan.graph.edges[port, DEFAULT])
        number = plan.graph.number(port)
        write(f"# from {draft.place(port)}")
        when = f"open{index}"
        if port.seldom:
            when += f" and (idle > 0 or last{index} > 0 or worker.loops & {_SELDOM - 1} == 0)"
        first = 0 if port in plan.spreading else len(plan.spreading)
        write(f"if {when}:" if draft.alone else f"if {when} and room(work, {first}, {plan.burst}):")
        write.depth += 1
        if draft.profile:
            write("begin(work)")
        write(f"count = receive_{index}(rx{index}, cache, worker.vectors + {target * VECTOR_STRIDE}, {plan.burst})")
        if port.seldom:
            write(f"last{index} = count")
        if draft.profile:
            write(f"mark(work, {draft.slot(port)}, max(count, 0))")
        write("if count > 0:")
        write.depth += 1
        write("moved += count")
        if plan.checked:
            vector = f"worker.vectors + {target * VECTOR_STRIDE}"
            write(f"hold_all(Cache(cache), {vector}, count, {draft.slot(port) + 1})")
        for stage, name in draft.stages(index, port):
            at = f"load64(work + {binding(plan.bind(('stage', port, stage.name)))})"
            write(f"count = {name}({at}, cache, worker.vectors + {target * VECTOR_STRIDE}, count)")
        if port in plan.spreading:
            vector = f"worker.vectors + {target * VECTOR_STRIDE}"
            write(f"count = spread(work, {plan.channel(port)}, {vector}, count, {number})")
        self.unmark(port)
        write(f"process(work, {target}, count, {number})")
        write("if worker.first == 0:")
        write("    worker.first = cycles()")
        write.depth -= 1
        write("elif count < 0:")
        write(f"    open{index} = False")
        write.depth -= 1

    def gather(self) -> None:
        draft = self.draft
        write, plan = draft.write, draft.plan
        scratch = plan.vectors - 1
        for port in plan.spreading:
            self.take(port, plan.graph.edges[port, DEFAULT], len(plan.spreading), -1)
        for node in plan.choosing:
            self.take(node, node, plan.channel(node) + 1, -2)
        for index, port in enumerate(plan.graph.sinks):
            write(f"# for this worker to send: {draft.place(port)}")
            write(f"queue = load64(work + {binding(plan.bind(('tx', port)))})")
            write("if queue != 0:")
            write.depth += 1
            vector = f"worker.vectors + {scratch * VECTOR_STRIDE}"
            write(f"count = gather(work, {plan.channel(port, sink=True)}, {vector}, {plan.burst})")
            write("if count > 0:")
            write.depth += 1
            write("moved += count")
            for line in draft.sending(index, port, "cache", vector, "count"):
                write(line)
            write.depth -= 2

    def take(self, place: Port | Node, entry: Node, later: int, port: int) -> None:
        """A burst that others have for this worker, by the channel of ``place``; it may go on to those from ``later``
        on."""
        draft = self.draft
        write, plan = draft.write, draft.plan
        target, channel = plan.vector(entry), plan.channel(place)
        write(f"# from other workers: {draft.place(place)}")
        write(f"if room(work, {later}, {plan.burst}):")
        write.depth += 1
        write(f"count = gather(work, {channel}, worker.vectors + {target * VECTOR_STRIDE}, {plan.burst})")
        write("if count > 0:")
        write.depth += 1
        write("moved += count")
        if isinstance(place, Port):
            self.unmark(place)
        write(f"process(work, {target}, count, {port})")
        write.depth -= 2

    def flush(self) -> None:
        """Sinks that keep packets until their time comes; while one does, the worker neither sleeps nor ends."""
        write, plan = self.draft.write, self.draft.plan
        for index, port in enumerate(plan.graph.sinks):
            if port.flush is None:
                continue
            write(f"queue = load64(work + {binding(plan.bind(('tx', port)))})")
            write("if queue != 0:")
            write(f"    moved += flush_{index}(queue, cache)")

    def unmark(self, port: Port) -> None:
        """Packets that join others from nodes begin with a mark of 0."""
        draft = self.draft
        entry = draft.plan.graph.edges[port, DEFAULT]
        if draft.marks and draft.led_by(entry) == (True, True):
            marks = draft.plan.vector(entry) * VECTOR_STRIDE + MARKS
            draft.write(f"fill(worker.vectors + {marks}, 0, count << 3)")

    def turn(self) -> None:
        draft = self.draft
        write, plan = draft.write, draft.plan
        write("quiescent(work + RCU_SLOT)")
        write("worker.loops += 1")
        write("if moved > 0:")
        write("    worker.busy += 1")
        write("    idle = 0")
        write("else:")
        write.depth += 1
        active = [f"open{i}" for i, port in enumerate(plan.graph.sources) if not port.passive]
        over = f"not ({' or '.join(active)})" if active else "False"
        if any(port.seldom for port in plan.graph.sources):
            over += " and idle > 0"  # in a turn that looked at all of them
        write(f"if {over}:")
        write("    worker.ended = 1")
        if draft.alone:
            write("    break")
        write("idle += 1")
        write("if tired(work, idle) != 0:")
        write.depth += 1
        self.block()
        write.depth -= 2

    def block(self) -> None:
        """Ports whose peers must be asked for a wake-up are asked, and looked at once more."""
        write = self.draft.write
        armed = [index for index, port in enumerate(self.draft.plan.graph.sources) if port.arm is not None]
        write("ready = 0")
        for index in armed:
            write(f"if open{index}:")
            write(f"    ready |= arm_{index}(rx{index}, 1)")
        write("block(work, ready)")
        for index in armed:
            write(f"if open{index}:")
            write(f"    arm_{index}(rx{index}, 0)")

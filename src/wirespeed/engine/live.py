"""Another graph for workers that run: ports and nodes come and go, and the others do not miss a packet.

Everything that takes time is done beside the running loop: new ports are opened, the new loop is compiled, its memory
is laid out. Then every worker leaves its loop for a moment (:meth:`wirespeed.engine.workers.Workers.exchange`), and
while none runs

- counters of nodes that stay are carried over, and so is what a worker's record says of its progress;
- packets between workers move to the rings of the new graph, those for a port or node that goes are freed and counted;
- grace periods are answered in the new records.

What arrives in that moment, less than a millisecond when the machine has a core for each worker, waits in the rings of
the ports. Ports that are in both graphs keep their queues, their counters and their number (``pkt.port``).
"""

import threading
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from wirespeed.engine.assign import Queues, assign_queues, connect, furnish, owner
from wirespeed.engine.memory import EngineMemory
from wirespeed.errors import GraphError, PortError, WirespeedError
from wirespeed.graph.build import Built, build
from wirespeed.graph.graph import Graph
from wirespeed.graph.layout import RCU_SLOT, Worker
from wirespeed.graph.node import Node
from wirespeed.graph.plan import Plan, make_plan
from wirespeed.jit import copy, kernel, load64, store64
from wirespeed.mem.pool import BATCH
from wirespeed.mem.region import Region
from wirespeed.ports.null import Sink, SinkOptions
from wirespeed.ports.port import Port, PortStats
from wirespeed.ports.queue import Queue
from wirespeed.ports.wiring import Chain
from wirespeed.sync.ring import RingView, mp_enqueue, sc_dequeue
from wirespeed.timers.timers import Timers

if TYPE_CHECKING:
    from wirespeed.engine.engine import Engine

_PROGRESS, _PROGRESS_BYTES = Worker.loops.offset, Worker.cache.offset - Worker.loops.offset


@kernel
def _move(source, target, scratch):  # type: ignore[no-untyped-def]
    """Bring everything in one ring into another, which has the room."""
    moved = 0
    got = sc_dequeue(source, scratch, BATCH)
    while got > 0:
        mp_enqueue(target, scratch, got)
        moved += got
        got = sc_dequeue(source, scratch, BATCH)
    return moved


def _ways(plan: Plan) -> list[tuple[Any, bool]]:
    """Where packets go from worker to worker: (the port or node, whether it is a sink)."""
    return [(each, False) for each in (*plan.spreading, *plan.choosing)] + [(port, True) for port in plan.graph.sinks]


class Change:
    """From the graph that ``engine`` runs to ``graph``, which is not changed any more."""

    def __init__(self, engine: "Engine", graph: Graph) -> None:
        self.engine, self.graph = engine, graph
        self.before = engine.graph
        self.arriving = [port for port in graph.ports if port not in self.before.ports]
        self.leaving = [port for port in self.before.ports if port not in graph.ports]
        self._opened: list[Port] = []
        self._departed = dict(engine.departed)
        self._states_before = list(engine.built.captured.states.values())

    def make(self, unstarted: bool = False) -> None:
        """Do it all.

        Args:
            unstarted: workers that have not started may begin with the other graph, too.

        Raises:
            WirespeedError: the graph cannot run, a port cannot be opened, a node does not compile, the engine has
                ended. The graph before goes on.
        """
        engine = self.engine
        if not (engine.workers.started or unstarted) or engine.stopped or engine.ended:
            raise GraphError(
                "only a graph that runs can be changed: add to it before the start, or start another engine"
            )
        self._check_directions()
        self.graph.follow(self.before)
        plan = make_plan(self.graph, engine.plan.shape, engine.count, engine.plan.burst, engine.plan.checked)
        memory: EngineMemory | None = None
        try:
            for port in self.arriving:
                engine.opener.open(port, self.graph)
                self._opened.append(port)
            self._retake()
            built = build(plan, engine.progress)
            memory = EngineMemory(plan, engine.count, engine.name)
            self._prepare_states(built)
            for port in self._opened:
                port.begin()
                port.grace = engine.grace
            self._exchange(built, memory)
        except BaseException:
            if memory is not None:
                memory.close()
            for port in self._opened:
                port.grace = None
                engine.opener.shut(port)
            raise
        self._let_go(built)

    def _retake(self) -> None:
        """Rules may have come or gone: ports choose what the next loop has of them."""
        for port in self.graph.ports:
            if port.software is not None:
                port.software.retake()

    def _check_directions(self) -> None:
        """A port is opened once, for what the graph does with it then."""
        for port in self.graph.ports:
            if port in self.arriving:
                continue
            for joined, queues, what in (
                (port in self.graph.sources, port.rx, "receive"),
                (port in self.graph.sinks, port.tx, "send"),
            ):
                if joined and not queues:
                    raise PortError(
                        f"port {port.spec!r} was not opened to {what}: remove it, and add another for both directions"
                    )

    def _prepare_states(self, built: Built) -> None:
        engine = self.engine
        known = [id(state) for state in self._states_before]
        for state in built.captured.states.values():
            if id(state) in known:
                continue
            if hasattr(type(state), "prepare"):
                state.prepare(engine.count)
            if isinstance(state, Timers):
                state.rouse_by(engine.wakeups)
            if hasattr(state, "reclaimer"):
                state.reclaimer = engine.grace

    def _exchange(self, built: Built, memory: EngineMemory) -> None:
        engine = self.engine
        queues, descriptors, waitable = assign_queues(self.graph, engine.count)
        furnish(memory, engine.pool, descriptors, engine.wakeups, [engine.spin if can else -1 for can in waitable])
        if engine.count > 1:
            connect(memory, queues, engine.wakeups)
        with engine.reading:  # before the workers stand still: they do not wait for who looks at the old graph
            engine.workers.exchange(built, lambda: self._swap(built, memory, queues))

    def _swap(self, built: Built, memory: EngineMemory, queues: Queues) -> list[int]:
        """No worker runs: everything is the new graph's from here on. The addresses of the new records."""
        engine = self.engine
        before, engine.memory = engine.memory, memory
        self._carry(built, before, memory)
        if engine.count > 1:
            self._move_packets(before, memory, queues)
        records = [part.record for part in memory.workers]
        engine.grace.move(record + RCU_SLOT for record in records)
        if engine.plan.checked:
            engine.pool.places = built.plan.places
        engine.plan, engine.built, engine.graph, engine.queues = built.plan, built, self.graph, queues
        for port in self.graph.ports:
            if port.software is not None:
                port.software.steer()
        self._take_leave()
        engine.closing.remove(before.close)
        engine.closing.append(memory.close)
        before.close()
        return records

    def _carry(self, built: Built, before: EngineMemory, after: EngineMemory) -> None:
        """Progress of the workers and counters of the nodes that stay."""
        old, new = before.plan, built.plan
        for source, target in zip(before.workers, after.workers, strict=True):
            copy(target.record + _PROGRESS, source.record + _PROGRESS, _PROGRESS_BYTES)
            record = Worker(target.record)
            record.ended = record.asleep = 0
            record.perf_fd = Worker(source.record).perf_fd
            for node in new.order:
                if node not in old.exits:
                    continue
                counters = {exit_.door: exit_.counter for exit_ in old.exits[node]}
                for exit_ in new.exits[node]:
                    count = load64(source.counters + 8 * counters[exit_.door])
                    store64(target.counters + 8 * exit_.counter, count)

    def _move_packets(self, before: EngineMemory, after: EngineMemory, queues: Queues) -> None:
        """Packets on their way between workers follow their port, or the node that chose, to its new channel."""
        engine, workers, old, new = self.engine, self.engine.count, before.plan, after.plan
        with Region(8 * BATCH, "wirespeed-move", huge=False) as scratch:
            for place, sink in _ways(old):
                stays = (place, sink) in _ways(new)
                for worker in range(workers):
                    ring = before.rings[old.channel(place, sink) * workers + worker]
                    if stays:
                        taker = owner(queues, place) if sink else worker
                        _move(ring, after.rings[new.channel(place, sink) * workers + taker], scratch.address)
                        continue
                    Queue(self._queue_of(place, sink)).dropped += RingView(ring).count
                    engine.pool.release_ring(ring)

    def _queue_of(self, place: Any, sink: bool) -> int:
        """Where packets are counted that nobody takes any more; those of a node at a source that goes, or the first."""
        if isinstance(place, Node):
            going = [port for port in self.leaving if port.rx]
            return int((going or self.graph.sources)[0].rx[0])
        return int((place.tx if sink else place.rx)[0])

    def _take_leave(self) -> None:
        """What ports that go have done is kept; one may have been here before."""
        for port in self.leaving:
            earlier = self._departed.get(port, PortStats())
            sums = {name: count + getattr(earlier, name) for name, count in asdict(port.stats()).items()}
            self.engine.departed[port] = PortStats(**sums)

    def _let_go(self, built: Built) -> None:
        """The workers know nothing of what has left: close it."""
        engine = self.engine
        engine.grace.reclaim()
        kept = [id(state) for state in built.captured.states.values()]
        for state in self._states_before:
            if id(state) not in kept and getattr(state, "reclaimer", None) is engine.grace:
                state.reclaimer = None
        for port in self.leaving:
            port.grace = None
            port.refresh()
        with engine.reading:
            self._take_leave()
        for port in self.leaving:
            if fault := port.fault():
                engine.faults.append(fault)
            try:
                engine.opener.shut(port)
            except (OSError, WirespeedError) as error:
                engine.faults.append(f"{port.spec}: {error}")


class Changing:
    """What an engine lets its user do with the graph that runs."""

    graph: Graph
    changing: threading.RLock

    def add(self, *chains: Chain) -> None:
        """Join more ports and nodes to the graph that runs; packets of the others go on.

        Args:
            chains: ``port >> node >> port``, all that a new port is joined to: it is opened for just that.

        Raises:
            WirespeedError: the graph with them cannot run, or a port cannot be opened. The graph goes on as it was.
        """
        with self._engine.opener.telling_later(), self.changing:
            graph = self.graph.copy()
            for chain in chains:
                graph.add(chain)
            Change(self._engine, graph).make()

    def remove(self, port: Port, instead: Any = None) -> None:
        """Take a port out of the graph that runs and close it; packets of the others go on.

        What it received and sent stays in the report. Nodes that no packet can reach without it go, too.

        Args:
            port: one of the graph's.
            instead: where packets go that went to it: a port or node; freed and counted at a sink if not said.

        Raises:
            GraphError: it is not in the graph, or the graph would have no source. The graph goes on as it was.
        """
        with self._engine.opener.telling_later(), self.changing:
            place = instead or Sink(f"sink:instead of {port.spec}", SinkOptions())
            Change(self._engine, self.graph.without(port, place)).make()

    def replace(self, graph: Graph) -> None:
        """Run another graph from now on. Ports and nodes that are in both keep their queues and counters.

        Raises:
            WirespeedError: it cannot run. The graph before goes on.
        """
        with self._engine.opener.telling_later(), self.changing:
            Change(self._engine, graph).make()

    def _rules_changed(self) -> None:
        """A port has rules now that workers must apply, or has none any more."""
        engine = self._engine
        with self._engine.opener.telling_later(), self.changing:
            if not engine.stopped and not engine.ended:
                Change(engine, self.graph).make(unstarted=True)

    @property
    def _engine(self) -> "Engine":
        return self  # type: ignore[return-value]


__all__ = ["Change", "Changing"]

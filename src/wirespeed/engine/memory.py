"""What the workers of one engine share with control code: records, vectors, counters, rings between workers.

One region, laid out once before the start; each worker's part begins on a page of its own. Control code and
other processes read it at any time; only the worker writes its counters.
"""

from dataclasses import dataclass

from wirespeed.graph.handoff import Handoff, handoff_bytes, ring_size
from wirespeed.graph.layout import BINDINGS, RCU_SLOT, VECTOR_STRIDE, Worker
from wirespeed.graph.plan import Plan
from wirespeed.graph.support import profile_bytes
from wirespeed.jit import load64, store64
from wirespeed.mem.shared import Shared
from wirespeed.sync.rcu import format_slot
from wirespeed.sync.ring import RingView, format_ring


def _round(size: int, to: int = 128) -> int:
    return -(-size // to) * to


@dataclass(frozen=True)
class WorkerMemory:
    """Addresses of one worker's parts."""

    record: int
    counters: int
    vectors: int
    profile: int
    polled: int
    handoff: int


@dataclass(frozen=True)
class GraphStats:
    """What a running graph has done: packets by node and door, turns of all workers' loops, how many sleep now."""

    nodes: dict[str, dict[str, int]]
    drops: dict[str, dict[str, int]]
    workers: int
    loops: int
    asleep: int
    memory_bytes: int
    pages: str


class EngineMemory(Shared):
    """The region of an engine; with a name, another process sees the graph's counters by it.

    Args:
        plan: the graph, its ports open, as built: how many vectors, counters, bindings and descriptors there are.
        workers: how many workers.
        name: under which other processes attach it.
    """

    KIND = "graph"

    def __init__(self, plan: Plan, workers: int, name: str | None = None) -> None:
        self.plan = plan
        graph = plan.graph
        places = len(graph.sources) + len(plan.order) + len(graph.sinks)
        polled = 1 + sum(len(port.descriptors(queue)) for port in graph.sources for queue in range(len(port.rx)))
        sizes = [
            _round(BINDINGS + 8 * len(plan.bindings)),
            _round(8 * max(plan.counters, 1)),
            _round((len(plan.order) + len(plan.graph.sinks) + 2) * VECTOR_STRIDE),  # enough for every shape
            _round(profile_bytes(places)),
            _round(8 * polled),
            _round(handoff_bytes(workers)),
        ]
        channels = plan.channels
        each = _round(sum(sizes), 4096)
        tables = _round(8 * channels * (workers + 2) + 24 * workers, 4096)
        slots = ring_size(workers, plan.burst)
        ring_bytes = _round(RingView.bytes_needed(slots))
        rings = channels * workers * ring_bytes
        self._create(
            workers * each + tables + rings,
            name,
            huge=True,
            records=[index * each for index in range(workers)],
            counters=[index * each + sizes[0] for index in range(workers)],
            outputs={node.name: {e.door or "default": e.counter for e in plan.outputs(node)} for node in plan.order},
            drops={node.name: {e.door: e.counter for e in plan.drops(node)} for node in plan.order},
        )
        self.workers: list[WorkerMemory] = []
        for index in range(workers):
            at = self.region.address + index * each
            parts = []
            for size in sizes:
                parts.append(at)
                at += size
            self.workers.append(WorkerMemory(*parts))
            self._format(index)
        self.channels = channels
        self._tables = self.region.address + workers * each
        first_ring = self._tables + tables
        self.rings = [first_ring + index * ring_bytes for index in range(channels * workers)]
        for address in self.rings:
            format_ring(address, slots)

    def _format(self, index: int) -> None:
        memory = self.workers[index]
        record = Worker(memory.record)
        format_slot(memory.record + RCU_SLOT)
        record.counters, record.vectors = memory.counters, memory.vectors
        record.profile, record.perf_fd = memory.profile, -1
        record.polled, record.index = memory.polled, index
        record.handoff = memory.handoff

    def connect(self, spreads: list[int], owners: list[int], wakeups: list[int]) -> None:
        """Tell each worker of the others: how to spread by source, ``owners`` by channel, an eventfd by worker."""
        workers = len(self.workers)
        at = self._tables
        places = {}
        for name, words in (
            ("rings", self.rings),
            ("owners", owners),
            ("spreads", spreads),
            ("wakeups", [word for i, fd in enumerate(wakeups) for word in (self.workers[i].record, fd, 1)]),
        ):
            places[name] = at
            for word in words:
                store64(at, word)
                at += 8
        for memory in self.workers:
            record = Handoff(memory.handoff)
            record.workers, record.channels = workers, self.channels
            record.rings, record.owners = places["rings"], places["owners"]
            record.spreads, record.wakeups = places["spreads"], places["wakeups"]
            record.keep_port = int(self.plan.asks_port)

    def in_flight(self) -> int:
        """Packets on their way between workers."""
        return sum(int(RingView(address).count) for address in self.rings)

    def count(self, counter: int) -> int:
        """A counter of the plan, all workers together."""
        return sum(load64(self.address + offset + 8 * counter) for offset in self.parameters["counters"])

    def stats(self) -> GraphStats:
        """The counters now; also from another process."""
        records = [Worker(self.address + offset) for offset in self.parameters["records"]]
        outputs, drops = (
            {node: {door: self.count(counter) for door, counter in doors.items()} for node, doors in table.items()}
            for table in (self.parameters["outputs"], self.parameters["drops"])
        )
        loops, asleep = sum(record.loops for record in records), sum(record.asleep for record in records)
        return GraphStats(outputs, drops, len(records), loops, asleep, self.memory_bytes, self.pages)

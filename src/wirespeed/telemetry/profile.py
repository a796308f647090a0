"""Where the cycles go: per place of the graph, from the profiling loop's samples.

The profiling loop runs node after node over each burst and reads the counters in between; it runs for some
milliseconds now and then, while the fused loop does the work. Its nodes cost a little more than fused ones do
(each reads the packet's headers anew): the sum shows proportions, the fused loop's own figure is the rate.
"""

from dataclasses import dataclass

from wirespeed.engine.engine import Engine
from wirespeed.graph.support import profile_slot
from wirespeed.jit import load64


@dataclass(frozen=True)
class Place:
    """Costs of one port or node.

    Attributes:
        name: of the node or the port, as the report has it.
        kind: ``in``, ``node`` or ``out``.
        packets: packets in the samples.
        cycles: of the core if it has counters, else of the time-stamp counter; for each packet.
        instructions: for each packet; None without hardware counters.
    """

    name: str
    kind: str
    packets: int
    cycles: float
    instructions: float | None

    @property
    def ipc(self) -> float | None:
        """Instructions per cycle."""
        return self.instructions / self.cycles if self.instructions is not None and self.cycles else None


def places(engine: Engine) -> list[Place]:
    """Costs by place, in the order packets meet them; empty before the first sample and once the engine has stopped."""
    if engine.stopped:
        return []
    graph = engine.graph
    called = dict(zip(graph.ports, engine.report().ports, strict=True))  # two of one specification: the second is (2)
    named = [(called[port], "in") for port in graph.sources]
    named += [(node.name, "node") for node in engine.plan.order]
    named += [(called[port], "out") for port in graph.sinks]
    found = []
    for slot, (name, kind) in enumerate(named):
        totals = [0, 0, 0]
        for memory in engine.memory.workers:
            for word in range(3):
                totals[word] += load64(profile_slot(memory.profile, slot) + 8 * word)
        cycles, instructions, packets = totals
        if packets:
            counted = instructions / packets if engine.counts_instructions else None
            found.append(Place(name, kind, packets, cycles / packets, counted))
    return found

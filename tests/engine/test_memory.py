"""The engine's memory is laid out for the graph it is of, however large."""

import wirespeed as ws
from wirespeed.engine.memory import EngineMemory
from wirespeed.graph.layout import VECTOR_STRIDE, binding
from wirespeed.graph.plan import FUSED, PROFILE, make_plan
from wirespeed.graph.support import profile_slot

NODES = 100
WORKERS = 2


@ws.node
def passes(pkt):
    """On."""


def test_parts_do_not_overlap():
    graph = ws.Graph()
    chain = ws.port("null")
    for number in range(NODES):
        chain = chain >> passes.named(f"n{number}")
    graph.add(chain >> ws.port("sink"))
    widest = make_plan(graph, PROFILE, WORKERS)
    plan = make_plan(graph, FUSED, WORKERS)
    for number in range(500):
        plan.bind(f"state {number}")
    memory = EngineMemory(plan, WORKERS)
    try:
        for index, part in enumerate(memory.workers):
            ends = memory.workers[index + 1].record if index + 1 < WORKERS else min(memory.rings)
            assert part.record + binding(len(plan.bindings)) <= part.counters
            assert part.counters + 8 * plan.counters <= part.vectors
            assert part.vectors + widest.vectors * VECTOR_STRIDE <= part.profile
            assert profile_slot(part.profile, NODES + 2) <= part.polled
            assert part.polled + 8 <= part.handoff < ends
    finally:
        memory.region.close()

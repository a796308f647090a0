"""Who gets what: port queues to workers, descriptors to sleep on, and the ways between workers.

A port with a queue for every worker gives each its own. One with fewer is polled by some of them: received
packets are then spread by flow in software, and packets to send go to the worker that owns the queue.
"""

import select
import struct
from typing import Any

from wirespeed.engine.memory import EngineMemory
from wirespeed.graph.graph import Graph
from wirespeed.graph.layout import Worker
from wirespeed.jit import store64
from wirespeed.mem.pool import Pool

Queues = dict[tuple[str, Any], list[int]]
"""By ("rx" or "tx", port): the address of each worker's queue record, 0 where it has none."""

_NAP_MS = 100  # the longest a worker blocks without looking at its command


def assign_queues(graph: Graph, workers: int) -> tuple[Queues, list[list[int]], list[bool]]:
    """Deal the opened ports' queues to the workers.

    Returns:
        the queues; for each worker the descriptors of its receive queues; for each worker whether all its receive
        queues have descriptors, so that it may sleep.
    """
    queues: Queues = {}
    descriptors: list[list[int]] = [[] for _ in range(workers)]
    waitable = [True] * workers
    for port in graph.ports:
        number = graph.number(port)  # stays, whatever ports come and go: so does the owner of a queue
        for direction, addresses in (("rx", port.rx), ("tx", port.tx)):
            of_worker = [0] * workers
            for queue, address in enumerate(addresses):
                worker = queue if len(addresses) == workers else (number + queue) % workers
                of_worker[worker] = address
                if direction == "rx":
                    found = port.descriptors(queue)
                    descriptors[worker] += found
                    waitable[worker] &= bool(found)
            queues[direction, port] = of_worker
    return queues, descriptors, waitable


def furnish(
    memory: EngineMemory, pool: Pool, descriptors: list[list[int]], wakeups: list[int], spins: list[int]
) -> None:
    """Write into each worker's record what it needs besides its bindings; ``spins`` are cycles, negative: for ever."""
    for index, part in enumerate(memory.workers):
        record = Worker(part.record)
        record.cache = pool.cache(index)
        polled = [*descriptors[index], wakeups[index]]
        for slot, descriptor in enumerate(polled):
            pollfd = struct.pack("=ihh", descriptor, select.POLLIN, 0)
            store64(part.polled + slot * 8, int.from_bytes(pollfd, "little"))
        record.polled_count = len(polled)
        record.spin = record.spin_most = spins[index]
        record.nap_ms = _NAP_MS


def connect(memory: EngineMemory, queues: Queues, wakeups: list[int]) -> None:
    """Join several workers by rings."""
    plan = memory.plan
    spreads = [port.software.spreading.record.address for port in plan.spreading]  # type: ignore[union-attr]
    owners = [0] * (len(plan.spreading) + len(plan.choosing))
    owners += [owner(queues, port) for port in plan.graph.sinks]
    memory.connect(spreads, owners, wakeups)


def owner(queues: Queues, port: Any) -> int:
    """The worker that others hand packets to, to be sent by ``port``."""
    return next(worker for worker, queue in enumerate(queues["tx", port]) if queue)

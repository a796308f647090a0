"""What does an element cost through a ring? Beside DPDK's rte_ring (``ring_perf_autotest``), the same work.

A ring of 4096 slots; the number of elements in a call is an argument here and volatile there, so neither side is
compiled for it. On one core the same thread enqueues and dequeues in turns: the figure is for both, by element. On
two cores one enqueues and the other dequeues, all or nothing, trying again when it could not: the figure is the
cycles of both by element, as the peer prints it (so about twice the time by element).

What bounds it, on one core:

- A burst of 32 is eight 32-byte loads and stores on each side. The consumer's loads are served from the producer's
  stores (store forwarding: they lie and are aligned alike), so what is left is about one store a cycle.
- single producer, single element: the tail is loaded, moved on and stored by each operation, and the next one loads
  what that stored: one store forwarding (7 to 8 cycles of a Zen 3 core) a turn, both sides beside each other.
- many: one locked exchange a side (about 18 core cycles, and all stores before it must have left the core). RTS
  takes two, HTS one.

Between two cores a burst is four lines of slots, each moved from core to core, and the tail's line; the other side's
tail is read only when the own memory of it says "full" or "empty".
"""

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from wirespeed.bench.dpdk_test import figures, peer, recall, section
from wirespeed.bench.pairing import Pair, summarise
from wirespeed.bench.result import Row
from wirespeed.bench.settings import Settings
from wirespeed.jit import cycles, fetch_add, kernel, load64, load_acquire, pause, store64
from wirespeed.mem.region import Region
from wirespeed.sync.ring import (
    RingView,
    dequeue_bulk,
    dequeue_burst,
    enqueue_bulk,
    enqueue_burst,
    format_ring,
    slot_of,
)
from wirespeed.sync.ring_sides import CONSUMERS, HTS, MULTI, PRODUCERS, RTS, SINGLE, begin, finish, mode_of

SIZE: int = 4096
"""Slots, the peer's RING_SIZE."""

_COMMAND = "ring_perf_autotest"
_NAMES = {SINGLE: "SP/SC", MULTI: "MP/MC", RTS: "RTS", HTS: "HTS"}
_REPEATS = 5


def _burst(kind: int, element: int) -> Any:
    mode = mode_of(kind, kind)

    @kernel
    def burst(ring: int, vector: int, count: int, turns: int) -> int:
        start = cycles()
        for _ in range(turns):
            enqueue_burst(ring, mode, element, vector, count)
            dequeue_burst(ring, mode, element, vector, count)
        return cycles() - start

    return burst


def _bulk(kind: int, element: int) -> Any:
    mode = mode_of(kind, kind)

    @kernel
    def bulk(ring: int, vector: int, count: int, turns: int) -> int:
        start = cycles()
        for _ in range(turns):
            enqueue_bulk(ring, mode, element, vector, count)
            dequeue_bulk(ring, mode, element, vector, count)
        return cycles() - start

    return bulk


def _single(kind: int, element: int) -> Any:
    """One element of 8 bytes, from and to memory as the peer does it."""
    mode = mode_of(kind, kind)

    @kernel
    def single(ring: int, vector: int, count: int, turns: int) -> int:
        start = cycles()
        for _ in range(turns):
            at = begin(ring, mode, PRODUCERS, 1)
            if at >= 0:
                store64(slot_of(ring, element, at), load64(vector))
                finish(ring, mode, PRODUCERS, at, 1)
            at = begin(ring, mode, CONSUMERS, 1)
            if at >= 0:
                store64(vector, load64(slot_of(ring, element, at)))
                finish(ring, mode, CONSUMERS, at, 1)
        return cycles() - start

    return single


def _produce(kind: int, element: int) -> Any:
    mode = mode_of(kind, kind)

    @kernel
    def produce(ring: int, vector: int, count: int, turns: int, ready: int) -> int:
        fetch_add(ready, 1)
        while load_acquire(ready) != 2:
            pause()
        start = cycles()
        for _ in range(turns):
            while enqueue_bulk(ring, mode, element, vector, count) == 0:
                pause()
        return cycles() - start

    return produce


def _consume(kind: int, element: int) -> Any:
    mode = mode_of(kind, kind)

    @kernel
    def consume(ring: int, vector: int, count: int, turns: int, ready: int) -> int:
        fetch_add(ready, 1)
        while load_acquire(ready) != 2:
            pause()
        start = cycles()
        for _ in range(turns):
            while dequeue_bulk(ring, mode, element, vector, count) == 0:
                pause()
        return cycles() - start

    return consume


@dataclass(frozen=True)
class Case:
    """One row: how our side is run, and which figure of the peer's stands beside it."""

    metric: str
    make: tuple[Callable[[int, int], Any], ...]
    kind: int
    count: int
    element: int = 8
    line: str = ""  # of the peer; its figure is for a call
    shared: bool = False  # the peer's figure is by element already

    def theirs(self, text: str) -> float:
        """The peer's figure by element."""
        title = "Testing using two physical cores" if self.shared else f"Testing {self.line.split()[1].rstrip(':')}"
        part = text if self.element == 8 else section(text, "element size 16B")
        found = figures(section(part, title), value=rf"{self.line}: ([\d.]+)")["value"]
        return found if self.shared else found / self.count


def _cases() -> list[Case]:
    found = []
    for kind in (SINGLE, MULTI):
        name = _NAMES[kind]
        for count in (32, 8):
            line = rf"{name}: burst \(size: {count}\)"
            found.append(Case(f"{name}, one core, bursts of {count}", (_burst,), kind, count, line=line))
        line = rf"{name}: bulk \(size: 8\)"
        found.append(Case(f"{name}, one core, bulks of 8", (_bulk,), kind, 8, line=line))
        found.append(Case(f"{name}, one core, one element", (_single,), kind, 1, line=f"{name}: single"))
        line = rf"{name}: burst \(size: 32\)"
        found.append(Case(f"{name}, one core, bursts of 32, 16-byte elements", (_burst,), kind, 32, 16, line))
    found += [Case(f"{_NAMES[kind]}, one core, bursts of 32", (_burst,), kind, 32) for kind in (RTS, HTS)]
    for kind in (SINGLE, MULTI):
        for count in (32, 8):
            line, metric = rf"{_NAMES[kind]}: bulk \(size: {count}\)", f"{_NAMES[kind]}, two cores, bulks of {count}"
            found.append(Case(metric, (_produce, _consume), kind, count, line=line, shared=True))
    found += [Case(f"{_NAMES[kind]}, two cores, bulks of 32", (_produce, _consume), kind, 32) for kind in (RTS, HTS)]
    return found


def rows(settings: Settings, tell: Callable[[str], None]) -> Sequence[Row]:
    """Measure every row; ours and the peer's autotest, which has all its figures in one run, take turns."""
    cores = sorted(os.sched_getaffinity(0))
    cases = [case for case in _cases() if len(case.make) <= len(cores)]
    if len(cores) < 2:
        settings.notes.append("ring: one core is allowed, so there are no rows of two")
    kernels = {case: [make(case.kind, case.element) for make in case.make] for case in cases}
    found: dict[Case, list[Pair]] = {case: [] for case in cases}
    with Region(RingView.bytes_needed(SIZE, 16) + 4 * 4096, "wirespeed-bench-ring") as region:
        for case in cases:
            tell(f"compiling {case.metric}")
            ours(region, case, kernels[case], 200, cores)
        for turn in range(settings.pairs):
            text = ""
            if settings.peer:
                tell(f"turn {turn + 1}: peer")
                text = recall(_COMMAND, turn)
            for case in cases:
                tell(f"turn {turn + 1}: {case.metric}")
                turns = (4_000 if settings.quick else 400_000) // case.count
                value = median(ours(region, case, kernels[case], turns, cores) for _ in range(_REPEATS))
                found[case].append(Pair(value, case.theirs(text) if text and case.line else None))
    return [
        Row.of(
            "ring",
            case.metric,
            "cycles",
            summarise(pairs, lower_is_better=True),
            peer(_COMMAND) if settings.peer else None,
        )
        for case, pairs in found.items()
    ]


def ours(region: Region, case: Case, kernels: list[Any], turns: int, cores: list[int]) -> float:
    """Cycles by element of one run on a fresh ring."""
    ring, vector = region.address, region.address + RingView.bytes_needed(SIZE, 16)
    format_ring(ring, SIZE, case.element)
    if len(kernels) == 1:
        allowed = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {cores[-1]})
        try:
            return float(kernels[0](ring, vector, case.count, turns)) / turns / case.count
        finally:
            os.sched_setaffinity(0, allowed)
    ready = vector + 3 * 4096
    store64(ready, 0)
    spent = [0, 0]

    def work(index: int) -> None:
        os.sched_setaffinity(0, {cores[-1 - index]})
        spent[index] = int(kernels[index](ring, vector + index * 4096, case.count, turns, ready))

    threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(spent) / turns / case.count

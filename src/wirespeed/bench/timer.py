"""What does a timer cost, with a hundred and with a million of them armed? Beside DPDK's ``timer_perf_autotest``.

The peer's steps, in its order and with its deadlines, over 100 to a million timers that lie one behind the other:

    arm       each timer in turn, one second from now
    fire      a second later all are due: one walk calls back for each
    re-arm    each timer in turn, a random delay of up to a second

The peer calls its third step "resetting": all its timers have expired by then, so they are armed anew and nothing is
moved. Rows of our own, which the peer does not time: armed timers to a later and to an earlier deadline; random
deadlines expiring tick by tick; stopping; the loop's question whether something is due.

Ours are the operations that nodes have, in a compiled loop. It reads the clock for each burst of 32 timers, as a
worker's loop does; the peer's ``rte_timer_reset`` reads it for each timer, and a row of ours does, too. Re-arming in
random order is the bulk operation, which asks for the timers ahead. What bounds them is in docs/design/0011.
"""

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import numpy as np

from wirespeed.bench import dpdk_test
from wirespeed.bench.result import Row, ratio
from wirespeed.bench.settings import Settings
from wirespeed.jit import cycles, kernel, tsc
from wirespeed.timers.timer import Timer
from wirespeed.timers.timers import Timers
from wirespeed.timers.wheel import TimersView

AUTOTEST = "timer_perf_autotest"
BURST = 32
_PEERS = ("arm", "fire", "re-arm")
_SECOND_NS = 1_000_000_000


@kernel
def arm(address: int, handles: Any, delays: Any, burst: int) -> int:
    """Start each timer, ``burst`` of them between two looks at the clock; cycles."""
    timers = TimersView(address)
    began = cycles()
    for first in range(0, len(handles), burst):
        timers.tell(cycles())
        for i in range(first, min(first + burst, len(handles))):
            timers.start(handles[i], delays[i])
    return cycles() - began


@kernel
def fire(address: int, now_ns: int, step_ns: int) -> tuple[int, int]:
    """Walk until ``now_ns`` in steps; cycles, and the sum of what the callbacks counted."""
    timers = TimersView(address)
    timer = Timer()
    count = 0
    began = cycles()
    while timers.now < now_ns:
        timers.advance(min(timers.now + step_ns, now_ns))
        while True:
            chunk = timers.due()
            if chunk == 0:
                break
            for index in range(timers.size(chunk)):
                if timers.take(chunk, index, timer):
                    if timer.number == 0:
                        count += timer.word
            timers.done(chunk)
    return cycles() - began, count


@kernel
def stop(address: int, handles: Any) -> int:
    """Stop each timer; cycles."""
    timers = TimersView(address)
    began = cycles()
    for i in range(len(handles)):
        timers.stop(handles[i])
    return cycles() - began


@kernel
def ask(address: int, times: int) -> int:
    """What a turn of a worker's loop does when nothing is due; cycles."""
    timers = TimersView(address)
    count = 0
    began = cycles()
    for _ in range(times):
        timers.tell(cycles())
        timers.begin()
        count += timers.ready()
    return cycles() - began + count


def measure(count: int) -> dict[str, float]:
    """One turn with ``count`` timers: cycles a timer, by step."""
    rng = np.random.default_rng(count)
    found: dict[str, float] = {}
    with Timers(count, resolution_ns=1_000, reserve=0) as timers:
        address = timers.address
        handles = timers.add_many(np.ones(count, dtype=np.int64))
        second = np.full(count, _SECOND_NS, dtype=np.int64)
        random = rng.integers(1, _SECOND_NS, count)
        shuffled = rng.permutation(handles)

        def fire_all(step_ns: int) -> float:
            before = timers.now_ns
            spent, fired = fire(address, before + _SECOND_NS + _SECOND_NS // 8, step_ns)
            assert fired == count, f"{fired} of {count} timers expired"
            TimersView(address).anchor_ns += timers.now_ns - before  # so that its clock goes on from there
            return spent / count

        def bulk(order: Any, delays: Any) -> float:
            began = tsc()
            timers.start_many(order, delays)
            return (tsc() - began) / count

        found["arm"] = arm(address, handles, second, BURST) / count
        found["fire"] = fire_all(2 * _SECOND_NS)
        found["re-arm"] = arm(address, handles, random, BURST) / count
        found["fire, random deadlines, tick by tick"] = fire_all(timers.resolution_ns)
        found["arm, reading the clock for each"] = arm(address, handles, second, 1) / count
        found["re-arm armed ones in random order, later"] = bulk(shuffled, second + random)
        found["re-arm armed ones in random order, earlier"] = bulk(shuffled, random)
        found["stop in random order"] = stop(address, rng.permutation(handles)) / count
        fire(address, timers.now_ns + 3 * _SECOND_NS, _SECOND_NS)
        TimersView(address).anchor_ns += 3 * _SECOND_NS
        timers.start(handles[0], 100 * _SECOND_NS)
        found["nothing due, a turn"] = ask(address, 10_000) / 10_000
    return found


def peer_figures(text: str, count: int) -> dict[str, float]:
    """The peer's cycles a timer, by step, of its part with ``count`` timers."""
    part = dpdk_test.section(text, rf"Appending {count} timers$", r"Appending|All timers")
    first, second = part.split(f"Resetting {count} timers")
    return {
        **dpdk_test.figures(first, arm=rf"Time for {count} timers: .*Time per timer: (\d+)"),
        **dpdk_test.figures(first, fire=rf"Time for {count} callbacks: .*Time per callback: (\d+)"),
        "re-arm": dpdk_test.figures(second, it=rf"Time for {count} timers: .*Time per timer: (\d+)")["it"],
    }


def rows(settings: Settings, tell: Callable[[str], None]) -> Sequence[Row]:
    """Measure every row."""
    counts = (10_000,) if settings.quick else (10_000, 1_000_000)
    turns = 1 if settings.quick else settings.pairs
    beside = settings.peer == "dpdk"
    ours: list[dict[int, dict[str, float]]] = []
    theirs: list[dict[int, dict[str, float]]] = []
    measure(100)  # compiles
    for turn in range(turns):
        tell(f"turn {turn + 1} of {turns}")
        ours.append({count: measure(count) for count in counts})
        if beside:
            tell(f"turn {turn + 1} of {turns}: peer")
            until = r"Resetting 10000 timers\n.*Time per timer.*\n" if settings.quick else None
            text = dpdk_test.recall(AUTOTEST, turn, timeout_s=120, **({"until": until} if until else {}))
            theirs.append({count: peer_figures(text, count) for count in counts})
    found = []
    for count in counts:
        for step in ours[0][count]:
            if step not in _PEERS and count != counts[-1]:
                continue
            metric, mine = f"{step}, {count:,} timers", [each[count][step] for each in ours]
            if beside and step in _PEERS:
                peers = [each[count][step] for each in theirs]
                ratios = [ratio(m, p, lower_is_better=True) for m, p in zip(mine, peers, strict=True)]
                name = dpdk_test.peer(AUTOTEST)
                found.append(Row("timer", metric, "cycles", median(mine), name, median(peers), median(ratios)))
            else:
                found.append(Row("timer", metric, "cycles", median(mine)))
    with Timers(max(counts), reserve=0) as timers:
        found.append(Row("timer", "memory of a timer", "bytes", timers.memory_bytes / max(counts)))
    return found

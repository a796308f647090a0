"""How far apart two cores are: nanoseconds for a cache line to go from one to the other.

In a virtual machine that is not a constant. The host puts virtual cores on real ones, of one cluster or of two, and
moves them: a hop took 55 ns or 200 to 350 ns on the same machine within a minute, and whatever two processes hand each
other through memory went three to four times faster or slower with it. A figure of such a bench says something
only beside a peer's at the same distance, so the distance is measured with each.
"""

import os
import threading

from wirespeed.eal.clock import tsc_hz
from wirespeed.jit import cycles, kernel, load_acquire, store_release
from wirespeed.mem.region import Region

NEAR_NS: float = 120.0
"""Below it two cores share a last-level cache."""
_TURNS = 500
_ROUNDS = 8
_ANSWER = 256


@kernel
def _ask(line: int, turns: int) -> int:
    begun = cycles()
    for turn in range(1, turns + 1):
        store_release(line, turn)
        while load_acquire(line + _ANSWER) != turn:
            pass
    return cycles() - begun


@kernel
def _answer(line: int, turns: int) -> None:
    for turn in range(1, turns + 1):
        while load_acquire(line) != turn:
            pass
        store_release(line + _ANSWER, turn)


def hop_ns(first: int, second: int, turns: int = _TURNS) -> float:
    """Nanoseconds from core ``first`` to core ``second``: the shortest round of ``turns`` there and back, since others
    may run on these cores, too."""
    if first == second:
        return 0.0
    with Region(4096, "wirespeed-hop", huge=False) as memory:
        lines = [memory.address + 2 * _ANSWER * number for number in range(_ROUNDS)]
        _answer(lines[0], 0)  # compiled before anybody waits
        _ask(lines[0], 0)

        def answer() -> None:
            os.sched_setaffinity(0, {second})
            for line in lines:
                _answer(line, turns)

        before = os.sched_getaffinity(0)
        other = threading.Thread(target=answer)
        os.sched_setaffinity(0, {first})
        try:
            other.start()
            spent = min(_ask(line, turns) for line in lines)
        finally:
            os.sched_setaffinity(0, before)
            other.join()
    return spent / turns / 2 / tsc_hz() * 1e9


__all__ = ["NEAR_NS", "hop_ns"]

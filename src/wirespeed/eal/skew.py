"""Do the time-stamp counters of two cores agree? A time stamp of one is compared with one of the other all the time.

Two threads, each on its core, play ping-pong: the first takes the time (t1), asks; the second takes the time (t2)
and answers; the first takes the time again (t4). Whatever the way takes, t2 was between t1 and t4::

    t1 <= t2 - offset <= t4,   so   t2 - t4 <= offset <= t2 - t1

and over a few thousand rounds the narrowest bounds count: about the time a cache line needs from core to core
and back, some 100 ns. More cannot be known from outside; if 0 lies within the bounds the counters may be equal, and
an event is never stamped before its cause by more than the bound.

    offset  bytes  who writes  what
    0       8      the first   round
    128     16     the second  round answered, t2

References: Mills, "Internet time synchronization", 1991 (the same arithmetic); Linux, arch/x86/kernel/tsc_sync.c.
"""

import ctypes
import threading
from dataclasses import dataclass
from itertools import pairwise

from wirespeed.eal import cores
from wirespeed.errors import WirespeedError
from wirespeed.jit import (
    COMPILED,
    cycles_ordered,
    kernel,
    load64,
    load_acquire,
    pause,
    register,
    store64,
    store_release,
    unregister,
)

_ROUNDS = 4000 if COMPILED else 50


@dataclass(frozen=True)
class Skew:
    """The counter of ``core`` is ahead of that of ``reference`` by ``low_cycles`` to ``high_cycles``."""

    reference: int
    core: int
    low_cycles: int
    high_cycles: int

    @property
    def agrees(self) -> bool:
        """Whether the counters may be equal."""
        return self.low_cycles <= 0 <= self.high_cycles

    @property
    def bound_cycles(self) -> int:
        """The most by which they can differ."""
        return max(abs(self.low_cycles), abs(self.high_cycles))


@kernel
def _ask(memory: int, rounds: int, result: int) -> None:
    low = -(1 << 62)
    high = 1 << 62
    for turn in range(1, rounds + 1):
        before = cycles_ordered()
        store_release(memory, turn)
        while load_acquire(memory + 128) != turn:
            pause()
        after = cycles_ordered()
        theirs = load64(memory + 136)
        low = max(low, theirs - after)
        high = min(high, theirs - before)
    store64(result, low)
    store64(result + 8, high)


@kernel
def _answer(memory: int, rounds: int) -> None:
    for turn in range(1, rounds + 1):
        while load_acquire(memory) != turn:
            pause()
        store64(memory + 136, cycles_ordered())
        store_release(memory + 128, turn)


def measure(reference: int, core: int, rounds: int = _ROUNDS) -> Skew:
    """Compare two cores; a few milliseconds if both are free.

    Raises:
        WirespeedError: the same core twice, or one that this process may not use.
    """
    if reference == core:
        raise WirespeedError(f"core {core} cannot be compared with itself: name two cores")
    memory = (ctypes.c_uint64 * 64)()
    address = -(-ctypes.addressof(memory) // 128) * 128
    register(ctypes.addressof(memory), ctypes.sizeof(memory), "skew")
    failed: list[BaseException] = []
    ready = threading.Barrier(2)

    def on(place: int, work: "object", *arguments: int) -> None:
        try:
            cores.pin(place)
            ready.wait()
            work(*arguments)  # type: ignore[operator]
        except threading.BrokenBarrierError:
            pass
        except BaseException as error:
            failed.append(error)
            ready.abort()

    second = threading.Thread(target=on, args=(core, _answer, address, rounds))
    first = threading.Thread(target=on, args=(reference, _ask, address, rounds, address + 256))
    try:
        second.start()
        first.start()
        first.join()
        second.join()
        if failed:
            raise failed[0]
        return Skew(reference, core, ctypes.c_int64(load64(address + 256)).value, load64(address + 264))
    finally:
        unregister(ctypes.addressof(memory))


def measure_all(rounds: int = _ROUNDS) -> tuple[Skew, ...]:
    """Each core that this process may use beside the one before it; empty if there is only one."""
    return tuple(measure(one, other, rounds) for one, other in pairwise(cores.allowed()))

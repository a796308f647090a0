"""How long does an echo take at low load? A probe sends one frame at a time and spins until its answer is there.

The frame goes out of the far end of the echoing port's interface by a packet socket, which also hears the answer; both
are system calls of this side, the same whoever echoes. The times are those of the whole way there and back.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from wirespeed.bench.errors import BenchError
from wirespeed.eal.clock import tsc_hz
from wirespeed.jit import cycles, inline, kernel, load64, store64, write_bytes
from wirespeed.jit.libc import read, write
from wirespeed.mem.region import Region
from wirespeed.ports.netdev import within

if TYPE_CHECKING:
    from collections.abc import Sequence

_ETH_P_ALL = 3
_PATIENCE_S = 0.2
_PAUSE_S = 0.0005
_BUFFER, _TIMES = 0, 8192


@inline
def _spin(until):  # type: ignore[no-untyped-def]
    while cycles() < until:
        pass


@kernel
def _probe(fd, memory, size, count, patience, pause):  # type: ignore[no-untyped-def]
    """Send and wait ``count`` times; cycles of each at ``memory + _TIMES``, 0: no answer."""
    answered = 0
    for i in range(count):
        _spin(cycles() + pause)
        while read(fd, memory + 4096, 4096) > 0:  # what came meanwhile is not ours
            pass
        begun = cycles()
        store64(memory + size - 8, i)
        write(fd, memory, size)
        spent = 0
        while spent == 0 and cycles() - begun < patience:
            got = read(fd, memory + 4096, 4096)
            if got == size and load64(memory + 4096 + size - 8) == i:
                spent = cycles() - begun
        store64(memory + _TIMES + (i << 3), spent)
        if spent:
            answered += 1
    return answered


def percentiles(netns: str, interface: str, frame: bytes, count: int, wanted: Sequence[float]) -> list[float]:
    """Microseconds that the share ``wanted`` (0 to 1) of ``count`` echoes stayed below.

    Raises:
        BenchError: more than one in twenty was never answered.
    """
    made = within(netns, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0))
    with made, Region(_TIMES + count * 8, "wirespeed-echo", huge=False) as memory:
        within(netns, lambda: made.bind((interface, _ETH_P_ALL)))
        made.setsockopt(263, 23, 1)  # PACKET_IGNORE_OUTGOING
        write_bytes(memory.address, frame)
        hz = tsc_hz()
        arguments = (len(frame), count, int(_PATIENCE_S * hz), int(_PAUSE_S * hz))
        answered = _probe(made.fileno(), memory.address, *arguments)
        times = sorted(load64(memory.address + _TIMES + number * 8) for number in range(count))
    if answered < count * 0.95:
        raise BenchError(f"{interface}: {count - answered} of {count} echoes were not answered")
    times = times[count - answered :]
    return [times[min(int(share * answered), answered - 1)] / hz * 1e6 for share in wanted]


def cpu_s(pid: int | None = None) -> float:
    """Seconds on a core of all threads of a process, this one if None."""
    return _scheduled(pid, 0) / 1e9


def waited_s(core: int) -> float:
    """Seconds for which this process's threads that are tied to that core could have run, and others had it."""
    return _scheduled(None, 1, {core}) / 1e9


def _scheduled(pid: int | None, column: int, tied: set[int] | None = None) -> int:
    """Sum of a column of its threads' schedstat (Documentation/scheduler/sched-stats.rst), in nanoseconds."""
    total = 0
    folder = f"/proc/{pid or os.getpid()}/task"
    for task in os.listdir(folder):
        if tied is None or os.sched_getaffinity(int(task)) == tied:
            with open(f"{folder}/{task}/schedstat") as file:
                total += int(file.read().split()[column])
    return total


__all__ = ["cpu_s", "percentiles", "waited_s"]

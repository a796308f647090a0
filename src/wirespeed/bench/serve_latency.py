"""How long does an echo take while others come? Probes by schedule, whatever is answered.

Probe n is due n steps after the first, and its time runs from then: an echo that stands still delays all that were due
meanwhile, and each of them is counted. One that was never answered counts as slower than all others.

The probes go out of the far end of the echoing port's interface by a packet socket, which also hears the answers; both
are system calls on a core of the prober's own, the same whoever echoes.
"""

from __future__ import annotations

import os
import socket
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wirespeed.eal.clock import tsc_hz
from wirespeed.jit import cycles, kernel, load64, store64, write_bytes
from wirespeed.jit.libc import read, write
from wirespeed.mem.region import Region
from wirespeed.ports.netdev import within

if TYPE_CHECKING:
    from collections.abc import Sequence

_ETH_P_ALL = 3
_SOL_PACKET, _IGNORE_OUTGOING = 263, 23
_SO_RCVBUFFORCE, _BUFFERED = 33, 16 << 20  # answers of a prober that stood still wait for it
_PATIENCE_S = 0.2
_BUFFER, _TIMES = 4096, 8192


@kernel
def _probe(fd, memory, size, count, step, patience):  # type: ignore[no-untyped-def]
    """Send ``count`` probes, ``step`` cycles apart; how long each took at ``memory + _TIMES``, 0: it has no answer."""
    begun, due, answered = cycles() + step, 0, 0
    while answered < count:
        now = cycles()
        if due < count:
            if now >= begun + due * step:
                due += 1
                store64(memory + size - 8, due)
                write(fd, memory, size)
        elif now > begun + count * step + patience:
            break
        if read(fd, memory + _BUFFER, _BUFFER) == size:
            number = load64(memory + _BUFFER + size - 8) - 1
            place = memory + _TIMES + (number << 3)
            if 0 <= number < due and load64(place) == 0:
                store64(place, max(cycles() - begun - number * step, 1))
                answered += 1


@dataclass(frozen=True)
class Latencies:
    """Microseconds of the shares asked for, of all probes; and how many of these had no answer."""

    microseconds: list[float]
    lost: int


def latencies(
    netns: str, interface: str, frame: bytes, rate: float, count: int, core: int, wanted: Sequence[float]
) -> Latencies:
    """Probe from ``core`` out of an interface.

    Args:
        frame: the probe; its last eight bytes are its number.
        rate: probes a second.
        count: how many.
        wanted: shares of the probes, 0 to 1.
    """
    made = within(netns, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0))
    with made, Region(_TIMES + count * 8, "wirespeed-latency", huge=False) as memory:
        within(netns, lambda: made.bind((interface, _ETH_P_ALL)))
        made.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
        made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFERED)
        write_bytes(memory.address, frame)
        hz = tsc_hz()
        arguments = (memory.address, len(frame), count, round(hz / rate), int(_PATIENCE_S * hz))

        def probe() -> None:
            os.sched_setaffinity(0, {core})
            _probe(made.fileno(), *arguments)

        thread = threading.Thread(target=probe)
        thread.start()
        thread.join()
        spent = [load64(memory.address + _TIMES + number * 8) for number in range(count)]
    lost = spent.count(0)
    times = sorted(each / hz if each else _PATIENCE_S for each in spent)
    return Latencies([times[min(int(share * count), count - 1)] * 1e6 for share in wanted], lost)


__all__ = ["Latencies", "latencies"]

"""How long does an echo take while others come? Probes by schedule, whatever is answered.

Probe n is due n steps after the first, and its time runs from then: an echo that stands still delays all that were due
meanwhile, and each of them is counted. One that was never answered counts as slower than all others.

Whoever stops the prober is not the server. It looks at the clock all the time, so it knows when it stood still: a probe
that was due, or on its way, from then until it had caught up is left out, whoever echoes; how many are is told.

Nor is it the server's doing if the kernel gives its core to somebody else: what was on its way from then until all that
had waited were answered is left out as well, from figures that say so; those with it are told beside. What is left is
the server, and what no process sees: interrupts, and a hypervisor that stops the core. :func:`stops` is just those.

The probes go out of the far end of the echoing port's interface by a packet socket, which also hears the answers; both
are system calls on a core of the prober's own, the same whoever echoes.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from wirespeed.bench.core_watch import CoreWatch
from wirespeed.eal.clock import tsc_hz
from wirespeed.eal.cores import kept_off
from wirespeed.jit import cycles, kernel, load64, read_bytes, store64, write_bytes
from wirespeed.jit.libc import read, write
from wirespeed.mem.region import Region
from wirespeed.ports.netdev import within

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_ETH_P_ALL = 3
_SOL_PACKET, _IGNORE_OUTGOING = 263, 23
_SO_RCVBUFFORCE, _BUFFERED = 33, 16 << 20  # answers of a prober that stood still wait for it
_PATIENCE_S = 0.2
_AWAY_S = 8e-6  # between two looks at the clock: sending a probe, softirqs included, takes less; a tick takes more
_STOPPED_S = 1e-6  # between two looks of a core that does nothing else
_COMERS = 1_000_000
_BUFFER, _AWAY = 4096, 8192
_AWAYS = 4096  # times away that are noted, until it had caught up: first and last cycle, two words each
_TIMES = _AWAY + _AWAYS * 16


@kernel
def _probe(fd, memory, size, count, step, patience, away):  # type: ignore[no-untyped-def]
    """Send ``count`` probes, ``step`` cycles apart; how long each took at ``memory + _TIMES``, 0: it has no answer.
    (When the first was due, how often the prober was away, which is noted at ``memory + _AWAY``.)"""
    begun, due, answered = cycles() + step, 0, 0
    looked, behind, aways = begun, 0, 0
    while answered < count:
        now = cycles()
        if now - looked > away and behind == 0:
            behind = looked
        looked = now
        if behind != 0 and now < begun + due * step and aways < _AWAYS:
            store64(memory + _AWAY + (aways << 4), behind)
            store64(memory + _AWAY + (aways << 4) + 8, now)
            behind = 0
            aways += 1
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
    if behind != 0 and aways < _AWAYS:
        store64(memory + _AWAY + (aways << 4), behind)
        store64(memory + _AWAY + (aways << 4) + 8, cycles())
        aways += 1
    return begun, aways


@kernel
def _look(memory, cycles_long, away):  # type: ignore[no-untyped-def]
    """Look at the clock for so long. (First and last cycle, how often it was away, which is noted at ``memory``.)"""
    begun = looked = cycles()
    aways = 0
    while looked < begun + cycles_long:
        now = cycles()
        if now - looked > away and aways < _AWAYS:
            store64(memory + (aways << 4), looked)
            store64(memory + (aways << 4) + 8, now)
            aways += 1
        looked = now
    return begun, looked, aways


@dataclass(frozen=True)
class Latencies:
    """What probes found.

    Attributes:
        microseconds: that the shares asked for stayed below.
        lost: probes that had no answer.
        left_out: the share of the probes during which the prober stood still.
        taken: the share of the others during which somebody else had the server's core.
        undisturbed: what ``microseconds`` is without those.

    If every probe would have to be left out, none is.
    """

    microseconds: list[float]
    lost: int
    left_out: float = 0.0
    taken: float = 0.0
    undisturbed: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Server:
    """Who answers: its processes, and the core it has."""

    core: int
    processes: tuple[int, ...]


def latencies(
    netns: str,
    interface: str,
    frame: bytes,
    rate: float,
    count: int,
    core: int,
    wanted: Sequence[float],
    server: Server | None = None,
) -> Latencies:
    """Probe from ``core`` out of an interface.

    Args:
        frame: the probe; its last eight bytes are its number.
        rate: probes a second.
        count: how many.
        wanted: shares of the probes, 0 to 1.
        server: whose core is watched, if it can be.
    """
    made = within(netns, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0))
    with made, Region(_TIMES + count * 8, "wirespeed-latency", huge=False) as memory:
        within(netns, lambda: made.bind((interface, _ETH_P_ALL)))
        made.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
        made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFERED)
        write_bytes(memory.address, frame)
        hz = tsc_hz()
        step = round(hz / rate)
        arguments = (memory.address, len(frame), count, step, int(_PATIENCE_S * hz), int(_AWAY_S * hz))
        said: list[tuple[int, int]] = []

        def probe() -> None:
            os.sched_setaffinity(0, {core})
            said.append(_probe(made.fileno(), *arguments))

        thread = threading.Thread(target=probe)
        with contextlib.nullcontext() if server is None else CoreWatch(server.core) as watch:
            thread.start()
            thread.join()
        begun, aways = said[0]
        took = np.frombuffer(read_bytes(memory.address + _TIMES, 8 * count), np.int64)
        away = np.frombuffer(read_bytes(memory.address + _AWAY, 16 * aways), np.int64).reshape(-1, 2)
    due = begun + step * np.arange(count)
    lost = took == 0
    took = np.where(lost, int(_PATIENCE_S * hz), took)
    seen = lost | ~overlapping(due, due + took, away)
    taken = np.empty((0, 2), np.int64) if server is None or watch is None else watch.taken(server.processes)
    untouched = seen & (lost | ~overlapping(due, due + took, until_answered(due, due + took, taken)))

    def below(those: NDArray[np.bool_]) -> list[float]:
        return shares_below(took[those] if those.any() else took, wanted)

    left_out, disturbed = 1 - seen.mean(), 1 - untouched.sum() / max(seen.sum(), 1)
    return Latencies(below(seen), int(lost.sum()), float(left_out), float(disturbed), below(untouched))


def stops(core: int, client: int, seconds: float, wanted: Sequence[float]) -> list[float]:
    """How many microseconds who comes to a polled core waits until it looks, if nobody else has it and it does nothing.

    No server on ``core`` can be quicker than what it does itself, and this. As with probes, who comes while the core
    ``client`` stands still is left out.
    """
    aways: dict[int, NDArray[np.int64]] = {}

    def look(where: int) -> None:
        os.sched_setaffinity(0, {where})
        with Region(_AWAYS * 16, "wirespeed-stops", huge=False) as memory:
            begun, ended, count = _look(memory.address, int(seconds * tsc_hz()), int(_STOPPED_S * tsc_hz()))
            aways[where] = np.frombuffer(read_bytes(memory.address, 16 * count), np.int64).reshape(-1, 2)
            looked.append((begun, ended))

    looked: list[tuple[int, int]] = []
    threads = [threading.Thread(target=look, args=(each,)) for each in (core, client)]
    with kept_off((core,)), CoreWatch(core) as watch:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    away = aways[core]
    away = away[~overlapping(away[:, 0], away[:, 1], watch.taken((os.getpid(),)))]
    comes = np.linspace(max(each[0] for each in looked), min(each[1] for each in looked), _COMERS).astype(np.int64)
    waits = until_back(comes, away)
    return shares_below(waits[~overlapping(comes, comes + waits, aways[client])], wanted)


def shares_below(times: NDArray[np.int64], wanted: Sequence[float]) -> list[float]:
    """The microseconds that these shares of some cycles stay below."""
    found = np.sort(times) / tsc_hz() * 1e6
    return [float(found[min(int(share * len(found)), len(found) - 1)]) for share in wanted]


def until_back(comes: NDArray[np.int64], away: NDArray[np.int64]) -> NDArray[np.int64]:
    """How long after each of those times it is until none of ``away`` is: rows of two, in order, apart."""
    ended = np.append(away[:, 1], np.iinfo(np.int64).max)
    begun = np.append(away[:, 0], np.iinfo(np.int64).max)
    stop = np.searchsorted(ended[:-1], comes, side="right")
    return np.where(begun[stop] <= comes, ended[stop] - comes, 0)


def until_answered(due: NDArray[np.int64], done: NDArray[np.int64], taken: NDArray[np.int64]) -> NDArray[np.int64]:
    """The times in ``taken``, each until all that was under way then was done."""
    longer = taken.copy()
    for row in longer:
        under_way = (due <= row[1]) & (done >= row[0])
        row[1] = max(row[1], done[under_way].max(initial=0))
    return longer


def overlapping(first: NDArray[np.int64], last: NDArray[np.int64], away: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of the times from ``first`` to ``last`` have a part in one of ``away``: rows of two, in order."""
    ended = np.searchsorted(np.maximum.accumulate(away[:, 1]), first)  # the first that was not over by then
    begun = np.append(away[:, 0], np.iinfo(np.int64).max)
    return begun[ended] <= last


__all__ = ["Latencies", "Server", "latencies", "overlapping", "shares_below", "stops", "until_answered", "until_back"]

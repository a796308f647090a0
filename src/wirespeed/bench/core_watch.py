"""Who had a core, and when? The kernel's own record of its switches, by a perf event of that core.

A server on a polled core is late whenever something else gets that core: a kernel thread, another program. That is not
the server's doing, and whoever compares servers wants to know which echoes it touched. Needs CAP_PERFMON (root), but no
hardware counters.

References: perf_event_open(2): PERF_RECORD_SWITCH_CPU_WIDE, ``context_switch``, ``use_clockid``;
include/uapi/linux/perf_event.h.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections.abc import Container
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from wirespeed.bench.errors import BenchError
from wirespeed.eal.clock import bracket
from wirespeed.eal.perf import SOFTWARE, Event, attributes, perf_event_open
from wirespeed.jit import tsc

if TYPE_CHECKING:
    from numpy.typing import NDArray

_DUMMY = Event("dummy", SOFTWARE, 9)
_TID, _TIME = 1 << 1, 1 << 2
_SAMPLE_ID_ALL, _USE_CLOCKID, _CONTEXT_SWITCH = 1 << 18, 1 << 25, 1 << 26
_CLOCKID_AT = 92
_PAGES = 1024  # of records: some 130,000 switches
_HEAD_AT, _RECORDS_AT = 1024, mmap.PAGESIZE
_HEADER = struct.Struct("=IHH")  # type, misc, bytes
_SWITCH = struct.Struct("=iiiiQ")  # pid and tid of the other one, pid and tid, time
_SWITCH_CPU_WIDE, _OUT = 15, 1 << 13


def refusal(core: int) -> str | None:
    """Why that core cannot be watched and what to do about it; None: it can."""
    try:
        with CoreWatch(core):
            return None
    except BenchError as error:
        return str(error)


class CoreWatch:
    """Note who has a core from entering to leaving; a context manager. Raises BenchError if the kernel refuses."""

    def __init__(self, core: int) -> None:
        self.core = core

    def __enter__(self) -> CoreWatch:
        wanted = attributes(_DUMMY, _SAMPLE_ID_ALL | _USE_CLOCKID | _CONTEXT_SWITCH, _TID | _TIME)
        struct.pack_into("=i", wanted, _CLOCKID_AT, time.CLOCK_MONOTONIC)
        try:
            descriptor = perf_event_open(wanted, tid=-1, core=self.core)
        except OSError as error:
            raise BenchError(
                f"who has core {self.core} cannot be watched: {error.strerror}; it takes CAP_PERFMON"
            ) from None
        try:
            self._memory = mmap.mmap(descriptor, (1 + _PAGES) * mmap.PAGESIZE)
        finally:
            os.close(descriptor)  # the mapping keeps the event
        self._came: list[tuple[int, int]] = []
        self._begun = self._ended = bracket(tsc, time.monotonic_ns)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended = bracket(tsc, time.monotonic_ns)
        self._came = self._read()
        self._memory.close()

    def taken(self, mine: Container[int]) -> NDArray[np.int64]:
        """When others than these processes had the core: rows of the first and the last cycle.

        Nobody (the idle thread) is no other, nor is ksoftirqd, which handles the packets of whoever has the core.
        """
        spans: list[int] = []
        softirqs: dict[int, bool] = {}
        others = False
        for when, pid in self._came:
            if others != (pid > 0 and pid not in mine and not softirqs.setdefault(pid, _is_softirq(pid))):
                others = not others
                spans.append(when)
        if others:
            spans.append(self._ended[1])
        first, last = self._begun, self._ended  # the counter's rate is that of just this time
        at = np.interp(np.array(spans) - first[1], (0, last[1] - first[1]), (0, last[0] - first[0]))
        return (first[0] + at.astype(np.int64)).reshape(-1, 2)

    def _read(self) -> list[tuple[int, int]]:
        """When who came, in nanoseconds of CLOCK_MONOTONIC."""
        (head,) = struct.unpack_from("=Q", self._memory, _HEAD_AT)
        if head > _PAGES * mmap.PAGESIZE - _HEADER.size - _SWITCH.size:
            raise BenchError(f"core {self.core} changed hands too often to be noted: watch it for a shorter time")
        came, at = [], _RECORDS_AT
        while at < _RECORDS_AT + head:
            kind, misc, size = _HEADER.unpack_from(self._memory, at)
            if kind == _SWITCH_CPU_WIDE and not misc & _OUT:
                _, _, pid, _, when = _SWITCH.unpack_from(self._memory, at + _HEADER.size)
                came.append((when, pid))
            at += size
        return came


def _is_softirq(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().startswith("ksoftirqd/")
    except OSError:  # it ended: no kernel thread of that kind does
        return False


__all__ = ["CoreWatch", "refusal"]

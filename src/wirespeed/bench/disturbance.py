"""What disturbed a run: time the hypervisor stole and times the scheduler took the core away.

Both are read before and after a run; their difference, per second of the run, is held against a bound.

- steal: the 8th figure of the ``cpu`` line of /proc/stat, in ticks of 1/SC_CLK_TCK s, of all cores
  together (proc(5)).
- involuntary context switches: ``ru_nivcsw`` of this process and of its children that have ended
  (getrusage(2)), and ``nonvoluntary_ctxt_switches`` of every thread of children that still run
  (/proc/PID/task/TID/status, proc(5)).
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

_STEAL_COLUMN = 8  # "cpu user nice system idle iowait irq softirq steal ..."


@dataclass(frozen=True, slots=True)
class Reading:
    """The running totals at one moment, or the difference of two moments."""

    seconds: float
    steal_s: float
    switches: int

    def __sub__(self, earlier: Reading) -> Reading:
        return Reading(self.seconds - earlier.seconds, self.steal_s - earlier.steal_s, self.switches - earlier.switches)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Above these a run is void.

    `steal_share` is stolen core time per elapsed time (0.01: a hundredth of one core); `switches_per_s`
    counts involuntary context switches of both sides. A polling core that nobody else wants shows fewer
    than ten a second; each may cost a scheduler slice of 3 ms, so 50 a second may cost 15 %.
    `spare_switches` are forgiven to every run, so that a short one is not void for starting a process.
    """

    steal_share: float = 0.01
    switches_per_s: float = 50.0
    spare_switches: int = 20

    def violation(self, during: Reading) -> str | None:
        """Why the run that showed `during` is void, or None."""
        steal_tick = 1 / os.sysconf("SC_CLK_TCK")  # one tick may belong to anything: not yet a finding
        if during.steal_s > max(self.steal_share * during.seconds, steal_tick):
            return f"{during.steal_s:.2f} s stolen in {during.seconds:.2f} s"
        if during.switches > self.switches_per_s * during.seconds + self.spare_switches:
            return f"{during.switches} involuntary context switches in {during.seconds:.2f} s"
        return None


def observer(pids: Iterable[int] = ()) -> Callable[[], Reading]:
    """A function that reads the totals now; `pids` are running children (a testpmd) to watch as well."""
    watched = tuple(pids)

    def read() -> Reading:
        own = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
        ended = resource.getrusage(resource.RUSAGE_CHILDREN).ru_nivcsw
        running = sum(_switches_of(pid) for pid in watched)
        return Reading(time.monotonic(), _steal_s(), own + ended + running)

    return read


def _steal_s() -> float:
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    return int(fields[_STEAL_COLUMN]) / os.sysconf("SC_CLK_TCK")


def _switches_of(pid: int) -> int:
    """Of all threads of `pid`; 0 for one that has ended (its count is in RUSAGE_CHILDREN then)."""
    total = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        try:
            text = status.read_text()
        except OSError:  # the thread ended between the listing and the reading
            continue
        for line in text.splitlines():
            if line.startswith("nonvoluntary_ctxt_switches:"):
                total += int(line.split()[1])
    return total

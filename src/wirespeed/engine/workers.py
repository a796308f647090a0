"""The workers: threads inside compiled calls, and the commands that make them return.

A command is a word in the worker's record that its loop reads each turn. EXIT ends the worker. Two more make
its loop return for a moment: SWITCH, to go on with another loop, and PAUSE, to wait off the core until all go on.
"""

import os
import threading
import time
from collections.abc import Callable, Sequence

from wirespeed.eal import cores
from wirespeed.eal.perf import Event, PerfCounters
from wirespeed.errors import WirespeedError
from wirespeed.graph.build import Built
from wirespeed.graph.layout import EXIT, RUN, Worker
from wirespeed.jit import store64

SWITCH: int = EXIT + 1
PAUSE: int = EXIT + 2

_PARK_S = 5.0
_FOR_GOOD = 1 << 62


class Workers:
    """One thread for each worker record.

    Args:
        records: addresses of the workers' records.
        wakeups: an eventfd for each, which rouses it when it blocks.
        built: the loop to begin with.
        bind: ``bind(worker, built)`` writes what the loop finds by reference; called before each of its runs.
        events: what the hardware is to count in each thread, if it can.
    """

    def __init__(
        self,
        records: Sequence[int],
        wakeups: Sequence[int],
        built: Built,
        bind: Callable[[int, Built], None],
        events: tuple[Event, ...],
    ) -> None:
        self.records, self._wakeups, self._bind, self._events = list(records), wakeups, bind, events
        self._running = [built for _ in records]  # what each was told to run, and what it runs
        self._at = [built for _ in records]
        self._threads: list[threading.Thread] = []
        self._pauses = 0  # how often the workers were told to pause, and for which of these each does
        self._parked = [0 for _ in records]
        self._counters: list[PerfCounters] = []
        self._resumed = threading.Event()
        self.paused = False
        self._commanding = threading.Lock()
        self.failure: BaseException | None = None
        self.why_no_counters = "" if events else "not asked for"

    @property
    def started(self) -> bool:
        """Whether :meth:`start` was called."""
        return bool(self._threads)

    def start(self, on: Sequence[int]) -> None:
        """Start each worker on its core; returns at once."""
        for index, core in enumerate(on):
            thread = threading.Thread(target=self._work, args=(index, core), name=f"wirespeed-{index}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _work(self, index: int, core: int) -> None:
        record = self.records[index]
        try:
            cores.pin(core)
            if self._events:
                self._count(record)
            built = self._running[index]
            while (command := built.run(record)) >= SWITCH:
                if command == PAUSE:
                    self._parked[index] = self._pauses
                    self._resumed.wait()
                with self._commanding:  # what was commanded meanwhile, to end above all, is not overwritten
                    built, record = self._running[index], self.records[index]
                    self._bind(index, built)
                    self._at[index] = built
                    if Worker(record).command == command:
                        Worker(record).command = RUN
        except BaseException as error:
            self.failure = error
        finally:
            Worker(record).ended = 1
            self._parked[index] = _FOR_GOOD

    def _count(self, record: int) -> None:
        """Open this thread's hardware counters; without them the profile has time-stamp cycles only."""
        counters = PerfCounters.open(events=self._events)
        self.why_no_counters = counters.reason
        if counters.available:
            Worker(record).perf_fd = counters.descriptor
            self._counters.append(counters)

    def command(self, command: int) -> None:
        """Tell every worker."""
        for record, wakeup in zip(self.records, self._wakeups, strict=True):
            with self._commanding:
                store64(record, command)
            os.eventfd_write(wakeup, 1)

    def switch(self, built: Built) -> None:
        """Let every worker go on with another loop for the same graph; none misses a packet."""
        with self._commanding:
            self._running[:] = [built for _ in self.records]
        self.command(SWITCH)

    def settle(self, seconds: float = 1.0) -> None:
        """Return when every worker runs the loop it was told to, or has ended; or after ``seconds``."""
        until = time.monotonic() + seconds
        while any(at is not told for at, told in zip(self._at, self._running, strict=True)):
            over = self.failure is not None or all(Worker(record).ended for record in self.records)
            if over or time.monotonic() > until:
                return
            time.sleep(0.0001)

    def exchange(self, built: Built, change: Callable[[], Sequence[int]]) -> None:
        """Take every worker out of its loop, call ``change``, and let all go on with another loop and other records.

        While ``change`` runs no worker touches anything; it returns the addresses of the records to go on with.

        Raises:
            WirespeedError: a worker has ended, or does not leave its loop. Nothing was changed.
        """
        paused = self.paused
        if not paused:
            self._halt()
        try:
            self._wait_for_parked()
            with self._commanding:
                self.records[:] = change()
                self._running[:] = [built for _ in self.records]
        finally:
            if not paused:
                self._resumed.set()

    def _halt(self) -> None:
        self._pauses += 1
        self._resumed.clear()
        self.command(PAUSE)

    def _wait_for_parked(self) -> None:
        until = time.monotonic() + _PARK_S
        while late := [index for index, parked in enumerate(self._parked) if parked < self._pauses]:
            if time.monotonic() > until:
                raise WirespeedError(f"worker {late[0]} does not leave its loop: it hangs in a node")
            time.sleep(0.00005)
        if _FOR_GOOD in self._parked:
            raise WirespeedError("the graph has ended: start another engine")

    def pause(self) -> None:
        """Take the workers off their cores; what is in flight stays where it is."""
        self.paused = True
        self._halt()

    def resume(self) -> None:
        """Go on after :meth:`pause`."""
        self.paused = False
        self._resumed.set()

    def wait(self, seconds: float) -> None:
        """Return when the first worker has returned, or after ``seconds``."""
        self._threads[0].join(seconds)

    def join(self) -> None:
        """Wait until every worker has returned; they must have been told to."""
        for thread in self._threads:
            thread.join()
        for counters in self._counters:
            counters.close()

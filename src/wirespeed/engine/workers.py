"""The workers: threads inside compiled calls, and the commands that make them return.

A command is a word in the worker's record that its loop reads each turn. EXIT ends the worker. Two more make
its loop return for a moment: SWITCH, to go on with another loop, and PAUSE, to wait off the core.
"""

import os
import threading
import time
from collections.abc import Callable, Sequence

from wirespeed.eal import cores
from wirespeed.eal.perf import Event, PerfCounters
from wirespeed.graph.build import Built
from wirespeed.graph.layout import EXIT, RUN, Worker
from wirespeed.jit import store64

SWITCH: int = EXIT + 1
PAUSE: int = EXIT + 2


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
        self._records, self._wakeups, self._bind, self._events = records, wakeups, bind, events
        self._running = [built for _ in records]  # what each was told to run, and what it runs
        self._at = [built for _ in records]
        self._threads: list[threading.Thread] = []
        self._counters: list[PerfCounters] = []
        self._resumed = threading.Event()
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
        record = self._records[index]
        try:
            cores.pin(core)
            if self._events:
                self._count(record)
            built = self._running[index]
            while (command := built.run(record)) >= SWITCH:
                if command == PAUSE:
                    self._resumed.wait()
                with self._commanding:  # what was commanded meanwhile, to end above all, is not overwritten
                    built = self._running[index]
                    self._bind(index, built)
                    self._at[index] = built
                    if Worker(record).command == command:
                        Worker(record).command = RUN
        except BaseException as error:
            self.failure = error
        finally:
            Worker(record).ended = 1

    def _count(self, record: int) -> None:
        """Open this thread's hardware counters; without them the profile has time-stamp cycles only."""
        counters = PerfCounters.open(events=self._events)
        self.why_no_counters = counters.reason
        if counters.available:
            Worker(record).perf_fd = counters.descriptor
            self._counters.append(counters)

    def command(self, command: int) -> None:
        """Tell every worker."""
        for record, wakeup in zip(self._records, self._wakeups, strict=True):
            with self._commanding:
                store64(record, command)
            os.eventfd_write(wakeup, 1)

    def switch(self, built: Built) -> None:
        """Let every worker go on with another loop for the same graph; none misses a packet."""
        with self._commanding:
            self._running[:] = [built for _ in self._records]
        self.command(SWITCH)

    def settle(self, seconds: float = 1.0) -> None:
        """Return when every worker runs the loop it was told to, or has ended; or after ``seconds``."""
        until = time.monotonic() + seconds
        while any(at is not told for at, told in zip(self._at, self._running, strict=True)):
            over = self.failure is not None or all(Worker(record).ended for record in self._records)
            if over or time.monotonic() > until:
                return
            time.sleep(0.0001)

    def pause(self) -> None:
        """Take the workers off their cores; what is in flight stays where it is."""
        self._resumed.clear()
        self.command(PAUSE)

    def resume(self) -> None:
        """Go on after :meth:`pause`."""
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

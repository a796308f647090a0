"""The workers: threads inside compiled calls, and the commands that make them return.

A command is a word in the worker's record that its loop reads each turn: DRAIN and EXIT are meant for the loop. LOOK
makes it return, and the thread then does what it finds here: waits off the core while the workers are halted, goes on
with the loop and the record that it is told to run, and writes the word anew for what is wanted by then. So whatever is
commanded at the same time, in whichever order and thread, none of it is lost: the word only says that there is news.
"""

import os
import threading
from collections.abc import Callable, Sequence

from wirespeed.eal import cores
from wirespeed.eal.perf import Event, PerfCounters
from wirespeed.errors import WirespeedError
from wirespeed.graph.build import Built
from wirespeed.graph.layout import EXIT, RUN, Worker
from wirespeed.jit import store64

LOOK: int = EXIT + 1

_PARK_S = 5.0


class Workers:
    """One thread for each worker record.

    Args:
        records: addresses of the workers' records.
        wakeups: an eventfd for each, which rouses it when it blocks.
        built: the loop to begin with.
        bind: ``bind(worker, built)`` writes what the loop finds by reference; called before each of its runs.
        events: what the hardware is to count in each thread, if it can.

    Attributes:
        paused: :meth:`pause` was called, and :meth:`resume` was not.
        failure: what a worker died of.
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
        self._counters: list[PerfCounters] = []
        self._news = threading.Condition()  # held while any of this is read or written
        self._order = RUN
        self._halts = 0  # who wants the workers off their cores
        self._parked = [False for _ in records]
        self._over = [False for _ in records]
        self.paused = False
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
        try:
            cores.pin(core)
            if self._events:
                self._count(index)
            command = LOOK
            while command >= LOOK:
                built, record = self._look(index)
                command = built.run(record)
        except BaseException as error:
            self.failure = error
        finally:
            with self._news:
                Worker(self.records[index]).ended = 1
                self._over[index] = True
                self._news.notify_all()

    def _look(self, index: int) -> tuple[Built, int]:
        """Wait until nobody wants this worker off its core; what it is to run then, and with which record."""
        with self._news:
            while self._halts and self._order != EXIT:
                self._parked[index] = True
                self._news.notify_all()
                self._news.wait()
            self._parked[index] = False
            built, record = self._running[index], self.records[index]
            self._bind(index, built)
            self._at[index] = built
            Worker(record).command = self._order
            self._news.notify_all()
            return built, record

    def _count(self, index: int) -> None:
        """Open this thread's hardware counters; without them the profile has time-stamp cycles only."""
        counters = PerfCounters.open(events=self._events)
        with self._news:
            self.why_no_counters = counters.reason
            if counters.available:
                Worker(self.records[index]).perf_fd = counters.descriptor
                self._counters.append(counters)

    def command(self, order: int) -> None:
        """Tell every worker to DRAIN or to EXIT, for good."""
        with self._news:
            self._order = max(self._order, order)
            self._say()
            self._news.notify_all()

    def _say(self) -> None:
        """There is news. Workers that have returned are told nothing: their records may be gone."""
        for index, (record, wakeup) in enumerate(zip(self.records, self._wakeups, strict=True)):
            if not self._over[index]:
                store64(record, EXIT if self._order == EXIT else LOOK)
                os.eventfd_write(wakeup, 1)

    def switch(self, built: Built) -> None:
        """Let every worker go on with another loop for the same graph; none misses a packet."""
        with self._news:
            self._running[:] = [built for _ in self.records]
            self._say()

    def settle(self, seconds: float = 1.0) -> None:
        """Return when every worker runs the loop it was told to, or has ended; or after ``seconds``."""

        def settled() -> bool:
            pairs = zip(self._at, self._running, self._over, strict=True)
            return all(at is told or over for at, told, over in pairs)

        with self._news:
            self._news.wait_for(settled, seconds)

    def exchange(self, built: Built, change: Callable[[], Sequence[int]]) -> None:
        """Take every worker out of its loop, call ``change``, and let all go on with another loop and other records.

        While ``change`` runs no worker touches anything; it returns the addresses of the records to go on with. Workers
        that have not started begin with them.

        Raises:
            WirespeedError: a worker has ended, or does not leave its loop. Nothing was changed.
        """
        with self._news:
            self._halt()
            try:
                if self.started:
                    self._wait_for_parked()
                self.records[:] = change()
                self._running[:] = [built for _ in self.records]
            finally:
                self._go_on()

    def _halt(self) -> None:
        self._halts += 1
        self._say()

    def _go_on(self) -> None:
        self._halts -= 1
        self._news.notify_all()

    def _wait_for_parked(self) -> None:
        pairs = zip(self._parked, self._over, strict=True)
        if not self._news.wait_for(lambda: any(self._over) or all(self._parked), _PARK_S):
            late = next(index for index, (parked, over) in enumerate(pairs) if not parked and not over)
            raise WirespeedError(f"worker {late} does not leave its loop: it hangs in a node")
        if any(self._over):
            raise WirespeedError("the graph has ended: start another engine")

    def pause(self) -> None:
        """Take the workers off their cores; what is in flight stays where it is. Once more does nothing."""
        with self._news:
            if not self.paused:
                self.paused = True
                self._halt()

    def resume(self) -> None:
        """Go on after :meth:`pause`."""
        with self._news:
            if self.paused:
                self.paused = False
                self._go_on()

    def wait(self, seconds: float) -> None:
        """Return when the first worker has returned, or after ``seconds``."""
        self._threads[0].join(seconds)

    def join(self) -> None:
        """Wait until every worker has returned; they must have been told to."""
        for thread in self._threads:
            thread.join()
        for counters in self._counters:
            counters.close()

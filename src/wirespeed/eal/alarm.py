"""Alarms: call a function of control code later, once or again and again.

::

    ws.Alarm(0.5, save)                    # once, in half a second
    beat = ws.Alarm(1.0, report, every=1.0)
    ...
    beat.cancel()

One thread of the process waits for all alarms and calls the functions, one after the other (rte_alarm does it in its
interrupt thread); it starts with the first alarm. In a program that runs an asyncio loop they can be called by
that loop instead, see :meth:`Alarms.serve`. The data plane has timers of its own: no alarm ever runs in a worker.

Periods do not drift: the next time is the last *due* time and a period, however late the call was. Times that went by
while a call took too long are skipped and counted in :attr:`Alarm.missed`. A function that raises is logged and
called again at its next time. Waiting costs nothing; setting and cancelling are O(log n) and O(1).

Resolution is the kernel's: some 50 to 100 us late on an idle core (CLOCK_MONOTONIC, timer slack 50 us, prctl(2)).
"""

import asyncio
import functools
import heapq
import inspect
import itertools
import logging
import operator
import threading
import time
from collections.abc import Callable
from typing import Any

from wirespeed.errors import ConfigError

log = logging.getLogger("wirespeed.alarm")

_NS_PER_S = 1_000_000_000
MAX_S: float = 1e9
"""The latest an alarm can be: 31 years."""


class Alarms:
    """Alarms that are waited for together.

    Args:
        clock_ns: CLOCK_MONOTONIC in nanoseconds; a test passes its own and calls :meth:`run_due`.
        thread: start a thread for them with the first alarm.
    """

    def __init__(self, clock_ns: Callable[[], int] = time.monotonic_ns, thread: bool = False) -> None:
        self.clock_ns = clock_ns
        self._threaded = thread
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._call: asyncio.TimerHandle | None = None
        self._order = itertools.count()
        self._heap: list[tuple[int, int, Alarm]] = []
        self._most = 1024
        self._changed = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        """Alarms that are set."""
        with self._changed:
            return sum(alarm.set and alarm._entry == entry for _, entry, alarm in self._heap)

    def next_ns(self) -> int | None:
        """When the next one is due, or None."""
        with self._changed:
            return self._next()

    def run_due(self) -> int:
        """Call what is due now, in order; how many were called."""
        now = self.clock_ns()
        called = 0
        while True:
            with self._changed:
                due = self._next()
                if due is None or due > now:
                    return called
                alarm = heapq.heappop(self._heap)[2]
                if alarm._every_ns:
                    late = max(now - due, 0) // alarm._every_ns
                    alarm.missed += late
                    self._put(alarm, due + (late + 1) * alarm._every_ns)
                else:
                    alarm.set = False
                alarm.fired += 1
            called += 1
            self._do(alarm)

    def serve(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """From now on the alarms are called by this asyncio loop (None: the running one), coroutines too.

        Alarms may still be set and cancelled by any thread.
        """
        self._loop = loop or asyncio.get_running_loop()
        self._loop.call_soon_threadsafe(self._rearm)

    def close(self) -> None:
        """Cancel all; the thread, if there is one, ends."""
        with self._changed:
            self._closed = True
            for _, _, alarm in self._heap:
                alarm.set = False
            self._heap.clear()
            self._changed.notify_all()
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._rearm)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    # How it waits -------------------------------------------------------------------------------------------

    def _add(self, alarm: "Alarm", due: int) -> None:
        with self._changed:
            if self._closed:
                raise ConfigError("these alarms are closed: set new ones elsewhere")
            self._put(alarm, due)
            if self._threaded and self._thread is None and self._loop is None:
                self._thread = threading.Thread(target=self._wait, name="wirespeed-alarms", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._rearm)

    def _put(self, alarm: "Alarm", due: int) -> None:
        alarm.due_ns, alarm._entry = due, next(self._order)
        heapq.heappush(self._heap, (due, alarm._entry, alarm))
        if len(self._heap) >= self._most:  # what was cancelled long before its time must not pile up
            self._heap = [entry for entry in self._heap if entry[2].set and entry[2]._entry == entry[1]]
            heapq.heapify(self._heap)
            self._most = 2 * len(self._heap) + 1024

    def _next(self) -> int | None:
        """The next due time; what was cancelled or set anew is dropped on the way."""
        while self._heap and not (self._heap[0][2].set and self._heap[0][2]._entry == self._heap[0][1]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def _do(self, alarm: "Alarm") -> None:
        try:
            result = alarm.function()
            if inspect.iscoroutine(result):
                if self._loop is None:
                    result.close()
                    raise ConfigError("a coroutine needs alarms that an asyncio loop serves: alarms().serve(loop)")
                task = self._loop.create_task(result)
                alarm._tasks.add(task)  # a loop itself keeps only weak references
                task.add_done_callback(functools.partial(_done, alarm))
        except Exception:
            log.exception("the function of %r raised", alarm)

    def _wait(self) -> None:
        while True:
            with self._changed:
                while not self._closed and self._loop is None:
                    due = self._next()
                    left = None if due is None else due - self.clock_ns()
                    if left is not None and left <= 0:
                        break
                    # at most an hour at a time: what waits longer looks again
                    self._changed.wait(None if left is None else min(left / _NS_PER_S, 3600.0))
                if self._closed or self._loop is not None:
                    return
            self.run_due()

    def _rearm(self) -> None:
        """In the loop: one call for the next due time."""
        assert self._loop is not None
        if self._call is not None:
            self._call.cancel()
            self._call = None
        due = self.next_ns()
        if due is not None:
            left_s = min(max(due - self.clock_ns(), 0) / _NS_PER_S, 3600.0)
            self._call = self._loop.call_later(left_s, self._from_loop)

    def _from_loop(self) -> None:
        self.run_due()
        self._rearm()


class Alarm:
    """Call ``function`` in ``seconds``, and if ``every`` is given, every so many seconds after that.

    Attributes:
        function: what is called, without arguments.
        due_ns: when it is called next (or was last), on the clock of its alarms.
        fired: how often it was called.
        missed: times that were skipped, because a call took longer than the period.
        set: whether it will be called again.

    Args:
        seconds: from now, 0 or more.
        function: by default called in the alarm thread: it should not block it for long.
        every: the period in seconds, a microsecond or more; None calls once.
        alarms: who waits; None is :func:`alarms`, those of the process.

    Raises:
        ConfigError: times out of range, something that cannot be called, or alarms that are closed.
    """

    def __init__(
        self,
        seconds: float,
        function: Callable[[], Any],
        every: float | None = None,
        alarms: Alarms | None = None,
    ) -> None:
        if not 0 <= seconds <= MAX_S:  # also refuses what is not a number
            raise ConfigError(f"an alarm in {seconds} s is not possible: 0 to {MAX_S:g}")
        if every is not None and not 1e-6 <= every <= MAX_S:
            raise ConfigError(f"an alarm every {every} s is not possible: 1e-6 to {MAX_S:g}")
        if not callable(function):
            raise ConfigError(f"an alarm calls a function, not a {type(function).__name__}: {function!r}")
        self.function = function
        self.fired = self.missed = 0
        self.set = True
        self._entry = -1
        self._tasks: set[Any] = set()
        self._every_ns = round(every * _NS_PER_S) if every is not None else 0
        self._alarms = alarms if alarms is not None else _of_process()
        self.due_ns = self._alarms.clock_ns() + round(seconds * _NS_PER_S)
        self._alarms._add(self, self.due_ns)

    def cancel(self) -> bool:
        """Do not call it any more; whether it was set. A call that has begun goes on."""
        with self._alarms._changed:
            was, self.set = self.set, False
            return was

    def reset(self, seconds: float) -> None:
        """Set it (again) to ``seconds`` from now; a period goes on from there."""
        if not 0 <= seconds <= MAX_S:
            raise ConfigError(f"an alarm in {seconds} s is not possible: 0 to {MAX_S:g}")
        with self._alarms._changed:
            self.set = True
            self._alarms._add(self, self._alarms.clock_ns() + round(seconds * _NS_PER_S))

    def __repr__(self) -> str:
        name = getattr(self.function, "__qualname__", None) or repr(self.function)
        period = f" every {self._every_ns / _NS_PER_S:g} s" if self._every_ns else ""
        return f"<alarm {name}{period}: {'set' if self.set else 'not set'}, called {operator.index(self.fired)} times>"


@functools.cache
def _of_process() -> Alarms:
    return Alarms(thread=True)


def alarms() -> Alarms:
    """The alarms of this process, waited for by one thread unless an asyncio loop serves them."""
    return _of_process()


def _done(alarm: Alarm, task: Any) -> None:
    alarm._tasks.discard(task)
    if not task.cancelled() and task.exception() is not None:
        log.error("the coroutine of %r raised", alarm, exc_info=task.exception())


__all__ = ["Alarm", "Alarms", "alarms"]

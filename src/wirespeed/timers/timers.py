"""Timers: a hierarchical timing wheel a worker, a million timers and more in each.

::

    timers = ws.Timers(1_000_000, resolution_ns=1_000)

    @timers.on_expire
    def idle(timer):
        aged.add(1)
        flows.delete(timer.word)

    @ws.node
    def track(pkt):
        ...
        timers.start(handle, 30_000_000_000)        # 30 s from now, again with each packet

Adding, starting, stopping and removing take constant time; so does expiring, apart from at most one move a level.
A timer takes 45 bytes. The memory is :mod:`wirespeed.timers.layout`, the method :mod:`wirespeed.timers.slots`; what
was measured is in docs/design/0011.
"""

import ctypes
import inspect
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wirespeed.eal.clock import clock
from wirespeed.errors import TableError
from wirespeed.jit import tsc
from wirespeed.mem.shared import Shared
from wirespeed.mem.state import MAX_WORKERS
from wirespeed.sync.ring import RingView, format_ring
from wirespeed.timers import bulk
from wirespeed.timers.clock import set_clock
from wirespeed.timers.commands import REMOVE, START, STOP
from wirespeed.timers.layout import (
    CHUNK_BITS,
    CHUNK_TIMERS,
    COMMAND_WORDS,
    COMMANDS,
    COMMANDS_IN_RING,
    FULL,
    GENERATION_SHIFT,
    LATEST,
    LEVELS,
    NEVER,
    NUMBER_MASK,
    RECORD_BITS,
    RECORDS,
    SLOTS_A_LEVEL,
    WORKER_SHIFT,
)
from wirespeed.timers.timer import Callback, Timer
from wirespeed.timers.wheel import TimersView

MAX_CAPACITY: int = 1 << 26
"""Timers a worker may have."""
Many = NDArray[Any] | Iterable[int]
"""A row of integers."""

_PATIENCE_S = 5.0
_MOST_EXPIRED = 1 << 16  # that a call of a kernel gives; advance() calls until all are there


@dataclass(frozen=True)
class TimersStats:
    """All workers' wheels together.

    Attributes:
        armed, used, capacity: timers that are armed; that are in use; that may be (with the reserve).
        started, restarted, stopped: times a timer was armed, re-armed while it was, and disarmed (or removed).
        expired, periodic: times one-shot timers expired; and periodic ones.
        late: of both, more than a tick after the deadline.
        missed: periods that were skipped because a worker stalled; it then calls once and goes on in step.
        moved: timers moved to an earlier slot; all others stayed where they were.
        stale: operations on timers that were gone.
        refused: timers not added because all are in use, and commands not sent because a ring was full.
        resolution_ns: of a tick, a power of two.
        memory_bytes, pages: of all wheels.
    """

    armed: int
    used: int
    capacity: int
    started: int
    restarted: int
    stopped: int
    expired: int
    periodic: int
    late: int
    missed: int
    moved: int
    stale: int
    refused: int
    resolution_ns: int
    memory_bytes: int
    pages: str


class Timers(Shared):
    """Timers of one or more workers.

    A timer never expires before its deadline, as the wheel knows the time; when the wheel is told the time often
    enough, it expires at most one tick after it. Those that are due at one moment expire in no particular order.
    Inside a graph the worker's loop tells the time once a turn, from the time-stamp counter; a wheel made with
    ``now_ns`` is told by :meth:`advance` only, so tests drive it.

    A wheel has one owner and no lock. While a graph runs, its workers own their wheels: what control code starts,
    stops and removes travels through a ring to the worker, and delays count from its arrival there. Handles name
    their worker, so nodes of another worker can use them too, the same way.

    Args:
        capacity: timers each worker may add. The memory is taken at once: 45 bytes each, and 90 KiB a worker.
        resolution_ns: what a tick is, at least 64; rounded up to a power of two.
        workers: how many wheels.
        words: words of the user's a timer has, 1 to 8: the first is ``timer.word``, for others see :meth:`more`.
        reserve: timers beside ``capacity``, for control code to add while workers run.
        now_ns: the time to begin with, for a wheel that is driven by hand.
        name: for other processes, which may attach it to read its figures.

    Raises:
        TableError: something out of range.
        ArenaError: no memory.
    """

    View = TimersView
    KIND = "timers"

    def __init__(
        self,
        capacity: int,
        *,
        resolution_ns: int = 1000,
        workers: int = 1,
        words: int = 1,
        reserve: int = 64,
        now_ns: int | None = None,
        name: str | None = None,
    ) -> None:
        for what, value, low, high in (
            ("capacity", capacity, 1, MAX_CAPACITY),
            ("resolution_ns", resolution_ns, 64, 1 << 32),
            ("workers", workers, 1, MAX_WORKERS),
            ("words", words, 1, 8),
            ("reserve", reserve, 0, MAX_CAPACITY),
            ("now_ns", now_ns or 0, 0, LATEST),
        ):
            if not low <= value <= high:
                raise TableError(f"{name or self.KIND}: {what}={value} is not {low} to {high}")
        timers = capacity + reserve
        chunks = -(-timers // CHUNK_TIMERS) + min(timers, LEVELS * SLOTS_A_LEVEL) + 2
        periods = RECORDS + (timers << RECORD_BITS)
        more = periods + 8 * timers
        first_chunk = -(-(more + 8 * timers * (words - 1)) // 64) * 64
        stride = -(-(first_chunk + (chunks << CHUNK_BITS)) // 4096) * 4096
        self._create(
            workers * stride, name,
            capacity=capacity, reserve=reserve, workers=workers, stride=stride, words=words, by_hand=now_ns is not None,
        )  # fmt: skip
        self._set_up()
        for number, wheel in enumerate(self._wheels):
            wheel.timers, wheel.capacity, wheel.shift = timers, capacity, (resolution_ns - 1).bit_length()
            wheel.periods, wheel.words, wheel.extra, wheel.chunks = periods, more, words - 1, first_chunk
            wheel.tag, wheel.free_timer, wheel.next = number << WORKER_SHIFT, -1, NEVER
            wheel.draining, wheel.wakeup, wheel.one, wheel.stride, wheel.workers = -1, -1, 1, stride, workers
            format_ring(wheel.address + COMMANDS, COMMANDS_IN_RING * COMMAND_WORDS)
            self._words_at(wheel.address + first_chunk, 16 * chunks)[1] = FULL  # chunk 0: see slots.file
            self._words_at(wheel.address + first_chunk, 16 * chunks)[16::16] = np.arange(2, chunks + 1)
            wheel.free_chunk = 1
            set_clock(wheel, clock())
        self._tell(now_ns)

    def _set_up(self) -> None:
        parameters = self.parameters
        self.capacity, self.workers, self.stride = parameters["capacity"], parameters["workers"], parameters["stride"]
        self._wheels = [TimersView(self.address + number * self.stride) for number in range(self.workers)]
        self.callbacks: list[Callable[[Any], Any]] = []
        self._commanding = threading.Lock()
        self._reclaimer: Any = None
        self.remote = False

    def _attached(self) -> None:
        self._set_up()

    def _words_at(self, address: int, count: int) -> NDArray[np.uint32]:
        memory = np.ctypeslib.as_array((ctypes.c_uint32 * count).from_address(address))
        return memory  # type: ignore[no-any-return]

    # Callbacks ----------------------------------------------------------------------------------------------

    def on_expire(self, function: Callable[[Any], Any]) -> Callback:
        """Declare what is called with an expired timer, as a decorator; nodes pass it to :meth:`add`.

        The function is compiled with the graph and may use what a node may: numbers, functions, counters, tables,
        and the timers themselves. It gets a :class:`~wirespeed.timers.timer.Timer` and no packet, and sends none.

        Raises:
            TableError: there are 127 already; it does not take one argument.
        """
        if len(inspect.signature(function).parameters) != 1:
            raise TableError(f"{self.name}: {function.__qualname__} must take one argument, the timer that expired")
        if len(self.callbacks) >= NUMBER_MASK:
            raise TableError(f"{self.name}: {NUMBER_MASK} callbacks are all there can be; tell by timer.word")
        self.callbacks.append(function)
        return Callback(len(self.callbacks) - 1, function)

    # The engine's words -------------------------------------------------------------------------------------

    def prepare(self, workers: int) -> None:
        """The engine's question before a start: is there a wheel for each worker, and does it go by the clock?

        Raises:
            TableError: it does not.
        """
        if workers > self.workers:
            raise TableError(
                f"{self.name} has wheels for {self.workers} of {workers} workers: make it with workers={workers}"
            )
        if self.parameters["by_hand"]:
            raise TableError(f"{self.name} was made with now_ns=...: its time is driven by hand, not by a worker")

    def rouse_by(self, wakeups: Sequence[int]) -> None:
        """The engine's word before a start: the eventfd that rouses each worker when a command comes."""
        for wheel, wakeup in zip(self._wheels, wakeups, strict=False):
            wheel.wakeup = wakeup

    @property
    def reclaimer(self) -> Any:
        """Set while workers run."""
        return self._reclaimer

    @reclaimer.setter
    def reclaimer(self, reclaimer: Any) -> None:
        self._reclaimer = reclaimer
        self.remote = reclaimer is not None
        if reclaimer is None:  # nobody else is left to do what was commanded last
            self.rouse_by([-1] * self.workers)
            self._tell(None)

    # One timer ----------------------------------------------------------------------------------------------

    def add(self, callback: int = 0, word: int = 0, worker: int = 0) -> int:
        """A timer that will call ``callback``; its handle. While workers run, it is one of the reserve.

        Raises:
            TableError: all are in use; no such worker.
        """
        wheel = self._wheel(worker)
        if self.remote:
            return self._add_remote(wheel, int(callback), word)
        handle = bulk.add_many(wheel.address, int(callback), np.array([word]), taken := np.zeros(1, dtype=np.int64))
        if not handle:
            raise TableError(f"{self.name}: all {self.capacity} timers are in use; make it with a larger capacity")
        return int(taken[0])

    def _add_remote(self, wheel: TimersView, callback: int, word: int) -> int:
        with self._commanding:
            first = RECORDS + (wheel.capacity << RECORD_BITS)
            states = self._words_at(wheel.address + first, 8 * (wheel.timers - wheel.capacity))[6::8]
            free = np.flatnonzero((states >> GENERATION_SHIFT) & 1 == 0)
            if not len(free):
                raise TableError(
                    f"{self.name}: all {len(states)} timers for control code are in use while workers run; "
                    f"make it with reserve={2 * len(states) or 64}"
                )
            number = wheel.capacity + int(free[0])
            return int(bulk.begin_one(wheel.address, number, callback, word))

    def start(self, handle: int, delay_ns: int, period_ns: int = 0) -> int:
        """Arm a timer, or give it a new deadline; then again each ``period_ns``. 1, or 0 if it is gone.

        Raises:
            TableError: a period shorter than a tick; the worker takes no commands.
        """
        return self.start_many(np.array([handle]), delay_ns, period_ns)

    def stop(self, handle: int) -> int:
        """Disarm a timer: 1 if it was armed (or its worker was told), else 0."""
        return self.stop_many(np.array([handle]))

    def remove(self, handle: int) -> int:
        """Stop a timer and give it back; the handle means nothing any more. 1, or 0 if it was gone."""
        return self.remove_many(np.array([handle]))

    def is_armed(self, handle: int) -> int:
        """1 if the timer is armed now."""
        return int(self._of(handle).is_armed(handle))

    def armed(self) -> int:
        """How many timers are armed, in all wheels."""
        return int(sum(wheel.armed() for wheel in self._wheels))

    def more(self, handle: int, which: int) -> int:
        """The timer's word ``which``, 1 and up; 0 if it was made without."""
        return int(self._of(handle).more(handle, which))

    def set_more(self, handle: int, which: int, value: int) -> int:
        """Set the timer's word ``which``; 1, or 0 if it was made without. While workers run, only they may."""
        self._check_writable()
        return int(self._of(handle).set_more(handle, which, value))

    def prefetch(self, handle: int) -> None:
        """A hint in nodes; nothing in plain Python."""

    def __len__(self) -> int:
        return self.armed()

    # Many ---------------------------------------------------------------------------------------------------

    def add_many(self, words: Many, callback: int = 0, worker: int = 0) -> NDArray[np.int64]:
        """A timer for each of ``words``; their handles.

        Raises:
            TableError: there are not so many left, and none was added; or workers run.
        """
        self._check_writable()
        wheel, many = self._wheel(worker), _int64(self.name, "words", words)
        if self.remote:
            raise TableError(f"{self.name}: workers run; add many before the start, or one at a time from the reserve")
        free = self.capacity - wheel.used
        if len(many) > free:
            raise TableError(f"{self.name}: {len(many)} timers wanted, {free} of {self.capacity} are free")
        handles = np.zeros(len(many), dtype=np.int64)
        bulk.add_many(wheel.address, int(callback), many, handles)
        return handles

    def start_many(
        self,
        handles: Many,
        delays_ns: Many | int,
        period_ns: int = 0,
    ) -> int:
        """:meth:`start` for each handle, with its own delay or all with the same; how many there were.

        Raises:
            TableError: not one delay each; a period shorter than a tick; a worker takes no commands.
        """
        if period_ns and not self.resolution_ns <= period_ns <= LATEST:
            raise TableError(f"{self.name}: period {period_ns} ns is shorter than a tick of {self.resolution_ns} ns")
        many = _int64(self.name, "handles", handles)
        step = int(not isinstance(delays_ns, (int, np.integer)))
        delays = _int64(self.name, "delays", delays_ns if step else [delays_ns])
        if step and len(delays) != len(many):
            raise TableError(f"{self.name}: {len(many)} timers have {len(delays)} delays: give one each")
        return self._do(START, many, delays, step, period_ns)

    def stop_many(self, handles: Many) -> int:
        """:meth:`stop` for each; how many were armed."""
        return self._do(STOP, _int64(self.name, "handles", handles), _NO_DELAY, 0, 0)

    def remove_many(self, handles: Many) -> int:
        """:meth:`remove` for each; how many there were."""
        return self._do(REMOVE, _int64(self.name, "handles", handles), _NO_DELAY, 0, 0)

    def _do(self, what: int, handles: NDArray[np.int64], delays: NDArray[np.int64], step: int, period_ns: int) -> int:
        self._check_writable()
        done = 0
        workers = np.clip(handles >> 56, 0, self.workers - 1) if self.workers > 1 else None
        for number, wheel in enumerate(self._wheels):
            mine, theirs = handles, delays
            if workers is not None:
                chosen = workers == number
                mine, theirs = handles[chosen], delays[chosen] if step else delays
            if not len(mine):
                continue
            if self.remote:
                done += self._command(wheel, what, mine, theirs, step, period_ns)
                continue
            if not self.parameters["by_hand"]:
                self._tell(None)
            if what == START:
                done += bulk.start_many(wheel.address, mine, theirs, step, period_ns)
            else:
                done += bulk.stop_many(wheel.address, mine, int(what == REMOVE))
        return done

    def _command(
        self,
        wheel: TimersView,
        what: int,
        handles: NDArray[np.int64],
        delays: NDArray[np.int64],
        step: int,
        period: int,
    ) -> int:
        with self._commanding:
            done, until = 0, time.monotonic() + _PATIENCE_S
            while True:
                before = done
                done = bulk.post_many(wheel.address, what, handles, done, delays, step, period)
                if done == len(handles):
                    return done
                if done > before:
                    until = time.monotonic() + _PATIENCE_S
                elif time.monotonic() > until:
                    raise TableError(
                        f"{self.name}: its worker took no command in {_PATIENCE_S:g} s, {len(handles) - done} of "
                        f"{len(handles)} were not sent: does anybody drive the wheel?"
                    )
                time.sleep(1e-4)

    # Time ---------------------------------------------------------------------------------------------------

    @property
    def now_ns(self) -> int:
        """The time as the wheels were told it last."""
        return int(max(wheel.now for wheel in self._wheels))

    @property
    def resolution_ns(self) -> int:
        """Nanoseconds of a tick."""
        return 1 << int(self._wheels[0].shift)

    def next_ns(self) -> int | None:
        """When to advance again at the latest, if nothing is started meanwhile; None if no timer is armed."""
        soonest = min(int(wheel.next) for wheel in self._wheels)
        return None if soonest == NEVER else soonest << int(self._wheels[0].shift)

    def advance(self, now_ns: int | None = None) -> NDArray[np.int64]:
        """Tell the time, the machine's unless it is given; the words of all timers that expired. Calls nothing.

        Raises:
            TableError: the workers of a graph drive these timers.
        """
        return self._expired(now_ns)[0]

    def run(self, now_ns: int | None = None) -> int:
        """Tell the time and call the callbacks of what expired, as plain Python; how many.

        Raises:
            TableError: the workers of a graph drive these timers.
        """
        found = self._expired(now_ns)
        timer = Timer()
        for word, handle, number, deadline, periods in zip(*found.tolist(), strict=True):
            timer.word, timer.handle, timer.number, timer.now = word, handle, number, self.now_ns
            timer.deadline, timer.periods = deadline, periods
            if number < len(self.callbacks):
                self.callbacks[number](timer)
        return found.shape[1]

    def _expired(self, now_ns: int | None) -> NDArray[np.int64]:
        self._check_writable()
        if self._reclaimer is not None:
            raise TableError(f"{self.name}: a graph's workers drive these timers while it runs")
        if now_ns is not None and not 0 <= now_ns <= LATEST:
            raise TableError(f"{self.name}: now_ns={now_ns} is not 0 to {LATEST}")
        self._tell(now_ns)
        parts = []
        for wheel in self._wheels:
            more = True
            while more:
                found = np.zeros((5, min(int(wheel.armed()), _MOST_EXPIRED) + CHUNK_TIMERS), dtype=np.int64)
                count = bulk.expire(wheel.address, found)
                parts.append(found[:, :count])
                more = count + CHUNK_TIMERS > found.shape[1]
        return np.concatenate(parts, axis=1)

    def _tell(self, now_ns: int | None) -> None:
        if now_ns is None:
            now_ns = self.now_ns if self.parameters["by_hand"] else clock().monotonic_ns(tsc())
        for wheel in self._wheels:
            bulk.tell(wheel.address, now_ns)

    # Figures ------------------------------------------------------------------------------------------------

    def _wheel(self, worker: int) -> TimersView:
        self._check_writable()
        if not 0 <= worker < self.workers:
            raise TableError(f"{self.name}: worker {worker} is not 0 to {self.workers - 1}")
        return self._wheels[worker]

    def _of(self, handle: int) -> TimersView:
        return self._wheels[min(max(int(handle) >> 56, 0), self.workers - 1)]

    def stats(self) -> TimersStats:
        """The figures now; while workers run, each is right but they may not be of one moment."""
        wheels = self._wheels

        def total(field: str) -> int:
            return int(sum(getattr(wheel, field) for wheel in wheels))

        return TimersStats(
            armed=self.armed(),
            used=total("used") + sum(self._reserve_in_use(wheel) for wheel in wheels),
            capacity=total("timers"),
            started=total("started"),
            restarted=total("restarted"),
            stopped=total("stopped"),
            expired=total("expired"),
            periodic=total("periodic"),
            late=total("late"),
            missed=total("missed"),
            moved=total("moved"),
            stale=total("stale"),
            refused=total("refused_add") + total("refused_command"),
            resolution_ns=self.resolution_ns,
            memory_bytes=self.memory_bytes,
            pages=self.pages,
        )

    def _reserve_in_use(self, wheel: TimersView) -> int:
        first = RECORDS + (wheel.capacity << RECORD_BITS)
        states = self._words_at(wheel.address + first, 8 * (wheel.timers - wheel.capacity))[6::8]
        return int(((states >> GENERATION_SHIFT) & 1).sum())

    @property
    def waiting(self) -> int:
        """Commands that no worker has looked at yet."""
        return sum(int(RingView(wheel.address + COMMANDS).count) // COMMAND_WORDS for wheel in self._wheels)

    def __repr__(self) -> str:
        return f"<Timers {self.name}: {self.armed()} of {self.capacity * self.workers} armed>"


_NO_DELAY: NDArray[np.int64] = np.zeros(1, dtype=np.int64)


def _int64(name: str, what: str, values: Any) -> NDArray[np.int64]:
    array = np.asarray(values if isinstance(values, np.ndarray) else list(values))
    if array.size and (array.dtype.kind not in "iu" or array.ndim != 1):
        raise TableError(f"{name}: {what} are {array.ndim}-dimensional {array.dtype}; give a row of integers")
    return np.ascontiguousarray(array, dtype=np.int64)


__all__ = ["MAX_CAPACITY", "Timers", "TimersStats"]

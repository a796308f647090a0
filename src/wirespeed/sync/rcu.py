"""Grace periods: when may memory that workers read be used for something else?

A worker reads tables without any lock. Control code unlinks something (publishes a table entry that no
longer leads to it) and must then wait until no worker can still be looking at it. A worker holds nothing
from a table across two bursts, so between bursts it is in a quiescent state and says so (QSBR: McKenney
and Slingwine, "Read-Copy Update", 1998; rte_rcu_qsbr).

    offset  bytes  who writes  what (one :class:`Slot` a worker)
    0       8      control     asked: the number of the latest grace period, from 1
    128     8      the worker  answered: the latest it has passed, 0 while it is offline

The worker *answers a question* instead of counting by itself, because that needs no fence: it has seen
the question (acquire), so it also sees everything unlinked before it was asked, and what it reads after
its answer cannot be old. With a counter of its own, a read could overtake the store of the counter, and
control would believe in a quiescent state that came too early. While nobody asks, a quiescent state is
two loads from lines the core already has, and no store.

``online`` does need a fence: store "online", then read tables, against unlink, then read "online".
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from wirespeed.errors import WirespeedError
from wirespeed.jit import View, fence, inline, kernel, le64, load_acquire, store_release


class GraceTimeout(WirespeedError):
    """A worker passed no quiescent state in time."""


@dataclass(frozen=True)
class GraceStats:
    """``periods`` started for ``workers``, of which ``online`` are; actions ``pending``, and ``reclaimed`` that ran."""

    periods: int
    workers: int
    online: int
    pending: int
    reclaimed: int


class Slot(View):
    """A worker's part of the conversation; aligned to 128 bytes."""

    asked = le64(0, "latest grace period asked for")
    answered = le64(128, "latest one passed; 0 is offline")
    SIZE = 256


_ANSWERED: int = Slot.answered.offset


def format_slot(address: int) -> Slot:
    """Lay out the slot of a worker that is offline."""
    slot = Slot(address)
    slot.asked = 1
    slot.answered = 0
    return slot


@inline
def quiescent(slot: int) -> None:
    """The worker holds no reference to anything shared. Call it between bursts."""
    asked = load_acquire(slot)
    if Slot(slot).answered != asked:
        store_release(slot + _ANSWERED, asked)


@inline
def offline(slot: int) -> None:
    """The worker will not read anything shared until ``online``: before it blocks, and when it ends."""
    store_release(slot + _ANSWERED, 0)


@inline
def online(slot: int) -> None:
    """The worker reads shared things again, from here on."""
    store_release(slot + _ANSWERED, load_acquire(slot))
    fence()


@kernel
def _ask(slot: int, period: int) -> None:
    store_release(slot, period)
    fence()  # what was unlinked is visible before we look who is online


@kernel
def _answer(slot: int) -> int:
    return int(load_acquire(slot + _ANSWERED))


class Grace:
    """The control side: starts grace periods, waits for them, runs what waits for them.

    Args:
        slots: addresses of the workers' slots, laid out by :func:`format_slot`.
        names: what to call the workers in errors; ``worker 0`` and so on otherwise.
        clock, sleep: seconds, as in ``time``; tests pass their own.
        limit: how many actions may wait at a time; None does not bound them. Memory that waits to be used again is
            memory too: a full queue makes :meth:`defer` wait for the oldest (rte_rcu_qsbr_dq does the same).

    For those who come from rte_rcu_qsbr: a *token* is the period's number (``start``), *check* is ``passed`` or
    ``wait``, *report* is :func:`quiescent`, and a worker registers by :func:`online`.
    """

    def __init__(
        self,
        slots: Iterable[int],
        names: Iterable[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        limit: int | None = None,
    ) -> None:
        if limit is not None and limit < 1:
            raise WirespeedError(f"a queue of {limit} deferred actions is not possible: 1 or more, or None")
        self._slots = list(slots)
        self.limit = limit
        self._reclaimed = 0
        self._names = list(names) if names is not None else [f"worker {i}" for i in range(len(self._slots))]
        if len(self._names) != len(self._slots):
            raise WirespeedError(f"{len(self._slots)} workers have {len(self._names)} names: give one each")
        self._clock, self._sleep = clock, sleep
        self._period = 1
        self._lock = threading.RLock()
        self._deferred: deque[tuple[int, Callable[[], None]]] = deque()

    def move(self, slots: Iterable[int]) -> None:
        """The workers answer in other slots from now on, as many, laid out here. Call it while all are offline."""
        with self._lock:
            moved = list(slots)
            if len(moved) != len(self._slots):
                raise WirespeedError(f"{len(self._slots)} workers cannot answer in {len(moved)} slots")
            for slot in moved:
                format_slot(slot).asked = self._period
            self._slots = moved

    def start(self) -> int:
        """Ask every worker; returns the period's number for :meth:`passed` and :meth:`wait`."""
        with self._lock:
            self._period += 1
            for slot in self._slots:
                _ask(slot, self._period)
            return self._period

    def passed(self, period: int) -> bool:
        """Whether every worker that is online has been quiescent since that period started."""
        return not self._waiting_for(period)

    def wait(self, period: int, timeout: float = 1.0) -> None:
        """Wait until ``passed(period)``.

        Raises:
            GraceTimeout: not within ``timeout`` seconds; names the workers that did not move.
        """
        until = self._clock() + timeout
        pause_s = 1e-5
        while late := self._waiting_for(period):
            if self._clock() >= until:
                raise GraceTimeout(
                    f"{', '.join(late)} passed no quiescent state in {timeout:g} s: the worker hangs in a "
                    "node, or blocks without going offline; nothing was reclaimed"
                )
            self._sleep(pause_s)
            pause_s = min(pause_s * 2, 1e-3)

    def synchronize(self, timeout: float = 1.0) -> None:
        """Wait for a whole grace period, then run everything deferred before the call."""
        self.wait(self.start(), timeout)
        self.reclaim()

    def defer(self, action: Callable[[], None], timeout: float = 1.0) -> None:
        """Run ``action`` once no worker can hold what was unlinked before this call; see :meth:`reclaim`.

        Raises:
            GraceTimeout: the queue has a limit, is full, and stayed so for ``timeout`` seconds. The action
                was not queued: what it would free stays unlinked, try again.
        """
        if self.limit is not None and len(self._deferred) >= self.limit:
            self.reclaim()
            with self._lock:
                oldest = self._deferred[0][0] if len(self._deferred) >= self.limit else None
            if oldest is not None:
                self.wait(oldest, timeout)
                self.reclaim()
        with self._lock:
            self._deferred.append((self.start(), action))
        self.reclaim()

    def reclaim(self) -> int:
        """Run the deferred actions whose grace period is over, in order; returns how many. Never waits."""
        done = 0
        while True:
            with self._lock:
                if not self._deferred or not self.passed(self._deferred[0][0]):
                    return done
                _, action = self._deferred.popleft()
            self._reclaimed += 1
            action()
            done += 1

    @property
    def pending(self) -> int:
        """Actions deferred and not yet run."""
        return len(self._deferred)

    def stats(self) -> "GraceStats":
        """How it stands now."""
        with self._lock:
            online = sum(_answer(slot) > 0 for slot in self._slots)
            return GraceStats(self._period - 1, len(self._slots), online, len(self._deferred), self._reclaimed)

    def _waiting_for(self, period: int) -> list[str]:
        with self._lock:  # nobody moves the slots meanwhile
            pairs = zip(self._slots, self._names, strict=True)
            return [name for slot, name in pairs if 0 < _answer(slot) < period]

"""Locks that workers, control threads and other processes share: ``ws.SpinLock``, ``ws.TicketLock``, ``ws.RwLock``.

::

    gate = ws.SpinLock("gate")

    @ws.node
    def look(pkt):
        gate.lock()
        ...                         # few instructions, no way out between
        gate.unlock()

    with gate:                      # control code; also of a process that attached it writable
        ...

The lock itself is one of :mod:`wirespeed.sync`; around it each thread that may hold it has a line of its own:

    offset  bytes          what
    0       128            the lock
    128     6272 each      block of a process: its number, then a line (:class:`SpinUser`) for each of 64 workers and
                           32 control threads

so that a node finds who it is without a system call, and control code finds what a thread that was killed had:
:attr:`holder` says whether it still runs and :meth:`~_Lock.break_dead` gives back whatever ended threads held or
waited for. What the lock protects may then be half changed: look at it first.

No worker needs a lock for what control code changes in tables (they are published), for counters, or for rings.
A lock in a node holds up the burst; one in two workers makes each wait for the other.
"""

import os
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ClassVar

from wirespeed.eal import threads
from wirespeed.errors import TableError, WirespeedError
from wirespeed.jit import View, compare_exchange, kernel, le64, store64
from wirespeed.mem.shared import Shared
from wirespeed.mem.state import MAX_WORKERS
from wirespeed.sync.rwlock import RwLockView
from wirespeed.sync.spinlock import SpinLockView
from wirespeed.sync.ticketlock import TicketLockView
from wirespeed.sync.waiting import identity, process_of, thread_of

MAX_PROCESSES: int = 8
"""Processes that can use one lock at a time."""
MAX_CONTROL: int = 32
"""Threads of control code that can hold or want one lock at a time, in each process."""

_LINE = 64
_HEAD = 128
_USERS = MAX_WORKERS + MAX_CONTROL
_BLOCK = _HEAD + _USERS * _LINE
_SIZE = _HEAD + MAX_PROCESSES * _BLOCK
_TRY, _UNLOCK, _BREAK, _TRY_READ, _READ_UNLOCK, _SKIP = range(6)


class LockError(WirespeedError):
    """A lock that cannot be had: its holder has ended, or time is up."""


@dataclass(frozen=True)
class Holder:
    """The thread that has a lock; ``alive`` is false if it has ended."""

    pid: int
    tid: int
    alive: bool

    def __str__(self) -> str:
        return f"thread {self.tid} of process {self.pid}" + ("" if self.alive else ", which has ended")


@dataclass(frozen=True)
class LockStats:
    """Who has it, how many read (0 unless it is a reader-writer lock), and which ended threads left it behind."""

    holder: Holder | None
    readers: int
    dead: tuple[Holder, ...]


class User(View):
    """A thread's line: who it is, what it holds."""

    owner = le64(0, "identity of the thread, 0 if not known yet")
    to_lock = le64(8, "what to add to this address for the lock's")
    reading = le64(16, "1 while it reads")
    ticket = le64(24, "1 more than the ticket it has drawn, 0 if none")
    SIZE = _LINE


class SpinUser(User):
    """A worker's line of a spin lock."""

    def lock(self) -> None:
        """Take it; waits as long as it takes."""
        if self.owner == 0:
            self.owner = identity()
        SpinLockView(self.address + self.to_lock).lock(self.owner)

    def unlock(self) -> None:
        """Give it back; only whoever has it may."""
        SpinLockView(self.address + self.to_lock).unlock()


class TicketUser(User):
    """A worker's line of a ticket lock."""

    def lock(self) -> None:
        """Take it; waits for all who came before."""
        if self.owner == 0:
            self.owner = identity()
        lock = TicketLockView(self.address + self.to_lock)
        ticket = lock.draw()
        self.ticket = ticket + 1
        lock.take(ticket, self.owner)

    def unlock(self) -> None:
        """Serve the next; only whoever has it may."""
        self.ticket = 0
        TicketLockView(self.address + self.to_lock).unlock()


class RwUser(User):
    """A worker's line of a reader-writer lock."""

    def lock(self) -> None:
        """Write; waits until the readers have left."""
        if self.owner == 0:
            self.owner = identity()
        RwLockView(self.address + self.to_lock).lock(self.owner)

    def unlock(self) -> None:
        """Done writing."""
        RwLockView(self.address + self.to_lock).unlock(self.owner)

    def read_lock(self) -> None:
        """Read; waits while one writes or wants to. Not again by a thread that reads already."""
        if self.owner == 0:
            self.owner = identity()
        RwLockView(self.address + self.to_lock).read_lock()
        self.reading = 1

    def read_unlock(self) -> None:
        """Done reading."""
        self.reading = 0
        RwLockView(self.address + self.to_lock).read_unlock()


@kernel
def _spin(lock: int, what: int, argument: int) -> int:
    if what == _TRY:
        return SpinLockView(lock).try_lock(argument)
    if what == _UNLOCK:
        SpinLockView(lock).unlock()
        return 1
    return SpinLockView(lock).break_from(argument)


@kernel
def _ticket(lock: int, what: int, argument: int) -> int:
    if what == _TRY:
        return TicketLockView(lock).try_lock(argument)
    if what == _UNLOCK:
        TicketLockView(lock).unlock()
        return 1
    if what == _SKIP:
        return TicketLockView(lock).skip(argument)
    return TicketLockView(lock).break_from(argument)


@kernel
def _rw(lock: int, what: int, argument: int) -> int:
    if what == _TRY:
        return RwLockView(lock).try_lock(argument)
    if what == _UNLOCK:
        RwLockView(lock).unlock(argument)
        return 1
    if what == _TRY_READ:
        return RwLockView(lock).try_read_lock()
    if what == _READ_UNLOCK:
        RwLockView(lock).read_unlock()
        return 1
    return RwLockView(lock).break_from(argument)


@kernel
def _claim(word: int, who: int) -> int:
    return compare_exchange(word, 0, who)


@kernel
def _release(word: int) -> None:
    store64(word, 0)


@kernel
def _identity() -> int:
    return identity()


class _Lock(Shared):
    """What the three have in common."""

    View: ClassVar[type[User]]  # type: ignore[assignment]
    ATTACH_WRITABLE = True
    stride = _LINE
    _do: ClassVar[Any]
    _LOCK: ClassVar[Any]

    def __init__(self, name: str | None = None) -> None:
        self._create(_SIZE, name)
        self._base = self.address
        self._attached()

    def _attached(self) -> None:
        self._base = self.address
        self._local = threading.local()
        if not self.writable:
            return
        block = next((b for b in self._blocks() if self._occupy(b)), None)
        if block is None:
            raise TableError(f"{self.name}: {MAX_PROCESSES} processes use it already: close it in one of them")
        self._block = block
        self.address = block + _HEAD  # what nodes get: the first worker's line
        self._control = self._lines(block)[MAX_WORKERS:]
        for user in self._lines(block):
            user.owner, user.reading, user.ticket = 0, 0, 0
            user.to_lock = self._base - user.address

    def prepare(self, workers: int) -> None:
        """The engine's word before a start: workers are new threads."""
        self.break_dead()
        for user in self._lines(self._block)[:MAX_WORKERS]:
            user.owner = 0

    # Control code -------------------------------------------------------------------------------------------

    def acquire(self, timeout_s: float | None = None) -> None:
        """Take it, from a thread of control code, which does not queue: it tries until nobody has it.

        Raises:
            LockError: the holder has ended, or ``timeout_s`` seconds have passed.
            TableError: attached read-only, or :data:`MAX_CONTROL` threads want it already.
        """
        self._acquire(_TRY, timeout_s)

    def release(self) -> None:
        """Give it back. Raises LockError: this thread does not have it."""
        self._release(_UNLOCK)

    lock, unlock = acquire, release

    def __enter__(self) -> Any:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    @property
    def holder(self) -> Holder | None:
        """The thread that has it (to write, of a reader-writer lock), or None."""
        return _holder(int(self._LOCK(self._base).holder))

    @property
    def locked(self) -> bool:
        """Whether a thread has it (to write, of a reader-writer lock)."""
        return self.holder is not None

    def stats(self) -> LockStats:
        """Who has it now."""
        readers = self._LOCK(self._base).readers if isinstance(self, RwLock) else 0
        dead = {int(user.owner): None for user in self._dead() if self._holds(user)}
        return LockStats(self.holder, readers, tuple(filter(None, map(_holder, dead))))

    def break_dead(self) -> int:
        """Give back what threads that have ended held or waited for; returns how many such threads there were.

        What the lock protects may be half changed: mend that first, while nobody can have the lock.
        """
        self._check_writable()
        broken = set()
        left = self._dead()
        while left:  # a ticket behind another dead one comes up only after that
            behind = []
            for user in left:
                if self._holds(user):
                    broken.add(int(user.owner))
                if user.ticket and not self._give_back(user):
                    behind.append(user)
                    continue
                self._give_back(user)
                if user.reading:
                    self._do(self._base, _READ_UNLOCK, 0)
                user.reading, user.ticket = 0, 0
                _release(user.address)
            if len(behind) == len(left):
                break
            left = behind
        for block in self._blocks():
            if Word(block).word and not threads.alive(Word(block).word, Word(block).word):
                _release(block)
        return len(broken)

    def _give_back(self, user: Any) -> bool:
        if self._do(self._base, _BREAK, user.owner):
            user.ticket = 0
            return True
        return bool(not user.ticket or self._do(self._base, _SKIP, user.ticket - 1))

    def _holds(self, user: Any) -> bool:
        holder = self._LOCK(self._base).holder
        return bool(user.ticket or user.reading or (user.owner and user.owner == holder))

    def _dead(self) -> list[Any]:
        users = [user for block in self._blocks() if Word(block).word for user in self._lines(block) if user.owner]
        return [user for user in users if not threads.alive(process_of(user.owner), thread_of(user.owner))]

    # Lines --------------------------------------------------------------------------------------------------

    def _blocks(self) -> list[int]:
        return [self._base + _HEAD + index * _BLOCK for index in range(MAX_PROCESSES)]

    def _lines(self, block: int) -> list[Any]:
        return [self.View(block + _HEAD + index * _LINE) for index in range(_USERS)]

    def _occupy(self, block: int) -> bool:
        pid = Word(block).word
        if pid and not threads.alive(pid, pid):
            self.break_dead()
        return bool(_claim(block, os.getpid()))

    def _acquire(self, what: int, timeout_s: float | None) -> None:
        self._check_writable()
        if getattr(self._local, "line", None) is not None:
            raise LockError(f"{self.name}: this thread has it already, and it cannot be had twice")
        me = _identity()
        line = next((user for user in self._control if _claim(user.address, me)), None)
        if line is None:
            raise TableError(f"{self.name}: {MAX_CONTROL} threads of this process want it already")
        until = None if timeout_s is None else time.monotonic() + timeout_s
        pause_s = 1e-5
        try:
            while not self._do(self._base, what, me):
                holder = self.holder
                if holder is not None and not holder.alive:
                    raise LockError(
                        f"{self.name} is held by {holder}: what it protects may be half changed; mend that, then "
                        "call break_dead()"
                    )
                if until is not None and time.monotonic() >= until:
                    raise LockError(f"{self.name} is still held by {holder or 'readers'} after {timeout_s:g} s")
                time.sleep(pause_s)
                pause_s = min(pause_s * 2, 1e-3)
        except BaseException:
            _release(line.address)
            raise
        if what == _TRY_READ:
            line.reading = 1
        self._local.line = line

    def _release(self, what: int) -> None:
        line = getattr(self._local, "line", None)
        if line is None or bool(line.reading) != (what == _READ_UNLOCK):
            raise LockError(f"{self.name}: this thread does not have it")
        self._local.line = None
        line.reading = 0
        self._do(self._base, what, line.owner)
        _release(line.address)

    def close(self) -> None:
        """Leave it; a second call does nothing. The memory goes with its last user."""
        if self.writable and self._finalizer.alive:
            _release(self._block)
        super().close()

    def __repr__(self) -> str:
        return f"<{self.KIND} {self.name}: {self.holder or 'free'}>"


class SpinLock(_Lock):
    """A spin lock, see :mod:`wirespeed.sync.spinlock`: the quickest, and not fair."""

    View = SpinUser
    KIND = "spinlock"
    _do = staticmethod(_spin)
    _LOCK = SpinLockView


class TicketLock(_Lock):
    """A ticket lock, see :mod:`wirespeed.sync.ticketlock`: workers get it in the order in which they came."""

    View = TicketUser
    KIND = "ticketlock"
    _do = staticmethod(_ticket)
    _LOCK = TicketLockView


class RwLock(_Lock):
    """A reader-writer lock that prefers writers, see :mod:`wirespeed.sync.rwlock`.

    ``with lock:`` writes, ``with lock.reading():`` reads.
    """

    View = RwUser
    KIND = "rwlock"
    _do = staticmethod(_rw)
    _LOCK = RwLockView

    def read_lock(self, timeout_s: float | None = None) -> None:
        """Read, from a thread of control code. Raises as :meth:`acquire`."""
        self._acquire(_TRY_READ, timeout_s)

    def read_unlock(self) -> None:
        """Done reading. Raises LockError: this thread does not read."""
        self._release(_READ_UNLOCK)

    def reading(self) -> "Reading":
        """For ``with``: read while inside."""
        return Reading(self)

    @property
    def readers(self) -> int:
        """How many read now."""
        return int(RwLockView(self._base).readers)


class Reading:
    """A reader's part of a reader-writer lock, for ``with``."""

    def __init__(self, lock: RwLock) -> None:
        self._lock = lock

    def __enter__(self) -> RwLock:
        self._lock.read_lock()
        return self._lock

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.read_unlock()


class Word(View):
    """A word: the process that has a block."""

    word = le64(0)


def _holder(who: int) -> Holder | None:
    if not who:
        return None
    pid, tid = process_of(who), thread_of(who)
    return Holder(pid, tid, threads.alive(pid, tid))

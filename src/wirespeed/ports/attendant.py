"""An attendant: one thread of a port that waits for its sockets and its clock, so that no worker has to.

Drivers with a protocol to speak (a peer that connects and leaves, an interface that comes and goes) give their
descriptors to it. Callbacks run one after the other in its thread; none may wait for long. What one raises becomes an
event of the port and ends nothing.
"""

import contextlib
import heapq
import itertools
import os
import select
import threading
import time
from collections.abc import Callable
from typing import Any

from wirespeed.ports.status import Events


class Attendant:
    """A daemon thread called ``name``; what goes wrong in its callbacks is said to ``events``."""

    def __init__(self, name: str, events: Events) -> None:
        self._events = events
        self._epoll = select.epoll()
        self._wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wakeup, select.EPOLLIN)
        self._callbacks: dict[int, Callable[[], Any]] = {}
        self._timers: list[tuple[float, int, Callable[[], Any]]] = []
        self._calls: list[Callable[[], Any]] = []
        self._number = itertools.count()
        self._lock = threading.Lock()
        self._over = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def watch(self, fd: int, callback: Callable[[], Any]) -> None:
        """Call ``callback()`` whenever ``fd`` is readable or its other side is gone."""
        with self._lock:
            known = fd in self._callbacks
            self._callbacks[fd] = callback
        if known:
            self._epoll.modify(fd, select.EPOLLIN)
        else:
            self._epoll.register(fd, select.EPOLLIN)

    def forget(self, fd: int) -> None:
        """Watch ``fd`` no longer; call it before closing the descriptor."""
        with self._lock:
            known = self._callbacks.pop(fd, None)
        if known is not None:
            with contextlib.suppress(OSError, ValueError):
                self._epoll.unregister(fd)

    def after(self, seconds: float, callback: Callable[[], Any]) -> None:
        """Call ``callback()`` once, ``seconds`` from now."""
        with self._lock:
            heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._number), callback))
        os.eventfd_write(self._wakeup, 1)

    def call(self, function: Callable[[], Any]) -> None:
        """Call ``function()`` in the attendant's thread, soon."""
        with self._lock:
            self._calls.append(function)
        os.eventfd_write(self._wakeup, 1)

    def close(self) -> None:
        """End the thread. No callback runs any more when this returns; from a callback it only asks for the end."""
        if self._wakeup < 0:
            return
        self._over = True
        os.eventfd_write(self._wakeup, 1)
        if threading.current_thread() is self._thread:
            return
        self._thread.join()
        self._epoll.close()
        os.close(self._wakeup)
        self._wakeup = -1

    def _run(self) -> None:
        while not self._over:
            for fd, _ in self._epoll.poll(self._wait_s()):
                if self._over:
                    return
                if fd == self._wakeup:
                    with contextlib.suppress(BlockingIOError):
                        os.eventfd_read(fd)
                    continue
                with self._lock:  # a callback before this one may have forgotten it
                    callback = self._callbacks.get(fd)
                if callback is not None:
                    self._do(callback)
            for function in self._due():
                if not self._over:
                    self._do(function)

    def _wait_s(self) -> float:
        with self._lock:
            if self._calls:
                return 0.0
            return max(self._timers[0][0] - time.monotonic(), 0.0) if self._timers else -1.0

    def _due(self) -> list[Callable[[], Any]]:
        now = time.monotonic()
        with self._lock:
            found, self._calls = self._calls, []
            while self._timers and self._timers[0][0] <= now:
                found.append(heapq.heappop(self._timers)[2])
        return found

    def _do(self, function: Callable[[], Any]) -> None:
        try:
            function()
        except Exception as error:
            self._events.say("error", f"{type(error).__name__}: {error}")


__all__ = ["Attendant"]

"""The state of a port's link, and what happened to it."""

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

KEPT: int = 1000
"""Events of a port that are kept; older ones are forgotten."""


@dataclass(frozen=True)
class Link:
    """Whether packets can pass. ``speed_mbps`` is 0 where it means nothing; ``detail`` says more, or why not."""

    up: bool = True
    speed_mbps: int = 0
    detail: str = ""

    def __str__(self) -> str:
        speed = f", {self.speed_mbps / 1000:g} Gb/s" if self.speed_mbps > 0 else ""
        detail = f" ({self.detail})" if self.detail else ""
        return f"{'up' if self.up else 'down'}{speed}{detail}"


@dataclass(frozen=True)
class Event:
    """Something that happened to a port.

    Attributes:
        number: its place in the order of the port's events, from 1.
        time_ns: when, in nanoseconds since 1970.
        port: the port's specification.
        kind: ``link-up``, ``link-down``, ``gone``, ``returned``, ``connected``, ``disconnected``, ``refused`` (a peer
            that broke the rules), ``lost`` (packets, and why), ``error``.
        text: a sentence.
    """

    number: int
    time_ns: int
    port: str
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.port}: {self.kind}: {self.text}" if self.text else f"{self.port}: {self.kind}"


class Events:
    """The latest events of a port; any thread may say and read them."""

    def __init__(self, port: str) -> None:
        self.port = port
        self.said = 0
        self._kept: deque[Event] = deque(maxlen=KEPT)
        self._lock = threading.Lock()
        self._listeners: list[Callable[[Event], None]] = []

    def say(self, kind: str, text: str = "") -> Event:
        """Something happened just now."""
        with self._lock:
            self.said += 1
            event = Event(self.said, time.time_ns(), self.port, kind, text)
            self._kept.append(event)
        for listener in list(self._listeners):
            listener(event)
        return event

    def listen(self, listener: Callable[[Event], None]) -> None:
        """Call ``listener`` with each event from now on, in the thread that says it."""
        self._listeners.append(listener)

    def unlisten(self, listener: Callable[[Event], None]) -> None:
        """Call it no more."""
        self._listeners.remove(listener)

    def since(self, number: int = 0) -> list[Event]:
        """Events after the one with that number, oldest first."""
        with self._lock:
            return list(itertools.dropwhile(lambda event: event.number <= number, self._kept))

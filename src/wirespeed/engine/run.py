"""``ws.run(graph)``: start, wait for the end, stop, report."""

import dataclasses
import signal
import threading
from types import FrameType
from typing import Any

from wirespeed.engine.engine import Engine
from wirespeed.engine.report import Report
from wirespeed.graph.graph import Graph


class Interruptible:
    """While this is open, SIGINT and SIGTERM set ``event`` instead of ending the process. Main thread only."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interruptible":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._set)
        return self

    def _set(self, number: int, frame: FrameType | None) -> None:
        self.event.set()

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def run(graph: Graph, workers: int = 1, seconds: float | None = None, **options: Any) -> Report:
    """Run a graph until its inputs end, ``seconds`` pass, or SIGINT or SIGTERM comes.

    Args:
        graph: what to run.
        workers: how many cores poll.
        seconds: the longest it may run.
        options: see :class:`wirespeed.engine.engine.Engine`.

    Returns:
        The final counters. Files are complete, ports are closed.

    Raises:
        WirespeedError: something is wrong with the graph, a port or a node; no packet has moved.
    """
    engine = Engine(graph, workers, **options)
    with Interruptible() as signals:
        engine.start()
        try:
            with engine.aside():
                engine.wait(seconds, signals.event)
        finally:
            report = engine.stop()
    return dataclasses.replace(report, interrupted=signals.event.is_set())

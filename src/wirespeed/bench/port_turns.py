"""Turns of port benches: packets a second that our engine, or testpmd, moves while a source is on.

Both sides stay open for a whole run and work only during their turns. Receive counts what came out of the receive path,
transmit and forward what the port took to send.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from wirespeed.bench.errors import BenchError
from wirespeed.bench.settings import Settings
from wirespeed.bench.testpmd import Testpmd
from wirespeed.engine.engine import Engine
from wirespeed.graph.graph import Graph
from wirespeed.ports.port import Port

_SETTLE_S = 0.1
_PATIENCE_S = 5.0


class Switch(Protocol):
    """A source of packets."""

    def on(self) -> None:
        """Begin."""

    def off(self) -> None:
        """End."""


class Nothing:
    """No source: of transmit rows."""

    def on(self) -> None:
        """Nothing begins."""

    def off(self) -> None:
        """Nothing ends."""


def rate(count: Callable[[], int], seconds: float, begin: Callable[[], object], end: Callable[[], object]) -> float:
    """How much ``count`` grows in a second of ``seconds``, between ``begin`` and ``end``."""
    begin()
    try:
        time.sleep(_SETTLE_S)
        before, begun = count(), time.perf_counter()
        moved, spent = 0, 0.0
        while not moved and spent < _PATIENCE_S:  # longer where the machine lets nothing move for so long
            time.sleep(seconds)
            moved, spent = count() - before, time.perf_counter() - begun
    finally:
        end()
    return moved / spent


class Ours:
    """Our engine, and what it counts: packets ``received`` by or ``sent`` out of ``port``."""

    def __init__(self, graph: Graph, port: Port, seconds: float) -> None:
        self.engine = Engine(graph)
        self.port, self.seconds = port, seconds
        self.engine.start()
        self.engine.pause()

    def turn(self, sent: bool, source: Switch) -> float:
        """Packets a second, of a turn with ``source`` on."""

        def begin() -> None:
            source.on()
            self.engine.resume()

        def end() -> None:
            self.engine.pause()
            source.off()

        def count() -> int:
            stats = self.port.stats()
            return stats.tx_packets if sent else stats.rx_packets

        return _some(rate(count, self.seconds, begin, end), self.port.spec)


@contextlib.contextmanager
def ours(graph: Graph, port: Port, settings: Settings) -> Iterator[Ours]:
    """An engine for its turns; its pool must balance at the end."""
    made = Ours(graph, port, settings.seconds)
    try:
        yield made
    finally:
        left = made.engine.stop().in_use
        assert left == 0, f"{left} cells are missing after the run"


def peer_turn(peer: Testpmd, mode: str, sent: bool, seconds: float, source: Switch) -> float:
    """The same of testpmd's port 0 in a forwarding mode."""
    if peer.setting.mode != mode:
        peer.change(mode=mode)

    def begin() -> None:
        source.on()
        peer.start()

    def end() -> None:
        peer.stop()
        source.off()

    name = "TX-packets" if sent else "RX-packets"
    return _some(rate(lambda: peer.stats()[name], seconds, begin, end), f"testpmd, {mode}")


def _some(packets: float, who: str) -> float:
    if not packets:
        raise BenchError(f"{who}: no packet moved: something else holds the core, or the interface is down")
    return packets


__all__ = ["Nothing", "Ours", "Switch", "ours", "peer_turn", "rate"]

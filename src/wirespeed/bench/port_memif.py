"""memif beside testpmd's net_memif: what either does with the same peer, a testpmd of its own, at the other end.

::

    receive    peer txonly  ──▶  ours >> sink          or testpmd rxonly
    transmit   peer rxonly  ◀──  generator >> ours     or testpmd txonly
    echo       peer io      ◀─▶  ours >> macswap       or testpmd macswap    512 packets go round and round
    clients    peer flowgen ◀─▶  the same

Each pair starts both processes anew, once with us and once with testpmd in the same role; what the peer counts (sent or
received) is the figure of both. How far the two cores are apart (:mod:`wirespeed.bench.hop`) is measured before and
after each turn: on a virtual machine it changes by a factor of four, and every figure with it. A row is made of turns
of one distance, near or far, of both sides; its name says which. Turns in which the distance changed are left out.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from wirespeed.bench.errors import BenchError
from wirespeed.bench.hop import NEAR_NS, hop_ns
from wirespeed.bench.result import Row
from wirespeed.bench.settings import Settings
from wirespeed.bench.testpmd import Setting, Testpmd, version
from wirespeed.eal import cores
from wirespeed.engine.engine import Engine
from wirespeed.graph.graph import Graph
from wirespeed.nodes import macswap
from wirespeed.ports.port import port

Tell = Callable[[str], None]

_ROLES = ("server", "client")
_SETTLE_S = 0.1
_PATIENCE_S = 10.0
_FCS = 4


@dataclass(frozen=True)
class Scene:
    """Who does what: the peer's and testpmd's forward modes, how the peer starts, and which of its counters counts."""

    name: str
    peer: str
    theirs: str
    start: str
    counter: str


SCENES: tuple[Scene, ...] = (
    Scene("receive", "txonly", "rxonly", "start", "TX-packets"),
    Scene("transmit", "rxonly", "txonly", "start", "RX-packets"),
    Scene("echo", "io", "macswap", "start tx_first 16", "RX-packets"),
    Scene("clients", "flowgen", "macswap", "start", "RX-packets"),
)


@dataclass(frozen=True)
class Turn:
    """Packets a second, and the distance before and after."""

    rate: float
    before_ns: float
    after_ns: float

    @property
    def distance(self) -> str:
        """``near``, ``far``, or empty if it changed."""
        places = {each < NEAR_NS for each in (self.before_ns, self.after_ns)}
        return "" if len(places) > 1 else "near" if places.pop() else "far"


def rows(settings: Settings, tell: Tell) -> Sequence[Row]:
    """Measure every row."""
    found: list[Row] = []
    sizes = (64,) if settings.quick else (64, 1500)
    for size in sizes:
        for scene in SCENES:
            for role in _ROLES[:1] if settings.quick else _ROLES:
                found += _row(scene, role, size, settings, tell)
    return found


def _row(scene: Scene, role: str, size: int, settings: Settings, tell: Tell) -> list[Row]:
    metric = f"{scene.name} {size} B, as {role}"
    ours: list[Turn] = []
    theirs: list[Turn] = []
    for number in range(settings.pairs):
        tell(f"{metric}: pair {number + 1} of {settings.pairs}")
        ours.append(_our_turn(scene, role, size, settings))
        if settings.peer:
            theirs.append(their_turn(scene, role, size, settings))
    settings.notes.append(f"memif {metric}: {_shown('ours', ours)}; {_shown('testpmd', theirs)}")
    return _rows_of(metric, ours, theirs)


def _rows_of(metric: str, ours: list[Turn], theirs: list[Turn]) -> list[Row]:
    found = []
    for distance in ("near", "far"):
        values = [turn.rate for turn in ours if turn.distance == distance]
        others = [turn.rate for turn in theirs if turn.distance == distance]
        if not values:
            continue
        value, peer = median(values), median(others) if others else None
        found.append(
            Row(
                "port memif",
                f"{metric}, cores {distance}",
                "packets/s",
                value,
                f"{version()} testpmd" if peer else None,
                peer,
                value / peer if peer else None,
            )
        )
    return found or [Row("port memif", f"{metric}, cores now near, now far", "packets/s", median(t.rate for t in ours))]


def _shown(who: str, turns: list[Turn]) -> str:
    each = ", ".join(f"{turn.rate / 1e6:.1f} ({turn.before_ns:.0f}/{turn.after_ns:.0f} ns)" for turn in turns)
    return f"{who} {each or 'not run'} Mpps"


# One turn --------------------------------------------------------------------------------------------------


def places() -> tuple[int, int]:
    """The core of what is measured, and the peer's."""
    placement = cores.choose(1)
    return placement.workers[0], placement.control


def testpmd(role: str, path: str, mode: str, size: int, worker: int, main: int) -> Testpmd:
    """One with a memif port, in forward mode ``mode``."""
    vdev = f"net_memif0,role={role},socket={path},socket-abstract=no"
    return Testpmd(
        None, Setting(mode), cores=(main, worker), vdevs=[vdev], options=[f"--txpkts={max(size - _FCS, 60)}"]
    )


@contextlib.contextmanager
def memif_path() -> Iterator[str]:
    """A socket's path, of nobody else."""
    with tempfile.TemporaryDirectory(prefix="wirespeed-memif-") as folder:
        yield os.path.join(folder, "socket")


def _other(role: str) -> str:
    return _ROLES[1 - _ROLES.index(role)]


def count(peer: Testpmd, scene: Scene, seconds: float) -> float:
    """What the scene's counter of the peer grows by in a second."""
    peer.start(scene.start)
    time.sleep(_SETTLE_S)
    before, begun = peer.stats()[scene.counter], time.monotonic()
    time.sleep(seconds)
    counted, spent = peer.stats()[scene.counter] - before, time.monotonic() - begun
    peer.stop()
    return counted / spent


def _our_turn(scene: Scene, role: str, size: int, settings: Settings) -> Turn:
    ours, far = places()
    with memif_path() as path, contextlib.ExitStack() as stack:
        peer = testpmd(_other(role), path, scene.peer, size, far, ours)
        if role == "client":
            stack.enter_context(peer)
        made = port(f"memif:{path},role={role}")
        graph = Graph()
        if scene.name == "receive":
            graph.add(made >> port("sink"))
        elif scene.name == "transmit":
            graph.add(port(f"generator:size={size},flows=64") >> made)
        else:
            graph.add(made >> macswap >> made)
        engine = Engine(graph)
        stack.callback(engine.stop)
        if role == "server":
            stack.enter_context(peer)
        connected(made.link)
        before = hop_ns(ours, far)
        engine.start()
        rate = count(peer, scene, settings.seconds)
        engine.pause()
        return Turn(rate, before, hop_ns(ours, far))


def their_turn(scene: Scene, role: str, size: int, settings: Settings) -> Turn:
    """Packets a second with testpmd in our place."""
    ours, far = places()
    with memif_path() as path, contextlib.ExitStack() as stack:
        measured = testpmd(role, path, scene.theirs, size, ours, far)
        peer = testpmd(_other(role), path, scene.peer, size, far, ours)
        for each in (measured, peer) if role == "server" else (peer, measured):
            stack.enter_context(each)
        before = hop_ns(ours, far)
        measured.start()
        rate = count(peer, scene, settings.seconds)
        measured.stop()
        return Turn(rate, before, hop_ns(ours, far))


def connected(link: Callable[[], object]) -> None:
    """Wait until the link is up.

    Raises:
        BenchError: the peer does not connect.
    """
    until = time.monotonic() + _PATIENCE_S
    while not getattr(link(), "up", False):
        if time.monotonic() > until:
            raise BenchError(f"testpmd did not connect: {link()}")
        time.sleep(0.01)


__all__ = [
    "SCENES", "Scene", "Turn", "connected", "count", "memif_path", "places", "rows", "testpmd", "their_turn",
]  # fmt: skip

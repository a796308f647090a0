"""How long does an echo take over shared memory, and what does it cost to wait for one?

::

    probe: our other driver  <-- vhost-user -->  ours >> macswap      in turns with
    probe                    <-- vhost-user -->  testpmd macswap      on the same core

The probe is a port at the far end, worked by a kernel of its own on the control core, the same whoever echoes: one
packet goes out, the kernel spins until it is back, waits 0.5 ms and sends it again. For the echo our engine never
sleeps (``idle=latency``), as testpmd does not; what idling costs is measured with the policy that is the default.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from wirespeed.bench.errors import BenchError
from wirespeed.bench.port_echo import cpu_s
from wirespeed.bench.result import Row
from wirespeed.bench.settings import Settings
from wirespeed.bench.testpmd import Setting, Testpmd
from wirespeed.eal import cores
from wirespeed.eal.clock import tsc_hz
from wirespeed.engine.engine import Engine
from wirespeed.engine.idle import BALANCED, LATENCY
from wirespeed.graph.graph import Graph
from wirespeed.jit import cycles, inline, kernel, load64, store64, write_bytes
from wirespeed.jit.entry import enter4, entry
from wirespeed.mem.descriptor import address_of
from wirespeed.mem.pool import Pool
from wirespeed.mem.region import Region
from wirespeed.nodes import macswap
from wirespeed.ports.port import port
from wirespeed.ports.vhost.queue import receive as vhost_receive
from wirespeed.ports.vhost.queue import transmit as vhost_transmit
from wirespeed.ports.virtio.path import receive as virtio_receive
from wirespeed.ports.virtio.path import transmit as virtio_transmit

SHARES = (("p50", 0.5), ("p99", 0.99))
_FRAME = bytes.fromhex("020000000001020000000002 0800") + bytes(46)
_CELLS = 2048
_PATIENCE_S, _PAUSE_S, _CONNECT_S = 2.0, 0.0005, 20.0
_TIMES = 64

Tell = Callable[[str], None]


@inline
def _spin(until):  # type: ignore[no-untyped-def]
    while cycles() < until:
        pass


@kernel
def _vhost_receive(queue, cache, vector, room):  # type: ignore[no-untyped-def]
    return vhost_receive(queue, cache, vector, room)


@kernel
def _vhost_transmit(queue, cache, vector, count):  # type: ignore[no-untyped-def]
    return vhost_transmit(queue, cache, vector, count)


@kernel
def _virtio_receive(queue, cache, vector, room):  # type: ignore[no-untyped-def]
    return virtio_receive(queue, cache, vector, room)


@kernel
def _virtio_transmit(queue, cache, vector, count):  # type: ignore[no-untyped-def]
    return virtio_transmit(queue, cache, vector, count)


_DRIVERS = {
    "vhost_user": (_vhost_receive, _vhost_transmit), "virtio_user": (_virtio_receive, _virtio_transmit),
}  # fmt: skip


@kernel
def _echoes(addresses, queues, cache, memory, count, patience, pause):  # type: ignore[no-untyped-def]
    """Send the packet at ``memory`` and wait for it, ``count`` times; cycles of each behind it. How often it came."""
    for i in range(count):
        _spin(cycles() + pause)
        begun = cycles()
        if enter4(load64(addresses + 8), load64(queues + 8), cache, memory, 1) != 1:
            return i
        got = 0
        while got == 0 and cycles() - begun < patience:
            got = enter4(load64(addresses), load64(queues), cache, memory, 1)
        if got != 1:
            store64(memory, 0)
            return i
        store64(memory + _TIMES + (i << 3), cycles() - begun)
    return count


@dataclass(frozen=True)
class Stand:
    """What a probe faces: our ``driver``, or testpmd's ``vdev`` ("{}" is the socket); the ``layout`` of the rings."""

    driver: str
    layout: str
    vdev: str

    def spec(self, driver: str, path: Path) -> str:
        """The port of either end; the guest's says which layout, the other takes either."""
        packed = "yes" if self.layout == "packed" else "no"
        return f"{driver}:{path}" + (f",packed={packed}" if driver == "virtio_user" else "")

    @property
    def far(self) -> str:
        """The driver of the probe."""
        return "vhost_user" if self.driver == "virtio_user" else "virtio_user"


class Probe:
    """The far end of a stand, at a socket."""

    def __init__(self, stand: Stand, path: Path, core: int) -> None:
        self._core = core
        self._pool = Pool(_CELLS)
        self._memory = Region(1 << 20, "wirespeed-probe", huge=False)
        self._port = port(stand.spec(stand.far, path))
        self._kernels = [entry(function, 4) for function in _DRIVERS[stand.far]]
        self._port.open(self._pool, 1, 1)

    def connect(self) -> None:
        """Wait for the other side.

        Raises:
            BenchError: it does not come.
        """
        until = time.monotonic() + _CONNECT_S
        while not self._port.link().up:
            if time.monotonic() > until:
                raise BenchError(f"{self._port.spec}: nobody came in {_CONNECT_S:.0f} s")
            time.sleep(0.01)

    def percentiles(self, count: int, wanted: Sequence[float]) -> list[float]:
        """Microseconds that the share ``wanted`` (0 to 1) of ``count`` echoes stayed below.

        Raises:
            BenchError: an echo did not come back.
        """
        at, allowed, hz = self._memory.address, os.sched_getaffinity(0), tsc_hz()
        for place, word in enumerate((*self._kernels, self._port.rx[0], self._port.tx[0])):
            store64(at + 8 * place, word)
        vector = at + 32
        self._pool.take(vector, 1)
        write_bytes(address_of(self._pool.cells, load64(vector)), _FRAME)
        store64(vector, load64(vector) | len(_FRAME) << 48)
        os.sched_setaffinity(0, {self._core})
        try:
            arguments = (vector, count, int(_PATIENCE_S * hz), int(_PAUSE_S * hz))
            came = _echoes(at, at + 16, self._pool.cache(0), *arguments)
        finally:
            os.sched_setaffinity(0, allowed)
        if load64(vector):
            self._pool.release(vector, 1)
        if came < count:
            raise BenchError(f"{self._port.spec}: echo {came + 1} of {count} did not come back in {_PATIENCE_S} s")
        times = sorted(load64(vector + _TIMES + 8 * number) for number in range(count))
        return [times[min(int(share * count), count - 1)] / hz * 1e6 for share in wanted]

    def __enter__(self) -> Probe:
        return self

    def __exit__(self, *error: object) -> None:
        self._port.close()
        left = self._pool.in_use
        self._memory.close()
        self._pool.close()
        assert left == 0, f"the probe lost {left} cells"


@contextlib.contextmanager
def _engine(stand: Stand, path: Path, idle: str) -> Iterator[Engine]:
    made, graph = port(stand.spec(stand.driver, path)), Graph()
    graph.add(made >> macswap >> made)
    engine = Engine(graph, idle=idle)
    engine.start()
    try:
        yield engine
    finally:
        left = engine.stop().in_use
    assert left == 0, f"{left} cells are missing after the run"


def rows(stand: Stand, settings: Settings, tell: Tell, name: str | None) -> list[Row]:
    """Echo and idle of ours, and of testpmd if ``name`` names it."""
    placement = cores.choose(1)
    core, both = placement.control, (placement.control, placement.workers[0])
    metric = f"{stand.driver} {{}}, {stand.layout}"
    tell(metric.format("echo"))
    count = 200 if settings.quick else 2000
    wanted = [share for _, share in SHARES]
    samples: list[tuple[list[float], list[float]]] = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ws-")))
        near = stack.enter_context(Probe(stand, folder / "ours", core))
        peer, away = None, None
        if name:
            away = stack.enter_context(Probe(stand, folder / "theirs", core))
            vdev = stand.vdev.format(folder / "theirs")
            peer = stack.enter_context(Testpmd(None, Setting("macswap"), cores=both, vdevs=[vdev]))
            away.connect()
        with _engine(stand, folder / "ours", LATENCY) as engine:
            near.connect()
            for _ in range(settings.pairs):
                here = near.percentiles(count, wanted)
                there: list[float] = []
                if peer and away:
                    engine.pause()
                    peer.start()
                    there = away.percentiles(count, wanted)
                    peer.stop()
                    engine.resume()
                samples.append((here, there))
        found = [_echo(metric, samples, place, name) for place in range(len(SHARES))]
        tell(metric.format("idle"))
        with _engine(stand, folder / "ours", BALANCED):
            near.connect()
            near.percentiles(10, wanted)
            here_idle = _share(None, settings.seconds)
        if peer is None:
            return [*found, Row("port", metric.format("idle"), "% of a core", here_idle)]
        peer.start()
        there_idle = _share(peer.pid, settings.seconds)
        peer.stop()
    ratio = there_idle / max(here_idle, 0.001)
    return [*found, Row("port", metric.format("idle"), "% of a core", here_idle, name, there_idle, ratio)]


def _echo(metric: str, samples: Sequence[tuple[list[float], list[float]]], place: int, name: str | None) -> Row:
    text = metric.format(f"echo at low load {SHARES[place][0]}")
    value = median(here[place] for here, _ in samples)
    if name is None:
        return Row("port", text, "us", value)
    theirs = median(there[place] for _, there in samples)
    return Row("port", text, "us", value, name, theirs, median(there[place] / here[place] for here, there in samples))


def _share(pid: int | None, seconds: float) -> float:
    before, begun = cpu_s(pid), time.monotonic()
    time.sleep(seconds)
    return 100 * (cpu_s(pid) - before) / (time.monotonic() - begun)


__all__ = ["Probe", "Stand", "rows"]

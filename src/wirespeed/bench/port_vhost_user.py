"""How fast is vhost_user? Beside DPDK's net_vhost: each plays the network card of a net_virtio_user in a testpmd.

Two cores: the driver's, always DPDK's, and the device's, in turns wirespeed's and DPDK's. Rows:

- receive: the driver sends as fast as it can (txonly), the device counts and frees.
- transmit: the device sends from memory, the driver counts and frees (rxonly).
- forward: as many packets as the driver's bursts of 32 put between the two go round; the device swaps addresses.
- forward of 1,000 flows: the driver makes them (flowgen), as fast as it can, and frees what comes back.
- an echo at low load, and what idling costs: :mod:`wirespeed.bench.port_probe`.

Figures are packets a second that arrive. Rings have 256 entries, testpmd's burst is the faster of 32 and 64.
"""

import contextlib
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from wirespeed.bench import port_probe
from wirespeed.bench.disturbance import observer
from wirespeed.bench.errors import BenchError
from wirespeed.bench.pairing import interleave
from wirespeed.bench.result import Row
from wirespeed.bench.settings import Settings
from wirespeed.bench.testpmd import Setting, Testpmd, version
from wirespeed.eal import cores
from wirespeed.engine.engine import Engine
from wirespeed.graph.graph import Graph
from wirespeed.nodes import macswap
from wirespeed.ports.port import Port, port

RECEIVE, TRANSMIT, FORWARD, FLOWS = "receive", "transmit", "forward", "forward of 1,000 flows"
_DRIVER = {RECEIVE: "txonly", TRANSMIT: "rxonly", FORWARD: "io", FLOWS: "flowgen"}
_DEVICE = {RECEIVE: "rxonly", TRANSMIT: "txonly", FORWARD: "macswap", FLOWS: "macswap"}
_SETTLE_S = 0.1
_PATIENCE_S = 10.0

Tell = Callable[[str], None]


def rows(settings: Settings, tell: Tell) -> Sequence[Row]:
    """Measure every row."""
    found: list[Row] = []
    for layout, sizes in (("split", (64, 1500)), ("packed", (64,))):
        for size in sizes[:1] if settings.quick else sizes:
            for direction in (RECEIVE, TRANSMIT, FORWARD, *([FLOWS] if size == 64 else [])):
                metric = f"{direction}, {size} B, {layout}"
                tell(metric)
                found.append(_row(settings, tell, metric, direction, size, layout))
        name = f"{version()} net_vhost" if settings.peer else None
        stand = port_probe.Stand("vhost_user", layout, "net_vhost0,iface={}")
        found += port_probe.rows(stand, settings, tell, name)
    return found


def _row(settings: Settings, tell: Tell, metric: str, direction: str, size: int, layout: str) -> Row:
    placement = cores.choose(1)
    device_cores, driver_cores = (placement.control, placement.workers[0]), (placement.workers[0], placement.control)
    with tempfile.TemporaryDirectory(prefix="wirespeed-bench-") as folder, contextlib.ExitStack() as stack:
        ours = stack.enter_context(_Ours(Path(folder) / "ours", direction, size, layout, driver_cores))
        theirs, name = None, None
        if settings.peer:
            theirs = stack.enter_context(
                _Theirs(Path(folder) / "theirs", direction, size, layout, driver_cores, device_cores)
            )
            name = f"{version()} net_vhost"
            theirs.choose(settings.seconds)
        paired = interleave(
            lambda: ours.measure(settings.seconds),
            (lambda: theirs.measure(settings.seconds)) if theirs else None,
            pairs=settings.pairs,
            progress=lambda done, wanted, text: tell(f"{metric}: pair {done}/{wanted} {text}"),
            observe=observer([ours.driver.pid, *([theirs.device.pid, theirs.driver.pid] if theirs else [])]),
        )
    settings.notes += [f"{metric}: {paired.note}"] if paired.note else []
    return Row.of("port", f"vhost_user: {metric}", "packets/s", paired, name)


def _driver(path: Path, direction: str, layout: str, where: tuple[int, int]) -> Testpmd:
    """The testpmd that drives the card."""
    vdev = f"net_virtio_user0,path={path},packed_vq={int(layout == 'packed')},queue_size=256"
    options = ["--flowgen-flows=1000"] if direction == FLOWS else []
    return Testpmd(None, Setting(_DRIVER[direction]), cores=where, vdevs=[vdev], options=options)


def _rate(count: Callable[[], int], seconds: float) -> float:
    """How fast a counter goes up; longer where nothing moves for so long."""
    time.sleep(_SETTLE_S)
    before, begun = count(), time.perf_counter()
    while True:
        time.sleep(seconds)
        moved, spent = count() - before, time.perf_counter() - begun
        if moved:
            return moved / spent
        if spent > _PATIENCE_S:
            raise BenchError(f"no packet arrived in {spent:.0f} s: run testpmd by hand to see why")


class _Pair:
    """A driver, ready to work with one device or the other."""

    def __init__(self, direction: str, size: int) -> None:
        self.direction, self.size = direction, size
        self.driver: Testpmd

    def begin(self) -> None:
        """The driver goes to work."""
        self.driver.start("start tx_first 4" if self.direction == FORWARD else "start")

    def arrived(self) -> int:
        """What the driver has received."""
        return self.driver.stats()["RX-packets"]


class _Ours(_Pair):
    """Our port, with its driver."""

    def __init__(self, path: Path, direction: str, size: int, layout: str, where: tuple[int, int]) -> None:
        super().__init__(direction, size)
        self.path, self.layout, self.where = path, layout, where

    def __enter__(self) -> "_Ours":
        self.port = port(f"vhost_user:{self.path}")
        self._stack = contextlib.ExitStack()
        with contextlib.ExitStack() as stack:
            self.engine = Engine(_graph(self.port, self.direction, self.size))
            stack.callback(self._stop)
            self.engine.start()
            self.driver = stack.enter_context(_driver(self.path, self.direction, self.layout, self.where))
            self.driver.ask(f"set txpkts {self.size}")
            self.engine.pause()
            self._stack = stack.pop_all()
        return self

    def _stop(self) -> None:
        left = self.engine.stop().in_use
        assert left == 0, f"{left} cells are missing after the run"

    def __exit__(self, *error: object) -> None:
        self.engine.resume()
        self._stack.close()

    def measure(self, seconds: float) -> float:
        """One turn."""
        self.engine.resume()
        self.begin()
        count = self.arrived if self.direction == TRANSMIT else (lambda: self.port.stats().rx_packets)
        try:
            return _rate(count, seconds)
        finally:
            self.driver.stop()
            self.engine.pause()


def _graph(device: Port, direction: str, size: int) -> Graph:
    graph = Graph()
    if direction == RECEIVE:
        graph.add(device >> port("sink"))
    elif direction == TRANSMIT:
        graph.add(port(f"generator:size={size}") >> device)
    else:
        graph.add(device >> macswap >> device)
    return graph


class _Theirs(_Pair):
    """net_vhost in a testpmd of its own, with its driver."""

    def __init__(
        self, path: Path, direction: str, size: int, layout: str, where: tuple[int, int], device: tuple[int, int]
    ) -> None:
        super().__init__(direction, size)
        self.device = Testpmd(None, Setting(_DEVICE[direction]), cores=device, vdevs=[f"net_vhost0,iface={path}"])
        self.driver = _driver(path, direction, layout, where)

    def __enter__(self) -> "_Theirs":
        with contextlib.ExitStack() as stack:
            for each in (self.device, self.driver):
                stack.enter_context(each)
                each.ask(f"set txpkts {self.size}")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def choose(self, seconds: float) -> None:
        """The burst that is faster."""
        figures = {}
        for burst in (32, 64):
            self.device.change(burst=burst)
            figures[burst] = self.measure(seconds)
        self.device.change(burst=max(figures, key=figures.__getitem__))

    def measure(self, seconds: float) -> float:
        """One turn."""
        self.device.start()
        self.begin()
        count = self.arrived if self.direction == TRANSMIT else (lambda: self.device.stats()["RX-packets"])
        try:
            return _rate(count, seconds)
        finally:
            self.driver.stop()
            self.device.stop()


__all__ = ["rows"]

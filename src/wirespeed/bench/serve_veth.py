"""How many echoes over AF_XDP on a veth, and how late is one? Beside all that could echo there.

Who echoes: :mod:`wirespeed.bench.serve_peers`. The client of the rates is a packet socket on the other core. Latency is
measured at a tenth of what the slower of ``ours`` and ``mmsg`` answers (:mod:`wirespeed.bench.serve_late`); nobody
sleeps then but ``asleep``.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib import util
from pathlib import Path
from statistics import median

from wirespeed.apps.service import Service
from wirespeed.bench import serve_late, serve_peers
from wirespeed.bench.errors import BenchError
from wirespeed.bench.port_echo import cpu_s, percentiles
from wirespeed.bench.port_load import Load
from wirespeed.bench.port_memif import places
from wirespeed.bench.port_turns import rate
from wirespeed.bench.result import Row
from wirespeed.bench.serve_memory import ECHO, echo, serving
from wirespeed.bench.settings import Settings
from wirespeed.bench.synthetic import udp4
from wirespeed.bench.testpmd import Setting, Testpmd
from wirespeed.bench.veths import GATEWAYS, LEFT, Veths
from wirespeed.bench.xdp_traffic import Mirror, Sink
from wirespeed.eal.cores import kept_off

Tell = Callable[[str], None]

_BENCH = "serve"
_READY_S = 30.0
_KEPT_UP = 0.98
_OURS = {
    "ours": ("balanced", ""),
    "awake": ("latency", ""),
    "asleep": ("power", ""),
    "fetching": ("latency", ",busy_poll=50"),
}
"""Our services: what they do without packets, and options of the port."""


def rows(settings: Settings, tell: Tell) -> list[Row]:
    """Measure every row."""
    with Veths() as veths:
        scene = Scene(veths)
        kinds = ["ours"]
        if settings.peer:
            kinds += ["mmsg", "asyncio", *(["uvloop"] if util.find_spec("uvloop") else []), "testpmd"]
            if "uvloop" not in kinds:
                settings.notes.append("no row beside uvloop: pip install uvloop")
        rates: dict[str, list[float]] = {}
        asked: dict[str, list[float]] = {}
        share = 0.0
        for number in range(settings.pairs):
            tell(f"on a veth: round {number + 1} of {settings.pairs}")
            for kind in kinds:
                with scene.answering(kind):
                    answered, sent = scene.rate(settings.seconds)
                    rates.setdefault(kind, []).append(answered)
                    asked.setdefault(kind, []).append(sent)
                    if kind == "ours":
                        share = _share(settings)
        settings.notes.append(f"on a veth, answered of asked a second: {_bounds(rates, asked)}")
        load = min(median(rates[kind]) for kind in ("ours", "mmsg") if kind in rates) / 10
        slow = serve_late.rows(scene, settings, load, tell)
    found = serve_peers.rows("UDP echo of 64 B over af_xdp on a veth", "requests/s", rates)
    return [*found, *slow, Row(_BENCH, "idle on a veth", "% of a core", share)]


class Scene:
    """The client's side is what the :class:`Veths` call left, the server's is in the middle."""

    def __init__(self, veths: Veths) -> None:
        self.veths = veths
        self.here, self.there = GATEWAYS[0], LEFT
        self.client = (veths.left, "eth0")
        mine, self.theirs = veths.mac(veths.middle, "left"), veths.mac(veths.left, "eth0")
        link = bytes.fromhex((mine + self.theirs).replace(":", "")) + bytes.fromhex("0800")
        there, here = (bytes(map(int, each.split("."))) for each in (self.there, self.here))
        self.frame = udp4(there, here, 4000, ECHO, bytes(18), link)
        veths.inside(veths.middle, "ip", "address", "add", f"{self.here}/24", "dev", "left")
        veths.inside(veths.middle, "ip", "neighbour", "replace", self.there, "lladdr", self.theirs, "dev", "left")
        self.worker, self.far = places()

    def setting(self, name: str) -> int:
        """What the kernel has set for the server's interface, as in ``/sys/class/net``."""
        return int(self.veths.inside(self.veths.middle, "cat", f"/sys/class/net/left/{name}"))

    def set(self, name: str, value: int) -> None:
        """Set that."""
        self.veths.inside(self.veths.middle, "sh", "-c", f"echo {value} > /sys/class/net/left/{name}")

    @contextlib.contextmanager
    def answering(self, kind: str) -> Iterator[int]:
        """Somebody echoes: the process. Other threads of this one keep off its core, whoever it is."""
        with self._server(kind) as process:
            until = time.monotonic() + _READY_S
            while True:
                with contextlib.suppress(BenchError):
                    percentiles(self.veths.left, "eth0", self.frame, 1, (0.5,))
                    break
                if time.monotonic() > until:
                    raise BenchError(f"the server on the veth does not answer: {kind}")
            with kept_off((self.worker,)):
                yield process

    @contextlib.contextmanager
    def _server(self, kind: str) -> Iterator[int]:
        if kind in _OURS:
            idle, option = _OURS[kind]
            spec = f"af_xdp:left,netns={self.veths.middle}{option}"
            service = Service(spec, f"{self.here}/24", neighbours={self.there: self.theirs})
            service.udp(ECHO)(echo)
            with serving(service, idle=idle):
                yield os.getpid()
        elif kind == "testpmd":
            with self._testpmd() as process:
                yield process
        elif kind == "mirror":
            with Mirror((self.veths.middle, "left"), (self.veths.left, "eth0")):
                yield os.getpid()
        else:
            with self._kernel_echo(kind) as process:
                yield process

    @contextlib.contextmanager
    def _testpmd(self) -> Iterator[int]:
        device = "net_af_xdp0,iface=left,busy_budget=0"
        both = (self.far, self.worker)
        with Testpmd(None, Setting("macswap"), cores=both, vdevs=[device], netns=self.veths.middle) as peer:
            peer.start()
            yield peer.pid
            peer.stop()

    @contextlib.contextmanager
    def _kernel_echo(self, kind: str) -> Iterator[int]:
        command = ["ip", "netns", "exec", self.veths.middle, "taskset", "-c", str(self.worker), sys.executable, "-m"]
        command += ["wirespeed.bench.kernel_echo", kind, self.here, str(ECHO)]
        path = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "PYTHONPATH": path}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        try:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise BenchError(f"the {kind} server did not start: code {process.wait()}")
            yield process.pid
        finally:
            process.kill()
            process.communicate()

    def rate(self, seconds: float) -> tuple[float, float]:
        """Answers a second, and requests."""
        with Sink(self.veths.left, "eth0") as sink, Load(self.veths.left, "eth0", self.frame, self.far) as load:
            sent = _Sent(self.veths, load)
            return rate(lambda: sink.packets, seconds, sent.on, sent.off), sent.rate


class _Sent:
    """A load that counts what it sends."""

    def __init__(self, veths: Veths, load: Load) -> None:
        self._veths, self._load = veths, load
        self.rate = 0.0

    def on(self) -> None:
        """Begin."""
        self._load.on()
        self._before, self._begun = self._count(), time.perf_counter()

    def off(self) -> None:
        """End; ``rate`` is requests a second."""
        self.rate = (self._count() - self._before) / (time.perf_counter() - self._begun)
        self._load.off()

    def _count(self) -> int:
        folder = "/sys/class/net/eth0/statistics"
        both = self._veths.inside(self._veths.left, "cat", f"{folder}/tx_packets", f"{folder}/tx_dropped")
        return sum(map(int, both.split()))


def _bounds(rates: dict[str, list[float]], asked: dict[str, list[float]]) -> str:
    """Where most of what is asked is answered, the client is the bound, and the figure is the least the server can."""
    return ", ".join(
        f"{kind} {median(answered):,.0f} of {median(asked[kind]):,.0f} (bound by the "
        f"{'client' if median(a / b for a, b in zip(answered, asked[kind], strict=True)) > _KEPT_UP else 'server'})"
        for kind, answered in rates.items()
    )


def _share(settings: Settings) -> float:
    """Of a core, in percent, of all threads of this process, in a silence."""
    time.sleep(0.5)  # for the workers to fall asleep
    before, begun = cpu_s(), time.monotonic()
    time.sleep(max(settings.seconds * 3, 1.0))
    return (cpu_s() - before) / (time.monotonic() - begun) * 100


__all__ = ["rows"]

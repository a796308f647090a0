"""What does a router cost that has little to do, and how late is the first packet after a silence?

``wirespeed run`` routes between two namespaces over AF_PACKET on veth, as a user runs it. Beside it, in namespaces of
their own, the kernel forwards: it has no process to wake, so its time is the least there can be.

- idle: the process's time on a core in a silence, all threads, in hundredths of a core. Its peer, testpmd, polls.
- first packet: a datagram is sent, 50 ms after the one before, and the time until a socket on the other side has it is
  taken; the same for the kernel. Both include the sender's and receiver's own time.
- time on a core for each packet at 1, 10 and 100 % of the load the router can take, by idle policy.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from wirespeed.bench.errors import BenchError
from wirespeed.bench.result import Row
from wirespeed.bench.settings import Settings
from wirespeed.bench.testpmd import Setting, Testpmd, version
from wirespeed.bench.veths import GATEWAYS, LEFT, RIGHT, Veths
from wirespeed.engine.engine import Engine
from wirespeed.engine.idle import POLICIES
from wirespeed.graph.graph import Graph
from wirespeed.ports.netdev import within
from wirespeed.ports.port import port

_READY_S = 120.0
_SILENCE_S = 0.05
_PORT = 9

_CONFIG = """
app = "router"
engine.idle = "{idle}"
[[port]]
name = "left"
spec = "af_packet:left,netns={netns}"
addresses = ["{left}/24"]
[[port]]
name = "right"
spec = "af_packet:right,netns={netns}"
addresses = ["{right}/24"]
"""


def rows(settings: Settings, tell: Callable[[str], None]) -> Sequence[Row]:
    """Measure every row."""
    found: list[Row] = []
    with Veths() as ours, Veths() as kernels:
        kernels.forward_by_kernel()
        for policy in POLICIES:
            tell(f"{policy}: compiling")
            with _router(ours, policy) as process:
                _greet(ours)
                if policy == "balanced":
                    tell("idle")
                    found.append(_idle(process, settings))
                tell(f"{policy}: first packets")
                found.append(_first_packet(ours, kernels, policy, settings))
                found += _loads(ours, process, policy, settings, tell)
    return found


@contextlib.contextmanager
def _router(veths: Veths, idle: str) -> Iterator[subprocess.Popen[str]]:
    """``wirespeed run`` as a child, from its ready line on."""
    with tempfile.TemporaryDirectory(prefix="wirespeed-idle-") as folder:
        file = Path(folder) / "router.toml"
        file.write_text(_CONFIG.format(idle=idle, netns=veths.middle, left=GATEWAYS[0], right=GATEWAYS[1]))
        command = [sys.executable, "-m", "wirespeed", "run", str(file)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            try:
                assert process.stdout is not None
                said = process.stdout.readline()
                if "forwarding" not in said:
                    raise BenchError(f"the router did not start: {said}{process.stdout.read()}")
                yield process
            finally:
                process.send_signal(signal.SIGTERM)
                process.communicate(timeout=_READY_S)


def _cpu_s(pid: int) -> float:
    """Seconds on a core of all threads of a process, to a nanosecond."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def _share(pid: int, seconds: float) -> float:
    """Hundredths of a core that a process takes."""
    before, begun = _cpu_s(pid), time.monotonic()
    time.sleep(seconds)
    return 100 * (_cpu_s(pid) - before) / (time.monotonic() - begun)


def _idle(process: subprocess.Popen[str], settings: Settings) -> Row:
    seconds = 0.5 if settings.quick else 3.0
    time.sleep(0.3)
    ours = median(_share(process.pid, seconds) for _ in range(settings.pairs))
    if not settings.peer:
        return Row("idle", "router, no packets", "% of a core", ours)
    with Testpmd(None, Setting("io")) as peer:
        peer.start()
        theirs = _share(peer.pid, seconds)
        peer.stop()
    return Row("idle", "router, no packets", "% of a core", ours, f"{version()} testpmd", theirs, theirs / ours)


# The first packet ------------------------------------------------------------------------------------------


def _greet(veths: Veths) -> None:
    """Packets until the first passes: neighbours are known from then on."""
    with _sockets(veths) as (out, into):
        into.settimeout(0.2)
        for _ in range(50):
            out.sendto(bytes(18), (RIGHT, _PORT))
            with contextlib.suppress(TimeoutError):
                into.recv(64)
                return
    raise BenchError("no packet passes the router")


@contextlib.contextmanager
def _sockets(veths: Veths) -> Iterator[tuple[socket.socket, socket.socket]]:
    """One in the left namespace to send, one in the right one to receive."""
    made = within(veths.left, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    into = within(veths.right, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with made, into:
        into.bind((RIGHT, _PORT))
        yield made, into


def _passage_us(out: socket.socket, into: socket.socket) -> float:
    """Microseconds from sending a datagram after a silence to having it."""
    time.sleep(_SILENCE_S)
    begun = time.perf_counter_ns()
    out.sendto(bytes(18), (RIGHT, _PORT))
    into.recv(64)
    return (time.perf_counter_ns() - begun) / 1000


def _first_packet(ours: Veths, kernels: Veths, policy: str, settings: Settings) -> Row:
    """In turns, a packet each."""
    turns = 10 if settings.quick else 100
    _greet(kernels)
    with _sockets(ours) as mine, _sockets(kernels) as theirs:
        for each in (*mine, *theirs):
            each.settimeout(5)
        pairs = [(_passage_us(*mine), _passage_us(*theirs)) for _ in range(turns)]
    here, there = median(a for a, _ in pairs), median(b for _, b in pairs)
    settings.notes.append(f"idle, {policy}: the first packet is {here - there:.0f} us later than through the kernel")
    return Row("idle", f"first packet, {policy}", "us", here, "Linux forwarding", there, there / here)


# Under load ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Load:
    """A run under load: packets a second that passed, time on a core for each, hundredths of a core, packets lost."""

    rate: float
    us: float
    cpu: float
    lost: int


def _loads(
    veths: Veths, process: subprocess.Popen[str], policy: str, settings: Settings, tell: Callable[[str], None]
) -> list[Row]:
    """At shares of the full load."""
    seconds = 0.3 if settings.quick else 2.0
    full = _under_load(veths, process, 0, seconds)
    found = []
    for share in (1, 10, 100):
        tell(f"{policy}: {share} % load")
        run = full if share == 100 else _under_load(veths, process, int(full.rate * share / 100), seconds)
        found.append(Row("idle", f"{share} % load, {policy}", "us/packet", run.us))
        settings.notes.append(
            f"idle, {policy}: {share} % load is {run.rate:,.0f} packets/s, {run.cpu:.0f} % of a core, {run.lost:,} lost"
        )
    return found


def _under_load(veths: Veths, process: subprocess.Popen[str], rate: int, seconds: float) -> Load:
    """``rate`` packets a second for so long; 0 is as many as can be sent."""
    graph = Graph()
    source = f"generator:src={LEFT},dst={RIGHT},dmac={veths.mac(veths.middle, 'left')},flows=64,rate={rate}"
    graph.add(port(source) >> port(f"af_packet:eth0,netns={veths.left}"))
    engine = Engine(graph)
    with _on_first_core():  # the router's worker is on the last one
        engine.start()
    try:
        time.sleep(0.2)
        before = (_received(veths), engine.report().sent, _cpu_s(process.pid), time.monotonic())
        time.sleep(seconds)
        after = (_received(veths), engine.report().sent, _cpu_s(process.pid), time.monotonic())
    finally:
        engine.stop()
    arrived, sent, cpu_s, spent_s = (b - a for a, b in zip(before, after, strict=True))
    return Load(arrived / spent_s, 1e6 * cpu_s / max(arrived, 1), 100 * cpu_s / spent_s, int(max(sent - arrived, 0)))


@contextlib.contextmanager
def _on_first_core() -> Iterator[None]:
    """Threads that are started now run there."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def _received(veths: Veths) -> int:
    """Packets that have come to the right host."""
    said = veths.inside(veths.right, "cat", "/proc/net/dev")
    found = re.search(r"eth0:\s*\d+\s+(\d+)", said)
    if not found:
        raise BenchError("the right host has no eth0")
    return int(found[1])

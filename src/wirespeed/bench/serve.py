"""How many requests a second does a service answer? ``wirespeed bench serve``

=====================  ============================================================================================
in memory              requests from a capture in memory, answers into a sink: cycles of one core a request; the same
                       with a handler in plain Python, which runs on the other core
over memif             the client is testpmd (``flowgen``) on the other core, its counters count the answers; the peer
                       is testpmd as echo (``macswap``) at the same place in the same run
over af_xdp            a client at the far end of a veth; peers are kernel sockets: recvmmsg in compiled code,
                       asyncio, uvloop
latency                requests by schedule on that veth, a tenth of what the slower of the two servers in C's place
                       answers (ours or recvmmsg); the worker never sleeps, and the peer polls a kernel socket
idle                   time on a core while nothing comes
=====================  ============================================================================================

Frames of 60 bytes are 64 on a wire. Other servers' rows: :data:`SERVERS`.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module, util
from pathlib import Path
from statistics import median

from wirespeed.apps.service import Service
from wirespeed.bench import serve_memory as in_memory
from wirespeed.bench.errors import BenchError
from wirespeed.bench.hop import hop_ns
from wirespeed.bench.port_echo import cpu_s, percentiles
from wirespeed.bench.port_load import Load
from wirespeed.bench.port_memif import SCENES, Turn, connected, count, memif_path, places, testpmd, their_turn
from wirespeed.bench.port_turns import rate
from wirespeed.bench.result import Row
from wirespeed.bench.serve_client import shown
from wirespeed.bench.serve_latency import Latencies, latencies
from wirespeed.bench.serve_memory import ECHO, echo, serving
from wirespeed.bench.settings import Settings
from wirespeed.bench.synthetic import udp4
from wirespeed.bench.testpmd import version
from wirespeed.bench.veths import GATEWAYS, LEFT, Veths
from wirespeed.bench.xdp_traffic import Sink

SERVERS: dict[str, str] = {
    "steps": "wirespeed.bench.serve_steps",
    "dns": "wirespeed.bench.serve_dns",
    "memcached": "wirespeed.bench.serve_memcached",
}
"""Other servers' benches: a name, and the module whose ``rows(settings, tell)`` measures it."""

Tell = Callable[[str], None]

_BENCH = "serve"
_FLOWGEN = ("10.254.0.0", "00:01:02:03:04:00", 1001)  # who testpmd's flowgen is, and the port it asks
_ASKED = ("10.253.0.0/16", "00:01:02:03:04:01")
_READY_S = 30.0
_KEPT_UP = 0.98
_SHARES = (0.5, 0.999)
_PROBES, _PROBES_QUICK = 100_000, 200
_TURNS = 5  # of latency, at least: its medians move more than those of rates


def rows(settings: Settings, tell: Tell) -> Sequence[Row]:
    """Measure every row."""
    tell("in memory")
    found = [
        Row(_BENCH, "UDP echo of 64 B in memory", "cycles/request", in_memory.cycles(settings)),
        _over_memif(settings, tell),
    ]
    if not settings.quick:  # another loop to compile
        plain = in_memory.requests(settings, compiled=False)
        found.append(Row(_BENCH, "a plain-Python handler, in memory", "requests/s", plain))
    with Veths() as veths:
        found += _over_veth(veths, settings, tell)
    for name, module in SERVERS.items():
        if settings.quick and name != "steps":  # each is minutes of compiling
            continue
        tell(name)
        found += import_module(module).rows(settings, tell)
    return found


# Over memif ------------------------------------------------------------------------------------------------


def _over_memif(settings: Settings, tell: Tell) -> Row:
    what = "UDP echo of 64 B over memif"
    ours: list[Turn] = []
    theirs: list[Turn] = []
    for number in range(settings.pairs):
        tell(f"{what}: pair {number + 1} of {settings.pairs}")
        ours.append(_our_turn(settings))
        if settings.peer:
            theirs.append(their_turn(SCENES[3], "server", 64, settings))
    settings.notes.append(f"{what}: ours {shown(ours)}; testpmd {shown(theirs) if theirs else 'not run'}")
    value = median(turn.rate for turn in ours)
    if not theirs:
        return Row(_BENCH, what, "requests/s", value)
    ratio = median(a.rate / b.rate for a, b in zip(ours, theirs, strict=True))
    peer = median(turn.rate for turn in theirs)
    return Row(_BENCH, what, "requests/s", value, f"{version()} testpmd macswap", peer, ratio)


def _our_turn(settings: Settings) -> Turn:
    ours, far = places()
    client, mac, asked = _FLOWGEN
    with memif_path() as path, contextlib.ExitStack() as stack:
        service = Service(
            f"memif:{path},role=server", "10.254.255.1/16", local=_ASKED[0], mac=_ASKED[1], neighbours={client: mac}
        )
        service.udp(asked)(echo)
        stack.enter_context(serving(service))
        peer = stack.enter_context(testpmd("client", path, SCENES[3].peer, 64, far, ours))
        connected(service.port.link)
        before = hop_ns(ours, far)
        answered = count(peer, SCENES[3], settings.seconds)
        assert service.engine is not None
        service.engine.pause()
        return Turn(answered, before, hop_ns(ours, far))


# On a veth -------------------------------------------------------------------------------------------------


def _over_veth(veths: Veths, settings: Settings, tell: Tell) -> list[Row]:
    """The client's side is what the :class:`Veths` call left, the server's is in the middle."""
    here, there = GATEWAYS[0], LEFT
    ours, theirs = veths.mac(veths.middle, "left"), veths.mac(veths.left, "eth0")
    link = bytes.fromhex((ours + theirs).replace(":", "")) + bytes.fromhex("0800")
    frame = udp4(bytes(map(int, there.split("."))), bytes(map(int, here.split("."))), 4000, ECHO, bytes(18), link)
    veths.inside(veths.middle, "ip", "address", "add", f"{here}/24", "dev", "left")
    veths.inside(veths.middle, "ip", "neighbour", "replace", there, "lladdr", theirs, "dev", "left")
    found: list[Row] = []
    worker, far = places()
    kinds = ["mmsg", "asyncio", *(["uvloop"] if util.find_spec("uvloop") else [])]
    if len(kinds) == 2:
        settings.notes.append("no row beside uvloop: pip install uvloop")
    with contextlib.ExitStack() as stack:

        def answers(kind: str) -> None:
            with Sink(veths.left, "eth0") as sink, Load(veths.left, "eth0", frame, far) as load:
                sent = _Sent(veths, load)
                rates.setdefault(kind, []).append(rate(lambda: sink.packets, settings.seconds, sent.on, sent.off))
                asked.setdefault(kind, []).append(sent.rate)

        def ours_answering(idle: str) -> contextlib.AbstractContextManager[Service]:
            service = Service(f"af_xdp:left,netns={veths.middle}", f"{here}/24", neighbours={there: theirs})
            service.udp(ECHO)(echo)
            return serving(service, idle=idle)

        rates: dict[str, list[float]] = {}
        asked: dict[str, list[float]] = {}
        share = 0.0
        for number in range(settings.pairs):
            tell(f"on a veth: round {number + 1} of {settings.pairs}")
            with ours_answering("balanced"):
                _answering(veths, frame)
                answers("ours")
                share = _share(settings)
            for kind in kinds if settings.peer else ():
                with _kernel_echo(veths, kind, here, worker):
                    _answering(veths, frame)
                    answers(kind)
        settings.notes.append(f"on a veth, answered of asked a second: {_bounds(rates, asked)}")
        load = min(median(rates[kind]) for kind in ("ours", "mmsg") if kind in rates) / 10
        times: dict[str, list[Latencies]] = {}
        turns = settings.pairs if settings.quick else max(settings.pairs, _TURNS)
        for number in range(turns):
            tell(f"latency on a veth at {load:,.0f} requests/s: round {number + 1} of {turns}")
            # Its peer never sleeps either.
            servers: dict[str, contextlib.AbstractContextManager[object]] = {"ours": ours_answering("latency")}
            if settings.peer:
                servers["busy"] = _kernel_echo(veths, "busy", here, worker)
            for name, server in servers.items():
                with server:
                    _answering(veths, frame)
                    count = _PROBES_QUICK if settings.quick else _PROBES
                    found_here = latencies(veths.left, "eth0", frame, load, count, far, _SHARES)
                    times.setdefault(name, []).append(found_here)
        settings.notes += [
            f"latency at {load:,.0f} requests/s, {name}: {_spread(found)}" for name, found in times.items()
        ]
        stack.close()
    found += _rate_rows(rates)
    found += _time_rows(times)
    found.append(Row(_BENCH, "idle on a veth", "% of a core", share))
    return found


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


def _spread(turns: list[Latencies]) -> str:
    each = (
        f"p{share * 100:g} " + "/".join(f"{t.microseconds[i]:.1f}" for t in turns) for i, share in enumerate(_SHARES)
    )
    return f"{', '.join(each)} us; {sum(t.lost for t in turns)} probes without an answer"


def _rate_rows(rates: dict[str, list[float]]) -> list[Row]:
    mine = rates.pop("ours")
    what = "UDP echo of 64 B over af_xdp on a veth"
    if not rates:
        return [Row(_BENCH, what, "requests/s", median(mine))]
    said = {"mmsg": "kernel socket, recvmmsg", "asyncio": "asyncio", "uvloop": "uvloop"}
    return [
        Row(
            _BENCH, what, "requests/s", median(mine), said[kind], median(other),
            median(a / b for a, b in zip(mine, other, strict=True)),
        )
        for kind, other in rates.items()
    ]  # fmt: skip


def _time_rows(times: dict[str, list[Latencies]]) -> list[Row]:
    found = []
    for index, share in enumerate(_SHARES):
        mine = [each.microseconds[index] for each in times["ours"]]
        other = [each.microseconds[index] for each in times.get("busy", [])]
        found.append(
            Row(
                _BENCH, f"latency on a veth at a tenth of the load, p{share * 100:g}", "us", median(mine),
                "kernel socket, busy polling" if other else None,
                median(other) if other else None,
                median(b / a for a, b in zip(mine, other, strict=True)) if other else None,
            )
        )  # fmt: skip
    return found


def _answering(veths: Veths, frame: bytes) -> None:
    """Wait until somebody answers."""
    until = time.monotonic() + _READY_S
    while True:
        with contextlib.suppress(BenchError):
            percentiles(veths.left, "eth0", frame, 1, (0.5,))
            return
        if time.monotonic() > until:
            raise BenchError("the server on the veth does not answer")


def _share(settings: Settings) -> float:
    """Of a core, in percent, of all threads of this process, in a silence."""
    time.sleep(0.5)  # for the workers to fall asleep
    before, begun = cpu_s(), time.monotonic()
    time.sleep(max(settings.seconds * 3, 1.0))
    return (cpu_s() - before) / (time.monotonic() - begun) * 100


@contextlib.contextmanager
def _kernel_echo(veths: Veths, kind: str, address: str, core: int) -> Iterator[None]:
    command = ["ip", "netns", "exec", veths.middle, "taskset", "-c", str(core), sys.executable, "-m"]
    command += ["wirespeed.bench.kernel_echo", kind, address, str(ECHO)]
    source = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise BenchError(f"the {kind} server did not start: code {process.wait()}")
        yield
    finally:
        process.kill()
        process.communicate()


__all__ = ["SERVERS", "rows"]

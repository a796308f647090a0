"""How fast is af_xdp, beside DPDK's ``net_af_xdp`` and the kernel? On veths of one shape, a pair for each side.

::

    left host                    middle: what is measured            right host
    source  eth0 ---------- left           right ---------- eth0  sink

Source and sink are XDP programs (:mod:`wirespeed.bench.xdp_traffic`) on the control core; what is measured has the
other core. Both sides get the same load in their turns, more than they can take. On a veth the sender's core does
most of the receiver's work (the driver's poll runs there), and each packet sent becomes one of the kernel's buffers; so
``receive`` is bound by the source's core and ``transmit`` and ``forward`` by the kernel's copy, for both.

The peer runs with ``busy_budget=0``, the faster of its settings there. Counted are packets the receiver got, or the
sink. ``echo`` is the time of a frame to and fro, seen by a packet socket on the left, one at a time.
"""

from __future__ import annotations

import contextlib
import functools
import socket
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from wirespeed.bench.errors import BenchError
from wirespeed.bench.pairing import Paired, interleave
from wirespeed.bench.result import Row
from wirespeed.bench.settings import Settings
from wirespeed.bench.synthetic import udp4
from wirespeed.bench.testpmd import Setting, Testpmd, version
from wirespeed.bench.veths import LEFT, RIGHT, Veths
from wirespeed.bench.xdp_traffic import Sink, Source
from wirespeed.eal import cores
from wirespeed.engine.engine import Engine
from wirespeed.engine.idle import BALANCED, LATENCY
from wirespeed.graph.graph import Graph
from wirespeed.nodes import macswap
from wirespeed.ports.netdev import within
from wirespeed.ports.port import Port, port

Tell = Callable[[str], None]
Count = Callable[[], int]

_SETTLE_S = 0.15
_HEADERS = 42
_SIZES = {"64 B": 60, "1500 B": 1514}
_ROUNDS = 2000
_PATIENCE_S = 5.0


def _frame(size: int, link: bytes = b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x08\0") -> bytes:
    """A UDP frame of ``size`` bytes, from the left host to the right."""
    return udp4(socket.inet_aton(LEFT), socket.inet_aton(RIGHT), 1024, 9, bytes(size - _HEADERS), link)


class _Bench:
    """One run: the two pairs of veths, the cores, and who is measured."""

    def __init__(self, settings: Settings, tell: Tell) -> None:
        self.settings, self.tell = settings, tell
        placement = cores.choose(1)
        self.control, self.worker = placement.control, placement.workers[0]
        self.peer = f"{version()} net_af_xdp" if settings.peer else None
        self.rows: list[Row] = []

    def compare(self, metric: str, unit: str, ours: Callable[[], float], theirs: Callable[[], float] | None) -> None:
        """Measure both in turns; a row of it."""
        paired: Paired = interleave(
            ours, theirs, pairs=self.settings.pairs, lower_is_better=unit == "us",
            progress=lambda done, wanted, what: self.tell(f"{metric}: pair {done}/{wanted} {what}"),
        )  # fmt: skip
        self.settings.notes += [f"{metric}: {paired.note}"] if paired.note else []
        self.rows.append(Row.of("port", f"af_xdp {metric}", unit, paired, self.peer))

    def rate(self, count: Count, on: Callable[[], None], off: Callable[[], None], source: Source | None) -> float:
        """Packets a second in one turn."""
        on()
        if source:
            source.on()
        try:
            time.sleep(_SETTLE_S)
            before, begun = count(), time.perf_counter()
            got, spent = 0, 0.0
            while not got and spent < _PATIENCE_S:  # longer where the machine lets nothing move for so long
                time.sleep(self.settings.seconds)
                got, spent = count() - before, time.perf_counter() - begun
        finally:
            if source:
                source.off()
            off()
        if not got:
            why = f": {source.error}" if source and source.error else ""
            raise BenchError(f"no packet moved in {spent:.0f} s{why}: something else holds the cores: end that first")
        return got / spent

    @contextlib.contextmanager
    def engine(self, graph: Graph, idle: str = BALANCED) -> Iterator[Engine]:
        """Ours, paused; every cell must be back at the end."""
        made = Engine(graph, idle=idle)
        made.start()
        made.pause()
        try:
            yield made
        finally:
            left = made.stop().in_use
            assert left == 0, f"{left} cells are missing after the run"

    @contextlib.contextmanager
    def testpmd(self, space: str, *interfaces: str, mode: str = "io") -> Iterator[Testpmd | None]:
        """The peer on interfaces of a namespace, or nobody."""
        if not self.settings.peer:
            yield None
            return
        devices = [f"net_af_xdp{i},iface={name},busy_budget=0" for i, name in enumerate(interfaces)]
        both = (self.control, self.worker)
        with Testpmd(None, Setting(mode), cores=both, vdevs=devices, netns=space, options=["--txpkts=60"]) as peer:
            yield peer


def rows(settings: Settings, tell: Tell) -> Sequence[Row]:
    """Measure every row."""
    bench = _Bench(settings, tell)
    with Veths() as ours, Veths() as theirs:
        _one_port(bench, ours, theirs)
        _forward(bench, ours, theirs)
    return bench.rows


def _sinking(made: Port) -> Graph:
    graph = Graph()
    graph.add(made >> port("sink"))
    return graph


def _one_port(bench: _Bench, ours: Veths, theirs: Veths) -> None:
    """Receive, transmit, echo."""
    frame = _frame(60)
    core = bench.control
    with bench.testpmd(theirs.middle, "left", mode="rxonly") as peer:
        bench.tell("receive: compiling")
        made = port(f"af_xdp:left,netns={ours.middle}")
        with bench.engine(_sinking(made)) as engine:
            for metric, flows, sent in (
                ("receive 64 B, 1 flow", 1, frame),
                ("receive 64 B, 1000 flows", 1000, frame),
                ("receive 1500 B, 1 flow", 1, _frame(1514)),
            ):
                with (
                    Source(ours.left, "eth0", sent, core, flows) as a,
                    Source(theirs.left, "eth0", sent, core, flows) as b,
                ):
                    got = lambda: made.stats().rx_packets  # noqa: E731
                    bench.compare(
                        metric, "packets/s", functools.partial(bench.rate, got, engine.resume, engine.pause, a),
                        functools.partial(bench.rate, _received(peer), peer.start, peer.stop, b) if peer else None,
                    )  # fmt: skip
        bench.tell("transmit: compiling")
        made = port(f"af_xdp:left,netns={ours.middle}")
        graph = Graph()
        graph.add(port("generator:size=64") >> made)
        if peer:
            peer.change(mode="txonly")
        with bench.engine(graph) as engine, Sink(ours.left, "eth0") as a, Sink(theirs.left, "eth0") as b:
            bench.compare(
                "transmit 64 B", "packets/s",
                functools.partial(bench.rate, lambda: a.packets, engine.resume, engine.pause, None),
                functools.partial(bench.rate, lambda: b.packets, peer.start, peer.stop, None) if peer else None,
            )  # fmt: skip
        bench.tell("echo: compiling")
        made = port(f"af_xdp:left,netns={ours.middle}")
        graph = Graph()
        graph.add(made >> macswap >> made)
        if peer:
            peer.change(mode="macswap")
        with bench.engine(graph, LATENCY) as engine:  # the peer never sleeps
            _echo(bench, engine, peer, ours, theirs)


def _received(peer: Testpmd) -> Count:
    return lambda: peer.stats()["RX-packets"]


def _echo(bench: _Bench, engine: Engine, peer: Testpmd | None, ours: Veths, theirs: Veths) -> None:
    """Two rows: the median and the 99th percentile of the same turns."""
    rounds = _ROUNDS // 10 if bench.settings.quick else _ROUNDS
    seen: dict[str, list[float]] = {"ours": [], "theirs": []}

    def turn(who: str, space: str, on: Callable[[], None], off: Callable[[], None]) -> float:
        on()
        try:
            times = _round_trips(space, rounds)
        finally:
            off()
        seen[who].append(float(np.percentile(times, 99)))
        return float(np.percentile(times, 50))

    first = functools.partial(turn, "ours", ours.left, engine.resume, engine.pause)
    second = functools.partial(turn, "theirs", theirs.left, peer.start, peer.stop) if peer else None
    bench.compare("echo, p50", "us", first, second)
    late = [values[-bench.settings.pairs :] for values in (seen["ours"], seen["theirs"])]
    ratio = float(np.median(np.array(late[1]) / np.array(late[0]))) if peer else None
    theirs_late = float(np.median(late[1])) if peer else None
    bench.rows.append(Row("port", "af_xdp echo, p99", "us", float(np.median(late[0])), bench.peer, theirs_late, ratio))


def _round_trips(space: str, rounds: int) -> list[float]:
    """Microseconds of each frame's way to and fro."""
    frame, times = _frame(60), []
    back = frame[6:12] + frame[:6]
    with within(space, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))) as wire:
        wire.bind(("eth0", 3))
        wire.settimeout(_PATIENCE_S)
        for number in range(rounds):
            begun = time.perf_counter_ns()
            wire.send(frame)
            with contextlib.suppress(TimeoutError):
                while wire.recv(2048)[:12] != back:
                    pass
                if number >= rounds // 10:
                    times.append((time.perf_counter_ns() - begun) / 1000)
    if len(times) < rounds // 2:
        raise BenchError(f"only {len(times)} of {rounds} frames came back")
    return times


def _forward(bench: _Bench, ours: Veths, theirs: Veths) -> None:
    """From one interface to the other; the kernel's own rate beside it."""
    core = bench.control
    graph = Graph()
    graph.add(port(f"af_xdp:left,netns={ours.middle}") >> port(f"af_xdp:right,netns={ours.middle}"))
    bench.tell("forward: compiling")
    with (
        bench.testpmd(theirs.middle, "left", "right") as peer, bench.engine(graph) as engine,
        Sink(ours.right, "eth0") as a, Sink(theirs.right, "eth0") as b,
    ):  # fmt: skip
        for size, length in _SIZES.items():
            for flows in (1, 1000) if size == "64 B" else (1,):
                sent = _frame(length)
                with (
                    Source(ours.left, "eth0", sent, core, flows) as x,
                    Source(theirs.left, "eth0", sent, core, flows) as y,
                ):
                    bench.compare(
                        f"forward {size}, {flows} flow{'s' if flows > 1 else ''}", "packets/s",
                        functools.partial(bench.rate, lambda: a.packets, engine.resume, engine.pause, x),
                        functools.partial(bench.rate, lambda: b.packets, peer.start, peer.stop, y) if peer else None,
                    )  # fmt: skip
    _kernel(bench)


def _kernel(bench: _Bench) -> None:
    """What users have today, as a note: the kernel routes on the same veths."""
    with Veths() as veths, Sink(veths.right, "eth0") as sink:
        veths.forward_by_kernel()
        veths.inside(veths.middle, "ethtool", "-K", "left", "gro", "on")  # the driver's poll, which XDP frames need
        veths.inside(
            veths.middle, "ip", "neigh", "replace", RIGHT, "lladdr", veths.mac(veths.right, "eth0"), "dev", "right"
        )
        gateway = bytes.fromhex(veths.mac(veths.middle, "left").replace(":", ""))
        frame = _frame(60, gateway + b"\x02\0\0\0\0\x01\x08\0")
        with Source(veths.left, "eth0", frame, bench.control) as source:
            rate = bench.rate(lambda: sink.packets, lambda: None, lambda: None, source)
        bench.settings.notes.append(f"the kernel forwards {rate / 1e6:.2f} million packets/s of 64 B on such veths")


__all__ = ["rows"]

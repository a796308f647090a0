"""How fast are captures written and read? Against DPDK's net_pcap in testpmd, files in memory (tmpfs), in turns.

- write: packets from memory over and over (``loop=yes``; net_pcap's ``infinite_rx``) into one file. testpmd writes in
  its forwarding core, through libpcap; our worker hands records to a thread, so that it uses two cores, drops what the
  file system does not take, and only what was taken counts.
- read: a file from its beginning to its end, once. Our figure is the whole run of an engine that is compiled; testpmd's
  is from ``start`` until its counter shows all packets.

A file that grows in memory is emptied after each turn, on both sides: the writer's offset stays, what was written goes.
"""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from wirespeed.bench.capture import write_capture
from wirespeed.bench.disturbance import observer
from wirespeed.bench.errors import BenchError
from wirespeed.bench.forward import Turns, turns
from wirespeed.bench.frames import Frame
from wirespeed.bench.pairing import interleave
from wirespeed.bench.result import Row
from wirespeed.bench.settings import Settings
from wirespeed.bench.synthetic import udp4
from wirespeed.bench.testpmd import Setting, Testpmd, version
from wirespeed.eal import cores
from wirespeed.engine.engine import Engine
from wirespeed.graph.graph import Graph
from wirespeed.ports.port import port

SIZES: tuple[int, ...] = (60, 1496)
"""Bytes of frames in memory: 64 and 1500 on a wire, with the frame check."""

_FRAMES = 256
_FILE_BYTES = 600_000_000
_QUICK_BYTES = 20_000_000
_LEAST_FREE = 4_000_000_000
_SHARED_MEMORY = Path("/dev/shm")
_PATIENCE_S = 30.0
_SETTING = Setting("io", burst=64)

Tell = Callable[[str], None]


def rows(settings: Settings, tell: Tell) -> Sequence[Row]:
    """Measure every row."""
    if shutil.disk_usage(_SHARED_MEMORY).free < _LEAST_FREE:
        raise BenchError(f"{_SHARED_MEMORY}: this bench writes up to {_LEAST_FREE / 1e9:.0f} GB there: free some")
    found: list[Row] = []
    placement = cores.choose(1)
    both = (placement.control, placement.workers[0])
    with tempfile.TemporaryDirectory(prefix="wirespeed-bench-", dir=_SHARED_MEMORY) as name:
        folder = Path(name)
        for size in SIZES:
            few = folder / f"few-{size}.pcap"
            write_capture(few, [_frame(size, n) for n in range(_FRAMES)])
            for format_ in ("pcap", "pcapng"):
                tell(f"write {format_}, {size + 4} B: compiling")
                found.append(_write(settings, tell, folder, few, size, format_, both))
            tell(f"read, {size + 4} B: writing the file")
            found.append(_read(settings, tell, _many(settings, folder, few), size, both))
    return found


def _frame(size: int, number: int) -> Frame:
    payload = bytes(size - 42)
    return Frame(udp4(b"\x0a\x00\x00\x01", b"\x0a\x01\x00\x01", 1024 + number, 9, payload), size)


def _many(settings: Settings, folder: Path, few: Path) -> tuple[Path, int]:
    """The packets of ``few`` over and over in one file, and how many it has."""
    data, path = few.read_bytes(), folder / "many.pcap"
    laps = (_QUICK_BYTES if settings.quick else _FILE_BYTES) // (len(data) - 24)
    with path.open("wb") as file:
        file.write(data[:24])
        for _ in range(laps):
            file.write(data[24:])
    return path, laps * _FRAMES


# Writing ---------------------------------------------------------------------------------------------------


def _write(
    settings: Settings, tell: Tell, folder: Path, few: Path, size: int, format_: str, both: tuple[int, int]
) -> Row:
    metric = f"pcap: write {format_}, {size + 4} B"
    ours_at, theirs_at = folder / f"ours.{format_}", folder / "theirs.pcap"
    graph = Graph()
    graph.add(port(f"pcap:{few},loop=yes") >> port(f"pcap:{ours_at}"))
    with contextlib.ExitStack() as stack:
        peer, name = None, None
        if settings.peer:
            vdev = f"net_pcap0,rx_pcap={few},infinite_rx=1,tx_pcap={theirs_at}"
            peer = stack.enter_context(Testpmd(None, _SETTING, cores=both, vdevs=[vdev]))
            name = f"{version()} testpmd io, net_pcap"
        ours = stack.enter_context(turns(graph, settings))
        paired = interleave(
            lambda: _emptied(ours_at, lambda: _written(ours)),
            (lambda: _emptied(theirs_at, lambda: peer.measure(settings.seconds))) if peer else None,
            pairs=settings.pairs,
            progress=lambda done, wanted, text: tell(f"{metric}: pair {done}/{wanted} {text}"),
            observe=observer([peer.pid]) if peer else None,
        )
    for path in (ours_at, theirs_at):
        path.unlink(missing_ok=True)
    return Row.of("port", metric, "packets/s", paired, name)


def _written(ours: Turns) -> float:
    """One turn; and wait until the thread has written what it was given, so that the peer has the machine."""
    figure = ours.measure()
    sink = ours.engine.graph.sinks[0]
    deadline = time.monotonic() + _PATIENCE_S
    while sink.extended()["waiting_bytes"]:
        if time.monotonic() > deadline:
            raise BenchError(f"{sink.spec}: is not written after {_PATIENCE_S:.0f} s: see what else uses the disk")
        time.sleep(0.001)
    return figure


def _emptied(path: Path, measure: Callable[[], float]) -> float:
    figure = measure()
    os.truncate(path, 0)
    return figure


# Reading ---------------------------------------------------------------------------------------------------


def _read(settings: Settings, tell: Tell, many: tuple[Path, int], size: int, both: tuple[int, int]) -> Row:
    metric = f"pcap: read, {size + 4} B"
    path, packets = many
    paired = interleave(
        lambda: packets / _our_reading(path, packets),
        (lambda: packets / _their_reading(path, packets, both)) if settings.peer else None,
        pairs=settings.pairs,
        progress=lambda done, wanted, text: tell(f"{metric}: pair {done}/{wanted} {text}"),
    )
    return Row.of("port", metric, "packets/s", paired, f"{version()} testpmd rxonly, net_pcap" if settings.peer else "")


def _our_reading(path: Path, packets: int) -> float:
    """Seconds for all packets."""
    graph = Graph()
    graph.add(port(f"pcap:{path}") >> port("sink"))
    engine = Engine(graph)
    begun = time.perf_counter()
    engine.start()
    engine.wait(_PATIENCE_S)
    spent = time.perf_counter() - begun
    report = engine.stop()
    if report.packets != packets or report.in_use:
        raise BenchError(f"{path}: {report.packets} of {packets} packets were read, {report.in_use} cells are missing")
    return spent


def _their_reading(path: Path, packets: int, both: tuple[int, int]) -> float:
    with _reader(path, both) as peer:
        begun = time.monotonic()
        peer.start()
        while (seen := peer.stats()["RX-packets"]) < packets:
            if time.monotonic() - begun > _PATIENCE_S:
                raise BenchError(f"testpmd read {seen} of {packets} packets in {_PATIENCE_S:.0f} s")
        return time.monotonic() - begun


@contextlib.contextmanager
def _reader(path: Path, both: tuple[int, int]) -> Iterator[Testpmd]:
    """A testpmd for one reading: net_pcap does not go back to the beginning."""
    setting = Setting("rxonly", burst=_SETTING.burst)
    with Testpmd(None, setting, cores=both, vdevs=[f"net_pcap0,rx_pcap={path}"]) as peer:
        yield peer
        peer.stop()

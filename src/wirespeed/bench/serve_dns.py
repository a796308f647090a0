"""What does a DNS answer cost? Questions for random names of a large zone, in memory, beside NSD.

A million names with an address each, and 2^18 questions for names chosen at random, so that neither names nor answers
are in a cache by chance. Rows:

- the service, between a capture in memory and a sink, on one core. The peer is NSD with the same zone on one core,
  asked by ``dnsperf`` over loopback from the other: its figure has the kernel's sockets in it, as it has in use.
- the same over memif, asked by ``wirespeed load`` on the other core.
- an answer: what of that is DNS, ``ahead()`` for each question of a burst, then ``serve()``, where the question lies.
- without asking ahead: what prefetching gains.
- names in the cache: 1,000 names: what is left when memory costs nothing.
- names that are not there.

What bounds them: a question is two misses, for its slot and for its node, which has the answer. Asked for ahead they
overlap, a dozen at a time; what is left is some 150 instructions to walk, hash and compare the name.
"""

import random
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wirespeed.apps.dns.serve import ahead, serve
from wirespeed.apps.dns.server import DnsServer
from wirespeed.apps.dns.service import answer_dns
from wirespeed.apps.dns.state import DnsView
from wirespeed.apps.dns.zone import plain_name, read_zone
from wirespeed.apps.service import Service
from wirespeed.bench.capture import write_capture
from wirespeed.bench.errors import BenchError
from wirespeed.bench.frames import Frame
from wirespeed.bench.pairing import Pair, summarise
from wirespeed.bench.port_turns import rate
from wirespeed.bench.result import Row
from wirespeed.bench.serve_client import alone, over_memif, shown
from wirespeed.bench.serve_memory import serving
from wirespeed.bench.settings import Settings
from wirespeed.bench.synthetic import udp4
from wirespeed.jit import copy64, cycles, kernel, lent, load64
from wirespeed.ports.port import port
from wirespeed.wire.dns import DNS_PORT

BURST: int = 64
NAMES: int = 1_000_000
QUESTIONS: int = 1 << 18
QUESTION_BYTES: int = 72
CELL_BYTES: int = 576
"""From one question of a burst to the next: each is answered where it lies."""

_CHUNK = 1 << 11  # questions timed at once: a millisecond's work, so that few are interrupted
_HEADER = bytes.fromhex("0001 0000 0001 0000 0000 0000")
_SOCKET_S = 60
_OURS, _THEIRS = "02:00:00:00:00:01", "02:00:00:00:00:02"

Tell = Callable[[str], None]


@kernel
def answer_all(state: int, questions: int, count: int, cells: int, asking: int) -> tuple[int, int]:
    """Receive and answer questions in bursts, with or without asking ahead; cycles, and bytes of answers.

    A question is QUESTION_BYTES, the first eight of which say how long it is; ``cells`` is memory for a burst.
    """
    view = DnsView(state)
    begun, answered, at = cycles(), 0, 0
    while at < count:
        burst = min(BURST, count - at)
        for i in range(burst):
            copy64(cells + i * CELL_BYTES, questions + (at + i) * QUESTION_BYTES + 8)
        if asking:
            for i in range(burst):
                ahead(view, cells + i * CELL_BYTES, load64(questions + (at + i) * QUESTION_BYTES))
        for i in range(burst):
            cell = cells + i * CELL_BYTES
            answered += serve(view, 0, 1, cell, load64(questions + (at + i) * QUESTION_BYTES), cell, CELL_BYTES)
        at += burst
    return cycles() - begun, answered


class Inputs:
    """A zone and questions about it.

    Args:
        folder: where the zone's file and dnsperf's are written.
        names: how many.
        questions: how many.
    """

    def __init__(self, folder: Path, names: int, questions: int) -> None:
        chosen = random.Random(2026)
        kinds = ("www", "mail", "host", "node-", "srv", "db-")
        self.names = [f"{chosen.choice(kinds)}{number}" for number in range(names)]
        self.zone = folder / "zone"
        head = "$ORIGIN example.com.\n$TTL 3600\n@ IN SOA ns1 host 1 7200 900 1209600 300\n@ IN NS ns1\n"
        lines = (f"{name} IN A 10.{i >> 16 & 255}.{i >> 8 & 255}.{i & 255}\n" for i, name in enumerate(self.names))
        self.zone.write_text(f"{head}ns1 IN A 192.0.2.53\n{''.join(lines)}")
        asked = [f"{chosen.choice(self.names)}.example.com" for _ in range(questions)]
        self.perf = folder / "questions"
        self.perf.write_text("".join(f"{name} A\n" for name in asked))
        self.there = _questions(asked)
        self.absent = _questions([f"x{name}" for name in asked])

    def frames(self) -> list[bytes]:
        """Ethernet frames with the questions."""
        link = bytes.fromhex((_OURS + _THEIRS).replace(":", "") + "0800")
        source, own = bytes((10, 7, 0, 2)), bytes((10, 7, 0, 1))
        asked = (row.tobytes() for row in self.there)
        return [link + udp4(source, own, 4000, DNS_PORT, row[8 : 8 + row[0]], b"") for row in asked]


def _questions(names: Sequence[str]) -> NDArray[np.uint8]:
    """Questions for the address of names, one in each row behind its length."""
    found = [_HEADER + (plain_name(f"{name}.", b"") or b"") + b"\0\1\0\1" for name in names]
    rows = b"".join(len(each).to_bytes(8, "little") + each.ljust(QUESTION_BYTES - 8, b"\0") for each in found)
    return np.frombuffer(rows, np.uint8).reshape(-1, QUESTION_BYTES)


def measure(server: DnsServer, questions: NDArray[np.uint8], asking: bool = True) -> float:
    """Cycles a question: the median of runs of a millisecond."""
    cells, spent = np.zeros(BURST * CELL_BYTES, np.uint8), []
    with lent(questions, cells):
        for at in range(0, len(questions), _CHUNK):
            chunk = questions[at : at + _CHUNK]
            took, answered = answer_all(server.address, chunk.ctypes.data, len(chunk), cells.ctypes.data, int(asking))
            if answered <= 12 * len(chunk):
                raise BenchError(f"{answered} bytes of answers to {len(chunk)} questions: not all were answered")
            spent.append(took / len(chunk))
    return median(spent)


class Nsd:
    """NSD with one zone and one process on loopback, and dnsperf to ask it; each on a core of its own.

    Raises:
        BenchError: it does not answer.
    """

    def __init__(self, folder: Path, zone: Path) -> None:
        self.folder = folder
        with socket.socket(type=socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        options = {
            "ip-address": f"127.0.0.1@{self.port}", "zonesdir": folder, "logfile": folder / "log",
            "pidfile": folder / "pid", "xfrdfile": folder / "xfrd", "xfrdir": folder, "zonelistfile": folder / "list",
            "database": "", "username": "", "chroot": "", "server-count": 1, "minimal-responses": True,
            "rrl-ratelimit": 0,
        }  # fmt: skip
        told = "".join(f"  {key}: {_quoted(value)}\n" for key, value in options.items())
        file = folder / "nsd.conf"
        zones = f'zone:\n  name: example.com\n  zonefile: "{zone}"\n'
        file.write_text(f"server:\n{told}remote-control:\n  control-enable: no\n{zones}")
        self.child = subprocess.Popen(
            ["taskset", "-c", "0", _program("nsd"), "-d", "-c", str(file)], stderr=subprocess.DEVNULL
        )
        until = time.monotonic() + _SOCKET_S
        while not self._answers():
            if self.child.poll() is not None or time.monotonic() > until:
                self.stop()
                raise BenchError(f"NSD does not answer: {(folder / 'log').read_text()[-300:]}")

    def _answers(self) -> bool:
        with socket.socket(type=socket.SOCK_DGRAM) as client:
            client.settimeout(0.1)
            try:
                client.connect(("127.0.0.1", self.port))
                client.send(_HEADER + b"\7example\3com\0\0\6\0\1")
                return bool(client.recv(512)[3] & 15 == 0)
            except OSError:
                return False

    def rate(self, questions: Path, seconds: float) -> float:
        """Answers a second."""
        command = ["taskset", "-c", "1", _program("dnsperf"), "-s", "127.0.0.1", "-p", str(self.port), "-d",
                   str(questions), "-l", str(seconds), "-q", "200", "-c", "8"]  # fmt: skip
        said = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60).stdout
        found = re.search(r"Queries per second: +([\d.]+)", said)
        if found is None:
            raise BenchError(f"dnsperf did not say how many queries a second; it last said: {said[-200:]}")
        return float(found[1])

    def stop(self) -> None:
        """End it."""
        self.child.terminate()
        try:
            self.child.wait(30)
        finally:
            self.child.kill()


def _quoted(value: Any) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else f'"{value}"'


def _program(name: str) -> str:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin") or ""


def served(settings: Settings, server: DnsServer, inputs: Inputs) -> float:
    """Questions a second that a service answers on one core."""
    with tempfile.TemporaryDirectory(prefix="wirespeed-dns-") as folder:
        path = Path(folder) / "questions.pcap"
        write_capture(path, [Frame(frame, len(frame)) for frame in inputs.frames()])
        service = Service(f"pcap:{path},loop=yes", "10.7.0.1/16", mac=_OURS, neighbours={"10.7.0.2": _THEIRS})
        service.output = port("sink:")
        answer_dns(service, server)
        with serving(service):
            runs = [
                rate(lambda: service.output.stats().tx_packets, settings.seconds, lambda: None, lambda: None)
                for _ in range(settings.pairs)
            ]
            return median(runs)


def rows(settings: Settings, tell: Tell) -> Sequence[Row]:
    """Measure every row."""
    many = 10_000 if settings.quick else NAMES
    with tempfile.TemporaryDirectory(prefix="wirespeed-dns-") as place:
        folder = Path(place)
        tell(f"a zone of {many:,} names")
        inputs = Inputs(folder, many, 1 << 12 if settings.quick else QUESTIONS)
        (folder / "few").mkdir()
        few = Inputs(folder / "few", 1000, 1 << 12)
        nsd = Nsd(folder, inputs.zone) if _program("nsd") and _program("dnsperf") else None
        try:
            zones = read_zone(inputs.zone), read_zone(few.zone)
            with DnsServer(zones[:1], rate=0) as server, DnsServer(zones[1:], rate=0) as small:
                return _measure(settings, tell, inputs, few, server, small, nsd)
        finally:
            if nsd is not None:
                nsd.stop()


def _measure(
    settings: Settings, tell: Tell, inputs: Inputs, few: Inputs, server: DnsServer, small: DnsServer, nsd: Nsd | None
) -> list[Row]:
    about = f"{len(inputs.names):,} names"
    kinds = {
        f"{about}, random": (server, inputs.there, True),
        f"{about}, random, without asking ahead": (server, inputs.there, False),
        f"{about}, names that are not there": (server, inputs.absent, True),
        "1,000 names, in the cache": (small, few.there, True),
    }
    tell("compiling")
    for kind in kinds.values():
        measure(*kind)
    turns: dict[str, list[float]] = {name: [] for name in kinds}
    pairs, far = [], []
    for turn in range(settings.pairs):
        tell(f"turn {turn + 1} of {settings.pairs}")
        for name, kind in kinds.items():
            turns[name].append(measure(*kind))
        peer = nsd.rate(inputs.perf, 1 if settings.quick else 5) if nsd is not None else None
        if not settings.quick:  # to see that it works, a service need not be compiled once more
            pairs.append(Pair(served(settings, server, inputs), peer))
            asking = ["--names", str(inputs.perf)]
            turned = over_memif(lambda service: answer_dns(service, server), "dns", asking, 2 * settings.seconds)
            far.append((turned, Pair(turned.rate, peer)))
    beside, found = "NSD on one core, dnsperf on loopback", []
    if pairs:
        found.append(Row.of("serve", f"DNS service in memory, {about}, random", "requests/s", summarise(pairs), beside))
        paired = summarise([pair for _, pair in far])
        found.append(Row.of("serve", f"DNS service over memif, {about}, random", "requests/s", paired, beside))
        own = alone("dns", ["--names", str(inputs.perf)], settings.seconds)
        settings.notes.append(
            f"DNS over memif: {shown([turn for turn, _ in far])}; the load alone sends {own / 1e6:.1f} M/s"
        )
    found += [Row("serve", f"a DNS answer, {name}", "cycles", median(figures)) for name, figures in turns.items()]
    size = server.stats().memory_bytes / len(inputs.names)
    return [*found, Row("serve", f"DNS, memory, {about}", "bytes/name", size)]


__all__ = ["Inputs", "Nsd", "answer_all", "measure", "rows"]

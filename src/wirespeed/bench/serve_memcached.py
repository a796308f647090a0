"""What does a get cost? Ten million keys of 16 bytes with values of 100, in memory, beside memcached.

2^18 requests for keys chosen at random, so that neither buckets nor items are in a cache by chance. Ours are copied to
where they would be received and answered there, in bursts, as a worker does: what comes before and after, IP and UDP,
is the rows of the echo. Rows:

- gets: ``ahead()`` for each request of a burst, then ``serve()``. The peer is Debian's memcached with one thread on one
  core, asked over loopback UDP by libmemcached's ``memcaslap`` (nine gets to a set, as many keys as it sets) from the
  other: its figure has the kernel's sockets in it, as it has in use.
- gets, and nine to a set, over memif, of the service on one core, asked by ``wirespeed load`` on the other.
- nine gets to a set, which is what the peer's figure is of.
- without asking ahead: what prefetching gains.
- keys in the cache: 1,000 keys: what is left when memory costs nothing.

What bounds them: a get is two misses that wait for each other, the bucket and the item (three lines of it, together).
Asked for ahead they overlap, as many at a time as the core has line-fill buffers for.
"""
# mypy: allow-untyped-calls

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wirespeed.apps.memcached.serve import ahead, serve
from wirespeed.apps.memcached.server import MemcachedServer
from wirespeed.apps.memcached.service import answer_memcached
from wirespeed.apps.memcached.state import ServerView
from wirespeed.bench.errors import BenchError
from wirespeed.bench.pairing import Pair, summarise
from wirespeed.bench.result import Row
from wirespeed.bench.serve_client import alone, over_memif, shown
from wirespeed.bench.settings import Settings
from wirespeed.eal.clock import tsc_hz
from wirespeed.jit import copy64, cycles, kernel, lent, load64

BURST: int = 64
KEYS: int = 10_000_000
REQUESTS: int = 1 << 18
CELL_BYTES: int = 2048 + 64
"""From one request of a burst to the next: each is answered where it lies. A pool's cells have colours to that end: not
all of them begin in the same set of the cache."""
VALUE_BYTES: int = 100

_CHUNK = 1 << 11  # requests timed at once: a fraction of a millisecond, so that few are interrupted
_FILL = 1 << 16  # sets made at once
_ITEM_BYTES = 160
_FRAME = np.frombuffer(bytes.fromhex("0001 0000 0001 0000"), np.uint8)
_START_S, _RUN_S = 20, 120
_TRIES = 5

Tell = Callable[[str], None]
Rows = NDArray[np.uint8]


@kernel
def answer_all(state: int, rows: int, stride: int, count: int, cells: int, asking: int) -> tuple[int, int]:
    """Receive and answer requests in bursts, with or without asking ahead; cycles, and bytes of answers.

    A request is a row of ``stride`` bytes, a multiple of 64, the first eight of which say how long it is; ``cells`` is
    memory for a burst.
    """
    view = ServerView(state)
    begun, answered, at = cycles(), 0, 0
    while at < count:
        burst = min(BURST, count - at)
        for i in range(burst):
            row = rows + (at + i) * stride + 8
            for part in range(0, stride, 64):
                copy64(cells + i * CELL_BYTES + part, row + part)
        if asking:
            for i in range(burst):
                ahead(view, cells + i * CELL_BYTES, load64(rows + (at + i) * stride))
        for i in range(burst):
            cell = cells + i * CELL_BYTES
            answered += serve(view, cell, load64(rows + (at + i) * stride), cell, 1472)
        at += burst
    return cycles() - begun, answered


def _keys(numbers: NDArray[np.int64]) -> Rows:
    """Keys as ``wirespeed load`` has them, a letter and 15 digits, one in each row."""
    tens = 10 ** np.arange(15, -1, -1, dtype=np.int64)
    found = (numbers[:, None] // tens % 10 + 48).astype(np.uint8)
    found[:, 0] = ord("k")
    return found


def _requests(parts: Sequence[bytes | Rows], count: int, stride: int) -> Rows:
    """Requests put together of parts, one in each row behind its length; 64 bytes more at the end."""
    wide = [np.broadcast_to(np.frombuffer(p, np.uint8), (count, len(p))) if isinstance(p, bytes) else p for p in parts]
    size = 8 + sum(part.shape[1] for part in wide)
    rows = np.zeros((count + 1, stride), np.uint8)
    rows[:count, :8] = np.frombuffer(size.to_bytes(8, "little"), np.uint8)
    rows[:count, 8 : 8 + size] = np.hstack([np.broadcast_to(_FRAME, (count, 8)), *wide])
    return rows


def gets(numbers: NDArray[np.int64], stride: int = 64) -> Rows:
    """A get for each key."""
    return _requests([b"get ", _keys(numbers), b"\r\n"], len(numbers), stride)


def sets(numbers: NDArray[np.int64]) -> Rows:
    """A set for each key."""
    value = b"v" * VALUE_BYTES + b"\r\n"
    return _requests([b"set ", _keys(numbers), b" 0 0 %d\r\n" % VALUE_BYTES, value], len(numbers), 192)


def _run(server: MemcachedServer, rows: Rows, first: int, count: int, cells: Rows, asking: bool) -> tuple[int, int]:
    stride = rows.strides[0]
    found: tuple[int, int] = answer_all(
        server.address, rows.ctypes.data + first * stride, stride, count, cells.ctypes.data, int(asking)
    )
    return found


def filled(server: MemcachedServer, keys: int) -> None:
    """Store keys 0 to ``keys`` - 1. Raises BenchError: not all of them went in."""
    cells = np.zeros(BURST * CELL_BYTES, np.uint8)
    for first in range(0, keys, _FILL):
        rows = sets(np.arange(first, min(first + _FILL, keys)))
        with lent(rows, cells):
            _run(server, rows, 0, len(rows) - 1, cells, True)
    stats = server.stats()
    if stats.curr_items != keys or stats.evictions:
        raise BenchError(f"{stats.curr_items} of {keys} keys are stored, {stats.evictions} gave way")


def measure(server: MemcachedServer, rows: Rows, asking: bool = True) -> float:
    """Cycles a request: the median of runs of a fraction of a millisecond."""
    cells, spent, count = np.zeros(BURST * CELL_BYTES, np.uint8), [], len(rows) - 1
    hits = server.stats().get_hits + server.stats().cmd_set
    with lent(rows, cells):
        for first in range(0, count, _CHUNK):
            took, _ = _run(server, rows, first, min(_CHUNK, count - first), cells, asking)
            spent.append(took / min(_CHUNK, count - first))
    done = server.stats().get_hits + server.stats().cmd_set - hits
    if done != count:
        raise BenchError(f"{done} of {count} requests were hits")
    return median(spent)


class Memcached:
    """memcached with one thread on loopback UDP, and memcaslap to ask it; each on a core of its own.

    Raises:
        BenchError: it does not answer.
    """

    def __init__(self) -> None:
        with socket.socket(type=socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.child = subprocess.Popen(
            ["taskset", "-c", "0", "memcached", "-U", str(self.port), "-p", "0", "-u", "nobody", "-l", "127.0.0.1",
             "-t", "1", "-m", "2048"], stderr=subprocess.DEVNULL,
        )  # fmt: skip
        until = time.monotonic() + _START_S
        while not self._answers():
            if self.child.poll() is not None or time.monotonic() > until:
                self.stop()
                raise BenchError("memcached does not answer")

    def _answers(self) -> bool:
        with socket.socket(type=socket.SOCK_DGRAM) as client:
            client.settimeout(0.1)
            try:
                client.connect(("127.0.0.1", self.port))
                client.send(_FRAME.tobytes() + b"version\r\n")
                return client.recv(64)[8:15] == b"VERSION"
            except OSError:
                return False

    def rate(self, seconds: int) -> float:
        """Answers a second. memcaslap now and then ends itself, by an assertion about the order of datagrams: a few
        times it is asked again."""
        command = ["taskset", "-c", "1", "memcaslap", "-s", f"127.0.0.1:{self.port}", "-U", "-T", "1", "-c", "64",
                   "-X", str(VALUE_BYTES), "-t", f"{seconds}s"]  # fmt: skip
        for _ in range(_TRIES):
            said = subprocess.run(command, capture_output=True, text=True, timeout=seconds + _RUN_S)
            found = re.search(r"TPS: (\d+)", said.stdout)
            if found is not None:
                return float(found[1])
        raise BenchError(f"memcaslap did not say how many requests a second: {(said.stderr or said.stdout)[-200:]}")

    def stop(self) -> None:
        """End it."""
        self.child.terminate()
        try:
            self.child.wait(30)
        finally:
            self.child.kill()


def rows(settings: Settings, tell: Tell) -> Sequence[Row]:
    """Measure every row."""
    keys, asked = (20_000, 1 << 13) if settings.quick else (KEYS, REQUESTS)
    chosen = np.random.default_rng(2026)
    there = shutil.which("memcached") and shutil.which("memcaslap")
    peer = Memcached() if there else None
    try:
        with MemcachedServer(max(keys * _ITEM_BYTES * 102 // 100, 4 << 20)) as server, MemcachedServer() as small:
            tell(f"{keys:,} keys")
            filled(server, keys)
            filled(small, 1000)
            random = chosen.integers(0, keys, asked)
            mixed = gets(random, 192)
            tenth = np.flatnonzero(np.arange(asked) % 10 == 9)
            mixed[tenth] = sets(random[tenth])[:-1]
            about = f"{keys:,} keys"
            kinds = {
                f"get, {about}, random": (server, gets(random), True),
                f"nine gets to a set, {about}, random": (server, mixed, True),
                f"get, {about}, random, without asking ahead": (server, gets(random), False),
                "get, 1,000 keys, in the cache": (small, gets(chosen.integers(0, 1000, 1 << 13)), True),
            }
            item_bytes = server.stats().memory_bytes / keys
            found = _measure(settings, tell, kinds, peer, item_bytes)
            if not settings.quick:  # another service to compile
                found += _over_memif(settings, tell, server, keys, peer)
            return found
    finally:
        if peer is not None:
            peer.stop()


def _measure(
    settings: Settings, tell: Tell, kinds: dict[str, Any], peer: Memcached | None, item_bytes: float
) -> list[Row]:
    turns: dict[str, list[float]] = {name: [] for name in kinds}
    theirs: list[float | None] = []
    for turn in range(settings.pairs):
        tell(f"turn {turn + 1} of {settings.pairs}")
        for name, kind in kinds.items():
            turns[name].append(measure(*kind))
        theirs.append(peer.rate(1 if settings.quick else 5) if peer is not None else None)
    found = []
    for name in list(kinds)[:2]:
        pairs = [Pair(tsc_hz() / took, other) for took, other in zip(turns[name], theirs, strict=True)]
        paired = summarise(pairs)
        found.append(Row.of("serve", f"memcached in memory: {name}", "requests/s", paired, "memcached, memcaslap"))
    found += [Row("serve", f"memcached in memory: {name}", "cycles", median(took)) for name, took in turns.items()]
    return [*found, Row("serve", "memcached: memory", "bytes/key", item_bytes)]


def _over_memif(
    settings: Settings, tell: Tell, server: MemcachedServer, keys: int, peer: Memcached | None
) -> list[Row]:
    found = []
    for name, ratio in {"get": "1:0", "nine gets to a set": "9:1"}.items():
        what = f"memcached over memif: {name}, {keys:,} keys, random"
        options = ["--keys", str(keys), "--ratio", ratio, "--value", str(VALUE_BYTES), "--no-fill"]
        turns, theirs = [], []
        for turn in range(settings.pairs):
            tell(f"{what}: turn {turn + 1} of {settings.pairs}")
            turns.append(
                over_memif(
                    lambda service: answer_memcached(service, server), "memcached", options, 2 * settings.seconds
                )
            )
            theirs.append(peer.rate(5) if peer is not None else None)
        pairs = [Pair(ours.rate, other) for ours, other in zip(turns, theirs, strict=True)]
        found.append(Row.of("serve", what, "requests/s", summarise(pairs), "memcached, memcaslap"))
        own = alone("memcached", options, settings.seconds)
        settings.notes.append(f"{what}: {shown(turns)}; the load alone sends {own / 1e6:.1f} M/s")
    return found


__all__ = ["Memcached", "answer_all", "filled", "gets", "measure", "rows", "sets"]

"""Network namespaces for tests: made with names of their own, always removed; and a wirespeed bridge between two.

::

    <pid>-l  eth0 ---- left   <pid>-m   right ---- eth0  <pid>-r
    10.77.0.1/24              (no address)               10.77.0.2/24
"""

import contextlib
import ctypes
import functools
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from wirespeed.jit import (
    COMPILED,
    inline,
    kernel,
    load64,
    load_acquire,
    read_bytes,
    store64,
    store_release,
    write_bytes,
)
from wirespeed.jit.libc import poll
from wirespeed.mem.descriptor import CHAINED, META, ROOM, CellHeader, address_of, header_of, length_of
from wirespeed.mem.pool import Cache, Pool, release
from wirespeed.mem.region import Region
from wirespeed.ports.netdev import look, within
from wirespeed.ports.port import Port, port

LEFT_ADDRESS, RIGHT_ADDRESS = "10.77.0.1", "10.77.0.2"
_DEADLINE_S = 120  # a cold compilation on a busy machine counts, too


def _sweep() -> None:
    """Remove what test runs that were killed have left."""
    for name in os.listdir("/run/netns") if os.path.isdir("/run/netns") else []:
        owner = re.fullmatch(r"wst-(\d+)-\w+", name)
        if owner and not os.path.exists(f"/proc/{owner[1]}"):
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def _why_not() -> str:
    if os.geteuid() != 0:
        return "needs root: network namespaces"
    if not shutil.which("ip"):
        return "needs the ip command (iproute2)"
    _sweep()
    made = subprocess.run(["ip", "netns", "add", f"wst-{os.getpid()}-try"], capture_output=True, text=True)
    subprocess.run(["ip", "netns", "del", f"wst-{os.getpid()}-try"], capture_output=True)
    return "" if made.returncode == 0 else f"no network namespaces here: {made.stderr.strip()}"


WHY_NOT = _why_not()
needs_namespaces = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "-")
needs_compiler = pytest.mark.skipif(not COMPILED, reason="too much traffic for an interpreted run")


def needs_program(name: str) -> pytest.MarkDecorator:
    """Skip where a program is missing."""
    return pytest.mark.skipif(not shutil.which(name), reason=f"needs {name}")


def eventually(condition: Callable[[], Any], what: str) -> Any:
    """Ask until the answer is true; fails the test after a deadline."""
    until = time.monotonic() + _DEADLINE_S
    while time.monotonic() < until:
        answer = condition()
        if answer:
            return answer
        time.sleep(0.002)
    raise AssertionError(f"not within {_DEADLINE_S} s: {what}")


class Space:
    """One network namespace."""

    def __init__(self, suffix: str) -> None:
        self.name = f"wst-{os.getpid()}-{suffix}"
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        self.run("ip", "link", "set", "lo", "up")
        self._running: list[subprocess.Popen[Any]] = []

    def run(self, *command: str, check: bool = True) -> str:
        """Run a command inside; its output."""
        inside = ["ip", "netns", "exec", self.name, *command]
        done = subprocess.run(inside, capture_output=True, text=True, timeout=120)
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def start(self, *command: str) -> "subprocess.Popen[str]":
        """Start a command inside; it ends with the namespace at the latest."""
        inside = ["ip", "netns", "exec", self.name, *command]
        process = subprocess.Popen(inside, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self._running.append(process)
        return process

    def open_socket(self, *kind: int) -> socket.socket:
        """A socket inside."""
        return within(self.name, lambda: socket.socket(*kind))

    def raw(self, interface: str = "eth0") -> socket.socket:
        """A packet socket inside, for literal frames."""
        made = self.open_socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        made.bind((interface, 3))
        made.settimeout(_DEADLINE_S)
        return made

    def statistic(self, interface: str, name: str) -> int:
        """A counter of /sys/class/net (ip netns exec mounts this namespace's)."""
        return int(self.run("cat", f"/sys/class/net/{interface}/statistics/{name}"))

    def running(self, interface: str) -> bool:
        """Whether an interface is up and the kernel says that it has a carrier."""
        found = within(self.name, lambda: look(interface))
        return found is not None and found.running

    def quiet(self, interface: str) -> None:
        """Keep the kernel from saying anything by itself there."""
        self.run("sh", "-c", f"echo 1 > /proc/sys/net/ipv6/conf/{interface}/disable_ipv6")

    def remove(self) -> None:
        """Stop what was started, and remove the namespace with its interfaces."""
        for process in self._running:
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()
        subprocess.run(["ip", "netns", "del", self.name], check=False)


@contextlib.contextmanager
def spaces(*suffixes: str) -> Iterator[list[Space]]:
    """Namespaces for the time of a with statement."""
    made: list[Space] = []
    try:
        for suffix in suffixes:
            made.append(Space(suffix))
        yield made
    finally:
        for space in made:
            space.remove()


def cable(host: Space, middle: Space, end: str, address: str) -> None:
    """A veth pair: ``eth0`` with an address in ``host``, ``end`` without one in ``middle``; both have a carrier.

    The kernel tells the carrier later than it is there, up to a second (linkwatch): events of a port that is opened
    before would begin with it.
    """
    link = ["ip", "link", "add", "eth0", "netns", host.name, "type", "veth", "peer", "name", end]
    subprocess.run([*link, "netns", middle.name], check=True)
    host.quiet("eth0")
    middle.quiet(end)
    host.run("ip", "address", "add", f"{address}/24", "dev", "eth0")
    host.run("ip", "link", "set", "eth0", "up")
    middle.run("ip", "link", "set", end, "up")
    eventually(lambda: host.running("eth0") and middle.running(end), "a carrier")


# A bridge of two ports -----------------------------------------------------------------------------------

VECTOR, BURST = 1024, 256
CONTROL = 8192  # stop, super-packets, chained packets, most bytes, not taken, running; two struct pollfd


@inline
def _watch(cells, vector, count, control):  # type: ignore[no-untyped-def]
    for i in range(count):
        desc = load64(vector + (i << 3))
        header = CellHeader(header_of(cells, desc))
        length = length_of(desc)
        if desc & META:
            if header.gso_size:
                store64(control + 8, load64(control + 8) + 1)
        if desc & CHAINED:
            store64(control + 16, load64(control + 16) + 1)
            length = header.length
        store64(control + 24, max(load64(control + 24), length))


@inline
def _drop(cache, vector, sent, count, control):  # type: ignore[no-untyped-def]
    if sent < count:
        store64(control + 32, load64(control + 32) + count - sent)
        release(Cache(cache), vector + (sent << 3), count - sent)


@inline
def _idle(moved, control, spins):  # type: ignore[no-untyped-def]
    if moved:
        return 0
    if spins > 500:
        poll(control + 64, 2, 5)
    return spins + 1


@functools.cache
def _bridging(receive: Callable[..., int], transmit: Callable[..., int]) -> Callable[..., None]:
    """The loop of a bridge between two ports of one driver."""

    @kernel
    def run(a_rx, a_tx, b_rx, b_tx, cache, vector, control):  # type: ignore[no-untyped-def]
        cells = Cache(cache).cells
        spins = 0
        store_release(control + 40, 1)
        while load_acquire(control) == 0:
            forth = receive(a_rx, cache, vector, BURST)
            if forth:
                _watch(cells, vector, forth, control)
                _drop(cache, vector, transmit(b_tx, cache, vector, forth), forth, control)
            back = receive(b_rx, cache, vector, BURST)
            if back:
                _watch(cells, vector, back, control)
                _drop(cache, vector, transmit(a_tx, cache, vector, back), back, control)
            spins = _idle(forth + back, control, spins)

    return run  # type: ignore[no-any-return]


class Bridge:
    """Two ports of one kind and a worker that carries packets between them until :meth:`close`."""

    def __init__(self, left: str, right: str) -> None:
        self.pool = Pool(4096, workers=1)
        self.ports: list[Port] = []
        self._memory = Region(CONTROL + VECTOR * 8, "test-bridge", huge=False)
        self.control = self._memory.address
        try:
            for spec in (left, right):
                made = port(spec)
                made.open(self.pool, 1, 1)
                self.ports.append(made)
        except BaseException:
            self.close()
            raise
        a, b = self.ports
        for place, made in ((64, a), (72, b)):
            write_bytes(self.control + place, bytes(ctypes.c_int32(made.descriptors(0)[0])) + b"\1\0\0\0")
        arguments = (a.rx[0], a.tx[0], b.rx[0], b.tx[0], self.pool.cache(0), self.control + CONTROL, self.control)
        self._worker = threading.Thread(target=_bridging(a.receive, a.transmit), args=arguments)
        self._worker.start()
        eventually(lambda: load_acquire(self.control + 40), "the worker to run")

    @property
    def super_packets(self) -> int:
        """Packets that crossed with their segmentation still to be done."""
        return load64(self.control + 8)

    @property
    def chained(self) -> int:
        """Packets of several cells."""
        return load64(self.control + 16)

    @property
    def longest(self) -> int:
        """Bytes of the longest packet."""
        return load64(self.control + 24)

    @property
    def not_taken(self) -> int:
        """Packets for which the other side had no room."""
        return load64(self.control + 32)

    def close(self) -> None:
        """Stop the worker, close the ports; every cell must be back."""
        if not self._memory.address:
            return
        if len(self.ports) == 2:
            store_release(self.control, 1)
            self._worker.join()
        for made in self.ports:
            made.close()
        in_use = self.pool.in_use
        self._memory.close()
        self.pool.close()
        assert in_use == 0


@contextlib.contextmanager
def bridge(left: str, right: str) -> Iterator[Bridge]:
    """A bridge for the time of a with statement."""
    made = Bridge(left, right)
    try:
        yield made
    finally:
        made.close()


class Hand:
    """One port moved by hand from plain Python: bytes in, bytes out."""

    def __init__(self, spec: str, queues: int = 1) -> None:
        self.pool = Pool(4096, workers=1)
        self.port = port(spec)
        self._memory = Region(4096, "test-hand", huge=False)
        try:
            self.port.open(self.pool, queues, queues)
            self.port.begin()
        except BaseException:
            self.pool.close()
            self._memory.close()
            raise
        self._receive, self._transmit = _calling(self.port.receive), _calling(self.port.transmit)

    def receive(self, queue: int = 0, room: int = 64) -> list[tuple[bytes, dict[str, int]]]:
        """What is there now: each frame, and its offload fields ({} for a plain packet)."""
        vector = self._memory.address
        got = self._receive(self.port.rx[queue], self.pool.cache(0), vector, room)
        found = [self._read(load64(vector + i * 8)) for i in range(got)]
        _free(self.pool.cache(0), vector, got)
        return found

    def _read(self, desc: int) -> tuple[bytes, dict[str, int]]:
        line = CellHeader(header_of(self.pool.cells, desc))
        names = ("gso_size", "gso_type", "checksum_state", "checksum_start", "checksum_offset", "headers_length")
        meta = {name: getattr(line, name) for name in names} if desc & META else {}
        data, total = b"", line.length if desc & CHAINED else length_of(desc)
        while True:
            data += read_bytes(address_of(self.pool.cells, desc), length_of(desc))
            if not desc & CHAINED:
                break
            desc = CellHeader(header_of(self.pool.cells, desc)).next
        assert len(data) == total
        return data, meta

    def send(self, *frames: bytes, pieces: int = 1 << 16, meta: dict[str, int] | None = None) -> int:
        """Transmit frames, each cut over cells of at most ``pieces`` bytes; how many were taken."""
        vector = self._memory.address
        for i, frame in enumerate(frames):
            store64(vector + i * 8, self._write(frame, min(pieces, ROOM), meta))
        sent = int(self._transmit(self.port.tx[0], self.pool.cache(0), vector, len(frames)))
        _free(self.pool.cache(0), vector + sent * 8, len(frames) - sent)
        return sent

    def _write(self, frame: bytes, piece: int, meta: dict[str, int] | None) -> int:
        parts = [frame[at : at + piece] for at in range(0, len(frame), piece)] or [b""]
        following = 0
        for part in reversed(parts):
            assert self.pool.take(self._memory.address + 2048, 1) == 1
            desc = load64(self._memory.address + 2048) | len(part) << 48
            write_bytes(address_of(self.pool.cells, desc), part)
            line = CellHeader(header_of(self.pool.cells, desc))
            line.next, line.length = following, len(frame)
            following = desc | (CHAINED if following else 0)
        if meta is not None:
            for name in ("gso_size", "gso_type", "checksum_state"):
                setattr(line, name, 0)
            for name, value in meta.items():
                setattr(line, name, value)
            following |= META
        return following

    def close(self) -> None:
        """Close the port; every cell must be back."""
        self.port.close()
        in_use = self.pool.in_use
        self._memory.close()
        self.pool.close()
        assert in_use == 0


@functools.cache
def _calling(function: Callable[..., int]) -> Callable[..., int]:
    """A kernel that calls a driver's function once."""

    @kernel
    def call(queue, cache, vector, count):  # type: ignore[no-untyped-def]
        return function(queue, cache, vector, count)

    return call  # type: ignore[no-any-return]


@kernel
def _free(cache, vector, count):  # type: ignore[no-untyped-def]
    release(Cache(cache), vector, count)


@contextlib.contextmanager
def hand(spec: str, queues: int = 1) -> Iterator[Hand]:
    """A port by hand for the time of a with statement."""
    made = Hand(spec, queues)
    try:
        yield made
    finally:
        made.close()

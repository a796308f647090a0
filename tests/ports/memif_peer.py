"""A memif peer written without the driver: sockets, memfds and structs, so that it can do what nobody should.

The layouts are written down here a second time, from libmemif's memif.h, and not taken from what is tested.
"""

import array
import contextlib
import ctypes
import fcntl
import mmap
import os
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any

from netns import eventually

COOKIE, MASK = 0x3E31F20, 1
ACK, HELLO, INIT, ADD_REGION, ADD_RING, CONNECT, CONNECTED, DISCONNECT = range(1, 9)
_DEADLINE_S = 30


def message(kind: int, layout: str = "", *values: Any) -> bytes:
    """A message of 128 bytes."""
    return struct.pack("<H" + layout, kind, *values).ljust(128, b"\0")


def hello(
    low: int = 0x200, high: int = 0x200, regions: int = 255, m2s: int = 255, s2m: int = 255, log2: int = 14
) -> bytes:
    return message(HELLO, "32s5HB", b"raw", low, high, regions, m2s, s2m, log2)


def init(number: int = 0, version: int = 0x200, mode: int = 0, secret: bytes = b"") -> bytes:
    return message(INIT, "HIB24s32s", version, number, mode, secret, b"raw")


def add_region(index: int, size: int) -> bytes:
    return message(ADD_REGION, "HQ", index, size)


def add_ring(s2m: bool, index: int, offset: int, log2: int, region: int = 0) -> bytes:
    return message(ADD_RING, "HHHIBH", int(s2m), index, region, offset, log2, 0)


class Line:
    """One end of a connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        sock.settimeout(_DEADLINE_S)
        self.fds: list[int] = []

    def send(self, data: bytes, *descriptors: int) -> None:
        control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        self.socket.sendmsg([data], control)

    def receive(self) -> tuple[int, bytes]:
        """Kind and body of the next message; (0, b"") when the other side has hung up. Keeps descriptors."""
        try:
            data, control, _, _ = self.socket.recvmsg(256, socket.CMSG_SPACE(32))
        except ConnectionResetError:
            return 0, b""
        for _, _, payload in control:
            self.fds += array.array("i", payload)
        return (int.from_bytes(data[:2], "little"), data[2:]) if data else (0, b"")

    def expect(self, kind: int) -> bytes:
        got, body = self.receive()
        assert got == kind, (got, body)
        return body

    def refused(self) -> str:
        """Wait for the end; the reason that was given."""
        reason = ""
        while True:
            kind, body = self.receive()
            if kind == 0:
                return reason
            if kind == DISCONNECT:
                reason = body[4:100].rstrip(b"\0").decode()

    def close(self) -> None:
        self.socket.close()
        for fd in self.fds:
            os.close(fd)
        self.fds = []


class Memory:
    """A memfd, mapped."""

    def __init__(self, size: int, fd: int = -1, seal: bool = True) -> None:
        self.fd = fd
        if fd < 0:
            self.fd = os.memfd_create("raw", os.MFD_ALLOW_SEALING)
            os.ftruncate(self.fd, size)
            if seal:
                fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        self.size = size
        self.map = mmap.mmap(self.fd, size)

    def put(self, at: int, layout: str, *values: int) -> None:
        struct.pack_into("<" + layout, self.map, at, *values)

    def get(self, at: int, layout: str) -> tuple[Any, ...]:
        return struct.unpack_from("<" + layout, self.map, at)

    def close(self) -> None:
        self.map.close()


class Ring:
    """A ring in a memory."""

    def __init__(self, memory: Memory, offset: int, log2: int) -> None:
        self.memory, self.offset, self.slots = memory, offset, 1 << log2

    def format(self, cookie: int = COOKIE) -> None:
        self.memory.put(self.offset, "IHH", cookie, 0, 0)
        self.memory.put(self.offset + 64, "H", 0)

    def slot(self, index: int, length: int, offset: int, flags: int = 0, region: int = 0) -> None:
        self.memory.put(self.offset + 128 + 16 * (index % self.slots), "HHIII", flags, region, length, offset, 0)

    def read_slot(self, index: int) -> tuple[int, int, int, int]:
        """flags, region, length, offset."""
        return self.memory.get(self.offset + 128 + 16 * (index % self.slots), "HHII")  # type: ignore[return-value]

    @property
    def head(self) -> int:
        return int(self.memory.get(self.offset + 6, "H")[0])

    @head.setter
    def head(self, value: int) -> None:
        self.memory.put(self.offset + 6, "H", value & 0xFFFF)

    @property
    def tail(self) -> int:
        return int(self.memory.get(self.offset + 64, "H")[0])

    @tail.setter
    def tail(self, value: int) -> None:
        self.memory.put(self.offset + 64, "H", value & 0xFFFF)

    @property
    def flags(self) -> int:
        return int(self.memory.get(self.offset + 4, "H")[0])

    @flags.setter
    def flags(self, value: int) -> None:
        self.memory.put(self.offset + 4, "H", value)


class RawClient:
    """A client: memory with an S2M and an M2S ring of 16 slots, and buffers from ``BUFFERS`` on."""

    LOG2, BUFFERS, BUFFER = 4, 4096, 2048
    SIZE = BUFFERS + 32 * BUFFER

    def __init__(self, address: str, seal: bool = True) -> None:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        made.connect(address)
        self.line = Line(made)
        self.memory = Memory(self.SIZE, seal=seal)
        self.out, self.back = Ring(self.memory, 0, self.LOG2), Ring(self.memory, 2048, self.LOG2)
        self.bells = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(2)]
        for index in range(16):
            self.out.slot(index, self.BUFFER, self.buffer(index))
            self.back.slot(index, self.BUFFER, self.buffer(16 + index))
        self.out.format()
        self.back.format()

    def buffer(self, index: int) -> int:
        return self.BUFFERS + index * self.BUFFER

    def greet(self, **changes: Any) -> None:
        self.line.expect(HELLO)
        self.line.send(init(**changes))

    def connect(self, **changes: Any) -> "RawClient":
        """All of it, as it should be."""
        self.greet(**changes)
        self.line.expect(ACK)
        self.line.send(add_region(0, self.SIZE), self.memory.fd)
        self.line.expect(ACK)
        for number, ring in enumerate((self.out, self.back)):
            self.line.send(add_ring(number == 0, 0, ring.offset, self.LOG2), self.bells[number])
            self.line.expect(ACK)
        self.line.send(message(CONNECT, "32s", b"raw0"))
        self.line.expect(CONNECTED)
        self.back.head = 16
        return self

    def put(self, index: int, data: bytes) -> None:
        """Fill a buffer of the S2M ring and its slot."""
        self.memory.map[self.buffer(index % 16) : self.buffer(index % 16) + len(data)] = data
        self.out.slot(index, len(data), self.buffer(index % 16))

    def close(self) -> None:
        self.line.close()
        self.memory.close()
        os.close(self.memory.fd)
        for bell in self.bells:
            os.close(bell)


class RawServer:
    """A server of one connection: accepts what a client says."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.bind(address)
        self.socket.listen(4)
        self.socket.settimeout(_DEADLINE_S)
        self.rings: dict[tuple[int, int], Ring] = {}
        self.bells: dict[tuple[int, int], int] = {}
        self.line: Line | None = None
        self.memory: Memory | None = None
        self.regions: list[Memory] = []

    def accept(self) -> Line:
        self.line = Line(self.socket.accept()[0])
        return self.line

    def connect(self, greeting: bytes | None = None) -> "RawServer":
        """Accept a client and all that it says."""
        line = self.accept()
        line.send(greeting or hello())
        while True:
            kind, body = line.receive()
            if kind == ADD_REGION:
                _, size = struct.unpack_from("<HQ", body)
                self.regions.append(Memory(size, line.fds[-1]))
                self.memory = self.regions[0]
            elif kind == ADD_RING:
                flags, index, region, offset, log2, _ = struct.unpack_from("<HHHIBH", body)
                assert self.memory is not None and region == 0
                self.rings[flags & 1, index] = Ring(self.memory, offset, log2)
                self.bells[flags & 1, index] = line.fds[-1]
            elif kind == CONNECT:
                for ring in self.rings.values():
                    ring.head = ring.tail = 0  # as DPDK does
                line.send(message(CONNECTED, "32s", b"raw1"))
                return self
            else:
                assert kind == INIT, (kind, body)
            line.send(message(ACK))

    def close(self) -> None:
        for region in self.regions:
            region.close()
        if self.line is not None:
            self.line.close()
        self.socket.close()


def up(*ports: Any) -> None:
    """Wait until the ports are connected."""
    eventually(lambda: all(port.link().up for port in ports), f"a connection: {[str(p.link()) for p in ports]}")


def event(port: Any, kind: str, after: int = 0) -> str:
    """Wait for an event; its text."""

    def found() -> Any:
        return next((each for each in port.events.since(after) if each.kind == kind), None)

    return str(eventually(found, f"an event {kind!r}").text)


@contextlib.contextmanager
def closing(*things: Any) -> Any:
    """Close them all, the last one first."""
    with contextlib.ExitStack() as stack:
        for thing in things:
            stack.callback(thing.close)
        yield things[0] if len(things) == 1 else things


def graceful(worker: Any, *ports: Any) -> None:
    """What a graph's grace periods do: nothing is unmapped while this worker is inside a port."""
    inside = threading.Lock()

    def apart(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            with inside:
                return function(*arguments)

        return call

    worker.burst, worker.send = apart(worker.burst), apart(worker.send)
    for each in ports:
        each.quiesce = apart(lambda: None)


def address_of_map(memory: Memory) -> int:
    """Where a memory is mapped here."""
    return ctypes.addressof(ctypes.c_char.from_buffer(memory.map))


Made = Callable[..., Any]

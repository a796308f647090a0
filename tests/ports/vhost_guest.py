"""A guest for vhost-user tests: memory, rings and a front end, played by plain Python a byte at a time.

::

    0           rings, RING_BYTES each: descriptors, then the driver's area, then the device's
    BUFFERS     what packets are put in; handed out in order, round and round
"""

import itertools
import mmap
import os
import socket
import struct
import time
from typing import Any

from wirespeed.ports.vhost.channel import Channel
from wirespeed.ports.vhost.messages import (
    NEED_REPLY,
    VERSION,
    MemoryRegion,
    Message,
    Request,
    VringAddress,
    VringState,
    pack_memory,
    pack_u64,
    pack_vring_fd,
    unpack_u64,
)
from wirespeed.ports.virtio.features import Feature, ProtocolFeature

NEXT, WRITE, INDIRECT, AVAIL, USED = 1, 2, 4, 1 << 7, 1 << 15
SIZE, RING_BYTES, BUFFERS = 1 << 21, 1 << 14, 1 << 18
GUEST, USER = 1 << 32, 0x7000_0000_0000
ENTRIES = 64
BASIC = Feature.VERSION_1 | Feature.PROTOCOL_FEATURES | Feature.INDIRECT_DESC
PLAIN = bytes(10) + b"\1\0"
"""The virtio-net header that says nothing, as a device writes it: one buffer."""


class SplitRing:
    """A split virtqueue, driver's side."""

    packed = False

    def __init__(self, guest: "Guest", index: int, entries: int = ENTRIES) -> None:
        self.guest, self.index, self.entries = guest, index, entries
        self.at = index * RING_BYTES
        self.driver, self.device = self.at + entries * 16, self.at + entries * 24
        self.free = list(range(entries))
        self.offered = self.seen = 0
        self.chains: dict[int, list[tuple[int, int, int]]] = {}
        self._entries: dict[int, list[int]] = {}
        self.lumped = guest.features & Feature.IN_ORDER and index & 1
        guest.write(self.at, bytes(RING_BYTES))

    base = 0

    def put(self, entry: int, address: int, length: int, flags: int, following: int = 0) -> None:
        self.guest.write(self.at + entry * 16, struct.pack("<QIHH", address, length, flags, following))

    def offer(self, *parts: tuple[int, int, int]) -> int:
        """Make a chain of (guest address, length, WRITE or 0 or INDIRECT) available; its id."""
        entries = [self.free.pop(0) for _ in parts]
        for i, (address, length, flags) in enumerate(parts):
            last = i == len(parts) - 1
            self.put(entries[i], address, length, flags | (0 if last else NEXT), 0 if last else entries[i + 1])
        self.chains[entries[0]] = list(parts)
        self._entries[entries[0]] = entries
        self.announce(entries[0])
        return entries[0]

    def announce(self, head: int) -> None:
        self.guest.write(self.driver + 4 + self.offered % self.entries * 2, struct.pack("<H", head))
        self.offered += 1
        self.guest.write(self.driver + 2, struct.pack("<H", self.offered & 0xFFFF))

    def used(self) -> list[tuple[int, int]]:
        """(id, length) of what came back since."""
        (idx,) = struct.unpack("<H", self.guest.read(self.device + 2, 2))
        found = []
        while self.seen & 0xFFFF != idx:
            at = self.device + 4 + self.seen % self.entries * 8
            head, length = struct.unpack("<II", self.guest.read(at, 8))
            order = list(self._entries)
            batch = order[: order.index(head) + 1] if self.lumped else [head]  # one entry for several (section 2.7.9)
            for each in batch:
                self.free += self._entries.pop(each)
                self.seen += 1
                found.append((each, length))
        return found

    def suppress(self, on: bool) -> None:
        """Ask not to be told."""
        self.guest.write(self.driver, struct.pack("<H", on))

    @property
    def wants_kicks(self) -> bool:
        return not struct.unpack("<H", self.guest.read(self.device, 2))[0]


class PackedRing:
    """A packed virtqueue, driver's side."""

    packed = True
    base = 1 << 15 | 1 << 31

    def __init__(self, guest: "Guest", index: int, entries: int = ENTRIES) -> None:
        self.guest, self.index, self.entries = guest, index, entries
        self.at = index * RING_BYTES
        self.driver, self.device = self.at + entries * 16, self.at + entries * 16 + 64
        self.next, self.wrap, self.taken, self.taken_wrap = 0, 1, 0, 1
        self.chains: dict[int, list[tuple[int, int, int]]] = {}
        self.spans: dict[int, int] = {}
        self.ids = 0
        guest.write(self.at, bytes(RING_BYTES))

    def offer(self, *parts: tuple[int, int, int]) -> int:
        """Make a chain of (guest address, length, WRITE or 0 or INDIRECT) available; its id."""
        self.ids = (self.ids + 1) & 0x7FFF
        written = []
        for i, (address, length, flags) in enumerate(parts):
            flags |= (NEXT if i < len(parts) - 1 else 0) | (AVAIL if self.wrap else USED)
            written.append((self.at + self.next * 16, struct.pack("<QIHH", address, length, self.ids, flags)))
            self.next += 1
            if self.next == self.entries:
                self.next, self.wrap = 0, self.wrap ^ 1
        for at, data in reversed(written):
            self.guest.write(at, data)
        self.chains[self.ids], self.spans[self.ids] = list(parts), len(parts)
        return self.ids

    def used(self) -> list[tuple[int, int]]:
        """(id, length) of what came back since."""
        found = []
        while True:
            _, length, number, flags = struct.unpack("<QIHH", self.guest.read(self.at + self.taken * 16, 16))
            both = AVAIL | USED if self.taken_wrap else 0
            if flags & (AVAIL | USED) != both or number not in self.spans:
                return found
            order = list(self.spans)
            for each in order[: order.index(number) + 1]:  # one for several, if they are used in order (section 2.8.9)
                found.append((each, length))
                self.taken += self.spans.pop(each)
                if self.taken >= self.entries:
                    self.taken, self.taken_wrap = self.taken - self.entries, self.taken_wrap ^ 1

    def suppress(self, on: bool) -> None:
        """Ask not to be told."""
        self.guest.write(self.driver + 2, struct.pack("<H", on))

    @property
    def wants_kicks(self) -> bool:
        return struct.unpack("<H", self.guest.read(self.device + 2, 2))[0] != 1


class Guest:
    """A machine with one piece of memory and a front end that speaks for it."""

    def __init__(self, path: str, features: int = BASIC, pairs: int = 1, entries: int = ENTRIES) -> None:
        self.fd = os.memfd_create("test-guest", os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, SIZE)
        self.memory = mmap.mmap(self.fd, SIZE)
        self.features, self.pairs, self.entries = features, pairs, entries
        self.cursor = BUFFERS
        self.fds = [self.fd]
        self.rings: list[Any] = []
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connected.connect(path)
        self.channel = Channel(connected)

    # Memory ----------------------------------------------------------------------------------------------

    def write(self, at: int, data: bytes) -> None:
        self.memory[at : at + len(data)] = data

    def read(self, at: int, size: int) -> bytes:
        return self.memory[at : at + size]

    def buffer(self, size: int, data: bytes = b"") -> int:
        """Guest address of a fresh buffer."""
        if self.cursor + size > SIZE:
            self.cursor = BUFFERS
        at, self.cursor = self.cursor, self.cursor + -(-size // 64) * 64
        self.write(at, data.ljust(size, b"\xee"))
        return GUEST + at

    def region(self) -> MemoryRegion:
        return MemoryRegion(GUEST, SIZE, USER, 0)

    # Messages --------------------------------------------------------------------------------------------

    def tell(self, request: int, payload: bytes = b"", *fds: int) -> int:
        """A request whose success is asked for: 0 if it could be done."""
        message = Message(request, payload, fds, VERSION | NEED_REPLY)
        return unpack_u64(self.channel.ask(message).payload)

    def ask(self, request: int, payload: bytes = b"") -> bytes:
        return self.channel.ask(Message(request, payload)).payload

    def start(self) -> "Guest":
        """Everything a driver does until packets can flow."""
        self.agree()
        self.tell(Request.SET_MEM_TABLE, pack_memory([self.region()]), self.fd)
        for index in range(2 * self.pairs):
            self.set_up(index)
        return self

    def agree(self) -> None:
        offered = unpack_u64(self.ask(Request.GET_FEATURES))
        assert not self.features & ~offered
        protocol = unpack_u64(self.ask(Request.GET_PROTOCOL_FEATURES)) & ~ProtocolFeature.STATUS
        self.channel.send(Message(Request.SET_PROTOCOL_FEATURES, pack_u64(protocol)))
        self.tell(Request.SET_OWNER)
        self.tell(Request.SET_FEATURES, pack_u64(self.features))

    def set_up(self, index: int, enable: bool = True) -> None:
        """A ring of our own choice, told to the back end piece by piece."""
        kind = PackedRing if self.features & Feature.RING_PACKED else SplitRing
        ring: Any = kind(self, index, self.entries)
        self.rings.append(ring)
        ring.kick, ring.call, ring.err = (os.eventfd(0, os.EFD_NONBLOCK) for _ in range(3))
        self.fds += [ring.kick, ring.call, ring.err]
        self.tell(Request.SET_VRING_NUM, VringState(index, ring.entries).pack())
        self.tell(Request.SET_VRING_BASE, VringState(index, ring.base).pack())
        self.tell(Request.SET_VRING_ADDR, self.address(ring).pack())
        self.tell(Request.SET_VRING_CALL, pack_vring_fd(index), ring.call)
        self.tell(Request.SET_VRING_ERR, pack_vring_fd(index), ring.err)
        self.tell(Request.SET_VRING_KICK, pack_vring_fd(index), ring.kick)
        self.tell(Request.SET_VRING_ENABLE, VringState(index, int(enable)).pack())

    def address(self, ring: Any) -> VringAddress:
        return VringAddress(ring.index, USER + ring.at, USER + ring.device, USER + ring.driver)

    # Packets ---------------------------------------------------------------------------------------------

    def send(self, frame: bytes, cuts: tuple[int, ...] = (), indirect: bool = False, header: bytes = PLAIN) -> None:
        """Give the device a frame, its descriptors cut at these bytes of header and frame."""
        data = header + frame
        edges = [0, *[cut for cut in cuts if cut < len(data)], len(data)]
        parts = [(self.buffer(max(1, b - a), data[a:b]), b - a, 0) for a, b in itertools.pairwise(edges)]
        self.rings[1].offer(*(self.table(parts) if indirect else parts))

    def table(self, parts: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
        """The same parts behind one indirect descriptor."""
        packed = self.rings[0].packed
        data = b""
        for i, (address, length, flags) in enumerate(parts):
            last = i == len(parts) - 1
            more = (0, flags) if packed else (flags | (0 if last else NEXT), 0 if last else i + 1)
            data += struct.pack("<QIHH", address, length, *more)
        return [(self.buffer(len(data), data), len(data), INDIRECT)]

    def give(self, *sizes: int, indirect: bool = False) -> int:
        """Give the device a chain of buffers to receive into."""
        parts = [(self.buffer(size), size, WRITE) for size in sizes]
        chain = self.table(parts) if indirect else parts
        number = self.rings[0].offer(*chain)
        self.rings[0].chains[number] = parts
        return int(number)

    def received(self) -> list[tuple[bytes, bytes]]:
        """(virtio-net header, frame) of what came, buffers merged as the headers say."""
        pieces = [
            b"".join(self.read(address - GUEST, length) for address, length, _ in self.rings[0].chains[number])[:size]
            for number, size in self.rings[0].used()
        ]
        found = []
        while pieces:
            (count,) = struct.unpack("<H", pieces[0][10:12])
            whole, pieces = b"".join(pieces[:count]), pieces[count:]
            found.append((whole[:12], whole[12:]))
        return found

    def called(self, index: int) -> bool:
        """Whether a ring's call descriptor was signalled since."""
        try:
            return bool(os.eventfd_read(self.rings[index].call))
        except BlockingIOError:
            return False

    def leave(self) -> None:
        """Close the connection, and the memory with it."""
        self.channel.close()
        self.memory.close()
        for fd in self.fds:
            os.close(fd)
        self.fds = []


def eventually(condition: Any, what: str) -> Any:
    """Ask until the answer is true; fails the test after a deadline."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if answer := condition():
            return answer
        time.sleep(0.001)
    raise AssertionError(f"not within a minute: {what}")

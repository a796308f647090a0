"""The client of a memif connection: it makes the memory, asks, and asks again when the server is gone."""

import contextlib
import os
import socket
from collections import deque

from wirespeed.errors import ArenaError
from wirespeed.mem.pool import Pool
from wirespeed.ports.attendant import Attendant
from wirespeed.ports.memif.channel import Channel
from wirespeed.ports.memif.memory import Arena, OwnRegion
from wirespeed.ports.memif.messages import (
    ETHERNET,
    TO_SERVER,
    VERSION,
    Ack,
    AddRegion,
    AddRing,
    Connect,
    Connected,
    Hello,
    Init,
    Message,
    Refusal,
    text,
)
from wirespeed.ports.memif.session import Owner, Session, Way
from wirespeed.ports.memif.zero_copy import SHORT


class ClientSession(Session):
    """A connection to a server.

    Args:
        init: says what we want.
        wanted: how many rings to the server and back we have queues for.
        log2: slots of a ring, as a power of two.
        buffer: bytes of a buffer, where packets are copied.
        arena: the pool, to have its cells in the rings instead.
        must: refuse a server with which that cannot be.

    Attributes:
        lends: whether cells are in the rings.
    """

    def __init__(
        self,
        channel: Channel,
        attendant: Attendant,
        owner: Owner,
        init: Init,
        wanted: tuple[int, int],
        log2: int,
        buffer: int,
        arena: Pool | None,
        must: bool,
    ) -> None:
        super().__init__(channel, attendant, owner)
        self._init, self._wanted, self._log2, self._buffer = init, wanted, log2, buffer
        self._arena, self._must = arena, must
        self.lends = False
        self._to_say: deque[tuple[Message, int | None]] = deque()
        self._greeted = self._connected = False

    def handle(self, message: Message, descriptor: int) -> None:
        """The server answers."""
        if isinstance(message, Hello) and not self._greeted:
            self._greeted = True
            self._hello(message)
            self._say()
        elif isinstance(message, Ack) and self._to_say:
            self._say()
        elif isinstance(message, Connected) and self._greeted and not self._to_say and not self._connected:
            self._connected = True
            self.owner.joined(self)
        else:
            if descriptor >= 0:
                os.close(descriptor)
            raise Refusal(f"{type(message).__name__} out of turn")

    def _say(self) -> None:
        self.channel.send(*self._to_say.popleft())

    def _hello(self, hello: Hello) -> None:
        if not hello.min_version <= VERSION <= hello.max_version:
            raise Refusal(f"it speaks versions {hello.min_version:#x} to {hello.max_version:#x}, not {VERSION:#x}")
        self.peer = text(hello.name)
        log2 = min(self._log2, hello.max_log2_ring_size)
        if log2 < 1:
            raise Refusal(f"rings of at most {1 << hello.max_log2_ring_size} slots")
        counts = min(self._wanted[0], hello.max_s2m_ring + 1), min(self._wanted[1], hello.max_m2s_ring + 1)
        self.lends = self._arena is not None and hello.max_region > 0
        if self._must and not self.lends:
            raise Refusal("it takes one region only, and zero_copy=on needs two")
        try:
            region = OwnRegion(sum(counts), log2, SHORT if self.lends else self._buffer)
        except ArenaError as error:
            raise Refusal(str(error)) from None
        self.regions.append(region)
        if self.lends and self._arena is not None:
            self.regions.append(Arena(self._arena))
        self._to_say.append((self._init, None))
        self._to_say += [(AddRegion(index, each.size), each.fd) for index, each in enumerate(self.regions)]
        ring = 0
        for ways, count, flags in ((self.to_server, counts[0], TO_SERVER), (self.to_client, counts[1], 0)):
            for index in range(count):
                bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
                place = region.address + region.offset(ring)
                ways[index] = Way(place, log2, bell, region.first(ring), region.pitch, region.capacity, int(self.lends))
                self._to_say.append((AddRing(flags, index, 0, region.offset(ring), log2, 0), bell))
                ring += 1
        self._to_say.append((Connect(self._init.name), None))


def reach(address: str) -> Channel:
    """Connect to a listening server.

    Raises:
        OSError: nobody listens there.
    """
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    try:
        made.setblocking(False)
        made.connect(address)
    except OSError:
        with contextlib.suppress(OSError):
            made.close()
        raise
    return Channel(made)


def ask(id_number: int, secret: bytes, name: bytes) -> Init:
    """The message that says what we want."""
    return Init(VERSION, id_number, ETHERNET, secret, name)


__all__ = ["ClientSession", "ask", "reach"]

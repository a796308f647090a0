"""A memif connection, of either role, from the first message to the last.

A session owns what the connection needs (the socket, regions, eventfds) and gives it all back in :meth:`Session.end`;
the port owns the queue records that workers read. Between the two stand :class:`Way`, all there is to know of one
ring, and ``joined``: what is written into a queue record before it says ``live``.
"""

import contextlib
import os
from dataclasses import dataclass
from typing import Protocol

from wirespeed.jit import store64
from wirespeed.ports.attendant import Attendant
from wirespeed.ports.memif.channel import Channel, Gone
from wirespeed.ports.memif.memory import LentRegion, OwnRegion
from wirespeed.ports.memif.messages import Disconnect, Message, Refusal, text
from wirespeed.ports.memif.ring import GOOD, MASK_INTERRUPT, RING_BYTES, MemifQueue, Ring

_HEAD, _TAIL, _FLAGS = Ring.head.offset, Ring.tail.offset, Ring.flags.offset
_MOST_MESSAGES = 64  # handled in a row before others get a turn


@dataclass
class Way:
    """One ring: address, slots as a power of two, the eventfd of its receiver; a client's buffers."""

    address: int
    log2: int
    bell: int
    first: int = 0
    pitch: int = 0
    capacity: int = 0


class Owner(Protocol):
    """What a session asks of its port."""

    def joined(self, session: "Session") -> None:
        """Packets may pass."""

    def parted(self, session: "Session", kind: str, reason: str) -> None:
        """The connection is over: ``disconnected``, or ``refused`` if the peer broke the rules."""


class Session:
    """One connection.

    Attributes:
        to_server, to_client: rings by their index (S2M and M2S).
        peer: what the other side calls itself.
    """

    def __init__(self, channel: Channel, attendant: Attendant, owner: Owner) -> None:
        self.channel, self.attendant, self.owner = channel, attendant, owner
        self.to_server: dict[int, Way] = {}
        self.to_client: dict[int, Way] = {}
        self.regions: list[LentRegion | OwnRegion] = []
        self.peer = ""
        self.over = False
        attendant.watch(channel.fd, self.readable)

    def readable(self) -> None:
        """There are messages, or the peer has left."""
        try:
            for _ in range(_MOST_MESSAGES):
                received = None if self.over else self.channel.receive()
                if received is None:
                    return
                message, descriptor = received
                if isinstance(message, Disconnect):
                    raise Gone(text(message.reason) or "it said so without a reason")
                self.handle(message, descriptor)
        except Refusal as refusal:
            self.end("refused", str(refusal))
        except Gone as gone:
            self.end("disconnected", str(gone) or "it left", tell=False)

    def handle(self, message: Message, descriptor: int) -> None:
        """A message from the peer; the descriptor is ours."""
        raise NotImplementedError

    def ways(self) -> list[Way]:
        """All rings."""
        return [*self.to_server.values(), *self.to_client.values()]

    def end(self, kind: str, reason: str, tell: bool = True) -> None:
        """It is over: stop the packets, tell the peer unless it left by itself, give everything back."""
        if self.over:
            return
        self.over = True
        self.attendant.forget(self.channel.fd)
        self.channel.close(reason if tell else "")
        self.owner.parted(self, kind, reason)

    def release(self) -> None:
        """Nobody uses its memory any more."""
        for way in self.ways():
            if way.bell >= 0:
                os.close(way.bell)
        for region in self.regions:
            region.close()
        self.to_server, self.to_client, self.regions = {}, {}, []

    def unblock(self) -> None:
        """Let a worker go on that hangs in ringing a bell: the peer has made its eventfd blocking, and filled it."""
        for way in self.ways():
            with contextlib.suppress(OSError):
                os.set_blocking(way.bell, False)
                os.eventfd_read(way.bell)

    def tampered(self) -> bool:
        """Whether the peer has made an eventfd blocking."""
        return any(os.get_blocking(way.bell) for way in self.ways())


def join(queue: int, way: Way, client: bool, receives: bool, table: int, regions: list[LentRegion | OwnRegion]) -> None:
    """Write into a queue record what a worker must know of its ring, ``live`` last."""
    record = MemifQueue(queue)
    slots = 1 << way.log2
    record.ours, record.theirs = way.address + (_HEAD if client else _TAIL), way.address + (_TAIL if client else _HEAD)
    record.slots, record.mask, record.flags = way.address + RING_BYTES, slots - 1, way.address + _FLAGS
    record.gift = slots if client and not receives else 0
    record.lead = slots if client and receives else 0
    record.position, record.limit, record.fault = 0, 0, GOOD
    record.doorbell, record.sleeps, record.one = -1 if receives else way.bell, 0, 1
    record.first = 0 if receives else way.first
    record.pitch, record.capacity = way.pitch, way.capacity
    record.hot, record.hot_base, record.hot_size = 0, regions[0].address, regions[0].size
    record.regions, record.region_count = table, len(regions)
    if receives:
        Ring(way.address).flags = MASK_INTERRUPT
        if client:
            Ring(way.address).head = slots
    record.live = 1


def list_regions(table: int, regions: list[LentRegion | OwnRegion]) -> None:
    """Write the table of regions that workers look things up in."""
    for index, region in enumerate(regions):
        store64(table + 16 * index, region.address)
        store64(table + 16 * index + 8, region.size)


__all__ = ["Owner", "Session", "Way", "join", "list_regions"]

"""A memif connection, of either role, from the first message to the last.

A session owns what the connection needs (the socket, regions, eventfds) and gives it all back in :meth:`Session.end`;
the port owns the queue records that workers read (:mod:`.queues`). Between the two stands :class:`Way`: all there is to
know of one ring.
"""

import os
from dataclasses import dataclass
from typing import Protocol

from wirespeed.ports.attendant import Attendant
from wirespeed.ports.bell import free
from wirespeed.ports.memif.channel import Channel, Gone
from wirespeed.ports.memif.memory import LentRegion, Shareable
from wirespeed.ports.memif.messages import Disconnect, Message, Refusal, text

_MOST_MESSAGES = 64  # handled in a row before others get a turn


@dataclass
class Way:
    """One ring.

    Attributes:
        address: of the ring.
        log2: its slots, as a power of two.
        bell: the eventfd of its receiver.
        first, pitch, capacity: a client's own buffers: that of slot 0, from one to the next, bytes.
        arena: the number of the region that is the pool itself, whose cells go through the ring; 0: they are copied.
    """

    address: int
    log2: int
    bell: int
    first: int = 0
    pitch: int = 0
    capacity: int = 0
    arena: int = 0


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
        self.regions: list[Shareable] = []
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
            free(way.bell)

    def lost(self) -> bool:
        """Whether the peer took memory away that it had lent."""
        return any(region.lost for region in self.regions if isinstance(region, LentRegion))

    def tampered(self) -> bool:
        """Whether the peer has made an eventfd blocking."""
        return any(os.get_blocking(way.bell) for way in self.ways())


__all__ = ["Owner", "Session", "Way"]

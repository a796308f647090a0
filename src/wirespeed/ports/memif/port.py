"""memif: shared memory with another data plane on this machine. ``memif:/run/x.sock,role=client,id=0``.

VPP, DPDK (net_memif) and libmemif speak it. Two processes map the same rings and buffers (:mod:`.memif_ring`); a Unix
socket carries only what they agree on (:mod:`.memif_messages`). The server listens and the client makes the memory;
either may be here, and both come back by themselves: a server waits for the next client, a client asks until a
server answers. Packets that are sent meanwhile are dropped and counted.

The peer is believed nothing. A number of its that cannot be (an index, a region, a length, a chain) ends the connection
with a reason; see :mod:`.memif_receive` for packets, :mod:`.memif_memory` for memory.

References: libmemif's memif.h (protocol 2.0); doc.dpdk.org, nics/memif.
"""

import contextlib
import os
import select
import threading
from collections.abc import Callable
from dataclasses import dataclass

from wirespeed.errors import PortError, WirespeedError
from wirespeed.jit.entry import entry
from wirespeed.mem.pool import Pool
from wirespeed.mem.region import Region
from wirespeed.ports.attendant import Attendant
from wirespeed.ports.memif.client import ClientSession, ask, reach
from wirespeed.ports.memif.memory import MOST_REGIONS
from wirespeed.ports.memif.messages import SECRET_BYTES
from wirespeed.ports.memif.receive import receive, receive_burst
from wirespeed.ports.memif.ring import FAULTS, GOOD, LARGEST_LOG2, MemifQueue
from wirespeed.ports.memif.server import Listener, leave, listen
from wirespeed.ports.memif.session import Session, join, list_regions
from wirespeed.ports.memif.sleep import arm
from wirespeed.ports.memif.transmit import transmit, transmit_burst
from wirespeed.ports.offloads import Offload
from wirespeed.ports.options import option
from wirespeed.ports.port import Port
from wirespeed.ports.status import Link

_RECORD = -(-MemifQueue.SIZE // 128) * 128
_TABLE = 16 * MOST_REGIONS
_LOOK_S = 0.1  # between two looks at what workers and peers have done
_RETRY_S = 0.1  # before a client asks again
_MOST_RINGS = 64
_NAME = b"wirespeed"


@dataclass(frozen=True)
class MemifOptions:
    """Options of ``memif``."""

    socket: str = option(doc="path of the socket, or @name for an abstract one", positional=True)
    role: str = option("client", "client (makes the memory, connects) or server (listens)")
    id: int = option(0, "number of the interface on that socket")
    rings: int = option(1, "rings in each direction, a queue each (1 to 64)")
    size: int = option(1024, "slots of a ring, a power of two up to 16384; up to 14: the power itself")
    buffer: int = option(2048, "bytes of a buffer, as client (128 to 65536); longer packets take several")
    secret: str = option("", "what both sides must know, up to 24 letters")
    mode: str = option("ethernet", "what packets begin with: ethernet is all there is")
    unsealed: bool = option(False, "as server: take memory that the peer can shrink, and with it end this process")


class Memif(Port):
    """A memif interface."""

    Options = MemifOptions
    receive = staticmethod(receive)
    transmit = staticmethod(transmit)
    arm = staticmethod(arm)
    offloads = Offload.MULTI_BUFFER | Offload.INTERRUPT

    def __init__(self, spec: str, options: MemifOptions) -> None:
        super().__init__(spec, options)
        self.rx_queues = self.tx_queues = options.rings
        _check(spec, options)
        self.log2 = options.size if options.size <= LARGEST_LOG2 else options.size.bit_length() - 1
        self.address = "\0" + options.socket[1:] if options.socket.startswith("@") else options.socket
        self.secret = options.secret.encode()
        self.unsealed = options.unsealed
        self.client = options.role == "client"
        self.ring_counts = (1, 1)
        self.connections = self.refusals = 0
        self._memory: Region | None = None
        self._table = 0
        self._epolls: list[select.epoll] = []
        self._kicks: list[int] = []
        self._session: Session | None = None
        self._stuck: list[Session] = []
        self._attendant: Attendant | None = None
        self._listener: Listener | None = None
        self._closing = self._up = False
        self._why_down = "not open"

    @property
    def busy(self) -> bool:
        """Whether somebody is connected, or about to be."""
        return self._session is not None

    # Opening and closing ---------------------------------------------------------------------------------

    def open(self, pool: Pool, rx_queues: int, tx_queues: int) -> None:
        """See :meth:`Port.open`; a client need not find its server yet."""
        try:
            count = rx_queues + tx_queues
            self._memory = Region(max(1, count) * _RECORD + _TABLE, "wirespeed-memif-port", huge=False)
            records = [self._memory.address + index * _RECORD for index in range(count)]
            self.rx, self.tx = records[:rx_queues], records[rx_queues:]
            for found, burst in ((self.rx, receive_burst), (self.tx, transmit_burst)):
                for record in found:
                    MemifQueue(record).burst = entry(burst, 4)
            self._table = self._memory.address + max(1, count) * _RECORD
            for record in self.rx:
                self._epolls.append(select.epoll())
                self._kicks.append(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
                self._epolls[-1].register(self._kicks[-1], select.EPOLLIN | select.EPOLLET)
                MemifQueue(record).epoll = self._epolls[-1].fileno()
            self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        receives, sends = max(1, len(self.rx)), max(1, len(self.tx))
        self.ring_counts = (sends, receives) if self.client else (receives, sends)
        self._why_down = "nobody has connected"
        if self.client:
            self._attendant = Attendant(f"memif {self.options.socket}", self.events)
            self._attendant.call(self._ask)
        else:
            self._listener = listen(self.address, self.options.id, self, self.spec)
            self._attendant = self._listener.attendant
        self._attendant.after(_LOOK_S, self._look)

    def close(self) -> None:
        """Tell the peer, hang up and give everything back."""
        self._closing = True
        if self._listener is not None:
            self._in_attendant(lambda: self._hang_up("the port was closed"))
            leave(self._listener, self.options.id)
        elif self._attendant is not None:
            self._in_attendant(lambda: self._hang_up("the port was closed"))
            self._attendant.close()
        for session in self._stuck:
            session.release()
        for epoll in self._epolls:
            epoll.close()
        for kick in self._kicks:
            os.close(kick)
        if self._memory is not None:
            self._memory.close()
        self._epolls, self._kicks, self._stuck = [], [], []
        self._memory = self._listener = self._attendant = None
        self.rx, self.tx = [], []

    def _in_attendant(self, function: Callable[[], None]) -> None:
        """Run ``function`` where nothing else of the protocol runs, and wait for it."""
        assert self._attendant is not None
        done = threading.Event()

        def run() -> None:
            try:
                function()
            finally:
                done.set()

        self._attendant.call(run)
        done.wait()

    def _hang_up(self, reason: str) -> None:
        if self._session is not None:
            self._session.end("disconnected", reason)

    # Connections, in the attendant's thread --------------------------------------------------------------

    def _ask(self) -> None:
        """As client: connect, or try again later."""
        if self._closing or self._session is not None:
            return
        assert self._attendant is not None
        try:
            channel = reach(self.address)
        except OSError as error:
            self._why_down = f"no server at {self.options.socket}: {error.strerror}"
            self._attendant.after(_RETRY_S, self._ask)
            return
        self._session = ClientSession(
            channel, self._attendant, self, ask(self.options.id, self.secret, _NAME), self.ring_counts,
            self.log2, self.options.buffer,
        )  # fmt: skip

    def admitted(self, session: Session) -> None:
        """As server: a client has named this port."""
        self._session = session

    def joined(self, session: Session) -> None:
        """Both sides know everything: let packets pass."""
        list_regions(self._table, session.regions)
        incoming, outgoing = session.to_server, session.to_client
        if self.client:
            incoming, outgoing = outgoing, incoming
        for index, queue in enumerate(self.rx):
            if index in incoming:
                way = incoming[index]
                join(queue, way, self.client, True, self._table, session.regions)
                self._epolls[index].register(way.bell, select.EPOLLIN | select.EPOLLET)
                os.eventfd_write(self._kicks[index], 1)
        for index, queue in enumerate(self.tx):
            if index in outgoing:
                join(queue, outgoing[index], self.client, False, self._table, session.regions)
        self.connections += 1
        self._up = True
        whole = len(incoming) >= len(self.rx) and len(outgoing) >= len(self.tx)
        few = "" if whole else "; it has fewer rings than we have queues"
        self.events.say("connected", f"{session.peer} ({session.channel.peer()}){few}")

    def parted(self, session: Session, kind: str, reason: str) -> None:
        """The connection is over: workers off the memory first, then unmap it."""
        joined, self._up = self._up, False
        for queue in (*self.rx, *self.tx):
            MemifQueue(queue).live = 0
        session.unblock()
        try:
            self.quiesce()
            for queue in (*self.rx, *self.tx):
                MemifQueue(queue).fault = GOOD
            for index, epoll in enumerate(self._epolls):
                self._forget(epoll, session, index)
            session.release()
        except WirespeedError as error:
            self._stuck.append(session)
            self.events.say("error", str(error))
        self._session = None
        if not joined and kind == "disconnected":  # it never was connected
            kind, reason = "refused", f"by the peer: {reason}"
        self.refusals += kind == "refused"
        if joined or reason != self._why_down:  # a client that asks again and again says so once
            self.events.say(kind, reason)
        self._why_down = reason
        if self.client and not self._closing:
            assert self._attendant is not None
            self._attendant.after(_RETRY_S, self._ask)

    def _forget(self, epoll: select.epoll, session: Session, index: int) -> None:
        way = (session.to_client if self.client else session.to_server).get(index)
        if way is not None:
            with contextlib.suppress(OSError):  # it was never joined
                epoll.unregister(way.bell)

    def _look(self) -> None:
        """Has a worker found the peer out, or the peer tampered with a descriptor?"""
        if self._closing:
            return
        assert self._attendant is not None
        self._attendant.after(_LOOK_S, self._look)
        if self._session is None:
            return
        faults = [fault for queue in (*self.rx, *self.tx) if (fault := MemifQueue(queue).fault)]
        if faults:
            self._session.end("refused", FAULTS[faults[0]])
        elif self._session.tampered():
            self._session.end("refused", "it made an eventfd blocking")

    # What users ask --------------------------------------------------------------------------------------

    def descriptors(self, queue: int) -> list[int]:
        """An epoll descriptor in which the ring's eventfd stands while there is one."""
        return [self._epolls[queue].fileno()]

    def link(self) -> Link:
        """Up while connected."""
        session = self._session
        if session is None or not self._up:
            return Link(False, detail=self._why_down)
        return Link(True, detail=session.peer)

    def facts(self) -> dict[str, str]:
        """Role, socket and sizes; what is agreed on, while connected."""
        found = {
            "role": self.options.role,
            "socket": self.options.socket,
            "id": str(self.options.id),
            "ring": f"{1 << self.log2} slots",
        }
        if self.client:
            found["buffer"] = f"{self.options.buffer} bytes"
        return found

    def extended(self) -> dict[str, int]:
        """Connections made, peers refused, notifications sent."""
        notified = sum(MemifQueue(queue).notified for queue in self.tx)
        return {"connections": self.connections, "refusals": self.refusals, "notifications": notified}


def _check(spec: str, options: MemifOptions) -> None:
    if options.role not in ("client", "server"):
        raise PortError(f"port {spec!r}: role={options.role!r} must be client or server")
    if options.mode != "ethernet":
        raise PortError(f"port {spec!r}: mode={options.mode!r} is not spoken: leave it at ethernet on both sides")
    if not 1 <= options.rings <= _MOST_RINGS:
        raise PortError(f"port {spec!r}: rings={options.rings} must be 1 to {_MOST_RINGS}")
    size = options.size
    if not (1 <= size <= LARGEST_LOG2 or (16 <= size <= 1 << LARGEST_LOG2 and size & (size - 1) == 0)):
        raise PortError(f"port {spec!r}: size={size} must be a power of two, 16 to {1 << LARGEST_LOG2}")
    if not 128 <= options.buffer <= 65536 or options.buffer % 64:
        raise PortError(f"port {spec!r}: buffer={options.buffer} must be 128 to 65536 bytes, a multiple of 64")
    if not 0 <= options.id < 1 << 32:
        raise PortError(f"port {spec!r}: id={options.id} must be 0 to {(1 << 32) - 1}")
    if len(options.secret.encode()) > SECRET_BYTES:
        raise PortError(f"port {spec!r}: the secret is longer than {SECRET_BYTES} letters")
    if not options.socket.strip("@") or len(os.fsencode(options.socket)) > 107:
        raise PortError(f"port {spec!r}: the socket must be a path or @name of 1 to 107 letters")


__all__ = ["Memif", "MemifOptions"]

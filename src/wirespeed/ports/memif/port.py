"""memif: shared memory with another data plane on this machine. ``memif:/run/x.sock,role=client,id=0``.

VPP, DPDK (net_memif) and libmemif speak it. Two processes map the same rings and buffers (:mod:`.ring`); a Unix
socket carries only what they agree on (:mod:`.messages`). The server listens and the client makes the memory;
either may be here, and both come back by themselves: a server waits for the next client, a client asks until a
server answers. Packets that are sent meanwhile are dropped and counted.

The peer is believed nothing. A number of its that cannot be (an index, a region, a length, a chain) ends the connection
with a reason; see :mod:`.receive` for packets, :mod:`.memory` for memory.

A client copies packets into buffers of its region, or lends the pool's cells themselves (:mod:`.zero_copy`). The peer
then maps the whole arena, the lists of free cells included: it need not be believed, but it must be trusted. Unless
told otherwise a client lends to those only who could look into this process anyway.

References: libmemif's memif.h (protocol 2.0); doc.dpdk.org, nics/memif.
"""

import threading
from collections.abc import Callable

from wirespeed.jit import guard
from wirespeed.mem.pool import Pool
from wirespeed.ports.attendant import Attendant
from wirespeed.ports.memif.client import ClientSession, ask, reach
from wirespeed.ports.memif.options import BUFFER, MemifOptions, check, why_copy
from wirespeed.ports.memif.queues import Queues
from wirespeed.ports.memif.receive import receive
from wirespeed.ports.memif.ring import FAULTS, MemifQueue
from wirespeed.ports.memif.server import Listener, leave, listen
from wirespeed.ports.memif.session import Session
from wirespeed.ports.memif.sleep import arm
from wirespeed.ports.memif.transmit import transmit
from wirespeed.ports.offloads import Offload
from wirespeed.ports.port import Port
from wirespeed.ports.status import Link
from wirespeed.sync.rcu import GraceTimeout

_LOOK_S = 0.1  # between two looks at what workers and peers have done
_RETRY_S = 0.1  # before a client asks again
_AGAIN_S = 1.0  # before a worker that did not move is looked for again
_NAME = b"wirespeed"


class Memif(Port):
    """A memif interface."""

    Options = MemifOptions
    receive = staticmethod(receive)
    transmit = staticmethod(transmit)
    arm = staticmethod(arm)
    offloads = Offload.MULTI_BUFFER | Offload.INTERRUPT

    def __init__(self, spec: str, options: MemifOptions) -> None:
        super().__init__(spec, options)
        check(spec, options)
        self.rx_queues = self.tx_queues = options.rings
        self.address = "\0" + options.socket[1:] if options.socket.startswith("@") else options.socket
        self.secret = options.secret.encode()
        self.unsealed = options.unsealed
        self.client = options.role == "client"
        self.ring_counts = (1, 1)
        self.connections = self.refusals = 0
        self._pool: Pool | None = None
        self._queues: Queues | None = None
        self._session: Session | None = None
        self._retiring: Session | None = None
        self._attendant: Attendant | None = None
        self._listener: Listener | None = None
        self._closing = self._up = False
        self._why_down = self._why_copy = "not open"

    @property
    def busy(self) -> bool:
        """Whether somebody is connected or about to be, or one who was is still in the way; or the port goes."""
        return self._closing or self._session is not None or self._retiring is not None

    # Opening and closing ---------------------------------------------------------------------------------

    def open(self, pool: Pool, rx_queues: int, tx_queues: int) -> None:
        """See :meth:`Port.open`; a client need not find its server yet."""
        guard.prepare()
        try:
            self._pool = pool
            self._why_copy = why_copy(self.spec, self.options, pool, rx_queues, tx_queues)
            lent = 0 if self._why_copy else 1 << self.options.log2
            self._queues = Queues(pool, rx_queues, tx_queues, self.client, lent)
            self.rx, self.tx = self._queues.rx, self._queues.tx
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
        if self._attendant is not None:
            self._in_attendant(self._finish)
        if self._listener is not None:
            leave(self._listener, self.options.id)
        elif self._attendant is not None:
            self._attendant.close()
        if self._queues is not None:
            self._queues.close()
        self._queues = self._listener = self._attendant = None
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

    def _finish(self) -> None:
        """The workers have stopped: nobody is in the way any more."""
        if self._session is not None:
            self._session.end("disconnected", "the port was closed")
        self._let_go()

    # Connections, in the attendant's thread --------------------------------------------------------------

    def _ask(self) -> None:
        """As client: connect, or try again later."""
        if self.busy:
            return
        assert self._attendant is not None
        try:
            channel = reach(self.address)
        except OSError as error:
            self._why_down = f"no server at {self.options.socket}: {error.strerror}"
            self._attendant.after(_RETRY_S, self._ask)
            return
        lends = not self._why_copy and (self.options.must_lend or channel.is_one_of_us())
        self._session = ClientSession(
            channel, self._attendant, self, ask(self.options.id, self.secret, _NAME), self.ring_counts,
            self.options.log2, self.options.buffer or BUFFER, self._pool if lends else None,
            self.options.must_lend,
        )  # fmt: skip

    def admitted(self, session: Session) -> None:
        """As server: a client has named this port."""
        self._session = session

    def joined(self, session: Session) -> None:
        """Both sides know everything: let packets pass."""
        assert self._queues is not None
        whole = self._queues.join(session)
        self.connections += 1
        self._up = True
        self.offloads = Memif.offloads | (Offload.ZERO_COPY if _lends(session) else Offload.NONE)
        few = "" if whole else "; it has fewer rings than we have queues"
        self.events.say("connected", f"{session.peer} ({session.channel.peer()}){few}")

    def parted(self, session: Session, kind: str, reason: str) -> None:
        """The connection is over: workers off the memory first, then unmap it."""
        assert self._queues is not None
        joined, self._up = self._up, False
        self._queues.stop()
        self._retiring = session
        self._session = None
        self._retire()
        if not joined and kind == "disconnected":  # it never was connected
            kind, reason = "refused", f"by the peer: {reason}"
        self.refusals += kind == "refused"
        if joined or reason != self._why_down:  # a client that asks again and again says so once
            self.events.say(kind, reason)
        self._why_down = reason

    def _retire(self) -> None:
        """Wait for the workers that are inside; nobody else is let in before."""
        if self._retiring is None:
            return
        assert self._attendant is not None
        self._retiring.unblock()
        try:
            self.quiesce()
        except GraceTimeout as error:
            self.events.say("error", str(error))
            self._attendant.after(_AGAIN_S, self._retire)
            return
        self._let_go()
        if self.client and not self._closing:
            self._attendant.after(_RETRY_S, self._ask)

    def _let_go(self) -> None:
        """Unmap and close what the last connection needed."""
        if self._retiring is not None:
            assert self._queues is not None
            self._queues.part(self._retiring)
            self._retiring.release()
            self._retiring = None

    def _look(self) -> None:
        """Has a worker found the peer out, or the peer tampered with a descriptor?"""
        if self._closing:
            return
        assert self._attendant is not None
        self._attendant.after(_LOOK_S, self._look)
        if self._session is None:
            return
        assert self._queues is not None
        if fault := self._queues.fault():
            self._session.end("refused", FAULTS[fault])
        elif self._session.lost():
            self._session.end("refused", "it took memory away that it had lent")
        elif self._session.tampered():
            self._session.end("refused", "it made an eventfd blocking")

    # What users ask --------------------------------------------------------------------------------------

    def descriptors(self, queue: int) -> list[int]:
        """An epoll descriptor in which the ring's eventfd stands while there is one."""
        assert self._queues is not None
        return [self._queues.descriptor(queue)]

    def link(self) -> Link:
        """Up while connected."""
        session = self._session
        if session is None or not self._up:
            return Link(False, detail=self._why_down)
        return Link(True, detail=session.peer)

    def facts(self) -> dict[str, str]:
        """Role, socket and sizes; whether packets are copied."""
        session = self._session if self._up else None
        found = {
            "role": self.options.role,
            "socket": self.options.socket,
            "id": str(self.options.id),
            "ring": f"{1 << self.options.log2} slots",
        }
        if self.client:
            lends = session is not None and _lends(session)
            found["zero copy"] = "yes" if lends else f"no: {self._why_not(session)}"
            if not lends:
                found["buffer"] = f"{self.options.buffer or BUFFER} bytes"
        return found

    def _why_not(self, session: Session | None) -> str:
        if self._why_copy or session is None:
            return self._why_copy or "not connected"
        return "the server takes one region only" if session.channel.is_one_of_us() else "the server is a stranger"

    def extended(self) -> dict[str, int]:
        """Connections made, peers refused, notifications sent."""
        notified = sum(MemifQueue(queue).notified for queue in self.tx)
        return {"connections": self.connections, "refusals": self.refusals, "notifications": notified}


def _lends(session: Session) -> bool:
    return isinstance(session, ClientSession) and session.lends


__all__ = ["Memif", "MemifOptions"]

"""vhost_user: the network card of a virtual machine, or of any program that drives one. ``vhost_user:/run/vm.sock``.

The other end is QEMU (``-chardev socket,id=c,path=/run/vm.sock -netdev vhost-user,chardev=c,id=n -device
virtio-net-pci,netdev=n``, with its memory from ``memory-backend-memfd,share=on``), DPDK's net_virtio_user, or
``virtio_user``. It may come late, leave and return: until it is there, nothing is received and what is sent is dropped
and counted. Packets are copied between the guest's memory and cells; the guest's rings are worked by our workers
(:mod:`wirespeed.ports.vhost.queue`), the protocol by an attendant (:mod:`wirespeed.ports.vhost.session`).

``role=server`` makes the socket and waits for the front end; ``role=client`` connects to one that the front end made.

References: QEMU's docs/interop/vhost-user.rst; virtio 1.2, section 5.1.
"""

import os
import select
import socket
import struct
from dataclasses import dataclass

from wirespeed.errors import PortError
from wirespeed.jit import guard, store64
from wirespeed.mem.pool import Pool
from wirespeed.mem.region import Region
from wirespeed.ports.attendant import Attendant
from wirespeed.ports.netdev import parse_mac
from wirespeed.ports.offloads import Offload
from wirespeed.ports.options import nearest, option
from wirespeed.ports.port import Port
from wirespeed.ports.status import Link
from wirespeed.ports.vhost.channel import Channel
from wirespeed.ports.vhost.messages import VhostError, VhostGone
from wirespeed.ports.vhost.queue import MOST_RINGS, QUEUE_BYTES, VhostQueue, arm, bind, receive, ring_of, transmit
from wirespeed.ports.vhost.ring import FAULTS, PACKED, REGIONS_BYTES, RING_BYTES, SPLIT, VhostRing
from wirespeed.ports.vhost.session import Offer, Session
from wirespeed.ports.virtio.features import Feature, ProtocolFeature
from wirespeed.ports.virtio.socket import Rendezvous
from wirespeed.sync.rcu import GraceTimeout

_ALWAYS = (
    Feature.VERSION_1 | Feature.INDIRECT_DESC | Feature.EVENT_IDX | Feature.IN_ORDER | Feature.PROTOCOL_FEATURES
    | Feature.CTRL_VQ | Feature.STATUS
)  # fmt: skip
_OFFLOADS = (
    Feature.CSUM | Feature.GUEST_CSUM | Feature.GUEST_TSO4 | Feature.GUEST_TSO6 | Feature.GUEST_ECN
    | Feature.HOST_TSO4 | Feature.HOST_TSO6 | Feature.HOST_ECN | Feature.HOST_USO | Feature.GUEST_USO4
    | Feature.GUEST_USO6
)  # fmt: skip
_PROTOCOL = (
    ProtocolFeature.MQ | ProtocolFeature.REPLY_ACK | ProtocolFeature.NET_MTU | ProtocolFeature.CONFIGURE_MEM_SLOTS
    | ProtocolFeature.STATUS
)  # fmt: skip
_RETRY_S = 0.1
"""Before the next attempt to connect after an end, and before a front end that broke the rules may come again."""
_LOOK_S = 0.1
_LINK_UP = 1


@dataclass(frozen=True)
class VhostUserOptions:
    """Options of ``vhost_user``."""

    path: str = option(doc="the Unix socket", positional=True)
    role: str = option("server", "server: make the socket; client: connect to the front end's")
    queues: int = option(1, "queue pairs that the guest may use (1 to 64)")
    packed: str = option("auto", "packed rings: auto: if the front end takes them; yes: nothing else; no")
    mergeable: bool = option(True, "let a packet take several of the guest's buffers")
    offloads: bool = option(True, "pass on checksums and segmentation that are not done yet")
    mac: str = option("", "the guest's Ethernet address, for front ends that ask")
    mtu: int = option(0, "bytes, for front ends that ask (68 to 65535); 0: not said")


class VhostUser(Port):
    """A vhost-user back end.

    Attributes:
        session: the connection, while there is one.
    """

    Options = VhostUserOptions
    receive = staticmethod(receive)
    transmit = staticmethod(transmit)
    arm = staticmethod(arm)
    tx_queues = 0

    def __init__(self, spec: str, options: VhostUserOptions) -> None:
        super().__init__(spec, options)
        self._check(options)
        self._guest_mac = parse_mac(spec, options.mac) if options.mac else 0
        self.rx_queues = options.queues
        self.mtu = options.mtu
        self.session: Session | None = None
        self._attendant: Attendant | None = None
        self._memory: Region | None = None
        self._rendezvous: Rendezvous | None = None
        self._ending = False
        self._alarm = -1
        self._epolls: list[select.epoll] = []
        self._bells: list[int] = []
        self._sending: list[int] = []
        self._up = False
        self.offloads = Offload.MULTI_BUFFER | Offload.INTERRUPT
        if options.offloads:
            self.offloads |= (
                Offload.RX_CHECKSUM | Offload.TX_CHECKSUM | Offload.TX_TCP_SEGMENTATION | Offload.TX_UDP_SEGMENTATION
                | Offload.RX_COALESCING
            )  # fmt: skip

    def _check(self, options: VhostUserOptions) -> None:
        spec = self.spec
        for name, value, known in (
            ("role", options.role, ["server", "client"]),
            ("packed", options.packed, ["auto", "yes", "no"]),
        ):
            if value not in known:
                raise PortError(f"port {spec!r}: {name}={value!r}: {nearest(value, known)}")
        if not 1 <= options.queues <= MOST_RINGS:
            raise PortError(f"port {spec!r}: queues={options.queues} must be 1 to {MOST_RINGS}")
        if options.mtu and not 68 <= options.mtu <= 65535:
            raise PortError(f"port {spec!r}: mtu={options.mtu} must be 68 to 65535 bytes")

    # Opening ---------------------------------------------------------------------------------------------

    def open(self, pool: Pool, rx_queues: int, tx_queues: int) -> None:
        """See :meth:`Port.open`; makes the socket or begins to look for it."""
        guard.prepare()
        try:
            offer = self._lay_out(rx_queues, tx_queues)
            self._offer = offer
            self._rendezvous = Rendezvous(self.spec, self.options.path, self.options.role == "server")
            self._attendant = Attendant("wirespeed-vhost-user", self.events)
            self._attendant.watch(self._alarm, self._alarmed)
            if self._rendezvous.server:
                self._attendant.watch(self._rendezvous.fileno(), self._accept)
            else:
                self._attendant.call(self._connect)
            self._attendant.after(_LOOK_S, self._look)
        except BaseException:
            self.close()
            raise

    def _lay_out(self, rx_queues: int, tx_queues: int) -> Offer:
        rings, queues = 2 * self.options.queues, rx_queues + tx_queues
        size = REGIONS_BYTES + queues * QUEUE_BYTES + rings * RING_BYTES
        self._memory = Region(size + 4096, "wirespeed-vhost-user", huge=False)
        at = self._memory.address
        regions, at = at, at + -(-REGIONS_BYTES // 128) * 128
        records = [at + number * QUEUE_BYTES for number in range(queues)]
        self.rx, self.tx = records[:rx_queues], records[rx_queues:]
        at += -(-queues * QUEUE_BYTES // 128) * 128
        self._rings = [at + number * RING_BYTES for number in range(rings)]
        self._alarm = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        for number, address in enumerate(self._rings):
            ring = VhostRing(address)
            ring.alarm, ring.one, ring.call = self._alarm, 1, -1
            for layout in (SPLIT, PACKED):  # compiled now, not when a guest waits
                bind(ring, layout, bool(number & 1))
        for number, address in enumerate(self.rx):
            self._furnish(number, VhostQueue(address))
        features, demanded = self._features()
        protocol = _PROTOCOL | (ProtocolFeature.CONFIG if self._guest_mac or self.options.mtu else 0)
        config = struct.pack(
            "<6sHHH", self._guest_mac.to_bytes(6), _LINK_UP, self.options.queues, self.options.mtu or 1500
        )
        return Offer(features, protocol, demanded, self._rings, regions, config, self._epolls, self._bells)

    def _furnish(self, number: int, queue: VhostQueue) -> None:
        """A receive queue has every so-many-th of the guest's rings, and a descriptor that stays the same."""
        mine = self._rings[1::2][number :: len(self.rx)]
        for place, ring in enumerate(mine):
            store64(int(ring_of(queue.address, place)), ring)
        queue.rings = len(mine)
        epoll, bell = select.epoll(), os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        epoll.register(bell, select.EPOLLIN | select.EPOLLET)
        queue.epoll = epoll.fileno()
        self._epolls.append(epoll)
        self._bells.append(bell)

    def _features(self) -> tuple[int, int]:
        options = self.options
        offered = int(_ALWAYS) | (int(_OFFLOADS) if options.offloads else 0)
        for on, feature in (
            (options.queues > 1, Feature.MQ), (options.packed != "no", Feature.RING_PACKED),
            (options.mergeable, Feature.MRG_RXBUF), (options.mac, Feature.MAC), (options.mtu, Feature.MTU),
        ):  # fmt: skip
            offered |= int(feature) if on else 0
        return offered, int(Feature.RING_PACKED) if options.packed == "yes" else 0

    # Connections, in the attendant's thread --------------------------------------------------------------

    def _accept(self) -> None:
        assert self._rendezvous is not None
        connected = self._rendezvous.meet()
        if connected is None:
            return
        self._serve()  # a front end that was restarted may be here before its end was heard
        if self.session is not None:
            connected.close()
            self.events.say("refused", "a second front end: the port has one already")
            return
        self._begin(connected)

    def _connect(self) -> None:
        assert self._attendant is not None
        assert self._rendezvous is not None
        connected = self._rendezvous.meet()
        if connected is None:
            self._attendant.after(self._rendezvous.pause_s, self._connect)
            return
        self._begin(connected)

    def _begin(self, connected: socket.socket) -> None:
        assert self._attendant is not None
        channel = Channel(connected)
        self.session = Session(channel, self._offer, self.quiesce, self._changed)
        self.events.say("connected", self.options.path)
        self._attendant.watch(channel.fileno(), self._serve)

    def _serve(self) -> None:
        session = self.session
        if session is None or self._ending:
            return
        try:
            session.serve()
        except VhostGone as error:
            self._end("disconnected", str(error))
        except VhostError as error:
            self._end("refused", str(error))
        except (GraceTimeout, OSError) as error:  # what was asked for is done in part
            self._end("error", str(error))

    def _end(self, kind: str, text: str) -> None:
        """The connection is over; wait for the next."""
        assert self._attendant is not None
        session, attendant = self.session, self._attendant
        assert session is not None
        if not self._ending:
            attendant.forget(session.channel.fileno())
        try:
            session.close()
        except GraceTimeout as error:  # a worker is inside: the memory stays mapped, and nobody else is let in
            self._ending = True
            self.events.say("error", str(error))
            attendant.after(_RETRY_S, lambda: self._end(kind, text))
            return
        self.session, self._ending = None, False
        self.events.say(kind, text)
        assert self._rendezvous is not None
        if not self._rendezvous.server:
            attendant.after(_RETRY_S, self._connect)
        elif kind == "refused":
            attendant.forget(self._rendezvous.fileno())
            attendant.after(_RETRY_S, self._listen_again)

    def _listen_again(self) -> None:
        if self._rendezvous is not None and self._attendant is not None:
            self._attendant.watch(self._rendezvous.fileno(), self._accept)

    def _alarmed(self) -> None:
        """A worker ended a ring."""
        os.eventfd_read(self._alarm)
        session = self.session
        if session is None or self._ending:
            return
        for number, vring in enumerate(session.vrings):
            if vring.record.fault and vring.started:
                self.events.say("refused", f"ring {number} is stopped: {FAULTS[vring.record.fault]}")
                vring.started = False
                session.signal_error(vring)
        self._changed()

    def _look(self) -> None:
        """Does the front end do what no message says: take memory away, or have our notifications block? Who waits for
        a worker that hangs in one cannot ask, so this goes on by itself."""
        assert self._attendant is not None
        self._attendant.after(_LOOK_S, self._look)
        if self.session is None or self._ending:
            return
        if self.session.memory.lost:
            self._end("refused", "the front end has truncated the memory that it shares")
        elif self.session.unblock():
            self._end("refused", "the front end has filled the counter that it is notified by")

    def _changed(self) -> None:
        """Rings came or went: who sends to which, and whether the link is up."""
        live = self.session.live if self.session is not None else []
        sending = [self._rings[number] for number in live if number % 2 == 0]
        if sending != self._sending:
            self._sending = sending
            for address in self.tx:
                VhostQueue(address).rings = 0
            self.quiesce()
            for number, address in enumerate(self.tx if sending else []):
                queue = VhostQueue(address)
                store64(int(ring_of(address, 0)), sending[number % len(sending)])
                queue.shared = int(len(sending) < len(self.tx))
                queue.rings = 1
        if bool(live) != self._up:
            self._up = bool(live)
            self.events.say("link-up" if live else "link-down", self.link().detail)

    # What users ask --------------------------------------------------------------------------------------

    def link(self) -> Link:
        """Up while the guest's driver works its rings."""
        session = self.session
        if session is None:
            return Link(False, detail=f"no front end at {self.options.path}")
        live = session.live
        if not live:
            return Link(False, detail="the guest's driver has not started")
        layout = "packed" if session.features & Feature.RING_PACKED else "split"
        return Link(True, detail=f"{len(live)} {layout} rings")

    def facts(self) -> dict[str, str]:
        """What was agreed on with the front end."""
        found = {"role": self.options.role, "socket": self.options.path, "queues": str(self.options.queues)}
        session = self.session
        if session is not None:
            features = session.features
            found["rings"] = "packed" if features & Feature.RING_PACKED else "split"
            found["mergeable"] = "yes" if features & Feature.MRG_RXBUF else "no"
            found["entries"] = ", ".join(str(vring.entries) for vring in session.vrings if vring.started) or "-"
            found["memory"] = f"{sum(mapped.region.size for mapped in session.memory.regions) >> 20} MiB"
            found["sealed"] = "yes" if session.memory.sealed else "no"
        return found

    def extended(self) -> dict[str, int]:
        """How often the guest was told of packets."""
        return {f"ring {number} calls": VhostRing(address).calls for number, address in enumerate(self._rings)}

    def descriptors(self, queue: int) -> list[int]:
        """A descriptor that is readable when the guest kicked one of the queue's rings."""
        return [self._epolls[queue].fileno()]

    def close(self) -> None:
        """End the connection, remove the socket."""
        if self._attendant is not None:
            self._attendant.close()
        if self.session is not None:
            session, self.session = self.session, None
            session.close()
        if self._rendezvous is not None:
            self._rendezvous.close()
        for epoll in self._epolls:
            epoll.close()
        for fd in [*self._bells, *([self._alarm] if self._alarm >= 0 else [])]:
            os.close(fd)
        if self._memory is not None:
            self._memory.close()
        self._attendant, self._memory, self._rendezvous, self._alarm = None, None, None, -1
        self._epolls, self._bells, self.rx, self.tx, self._sending = [], [], [], [], []


__all__ = ["VhostUser", "VhostUserOptions"]

"""virtio_user: the driver of a network card that another data plane plays. ``virtio_user:/run/vhost.sock``.

Open vSwitch, VPP and DPDK offer virtual machines ports over vhost-user; through this one a graph is such a machine,
without the machine. The other side maps the packet pool and reads and writes cells where they are: it copies each
packet once, we none. Whoever we connect to can therefore read and change all packets of this process, as it can those
of a virtual machine; what it says in the rings and messages is not trusted.

With ``role=client`` it connects to the other side's socket, and again whenever that is gone; with ``role=server`` it
waits for the other side. Until somebody is there the link is down: nothing is received, and what is sent is dropped.

References: virtio 1.2; QEMU's docs/interop/vhost-user.rst; DPDK's net_virtio_user and net_vhost guides.
"""

import contextlib
import os
import secrets
import select
import threading

from wirespeed.jit import kernel, store64
from wirespeed.mem.pool import Cache, Pool
from wirespeed.mem.pool_cache import release_shared
from wirespeed.mem.region import Region
from wirespeed.ports.attendant import Attendant
from wirespeed.ports.bell import free
from wirespeed.ports.netdev import parse_mac
from wirespeed.ports.offloads import Offload
from wirespeed.ports.port import Port
from wirespeed.ports.status import Link
from wirespeed.ports.vhost.channel import Channel
from wirespeed.ports.vhost.messages import VhostError, VhostGone
from wirespeed.ports.virtio.choice import VirtioUserOptions, check, chosen, mode_of, offloads_of, wish
from wirespeed.ports.virtio.features import Feature
from wirespeed.ports.virtio.front import Agreement, Front, Ring
from wirespeed.ports.virtio.path import arm, receive, transmit
from wirespeed.ports.virtio.record import (
    FAULTS,
    VirtioQueue,
    format_queue,
    held_at,
    private_bytes,
    reset_queue,
    scratch_of,
    shared_bytes,
)
from wirespeed.ports.virtio.socket import Rendezvous
from wirespeed.sync.rcu import GraceTimeout

_STOP_S = 1.0
_AGAIN_S = 1.0
_LOOK_S = 0.1


@kernel
def _reclaim(queue, cache):  # type: ignore[no-untyped-def]
    """Free what the device still holds: by any thread, while no worker is inside."""
    record = VirtioQueue(queue)
    mask = record.size - 1
    for position in range(record.taken, record.taken + record.size):
        slot = position & mask
        if held_at(record, slot) != 0 and (record.plain == 0 or position < record.given):
            release_shared(Cache(cache), held_at(record, slot), scratch_of(record))
        store64(record.held + (slot << 3), 0)
    record.given = record.taken


class VirtioUser(Port):
    """A vhost-user front end."""

    Options = VirtioUserOptions
    receive = staticmethod(receive)
    transmit = staticmethod(transmit)
    arm = staticmethod(arm)

    def __init__(self, spec: str, options: VirtioUserOptions) -> None:
        super().__init__(spec, options)
        check(spec, options)
        self.rx_queues = self.tx_queues = options.queues
        self._wanted_mac = parse_mac(spec, options.mac) if options.mac else 0
        self._pool: Pool | None = None
        self._memories: list[Region] = []
        self._eventfds: list[int] = []
        self._epolls: list[select.epoll] = []
        self._bells: list[int] = []
        self._queues: list[int] = []
        self._rings: list[Ring] = []
        self._attendant: Attendant | None = None
        self._rendezvous: Rendezvous | None = None
        self._front: Front | None = None
        self._agreed: Agreement | None = None
        self._connections = 0
        self._retiring = False
        self._why = "nobody is there yet"

    # Opening and closing -----------------------------------------------------------------------------------

    def open(self, pool: Pool, rx_queues: int, tx_queues: int) -> None:
        """See :meth:`Port.open`; a peer that is there already is connected when this returns."""
        self._pool = pool
        self.mac = self._wanted_mac or (secrets.randbits(40) | 0x02 << 40)
        self.mtu = self.options.mtu
        try:
            self._lay_out(rx_queues, tx_queues)
            self._rendezvous = Rendezvous(self.spec, self.options.path, self.options.role == "server")
            self._attendant = Attendant(f"wirespeed {self.options.path}", self.events)
            alarm = self._eventfds[0]
            self._attendant.watch(alarm, self._alarmed)
            if self._rendezvous.server:
                self._attendant.watch(self._rendezvous.fileno(), self._look_for_peer)
            self._attendant.call(self._look_for_peer)
            self._attendant.after(_LOOK_S, self._look)
            looked = threading.Event()
            self._attendant.call(looked.set)
            looked.wait()
        except BaseException:
            self.close()
            raise

    def _eventfd(self) -> int:
        self._eventfds.append(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
        return self._eventfds[-1]

    def _lay_out(self, rx_queues: int, tx_queues: int) -> None:
        """All queue pairs that are wanted, both directions: a device starts with whole pairs."""
        size, pairs = self.options.size, max(rx_queues, tx_queues, 1)
        alarm = self._eventfd()
        private = private_bytes(size)
        memory = Region(2 * pairs * private, "wirespeed-virtio", huge=False)
        self._memories.append(memory)
        shared = Region(
            pairs * (shared_bytes(size, False) + shared_bytes(size, True)), "wirespeed-virtio-rings", huge=False
        )
        self._memories.append(shared)
        at = shared.address
        for index in range(2 * pairs):
            transmits = index % 2 == 1
            address = memory.address + index * private
            format_queue(address, at, size, self._eventfd(), self._eventfd(), alarm, transmits)
            at += shared_bytes(size, transmits)
            queue = VirtioQueue(address)
            self._rings.append(Ring(index, size, queue.descriptors, queue.driver, queue.device, queue.kick, queue.call))
            self._queues.append(address)
            if not transmits:
                epoll, bell = select.epoll(), self._eventfd()
                self._epolls.append(epoll)
                self._bells.append(bell)
                for fd in (queue.call, bell):
                    epoll.register(fd, select.EPOLLIN | select.EPOLLET)
                queue.epoll = epoll.fileno()
        self.rx, self.tx = self._queues[0 : 2 * rx_queues : 2], self._queues[1 : 2 * tx_queues : 2]

    def close(self) -> None:
        """Say goodbye, take the cells back, close and unmap everything."""
        if self._rendezvous and self._front is None:
            self._rendezvous.interrupt()
        if self._attendant:
            self._attendant.close()
        if self._front:
            with contextlib.suppress(VhostError):
                self._front.stop(self._rings, _STOP_S)
            self._front.channel.close()
        if self._rendezvous:
            self._rendezvous.close()
        for queue in self._queues:
            self._take_back(queue)
        for memory in self._memories:
            memory.close()
        for epoll in self._epolls:
            epoll.close()
        for fd in self._eventfds:
            os.close(fd)
        self._epolls, self._bells = [], []
        self._attendant = self._rendezvous = self._front = self._agreed = None
        self._memories, self._eventfds, self._queues, self._rings = [], [], [], []
        self.rx, self.tx = [], []

    # In the attendant's thread -----------------------------------------------------------------------------

    def _look_for_peer(self) -> None:
        """Connect, or accept; a second peer is sent away."""
        assert self._rendezvous is not None
        assert self._attendant is not None
        connected = self._rendezvous.meet()
        if connected is None:
            if not self._rendezvous.server:
                self._attendant.after(self._rendezvous.pause_s, self._look_for_peer)
            return
        channel = Channel(connected)
        if self._front is not None or self._retiring or any(VirtioQueue(queue).live for queue in self._queues):
            channel.close()
            return
        front = Front(channel)
        try:
            agreed = front.agree(wish(self.options, len(self._rings) // 2))
            self._prepare(agreed)
            front.start(self._shared_memory(), self._rings)
        except VhostError as error:
            channel.close()
            self._say_why("error" if isinstance(error, VhostGone) else "refused", str(error))
            self._later(_AGAIN_S)
            return
        self._front, self._agreed = front, agreed
        self._attendant.watch(channel.fileno(), self._spoken_to)
        self._go_live(agreed)

    def _prepare(self, agreed: Agreement) -> None:
        mode = mode_of(agreed.features)
        for index, queue in enumerate(self._queues):
            reset_queue(queue, mode, transmits=index % 2 == 1)

    def _shared_memory(self) -> list[tuple[int, int, int]]:
        assert self._pool is not None
        return [(each.address, each.size, each.fd) for each in (self._pool.region, self._memories[1])]

    def _go_live(self, agreed: Agreement) -> None:
        self._connections += 1
        self._why = "" if agreed.up else "the other side says so"
        if agreed.mac and not self._wanted_mac:
            self.mac = agreed.mac
        if agreed.mtu:
            self.mtu = min(agreed.mtu, self.options.mtu)
        self.offloads = offloads_of(agreed.features)
        for queue in self._queues:
            VirtioQueue(queue).live = 1
        for bell in self._bells:
            os.eventfd_write(bell, 1)  # a worker that sleeps is to fill its ring
        self.events.say("connected", f"{self.options.path}: {'; '.join(f'{k} {v}' for k, v in self.facts().items())}")
        self.events.say("link-up" if agreed.up else "link-down", self._why)

    def _spoken_to(self) -> None:
        """The device has nothing to say unasked; so it is gone, or mad."""
        assert self._front is not None
        try:
            message = self._front.channel.receive()
        except VhostError as error:
            self._leave("disconnected", str(error))
            return
        if message is not None:
            for fd in message.fds:
                os.close(fd)
            self._leave("refused", f"it sent {message.name} without being asked")

    def _alarmed(self) -> None:
        """A worker has found that the device broke the rules."""
        os.eventfd_read(self._eventfds[0])
        found = [fault for queue in self._queues if (fault := VirtioQueue(queue).fault)]
        if found and self._front is not None:
            self._leave("refused", FAULTS.get(found[0], f"fault {found[0]}"))

    def _look(self) -> None:
        """Has somebody who was given the eventfds made one block, in which a worker would hang?"""
        assert self._attendant is not None
        self._attendant.after(_LOOK_S, self._look)
        kicks = [VirtioQueue(queue).kick for queue in self._queues]
        if any(os.get_blocking(kick) for kick in kicks):
            for kick in kicks:
                free(kick)
            if self._front is not None:
                self._leave("refused", "it made an eventfd blocking")

    def _leave(self, kind: str, reason: str) -> None:
        """The connection is over: keep workers off the rings, then take the cells back."""
        assert self._front is not None
        assert self._attendant is not None
        for queue in self._queues:
            VirtioQueue(queue).live = 0
        self._attendant.forget(self._front.channel.fileno())
        self._front.channel.close()
        self._front = self._agreed = None
        self.offloads = Offload.NONE
        self._say_why(kind, reason)
        self.events.say("link-down", reason)
        self._retire(_LOOK_S if kind == "disconnected" else _AGAIN_S)  # who always hangs up is not called all the time

    def _say_why(self, kind: str, reason: str) -> None:
        if reason != self._why:  # the same peer may be refused again and again
            self.events.say(kind, reason)
        self._why = reason

    def _retire(self, pause_s: float) -> None:
        assert self._attendant is not None
        self._retiring = True
        for queue in self._queues:
            free(VirtioQueue(queue).kick)  # a worker may hang in it
        try:
            self.quiesce()
        except GraceTimeout as error:
            self.events.say("error", str(error))
            self._attendant.after(_AGAIN_S, lambda: self._retire(pause_s))
            return
        for queue in self._queues:
            self._take_back(queue)
        self._retiring = False
        self._later(pause_s)

    def _later(self, pause_s: float) -> None:
        """Look for the next peer; one that comes to us is seen by itself."""
        assert self._attendant is not None
        assert self._rendezvous is not None
        if not self._rendezvous.server:
            self._attendant.after(pause_s, self._look_for_peer)

    def _take_back(self, queue: int) -> None:
        assert self._pool is not None
        VirtioQueue(queue).live = 0
        _reclaim(queue, self._pool.cache(0))

    # What users ask ----------------------------------------------------------------------------------------

    def descriptors(self, queue: int) -> list[int]:
        """An epoll descriptor in which the eventfd stands by which the device says that there is something."""
        return [self._epolls[queue].fileno()]

    def link(self) -> Link:
        """Up while a device is connected that does not say otherwise."""
        return Link(not self._why, 0, self._why)

    def facts(self) -> dict[str, str]:
        """What was agreed on."""
        agreed = self._agreed
        found = {"role": self.options.role, "pairs": str(len(self._rings) // 2), "ring": str(self.options.size)}
        if agreed is not None:
            packed = agreed.features & Feature.RING_PACKED
            found["layout"] = "packed" if packed else "split"
            found["agreed"] = ", ".join(chosen(agreed.features)) or "nothing else"
        return found

    def extended(self) -> dict[str, int]:
        """Connections so far; kicks given; packets received in several buffers."""
        queues = [VirtioQueue(queue) for queue in self._queues]
        return {
            "connections": self._connections,
            "kicks": sum(queue.kicks for queue in queues),
            "rx_merged": sum(queue.merged for queue in queues[::2]),
        }


__all__ = ["VirtioUser", "VirtioUserOptions"]

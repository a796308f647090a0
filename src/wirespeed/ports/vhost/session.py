"""One front end's connection: what it has said so far, and the rings that follow from it.

The front end describes a ring piece by piece (size, addresses, base, descriptors to notify by) and may change any of it
later. So each request only notes what it says; then every ring is brought to where it ought to be (Session.settle):
live if all pieces are there and it is enabled, else off. Whatever takes memory or rings away stops first (off the air,
then a grace period of the workers) and only then changes.

A request that makes no sense ends the connection. All of this runs in the port's attendant; no worker waits for it.

Reference: vhost-user specification, "Ring states", "Multiple queue support", "Front-end message types".
"""

import os
import select
from collections.abc import Callable
from dataclasses import dataclass

from wirespeed.jit import store_release
from wirespeed.ports.bell import free
from wirespeed.ports.vhost.channel import Channel, close_all
from wirespeed.ports.vhost.memory import GuestMemory
from wirespeed.ports.vhost.messages import (
    REPLY,
    Config,
    Message,
    Request,
    VhostError,
    VringAddress,
    VringState,
    pack_u64,
    unpack_memory,
    unpack_nothing,
    unpack_slot,
    unpack_u64,
    unpack_vring_fd,
)
from wirespeed.ports.vhost.ring import MOST_REGIONS, OFF, VhostRing
from wirespeed.ports.vhost.vring import Vring, copy_eventfd, signal, start, writable
from wirespeed.ports.virtio.features import Feature, ProtocolFeature, names
from wirespeed.ports.virtio.vring import LARGEST_PACKED

_MOST_REQUESTS = 64  # in a row


@dataclass(frozen=True)
class Offer:
    """What the port offers, and where its rings are: two for each queue pair, even ones towards the guest."""

    features: int
    protocol: int
    demanded: int
    rings: list[int]
    regions: int
    config: bytes
    epolls: list[select.epoll]
    """For each receive queue what it sleeps on; queue pair p belongs to number p modulo how many there are."""
    bells: list[int]
    """For each of them an eventfd in it that rouses the worker."""


class Session:
    """One connection of the port. ``quiesce`` waits for the workers; ``changed`` is called after rings came or went."""

    def __init__(
        self, channel: Channel, offer: Offer, quiesce: Callable[[], None], changed: Callable[[], None]
    ) -> None:
        self.channel = channel
        self.offer = offer
        self.features = 0
        self.protocol = 0
        self.mtu = 0
        self.memory = GuestMemory()
        self._status = 0
        self._quiesce, self._changed = quiesce, changed
        self.vrings = [Vring(VhostRing(address)) for address in offer.rings]

    # Messages --------------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Do what has been asked for since, a few requests at most: who never stops asking is not to keep us.

        Raises:
            VhostError: something that makes no sense; the session must be closed.
        """
        for _ in range(_MOST_REQUESTS):  # what is left keeps the socket readable
            if (message := self.channel.receive()) is None:
                return
            try:
                answer = self._do(message)
            except VhostError as error:
                self._acknowledge(message, 1)
                raise VhostError(f"{message.name}: {error}") from None
            finally:
                close_all(message.fds)
            if answer is not None:
                self.channel.send(message.reply(answer))
            else:
                self._acknowledge(message, 0)

    def _acknowledge(self, message: Message, failed: int) -> None:
        if message.needs_reply and self.protocol & ProtocolFeature.REPLY_ACK:
            self.channel.send(message.reply(pack_u64(failed)))

    def _do(self, message: Message) -> bytes | None:
        if message.flags & REPLY:
            raise VhostError("an answer where a question belongs")
        needed, function = _REQUESTS.get(message.request, (0, None))
        if function is None or needed & ~self.protocol:
            raise VhostError("not agreed on")
        return function(self, message)

    def _get_features(self, message: Message) -> bytes:
        unpack_nothing(message.payload)
        return pack_u64(self.offer.features)

    def _set_features(self, message: Message) -> None:
        features = unpack_u64(message.payload)
        if features & ~self.offer.features:
            raise VhostError(f"{names(features & ~self.offer.features)} were not offered")
        if self.offer.demanded & ~features:
            raise VhostError(f"the port demands {names(self.offer.demanded & ~features)}")
        if features & Feature.RING_PACKED and not features & Feature.VERSION_1:
            raise VhostError("packed rings belong to virtio 1.1, VERSION_1 is missing")
        if features != self.features:
            self.stop(self.vrings)
            self.features = features
            self.settle()

    def _get_protocol_features(self, message: Message) -> bytes:
        unpack_nothing(message.payload)
        return pack_u64(self.offer.protocol)

    def _set_protocol_features(self, message: Message) -> None:
        protocol = unpack_u64(message.payload)
        if protocol & ~self.offer.protocol:
            raise VhostError(f"{names(protocol & ~self.offer.protocol, ProtocolFeature)} were not offered")
        self.protocol = protocol

    def _nothing(self, message: Message) -> None:
        unpack_nothing(message.payload)

    def _reset(self, message: Message) -> None:
        unpack_nothing(message.payload)
        self._stop_for_good(self.vrings)

    def _set_memory(self, message: Message) -> None:
        regions = unpack_memory(message.payload)
        if len(regions) != len(message.fds):
            raise VhostError(f"{len(regions)} regions of memory with {len(message.fds)} file descriptors")
        made = GuestMemory()
        try:
            for region, fd in zip(regions, message.fds, strict=True):
                made.add(region, fd)
        except BaseException:
            made.close()
            raise
        self.stop(self.vrings)
        old, self.memory = self.memory, made
        old.close()
        self._remember()

    def _add_memory(self, message: Message) -> None:
        region = unpack_slot(message.payload)
        if len(message.fds) != 1:
            raise VhostError(f"a region of memory with {len(message.fds)} file descriptors")
        self.stop(self.vrings)
        self.memory.add(region, message.fds[0])
        self._remember()

    def _remove_memory(self, message: Message) -> None:
        region = unpack_slot(message.payload)
        self.stop(self.vrings)
        self.memory.remove(region)
        self._remember()

    def _remember(self) -> None:
        """The memory is another: rings have forgotten theirs (:meth:`stop`)."""
        self.memory.write_table(self.offer.regions)
        self.settle()

    def _memory_slots(self, message: Message) -> bytes:
        unpack_nothing(message.payload)
        return pack_u64(MOST_REGIONS)

    def _vring(self, index: int) -> Vring:
        if index >= len(self.vrings):
            raise VhostError(f"there is no ring {index}: the port has queues={len(self.vrings) // 2}")
        return self.vrings[index]

    def _set_number(self, message: Message) -> None:
        said = VringState.unpack(message.payload)
        vring = self._vring(said.index)
        if not 1 <= said.number <= LARGEST_PACKED:
            raise VhostError(f"a ring of {said.number} entries: 1 to {LARGEST_PACKED} are possible")
        self.stop([vring])
        vring.entries = said.number
        self.settle()

    def _set_address(self, message: Message) -> None:
        said = VringAddress.unpack(message.payload)
        vring = self._vring(said.index)
        self.stop([vring])
        vring.address = said
        self.settle()

    def _set_base(self, message: Message) -> None:
        said = VringState.unpack(message.payload)
        vring = self._vring(said.index)
        self.stop([vring])
        vring.base, vring.record.fault = said.number, 0
        self.settle()

    def _get_base(self, message: Message) -> bytes:
        said = VringState.unpack(message.payload)
        vring = self._vring(said.index)
        self._stop_for_good([vring])
        return VringState(said.index, vring.base).pack()

    def _set_fd(self, message: Message) -> None:
        index, present = unpack_vring_fd(message.payload)
        vring = self._vring(index)
        if len(message.fds) != present:
            raise VhostError(f"{len(message.fds)} file descriptors")
        self.stop([vring])
        self._drop_fd(vring, message.request)
        if present:
            vring.fds[message.request] = copy_eventfd(message.fds[0])
        if message.request == Request.SET_VRING_KICK:
            vring.started, vring.record.fault = True, 0
            self._listen(vring, True)
        self.settle()

    def _enable(self, message: Message) -> None:
        said = VringState.unpack(message.payload)
        vring = self._vring(said.index)
        if said.number > 1:
            raise VhostError(f"{said.number} is neither on nor off")
        vring.enabled = bool(said.number)
        if not vring.enabled:
            self.stop([vring])
        self.settle()

    def _queues(self, message: Message) -> bytes:
        unpack_nothing(message.payload)
        return pack_u64(len(self.vrings) // 2)

    def _set_mtu(self, message: Message) -> None:
        mtu = unpack_u64(message.payload)
        if not 68 <= mtu <= 65535:
            raise VhostError(f"an MTU of {mtu} bytes")
        self.mtu = mtu

    def _get_config(self, message: Message) -> bytes:
        said = Config.unpack(message.payload)
        space = self.offer.config.ljust(said.offset + len(said.data), b"\0")
        return Config(said.offset, space[said.offset : said.offset + len(said.data)], said.flags).pack()

    def _set_config(self, message: Message) -> None:
        Config.unpack(message.payload)  # a network device's is read only, but for what nobody negotiates any more

    def _set_status(self, message: Message) -> None:
        self._status = unpack_u64(message.payload) & 0xFF
        if self._status == 0:
            self._stop_for_good(self.vrings)

    def _get_status(self, message: Message) -> bytes:
        unpack_nothing(message.payload)
        return pack_u64(self._status)

    # Rings -----------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Start every ring that has all it needs and is not running.

        Raises:
            VhostError: what was said about it does not fit together.
        """
        before = self.live
        for number, vring in enumerate(self.vrings):
            on = vring.enabled or not self.features & Feature.PROTOCOL_FEATURES
            whole = vring.entries and vring.address and self.memory.regions
            if vring.started and on and whole and vring.record.live == OFF and not vring.record.fault:
                start(vring, self.features, self.memory, self.offer.regions, bool(number & 1))
                if self.offer.bells and number & 1:
                    os.eventfd_write(self.offer.bells[number // 2 % len(self.offer.bells)], 1)
        if self.live != before:
            self._changed()

    @property
    def live(self) -> list[int]:
        """Numbers of the rings that run."""
        return [number for number, vring in enumerate(self.vrings) if vring.record.live != OFF]

    def stop(self, vrings: list[Vring]) -> None:
        """Take rings off the air and wait until no worker is inside; they may start again where they were."""
        running = [vring for vring in vrings if vring.record.live != OFF]
        for vring in running:
            store_release(vring.record.address, OFF)
        self.unblock()  # a worker that hangs in notifying would not let the grace period end
        if running:
            self._changed()
        self._quiesce()
        for vring in running:
            record = vring.record
            vring.base = record.next
            if self.features & Feature.RING_PACKED:
                place = record.next | record.wrap << 15
                vring.base = place | place << 16

    def _stop_for_good(self, vrings: list[Vring]) -> None:
        self.stop(vrings)
        for vring in vrings:
            vring.started = vring.enabled = False
            for request in list(vring.fds):
                self._drop_fd(vring, request)

    def _listen(self, vring: Vring, on: bool) -> None:
        """A ring that the guest sends by rouses its receive queue when it is kicked."""
        pair, towards_us = divmod(self.vrings.index(vring), 2)
        fd = vring.fds.get(Request.SET_VRING_KICK, -1)
        if fd >= 0 and towards_us and self.offer.epolls:
            epoll = self.offer.epolls[pair % len(self.offer.epolls)]
            if on:
                epoll.register(fd, select.EPOLLIN | select.EPOLLET)
            else:
                epoll.unregister(fd)

    def _drop_fd(self, vring: Vring, request: int) -> None:
        if request == Request.SET_VRING_KICK:
            self._listen(vring, False)
        fd = vring.fds.pop(request, -1)
        if fd >= 0:
            if not writable(fd):
                free(fd)  # somebody may hang in it
            os.close(fd)

    def signal_error(self, vring: Vring) -> None:
        """Tell the front end that a ring was ended, if it wants to know."""
        fd = vring.fds.get(Request.SET_VRING_ERR, -1)
        if fd >= 0:
            free(fd)
            signal(fd)

    def unblock(self) -> bool:
        """Whether a descriptor that workers notify by is full: the next notification would block if the front end made
        it so. It is emptied, which also frees a worker that is held up already."""
        found = False
        for vring in self.vrings:
            fd = vring.fds.get(Request.SET_VRING_CALL, -1)
            if fd >= 0 and not writable(fd):
                free(fd)
                found = True
        return found

    def close(self) -> None:
        """End the session: rings off, memory unmapped, descriptors closed."""
        self._stop_for_good(self.vrings)
        for vring in self.vrings:
            vring.record.fault = 0
        self.memory.close()
        self.memory.write_table(self.offer.regions)
        self.channel.close()


_REQUESTS: dict[int, tuple[int, Callable[[Session, Message], bytes | None]]] = {
    Request.GET_FEATURES: (0, Session._get_features),
    Request.SET_FEATURES: (0, Session._set_features),
    Request.SET_OWNER: (0, Session._nothing),
    Request.RESET_OWNER: (0, Session._reset),
    Request.SET_MEM_TABLE: (0, Session._set_memory),
    Request.SET_VRING_NUM: (0, Session._set_number),
    Request.SET_VRING_ADDR: (0, Session._set_address),
    Request.SET_VRING_BASE: (0, Session._set_base),
    Request.GET_VRING_BASE: (0, Session._get_base),
    Request.SET_VRING_KICK: (0, Session._set_fd),
    Request.SET_VRING_CALL: (0, Session._set_fd),
    Request.SET_VRING_ERR: (0, Session._set_fd),
    Request.GET_PROTOCOL_FEATURES: (0, Session._get_protocol_features),
    Request.SET_PROTOCOL_FEATURES: (0, Session._set_protocol_features),
    Request.GET_QUEUE_NUM: (ProtocolFeature.MQ, Session._queues),
    Request.SET_VRING_ENABLE: (0, Session._enable),
    Request.NET_SET_MTU: (ProtocolFeature.NET_MTU, Session._set_mtu),
    Request.GET_CONFIG: (ProtocolFeature.CONFIG, Session._get_config),
    Request.SET_CONFIG: (ProtocolFeature.CONFIG, Session._set_config),
    Request.GET_MAX_MEM_SLOTS: (ProtocolFeature.CONFIGURE_MEM_SLOTS, Session._memory_slots),
    Request.ADD_MEM_REG: (ProtocolFeature.CONFIGURE_MEM_SLOTS, Session._add_memory),
    Request.REM_MEM_REG: (ProtocolFeature.CONFIGURE_MEM_SLOTS, Session._remove_memory),
    Request.SET_STATUS: (ProtocolFeature.STATUS, Session._set_status),
    Request.GET_STATUS: (ProtocolFeature.STATUS, Session._get_status),
}
"""What is understood: the protocol features that it takes, and who does it."""


__all__ = ["Offer", "Session", "Vring"]

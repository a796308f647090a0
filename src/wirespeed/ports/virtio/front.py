"""vhost-user's front end: what the driver of a device says to whoever is the device, from hello to go and to stop.

::

    SET_OWNER  GET_FEATURES  [GET/SET_PROTOCOL_FEATURES  GET_QUEUE_NUM  GET_CONFIG]  SET_FEATURES
    SET_MEM_TABLE          the arena and the rings, by file descriptor: the device reads and writes cells in place
    for each ring          SET_VRING_NUM  BASE  ADDR  CALL  KICK
    for each ring          SET_VRING_ENABLE, after which packets move
    ...
    for each ring          GET_VRING_BASE, after which the device keeps off

Addresses, also those of packets, are those of this process. With REPLY_ACK the device says whether it could do each.

Reference: QEMU's docs/interop/vhost-user.rst; virtio 1.2 section 3.1 (device initialisation).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from wirespeed.ports.vhost.channel import Channel
from wirespeed.ports.vhost.messages import (
    NEED_REPLY,
    VERSION,
    Config,
    MemoryRegion,
    Message,
    Request,
    VhostError,
    VringAddress,
    VringState,
    pack_memory,
    pack_u64,
    pack_vring_fd,
    unpack_u64,
)
from wirespeed.ports.virtio.features import Feature, ProtocolFeature, names

ACKNOWLEDGED, DRIVER, DRIVER_OK, FEATURES_OK = 1, 2, 4, 8
"""Bits of the device status field (virtio 1.2 section 2.1)."""
PACKED_START: int = 0x8000_8000
"""A packed ring's base: both indices 0, both wrap counters 1."""

_CONFIG_BYTES = 12  # of struct virtio_net_config: mac, status, max_virtqueue_pairs, mtu
_LINK_UP = 1
_PROTOCOL = (
    ProtocolFeature.MQ | ProtocolFeature.REPLY_ACK | ProtocolFeature.NET_MTU | ProtocolFeature.CONFIG
    | ProtocolFeature.STATUS
)  # fmt: skip


@dataclass(frozen=True)
class Wish:
    """What this side wants: ``must`` features and ``may`` features, queue pairs, and the MTU to tell."""

    must: Feature
    may: Feature
    pairs: int
    mtu: int


@dataclass(frozen=True)
class Agreement:
    """What both ends agreed on. ``mac`` and ``mtu`` are 0, and ``up`` true, where the device does not say."""

    features: Feature
    protocol: ProtocolFeature
    pairs_offered: int
    mac: int = 0
    mtu: int = 0
    up: bool = True


@dataclass(frozen=True)
class Ring:
    """One ring: its index at the device, entries, areas, and eventfds."""

    index: int
    size: int
    descriptors: int
    driver: int
    device: int
    kick: int
    call: int


class Front:
    """One conversation."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.agreed: Agreement | None = None
        self._protocol = ProtocolFeature(0)

    # What is said ------------------------------------------------------------------------------------------

    def agree(self, wish: Wish) -> Agreement:
        """From hello to features.

        Raises:
            VhostError: it is not there, makes no sense, or lacks what must be.
        """
        self._tell(Request.SET_OWNER)
        offered = Feature(self._get(Request.GET_FEATURES))
        missing = wish.must & ~offered
        if missing:
            raise VhostError(f"it does not offer {names(missing)}")
        features = offered & (wish.must | wish.may)
        protocol = ProtocolFeature(0)
        if offered & Feature.PROTOCOL_FEATURES:
            features |= Feature.PROTOCOL_FEATURES
            protocol = ProtocolFeature(self._get(Request.GET_PROTOCOL_FEATURES)) & _PROTOCOL
            self._tell(Request.SET_PROTOCOL_FEATURES, pack_u64(protocol))
            self._protocol = protocol
        pairs = 1
        if protocol & ProtocolFeature.MQ:
            pairs = self._get(Request.GET_QUEUE_NUM)
        if pairs < wish.pairs:
            raise VhostError(f"it has {pairs} of the {wish.pairs} queue pairs that are wanted: ask for queues={pairs}")
        if wish.pairs > 1:
            features |= offered & Feature.MQ
        if protocol & (ProtocolFeature.CONFIG | ProtocolFeature.NET_MTU):
            features |= offered & Feature.MTU
        if protocol & ProtocolFeature.CONFIG:
            features |= offered & (Feature.MAC | Feature.STATUS)
        self._status(ACKNOWLEDGED | DRIVER)
        self._tell(Request.SET_FEATURES, pack_u64(features))
        self._status(ACKNOWLEDGED | DRIVER | FEATURES_OK)
        if protocol & ProtocolFeature.NET_MTU and features & Feature.MTU and wish.mtu:
            self._tell(Request.NET_SET_MTU, pack_u64(wish.mtu))
        self.agreed = self._configured(Agreement(features, protocol, pairs))
        return self.agreed

    def _configured(self, agreed: Agreement) -> Agreement:
        """With what the device's configuration space says."""
        if not agreed.protocol & ProtocolFeature.CONFIG:
            return agreed
        answer = self.channel.ask(Message(Request.GET_CONFIG, Config(0, bytes(_CONFIG_BYTES)).pack()))
        if answer.fds or len(answer.payload) < 12:  # an empty answer: it cannot say
            return agreed
        data = Config.unpack(answer.payload).data
        if len(data) < _CONFIG_BYTES:
            return agreed
        mac = int.from_bytes(data[:6], "big") if agreed.features & Feature.MAC else 0
        up = not agreed.features & Feature.STATUS or bool(data[6] & _LINK_UP)
        mtu = int.from_bytes(data[10:12], "little") if agreed.features & Feature.MTU else 0
        return Agreement(agreed.features, agreed.protocol, agreed.pairs_offered, mac, mtu, up)

    def start(self, memory: Sequence[tuple[int, int, int]], rings: Sequence[Ring]) -> None:
        """Hand over the memory and the rings.

        Args:
            memory: address, bytes and file descriptor of each region.
            rings: all of them, in the order of their indices.

        Raises:
            VhostError: it will not, or is gone.
        """
        assert self.agreed is not None
        regions = [MemoryRegion(address, size, address, 0) for address, size, _ in memory]
        self._tell(Request.SET_MEM_TABLE, pack_memory(regions), tuple(fd for _, _, fd in memory))
        base = PACKED_START if self.agreed.features & Feature.RING_PACKED else 0
        for ring in rings:
            index = ring.index
            self._tell(Request.SET_VRING_NUM, VringState(index, ring.size).pack())
            self._tell(Request.SET_VRING_BASE, VringState(index, base).pack())
            self._tell(Request.SET_VRING_ADDR, VringAddress(index, ring.descriptors, ring.device, ring.driver).pack())
            self._tell(Request.SET_VRING_CALL, pack_vring_fd(index), (ring.call,))
            self._tell(Request.SET_VRING_KICK, pack_vring_fd(index), (ring.kick,))
        if self.agreed.features & Feature.PROTOCOL_FEATURES:  # without them rings are enabled by their kick
            for ring in rings:
                self._tell(Request.SET_VRING_ENABLE, VringState(ring.index, 1).pack())
        self._status(ACKNOWLEDGED | DRIVER | FEATURES_OK | DRIVER_OK)

    def stop(self, rings: Sequence[Ring], timeout: float) -> None:
        """Take the rings back.

        Raises:
            VhostError: it did not answer; close the connection, then.
        """
        for ring in rings:
            self.channel.ask(Message(Request.GET_VRING_BASE, VringState(ring.index, 0).pack()), timeout)

    # How it is said ------------------------------------------------------------------------------------------

    def _get(self, request: Request) -> int:
        answer = self.channel.ask(Message(request))
        return unpack_u64(answer.payload)

    def _tell(self, request: Request, payload: bytes = b"", fds: tuple[int, ...] = ()) -> None:
        acknowledged = bool(self._protocol & ProtocolFeature.REPLY_ACK)
        message = Message(request, payload, fds, VERSION | (NEED_REPLY if acknowledged else 0))
        if not acknowledged:
            self.channel.send(message)
        elif failure := unpack_u64(self.channel.ask(message).payload):
            raise VhostError(f"{message.name} failed there ({failure})")

    def _status(self, status: int) -> None:
        if self._protocol & ProtocolFeature.STATUS:
            self._tell(Request.SET_STATUS, pack_u64(status))


__all__ = ["Agreement", "Front", "Ring", "Wish"]

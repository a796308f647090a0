"""Feature bits of virtio: what a network device and its driver agree on before the first packet.

The device offers a set, the driver takes a subset; nothing outside of it may be used afterwards. Both ends of
vhost-user speak of the same 64-bit set, with one bit of vhost's own in it (``PROTOCOL_FEATURES``).

References: virtio 1.2 sections 5.1.3 (network device) and 6 (reserved feature bits); include/uapi/linux/virtio_net.h,
virtio_config.h, vhost.h; vhost-user specification, "Feature negotiation".
"""

from enum import IntFlag


class Feature(IntFlag):
    """Virtio feature bits, named as in the standard; ``HOST`` is the device, ``GUEST`` the driver."""

    CSUM = 1 << 0
    """The device takes packets whose transport checksum is not summed."""
    GUEST_CSUM = 1 << 1
    """The driver takes such packets."""
    CTRL_GUEST_OFFLOADS = 1 << 2
    MTU = 1 << 3
    MAC = 1 << 5
    GUEST_TSO4 = 1 << 7
    GUEST_TSO6 = 1 << 8
    GUEST_ECN = 1 << 9
    GUEST_UFO = 1 << 10
    HOST_TSO4 = 1 << 11
    HOST_TSO6 = 1 << 12
    HOST_ECN = 1 << 13
    HOST_UFO = 1 << 14
    MRG_RXBUF = 1 << 15
    """A received packet may take several buffers: the header counts them."""
    STATUS = 1 << 16
    CTRL_VQ = 1 << 17
    CTRL_RX = 1 << 18
    CTRL_VLAN = 1 << 19
    GUEST_ANNOUNCE = 1 << 21
    MQ = 1 << 22
    CTRL_MAC_ADDR = 1 << 23
    NOTIFY_ON_EMPTY = 1 << 24
    """Of virtio before 1.0."""
    LOG_ALL = 1 << 26
    """Of vhost: write down which pages were written (migration)."""
    ANY_LAYOUT = 1 << 27
    """Of virtio before 1.0: a header may share a buffer with its packet; always so since."""
    INDIRECT_DESC = 1 << 28
    EVENT_IDX = 1 << 29
    PROTOCOL_FEATURES = 1 << 30
    """Of vhost-user: there are protocol features to agree on, too."""
    VERSION_1 = 1 << 32
    """Virtio 1.0 or later: the header before each packet is 12 bytes, all fields little endian."""
    ACCESS_PLATFORM = 1 << 33
    """Addresses in the rings are an IOMMU's."""
    RING_PACKED = 1 << 34
    IN_ORDER = 1 << 35
    """Buffers are used in the order they were made available."""
    ORDER_PLATFORM = 1 << 36
    NOTIFICATION_DATA = 1 << 38
    RING_RESET = 1 << 40
    HOST_USO = 1 << 56
    GUEST_USO4 = 1 << 54
    GUEST_USO6 = 1 << 55
    HASH_REPORT = 1 << 57
    RSS = 1 << 60
    SPEED_DUPLEX = 1 << 63


class ProtocolFeature(IntFlag):
    """Protocol features of vhost-user: which messages beyond the first ones both ends understand."""

    MQ = 1 << 0
    LOG_SHMFD = 1 << 1
    RARP = 1 << 2
    REPLY_ACK = 1 << 3
    """A request may ask for an answer that says whether it could be done."""
    NET_MTU = 1 << 4
    BACKEND_REQ = 1 << 5
    CROSS_ENDIAN = 1 << 6
    CRYPTO_SESSION = 1 << 7
    PAGEFAULT = 1 << 8
    CONFIG = 1 << 9
    """The device's configuration space is read by messages."""
    BACKEND_SEND_FD = 1 << 10
    HOST_NOTIFIER = 1 << 11
    INFLIGHT_SHMFD = 1 << 12
    RESET_DEVICE = 1 << 13
    INBAND_NOTIFICATIONS = 1 << 14
    CONFIGURE_MEM_SLOTS = 1 << 15
    """Memory regions come and go one by one."""
    STATUS = 1 << 16
    """The device status field is told to the back end."""


def header_bytes(features: int) -> int:
    """Bytes of the virtio-net header before each packet: with ``num_buffers`` at the end if either bit is there.

    Virtio 1.2 section 5.1.6.1: a legacy interface without MRG_RXBUF has the 10-byte header.
    """
    return 12 if features & (Feature.MRG_RXBUF | Feature.VERSION_1) else 10


def names(features: int, kind: type[IntFlag] = Feature) -> str:
    """The bits by name, for messages: ``CSUM, MRG_RXBUF, bit 50``."""
    known = {int(bit): bit.name or "" for bit in kind}
    bits = [1 << at for at in range(64) if features >> at & 1]
    return ", ".join(known.get(bit) or f"bit {bit.bit_length() - 1}" for bit in bits) or "none"


__all__ = ["Feature", "ProtocolFeature", "header_bytes", "names"]

"""What virtio_user's options ask for, as feature bits; and what the agreed ones mean for rings and packets."""

from dataclasses import dataclass

from wirespeed.errors import PortError
from wirespeed.mem.descriptor import ROOM
from wirespeed.ports.offloads import Offload
from wirespeed.ports.options import option
from wirespeed.ports.virtio.features import Feature
from wirespeed.ports.virtio.front import Wish
from wirespeed.ports.virtio.record import (
    CHECKSUM,
    EVENT_IDX,
    HEADER,
    IN_ORDER,
    INDIRECT_TABLES,
    LARGEST,
    MERGE,
    OFFLOADS,
    PACKED,
    SEGMENTATION,
)

_HOST_SEGMENTATION = Feature.HOST_TSO4 | Feature.HOST_TSO6 | Feature.HOST_ECN | Feature.HOST_USO
_GUEST_SEGMENTATION = (
    Feature.GUEST_TSO4 | Feature.GUEST_TSO6 | Feature.GUEST_ECN | Feature.GUEST_USO4 | Feature.GUEST_USO6
)
_MODES = {
    PACKED: Feature.RING_PACKED, MERGE: Feature.MRG_RXBUF, INDIRECT_TABLES: Feature.INDIRECT_DESC,
    EVENT_IDX: Feature.EVENT_IDX, IN_ORDER: Feature.IN_ORDER, CHECKSUM: Feature.CSUM,
    SEGMENTATION: Feature.HOST_TSO4, OFFLOADS: Feature.GUEST_CSUM,
}  # fmt: skip
_LARGEST_MTU = ROOM - HEADER - 14  # of a packet that one buffer takes
_NAMES = {
    "mergeable": Feature.MRG_RXBUF, "indirect": Feature.INDIRECT_DESC, "in order": Feature.IN_ORDER,
    "event index": Feature.EVENT_IDX, "checksums": Feature.CSUM, "segmentation": Feature.HOST_TSO4,
}  # fmt: skip


@dataclass(frozen=True)
class VirtioUserOptions:
    """Options of ``virtio_user``."""

    path: str = option(doc="the Unix socket", positional=True)
    role: str = option("client", "client: connect to the socket; server: make it and wait")
    queues: int = option(1, "queue pairs (1 to 64)")
    size: int = option(256, "entries of each ring, a power of two (16 to 32768)")
    packed: str = option("no", "packed rings: auto (if offered), yes or no")
    mergeable: str = option(
        "auto", "receive packets that take several buffers: auto (if mtu or offloads need it), yes, no"
    )
    indirect: bool = option(True, "send chains by indirect descriptors")
    in_order: bool = option(True, "agree on buffers being used in order, if offered")
    event_index: bool = option(False, "say from which buffer on notifications are wanted, not only whether")
    offloads: bool = option(False, "leave checksums and segmentation to whoever is last; else they are done here")
    mac: str = option("", "our Ethernet address; the other side's choice, or a random one, if not given")
    mtu: int = option(1500, "bytes (68 to 65521); above 1574 it takes several buffers")


def wish(options: VirtioUserOptions, pairs: int) -> Wish:
    """What the options ask for."""
    needed = options.offloads or options.mtu > _LARGEST_MTU
    mergeable = options.mergeable == "yes" or (options.mergeable == "auto" and needed)
    must = Feature.VERSION_1
    may = Feature(0)
    if options.packed == "yes":
        must |= Feature.RING_PACKED
    for wanted, feature in (
        (options.packed == "auto", Feature.RING_PACKED),
        (mergeable, Feature.MRG_RXBUF),
        (options.indirect, Feature.INDIRECT_DESC),
        (options.in_order, Feature.IN_ORDER),
        (options.event_index, Feature.EVENT_IDX),
        (options.offloads, Feature.CSUM | Feature.GUEST_CSUM | _HOST_SEGMENTATION),
        (options.offloads and mergeable, _GUEST_SEGMENTATION),
    ):
        if wanted:
            may |= feature
    return Wish(must, may, pairs, options.mtu)


def mode_of(features: Feature) -> int:
    """``VirtioQueue.mode`` of the agreed features."""
    return sum(bit for bit, feature in _MODES.items() if features & feature)


def chosen(features: Feature) -> list[str]:
    """The agreed features that make a difference, as people call them."""
    return [name for name, feature in _NAMES.items() if features & feature]


def offloads_of(features: Feature) -> Offload:
    """What the port does by itself."""
    found = Offload.ZERO_COPY | Offload.INTERRUPT
    for feature, offload in (
        (Feature.GUEST_CSUM, Offload.RX_CHECKSUM),
        (Feature.CSUM, Offload.TX_CHECKSUM),
        (Feature.HOST_TSO4, Offload.TX_TCP_SEGMENTATION),
        (Feature.HOST_USO, Offload.TX_UDP_SEGMENTATION),
        (Feature.GUEST_TSO4, Offload.RX_COALESCING),
        (Feature.MRG_RXBUF, Offload.MULTI_BUFFER),
    ):
        if features & feature:
            found |= offload
    return found


def check(spec: str, options: VirtioUserOptions) -> None:
    """Raises PortError for options that cannot be."""
    if options.role not in ("client", "server"):
        raise PortError(f"port {spec!r}: role={options.role!r} must be client or server")
    if options.packed not in ("auto", "yes", "no"):
        raise PortError(f"port {spec!r}: packed={options.packed!r} must be auto, yes or no")
    if not 1 <= options.queues <= 64:
        raise PortError(f"port {spec!r}: queues={options.queues} must be 1 to 64")
    if not 16 <= options.size <= LARGEST or options.size & (options.size - 1):
        raise PortError(f"port {spec!r}: size={options.size} must be a power of two, 16 to {LARGEST}")
    if not 68 <= options.mtu <= 65521:
        raise PortError(f"port {spec!r}: mtu={options.mtu} must be 68 to 65521 bytes")
    if options.mergeable not in ("auto", "yes", "no"):
        raise PortError(f"port {spec!r}: mergeable={options.mergeable!r} must be auto, yes or no")
    if options.mtu > _LARGEST_MTU and options.mergeable == "no":
        raise PortError(
            f"port {spec!r}: mtu={options.mtu} is more than the {_LARGEST_MTU} bytes of one cell: say mergeable=yes"
        )


__all__ = ["VirtioUserOptions", "check", "chosen", "mode_of", "offloads_of", "wish"]

"""One ring as the front end describes it, and how it is put on the air for the workers.

Reference: vhost-user specification, "Ring states"; virtio 1.2 sections 2.7 and 2.8.
"""

import contextlib
import fcntl
import os
import select
import threading
from dataclasses import dataclass, field

from wirespeed.jit import load16, store16, store_release
from wirespeed.ports.vhost.memory import GuestMemory
from wirespeed.ports.vhost.messages import Request, VhostError, VringAddress
from wirespeed.ports.vhost.queue import bind
from wirespeed.ports.vhost.ring import (
    CHECKSUM,
    EVENT_IDX,
    HEADERS,
    IN_ORDER,
    INDIRECT_TABLES,
    MERGE,
    PACKED,
    SPLIT,
    TSO4,
    TSO6,
    USO,
    VhostRing,
)
from wirespeed.ports.virtio.features import Feature, header_bytes
from wirespeed.ports.virtio.vring import EVENTS_OFF, NO_NOTIFY, available_bytes, split_descriptors_bytes, used_bytes

_MODES = {
    Feature.MRG_RXBUF: MERGE, Feature.INDIRECT_DESC: INDIRECT_TABLES, Feature.EVENT_IDX: EVENT_IDX,
    Feature.IN_ORDER: IN_ORDER, Feature.CSUM: HEADERS, Feature.GUEST_CSUM: CHECKSUM, Feature.GUEST_TSO4: TSO4,
    Feature.GUEST_TSO6: TSO6, Feature.GUEST_USO4: USO,
}  # fmt: skip


@dataclass
class Vring:
    """What the front end has said about one ring."""

    record: VhostRing
    entries: int = 0
    base: int = 0
    address: VringAddress | None = None
    started: bool = False
    enabled: bool = False
    fds: dict[int, int] = field(default_factory=dict)
    """Our copies of its eventfds, by the request that brought them."""


def start(vring: Vring, features: int, memory: GuestMemory, regions: int, receives: bool) -> None:
    """Put a ring on the air.

    Args:
        features: what was agreed on.
        memory, regions: the guest's memory, and the table of it.
        receives: the guest sends by it.

    Raises:
        VhostError: what was said about it does not fit together.
    """
    record, entries, said = vring.record, vring.entries, vring.address
    packed = bool(features & Feature.RING_PACKED)
    assert said is not None
    if packed:
        sizes = ((said.descriptors, 16 * entries, 16), (said.available, 4, 4), (said.used, 4, 4))
    elif entries & (entries - 1):
        raise VhostError(f"a split ring of {entries} entries: it must be a power of two")
    else:
        sizes = (
            (said.descriptors, int(split_descriptors_bytes(entries)), 16),
            (said.available, int(available_bytes(entries)), 2),
            (said.used, int(used_bytes(entries)), 4),
        )
    record.descriptors, record.driver, record.device = (memory.address_of(*part) for part in sizes)
    record.size = entries
    record.header = header_bytes(features)
    record.mode = sum(mode for feature, mode in _MODES.items() if features & feature)
    record.regions = regions
    record.call = vring.fds.get(Request.SET_VRING_CALL, -1)
    record.low = record.high = record.delta = record.lock = record.ready = 0
    bind(record, PACKED if packed else SPLIT, receives)
    _place(record, vring, features)
    store_release(record.address, PACKED if packed else SPLIT)


def _place(record: VhostRing, vring: Vring, features: int) -> None:
    """Where in the ring we are; and that we look by ourselves, so the guest need not kick."""
    if features & Feature.RING_PACKED:
        record.next, record.wrap = vring.base & 0x7FFF, vring.base >> 15 & 1
        if record.next >= record.size:
            raise VhostError(f"position {record.next} in a ring of {record.size} entries")
        store16(record.device + 2, EVENTS_OFF)
        return
    record.next = load16(record.device + 2)  # the base, unless a back end before us died in between
    store16(record.device, 0 if features & Feature.EVENT_IDX else NO_NOTIFY)


def writable(fd: int) -> bool:
    """Whether a write to it would not block."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(0))


def signal(fd: int) -> None:
    """Signal an eventfd without waiting: in a thread, for the peer can have it block, and fill it, at any time."""
    threading.Thread(target=_signal, args=(os.dup(fd),), name="wirespeed-signal", daemon=True).start()


def _signal(fd: int) -> None:
    with contextlib.suppress(OSError):
        os.eventfd_write(fd, 1)
    os.close(fd)


def copy_eventfd(fd: int) -> int:
    """Our own descriptor of an eventfd that never blocks us; anything else could.

    Raises:
        VhostError: it is no eventfd.
    """
    try:
        kind = os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        kind = "nothing"
    if kind != "anon_inode:[eventfd]":
        raise VhostError(f"a descriptor of {kind} to notify by, not of an eventfd")
    copy = os.dup(fd)
    fcntl.fcntl(copy, fcntl.F_SETFL, fcntl.fcntl(copy, fcntl.F_GETFL) | os.O_NONBLOCK)
    return copy


__all__ = ["Vring", "copy_eventfd", "signal", "start", "writable"]

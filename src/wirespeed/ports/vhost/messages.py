"""vhost-user's messages: how a virtual machine and whoever plays its network card talk over a Unix socket.

The front end (QEMU, DPDK's net_virtio_user, our ``virtio_user``) asks; the back end (DPDK's net_vhost, our
``vhost_user``) answers. A message, little endian::

    0   request (32)   which one, :class:`Request`
    4   flags (32)     version 1 in bits 0-1, REPLY in bit 2, NEED_REPLY in bit 3
    8   size (32)      bytes of payload
    12  payload        a struct of exactly the size that the request has; file descriptors come with the first byte

Payloads are the classes and functions below, each with ``pack`` and ``unpack``; ``unpack`` takes exactly what the
request must have and says what is wrong with anything else: the other end may be hostile. Sending and receiving is
:mod:`wirespeed.ports.vhost.channel`, feature bits are :mod:`wirespeed.ports.virtio.features`.

Reference: QEMU's docs/interop/vhost-user.rst, "Message Specification" and "Front-end message types".
"""

import struct
from dataclasses import dataclass, field
from enum import IntEnum

from wirespeed.errors import PortError

VERSION: int = 1
VERSION_MASK: int = 3
REPLY: int = 1 << 2
NEED_REPLY: int = 1 << 3
"""Bits of ``flags``."""
HEADER: struct.Struct = struct.Struct("<III")
LARGEST_PAYLOAD: int = 1024
"""More than any request has; what is longer is no message."""
MOST_REGIONS: int = 8
"""Memory regions of one SET_MEM_TABLE, and file descriptors of one message."""
NO_DESCRIPTOR: int = 1 << 8
"""SET_VRING_KICK, CALL and ERR: no file descriptor comes with it."""
LARGEST_CONFIG: int = 256
"""Bytes of a device's configuration space."""

_U64 = struct.Struct("<Q")
_STATE = struct.Struct("<II")
_ADDRESS = struct.Struct("<IIQQQQ")
_REGION = struct.Struct("<QQQQ")
_CONFIG = struct.Struct("<III")
_INFLIGHT = struct.Struct("<QQHH")


class VhostError(PortError):
    """The other end said something that makes no sense; the message says what."""


class VhostGone(VhostError):
    """The other end closed the connection."""


class Request(IntEnum):
    """What the front end asks for."""

    GET_FEATURES = 1
    SET_FEATURES = 2
    SET_OWNER = 3
    RESET_OWNER = 4
    SET_MEM_TABLE = 5
    SET_LOG_BASE = 6
    SET_LOG_FD = 7
    SET_VRING_NUM = 8
    SET_VRING_ADDR = 9
    SET_VRING_BASE = 10
    GET_VRING_BASE = 11
    SET_VRING_KICK = 12
    SET_VRING_CALL = 13
    SET_VRING_ERR = 14
    GET_PROTOCOL_FEATURES = 15
    SET_PROTOCOL_FEATURES = 16
    GET_QUEUE_NUM = 17
    SET_VRING_ENABLE = 18
    SEND_RARP = 19
    NET_SET_MTU = 20
    SET_BACKEND_REQ_FD = 21
    IOTLB_MSG = 22
    SET_VRING_ENDIAN = 23
    GET_CONFIG = 24
    SET_CONFIG = 25
    CREATE_CRYPTO_SESSION = 26
    CLOSE_CRYPTO_SESSION = 27
    POSTCOPY_ADVISE = 28
    POSTCOPY_LISTEN = 29
    POSTCOPY_END = 30
    GET_INFLIGHT_FD = 31
    SET_INFLIGHT_FD = 32
    GPU_SET_SOCKET = 33
    RESET_DEVICE = 34
    VRING_KICK = 35
    GET_MAX_MEM_SLOTS = 36
    ADD_MEM_REG = 37
    REM_MEM_REG = 38
    SET_STATUS = 39
    GET_STATUS = 40


_NAMES: dict[int, str] = {int(request): request.name for request in Request}

ANSWERED: frozenset[int] = frozenset({
    Request.GET_FEATURES, Request.GET_PROTOCOL_FEATURES, Request.GET_VRING_BASE, Request.GET_QUEUE_NUM,
    Request.GET_CONFIG, Request.GET_INFLIGHT_FD, Request.GET_MAX_MEM_SLOTS, Request.GET_STATUS,
})  # fmt: skip
"""Requests whose answer is a payload; REPLY_ACK's answer to the others is 64 bits, 0 for done."""


@dataclass(frozen=True)
class Message:
    """One message. Whoever receives it owns its file descriptors: keep or :meth:`close` them."""

    request: int
    payload: bytes = b""
    fds: tuple[int, ...] = field(default=())
    flags: int = VERSION

    @property
    def name(self) -> str:
        """The request by name, for messages to people."""
        return _NAMES.get(self.request, f"request {self.request}")

    @property
    def needs_reply(self) -> bool:
        """REPLY_ACK: the sender waits for an answer to this request, which has none of its own."""
        return bool(self.flags & NEED_REPLY) and self.request not in ANSWERED

    def head(self) -> bytes:
        """The twelve bytes before the payload."""
        return HEADER.pack(self.request, self.flags, len(self.payload))

    def reply(self, payload: bytes, fds: tuple[int, ...] = ()) -> "Message":
        """The answer to this request."""
        return Message(self.request, payload, fds, VERSION | REPLY)


def parse_head(head: bytes) -> tuple[int, int, int]:
    """``(request, flags, size)`` of a message's twelve bytes.

    Raises:
        VhostError: another version, or a size that no request has.
    """
    request, flags, size = HEADER.unpack(head)
    if flags & VERSION_MASK != VERSION:
        raise VhostError(f"a message of version {flags & VERSION_MASK}: vhost-user has version {VERSION}")
    if size > LARGEST_PAYLOAD:
        raise VhostError(f"a message of {size} bytes: no request has more than {LARGEST_PAYLOAD}")
    return request, flags, size


def _exactly(layout: struct.Struct, payload: bytes) -> tuple[int, ...]:
    if len(payload) != layout.size:
        raise VhostError(f"{len(payload)} bytes of payload, not the {layout.size} that the request has")
    return layout.unpack(payload)


def pack_u64(value: int) -> bytes:
    """Payload of features, queue numbers, acknowledgements."""
    return _U64.pack(value)


def unpack_u64(payload: bytes) -> int:
    """See :func:`pack_u64`."""
    return _exactly(_U64, payload)[0]


def unpack_nothing(payload: bytes) -> None:
    """A request without payload."""
    if payload:
        raise VhostError(f"{len(payload)} bytes of payload where the request has none")


@dataclass(frozen=True)
class VringState:
    """SET_VRING_NUM, BASE, ENABLE and GET_VRING_BASE: a number for a ring.

    A base is the available index of a split ring. Of a packed ring, bits 0-14 are the available index and bit 15 its
    wrap counter; bits 16-30 and 31 are the same for the used index.
    """

    index: int
    number: int

    def pack(self) -> bytes:
        """As payload."""
        return _STATE.pack(self.index, self.number)

    @classmethod
    def unpack(cls, payload: bytes) -> "VringState":
        """From payload."""
        return cls(*_exactly(_STATE, payload))


@dataclass(frozen=True)
class VringAddress:
    """SET_VRING_ADDR: where a ring's areas are, in the front end's own address space.

    Packed: ``used`` is the device area, ``available`` the driver area.
    """

    index: int
    descriptors: int
    used: int
    available: int
    flags: int = 0
    log: int = 0

    def pack(self) -> bytes:
        """As payload."""
        return _ADDRESS.pack(self.index, self.flags, self.descriptors, self.used, self.available, self.log)

    @classmethod
    def unpack(cls, payload: bytes) -> "VringAddress":
        """From payload."""
        index, flags, descriptors, used, available, log = _exactly(_ADDRESS, payload)
        return cls(index, descriptors, used, available, flags, log)


def pack_vring_fd(index: int, present: bool = True) -> bytes:
    """SET_VRING_KICK, CALL, ERR: the ring's index, and whether a file descriptor comes along."""
    return _U64.pack(index | (0 if present else NO_DESCRIPTOR))


def unpack_vring_fd(payload: bytes) -> tuple[int, bool]:
    """``(index, present)``, see :func:`pack_vring_fd`."""
    value = unpack_u64(payload)
    if value >= NO_DESCRIPTOR << 1:
        raise VhostError(f"{value:#x} is no ring's index")
    return value & 0xFF, not value & NO_DESCRIPTOR


@dataclass(frozen=True)
class MemoryRegion:
    """A piece of the front end's memory.

    Attributes:
        guest: where the descriptors' addresses say it is.
        size: bytes.
        user: where the front end itself has it; ring addresses are of this kind.
        offset: where it begins in the file whose descriptor came along.
    """

    guest: int
    size: int
    user: int
    offset: int

    def pack(self) -> bytes:
        """As part of a payload."""
        return _REGION.pack(self.guest, self.size, self.user, self.offset)


def pack_memory(regions: list[MemoryRegion]) -> bytes:
    """SET_MEM_TABLE."""
    return _STATE.pack(len(regions), 0) + b"".join(region.pack() for region in regions)


def unpack_memory(payload: bytes) -> list[MemoryRegion]:
    """See :func:`pack_memory`. A table may be longer than the regions in it; the rest means nothing."""
    if len(payload) < _STATE.size:
        raise VhostError(f"a memory table of {len(payload)} bytes")
    count = _STATE.unpack_from(payload)[0]
    if not 1 <= count <= MOST_REGIONS:
        raise VhostError(f"a memory table of {count} regions: 1 to {MOST_REGIONS} are possible")
    if not count * _REGION.size <= len(payload) - _STATE.size <= MOST_REGIONS * _REGION.size:
        raise VhostError(f"a memory table of {len(payload)} bytes for {count} regions")
    return [MemoryRegion(*_REGION.unpack_from(payload, _STATE.size + i * _REGION.size)) for i in range(count)]


def pack_slot(region: MemoryRegion) -> bytes:
    """ADD_MEM_REG and REM_MEM_REG."""
    return _U64.pack(0) + region.pack()


def unpack_slot(payload: bytes) -> MemoryRegion:
    """See :func:`pack_slot`."""
    if len(payload) != _U64.size + _REGION.size:
        raise VhostError(f"a memory region of {len(payload)} bytes, not {_U64.size + _REGION.size}")
    return MemoryRegion(*_REGION.unpack_from(payload, _U64.size))


@dataclass(frozen=True)
class Config:
    """GET_CONFIG, SET_CONFIG and the former's reply: ``data`` from byte ``offset`` of the configuration space."""

    offset: int
    data: bytes
    flags: int = 0

    def pack(self) -> bytes:
        """As payload."""
        return _CONFIG.pack(self.offset, len(self.data), self.flags) + self.data

    @classmethod
    def unpack(cls, payload: bytes) -> "Config":
        """From payload."""
        if len(payload) < _CONFIG.size:
            raise VhostError(f"{len(payload)} bytes of payload: too few for a part of the configuration space")
        offset, size, flags = _CONFIG.unpack_from(payload)
        if size != len(payload) - _CONFIG.size or offset + size > LARGEST_CONFIG:
            raise VhostError(f"{size} bytes from byte {offset} of the configuration space, of {LARGEST_CONFIG}")
        return cls(offset, payload[_CONFIG.size :], flags)


@dataclass(frozen=True)
class Inflight:
    """GET_INFLIGHT_FD, SET_INFLIGHT_FD: memory in which a back end notes what it works on, to survive its death."""

    size: int
    offset: int
    queues: int
    entries: int

    def pack(self) -> bytes:
        """As payload."""
        return _INFLIGHT.pack(self.size, self.offset, self.queues, self.entries)

    @classmethod
    def unpack(cls, payload: bytes) -> "Inflight":
        """From payload; C pads the struct to 24 bytes."""
        if len(payload) not in (_INFLIGHT.size, 24):
            raise VhostError(f"{len(payload)} bytes of payload, not the {_INFLIGHT.size} that the request has")
        return cls(*_INFLIGHT.unpack_from(payload))


__all__ = [
    "ANSWERED", "HEADER", "LARGEST_CONFIG", "LARGEST_PAYLOAD", "MOST_REGIONS", "NEED_REPLY", "NO_DESCRIPTOR", "REPLY",
    "VERSION", "Config", "Inflight", "MemoryRegion", "Message", "Request", "VhostError", "VhostGone", "VringAddress",
    "VringState", "pack_memory", "pack_slot", "pack_u64", "pack_vring_fd", "parse_head", "unpack_memory",
    "unpack_nothing", "unpack_slot", "unpack_u64", "unpack_vring_fd",
]  # fmt: skip

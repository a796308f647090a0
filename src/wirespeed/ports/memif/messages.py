"""memif's messages: 128 bytes each over a SOCK_SEQPACKET socket, some with a descriptor.

::

    server                                      client
      HELLO  what it can do            ──▶
                                       ◀──      INIT        which interface, and the secret
      ACK                              ──▶
                                       ◀──      ADD_REGION  shared memory        + its memfd       (each acknowledged)
                                       ◀──      ADD_RING    a ring in a region   + its eventfd     (each acknowledged)
                                       ◀──      CONNECT
      CONNECTED                        ──▶
                       DISCONNECT, by either, at any time

Everything is little endian and packed; the first two bytes say which message it is.

Reference: libmemif's memif.h, protocol 2.0.
"""

import struct
from dataclasses import astuple, dataclass
from typing import ClassVar, TypeAlias

MESSAGE_BYTES: int = 128
VERSION: int = 2 << 8
"""2.0."""
ETHERNET: int = 0
"""``Init.mode``: packets begin with an Ethernet header."""
TO_SERVER: int = 1
"""``AddRing.flags``: the ring goes from client to server (S2M)."""
SECRET_BYTES: int = 24
_NAME_BYTES = 32


class Refusal(Exception):
    """What the peer did cannot be accepted: the reason, which it is told. Never leaves the driver."""


@dataclass(frozen=True)
class Ack:
    """The request before was accepted."""

    KIND: ClassVar[int] = 1
    FORMAT: ClassVar[str] = "<H"


@dataclass(frozen=True)
class Hello:
    """What the server can do: highest indexes, not counts."""

    name: bytes
    min_version: int
    max_version: int
    max_region: int
    max_m2s_ring: int
    max_s2m_ring: int
    max_log2_ring_size: int

    KIND: ClassVar[int] = 2
    FORMAT: ClassVar[str] = f"<H{_NAME_BYTES}s5HB"


@dataclass(frozen=True)
class Init:
    """Which of the server's interfaces the client wants."""

    version: int
    id: int
    mode: int
    secret: bytes
    name: bytes

    KIND: ClassVar[int] = 3
    FORMAT: ClassVar[str] = f"<HHIB{SECRET_BYTES}s{_NAME_BYTES}s"


@dataclass(frozen=True)
class AddRegion:
    """Shared memory, its descriptor passed along."""

    index: int
    size: int

    KIND: ClassVar[int] = 4
    FORMAT: ClassVar[str] = "<HHQ"


@dataclass(frozen=True)
class AddRing:
    """A ring in a region, the descriptor of its notifications passed along."""

    flags: int
    index: int
    region: int
    offset: int
    log2_ring_size: int
    private_header_size: int

    KIND: ClassVar[int] = 5
    FORMAT: ClassVar[str] = "<HHHHIBH"


@dataclass(frozen=True)
class Connect:
    """The client has said all."""

    name: bytes

    KIND: ClassVar[int] = 6
    FORMAT: ClassVar[str] = f"<H{_NAME_BYTES}s"


@dataclass(frozen=True)
class Connected:
    """The server has mapped all: packets may pass."""

    name: bytes

    KIND: ClassVar[int] = 7
    FORMAT: ClassVar[str] = f"<H{_NAME_BYTES}s"


@dataclass(frozen=True)
class Disconnect:
    """It is over, and why."""

    code: int
    reason: bytes

    KIND: ClassVar[int] = 8
    FORMAT: ClassVar[str] = "<HI96s"


Message: TypeAlias = Ack | Hello | Init | AddRegion | AddRing | Connect | Connected | Disconnect

_KINDS: dict[int, type[Message]] = {
    kind.KIND: kind for kind in (Ack, Hello, Init, AddRegion, AddRing, Connect, Connected, Disconnect)
}


def encode(message: Message) -> bytes:
    """The message's 128 bytes; text that is too long is cut."""
    return struct.pack(message.FORMAT, message.KIND, *astuple(message)).ljust(MESSAGE_BYTES, b"\0")


def decode(data: bytes) -> Message:
    """The message in ``data``.

    Raises:
        Refusal: it is none.
    """
    if len(data) != MESSAGE_BYTES:
        raise Refusal(f"a message of {len(data)} bytes, not {MESSAGE_BYTES}")
    kind = _KINDS.get(int.from_bytes(data[:2], "little"))
    if kind is None:
        raise Refusal(f"unknown message type {int.from_bytes(data[:2], 'little')}")
    return kind(*struct.unpack_from(kind.FORMAT, data)[1:])


def text(field: bytes) -> str:
    """What a peer says, fit to be shown: up to the first zero, printable ASCII only."""
    return "".join(chr(byte) if 32 <= byte < 127 else "?" for byte in field.partition(b"\0")[0])


__all__ = [
    "ETHERNET", "MESSAGE_BYTES", "SECRET_BYTES", "TO_SERVER", "VERSION", "Ack", "AddRegion", "AddRing", "Connect",
    "Connected", "Disconnect", "Hello", "Init", "Message", "Refusal", "decode", "encode", "text",
]  # fmt: skip

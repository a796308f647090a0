"""memif's options, what is wrong with some, and whether the pool's cells can be lent."""

import os
from dataclasses import dataclass

from wirespeed.errors import PortError
from wirespeed.mem.pool import Pool
from wirespeed.ports.memif.messages import SECRET_BYTES
from wirespeed.ports.memif.queues import most_lent
from wirespeed.ports.memif.ring import LARGEST_LOG2
from wirespeed.ports.options import option

BUFFER: int = 2048
"""Bytes of a buffer, unless said otherwise."""
_MOST_RINGS = 64
_ON, _OFF = ("on", "yes"), ("off", "no")
_REACH = 1 << 32  # bytes of a region: offsets have 32 bits


@dataclass(frozen=True)
class MemifOptions:
    """Options of ``memif``."""

    socket: str = option(doc="path of the socket, or @name for an abstract one", positional=True)
    role: str = option("client", "client (makes the memory, connects) or server (listens)")
    id: int = option(0, "number of the interface on that socket")
    rings: int = option(1, "rings in each direction, a queue each (1 to 64)")
    size: int = option(1024, "slots of a ring, a power of two up to 16384; up to 14: the power itself")
    buffer: int = option(0, f"bytes of a buffer, as client that copies (128 to 65536; 0: {BUFFER})")
    zero_copy: str = option(
        "auto", "as client, lend the packet pool itself: auto (to who could look into this process anyway), on or off"
    )
    secret: str = option("", "what both sides must know, up to 24 letters")
    mode: str = option("ethernet", "what packets begin with: ethernet is all there is")
    unsealed: bool = option(False, "as server: take memory that the peer can shrink; what is gone reads as zeros")

    @property
    def log2(self) -> int:
        """Slots of a ring, as a power of two."""
        return self.size if self.size <= LARGEST_LOG2 else self.size.bit_length() - 1

    @property
    def must_lend(self) -> bool:
        """Whether ``zero_copy=on``."""
        return self.zero_copy in _ON


def check(spec: str, options: MemifOptions) -> None:
    """Raises PortError: options that cannot be."""
    if options.role not in ("client", "server"):
        raise PortError(f"port {spec!r}: role={options.role!r} must be client or server")
    if options.mode != "ethernet":
        raise PortError(f"port {spec!r}: mode={options.mode!r} is not spoken: leave it at ethernet on both sides")
    if not 1 <= options.rings <= _MOST_RINGS:
        raise PortError(f"port {spec!r}: rings={options.rings} must be 1 to {_MOST_RINGS}")
    size = options.size
    if not (1 <= size <= LARGEST_LOG2 or (16 <= size <= 1 << LARGEST_LOG2 and size & (size - 1) == 0)):
        raise PortError(f"port {spec!r}: size={size} must be a power of two, 16 to {1 << LARGEST_LOG2}")
    if options.buffer and (not 128 <= options.buffer <= 65536 or options.buffer % 64):
        raise PortError(f"port {spec!r}: buffer={options.buffer} must be 128 to 65536 bytes, a multiple of 64")
    if not 0 <= options.id < 1 << 32:
        raise PortError(f"port {spec!r}: id={options.id} must be 0 to {(1 << 32) - 1}")
    if len(options.secret.encode()) > SECRET_BYTES:
        raise PortError(f"port {spec!r}: the secret is longer than {SECRET_BYTES} letters")
    if not options.socket.strip("@") or len(os.fsencode(options.socket)) > 107:
        raise PortError(f"port {spec!r}: the socket must be a path or @name of 1 to 107 letters")
    if options.zero_copy not in ("auto", *_ON, *_OFF):
        raise PortError(f"port {spec!r}: zero_copy={options.zero_copy!r} must be auto, on or off")
    if options.must_lend and options.role == "server":
        raise PortError(f"port {spec!r}: the client lends the memory: leave zero_copy away, or say role=client")
    if options.must_lend and options.buffer:
        raise PortError(f"port {spec!r}: zero_copy=on has no buffers: leave buffer={options.buffer} away")


def why_copy(spec: str, options: MemifOptions, pool: Pool, rx: int, tx: int) -> str:
    """Why the pool's cells cannot be in the rings of so many queues, or shall not; empty if they can.

    Raises:
        PortError: they cannot, and ``zero_copy=on``.
    """
    if options.role == "server":
        return "the memory is the client's"
    if options.zero_copy in _OFF:
        return f"zero_copy={options.zero_copy}"
    lent = most_lent(rx, tx, 1 << options.log2)
    why = remedy = ""
    if pool.region.size > _REACH:
        why, remedy = f"the pool is larger than the {_REACH >> 30} GiB that slots can reach", "give it fewer cells"
    elif 2 * lent > pool.size:
        why = f"the rings could hold {lent} of the pool's {pool.size} cells"
        remedy = f"give it {2 * lent} cells, or the rings a smaller size"
    elif options.buffer:
        why = f"buffer={options.buffer}"
    if why and options.must_lend:
        raise PortError(f"port {spec!r}: zero_copy=on cannot be: {why}: {remedy}")
    return why


__all__ = ["BUFFER", "MemifOptions", "check", "why_copy"]

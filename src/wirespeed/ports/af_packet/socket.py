"""Packet sockets as af_packet needs them: options in the order the kernel wants, rings, fan-out, filters.

References: packet(7); Documentation/networking/packet_mmap.rst; include/uapi/linux/if_packet.h.
"""

import ctypes
import errno
import os
import socket
import struct
from dataclasses import dataclass

from wirespeed.eal.mapping import map_file, unmap
from wirespeed.errors import PortError
from wirespeed.jit import register, unregister
from wirespeed.ports.af_packet.filter import Program, pack
from wirespeed.ports.netdev import Netdev

_SOL_PACKET, _SOL_SOCKET = 263, 1
_ADD_MEMBERSHIP, _DROP_MEMBERSHIP, _RX_RING, _STATISTICS, _COPY_THRESH, _AUXDATA, _VERSION = 1, 2, 5, 6, 7, 8, 10
_TX_RING, _VNET_HDR, _TIMESTAMP, _FANOUT, _QDISC_BYPASS, _IGNORE_OUTGOING = 13, 15, 17, 18, 20, 23
_TPACKET_V2, _TPACKET_V3 = 1, 2
_FANOUT_UNIQUE = 0x2000
_RAW_HARDWARE = 1 << 6  # SOF_TIMESTAMPING_RAW_HARDWARE
_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_ETH_P_ALL = 3

BLOCK: int = 1 << 18
"""Bytes of a block: of TPACKET_V3, one holds the largest super-packet."""
BUFFER_BYTES: int = 32 << 20
"""Send buffer, and room for super-packets that wait to be read: a few hundred of either."""
PROMISCUOUS, ALL_MULTICAST = 1, 2
"""Memberships (PACKET_MR_*)."""
FANOUT: dict[str, int] = {"hash": 0, "lb": 1, "cpu": 2, "rollover": 3, "rnd": 4, "qm": 5}
"""How the kernel chooses a queue for a packet: PACKET_FANOUT_*, see packet(7)."""


@dataclass(frozen=True)
class Shape:
    """Of a ring: slots (TPACKET_V2) or ``blocks`` (TPACKET_V3), handed over after ``retire_ms`` at the latest."""

    frames: int
    frame_size: int
    blocks: bool = False
    retire_ms: int = 1

    @property
    def block_size(self) -> int:
        """Bytes the kernel allocates at once."""
        return max(BLOCK, self.frame_size)

    @property
    def block_count(self) -> int:
        """How many of them; a ring of blocks needs two."""
        return max(self.frames * self.frame_size // self.block_size, 2 if self.blocks else 1)

    @property
    def total(self) -> int:
        """Bytes of the whole ring."""
        return self.block_count * self.block_size

    def request(self) -> bytes:
        """struct tpacket_req, or tpacket_req3."""
        frames = self.total // self.frame_size
        shape = struct.pack("=4I", self.block_size, self.block_count, self.frame_size, frames)
        return shape + struct.pack("=3I", self.retire_ms, 0, 0) if self.blocks else shape

    def __str__(self) -> str:
        if self.blocks:
            blocks = f"{self.block_count} blocks of {self.block_size >> 10} KiB"
            return f"TPACKET_V3, {blocks}, retired after {self.retire_ms} ms"
        return f"TPACKET_V2, {self.total // self.frame_size} slots of {self.frame_size} bytes"


class _Mapped:
    """A packet socket with a ring. ``fd``: its descriptor; ``address``: of the ring's first byte."""

    def __init__(self, spec: str) -> None:
        self.socket = _make(spec)
        self.address = self._size = 0

    @property
    def fd(self) -> int:
        """The socket's descriptor."""
        return self.socket.fileno()

    def _map(self, size: int) -> None:
        self.address = map_file(self.socket.fileno(), size)
        self._size = size
        register(self.address, size, "af_packet ring")

    def _refused(self, spec: str, what: str, error: OSError) -> PortError:
        return PortError(f"port {spec!r}: no ring of {what}: {error.strerror}; try frames=256, slots=256")

    def close(self) -> None:
        """Unmap and close; a second call does nothing."""
        if self.address:
            unregister(self.address)
            unmap(self.address, self._size)
            self.address = 0
        self.socket.close()


class Ring(_Mapped):
    """A receive socket with its ring."""

    def __init__(self, spec: str, shape: Shape, stamps: bool) -> None:
        super().__init__(spec)
        self.shape = shape
        self.seen = self.dropped = self.freezes = 0
        options = [
            (_VERSION, _TPACKET_V3 if shape.blocks else _TPACKET_V2),
            (_VNET_HDR, 1),  # only before the ring: the header takes part in the layout of a slot
            (_AUXDATA, 1),
            (_IGNORE_OUTGOING, 1),
        ]
        options += [] if shape.blocks else [(_COPY_THRESH, 1)]
        options += [(_TIMESTAMP, _RAW_HARDWARE)] if stamps else []
        try:
            for name, value in options:
                self.socket.setsockopt(_SOL_PACKET, name, value)
            _grow(self.socket, _SO_RCVBUFFORCE, socket.SO_RCVBUF)
            self.socket.setsockopt(_SOL_PACKET, _RX_RING, shape.request())
            self._map(shape.total)
        except OSError as error:
            self.close()
            raise self._refused(spec, str(shape), error) from None

    def attach(self, device: Netdev) -> None:
        """Begin to receive from ``device``; nothing arrives before :meth:`start`."""
        _attach(self.socket, ((0x06, 0, 0, 0),))  # BPF: return 0
        self.socket.bind((device.name, _ETH_P_ALL))

    def member(self, index: int, kind: int, on: bool = True) -> None:
        """Receive more than what is for this station: PROMISCUOUS or ALL_MULTICAST."""
        name = _ADD_MEMBERSHIP if on else _DROP_MEMBERSHIP
        self.socket.setsockopt(_SOL_PACKET, name, struct.pack("=iHH8x", index, kind, 0))

    def join(self, mode: str, group: int | None) -> int:
        """Share the interface's packets with the sockets of ``group``; None starts one. Returns the group."""
        kind = FANOUT[mode]
        if group is None:
            self.socket.setsockopt(_SOL_PACKET, _FANOUT, (kind | _FANOUT_UNIQUE) << 16)
            return self.socket.getsockopt(_SOL_PACKET, _FANOUT) & 0xFFFF
        self.socket.setsockopt(_SOL_PACKET, _FANOUT, group | kind << 16)
        return group

    def start(self, program: Program | None) -> None:
        """Let packets in: those that ``program`` takes, or all."""
        if program is None:
            self.socket.setsockopt(_SOL_SOCKET, _SO_DETACH_FILTER, 0)
        else:
            _attach(self.socket, program)

    def count(self) -> None:
        """Add what the kernel counted since this was last called; nothing, once the interface went and the port's
        attendant has closed the socket.

        Takes the socket's error along, too (the interface went down): poll would report it for ever.
        """
        size = 12 if self.shape.blocks else 8
        try:
            self.socket.getsockopt(_SOL_SOCKET, socket.SO_ERROR)
            counted = self.socket.getsockopt(_SOL_PACKET, _STATISTICS, size)
        except OSError:
            if self.socket.fileno() >= 0:
                raise
            return
        seen, dropped, *freezes = struct.unpack(f"={size // 4}I", counted)
        self.seen += seen
        self.dropped += dropped
        self.freezes += sum(freezes)


class Slots(_Mapped):
    """A transmit socket with its ring of slots."""

    def __init__(self, spec: str, count: int, size: int, device: Netdev, bypass: bool) -> None:
        super().__init__(spec)
        self.count, self.slot_size = count, size
        shape = Shape(count, size)
        try:
            self.socket.setsockopt(_SOL_PACKET, _VERSION, _TPACKET_V2)
            _prepare_sender(self.socket, bypass)
            self.socket.setsockopt(_SOL_PACKET, _TX_RING, shape.request())
            self._map(shape.total)
            self.socket.bind((device.name, 0))
        except OSError as error:
            self.close()
            raise self._refused(spec, f"{count} slots to send from", error) from None


def sender(spec: str, device: Netdev, bypass: bool) -> socket.socket:
    """A socket that sends on ``device`` by calls and receives nothing."""
    made = _make(spec)
    try:
        _prepare_sender(made, bypass)
        made.bind((device.name, 0))
    except OSError as error:
        made.close()
        raise PortError(f"port {spec!r} cannot send on {device.name}: {error.strerror}") from None
    return made


def _prepare_sender(made: socket.socket, bypass: bool) -> None:
    made.setsockopt(_SOL_PACKET, _VNET_HDR, 1)
    if bypass:
        made.setsockopt(_SOL_PACKET, _QDISC_BYPASS, 1)
    _grow(made, _SO_SNDBUFFORCE, socket.SO_SNDBUF)


def _attach(made: socket.socket, program: Program) -> None:
    code = ctypes.create_string_buffer(pack(program))
    made.setsockopt(_SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(program), ctypes.addressof(code)))


def _make(spec: str) -> socket.socket:
    try:
        return socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    except OSError as error:
        if error.errno == errno.EPERM:
            raise PortError(
                f"port {spec!r}: packet sockets need CAP_NET_RAW: run with sudo, or once: "
                'sudo setcap cap_net_raw,cap_net_admin+ep "$(readlink -f "$(which python3)")"'
            ) from None
        raise PortError(f"port {spec!r}: no packet socket: {os.strerror(error.errno or 0)}") from None


def _grow(made: socket.socket, force: int, within_limit: int) -> None:
    try:
        made.setsockopt(_SOL_SOCKET, force, BUFFER_BYTES)
    except OSError:  # without CAP_NET_ADMIN: as far as net.core.*mem_max goes
        made.setsockopt(_SOL_SOCKET, within_limit, BUFFER_BYTES)


__all__ = ["ALL_MULTICAST", "BLOCK", "BUFFER_BYTES", "FANOUT", "PROMISCUOUS", "Ring", "Shape", "Slots", "sender"]

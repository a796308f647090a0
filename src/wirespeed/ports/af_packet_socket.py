"""Packet sockets as af_packet needs them: options in the order the kernel wants, rings, fan-out.

References: packet(7); Documentation/networking/packet_mmap.rst; include/uapi/linux/if_packet.h.
"""

import ctypes
import errno
import os
import socket
import struct

from wirespeed.eal.mapping import map_file, unmap
from wirespeed.errors import PortError
from wirespeed.jit import register, unregister
from wirespeed.ports.netdev import Netdev

_SOL_PACKET, _SOL_SOCKET = 263, 1
_ADD_MEMBERSHIP, _RX_RING, _STATISTICS, _COPY_THRESH, _AUXDATA, _VERSION = 1, 5, 6, 7, 8, 10
_VNET_HDR, _FANOUT, _QDISC_BYPASS, _IGNORE_OUTGOING = 15, 18, 20, 23
_TPACKET_V2, _PROMISCUOUS, _FANOUT_HASH, _FANOUT_UNIQUE = 1, 1, 0, 0x2000
_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_ETH_P_ALL = 3
_BLOCK = 1 << 18

BUFFER_BYTES: int = 32 << 20
"""Send buffer, and room for super-packets that wait to be read: a few hundred of either."""


class Ring:
    """A receive socket with its ring of frames.

    Attributes:
        fd: of the socket, readable when a frame is there.
        address: of the first slot; ``frames`` of ``frame_size`` bytes follow each other.
    """

    def __init__(self, spec: str, frames: int, frame_size: int) -> None:
        self.frames, self.frame_size = frames, frame_size
        self.address = 0
        self.socket = _make(spec)
        try:
            for name, value in (
                (_VERSION, _TPACKET_V2),
                (_VNET_HDR, 1),  # only before the ring: the header takes part in the layout of a slot
                (_COPY_THRESH, 1),
                (_AUXDATA, 1),
                (_IGNORE_OUTGOING, 1),
            ):
                self.socket.setsockopt(_SOL_PACKET, name, value)
            _grow(self.socket, _SO_RCVBUFFORCE, socket.SO_RCVBUF)
            size = frames * frame_size
            block = max(_BLOCK, frame_size)
            ring = struct.pack("=4I", block, size // block, frame_size, frames)
            self.socket.setsockopt(_SOL_PACKET, _RX_RING, ring)
            self.address = map_file(self.socket.fileno(), size)
            register(self.address, size, "af_packet ring")
        except OSError as error:
            self.close()
            raise PortError(
                f"port {spec!r}: no ring of {frames} frames of {frame_size} bytes: {error.strerror}; try frames=1024"
            ) from None

    @property
    def fd(self) -> int:
        """The socket's descriptor."""
        return self.socket.fileno()

    def attach(self, device: Netdev, promiscuous: bool) -> None:
        """Begin to receive from ``device``; nothing arrives before :meth:`start`."""
        refuse = ctypes.create_string_buffer(struct.pack("=HBBI", 0x06, 0, 0, 0))  # BPF: return 0
        program = struct.pack("@HP", 1, ctypes.addressof(refuse))
        self.socket.setsockopt(_SOL_SOCKET, _SO_ATTACH_FILTER, program)
        self.socket.bind((device.name, _ETH_P_ALL))
        if promiscuous:
            self.socket.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, struct.pack("=iHH8x", device.index, _PROMISCUOUS, 0))

    def join(self, group: int | None) -> int:
        """Share the interface's flows with the sockets of ``group``; None starts one. Returns the group."""
        if group is None:
            self.socket.setsockopt(_SOL_PACKET, _FANOUT, (_FANOUT_HASH | _FANOUT_UNIQUE) << 16)
            return self.socket.getsockopt(_SOL_PACKET, _FANOUT) & 0xFFFF
        self.socket.setsockopt(_SOL_PACKET, _FANOUT, group | _FANOUT_HASH << 16)
        return group

    def start(self) -> None:
        """Let packets in."""
        self.socket.setsockopt(_SOL_SOCKET, _SO_DETACH_FILTER, 0)

    def drops(self) -> int:
        """Packets the kernel had no slot for since this was last asked.

        Takes the socket's error along, too (the interface went down): poll would report it for ever.
        """
        self.socket.getsockopt(_SOL_SOCKET, socket.SO_ERROR)
        return int(struct.unpack("=II", self.socket.getsockopt(_SOL_PACKET, _STATISTICS, 8))[1])

    def close(self) -> None:
        """Unmap and close."""
        if self.address:
            unregister(self.address)
            unmap(self.address, self.frames * self.frame_size)
            self.address = 0
        self.socket.close()


def sender(spec: str, device: Netdev, bypass: bool) -> socket.socket:
    """A socket that sends on ``device`` and receives nothing."""
    made = _make(spec)
    try:
        made.setsockopt(_SOL_PACKET, _VNET_HDR, 1)
        if bypass:
            made.setsockopt(_SOL_PACKET, _QDISC_BYPASS, 1)
        _grow(made, _SO_SNDBUFFORCE, socket.SO_SNDBUF)
        made.bind((device.name, 0))
    except OSError as error:
        made.close()
        raise PortError(f"port {spec!r} cannot send on {device.name}: {error.strerror}") from None
    return made


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

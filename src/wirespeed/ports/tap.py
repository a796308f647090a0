"""tap: an interface of the host whose other end is here. ``tap:ws0,address=10.0.0.1/24``.

The kernel's stack, a container or a virtual machine talks to wirespeed through it. It exists while the port
is open (or for good with ``persist=yes``) and is brought up by it.

References: Documentation/networking/tuntap.rst; include/uapi/linux/if_tun.h.
"""

import errno
import fcntl
import ipaddress
import os
import re
import struct
from dataclasses import dataclass

from wirespeed.errors import PortError
from wirespeed.mem.pool import Pool
from wirespeed.mem.region import Region
from wirespeed.ports.netdev import facts, parse_mac, set_address, set_mac, set_mtu, set_up, within
from wirespeed.ports.options import option
from wirespeed.ports.port import Port
from wirespeed.ports.tap_queue import QUEUE_BYTES, format_queue, receive, transmit
from wirespeed.ports.virtio_net import HEADER_BYTES

_DEVICE = "/dev/net/tun"
_SET_INTERFACE, _SET_PERSIST, _SET_OFFLOADS, _SET_HEADER_SIZE = 0x400454CA, 0x400454CB, 0x400454D0, 0x400454D8
_TAP, _MULTI_QUEUE, _NO_INFORMATION, _VNET_HDR = 0x0002, 0x0100, 0x1000, 0x4000
_CSUM, _TSO4, _TSO6, _TSO_ECN, _USO4, _USO6 = 0x01, 0x02, 0x04, 0x08, 0x20, 0x40
_OFFLOADS = (_CSUM | _TSO4 | _TSO6 | _TSO_ECN | _USO4 | _USO6, _CSUM | _TSO4 | _TSO6 | _TSO_ECN, _CSUM)
"""What the host may leave to us, the most first: USO came with Linux 6.2."""


@dataclass(frozen=True)
class TapOptions:
    """Options of ``tap``."""

    name: str = option(doc="the interface's name, at most 15 letters", positional=True)
    netns: str = option("", "the network namespace to make it in: a name of `ip netns`, or a path")
    queues: int = option(1, "queues: the host spreads flows over them (1 to 64)")
    address: str = option("", "the host's address on it, with its prefix: 10.0.0.1/24")
    mac: str = option("", "the host's Ethernet address; chosen by the kernel if not given")
    mtu: int = option(0, "bytes (68 to 65521); 0: as it is, 1500 for a new one")
    persist: bool = option(False, "leave the interface there when the port closes")


class Tap(Port):
    """A TAP interface, one descriptor a queue.

    Attributes:
        mac: the host's Ethernet address on it, as an integer; known once open.
        mtu: in bytes.
        index: its number in its namespace.
    """

    Options = TapOptions
    receive = staticmethod(receive)
    transmit = staticmethod(transmit)
    tx_queues = 0

    def __init__(self, spec: str, options: TapOptions) -> None:
        super().__init__(spec, options)
        self.rx_queues = options.queues
        self.index = 0
        self._fds: list[int] = []
        self._memory: Region | None = None
        if not re.fullmatch(r"[^\s/:]{1,15}", options.name) or options.name in (".", ".."):
            raise PortError(f"port {spec!r}: {options.name!r} is no interface name (1 to 15 letters)")
        if not 1 <= options.queues <= 64:
            raise PortError(f"port {spec!r}: queues={options.queues} must be 1 to 64")
        if options.mtu and not 68 <= options.mtu <= 65521:
            raise PortError(f"port {spec!r}: mtu={options.mtu} must be 68 to 65521 bytes")
        self._wanted_mac = parse_mac(spec, options.mac) if options.mac else 0
        try:
            self._wanted_address = ipaddress.ip_interface(options.address) if options.address else None
        except ValueError:
            raise PortError(
                f"port {spec!r}: address={options.address!r} must be one with its prefix, as 10.0.0.1/24"
            ) from None

    def open(self, pool: Pool, rx_queues: int, tx_queues: int) -> None:
        """See :meth:`Port.open`; makes the interface, sets it up and brings it up."""
        try:
            within(self.options.netns, self._open_device)
            size = max(1, rx_queues + tx_queues) * QUEUE_BYTES
            self._memory = Region(size, "wirespeed-tap", huge=False)
        except BaseException:
            self.close()
            raise
        at = self._memory.address
        for queue in range(rx_queues + tx_queues):
            index = queue if queue < rx_queues else queue - rx_queues
            format_queue(at, self._fds[index % len(self._fds)])
            (self.rx if queue < rx_queues else self.tx).append(at)
            at += QUEUE_BYTES

    def _open_device(self) -> None:
        """In the interface's namespace: where it is made is where it is."""
        options = self.options
        for _ in range(options.queues):
            self._fds.append(self._attach())
        try:
            if options.persist:
                fcntl.ioctl(self._fds[0], _SET_PERSIST, 1)
            if self._wanted_mac:
                set_mac(options.name, self._wanted_mac)
            if options.mtu:
                set_mtu(options.name, options.mtu)
            if self._wanted_address:
                set_address(options.name, self._wanted_address)
            set_up(options.name)
        except OSError as error:
            raise PortError(f"port {self.spec!r}: {options.name} cannot be set up: {error.strerror}") from None
        device = facts(self.spec, options.name)
        self.mac, self.mtu, self.index = device.mac, device.mtu, device.index

    def _attach(self) -> int:
        """One more descriptor of the interface, which the first one makes."""
        try:
            fd = os.open(_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            remedy = "run with sudo" if error.errno in (errno.EACCES, errno.EPERM) else "sudo modprobe tun"
            raise PortError(f"port {self.spec!r}: {_DEVICE}: {error.strerror}; {remedy}") from None
        flags = _TAP | _NO_INFORMATION | _VNET_HDR | (_MULTI_QUEUE if self.options.queues > 1 else 0)
        request = struct.pack("=16sH22x", os.fsencode(self.options.name), flags)
        try:
            fcntl.ioctl(fd, _SET_INTERFACE, request)
            fcntl.ioctl(fd, _SET_HEADER_SIZE, struct.pack("=i", HEADER_BYTES))
            for offloads in _OFFLOADS:
                try:
                    fcntl.ioctl(fd, _SET_OFFLOADS, offloads)
                    break
                except OSError:
                    continue
        except OSError as error:
            os.close(fd)
            raise PortError(f"port {self.spec!r}: {_refusal(error, self.options)}") from None
        return fd

    def descriptors(self, queue: int) -> list[int]:
        """The queue's descriptor."""
        return [self._fds[queue % len(self._fds)]]

    def close(self) -> None:
        """Close the descriptors; the interface goes with them unless it persists."""
        for fd in self._fds:
            os.close(fd)
        if self._memory:
            self._memory.close()
        self._fds, self._memory, self.rx, self.tx = [], None, [], []


def _refusal(error: OSError, options: TapOptions) -> str:
    if error.errno == errno.EPERM:
        return "making an interface needs CAP_NET_ADMIN: run with sudo"
    if error.errno == errno.EBUSY:
        return f"{options.name} is in use by another program"
    if error.errno == errno.EINVAL:
        return (
            f"{options.name} is there already, and no TAP of this kind (queues={options.queues}): "
            "choose another name, or the number of queues it was made for"
        )
    return f"{options.name} cannot be made: {error.strerror}"


__all__ = ["Tap", "TapOptions"]

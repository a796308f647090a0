"""TUN/TAP devices as the drivers need them: making one, its offloads, its carrier; and the kernel's counters of it.

References: Documentation/networking/tuntap.rst; include/uapi/linux/if_tun.h; proc_pid_net(5).
"""

import errno
import fcntl
import os
import struct

from wirespeed.errors import PortError
from wirespeed.ports.netdev import within
from wirespeed.ports.virtio.net import HEADER_BYTES

_DEVICE = "/dev/net/tun"
_SET_INTERFACE, _SET_PERSIST, _GET_INTERFACE = 0x400454CA, 0x400454CB, 0x800454D2
_SET_OFFLOADS, _SET_HEADER_SIZE, _SET_CARRIER = 0x400454D0, 0x400454D8, 0x400454E2
_TUN, _TAP, _MULTI_QUEUE, _NO_INFORMATION, _VNET_HDR = 0x0001, 0x0002, 0x0100, 0x1000, 0x4000
_CSUM, _TSO4, _TSO6, _TSO_ECN, _USO4, _USO6 = 0x01, 0x02, 0x04, 0x08, 0x20, 0x40
_OFFLOADS = (_CSUM | _TSO4 | _TSO6 | _TSO_ECN | _USO4 | _USO6, _CSUM | _TSO4 | _TSO6 | _TSO_ECN, _CSUM)
"""What the host may leave to us, the most first: USO came with Linux 6.2."""


def attach(spec: str, name: str, queues: int, offloads: bool, bare: bool) -> int:
    """One more descriptor of interface ``name`` of the calling thread's namespace, which the first one makes.

    Args:
        offloads: frames have a virtio-net header.
        bare: frames have no Ethernet header: TUN.

    Raises:
        PortError: it cannot be had; the message says why.
    """
    try:
        fd = os.open(_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        remedy = "run with sudo" if error.errno in (errno.EACCES, errno.EPERM) else "sudo modprobe tun"
        raise PortError(f"port {spec!r}: {_DEVICE}: {error.strerror}; {remedy}") from None
    flags = (_TUN if bare else _TAP) | _NO_INFORMATION
    flags |= (_VNET_HDR if offloads else 0) | (_MULTI_QUEUE if queues > 1 else 0)
    try:
        fcntl.ioctl(fd, _SET_INTERFACE, struct.pack("=16sH22x", os.fsencode(name), flags))
        if offloads:
            fcntl.ioctl(fd, _SET_HEADER_SIZE, struct.pack("=i", HEADER_BYTES))
        _offer(fd, _OFFLOADS if offloads else (0,))
    except OSError as error:
        os.close(fd)
        raise PortError(f"port {spec!r}: {_refusal(error, name, queues, bare)}") from None
    return fd


def _offer(fd: int, kinds: tuple[int, ...]) -> None:
    for offloads in kinds:
        try:
            fcntl.ioctl(fd, _SET_OFFLOADS, offloads)
            return
        except OSError:
            continue


def persist(fd: int) -> None:
    """Leave the interface there when its last descriptor is closed."""
    fcntl.ioctl(fd, _SET_PERSIST, 1)


def set_carrier(fd: int, on: bool) -> None:
    """Let the host see a cable that is plugged in, or out."""
    fcntl.ioctl(fd, _SET_CARRIER, struct.pack("=i", on))


def attached(fd: int) -> bool:
    """Whether the descriptor still has its interface, wherever it may have been moved."""
    try:
        fcntl.ioctl(fd, _GET_INTERFACE, bytes(40))
    except OSError:
        return False
    return True


def _refusal(error: OSError, name: str, queues: int, bare: bool) -> str:
    if error.errno == errno.EPERM:
        return "making an interface needs CAP_NET_ADMIN: run with sudo"
    if error.errno == errno.EBUSY:
        return f"{name} is in use by another program"
    if error.errno == errno.EINVAL:
        return (
            f"{name} is there already, and no {'TUN' if bare else 'TAP'} of this kind (queues={queues}): "
            "choose another name, or the number of queues it was made for"
        )
    return f"{name} cannot be made: {error.strerror}"


class Statistics:
    """The kernel's counters of the interfaces of namespace ``netns``."""

    def __init__(self, netns: str) -> None:
        self._fd = within(netns, lambda: os.open("/proc/thread-self/net/dev", os.O_RDONLY | os.O_CLOEXEC))

    def dropped(self, name: str) -> int:
        """Packets the host wanted to send and dropped; 0 when there is no such interface."""
        text = b""
        while piece := os.pread(self._fd, 1 << 16, len(text)):  # of a seq_file, a read gives no more than a page
            text += piece
        for line in text.decode(errors="replace").splitlines():
            head, _, counters = line.partition(":")
            if head.strip() == name:
                return int(counters.split()[11])
        return 0

    def close(self) -> None:
        """Close it; a second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


__all__ = ["Statistics", "attach", "attached", "persist", "set_carrier"]

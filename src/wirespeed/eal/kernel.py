"""Which kernel features answer, found by using them.

A version number says little (distributions port features back, containers take them away), so each
probe does the thing once and undoes it: opens the socket, creates the ring, makes a map of one
entry. Nothing is attached to an interface and no packet is received.

References: packet(7), bpf(2), io_uring_setup(2); Documentation/networking/af_xdp.rst and tuntap.rst;
Documentation/admin-guide/sysctl/kernel.rst (io_uring_disabled).
"""

import ctypes
import errno
import fcntl
import os
import platform
import socket
import struct
from dataclasses import dataclass

_AF_XDP = 44
_TUNGETFEATURES = 0x800454CF
_SYS_IO_URING_SETUP = 425  # the same on every architecture
_SYS_BPF = {"x86_64": 321, "aarch64": 280}
_BPF_MAP_CREATE, _BPF_MAP_TYPE_ARRAY = 0, 2


@dataclass(frozen=True)
class Feature:
    """``works`` or not; if not, ``why_not`` in a few words and ``remedy``, a command or an advice."""

    name: str
    works: bool
    why_not: str = ""
    remedy: str = ""


def version() -> tuple[int, int]:
    """The running kernel's version: ``6.1.0-18-amd64`` is ``(6, 1)``."""
    major, minor, *_ = platform.release().split(".")
    return int(major), int("".join(ch for ch in minor.partition("-")[0] if ch.isdigit()) or 0)


def features() -> tuple[Feature, ...]:
    """Probe all of them."""
    return af_packet(), tun(), af_xdp(), bpf(), io_uring()


def af_packet() -> Feature:
    """Raw sockets on any interface: a port beside the kernel's driver."""
    return _socket("AF_PACKET", socket.AF_PACKET, "CONFIG_PACKET: modprobe af_packet")


def af_xdp() -> Feature:
    """XDP sockets: a port that shares memory with the kernel's driver."""
    return _socket("AF_XDP", _AF_XDP, "use a kernel with CONFIG_XDP_SOCKETS=y (5.4 or later)")


def tun() -> Feature:
    """TUN/TAP: a virtual interface whose other end is a worker."""
    name = "TUN/TAP"
    try:
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            return Feature(name, False, "/dev/net/tun may not be opened", "chmod a+rw /dev/net/tun")
        return Feature(name, False, f"/dev/net/tun: {error.strerror}", "modprobe tun")
    try:
        fcntl.ioctl(descriptor, _TUNGETFEATURES, bytearray(4))
        return Feature(name, True)
    except OSError as error:
        return Feature(name, False, f"/dev/net/tun: {error.strerror}", "modprobe tun")
    finally:
        os.close(descriptor)


def io_uring() -> Feature:
    """System calls in batches through shared rings."""
    name = "io_uring"
    code = _descriptor_of(_SYS_IO_URING_SETUP, ctypes.c_uint(1), ctypes.create_string_buffer(120))
    if code == 0:
        return Feature(name, True)
    if code == errno.EPERM:
        return Feature(name, False, "not permitted", "sysctl -w kernel.io_uring_disabled=0")
    return Feature(name, False, os.strerror(code), "use a kernel with CONFIG_IO_URING=y (5.10 or later)")


def bpf() -> Feature:
    """The bpf() system call: what steers packets to an XDP socket."""
    name = "BPF"
    number = _SYS_BPF.get(platform.machine())
    if number is None:
        return Feature(name, False, f"system call not known on {platform.machine()}")
    attributes = struct.pack("=IIII", _BPF_MAP_TYPE_ARRAY, 4, 4, 1).ljust(72, b"\0")
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    code = _descriptor_of(number, ctypes.c_int(_BPF_MAP_CREATE), buffer, ctypes.c_uint(len(attributes)))
    if code == 0:
        return Feature(name, True)
    if code == errno.EPERM:
        return Feature(name, False, "not permitted", "run with CAP_BPF and CAP_NET_ADMIN (or as root)")
    return Feature(name, False, os.strerror(code), "use a kernel with CONFIG_BPF_SYSCALL=y")


def _socket(name: str, family: int, absent: str) -> Feature:
    """Open a raw socket of ``family`` with protocol 0, which receives nothing."""
    try:
        socket.socket(family, socket.SOCK_RAW, 0).close()
        return Feature(name, True)
    except PermissionError:
        return Feature(name, False, "not permitted", "run with CAP_NET_RAW (or as root)")
    except OSError as error:
        return Feature(name, False, str(error.strerror), absent)


def _descriptor_of(number: int, *arguments: object) -> int:
    """Call a system call that returns a descriptor and close that; the result is 0 or the errno."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    descriptor = libc.syscall(ctypes.c_long(number), *arguments)
    if descriptor < 0:
        return ctypes.get_errno()
    os.close(descriptor)
    return 0

"""Interfaces of any network namespace: what they are, and setting what a driver must set.

All by ioctl on a socket of that namespace (/sys shows only the namespace it was mounted in, and the ``ip``
command need not be there). A namespace is entered by a thread made for the purpose: setns(2) moves one
thread, and the process stays where it was.

References: netdevice(7), network_namespaces(7), setns(2), ip-netns(8).
"""

import ctypes
import errno
import fcntl
import ipaddress
import os
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from wirespeed.errors import PortError
from wirespeed.ports.options import nearest

T = TypeVar("T")

_CLONE_NEWNET = 0x4000_0000
_NETNS = "/run/netns"
_GET_FLAGS, _SET_FLAGS, _SET_ADDRESS, _SET_MASK = 0x8913, 0x8914, 0x8916, 0x891C
_GET_MTU, _SET_MTU, _SET_MAC, _GET_MAC, _GET_INDEX = 0x8921, 0x8922, 0x8924, 0x8927, 0x8933
_ETHTOOL, _LINK_SETTINGS, _DRIVER_INFO, _CHANNELS = 0x8946, 0x1, 0x3, 0x3C
_UP, _RUNNING = 0x1, 0x40
_ETHERNET, _LOOPBACK = 1, 772  # ARPHRD_*

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Netdev:
    """One interface, now.

    Attributes:
        mac: as an integer.
        mtu: in bytes.
        up: set up by its administrator.
        hardware: what its frames begin with, as ARPHRD_* of linux/if_arp.h.
        running: up, and with a carrier: packets can pass.
    """

    name: str
    index: int
    mac: int
    mtu: int
    up: bool
    hardware: int
    running: bool

    @property
    def ethernet(self) -> bool:
        """Whether frames begin with an Ethernet header."""
        return self.hardware in (_ETHERNET, _LOOPBACK)


def within(netns: str, call: Callable[[], T]) -> T:
    """What ``call()`` returns when it runs inside network namespace ``netns`` ("" is this one).

    Raises:
        PortError: no such namespace, or no permission to enter it.
    """
    if not netns:
        return call()
    path = netns if "/" in netns else f"{_NETNS}/{netns}"
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        known = sorted(os.listdir(_NETNS)) if os.path.isdir(_NETNS) else []
        raise PortError(
            f"no network namespace {netns!r} ({nearest(netns, known)}); make it: sudo ip netns add {netns}"
        ) from None
    except PermissionError:
        raise PortError(f"network namespace {netns!r} may not be opened: run with sudo") from None
    outcome: list[Any] = []

    def enter() -> None:
        try:
            if _libc.setns(fd, _CLONE_NEWNET):
                code = ctypes.get_errno()
                raise PortError(
                    f"cannot enter network namespace {netns!r}: {os.strerror(code)}; "
                    "this needs CAP_SYS_ADMIN: run with sudo"
                )
            outcome.append((call(), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=enter, name=f"netns-{netns}")
    thread.start()
    thread.join()
    os.close(fd)
    value, error = outcome[0]
    if error is not None:
        raise error
    return value  # type: ignore[no-any-return]


def facts(spec: str, name: str) -> Netdev:
    """What interface ``name`` of the calling thread's namespace is.

    Args:
        spec: the port's text, for messages.

    Raises:
        PortError: there is no such interface; the nearest name is in the message.
    """
    found = look(name)
    if found is None:
        known = [known for _, known in socket.if_nameindex()]
        raise PortError(f"port {spec!r}: no interface is called {name!r}; {nearest(name, known)}")
    return found


def look(name: str) -> Netdev | None:
    """What interface ``name`` of the calling thread's namespace is; None if there is none."""
    try:
        index = struct.unpack_from("=i", _ask(_GET_INDEX, name), 16)[0]
        kind, mac = struct.unpack_from("=H6s", _ask(_GET_MAC, name), 16)
        mtu = struct.unpack_from("=i", _ask(_GET_MTU, name), 16)[0]
        flags = struct.unpack_from("=H", _ask(_GET_FLAGS, name), 16)[0]
    except (OSError, ValueError):
        return None
    return Netdev(name, index, int.from_bytes(mac), mtu, bool(flags & _UP), kind, bool(flags & _RUNNING))


def hardware(name: str) -> tuple[str, int]:
    """The kernel driver of an interface and its speed in Mb/s; "" and 0 where it does not say (ethtool(8))."""
    try:
        driver = _ethtool(name, _DRIVER_INFO, 196)[4:36].rstrip(b"\0").decode(errors="replace")
    except OSError:
        driver = ""
    try:
        settings = _ethtool(name, _LINK_SETTINGS, 44)
        low, high = struct.unpack_from("=H", settings, 12)[0], struct.unpack_from("=H", settings, 28)[0]
    except OSError:
        return driver, 0
    speed = high << 16 | low
    return driver, 0 if speed in (0xFFFF, 0xFFFF_FFFF) else speed


def receive_queues(name: str) -> int:
    """How many receive queues an interface has now; 1 where its driver does not say (struct ethtool_channels)."""
    try:
        rx, combined = struct.unpack_from("=I8xI", _ethtool(name, _CHANNELS, 36), 20)
    except OSError:
        return 1
    return max(rx + combined, 1)


def _ethtool(name: str, command: int, size: int) -> bytes:
    """What SIOCETHTOOL answers to a command whose structure has ``size`` bytes."""
    answer = ctypes.create_string_buffer(struct.pack("=I", command), size)
    _ask(_ETHTOOL, name, struct.pack("@P", ctypes.addressof(answer)))
    return answer.raw


def set_mac(name: str, mac: int) -> None:
    """Change an interface's Ethernet address."""
    _ask(_SET_MAC, name, struct.pack("=H6s", _ETHERNET, mac.to_bytes(6)))


def set_mtu(name: str, mtu: int) -> None:
    """Change an interface's MTU, in bytes."""
    _ask(_SET_MTU, name, struct.pack("=i", mtu))


def set_up(name: str) -> None:
    """Bring an interface up."""
    flags = struct.unpack_from("=H", _ask(_GET_FLAGS, name), 16)[0]
    _ask(_SET_FLAGS, name, struct.pack("=H", flags | _UP))


def set_down(name: str) -> None:
    """Take an interface down."""
    flags = struct.unpack_from("=H", _ask(_GET_FLAGS, name), 16)[0]
    _ask(_SET_FLAGS, name, struct.pack("=H", flags & ~_UP))


def set_address(name: str, address: ipaddress.IPv4Interface | ipaddress.IPv6Interface) -> None:
    """Give an interface an address; a second time changes nothing."""
    if isinstance(address, ipaddress.IPv4Interface):
        for request, part in ((_SET_ADDRESS, address.ip), (_SET_MASK, address.netmask)):
            _ask(request, name, struct.pack("=HH4s", socket.AF_INET, 0, part.packed))
        return
    index = struct.unpack_from("=i", _ask(_GET_INDEX, name), 16)[0]
    wanted = struct.pack("=16sIi", address.ip.packed, address.network.prefixlen, index)
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as control:
        try:
            fcntl.ioctl(control, _SET_ADDRESS, wanted)
        except OSError as error:
            if error.errno != errno.EEXIST:
                raise


def _ask(request: int, name: str, value: bytes = b"") -> bytes:
    encoded = os.fsencode(name)
    if not 0 < len(encoded) < 16:
        raise ValueError(f"{name!r} is no interface name")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        return fcntl.ioctl(control, request, struct.pack("=16s24s", encoded, value))


def parse_mac(spec: str, text: str) -> int:
    """An Ethernet address written ``02:00:00:00:00:01``, as an integer.

    Raises:
        PortError: it is not one, or it is a group address.
    """
    parts = text.replace("-", ":").split(":")
    try:
        octets = [int(part, 16) for part in parts]
        mac = int.from_bytes(bytes(octets))
    except ValueError:
        octets, mac = [], 0
    if len(octets) != 6 or not all(1 <= len(part) <= 2 for part in parts) or not mac or octets[0] & 1:
        raise PortError(f"port {spec!r}: mac={text!r} must be a station's address, as 02:00:00:00:00:01")
    return mac

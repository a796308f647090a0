"""What the kernel says of interfaces as it happens, and which XDP program one has: a socket of rtnetlink.

Made in an interface's namespace (:func:`wirespeed.ports.netdev.within`) it stays there, whichever thread reads it.

References: rtnetlink(7); include/uapi/linux/if_link.h (IFLA_XDP, IFLA_OPERSTATE), rtnetlink.h.
"""

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

_NEW_LINK, _DELETE_LINK, _GET_LINK, _ERROR = 16, 17, 18, 2  # RTM_*; NLMSG_ERROR
_REQUEST = 1
_LINK_GROUP = 1  # RTMGRP_LINK
_NAME, _XDP, _XDP_PROGRAM = 3, 43, 4  # IFLA_IFNAME, IFLA_XDP, IFLA_XDP_PROG_ID
_UP, _LOWER_UP = 0x1, 0x10000  # IFF_UP, IFF_LOWER_UP
_HEADER, _LINK = 16, 16  # struct nlmsghdr, struct ifinfomsg
_ROOM = 1 << 16
_RECEIVE_BYTES = 1 << 20


@dataclass(frozen=True)
class Change:
    """An interface as it is now.

    Attributes:
        gone: it has been removed, or has left this namespace.
        up: it is switched on; ``carrier``: its other side is there, too.
        program: number of the XDP program attached; 0 for none.
    """

    index: int
    name: str
    gone: bool
    up: bool
    carrier: bool
    program: int


class Links:
    """Changes of the interfaces of one namespace; readable when there are some."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
        self.socket.bind((0, _LINK_GROUP))

    @property
    def fd(self) -> int:
        """To wait on."""
        return self.socket.fileno()

    def changes(self) -> Iterator[Change]:
        """What has happened since the last call. Some may be missing after very many: look at the interface, too."""
        while True:
            try:
                data = self.socket.recv(_ROOM)
            except BlockingIOError:
                return
            except OSError:  # ENOBUFS: some did not fit
                continue
            yield from _parse(data)

    def close(self) -> None:
        """Listen no longer."""
        self.socket.close()


def state(index: int) -> Change | None:
    """An interface of the calling thread's namespace; None if it is not there."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as asked:
        link = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, 0, 0)
        asked.send(struct.pack("=IHHII", _HEADER + len(link), _GET_LINK, _REQUEST, 1, 0) + link)
        for change in _parse(asked.recv(_ROOM)):
            return change
    return None


def _parse(data: bytes) -> Iterator[Change]:
    at = 0
    while at + _HEADER <= len(data):
        size, kind = struct.unpack_from("=IH", data, at)
        if size < _HEADER or at + size > len(data) or kind == _ERROR:
            return
        if kind in (_NEW_LINK, _DELETE_LINK) and size >= _HEADER + _LINK:
            index, flags = struct.unpack_from("=iI", data, at + _HEADER + 4)
            found = dict(_attributes(data[at + _HEADER + _LINK : at + size]))
            xdp = dict(_attributes(found.get(_XDP, b"")))
            program = struct.unpack("=I", xdp[_XDP_PROGRAM])[0] if len(xdp.get(_XDP_PROGRAM, b"")) == 4 else 0
            yield Change(
                index, found.get(_NAME, b"").rstrip(b"\0").decode(errors="replace"), kind == _DELETE_LINK,
                bool(flags & _UP), bool(flags & _LOWER_UP), program,
            )  # fmt: skip
        at += -(-size // 4) * 4


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 4 <= len(data):
        size, kind = struct.unpack_from("=HH", data, at)
        if size < 4 or at + size > len(data):
            return
        yield kind & 0x3FFF, data[at + 4 : at + size]
        at += -(-size // 4) * 4


__all__ = ["Change", "Links", "state"]

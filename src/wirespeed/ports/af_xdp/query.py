"""Which XDP program an interface has: one question to rtnetlink.

References: rtnetlink(7); include/uapi/linux/if_link.h (IFLA_XDP, IFLA_XDP_PROG_ID).
"""

import socket
import struct
from collections.abc import Iterator

_GET_LINK, _NEW_LINK, _REQUEST = 18, 16, 1
_XDP, _XDP_PROGRAM = 43, 4
_HEADER, _LINK = 16, 16  # struct nlmsghdr, struct ifinfomsg


def attached(index: int) -> int:
    """Number of the program on interface ``index`` of the calling thread's namespace; 0 for none."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as asked:
        link = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, 0, 0)
        asked.send(struct.pack("=IHHII", _HEADER + len(link), _GET_LINK, _REQUEST, 1, 0) + link)
        said = asked.recv(1 << 16)
    if len(said) < _HEADER or struct.unpack_from("=H", said, 4)[0] != _NEW_LINK:
        return 0
    xdp = dict(_attributes(dict(_attributes(said[_HEADER + _LINK :])).get(_XDP, b"")))
    return int.from_bytes(xdp.get(_XDP_PROGRAM, b""), "little")


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 4 <= len(data):
        size, kind = struct.unpack_from("=HH", data, at)
        if size < 4:
            return
        yield kind & 0x3FFF, data[at + 4 : at + size]
        at += size + 3 & ~3


__all__ = ["attached"]

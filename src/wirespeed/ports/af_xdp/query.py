"""What an interface has for XDP: its program, and what its driver can tell of packets. Questions by netlink.

References: rtnetlink(7); include/uapi/linux/if_link.h (IFLA_XDP, IFLA_XDP_PROG_ID); include/uapi/linux/netdev.h and
genetlink.h (family "netdev", Linux 6.3; the metadata features, 6.7).
"""

import socket
import struct
from collections.abc import Iterator

_GET_LINK, _NEW_LINK, _REQUEST = 18, 16, 1
_XDP, _XDP_PROGRAM = 43, 4
_HEADER, _LINK = 16, 16  # struct nlmsghdr, struct ifinfomsg
_GENERIC, _CONTROL, _GENL_HEADER = 16, 16, 4  # NETLINK_GENERIC, GENL_ID_CTRL, struct genlmsghdr
_GET_FAMILY, _FAMILY_ID, _FAMILY_NAME = 3, 1, 2
_GET_DEVICE, _INDEX, _METADATA = 1, 1, 5  # NETDEV_CMD_DEV_GET, NETDEV_A_DEV_*
FEATURE_TIME, FEATURE_HASH = 1, 2
"""Of :func:`metadata_of`: the driver knows the time of receipt, and the RSS hash."""


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


def metadata_of(index: int) -> int:
    """What the driver of interface ``index``, of the calling thread's namespace, can tell XDP programs of packets."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _GENERIC) as asked:
            family = _ask(asked, _CONTROL, _GET_FAMILY, _FAMILY_NAME, b"netdev\0").get(_FAMILY_ID, b"")
            if not family:
                return 0
            number = int.from_bytes(family, "little")
            found = _ask(asked, number, _GET_DEVICE, _INDEX, struct.pack("=I", index))
    except OSError:
        return 0
    return int.from_bytes(found.get(_METADATA, b"")[:8], "little")


def _ask(asked: socket.socket, family: int, command: int, name: int, value: bytes) -> dict[int, bytes]:
    """The attributes of generic netlink's answer to a question of one attribute; none if it is an error."""
    attribute = struct.pack("=HH", 4 + len(value), name) + value + bytes(-len(value) % 4)
    size = _HEADER + _GENL_HEADER + len(attribute)
    asked.send(struct.pack("=IHHII", size, family, _REQUEST, 1, 0) + struct.pack("=BBH", command, 1, 0) + attribute)
    said = asked.recv(1 << 16)
    if len(said) < _HEADER + _GENL_HEADER or struct.unpack_from("=H", said, 4)[0] != family:
        return {}
    return dict(_attributes(said[_HEADER + _GENL_HEADER :]))


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 4 <= len(data):
        size, kind = struct.unpack_from("=HH", data, at)
        if size < 4:
            return
        yield kind & 0x3FFF, data[at + 4 : at + size]
        at += size + 3 & ~3


__all__ = ["FEATURE_HASH", "FEATURE_TIME", "attached", "metadata_of"]

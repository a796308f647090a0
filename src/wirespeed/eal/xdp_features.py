"""What a network driver can do with XDP: one question to the kernel's ``netdev`` family of generic netlink.

Linux 6.3 and later answer it; before, nobody can tell without trying.

References: Documentation/netlink/specs/netdev.yaml; include/uapi/linux/netdev.h; include/uapi/linux/genetlink.h.
"""

import enum
import socket
import struct
from collections.abc import Iterator

_GENERIC = 16  # NETLINK_GENERIC
_CONTROL, _GET_FAMILY = 16, 3  # GENL_ID_CTRL, CTRL_CMD_GETFAMILY
_FAMILY_ID, _FAMILY_NAME = 1, 2
_DEV_GET, _DEV_INDEX, _DEV_FEATURES = 1, 1, 3
_REQUEST, _ERROR = 1, 2  # NLM_F_REQUEST, NLMSG_ERROR
_HEADER, _GENERIC_HEADER = 16, 4


class XdpFeatures(enum.Flag):
    """enum netdev_xdp_act."""

    NONE = 0
    BASIC = 1
    """Native mode: the program runs in the driver, before the kernel has made a packet of its own."""
    REDIRECT = 2
    TRANSMIT = 4
    """Takes frames that are redirected to it."""
    ZERO_COPY = 8
    """AF_XDP without a copy."""
    OFFLOAD = 16
    MULTI_BUFFER = 32
    MULTI_BUFFER_TRANSMIT = 64


def xdp_features(name: str) -> XdpFeatures | None:
    """Of the interface called so in this network namespace; None if the kernel does not say.

    Raises:
        OSError: there is no such interface.
    """
    index = socket.if_nametoindex(name)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _GENERIC) as asked:
            family = dict(_ask(asked, _CONTROL, _GET_FAMILY, _attribute(_FAMILY_NAME, b"netdev\0"))).get(_FAMILY_ID)
            if family is None:
                return None
            number = int.from_bytes(family, "little")
            said = dict(_ask(asked, number, _DEV_GET, _attribute(_DEV_INDEX, struct.pack("=I", index))))
    except OSError:
        return None
    features = said.get(_DEV_FEATURES)
    return None if features is None else XdpFeatures(int.from_bytes(features, "little") & 127)


def _ask(asked: socket.socket, family: int, command: int, attributes: bytes) -> Iterator[tuple[int, bytes]]:
    """The attributes of the answer; none if it is an error."""
    body = struct.pack("=BBH", command, 1, 0) + attributes
    asked.send(struct.pack("=IHHII", _HEADER + len(body), family, _REQUEST, 1, 0) + body)
    said = asked.recv(1 << 16)
    length, kind = struct.unpack_from("=IH", said)
    at = _HEADER + _GENERIC_HEADER
    while kind != _ERROR and at + 4 <= min(length, len(said)):
        size, name = struct.unpack_from("=HH", said, at)
        if size < 4:
            return
        yield name & 0x3FFF, said[at + 4 : at + size]
        at += (size + 3) & ~3


def _attribute(name: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), name) + value + bytes(-len(value) % 4)


__all__ = ["XdpFeatures", "xdp_features"]

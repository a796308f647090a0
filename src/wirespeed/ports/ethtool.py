"""What a driver says of an interface by the ethtool ioctl: its name and its queues.

References: ethtool(8); include/uapi/linux/ethtool.h (struct ethtool_drvinfo, struct ethtool_channels).
"""

import ctypes
import fcntl
import os
import socket
import struct

_SIOCETHTOOL = 0x8946
_DRIVER, _CHANNELS = 0x03, 0x3C
_DRIVER_BYTES, _CHANNELS_BYTES = 196, 36


def driver(name: str) -> str:
    """The kernel's driver of an interface of the calling thread's namespace; empty if it does not say."""
    said = _ask(name, _DRIVER, _DRIVER_BYTES)
    return said[4:36].split(b"\0")[0].decode(errors="replace") if said else ""


def queues(name: str) -> tuple[int, int]:
    """How many receive and transmit queues it has now; 1 and 1 if the driver does not say."""
    said = _ask(name, _CHANNELS, _CHANNELS_BYTES)
    if not said:
        return 1, 1
    rx, tx, _, combined = struct.unpack_from("=4I", said, 20)
    return max(rx + combined, 1), max(tx + combined, 1)


def _ask(name: str, command: int, size: int) -> bytes:
    buffer = ctypes.create_string_buffer(struct.pack("=I", command), size)
    request = struct.pack("=16sQ16x", os.fsencode(name), ctypes.addressof(buffer))
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            fcntl.ioctl(control, _SIOCETHTOOL, request)
    except OSError:
        return b""
    return buffer.raw


__all__ = ["driver", "queues"]

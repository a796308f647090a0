"""What is written around packets: the beginning of a pcap or pcapng file, and a pcapng file's closing statistics.

::

    pcap      24 B, see pcap_format
    pcapng    section header      options: comment (1), program (4)
              interface           options: name (2), unit of time (9); one block an interface, numbered as they come
              ... packets, see pcap_write ...
              statistics          8: interface  12: time, high  16: time, low   options: first and last time (2, 3),
                                  received (4), dropped (5), written (8); one block an interface

All little-endian. Times of pcapng are in nanoseconds.

Reference: draft-ietf-opsawg-pcapng sections 4.1, 4.2, 4.6.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from wirespeed.ports.pcap.format import BYTE_ORDER, ETHERNET, INTERFACE, SECTION

STATISTICS: int = 5
_COMMENT, _PROGRAM, _NAME, _UNIT = 1, 4, 2, 9
_STARTED, _ENDED, _RECEIVED, _DROPPED, _DELIVERED = 2, 3, 4, 5, 8
_LONGEST_TEXT = 65_532


@dataclass
class Tally:
    """What one file has of one interface, for its statistics."""

    packets: int = 0
    dropped: int = 0


def pcap_header(nano: bool, snap: int) -> bytes:
    """The header of a pcap file, in nanoseconds or microseconds."""
    return struct.pack("<IHHiIII", 0xA1B23C4D if nano else 0xA1B2C3D4, 2, 4, 0, 0, snap, ETHERNET)


def pcapng_header(names: Sequence[str], snap: int, comment: str = "") -> bytes:
    """Section header and one interface block for each name; an empty name is not written."""
    about = _text(_COMMENT, comment) + _text(_PROGRAM, "wirespeed")
    section = _block(SECTION, struct.pack("<IHHq", BYTE_ORDER, 1, 0, -1), about)
    fixed, unit = struct.pack("<HHI", ETHERNET, 0, snap), struct.pack("<HHB3x", _UNIT, 1, 9)
    return section + b"".join(_block(INTERFACE, fixed, _text(_NAME, name) + unit) for name in names)


def statistics(interface: int, tally: Tally, started_ns: int, ended_ns: int) -> bytes:
    """The closing block of an interface."""
    options = b"".join(
        (
            _option(_STARTED, struct.pack("<II", started_ns >> 32, started_ns & 0xFFFF_FFFF)),
            _option(_ENDED, struct.pack("<II", ended_ns >> 32, ended_ns & 0xFFFF_FFFF)),
            _option(_RECEIVED, struct.pack("<Q", tally.packets + tally.dropped)),
            _option(_DROPPED, struct.pack("<Q", tally.dropped)),
            _option(_DELIVERED, struct.pack("<Q", tally.packets)),
        )
    )
    return _block(STATISTICS, struct.pack("<III", interface, ended_ns >> 32, ended_ns & 0xFFFF_FFFF), options)


def _text(code: int, text: str) -> bytes:
    return _option(code, text.encode()[:_LONGEST_TEXT]) if text else b""


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)


def _block(kind: int, fixed: bytes, options: bytes) -> bytes:
    body = fixed + options + bytes(4)  # the end of the options
    length = struct.pack("<I", 12 + len(body))
    return struct.pack("<I", kind) + length + body + length


__all__ = ["STATISTICS", "Tally", "pcap_header", "pcapng_header", "statistics"]

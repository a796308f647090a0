"""What a capture file's first bytes say: which format, which byte order, which link type.

::

    pcap      24 B: magic (4), version (2+2), 0 (4), 0 (4), snap length (4), link type (4)
              records: seconds (4), fraction (4), captured (4), on the wire (4), data
              "modified" (Kuznetzov) records: 8 more bytes before the data
    pcapng    blocks: type (4), length (4), body, length (4) again
              section header 0x0A0D0D0A, interface 1, packet 2 (obsolete), simple packet 3, enhanced packet 6

Numbers are in the byte order of the machine that wrote the file; the magic shows which. This file reads
headers only, in plain Python at open; records are walked by :mod:`wirespeed.ports.pcap.read` and
:mod:`wirespeed.ports.pcap.ng_read`, which are compiled.

What we write ourselves begins with what :mod:`wirespeed.ports.pcap.headers` makes.

References: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng, https://www.tcpdump.org/linktypes.html.
"""

import struct
from dataclasses import dataclass

from wirespeed.errors import CaptureError

ETHERNET: int = 1
MAX_CAPTURED: int = 262_144
"""libpcap's limit on one record's bytes: a longer one is not a record but a broken file."""
MAX_PACKET: int = 65_535
"""The longest packet that is delivered; a longer one counts as an error."""

FILE_HEADER: int = 24
SECTION, INTERFACE, OLD_PACKET, SIMPLE, ENHANCED = 0x0A0D0D0A, 1, 2, 3, 6
BYTE_ORDER: int = 0x1A2B3C4D
SECTION_FIRST = b"\x0a\x0d\x0d\x0a"

_CLASSIC = {  # magic: nanoseconds of one unit of the fraction, bytes before the data of a record
    0xA1B2C3D4: (1000, 16),
    0xA1B23C4D: (1, 16),
    0xA1B2CD34: (1000, 24),
}
_BLOCKS_SEARCHED = 10_000  # for an interface; behind that many others it is found while reading

_OTHERS = {
    b"\xfd7zXZ\x00": "is compressed with xz: decompress it (xz -dk) and read the result",
    b"BZh": "is compressed with bzip2: decompress it (bzip2 -dk) and read the result",
    b"\x04\x22\x4d\x18": "is compressed with lz4: decompress it (lz4 -dk) and read the result",
    b"PK\x03\x04": "is a zip archive: unpack it and read what is in it",
    b"snoop\x00\x00\x00": "is a Solaris snoop file: convert it (editcap -F pcap)",
    b"\x1c\x00\x01\xac": "is an Ixia capture: convert it (editcap -F pcap)",
    b"\x1c\x00\x01\xab": "is an Ixia capture: convert it (editcap -F pcap)",
    b"\x7fELF": "is a program, not a capture: give a pcap or pcapng file",
}

LINK_TYPES = {
    0: "BSD loopback", 1: "Ethernet", 6: "Token Ring", 7: "ARCNET", 8: "SLIP", 9: "PPP", 10: "FDDI",
    12: "raw IP", 14: "raw IP", 50: "PPP or Cisco HDLC", 51: "PPPoE", 100: "RFC 1483 ATM", 101: "raw IP",
    104: "Cisco HDLC", 105: "802.11", 107: "Frame Relay", 108: "OpenBSD loopback", 113: "Linux cooked v1",
    114: "LocalTalk", 117: "pflog", 119: "802.11 with Prism header", 122: "IP over Fibre Channel",
    123: "SunATM", 127: "802.11 with radiotap header", 129: "Linux ARCNET", 138: "Apple IP over FireWire",
    143: "DOCSIS", 147: "private use 0", 149: "private use 2", 163: "802.11 with AVS header",
    165: "BACnet MS/TP", 187: "Bluetooth HCI", 189: "USB", 192: "per-packet information",
    195: "802.15.4 with FCS", 201: "Bluetooth HCI with direction", 220: "USB, Linux, padded",
    226: "Solaris IPNET", 227: "SocketCAN", 228: "raw IPv4", 229: "raw IPv6", 230: "802.15.4", 231: "D-Bus",
    239: "nflog", 242: "IP over InfiniBand", 247: "InfiniBand", 249: "USB, Windows",
    251: "Bluetooth Low Energy", 253: "netlink", 258: "Apple PKTAP", 272: "Bluetooth, Linux monitor",
    276: "Linux cooked v2",
}  # fmt: skip
"""Names of the usual link types, for messages."""


@dataclass(frozen=True)
class Layout:
    """How to walk a file.

    Attributes:
        pcapng: blocks rather than records.
        swapped: numbers are in the other byte order (of the first section, in pcapng).
        first: offset of the first record or block.
        tick_ns: nanoseconds of one unit of a record's fraction of a second (pcap).
        record_header: bytes before a record's data (pcap).
    """

    pcapng: bool
    swapped: bool
    first: int = 0
    tick_ns: int = 1000
    record_header: int = 16


def identify(path: str, data: bytes | memoryview) -> Layout:
    """What the capture ``data`` is; ``path`` is for messages.

    Raises:
        CaptureError: empty, not a capture, cut off within its header, or not of Ethernet.
    """
    if not len(data):
        raise CaptureError(f"{path}: the file is empty: a capture starts with a header; record it again")
    start = bytes(data[:24])
    if start[:4] == SECTION_FIRST:
        return _identify_pcapng(path, data)
    for order in ("<", ">"):
        magic = struct.unpack(order + "I", start[:4])[0] if len(start) >= 4 else 0
        if magic in _CLASSIC:
            return _identify_pcap(path, start, order, *_CLASSIC[magic])
    for first, what in _OTHERS.items():
        if start.startswith(first):
            raise CaptureError(f"{path}: {what}")
    raise CaptureError(
        f"{path}: not a capture, it starts with {start[:8].hex(' ')} ({start[:8]!r}): give a pcap or pcapng file"
    )


def _identify_pcap(path: str, start: bytes, order: str, tick_ns: int, record_header: int) -> Layout:
    if len(start) < FILE_HEADER:
        raise CaptureError(
            f"{path}: cut off after {len(start)} bytes, in the middle of the header of 24: record it again"
        )
    major, minor, _, _, _, link = struct.unpack_from(order + "HHiIII", start, 4)
    if major != 2:
        raise CaptureError(f"{path}: pcap of version {major}.{minor}, only 2.x is known: convert it (editcap -F pcap)")
    _require_ethernet(path, link & 0xFFFF)  # the upper bits tell of a frame check sequence
    return Layout(False, order == ">", FILE_HEADER, tick_ns, record_header)


def _identify_pcapng(path: str, data: bytes | memoryview) -> Layout:
    """Look for an interface of Ethernet before the first packet; the reader will say what is broken, and where."""
    if len(data) < 28:
        raise CaptureError(
            f"{path}: cut off after {len(data)} bytes, in the middle of the section header: record it again"
        )
    first = order = section_order(bytes(data[8:12]))
    if not order:
        raise CaptureError(
            f"{path}: a pcapng section whose byte order is {bytes(data[8:12]).hex()}, "
            "neither 1a2b3c4d nor 4d3c2b1a: the file is damaged; record it again"
        )
    at, links = 0, []
    for _ in range(_BLOCKS_SEARCHED):
        if at + 12 > len(data):
            break
        if bytes(data[at : at + 4]) == SECTION_FIRST:
            order = section_order(bytes(data[at + 8 : at + 12]))
            if not order:
                break
        kind, length = struct.unpack_from(order + "II", data, at)
        if length < 12 or length % 4 or at + length > len(data) or kind in (OLD_PACKET, SIMPLE, ENHANCED):
            break
        if kind == INTERFACE and length >= 20:
            links.append(struct.unpack_from(order + "H", data, at + 8)[0])
            if links[-1] == ETHERNET:
                break
        at += length
    if links and ETHERNET not in links:
        _require_ethernet(path, links[0])
    return Layout(True, first == ">")


def section_order(magic: bytes) -> str:
    """``struct``'s sign for the byte order that a section's magic shows; empty if it is none."""
    return {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}.get(magic, "")


def _require_ethernet(path: str, link: int) -> None:
    if link != ETHERNET:
        name = LINK_TYPES.get(link, "see tcpdump.org/linktypes.html")
        raise CaptureError(
            f"{path}: link type {link} ({name}) is not Ethernet (1), the only one a port reads: "
            "record on an Ethernet interface"
        )

"""The Ethernet frames of a capture file, pcap or pcapng; whatever else it holds is passed over.

```
pcap      24 B file header: magic, version, 0, 0, snaplen, link type | records: sec, usec, captured, wire
pcapng    blocks: type, length, body, length; section header 0x0A0D0D0A, interface 1, simple packet 3,
          enhanced packet 6; byte order per section, link type per interface
```

The link type's upper bits say how long a frame check sequence is (pcap-savefile(5)); only the lower 16
are the type. A file that ends in mid-record yields the records before it: test captures are broken on
purpose. This reader is for building bench inputs only (a few megabytes, in plain Python).

References: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from wirespeed.bench.errors import BenchError

LINKTYPE_ETHERNET = 1
ETHERNET_HEADER_SIZE = 14
MAX_SNAPLEN = 262_144  # libpcap's own limit; a longer record is a broken file
_PCAP = 24
_RECORD = 16
_SECTION, _INTERFACE, _SIMPLE, _ENHANCED = 0x0A0D0D0A, 1, 3, 6


class Frame(NamedTuple):
    """One captured frame: its bytes, and how long it was on the wire."""

    data: bytes
    wire_length: int


def read_frames(path: Path) -> Iterator[Frame]:
    """The Ethernet frames of `path`, in order; none for a file of another link type.

    Raises BenchError for a file that is neither pcap nor pcapng.
    """
    raw = path.read_bytes()
    magic = raw[:4]
    if magic in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1"):
        yield from _pcap(raw, "<")
    elif magic in (b"\xa1\xb2\xc3\xd4", b"\xa1\xb2\x3c\x4d"):
        yield from _pcap(raw, ">")
    elif magic == b"\x0a\x0d\x0d\x0a":
        yield from _pcapng(raw)
    else:
        raise BenchError(f"{path}: not a capture (starts with {magic.hex() or 'nothing'}); give pcap or pcapng files")


def _pcap(raw: bytes, order: str) -> Iterator[Frame]:
    if len(raw) < _PCAP or struct.unpack_from(order + "I", raw, 20)[0] & 0xFFFF != LINKTYPE_ETHERNET:
        return
    record = struct.Struct(order + "IIII")
    at = _PCAP
    while at + _RECORD <= len(raw):
        _, _, captured, wire = record.unpack_from(raw, at)
        at += _RECORD
        if captured > MAX_SNAPLEN or at + captured > len(raw):
            return
        if captured >= ETHERNET_HEADER_SIZE:
            yield Frame(raw[at : at + captured], max(wire, captured))
        at += captured


def _pcapng(raw: bytes) -> Iterator[Frame]:
    order = "<"
    link_types: list[tuple[int, int]] = []  # of each interface of the section: link type, snap length
    at = 0
    while at + 12 <= len(raw):
        if raw[at : at + 4] == b"\x0a\x0d\x0d\x0a":
            order = ">" if raw[at + 8 : at + 12] == b"\x1a\x2b\x3c\x4d" else "<"
            link_types = []
        kind, length = struct.unpack_from(order + "II", raw, at)
        if length < 12 or length % 4 or at + length > len(raw):
            return
        body, end = at + 8, at + length - 4
        at += length
        if kind == _INTERFACE and end - body >= 8:
            link, _, snap = struct.unpack_from(order + "HHI", raw, body)
            link_types.append((link, snap or MAX_SNAPLEN))
        elif kind == _ENHANCED and end - body >= 20:
            interface, _, _, captured, wire = struct.unpack_from(order + "IIIII", raw, body)
            if interface < len(link_types) and link_types[interface][0] == LINKTYPE_ETHERNET:
                yield from _checked(raw, body + 20, end, captured, wire)
        elif kind == _SIMPLE and end - body >= 4 and link_types and link_types[0][0] == LINKTYPE_ETHERNET:
            (wire,) = struct.unpack_from(order + "I", raw, body)
            yield from _checked(raw, body + 4, end, min(wire, link_types[0][1]), wire)


def _checked(raw: bytes, at: int, end: int, captured: int, wire: int) -> Iterator[Frame]:
    """The frame if it lies within its block and has an Ethernet header."""
    if ETHERNET_HEADER_SIZE <= captured <= min(end - at, MAX_SNAPLEN):
        yield Frame(raw[at : at + captured], max(wire, captured))

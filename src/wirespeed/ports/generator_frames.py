"""The frames the generator sends, all fields and checksums filled in, many at a time.

::

    Ethernet 14 | VLAN 4, if any | IPv4 20 or IPv6 40 | UDP 8, TCP 20 or ICMP echo 8 | 0x2a 0x2b 0x2c ...

A payload byte is its own distance from the start of the frame, modulo 256: what ends up in the wrong place
shows. Lengths here are those of the frame in memory, without the four bytes of FCS.

References: RFC 791, 8200, 768, 9293, 792, 4443, 1071 (checksum); IEEE 802.3, 802.1Q.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wirespeed.ports.generator_flows import Column

Bytes = NDArray[np.uint8]
Words = NDArray[np.uint64]

PROTOCOLS = {"udp": 17, "tcp": 6, "icmp": 1}
_ICMP6 = 58
_TRANSPORT = {"udp": 8, "tcp": 20, "icmp": 8}
_SUM_AT = {"udp": 6, "tcp": 16, "icmp": 2}
_PORTS_AT = {"udp": 0, "tcp": 0, "icmp": 4}
_AT_ONCE = 65536  # templates filled in one go: bounds the temporary arrays


@dataclass(frozen=True)
class Shape:
    """Where things are in a frame: which headers it has."""

    version: int
    proto: str
    vlan: int
    """VLAN identifier; -1 for no tag."""

    @property
    def network(self) -> int:
        """Offset of the IP header."""
        return 14 if self.vlan < 0 else 18

    @property
    def transport(self) -> int:
        """Offset of the transport header."""
        return self.network + (20 if self.version == 4 else 40)

    @property
    def payload(self) -> int:
        """Offset of the payload: bytes of all headers."""
        return self.transport + _TRANSPORT[self.proto]

    @property
    def source(self) -> int:
        """Offset of the source address."""
        return self.network + (12 if self.version == 4 else 8)

    @property
    def destination(self) -> int:
        """Offset of the destination address."""
        return self.network + (16 if self.version == 4 else 24)

    @property
    def address_size(self) -> int:
        """Bytes of an address."""
        return 4 if self.version == 4 else 16

    @property
    def ports(self) -> int:
        """Offset of the two ports; of identifier and sequence number for ICMP."""
        return self.transport + _PORTS_AT[self.proto]

    @property
    def sum(self) -> int:
        """Offset of the transport checksum."""
        return self.transport + _SUM_AT[self.proto]

    @property
    def covers_addresses(self) -> bool:
        """Whether the transport checksum has a pseudo-header; ICMP's has one over IPv6 only (RFC 4443)."""
        return self.version == 6 or self.proto != "icmp"


def body(size: int) -> Bytes:
    """``size`` bytes as a frame would hold them, were it all payload."""
    return np.arange(size, dtype=np.uint64).astype(np.uint8)


def fill(templates: Bytes, shape: Shape, macs: bytes, columns: dict[str, Column], lengths: NDArray[np.int64]) -> None:
    """Write the first bytes of each frame.

    Args:
        templates: what is written, a row for each frame; at least ``shape.payload`` bytes wide.
        shape: which headers.
        macs: destination and source, twelve bytes.
        columns: ``src``, ``dst``, ``sport`` and ``dport`` of each frame.
        lengths: bytes of each frame.
    """
    for start in range(0, len(templates), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        rows = {name: Column(column.high[part], column.low[part]) for name, column in columns.items()}
        _fill_part(templates[part], shape, macs, rows, lengths[part].astype(np.uint64))


def _fill_part(rows: Bytes, shape: Shape, macs: bytes, columns: dict[str, Column], lengths: Words) -> None:
    rows[:] = body(rows.shape[1])
    rows[:, : shape.payload] = 0
    rows[:, :12] = np.frombuffer(macs, np.uint8)
    if shape.vlan >= 0:
        _put(rows, 12, 0x8100, 2)
        _put(rows, 14, shape.vlan, 2)
    _put(rows, shape.network - 2, 0x0800 if shape.version == 4 else 0x86DD, 2)
    for name, at in (("src", shape.source), ("dst", shape.destination)):
        if shape.version == 6:
            _put(rows, at, columns[name].high, 8)
            at += 8
        _put(rows, at, columns[name].low, min(8, shape.address_size))
    _put(rows, shape.ports, columns["sport"].low, 2)
    _put(rows, shape.ports + 2, columns["dport"].low, 2)
    segment = lengths - np.uint64(shape.transport)
    if shape.proto == "udp":
        _put(rows, shape.transport + 4, segment, 2)
    elif shape.proto == "tcp":
        _put(rows, shape.transport + 12, 0x5010FFFF, 4)  # 20 bytes of header, ACK, window 65535
    else:
        _put(rows, shape.transport, 8 if shape.version == 4 else 128, 1)  # echo request
    protocol = _ICMP6 if (shape.version, shape.proto) == (6, "icmp") else PROTOCOLS[shape.proto]
    if shape.version == 4:
        at = shape.network
        _put(rows, at, 0x4500, 2)
        _put(rows, at + 2, lengths - np.uint64(at), 2)
        _put(rows, at + 6, 0x4000, 2)  # don't fragment
        _put(rows, at + 8, 64 << 8 | protocol, 2)
        _put(rows, at + 10, _checksum(_sum(rows, at, at + 20)), 2)
    else:
        _put(rows, shape.network, 0x6000_0000, 4)
        _put(rows, shape.network + 4, segment, 2)
        _put(rows, shape.network + 6, protocol << 8 | 64, 2)
    total = _sum(rows, shape.transport, shape.payload) + _body_sums(shape.payload, lengths)
    if shape.covers_addresses:
        total += _sum(rows, shape.source, shape.source + 2 * shape.address_size)
        total += segment + np.uint64(protocol)
    checksum = _checksum(total)
    if shape.proto == "udp":
        checksum[checksum == 0] = 0xFFFF  # RFC 768: zero would say "none"
    _put(rows, shape.sum, checksum, 2)


def _put(rows: Bytes, at: int, value: int | Words, size: int) -> None:
    """Write the low ``size`` bytes of a value, or of one for each row, in network order."""
    for index in range(size):
        shift = 8 * (size - 1 - index)
        if isinstance(value, int):
            rows[:, at + index] = (value >> shift) & 0xFF
        else:
            rows[:, at + index] = (value >> np.uint64(shift)).astype(np.uint8)


def _sum(rows: Bytes, start: int, end: int) -> Words:
    """Sum of the 16-bit words of each row from ``start`` to ``end``, unfolded."""
    words = np.ascontiguousarray(rows[:, start:end]).view(">u2")
    total: Words = words.sum(axis=1, dtype=np.uint64)
    return total


def _body_sums(start: int, lengths: Words) -> Words:
    """Sum of the payload's words, from ``start`` to each length; an odd last byte is padded (RFC 1071)."""
    known, which = np.unique(lengths, return_inverse=True)
    sums = []
    for length in known.tolist():
        data = body(length)[start:].tobytes()
        sums.append(int(np.frombuffer(data + b"\0" * (len(data) & 1), ">u2").sum(dtype=np.uint64)))
    return np.array(sums, np.uint64)[which]


def _checksum(total: Words) -> Words:
    """Fold and complement."""
    for _ in range(3):
        total = (total & np.uint64(0xFFFF)) + (total >> np.uint64(16))
    return total ^ np.uint64(0xFFFF)

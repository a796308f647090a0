"""A packet in flight is one 64-bit word.

::

     63           48 47    44 43                        12 11          0
    +---------------+--------+----------------------------+-------------+
    |  length (16)  | flags  |         cell (32)          | offset (12) |
    +---------------+--------+----------------------------+-------------+

The word says where the data is (``cells + cell * CELL + offset``) and how long: simple forwarding touches
the data's cache line and no other. It holds no pointer, so it means the same in every process that maps the
arena. ``length`` is this cell's; a packet over several cells is ``CHAINED`` and the first cell's header line
holds the whole length.

A cell is ``CELL`` bytes::

    0     header line (64 bytes, :class:`CellHeader`): only touched by who needs it
    64    headroom, for headers that get put in front
    256   data, as received; in three cells of four one to three cache lines further on (the cell's colour)

Cells are 2048 bytes apart. Were all data at one offset, the headers of a burst would share two of an L1 cache's
64 sets, and a load would wait for stores 4096 bytes away: a burst of 256 that is rewritten costs 29 cycles a packet
that way and 8 with four colours (Zen 3). Bit 0 of the cell's index tells two sets apart; bits 1 and 2 are the colour.

Descriptors, like addresses, are int64.
"""

from wirespeed.jit import View, inline, le16, le32, le64, shift_right, u8

CELL: int = 2048
"""Bytes of a cell. A packet of up to ``ROOM`` bytes needs one."""

HEADROOM: int = 256
"""Where received data starts at the earliest; all before it can be prepended to, down to the header line."""

CELL_HEADER: int = 64
"""Bytes of the header line."""

_COLOURS: int = 0xC0  # whole cache lines that data may start further on than HEADROOM

ROOM: int = CELL - HEADROOM - _COLOURS
"""Bytes of data a fresh cell takes, whatever its colour."""

CHAINED: int = 1 << 44
"""The packet goes on in another cell: ``CellHeader.next``."""
META: int = 1 << 45
"""The header line says something about this packet (offloads, timestamp, port); otherwise it is stale."""
SHARED: int = 1 << 46
"""Somebody else may hold this cell too: ``CellHeader.references`` counts."""
FLAGS: int = CHAINED | META | SHARED

_CELL_MASK = 0xFFFF_FFFF << 12

NEEDS_CHECKSUM: int = 1
"""``CellHeader.checksum_state``: the transport checksum is left to whoever transmits (virtio-net's NEEDS_CSUM)."""
CHECKSUM_VALID: int = 2
"""``CellHeader.checksum_state``: the receiver verified it (virtio-net's DATA_VALID)."""


class CellHeader(View):
    """The header line of a cell. Offload fields mean what they mean in struct virtio_net_hdr (linux/virtio_net.h)."""

    next = le64(0, "descriptor of the next cell of a chain")
    references = le32(8, "holders of this cell, when SHARED")
    length = le32(12, "bytes of the whole packet, when CHAINED")
    timestamp = le64(16, "time of receipt, nanoseconds")
    rss_hash = le32(24)
    vlan_tci = le16(28, "tag taken off by the port, 0 for none")
    port = le16(30, "index of the port it came in by")
    mark = le32(32, "flow mark")
    gso_size = le16(36, "payload bytes of each segment to cut this packet in; 0: it is no super-packet")
    gso_type = u8(38, "VIRTIO_NET_HDR_GSO_*")
    checksum_state = u8(39, "NEEDS_CHECKSUM or CHECKSUM_VALID")
    checksum_start = le16(40, "where the sum starts, from the first byte of the frame")
    checksum_offset = le16(42, "where it is stored, from checksum_start")
    headers_length = le16(44, "bytes of all headers of a super-packet")
    user0 = le64(48)
    user1 = le64(56)
    SIZE = CELL_HEADER


@inline
def cell_of(desc):  # type: ignore[no-untyped-def]
    """Index of the cell."""
    return (desc >> 12) & 0xFFFF_FFFF


@inline
def offset_of(desc):  # type: ignore[no-untyped-def]
    """Where in the cell the data starts."""
    return desc & 0xFFF


@inline
def length_of(desc):  # type: ignore[no-untyped-def]
    """Bytes of data in this cell."""
    return shift_right(desc, 48)


@inline
def header_of(cells, desc):  # type: ignore[no-untyped-def]
    """Address of the cell's header line, where cell 0 is at ``cells``."""
    return cells + cell_of(desc) * CELL


@inline
def address_of(cells, desc):  # type: ignore[no-untyped-def]
    """Address of the first byte of data."""
    return cells + cell_of(desc) * CELL + (desc & 0xFFF)


@inline
def blank(desc):  # type: ignore[no-untyped-def]
    """The same cell, empty: no flags, no length, data where its colour says."""
    return (desc & _CELL_MASK) | HEADROOM | ((desc >> 7) & _COLOURS)


@inline
def with_data(desc, offset, length):  # type: ignore[no-untyped-def]
    """The same cell and flags, with its data at ``offset``, ``length`` bytes of it."""
    return (desc & (_CELL_MASK | FLAGS)) | offset | (length << 48)


def describe(cell: int, offset: int = HEADROOM, length: int = 0, flags: int = 0) -> int:
    """A descriptor from its parts, in control code."""
    word = (cell << 12) | offset | (length << 48) | flags
    return word - (1 << 64) if word >> 63 else word

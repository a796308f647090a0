# mypy: allow-untyped-defs, allow-untyped-calls
"""The stamp: what the generator writes into a packet and the meter reads, 18 bytes behind the headers.

::

     0               2               4               6               8
    +-------------------------------+---------------+---------------+
    |        magic  "WSts"          |    stream     | time, high 16 |
    +-------------------------------+---------------+---------------+
    |         time, low 32          |           sequence            |
    +---------------+---------------+-------------------------------+
    |     check     |    network order; 60 bytes of frame hold it behind Ethernet, IPv4 and UDP
    +---------------+

- **stream**: who counts. Sequence numbers are those of a stream.
- **time**: the sender's time-stamp counter, 48 bits: 30 hours at 2.6 GHz. It says something to a receiver whose
  counter is the same one: on the same machine.
- **sequence**: of 32 bits; what it wraps to is taken up by serial arithmetic (RFC 1982).
- **check**: makes the one's complement sum of all nine words 0xFFFF, which adds nothing to an Internet checksum. So a
  stamp changes from packet to packet while the checksums around it stay what they were, and what was damaged, or just
  looks like a stamp, is told from one.

The stamp is wherever it is found: tags and tunnels that a device puts in front move it, and a receiver looks for it
once (:func:`find`) and then where the last one was.
"""

from wirespeed.jit import (
    View,
    be16,
    be32,
    bswap16,
    bswap64,
    cold,
    inline,
    load16,
    load32,
    load64,
    shift_right,
    store16,
    store64,
)

STAMP: int = 18
"""Bytes of a stamp."""

MAGIC: int = 0x57537473
_MAGIC_LOADED = int.from_bytes(MAGIC.to_bytes(4, "big"), "little")  # as a load gives it

TIME: int = 1 << 48
"""Times are modulo this."""

FARTHEST: int = 512
"""Where a stamp may begin at the latest: behind six headers of an overlay there is room to spare."""


class Stamp(View):
    """A stamp's fields."""

    magic = be32(0)
    stream = be16(4)
    time_high = be16(6)
    time_low = be32(8)
    sequence = be32(12)
    check = be16(16)
    SIZE = STAMP


@inline
def words_of(value):
    """Sum of the four 16-bit words of 64 bits."""
    return (value & 0xFFFF) + ((value >> 16) & 0xFFFF) + ((value >> 32) & 0xFFFF) + shift_right(value, 48)


@inline
def fold(total):
    """A sum of up to 2**16 words in one's complement arithmetic of 16 bits."""
    total = (total & 0xFFFF) + (total >> 16)
    return (total & 0xFFFF) + (total >> 16)


@inline
def write_stamp(at, stream, time, sequence):
    """Write a stamp at an address; ``time`` is cut to 48 bits and ``sequence`` to 32."""
    first = (MAGIC << 32) | (stream << 16) | ((time >> 32) & 0xFFFF)
    second = ((time & 0xFFFF_FFFF) << 32) | (sequence & 0xFFFF_FFFF)
    store64(at, bswap64(first))
    store64(at + 8, bswap64(second))
    store16(at + 16, bswap16(0xFFFF - fold(words_of(first) + words_of(second))))


@inline
def is_stamp(at):
    """Whether the 18 bytes at an address are one. The sum is the same in either byte order (RFC 1071 section 2B)."""
    if load32(at) != _MAGIC_LOADED:
        return False
    return fold(words_of(load64(at)) + words_of(load64(at + 8)) + load16(at + 16)) == 0xFFFF


@inline
def stamp_offset(start, length, last):
    """Where the stamp of a packet is: its offset, or -1. ``last``: where that of the one before was."""
    if last >= 0 and last + STAMP <= length:
        if is_stamp(start + last):
            return last
    return find(start, length)


@cold
def find(start, length):
    """Look for a stamp at every even offset, up to FARTHEST."""
    end = min(length - STAMP, FARTHEST)
    for at in range(0, end + 1, 2):
        if is_stamp(start + at):
            return at
    return -1

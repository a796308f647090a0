"""The Internet checksum over any bytes: computed (RFC 1071) and updated (RFC 1624).

What knows headers (pseudo headers, transport) is in :mod:`wirespeed.wire.checksum`. Two kinds of number appear,
and each function says which it takes:

    total      a running sum in the machine's byte order, not folded; totals add up
    checksum   16 bits as a header field holds them; what ``ip.checksum`` reads and is set to

The sum of 16-bit words in one's complement is the same in either byte order, but for the order of its own
two bytes (RFC 1071 section 2 (B)), so bytes are added as the machine loads them and swapped once, at the end.
A total of 32-bit words in 64 bits cannot overflow before 2^32 words (section 2 (C): deferred carries).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wirespeed.hashes.rows import octets, rows
from wirespeed.jit import (
    add,
    bswap16,
    inline,
    kernel,
    lent,
    load8,
    load16,
    load32,
    rotate_left,
    shift_right,
    store16,
    sum_blocks,
    sum_tail,
)


@inline
def sum_bytes(address: int, length: int) -> int:
    """The total of ``length`` bytes; an odd last byte is padded with zero (RFC 1071 section 1).

    Whole 32 bytes go by vectors, 43 bytes a cycle at best; the rest, at most 31, by five steps of half the size.
    """
    total = 0
    if length >= 32:
        total = sum_blocks(address, length >> 5)
        address += length & -32
    if length & 16:
        total += load32(address) + load32(address + 4) + load32(address + 8) + load32(address + 12)
        address += 16
    if length & 8:
        total += load32(address) + load32(address + 4)
        address += 8
    if length & 4:
        total += load32(address)
        address += 4
    if length & 2:
        total += load16(address)
        address += 2
    if length & 1:
        total += load8(address)
    return total


@inline
def sum_inside(address: int, length: int) -> int:
    """:func:`sum_bytes`, modulo 65535, where the 32 bytes before the end may be read whatever ``length`` is: headers
    stand before what is summed. Two branches fewer than bits in a length."""
    total = sum_blocks(address, length >> 5) if length >= 32 else 0
    return total + sum_tail(address + length, length & 31)


@inline
def fold(total: int) -> int:
    """A total in 16 bits, carries added back in; still in the machine's byte order. 0 only if the total is 0.

    A number plus itself with its halves exchanged has, in its upper half, the sum of both halves and the carry
    of that sum: the end-around carry (RFC 1071 section 2 (A)) in three instructions.
    """
    total = shift_right(add(total, rotate_left(total, 32)), 32)
    return ((total + (total << 16 | total >> 16)) >> 16) & 0xFFFF


@inline
def finish(total: int) -> int:
    """The checksum that a total makes: folded, complemented, in network order."""
    return bswap16(~fold(total))


@inline
def checksum_at(address: int, length: int) -> int:
    """The Internet checksum of ``length`` bytes, RFC 1071."""
    return finish(sum_bytes(address, length))


@inline
def update16(old_checksum: int, old: int, new: int) -> int:
    """The checksum after one 16-bit field went from ``old`` to ``new``.

    RFC 1624 eqn. 3: HC' = ~(~HC + ~m + m'). Three 16-bit terms make at most 0x2FFFD: one fold leaves at
    most 0x10000 - 1 + 1, a second one no carry.
    """
    total = (~old_checksum & 0xFFFF) + (~old & 0xFFFF) + (new & 0xFFFF)
    total = (total & 0xFFFF) + (total >> 16)
    return ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF


@inline
def update32(old_checksum: int, old: int, new: int) -> int:
    """The checksum after one 32-bit field, such as an address, went from ``old`` to ``new`` (RFC 1624)."""
    total = (~old_checksum & 0xFFFF) + (~old & 0xFFFF) + (new & 0xFFFF)
    total += (~(old >> 16) & 0xFFFF) + ((new >> 16) & 0xFFFF)
    total = (total & 0xFFFF) + (total >> 16)
    return ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF


@inline
def update64(old_checksum: int, old: int, new: int) -> int:
    """The checksum after 64 bits, such as half an IPv6 address, went from ``old`` to ``new`` (RFC 1624)."""
    return update32(update32(old_checksum, old, new), old >> 32, new >> 32)


@kernel
def checksum_rows(address: int, count: int, stride: int, length: int, out: int) -> None:
    """``out[i]`` (16 bits) is the checksum of row ``i``."""
    for i in range(count):
        store16(out + i * 2, checksum_at(address + i * stride, length))


def checksum(data: Any) -> int:
    """The Internet checksum of bytes, or of anything with a buffer (RFC 1071).

    Example: ``checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0x220D`` (RFC 1071 section 3).
    """
    array, out = octets(data), np.empty(1, dtype=np.uint16)
    with lent(array, out):
        checksum_rows(array.ctypes.data, 1, 0, len(array), out.ctypes.data)
    return int(out[0])


def checksum_many(blocks: Any) -> NDArray[np.uint16]:
    """The Internet checksum of each row of an array (two dimensions of bytes)."""
    given = rows(blocks)
    out = np.empty(given.count, dtype=np.uint16)
    with lent(given.array, out):
        checksum_rows(given.address, given.count, given.stride, given.length, out.ctypes.data)
    return out


__all__ = [
    "checksum", "checksum_at", "checksum_many", "finish", "fold", "sum_bytes", "sum_inside", "update16", "update32",
    "update64",
]  # fmt: skip

"""CRC32C, the CRC of iSCSI, SCTP and ext4, by the processor's instruction.

As a checksum it starts at all ones and ends complemented (CRC-32/ISCSI). As a hash, which is what DPDK's
``rte_hash_crc`` computes, it starts at a seed and ends as it is: :func:`crc32c_hash_at`, bit for bit the same.
It spreads well and costs least of all here, but it is linear: whoever may choose keys can choose keys that
collide, whatever the seed. For tables that strangers fill, see SipHash.

References: RFC 3309; RFC 3720 appendix B.4; DPDK 22.11 lib/hash/rte_hash_crc.h.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wirespeed.hashes.rows import octets, rows
from wirespeed.jit import (
    crc32c_byte,
    crc32c_half,
    crc32c_word,
    inline,
    kernel,
    lent,
    load8,
    load16,
    load32,
    load64,
    store32,
)


@inline
def crc32c_steps(crc: int, address: int, length: int) -> int:
    """The register after ``length`` more bytes: 8 bytes in 3 cycles, the latency of the instruction."""
    end = address + (length & -8)
    while address < end:
        crc = crc32c_word(crc, load64(address))
        address += 8
    if length & 4:
        crc = crc32c_half(crc, load32(address))
        address += 4
    if length & 2:
        both = load16(address)
        crc = crc32c_byte(crc32c_byte(crc, both), both >> 8)
        address += 2
    if length & 1:
        crc = crc32c_byte(crc, load8(address))
    return crc


@inline
def crc32c_at(address: int, length: int, crc: int = 0) -> int:
    """CRC32C of ``length`` bytes; ``crc`` is that of what came before, to go on from."""
    return crc32c_steps(crc ^ 0xFFFF_FFFF, address, length) ^ 0xFFFF_FFFF


@inline
def crc32c_hash_at(address: int, length: int, seed: int = 0) -> int:
    """The 32-bit hash of ``length`` bytes that ``rte_hash_crc`` computes."""
    return crc32c_steps(seed & 0xFFFF_FFFF, address, length)


@kernel
def _one(address: int, length: int, start: int) -> int:
    return crc32c_steps(start, address, length)


@kernel
def hash_rows(address: int, count: int, stride: int, length: int, start: int, complement: int, out: int) -> None:
    """``out[i]`` (32 bits) is the register after row ``i``, from ``start``, xor ``complement``."""
    for i in range(count):
        store32(out + i * 4, crc32c_steps(start, address + i * stride, length) ^ complement)


def crc32c(data: Any, crc: int = 0) -> int:
    """CRC32C of bytes, or of anything with a buffer; ``crc`` is that of what came before.

    Example: ``crc32c(b"123456789") == 0xE3069283``.
    """
    array = octets(data)
    with lent(array):
        return int(_one(array.ctypes.data, len(array), (crc ^ 0xFFFF_FFFF) & 0xFFFF_FFFF)) ^ 0xFFFF_FFFF


def crc32c_many(keys: Any) -> NDArray[np.uint32]:
    """CRC32C of each row of an array of keys (numbers, or two dimensions of bytes)."""
    return _many(keys, 0xFFFF_FFFF, 0xFFFF_FFFF)


def crc32c_hash_many(keys: Any, seed: int = 0) -> NDArray[np.uint32]:
    """``rte_hash_crc`` of each row of an array of keys."""
    return _many(keys, seed & 0xFFFF_FFFF, 0)


def _many(keys: Any, start: int, complement: int) -> NDArray[np.uint32]:
    given = rows(keys)
    out = np.empty(given.count, dtype=np.uint32)
    with lent(given.array, out):
        hash_rows(given.address, given.count, given.stride, given.length, start, complement, out.ctypes.data)
    return out


__all__ = ["crc32c", "crc32c_at", "crc32c_hash_at", "crc32c_hash_many", "crc32c_many", "crc32c_steps"]

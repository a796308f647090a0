"""SipHash-2-4: a hash with a secret key of 128 bits, for tables whose keys strangers choose.

Without the key nobody can find keys that collide, which of the hashes here only this one promises. A round for
each 8 bytes is twice 14 operations of which many depend on each other: about 1.5 cycles a byte, and 20 to end.

Reference: J.-P. Aumasson and D. Bernstein, "SipHash: a fast short-input PRF", INDOCRYPT 2012; the vectors of its
appendix A and of the reference code.
"""

import secrets
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wirespeed.errors import TableError
from wirespeed.hashes.rows import octets, rows
from wirespeed.jit import add, inline, kernel, lent, load8, load64, rotate_left, signed64, store64

KEY_BYTES: int = 16
_V0, _V1 = 0x736F6D6570736575, 0x646F72616E646F6D  # "somepseudorandomlygeneratedbytes"
_V2, _V3 = 0x6C7967656E657261, 0x7465646279746573


@inline
def _round(v0: int, v1: int, v2: int, v3: int) -> tuple[int, int, int, int]:
    """SipRound, section 2.2 and figure 2.1."""
    v0, v2 = add(v0, v1), add(v2, v3)
    v1, v3 = rotate_left(v1, 13) ^ v0, rotate_left(v3, 16) ^ v2
    v0 = rotate_left(v0, 32)
    v2, v0 = add(v2, v1), add(v0, v3)
    v1, v3 = rotate_left(v1, 17) ^ v2, rotate_left(v3, 21) ^ v0
    v2 = rotate_left(v2, 32)
    return v0, v1, v2, v3


@inline
def siphash24_at(address: int, length: int, k0: int, k1: int) -> int:
    """SipHash-2-4 of ``length`` bytes, as int64; the key is two little-endian words."""
    v0, v1, v2, v3 = _V0 ^ k0, _V1 ^ k1, _V2 ^ k0, _V3 ^ k1
    for _ in range(length >> 3):
        word = load64(address)
        v3 ^= word
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
        v0 ^= word
        address += 8
    last = 0
    for i in range(length & 7):
        last |= load8(address + i) << (i << 3)  # 7 bytes at most: never a sign
    last = add(last, rotate_left(length & 0xFF, 56))
    v3 ^= last
    v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    v0 ^= last
    v2 ^= 0xFF
    for _ in range(4):
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    return v0 ^ v1 ^ v2 ^ v3


@kernel
def hash_rows(address: int, count: int, stride: int, length: int, k0: int, k1: int, out: int) -> None:
    """``out[i]`` is the hash of row ``i``."""
    for i in range(count):
        store64(out + i * 8, siphash24_at(address + i * stride, length, k0, k1))


def siphash_key(key: bytes | None = None) -> tuple[int, int]:
    """The two words of a key of 16 bytes, for :func:`siphash24_at`; a new secret one without argument.

    Raises:
        TableError: the key has another length.
    """
    key = secrets.token_bytes(KEY_BYTES) if key is None else bytes(key)
    if len(key) != KEY_BYTES:
        raise TableError(f"a SipHash key of {len(key)} bytes is not possible: it has {KEY_BYTES}")
    return signed64(int.from_bytes(key[:8], "little")), signed64(int.from_bytes(key[8:], "little"))


def siphash24(data: Any, key: bytes) -> int:
    """SipHash-2-4 of bytes, or of anything with a buffer, under a key of 16 bytes: 0 to 2^64 - 1."""
    array, out = octets(data), np.empty(1, dtype=np.uint64)
    with lent(array, out):
        hash_rows(array.ctypes.data, 1, 0, len(array), *siphash_key(key), out.ctypes.data)
    return int(out[0])


def siphash24_many(keys: Any, key: bytes) -> NDArray[np.uint64]:
    """SipHash-2-4 of each row of an array of keys (numbers, or two dimensions of bytes)."""
    given = rows(keys)
    out = np.empty(given.count, dtype=np.uint64)
    with lent(given.array, out):
        hash_rows(given.address, given.count, given.stride, given.length, *siphash_key(key), out.ctypes.data)
    return out


__all__ = ["KEY_BYTES", "siphash24", "siphash24_at", "siphash24_many", "siphash_key"]

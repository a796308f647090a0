"""xxHash64: 64 well-mixed bits over any length, at 4 multiplications for 32 bytes.

For hashes that another program must get as well, and for long data. It has a seed, yet whoever knows the
algorithm can make inputs that collide under every seed; for keys of strangers see SipHash.

Reference: Y. Collet, "xxHash fast digest algorithm", doc/xxhash_spec.md 0.1.1 of github.com/Cyan4973/xxHash; the
steps below have its numbers.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wirespeed.hashes.rows import octets, rows
from wirespeed.jit import (
    add,
    inline,
    kernel,
    lent,
    load8,
    load32,
    load64,
    multiply,
    rotate_left,
    shift_right,
    signed64,
    store64,
)

PRIME1: int = signed64(0x9E3779B185EBCA87)
PRIME2: int = signed64(0xC2B2AE3D27D4EB4F)
PRIME3: int = 0x165667B19E3779F9
PRIME4: int = signed64(0x85EBCA77C2B2AE63)
PRIME5: int = 0x27D4EB2F165667C5


@inline
def _round(accumulator: int, lane: int) -> int:
    return multiply(rotate_left(add(accumulator, multiply(lane, PRIME2)), 31), PRIME1)


@inline
def _merge(accumulator: int, lane: int) -> int:
    return add(multiply(accumulator ^ _round(0, lane), PRIME1), PRIME4)


@inline
def xxhash64_at(address: int, length: int, seed: int = 0) -> int:
    """The xxHash64 of ``length`` bytes, as int64."""
    end = address + length
    if length >= 32:
        a, b = add(add(seed, PRIME1), PRIME2), add(seed, PRIME2)  # step 1
        c, d = add(seed, 0), add(seed, -PRIME1)
        for _ in range(length >> 5):  # step 2
            a = _round(a, load64(address))
            b = _round(b, load64(address + 8))
            c = _round(c, load64(address + 16))
            d = _round(d, load64(address + 24))
            address += 32
        mixed = add(add(rotate_left(a, 1), rotate_left(b, 7)), add(rotate_left(c, 12), rotate_left(d, 18)))  # step 3
        mixed = _merge(_merge(_merge(_merge(mixed, a), b), c), d)
    else:
        mixed = add(seed, PRIME5)
    mixed = add(mixed, length)  # step 4
    for _ in range((end - address) >> 3):  # step 5
        mixed = add(multiply(rotate_left(mixed ^ _round(0, load64(address)), 27), PRIME1), PRIME4)
        address += 8
    if length & 4:
        mixed = add(multiply(rotate_left(mixed ^ multiply(load32(address), PRIME1), 23), PRIME2), PRIME3)
        address += 4
    for _ in range(length & 3):
        mixed = multiply(rotate_left(mixed ^ multiply(load8(address), PRIME5), 11), PRIME1)
        address += 1
    mixed = multiply(mixed ^ shift_right(mixed, 33), PRIME2)  # step 6
    mixed = multiply(mixed ^ shift_right(mixed, 29), PRIME3)
    return mixed ^ shift_right(mixed, 32)


@kernel
def hash_rows(address: int, count: int, stride: int, length: int, seed: int, out: int) -> None:
    """``out[i]`` is the hash of row ``i``."""
    for i in range(count):
        store64(out + i * 8, xxhash64_at(address + i * stride, length, seed))


def xxhash64(data: Any, seed: int = 0) -> int:
    """The xxHash64 of bytes, or of anything with a buffer: 0 to 2^64 - 1.

    Example: ``xxhash64(b"") == 0xEF46DB3751D8E999``.
    """
    array, out = octets(data), np.empty(1, dtype=np.uint64)
    with lent(array, out):
        hash_rows(array.ctypes.data, 1, 0, len(array), signed64(seed), out.ctypes.data)
    return int(out[0])


def xxhash64_many(keys: Any, seed: int = 0) -> NDArray[np.uint64]:
    """The xxHash64 of each row of an array of keys (numbers, or two dimensions of bytes)."""
    given = rows(keys)
    out = np.empty(given.count, dtype=np.uint64)
    with lent(given.array, out):
        hash_rows(given.address, given.count, given.stride, given.length, signed64(seed), out.ctypes.data)
    return out


__all__ = ["xxhash64", "xxhash64_at", "xxhash64_many"]

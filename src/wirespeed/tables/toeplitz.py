"""Toeplitz hash: how a card spreads flows over its queues (receive-side scaling), in software.

For each bit of the input that is set, the hash takes in the 32 bits of the key that start at the same position.
Read as polynomials over GF(2), that is a product: with the input as D(x), its first bit the highest coefficient,
and the key as R(x), its first bit the lowest, the coefficients n - 1 to n + 30 of D * R are the hash of n bits,
last bit first. So 32 bits of input cost one carry-less multiplication with the 63 bits of key that they can meet,
the products are added up, and one shift and one reversal of bits end it: no tables of hashes, and nothing in the
cache but 8 bytes for each 32 bits of input.

    offset  bytes          what
    0       64             record (:class:`ToeplitzView`)
    64      8 * key / 4    for each 32 bits of input, the 63 bits of the key from there on, reversed

An input may be as long as the key less 4 bytes: 36 for the usual 40, two IPv6 addresses and two ports. Zero bytes
hash to zero, so leaving the ports out and giving them as 0 are the same thing.

:mod:`wirespeed.bench.toeplitz` has what was measured.

References: Microsoft, "RSS hashing types" and "Verifying the RSS hash calculation" (NDIS); H. Krawczyk,
"LFSR-based hashing and authentication", CRYPTO 1994; S. Woo and K. Park, "Scalable TCP session monitoring
with symmetric receive-side scaling", KAIST 2012 (the key of repeated 0x6d5a).
"""

import ipaddress
import secrets
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wirespeed.errors import TableError
from wirespeed.hashes.rows import rows
from wirespeed.jit import (
    View,
    bit_reverse32,
    bswap32,
    carryless_multiply,
    inline,
    kernel,
    le64,
    lent,
    load8,
    load32,
    load64,
    shift_right,
    store32,
    store64,
)
from wirespeed.mem.shared import Shared
from wirespeed.tables.prefix import Address4, parse_address

_RECORD = 64
KEY_BYTES: int = 40
"""What most cards have; E810 has 52."""
MAX_KEY_BYTES: int = 1024

MICROSOFT_KEY: bytes = bytes.fromhex("6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa")
"""The key of Microsoft's verification suite, and the usual default of cards."""
SYMMETRIC_KEY: bytes = bytes.fromhex("6d5a") * 20
"""Both directions of a flow hash the same, since the key repeats every 16 bits."""

Address6 = tuple[int, int] | int | str | ipaddress.IPv6Address
"""An IPv6 address: as a pair (high, low) of 64 bits, an int, text or an object."""


@inline
def _finish(product: int) -> int:
    return bit_reverse32(shift_right(product, 31))


class ToeplitzView(View):
    """What a hash is computed with."""

    key_bytes = le64(0, "length of the key")
    SIZE = _RECORD

    def hash_v4(self, src: int, dst: int, sport: int = 0, dport: int = 0) -> int:
        """32-bit hash of an IPv4 flow; without ports, of the two addresses."""
        key = self.address + _RECORD
        ports = ((sport & 0xFFFF) << 16) | (dport & 0xFFFF)
        return _finish(
            carryless_multiply(src & 0xFFFF_FFFF, load64(key))
            ^ carryless_multiply(dst & 0xFFFF_FFFF, load64(key + 8))
            ^ carryless_multiply(ports, load64(key + 16))
        )

    def hash_v6(self, src: tuple[int, int], dst: tuple[int, int], sport: int = 0, dport: int = 0) -> int:
        """32-bit hash of an IPv6 flow; addresses are pairs (high, low)."""
        key = self.address + _RECORD
        ports = ((sport & 0xFFFF) << 16) | (dport & 0xFFFF)
        return _finish(
            carryless_multiply(shift_right(src[0], 32), load64(key))
            ^ carryless_multiply(src[0] & 0xFFFF_FFFF, load64(key + 8))
            ^ carryless_multiply(shift_right(src[1], 32), load64(key + 16))
            ^ carryless_multiply(src[1] & 0xFFFF_FFFF, load64(key + 24))
            ^ carryless_multiply(shift_right(dst[0], 32), load64(key + 32))
            ^ carryless_multiply(dst[0] & 0xFFFF_FFFF, load64(key + 40))
            ^ carryless_multiply(shift_right(dst[1], 32), load64(key + 48))
            ^ carryless_multiply(dst[1] & 0xFFFF_FFFF, load64(key + 56))
            ^ carryless_multiply(ports, load64(key + 64))
        )

    def hash_at(self, address: int, length: int) -> int:
        """32-bit hash of ``length`` bytes as they are on the wire; at most the key's length less 4."""
        key = self.address + _RECORD
        product = 0
        for _ in range(length >> 2):
            product ^= carryless_multiply(bswap32(load32(address)), load64(key))
            address += 4
            key += 8
        last = 0
        for i in range(length & 3):
            last |= load8(address + i) << (24 - (i << 3))
        return _finish(product ^ carryless_multiply(last, load64(key)))


@kernel
def _hash_rows(toeplitz: int, address: int, count: int, stride: int, length: int, out: int) -> None:
    view = ToeplitzView(toeplitz)
    for i in range(count):
        store32(out + i * 4, view.hash_at(address + i * stride, length))


@kernel
def _hash_rows_v4(toeplitz: int, address: int, count: int, stride: int, out: int) -> None:
    """:func:`_hash_rows` for 12 bytes; a length known when compiling unrolls the loop."""
    view = ToeplitzView(toeplitz)
    for i in range(count):
        store32(out + i * 4, view.hash_at(address + i * stride, 12))


@kernel
def _hash_rows_v6(toeplitz: int, address: int, count: int, stride: int, out: int) -> None:
    """:func:`_hash_rows` for 36 bytes."""
    view = ToeplitzView(toeplitz)
    for i in range(count):
        store32(out + i * 4, view.hash_at(address + i * stride, 36))


class Toeplitz(Shared):
    """The hash of one key. It takes 128 bytes and 2 for each of the key.

    Args:
        key: 8 to 1024 bytes, a multiple of 4; Microsoft's 40 by default.
        symmetric: use the well-known key under which both directions of a flow hash the same.
        name: for other processes to attach it by.

    Raises:
        TableError: the key has another length, or both arguments are given.
        ArenaError: no memory, or the name is taken.
    """

    View = ToeplitzView
    KIND = "toeplitz"

    def __init__(self, key: bytes | None = None, symmetric: bool = False, name: str | None = None) -> None:
        if key is not None and symmetric:
            raise TableError("a Toeplitz hash has a key of its own or the symmetric one: give one of them")
        key = bytes(key) if key is not None else SYMMETRIC_KEY if symmetric else MICROSOFT_KEY
        _check_key_bytes(len(key))
        self._create(_RECORD + 2 * len(key), name, key=key.hex())
        self._attached()
        self._view.key_bytes = len(key)
        bits = "".join(f"{byte:08b}" for byte in key) + "0" * 64
        for place in range(len(key) // 4):
            store64(self.address + _RECORD + 8 * place, int(bits[32 * place : 32 * place + 63][::-1], 2))

    def _attached(self) -> None:
        self._view = ToeplitzView(self.address)
        self.key = bytes.fromhex(self.parameters["key"])
        self.max_bytes = len(self.key) - 4

    def hash_v4(self, src: Address4, dst: Address4, sport: int = 0, dport: int = 0) -> int:
        """32-bit hash of an IPv4 flow; addresses as ints, text or objects."""
        self._check_length(12 if sport or dport else 8)
        return int(self._view.hash_v4(parse_address(src), parse_address(dst), sport, dport))

    def hash_v6(self, src: Address6, dst: Address6, sport: int = 0, dport: int = 0) -> int:
        """32-bit hash of an IPv6 flow; addresses as pairs (high, low), ints, text or objects."""
        self._check_length(36 if sport or dport else 32)
        return int(self._view.hash_v6(_pair(src), _pair(dst), sport, dport))

    def hash_at(self, address: int, length: int) -> int:
        """32-bit hash of ``length`` bytes as they are on the wire, at an address (a trace of a node)."""
        self._check_length(length)
        return int(self._view.hash_at(address, length))

    def hash(self, data: bytes) -> int:
        """32-bit hash of bytes as they are on the wire.

        Raises:
            TableError: more of them than the key can hash.
        """
        return int(self.hash_many(np.frombuffer(data, dtype=np.uint8).reshape(1, len(data)))[0])

    def hash_many(self, tuples: NDArray[Any]) -> NDArray[np.uint32]:
        """The hash of each row of an array of bytes, as they are on the wire: (count, length) of uint8.

        Raises:
            TableError: rows longer than the key can hash, or not an array of rows of bytes.
        """
        given = rows(tuples)
        self._check_length(given.length)
        out = np.empty(given.count, dtype=np.uint32)
        with lent(given.array, out):
            where = (self.address, given.address, given.count, given.stride)
            if given.length == 12:
                _hash_rows_v4(*where, out.ctypes.data)
            elif given.length == 36:
                _hash_rows_v6(*where, out.ctypes.data)
            else:
                _hash_rows(*where, given.length, out.ctypes.data)
        return out

    def hash_v4_many(
        self, src: NDArray[Any], dst: NDArray[Any], sport: "NDArray[Any] | int" = 0, dport: "NDArray[Any] | int" = 0
    ) -> NDArray[np.uint32]:
        """The hash of each IPv4 flow of arrays of integers."""
        tuples = np.zeros(len(src), dtype=[("src", ">u4"), ("dst", ">u4"), ("sport", ">u2"), ("dport", ">u2")])
        tuples["src"], tuples["dst"], tuples["sport"], tuples["dport"] = src, dst, sport, dport
        return self.hash_many(tuples)

    def __repr__(self) -> str:
        return f"<Toeplitz {self.name}: key of {len(self.key)} bytes, {self.key[:4].hex()}...>"

    def _check_length(self, length: int) -> None:
        if not 0 <= length <= self.max_bytes:
            raise TableError(
                f"{self.name}: {length} bytes cannot be hashed with a key of {len(self.key)}: at most {self.max_bytes}"
            )


def random_key(length: int = KEY_BYTES) -> bytes:
    """A secret key: nobody outside can choose flows that meet in one queue.

    Raises:
        TableError: ``length`` is not a multiple of 4 from 8 to 1024.
    """
    _check_key_bytes(length)
    return secrets.token_bytes(length)


def symmetric_key(length: int = KEY_BYTES, pattern: int | None = None) -> bytes:
    """A key under which both directions of a flow, IPv4 or IPv6, hash the same: 16 bits, repeated.

    A hash under such a key has 16 bits of information (its halves are the same), whatever the pattern. It keeps
    all 16 if, and only if, an odd number of the pattern's bits are set: its rotations are then linearly
    independent, since x^16 + 1 = (x + 1)^16 over GF(2).

    Args:
        length: of the key, a multiple of 4 from 8 to 1024.
        pattern: the 16 bits; secret ones by default.

    Raises:
        TableError: another length, or a pattern with an even number of bits.
    """
    _check_key_bytes(length)
    if pattern is None:
        pattern = secrets.randbits(16)
        pattern ^= pattern.bit_count() + 1 & 1
    if not 0 <= pattern < 1 << 16 or not pattern.bit_count() & 1:
        raise TableError(
            f"pattern {pattern:#x} of a symmetric key is not 16 bits of which an odd number are set: hashes would "
            "spread over fewer values than they could"
        )
    return pattern.to_bytes(2, "big") * (length // 2)


def _check_key_bytes(length: int) -> None:
    if length % 4 or not 8 <= length <= MAX_KEY_BYTES:
        raise TableError(
            f"a Toeplitz key of {length} bytes is not possible: use a multiple of 4 from 8 to {MAX_KEY_BYTES}; cards "
            f"have {KEY_BYTES} or 52"
        )


def _pair(address: Address6) -> tuple[int, int]:
    if isinstance(address, tuple):
        return address
    try:
        value = int(ipaddress.IPv6Address(address))
    except ValueError as error:
        raise TableError(f"{address!r} is no IPv6 address: {error}") from None
    return value >> 64, value & 0xFFFF_FFFF_FFFF_FFFF


__all__ = [
    "KEY_BYTES", "MICROSOFT_KEY", "SYMMETRIC_KEY", "Toeplitz", "ToeplitzView", "random_key", "symmetric_key",
]  # fmt: skip

"""Toeplitz hash: how a card spreads flows over its queues (receive-side scaling), in software.

For each bit of the input that is set, the hash takes in the 32 bits of the key that start at the same
position. The hash of an input is therefore the XOR of the hashes of its bytes, each at its place, and those
are made once: 36 tables (the longest input: two IPv6 addresses and two ports) of 256 words.

    offset         bytes  what
    0              64     record (:class:`ToeplitzView`)
    64 + 1024 * i  1024   hashes of each byte value at place i

IPv4 uses places 0 to 11: 12 KiB, which stay in the first-level cache. Zero bytes hash to zero, so leaving
the ports out and giving them as 0 are the same thing.

References: Microsoft, "RSS hashing types" and "Verifying the RSS hash calculation" (NDIS); H. Krawczyk,
"LFSR-based hashing and authentication", CRYPTO 1994; S. Woo and K. Park, "Scalable TCP session monitoring
with symmetric receive-side scaling", KAIST 2012 (the key of repeated 0x6d5a).
"""

import ctypes
from types import TracebackType
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from wirespeed.errors import TableError
from wirespeed.jit import View, inline, le64, load32
from wirespeed.mem.region import Region

_PLACES = 36
_RECORD = 64
_ROW = 1024
KEY_BYTES: int = 40

MICROSOFT_KEY: bytes = bytes.fromhex("6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa")
"""The key of Microsoft's verification suite, and the usual default of cards."""
SYMMETRIC_KEY: bytes = bytes.fromhex("6d5a") * 20
"""Both directions of a flow hash the same, since the key repeats every 16 bits."""


@inline
def _word(rows: int, value: int) -> int:
    """The hash of the four low bytes of ``value``, the most significant at the place of ``rows``."""
    return int(
        load32(rows + (((value >> 24) & 0xFF) << 2))
        ^ load32(rows + _ROW + (((value >> 16) & 0xFF) << 2))
        ^ load32(rows + 2 * _ROW + (((value >> 8) & 0xFF) << 2))
        ^ load32(rows + 3 * _ROW + ((value & 0xFF) << 2))
    )


class ToeplitzView(View):
    """The tables that a hash is looked up in."""

    key0 = le64(0, "first eight bytes of the key, for who looks at the memory")
    SIZE = _RECORD

    def hash_v4(self, src: int, dst: int, sport: int = 0, dport: int = 0) -> int:
        """32-bit hash of an IPv4 flow; without ports, of the two addresses."""
        rows = self.address + _RECORD
        ports = ((sport & 0xFFFF) << 16) | (dport & 0xFFFF)
        return _word(rows, src) ^ _word(rows + 4 * _ROW, dst) ^ _word(rows + 8 * _ROW, ports)

    def hash_v6(self, src: tuple[int, int], dst: tuple[int, int], sport: int = 0, dport: int = 0) -> int:
        """32-bit hash of an IPv6 flow; addresses are pairs (high, low)."""
        rows = self.address + _RECORD
        ports = ((sport & 0xFFFF) << 16) | (dport & 0xFFFF)
        return (
            _word(rows, src[0] >> 32)
            ^ _word(rows + 4 * _ROW, src[0])
            ^ _word(rows + 8 * _ROW, src[1] >> 32)
            ^ _word(rows + 12 * _ROW, src[1])
            ^ _word(rows + 16 * _ROW, dst[0] >> 32)
            ^ _word(rows + 20 * _ROW, dst[0])
            ^ _word(rows + 24 * _ROW, dst[1] >> 32)
            ^ _word(rows + 28 * _ROW, dst[1])
            ^ _word(rows + 32 * _ROW, ports)
        )


class Toeplitz:
    """The hash of one key.

    Args:
        key: 40 bytes; Microsoft's by default.
        symmetric: use the key under which both directions of a flow hash the same.

    Raises:
        TableError: the key has another length, or both arguments are given.
    """

    View: ClassVar[type[ToeplitzView]] = ToeplitzView

    def __init__(self, key: bytes | None = None, symmetric: bool = False) -> None:
        if key is not None and symmetric:
            raise TableError("a Toeplitz hash has a key of its own or the symmetric one: give one of them")
        self.key = key if key is not None else SYMMETRIC_KEY if symmetric else MICROSOFT_KEY
        if len(self.key) != KEY_BYTES:
            raise TableError(f"a Toeplitz key of {len(self.key)} bytes is not possible: it has {KEY_BYTES}")
        self.region = Region(_RECORD + _PLACES * _ROW, "wirespeed-toeplitz", huge=False)
        self.address = self.region.address
        self._view = ToeplitzView(self.address)
        self._view.key0 = int.from_bytes(self.key[:8], "little")
        rows = (ctypes.c_uint32 * (_PLACES * 256)).from_address(self.address + _RECORD)
        np.ctypeslib.as_array(rows)[:] = _tables(self.key)

    def hash_v4(self, src: int, dst: int, sport: int = 0, dport: int = 0) -> int:
        """32-bit hash of an IPv4 flow; addresses and ports as ints."""
        return int(self._view.hash_v4(src, dst, sport, dport))

    def hash_v6(self, src: tuple[int, int], dst: tuple[int, int], sport: int = 0, dport: int = 0) -> int:
        """32-bit hash of an IPv6 flow; addresses as pairs (high, low)."""
        return int(self._view.hash_v6(src, dst, sport, dport))

    def close(self) -> None:
        """Give the memory back."""
        self.region.close()

    def __enter__(self) -> "Toeplitz":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _tables(key: bytes) -> NDArray[np.uint32]:
    """The hash of each byte value at each place."""
    bits = int.from_bytes(key, "big")
    values = np.arange(256)
    rows = np.zeros((_PLACES, 256), dtype=np.uint32)
    for place in range(_PLACES):
        for bit in range(8):  # 0 is the most significant, the first on the wire
            window = bits >> (KEY_BYTES * 8 - 32 - (place * 8 + bit)) & 0xFFFF_FFFF
            rows[place, (values >> (7 - bit) & 1) == 1] ^= np.uint32(window)
    return rows.ravel()

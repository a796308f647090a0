"""IPv6 addresses and prefixes, as people write them and as tables keep them.

An address is a pair (high, low) of 64-bit words, as in ``pkt.ipv6.dst``; a prefix is (high, low, length).
"""

import ipaddress
import operator
import socket
from collections.abc import Iterable
from typing import Any, SupportsIndex, TypeAlias

import numpy as np
from numpy.typing import NDArray

from wirespeed.errors import TableError

Address6: TypeAlias = SupportsIndex | str | ipaddress.IPv6Address | tuple[int, int]
"""Text, an int of 128 bits, an ipaddress object, or (high, low), each with or without sign."""
Prefix6: TypeAlias = (
    str | ipaddress.IPv6Network | ipaddress.IPv6Address | tuple[Address6, SupportsIndex] | tuple[int, int, int]
)
"""``"2001:db8::/32"``, an ipaddress object, (address, length) or (high, low, length); an address alone is its /128."""
Key6: TypeAlias = tuple[int, int, int]

_WORD: int = 0xFFFF_FFFF_FFFF_FFFF
_ALL: int = (1 << 128) - 1


def parse_address6(address: Address6) -> tuple[int, int]:
    """An IPv6 address as (high, low), both 0 to 2^64 - 1. Raises TableError."""
    if isinstance(address, tuple):
        if len(address) != 2:
            raise TableError(f"address {address!r} is no pair: give (high, low), two words of 64 bits")
        high, low = operator.index(address[0]), operator.index(address[1])
        for word in (high, low):
            if not -(1 << 63) <= word <= _WORD:
                raise TableError(f"address word {word} is out of range: each of (high, low) has 64 bits")
        return high & _WORD, low & _WORD
    if isinstance(address, SupportsIndex):
        number = operator.index(address)
        if not 0 <= number <= _ALL:
            raise TableError(f"address {number} is out of range: an IPv6 address is 0 to 2^128 - 1")
        return number >> 64, number & _WORD
    if isinstance(address, str):
        try:
            number = int.from_bytes(socket.inet_pton(socket.AF_INET6, address), "big")
        except (OSError, ValueError):
            raise TableError(f"{address!r} is not an IPv6 address: write it like 2001:db8::1") from None
        return number >> 64, number & _WORD
    if isinstance(address, ipaddress.IPv6Address):
        return int(address) >> 64, int(address) & _WORD
    raise TableError(
        f"{address!r} is not an IPv6 address: give text, an int, a pair (high, low) or an ipaddress.IPv6Address"
    )


def parse_prefix6(prefix: Prefix6) -> Key6:
    """(high, low, length) of a prefix. Raises TableError: not a prefix, length out of range, host bits set."""
    if isinstance(prefix, str):
        text, slash, bits = prefix.partition("/")
        if slash and not (bits.isascii() and bits.isdigit()):
            raise TableError(f"prefix {prefix!r} has no length: write it like 2001:db8::/32")
        (high, low), length = parse_address6(text), int(bits) if slash else 128
    elif isinstance(prefix, ipaddress.IPv6Network):
        number = int(prefix.network_address)
        return number >> 64, number & _WORD, prefix.prefixlen
    elif isinstance(prefix, ipaddress.IPv6Address):
        return int(prefix) >> 64, int(prefix) & _WORD, 128
    elif isinstance(prefix, tuple) and len(prefix) == 2:
        (high, low), length = parse_address6(prefix[0]), operator.index(prefix[1])
    elif isinstance(prefix, tuple) and len(prefix) == 3:
        (high, low), length = parse_address6((prefix[0], prefix[1])), operator.index(prefix[2])
    else:
        raise TableError(f"{prefix!r} is not an IPv6 prefix: give text, (address, length) or an IPv6Network")
    if not 0 <= length <= 128:
        raise TableError(f"prefix {prefix!r} has length {length}: it must be 0 to 128")
    number = high << 64 | low
    if number & (_ALL >> length):
        number &= ~(_ALL >> length)
        right = prefix_text6(number >> 64, number & _WORD, length)
        raise TableError(f"prefix {prefix!r} has host bits set: did you mean {right}?")
    return high, low, length


def address_words(addresses: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(highs, lows) of an array (n, 2) of words, of a pair of arrays, or of any iterable of addresses."""
    if isinstance(addresses, tuple) and len(addresses) == 2 and isinstance(addresses[0], np.ndarray):
        highs, lows = words(addresses[0]), words(addresses[1])
        if highs.shape != lows.shape or highs.ndim != 1:
            raise TableError(f"{highs.size} high words have {lows.size} low words: give one each")
        return highs, lows
    if isinstance(addresses, np.ndarray) and addresses.dtype != object:
        if addresses.ndim != 2 or addresses.shape[1] != 2:
            raise TableError(
                f"an array of shape {addresses.shape} has no IPv6 addresses: give (n, 2) words, high and low"
            )
        return words(addresses[:, 0]), words(addresses[:, 1])
    pairs = np.array([parse_address6(address) for address in addresses], dtype=np.uint64).reshape(-1, 2)
    return words(pairs[:, 0]), words(pairs[:, 1])


def prefix_words(prefixes: Any) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """(highs, lows, lengths) of (addresses, lengths), of (highs, lows, lengths), or of any iterable of prefixes.

    Raises:
        TableError: names the first that is no prefix.
    """
    if isinstance(prefixes, tuple) and len(prefixes) in (2, 3) and isinstance(prefixes[-1], np.ndarray):
        *where, bits = prefixes
        highs, lows = address_words(where[0] if len(where) == 1 else tuple(where))
        if bits.dtype.kind not in "iu":
            raise TableError(f"lengths are {bits.dtype}: give integers")
        lengths = bits.astype(np.int64)
        if len(highs) != len(lengths):
            raise TableError(f"{len(highs)} addresses have {len(lengths)} lengths: give one each")
        bad = (lengths < 0) | (lengths > 128) | _host_bits(highs, lows, lengths)
        if bad.any():
            at = int(bad.argmax())
            parse_prefix6((int(highs[at]), int(lows[at]), int(lengths[at])))  # says what is wrong with it
        return highs, lows, lengths
    keys = np.array([parse_prefix6(prefix) for prefix in _each(prefixes)], dtype=np.uint64).reshape(-1, 3)
    return words(keys[:, 0]), words(keys[:, 1]), words(keys[:, 2])


def prefix_text6(high: int, low: int, length: int) -> str:
    """``2001:db8::/32`` (RFC 5952)."""
    packed = ((high & _WORD) << 64 | low & _WORD).to_bytes(16, "big")
    return f"{socket.inet_ntop(socket.AF_INET6, packed)}/{length}"


def words(array: NDArray[Any]) -> NDArray[np.int64]:
    """Words of 64 bits as contiguous int64. Raises TableError for anything but integers."""
    if array.dtype.kind not in "iu":
        raise TableError(f"address words are {array.dtype}: give uint64 or int64")
    return np.ascontiguousarray(array, np.uint64 if array.dtype.kind == "u" else np.int64).view(np.int64)


def _each(prefixes: Any) -> Iterable[Prefix6]:
    if isinstance(prefixes, str) or not isinstance(prefixes, Iterable):
        raise TableError(f"{prefixes!r} is not many prefixes: give arrays or an iterable of prefixes")
    return prefixes


def _host_bits(highs: NDArray[np.int64], lows: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
    ones = np.uint64(_WORD)
    bits = np.clip(lengths, 0, 128).astype(np.uint64)
    above = np.where(bits >= 64, np.uint64(0), ones >> np.minimum(bits, np.uint64(63)))
    below = np.where(
        bits >= 128, np.uint64(0), ones >> (np.maximum(bits, np.uint64(64)) - np.uint64(64)) % np.uint64(64)
    )
    return ((highs.view(np.uint64) & above) != 0) | ((lows.view(np.uint64) & below) != 0)

"""IPv4 prefixes, as people write them and as tables keep them.

A prefix is kept as one int, ``key = address << 6 | length``: sorts like a routing table, hashes fast.
"""

import ipaddress
import operator
import socket
from typing import Any, SupportsIndex, TypeAlias

import numpy as np
from numpy.typing import NDArray

from wirespeed.errors import TableError

Prefix4: TypeAlias = str | ipaddress.IPv4Network | ipaddress.IPv4Address | tuple[int, int]
"""``"10.0.0.0/8"``, an ipaddress object, or (address, length); an address alone is its /32."""
Address4: TypeAlias = SupportsIndex | str | ipaddress.IPv4Address


def parse_address(address: Address4) -> int:
    """An IPv4 address as an int. Raises TableError."""
    if isinstance(address, SupportsIndex):
        number = operator.index(address)
        if not 0 <= number <= 0xFFFF_FFFF:
            raise TableError(f"address {number} is out of range: an IPv4 address is 0 to {0xFFFF_FFFF}")
        return number
    if isinstance(address, str):
        try:
            return int.from_bytes(socket.inet_pton(socket.AF_INET, address), "big")
        except (OSError, ValueError):
            raise TableError(f"{address!r} is not an IPv4 address: write it like 192.0.2.1") from None
    if isinstance(address, ipaddress.IPv4Address):
        return int(address)
    raise TableError(f"{address!r} is not an IPv4 address: give text, an int or an ipaddress.IPv4Address")


def parse_prefix(prefix: Prefix4) -> int:
    """The key of a prefix. Raises TableError: not a prefix, length out of range, host bits set."""
    if isinstance(prefix, str):
        text, slash, bits = prefix.partition("/")
        if slash and not (bits.isascii() and bits.isdigit()):
            raise TableError(f"prefix {prefix!r} has no length: write it like 192.0.2.0/24")
        address, length = parse_address(text), int(bits) if slash else 32
    elif isinstance(prefix, ipaddress.IPv4Network):
        return int(prefix.network_address) << 6 | prefix.prefixlen
    elif isinstance(prefix, tuple) and len(prefix) == 2:
        address, length = parse_address(prefix[0]), operator.index(prefix[1])
    elif isinstance(prefix, ipaddress.IPv4Address):
        address, length = int(prefix), 32
    else:
        raise TableError(f"{prefix!r} is not an IPv4 prefix: give text, (address, length) or an IPv4Network")
    if not 0 <= length <= 32:
        raise TableError(f"prefix {prefix!r} has length {length}: it must be 0 to 32")
    if address & (0xFFFF_FFFF >> length):
        right = prefix_text((address & ~(0xFFFF_FFFF >> length)) << 6 | length)
        raise TableError(f"prefix {prefix!r} has host bits set: did you mean {right}?")
    return address << 6 | length


def prefix_keys(addresses: NDArray[Any], lengths: NDArray[Any]) -> NDArray[np.int64]:
    """The keys of arrays of addresses and lengths. Raises TableError for the first that is no prefix."""
    if len(addresses) != len(lengths):
        raise TableError(f"{len(addresses)} addresses have {len(lengths)} lengths: give one each")
    wide, bits = np.asarray(addresses).astype(np.int64), np.asarray(lengths).astype(np.int64)
    bad = (bits < 0) | (bits > 32) | (wide < 0) | (wide > 0xFFFF_FFFF)
    bad |= (wide & (np.int64(0xFFFF_FFFF) >> np.clip(bits, 0, 32))) != 0
    if bad.any():
        at = int(bad.argmax())
        parse_prefix((int(wide[at]), int(bits[at])))  # says what is wrong with it
    return wide << 6 | bits


def prefix_text(key: int) -> str:
    """``10.0.0.0/8`` from its key."""
    address = key >> 6
    return f"{address >> 24}.{address >> 16 & 255}.{address >> 8 & 255}.{address & 255}/{key & 63}"

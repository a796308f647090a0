"""Neighbour discovery messages and their options, RFC 4861, RFC 4191, RFC 8106, RFC 3971 (nonce); plain Python.

::

     0       8       16              32                     options, each:  type | length | value
    +-------+-------+---------------+                       length counts eight bytes, type and length included
    | type  | code 0|   checksum    |
    +-------+-------+---------------+                       1, 2  Ethernet address of source, target
    | 133: 0                        | options               3     prefix         5   MTU
    | 134: hops, flags, lifetime    | reachable, retransmit, options
    | 135: 0                        | target, options       14    nonce          24  route
    | 136: R S O flags              | target, options       25    DNS servers    31  DNS search list
    +-------------------------------+

A reader gives None for what is broken (an option of length 0, or one that runs out of the message: RFC 4861 section
6.1.2, "all included options have a length that is greater than zero"); options that are not known are passed over
(section 4.6). Lists have limits: a message of 1,500 bytes may hold forty prefixes.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network

from wirespeed.wire.icmp import ICMP6_NEIGHBOUR_ADVERTISEMENT, ICMP6_NEIGHBOUR_SOLICITATION, ICMP6_ROUTER_ADVERTISEMENT

ND_INFINITE: int = 0xFFFFFFFF
"""A lifetime that never ends."""
ITEMS_MAX: int = 16
"""Prefixes, routes, servers and domains read of one message, each."""

_SOURCE_MAC, _TARGET_MAC, _PREFIX, _MTU, _NONCE, _ROUTE, _DNS, _SEARCH = 1, 2, 3, 5, 14, 24, 25, 31
_PREFERENCE = (0, 1, 0, -1)
"""RFC 4191 section 2.1: medium, high, reserved (to be read as medium), low."""


@dataclass(frozen=True, slots=True)
class AdvertisedPrefix:
    """RFC 4861 section 4.6.2; lifetimes in seconds."""

    network: IPv6Network
    on_link: bool
    autonomous: bool
    valid_s: int
    preferred_s: int


@dataclass(frozen=True, slots=True)
class AdvertisedRoute:
    """RFC 4191 section 2.3."""

    network: IPv6Network
    preference: int
    lifetime_s: int


@dataclass(frozen=True, slots=True)
class RouterAdvertisement:
    """RFC 4861 section 4.2. 0, or empty, is what the router leaves open; ``preference`` is -1, 0 or 1."""

    hop_limit: int
    managed: bool
    other: bool
    preference: int
    lifetime_s: int
    reachable_s: float
    retransmit_s: float
    mac: int
    mtu: int
    prefixes: tuple[AdvertisedPrefix, ...]
    routes: tuple[AdvertisedRoute, ...]
    dns: tuple[tuple[IPv6Address, int], ...]
    search: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class NeighbourSolicitation:
    """RFC 4861 section 4.3; ``nonce`` as in RFC 7527, empty without."""

    target: IPv6Address
    mac: int
    nonce: bytes


@dataclass(frozen=True, slots=True)
class NeighbourAdvertisement:
    """RFC 4861 section 4.4."""

    target: IPv6Address
    mac: int
    router: bool
    solicited: bool
    override: bool


NdMessage = RouterAdvertisement | NeighbourSolicitation | NeighbourAdvertisement


def read_nd(message: bytes) -> NdMessage | None:
    """The message, from its ICMPv6 header on, of a packet whose checksum and hop limit (255) are right."""
    if len(message) < 16 or message[1] != 0:
        return None
    fixed = 16 if message[0] == ICMP6_ROUTER_ADVERTISEMENT else 24
    if len(message) < fixed:
        return None
    options = list(_options(message[fixed:]))
    if (0, b"") in options:
        return None
    if message[0] == ICMP6_ROUTER_ADVERTISEMENT:
        return _advertisement(message, options)
    target = IPv6Address(message[8:24])
    if target.is_multicast:
        return None
    if message[0] == ICMP6_NEIGHBOUR_SOLICITATION:
        nonce = next((value for kind, value in options if kind == _NONCE), b"")
        return NeighbourSolicitation(target, _mac(options, _SOURCE_MAC), nonce)
    if message[0] == ICMP6_NEIGHBOUR_ADVERTISEMENT:
        flags = message[4]
        return NeighbourAdvertisement(
            target, _mac(options, _TARGET_MAC), bool(flags & 0x80), bool(flags & 0x40), bool(flags & 0x20)
        )
    return None


def solicit_router(mac: int = 0) -> bytes:
    """The body of a router solicitation; no address of ours while the source is ``::`` (section 4.1)."""
    return bytes(4) + (_option(_SOURCE_MAC, mac.to_bytes(6)) if mac else b"")


def solicit_neighbour(target: IPv6Address, mac: int = 0, nonce: bytes = b"") -> bytes:
    """The body of a neighbour solicitation; duplicate detection has a nonce of six bytes and no address."""
    parts = [bytes(4), target.packed]
    parts += [_option(_SOURCE_MAC, mac.to_bytes(6))] if mac else []
    parts += [_option(_NONCE, nonce)] if nonce else []
    return b"".join(parts)


def advertise_neighbour(target: IPv6Address, mac: int, solicited: bool, override: bool) -> bytes:
    """The body of a neighbour advertisement of a host."""
    flags = (0x40 if solicited else 0) | (0x20 if override else 0)
    return bytes((flags, 0, 0, 0)) + target.packed + _option(_TARGET_MAC, mac.to_bytes(6))


def _option(kind: int, value: bytes) -> bytes:
    size = -(-(len(value) + 2) // 8)
    return bytes((kind, size)) + value.ljust(size * 8 - 2, b"\0")


def _options(area: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, value) of each; (0, nothing) for one that is broken, and no more then."""
    at = 0
    while at < len(area):
        size = area[at + 1] * 8 if at + 1 < len(area) else 0
        if size == 0 or at + size > len(area):
            yield 0, b""
            return
        yield area[at], area[at + 2 : at + size]
        at += size


def _mac(options: list[tuple[int, bytes]], wanted: int) -> int:
    return next((int.from_bytes(value[:6]) for kind, value in options if kind == wanted), 0)


def _advertisement(message: bytes, options: list[tuple[int, bytes]]) -> RouterAdvertisement:
    hops, flags, lifetime, reachable, retransmit = struct.unpack_from("!BBHII", message, 4)
    mtu = next((int.from_bytes(value[2:6]) for kind, value in options if kind == _MTU), 0)
    prefixes = [each for kind, value in options if kind == _PREFIX and (each := _prefix(value))]
    routes = [route for kind, value in options if kind == _ROUTE and (route := _route(value))]
    dns = [each for kind, value in options if kind == _DNS for each in _servers(value)]
    search = [each for kind, value in options if kind == _SEARCH for each in _domains(value)]
    return RouterAdvertisement(
        hops, bool(flags & 0x80), bool(flags & 0x40), _PREFERENCE[flags >> 3 & 3], lifetime, reachable / 1000,
        retransmit / 1000, _mac(options, _SOURCE_MAC), mtu, tuple(prefixes[:ITEMS_MAX]), tuple(routes[:ITEMS_MAX]),
        tuple(dns[:ITEMS_MAX]), tuple(search[:ITEMS_MAX]),
    )  # fmt: skip


def _prefix(value: bytes) -> AdvertisedPrefix | None:
    if len(value) != 30 or value[0] > 128:
        return None
    width, flags, valid, preferred, _, prefix = struct.unpack("!BBIII16s", value)
    network = IPv6Network((prefix, width), strict=False)
    return AdvertisedPrefix(network, bool(flags & 0x80), bool(flags & 0x40), valid, preferred)


def _route(value: bytes) -> AdvertisedRoute | None:
    if len(value) not in (6, 14, 22) or value[0] > 128 or len(value) < 6 + -(-value[0] // 64) * 8:
        return None
    if value[1] >> 3 & 3 == 2:
        return None  # the reserved preference: to be ignored (RFC 4191 section 2.3)
    network = IPv6Network((value[6:].ljust(16, b"\0"), value[0]), strict=False)
    return AdvertisedRoute(network, _PREFERENCE[value[1] >> 3 & 3], int.from_bytes(value[2:6]))


def _servers(value: bytes) -> Iterator[tuple[IPv6Address, int]]:
    """RFC 8106 section 5.1."""
    if len(value) < 22 or (len(value) - 6) % 16:
        return
    lifetime = int.from_bytes(value[2:6])
    for at in range(6, len(value), 16):
        address = IPv6Address(value[at : at + 16])
        if not (address.is_multicast or address.is_unspecified or address.is_loopback):
            yield address, lifetime


def _domains(value: bytes) -> Iterator[tuple[str, int]]:
    """RFC 8106 section 5.2: names as in DNS, without compression; one that is no name ends the list."""
    lifetime, at = int.from_bytes(value[2:6]), 6
    while at < len(value) and value[at]:
        labels: list[bytes] = []
        while at < len(value) and 0 < value[at] < 64:
            labels.append(value[at + 1 : at + 1 + value[at]])
            at += 1 + value[at]
        name = b".".join(labels)
        whole = at < len(value) and value[at] == 0 and len(name) < 254
        if not whole or not all(letter.isalnum() or letter in "-._" for letter in name.decode("latin-1")):
            return
        if not name.isascii():
            return
        yield name.decode().lower(), lifetime
        at += 1


__all__ = [
    "ITEMS_MAX", "ND_INFINITE", "AdvertisedPrefix", "AdvertisedRoute", "NdMessage", "NeighbourAdvertisement",
    "NeighbourSolicitation", "RouterAdvertisement", "advertise_neighbour", "read_nd", "solicit_neighbour",
    "solicit_router",
]  # fmt: skip

"""DHCPv4 messages and their options, RFC 2131 section 2, RFC 2132, RFC 3442.

::

     0       1       2       3       4               8       10      12            28           44          108
    +-------+-------+-------+-------+---------------+-------+-------+-- 4 x 4 ----+-- 16 ------+--- 64 -----+ 128 --+
    |  op   | htype | hlen  | hops  |      xid      | secs  | flags |ci yi si gi  |   chaddr   |   sname    | file  |
    +-------+-------+-------+-------+---------------+-------+-------+-------------+------------+------------+-------+
    236: magic 63 82 53 63, then options: code, length, value; 0 pads, 255 ends

Read in plain Python, a message at a time. A reader gives None for what is not whole; an option that is not well
formed is as if it were not there, but for those without which a message means nothing.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from ipaddress import IPv4Address, IPv4Network

DHCP_SERVER_PORT = 67
DHCP_CLIENT_PORT = 68
DHCP_INFINITE: int = 0xFFFFFFFF
"""A lease time that never ends, RFC 2131 section 3.3."""
ADDRESSES_MAX: int = 8
"""Routers and servers kept of one option; a message may hold some hundreds."""
ROUTES_MAX: int = 64
"""Routes kept of option 121."""

NOBODY = IPv4Address(0)

_FIXED = struct.Struct("!BBBBIHH4s4s4s4s16s64s128s4s")
_MAGIC = bytes.fromhex("63825363")
_BROADCAST = 0x8000


class DhcpOption(IntEnum):
    """Options that are read or sent, RFC 2132 but where said."""

    PAD = 0
    MASK = 1
    ROUTERS = 3
    DNS = 6
    HOST_NAME = 12
    DOMAIN = 15
    MTU = 26
    NTP = 42
    REQUESTED = 50
    LEASE_S = 51
    OVERLOAD = 52
    TYPE = 53
    SERVER = 54
    PARAMETERS = 55
    MESSAGE = 56
    SIZE_MAX = 57
    T1_S = 58
    T2_S = 59
    CLIENT = 61
    ROUTES = 121
    """RFC 3442."""
    END = 255


class DhcpType(IntEnum):
    """What a message is, RFC 2132 section 9.6."""

    DISCOVER = 1
    OFFER = 2
    REQUEST = 3
    DECLINE = 4
    ACK = 5
    NAK = 6
    RELEASE = 7
    INFORM = 8


@dataclass(frozen=True, slots=True)
class DhcpRoute:
    """A route of option 121; a gateway of 0.0.0.0 is the link itself."""

    destination: IPv4Network
    gateway: IPv4Address


@dataclass(frozen=True, slots=True)
class DhcpMessage:
    """One message; ``options`` are values by code, parts of one joined (RFC 3396 section 7)."""

    op: int
    xid: int
    mac: int
    secs: int = 0
    broadcast: bool = False
    client: IPv4Address = NOBODY
    yours: IPv4Address = NOBODY
    server: IPv4Address = NOBODY
    relay: IPv4Address = NOBODY
    options: Mapping[int, bytes] = field(default_factory=dict)

    def type(self) -> int:
        """A :class:`DhcpType`, or 0 for a message that is BOOTP only or nonsense."""
        value = self.options.get(DhcpOption.TYPE, b"")
        return value[0] if len(value) == 1 else 0

    def number(self, code: int, size: int) -> int | None:
        """An option that is one number of ``size`` bytes; None if it is not there or not that."""
        value = self.options.get(code, b"")
        return int.from_bytes(value) if len(value) == size else None

    def address(self, code: int) -> IPv4Address | None:
        """An option that is one address."""
        value = self.number(code, 4)
        return None if value is None else IPv4Address(value)

    def addresses(self, code: int) -> tuple[IPv4Address, ...]:
        """An option that is a list of addresses: those a host can be reached at, ADDRESSES_MAX at most."""
        value = self.options.get(code, b"")
        if len(value) % 4:
            return ()
        found = (IPv4Address(value[at : at + 4]) for at in range(0, len(value), 4))
        return tuple(dict.fromkeys(each for each in found if is_host(each)))[:ADDRESSES_MAX]

    def text(self, code: int) -> str:
        """An option that is printable ASCII; empty if it is anything else, for it may end in a terminal."""
        value = self.options.get(code, b"").rstrip(b"\0")
        return value.decode() if value.isascii() and value.decode().isprintable() else ""

    def routes(self) -> tuple[DhcpRoute, ...] | None:
        """Option 121; None if it is not there, or broken anywhere: half a routing table is worse than none."""
        value = self.options.get(DhcpOption.ROUTES)
        return None if value is None else _read_routes(value)

    def encode(self) -> bytes:
        """The message's bytes, 300 at least (RFC 951: relays exist that drop shorter ones)."""
        fixed = _FIXED.pack(
            self.op, 1, 6, 0, self.xid, self.secs, _BROADCAST if self.broadcast else 0, self.client.packed,
            self.yours.packed, self.server.packed, self.relay.packed, self.mac.to_bytes(6), b"", b"", _MAGIC,
        )  # fmt: skip
        parts = [fixed]
        for code, value in self.options.items():
            # RFC 3396 section 6: what is longer than 255 bytes is said in parts.
            for at in range(0, max(1, len(value)), 255):
                part = value[at : at + 255]
                parts.append(bytes((code, len(part))) + part)
        return b"".join([*parts, bytes((DhcpOption.END,))]).ljust(300, b"\0")


def is_host(address: IPv4Address) -> bool:
    """Whether an address can be that of one host somewhere: not 0/8, loopback, a group, or above (RFC 1122 3.2.1.3)."""
    return 1 <= address.packed[0] < 224 and address.packed[0] != 127


def read_dhcp4(data: bytes) -> DhcpMessage | None:
    """The message in a UDP payload; None if it is none for Ethernet, or its options run out of it."""
    if len(data) < _FIXED.size:
        return None
    op, htype, hlen, _, xid, secs, flags, client, yours, server, relay, mac, sname, file, magic = _FIXED.unpack_from(
        data
    )
    if op not in (1, 2) or (htype, hlen, magic) != (1, 6, _MAGIC):
        return None
    options: dict[int, bytes] = {}
    if not _read_options(data[_FIXED.size :], options):
        return None
    # RFC 2131 section 4.1: with option 52 the two fields hold options as well, file before sname.
    overload = options.get(DhcpOption.OVERLOAD, b"\0")
    for bit, area in ((1, file), (2, sname)):
        if len(overload) == 1 and overload[0] & bit and not _read_options(area, options):
            return None
    return DhcpMessage(
        op, xid, int.from_bytes(mac[:6]), secs, bool(flags & _BROADCAST), IPv4Address(client), IPv4Address(yours),
        IPv4Address(server), IPv4Address(relay), options,
    )  # fmt: skip


def _read_options(area: bytes, into: dict[int, bytes]) -> bool:
    """Add the options of one area; False if one is longer than the area."""
    for code, value in _options(area):
        if value is None:
            return False
        into[code] = into.get(code, b"") + value
    return True


def _options(area: bytes) -> Iterator[tuple[int, bytes | None]]:
    at = 0
    while at < len(area) and area[at] != DhcpOption.END:
        if area[at] == DhcpOption.PAD:
            at += 1
            continue
        end = at + 2 + area[at + 1] if at + 1 < len(area) else len(area) + 1
        yield area[at], area[at + 2 : end] if end <= len(area) else None
        at = end


def _read_routes(value: bytes) -> tuple[DhcpRoute, ...] | None:
    """RFC 3442: the width of the prefix, as many bytes of it as are significant, the gateway."""
    routes: list[DhcpRoute] = []
    at = 0
    while at < len(value):
        width = value[at]
        middle = at + 1 + (width + 7) // 8
        if width > 32 or middle + 4 > len(value) or len(routes) == ROUTES_MAX:
            return None
        prefix = value[at + 1 : middle].ljust(4, b"\0")
        gateway = IPv4Address(value[middle : middle + 4])
        if int(gateway) and not is_host(gateway):
            return None
        # Bits behind the width are to be ignored (RFC 3442, "... SHOULD be zero"), not refused.
        routes.append(DhcpRoute(IPv4Network((prefix, width), strict=False), gateway))
        at = middle + 4
    return tuple(routes) or None


__all__ = [
    "ADDRESSES_MAX", "DHCP_CLIENT_PORT", "DHCP_INFINITE", "DHCP_SERVER_PORT", "NOBODY", "ROUTES_MAX", "DhcpMessage",
    "DhcpOption", "DhcpRoute", "DhcpType", "is_host", "read_dhcp4",
]  # fmt: skip

"""An interface: which addresses are ours on a link, which groups we are in, and where packets go from here.

Control code writes it, every worker reads it. What workers read is one of two halves, and a change is written into
the other one and shown whole, by one store::

    0      offset of the half that counts, generation
    64     one half                  HALF bytes
    ...    the other one

    of a half:
    0      Ethernet address as it stands in a frame, and as an integer; VLAN; how many entries of each list
    64     the first IPv4 and IPv6 address, again: most packets are for these
    128    IPv4: own prefixes        16 x 16  network, mask         a /32 for an address, shorter for "all of these"
           broadcast and groups      64 x 8   address
           routes, longest first     16 x 32  network, mask, gateway (0: on the link), largest packet
           IPv6: own                 16 x 16  high, low
           groups                    64 x 16  high, low
           routes, longest first     16 x 56  network high, low, mask high, low, gateway high, low, largest packet

A host's lists are short, so they are searched from the front; what has many routes is a router. IPv4 addresses are
integers as header fields read them.
"""
# mypy: no-warn-return-any

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from wirespeed.errors import TableError
from wirespeed.jit import View, cold, inline, le64, load64, load_acquire, signed64, store64, store_release
from wirespeed.mem.region import Region
from wirespeed.tables.reclaimer import Reclaimer
from wirespeed.wire.ethernet import mac_address, mac_text

MAX_ADDRESSES: int = 16
"""Own addresses of each version."""
MAX_GROUPS: int = 64
"""Groups of each version, broadcast addresses among them."""
MAX_ROUTES: int = 16
"""Routes of each version, those of the own prefixes among them."""

MTU_MIN: int = 68
"""RFC 791: every link carries that much."""
MTU_MAX: int = 65535

NO_ROUTE: int = -1
NO_VLAN: int = -1

_HEAD = 64
_LISTS = 128
_OWN4 = _LISTS
_GROUPS4 = _OWN4 + MAX_ADDRESSES * 16
_ROUTES4 = _GROUPS4 + MAX_GROUPS * 8
_OWN6 = _ROUTES4 + MAX_ROUTES * 32
_GROUPS6 = _OWN6 + MAX_ADDRESSES * 16
_ROUTES6 = _GROUPS6 + MAX_GROUPS * 16
_ROUTE6 = 56
_HALF = -(-(_ROUTES6 + MAX_ROUTES * _ROUTE6) // 64) * 64

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Interface4or6 = ipaddress.IPv4Interface | ipaddress.IPv6Interface


class Half(View):
    """What counts now."""

    frame_mac = le64(0, "Ethernet address, its bytes as in a frame")
    mac = le64(8, "the same as an integer")
    vlan = le64(16, "tag that packets carry, NO_VLAN: none")
    own4 = le64(24, "entries of each list")
    groups4 = le64(32)
    routes4 = le64(40)
    own6 = le64(48)
    groups6 = le64(56)
    routes6 = le64(64)
    first4 = le64(72, "first own IPv4 prefix: network")
    mask4 = le64(80, "and mask; all ones with no network at all: never equal")
    address4 = le64(88, "the IPv4 address that we speak from if nothing says which; 0: none")
    high6 = le64(96, "first own IPv6 address")
    low6 = le64(104)
    untagged_mac = le64(112, "frame_mac if packets carry no tag, else a number that no address is")
    mtu = le64(120, "of the link, in bytes")
    SIZE = _HALF


@cold
def _owns4(half: Any, address: int) -> int:
    for i in range(half.own4):
        at = half.address + _OWN4 + i * 16
        if address & load64(at + 8) == load64(at):
            return 1
    return 0


@cold
def _owns6(half: Any, high: int, low: int) -> int:
    for i in range(half.own6):
        at = half.address + _OWN6 + i * 16
        if high == load64(at) and low == load64(at + 8):
            return 1
    return 0


@cold
def _in_group4(half: Any, address: int) -> int:
    for i in range(half.groups4):
        if load64(half.address + _GROUPS4 + i * 8) == address:
            return 1
    return 0


@cold
def _in_group6(half: Any, high: int, low: int) -> int:
    for i in range(half.groups6):
        at = half.address + _GROUPS6 + i * 16
        if load64(at) == high and load64(at + 8) == low:
            return 1
    return 0


@inline
def _route4(half: Any, address: int) -> int:
    """The gateway, or the address itself where it is on the link; NO_ROUTE."""
    at = half.address + _ROUTES4
    for _ in range(half.routes4):
        if address & load64(at + 8) == load64(at):
            gateway = load64(at + 16)
            return gateway if gateway != 0 else address
        at += 32
    return NO_ROUTE


@inline
def _route6(half: Any, high: int, low: int) -> tuple[int, int]:
    """The same, as a pair; (0, 0): no route."""
    at = half.address + _ROUTES6
    for _ in range(half.routes6):
        if high & load64(at + 16) == load64(at) and low & load64(at + 24) == load64(at + 8):
            gateway_high, gateway_low = load64(at + 32), load64(at + 40)
            on_link = gateway_high | gateway_low == 0
            return (high if on_link else gateway_high), (low if on_link else gateway_low)
        at += _ROUTE6
    return 0, 0


@cold
def _mtu4(half: Any, address: int) -> int:
    """The largest packet on the way to an address, as far as routes say."""
    at = half.address + _ROUTES4
    for _ in range(half.routes4):
        if address & load64(at + 8) == load64(at):
            said = load64(at + 24)
            return min(said, half.mtu) if said != 0 else half.mtu
        at += 32
    return half.mtu


@cold
def _mtu6(half: Any, high: int, low: int) -> int:
    at = half.address + _ROUTES6
    for _ in range(half.routes6):
        if high & load64(at + 16) == load64(at) and low & load64(at + 24) == load64(at + 8):
            said = load64(at + 48)
            return min(said, half.mtu) if said != 0 else half.mtu
        at += _ROUTE6
    return half.mtu


class InterfaceView(View):
    """The interface as nodes see it."""

    half = le64(0, "offset of the half that counts")
    generation = le64(8, "how often it was changed")
    SIZE = _HEAD + 2 * _HALF

    def _now(self) -> Half:
        return Half(self.address + load_acquire(self.address))

    @property
    def mac(self) -> int:
        """Our Ethernet address, as an integer."""
        return self._now().mac

    @property
    def frame_mac(self) -> int:
        """Our Ethernet address, its bytes as they stand in a frame."""
        return self._now().frame_mac

    @property
    def vlan(self) -> int:
        """The tag that packets carry; NO_VLAN: none."""
        return self._now().vlan

    @property
    def address4(self) -> int:
        """The IPv4 address that we speak from when nothing else says which."""
        return self._now().address4

    @property
    def address6(self) -> tuple[int, int]:
        """The same for IPv6, as a pair; (0, 0): none."""
        now = self._now()
        return now.high6, now.low6

    @property
    def untagged_mac(self) -> int:
        """``frame_mac`` if packets carry no tag, else a number that no Ethernet address is."""
        return self._now().untagged_mac

    def is_first4(self, address: int) -> int:
        """Whether an IPv4 address is our first one, or of its prefix: most often no need to look further."""
        now = self._now()
        return 1 if address & now.mask4 == now.first4 else 0

    def owns4(self, address: int) -> int:
        """Whether an IPv4 address is ours alone."""
        now = self._now()
        if address & now.mask4 == now.first4:
            return 1
        return _owns4(now, address) if now.own4 > 1 else 0

    def owns6(self, high: int, low: int) -> int:
        """Whether an IPv6 address is ours alone."""
        now = self._now()
        if high == now.high6 and low == now.low6:
            return now.own6 != 0
        return _owns6(now, high, low) if now.own6 > 1 else 0

    def in_group4(self, address: int) -> int:
        """Whether it is a broadcast address of ours, or a group that we have joined."""
        return _in_group4(self._now(), address)

    def in_group6(self, high: int, low: int) -> int:
        """Whether we have joined that group."""
        return _in_group6(self._now(), high, low)

    def route4(self, address: int) -> int:
        """Which neighbour a packet to that address goes to; NO_ROUTE: none."""
        return _route4(self._now(), address)

    def route6(self, high: int, low: int) -> tuple[int, int]:
        """The same for IPv6, as a pair; (0, 0): none."""
        return _route6(self._now(), high, low)

    def mtu4(self, address: int) -> int:
        """Bytes of the largest packet to that address, as far as the link and routes say."""
        return _mtu4(self._now(), address)

    def mtu6(self, high: int, low: int) -> int:
        """The same for IPv6."""
        return _mtu6(self._now(), high, low)


@dataclass(frozen=True)
class Route:
    """Where packets to a network go: to ``gateway``, or to whoever they are for, on the link."""

    network: Network
    gateway: Address | None = None
    mtu: int = 0


@dataclass(frozen=True)
class Settings:
    """All of an interface, as a value.

    Attributes:
        mac: Ethernet address, as an integer.
        addresses: own addresses with their prefix; the first of a version is the one we speak from.
        local: prefixes of which every address is ours (IPv4 only).
        groups: multicast groups to listen to, besides those that a host must.
        routes: besides those of the prefixes of ``addresses``.
        vlan: tag that packets carry, or None.
        mtu: the link's largest packet in bytes.
    """

    mac: int = 0
    addresses: tuple[Interface4or6, ...] = ()
    local: tuple[ipaddress.IPv4Network, ...] = ()
    groups: frozenset[Address] = frozenset()
    routes: tuple[Route, ...] = ()
    vlan: int | None = None
    mtu: int = 1500

    def of(self, version: int) -> list[Any]:
        """The own addresses of an IP version."""
        return [each for each in self.addresses if each.version == version]

    def all_routes(self, version: int) -> list[Route]:
        """Routes of an IP version, longest prefix first, and of equal ones those given first."""
        linked = [Route(each.network) for each in self.of(version)]
        found = [*linked, *(each for each in self.routes if each.network.version == version)]
        unique = {each.network: each for each in reversed(found)}
        return sorted(unique.values(), key=lambda each: -each.network.prefixlen)

    def all_groups(self, version: int) -> list[Address]:
        """Groups of an IP version; with them all hosts, broadcasts (RFC 919, 922) and solicited nodes (RFC 4291)."""
        found: dict[Address, None] = {}
        if version == 4:
            found[ipaddress.IPv4Address("255.255.255.255")] = None
            found[ipaddress.IPv4Address("224.0.0.1")] = None
            for each in self.of(4):
                if each.network.prefixlen < 31:
                    found[each.network.broadcast_address] = None
        else:
            found[ipaddress.IPv6Address("ff02::1")] = None
            for each in self.of(6):
                found[solicited_node(each.ip)] = None
        for group in sorted(self.groups, key=int):
            if group.version == version:
                found[group] = None
        return list(found)


def solicited_node(address: ipaddress.IPv6Address) -> ipaddress.IPv6Address:
    """The group that neighbour solicitations for an address go to, RFC 4291 section 2.7.1."""
    return ipaddress.IPv6Address(0xFF02_0000_0000_0000_0000_0001_FF00_0000 | int(address) & 0xFF_FFFF)


@dataclass
class _Writer:
    """Words that go into a half."""

    at: int

    def put(self, offset: int, *values: int) -> None:
        for index, value in enumerate(values):
            store64(self.at + offset + 8 * index, signed64(value))


def _pair(address: Any) -> tuple[int, int]:
    number = int(address)
    return number >> 64, number & (1 << 64) - 1


class Interface:
    """An interface of a host; nodes read it while :meth:`set` changes it.

    Args:
        settings: what it is to begin with.
        name: what errors call it.
    """

    View = InterfaceView

    def __init__(self, settings: Settings | None = None, name: str = "interface") -> None:
        self.name = name
        self.reclaimer: Reclaimer | None = None
        self._region = Region(InterfaceView.SIZE, f"wirespeed-{name}", huge=False)
        self.address = self._region.address
        self._view = InterfaceView(self.address)
        self.settings = Settings()
        self.set(settings or self.settings)

    def set(self, settings: Settings) -> None:
        """Be this from now on: workers see the old settings or the new ones, whole.

        Raises:
            TableError: more entries than fit, or an address that cannot be one's own. Nothing is changed then.
        """
        self._check(settings)
        if self.reclaimer is not None:
            self.reclaimer.synchronize()  # nobody reads the half that does not count
        spare = _HEAD if load64(self.address) != _HEAD else _HEAD + _HALF
        self._write(self.address + spare, settings)
        store_release(self.address, spare)
        self._view.generation += 1  # after it: who remembers what the old half said remembers it under the old number
        self.settings = settings

    def _check(self, settings: Settings) -> None:
        if not 0 <= settings.mac < 1 << 48:
            raise TableError(f"{self.name}: {settings.mac:#x} is no Ethernet address: it has 48 bits")
        if settings.vlan is not None and not 1 <= settings.vlan <= 4094:
            raise TableError(f"{self.name}: VLAN {settings.vlan} must be 1 to 4094")
        if not MTU_MIN <= settings.mtu <= MTU_MAX:
            raise TableError(f"{self.name}: an MTU of {settings.mtu} bytes must be {MTU_MIN} to {MTU_MAX}")
        for each in settings.addresses:
            if each.ip.is_multicast or each.ip.is_unspecified or (each.version == 4 and int(each.ip) >> 28 == 15):
                raise TableError(f"{self.name}: {each.ip} cannot be a host's own address")
        for version in (4, 6):
            own = len(settings.of(version)) + (len(settings.local) if version == 4 else 0)
            for what, count, limit in (
                ("addresses", own, MAX_ADDRESSES),
                ("groups", len(settings.all_groups(version)), MAX_GROUPS),
                ("routes", len(settings.all_routes(version)), MAX_ROUTES),
            ):
                if count > limit:
                    raise TableError(f"{self.name}: {count} IPv{version} {what} are too many: at most {limit}")
        for route in settings.routes:
            if route.gateway is not None and route.gateway.version != route.network.version:
                raise TableError(f"{self.name}: the way to {route.network} cannot be {route.gateway}")

    def _write(self, at: int, settings: Settings) -> None:
        half, writer = Half(at), _Writer(at)
        half.mac = settings.mac
        half.frame_mac = int.from_bytes(settings.mac.to_bytes(6, "big"), "little")
        half.untagged_mac = half.frame_mac if settings.vlan is None else -1
        half.mtu = settings.mtu
        half.vlan = NO_VLAN if settings.vlan is None else settings.vlan
        own4 = [(int(each.ip), 0xFFFF_FFFF) for each in settings.of(4)]
        half.address4 = own4[0][0] if own4 else 0
        own4 += [(int(each.network_address), int(each.netmask)) for each in settings.local]
        half.first4, half.mask4 = own4[0] if own4 else (-1, 0)
        own6 = [_pair(each.ip) for each in settings.of(6)]
        half.high6, half.low6 = map(signed64, own6[0]) if own6 else (0, 0)
        half.own4 = self._list(writer, _OWN4, 16, own4)
        half.own6 = self._list(writer, _OWN6, 16, own6)
        half.groups4 = self._list(writer, _GROUPS4, 8, [(int(each),) for each in settings.all_groups(4)])
        half.groups6 = self._list(writer, _GROUPS6, 16, [_pair(each) for each in settings.all_groups(6)])
        routes4 = [
            (int(r.network.network_address), int(r.network.netmask), int(r.gateway or 0), r.mtu)
            for r in settings.all_routes(4)
        ]
        half.routes4 = self._list(writer, _ROUTES4, 32, routes4)
        routes6 = [
            (*_pair(r.network.network_address), *_pair(r.network.netmask), *_pair(r.gateway or 0), r.mtu)
            for r in settings.all_routes(6)
        ]
        half.routes6 = self._list(writer, _ROUTES6, _ROUTE6, routes6)

    @staticmethod
    def _list(writer: _Writer, offset: int, size: int, entries: Iterable[tuple[int, ...]]) -> int:
        count = 0
        for entry in entries:
            writer.put(offset + count * size, *entry)
            count += 1
        return count

    # What nodes call, for traces and control code -----------------------------------------------------------

    @property
    def mac(self) -> int:
        """See :attr:`InterfaceView.mac`."""
        return int(self._view.mac)

    @property
    def frame_mac(self) -> int:
        """See :attr:`InterfaceView.frame_mac`."""
        return int(self._view.frame_mac)

    @property
    def vlan(self) -> int:
        """See :attr:`InterfaceView.vlan`."""
        return int(self._view.vlan)

    @property
    def address4(self) -> int:
        """See :attr:`InterfaceView.address4`."""
        return int(self._view.address4)

    @property
    def address6(self) -> tuple[int, int]:
        """See :attr:`InterfaceView.address6`."""
        return self._view.address6

    @property
    def untagged_mac(self) -> int:
        """See :attr:`InterfaceView.untagged_mac`."""
        return int(self._view.untagged_mac)

    @property
    def generation(self) -> int:
        """See :attr:`InterfaceView.generation`."""
        return int(self._view.generation)

    def is_first4(self, address: int) -> int:
        """See :meth:`InterfaceView.is_first4`."""
        return int(self._view.is_first4(address))

    def owns4(self, address: int) -> int:
        """See :meth:`InterfaceView.owns4`."""
        return int(self._view.owns4(address))

    def owns6(self, high: int, low: int) -> int:
        """See :meth:`InterfaceView.owns6`."""
        return int(self._view.owns6(high, low))

    def in_group4(self, address: int) -> int:
        """See :meth:`InterfaceView.in_group4`."""
        return int(self._view.in_group4(address))

    def in_group6(self, high: int, low: int) -> int:
        """See :meth:`InterfaceView.in_group6`."""
        return int(self._view.in_group6(high, low))

    def route4(self, address: int) -> int:
        """See :meth:`InterfaceView.route4`."""
        return int(self._view.route4(address))

    def route6(self, high: int, low: int) -> tuple[int, int]:
        """See :meth:`InterfaceView.route6`."""
        return self._view.route6(high, low)

    def mtu4(self, address: int) -> int:
        """See :meth:`InterfaceView.mtu4`."""
        return int(self._view.mtu4(address))

    def mtu6(self, high: int, low: int) -> int:
        """See :meth:`InterfaceView.mtu6`."""
        return int(self._view.mtu6(high, low))

    def close(self) -> None:
        """Give the memory back; no graph may run with it."""
        self._region.close()

    def __repr__(self) -> str:
        said = ", ".join(map(str, self.settings.addresses)) or "no address"
        return f"<{self.name}: {mac_text(self.settings.mac)}, {said}>"


__all__ = [
    "MAX_ADDRESSES", "MAX_GROUPS", "MAX_ROUTES", "NO_ROUTE", "NO_VLAN", "Interface", "InterfaceView", "Route",
    "Settings", "mac_address", "solicited_node",
]  # fmt: skip

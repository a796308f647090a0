"""What an interface is to be, as a value: addresses, groups, routes and what a host adds to them by itself."""

import ipaddress
from dataclasses import dataclass
from typing import Any

from wirespeed.stack.packets import solicited_node

MTU_MIN: int = 68
"""RFC 791: every link carries that much."""
MTU_MAX: int = 65535

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Interface4or6 = ipaddress.IPv4Interface | ipaddress.IPv6Interface


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

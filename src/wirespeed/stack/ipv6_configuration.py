"""What an interface's IPv6 is configured with, as a value: :class:`~wirespeed.stack.slaac.Slaac` gives one out whenever
it changed, and the owner applies the difference to the one before."""

from dataclasses import dataclass, field
from ipaddress import IPv6Address, IPv6Interface, IPv6Network


@dataclass(frozen=True, slots=True)
class OwnAddress:
    """An address that is ours: detection found no other.

    ``preferred`` False: deprecated, not for new conversations (RFC 4862 section 5.5.4). The ends of its lifetimes are
    on the clock of the caller and make no other address of it.
    """

    interface: IPv6Interface
    preferred: bool
    preferred_until_s: float = field(compare=False)
    valid_until_s: float = field(compare=False)


@dataclass(frozen=True, slots=True)
class DefaultRouter:
    """Where packets to nowhere in particular go; ``mac`` 0: to be asked for. ``preference``: -1, 0, 1 (RFC 4191)."""

    address: IPv6Address
    mac: int
    preference: int


@dataclass(frozen=True, slots=True)
class RouterRoute:
    """A more specific route (RFC 4191)."""

    destination: IPv6Network
    gateway: IPv6Address
    preference: int


@dataclass(frozen=True, slots=True)
class Ipv6Configuration:
    """All of it. ``routers`` best first; ``reachable_s`` and ``retransmit_s`` are for neighbour discovery.

    ``managed`` and ``other``: a router says that there is DHCPv6 (which is not spoken here).
    """

    addresses: tuple[OwnAddress, ...] = ()
    on_link: tuple[IPv6Network, ...] = ()
    routers: tuple[DefaultRouter, ...] = ()
    routes: tuple[RouterRoute, ...] = ()
    dns: tuple[IPv6Address, ...] = ()
    search: tuple[str, ...] = ()
    mtu: int = 1500
    hop_limit: int = 64
    reachable_s: float = 30.0
    retransmit_s: float = 1.0
    managed: bool = False
    other: bool = False


__all__ = ["DefaultRouter", "Ipv6Configuration", "OwnAddress", "RouterRoute"]

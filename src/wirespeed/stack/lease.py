"""What a DHCPv4 server leased: the values of an answer that were found to make sense (RFC 2131, 2132, 3442)."""

import math
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from wirespeed.wire.dhcp4 import DHCP_INFINITE, DhcpMessage, DhcpOption, DhcpRoute, is_host

MTU_MIN: int = 576
"""A smaller MTU is not taken from a server: RFC 791 has every host receive this much, and 68 would be an attack."""
LEASE_MIN_S: int = 10
"""A shorter lease is refused: it would have us ask without end."""


@dataclass(frozen=True, slots=True)
class Lease:
    """What the interface is to be configured with.

    Attributes:
        address: with its prefix.
        server: who leased it.
        routes: where packets go besides the prefix; the default route is 0.0.0.0/0. From option 121, else 3.
        dns, ntp: servers.
        mtu: 0 if the server said nothing.
        start_s, renew_s, rebind_s, end_s: T0, T1, T2 and expiry, on the clock of the caller.
    """

    address: IPv4Interface
    server: IPv4Address
    routes: tuple[DhcpRoute, ...]
    dns: tuple[IPv4Address, ...]
    ntp: tuple[IPv4Address, ...]
    mtu: int
    domain: str
    # When it was got makes no other lease of it: whoever compares two wants to know whether to configure again.
    start_s: float = field(compare=False)
    renew_s: float = field(compare=False)
    rebind_s: float = field(compare=False)
    end_s: float = field(compare=False)

    @property
    def gateway(self) -> IPv4Address | None:
        """Where the default route goes."""
        return next((route.gateway for route in self.routes if route.destination.prefixlen == 0), None)


@dataclass(frozen=True, slots=True)
class LeaseTaken:
    """Configure the interface with this; it replaces what there was."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class LeaseKept:
    """The same lease, for longer: nothing to configure."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class LeaseLost:
    """Stop using the address, at once (section 4.4.5). ``why``: expired, refused, conflict, released."""

    lease: Lease
    why: str


def read_lease(message: DhcpMessage, start_s: float) -> Lease | str:
    """The lease in an offer or acknowledgement; a word why there is none.

    Args:
        start_s: when the request was sent (RFC 2131 section 4.4.1: a lease counts from then, never from the answer).
    """
    server = message.address(DhcpOption.SERVER)
    if server is None or not is_host(server):
        return "no-server"
    seconds = message.number(DhcpOption.LEASE_S, 4)
    if seconds is None or seconds < LEASE_MIN_S:
        return "bad-time"
    address = _interface(message)
    if address is None:
        return "bad-address"
    renew_s, rebind_s = _times(message, seconds)
    mtu = message.number(DhcpOption.MTU, 2) or 0
    return Lease(
        address, server, _routes(message), message.addresses(DhcpOption.DNS), message.addresses(DhcpOption.NTP),
        mtu if mtu >= MTU_MIN else 0, message.text(DhcpOption.DOMAIN),
        start_s, start_s + renew_s, start_s + rebind_s, start_s + (math.inf if seconds == DHCP_INFINITE else seconds),
    )  # fmt: skip


def _interface(message: DhcpMessage) -> IPv4Interface | None:
    """The address with its prefix: of option 1, else of its class (RFC 950), which is what a server then means."""
    yours = message.yours
    if not is_host(yours):
        return None
    if DhcpOption.MASK in message.options:
        mask = message.number(DhcpOption.MASK, 4)
        if mask is None or mask == 0:
            return None
        width = mask.bit_count()
        if mask != (1 << 32) - (1 << 32 - width):
            return None  # with holes
    else:
        width = 8 if yours.packed[0] < 128 else 16 if yours.packed[0] < 192 else 24
    own = IPv4Interface((yours, width))
    if width < 31 and yours in (own.network.network_address, own.network.broadcast_address):
        return None
    return own


def _times(message: DhcpMessage, seconds: int) -> tuple[float, float]:
    """T1 and T2 after the start; a half and seven eighths of the lease unless the server says better (4.4.5)."""
    if seconds == DHCP_INFINITE:
        return math.inf, math.inf
    renew = message.number(DhcpOption.T1_S, 4)
    rebind = message.number(DhcpOption.T2_S, 4)
    if renew is not None and rebind is not None and 0 < renew < rebind < seconds:
        return renew, rebind
    return seconds * 0.5, seconds * 0.875


def _routes(message: DhcpMessage) -> tuple[DhcpRoute, ...]:
    """RFC 3442: where option 121 is, option 3 is ignored."""
    routes = message.routes()
    if routes is not None:
        return routes
    routers = message.addresses(DhcpOption.ROUTERS)
    return (DhcpRoute(IPv4Network("0.0.0.0/0"), routers[0]),) if routers else ()


__all__ = ["LEASE_MIN_S", "MTU_MIN", "Lease", "LeaseKept", "LeaseLost", "LeaseTaken", "read_lease"]

"""What types cannot say about a router's configuration: each check gives (field, what is wrong and what is right)."""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from wirespeed.control.config import PortConfig, RouterConfig
from wirespeed.errors import PortError
from wirespeed.ports.port import port

Wrong = Iterator[tuple[str, str]]

_NEVER = (IPv4Network("0.0.0.0/8"), IPv4Network("127.0.0.0/8"), IPv4Network("224.0.0.0/3"))
"""No host of a network has these: this network, loopback, multicast and reserved (RFC 1122 section 3.2.1.3)."""


def check(config: RouterConfig) -> Wrong:
    """Everything that is wrong, most fundamental first."""
    yield from _ports(config)
    yield from _addresses(config)
    yield from _routes(config)
    yield from _neighbours(config)


def connected(config: RouterConfig, address: IPv4Address) -> tuple[int, IPv4Interface] | None:
    """The port (its index) and the router's own address there, on the network of ``address``; None if on none."""
    for index, each in enumerate(config.ports):
        for own in each.addresses:
            if address in own.network:
                return index, own
    return None


def _ports(config: RouterConfig) -> Wrong:
    if not config.ports:
        yield "port", "a router has at least one port; write [[port]] with name, spec and addresses"
    seen: dict[str, str] = {}
    for index, each in enumerate(config.ports):
        for key, value in (("name", each.name), ("spec", each.spec)):
            if value in seen:
                yield f"port[{index}].{key}", f"{value!r} is taken by {seen[value]}; each port has its own"
            seen[value] = f"port[{index}].{key}"
        yield from _spec(index, each)


def _spec(index: int, each: PortConfig) -> Wrong:
    try:
        made = port(each.spec)
    except PortError as error:
        yield f"port[{index}].spec", str(error)
        return
    if made.receive is None or made.transmit is None:
        lacks = "gives no packets" if made.receive is None else "takes no packets"
        yield f"port[{index}].spec", f"{each.spec!r} {lacks}; a router's port does both, as af_packet and tap do"


def _addresses(config: RouterConfig) -> Wrong:
    seen: list[tuple[str, IPv4Interface]] = []
    for index, each in enumerate(config.ports):
        for place, own in enumerate(each.addresses):
            where = f"port[{index}].addresses[{place}]"
            yield from _usable(where, own.ip, own.network)
            for before, other in seen:
                if own.network.overlaps(other.network):
                    yield where, f"{own} overlaps {other} of {before}; each network is on one port, once"
            seen.append((where, own))


def _usable(where: str, address: IPv4Address, network: IPv4Network | None) -> Wrong:
    for never in _NEVER:
        if address in never:
            yield where, f"{address} is in {never}, which no host has; use an address such as 10.1.0.1"
    if network is not None and network.prefixlen < 31:
        for name, special in (("network", network.network_address), ("broadcast", network.broadcast_address)):
            if address == special:
                first = network.network_address + 1
                yield where, f"{address} is the {name} address of {network}; hosts there are {first} and following"


def _routes(config: RouterConfig) -> Wrong:
    seen: dict[IPv4Network, str] = {}
    networks = {own.network: f"port[{i}]" for i, each in enumerate(config.ports) for own in each.addresses}
    for index, route in enumerate(config.routes):
        where = f"route[{index}]"
        if route.prefix in networks:
            yield f"{where}.prefix", f"{route.prefix} is the network of {networks[route.prefix]}; it needs no route"
        if route.prefix.prefixlen == 32 and connected(config, route.prefix.network_address):
            yield f"{where}.prefix", f"{route.prefix} is a neighbour's address; it needs no route"
        if route.prefix in seen:
            yield f"{where}.prefix", f"{route.prefix} has a route already, {seen[route.prefix]}; give it one"
        seen[route.prefix] = where
        yield from _reachable(f"{where}.via", config, route.via)


def _neighbours(config: RouterConfig) -> Wrong:
    seen: dict[IPv4Address, str] = {}
    for index, each in enumerate(config.neighbours):
        where = f"neighbour[{index}].address"
        if each.address in seen:
            yield where, f"{each.address} is there already, {seen[each.address]}; give it one MAC address"
        seen[each.address] = where.removesuffix(".address")
        yield from _reachable(where, config, each.address)
    pinned = {each.address for each in config.neighbours} | {route.via for route in config.routes}
    if len(pinned) > config.limits.neighbours:
        yield "limits.neighbours", f"{config.limits.neighbours} is less than the {len(pinned)} that are configured"


def _reachable(where: str, config: RouterConfig, address: IPv4Address) -> Wrong:
    found = connected(config, address)
    if found is None:
        networks = ", ".join(str(own.network) for each in config.ports for own in each.addresses)
        yield where, f"{address} is on no port's network; it must be in {networks or 'one of them: there are none'}"
        return
    if any(address == own.ip for each in config.ports for own in each.addresses):
        yield where, f"{address} is the router's own address; a neighbour is somebody else"
    yield from _usable(where, address, found[1].network)


__all__ = ["check", "connected"]

"""Which addresses and groups a host has: those configured, those a DHCP server leased, those routers advertise.

::

    ARP ─────────────▶ Fixed4, Dhcp4Client ─┐
    UDP to port 68 ──▶ Dhcp4Client ─────────┤                    ┌─▶ interface.set(): workers see it whole
    neighbour disc. ─▶ Fixed6, Slaac ───────┼─▶ what we have now ┤
    IGMP, MLD ───────▶ Igmp, Mld ───────────┘                    └─▶ announcements, reports

The state machines know nothing of each other; here is what each one's outputs mean for the interface. Nobody on the
link can make us fail: what does not fit the interface's lists (sixteen prefixes of a hostile router, say) is left out,
configured addresses and routes first.
"""

import ipaddress
import logging
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from random import Random
from typing import Any

from wirespeed.stack.acd import AcdTimes, SendArp
from wirespeed.stack.dhcp4 import Dhcp4Client
from wirespeed.stack.fixed import fixed
from wirespeed.stack.igmp import Igmp
from wirespeed.stack.interface import Interface
from wirespeed.stack.interface_id import InterfaceId
from wirespeed.stack.interface_settings import Address, Route, Settings
from wirespeed.stack.interface_view import MAX_ADDRESSES, MAX_GROUPS, MAX_ROUTES
from wirespeed.stack.ipv6_configuration import Ipv6Configuration
from wirespeed.stack.lease import Lease, LeaseKept, LeaseLost, LeaseTaken
from wirespeed.stack.mld import Mld
from wirespeed.stack.packets import ANY4, SendPacket, solicited_node
from wirespeed.stack.slaac import LINK_LOCAL, AddressDuplicate, Ipv6Changed, JoinGroup, LeaveGroup, Slaac
from wirespeed.wire.nd import NeighbourAdvertisement, NeighbourSolicitation, read_nd

_log = logging.getLogger("wirespeed.service")
_DEFAULT6 = ipaddress.ip_network("::/0")
_LINK_MTU = 1500


@dataclass(frozen=True)
class Wanted:
    """What a host was told about its addresses.

    Attributes:
        dhcp: take an IPv4 address by DHCP.
        auto: take IPv6 addresses from what routers advertise.
        check: look for configured addresses on the link before they are used; those of DHCP and SLAAC always are.
        times: of IPv4 conflict detection.
        secret: for opaque IPv6 addresses (:class:`~wirespeed.stack.interface_id.InterfaceId`).
        name: the host's, told to the DHCP server.
    """

    dhcp: bool = False
    auto: bool = False
    check: bool = False
    times: AcdTimes = field(default_factory=AcdTimes)
    secret: bytes = b""
    name: str = ""


class Addressing:
    """The addresses of one interface.

    Args:
        interface: is told what we have.
        base: what was configured: addresses, groups, routes, the MAC.
        wanted: and where else addresses come from.
        send: puts an IP packet on the wire, its destination says where.
        probe: puts an ARP request on the wire, to all.
        announce: tells everybody of an IPv6 address that is ours now.
        random: jitter, transaction numbers.
    """

    def __init__(
        self,
        interface: Interface,
        base: Settings,
        wanted: Wanted,
        send: Callable[[bytes], object],
        probe: Callable[[SendArp], object],
        announce: Callable[[IPv6Address], object],
        random: Random,
    ) -> None:
        self.interface, self.base = interface, base
        self._send, self._probe, self._announce = send, probe, announce
        linked = _with_link_local(base, wanted.auto)
        self._four, self._six = fixed(linked, base.mac, random, wanted.times, wanted.check)
        self.dhcp = Dhcp4Client(base.mac, random, wanted.name, times=wanted.times) if wanted.dhcp else None
        self.slaac = Slaac(base.mac, random, wanted.secret) if wanted.auto else None
        self.igmp, self.mld = Igmp(random), Mld(random)
        self._lease: Lease | None = None
        self._advertised = Ipv6Configuration()
        self._apply()

    # Time -----------------------------------------------------------------------------------------------------

    def start(self, now_s: float) -> None:
        """The link is up, or back: everything is looked for and said anew."""
        for each in self.base.groups:
            if isinstance(each, IPv4Address):
                self._reported(self.igmp.join(each, now_s))
            else:
                self._reported(self.mld.join(each, now_s))
        for own in self._six:  # before detection: a switch that snoops must know (RFC 4862 section 5.4.2)
            self._reported(self.mld.join(solicited_node(own.own.ip), now_s, own))
        self._apply()
        for own in self._six:
            own.start(now_s)
        for four in self._four:
            self._probes(four.start(now_s))
        if self.dhcp is not None:
            self._leased(self.dhcp.start(now_s), now_s)
        if self.slaac is not None:
            self._configured(self.slaac.start(now_s), now_s)
        self._changed(now_s)

    def restart(self, now_s: float) -> None:
        """The link was gone and is back, perhaps another one: what others gave is asked for again."""
        self._reported(self.igmp.refresh(now_s))
        self._reported(self.mld.refresh(now_s))
        if self.slaac is not None:
            self._configured(self.slaac.stop(now_s), now_s)
        if self.dhcp is not None:
            self.dhcp.stop()
        self.start(now_s)

    def stop(self, now_s: float) -> None:
        """The host goes: leave the groups. The lease is left to end by itself: a host that comes back gets it again."""
        for each in self.base.groups:
            if isinstance(each, IPv4Address):
                self._reported(self.igmp.leave(each, now_s))
            else:
                self._reported(self.mld.leave(each, now_s))

    @property
    def due_s(self) -> float:
        """When :meth:`tick` has something to do."""
        machines: Iterable[Any] = (*self._four, *self._six, self.dhcp, self.slaac, self.igmp, self.mld)
        return min((each.due_s for each in machines if each is not None), default=math.inf)

    def tick(self, now_s: float) -> None:
        """Time passed."""
        if now_s < self.due_s:
            return
        for four in self._four:
            self._probes(four.tick(now_s))
        for six in self._six:
            self._sent(six.tick(now_s))
        if self.dhcp is not None and now_s >= self.dhcp.due_s:
            self._leased(self.dhcp.tick(now_s), now_s)
        if self.slaac is not None and now_s >= self.slaac.due_s:
            self._configured(self.slaac.tick(now_s), now_s)
        self._reported(self.igmp.tick(now_s))
        self._reported(self.mld.tick(now_s))
        self._changed(now_s)  # nobody can make us come here often: the machines say when

    # What comes in --------------------------------------------------------------------------------------------

    def arp(self, sender_mac: int, sender: int, target: int, now_s: float) -> None:
        """Any ARP packet."""
        words = (sender_mac, IPv4Address(sender), IPv4Address(target), now_s)
        for four in self._four:
            before = four.conflicts
            self._probes(four.arp(*words))
            if four.conflicts > before:
                _log.warning("%s: another host has this address too: %012x", four.own.ip, sender_mac)
                self._changed(now_s)
        if self.dhcp is not None:
            self._leased(self.dhcp.arp(*words), now_s)

    def udp68(self, payload: bytes, now_s: float) -> None:
        """A datagram to the port of DHCP clients."""
        if self.dhcp is not None:
            self._leased(self.dhcp.receive(payload, now_s), now_s)

    def discovery(self, source: int, hop_limit: int, message: bytes, now_s: float) -> None:
        """A router advertisement, a neighbour solicitation or advertisement, its checksum right."""
        if self._six:
            read = read_nd(message) if hop_limit == 255 else None
            if isinstance(read, NeighbourSolicitation | NeighbourAdvertisement):
                for six in self._six:
                    before = six.conflicts
                    six.receive(IPv6Address(source), read, now_s)
                    if six.conflicts > before:
                        _log.warning("%s: another host has this address too", six.own.ip)
                        self._changed(now_s)
        if self.slaac is not None:
            self._configured(self.slaac.receive(IPv6Address(source), hop_limit, message, now_s), now_s)

    def groups4(self, ttl: int, router_alert: bool, message: bytes, now_s: float) -> None:
        """An IGMP message."""
        self.igmp.receive(ttl, router_alert, message, now_s)

    def groups6(self, source: int, hop_limit: int, router_alert: bool, message: bytes, now_s: float) -> None:
        """An MLD message, its checksum right."""
        self.mld.receive(IPv6Address(source), hop_limit, router_alert, message, now_s)

    # What it comes to -----------------------------------------------------------------------------------------

    @property
    def dns(self) -> tuple[Address, ...]:
        """DNS servers that the lease and routers name."""
        leased = self._lease.dns if self._lease else ()
        return (*self._advertised.dns, *leased)

    def _probes(self, sent: Sequence[SendArp]) -> None:
        for each in sent:
            self._probe(each)

    def _sent(self, outputs: Iterable[Any]) -> None:
        for each in outputs:
            if isinstance(each, SendPacket):
                self._send(each.packet)

    _reported = _sent

    def _leased(self, outputs: Iterable[Any], now_s: float) -> None:
        for each in outputs:
            if isinstance(each, SendPacket):
                self._send(each.packet)
            elif isinstance(each, SendArp):
                self._probe(each)
            elif isinstance(each, LeaseTaken):
                self._lease = each.lease
                _log.info("%s leased from %s", each.lease.address, each.lease.server)
                self._changed(now_s)
            elif isinstance(each, LeaseLost):
                self._lease = None
                _log.warning("%s lost: %s", each.lease.address, each.why)
                self._changed(now_s)
            elif isinstance(each, LeaseKept):
                self._lease = each.lease

    def _configured(self, outputs: Iterable[Any], now_s: float) -> None:
        for each in outputs:
            if isinstance(each, SendPacket):
                self._send(each.packet)
            elif isinstance(each, JoinGroup):
                self._reported(self.mld.join(each.group, now_s, each.address))
                self._apply()  # detection hears nothing otherwise
            elif isinstance(each, LeaveGroup):
                self._reported(self.mld.leave(each.group, now_s, each.address))
                self._apply()
            elif isinstance(each, AddressDuplicate):
                _log.warning("%s is another host's: not used", each.address)
            elif isinstance(each, Ipv6Changed):
                self._advertised = each.configuration
                self._changed(now_s)

    def _changed(self, now_s: float) -> None:
        """Let the interface be what we have; what is new is announced, and groups are reported from it."""
        before = frozenset(each.ip for each in self.interface.settings.of(6))
        if not self._apply():
            return
        for each in self.interface.settings.of(6):
            if each.ip not in before:
                self._announce(each.ip)
        own4, own6 = self._speaker4(), self._link_local()
        if own4 != self.igmp.address:
            self.igmp.address = own4
            self._reported(self.igmp.refresh(now_s))
        if own6 != self.mld.address:
            self.mld.address = own6
            self._reported(self.mld.refresh(now_s))

    def _apply(self) -> bool:
        """Set the interface; whether it is another now."""
        addresses = self._addresses()
        base = replace(self.base, addresses=tuple(addresses))
        groups: frozenset[Address] = frozenset((*self.igmp.groups, *self.mld.groups))
        settings = replace(base, routes=self._routes(base), groups=_fitting(base, groups, self.base.groups))
        if settings == self.interface.settings:
            return False
        self.interface.set(settings)
        return True

    def _addresses(self) -> list[IPv4Interface | IPv6Interface]:
        """Best first: what is configured, leased, advertised; then what is deprecated, and link-local."""
        four = [each.own for each in self._four if each.usable]
        if self._lease is not None:
            four.append(self._lease.address)
        six = [each.own for each in self._six if each.usable]
        advertised = self._advertised.addresses
        six += [self._on_link(each.interface) for each in advertised if each.preferred]
        six += [self._on_link(each.interface) for each in advertised if not each.preferred]
        six.sort(key=lambda each: each.ip.is_link_local)
        kept = six[:MAX_ADDRESSES]
        if six and six[-1].ip.is_link_local and six[-1] not in kept:
            kept[-1] = six[-1]
        return [*four[:MAX_ADDRESSES], *kept]

    def _on_link(self, own: IPv6Interface) -> IPv6Interface:
        """RFC 5942 section 4: that an address has a prefix does not say that the prefix is on this link."""
        known = own.ip.is_link_local or own.network in self._advertised.on_link
        return own if known else IPv6Interface((own.ip, 128))

    def _routes(self, base: Settings) -> tuple[Route, ...]:
        """Those configured, and as many others as fit."""
        found = list(self.base.routes)
        if self._lease is not None:
            found += [Route(r.destination, r.gateway, self._lease.mtu) for r in self._lease.routes]
            if self._lease.mtu:
                found.append(Route(self._lease.address.network, None, self._lease.mtu))
        mtu = self._advertised.mtu if self._advertised.mtu < _LINK_MTU else 0
        found += [Route(_DEFAULT6, each.address, mtu) for each in self._advertised.routers[:1]]
        found += [Route(each, None, mtu) for each in self._advertised.on_link]
        found += [Route(each.destination, each.gateway, mtu) for each in self._advertised.routes]
        kept: list[Route] = []
        networks: set[Any] = set()
        for route in found:
            at = replace(base, routes=(*kept, route))
            if route.network in networks or len(at.all_routes(route.network.version)) > MAX_ROUTES:
                continue
            networks.add(route.network)
            kept.append(route)
        return tuple(kept)

    def _speaker4(self) -> IPv4Address:
        own = self.interface.settings.of(4)
        return own[0].ip if own else ANY4

    def _link_local(self) -> IPv6Address:
        own = (each.ip for each in self.interface.settings.of(6) if each.ip.is_link_local)
        return next(own, IPv6Address(0))


def _with_link_local(base: Settings, auto: bool) -> list[Any]:
    """RFC 4291 section 2.1: who has an IPv6 address has a link-local one; SLAAC makes its own."""
    addresses: list[Any] = list(base.addresses)
    six = base.of(6)
    wanted = six or any(group.version == 6 for group in base.groups)
    if wanted and not auto and not any(each.ip.is_link_local for each in six):
        own = InterfaceId(base.mac).address(LINK_LOCAL)
        addresses.append(IPv6Interface((own, 64)))
    return addresses


def _fitting(base: Settings, groups: frozenset[Address], first: frozenset[Address]) -> frozenset[Address]:
    """The groups that fit the interface's lists; those asked for before all."""
    kept = set(first)
    for version in (4, 6):
        room = MAX_GROUPS - len(replace(base, groups=frozenset(kept)).all_groups(version))
        more = sorted((each for each in groups - kept if each.version == version), key=int)
        kept |= set(more[: max(room, 0)])
    return frozenset(kept)


__all__ = ["Addressing", "Wanted"]

"""The IPv6 configuration of one interface, from what routers advertise (RFC 4861 section 6.3, RFC 4862, RFC 8106).

::

    start -> link-local address, detection -> router solicitations until a router answers (RFC 7559)
                                                  |
    advertisement -> routers, prefixes, MTU, DNS -+-> an address for each prefix, detection -> preferred
                                                             -> deprecated -> gone, as their lifetimes end

Takes ICMPv6 messages and the time in, and gives out a list: :class:`SendPacket`, :class:`JoinGroup` and
:class:`LeaveGroup` (for :class:`~wirespeed.stack.mld.Mld`), :class:`Ipv6Changed` with the whole configuration when it
changed, :class:`AddressDuplicate`. Addresses are RFC 7217's where there is a secret, else from the MAC
(:mod:`~wirespeed.stack.interface_id`). Temporary addresses (RFC 8981) are for those who do not want to be found: not
for a server. DHCPv6 is not spoken.

RFC 4862 section 5.5.3 (e): nobody can shorten a valid lifetime below two hours, so a forged advertisement does not
take an address away. An address that is somebody else's is not used; an opaque one is made anew, three times.
"""

import math
from collections import Counter
from dataclasses import dataclass, field
from ipaddress import IPv6Address, IPv6Interface, IPv6Network
from random import Random

from wirespeed.stack.advertised import Advertised
from wirespeed.stack.dad import DadState, DuplicateDetection
from wirespeed.stack.interface_id import InterfaceId
from wirespeed.stack.ipv6_configuration import Ipv6Configuration, OwnAddress
from wirespeed.stack.packets import ALL_ROUTERS6, SendPacket, icmp6, ipv6, solicited_node
from wirespeed.wire.icmp import ICMP6_ROUTER_SOLICITATION
from wirespeed.wire.ipv4 import PROTOCOL_ICMP6
from wirespeed.wire.nd import ND_INFINITE, AdvertisedPrefix, RouterAdvertisement, read_nd, solicit_router

LINK_LOCAL = IPv6Network("fe80::/64")
TWO_HOURS_S: float = 7200.0
SOLICIT_S: float = 4.0
SOLICIT_MAX_S: float = 3600.0
"""RFC 7559 section 2: first, and longest, between router solicitations."""
RETRIES: int = 3
RETRY_S: float = 1.0
"""RFC 7217 section 6: opaque addresses tried after a duplicate, and the wait before each."""
ADDRESSES_MAX: int = 16


@dataclass(frozen=True, slots=True)
class JoinGroup:
    """``mld.join(group, now_s, socket=address)``: two addresses may share a group."""

    group: IPv6Address
    address: IPv6Address


@dataclass(frozen=True, slots=True)
class LeaveGroup:
    """``mld.leave(group, now_s, socket=address)``."""

    group: IPv6Address
    address: IPv6Address


@dataclass(frozen=True, slots=True)
class AddressDuplicate:
    """Somebody has that address; for the log."""

    address: IPv6Address


@dataclass(frozen=True, slots=True)
class Ipv6Changed:
    """Configure the interface with this, in place of what there was."""

    configuration: Ipv6Configuration


SlaacOutput = SendPacket | JoinGroup | LeaveGroup | AddressDuplicate | Ipv6Changed


@dataclass(slots=True)
class SlaacStats:
    """What happened since the start; ``ignored`` by reason."""

    solicitations: int = 0
    advertisements: int = 0
    duplicates: int = 0
    ignored: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True, eq=False)
class _Own:
    prefix: IPv6Network
    preferred_until_s: float
    valid_until_s: float
    detection: DuplicateDetection
    collisions: int = 0
    retry_s: float = math.inf
    given_up: bool = False
    """Somebody else's; the entry keeps the prefix from being tried with each advertisement."""


class Slaac:
    """The configuration of one interface.

    Args:
        mac: Ethernet address of the interface.
        random: jitter and nonces.
        secret: for opaque addresses, 16 bytes or more that stay the same over restarts; empty: from the MAC.
        link_mtu: bytes.
        transmits: solicitations of detection; 0: none.
        network: what names the network, for opaque addresses.
    """

    def __init__(
        self,
        mac: int,
        random: Random,
        secret: bytes = b"",
        link_mtu: int = 1500,
        transmits: int = 1,
        network: str = "",
    ) -> None:
        self.mac = mac
        self.stats = SlaacStats()
        self.configuration = Ipv6Configuration(mtu=link_mtu)
        """As it was given out last."""
        self._random = random
        self._ids = InterfaceId(mac, secret, network)
        self._transmits = transmits
        self._advertised = Advertised(random, link_mtu)
        self._own: list[_Own] = []
        self._running = False
        self._solicit_due_s = math.inf
        self._solicit_wait_s = 0.0

    @property
    def link_local(self) -> IPv6Address | None:
        """The link-local address, once it is ours."""
        found = next((own for own in self._own if own.prefix == LINK_LOCAL), None)
        return found.detection.address if found and found.detection.state is DadState.ASSIGNED else None

    # Start and stop -----------------------------------------------------------------------------------------

    def start(self, now_s: float) -> list[SlaacOutput]:
        """The link is up, or back: detection for every address known, and routers are asked (RFC 4862 5.4)."""
        self._running = True
        self._solicit_due_s = math.inf
        out: list[SlaacOutput] = []
        if not any(own.prefix == LINK_LOCAL for own in self._own):
            self._own.insert(0, _Own(LINK_LOCAL, math.inf, math.inf, self._detection(LINK_LOCAL, 0)))
        for own in self._own:
            own.retry_s, own.given_up = math.inf, False
            own.detection = self._detection(own.prefix, own.collisions)
            own.detection.start(now_s, delay=True)
            out.append(_join(own))
        return out + self._settled(now_s)

    def stop(self, now_s: float) -> list[SlaacOutput]:
        """The link is gone, perhaps for another: what routers said is forgotten, addresses live on in silence."""
        self._running = False
        self._solicit_due_s = math.inf
        self._advertised.forget()
        for own in self._own:
            own.retry_s = math.inf
            own.detection = self._detection(own.prefix, own.collisions)
        return self._settled(now_s)

    # Messages -----------------------------------------------------------------------------------------------

    def receive(self, source: IPv6Address, hop_limit: int, message: bytes, now_s: float) -> list[SlaacOutput]:
        """An ICMPv6 message of types 134, 135 or 136 came in, its checksum right; from its ICMPv6 header on.

        RFC 4861 sections 6.1.2, 7.1.1, 7.1.2: from this link (hop limit 255), whole, a router by its link-local
        address.
        """
        if not self._running:
            return []
        read = read_nd(message)
        why = "malformed" if read is None else "hop-limit" if hop_limit != 255 else ""
        if isinstance(read, RouterAdvertisement) and not source.is_link_local:
            why = "source"
        if why or read is None:
            self.stats.ignored[why] += 1
            return []
        if isinstance(read, RouterAdvertisement):
            self.stats.advertisements += 1
            return self._advertisement(source, read, now_s)
        for own in self._own:
            own.detection.receive(source, read)
        return self._settled(now_s)

    def _advertisement(self, source: IPv6Address, message: RouterAdvertisement, now_s: float) -> list[SlaacOutput]:
        self._advertised.take(source, message, now_s)
        if self._advertised.routers:
            self._solicit_due_s = math.inf  # RFC 7559 section 2.1: until one is there
        out: list[SlaacOutput] = []
        for prefix in message.prefixes:
            if prefix.autonomous:
                out += self._prefix(prefix, now_s)
        return out + self._settled(now_s)

    def _prefix(self, prefix: AdvertisedPrefix, now_s: float) -> list[SlaacOutput]:
        """RFC 4862 section 5.5.3."""
        network = prefix.network
        usable = not (network.is_link_local or network.is_multicast or network.network_address.is_unspecified)
        if not usable or network.prefixlen != 64:
            self.stats.ignored["prefix"] += 1
            return []
        if prefix.preferred_s > prefix.valid_s:
            self.stats.ignored["lifetimes"] += 1
            return []
        valid_s, preferred_s = _seconds(prefix.valid_s), _seconds(prefix.preferred_s)
        found = next((own for own in self._own if own.prefix == network), None)
        if found is not None:
            left_s = found.valid_until_s - now_s
            if valid_s > TWO_HOURS_S or valid_s > left_s:
                found.valid_until_s = now_s + valid_s
            elif left_s > TWO_HOURS_S:
                found.valid_until_s = now_s + TWO_HOURS_S
            found.preferred_until_s = min(now_s + preferred_s, found.valid_until_s)
            return []
        if prefix.valid_s == 0:
            return []
        if len(self._own) >= ADDRESSES_MAX:
            self.stats.ignored["full"] += 1
            return []
        own = _Own(network, now_s + preferred_s, now_s + valid_s, self._detection(network, 0))
        self._own.append(own)
        own.detection.start(now_s, delay=True)
        return [_join(own)]

    # Time ---------------------------------------------------------------------------------------------------

    @property
    def due_s(self) -> float:
        """When :meth:`tick` has something to do."""
        due_s = min(self._advertised.due_s, self._solicit_due_s)
        for own in self._own:
            due_s = min(due_s, own.detection.due_s, own.retry_s, own.valid_until_s)
            if any(each.interface.ip == own.detection.address and each.preferred for each in self._given):
                due_s = min(due_s, own.preferred_until_s)
        return due_s

    @property
    def _given(self) -> tuple[OwnAddress, ...]:
        return self.configuration.addresses

    def tick(self, now_s: float) -> list[SlaacOutput]:
        """Time passed."""
        out: list[SlaacOutput] = []
        had_router = bool(self._advertised.routers)
        self._advertised.expire(now_s)
        if self._running and had_router and not self._advertised.routers:
            self._solicit_due_s, self._solicit_wait_s = now_s, 0.0
        for own in [own for own in self._own if own.valid_until_s <= now_s]:
            self._own.remove(own)
            out.append(_leave(own))
        for own in self._own:
            if own.retry_s <= now_s:
                own.retry_s = math.inf
                own.detection.start(now_s, delay=False)
                out.append(_join(own))
            out += own.detection.tick(now_s)
        out += self._settled(now_s)
        return out

    def _solicit(self, now_s: float) -> list[SlaacOutput]:
        """RFC 7559 section 2: intervals grow by a factor of two, with a tenth more or less."""
        if now_s < self._solicit_due_s:
            return []
        if self.link_local is None:
            self._solicit_due_s = math.inf  # until there is one
            return []
        jitter = self._random.uniform(0.9, 1.1)
        self._solicit_wait_s = min(2 * self._solicit_wait_s or SOLICIT_S, SOLICIT_MAX_S)
        self._solicit_due_s = now_s + self._solicit_wait_s * jitter
        self.stats.solicitations += 1
        body = solicit_router(self.mac)
        message = icmp6(self.link_local, ALL_ROUTERS6, ICMP6_ROUTER_SOLICITATION, 0, body)
        return [SendPacket(ipv6(self.link_local, ALL_ROUTERS6, PROTOCOL_ICMP6, message, 255))]

    # What came of it ----------------------------------------------------------------------------------------

    def _settled(self, now_s: float) -> list[SlaacOutput]:
        """Act on finished detections, ask for routers, and tell if the configuration is another now."""
        out: list[SlaacOutput] = []
        had = any(each.interface.network == LINK_LOCAL for each in self._given)
        for own in list(self._own):
            if own.detection.state is DadState.DUPLICATE and not own.given_up:
                out += self._duplicate(own, now_s)
        if self._running and not had and self.link_local is not None and not self._advertised.routers:
            # Detection was delayed at random already: no second delay (RFC 4861 section 6.3.7).
            self._solicit_due_s, self._solicit_wait_s = now_s, 0.0
        out += self._solicit(now_s)
        configuration = self._configuration(now_s)
        if configuration != self.configuration:
            out.append(Ipv6Changed(configuration))
        self.configuration = configuration
        return out

    def _duplicate(self, own: _Own, now_s: float) -> list[SlaacOutput]:
        """RFC 7217 section 6: another opaque address; else none in this prefix (RFC 4862 section 5.4.5)."""
        self.stats.duplicates += 1
        out: list[SlaacOutput] = [AddressDuplicate(own.detection.address), _leave(own)]
        if self._ids.opaque and own.collisions < RETRIES:
            own.collisions += 1
            own.detection = self._detection(own.prefix, own.collisions)
            own.retry_s = now_s + RETRY_S
        else:
            own.given_up = True
        return out

    def _detection(self, prefix: IPv6Network, collisions: int) -> DuplicateDetection:
        address = self._ids.address(prefix, collisions)
        return DuplicateDetection(address, self._random, self._transmits, self._advertised.retransmit_s)

    def _configuration(self, now_s: float) -> Ipv6Configuration:
        known = self._advertised
        addresses = tuple(
            OwnAddress(
                IPv6Interface((own.detection.address, 64)), now_s < own.preferred_until_s, own.preferred_until_s,
                own.valid_until_s,
            )
            for own in self._own
            if own.detection.state is DadState.ASSIGNED
        )  # fmt: skip
        return Ipv6Configuration(
            addresses, known.on_link, known.routers, known.routes, known.dns, known.search, known.mtu, known.hop_limit,
            known.reachable_s, known.retransmit_s, known.managed, known.other,
        )  # fmt: skip


def _seconds(lifetime: int) -> float:
    return math.inf if lifetime == ND_INFINITE else lifetime


def _join(own: _Own) -> JoinGroup:
    return JoinGroup(solicited_node(own.detection.address), own.detection.address)


def _leave(own: _Own) -> LeaveGroup:
    return LeaveGroup(solicited_node(own.detection.address), own.detection.address)


__all__ = [
    "AddressDuplicate", "Ipv6Changed", "JoinGroup", "LeaveGroup", "Slaac", "SlaacOutput", "SlaacStats",
]  # fmt: skip

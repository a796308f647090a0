"""What routers advertise of a link, each with its lifetime: routers, prefixes, routes, DNS (RFC 4861 section 6.3.4).

Anybody on the link can advertise. Each list has a limit; what is there stays until its time is over, and a newcomer
to a full list is refused and counted, so that a flood of advertisements changes nothing that is in use.
"""

import math
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network
from random import Random
from typing import Any, Generic, TypeVar

from wirespeed.stack.ipv6_configuration import DefaultRouter, RouterRoute
from wirespeed.wire.nd import ND_INFINITE, AdvertisedRoute, RouterAdvertisement

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

ROUTERS_MAX: int = 8
MTU_MIN: int = 1280
"""RFC 8200 section 5: no link has less."""
HOP_LIMIT_MIN: int = 32
"""A smaller hop limit is not taken: an advertisement of 1 would cut the host off from all but its link."""
REACHABLE_MAX_S: float = 3600.0
"""RFC 4861 section 6.2.1."""
RETRANSMIT_MIN_S: float = 0.1
RETRANSMIT_MAX_S: float = 60.0


@dataclass(slots=True)
class _Entry(Generic[Value]):
    value: Value
    until_s: float


class Lifetimes(Generic[Key, Value]):
    """Values that end.

    Args:
        limit: how many at once.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._entries: dict[Key, _Entry[Value]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: Key) -> bool:
        return key in self._entries

    def put(self, key: Key, value: Value, seconds: int, now_s: float) -> bool:
        """Keep it for so long; 0 takes it away. False: no room."""
        if seconds == 0:
            self._entries.pop(key, None)
            return True
        if key not in self._entries and len(self._entries) >= self.limit:
            return False
        self._entries[key] = _Entry(value, now_s + (math.inf if seconds == ND_INFINITE else seconds))
        return True

    def expire(self, now_s: float) -> None:
        """Forget what is over."""
        for key in [key for key, entry in self._entries.items() if entry.until_s <= now_s]:
            del self._entries[key]

    def clear(self) -> None:
        """Forget all."""
        self._entries.clear()

    @property
    def due_s(self) -> float:
        """When the next one is over."""
        return min((entry.until_s for entry in self._entries.values()), default=math.inf)

    def keys(self) -> tuple[Key, ...]:
        """In the order in which they came."""
        return tuple(self._entries)

    def values(self) -> tuple[Value, ...]:
        """In the order in which they came."""
        return tuple(entry.value for entry in self._entries.values())


class Advertised:
    """What is known of one link.

    Args:
        random: for the reachable time (RFC 4861 section 6.3.2).
        link_mtu: bytes; a router may say less.
    """

    def __init__(self, random: Random, link_mtu: int) -> None:
        self.link_mtu = link_mtu
        self.refused: Counter[str] = Counter()
        """What did not fit, by kind."""
        self._random = random
        self._routers: Lifetimes[IPv6Address, DefaultRouter] = Lifetimes(ROUTERS_MAX)
        self._prefixes: Lifetimes[IPv6Network, None] = Lifetimes(16)
        self._routes: Lifetimes[tuple[IPv6Network, IPv6Address], RouterRoute] = Lifetimes(32)
        self._dns: Lifetimes[IPv6Address, None] = Lifetimes(8)
        self._search: Lifetimes[str, None] = Lifetimes(8)
        self.forget()

    def forget(self) -> None:
        """The link may be another now."""
        for each in self._all():
            each.clear()
        self.mtu, self.hop_limit, self.retransmit_s = self.link_mtu, 64, 1.0
        self._base_reachable_s, self.reachable_s = 30.0, 30.0
        self.managed = self.other = False

    def _all(self) -> tuple[Lifetimes[Any, Any], ...]:
        return self._routers, self._prefixes, self._routes, self._dns, self._search

    @property
    def due_s(self) -> float:
        """When something is over."""
        return min(each.due_s for each in self._all())

    def expire(self, now_s: float) -> None:
        """Forget what is over."""
        for each in self._all():
            each.expire(now_s)

    @property
    def routers(self) -> tuple[DefaultRouter, ...]:
        """Best first; equals in the order in which they came, so that the choice does not jump."""
        return tuple(sorted(self._routers.values(), key=lambda router: -router.preference))

    @property
    def on_link(self) -> tuple[IPv6Network, ...]:
        """Prefixes whose addresses are neighbours."""
        return self._prefixes.keys()

    @property
    def routes(self) -> tuple[RouterRoute, ...]:
        """More specific routes."""
        return self._routes.values()

    @property
    def dns(self) -> tuple[IPv6Address, ...]:
        """DNS servers."""
        return self._dns.keys()

    @property
    def search(self) -> tuple[str, ...]:
        """Domains in which short names are looked for."""
        return self._search.keys()

    def take(self, source: IPv6Address, message: RouterAdvertisement, now_s: float) -> None:
        """A sound advertisement came from ``source``."""
        self._take_router(source, message, now_s)
        self._take_numbers(message)
        for prefix in message.prefixes:
            if prefix.on_link and not prefix.network.is_link_local and prefix.preferred_s <= prefix.valid_s:
                self._keep("prefixes", self._prefixes.put(prefix.network, None, prefix.valid_s, now_s))
        for route in message.routes:
            self._take_route(source, route, now_s)
        for server, seconds in message.dns:
            self._keep("dns", self._dns.put(server, None, seconds, now_s))
        for domain, seconds in message.search:
            self._keep("search", self._search.put(domain, None, seconds, now_s))

    def _take_router(self, source: IPv6Address, message: RouterAdvertisement, now_s: float) -> None:
        default = next((route for route in message.routes if route.network.prefixlen == 0), None)
        # RFC 4191 section 3.1: a route to all says it better than the header does.
        preference = default.preference if default else message.preference
        seconds = default.lifetime_s if default else message.lifetime_s
        router = DefaultRouter(source, message.mac, preference)
        self._keep("routers", self._routers.put(source, router, seconds, now_s))

    def _take_route(self, source: IPv6Address, route: AdvertisedRoute, now_s: float) -> None:
        if route.network.prefixlen:
            learned = RouterRoute(route.network, source, route.preference)
            self._keep("routes", self._routes.put((route.network, source), learned, route.lifetime_s, now_s))

    def _take_numbers(self, message: RouterAdvertisement) -> None:
        self.managed, self.other = message.managed, message.other
        if message.hop_limit >= HOP_LIMIT_MIN:
            self.hop_limit = message.hop_limit
        if MTU_MIN <= message.mtu <= self.link_mtu:
            self.mtu = message.mtu
        if RETRANSMIT_MIN_S <= message.retransmit_s <= RETRANSMIT_MAX_S:
            self.retransmit_s = message.retransmit_s
        if 0 < message.reachable_s <= REACHABLE_MAX_S and message.reachable_s != self._base_reachable_s:
            self._base_reachable_s = message.reachable_s
            self.reachable_s = message.reachable_s * self._random.uniform(0.5, 1.5)

    def _keep(self, kind: str, kept: bool) -> None:
        if not kept:
            self.refused[kind] += 1


__all__ = ["HOP_LIMIT_MIN", "MTU_MIN", "ROUTERS_MAX", "Advertised", "Lifetimes"]

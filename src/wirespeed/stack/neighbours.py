"""The neighbour table: which Ethernet address an IPv4 neighbour has, or is being asked for (RFC 826, RFC 1122 2.3.2).

::

    resolve() --> INCOMPLETE --answer--> REACHABLE --30 s--> STALE --answer--> REACHABLE
                      |                                        |
                      +--- three requests, no answer ----------+--> gone

A stale neighbour's address is still used while it is asked again, so that traffic never waits for a neighbour that
is there. Pure logic: time is an argument, and what is to be done comes back by :class:`Effects`.

Strangers can fill this table (design, section 10): a scan of a network makes an entry of each address in it. So it
has a limit. The oldest that never answered gives way, then the oldest stale one; entries that answered within the
last half minute and those that were configured are never evicted for a stranger, who is refused instead. All of it
is counted. Packets that wait are bounded for each neighbour; the oldest gives way (RFC 1122 section 2.3.2.2: the
latest should be saved).
"""

from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

REACHABLE_S: float = 30.0
"""How long an answer is good."""
RETRY_S: float = 1.0
"""Between requests. RFC 1122 section 2.3.2.1: at most one a second for each address."""
TRIES: int = 3
"""Requests before a neighbour is given up."""


class State(Enum):
    """What is known of a neighbour."""

    IDLE = "idle"
    """Configured as a next hop, but not asked for at present."""
    INCOMPLETE = "incomplete"
    REACHABLE = "reachable"
    STALE = "stale"
    STATIC = "static"


@dataclass(slots=True, eq=False)
class Neighbour:
    """One neighbour.

    Attributes:
        address: its IPv4 address, as an integer.
        port: index of the port it is behind.
        mac: its Ethernet address; 0 until it is known.
        pinned: configured (a route leads to it): it is never evicted or forgotten.
        held: packets that wait for its address.
        due_s: when something must be done about it.
    """

    address: int
    port: int
    pinned: bool = False
    mac: int = 0
    state: State = State.IDLE
    tries: int = 0
    since_s: float = 0.0
    due_s: float = float("inf")
    held: deque[bytes] = field(default_factory=deque)


@dataclass(slots=True)
class NeighbourStats:
    """What happened since the start."""

    resolved: int = 0
    unreachable: int = 0
    evicted: int = 0
    refused: int = 0
    held_dropped: int = 0
    moved: int = 0


class Effects(Protocol):
    """What the table asks its owner to do."""

    def solicit(self, neighbour: Neighbour) -> None:
        """Send an ARP request; to its last address if ``mac`` is known, else to all."""

    def reachable(self, neighbour: Neighbour, held: list[bytes]) -> bool:
        """Its address is known, or another now: install it and send what was held. False: no room for it."""

    def gone(self, neighbour: Neighbour, held: list[bytes]) -> None:
        """It is not there: take its address back, tell who sent ``held``."""


class Neighbours:
    """The table.

    Args:
        effects: who acts on it.
        limit: neighbours at once.
        held: packets that wait for one neighbour.
    """

    def __init__(self, effects: Effects, limit: int = 1024, held: int = 16) -> None:
        self.effects = effects
        self.limit = limit
        self.held = held
        self.stats = NeighbourStats()
        self._table: dict[int, Neighbour] = {}

    def __len__(self) -> int:
        return len(self._table)

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(list(self._table.values()))

    def get(self, address: int) -> Neighbour | None:
        """The neighbour of that address, if there is an entry."""
        return self._table.get(address)

    # Configured ones ---------------------------------------------------------------------------------------

    def pin(self, address: int, port: int, mac: int = 0) -> Neighbour:
        """Keep an entry for good: a next hop, or with ``mac`` a neighbour that is never asked."""
        neighbour = self._table.setdefault(address, Neighbour(address, port))
        neighbour.pinned = True
        if mac:
            neighbour.mac, neighbour.state = mac, State.STATIC
            self.effects.reachable(neighbour, [])
        return neighbour

    # Packets and answers -----------------------------------------------------------------------------------

    def resolve(self, address: int, port: int, packet: bytes, now_s: float) -> Neighbour | None:
        """Hold ``packet`` until ``address`` is known, and ask for it; sent at once if it is.

        Returns:
            The entry; None if the table is full (the packet is lost, and counted).
        """
        neighbour = self._table.get(address) or self._insert(address, port, now_s)
        if neighbour is None:
            self.stats.held_dropped += 1
            return None
        if neighbour.mac:
            self.effects.reachable(neighbour, [packet])
            return neighbour
        neighbour.held.append(packet)
        if len(neighbour.held) > self.held:
            neighbour.held.popleft()
            self.stats.held_dropped += 1
        if neighbour.state is State.IDLE:
            neighbour.state, neighbour.since_s, neighbour.tries = State.INCOMPLETE, now_s, 0
            self._ask(neighbour, now_s)
        return neighbour

    def heard(self, address: int, port: int, mac: int, now_s: float, create: bool) -> None:
        """An ARP packet said that ``address`` is at ``mac``.

        Args:
            create: whether to note a neighbour that nobody asked for: it asked for us (RFC 826).
        """
        neighbour = self._table.get(address)
        if neighbour is None and create:
            neighbour = self._insert(address, port, now_s)
        if neighbour is None or neighbour.port != port or neighbour.state is State.STATIC:
            return
        known = neighbour.mac
        neighbour.mac, neighbour.tries = mac, 0
        neighbour.state, neighbour.since_s, neighbour.due_s = State.REACHABLE, now_s, now_s + REACHABLE_S
        if known == mac:
            return
        if known:
            self.stats.moved += 1
        else:
            self.stats.resolved += 1
        held, neighbour.held = list(neighbour.held), deque()
        if not self.effects.reachable(neighbour, held):
            self._remove(neighbour)

    # Time ---------------------------------------------------------------------------------------------------

    def tick(self, now_s: float) -> None:
        """Ask again, ask stale ones, give up; call it several times a second."""
        for neighbour in [each for each in self._table.values() if each.due_s <= now_s]:
            if neighbour.state is State.REACHABLE:
                neighbour.state, neighbour.tries = State.STALE, 0
            if neighbour.tries < TRIES:
                self._ask(neighbour, now_s)
            else:
                self._give_up(neighbour)

    def _ask(self, neighbour: Neighbour, now_s: float) -> None:
        neighbour.tries += 1
        neighbour.due_s = now_s + RETRY_S
        self.effects.solicit(neighbour)

    def _give_up(self, neighbour: Neighbour) -> None:
        self.stats.unreachable += 1
        held = list(neighbour.held)
        self._remove(neighbour)
        self.effects.gone(neighbour, held)

    def _remove(self, neighbour: Neighbour) -> None:
        neighbour.held.clear()
        neighbour.mac, neighbour.tries, neighbour.due_s = 0, 0, float("inf")
        neighbour.state = State.IDLE
        if not neighbour.pinned:
            del self._table[neighbour.address]

    # Room ---------------------------------------------------------------------------------------------------

    def _insert(self, address: int, port: int, now_s: float) -> Neighbour | None:
        if len(self._table) >= self.limit and not self._evict():
            self.stats.refused += 1
            return None
        neighbour = Neighbour(address, port, since_s=now_s)
        self._table[address] = neighbour
        return neighbour

    def _evict(self) -> bool:
        """Make room: the oldest that never answered, else the oldest stale one."""
        for state in (State.INCOMPLETE, State.STALE):
            found = [each for each in self._table.values() if each.state is state and not each.pinned]
            if found:
                victim = min(found, key=lambda each: each.since_s)
                self.stats.evicted += 1
                self.stats.held_dropped += len(victim.held)
                self._remove(victim)
                self.effects.gone(victim, [])
                return True
        return False


__all__ = ["REACHABLE_S", "RETRY_S", "TRIES", "Effects", "Neighbour", "NeighbourStats", "Neighbours", "State"]

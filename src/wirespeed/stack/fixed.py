"""Addresses that were configured: whether they may be used, and their defence (RFC 5227, RFC 4862).

Unless they are to be looked for first, they are used at once: a server that was restarted answers again without six
seconds of silence. They are announced and watched all the same. A conflict found before an address is used keeps it
from use until the other host is gone; one found later is answered (RFC 5227 section 2.4 (c): a host that must keep
its address defends it, every ten seconds at most) and logged.
"""

import math
from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from random import Random

from wirespeed.stack.acd import AcdState, AcdTimes, AddressConflict, SendArp
from wirespeed.stack.dad import DadState, DuplicateDetection
from wirespeed.stack.packets import SendPacket
from wirespeed.wire.nd import NeighbourAdvertisement, NeighbourSolicitation

RETRY_S: float = 30.0
"""After a conflict, until the address is looked for again."""


class Fixed4:
    """One IPv4 address.

    Args:
        own: with its prefix.
        mac: of the interface.
        random: jitter.
        times: of conflict detection.
        check: look for the address before it is used.
    """

    def __init__(self, own: IPv4Interface, mac: int, random: Random, times: AcdTimes, check: bool) -> None:
        self.own = own
        self.conflicts = 0
        self._mac, self._random = mac, random
        self._times = times if check else replace(times, probes=0)
        self._detection = self._new(self._times)
        self._retry_s, self._defended_s = math.inf, -math.inf

    @property
    def usable(self) -> bool:
        """Whether packets may be sent from it."""
        return self._detection.usable

    @property
    def due_s(self) -> float:
        """When :meth:`tick` has something to do."""
        return min(self._retry_s, self._detection.due_s)

    def start(self, now_s: float) -> list[SendArp]:
        """The link is up."""
        self._retry_s = math.inf
        self._detection = self._new(self._times)
        return self._detection.start(now_s)

    def tick(self, now_s: float) -> list[SendArp]:
        """Time passed."""
        if now_s >= self._retry_s:
            return self.start(now_s)
        return self._detection.tick(now_s)

    def arp(self, sender_mac: int, sender: IPv4Address, target: IPv4Address, now_s: float) -> list[SendArp]:
        """Any ARP packet came in."""
        if self.usable:
            return self._defended(sender_mac, sender, now_s)
        before = self._detection.conflicts
        sent = self._detection.arp(sender_mac, sender, target, now_s)
        self.conflicts += self._detection.conflicts - before
        if self._detection.state is AcdState.CONFLICT and self._retry_s == math.inf:
            self._retry_s = now_s + RETRY_S
        return sent

    def _defended(self, sender_mac: int, sender: IPv4Address, now_s: float) -> list[SendArp]:
        if sender != self.own.ip or sender_mac == self._mac:
            return []
        self.conflicts += 1
        if now_s - self._defended_s < self._times.defend_interval_s:
            return []
        self._defended_s = now_s
        return [SendArp(self.own.ip, self.own.ip)]

    def _new(self, times: AcdTimes) -> AddressConflict:
        return AddressConflict(self.own.ip, self._mac, self._random, times)


class Fixed6:
    """One IPv6 address; as :class:`Fixed4`, but nobody defends one: who looks for it is told (RFC 4861)."""

    def __init__(self, own: IPv6Interface, random: Random, check: bool) -> None:
        self.own = own
        self.conflicts = 0
        self._random, self._transmits = random, int(check)
        self._detection = self._new()
        self._retry_s = math.inf

    @property
    def usable(self) -> bool:
        """Whether packets may be sent from it."""
        return self._detection.state is DadState.ASSIGNED

    @property
    def due_s(self) -> float:
        """When :meth:`tick` has something to do."""
        return min(self._retry_s, self._detection.due_s)

    def start(self, now_s: float) -> None:
        """The link is up."""
        self._retry_s = math.inf
        self._detection = self._new()
        self._detection.start(now_s, delay=True)

    def tick(self, now_s: float) -> list[SendPacket]:
        """Time passed."""
        if now_s >= self._retry_s:
            self.start(now_s)
        return self._detection.tick(now_s)

    def receive(
        self, source: IPv6Address, message: NeighbourSolicitation | NeighbourAdvertisement, now_s: float
    ) -> None:
        """Somebody said something of an address."""
        if self.usable:
            self.conflicts += isinstance(message, NeighbourAdvertisement) and message.target == self.own.ip
            return
        self._detection.receive(source, message)
        if self._detection.state is DadState.DUPLICATE and self._retry_s == math.inf:
            self.conflicts += 1
            self._retry_s = now_s + RETRY_S

    def _new(self) -> DuplicateDetection:
        return DuplicateDetection(self.own.ip, self._random, self._transmits)


def fixed(
    addresses: Iterable[IPv4Interface | IPv6Interface], mac: int, random: Random, times: AcdTimes, check: bool
) -> tuple[list[Fixed4], list[Fixed6]]:
    """One of these for each address, in the order given."""
    four, six = list[Fixed4](), list[Fixed6]()
    for own in addresses:
        if isinstance(own, IPv4Interface):
            four.append(Fixed4(own, mac, random, times, check))
        else:
            six.append(Fixed6(own, random, check))
    return four, six


__all__ = ["RETRY_S", "Fixed4", "Fixed6", "fixed"]

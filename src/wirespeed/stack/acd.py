"""Whether somebody else has our IPv4 address: conflict detection, RFC 5227.

::

    start --> PROBING --3 probes, silence--> ANNOUNCING --2 announcements--> OWNED
                 |                               |                             |
                 +------ somebody has it --------+-- twice within 10 s --------+--> CONFLICT

Two hosts with one address make both unreachable in turns, so an address is asked for before it is used. Once it is
ours, a first conflict is answered by an announcement (section 2.4 (b)); a second one within ten seconds gives the
address up, for two hosts that defend without end fill the link.

State machine: time is an argument, ARP packets come in as their three words, and a list of outputs comes back.
"""

import math
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address
from random import Random


@dataclass(frozen=True, slots=True)
class AcdTimes:
    """RFC 5227 section 1.1; in seconds. ``probes=0`` uses an address without asking."""

    probes: int = 3
    probe_wait_s: float = 1.0
    probe_min_s: float = 1.0
    probe_max_s: float = 2.0
    announce_wait_s: float = 2.0
    announcements: int = 2
    announce_interval_s: float = 2.0
    defend_interval_s: float = 10.0


@dataclass(frozen=True, slots=True)
class SendArp:
    """An ARP request for the wire, to all. A probe has the sender 0.0.0.0, an announcement our own address."""

    sender: IPv4Address
    target: IPv4Address


class AcdState(Enum):
    """See the module."""

    PROBING = "probing"
    ANNOUNCING = "announcing"
    OWNED = "owned"
    CONFLICT = "conflict"


class AddressConflict:
    """One address of one interface.

    Args:
        address: ours, perhaps.
        mac: of the interface.
        random: jitter.
        times: the intervals.
    """

    def __init__(self, address: IPv4Address, mac: int, random: Random, times: AcdTimes | None = None) -> None:
        self.address = address
        self.mac = mac
        self.times = times or AcdTimes()
        self.state = AcdState.PROBING
        self.due_s = math.inf
        """When :meth:`tick` has something to do."""
        self.conflicts = 0
        self._random = random
        self._sent = 0
        self._defended_s = -math.inf

    @property
    def usable(self) -> bool:
        """Whether packets may be sent from it (section 2.3: from the first announcement on)."""
        return self.state in (AcdState.ANNOUNCING, AcdState.OWNED)

    def start(self, now_s: float) -> list[SendArp]:
        """Begin; without probes the address is ours at once."""
        self._sent = 0
        self.state = AcdState.PROBING
        if self.times.probes == 0:
            return self._announce(now_s)
        self.due_s = now_s + self._random.uniform(0, self.times.probe_wait_s)
        return []

    def tick(self, now_s: float) -> list[SendArp]:
        """Time passed."""
        if now_s < self.due_s:
            return []
        if self.state is AcdState.PROBING and self._sent < self.times.probes:
            self._sent += 1
            last = self._sent == self.times.probes
            wait = self.times.announce_wait_s
            if not last:
                wait = self._random.uniform(self.times.probe_min_s, self.times.probe_max_s)
            self.due_s = now_s + wait
            return [SendArp(IPv4Address(0), self.address)]
        if self.state is AcdState.PROBING:
            self._sent = 0
        return self._announce(now_s)

    def _announce(self, now_s: float) -> list[SendArp]:
        self._sent += 1
        more = self._sent < self.times.announcements
        self.state = AcdState.ANNOUNCING if more else AcdState.OWNED
        self.due_s = now_s + self.times.announce_interval_s if more else math.inf
        return [SendArp(self.address, self.address)] if self.times.announcements else []

    def arp(self, sender_mac: int, sender: IPv4Address, target: IPv4Address, now_s: float) -> list[SendArp]:
        """An ARP packet (request or answer) came in; see :attr:`state` afterwards."""
        if sender_mac == self.mac or self.state is AcdState.CONFLICT:
            return []
        claimed = sender == self.address
        # Section 2.1.1: another one's probe for it is a conflict only while we probe ourselves.
        probed = self.state is AcdState.PROBING and not int(sender) and target == self.address
        if not claimed and not probed:
            return []
        self.conflicts += 1
        if self.state is AcdState.PROBING or now_s - self._defended_s < self.times.defend_interval_s:
            self.state, self.due_s = AcdState.CONFLICT, math.inf
            return []
        self._defended_s = now_s
        return [SendArp(self.address, self.address)]


__all__ = ["AcdState", "AcdTimes", "AddressConflict", "SendArp"]

"""Duplicate address detection: whether somebody has our IPv6 address already (RFC 4862 section 5.4, RFC 7527).

::

    start --> TENTATIVE --solicitations, then silence for a second--> ASSIGNED
                  |
                  +-- somebody advertises it, or solicits it from :: --> DUPLICATE

Each solicitation has a nonce (RFC 7527), so that one which a switch sends back is not taken for another host.
"""

import math
from enum import Enum
from ipaddress import IPv6Address
from random import Random

from wirespeed.stack.packets import ANY6, SendPacket, icmp6, ipv6, solicited_node
from wirespeed.wire.icmp import ICMP6_NEIGHBOUR_SOLICITATION
from wirespeed.wire.ipv4 import PROTOCOL_ICMP6
from wirespeed.wire.nd import NeighbourAdvertisement, NeighbourSolicitation, solicit_neighbour

RETRANSMIT_S: float = 1.0
"""Between solicitations, until a router says otherwise (RFC 4861 section 10)."""
DELAY_S: float = 1.0
"""At most, before the first one of an interface that just came up (RFC 4862 section 5.4.2)."""


class DadState(Enum):
    """See the module."""

    TENTATIVE = "tentative"
    ASSIGNED = "assigned"
    DUPLICATE = "duplicate"


class DuplicateDetection:
    """One address.

    Args:
        address: ours, perhaps.
        random: jitter and nonces.
        transmits: solicitations; 0 uses the address without asking.
        retransmit_s: seconds after each.
    """

    def __init__(
        self, address: IPv6Address, random: Random, transmits: int = 1, retransmit_s: float = RETRANSMIT_S
    ) -> None:
        self.address = address
        self.state = DadState.TENTATIVE
        self.due_s = math.inf
        """When :meth:`tick` has something to do."""
        self._random = random
        self._left = transmits
        self._retransmit_s = retransmit_s
        self._nonces: list[bytes] = []

    def start(self, now_s: float, delay: bool) -> None:
        """Begin; ``delay`` when many hosts begin at once: the link came up, or a router told all of a prefix."""
        if self._left == 0:
            self.state = DadState.ASSIGNED
            return
        self.due_s = now_s + (self._random.uniform(0, DELAY_S) if delay else 0.0)

    def tick(self, now_s: float) -> list[SendPacket]:
        """Time passed."""
        if now_s < self.due_s:
            return []
        if self._left == 0:
            self.state, self.due_s = DadState.ASSIGNED, math.inf
            return []
        self._left -= 1
        self.due_s = now_s + self._retransmit_s
        nonce = self._random.randbytes(6)
        self._nonces.append(nonce)
        to = solicited_node(self.address)
        body = solicit_neighbour(self.address, nonce=nonce)
        return [SendPacket(ipv6(ANY6, to, PROTOCOL_ICMP6, icmp6(ANY6, to, ICMP6_NEIGHBOUR_SOLICITATION, 0, body), 255))]

    def receive(self, source: IPv6Address, message: NeighbourSolicitation | NeighbourAdvertisement) -> None:
        """Somebody said something of this address."""
        if self.state is not DadState.TENTATIVE or message.target != self.address:
            return
        if isinstance(message, NeighbourSolicitation):
            # Section 5.4.3: from an address, it is only looked up; from none, it is being claimed.
            if not source.is_unspecified or message.nonce in self._nonces:
                return
        self.state, self.due_s = DadState.DUPLICATE, math.inf


__all__ = ["DELAY_S", "RETRANSMIT_S", "DadState", "DuplicateDetection"]

"""The DHCPv4 client: an address for one interface, and its renewal for as long as it is wanted (RFC 2131).

::

    start -> SELECTING --offer--> REQUESTING --ack--> CHECKING --nobody has it--> BOUND --T1--> RENEWING --T2-->
                 ^                    |  nak, 4 x silence  | somebody has it        ^   ack         |  ack
                 +--------------------+-- 10 s, decline ---+                        +---------------+- REBINDING
                 ^                                                                                     |
                 +-------------------------- nak, lease at its end ------------------------------------+
    start with a remembered address -> REBOOTING --ack--> CHECKING, --nak, silence--> SELECTING

(Section 4.4, figure 5; CHECKING is where section 3.1 step 5 has the address looked for by ARP.) It takes UDP
payloads and ARP packets in and gives out a list: :class:`SendPacket`, :class:`SendArp`, :class:`LeaseTaken`,
:class:`LeaseKept`, :class:`LeaseLost`. Time is an argument, and so is chance.

Anybody on the link can answer. What counts is an answer to our question (xid, 32 random bits), to our Ethernet
address, of the kind this state waits for, from the server asked, whose values :func:`read_lease` finds sound. All
else is counted in :class:`Dhcp4Stats` and changes nothing. No server makes us a flood: silence is met with the
intervals of section 4.1, a refusal or a conflict with ten seconds of waiting.
"""

import math
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Address
from random import Random

from wirespeed.stack.acd import AcdState, AcdTimes, AddressConflict, SendArp
from wirespeed.stack.dhcp4_messages import Dhcp4Asker
from wirespeed.stack.lease import Lease, LeaseKept, LeaseLost, LeaseTaken, read_lease
from wirespeed.stack.packets import ANY4, BROADCAST4, SendPacket, udp4
from wirespeed.wire.dhcp4 import (
    DHCP_CLIENT_PORT,
    DHCP_SERVER_PORT,
    DhcpMessage,
    DhcpOption,
    DhcpType,
    read_dhcp4,
)

FIRST_WAIT_S: float = 4.0
LONGEST_WAIT_S: float = 64.0
"""Section 4.1: 4 seconds, then twice as long up to 64, each with a second more or less."""
REQUESTS: int = 4
"""Requests before another server is looked for (section 3.1 step 5)."""
RENEW_WAIT_S: float = 60.0
"""Section 4.4.5: half of the time that is left, not less than this."""
DECLINE_WAIT_S: float = 10.0
"""Before another try after an address that somebody has (section 3.1 step 5); after a second refusal within that time
as well, so that a server that offers what it then refuses is not asked without end."""


class Dhcp4State(Enum):
    """See the module."""

    STOPPED = "stopped"
    WAITING = "waiting"
    SELECTING = "selecting"
    REQUESTING = "requesting"
    REBOOTING = "rebooting"
    CHECKING = "checking"
    BOUND = "bound"
    RENEWING = "renewing"
    REBINDING = "rebinding"


Dhcp4Output = SendPacket | SendArp | LeaseTaken | LeaseKept | LeaseLost


@dataclass(slots=True)
class Dhcp4Stats:
    """What happened since the start; ``ignored`` by reason."""

    sent: int = 0
    taken: int = 0
    renewed: int = 0
    refused: int = 0
    declined: int = 0
    expired: int = 0
    ignored: Counter[str] = field(default_factory=Counter)


class Dhcp4Client:
    """The client of one interface.

    Args:
        mac: Ethernet address of the interface.
        random: transaction numbers and jitter.
        name: the host's name, told to the server.
        remembered: an address had before: asked for again first (section 3.2, INIT-REBOOT).
        times: of conflict detection.
        broadcast: ask for answers to all. A host whose address is not configured yet mostly takes no packet to it.
    """

    def __init__(
        self,
        mac: int,
        random: Random,
        name: str = "",
        remembered: IPv4Address | None = None,
        times: AcdTimes | None = None,
        broadcast: bool = True,
    ) -> None:
        self.mac = mac
        self.asker = Dhcp4Asker(mac, name)
        self.broadcast = broadcast
        self.remembered = remembered
        self.times = times
        self.state = Dhcp4State.STOPPED
        self.lease: Lease | None = None
        """What is configured; None while there is nothing."""
        self.stats = Dhcp4Stats()
        self._random = random
        self._wait_due_s = math.inf
        self._conflict: AddressConflict | None = None
        self._offer: Lease | None = None
        self._xid = 0
        self._tries = 0
        self._began_s = self._asked_s = 0.0
        self._refused_s = -math.inf

    @property
    def due_s(self) -> float:
        """When :meth:`tick` has something to do."""
        return min(self._wait_due_s, self._conflict.due_s if self._conflict else math.inf)

    # What the owner asks ------------------------------------------------------------------------------------

    def start(self, now_s: float) -> list[Dhcp4Output]:
        """The link is up: get an address, the one had before if there was one.

        A lease that still runs stays configured meanwhile (RFC 2131 section 3.2: it is verified, not dropped).
        """
        self._conflict = self._offer = None
        known = self.lease.address.ip if self.lease else self.remembered
        if known is None:
            return self._discover(now_s)
        self.remembered = known
        self._begin(Dhcp4State.REBOOTING, now_s)
        return self._ask(now_s)

    def release(self, now_s: float) -> list[Dhcp4Output]:
        """Give the address back and stop (section 4.4.6); the server may never hear it, and it does not matter."""
        lease, out = self.lease, list[Dhcp4Output]()
        if lease is not None:
            message = self.asker.release(self._random.getrandbits(32), lease)
            out.append(self._send(message, lease.address.ip, lease.server))
            out += self._lose("released")
        self.remembered = None
        self.stop()
        return out

    def stop(self) -> None:
        """Stop without a word: the link is gone. The lease is kept, for :meth:`start` to ask for it again."""
        self.state, self._wait_due_s = Dhcp4State.STOPPED, math.inf
        self._conflict = self._offer = None

    # Packets ------------------------------------------------------------------------------------------------

    def receive(self, payload: bytes, now_s: float) -> list[Dhcp4Output]:
        """A UDP datagram came to port 68."""
        why, message = self._check(payload)
        if message is None:
            self.stats.ignored[why] += 1
            return []
        kind = message.type()
        if kind == DhcpType.OFFER:
            return self._offered(message, now_s)
        if kind == DhcpType.NAK:
            return self._refused(now_s)
        return self._acknowledged(message, now_s)

    def _check(self, payload: bytes) -> tuple[str, DhcpMessage | None]:
        """Whether it answers what was asked: (why not, the message)."""
        message = read_dhcp4(payload)
        if message is None:
            return "malformed", None
        if message.op != 2 or message.mac != self.mac or self.state in _DEAF:
            return "not-for-us", None
        if message.xid != self._xid:
            return "xid", None
        told = message.options.get(DhcpOption.CLIENT)
        if told is not None and told != self.asker.client_id:  # RFC 6842 section 3
            return "client-id", None
        kind = message.type()
        wanted = (DhcpType.OFFER,) if self.state is Dhcp4State.SELECTING else (DhcpType.ACK, DhcpType.NAK)
        if kind not in wanted:
            return "unexpected", None
        asked = self._server()
        if asked is not None and message.address(DhcpOption.SERVER) != asked:
            return "server", None
        if kind == DhcpType.NAK and message.address(DhcpOption.SERVER) is None:
            return "server", None  # section 4.3.1, table 3: it must say who refuses
        return "", message

    def _server(self) -> IPv4Address | None:
        """Who must answer; None: whoever knows."""
        if self.state is Dhcp4State.REQUESTING and self._offer:
            return self._offer.server
        return self.lease.server if self.state is Dhcp4State.RENEWING and self.lease else None

    def _offered(self, message: DhcpMessage, now_s: float) -> list[Dhcp4Output]:
        """The first sound offer is taken (section 4.4.1 leaves the choice to us)."""
        offer = read_lease(message, now_s)
        if isinstance(offer, str):
            self.stats.ignored[offer] += 1
            return []
        self._offer = offer
        self.state, self._tries = Dhcp4State.REQUESTING, 0
        return self._ask(now_s)

    def _acknowledged(self, message: DhcpMessage, now_s: float) -> list[Dhcp4Output]:
        lease = read_lease(message, self._asked_s)
        if not isinstance(lease, str) and lease.address.ip != self._wanted():
            lease = "address"  # nobody may move us to another address without our asking
        if isinstance(lease, str):
            self.stats.ignored[lease] += 1
            return []
        if self._conflict is not None and self.lease is not None:
            return self._bind(lease)  # renewed: it is ours, and watched
        self._offer = lease
        self.state, self._wait_due_s = Dhcp4State.CHECKING, math.inf
        self._conflict = AddressConflict(lease.address.ip, self.mac, self._random, self.times)
        return self._checked(self._conflict.start(now_s), now_s)

    def _wanted(self) -> IPv4Address | None:
        """The address that was asked for."""
        if self.state is Dhcp4State.REQUESTING:
            return self._offer.address.ip if self._offer else None
        if self.state is Dhcp4State.REBOOTING:
            return self.remembered
        return self.lease.address.ip if self.lease else None

    def _refused(self, now_s: float) -> list[Dhcp4Output]:
        """Section 3.1 step 4, 3.2 step 4: from the beginning; the second time not at once."""
        self.stats.refused += 1
        out = self._lose("refused")
        self.remembered = None
        before_s, self._refused_s = self._refused_s, now_s
        if now_s - before_s >= DECLINE_WAIT_S:
            return out + self._discover(now_s)
        self._wait(now_s)
        return out

    # Conflicts ----------------------------------------------------------------------------------------------

    def arp(self, sender_mac: int, sender: IPv4Address, target: IPv4Address, now_s: float) -> list[Dhcp4Output]:
        """Any ARP packet came in: perhaps somebody has our address (RFC 5227)."""
        if self._conflict is None:
            return []
        return self._checked(self._conflict.arp(sender_mac, sender, target, now_s), now_s)

    def _checked(self, sent: list[SendArp], now_s: float) -> list[Dhcp4Output]:
        """What the conflict detection came to."""
        found, out = self._conflict, list[Dhcp4Output](sent)
        if found is None:
            return out
        if found.state is AcdState.CONFLICT:
            return out + self._decline(now_s)
        if found.usable and self.state is Dhcp4State.CHECKING and self._offer:
            out += self._bind(self._offer)
        return out

    def _decline(self, now_s: float) -> list[Dhcp4Output]:
        """Section 3.1 step 5: tell the server that the address is somebody else's, and start again later."""
        taken = self._offer if self.state is Dhcp4State.CHECKING else self.lease
        out = self._lose("conflict")
        if taken is not None:
            self.stats.declined += 1
            out.append(self._send(self.asker.decline(self._random.getrandbits(32), taken), ANY4, BROADCAST4))
        self.remembered = None
        self._wait(now_s)
        return out

    # Time ---------------------------------------------------------------------------------------------------

    def tick(self, now_s: float) -> list[Dhcp4Output]:
        """Time passed; call it at :attr:`due_s` or later."""
        out: list[Dhcp4Output] = []
        if self._conflict is not None:
            out += self._checked(self._conflict.tick(now_s), now_s)
        lease = self.lease
        if lease is not None and self.state is not Dhcp4State.STOPPED and now_s >= lease.end_s:
            self.stats.expired += 1
            return out + self._lose("expired") + self._discover(now_s)
        if now_s < self._wait_due_s:
            return out
        if self.state is Dhcp4State.WAITING:
            return out + self._discover(now_s)
        if self.state is Dhcp4State.BOUND and lease is not None:
            self._begin(Dhcp4State.RENEWING, now_s)
        if self.state is Dhcp4State.RENEWING and lease is not None and now_s >= lease.rebind_s:
            self._begin(Dhcp4State.REBINDING, now_s)
        if self.state in (Dhcp4State.REQUESTING, Dhcp4State.REBOOTING) and self._tries >= REQUESTS:
            return out + self._unanswered(now_s)
        return out + self._ask(now_s)

    def _unanswered(self, now_s: float) -> list[Dhcp4Output]:
        """Section 3.2 step 4: a lease that was only being verified is used on while it runs."""
        if self.state is Dhcp4State.REBOOTING and self.lease is not None:
            if now_s < self.lease.renew_s:
                self._rest(self.lease)
                return []
            self._begin(Dhcp4State.RENEWING, now_s)
            return self._ask(now_s)
        return self._discover(now_s)

    # Questions ----------------------------------------------------------------------------------------------

    def _discover(self, now_s: float) -> list[Dhcp4Output]:
        self._conflict = self._offer = None
        self._begin(Dhcp4State.SELECTING, now_s)
        return self._ask(now_s)

    def _begin(self, state: Dhcp4State, now_s: float) -> None:
        """A new exchange: a new xid, and ``secs`` from here (section 4.4.1)."""
        self.state, self._tries, self._began_s = state, 0, now_s
        self._xid = self._random.getrandbits(32)

    def _ask(self, now_s: float) -> list[Dhcp4Output]:
        """Send this state's question, and note when it is to be sent again."""
        self._tries += 1
        self._asked_s = now_s
        self._wait_due_s = now_s + self._patience(now_s)
        kind, more = DhcpType.REQUEST, dict[int, bytes]()
        own = ANY4
        if self.state is Dhcp4State.SELECTING:
            kind = DhcpType.DISCOVER
        elif self.state is Dhcp4State.REQUESTING and self._offer:
            more = {
                DhcpOption.REQUESTED: self._offer.address.ip.packed,
                DhcpOption.SERVER: self._offer.server.packed,
            }
        elif self.state is Dhcp4State.REBOOTING and self.remembered:
            more = {DhcpOption.REQUESTED: self.remembered.packed}
        elif self.lease is not None:
            own = self.lease.address.ip
        message = self.asker.question(
            kind, self._xid, min(0xFFFF, int(now_s - self._began_s)), self.broadcast and own == ANY4, own, more
        )
        to = self.lease.server if self.state is Dhcp4State.RENEWING and self.lease else BROADCAST4
        return [self._send(message, own, to)]

    def _patience(self, now_s: float) -> float:
        """How long an answer is waited for (sections 4.1 and 4.4.5)."""
        if self.lease is not None and self.state in (Dhcp4State.RENEWING, Dhcp4State.REBINDING):
            lease = self.lease
            end_s = lease.rebind_s if self.state is Dhcp4State.RENEWING else lease.end_s
            return min(max((end_s - now_s) / 2, RENEW_WAIT_S), end_s - now_s)
        wait = min(FIRST_WAIT_S * 2 ** min(self._tries - 1, 8), LONGEST_WAIT_S)
        return wait + self._random.uniform(-1, 1)

    def _send(self, message: DhcpMessage, source: IPv4Address, to: IPv4Address) -> SendPacket:
        self.stats.sent += 1
        return SendPacket(udp4((source, DHCP_CLIENT_PORT), (to, DHCP_SERVER_PORT), message.encode()))

    # The lease ----------------------------------------------------------------------------------------------

    def _bind(self, lease: Lease) -> list[Dhcp4Output]:
        """Use it: a new lease, or the one that there was, extended."""
        before, self._offer = self.lease, None
        self.lease, self.remembered = lease, lease.address.ip
        self._rest(lease)
        if before is not None and before == lease:
            self.stats.renewed += 1
            return [LeaseKept(lease)]
        self.stats.taken += before is None
        self.stats.renewed += before is not None
        return [LeaseTaken(lease)]

    def _rest(self, lease: Lease) -> None:
        """BOUND: nothing until T1, with jitter so that a site does not renew at once (section 4.4.5: "fuzz")."""
        self.state = Dhcp4State.BOUND
        fuzz = (lease.renew_s - lease.start_s) * self._random.uniform(0, 0.02) if lease.renew_s < math.inf else 0.0
        self._wait_due_s = lease.renew_s - fuzz

    def _lose(self, why: str) -> list[Dhcp4Output]:
        lease, self.lease = self.lease, None
        self._conflict = None
        return [] if lease is None else [LeaseLost(lease, why)]

    def _wait(self, now_s: float) -> None:
        self.state, self._offer, self._conflict = Dhcp4State.WAITING, None, None
        self._wait_due_s = now_s + DECLINE_WAIT_S


_DEAF = (Dhcp4State.STOPPED, Dhcp4State.WAITING, Dhcp4State.CHECKING, Dhcp4State.BOUND)
"""States in which nothing was asked."""

__all__ = [
    "Dhcp4Client", "Dhcp4Output", "Dhcp4State", "Dhcp4Stats",
]  # fmt: skip

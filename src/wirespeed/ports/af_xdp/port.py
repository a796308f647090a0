"""af_xdp: an interface of the kernel, around the kernel. ``af_xdp:eth0,match=udp/53``.

Frames are received into the pool's own cells and sent out of them (:mod:`wirespeed.ports.af_xdp.rings`). An XDP program
decides for each frame, before the kernel has made a packet of it, whether it is ours; what ``match`` does not take goes
the kernel's way, so that ssh on the same interface lives on. Without ``match`` everything is ours.

The program is attached by a link and the sockets are ours, so nothing stays when the process ends, however it ends.
When the interface disappears and returns, the port opens it anew beside the running graph, and says so in its events.

References: Documentation/networking/af_xdp.rst; Høiland-Jørgensen et al., "The eXpress Data Path" (CoNEXT 2018).
"""

import os
import socket
import struct
from collections.abc import Callable, Iterable

from wirespeed.errors import PortError
from wirespeed.jit.entry import entry
from wirespeed.mem.pool import Pool
from wirespeed.mem.region import Region
from wirespeed.ports.af_xdp.metadata import Wanted
from wirespeed.ports.af_xdp.options import AfXdpOptions, understand
from wirespeed.ports.af_xdp.receive import receive, receive_burst
from wirespeed.ports.af_xdp.rings import BATCH, TX_BYTES, Leg, RxQueue, TxQueue
from wirespeed.ports.af_xdp.rules import MOST, expressible
from wirespeed.ports.af_xdp.session import Records, Session, chosen
from wirespeed.ports.af_xdp.transmit import transmit, transmit_burst
from wirespeed.ports.attendant import Attendant
from wirespeed.ports.links import Links
from wirespeed.ports.netdev import Netdev, facts, hardware, receive_queues, set_mac, set_mtu, within
from wirespeed.ports.offloads import Offload
from wirespeed.ports.port import Port
from wirespeed.ports.rules.rules import KERNEL, TAKE, Action, Rule, RuleCount
from wirespeed.ports.status import Link

_RETRY_S = 1.0
_SOL_PACKET, _ADD_MEMBERSHIP, _PROMISCUOUS = 263, 1, 1
_EMPTY = "rx_fill_ring_empty"


class AfXdp(Port):
    """AF_XDP sockets on queues of one interface.

    Attributes:
        index: the interface's number in its namespace; another one after it has returned.
    """

    Options = AfXdpOptions
    receive = staticmethod(receive)
    transmit = staticmethod(transmit)
    rx_queues = 0
    tx_queues = 0

    def __init__(self, spec: str, options: AfXdpOptions) -> None:
        super().__init__(spec, options)
        self._choice = understand(spec, options)
        self.index = 0
        self._queues: tuple[int, ...] = ()
        self._fds: list[int] = []
        self._quiet = -1
        self._memory: Region | None = None
        self._links: Links | None = None
        self._attendant: Attendant | None = None
        self._session: Session | None = None
        self._before: dict[int, dict[str, int]] = {}  # what the kernel counted for sessions that are over
        self._rules: tuple[tuple[Rule, ...], Action] | None = None  # that the program carries out
        self._slots: dict[int, int] = {}
        self._started = False
        self._listener: socket.socket | None = None

    # Opening and closing -----------------------------------------------------------------------------------

    def open(self, pool: Pool, rx_queues: int, tx_queues: int) -> None:
        """See :meth:`Port.open`; the interface must be up. The kernel gets its packets until :meth:`begin`."""
        try:
            within(self.options.netns, lambda: self._open_first(pool, rx_queues, tx_queues))
            self._attendant = Attendant(f"af_xdp-{self.options.interface}", self.events)
            self._links = Links(self._attendant, self.events, self.options.interface, self.options.netns, self._changed)
        except BaseException:
            self.close()
            raise

    def _open_first(self, pool: Pool, rx_queues: int, tx_queues: int) -> None:
        """In the interface's namespace: a socket stays in the one it was made in."""
        device = facts(self.spec, self.options.interface)
        _check(self.spec, device, self.options.netns)
        self._queues = chosen(self.spec, device, self._choice)
        self._pool, self._receives, self._sends = pool, rx_queues > 0, tx_queues > 0
        self._quiet = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._fds = [os.dup(self._quiet) for _ in self._queues]
        self._lay_out(min(rx_queues, len(self._queues)), min(tx_queues, len(self._queues)))
        self._open_session(device)
        for address in self.rx:
            RxQueue(address).burst = entry(receive_burst, 4)
        for address in self.tx:
            TxQueue(address).burst = entry(transmit_burst, 4)

    def _lay_out(self, rx: int, tx: int) -> None:
        """Queue records, legs and ledgers; a receive queue takes the legs of several sockets if they are more."""
        legs = len(self._queues)
        sizes = [8 * BATCH, rx * RxQueue.SIZE, legs * Leg.SIZE, tx * TX_BYTES, (1 + tx) * self._pool.size]
        self._memory = Region(sum(sizes), "wirespeed-af_xdp", huge=False)
        starts = [self._memory.address + sum(sizes[:i]) for i in range(len(sizes))]
        self.rx = [starts[1] + i * RxQueue.SIZE for i in range(rx)]
        self.tx = [starts[3] + i * TX_BYTES for i in range(tx)]
        addresses = [starts[2] + i * Leg.SIZE for i in range(legs)]
        for number, address in enumerate(self.rx):
            own = addresses[number::rx]
            RxQueue(address).leg, RxQueue(address).legs = own[0], len(own)
            for leg, following in zip(own, [*own[1:], own[0]], strict=True):
                Leg(leg).next = following
        self._records = Records(tuple(addresses), tuple(self.tx), starts[4], starts[0], tuple(self._fds))

    def _open_session(self, device: Netdev) -> None:
        session = Session(
            self.spec, self._pool, self.options, self._choice, self._queues, device, self._receives, self._sends,
            self.wishes.rss_hash,
        )  # fmt: skip
        try:
            session.lay_out(self._records)
            if self.options.promiscuous:
                self._listener = _promiscuous(device.index)
        except BaseException:
            session.close()
            raise
        self._session = session
        if self._rules:
            try:
                self._carry_out(*self._rules, self._slots, self._slots.values())
            except BaseException:
                self._end_session()  # it is opened again, with its rules, or not at all
                raise
        self.mac, self.mtu, self.index = device.mac, device.mtu, device.index
        self.offloads = (
            Offload.INTERRUPT
            | (Offload.FILTER if self._receives else Offload.NONE)
            | (Offload.MULTI_BUFFER if session.segments else Offload.NONE)
            | (Offload.ZERO_COPY if session.zero_copy else Offload.NONE)
            | (Offload.RSS if len(self._queues) > 1 else Offload.NONE)
            | (Offload.RX_TIMESTAMP if session.metadata and session.metadata.time else Offload.NONE)
            | (Offload.RX_HASH if session.metadata and session.metadata.hashed else Offload.NONE)
        )

    def begin(self) -> None:
        """Packets come to us from now on."""
        self._started = True
        if self._session:
            self._session.start()

    def descriptors(self, queue: int) -> list[int]:
        """The sockets that receive queue ``queue`` takes from; the same numbers for good."""
        return self._fds[queue :: len(self.rx)]

    def close(self) -> None:
        """Take the program off, close the sockets, give their cells back."""
        if self._attendant:
            self._attendant.close()
        self._end_session()
        if self._links:
            self._links.close()
        for fd in [*self._fds, self._quiet]:
            if fd >= 0:
                os.close(fd)
        if self._memory:
            self._memory.close()
        self._attendant = self._links = self._memory = None
        self._fds, self._quiet, self.rx, self.tx = [], -1, [], []

    def _end_session(self) -> None:
        session, self._session = self._session, None
        if self._listener:
            self._listener.close()
            self._listener = None
        if session is None:
            return
        session.silence()
        self.quiesce()
        for queue, counted in session.statistics().items():
            known = self._before.setdefault(queue, dict.fromkeys(counted, 0))
            for name, value in counted.items():
                known[name] += value
        for fd in self._fds:
            os.dup2(self._quiet, fd, inheritable=False)
        session.close()

    # The interface comes and goes: the attendant's thread ----------------------------------------------------

    def _changed(self, before: Netdev | None, now: Netdev | None) -> None:
        if now is None:
            self._end_session()
        elif self._session is None:
            self._return()
        elif before is not None and before.mtu != now.mtu:
            self._session.resize(now.mtu)
            self.mtu = now.mtu
        if now is not None:
            self.mac = now.mac

    def _return(self) -> None:
        """The interface is there again."""
        if self._session is None:
            try:
                within(self.options.netns, self._reopen)
            except (PortError, OSError) as error:
                self.events.say("error", str(error))
                if self._attendant and self._links and self._links.now:
                    self._attendant.after(_RETRY_S, self._return)

    def _reopen(self) -> None:
        self._open_session(facts(self.spec, self.options.interface))
        if self._started and self._session:
            self._session.start()

    # What users ask and tell ---------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Add what the kernel dropped."""
        counted = self._counted()
        for number, address in enumerate(self.rx):
            record = RxQueue(address)
            each = [counted[queue] for queue in self._queues[number :: len(self.rx)] if queue in counted]
            # Copy mode counts a packet without a cell in both.
            record.no_buffer = sum(min(c["rx_dropped"], c[_EMPTY]) for c in each)
            record.dropped = sum(c["rx_ring_full"] + max(c["rx_dropped"] - c[_EMPTY], 0) for c in each)

    def _counted(self) -> dict[int, dict[str, int]]:
        """What the kernel counted for our sockets, by queue, from the beginning."""
        total = {queue: dict(counted) for queue, counted in self._before.items()}
        session = self._session
        for queue, counted in (session.statistics() if session else {}).items():
            known = total.setdefault(queue, dict.fromkeys(counted, 0))
            for name, value in counted.items():
                known[name] += value
        return total

    def extended(self) -> dict[str, int]:
        """The kernel's counters of our sockets, by queue, and packets that were left to it."""
        counted = self._counted()
        found = {f"queue{queue}_{name}": value for queue in counted for name, value in counted[queue].items()}
        session = self._session
        if session and session.attachment:
            found["passed_to_kernel"] = session.attachment.passed
        return found

    def install(self, rules: tuple[Rule, ...], otherwise: Action) -> bool:
        """See :meth:`Port.install`: the XDP program takes, drops, counts, and leaves packets to the kernel."""
        nothing = not rules and otherwise == TAKE
        if not self._receives or self._choice.matches or not expressible(rules, otherwise):
            if KERNEL in [otherwise, *(rule.action for rule in rules)]:
                raise PortError(
                    f"port {self.spec!r}: packets can be left to the kernel by rules of take, drop, count and kernel, "
                    f"{MOST} at the most, without match=: leave mark and queue out"
                )
            return False
        slots = {rule.number: self._slots[rule.number] for rule in rules if rule.number in self._slots}
        free = iter(set(range(MOST)) - set(self._slots.values()) or set(range(MOST)) - set(slots.values()))
        fresh = {rule.number: next(free) for rule in rules if rule.number not in slots}
        self._carry_out(rules, otherwise, slots | fresh, fresh.values())
        self._rules, self._slots = None if nothing else (rules, otherwise), slots | fresh
        return True

    def _carry_out(
        self, rules: tuple[Rule, ...], otherwise: Action, slots: dict[int, int], fresh: Iterable[int]
    ) -> None:
        session = self._session
        if session is not None and session.attachment is not None:
            try:
                attachment = session.attachment
                within(self.options.netns, lambda: attachment.carry_out(rules, otherwise, slots, fresh))
            except OSError as error:
                raise PortError(f"port {self.spec!r}: the kernel refuses the rules: {error.strerror}") from None

    def rule_counts(self) -> dict[int, RuleCount]:
        """What the program's rules have met; anew after the interface was gone."""
        session = self._session
        if session is None or session.attachment is None or self._rules is None:
            return {}
        return {number: RuleCount(*session.attachment.counted(slot)) for number, slot in self._slots.items()}

    def link(self) -> Link:
        """Of the interface; down while it is not there."""
        now = self._links.now if self._links else None
        if now is None or self._session is None:
            return Link(False, 0, f"{self.options.interface} is not there")
        return Link(now.running, within(self.options.netns, lambda: hardware(now.name)[1]))

    def facts(self) -> dict[str, str]:
        """What it found and chose."""
        session = self._session
        if session is None:
            return {}
        name = session.device.name
        driver, available = within(self.options.netns, lambda: (hardware(name)[0], receive_queues(name)))
        found = {
            "driver": driver or "unknown",
            "copies": "none (zero-copy)" if session.zero_copy else "one (copy mode)",
            "queues": f"{', '.join(map(str, self._queues))} of {available}",
            "rings": f"receive {self.options.rx_ring}, transmit {self.options.tx_ring}",
            "packets larger than a cell": "yes" if session.segments else "no",
            "busy polling": f"{self.options.busy_poll} us" if self.options.busy_poll else "no",
        }
        if session.attachment:
            attached = session.attachment
            why = f" ({attached.why_generic})" if attached.why_generic else ""
            found |= {
                "mode": attached.mode + why,
                "program": f"number {attached.number}, {attached.instructions} instructions",
                "metadata": _metadata(attached.metadata),
                "match": " | ".join(map(str, self._choice.matches)) or "everything",
            }
        return found

    def set_mac(self, mac: int) -> None:
        """See :meth:`Port.set_mac`."""
        self._set(lambda: set_mac(self.options.interface, mac), f"the Ethernet address {mac:012x}")
        self.mac = mac

    def set_mtu(self, mtu: int) -> None:
        """See :meth:`Port.set_mtu`."""
        self._set(lambda: set_mtu(self.options.interface, mtu), f"an MTU of {mtu}")
        self.mtu = mtu
        if self._session:
            self._session.resize(mtu)

    def set_promiscuous(self, on: bool) -> None:
        """See :meth:`Port.set_promiscuous`."""
        if self._listener:
            self._listener.close()
            self._listener = None
        if on:
            self._listener = within(self.options.netns, lambda: _promiscuous(self.index))

    def _set(self, change: Callable[[], None], what: str) -> None:
        try:
            within(self.options.netns, change)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", "") or str(error)
            raise PortError(f"port {self.spec!r}: {self.options.interface} does not take {what}: {why}") from None


def _metadata(written: Wanted | None) -> str:
    if written is None:
        return "none"
    device = "the driver's, or else the clock's" if written.bound else "the clock's"
    return " and ".join([f"time ({device})"] * written.time + ["RSS hash"] * written.hashed) or "none"


def _promiscuous(index: int) -> socket.socket:
    """A socket that keeps an interface promiscuous while it is open, and receives nothing itself."""
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    made.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, struct.pack("=iHH8x", index, _PROMISCUOUS, 0))
    return made


def _check(spec: str, device: Netdev, netns: str) -> None:
    if not device.ethernet:
        raise PortError(f"port {spec!r}: {device.name} is not an Ethernet interface")
    if not device.up:
        inside = f"ip netns exec {netns} " if netns else ""
        command = f"sudo {inside}ip link set {device.name} up"
        raise PortError(f"port {spec!r}: {device.name} is down; bring it up: {command}")


__all__ = ["AfXdp", "AfXdpOptions"]

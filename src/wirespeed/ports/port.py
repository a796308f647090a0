"""Ports: where packets come in and go out.

A driver is a subclass of :class:`Port`: declared options, a ``receive`` and a ``transmit`` function that the
workers' loop calls, and control code that opens, counts and closes. ``ws.port("kind:...")`` makes one; nothing
is opened before a graph starts, so that a graph can be built, drawn and checked anywhere.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar

from wirespeed.errors import PortError
from wirespeed.mem.pool import Pool
from wirespeed.ports import common
from wirespeed.ports.offloads import Offload
from wirespeed.ports.options import nearest, parse_options
from wirespeed.ports.queue import Queue
from wirespeed.ports.rss import Rss
from wirespeed.ports.rules.rules import Action, Rule, RuleCount, Rules
from wirespeed.ports.software.software import Software
from wirespeed.ports.status import Events, Link
from wirespeed.ports.wiring import Joinable
from wirespeed.sync.rcu import Grace

KINDS: dict[str, str] = {
    "af_packet": "wirespeed.ports.af_packet.port:AfPacket",
    "af_xdp": "wirespeed.ports.af_xdp.port:AfXdp",
    "generator": "wirespeed.ports.generator.port:Generator",
    "host": "wirespeed.ports.host.port:Host",
    "loop": "wirespeed.ports.loop:Loop",
    "memif": "wirespeed.ports.memif.port:Memif",
    "meter": "wirespeed.ports.meter.port:MeterPort",
    "null": "wirespeed.ports.null:Null",
    "pcap": "wirespeed.ports.pcap.port:Pcap",
    "ring": "wirespeed.ports.ring:RingPort",
    "sink": "wirespeed.ports.null:Sink",
    "tap": "wirespeed.ports.tap.port:Tap",
    "tun": "wirespeed.ports.tap.port:Tun",
    "vhost_user": "wirespeed.ports.vhost.port:VhostUser",
    "virtio_user": "wirespeed.ports.virtio.port:VirtioUser",
}
"""Every kind of port and the class that drives it."""


_QUIESCE_S = 5.0


@dataclass(frozen=True)
class PortStats:
    """A port's counters: packets and bytes that passed; dropped: no room; errors: for what they are; no buffer: no cell
    was free to receive into."""

    rx_packets: int = 0
    rx_bytes: int = 0
    rx_dropped: int = 0
    rx_errors: int = 0
    rx_no_buffer: int = 0
    tx_packets: int = 0
    tx_bytes: int = 0
    tx_dropped: int = 0
    tx_errors: int = 0


class Port(Joinable):
    """One port of a graph.

    Attributes:
        spec: the text it was made from; also how reports call it.
        receive, transmit: the driver's functions for the packet path (see :mod:`wirespeed.ports.queue`);
            None where the driver has no such direction. :meth:`open` may choose between several.
        arm: the driver's function that asks for a wake-up, where it must be asked for; see there.
        flush: the driver's function that sends what waits for its time, where something does; see there.
        mac: its Ethernet address, as an integer; 0 if it has none, or is not open.
        mtu: the largest IP packet in bytes; 0 if that has no bound, or it is not open.
        offloads: what it does by itself, as opened.
        events: what happened to it.
        rules: what becomes of which received packets (:mod:`wirespeed.ports.rules.rules`).
        wishes: what else was asked for in its text that every port has (:mod:`wirespeed.ports.common`).
        software: what workers do for it while it is open, since its device does not.
        grace: grace periods of the workers that use it now; None while none does.
        beside_kernel: the kernel's own stack sees every packet too: leaving one to it means not to receive it.
        passive: it does not keep a graph running: when all other inputs are over, the graph ends.
        seldom: it has something now and then only, and what it has may wait for eight turns of a busy worker.
        stays: what a worker received here it deals with itself: flows are not spread.
        rx_queues, tx_queues: how many queues :meth:`open` can make; 0 means one for every worker. A port with
            fewer queues than workers is polled by some of them, which spread the packets in software.
    """

    Options: ClassVar[type[Any]]
    receive: Callable[..., Any] | None = None
    transmit: Callable[..., Any] | None = None
    arm: Callable[..., Any] | None = None
    flush: Callable[..., Any] | None = None
    offloads: Offload = Offload.NONE
    passive: bool = False
    seldom: bool = False
    stays: bool = False
    beside_kernel: bool = False
    rx_queues: int = 1
    tx_queues: int = 1
    software: Software | None = None

    def __init__(self, spec: str, options: Any) -> None:
        self.spec = spec
        self.options = options
        self.name = spec
        self.mac = 0
        self.mtu = 0
        self.events = Events(spec)
        self.rules = Rules(self)
        self._rss: Rss | None = None
        self.wishes = common.Wishes()
        self.grace: Grace | None = None
        self.rx: list[int] = []
        self.tx: list[int] = []

    @property
    def kind(self) -> str:
        """What it is, without its options: the driver's name, behind those of its wrappers."""
        return self.spec.partition(":")[0]

    # Control code calls these, in this order -----------------------------------------------------------

    def open(self, pool: Pool, rx_queues: int, tx_queues: int) -> None:
        """Open the device and lay out queue records: their addresses go to ``self.rx`` and ``self.tx``.

        Args:
            pool: where received packets come from.
            rx_queues, tx_queues: how many are wanted; 0 when the graph does not use that direction.

        Raises:
            PortError: it cannot be opened; the message says why and what to do.
        """
        raise PortError(f"port {self.spec!r} cannot be opened")

    def begin(self) -> None:
        """Every port is open and the loop is compiled: do now what must not happen in vain, such as emptying a file.

        Raises:
            PortError: it cannot be done; nothing has moved.
        """

    def descriptors(self, queue: int) -> list[int]:
        """File descriptors that become readable when receive queue ``queue`` has something.

        They are asked for once, before the start: give one of your own (an epoll descriptor) where the real ones come
        and go. Empty when polling is the only way to know: the worker then never sleeps long.
        """
        return []

    def refresh(self) -> None:
        """Bring counters that the device keeps (kernel drops) up to date. Called by control code now and then."""

    def fault(self) -> str:
        """What went wrong with the input after all packets before it were delivered; empty if nothing."""
        return ""

    def close(self) -> None:
        """Finish files, close descriptors, free memory. Called once, after the workers stopped."""

    @property
    def rss(self) -> Rss | None:
        """How its queues share the flows; None: as it comes, or by all fields where workers spread them.

        It may be set while the port is open: key, fields and table.

        Raises:
            PortError: a queue that is not there. Nothing has changed.
        """
        return self._rss

    @rss.setter
    def rss(self, rss: Rss | None) -> None:
        if self.software is not None:
            self.software.respread(rss)
        self._rss = rss

    # What users ask and tell an open port ----------------------------------------------------------------

    def link(self) -> Link:
        """Whether packets can pass now."""
        return Link()

    def facts(self) -> dict[str, str]:
        """What it found and chose when it was opened: the mode, the device's driver, the sizes of rings."""
        return {}

    def extended(self) -> dict[str, int]:
        """The driver's and the device's own counters, by name."""
        return {}

    def set_mac(self, mac: int) -> None:
        """Change its Ethernet address.

        Raises:
            PortError: it cannot be changed.
        """
        raise PortError(f"the Ethernet address of port {self.spec!r} cannot be changed")

    def set_mtu(self, mtu: int) -> None:
        """Change its MTU, in bytes.

        Raises:
            PortError: it cannot be changed, or not to that.
        """
        raise PortError(f"the MTU of port {self.spec!r} cannot be changed")

    def set_promiscuous(self, on: bool) -> None:
        """Receive what is for other stations, too.

        Raises:
            PortError: it cannot be chosen.
        """
        raise PortError(f"port {self.spec!r} cannot choose whose packets it receives")

    def install(self, rules: tuple[Rule, ...], otherwise: Action) -> bool:
        """Let the device carry out these rules, all of them, in the place of those before; a driver may override it.

        Returns:
            False if the device cannot: the workers will, as far as they can. Nothing is installed then.

        Raises:
            PortError: a rule that neither can carry out, though another would do.
        """
        return False

    def rule_counts(self) -> dict[int, RuleCount]:
        """What the device's rules have met, by the number of the rule."""
        return {}

    def configure_rss(self, rss: Rss) -> bool:
        """Let the device spread flows over its queues so, now; False if it cannot, and the workers will.

        Asked when the port is open, and again when the configuration changes.
        """
        return False

    def stats(self) -> PortStats:
        """Counters now, all queues together."""
        return _stats([Queue(address) for address in self.rx], [Queue(address) for address in self.tx])

    def queue_stats(self) -> list[PortStats]:
        """Counters now of each queue; the first is receive queue 0 and transmit queue 0, and so on."""
        most = max(len(self.rx), len(self.tx))
        slices = [slice(number, number + 1) for number in range(most)]
        return [_stats([Queue(a) for a in self.rx[each]], [Queue(a) for a in self.tx[each]]) for each in slices]

    @property
    def asks(self) -> Offload:
        """What packets received from it may ask of the port that sends them on; known once it is open."""
        found = Offload.NONE
        if Offload.RX_CHECKSUM in self.offloads:
            found |= Offload.TX_CHECKSUM
        if Offload.RX_COALESCING in self.offloads or self.wishes.coalesce:
            found |= Offload.TX_CHECKSUM | Offload.TX_TCP_SEGMENTATION | Offload.TX_UDP_SEGMENTATION
        if Offload.VLAN_STRIP in self.offloads or self.wishes.vlan_strip:
            found |= Offload.VLAN_INSERT
        return found

    # For drivers -----------------------------------------------------------------------------------------

    def quiesce(self) -> None:
        """Return when no worker uses any more what was taken out of the queue records before the call.

        A worker reads a record anew in each turn. So: take the address of a peer's memory out of it, call this, unmap.

        Raises:
            GraceTimeout: a worker is stuck; what was taken out must stay mapped.
        """
        if self.grace is not None:
            self.grace.wait(self.grace.start(), _QUIESCE_S)

    def __repr__(self) -> str:
        return f"<port {self.spec}>"


def _stats(rx: list[Queue], tx: list[Queue]) -> PortStats:
    return PortStats(
        rx_packets=sum(queue.packets for queue in rx),
        rx_bytes=sum(queue.bytes for queue in rx),
        rx_dropped=sum(queue.dropped for queue in rx),
        rx_errors=sum(queue.errors for queue in rx),
        rx_no_buffer=sum(queue.no_buffer for queue in rx),
        tx_packets=sum(queue.packets for queue in tx),
        tx_bytes=sum(queue.bytes for queue in tx),
        tx_dropped=sum(queue.dropped for queue in tx),
        tx_errors=sum(queue.errors for queue in tx),
    )


def port(spec: str) -> Port:
    """The port that ``spec`` describes: ``kind:what,option=value,...``; :mod:`wirespeed.ports.wrap.port` may wrap it.

    Options are those of its driver and those that all ports have (:class:`wirespeed.ports.common.CommonOptions`).

    Raises:
        PortError: no such kind, an unknown option or a bad value.
    """
    if "(" in spec:
        made: Port | None = import_module("wirespeed.ports.wrap.port").wrapped(spec)
        if made is not None:
            return made
    kind, _, rest = spec.partition(":")
    if kind not in KINDS:
        raise PortError(f"no port is called {kind!r} (in {spec!r}); {nearest(kind, list(KINDS))}")
    module, _, name = KINDS[kind].partition(":")
    driver: type[Port] = getattr(import_module(module), name)
    own, shared = common.split(rest, driver.Options)
    made = driver(spec, parse_options(spec, own, driver.Options, common.names(driver.Options)))
    if shared:
        made.wishes = common.parse_common(spec, shared)
        made.rss = made.wishes.rss
        for match, action in made.wishes.rules:
            made.rules.add(match, action)
        made.rules.otherwise = made.wishes.otherwise
    return made

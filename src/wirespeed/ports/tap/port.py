"""tap and tun: an interface of the host whose other end is here. ``tap:ws0,address=10.0.0.1/24``.

The kernel's stack, a container or a virtual machine talks to wirespeed through it. It exists while the port
is open (or for good with ``persist=yes``) and is brought up by it. If somebody removes it meanwhile, it is made again.

A ``tun`` carries IP packets without an Ethernet header. Nodes see one all the same: to the port's own address
(``port.mac``), from a made-up neighbour; what is sent loses its header, and what is not IP (ARP, for instance) is an
error. vhost-net, which would move packets without system calls, is not used.

References: Documentation/networking/tuntap.rst.
"""

import contextlib
import ipaddress
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from wirespeed.errors import PortError
from wirespeed.jit import write_bytes
from wirespeed.mem.pool import Pool
from wirespeed.mem.region import Region
from wirespeed.ports.attendant import Attendant
from wirespeed.ports.links import Links
from wirespeed.ports.netdev import Netdev, facts, parse_mac, set_address, set_mac, set_mtu, set_up, within
from wirespeed.ports.offloads import Offload
from wirespeed.ports.options import option
from wirespeed.ports.port import Port
from wirespeed.ports.queue import Queue
from wirespeed.ports.stable import Stable
from wirespeed.ports.status import Link
from wirespeed.ports.tap import device as tap_device
from wirespeed.ports.tap.queue import QUEUE_BYTES, SCRATCH_BYTES, SLOTS, TapQueue, format_queue, receive, transmit
from wirespeed.ports.uring import Made

_TUN_MAC, _TUN_NEIGHBOUR = 0x0277_7374_756E, 0x0277_7374_756F  # locally administered
_AGAIN_S, _AGAIN_MOST_S = 0.05, 5.0


@dataclass(frozen=True)
class TunOptions:
    """Options of ``tun``."""

    name: str = option(doc="the interface's name, at most 15 letters", positional=True)
    netns: str = option("", "the network namespace to make it in: a name of `ip netns`, or a path")
    queues: int = option(1, "queues: the host spreads flows over them (1 to 64)")
    address: str = option("", "the host's address on it, with its prefix: 10.0.0.1/24 or fd00::1/64")
    mtu: int = option(0, "bytes (68 to 65521); 0: as it is, 1500 for a new one")
    persist: bool = option(False, "leave the interface there when the port closes")
    offloads: bool = option(True, "let the host leave checksums and segmentation to hardware")
    uring: bool = option(True, "one system call for many packets (io_uring), if the kernel has it")


@dataclass(frozen=True)
class TapOptions(TunOptions):
    """Options of ``tap``."""

    mac: str = option("", "the host's Ethernet address; chosen by the kernel if not given")


class Tap(Port):
    """A TAP interface, one descriptor a queue.

    Attributes:
        mac: the host's Ethernet address on it, as an integer; known once open.
        index: its number in its namespace.
    """

    Options: ClassVar[type[TunOptions]] = TapOptions
    receive = staticmethod(receive)
    transmit = staticmethod(transmit)
    tx_queues = 0
    bare = False

    def __init__(self, spec: str, options: TunOptions) -> None:
        super().__init__(spec, options)
        self.rx_queues = options.queues
        self.index = 0
        self._fds: list[int] = []
        self._stable: list[Stable] = []
        self._urings: list[Made] = []
        self._regions: list[Region] = []
        self._attendant: Attendant | None = None
        self._links: Links | None = None
        self._statistics: tap_device.Statistics | None = None
        self._lost = 0  # what the host had dropped at the last look
        if not re.fullmatch(r"[^\s/:]{1,15}", options.name) or options.name in (".", ".."):
            raise PortError(f"port {spec!r}: {options.name!r} is no interface name (1 to 15 letters)")
        if not 1 <= options.queues <= 64:
            raise PortError(f"port {spec!r}: queues={options.queues} must be 1 to 64")
        if options.mtu and not 68 <= options.mtu <= 65521:
            raise PortError(f"port {spec!r}: mtu={options.mtu} must be 68 to 65521 bytes")
        self._wanted_mac = parse_mac(spec, options.mac) if isinstance(options, TapOptions) and options.mac else 0
        try:
            self._wanted_address = ipaddress.ip_interface(options.address) if options.address else None
        except ValueError:
            raise PortError(
                f"port {spec!r}: address={options.address!r} must be one with its prefix, as 10.0.0.1/24"
            ) from None

    def open(self, pool: Pool, rx_queues: int, tx_queues: int) -> None:
        """See :meth:`Port.open`; makes the interface, sets it up and brings it up."""
        options = self.options
        try:
            self._lay_out(rx_queues, tx_queues)
            self._connect()
            self._attendant = Attendant(f"tap-{options.name}", self.events)
            self._links = Links(self._attendant, self.events, options.name, options.netns, self._changed)
            self._statistics = tap_device.Statistics(options.netns)
            self._lost = self._statistics.dropped(options.name)
        except BaseException:
            self.close()
            raise
        self.offloads = Offload.MULTI_BUFFER | Offload.INTERRUPT
        if options.offloads:
            self.offloads |= Offload.RX_CHECKSUM | Offload.TX_CHECKSUM | Offload.RX_COALESCING
            self.offloads |= Offload.TX_TCP_SEGMENTATION | Offload.TX_UDP_SEGMENTATION

    def _lay_out(self, rx_queues: int, tx_queues: int) -> None:
        count = rx_queues + tx_queues
        self._regions.append(Region(max(1, count * QUEUE_BYTES), "wirespeed-tap", huge=False))
        size = max(1, rx_queues * SCRATCH_BYTES)
        self._regions.append(Region(size, "wirespeed-tap-scratch", huge=False, populate=False))
        records, scratch = (region.address for region in self._regions)
        for number in range(count):
            at = records + number * QUEUE_BYTES
            place = scratch + number * SCRATCH_BYTES if number < rx_queues else 0
            uring = format_queue(at, place, self.options.offloads, self.bare)
            if self.bare:
                write_bytes(TapQueue(at).to, _TUN_MAC.to_bytes(6) + _TUN_NEIGHBOUR.to_bytes(6))
            if self.options.uring:
                with contextlib.suppress(OSError):  # none, or not allowed: one call a packet then
                    self._urings.append(Made(SLOTS, uring))
                    TapQueue(at).uring = uring
            (self.rx if number < rx_queues else self.tx).append(at)
        self._stable.extend(Stable() for _ in range(rx_queues))

    # The interface comes and goes ------------------------------------------------------------------------

    def _connect(self) -> None:
        """Make the interface, and show it to the workers."""
        device = within(self.options.netns, self._make)
        self.mac, self.mtu, self.index = _TUN_MAC if self.bare else device.mac, device.mtu, device.index
        for number, stable in enumerate(self._stable):
            stable.lead(self._fds[number % len(self._fds)])
        for addresses in (self.rx, self.tx):
            for number, address in enumerate(addresses):
                TapQueue(address).fd = self._fds[number % len(self._fds)]

    def _make(self) -> Netdev:
        """In the interface's namespace: where it is made is where it is."""
        options = self.options
        try:
            for _ in range(options.queues):
                self._fds.append(
                    tap_device.attach(self.spec, options.name, options.queues, options.offloads, self.bare)
                )
            if options.persist:
                tap_device.persist(self._fds[0])
            if self._wanted_mac:
                set_mac(options.name, self._wanted_mac)
            if options.mtu:
                set_mtu(options.name, options.mtu)
            if self._wanted_address:
                set_address(options.name, self._wanted_address)
            set_up(options.name)
            return facts(self.spec, options.name)
        except OSError as error:
            self._disconnect()
            raise PortError(f"port {self.spec!r}: {options.name} cannot be set up: {error.strerror}") from None
        except BaseException:
            self._disconnect()
            raise

    def _disconnect(self) -> None:
        """Take the descriptors from the workers, then close them."""
        for address in (*self.rx, *self.tx):
            TapQueue(address).fd = -1
        self.quiesce()
        for stable in self._stable:
            stable.rest()
        for fd in self._fds:
            os.close(fd)
        self._fds = []

    def _changed(self, before: Netdev | None, after: Netdev | None) -> None:
        """In the attendant's thread."""
        if after is not None:
            self.mac, self.mtu, self.index = _TUN_MAC if self.bare else after.mac, after.mtu, after.index
        elif self._fds and tap_device.attached(self._fds[0]):
            self.events.say("changed", "it was moved to another namespace; its packets still pass")
        else:
            self._disconnect()
            self._again(_AGAIN_S)

    def _again(self, after_s: float) -> None:
        """Make the interface that somebody removed; if that is refused, later."""
        assert self._attendant is not None

        def connect() -> None:
            if self._fds:
                return
            try:
                self._connect()
            except PortError:
                self._again(min(after_s * 2, _AGAIN_MOST_S))

        self._attendant.after(after_s, connect)

    def close(self) -> None:
        """Close the descriptors; the interface goes with them unless it persists."""
        if self._links:
            self._links.close()
        if self._attendant:
            self._attendant.close()
        if self._statistics:
            self._statistics.close()
        for made in self._urings:
            made.close()
        if self._regions:
            self._disconnect()
        for region in self._regions:
            region.close()
        for stable in self._stable:
            stable.close()
        self._links = self._attendant = self._statistics = None
        self._urings, self._regions, self._stable, self.rx, self.tx = [], [], [], [], []

    # What users ask and tell it --------------------------------------------------------------------------

    def descriptors(self, queue: int) -> list[int]:
        """The queue's descriptor, or what stands for it while there is no interface."""
        return [self._stable[queue].fd]

    def refresh(self) -> None:
        """Add what the host had no room for in the queue to us: its ``txqueuelen``."""
        if self._statistics is None:
            return
        now = self._statistics.dropped(self.options.name)
        if self.rx:
            Queue(self.rx[0]).dropped += max(now - self._lost, 0)
        self._lost = now

    def link(self) -> Link:
        """As the host sees it."""
        now = self._links.now if self._links else None
        if now is None:
            return Link(False, 0, f"no interface is called {self.options.name}")
        return Link(now.running, 0, "" if now.running else "no carrier" if now.up else "set down")

    def extended(self) -> dict[str, int]:
        """What the host had no room for in its queue to us (``txqueuelen``)."""
        self.refresh()
        return {"host-drops": self._lost}

    def facts(self) -> dict[str, str]:
        """How packets come and go."""
        options = self.options
        return {
            "interface": options.name + (f" in {options.netns}" if options.netns else ""),
            "driver": "tun",
            "calls": f"io_uring, {SLOTS} packets a call" if self._urings else "one a packet",
            "header": "virtio-net" if options.offloads else "none",
        }

    def set_mtu(self, mtu: int) -> None:
        """Change the MTU the host sees."""
        self._set("MTU", mtu, lambda: set_mtu(self.options.name, mtu))
        self.mtu = mtu

    def set_mac(self, mac: int) -> None:
        """Change the host's Ethernet address on it."""
        if self.bare:
            super().set_mac(mac)
        self._set("Ethernet address", mac.to_bytes(6).hex(":"), lambda: set_mac(self.options.name, mac))
        self.mac = mac

    def set_promiscuous(self, on: bool) -> None:
        """It receives all that the host sends, whatever is asked for."""

    def set_carrier(self, on: bool) -> None:
        """Let the host see a cable that is plugged in, or out."""
        self._set("carrier", on, lambda: tap_device.set_carrier(self._fds[0], on))

    def _set(self, what: str, value: object, change: Callable[[], object]) -> None:
        if not self._fds:
            raise PortError(f"port {self.spec!r}: there is no interface to set the {what} of")
        try:
            within(self.options.netns, change)
        except OSError as error:
            raise PortError(f"port {self.spec!r}: {what} {value} is refused: {error.strerror}") from None


class Tun(Tap):
    """The same for IP packets, without Ethernet; ``mac`` is the made-up address that received packets are for."""

    Options = TunOptions
    bare = True


__all__ = ["Tap", "TapOptions", "Tun", "TunOptions"]

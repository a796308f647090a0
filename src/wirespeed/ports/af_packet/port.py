"""af_packet: any interface of the kernel, beside the kernel. ``af_packet:eth0``.

Packets are copied, so it is no way to line rate with small frames; but it needs no driver, no queue of its
own and no change to the interface, it works on veth pairs between containers, and large TCP packets pass
whole (:mod:`wirespeed.ports.virtio.net`), which makes it fast where it matters.

The kernel sees every packet too. Give the interface no address, and it answers none of them.

An interface that goes down or is removed costs packets, counted, and nothing else: it is watched
(:mod:`wirespeed.ports.links`), and when one of that name is there again, sockets and rings are made anew.
"""

import contextlib
import socket
from collections.abc import Callable

from wirespeed.errors import PortError
from wirespeed.jit.entry import entry
from wirespeed.mem.pool import Pool
from wirespeed.mem.region import Region
from wirespeed.ports.af_packet.blocks import BLOCK_QUEUE_BYTES, BlockQueue, receive_blocks, receive_blocks_burst
from wirespeed.ports.af_packet.options import (
    AfPacketOptions,
    check,
    check_device,
    frame_size,
    offloads,
    program,
)
from wirespeed.ports.af_packet.queue import RX_BYTES, RxQueue, format_rx, receive, receive_burst
from wirespeed.ports.af_packet.send import TX_BYTES, TxQueue, format_tx, transmit, transmit_calls
from wirespeed.ports.af_packet.slots import transmit_slots
from wirespeed.ports.af_packet.socket import ALL_MULTICAST, PROMISCUOUS, Ring, Shape, Slots, sender
from wirespeed.ports.attendant import Attendant
from wirespeed.ports.links import Links
from wirespeed.ports.netdev import Netdev, facts, hardware, set_mac, set_mtu, within
from wirespeed.ports.port import Port
from wirespeed.ports.stable import Stable
from wirespeed.ports.status import Link

_ETHERNET = 14
_RETRY_S = 1.0


class AfPacket(Port):
    """A packet socket for each queue of one interface.

    Attributes:
        index: its number in its namespace.
    """

    Options = AfPacketOptions
    beside_kernel = True
    receive = staticmethod(receive)
    transmit = staticmethod(transmit)
    tx_queues = 0

    def __init__(self, spec: str, options: AfPacketOptions) -> None:
        super().__init__(spec, options)
        check(spec, options)
        self.rx_queues = options.queues
        self.index = 0
        self._blocks = options.ring == "v3"
        if self._blocks:
            self.receive = receive_blocks  # type: ignore[method-assign]
        self._program = program(spec, options)
        self._promiscuous = options.promiscuous
        self._rings: list[Ring] = []
        self._slots: list[Slots] = []
        self._senders: list[socket.socket] = []
        self._stable: list[Stable] = []
        self._memory: Region | None = None
        self._attendant: Attendant | None = None
        self._links: Links | None = None
        self._before = [0, 0, 0]  # what rings that are closed had counted

    def open(self, pool: Pool, rx_queues: int, tx_queues: int) -> None:
        """See :meth:`Port.open`; the interface must be up."""
        options = self.options
        try:
            device = within(options.netns, lambda: facts(self.spec, options.interface))
            check_device(self.spec, device, options.netns)
            rx_bytes = BLOCK_QUEUE_BYTES if self._blocks else RX_BYTES
            self._memory = Region(
                max(1, rx_queues * rx_bytes + tx_queues * TX_BYTES), "wirespeed-af_packet", huge=False
            )
            at = self._memory.address
            for _ in range(rx_queues):
                self._stable.append(Stable())
                self.rx.append(at)
                at += rx_bytes
            for _ in range(tx_queues):
                format_tx(at)
                TxQueue(at).burst = entry(transmit_calls if options.send == "call" else transmit_slots, 4)
                self.tx.append(at)
                at += TX_BYTES
            for address in self.rx:
                if self._blocks:
                    BlockQueue(address).stamps = int(options.timestamps)
                    BlockQueue(address).burst = entry(receive_blocks_burst, 4)
                else:
                    format_rx(address, options.timestamps)
                    RxQueue(address).burst = entry(receive_burst, 4)
            self._connect(device)
            self._attendant = Attendant(f"af_packet-{options.interface}", self.events)
            self._links = Links(self._attendant, self.events, options.interface, options.netns, self._changed)
            if self._links.now is None or self._links.now.index != device.index:
                raise PortError(f"port {self.spec!r}: {device.name} went away while it was opened; try again")
        except BaseException:
            self.close()
            raise
        self.offloads = offloads(options)

    # The interface comes and goes ------------------------------------------------------------------------

    def _connect(self, device: Netdev) -> None:
        """Make sockets and rings for what is there now, and show them to the workers."""
        self.mac, self.mtu, self.index = device.mac, device.mtu, device.index
        try:
            within(self.options.netns, lambda: self._make(device))
        except OSError as error:
            self._disconnect()
            raise PortError(f"port {self.spec!r}: {device.name} cannot be used: {error.strerror}") from None
        except BaseException:
            self._disconnect()
            raise
        for ring, address, stable in zip(self._rings, self.rx, self._stable, strict=True):
            self._show_ring(ring, address)
            stable.lead(ring.fd)
        for number, address in enumerate(self.tx):
            queue = TxQueue(address)
            queue.limit = device.mtu + _ETHERNET
            if self._slots:
                slots = self._slots[number]
                queue.head, queue.ring, queue.slots, queue.slot_size = 0, slots.address, slots.count, slots.slot_size
                queue.doorbell = slots.fd
            queue.fd = self._senders[number].fileno()
        for ring in self._rings:
            ring.start(self._program)

    def _make(self, device: Netdev) -> None:
        """In the interface's namespace: a socket stays in the one it was made in."""
        options = self.options
        size = options.frame or frame_size(device.mtu)
        shape = Shape(options.frames, size, self._blocks, options.retire)
        group: int | None = None
        for _ in self.rx:
            ring = Ring(self.spec, shape, options.timestamps)
            self._rings.append(ring)
            ring.attach(device)
            if len(self.rx) > 1:
                group = ring.join(options.fanout, group)
        for _ in self.tx:
            if options.send == "ring":
                self._slots.append(Slots(self.spec, options.slots, frame_size(device.mtu), device, options.bypass))
            self._senders.append(sender(self.spec, device, options.bypass))
        for wanted, kind in ((self._promiscuous, PROMISCUOUS), (options.multicast, ALL_MULTICAST)):
            if wanted and self._rings:
                self._rings[0].member(device.index, kind)

    def _show_ring(self, ring: Ring, address: int) -> None:
        if self._blocks:
            blocks = BlockQueue(address)
            blocks.head, blocks.left, blocks.blocks = 0, 0, ring.shape.block_count
            blocks.block_size, blocks.fd = ring.shape.block_size, ring.fd
            blocks.ring = ring.address
        else:
            queue = RxQueue(address)
            queue.head, queue.frames, queue.frame_size = (
                0,
                ring.shape.total // ring.shape.frame_size,
                ring.shape.frame_size,
            )
            queue.fd = ring.fd
            queue.ring = ring.address

    def _disconnect(self) -> None:
        """Take sockets and rings from the workers, then close them."""
        for address in self.rx:
            RxQueue(address).ring = 0  # BlockQueue has it in the same place
        for address in self.tx:
            TxQueue(address).fd = -1
        self.quiesce()
        for stable in self._stable:
            stable.rest()
        with contextlib.suppress(OSError):
            self.refresh()
        for ring in self._rings:
            self._before = [a + b for a, b in zip(self._before, (ring.seen, ring.dropped, ring.freezes), strict=True)]
        closing: list[Ring | Slots | socket.socket] = [*self._rings, *self._slots, *self._senders]
        for made in closing:
            made.close()
        self._rings, self._slots, self._senders = [], [], []

    def _changed(self, before: Netdev | None, after: Netdev | None) -> None:
        """In the attendant's thread."""
        if after is None:
            self._disconnect()
        elif before is None:
            self._return()
        elif not (self._rings or self._senders):  # not connected yet: the timer sees to it
            self.mac, self.mtu = after.mac, after.mtu
        else:
            self.mac, self.mtu = after.mac, after.mtu
            for address in self.tx:
                TxQueue(address).limit = after.mtu + _ETHERNET
            self.refresh()  # takes the error that sockets keep of an interface that went down

    def _return(self) -> None:
        """The interface is there again; what fails (udev gives it a name, no memory) is tried again."""
        now = self._links.now if self._links else None
        if now is None or self._rings or self._senders:
            return
        try:
            self._connect(now)
        except PortError as error:
            self.events.say("error", str(error))
            if self._attendant:
                self._attendant.after(_RETRY_S, self._return)

    def close(self) -> None:
        """Close sockets and unmap rings; packets still in them are lost."""
        if self._links:
            self._links.close()
        if self._attendant:
            self._attendant.close()
        if self._memory:
            self._disconnect()
            self._memory.close()
        for stable in self._stable:
            stable.close()
        self._links = self._attendant = self._memory = None
        self._stable, self.rx, self.tx = [], [], []

    # What users ask and tell it --------------------------------------------------------------------------

    def descriptors(self, queue: int) -> list[int]:
        """The queue's socket, or what stands for it while the interface is not there."""
        return [self._stable[queue].fd]

    def refresh(self) -> None:
        """Add what the kernel dropped to ``dropped``."""
        for address, ring in zip(self.rx, self._rings, strict=False):
            before = ring.dropped
            ring.count()
            queue = RxQueue(address)
            queue.lost += ring.dropped - before  # BlockQueue has it in the same place
            queue.dropped = queue.lost + (0 if self._blocks else queue.overruns)

    def link(self) -> Link:
        """As the kernel says it."""
        now = self._links.now if self._links else None
        if now is None:
            return Link(False, 0, f"no interface is called {self.options.interface}")
        _, speed = within(self.options.netns, lambda: hardware(now.name))
        why = "" if now.running else "no carrier" if now.up else "set down"
        return Link(now.running, speed, why)

    def extended(self) -> dict[str, int]:
        """What the kernel's sockets count: packets seen and dropped, and how often the ring stood still (ring=v3)."""
        self.refresh()
        rings = ((ring.seen, ring.dropped, ring.freezes) for ring in self._rings)
        seen, dropped, freezes = (sum(column) for column in zip(self._before, *rings, strict=True))
        found = {"kernel-packets": seen, "kernel-drops": dropped, "ring-freezes": freezes}
        if not self._blocks:
            found["large-packet-overruns"] = sum(RxQueue(address).overruns for address in self.rx)
        return found

    def facts(self) -> dict[str, str]:
        """How it receives and sends."""
        options = self.options
        now = self._links.now if self._links else None
        found = {"interface": options.interface + (f" in {options.netns}" if options.netns else "")}
        if now is not None:
            found["driver"] = within(options.netns, lambda: hardware(now.name))[0]
        if self._rings:
            found["receive"] = str(self._rings[0].shape)
        if len(self._rings) > 1:
            found["fanout"] = options.fanout
        if self._senders:
            found["send"] = f"{self._slots[0].count} slots" if self._slots else "sendmmsg"
        if self._program is not None:
            found["filter"] = f"{options.match or options.program} ({len(self._program)} instructions)"
        return found

    def set_mtu(self, mtu: int) -> None:
        """Change the interface's MTU."""
        self._set("MTU", mtu, lambda name: set_mtu(name, mtu))
        self.mtu = mtu

    def set_mac(self, mac: int) -> None:
        """Change the interface's Ethernet address."""
        self._set("Ethernet address", mac.to_bytes(6).hex(":"), lambda name: set_mac(name, mac))
        self.mac = mac

    def set_promiscuous(self, on: bool) -> None:
        """Receive what is for other stations, too; the kernel counts who wants that."""
        if on != self._promiscuous and self._rings:
            self._set("promiscuous", on, lambda _: self._rings[0].member(self.index, PROMISCUOUS, on))
        self._promiscuous = on

    def _set(self, what: str, value: object, change: Callable[[str], None]) -> None:
        now = self._links.now if self._links else None
        if now is None:
            raise PortError(f"port {self.spec!r}: there is no interface to set the {what} of")
        try:
            within(self.options.netns, lambda: change(now.name))
        except OSError as error:
            raise PortError(f"port {self.spec!r}: {what} {value} is refused: {error.strerror}") from None


__all__ = ["AfPacket", "AfPacketOptions"]

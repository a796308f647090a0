"""af_packet: any interface of the kernel, beside the kernel. ``af_packet:eth0``.

Packets are copied, so it is no way to line rate with small frames; but it needs no driver, no queue of its
own and no change to the interface, it works on veth pairs between containers, and large TCP packets pass
whole (:mod:`wirespeed.ports.virtio_net`), which makes it fast where it matters.

The kernel sees every packet too. Give the interface no address, and it answers none of them.
"""

import socket
from dataclasses import dataclass

from wirespeed.errors import PortError
from wirespeed.mem.pool import Pool
from wirespeed.mem.region import Region
from wirespeed.ports.af_packet_queue import (
    RX_BYTES,
    TX_BYTES,
    RxQueue,
    format_rx,
    format_tx,
    receive,
    transmit,
)
from wirespeed.ports.af_packet_socket import Ring, sender
from wirespeed.ports.netdev import Netdev, facts, within
from wirespeed.ports.options import option
from wirespeed.ports.port import Port

_BEFORE_FRAME = 96  # bytes of a slot before the frame (76) and tags that may follow the Ethernet header


@dataclass(frozen=True)
class AfPacketOptions:
    """Options of ``af_packet``."""

    interface: str = option(doc="the interface's name", positional=True)
    netns: str = option("", "the network namespace it is in: a name of `ip netns`, or a path")
    queues: int = option(1, "receive queues: the kernel spreads flows over them by hash (1 to 64)")
    frames: int = option(4096, "slots of each receive queue's ring (a power of two, 256 to 65536)")
    frame: int = option(0, "bytes of a slot (a power of two, 256 to 16384); 0: as the MTU needs")
    promiscuous: bool = option(False, "receive what is for other stations too, as a bridge must")
    bypass: bool = option(False, "send past the interface's queueing discipline")


class AfPacket(Port):
    """A packet socket for each queue of one interface.

    Attributes:
        mac: the interface's Ethernet address, as an integer; known once open.
        mtu: its MTU, in bytes.
        index: its number in its namespace.
    """

    Options = AfPacketOptions
    receive = staticmethod(receive)
    transmit = staticmethod(transmit)
    tx_queues = 0

    def __init__(self, spec: str, options: AfPacketOptions) -> None:
        super().__init__(spec, options)
        self.rx_queues = options.queues
        self.index = 0
        self._rings: list[Ring] = []
        self._senders: list[socket.socket] = []
        self._memory: Region | None = None
        _check(spec, options)

    def open(self, pool: Pool, rx_queues: int, tx_queues: int) -> None:
        """See :meth:`Port.open`; the interface must be up."""
        try:
            within(self.options.netns, lambda: self._open_sockets(rx_queues, tx_queues))
            size = max(1, rx_queues * RX_BYTES + tx_queues * TX_BYTES)
            self._memory = Region(size, "wirespeed-af_packet", huge=False)
        except BaseException:
            self.close()
            raise
        at = self._memory.address
        for ring in self._rings:
            format_rx(at, ring.fd, ring.address, ring.frames, ring.frame_size)
            self.rx.append(at)
            at += RX_BYTES
        for made in self._senders:
            format_tx(at, made.fileno())
            self.tx.append(at)
            at += TX_BYTES
        for ring in self._rings:
            ring.start()

    def _open_sockets(self, rx_queues: int, tx_queues: int) -> None:
        """In the interface's namespace: a socket stays in the one it was made in."""
        options = self.options
        device = facts(self.spec, options.interface)
        _check_device(self.spec, device, options.netns)
        self.mac, self.mtu, self.index = device.mac, device.mtu, device.index
        size = options.frame or _frame_size(device.mtu)
        group: int | None = None
        for _ in range(rx_queues):
            ring = Ring(self.spec, options.frames, size)
            self._rings.append(ring)
            ring.attach(device, options.promiscuous)
            if rx_queues > 1:
                group = ring.join(group)
        for _ in range(tx_queues):
            self._senders.append(sender(self.spec, device, options.bypass))

    def descriptors(self, queue: int) -> list[int]:
        """The queue's socket."""
        return [self._rings[queue].fd]

    def refresh(self) -> None:
        """Add what the kernel dropped to ``dropped``."""
        for address, ring in zip(self.rx, self._rings, strict=True):
            queue = RxQueue(address)
            queue.lost += ring.drops()
            queue.dropped = queue.lost + queue.overruns

    def close(self) -> None:
        """Close sockets and unmap rings; packets still in them are lost."""
        for ring in self._rings:
            ring.close()
        for made in self._senders:
            made.close()
        if self._memory:
            self._memory.close()
        self._rings, self._senders, self._memory, self.rx, self.tx = [], [], None, [], []


def _frame_size(mtu: int) -> int:
    """The power of two that holds a full frame; larger than 16 KiB is read whole from the socket instead."""
    return int(min(max(2048, 1 << (mtu + _BEFORE_FRAME - 1).bit_length()), 16384))


def _check(spec: str, options: AfPacketOptions) -> None:
    if not 1 <= options.queues <= 64:
        raise PortError(f"port {spec!r}: queues={options.queues} must be 1 to 64")
    if not 256 <= options.frames <= 65536 or options.frames & (options.frames - 1):
        raise PortError(f"port {spec!r}: frames={options.frames} must be a power of two, 256 to 65536")
    if options.frame and (not 256 <= options.frame <= 16384 or options.frame & (options.frame - 1)):
        raise PortError(f"port {spec!r}: frame={options.frame} must be a power of two, 256 to 16384")


def _check_device(spec: str, device: Netdev, netns: str) -> None:
    if not device.ethernet:
        raise PortError(f"port {spec!r}: {device.name} is not an Ethernet interface")
    if not device.up:
        inside = f"ip netns exec {netns} " if netns else ""
        command = f"sudo {inside}ip link set {device.name} up"
        raise PortError(f"port {spec!r}: {device.name} is down; bring it up: {command}")

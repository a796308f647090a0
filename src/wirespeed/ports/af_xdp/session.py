"""An interface as long as it is there: its XDP program, a socket for each queue, and the cells the kernel has.

An af_xdp port opens one session; when the interface disappears the session is closed, and another is opened when it
returns, into the same queue records. What a session gave to the kernel it gives back to the pool when it is closed.
"""

import contextlib
import ctypes
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wirespeed.errors import PortError
from wirespeed.jit import kernel, load64, store8, store64, store_release, store_release32
from wirespeed.mem.descriptor import CELL, HEADROOM, cell_of
from wirespeed.mem.pool import Pool
from wirespeed.mem.pool_cache import Cache, get_shared
from wirespeed.ports.af_xdp.attach import Attachment
from wirespeed.ports.af_xdp.metadata import Wanted, behind
from wirespeed.ports.af_xdp.options import AfXdpOptions, Choice
from wirespeed.ports.af_xdp.query import FEATURE_HASH, metadata_of
from wirespeed.ports.af_xdp.rings import HELD, MOST_SENT, Leg, TxQueue
from wirespeed.ports.af_xdp.socket import Wish, Xsk
from wirespeed.ports.af_xdp.transmit import give_back
from wirespeed.ports.netdev import Netdev, receive_queues

_TAGS = 8  # bytes of VLAN tags that may stand before the payload the MTU counts
_ETHERNET, _TAG = 14, 4
_SEGMENTS = {True: 5, False: 18}  # descriptors of a packet: what drivers take at least; MAX_SKB_FRAGS + 1


@kernel
def _fetch(cache, vector, count):  # type: ignore[no-untyped-def]
    return get_shared(Cache(cache), vector, count)


@kernel
def _publish(address, value):  # type: ignore[no-untyped-def]
    store_release(address, value)


@kernel
def _publish32(address, value):  # type: ignore[no-untyped-def]
    store_release32(address, value)


@dataclass(frozen=True)
class Records:
    """Where a port's records are: they outlive a session.

    Attributes:
        legs, tx: addresses of a leg for each queue, and of transmit queues.
        ledgers: address of the receive ledger; one for each transmit queue follows.
        scratch: room for BATCH descriptors, for control code.
        fds: the descriptors that workers know, one a queue; what is behind them changes.
    """

    legs: tuple[int, ...]
    tx: tuple[int, ...]
    ledgers: int
    scratch: int
    fds: tuple[int, ...]


def chosen(spec: str, device: Netdev, choice: Choice) -> tuple[int, ...]:
    """The queues to take, of those that the interface has now.

    Raises:
        PortError: it has no such queue.
    """
    available = receive_queues(device.name)
    if choice.queues is None:
        return tuple(range(available))
    wanted = tuple(range(choice.queues)) if isinstance(choice.queues, int) else choice.queues
    if max(wanted) >= available:
        raise PortError(
            f"port {spec!r}: {device.name} has {available} receive queue{'s' if available > 1 else ''}, so there is no "
            f"queue {max(wanted)}; more: sudo ethtool -L {device.name} combined {max(wanted) + 1}, if it can"
        )
    return wanted


class Session:
    """Open the sockets of ``queues`` in the calling thread's namespace; nothing arrives before :meth:`start`.

    ``hashes``: packets are to have the driver's RSS hash, if it gives one.

    Raises:
        PortError: as the port's ``open``.
    """

    def __init__(
        self, spec: str, pool: Pool, options: AfXdpOptions, choice: Choice, queues: Sequence[int], device: Netdev,
        receives: bool, sends: bool, hashes: bool = False,
    ) -> None:  # fmt: skip
        self.spec, self.pool, self.device, self.queues = spec, pool, device, tuple(queues)
        self.attachment: Attachment | None = None
        self.sockets: list[Xsk] = []
        self._records: Records | None = None
        self._counted: dict[int, dict[str, int]] = {}
        self._busy = int(options.busy_poll > 0)
        try:
            if receives:
                hash = hashes and bool(metadata_of(device.index) & FEATURE_HASH)
                self.attachment = Attachment(
                    spec, device, choice.matches, options.mode, max(queues) + 1,
                    Wanted(options.timestamps, hash, False) if options.timestamps or hash else None,
                )  # fmt: skip
            generic = self.attachment is not None and self.attachment.mode == "generic"
            wish = Wish(
                rx_size=options.rx_ring if receives else 0, tx_size=options.tx_ring if sends else 0,
                fill_size=options.rx_ring, done_size=2 * options.tx_ring,
                zero_copy=False if generic else choice.zero_copy, segments=True,
                needs_segments=device.mtu + _ETHERNET + _TAGS > CELL - HEADROOM, busy_us=options.busy_poll,
                busy_budget=options.busy_budget,
            )  # fmt: skip
            for queue in queues:
                first = self.sockets[0] if self.sockets else None
                self.sockets.append(Xsk(spec, pool, device.index, queue, wish, first))
            self._check_size()
        except BaseException:
            self.close()
            raise

    @property
    def metadata(self) -> Wanted | None:
        """What the program writes in front of packets."""
        return self.attachment.metadata if self.attachment else None

    @property
    def zero_copy(self) -> bool:
        """Whether the driver moves packets between cells and hardware by itself."""
        return self.sockets[0].zero_copy

    @property
    def segments(self) -> bool:
        """Whether packets may be larger than a cell."""
        return self.sockets[0].segments

    def _check_size(self) -> None:
        frame, room = self.device.mtu + _ETHERNET + _TAGS, CELL - HEADROOM
        if frame > room and not self.segments:
            raise PortError(
                f"port {self.spec!r}: packets of MTU {self.device.mtu} are larger than a cell ({room} bytes), and this "
                f"kernel or driver has no multi-buffer XDP (Linux 6.6): sudo ip link set {self.device.name} mtu "
                f"{room - _ETHERNET - _TAGS}"
            )

    def lay_out(self, records: Records) -> None:
        """Write the sockets into the records, and give the kernel its first cells. Workers still leave them alone."""
        self._records = records
        size = self.pool.size
        meta = self.metadata is not None
        target = max(64, min(self.sockets[0].fill.size, size // 4 // len(self.sockets)))
        for index, (made, address) in enumerate(zip(self.sockets, records.legs, strict=True)):
            os.dup2(made.fd, records.fds[index], inheritable=False)
            if made.rx.mapping:
                leg = Leg(address)
                leg.fd, leg.ledger, leg.target, leg.meta = records.fds[index], records.ledgers, target, int(meta)
                leg.busy, leg.behind = self._busy, behind() if meta else 0
                leg.producer, leg.consumer = made.rx.producer, made.rx.consumer
                leg.ring, leg.mask, leg.received = made.rx.entries, made.rx.size - 1, 0
                leg.fill_producer, leg.fill_flags = made.fill.producer, made.fill.flags
                leg.fill_ring, leg.fill_mask = made.fill.entries, made.fill.size - 1
                leg.filled = leg.held = 0
                leg.few = min(32, target >> 3)
                self._fill(leg)
        for index, address in enumerate(records.tx):
            made = self.sockets[index]
            queue = TxQueue(address)
            queue.fd, queue.synchronous = records.fds[index], int(not made.zero_copy)
            queue.producer, queue.consumer = made.tx.producer, made.tx.consumer
            queue.ring, queue.size, queue.flags, queue.produced = made.tx.entries, made.tx.size, made.tx.flags, 0
            queue.done_producer, queue.done_consumer = made.done.producer, made.done.consumer
            queue.done_ring, queue.done_mask, queue.completed = made.done.entries, made.done.size - 1, 0
            queue.ledger = records.ledgers + (1 + index) * size
            queue.longest = self.device.mtu + _ETHERNET + _TAG
            queue.segments = _SEGMENTS[made.zero_copy] if made.segments else 1
            queue.scratch = address + TxQueue.SIZE

    def _fill(self, leg: Leg) -> None:
        """The first cells come from those that nobody has; a worker adds what is missing."""
        assert self._records is not None
        cache, scratch = self.pool.cache(0), self._records.scratch
        while leg.held < leg.target:
            got = int(_fetch(cache, scratch, min(64, leg.target - leg.held)))
            if got == 0:
                break
            for i in range(got):
                cell = cell_of(load64(scratch + 8 * i))
                store8(leg.ledger + cell, 1)
                store64(leg.fill_ring + ((leg.filled + i & leg.fill_mask) << 3), cell << 11)
            leg.filled += got
            leg.held += got
        _publish32(leg.fill_producer, leg.filled)

    def start(self) -> None:
        """Workers may use the sockets, and packets come."""
        assert self._records is not None
        for address in self._records.legs:
            if Leg(address).ring:
                _publish(address + Leg.live.offset, 1)
        for address in self._records.tx:
            _publish(address + TxQueue.live.offset, 1)
        if self.attachment:
            for made in self.sockets:
                self.attachment.enter(made.queue, made.fd)

    def resize(self, mtu: int) -> None:
        """The interface sends larger or smaller frames from now on."""
        if self._records is not None:
            for address in self._records.tx:
                TxQueue(address).longest = mtu + _ETHERNET + _TAG

    def silence(self) -> None:
        """Workers leave the sockets alone from their next call on."""
        if self._records is not None:
            for address in self._records.legs:
                _publish(address + Leg.live.offset, 0)
            for address in self._records.tx:
                _publish(address + TxQueue.live.offset, 0)

    def statistics(self) -> dict[int, dict[str, int]]:
        """What the kernel counted, by queue; of an interface that is gone, what it said last."""
        for made in self.sockets:
            with contextlib.suppress(OSError):
                self._counted[made.queue] = made.statistics()
        return self._counted

    def close(self) -> None:
        """Program off, sockets closed, cells given back. No worker may be inside any more."""
        if self.attachment:
            self.attachment.close()
        for made in reversed(self.sockets):
            made.close()
        if self._records is not None:
            self._reclaim(self._records)
            self._records = None
        self.sockets = []

    def _reclaim(self, records: Records) -> None:
        """What the ledgers say the kernel still had."""
        cache, scratch, size = self.pool.cache(0), records.scratch, self.pool.size
        for number in range(1 + len(records.tx)):
            memory = (ctypes.c_uint8 * size).from_address(records.ledgers + number * size)
            ledger = np.frombuffer(memory, np.uint8)
            for cell in np.flatnonzero(ledger):
                state = int(ledger[cell])
                give_back(cache, int(cell), state & MOST_SENT if state & HELD else 0, scratch)
            ledger[:] = 0


__all__ = ["Records", "Session", "chosen"]

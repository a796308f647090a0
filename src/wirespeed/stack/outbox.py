"""Datagrams that a handler sends besides its answer: a ring between workers and the way out.

::

    handler ──post()──▶ ring ──▶ outbox port ──▶ ip_output ──▶ port
    (any worker)                (one worker)

Whole IP packets, turned and summed up, in cells of their own. What finds the ring full is freed and counted.
A timer's callback, or a node, sends what nobody asked for by the methods of the view.
"""
# mypy: allow-untyped-defs, allow-untyped-calls

import itertools
from collections.abc import Sequence

from wirespeed.jit import cold, le64, store64
from wirespeed.mem.descriptor import CellHeader, header_of, offset_of, with_data
from wirespeed.mem.pool import Cache, Pool, release
from wirespeed.mem.shared import Shared
from wirespeed.mem.state import MAX_WORKERS
from wirespeed.ports.ring import RingOptions, RingPort, RingQueue, transmit
from wirespeed.stack.unasked import unasked4, unasked6

_numbers = itertools.count(1)
_USER: int = CellHeader.user0.offset


class OutboxView(RingQueue):
    """One worker's end of the ring: a queue record, as of a ring port."""

    cache = le64(96, "the worker's free cells")
    face = le64(104, "address of the interface")
    SIZE = 128

    def send4(self, own_port: int, address: int, port: int, start: int, length: int) -> int:
        """Send ``length`` bytes from ``start`` to an IPv4 address, as a number, and UDP port, from our address and
        ``own_port``. 0: there was no cell, no room, or no address of ours, or they are more than a cell takes
        (1,500 at least); else 1."""
        if self.ring == 0:
            return 0
        made, size = unasked4(self.cache, self.face, own_port, address, port, start, length)
        return _leave(self.address, self.cache, made, size)

    def send6(self, own_port: int, high: int, low: int, port: int, start: int, length: int) -> int:
        """The same to an IPv6 address, a pair of numbers."""
        if self.ring == 0:
            return 0
        made, size = unasked6(self.cache, self.face, own_port, high, low, port, start, length)
        return _leave(self.address, self.cache, made, size)


@cold
def _leave(outbox, cache, made, size):
    return post(outbox, cache, with_data(made, offset_of(made), size)) if made != 0 else 0


@cold
def post(outbox, cache, desc):
    """Send a packet that nobody else holds, which is then no longer the caller's; 0 if there was no room, else 1."""
    view = OutboxView(outbox)
    at = CellHeader(header_of(Cache(cache).cells, desc))
    at.user0 = desc
    if view.ring != 0 and transmit(outbox, cache, at.address + _USER, 1) == 1:
        return 1
    view.dropped += 1
    release(Cache(cache), at.address + _USER, 1)
    return 0


class Outbox(Shared):
    """The senders' side; :attr:`port` is where a graph receives from it.

    Args:
        size: datagrams that wait at once, a power of two.
    """

    KIND = "outbox"
    View = OutboxView
    stride = OutboxView.SIZE

    def __init__(self, size: int = 1024) -> None:
        self._create(MAX_WORKERS * self.stride, None, huge=False)
        self.port = OutboxPort(self, size)

    def lend(self, caches: Sequence[int], face: int) -> None:
        """Say where each worker's free cells are, and the interface whose address what they send is from."""
        for worker, cache in enumerate(caches):
            record = OutboxView(self.address + worker * self.stride)
            record.cache, record.face = cache, face

    @property
    def dropped(self) -> int:
        """Datagrams that found it full, over all workers."""
        return sum(int(OutboxView(self.address + i * self.stride).dropped) for i in range(MAX_WORKERS))


class OutboxPort(RingPort):
    """The receiving end. It has no packets of its own, so it keeps no graph running."""

    passive = stays = True

    def __init__(self, outbox: Outbox, size: int) -> None:
        name = f"outbox-{next(_numbers)}"
        super().__init__(f"ring:{name},size={size}", RingOptions(name, size))
        self._outbox = outbox

    def open(self, pool: Pool, rx_queues: int, tx_queues: int) -> None:
        """From now on there is room."""
        super().open(pool, rx_queues, tx_queues)
        ours = RingQueue(self.rx[0])
        for worker in range(MAX_WORKERS):
            record = OutboxView(self._outbox.address + worker * OutboxView.SIZE)
            record.ring, record.bell, record.pipe, record.word = ours.ring, ours.bell, ours.pipe, 1

    def close(self) -> None:
        """Nobody can send any more."""
        for worker in range(MAX_WORKERS):
            store64(self._outbox.address + worker * OutboxView.SIZE + RingQueue.ring.offset, 0)
        super().close()


__all__ = ["Outbox", "OutboxPort", "OutboxView", "post"]

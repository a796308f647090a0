"""Datagrams that a handler sends besides its answer: a ring between workers and the way out.

::

    handler ──post()──▶ ring ──▶ outbox port ──▶ ip_output ──▶ port
    (any worker)                (one worker)

Whole IP packets, turned and summed up, in cells of their own. What finds the ring full is freed and counted.
"""
# mypy: allow-untyped-defs, allow-untyped-calls

import itertools

from wirespeed.jit import cold, store64
from wirespeed.mem.descriptor import CellHeader, header_of
from wirespeed.mem.pool import Cache, Pool, release
from wirespeed.mem.shared import Shared
from wirespeed.mem.state import MAX_WORKERS
from wirespeed.ports.ring import RingOptions, RingPort, RingQueue, transmit

_numbers = itertools.count(1)
_USER: int = CellHeader.user0.offset


class OutboxView(RingQueue):
    """One worker's end of the ring: a queue record, as of a ring port."""

    SIZE = 128


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

    @property
    def dropped(self) -> int:
        """Datagrams that found it full, over all workers."""
        return sum(int(OutboxView(self.address + i * self.stride).dropped) for i in range(MAX_WORKERS))


class OutboxPort(RingPort):
    """The receiving end. It has no packets of its own, so it keeps no graph running."""

    passive = True

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

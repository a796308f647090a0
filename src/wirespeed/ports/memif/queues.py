"""The queue records of a memif port, and what joins them to the rings of a connection.

One piece of memory, which nobody else sees::

    records   of the receive queues, then of the transmit queues
    regions   the table that workers look regions up in: address, size
    held      8 bytes a slot for each queue, where cells may be lent: which cell is in it

A record says ``live`` last, and is written only while no worker is inside.
"""

import contextlib
import os
import select

from wirespeed.jit import store64
from wirespeed.jit.entry import entry
from wirespeed.mem.buffer import MOST_CELLS
from wirespeed.mem.pool import Pool
from wirespeed.mem.region import Region
from wirespeed.ports.memif.memory import MOST_REGIONS, Shareable
from wirespeed.ports.memif.receive import receive_burst
from wirespeed.ports.memif.ring import GOOD, MASK_INTERRUPT, RING_BYTES, MemifQueue, Ring
from wirespeed.ports.memif.session import Session, Way
from wirespeed.ports.memif.transmit import transmit_burst
from wirespeed.ports.memif.zero_copy import GIVEN, give_first, receive_cells, take_back, transmit_cells

_RECORD = -(-MemifQueue.SIZE // 128) * 128
_TABLE = 16 * MOST_REGIONS
_HEAD, _TAIL, _FLAGS = Ring.head.offset, Ring.tail.offset, Ring.flags.offset
_MOST_BATCH = 32  # cells that are given to the peer at once


class Queues:
    """``rx`` and ``tx`` queue records; each receive queue has an epoll descriptor and an eventfd to rouse its worker.

    Args:
        client: our role.
        lent: slots of a ring whose cells may be lent; 0 if they never are.

    Raises:
        ArenaError, OSError: there is no memory, or no descriptor left.
    """

    def __init__(self, pool: Pool, rx: int, tx: int, client: bool, lent: int) -> None:
        count = rx + tx
        self._pool, self._client = pool, client
        self._memory = Region(max(1, count) * _RECORD + _TABLE + count * 8 * lent, "wirespeed-memif-port", huge=False)
        self.all = [self._memory.address + index * _RECORD for index in range(count)]
        self.rx, self.tx = self.all[:rx], self.all[rx:]
        self._table = self._memory.address + max(1, count) * _RECORD
        self._epolls: list[select.epoll] = []
        self._kicks: list[int] = []
        self._kernels = [entry(receive_burst, 4), entry(transmit_burst, 4)]
        if lent:
            self._kernels += [entry(receive_cells, 4), entry(transmit_cells, 4)]
            for index, queue in enumerate(self.all):
                MemifQueue(queue).held = self._table + _TABLE + index * 8 * lent
        try:
            for queue in self.rx:
                self._epolls.append(select.epoll())
                self._kicks.append(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
                self._epolls[-1].register(self._kicks[-1], select.EPOLLIN | select.EPOLLET)
                MemifQueue(queue).epoll = self._epolls[-1].fileno()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give everything back."""
        for epoll in self._epolls:
            epoll.close()
        for kick in self._kicks:
            os.close(kick)
        self._memory.close()

    def descriptor(self, queue: int) -> int:
        """What a worker of receive queue ``queue`` sleeps on."""
        return self._epolls[queue].fileno()

    def join(self, session: Session) -> bool:
        """Let packets pass; whether every queue has a ring."""
        for index, region in enumerate(session.regions):
            store64(self._table + 16 * index, region.address)
            store64(self._table + 16 * index + 8, region.size)
        incoming, outgoing = self._ways(session)
        for index, queue in enumerate(self.rx):
            if index in incoming:
                self._join(queue, incoming[index], True, session.regions)
                self._epolls[index].register(incoming[index].bell, select.EPOLLIN | select.EPOLLET)
                os.eventfd_write(self._kicks[index], 1)
        for index, queue in enumerate(self.tx):
            if index in outgoing:
                self._join(queue, outgoing[index], False, session.regions)
        return len(incoming) >= len(self.rx) and len(outgoing) >= len(self.tx)

    def _ways(self, session: Session) -> tuple[dict[int, Way], dict[int, Way]]:
        """The rings that we receive from, and those that we send to."""
        ways = session.to_server, session.to_client
        return ways[::-1] if self._client else ways

    def _join(self, queue: int, way: Way, receives: bool, regions: list[Shareable]) -> None:
        record, client = MemifQueue(queue), self._client
        slots = 1 << way.log2
        record.ours = way.address + (_HEAD if client else _TAIL)
        record.theirs = way.address + (_TAIL if client else _HEAD)
        record.slots, record.mask, record.flags = way.address + RING_BYTES, slots - 1, way.address + _FLAGS
        record.gift = slots if client and not receives else 0
        record.lead = slots if client and receives and not way.arena else 0
        record.position, record.limit, record.fault = 0, 0, GOOD
        record.doorbell, record.sleeps, record.one = -1 if receives else way.bell, 0, 1
        record.first = 0 if receives else way.first
        record.pitch, record.capacity = way.pitch, way.capacity
        home = regions[way.arena]
        record.hot, record.hot_base, record.hot_size = way.arena << 16, home.address, home.size
        record.regions, record.region_count = self._table, len(regions)
        record.burst = self._kernels[(2 if way.arena else 0) + (0 if receives else 1)]
        record.given = record.freed = record.lent = 0
        record.room = min(slots, GIVEN)
        record.batch = max(1, min(_MOST_BATCH, record.room - MOST_CELLS))  # the longest packet finds enough
        record.hungry = 0
        if receives:
            Ring(way.address).flags = MASK_INTERRUPT
            if record.lead:
                Ring(way.address).head = slots
            elif way.arena:
                give_first(queue, self._pool.cache(0))
        record.live = 1

    def stop(self) -> None:
        """Workers that look from now on keep off; those that are inside may still be."""
        for queue in self.all:
            MemifQueue(queue).live = 0

    def fault(self) -> int:
        """Why a worker refuses to go on; 0 if none does."""
        return next((fault for queue in self.all if (fault := MemifQueue(queue).fault)), GOOD)

    def part(self, session: Session) -> None:
        """Forget a connection's rings, and take the cells that are in them back. No worker is inside."""
        for index, epoll in enumerate(self._epolls):
            way = self._ways(session)[0].get(index)
            if way is not None:
                with contextlib.suppress(OSError):  # it was never joined
                    epoll.unregister(way.bell)
        for queue in self.all:
            record = MemifQueue(queue)
            record.fault = GOOD
            if record.burst in self._kernels[2:]:
                take_back(queue, self._pool.cache(0), 1 if queue in self.tx else 0)
                record.burst = 0


def most_lent(rx: int, tx: int, slots: int) -> int:
    """How many cells can be in so many rings of so many slots."""
    return rx * min(slots, GIVEN) + tx * slots


__all__ = ["Queues", "most_lent"]

"""FlowTable: a hash table whose keys are added by packets and go by themselves, after silence or when it is full.

::

    class Traffic(ws.View):
        packets = ws.le64(0)
        bytes = ws.le64(8)

    flows = ws.FlowTable(ws.FiveTuple4, 1_000_000, idle=30_000_000_000, record=Traffic)

    @ws.node
    def account(pkt):
        ip, udp = pkt.ipv4, pkt.udp
        slot = flows.touch(ip.src, ip.dst, udp.sport, udp.dport, ip.protocol, now())
        if slot >= 0:
            flow = flows.record(slot)
            flow.packets += 1
            flow.bytes += pkt.length

Strangers fill such a table, so it has a limit (its capacity), a rule for who goes (the longest silent of the up to
sixteen flows in the new one's buckets), and counters for both ways to go. :mod:`wirespeed.tables.flow_memory` has the
work on its memory.
"""

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from wirespeed.errors import TableError
from wirespeed.jit import View as AnyView
from wirespeed.jit import lent
from wirespeed.tables import hash_bulk
from wirespeed.tables.hash import HashTable, _only
from wirespeed.tables.hash_view import FlowTableView
from wirespeed.tables.reclaimer import Reclaimer

NEVER: int = 1 << 62
"""``idle`` of a table whose flows go only when it is full."""


class FlowTable(HashTable):
    """A table of flows: each has a slot, a value, a record if asked for, and the time it was last seen.

    Times are integers in any unit and from any origin, as the node gives them (nanoseconds, packets, cycles),
    and do not run backwards.

    Args:
        key: what tells flows apart: a class derived from :class:`~wirespeed.tables.keys.Key`, ``int``, a NumPy type, or
            a number of bytes.
        capacity: flows it may hold.
        idle: a flow that was silent for that long is over.
        record: a class derived from ``View``: each flow has such a record, which starts as zeros.
        writers: ``"one"`` worker adds flows, or ``"many"``.
        name: shown in /proc/self/maps and errors; other processes attach the table by it if it is given.
        reclaimer: as in :class:`~wirespeed.tables.hash.HashTable`, for flows that Python deletes; those that go by
            themselves leave their slot to the next flow at once.

    Raises:
        TableError: keys that cannot be, capacity or idle out of range.
        ArenaError: no memory.
    """

    KIND: ClassVar[str] = "flows"
    View: ClassVar[type[AnyView]] = FlowTableView
    _FLOW: ClassVar[bool] = True

    def __init__(
        self, key: Any, capacity: int, idle: int = NEVER, *, record: Any = None, writers: str = "one",
        name: str | None = None, reclaimer: Reclaimer | None = None,
    ) -> None:  # fmt: skip
        if not 1 <= idle <= NEVER:
            raise TableError(f"{name or self.KIND}: idle={idle} is not 1 to {NEVER}")
        super().__init__(key, capacity, record=record, writers=writers, name=name, reclaimer=reclaimer)
        self._head.idle = idle

    def prepare(self, workers: int) -> None:
        """The engine's question before a start: may so many workers add flows?

        Raises:
            TableError: only one may.
        """
        if workers > 1 and not self._head.many:
            raise TableError(f'{self.name} has one writer and there are {workers} workers: make it with writers="many"')

    @property
    def idle(self) -> int:
        """How long a flow may be silent; may be changed at any time."""
        return int(self._head.idle)

    @idle.setter
    def idle(self, idle: int) -> None:
        self._check_writable()
        if not 1 <= idle <= NEVER:
            raise TableError(f"{self.name}: idle={idle} is not 1 to {NEVER}")
        self._head.idle = idle

    # What nodes call too -------------------------------------------------------------------------------------

    def touch(self, *key_and_now: Any) -> int:
        """A packet of a flow at a time: the flow's slot. It is found, or added, for which another may have to go.

        A flow that was silent too long starts anew: its value and its record are zeros. -1 only if two buckets are full
        of flows that cannot make room, which nobody meets.
        """
        *key, now = key_and_now
        return int(self.touch_many([_only(tuple(key))], now)[0])

    def find(self, *key_and_now: Any) -> int:
        """The slot of a flow that is not over at a time, or -1; nothing changes."""
        *key, now = key_and_now
        slot = self._look(_only(tuple(key)), 1, -1)
        return -1 if slot < 0 or now - self.seen(slot) >= self.idle else slot

    def seen(self, slot: int) -> int:
        """When the flow in this slot was seen last."""
        return int(self._entries()[self._checked(slot), 1 + self._form().words].astype(np.int64))

    def expire(self, now: int, buckets: int = 1 << 62) -> int:
        """Delete the flows that are over, in the next so many buckets of up to eight flows; how many there were.

        A node that calls it with a few buckets for each packet or burst keeps the table swept; without, what is over
        stays until its slot is needed.
        """
        self._check_writable()
        with self._lock:
            return int(hash_bulk.sweep_many(self.address, now, min(buckets, self._buckets)))

    # From Python ---------------------------------------------------------------------------------------------

    def touch_many(self, keys: Any, now: int) -> NDArray[np.int64]:
        """:meth:`touch` for many keys, in order, at one time."""
        self._check_writable()
        rows = self._form().rows(keys, self.name)
        slots = np.empty(len(rows), np.int64)
        with self._lock, lent(rows, slots):
            self._bulk.touch(
                self.address, rows.ctypes.data, rows.strides[0], len(rows), slots.ctypes.data, self._extra, now
            )
        return slots


__all__ = ["NEVER", "FlowTable"]

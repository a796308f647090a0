"""Reorder: give packets back in the order of their sequence numbers.

::

    window = ws.Reorder(1024, patience_ns=1_000_000)
    window.insert(sequence, desc, now_ns)        # HELD, LATE or EARLY
    window.drain(vector, room, now_ns)           # the next ones in order, as far as they are here

A window of ``size`` numbers moves up behind the packets that have left. What comes for a number that is gone is LATE.
A number beyond the window is EARLY: the window is told to move up to it, so that after a drain (which gives what is
held below, gaps or not) it fits. A gap at the front is waited for ``patience_ns`` from the arrival of the first packet
behind it, then skipped. Sequence numbers are 32 bits and wrap. (DPDK's rte_reorder is the model; it has no patience.)

    0    record
    128  slots: descriptor, time of arrival (-1: empty); 16 bytes each

O(1) a packet, as each number is passed over once. One worker at a time uses a window.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from wirespeed.errors import TableError
from wirespeed.jit import View, inline, kernel, le64, lent, load64, store64
from wirespeed.mem.shared import Shared

HELD: int = 1
LATE: int = 0
EARLY: int = -1
MAX_WINDOW: int = 1 << 20

_HEAD = 128


@inline
def _ahead(sequence, of):  # type: ignore[no-untyped-def]
    """How far a 32-bit number is ahead of another: negative if it is behind."""
    return ((sequence - of + 0x8000_0000) & 0xFFFF_FFFF) - 0x8000_0000


class ReorderView(View):
    """The window as nodes and ports see it."""

    mask = le64(0, "slots - 1")
    next = le64(8, "the number that leaves next; -1 before the first packet")
    patience_ns = le64(16)
    held = le64(24, "packets in the window")
    floor = le64(32, "numbers below are not waited for: how far ahead of next")
    late = le64(40)
    early = le64(48)
    skipped = le64(56, "numbers that were given up")
    front = le64(64, "the lowest number in the window, once looked for; -1: not known")
    SIZE = _HEAD

    def insert(self, sequence: int, desc: int, now_ns: int) -> int:
        """HELD; or LATE or EARLY, when it is the caller's still."""
        if self.next < 0:
            self.next = sequence & 0xFFFF_FFFF
        ahead = _ahead(sequence, self.next)
        if ahead < 0:
            self.late += 1
            return LATE
        if ahead > self.mask:
            self.early += 1
            self.floor = max(self.floor, ahead - self.mask)
            return EARLY
        slot = self.address + _HEAD + ((sequence & self.mask) << 4)
        if load64(slot + 8) != -1:
            self.late += 1  # the same number twice
            return LATE
        store64(slot, desc)
        store64(slot + 8, now_ns)
        if self.held == 0 or (self.front >= 0 and ahead < _ahead(self.front, self.next)):
            self.front = sequence & 0xFFFF_FFFF
        self.held += 1
        return HELD

    def drain(self, vector: int, room: int, now_ns: int) -> int:
        """Put up to ``room`` packets that are next in order at ``vector``; returns how many."""
        got = 0
        while got < room and (self.held > 0 or self.floor > 0):
            slot = self.address + _HEAD + ((self.next & self.mask) << 4)
            if load64(slot + 8) != -1:
                store64(vector + (got << 3), load64(slot))
                store64(slot + 8, -1)
                got += 1
                self.held -= 1
                self.front = -1
                _step(self, 1)
            elif self.held == 0:
                self.skipped += self.floor
                _step(self, self.floor)
            else:
                gap = _gap(self)
                if self.floor > 0:
                    gap = min(gap, self.floor)
                elif now_ns - load64(self.address + _HEAD + ((self.front & self.mask) << 4) + 8) < self.patience_ns:
                    break
                self.skipped += gap
                _step(self, gap)
        return got


@inline
def _gap(window):  # type: ignore[no-untyped-def]
    """How many numbers are missing in front of the first packet in the window; there is one."""
    front = window.front
    if front < 0:
        front = window.next
        while load64(window.address + _HEAD + ((front & window.mask) << 4) + 8) == -1:
            front += 1
        front &= 0xFFFF_FFFF
        window.front = front
    return _ahead(front, window.next)


@inline
def _step(window, count):  # type: ignore[no-untyped-def]
    """The front moves up."""
    window.next = (window.next + count) & 0xFFFF_FFFF
    window.floor = max(window.floor - count, 0)


@kernel
def _insert_many(address, sequences, descs, times, found):  # type: ignore[no-untyped-def]
    window = ReorderView(address)
    for i in range(len(sequences)):
        found[i] = window.insert(int(sequences[i]), int(descs[i]), int(times[i]))


@kernel
def _drain(address, vector, room, now_ns):  # type: ignore[no-untyped-def]
    return ReorderView(address).drain(vector, room, now_ns)


@dataclass(frozen=True)
class ReorderStats:
    """Packets ``held`` now; that came ``late`` (or twice) or ``early``; numbers that were ``skipped``."""

    held: int
    late: int
    early: int
    skipped: int
    size: int
    memory_bytes: int
    pages: str


class Reorder(Shared):
    """A window of ``size`` sequence numbers.

    Args:
        size: numbers it spans, rounded up to a power of two, 2 to 2^20.
        patience_ns: how long a missing number is waited for.
        first: the first number; that of the first packet if not said.
        name: under which other processes can attach it.

    Raises:
        TableError: out of range.
    """

    View: ClassVar[type[ReorderView]] = ReorderView
    KIND = "reorder"

    def __init__(self, size: int, patience_ns: int, first: int | None = None, name: str | None = None) -> None:
        if not 2 <= size <= MAX_WINDOW:
            raise TableError(f"{name or self.KIND}: a window of {size} is not possible: use 2 to {MAX_WINDOW}")
        if patience_ns < 0:
            raise TableError(f"{name or self.KIND}: a patience of {patience_ns} ns is not possible: use 0 or more")
        if first is not None and not 0 <= first < 1 << 32:
            raise TableError(f"{name or self.KIND}: the first number {first} is not 0 to {(1 << 32) - 1}")
        size = 1 << (size - 1).bit_length()
        self._create(_HEAD + 16 * size, name)
        self._attached()
        self._view.mask, self._view.patience_ns = size - 1, patience_ns
        self._view.next = -1 if first is None else first
        self._view.front = -1
        self._words(np.int64, _HEAD, 2 * size)[1::2] = -1

    def _attached(self) -> None:
        self._view = ReorderView(self.address)

    def insert(self, sequence: int, desc: int, now_ns: int) -> int:
        """See :meth:`ReorderView.insert`."""
        self._check_writable()
        return int(self._view.insert(sequence, desc, now_ns))

    def insert_many(self, sequences: Any, descs: Any, times_ns: Any) -> NDArray[np.int64]:
        """HELD, LATE or EARLY for each of many packets: arrays of one length, or single numbers that count for all."""
        self._check_writable()
        asked = [np.array(each, dtype=np.int64) for each in np.broadcast_arrays(sequences, descs, times_ns)]
        found = np.empty(asked[0].size, dtype=np.int64)
        _insert_many(self.address, asked[0].ravel(), asked[1].ravel(), asked[2].ravel(), found)
        return found

    def drain_many(self, room: int, now_ns: int) -> NDArray[np.int64]:
        """The next descriptors in order, at most ``room``."""
        self._check_writable()
        descs = np.empty(max(room, 0), dtype=np.int64)
        with lent(descs) as (vector,):
            return descs[: _drain(self.address, vector, len(descs), now_ns)]

    def __len__(self) -> int:
        return int(self._view.held)

    def stats(self) -> ReorderStats:
        """What it holds, and what came out of order too far."""
        view = self._view
        return ReorderStats(
            view.held, view.late, view.early, view.skipped, view.mask + 1, self.memory_bytes, self.pages
        )

    def __repr__(self) -> str:
        return f"<Reorder {self.name}: {len(self)} held, next {self._view.next}>"

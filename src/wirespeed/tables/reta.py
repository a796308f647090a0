"""Reta: the redirection table of receive-side scaling: which queue (or worker) a hash goes to.

    offset  bytes     what
    0       64        record (:class:`RetaView`)
    64      2 * size  the entries, 16 bits each

A card takes the low bits of the hash as an index, and so do we: moving a share of the flows from one queue to
another is one aligned store, which readers see whole, before or after. Flows that are not in a moved entry stay.

References: Microsoft, "Introduction to receive side scaling" (the indirection table); DPDK's rte_eth_dev_rss_reta_*.
"""

import ctypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wirespeed.errors import TableError
from wirespeed.jit import View, kernel, le64, lent, load16, load32, store16
from wirespeed.mem.shared import Shared

_RECORD = 64
DEFAULT_SIZE: int = 128
MAX_SIZE: int = 65536
MAX_QUEUE: int = 65535


class RetaView(View):
    """The table as nodes see it."""

    mask = le64(0, "entries - 1")
    SIZE = _RECORD

    def queue(self, hash: int) -> int:
        """The queue of a hash."""
        return load16(self.address + _RECORD + ((hash & self.mask) << 1))


@kernel
def _queues(reta: int, hashes: int, count: int, out: int) -> None:
    view = RetaView(reta)
    for i in range(count):
        store16(out + i * 2, view.queue(load32(hashes + i * 4)))


@dataclass(frozen=True)
class RetaStats:
    """``entries`` in all, and how many lead to each queue."""

    entries: int
    by_queue: dict[int, int]


class Reta(Shared):
    """A redirection table of ``size`` entries over ``queues`` queues, dealt out in turn.

    ``reta[index]`` reads an entry and sets it, live; iterating gives them all.

    Args:
        queues: how many there are, or the entries themselves, which ``size`` must be a multiple of then.
        size: entries, 1 to 65536; rounded up to a power of two, see ``len(reta)``.
        name: for other processes to attach it by.

    Raises:
        TableError: queues or size out of range.
        ArenaError: no memory, or the name is taken.
    """

    View = RetaView
    KIND = "reta"

    def __init__(self, queues: "int | Sequence[int]" = 1, size: int = DEFAULT_SIZE, name: str | None = None) -> None:
        pattern = list(range(queues)) if isinstance(queues, int) else list(queues)
        if not pattern:
            raise TableError("a redirection table without queues: give 1 or more")
        if not 1 <= size <= MAX_SIZE:
            raise TableError(f"a redirection table of {size} entries is not possible: use 1 to {MAX_SIZE}")
        for queue in pattern:
            _check_queue(queue)
        size = 1 << (size - 1).bit_length()
        self._create(_RECORD + 2 * size, name, entries=size)
        self._attached()
        RetaView(self.address).mask = size - 1
        self._entries[:] = np.resize(np.array(pattern, dtype=np.uint16), size)

    def _attached(self) -> None:
        size = self.parameters["entries"]
        self._entries = np.ctypeslib.as_array((ctypes.c_uint16 * size).from_address(self.address + _RECORD))

    def queue(self, hash: int) -> int:
        """The queue of a hash."""
        return int(RetaView(self.address).queue(hash))

    def queue_many(self, hashes: NDArray[np.uint32]) -> NDArray[np.uint16]:
        """The queue of each hash of an array."""
        hashes = np.ascontiguousarray(hashes, dtype=np.uint32)
        out = np.empty(len(hashes), dtype=np.uint16)
        with lent(hashes, out):
            _queues(self.address, hashes.ctypes.data, len(hashes), out.ctypes.data)
        return out

    def move(self, from_queue: int, to_queue: int) -> int:
        """Let every entry of one queue lead to another; returns how many. A queue that stops is emptied so."""
        self._check_writable()
        _check_queue(to_queue)
        moved = np.flatnonzero(self._entries == from_queue)
        self._entries[moved] = to_queue
        return len(moved)

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> int:
        return int(self._entries[self._place(index)])

    def __setitem__(self, index: int, queue: int) -> None:
        self._check_writable()
        _check_queue(queue)
        self._entries[self._place(index)] = queue

    def __iter__(self) -> Iterator[int]:
        return iter(self._entries.tolist())

    def stats(self) -> RetaStats:
        """How the entries are spread."""
        queues, counts = np.unique(self._entries, return_counts=True)
        return RetaStats(len(self), dict(zip(queues.tolist(), counts.tolist(), strict=True)))

    def __repr__(self) -> str:
        return f"<Reta {self.name}: {len(self)} entries, queues {sorted(set(self))}>"

    def _place(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name}: entry {index} is not one of 0 to {len(self) - 1}")
        return index


def _check_queue(queue: int) -> None:
    if not 0 <= queue <= MAX_QUEUE:
        raise TableError(f"queue {queue} is not 0 to {MAX_QUEUE}")


__all__ = ["Reta", "RetaStats", "RetaView"]

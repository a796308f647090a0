"""Histogram: how values are distributed, from nodes, with percentiles to three digits.

::

    waits = ws.Histogram(highest=10**10)        # nanoseconds, up to ten seconds
    ...
    waits.record(now_ns - pkt.meta.timestamp)   # in a node
    waits.percentile(99.9)                      # any time, in Python

A count is a shift and an addition (:mod:`wirespeed.tables.hdr`): about ten cycles, whatever the value. Each worker
counts in a record of its own, 8 bytes a slot: 221 KB for values up to 2**36, of which a distribution touches the part
it covers. Reading sums the workers. Histograms merge exactly, of workers, processes (give it a ``name``) and runs.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from wirespeed.errors import TableError
from wirespeed.mem.shared import Shared
from wirespeed.tables import hdr
from wirespeed.tables.hdr import PERCENTILES, Distribution, HdrView


@dataclass(frozen=True)
class HistogramStats:
    """How many values, between what, and the memory."""

    count: int
    smallest: int
    largest: int
    beyond: int
    workers: int
    memory_bytes: int
    pages: str


class Histogram(Shared):
    """Values from 0 to ``highest``, to so many significant digits.

    Args:
        highest: the largest value with a slot; larger ones count as this one, and in ``beyond``.
        digits: 1 to 5; each more is ten times the memory.
        workers: how many record. Worker ``i`` uses ``View(address + i * stride)``.
        name: under which other processes can attach it.

    Raises:
        TableError: out of range.
        ArenaError: no memory, or the name is taken.
    """

    View: ClassVar[type[HdrView]] = HdrView
    KIND = "histogram"

    def __init__(self, highest: int = 1 << 36, digits: int = 3, workers: int = 1, name: str | None = None) -> None:
        hdr.check(name or self.KIND, highest, digits)
        if workers < 1:
            raise TableError(f"{name or self.KIND}: {workers} workers cannot record: 1 or more")
        stride = hdr.record_bytes(highest, digits)
        self._create(stride * workers, name, workers=workers, stride=stride, highest=highest, digits=digits)
        for worker in range(workers):
            hdr.format_record(self.address + worker * stride, highest, digits)
        self._attached()

    def _attached(self) -> None:
        self.workers, self.stride = self.parameters["workers"], self.parameters["stride"]
        self.highest, self.digits = self.parameters["highest"], self.parameters["digits"]
        slots = hdr.slots_for(self.highest, self.digits)
        self._counts = [self._words(np.int64, i * self.stride + hdr.DATA, slots) for i in range(self.workers)]

    def prepare(self, workers: int) -> None:
        """The engine's question before a start: can so many workers record here?

        Raises:
            TableError: it was made for fewer.
        """
        if workers > self.workers:
            raise TableError(
                f"{self.name} records for {self.workers} of {workers} workers: make it with workers={workers}"
            )

    def record(self, value: int) -> None:
        """Count a value as worker 0, in plain Python."""
        self._check_writable()
        HdrView(self.address).record(value)

    def record_many(self, values: Any) -> None:
        """Count an array of integers, as worker 0."""
        self._check_writable()
        given = np.maximum(np.asarray(values, np.int64).ravel(), 0)
        if not len(given):
            return
        view = HdrView(self.address)
        view.sum += int(given.sum())
        view.smallest, view.largest = min(view.smallest, int(given.min())), max(view.largest, int(given.max()))
        view.beyond += int((given > self.highest).sum())
        found = hdr.slots_of(np.minimum(given, self.highest), self.digits)
        self._counts[0] += np.bincount(found, minlength=len(self._counts[0]))

    def snapshot(self, worker: int | None = None) -> Distribution:
        """What was counted up to now, by all workers or by one."""
        chosen = range(self.workers) if worker is None else [worker]
        parts = [hdr.read_record(self.address + i * self.stride, self._counts[i], self.digits) for i in chosen]
        return sum(parts[1:], parts[0])

    def merge(self, other: "Histogram | Distribution") -> None:
        """Add what another has counted, as worker 0.

        Raises:
            TableError: it has other digits, or counts values that this one has no slots for.
        """
        self._check_writable()
        given = other.snapshot() if isinstance(other, Histogram) else other
        used = np.flatnonzero(given.counts)
        if given.digits != self.digits or (len(used) and used[-1] >= len(self._counts[0])):
            raise TableError(
                f"{self.name} has {self.digits} digits up to {self.highest}: merge what has the same digits and no "
                f"larger values (it has {given.digits} digits, up to {given.largest})"
            )
        if not len(used):
            return
        view = HdrView(self.address)
        self._counts[0][: used[-1] + 1] += given.counts[: used[-1] + 1]
        view.sum += given.sum
        view.beyond += given.beyond
        view.smallest, view.largest = min(view.smallest, given.smallest), max(view.largest, given.largest)

    def percentile(self, percent: float) -> int:
        """See :meth:`wirespeed.tables.hdr.Distribution.percentile`; take a :meth:`snapshot` for several."""
        return self.snapshot().percentile(percent)

    def percentiles(self, percents: tuple[float, ...] = PERCENTILES) -> list[int]:
        """Several, of one moment."""
        return self.snapshot().percentiles(percents)

    def __len__(self) -> int:
        return self.snapshot().count

    def clear(self) -> None:
        """Forget all; what workers record at the same moment may be lost."""
        self._check_writable()
        for worker, counts in enumerate(self._counts):
            counts[:] = 0
            view = HdrView(self.address + worker * self.stride)
            view.sum = view.largest = view.beyond = 0
            hdr.format_record(view.address, self.highest, self.digits)

    def arrays(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """(smallest, largest, count) of each slot, over all workers."""
        low, high = hdr.edges(len(self._counts[0]), self.digits)
        return low, high, self.snapshot().counts

    def stats(self) -> HistogramStats:
        """How many values, and between what."""
        now = self.snapshot()
        return HistogramStats(
            now.count, now.smallest, now.largest, now.beyond, self.workers, self.memory_bytes, self.pages
        )

    def __repr__(self) -> str:
        return f"<Histogram {self.name}: {len(self)} values>"


__all__ = ["Distribution", "Histogram", "HistogramStats"]

"""Reservoir: a fair sample of a stream of unknown length: each item of it is kept with the same probability.

::

    sample = ws.Reservoir(1000, workers=2)
    ...
    sample.add(pkt.ipv4.src)             # in a node
    sample.items()                       # in Python: at most 1000 items, over all workers

The item number ``n`` takes the place of a random one of the ``size`` kept with probability size / n (Vitter's
algorithm R): a random word, a product and a comparison, mostly. Random words are those of splitmix64, from a seed in
the record.

    offset  bytes       what (in each worker's copy)
    0       256         record (:class:`ReservoirView`)
    256     8 * size    the items, 64 bits each

Each worker samples what it sees into a copy of its own. :meth:`Reservoir.items` draws from the copies in proportion to
what each has seen, so that the union is a fair sample as well.

J. Vitter, "Random sampling with a reservoir", ACM TOMS 11(1), 1985; G. Steele, D. Lea and C. Flood, "Fast splittable
pseudorandom number generators", OOPSLA 2014 (splitmix64); D. Lemire, "Fast random integer generation in an interval",
ACM TOMACS 29(1), 2019.
"""

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wirespeed.errors import TableError
from wirespeed.hashes.splitmix64 import next_state, word_of
from wirespeed.jit import add, kernel, le64, load64, multiply, multiply_high, signed64, store64
from wirespeed.tables.sketch import DATA, Sketch, SketchView

MAX_SIZE: int = 1 << 30


class ReservoirView(SketchView):
    """One worker's sample."""

    size = le64(128, "items that are kept")
    seen = le64(136, "items there were")
    state = le64(144, "of the random words")
    SIZE = DATA

    def random(self) -> int:
        """64 random bits: splitmix64."""
        state = next_state(self.state)
        self.state = state
        return word_of(state)

    def add(self, item: int) -> int:
        """See an item; the place (0 to size - 1) it got in the sample, or -1."""
        seen = self.seen + 1
        self.seen = seen
        place = seen - 1
        if seen > self.size:
            place = multiply_high(self.random(), seen)
            if place >= self.size:
                return -1
        store64(self.address + DATA + (place << 3), item)
        return place


@kernel
def _add_rows(sample: int, address: int, count: int, stride: int, out: int) -> None:
    view = ReservoirView(sample)
    for i in range(count):
        store64(out + i * 8, view.add(load64(address + i * stride)))


@dataclass(frozen=True)
class ReservoirStats:
    """Items ``seen`` over all workers, how many are ``kept`` of at most ``size`` in a sample."""

    seen: int
    kept: int
    size: int
    workers: int
    memory_bytes: int
    pages: str


class Reservoir(Sketch):
    """A fair sample of ``size`` items (64 bits each) of all that were added; 8 bytes each and worker.

    Args:
        size: items of a sample.
        workers: how many add; each has a sample of its own.
        seed: of the random choices, for runs that can be repeated; secret by default.
        name: for other processes to attach it by.

    Raises:
        TableError: size or workers out of range.
        ArenaError: no memory, or the name is taken.
    """

    View = ReservoirView
    KIND = "reservoir"

    def __init__(self, size: int, workers: int = 1, seed: int | None = None, name: str | None = None) -> None:
        if not 1 <= size <= MAX_SIZE:
            raise TableError(f"{name or self.KIND}: a sample of {size} items is not possible: 1 to {MAX_SIZE}")
        self._begin(name, 8 * size, workers, 0, seed, items=size)
        self._attached()
        for worker, block in enumerate(self._blocks):
            block.size = size
            block.state = add(block.secret0, multiply(worker, block.secret1))

    def add(self, item: int) -> int:
        """See an item, as worker 0; the place it got in the sample, or -1."""
        self._check_writable()
        return int(self._blocks[0].add(signed64(item)))

    def add_many(self, items: NDArray[Any]) -> None:
        """See an array of items, as worker 0."""
        self._check_writable()
        self._bulk(_add_rows, items)

    @property
    def seen(self) -> int:
        """Items there were, over all workers."""
        return int(sum(block.seen for block in self._blocks))

    def items(self, seed: int | None = None) -> NDArray[np.int64]:
        """A fair sample of all that was seen by all workers: ``size`` items, or all there were.

        ``seed`` is of the choice between the workers' samples; secret by default.
        """
        size, choose = self.parameters["items"], random.Random(seed)
        counts = [int(block.seen) for block in self._blocks]
        copies = [
            self._items(block)[: min(count, size)].copy() for block, count in zip(self._blocks, counts, strict=True)
        ]
        if len(copies) == 1:
            return copies[0]
        take, left = [0] * len(copies), counts.copy()
        for _ in range(min(size, sum(counts))):
            at = choose.randrange(sum(left))
            worker = 0
            while at >= left[worker]:
                at -= left[worker]
                worker += 1
            take[worker] += 1
            left[worker] -= 1
        parts = [choose.sample(copy.tolist(), many) for copy, many in zip(copies, take, strict=True)]
        return np.array([item for part in parts for item in part], dtype=np.int64)

    def clear(self) -> None:
        """Begin anew; what workers add at the same moment may be lost."""
        self._check_writable()
        for block in self._blocks:
            block.seen = 0

    def __len__(self) -> int:
        return min(self.seen, self.parameters["items"])

    def stats(self) -> ReservoirStats:
        """How much was seen and kept."""
        return ReservoirStats(
            self.seen, len(self), self.parameters["items"], self.workers, self.memory_bytes, self.pages
        )

    def __repr__(self) -> str:
        return f"<Reservoir {self.name}: {len(self)} of {self.seen} items>"

    def _items(self, block: ReservoirView) -> NDArray[np.int64]:
        size = self.parameters["items"]
        return self._words(np.int64, block.address - self.address + DATA, size)


__all__ = ["Reservoir", "ReservoirStats", "ReservoirView"]

"""Distributor: spread flows over workers by load, and never let a flow be in two places at once.

Spreading by hash alone (RSS) puts two heavy flows on one worker and leaves another idle. Here a flow goes where its
last packet went while that is still being worked on; once nothing of it is in flight, it may move to the worker that
has least to do. So packets of a flow never overtake each other. (DPDK's rte_distributor has the same promise.)

::

    worker = spread.pick(flow_hash)          # the one that receives packets
    ...
    spread.done(worker, flow_hash)           # that worker, when it has finished with the packet

    0     record
    128   each worker's line: packets given to it (written by the picker)
          each worker's line: packets it has finished (written by the worker)
          flows: owner and packets given, 8 bytes each (written by the picker)
          each worker's flows: packets finished, 4 bytes each (written by the worker)

Flows are told apart by ``flows`` buckets of the hash; two flows in one bucket move together. One picker, any number of
workers, no locks: every line has one writer. O(workers) when a flow may move, else O(1). 8 + 4 * workers bytes a
bucket.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from wirespeed.errors import TableError
from wirespeed.jit import (
    View,
    kernel,
    le64,
    load32,
    load64,
    load_acquire,
    load_acquire32,
    store32,
    store64,
    store_release,
    store_release32,
)
from wirespeed.mem.shared import Shared
from wirespeed.mem.state import MAX_WORKERS

_HEAD, _LINE = 128, 128
MAX_FLOWS: int = 1 << 20


class DistributorView(View):
    """The tables as nodes see them."""

    mask = le64(0, "buckets - 1")
    workers = le64(8)
    given = le64(16, "offset of the workers' lines of packets given")
    finished = le64(24, "offset of the workers' lines of packets finished")
    flows = le64(32, "offset")
    answers = le64(40, "offset of the first worker's flows; the next follow, 4 bytes a bucket")
    moved = le64(48, "times a flow went to another worker")
    SIZE = _HEAD

    def pick(self, flow_hash: int) -> int:
        """The worker for a packet of this flow; count it as given. Only the one who receives packets calls this."""
        base = self.address
        bucket = flow_hash & self.mask
        flow = base + self.flows + (bucket << 3)
        owner, sent = load32(flow), load32(flow + 4)
        if owner == 0 or load_acquire32(self._answer(owner - 1, bucket)) == sent:
            best, least = 0, 1 << 62
            for worker in range(self.workers):
                load = self.load(worker)
                if load < least or (load == least and worker + 1 == owner):
                    best, least = worker, load
            if owner != 0 and best + 1 != owner:
                self.moved += 1
            owner = best + 1
            sent = load_acquire32(self._answer(best, bucket))
            store32(flow, owner)
        store32(flow + 4, sent + 1)
        line = base + self.given + (owner - 1) * _LINE
        store64(line, load64(line) + 1)
        return int(owner - 1)

    def done(self, worker: int, flow_hash: int) -> None:
        """Worker ``worker`` has finished with a packet of this flow: it has left, in order. No such worker: nothing."""
        if worker < 0 or worker >= self.workers:
            return
        answer = self._answer(worker, flow_hash & self.mask)
        line = self.address + self.finished + worker * _LINE
        store_release(line, load64(line) + 1)
        store_release32(answer, load32(answer) + 1)

    def load(self, worker: int) -> int:
        """Packets that a worker was given and has not finished."""
        finished = load_acquire(self.address + self.finished + worker * _LINE)
        return int(load64(self.address + self.given + worker * _LINE) - finished)

    def _answer(self, worker: int, bucket: int) -> int:
        return int(self.address + self.answers + ((worker * (self.mask + 1) + bucket) << 2))


@kernel
def _pick_many(address, hashes, picked):  # type: ignore[no-untyped-def]
    view = DistributorView(address)
    for i in range(len(hashes)):
        picked[i] = view.pick(int(hashes[i]))


@kernel
def _done_many(address, worker, hashes):  # type: ignore[no-untyped-def]
    view = DistributorView(address)
    for i in range(len(hashes)):
        view.done(worker, int(hashes[i]))


@dataclass(frozen=True)
class DistributorStats:
    """Packets given to each worker, those it has not finished, and how often a flow moved."""

    given: tuple[int, ...]
    loads: tuple[int, ...]
    moved: int
    flows: int
    memory_bytes: int
    pages: str


class Distributor(Shared):
    """Spreads flows over ``workers``.

    Args:
        workers: 1 to 64.
        flows: buckets, rounded up to a power of two, up to 2^20; several for each worker's flows in flight.
        name: under which other processes can attach it, workers of their own among them (``writable=True``).

    Raises:
        TableError: out of range.
    """

    View: ClassVar[type[DistributorView]] = DistributorView
    KIND = "distributor"
    ATTACH_WRITABLE = True

    def __init__(self, workers: int, flows: int = 4096, name: str | None = None) -> None:
        if not 1 <= workers <= MAX_WORKERS:
            raise TableError(f"{name or self.KIND}: {workers} workers are not possible: use 1 to {MAX_WORKERS}")
        if not 1 <= flows <= MAX_FLOWS:
            raise TableError(f"{name or self.KIND}: {flows} flows are not possible: use 1 to {MAX_FLOWS}")
        size = 1 << max((flows - 1).bit_length(), 5)  # workers' answers do not share a line
        finished = _HEAD + workers * _LINE
        table = finished + workers * _LINE
        answers = table + 8 * size
        self._create(answers + 4 * size * workers, name)
        self._attached()
        view = self._view
        view.mask, view.workers, view.given, view.finished = size - 1, workers, _HEAD, finished
        view.flows, view.answers = table, answers

    def _attached(self) -> None:
        self._view = DistributorView(self.address)

    def pick(self, flow_hash: int) -> int:
        """See :meth:`DistributorView.pick`."""
        self._check_writable()
        return int(self._view.pick(flow_hash))

    def pick_many(self, hashes: Any) -> NDArray[np.int64]:
        """A worker for each of an array of flow hashes."""
        self._check_writable()
        wanted = np.ascontiguousarray(hashes, dtype=np.int64)
        picked = np.empty(wanted.size, dtype=np.int64)
        _pick_many(self.address, wanted.ravel(), picked)
        return picked

    def done(self, worker: int, flow_hash: int) -> None:
        """See :meth:`DistributorView.done`. Raises TableError: no such worker."""
        self._check_worker(worker)
        self._view.done(worker, flow_hash)

    def done_many(self, worker: int, hashes: Any) -> None:
        """A worker has finished with packets of these flows. Raises TableError: no such worker."""
        self._check_worker(worker)
        _done_many(self.address, worker, np.ascontiguousarray(hashes, dtype=np.int64).ravel())

    def load(self, worker: int) -> int:
        """Packets that a worker was given and has not finished. Raises TableError: no such worker."""
        self._check_worker(worker, write=False)
        return int(self._view.load(worker))

    def stats(self) -> DistributorStats:
        """What each worker was given, and has not finished."""
        workers = range(self._view.workers)
        given = tuple(int(load64(self.address + _HEAD + worker * _LINE)) for worker in workers)
        loads = tuple(self.load(worker) for worker in workers)
        return DistributorStats(given, loads, self._view.moved, self._view.mask + 1, self.memory_bytes, self.pages)

    def _check_worker(self, worker: int, write: bool = True) -> None:
        if write:
            self._check_writable()
        if not 0 <= worker < self._view.workers:
            raise TableError(f"{self.name}: worker {worker} is out of range: 0 to {self._view.workers - 1}")

    def __repr__(self) -> str:
        return f"<Distributor {self.name}: {self._view.workers} workers, {self._view.mask + 1} flows>"

"""State that nodes hold: counters and per-worker variables, live from Python while the graph runs.

Each worker writes its own cache lines and nobody else's; Python reads (and sums) them at any time without
stopping anybody. A node uses the object by name; the loop gets its address::

    queries = ws.counter()
    last = ws.per_worker(seen=0, longest=0)

    @ws.node
    def look(pkt):
        queries.add(1)
        last.seen += 1
        last.longest = max(last.longest, pkt.length)

    queries.value            # from Python: all workers together
    last.longest             # a list, one number a worker
"""

import keyword
import weakref
from dataclasses import dataclass
from typing import Any

from wirespeed.errors import TableError
from wirespeed.jit import View, fields, le64
from wirespeed.mem.region import Region
from wirespeed.mem.shared import Shared

MAX_WORKERS: int = 64
"""Workers that can have state of their own."""

_LINE = 64


class CounterView(View):
    """One worker's counter."""

    count = le64(0)
    SIZE = _LINE

    def add(self, amount: int = 1) -> None:
        """Count."""
        self.count += amount


@dataclass(frozen=True)
class CounterStats:
    """The sum, and what each worker counted."""

    value: int
    by_worker: tuple[int, ...]


class Counter(Shared):
    """A number that nodes add to. Made by ``ws.counter()``; with a name, other processes can attach it."""

    View = CounterView
    KIND = "counter"
    stride = _LINE

    def __init__(self, name: str | None = None) -> None:
        self._create(MAX_WORKERS * _LINE, name)

    def add(self, amount: int = 1) -> None:
        """Count, from plain Python (a trace): as worker 0."""
        self._check_writable()
        CounterView(self.address).add(amount)

    @property
    def value(self) -> int:
        """The sum over all workers, now."""
        return sum(self.by_worker)

    @property
    def by_worker(self) -> list[int]:
        """Each worker's count; trailing workers that counted nothing are left out."""
        counts = [CounterView(self.address + index * _LINE).count for index in range(MAX_WORKERS)]
        while len(counts) > 1 and not counts[-1]:
            counts.pop()
        return counts

    def stats(self) -> CounterStats:
        """The count now."""
        by_worker = self.by_worker
        return CounterStats(sum(by_worker), tuple(by_worker))

    def reset(self) -> None:
        """Back to zero. What workers add at the same moment may be lost."""
        self._check_writable()
        for index in range(MAX_WORKERS):
            CounterView(self.address + index * _LINE).count = 0

    def __int__(self) -> int:
        return self.value

    def __repr__(self) -> str:
        return f"<counter {self.name}: {self.value}>"


counter = Counter


class PerWorker:
    """Variables of which each worker has its own. Made by ``ws.per_worker(name=initial, ...)``."""

    View: type[View]

    def __new__(cls, **initial: int) -> "PerWorker":
        """Each set of names is a class of its own: that is what the compiler goes by."""
        if not initial:
            raise TableError("per_worker() without variables: name some with their first values, per_worker(seen=0)")
        mean = {*dir(PerWorker), *dir(View), "View", "address", "stride", "workers"}
        taken = [n for n in initial if n in mean or n[0] == "_" or not n.isidentifier() or keyword.iskeyword(n)]
        if taken:
            raise TableError(f"per_worker({taken[0]}=...) cannot be called that; choose another name")
        words: dict[str, Any] = {name: le64(index * 8) for index, name in enumerate(initial)}
        size = -(-8 * len(initial) // _LINE) * _LINE
        view = type("PerWorkerView", (View,), {**words, "SIZE": size})
        kind = type("PerWorker", (PerWorker,), {"View": view, "stride": size})
        return object.__new__(kind)

    stride: int

    def __init__(self, **initial: int) -> None:
        self.__dict__["_region"] = Region(MAX_WORKERS * self.stride, "wirespeed-per-worker", huge=False)
        weakref.finalize(self, self._region.close)
        self.__dict__["address"] = self._region.address
        self.__dict__["_names"] = tuple(initial)
        for worker in range(MAX_WORKERS):
            for name, value in initial.items():
                setattr(self[worker], name, value)
        self.__dict__["workers"] = 1

    def prepare(self, workers: int) -> None:
        """The engine's word before a start: how many workers have variables to show."""
        self.__dict__["workers"] = workers

    def __getitem__(self, worker: int) -> Any:
        """One worker's variables, as a view: read and write them by name."""
        if not 0 <= worker < MAX_WORKERS:
            raise IndexError(f"worker {worker} is not one of 0 to {MAX_WORKERS - 1}")
        return self.View(self.address + worker * self.stride)

    def __getattr__(self, name: str) -> Any:
        self._check(name)
        if fields.touched is not None:  # a node is being traced: it is worker 0
            return getattr(self[0], name)
        return [getattr(self[worker], name) for worker in range(self.workers)]

    def __setattr__(self, name: str, value: int) -> None:
        self._check(name)
        if fields.touched is None:
            raise AttributeError(f"each worker has its own {name}: set one, per_worker[worker].{name} = {value!r}")
        setattr(self[0], name, value)

    def _check(self, name: str) -> None:
        names = self.__dict__.get("_names", ())
        if name not in names:
            raise AttributeError(f"per_worker() has no variable {name!r}; it has {', '.join(names)}")

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)}" for name in self._names)
        return f"<per worker: {shown}>"


per_worker = PerWorker

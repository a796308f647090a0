"""Section: what a part of a node costs, in TSC cycles, per worker.

::

    lookup = ws.Section("lookup")

    @ws.node
    def route(pkt):
        lookup.begin()
        hop = fib.lookup(pkt.ipv4.dst)
        lookup.end()
        ...

    lookup.stats().cycles_per_call

Each worker writes a line of its own (:class:`SectionView`). Reading the counter costs some 10 to 20 cycles at either
end, and keeps the compiler's and the core's work on different packets apart: a section shows where time goes, the sum
of sections is more than the whole. What whole nodes cost, with instructions and cache misses, the profile shows without
any of this.

    offset  bytes  what
    0       8      the counter at begin(), 0 outside
    8       8      calls
    16      8      cycles, of all calls
    24      8      cycles of the longest call
"""

from dataclasses import dataclass
from types import TracebackType
from typing import Any

from wirespeed.jit import View, cycles, kernel, le64
from wirespeed.mem.shared import Shared
from wirespeed.mem.state import MAX_WORKERS

_LINE = 64
_CONTROL = MAX_WORKERS  # the line after the workers' is for ``with section:`` in control code


class SectionView(View):
    """One worker's part."""

    begun = le64(0, "the counter at begin(), 0 outside")
    calls = le64(8)
    total = le64(16, "cycles of all calls")
    longest = le64(24, "cycles of the longest call")
    SIZE = _LINE

    def begin(self) -> None:
        """The part begins."""
        self.begun = cycles()

    def end(self) -> None:
        """The part ends. Without a beginning it does nothing."""
        begun = self.begun
        if begun != 0:
            spent = cycles() - begun
            self.begun = 0
            self.calls += 1
            self.total += spent
            if spent > self.longest:
                self.longest = spent


@kernel
def _begin(address: int) -> None:
    SectionView(address).begin()


@kernel
def _end(address: int) -> None:
    SectionView(address).end()


@dataclass(frozen=True)
class SectionStats:
    """``calls`` and TSC ``cycles`` of all workers, ``longest_cycles`` of one call; cycles of each worker."""

    calls: int
    cycles: int
    longest_cycles: int
    by_worker: tuple[int, ...]

    @property
    def cycles_per_call(self) -> float:
        """Cycles of a call on average; 0.0 if there was none."""
        return self.cycles / self.calls if self.calls else 0.0


class Section(Shared):
    """A part of a node to be timed: ``begin()`` and ``end()`` in the node, ``with section:`` in control code,
    by one thread at a time. With a name, other processes can attach it.
    """

    View = SectionView
    KIND = "section"
    stride = _LINE

    def __init__(self, name: str | None = None) -> None:
        self._create((MAX_WORKERS + 1) * _LINE, name)

    def begin(self) -> None:
        """The part begins, in a node that runs as plain Python: as worker 0."""
        self._check_writable()
        _begin(self.address)

    def end(self) -> None:
        """The part ends, in a node that runs as plain Python."""
        self._check_writable()
        _end(self.address)

    def __enter__(self) -> Any:
        self._check_writable()
        _begin(self.address + _CONTROL * _LINE)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _end(self.address + _CONTROL * _LINE)

    def stats(self) -> SectionStats:
        """What it has cost so far."""
        lines = [SectionView(self.address + index * _LINE) for index in range(MAX_WORKERS + 1)]
        each = [line.total for line in lines[:MAX_WORKERS]]
        while len(each) > 1 and not each[-1]:
            each.pop()
        return SectionStats(
            sum(line.calls for line in lines),
            sum(line.total for line in lines),
            max(line.longest for line in lines),
            tuple(each),
        )

    def reset(self) -> None:
        """Back to zero. What workers add at the same moment may be lost."""
        self._check_writable()
        for index in range(MAX_WORKERS + 1):
            line = SectionView(self.address + index * _LINE)
            line.calls, line.total, line.longest = 0, 0, 0

    def __repr__(self) -> str:
        found = self.stats()
        return f"<section {self.name}: {found.calls} calls of {found.cycles_per_call:.0f} cycles>"

"""What did this piece of a program cost? ``with ws.perf() as p:``, then ``p.cycles``, ``p.instructions``, ...

::

    with ws.perf() as p:
        fib.lookup_many(addresses)
    p.cycles, p.instructions, p.ipc, p.cache_misses, p.branch_misses

Of the calling thread, in user space, on whichever cores it runs. Where the machine has no counters these are None and
``p.why_not`` says why and what would help (see :mod:`wirespeed.eal.perf`); ``p.tsc_cycles`` and ``p.ns`` are
always there. In nodes, :class:`wirespeed.mem.section.Section` does it.

Opening the counters costs some 10 us, before what is measured; a reading some 100 ns inside it. Measure thousands
of operations.
"""

from types import TracebackType

from wirespeed.eal.perf import PerfCounters, Sample


class Perf:
    """The counters of a piece of code. Made by ``ws.perf()``; may be used again, and read inside.

    Args:
        tid: another thread's kernel id (``threading.get_native_id()``); 0 is the calling one.
    """

    def __init__(self, tid: int = 0) -> None:
        from wirespeed.jit import tsc

        self._tid, self._tsc = tid, tsc
        self._counters: PerfCounters | None = None
        self._spent = Sample()
        self._begun = Sample()
        self._begun_cycles = self._spent_cycles = 0
        self.why_not = "nothing has been measured yet: with ws.perf() as p: ..."

    def __enter__(self) -> "Perf":
        self._tsc()  # a first call may compile
        self._counters = PerfCounters.open(self._tid)
        self.why_not = self._counters.reason
        self._begun = self._counters.read()
        self._begun_cycles = self._tsc()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._read()
        assert self._counters is not None
        self._counters.close()
        self._counters = None

    def _read(self) -> Sample:
        """What was spent: up to now inside, in all after it."""
        if self._counters is not None:
            self._spent_cycles = self._tsc() - self._begun_cycles
            self._spent = self._counters.read() - self._begun
        return self._spent

    @property
    def tsc_cycles(self) -> int:
        """Cycles of the time-stamp counter: time, whatever the core did."""
        self._read()
        return self._spent_cycles

    @property
    def ns(self) -> int:
        """Nanoseconds."""
        from wirespeed.eal.clock import cycles_to_ns

        return cycles_to_ns(self.tsc_cycles)

    @property
    def cycles(self) -> int | None:
        """Cycles of the core, which run faster or slower than the TSC's; None without counters."""
        return self._read().cycles

    @property
    def instructions(self) -> int | None:
        """Instructions completed; None without counters."""
        return self._read().instructions

    @property
    def ipc(self) -> float | None:
        """Instructions for each core cycle; None without counters."""
        return self._read().instructions_per_cycle

    @property
    def cache_misses(self) -> int | None:
        """Accesses that missed the last-level cache (what exactly, the CPU decides); None without counters."""
        return self._read().cache_misses

    @property
    def branch_misses(self) -> int | None:
        """Branches that were guessed wrong; None without counters."""
        return self._read().branch_misses

    def __repr__(self) -> str:
        sample = self._read()
        names = ("cycles", "instructions", "cache_misses", "branch_misses")
        shown = [f"{name} {value:,}" for name in names if (value := getattr(sample, name)) is not None]
        return f"<perf: {self._spent_cycles:,} TSC cycles; {', '.join(shown) or self.why_not}>"


perf = Perf

"""What does a quiescent state cost a worker, and a grace period control code? Beside rte_rcu_qsbr.

``rcu_qsbr_perf_autotest`` wants three lcores: a main one, which only waits, and two that work. On two cores the
main one shares a core and is made to give way (SCHED_IDLE). Its rows are

- readers alone: ``rte_rcu_qsbr_quiescent`` 100 million times on each of two cores. Ours is the same loop;
- one reader and one writer: the writer starts a grace period and waits for it, 20 million times, while the reader
  reports quiescent states without a pause. Ours is the same in a kernel: ask, fence, look until answered.

What bounds them. A quiescent state that nobody asked for is two loads from lines the core has and a compare:
one or two cycles; rte_rcu_qsbr_quiescent loads the token and always compares and may store, the same. A grace
period is two moves of a line between cores, there (the question) and back (the answer): some 200 to 400 cycles.
"""

import threading
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from statistics import mean

from wirespeed.bench.dpdk_test import figures, peer, recall, section
from wirespeed.bench.errors import BenchError
from wirespeed.bench.pairing import interleave
from wirespeed.bench.result import Row
from wirespeed.bench.settings import Settings
from wirespeed.eal import cores
from wirespeed.jit import cycles, fence, kernel, load_acquire, store_release
from wirespeed.mem.region import Region
from wirespeed.sync.barrier import BarrierView, format_barrier
from wirespeed.sync.rcu import _ANSWERED, Slot, format_slot, offline, online, quiescent
from wirespeed.sync.waiting import wait_a_little

AUTOTEST = "rcu_qsbr_perf_autotest"
_PATIENCE_S = 90.0

Tell = Callable[[str], None]


@kernel
def report(slot: int, start: int, rounds: int) -> int:
    """Cycles of ``rounds`` quiescent states of a worker."""
    online(slot)
    BarrierView(start).wait()
    begin = cycles()
    for _ in range(rounds):
        quiescent(slot)
    spent = cycles() - begin
    offline(slot)
    return spent


@kernel
def report_until(slot: int, start: int, stop: int) -> int:
    """Quiescent states of a worker until told to stop."""
    online(slot)
    BarrierView(start).wait()
    while load_acquire(stop) == 0:
        quiescent(slot)
    offline(slot)
    return 0


@kernel
def ask_and_wait(slot: int, start: int, stop: int, rounds: int) -> int:
    """Cycles of ``rounds`` grace periods of one worker; then tells it to stop."""
    BarrierView(start).wait()
    begin = cycles()
    for period in range(2, rounds + 2):
        store_release(slot, period)
        fence()
        spins = 0
        while 0 < load_acquire(slot + _ANSWERED) < period:
            spins = wait_a_little(spins)
    spent = cycles() - begin
    store_release(stop, 1)
    return spent


def rows(settings: Settings, tell: Tell) -> Sequence[Row]:
    """Measure every row."""
    usable = cores.allowed()
    pair = (usable[-1], usable[0])
    with Region(4096, "bench-rcu", huge=False) as region:
        bench = _Bench(region.address, pair, settings, tell)
        found = [bench.row("quiescent state, nobody asks", bench.readers, r"Perf Test: \d Readers$", "updates")]
        if len(usable) > 1:
            found.append(bench.row("grace period of one worker", bench.writer, "1 Readers/1 Writer", "checks"))
        else:
            settings.notes.append("one core only: the row of a grace period is left out")
    return found


class _Bench:
    def __init__(self, memory: int, places: tuple[int, int], settings: Settings, tell: Tell) -> None:
        self.memory, self.places, self.settings, self.tell = memory, places, settings, tell
        self.rounds = 20_000 if settings.quick else 200_000

    def row(self, metric: str, ours: Callable[[], float], part: str, what: str) -> Row:
        """The row beside the autotest, or alone if that does not come to an end here."""
        turns = count()

        def theirs() -> float:
            text = recall(
                AUTOTEST, next(turns), cores=(self.places[0], self.places[1], self.places[0]), idle_main=True,
                memory_mib=256, until=r"^Perf test: \d+ Writers", timeout_s=_PATIENCE_S,
            )  # fmt: skip
            return figures(section(text, part), cost=rf"Cycles per 1000 .*{what}: (\d+)")["cost"] / 1000

        def measure(beside: Callable[[], float] | None) -> Row:
            paired = interleave(
                ours,
                beside,
                self.settings.pairs,
                warmup=0 if self.settings.quick else 1,
                progress=lambda done, wanted, text: self.tell(f"{metric}: pair {done}/{wanted} {text}"),
                lower_is_better=True,
            )
            self.settings.notes.append(f"{metric}: {paired.note}")
            return Row.of("rcu", metric, "cycles", paired, peer(AUTOTEST) if beside else None)

        if not self.settings.peer or self.settings.quick:
            return measure(None)
        try:
            return measure(theirs)
        except BenchError as error:
            self.settings.notes.append(f"{metric}: without the peer, which is of no use here: {error}")
            return measure(None)

    def readers(self) -> float:
        """Cycles of a quiescent state, mean of the cores."""
        slots = [format_slot(self.memory + 1024 + index * Slot.SIZE).address for index in (0, 1)]
        rounds = self.rounds * 50
        spent = self._together([partial(report, slot, self.memory, rounds) for slot in slots])
        return mean(spent) / rounds

    def writer(self) -> float:
        """Cycles of a grace period."""
        slot = format_slot(self.memory + 1024).address
        stop = self.memory + 512
        store_release(stop, 0)
        work = [
            partial(ask_and_wait, slot, self.memory, stop, self.rounds),
            partial(report_until, slot, self.memory, stop),
        ]
        return max(self._together(work)) / self.rounds

    def _together(self, work: Sequence[Callable[[], int]]) -> list[int]:
        """What each returned, each on a core of its own (if there are as many), all from the same moment on."""
        format_barrier(self.memory, len(work))
        results: list[int] = []

        def on(core: int, each: Callable[[], int]) -> None:
            before = cores.pin(core)
            try:
                results.append(each())
            finally:
                cores.unpin(before)

        threads = [threading.Thread(target=on, args=pair) for pair in zip(self.places, work, strict=True)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results

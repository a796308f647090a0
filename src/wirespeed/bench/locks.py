"""What does a lock cost, with a core of its own and between two cores? Beside rte_spinlock, rte_ticketlock, rte_rwlock.

The same loops as in ``spinlock_autotest``, ``ticketlock_autotest`` and ``rwlock_test1_autotest``: 10,000 times lock,
count, unlock (the reader-writer lock: write, count, done, read, done, pause), alone and on both cores at once. The
figure is cycles for each turn of the loop on each core. Ours are the calls that nodes make: they also look up
who they are (a load), so that a holder that dies can be told.

What bounds them. Alone: the locked instruction, which waits until older stores have left the store buffer; the
rest overlaps. A spin lock and a ticket lock have one each (giving back is a plain store), a reader-writer lock four for
both halves. Between two cores: the line with the lock moves for each change of holder, some 100 to 200 cycles within a
chip. So whoever waits longer between two looks leaves the holder more turns without a move: a lower cost for each,
and less fairness. A ticket lock changes holders at each turn: it is bound by the move.
"""

import threading
from collections.abc import Callable, Sequence
from itertools import count
from statistics import mean, median

from wirespeed.bench.dpdk_test import figures, peer, recall
from wirespeed.bench.pairing import interleave
from wirespeed.bench.result import Row
from wirespeed.bench.settings import Settings
from wirespeed.eal import cores
from wirespeed.eal.clock import tsc_hz
from wirespeed.jit import cycles, kernel, load64, load_relaxed, pause, store64
from wirespeed.mem.locks import RwLock, RwUser, SpinLock, SpinUser, TicketLock, TicketUser
from wirespeed.mem.region import Region
from wirespeed.sync.barrier import BarrierView, format_barrier
from wirespeed.sync.seqlock import SeqLockView

ROUNDS = 10_000
"""Turns of the loop: MAX_LOOP of DPDK's tests."""
_REPEATS = 15

Tell = Callable[[str], None]
Work = Callable[[int, int, int, int], int]


@kernel
def spin(lock: int, word: int, start: int, rounds: int) -> int:
    """Cycles of ``rounds`` turns."""
    BarrierView(start).wait()
    begin = cycles()
    for _ in range(rounds):
        SpinUser(lock).lock()
        store64(word, load64(word) + 1)
        SpinUser(lock).unlock()
    return cycles() - begin


@kernel
def ticket(lock: int, word: int, start: int, rounds: int) -> int:
    """Cycles of ``rounds`` turns."""
    BarrierView(start).wait()
    begin = cycles()
    for _ in range(rounds):
        TicketUser(lock).lock()
        store64(word, load64(word) + 1)
        TicketUser(lock).unlock()
    return cycles() - begin


@kernel
def read_write(lock: int, word: int, start: int, rounds: int) -> int:
    """Cycles of ``rounds`` turns, each a write and a read."""
    BarrierView(start).wait()
    begin = cycles()
    for _ in range(rounds):
        RwUser(lock).lock()
        store64(word, load64(word) + 1)
        RwUser(lock).unlock()
        RwUser(lock).read_lock()
        RwUser(lock).read_unlock()
        pause()
    return cycles() - begin


@kernel
def sequence(lock: int, word: int, start: int, rounds: int) -> int:
    """Cycles of reading four words ``rounds`` times under a sequence lock."""
    BarrierView(start).wait()
    total = 0
    begin = cycles()
    for _ in range(rounds):
        read = 0
        while True:
            before = SeqLockView(lock).read_begin()
            read = load_relaxed(word) + load_relaxed(word + 8) + load_relaxed(word + 16) + load_relaxed(word + 24)
            if SeqLockView(lock).read_retry(before) == 0:
                break
        total += read
    spent = cycles() - begin
    store64(word + 64, total)
    return spent


@kernel
def meeting(barrier: int, word: int, start: int, rounds: int) -> int:
    """Cycles of meeting the others ``rounds`` times."""
    BarrierView(start).wait()
    begin = cycles()
    for _ in range(rounds):
        BarrierView(barrier).wait()
    return cycles() - begin


def rows(settings: Settings, tell: Tell) -> Sequence[Row]:
    """Measure every row."""
    usable = cores.allowed()
    pair = (usable[-1], usable[0])
    found = []
    with Region(1 << 16, "bench-locks", huge=False) as region:
        kinds = (
            ("spin lock", SpinLock, spin, "spinlock_autotest", 1),
            ("ticket lock", TicketLock, ticket, "ticketlock_autotest", 1),
            ("reader-writer lock, write and read", RwLock, read_write, "rwlock_test1_autotest", 0),
        )
        for metric, kind, work, autotest, alone in kinds:
            lock = kind()
            places = [lock.address + index * lock.stride for index in (0, 1)]
            one = _Bench(work, places[:1], pair[:1], region.address, settings, tell)
            found.append(
                one.row(f"{metric}, one core", autotest if alone else None, r"ore \[0\] [Cc]ost [Tt]ime = (\d+)")
            )
            if len(usable) > 1:
                two = _Bench(work, places, pair, region.address, settings, tell)
                found.append(two.row(f"{metric}, two cores", autotest, r"(?s)on 2 cores.*otal [Cc]ost [Tt]ime = (\d+)"))
            lock.close()
        bare = region.address + 4096
        one = _Bench(sequence, [bare], pair[:1], region.address, settings, tell)
        found.append(one.row("sequence lock, read 4 words, one core"))
        if len(usable) > 1:
            format_barrier(bare, 2)
            two = _Bench(meeting, [bare, bare], pair, region.address, settings, tell)
            two.rounds //= 10  # a thousand meetings: each is two moves of a line, at least
            found.append(two.row("barrier, two cores"))
        else:
            settings.notes.append("one core only: rows of two cores are left out")
    return found


class _Bench:
    """One loop on some cores at once, beside an autotest."""

    def __init__(
        self, work: Work, locks: list[int], places: tuple[int, ...], memory: int, settings: Settings, tell: Tell
    ) -> None:
        self.work, self.locks, self.places, self.memory = work, locks, places, memory
        self.settings, self.tell = settings, tell
        self.rounds = ROUNDS // 10 if settings.quick else ROUNDS
        self.repeats = 3 if settings.quick else _REPEATS

    def row(self, metric: str, autotest: str | None = None, pattern: str = "") -> Row:
        """The row; without an autotest, or without a peer asked for, ours alone."""
        turns = count()
        beside = autotest if self.settings.peer else None

        def theirs() -> float:
            text = recall(autotest or "", next(turns), memory_mib=64, timeout_s=120)
            if "single core" in text and len(self.places) == 1:
                text = text[text.index("with lock on single core") :]
            us = figures(text, time=pattern)["time"]
            return us * 1e-6 * tsc_hz() / ROUNDS / len(self.places)

        paired = interleave(
            self.turn,
            theirs if beside else None,
            self.settings.pairs,
            warmup=0 if self.settings.quick else 1,
            progress=lambda done, wanted, text: self.tell(f"{metric}: pair {done}/{wanted} {text}"),
            lower_is_better=True,
        )
        self.settings.notes.append(f"{metric}: {paired.note}")
        return Row.of("locks", metric, "cycles", paired, peer(autotest) if beside and autotest else None)

    def turn(self) -> float:
        """Cycles of one turn of the loop on each core: the median of some repeats."""
        return median(self._once() for _ in range(self.repeats))

    def _once(self) -> float:
        format_barrier(self.memory, len(self.places))
        spent: list[int] = []

        def on(core: int, lock: int) -> None:
            before = cores.pin(core)
            try:
                spent.append(self.work(lock, self.memory + 1024, self.memory, self.rounds))
            finally:
                cores.unpin(before)

        threads = [threading.Thread(target=on, args=each) for each in zip(self.places, self.locks, strict=True)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return mean(spent) / self.rounds

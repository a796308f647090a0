"""Locks, sequence lock and barrier by address: alone, and between threads that count what must come out exact."""

import os
import threading

import pytest

from wirespeed.errors import TableError
from wirespeed.jit import COMPILED, getpid, gettid, kernel, load64, load_acquire, store64, store_release
from wirespeed.mem.region import Region
from wirespeed.sync.barrier import BarrierView, format_barrier
from wirespeed.sync.rwlock import READER, WAITING, WRITER, RwLockView
from wirespeed.sync.seqlock import SeqLockView
from wirespeed.sync.spinlock import SpinLockView
from wirespeed.sync.ticketlock import TicketLockView
from wirespeed.sync.waiting import identity, process_of, thread_of, wait_a_little

ROUNDS = 200_000 if COMPILED else 300
RECORD = 256  # where what a lock protects lies, from the lock
LOCK, UNLOCK, TRY, BREAK, READ, READ_DONE, TRY_READ, DRAW, SKIP = range(9)


@kernel
def spin(at, what, who):
    lock = SpinLockView(at)
    if what == LOCK:
        lock.lock(who)
    elif what == UNLOCK:
        lock.unlock()
    elif what == TRY:
        return lock.try_lock(who)
    else:
        return lock.break_from(who)
    return 0


@kernel
def ticket(at, what, who):
    lock = TicketLockView(at)
    if what == LOCK:
        lock.lock(who)
    elif what == UNLOCK:
        lock.unlock()
    elif what == TRY:
        return lock.try_lock(who)
    elif what == DRAW:
        return lock.draw()
    elif what == SKIP:
        return lock.skip(who)
    else:
        return lock.break_from(who)
    return 0


@kernel
def rw(at, what, who):
    lock = RwLockView(at)
    if what == LOCK:
        lock.lock(who)
    elif what == UNLOCK:
        lock.unlock(lock.holder)
    elif what == TRY:
        return lock.try_lock(who)
    elif what == READ:
        lock.read_lock()
    elif what == READ_DONE:
        lock.read_unlock()
    elif what == TRY_READ:
        return lock.try_read_lock()
    else:
        return lock.break_from(who)
    return 0


@kernel
def seq(at, what, who):
    lock = SeqLockView(at)
    if what == LOCK:
        lock.lock(who)
    elif what == UNLOCK:
        lock.unlock()
    elif what == TRY:
        return lock.try_lock(who)
    elif what == READ:
        return lock.read_begin()
    elif what == READ_DONE:
        return lock.read_retry(who)
    else:
        return lock.break_from(who)
    return 0


@kernel
def count_spin(at, rounds):
    me = identity()
    for _ in range(rounds):
        SpinLockView(at).lock(me)
        store64(at + RECORD, load64(at + RECORD) + 1)
        SpinLockView(at).unlock()


@kernel
def count_ticket(at, rounds):
    me = identity()
    for _ in range(rounds):
        TicketLockView(at).lock(me)
        store64(at + RECORD, load64(at + RECORD) + 1)
        TicketLockView(at).unlock()


@kernel
def count_rw(at, rounds):
    """Write, then read: two words that a writer changes one after the other are equal to every reader."""
    me = identity()
    unequal = 0
    for _ in range(rounds):
        RwLockView(at).lock(me)
        store64(at + RECORD, load64(at + RECORD) + 1)
        store64(at + RECORD + 64, load64(at + RECORD + 64) + 1)
        RwLockView(at).unlock(me)
        RwLockView(at).read_lock()
        unequal += load64(at + RECORD) != load64(at + RECORD + 64)
        RwLockView(at).read_unlock()
    return unequal


@kernel
def count_seq(at, rounds):
    me = identity()
    for _ in range(rounds):
        SeqLockView(at).lock(me)
        for word in range(8):
            store64(at + RECORD + word * 64, load64(at + RECORD + word * 64) + 1)
        SeqLockView(at).unlock()


@kernel
def read_seq(at, stop):
    """Read the eight words until told to stop; how often they were not equal, or went back."""
    bad = 0
    latest = 0
    while load_acquire(stop) == 0:
        begun = SeqLockView(at).read_begin()
        first = load64(at + RECORD)
        differ = 0
        for word in range(1, 8):
            differ += load64(at + RECORD + word * 64) != first
        if SeqLockView(at).read_retry(begun) == 0:
            bad += differ + (first < latest)
            latest = first
    return bad


@kernel
def meet(at, mine, others, count, rounds):
    """Each raises its word, meets the others, and looks whether all have; how often one had not."""
    bad = 0
    for turn in range(1, rounds + 1):
        store_release(mine, turn)
        BarrierView(at).wait()
        for i in range(count):
            bad += load_acquire(others + i * 64) < turn
        BarrierView(at).wait()
    return bad


@kernel
def wait_once(at):
    return BarrierView(at).wait()


@kernel
def who():
    return identity()


@kernel
def ask():
    return getpid(), gettid()


@kernel
def long_wait(steps):
    spins = 0
    for _ in range(steps):
        spins = wait_a_little(spins)
    return spins


@pytest.fixture
def at():
    with Region(4096, "test-locks", huge=False) as region:
        yield region.address


def together(count, work, *arguments):
    """Run ``work`` in ``count`` threads at once; what each returned."""
    results = []
    threads = [threading.Thread(target=lambda: results.append(work(*arguments))) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_a_thread_knows_itself():
    assert tuple(ask()) == (os.getpid(), threading.get_native_id())
    mine = who()
    assert (process_of(mine), thread_of(mine)) == (os.getpid(), threading.get_native_id())
    assert len({mine, *together(2, who)}) >= 2


def test_waiting_is_bounded():
    steps = 2048 + 64
    assert long_wait(steps) == steps
    assert long_wait(steps + 2) == steps  # from here on it sleeps


@pytest.mark.parametrize("lock", [spin, ticket, rw, seq])
def test_one_at_a_time(at, lock):
    lock(at, LOCK, 7)
    assert lock(at, TRY, 8) == 0
    lock(at, UNLOCK, 0)
    assert lock(at, TRY, 8) == 1
    assert lock(at, TRY, 7) == 0
    lock(at, UNLOCK, 0)
    assert lock(at, TRY, 7) == 1


@pytest.mark.parametrize("lock", [spin, ticket, rw, seq])
def test_only_its_holder_loses_it(at, lock):
    assert lock(at, BREAK, 7) == 0
    lock(at, LOCK, 7)
    assert lock(at, BREAK, 0) == 0
    assert lock(at, BREAK, 8) == 0
    assert lock(at, TRY, 8) == 0
    assert lock(at, BREAK, 7) == 1
    assert lock(at, BREAK, 7) == 0
    assert lock(at, TRY, 8) == 1


def test_a_dead_ones_ticket_is_skipped_when_its_turn_comes(at):
    ticket(at, LOCK, 7)
    dead = ticket(at, DRAW, 0)
    assert ticket(at, SKIP, dead) == 0
    assert ticket(at, SKIP, dead + 1) == 0  # nobody has drawn it
    ticket(at, UNLOCK, 0)
    assert ticket(at, TRY, 8) == 0
    assert ticket(at, SKIP, dead) == 1
    assert ticket(at, SKIP, dead) == 0
    assert ticket(at, TRY, 8) == 1


def test_readers_share_and_a_waiting_writer_goes_first(at):
    rw(at, READ, 0)
    assert rw(at, TRY_READ, 0) == 1
    assert RwLockView(at).readers == 2
    assert rw(at, TRY, 7) == 0
    store64(at, load64(at) | WAITING)
    assert rw(at, TRY_READ, 0) == 0
    assert load64(at) == 2 * READER | WAITING
    rw(at, READ_DONE, 0)
    rw(at, READ_DONE, 0)
    assert rw(at, TRY, 7) == 1
    assert load64(at) == 7 * WRITER
    assert RwLockView(at).holder == 7
    assert rw(at, TRY_READ, 0) == 0
    rw(at, UNLOCK, 0)
    assert load64(at) == 0


def test_a_writer_that_ended_while_waiting_stops_no_reader(at):
    rw(at, READ, 0)
    store64(at, load64(at) | WAITING)
    assert rw(at, BREAK, 7) == 0
    assert rw(at, TRY_READ, 0) == 1


def test_a_sequence_tells_what_came_between(at):
    begun = seq(at, READ, 0)
    assert seq(at, READ_DONE, begun) == 0
    seq(at, LOCK, 7)
    assert seq(at, READ_DONE, begun) == 1
    seq(at, UNLOCK, 0)
    assert seq(at, READ_DONE, begun) == 1
    assert seq(at, READ, 0) == begun + 2


@pytest.mark.parametrize("work", [count_spin, count_ticket], ids=["spin", "ticket"])
@pytest.mark.parametrize("threads", [2, 3])
def test_threads_count_exactly(at, work, threads):
    rounds = ROUNDS if work is count_spin else ROUNDS // 20  # a ticket of one that lost its core holds up all
    together(threads, work, at, rounds)
    assert load64(at + RECORD) == threads * rounds


def test_readers_never_see_half_a_write_and_writers_count_exactly(at):
    assert together(2, count_rw, at, ROUNDS // 4) == [0, 0]
    assert load64(at + RECORD) == load64(at + RECORD + 64) == 2 * (ROUNDS // 4)
    assert load64(at) == 0


def test_readers_never_see_a_torn_record(at):
    stop = at + 2048
    bad = []
    reader = threading.Thread(target=lambda: bad.append(read_seq(at, stop)))
    reader.start()
    together(2, count_seq, at, ROUNDS)
    store_release(stop, 1)
    reader.join()
    assert bad == [0]
    assert [load64(at + RECORD + word * 64) for word in range(8)] == [2 * ROUNDS] * 8


def test_nobody_leaves_a_barrier_before_all_have_come(at):
    rounds = 2000 if COMPILED else 20
    format_barrier(at, 3)
    bad = []
    words = at + 1024
    threads = [
        threading.Thread(target=lambda i=i: bad.append(meet(at, words + i * 64, words, 3, rounds))) for i in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bad == [0, 0, 0]
    assert (BarrierView(at).generation, BarrierView(at).arrived) == (2 * rounds, 0)


def test_the_last_one_is_told(at):
    format_barrier(at, 2)
    assert sorted(together(2, wait_once, at)) == [0, 1]
    format_barrier(at, 1)
    assert wait_once(at) == 1


def test_a_broken_barrier_lets_all_go(at):
    format_barrier(at, 3)
    results = []
    threads = [threading.Thread(target=lambda: results.append(wait_once(at))) for _ in range(2)]
    for thread in threads:
        thread.start()
    BarrierView(at).break_up()
    for thread in threads:
        thread.join()
    assert results == [-1, -1]
    assert wait_once(at) == -1
    format_barrier(at, 1)
    assert wait_once(at) == 1


def test_a_barrier_for_nobody(at):
    with pytest.raises(TableError, match="barrier for 0 threads: 1 or more"):
        format_barrier(at, 0)

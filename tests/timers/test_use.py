"""Timers by hand: callbacks, bulk, handles, many workers' wheels, commands between threads, a second process."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import wirespeed as ws
from wirespeed.errors import TableError
from wirespeed.jit import COMPILED, kernel, load64, pause, store64
from wirespeed.mem.region import Region
from wirespeed.timers import bulk
from wirespeed.timers.layout import CHUNK_BITS, LEVELS, SLOTS_A_LEVEL
from wirespeed.timers.timer import Timer
from wirespeed.timers.timers import Timers
from wirespeed.timers.wheel import TimersView

TICK = 1024
MANY = 100_000 if COMPILED else 300


def by_hand(capacity=100, **options):
    return Timers(capacity, now_ns=0, **options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"capacity": 0}, "capacity=0 is not 1 to"),
        ({"capacity": 1 << 27}, "capacity=134217728 is not 1 to 67108864"),
        ({"capacity": 10, "resolution_ns": 10}, "resolution_ns=10 is not 64 to"),
        ({"capacity": 10, "workers": 65}, "workers=65 is not 1 to 64"),
        ({"capacity": 10, "words": 9}, "words=9 is not 1 to 8"),
        ({"capacity": 10, "reserve": -1}, "reserve=-1 is not 0 to"),
    ],
)
def test_out_of_range(options, said):
    with pytest.raises(TableError, match=said):
        Timers(**options)


def test_resolution_is_rounded_up_and_said():
    with by_hand(resolution_ns=1000) as coarse, by_hand(resolution_ns=64) as fine:
        assert (coarse.resolution_ns, coarse.stats().resolution_ns, fine.resolution_ns) == (1024, 1024, 64)


def test_memory_of_a_timer():
    with by_hand(MANY, reserve=0, words=1) as one, by_hand(2 * MANY, reserve=0, words=1) as two:
        a_timer = (two.memory_bytes - one.memory_bytes) / MANY
        assert a_timer < 46 + 2 * 8192 / MANY if COMPILED else a_timer < 300


def test_never_early_at_most_a_tick_late():
    with by_hand() as timers:
        handle = timers.add(0, 7)
        for delay in (0, 1, TICK - 1, TICK, TICK + 1, 300 * TICK + 5, (TICK << 16) + 77, (TICK << 32) + 1):
            timers.start(handle, delay)
            due = timers.now_ns + delay
            for now in (due - 1, due - 1):
                if now >= timers.now_ns:
                    assert not len(timers.advance(now))
            assert timers.advance(due + TICK).tolist() == [7]
            assert not len(timers.advance())


def test_periodic_does_not_drift_and_counts_what_it_missed():
    calls = []
    with by_hand() as timers:

        @timers.on_expire
        def beat(timer):
            calls.append((timer.deadline, timer.periods))

        handle = timers.add(beat)
        timers.start(handle, 10_000, 10_000)
        for now in (9_999, 10_000 + TICK, 20_000 + TICK, 30_000 + TICK, 95_000, 100_000 + TICK):
            timers.run(now)
        timers.run(110_000 + TICK)
        assert calls == [(10_000, 1), (20_000, 1), (30_000, 1), (40_000, 6), (100_000, 1), (110_000, 1)]
        stats = timers.stats()
        assert (stats.periodic, stats.missed, stats.expired, stats.armed) == (6, 5, 0, 1)
        timers.start(handle, 5_000)  # once more only
        timers.run(200_000)
        assert (len(calls), len(timers)) == (7, 0)


def test_a_later_deadline_moves_nothing():
    with by_hand() as timers:
        handle = timers.add(0, 1)
        timers.start(handle, 50 * TICK)
        for turn in range(1, 100):
            assert not len(timers.advance(turn * TICK))
            timers.start(handle, 50 * TICK)
        assert (timers.stats().moved, timers.stats().restarted) == (0, 99)
        assert timers.advance(149 * TICK).tolist() == [1]
        timers.start(handle, 1000 * TICK)
        timers.start(handle, 10 * TICK)
        assert timers.stats().moved == 1
        assert timers.advance(159 * TICK).tolist() == [1]


def test_callbacks_start_stop_and_remove_others_of_the_same_chunk():
    got = []
    with by_hand() as timers:
        handles = []

        @timers.on_expire
        def first(timer):
            got.append(timer.word)
            if timer.word == 0:
                timers.start(timer.handle, 3 * TICK)
            if timer.word == 3:
                timers.remove(timer.handle)

        handles += timers.add_many(range(10), first).tolist()
        timers.start_many(handles, 5 * TICK)
        assert timers.run(5 * TICK) == 10
        assert got == list(range(10))
        assert timers.run(8 * TICK) == 1
        assert got[10:] == [0]
        assert timers.start(handles[3], 1) == 0


@kernel
def walk(address, handles, act):
    """A walk whose callback does something to the next timer of the chunk: 1 stop, 2 start later, 3 remove and add."""
    timers = TimersView(address)
    timer = Timer()
    fired = 0
    while True:
        chunk = timers.due()
        if chunk == 0:
            break
        for index in range(timers.size(chunk)):
            if timers.take(chunk, index, timer):
                fired += 1
                other = int(handles[timer.word ^ 1])
                if act == 1:
                    timers.stop(other)
                if act == 2:
                    timers.start(other, 10 * TICK)
                if act == 3:
                    timers.remove(other)
                    timers.start(timers.add(0, 100 + timer.word), 20 * TICK)
        timers.done(chunk)
    return fired


@pytest.mark.parametrize("act", [1, 2, 3])
def test_a_chunk_that_changes_while_it_is_walked(act):
    with by_hand(64) as timers:
        handles = timers.add_many(range(40))
        timers.start_many(handles, 5 * TICK)
        timers._tell(6 * TICK)
        assert walk(timers.address, handles, act) == {1: 20, 2: 20, 3: 20}[act]
        later = sorted(timers.advance(16 * TICK).tolist())
        assert len(later) == {1: 0, 2: 20, 3: 0}[act]
        if act == 3:
            assert len(timers.advance(26 * TICK)) == 20
        assert (len(timers), timers.stats().armed) == (0, 0)


def test_two_levels_of_work_in_small_portions():
    """The walk may stop after any chunk; what is started meanwhile is not lost, and all comes in the end."""
    with by_hand(MANY) as timers:
        handles = timers.add_many(range(MANY))
        delays = np.random.default_rng(1).integers(0, 400_000 * TICK, MANY)
        timers.start_many(handles, delays)
        timers._tell(200_000 * TICK)
        got = []
        found = np.zeros((5, 14), dtype=np.int64)
        while count := bulk.expire(timers.address, found):
            got += found[0, :count].tolist()
            timers.start(handles[got[-1]], 300_000 * TICK)
        while count := bulk.expire(timers.address, found):
            got += found[0, :count].tolist()
        assert sorted(got) == np.flatnonzero(delays <= 200_000 * TICK).tolist()


def test_handles_of_gone_timers():
    with by_hand(2) as timers:
        one = timers.add(0, 1)
        timers.start(one, 100)
        assert timers.remove(one) == 1
        two = timers.add(0, 2)
        assert two != one
        assert (two & 0xFFFF_FFFF) == (one & 0xFFFF_FFFF)
        timers.start(two, 100)
        for operation in (timers.stop, timers.remove, lambda handle: timers.start(handle, 5)):
            for stale in (one, -1, 0, 1 << 40, (1 << 63) - 1, two + 1, two | 5 << 56):
                assert operation(stale) == 0
        assert timers.stats().stale == 21
        assert timers.advance(5000).tolist() == [2]
        timers.add()
        with pytest.raises(TableError, match="all 2 timers are in use"):
            timers.add()
        assert timers.stats().refused == 1
        with pytest.raises(TableError, match="5 timers wanted, 0 of 2 are free"):
            timers.add_many(range(5))


def test_bad_arguments():
    with by_hand() as timers:
        handles = timers.add_many(range(3))
        with pytest.raises(TableError, match="3 timers have 2 delays"):
            timers.start_many(handles, [1, 2])
        with pytest.raises(TableError, match="period 5 ns is shorter than a tick of 1024 ns"):
            timers.start(handles[0], 5, 5)
        with pytest.raises(TableError, match="handles are 1-dimensional float64"):
            timers.stop_many(np.array([0.5]))
        with pytest.raises(TableError, match="now_ns=-1"):
            timers.advance(-1)
        with pytest.raises(TableError, match="worker 1 is not 0 to 0"):
            timers.add(worker=1)
        with pytest.raises(TableError, match="must take one argument"):
            timers.on_expire(lambda: None)
        assert timers.start_many(handles, [5, 6, 7]) == 3
        assert timers.stop_many(handles[:2]) == 2


def test_more_words():
    with by_hand(10, words=3) as timers:
        handle = timers.add(0, 1)
        assert timers.set_more(handle, 1, -5) == timers.set_more(handle, 2, 6) == 1
        assert timers.set_more(handle, 3, 6) == timers.set_more(handle, 0, 6) == 0
        assert [timers.more(handle, which) for which in range(4)] == [0, -5, 6, 0]


def test_wheels_of_several_workers():
    """A handle names its worker: another worker's operation goes there as a command."""
    with by_hand(10, workers=3) as timers:
        handles = [timers.add(0, worker, worker=worker) for worker in range(3)]
        assert timers.start_many(handles, [5, 6, 7]) == 3
        assert sorted(timers.advance(TICK).tolist()) == [0, 1, 2]
        second = TimersView(timers.address + timers.stride)
        assert second.start(handles[2], 100) == 1
        assert timers.waiting == 1
        assert not timers.is_armed(handles[2])
        timers.advance(TICK)
        assert timers.is_armed(handles[2])
        assert (second.stop(handles[2]), second.remove(handles[0])) == (1, 1)
        timers.advance(TICK)
        assert (timers.armed(), timers.stop(handles[0])) == (0, 0)


def test_a_full_ring_of_commands_is_counted():
    with by_hand(10, workers=2) as timers:
        handle = timers.add(worker=1)
        first = TimersView(timers.address)
        done = sum(first.start(handle, 5) for _ in range(1030))
        assert (done, timers.stats().refused) == (1024, 6)
        timers._wheels[1].begin()
        assert first.start(handle, 5) == 1


def chunks_in_use(timers):
    """Chunks in slots, by walking all slots of wheel 0."""
    wheel, count = timers._wheels[0], 0
    heads = timers._words_at(timers.address + 1024, LEVELS * SLOTS_A_LEVEL)
    words = timers._words_at(timers.address + wheel.chunks, 16 * (wheel.timers // 14 + LEVELS * SLOTS_A_LEVEL + 2))
    for head in heads[heads != 0].tolist():
        while head:
            count += 1
            head = int(words[head << CHUNK_BITS - 2])
    return count


def test_soak_at_90_percent_does_not_grow():
    rng = np.random.default_rng(7)
    with by_hand(MANY) as timers:
        handles = timers.add_many(range(MANY * 9 // 10))
        turns = 200 if COMPILED else 30
        for turn in range(turns):
            some = rng.choice(handles, len(handles) // 10, replace=False)
            timers.start_many(some, rng.integers(0, 1 << int(rng.integers(10, 45)), len(some)))
            some = rng.choice(len(handles), len(handles) // 20, replace=False)
            timers.remove_many(handles[some])
            handles[some] = timers.add_many(some)
            timers.advance((turn + 1) * 3_000 * TICK)
            assert len(timers) == timers.armed() <= len(handles)
            filed = chunks_in_use(timers)
            assert filed <= MANY // 14 + LEVELS * SLOTS_A_LEVEL
        timers.remove_many(handles)
        timers.advance(1 << 61)
        assert (len(timers), chunks_in_use(timers), timers.stats().used) == (0, 0, 0)


@kernel
def drive(address, stop, step):
    """A worker: the time goes on, commands are obeyed, timers expire; the sum of their words."""
    timers = TimersView(address)
    timer = Timer()
    total = 0
    while True:
        last = load64(stop)
        timers.advance(timers.now + step)
        timers.begin()
        while True:
            chunk = timers.due()
            if chunk == 0:
                break
            for index in range(timers.size(chunk)):
                if timers.take(chunk, index, timer):
                    total += timer.word
            timers.done(chunk)
        if last:
            return total
        pause()


def test_commands_while_another_thread_drives():
    """Started from two threads, driven by a third: each start expires once, unless it was stopped before."""
    many, rounds = (2000, 20) if COMPILED else (20, 3)
    with by_hand(2 * many) as timers, Region(4096, "test-stop", huge=False) as region:
        handles = timers.add_many(np.ones(2 * many, dtype=np.int64))
        result = []
        store64(region.address, 1)
        drive(timers.address, region.address, 0)  # it is compiled now, not while others wait for the worker
        store64(region.address, 0)
        timers.remote = True
        worker = threading.Thread(target=lambda: result.append(drive(timers.address, region.address, TICK)))
        worker.start()

        def command(mine):
            for _ in range(rounds):
                timers.start_many(mine, 100)
                timers.stop_many(mine[::7])

        others = [threading.Thread(target=command, args=(part,)) for part in (handles[:many], handles[many:])]
        for thread in others:
            thread.start()
        for thread in others:
            thread.join()
        extra = timers.add(0, 1000)  # from the reserve
        timers.start(extra, 5 * TICK)
        while timers.waiting or timers.armed():
            pause()
        store64(region.address, 1)
        worker.join()
        timers.remote = False
        stats = timers.stats()
        assert stats.started + stats.restarted == 2 * many * rounds + 1
        assert stats.expired == stats.started - stats.stopped
        assert result == [stats.expired - 1 + 1000]
        assert timers.remove(extra) == 1


def test_the_reserve_is_bounded():
    with by_hand(10, reserve=2) as timers:
        timers.remote = True
        first, second = timers.add(0, 1), timers.add(0, 2)
        with pytest.raises(TableError, match="all 2 timers for control code are in use"):
            timers.add()
        with pytest.raises(TableError, match="workers run"):
            timers.add_many([1])
        assert timers.stats().used == 2
        timers.remove(first)
        timers.advance(0)
        assert timers.add(0, 3) != first
        assert timers.start(second, 1) == 1


def test_a_second_process_reads(tmp_path, monkeypatch):
    monkeypatch.setenv("WIRESPEED_RUN", str(tmp_path / "run"))
    with Timers(100, now_ns=0, name="idle") as timers:
        timers.start_many(timers.add_many(range(50)), 10_000)
        timers.advance(TICK)
        code = (
            "import wirespeed as ws\n"
            "from wirespeed.errors import TableError\n"
            "with ws.Timers.attach('idle') as timers:\n"
            "    s = timers.stats(); print(s.armed, s.used, s.started, s.capacity, len(timers), timers.resolution_ns)\n"
            "    for change in (lambda: timers.add(), lambda: timers.start(1, 2), lambda: timers.advance(5)):\n"
            "        try: change()\n"
            "        except TableError as error: print('read-only' in str(error))\n"
        )
        sources = str(Path(ws.__file__).parents[1])
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": sources}
        )
        assert done.stdout.split() == ["50", "50", "50", "164", "50", "1024", "True", "True", "True"], done.stderr

"""Grace periods: nothing is reclaimed while a worker may hold it."""

import threading

import pytest

from wirespeed.errors import WirespeedError
from wirespeed.jit import COMPILED, kernel, load64, load_acquire, pause, store64, store_release
from wirespeed.mem.region import Region
from wirespeed.sync.rcu import Grace, GraceStats, GraceTimeout, Slot, format_slot, offline, online, quiescent

UPDATES = 20_000 if COMPILED else 50


@kernel
def say(slot, what):
    if what == 0:
        offline(slot)
    elif what == 1:
        online(slot)
    else:
        quiescent(slot)


@kernel
def read_until_stopped(slot, pointer, stop):
    """Follow the pointer again and again; returns how often the memory behind it had been reclaimed."""
    online(slot)
    bad = 0
    while load_acquire(stop) == 0:
        at = load_acquire(pointer)
        for _ in range(8):
            bad += load_acquire(at) != 1
        quiescent(slot)
        pause()
    offline(slot)
    return bad


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def slots():
    with Region(4096, "test-rcu", huge=False) as region:
        addresses = [region.address + i * Slot.SIZE for i in range(3)]
        for address in addresses:
            format_slot(address)
        yield addresses


@pytest.fixture
def grace(slots):
    clock = Clock()
    return Grace(slots[:2], ["rx0", "rx1"], clock=clock, sleep=clock.sleep)


@pytest.mark.parametrize("call", [say, say.py_func if COMPILED else say], ids=["kernel", "python"])
def test_waits_for_online_workers_only(slots, grace, call):
    assert grace.passed(grace.start())
    call(slots[0], 1)
    period = grace.start()
    assert not grace.passed(period)
    call(slots[0], 2)
    assert grace.passed(period)
    later = grace.start()
    assert not grace.passed(later)
    call(slots[0], 0)
    assert grace.passed(later)


def test_coming_online_counts_from_now(slots, grace):
    period = grace.start()
    say(slots[0], 1)  # came after the question: cannot hold what was unlinked before
    assert grace.passed(period)
    assert not grace.passed(grace.start())


def test_one_answer_is_enough_for_earlier_questions(slots, grace):
    say(slots[0], 1)
    first, second = grace.start(), grace.start()
    say(slots[0], 2)
    assert grace.passed(first)
    assert grace.passed(second)


def test_timeout_names_the_worker(slots, grace):
    say(slots[0], 1)
    say(slots[1], 1)
    period = grace.start()
    say(slots[0], 2)
    with pytest.raises(GraceTimeout, match=r"^rx1 passed no quiescent state in 0.5 s"):
        grace.wait(period, timeout=0.5)
    say(slots[1], 2)
    grace.wait(period, timeout=0.5)


def test_deferred_actions_run_in_order_once_safe(slots, grace):
    ran = []
    grace.defer(lambda: ran.append("idle"))
    assert ran == ["idle"]
    say(slots[0], 1)
    grace.defer(lambda: ran.append("first"))
    grace.defer(lambda: ran.append("second"))
    assert (grace.reclaim(), grace.pending, ran) == (0, 2, ["idle"])
    say(slots[0], 2)
    assert (grace.reclaim(), grace.pending, ran) == (2, 0, ["idle", "first", "second"])


def test_synchronize_runs_what_was_deferred(slots, grace):
    ran = []
    say(slots[0], 1)
    grace.defer(lambda: ran.append(1))
    say(slots[0], 0)
    grace.synchronize()
    assert ran == [1]


def test_names_and_workers_must_match(slots):
    with pytest.raises(WirespeedError, match="3 workers have 1 names"):
        Grace(slots, ["one"])


def test_a_reader_never_sees_reclaimed_memory(slots):
    with Region(8192, "test-rcu-data", huge=False) as data:
        pointer, stop = data.address, data.address + 128
        items = [data.address + 4096, data.address + 4096 + 128]
        store64(items[0], 1)
        store64(pointer, items[0])
        bad = []
        reader = threading.Thread(target=lambda: bad.append(read_until_stopped(slots[0], pointer, stop)))
        grace = Grace(slots[:1])
        reader.start()
        for update in range(UPDATES):
            old, new = items[update % 2], items[(update + 1) % 2]
            store64(new, 1)
            store_release(pointer, new)
            grace.synchronize(timeout=60)
            store64(old, 0)
        store_release(stop, 1)
        reader.join()
        assert bad == [0]
        assert load64(slots[0] + Slot.answered.offset) == 0


def test_a_full_queue_waits_for_the_oldest(slots):
    clock = Clock()
    grace = Grace(slots[:1], clock=clock, sleep=clock.sleep, limit=2)
    ran = []
    say(slots[0], 1)
    grace.defer(lambda: ran.append(1))
    grace.defer(lambda: ran.append(2))
    with pytest.raises(GraceTimeout, match=r"worker 0 passed no quiescent state in 0.5 s"):
        grace.defer(lambda: ran.append(3), timeout=0.5)
    assert (grace.pending, ran) == (2, [])
    assert grace.stats() == GraceStats(2, 1, 1, 2, 0)
    say(slots[0], 2)
    grace.defer(lambda: ran.append(3))
    assert (grace.pending, ran) == (1, [1, 2])
    assert grace.stats() == GraceStats(3, 1, 1, 1, 2)
    say(slots[0], 0)
    assert grace.reclaim() == 1
    assert grace.stats().online == 0


def test_a_queue_that_becomes_free_while_it_waits(slots):
    clock = Clock()

    def sleep(seconds):
        clock.sleep(seconds)
        say(slots[0], 2)

    grace = Grace(slots[:1], clock=clock, sleep=sleep, limit=1)
    ran = []
    say(slots[0], 1)
    grace.defer(lambda: ran.append(1))
    grace.defer(lambda: ran.append(2))
    assert (ran, grace.pending) == ([1], 1)


def test_a_queue_for_nothing(slots):
    with pytest.raises(WirespeedError, match="queue of 0 deferred actions"):
        Grace(slots, limit=0)

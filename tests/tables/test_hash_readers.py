"""Hash tables that are read, and written by several, while they change."""

import threading

import numpy as np
import pytest

from wirespeed.errors import TableError
from wirespeed.jit import COMPILED, kernel, load_acquire, pause, store_release
from wirespeed.mem.region import Region
from wirespeed.sync.rcu import Grace, format_slot, offline, online, quiescent
from wirespeed.tables.hash import HashTable
from wirespeed.tables.hash_memory import KeyWords, add, delete, search

VIEW = HashTable(int, 1).View
WIDE = 5  # words of a key whose halves must not be mixed


@kernel
def watch(table, stop, count):
    """Look keys 0 to ``count`` up until stopped; how often one was missed or had a wrong value."""
    view = VIEW(table)
    bad = 0
    while load_acquire(stop) == 0:
        for key in range(count):
            value = view.lookup(key)
            bad += value & 0xFFFF_FFFF != key
        pause()
    return bad


@kernel
def watch_wide(table, stop, first, count):
    """Look up keys of which all words are the same number; a value must be its key's, be it there or not."""
    key = KeyWords()
    bad = 0
    while load_acquire(stop) == 0:
        for i in range(first, first + count):
            key.w0 = key.w1 = key.w2 = key.w3 = key.w4 = i
            _, slot, value = search(table, key.hash(table, WIDE), key, WIDE)
            bad += slot >= 0 and value != i
        pause()
    return bad


@kernel
def churn(table, first, count, rounds):
    """A writer: its own keys come, change and go; a sum that says how often each of the three happened."""
    key = KeyWords()
    added = 0
    for turn in range(rounds):
        for i in range(first, first + count):
            key.w0 = i
            added += add(table, key.hash(table, 1), key, 1, i | turn << 32, 0) >= 0
        for i in range(first, first + count):
            key.w0 = i
            if (i + turn) & 1:
                added += delete(table, key.hash(table, 1), key, 1, 0) >= 0
    return added


def run(*calls):
    """Each call in a thread of its own; their results."""
    results = [None] * len(calls)

    def work(index, function, *arguments):
        results[index] = function(*arguments)

    threads = [threading.Thread(target=work, args=(i, *call)) for i, call in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


class Watched:
    """A reader in a thread, and what it found wrong."""

    def __init__(self, function, table, *arguments):
        self.region = Region(4096, "test-stop", huge=False)
        self.bad = []
        call = (table.address, self.region.address, *arguments)
        self.thread = threading.Thread(target=lambda: self.bad.append(function(*call)))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        store_release(self.region.address, 1)
        self.thread.join()
        self.region.close()


@pytest.mark.parametrize("writers", ["one", "many"])
def test_readers_never_miss_a_key_that_is_there(writers):
    """At 95 % each addition moves keys about, among them those that are watched."""
    capacity, rounds = (2000, 300) if COMPILED else (60, 6)
    stay = capacity // 2
    most = capacity if COMPILED else capacity - 6  # of so few buckets, two may be full before all are
    with HashTable(int, capacity, writers=writers) as table:
        table.add_many(np.arange(stay), np.arange(stay))
        with Watched(watch, table, stay) as readers:
            for turn in range(rounds):
                come = np.arange(stay, most) + turn * capacity
                table.add_many(come, 0)
                table.add_many(np.arange(stay), np.arange(stay) | turn << 32)
                table.delete_many(come)
        assert readers.bad == [0]
        assert len(table) == stay
        if COMPILED:  # so few keys may happen to find free places, as the hash is seeded by chance
            assert table.stats().displaced > rounds


def test_a_value_is_never_of_another_key():
    """Slots are used again at once, by keys of five words: what a reader found may change while it compares."""
    capacity, rounds = (64, 3000) if COMPILED else (16, 10)
    with HashTable(8 * WIDE, capacity) as table:
        keys = np.repeat(np.arange(4 * capacity), WIDE).reshape(-1, WIDE).view(np.uint8)
        with Watched(watch_wide, table, 0, 4 * capacity) as readers:
            for turn in range(rounds):
                start = turn % 4 * capacity
                table.add_many(keys[start : start + capacity], np.arange(start, start + capacity))
                table.delete_many(keys[start : start + capacity])
        assert readers.bad == [0]


def test_many_writers():
    """Two threads with keys of their own, in the same buckets, beside a reader; then everything is accounted for."""
    each, rounds, stay = (1500, 150, 500) if COMPILED else (20, 3, 10)
    capacity = 2 * each + stay
    with HashTable(int, capacity, writers="many") as table:
        table.add_many(np.arange(stay), np.arange(stay))
        first, second = 1 << 20, 1 << 21
        with Watched(watch, table, stay) as readers:
            counts = run((churn, table.address, first, each, rounds), (churn, table.address, second, each, rounds))
        assert readers.bad == [0]
        assert counts == [each * rounds + each * rounds // 2] * 2
        last = rounds - 1
        wanted = {key: key for key in range(stay)}
        for start in (first, second):
            wanted |= {i: i | last << 32 for i in range(start, start + each) if not (i + last) & 1}
        assert dict(table) == wanted
        assert len(table) == len(wanted)
        table.add_many(np.arange(-1, -1 - (capacity - len(wanted)), -1), 0)  # no slot was lost
        assert sorted(table.slots().tolist()) == list(range(capacity))


def test_two_writers_of_the_same_keys():
    each, rounds = (300, 300) if COMPILED else (10, 3)
    with HashTable(int, each, writers="many") as table:
        run((churn, table.address, 0, each, rounds), (churn, table.address, 0, each, rounds))
        found = dict(table)
        assert len(found) == len(table) == len(set(table.slots().tolist()))
        assert all(value & 0xFFFF_FFFF == key for key, value in found.items())
        table.clear()
        table.add_many(np.arange(each), 0)
        assert len(table) == each


# Slots and grace ----------------------------------------------------------------------------------------------


def test_a_deleted_key_keeps_its_slot_until_nobody_can_hold_it():
    with HashTable(int, 2) as table, Region(4096, "test-hash", huge=False) as region:
        clock = iter(range(1000))
        format_slot(region.address)
        table.reclaimer = grace = Grace([region.address], clock=lambda: next(clock), sleep=lambda _: None)
        table.add_many([1, 2], [1, 2])
        online(region.address)
        slot = table.delete(1)
        assert (len(table), table.stats().retired) == (1, 1)
        with pytest.raises(Exception, match="passed no quiescent state"):
            table.add(3, 3)
        quiescent(region.address)
        grace.reclaim()
        assert table.stats().retired == 0
        assert table.add(3, 3) == slot
        table.delete(2)
        offline(region.address)
        assert table.add(4, 4) >= 0  # full but for what has passed: waits and goes on
        with pytest.raises(TableError, match="full"):
            table.add(5, 5)
        assert dict(table) == {3: 3, 4: 4}

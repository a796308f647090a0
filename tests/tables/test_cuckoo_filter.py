"""Cuckoo filter against a multiset: nothing is missed, deleting works, readers never miss what stays."""

import threading
from collections import Counter

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from wirespeed.errors import TableError
from wirespeed.jit import COMPILED, kernel, load_acquire, store64, store_release
from wirespeed.mem.region import Region
from wirespeed.tables.cuckoo_filter import CuckooFilter, CuckooView

MANY = 30_000 if COMPILED else 150
KEYS = st.integers(0, 40)


@kernel
def in_node(filter, key):
    view = CuckooView(filter)
    return view.add(key), view.contains(key), view.delete(key), view.contains(key)


@kernel
def watch(filter, first, last, stop):
    """Ask for keys that stay, until stopped; how often one was missed."""
    view = CuckooView(filter)
    missed = 0
    while load_acquire(stop) == 0:
        for key in range(first, last):
            missed += 1 - view.contains(key)
    return missed


class Machine(RuleBasedStateMachine):
    """Adds and deletes; 16 bits over 41 keys of a fixed seed do not collide."""

    def __init__(self):
        super().__init__()
        self.filter = CuckooFilter(200, seed=9)
        self.model = Counter()

    @rule(key=KEYS)
    def add(self, key):
        if self.model[key] < 4:
            assert self.filter.add(key) == 1
            self.model[key] += 1

    @rule(key=KEYS)
    def delete(self, key):
        assert self.filter.delete(key) == (self.model[key] > 0)
        self.model[key] -= self.model[key] > 0

    @precondition(lambda self: self.model)
    @rule(keys=st.lists(KEYS, max_size=8))
    def delete_many(self, keys):
        expect = []
        for key in keys:
            expect.append(self.model[key] > 0)
            self.model[key] -= self.model[key] > 0
        assert self.filter.delete_many(np.array(keys, dtype=np.int64)).tolist() == expect

    @invariant()
    def same(self):
        assert len(self.filter) == self.model.total()
        assert all((key in self.filter) == (self.model[key] > 0) for key in range(41))

    def teardown(self):
        self.filter.close()


Machine.TestCase.settings = settings(max_examples=30 if COMPILED else 8, stateful_step_count=30)
test_like_a_multiset = Machine.TestCase


@pytest.mark.parametrize("key_bytes", [0, 16])
def test_full_and_error_rate(key_bytes):
    random = np.random.default_rng(12)
    keys, others = (
        random.integers(0, 256, (2, MANY, key_bytes), dtype=np.uint8)
        if key_bytes
        else random.integers(0, 1 << 63, (2, MANY))
    )
    with CuckooFilter(MANY, key_bytes=key_bytes, seed=1) as filter:
        assert filter.add_many(keys).all()
        assert filter.contains_many(keys).all()
        stats = filter.stats()
        assert (stats.keys, stats.refused) == (MANY, 0)
        assert (
            int(filter.contains_many(others).sum())
            <= MANY * stats.error_rate + 5 * (MANY * stats.error_rate) ** 0.5 + 1
        )
        assert filter.delete_many(keys).all()
        assert len(filter) == 0
        assert not filter.contains_many(keys).any()


def test_full_is_counted_and_changes_nothing():
    with CuckooFilter(100, seed=1) as filter:
        keys = np.arange(200)
        added = filter.add_many(keys)
        assert 100 <= added.sum() <= filter.stats().places
        assert filter.stats().refused == 200 - added.sum()
        assert filter.contains_many(keys[added]).all()
        filter.add_many(np.full(12, int(keys[~added][0])))  # whatever is left around it
        with pytest.raises(TableError, match=r"full: \d+ keys of 100; make it with CuckooFilter\(200\)"):
            filter.add(int(keys[~added][0]))
        filter.clear()
        assert len(filter) == 0
        assert not filter.contains_many(keys).any()


def test_in_a_node():
    with CuckooFilter(10, seed=1) as filter:
        assert in_node(filter.address, 77) == (1, 1, 1, 0)
        assert 77 not in filter


def test_readers_never_miss_what_stays():
    """Keys come and go at 95 % fill, so that others move all the time."""
    many, rounds = (4_000, 60) if COMPILED else (60, 2)
    with CuckooFilter(many, seed=2) as filter, Region(4096, "test-cuckoo", huge=False) as region:
        stop = region.address
        store64(stop, 0)
        half = many // 2
        assert filter.add_many(np.arange(half)).all()
        missed = []
        threads = [
            threading.Thread(target=lambda: missed.append(watch(filter.address, 0, half, stop))) for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        try:
            for turn in range(rounds):
                others = np.arange(many - half) + (turn + 1) * 1_000_000
                assert filter.add_many(others).all()
                assert filter.delete_many(others).all()
        finally:
            store_release(stop, 1)
            for thread in threads:
                thread.join()
        assert missed == [0, 0]
        assert len(filter) == half


def test_writers_in_several_threads():
    each = 3_000 if COMPILED else 40
    with CuckooFilter(3 * each, seed=3) as filter:
        threads = [
            threading.Thread(target=filter.add_many, args=(np.arange(i * each, (i + 1) * each),)) for i in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(filter) == 3 * each
        assert filter.contains_many(np.arange(3 * each)).all()


def test_soak_at_ninety_percent():
    many, rounds = (10_000, 40) if COMPILED else (60, 3)
    with CuckooFilter(many, seed=4) as filter:
        window = many * 9 // 10
        step = window // 5
        assert filter.add_many(np.arange(window)).all()
        for turn in range(rounds):
            assert filter.delete_many(np.arange(turn * step, (turn + 1) * step)).all()
            assert filter.add_many(np.arange(window + turn * step, window + (turn + 1) * step)).all()
        assert len(filter) == window
        assert filter.contains_many(np.arange(rounds * step, rounds * step + window)).all()
        assert filter.stats().refused == 0


def test_bad_capacity():
    with pytest.raises(TableError, match="capacity 0"):
        CuckooFilter(0)

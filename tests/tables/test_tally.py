"""Tally against collections.Counter; bounded, and readable while it counts."""

import threading
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wirespeed.errors import TableError
from wirespeed.jit import COMPILED, kernel
from wirespeed.tables.tally import Tally, TallyView

MANY = 2_000_000 if COMPILED else 2_000
KEYS = st.integers(-(1 << 63), (1 << 63) - 1)


@kernel
def count_one(block, key, n):
    TallyView(block).add(key, n)


@kernel
def count_range(block, keys, rounds):
    """Count keys 1 to ``keys``, again and again: key k by k each time."""
    tally = TallyView(block)
    for _ in range(rounds):
        for key in range(1, keys + 1):
            tally.add(key, key)
    return tally.count(keys)


@kernel
def add_once(block, key):
    TallyView(block).add(key)


@settings(deadline=None, max_examples=100 if COMPILED else 30)
@given(st.lists(st.tuples(st.integers(0, 1), st.one_of(st.integers(0, 5), KEYS), st.integers(1, 1 << 40)), max_size=60))
def test_counts_like_a_counter(events):
    model = Counter()
    with Tally(100, workers=2) as tally:
        for worker, key, n in events:
            count_one(tally.address + worker * tally.stride, key, n)
            model[key] += n
        assert dict(tally) == model
        assert len(tally) == len(model)
        assert sorted(count for _, count in tally.most_common(3)) == sorted(n for _, n in model.most_common(3))
        assert tally.most_common() == sorted(tally, key=lambda pair: -pair[1])
        assert all(tally[key] == n for key, n in model.items())
        assert tally.overflow == 0


def test_zero_is_a_key_and_nothing_is_no_count():
    with Tally(4) as tally:
        tally.add(0)
        tally.add(7, 0)
        tally.add(7, -5)
        add_once(tally.address, 0)
        assert dict(tally) == {0: 2}
        assert tally[7] == 0


def test_overflow_is_counted_and_known_keys_still_count():
    with Tally(10) as tally:
        for key in range(15):
            tally.add(key, 2)
        tally.add(3)
        assert dict(tally) == {key: 2 + (key == 3) for key in range(10)}
        assert tally.overflow == 10
        assert repr(tally) == "<Tally tally: 10 keys, overflow 10>"


def test_a_full_table_finds_a_place_for_all_it_promised():
    capacity = 100_000 if COMPILED else 500
    with Tally(capacity) as tally:
        count_range(tally.address, capacity + 10, 1)
        assert (len(tally), tally.overflow) == (capacity, sum(range(capacity + 1, capacity + 11)))


def test_readers_see_whole_pairs_while_workers_count():
    rounds = MANY // 1000
    with Tally(1000, workers=2) as tally:
        workers = [
            threading.Thread(target=count_range, args=(tally.address + i * tally.stride, 1000, rounds))
            for i in range(2)
        ]
        for worker in workers:
            worker.start()
        while any(worker.is_alive() for worker in workers):
            for key, count in tally:
                assert 1 <= key <= 1000
                assert count % key == 0
        assert dict(tally) == {key: 2 * rounds * key for key in range(1, 1001)}


@pytest.mark.parametrize(
    ("arguments", "message"), [((0,), "capacity 0"), ((1 << 29,), "not 1 to"), ((1, 0), "0 workers")]
)
def test_bad_arguments(arguments, message):
    with pytest.raises(TableError, match=message):
        Tally(*arguments)

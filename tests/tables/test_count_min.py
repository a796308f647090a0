"""Count-min against collections.Counter: never too low, within the bound as often as promised."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirespeed.errors import TableError
from wirespeed.jit import COMPILED, kernel
from wirespeed.tables.count_min import CountMin, CountMinView

MANY = 100_000 if COMPILED else 600


@kernel
def in_node(sketch, key, n):
    return CountMinView(sketch).add(key, n), CountMinView(sketch).count(key)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 1000), st.integers(0, 1)), max_size=60), st.booleans())
def test_never_too_low(events, conservative):
    model = Counter()
    with CountMin(0.1, conservative=conservative, workers=2, seed=1) as sketch:
        for key, n, worker in events:
            now, count = in_node(sketch.address + worker * sketch.stride, key, n)
            assert now == count
            model[key] += n
        assert all(sketch[key] >= model[key] for key in range(31))
        assert sketch.count_many(np.arange(31)).tolist() == [sketch.count(key) for key in range(31)]
        assert sketch.total == model.total() == sketch.stats().total


@pytest.mark.parametrize("conservative", [True, False])
@pytest.mark.parametrize("key_bytes", [0, 13])
def test_within_the_bound(conservative, key_bytes):
    random = np.random.default_rng(13)
    numbers = random.zipf(1.3, MANY) % 50_000
    keys = numbers
    if key_bytes:
        keys = np.zeros((MANY, 13), dtype=np.uint8)
        keys[:, 3:11] = numbers.astype(">i8").view(np.uint8).reshape(-1, 8)
    with CountMin(0.002, 0.98, conservative, key_bytes=key_bytes, seed=2) as sketch:
        sketch.add_many(keys)
        different, first, true = np.unique(numbers, return_index=True, return_counts=True)
        over = sketch.count_many(keys[first]) - true
        assert over.min() >= 0
        stats = sketch.stats()
        assert stats.total == MANY
        assert stats.confidence >= 0.98
        assert stats.error_bound <= 0.002 * MANY
        assert (over > stats.error_bound).mean() <= 0.02
        assert len(different) > 100


def test_conservative_errs_less():
    keys = np.random.default_rng(14).integers(0, 300, MANY // 4)
    over = []
    for conservative in (True, False):
        with CountMin(0.02, conservative=conservative, seed=3) as sketch:
            sketch.add_many(keys)
            over.append(int((sketch.count_many(np.arange(300)) - np.bincount(keys, minlength=300)).sum()))
    assert over[0] < over[1]


def test_amounts_and_clear():
    with CountMin(seed=4) as sketch:
        assert sketch.add_many(np.array([1, 2, 1]), np.array([10, 20, 30])).tolist() == [10, 20, 40]
        assert sketch.add(1, 2) == 42
        assert sketch[1] == 42
        with pytest.raises(TableError, match="3 keys have 2 amounts"):
            sketch.add_many(np.arange(3), np.array([1, 2]))
        with pytest.raises(TableError, match="-5 cannot be added"):
            sketch.add_many(np.arange(2), np.array([1, -5]))
        with pytest.raises(TableError, match="-1 cannot be added"):
            sketch.add(1, -1)
        sketch.clear()
        assert (sketch[1], sketch.total) == (0, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0,), "error 0 is not"), ((0.1, 0.9999), "confidence 0.9999"), ((1e-8, 0.9996), "the limit is")],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(TableError, match=message):
        CountMin(*arguments)

"""Bloom filter against a set: nothing is missed, and what is wrongly found is as much as was asked for."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirespeed.errors import TableError
from wirespeed.jit import COMPILED, kernel
from wirespeed.tables.bloom import Bloom, BloomView

MANY = 50_000 if COMPILED else 400


@kernel
def add_in_node(filter, key):
    return BloomView(filter).add(key), BloomView(filter).contains(key)


@kernel
def add_range(filter, first, last):
    view = BloomView(filter)
    new = 0
    for key in range(first, last):
        new += view.add(key)
    return new


@given(st.lists(st.integers(-(1 << 63), (1 << 63) - 1), max_size=60), st.sampled_from([0.3, 0.01, 0.0001]))
def test_like_a_set(keys, rate):
    with Bloom(60, rate, seed=1) as filter:
        model = set()
        for key in keys:
            new = filter.add(key)
            assert not (new and key in model)
            model.add(key)
        assert all(key in filter for key in model)
        assert filter.contains_many(np.array(sorted(model), dtype=np.int64)).all()
        assert filter.stats().error_rate <= rate * 1.5


@pytest.mark.parametrize("rate", [0.3, 0.05, 0.01, 0.001])
@pytest.mark.parametrize("key_bytes", [0, 13])
def test_error_rate(rate, key_bytes):
    """False positives are binomial: at most five standard deviations above the rate."""
    random = np.random.default_rng(11)
    many = MANY if rate > 0.001 or COMPILED else 100
    keys, others = (
        random.integers(0, 256, (2, many, key_bytes), dtype=np.uint8)
        if key_bytes
        else random.integers(0, 1 << 63, (2, many))
    )
    with Bloom(many, rate, key_bytes=key_bytes, seed=1) as filter:
        filter.add_many(keys)
        assert filter.contains_many(keys).all()
        found = int(filter.contains_many(others).sum())
        assert found <= many * rate + 5 * (many * rate) ** 0.5 + 1
        stats = filter.stats()
        assert abs(stats.keys - many) < 0.02 * many + 20
        assert stats.error_rate < 1.1 * rate + 0.02


def test_in_a_node_and_from_python():
    with Bloom(100, seed=2) as filter:
        assert add_in_node(filter.address, -5) == (1, 1)
        assert add_in_node(filter.address, -5) == (0, 1)
        assert -5 in filter
        assert filter.add(-5) == 0
        assert filter.add_many(np.array([-5, 6])).tolist() == [False, True]
        filter.clear()
        assert -5 not in filter
        assert filter.stats().fill == 0


def test_bytes():
    with Bloom(10, key_bytes=3) as filter:
        assert filter.add(b"abc") == 1
        assert b"abc" in filter
        assert memoryview(b"abc") in filter


def test_many_threads_lose_nothing():
    """All set bits of the same few lines at once."""
    each = 20_000 if COMPILED else 100
    with Bloom(4 * each, seed=3) as filter:
        news = []
        threads = [
            threading.Thread(target=lambda i=i: news.append(add_range(filter.address, i * each, (i + 2) * each)))
            for i in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert filter.contains_many(np.arange(4 * each)).all()
        assert sum(news) >= 4 * each * 0.98


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0,), "capacity 0"), ((1, 0.6), "error rate 0.6 is not 1e-7 to 0.5"), ((1, 0), "error rate 0 is not")],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(TableError, match=message):
        Bloom(*arguments)

"""Reservoir: each item is kept with the same probability, over one worker and over several."""

import numpy as np
import pytest

from wirespeed.errors import TableError
from wirespeed.jit import COMPILED, kernel
from wirespeed.tables.reservoir import Reservoir, ReservoirView

RUNS = 400 if COMPILED else 60


@kernel
def add_range(sample, first, last):
    view = ReservoirView(sample)
    for item in range(first, last):
        view.add(item)


def test_all_while_there_is_room():
    with Reservoir(10, seed=1) as sample:
        assert [sample.add(item) for item in (5, -5, 1 << 63)] == [0, 1, 2]
        assert sample.items().tolist() == [5, -5, -(1 << 63)]
        assert (len(sample), sample.seen) == (3, 3)
        sample.clear()
        assert len(sample) == 0


def test_each_item_has_the_same_chance():
    """100 items, 20 kept: each is kept in a fifth of the runs, within five standard deviations."""
    kept = np.zeros(100, dtype=int)
    for seed in range(RUNS):
        with Reservoir(20, seed=seed) as sample:
            add_range(sample.address, 0, 100)
            items = sample.items()
            assert len(set(items.tolist())) == 20
            kept[items] += 1
    assert abs(kept - RUNS / 5).max() < 5 * (RUNS * 0.16) ** 0.5


def test_workers_in_proportion():
    """One worker saw 90 items, the other 10: the union keeps each with the same probability."""
    kept = np.zeros(100, dtype=int)
    for seed in range(RUNS):
        with Reservoir(20, workers=2, seed=seed) as sample:
            add_range(sample.address, 0, 90)
            add_range(sample.address + sample.stride, 90, 100)
            items = sample.items(seed=seed)
            assert len(set(items.tolist())) == 20
            kept[items] += 1
    assert abs(kept - RUNS / 5).max() < 5 * (RUNS * 0.16) ** 0.5


def test_the_same_seed_the_same_sample():
    with Reservoir(5, seed=7) as one, Reservoir(5, seed=7) as two:
        one.add_many(np.arange(1000))
        for item in range(1000):
            two.add(item)
        assert one.items().tolist() == two.items().tolist()
        assert one.stats().seen == 1000
        assert repr(one) == "<Reservoir reservoir: 5 of 1000 items>"


@pytest.mark.parametrize(("arguments", "message"), [((0,), "0 items"), ((1, 0), "0 workers")])
def test_bad_arguments(arguments, message):
    with pytest.raises(TableError, match=message):
        Reservoir(*arguments)

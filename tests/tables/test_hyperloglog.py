"""HyperLogLog: within its standard error over the whole range, the union over workers, merging."""

import numpy as np
import pytest

from wirespeed.errors import TableError
from wirespeed.jit import COMPILED, kernel
from wirespeed.tables.hyperloglog import HyperLogLog, HyperLogLogView, estimate_from

SIZES = (0, 1, 10, 100, 1_000, 5_000, 30_000, 200_000) if COMPILED else (0, 1, 50, 400)


@kernel
def add_range(sketch, first, last):
    view = HyperLogLogView(sketch)
    for key in range(first, last):
        view.add(key)


@pytest.mark.parametrize("size", SIZES)
def test_standard_error(size):
    """The mean over seeds is unbiased within four standard errors of the mean, each single one within five."""
    seeds = 12 if size < 100_000 else 4
    errors = []
    for seed in range(seeds):
        with HyperLogLog(0.03, seed=seed) as sketch:
            add_range(sketch.address, 0, size)
            errors.append(sketch.estimate() / max(size, 1) - (size > 0))
            standard = sketch.stats().standard_error
    assert standard <= 0.03
    assert max(map(abs, errors)) < 5 * standard
    assert abs(sum(errors) / seeds) < 4 * standard / seeds**0.5


def test_far_beyond_what_can_be_added():
    """Registers drawn as n keys would leave them: P(register < r) = (1 - 2^-(r-1) / m)^n, n up to 2^55."""
    random = np.random.default_rng(15)
    for n in (1e8, 1e12, 2.0**55):
        chance = random.random(1 << 12)
        levels = np.arange(1, 54)
        below = np.exp(n * np.log1p(-(2.0**-(levels)) / (1 << 12)))  # register <= r
        registers = np.searchsorted(below, chance).astype(np.uint8)
        registers = np.minimum(registers + (registers < 53), 53).astype(np.uint8)
        assert abs(estimate_from(registers, 12) / n - 1) < 5 * 1.04 / 64


def test_repetitions_count_once():
    with HyperLogLog(0.05, key_bytes=4, seed=1) as sketch:
        keys = np.arange(100, dtype="<u4").view(np.uint8).reshape(-1, 4)
        for _ in range(3):
            sketch.add_many(keys)
        assert abs(int(sketch) - 100) < 15
        assert sketch.add(bytes(keys[0])) == 0


def test_workers_together():
    with HyperLogLog(0.02, workers=3, seed=2) as sketch, HyperLogLog(0.02, seed=2) as alone:
        size = 3_000 if COMPILED else 90
        for worker in range(3):
            add_range(sketch.address + worker * sketch.stride, worker * size // 3, worker * size // 3 + size)
        add_range(alone.address, 0, 2 * size // 3 + size)
        assert sketch.estimate() == alone.estimate()  # the union is exact
        sketch.clear()
        assert sketch.estimate() == 0


def test_merge():
    with HyperLogLog(0.05, seed=3) as one, HyperLogLog(0.05, seed=3) as two, HyperLogLog(0.05) as secret:
        add_range(one.address, 0, 100)
        add_range(two.address, 50, 150)
        one.merge(two)
        assert abs(int(one) - 150) < 25
        for other in (secret, HyperLogLog(0.1, seed=3)):
            with pytest.raises(TableError, match="cannot be merged"):
                one.merge(other)


@pytest.mark.parametrize("error", [0, 0.5, 0.001, -1])
def test_bad_error(error):
    with pytest.raises(TableError, match=f"error {error} is not 0.00203 to 0.26"):
        HyperLogLog(error)

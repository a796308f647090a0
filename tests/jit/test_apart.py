"""Loads and stores that do not meet: the loop is the same. (That it becomes vector code: tests/mem/test_pool.py.)"""

import pytest

from wirespeed.jit import kernel, load64, load64_apart, store64, store64_apart
from wirespeed.mem.region import Region


@kernel
def double(to, source, count):
    seen = 0
    for i in range(count):
        word = load64_apart(source + (i << 3))
        seen |= word
        store64_apart(to + (i << 3), word + word)
    return seen


@pytest.mark.parametrize("count", [0, 1, 3, 4, 31, 32, 100])
def test_each_word(count):
    with Region(4096, "test-words", huge=False) as region:
        to, source = region.address, region.address + 2048
        for i in range(count):
            store64(source + 8 * i, i * i)
        store64(to + 8 * count, -5)
        seen = 0
        for i in range(count):
            seen |= i * i
        assert double(to, source, count) == seen
        assert [load64(to + 8 * i) for i in range(count + 1)] == [*(2 * i * i for i in range(count)), -5]

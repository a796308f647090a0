"""What the sketches share: digests of keys of each length, bad keys, seeds, and attaching from another process."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirespeed.errors import ArenaError, TableError
from wirespeed.jit import COMPILED, kernel, write_bytes
from wirespeed.mem.region import Region
from wirespeed.tables.bloom import Bloom
from wirespeed.tables.count_min import CountMin
from wirespeed.tables.cuckoo_filter import CuckooFilter
from wirespeed.tables.hyperloglog import HyperLogLog
from wirespeed.tables.reservoir import Reservoir
from wirespeed.tables.sketch import SketchView
from wirespeed.tables.top_k import TopK

MAKERS = {
    "bloom": lambda **options: Bloom(100, **options),
    "cuckoo": lambda **options: CuckooFilter(100, **options),
    "count-min": lambda **options: CountMin(0.01, **options),
    "hyperloglog": lambda **options: HyperLogLog(0.1, **options),
    "top-k": lambda **options: TopK(10, **options),
}


@kernel
def digests(sketch, key, address):
    view = SketchView(sketch)
    return view.digest(key), view.digest_at(address)


@pytest.fixture(scope="module")
def memory():
    with Region(4096, "test-sketch", huge=False) as region:
        yield region.address


@given(st.integers(1, 64), st.binary(min_size=64, max_size=64), st.integers(-(1 << 63), (1 << 63) - 1))
def test_digests_compiled_and_interpreted(memory, length, data, number):
    with Bloom(1, key_bytes=length, seed=3) as sketch:
        view = SketchView(sketch.address)
        write_bytes(memory, data)
        assert digests(sketch.address, number, memory) == (view.digest(number), view.digest_at(memory))


def test_every_byte_of_a_key_counts(memory):
    for length in (1, 4, 7, 8, 13, 16, 31, 64):
        with Bloom(1, key_bytes=length, seed=length) as sketch:
            view = SketchView(sketch.address)
            write_bytes(memory, bytes(64))
            seen = {view.digest_at(memory)}
            for at in range(64):
                write_bytes(memory, bytes(at) + b"\x01" + bytes(63 - at))
                seen.add(view.digest_at(memory))
            assert len(seen) == length + 1  # and no byte behind it does


def test_digests_are_spread():
    """Of n digests of small numbers, each of 64 buckets gets its share within five standard deviations."""
    count = 64_000 if COMPILED else 3_200
    with HyperLogLog(0.26, seed=5) as sketch:
        view = SketchView(sketch.address)
        found = [view.digest(key) for key in range(0, count, 64 if COMPILED else 1)]
    for shift in (0, 29, 58):
        buckets = np.bincount([digest >> shift & 63 for digest in found], minlength=64)
        mean = len(found) / 64
        assert abs(buckets - mean).max() < 5 * mean**0.5


@pytest.mark.parametrize("kind", MAKERS)
def test_bad_keys(kind):
    make = MAKERS[kind]
    with make() as sketch:
        with pytest.raises(TableError, match="keys are integers here, not bytes: make it with key_bytes=3"):
            sketch.add(b"abc")
        with pytest.raises(TableError, match="more than 64 bits"):
            sketch.add(1 << 64)
        with pytest.raises(TableError, match="keys are an array of integers, not 1 dimensions of float64"):
            sketch.add_many(np.array([1.5]))
        sketch.add((1 << 64) - 1)
        sketch.add_many(np.array([(1 << 64) - 1], dtype=np.uint64))
    with make(key_bytes=13) as sketch:
        with pytest.raises(TableError, match="a key is 13 bytes, not 12 bytes"):
            sketch.add(bytes(12))
        with pytest.raises(TableError, match="a key is 13 bytes, not 7"):
            sketch.add(7)
        with pytest.raises(TableError, match="a key is 13 bytes, the rows have 14"):
            sketch.add_many(np.zeros((2, 14), dtype=np.uint8))
        sketch.add(bytes(13))
        sketch.add_many(np.zeros((2, 13), dtype=np.uint8))
        assert sketch.name in repr(sketch)
    with pytest.raises(TableError, match="keys of 65 bytes are not possible"):
        make(key_bytes=65)


@pytest.mark.parametrize("kind", MAKERS)
def test_seeds(kind):
    with MAKERS[kind](seed=1) as one, MAKERS[kind](seed=1) as same, MAKERS[kind](seed=2) as other:
        digest = [SketchView(sketch.address).digest(42) for sketch in (one, same, other)]
        assert digest[0] == digest[1] != digest[2]
    with MAKERS[kind]() as secret, MAKERS[kind]() as another:
        assert SketchView(secret.address).digest(42) != SketchView(another.address).digest(42)


def test_too_few_workers():
    for make in (CountMin, HyperLogLog):
        with make(workers=2) as sketch:
            sketch.prepare(2)
            assert sketch.stride > 0
            with pytest.raises(TableError, match="adds for 2 of 3 workers: make it with workers=3"):
                sketch.prepare(3)
        with pytest.raises(TableError, match="0 workers"):
            make(workers=0)
    for sketch in (Bloom(10), CuckooFilter(10)):
        sketch.prepare(64)
        assert sketch.stride == 0
        sketch.close()


CODE = """
import numpy as np
from wirespeed.errors import TableError
from wirespeed.tables.bloom import Bloom
from wirespeed.tables.count_min import CountMin
from wirespeed.tables.cuckoo_filter import CuckooFilter
from wirespeed.tables.hyperloglog import HyperLogLog
from wirespeed.tables.reservoir import Reservoir
from wirespeed.tables.top_k import TopK
bloom = Bloom.attach("t-bloom", writable=True)
print(7 in bloom, 8 in bloom)
bloom.add(8)
filter = CuckooFilter.attach("t-cuckoo")
print(7 in filter, 8 in filter, len(filter))
print(CountMin.attach("t-count").count_many(np.array([7, 8])).tolist())
print(int(HyperLogLog.attach("t-hll")))
print(sorted(Reservoir.attach("t-res").items().tolist()))
top = TopK.attach("t-top")
print(top.most_common(1)[0].key, top.count(7))
try:
    top.add(7)
except TableError as error:
    print(error)
"""


def test_attached_by_another_process():
    with (
        Bloom(100, name="t-bloom") as bloom,
        CuckooFilter(100, name="t-cuckoo") as filter,
        CountMin(0.01, workers=2, name="t-count") as counts,
        HyperLogLog(0.1, name="t-hll") as different,
        Reservoir(5, name="t-res") as sample,
        TopK(5, workers=2, name="t-top") as top,
    ):
        for sketch in (bloom, filter, counts, different, sample, top):
            sketch.add(7)
        done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
        assert done.stderr == ""
        lines = done.stdout.splitlines()
        assert lines[:6] == ["True False", "True False 1", "[1, 0]", "1", "[7]", "7 1"]
        assert "t-top belongs to process" in lines[6]
        assert 8 in bloom  # added over there
        with pytest.raises(ArenaError, match="one writer"):
            CuckooFilter.attach("t-cuckoo", writable=True)

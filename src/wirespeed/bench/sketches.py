"""What do the filters cost, beside DPDK's ``rte_member``? And the other sketches, which DPDK has not (or not alike).

``member_perf_autotest`` adds 393,216 random keys, looks each up five times in a random order, singly and in bursts of
64, and deletes them; so do we, with keys of 16 bytes, 64 apart. Its tables, and what stands beside them:

- HT (type 0): buckets of 16 signatures of 16 bits: the cuckoo filter, whose fingerprints have 16 bits as well.
- vBF (type 2): a vector of 16 Bloom filters, which says in which of 16 sets a key is, at 3 %: the Bloom filter, which
  says whether it is in one, at 1.36 %, what the vector's rate comes out at (the autotest prints it).

The bound: a filter of that many keys is 0.5 MB (0.8 MB the cuckoo filter), the size of the second-level cache, so most
questions miss the first level and some the second: one line for a question of the Bloom filter, two for the cuckoo
filter, 16 questions in flight in bulk. The digest of 16 bytes takes three products of 128 bits.

Count-min, HyperLogLog, top-k and reservoir: cycles for each of a million keys from a Zipf distribution, from an array,
as ``add_many`` has it.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from wirespeed.bench.beside import beside
from wirespeed.bench.result import Row
from wirespeed.bench.settings import Settings
from wirespeed.jit import cycles, kernel, tsc
from wirespeed.tables.bloom import Bloom, BloomView
from wirespeed.tables.bloom import _rows as bloom_rows
from wirespeed.tables.count_min import CountMin
from wirespeed.tables.cuckoo_filter import CuckooFilter, CuckooView
from wirespeed.tables.cuckoo_filter import _rows as cuckoo_rows
from wirespeed.tables.hyperloglog import HyperLogLog
from wirespeed.tables.reservoir import Reservoir
from wirespeed.tables.top_k import TopK

AUTOTEST = "member_perf_autotest"
_KEYS = (1 << 19) * 75 // 100
_KEY_BYTES = 16
_STRIDE = 64
_COLUMNS = ("Add", "Lookup", "Lookup_bulk", "lookup_multi", "lookup_multi_bulk", "Delete")


@kernel
def ask_bloom(filter: int, keys: int, count: int) -> tuple[int, int]:
    """(cycles, how many were found), one key after the other, as a node asks."""
    view = BloomView(filter)
    found = 0
    begin = cycles()
    for i in range(count):
        found += view.contains_at(keys + i * _STRIDE)
    return cycles() - begin, found


@kernel
def ask_cuckoo(filter: int, keys: int, count: int) -> tuple[int, int]:
    """(cycles, how many were found), one key after the other, as a node asks."""
    view = CuckooView(filter)
    found = 0
    begin = cycles()
    for i in range(count):
        found += view.contains_at(keys + i * _STRIDE)
    return cycles() - begin, found


def _pattern(kind: int, column: str) -> str:
    """The line of our key size and a type; the figure in a column."""
    before = r"\s+\d+" * _COLUMNS.index(column)
    return rf"^{_KEY_BYTES}\s+{kind}{before}\s+(\d+)\s"


def rows(settings: Settings, tell: Callable[[str], None]) -> Sequence[Row]:
    """Measure every row."""
    count = 5_000 if settings.quick else _KEYS
    random = np.random.default_rng(1)
    table = random.integers(0, 256, (count, _STRIDE), dtype=np.uint8)
    shuffled = np.ascontiguousarray(table[random.permutation(count)])
    out = np.zeros(count, dtype=np.int64)
    row = partial(beside, settings, tell, "sketches")

    def timed(work: Callable[[], Any]) -> float:
        begin = tsc()
        work()
        return (tsc() - begin) / count

    def bulk(filter: Any, keys: Any, what: int) -> float:
        """The kernel of ``contains_many`` (0), ``add_many`` (1) and ``delete_many`` (2)."""
        kernel = bloom_rows if isinstance(filter, Bloom) else cuckoo_rows
        return timed(lambda: kernel(filter.address, keys.ctypes.data, count, _STRIDE, what, out.ctypes.data))

    found = []
    with CuckooFilter(count * 4 // 3, key_bytes=_KEY_BYTES) as cuckoo:

        def fill(filter: Any) -> float:
            filter.clear()
            return bulk(filter, table, 1)

        def empty() -> float:
            fill(cuckoo)
            return bulk(cuckoo, shuffled, 2)

        fill(cuckoo)
        one = [lambda: ask_cuckoo(cuckoo.address, shuffled.ctypes.data, count)[0] / count]
        one[0]()
        theirs = "DPDK rte_member HT"
        found += [
            row("cuckoo filter, lookup", one[0], AUTOTEST, _pattern(0, "Lookup"), name=theirs),
            row("cuckoo filter, lookup bulk", lambda: bulk(cuckoo, shuffled, 0), AUTOTEST,
                _pattern(0, "Lookup_bulk"), name=theirs),
            row("cuckoo filter, add", lambda: fill(cuckoo), AUTOTEST, _pattern(0, "Add"), name=theirs),
            row("cuckoo filter, delete", empty, AUTOTEST, _pattern(0, "Delete"), name=theirs),
        ]  # fmt: skip
        found.append(Row("sketches", "cuckoo filter, memory per key", "bytes", cuckoo.memory_bytes / count))
    with Bloom(count, 0.0136, key_bytes=_KEY_BYTES) as bloom:
        fill(bloom)
        ask_bloom(bloom.address, shuffled.ctypes.data, count)
        theirs = "DPDK rte_member vBF"
        found += [
            row("Bloom filter, lookup", lambda: ask_bloom(bloom.address, shuffled.ctypes.data, count)[0] / count,
                AUTOTEST, _pattern(2, "Lookup"), name=theirs),
            row("Bloom filter, lookup bulk", lambda: bulk(bloom, shuffled, 0), AUTOTEST,
                _pattern(2, "Lookup_bulk"), name=theirs),
            row("Bloom filter, add", lambda: fill(bloom), AUTOTEST, _pattern(2, "Add"), name=theirs),
        ]  # fmt: skip
        found.append(Row("sketches", "Bloom filter, memory per key", "bytes", bloom.memory_bytes / count))
    numbers = random.zipf(1.1, count) & 0xFFFF_FFFF
    for name, sketch in (
        ("count-min 0.01 %, 4 rows, add", CountMin(0.0001)),
        ("HyperLogLog 1 %, add", HyperLogLog(0.01)),
        ("top-k of 1000, add", TopK(1000)),
        ("reservoir of 1000, add", Reservoir(1000)),
    ):
        with sketch:
            sketch.add_many(numbers)
            found.append(row(name, partial(timed, partial(sketch.add_many, numbers)), AUTOTEST))
    return found

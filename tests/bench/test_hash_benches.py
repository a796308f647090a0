"""The benches of hashes and sketches: they do what they say, and find their figures in what the autotests print."""

import re

import numpy as np

from wirespeed.bench import sketches
from wirespeed.bench.checksum import sum_of_blocks
from wirespeed.bench.dpdk_test import figures
from wirespeed.bench.sketches import ask_bloom, ask_cuckoo
from wirespeed.bench.toeplitz import hash_tuples
from wirespeed.hashes import checksum
from wirespeed.jit import lent
from wirespeed.tables.bloom import Bloom
from wirespeed.tables.cuckoo_filter import CuckooFilter
from wirespeed.tables.toeplitz import Toeplitz

MEMBER = """\
Keysize           type              Add               Lookup            Lookup_bulk       lookup_multi      \
lookup_multi_bulk Delete            miss_lookup
8                 0                 285               191               157               335               \
263               263               112
16                0                 240               320               187               682               \
340               300               176
16                2                 292               195               180               224               \
233               0                 70
"""  # as member_perf_autotest of DPDK 22.11 prints it


def test_columns_of_member_perf_autotest():
    found = [figures(MEMBER, cost=sketches._pattern(0, column))["cost"] for column in sketches._COLUMNS]
    assert found == [240, 320, 187, 682, 340, 300]
    assert figures(MEMBER, cost=sketches._pattern(2, "Lookup_bulk"))["cost"] == 180


def test_hash_tuples_hashes_each_tuple():
    tuples = np.random.default_rng(1).integers(0, 256, (1024, 64), dtype=np.uint8)
    with Toeplitz() as toeplitz, lent(tuples):
        for length in (8, 12, 36):
            _, total = hash_tuples(toeplitz.address, tuples.ctypes.data, 1, length)
            assert total == np.bitwise_xor.reduce(toeplitz.hash_many(tuples[:, :length]))


def test_sum_of_blocks_sums_ten():
    memory = np.random.default_rng(2).integers(0, 256, 10 * 1536, dtype=np.uint8)
    blocks = memory.reshape(10, 1536)[:, :100]
    with lent(memory):
        _, total = sum_of_blocks(memory.ctypes.data, 1, 100)
    swapped = [int.from_bytes((checksum(bytes(row)) ^ 0xFFFF).to_bytes(2, "big"), "little") for row in blocks]
    assert total == sum(swapped)


def test_filters_find_all():
    table = np.random.default_rng(3).integers(0, 256, (50, 64), dtype=np.uint8)
    with Bloom(50, key_bytes=16) as bloom, CuckooFilter(50, key_bytes=16) as cuckoo:
        for filter in (bloom, cuckoo):
            filter.add_many(table[:, :16])
        with lent(table):
            assert ask_bloom(bloom.address, table.ctypes.data, 50)[1] == 50
            assert ask_cuckoo(cuckoo.address, table.ctypes.data, 50)[1] == 50


def test_nothing_is_measured_beside_a_hash_of_another_length():
    line = "rte_hash_crc, 16                , 0            , 45.31"
    assert re.search(r"^rte_hash_crc\s*,\s*16\s*,\s*0\s*,\s*([\d.]+)", line)
    assert not re.search(r"^rte_hash_crc\s*,\s*6\s*,\s*0\s*,\s*([\d.]+)", line)

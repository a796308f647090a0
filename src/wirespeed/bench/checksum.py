"""What does the Internet checksum cost, beside DPDK's ``rte_raw_cksum``?

``cksum_perf_autotest`` sums ten blocks of random bytes over and over, each by a call, and adds up the results; so do
we, inlined, as it is in a node. "Unaligned" is one byte off.

The bound. 32 bytes take a load, two additions and a shift of 32-byte vectors: three operations on Zen 3's four
integer vector units, 0.75 core cycles, so 1500 bytes 35 core cycles, 28 of this machine's TSC at the 3.1 GHz that the
core was seen to run at. Measured: 48 bytes a TSC cycle for long blocks (38 a core cycle, of 43), 39 TSC cycles for 46
times 32 bytes; the rest of 1500 bytes (28 of them, in three steps) and folding overlap with the next block's sum only
in part: 45 to 51. Short blocks are bound by instructions: 20 bytes take 30 of them, 6 to 7 cycles.

Tried: the sum by words (LLVM makes 16-byte vectors of it: half as fast), VPMADDWD (three operations as well, and it
overflows after 1 MiB), VPSADBW (five).
"""

from collections.abc import Callable, Sequence

import numpy as np

from wirespeed.bench.beside import beside
from wirespeed.bench.result import Row
from wirespeed.bench.settings import Settings
from wirespeed.hashes.internet import fold, sum_bytes
from wirespeed.jit import cycles, kernel

AUTOTEST = "cksum_perf_autotest"
_BLOCKS = 10
_STRIDE = 1536


@kernel
def sum_of_blocks(blocks: int, rounds: int, length: int) -> tuple[int, int]:
    """(cycles, all sums together) of ten blocks, ``rounds`` times."""
    total = 0
    begin = cycles()
    for _ in range(rounds):
        for i in range(_BLOCKS):
            total += fold(sum_bytes(blocks + i * _STRIDE, length))
    return cycles() - begin, total


def rows(settings: Settings, tell: Callable[[str], None]) -> Sequence[Row]:
    """Measure every row."""
    rounds = 1000 if settings.quick else 50_000
    memory = np.random.default_rng(1).integers(0, 256, _BLOCKS * _STRIDE + 64, dtype=np.uint8)
    aligned = -(-memory.ctypes.data // 64) * 64
    found = []
    for length, offset in ((20, 0), (100, 0), (1500, 0), (1500, 1), (21, 0), (1501, 0)):

        def ours(length: int = length, offset: int = offset) -> float:
            return sum_of_blocks(aligned + offset, rounds, length)[0] / (rounds * _BLOCKS)

        ours()  # compiled
        how = "Unaligned" if offset else "Aligned"
        found.append(
            beside(
                settings, tell, "checksum", f"{length} bytes, {how.lower()}", ours, AUTOTEST,
                rf"^{how}\s+{length}\s+([\d.]+)", until=r"^Unaligned\s+1501\s",
            )
        )  # fmt: skip
    return found

"""What does a Toeplitz hash cost, by carry-less products, beside DPDK's ``rte_softrss`` and ``rte_softrss_be``?

``thash_perf_autotest`` hashes 1,024 random tuples, each in memory of its own, 2^15 times over, and adds up the hashes;
so do we. Its better function counts (the second takes its key prepared, as ours does). With GFNI, which this machine
has not, it prints two more that are not looked at.

The bound. A product for each 32 bits of input: PCLMULQDQ is 4 micro-operations on Zen 3, one every 2 core cycles. 36
bytes are 9 products, 18 cycles, beside 9 moves into vector registers and 16 instructions that reverse the bits; 25
core cycles measured (20 of the TSC). 12 bytes: 3 products, 6 cycles; 10 measured (8.3 of the TSC). LLVM adds the
products up in vector registers, which saves a move back for each. A table look-up for each byte (36 KiB of tables for
36 bytes, more than the first-level cache) took 7.2 and 28 TSC cycles; it was given up for 80 bytes and any length.
"""

from collections.abc import Callable, Sequence

import numpy as np

from wirespeed.bench.beside import beside
from wirespeed.bench.result import Row
from wirespeed.bench.settings import Settings
from wirespeed.jit import cycles, kernel
from wirespeed.tables.toeplitz import Toeplitz, ToeplitzView

AUTOTEST = "thash_perf_autotest"
_TUPLES = 1024
_STRIDE = 64


@kernel
def hash_tuples(toeplitz: int, tuples: int, rounds: int, length: int) -> tuple[int, int]:
    """(cycles, all hashes together) of hashing each tuple ``rounds`` times."""
    view = ToeplitzView(toeplitz)
    total = 0
    begin = cycles()
    for _ in range(rounds):
        for i in range(_TUPLES):
            at = tuples + i * _STRIDE
            if length == 12:  # as in a node, which knows how long its tuples are
                total ^= view.hash_at(at, 12)
            elif length == 36:
                total ^= view.hash_at(at, 36)
            else:
                total ^= view.hash_at(at, length)
    return cycles() - begin, total


def rows(settings: Settings, tell: Callable[[str], None]) -> Sequence[Row]:
    """Measure every row."""
    rounds = 20 if settings.quick else 2000
    tuples = np.random.default_rng(1).integers(0, 256, (_TUPLES, _STRIDE), dtype=np.uint8)
    found = []
    with Toeplitz() as toeplitz:
        for length, what in ((12, "IPv4 with ports"), (36, "IPv6 with ports"), (8, "IPv4"), (32, "IPv6")):

            def ours(length: int = length) -> float:
                return hash_tuples(toeplitz.address, tuples.ctypes.data, rounds, length)[0] / (rounds * _TUPLES)

            ours()  # compiled
            patterns = [rf"{name}\(\) takes\s+([\d.]+) cycles for key len {length}$" for name in
                        ("rte_softrss", "rte_softrss_be")]  # fmt: skip
            found.append(beside(settings, tell, "toeplitz", f"{what}, {length} bytes", ours, AUTOTEST, *patterns))
    return found

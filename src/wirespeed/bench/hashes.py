"""What does hashing a key cost, beside DPDK's ``rte_hash_crc`` and ``rte_jhash``?

``hash_functions_autotest`` hashes a million random keys, 64 bytes apart, once over, and prints TSC cycles for each;
so do we, by the kernel that ``crc32c_hash_many`` and its sisters use. CRC32C is the same hash bit for bit. xxHash64
stands beside jhash, the other hash DPDK has: 64 bits beside 32, both well mixed. SipHash has no peer in DPDK 22.11.

The bound. A million keys are 64 MB, so each costs at least the line that comes from memory, some 5 cycles with the
hardware's prefetcher at work; in the cache, CRC32C takes a cycle for each 8 bytes when the hashes of several keys
overlap, as they do in a loop that is inlined (the chain of one key is 3 cycles for 8 bytes), xxHash64 about a cycle a
byte up to 64 bytes, SipHash 24 and 1.2 a byte.
"""

from collections.abc import Callable, Sequence

import numpy as np

from wirespeed.bench.beside import beside
from wirespeed.bench.result import Row
from wirespeed.bench.settings import Settings
from wirespeed.hashes.crc32c import hash_rows as crc_rows
from wirespeed.hashes.siphash import hash_rows as sip_rows
from wirespeed.hashes.xxhash64 import hash_rows as xxh_rows
from wirespeed.jit import tsc

AUTOTEST = "hash_functions_autotest"
_STRIDE = 64


def rows(settings: Settings, tell: Callable[[str], None]) -> Sequence[Row]:
    """Measure every row."""
    count = 10_000 if settings.quick else 1_000_000
    keys = np.random.default_rng(1).integers(0, 256, (count, _STRIDE), dtype=np.uint8)
    out = np.empty(count, dtype=np.uint64)
    where, to = (keys.ctypes.data, count, _STRIDE), out.ctypes.data
    hashes: dict[str, tuple[str | None, Callable[[int], object]]] = {
        "CRC32C": ("rte_hash_crc", lambda length: crc_rows(*where, length, 0, 0, to)),
        "xxHash64": ("jhash", lambda length: xxh_rows(*where, length, 0, to)),
        "SipHash-2-4": (None, lambda length: sip_rows(*where, length, 1, 2, to)),
    }
    found = []
    for name, (theirs, hash_all) in hashes.items():
        for length in (8, 13, 16, 37, 64):

            def ours(length: int = length, hash_all: Callable[[int], object] = hash_all) -> float:
                begin = tsc()
                hash_all(length)
                return (tsc() - begin) / count

            ours()  # compiled
            patterns = [rf"^{theirs}\s*,\s*{length}\s*,\s*0\s*,\s*([\d.]+)"] if theirs else []
            found.append(beside(settings, tell, "hashes", f"{name}, {length} bytes", ours, AUTOTEST, *patterns,
                                name=f"DPDK {theirs}"))  # fmt: skip
    return found

"""Made-up routing tables whose prefixes are as long as the Internet's, for tests and benches.

The share of each length is that of the IPv6 table as route collectors see it in 2025 and 2026: almost half /48, an
eighth /32, and peaks at the half-bytes between. Prefixes lie in some hundred /16 to /23 blocks of 2000::/3, as the
registries give them out, and longer ones in the allocations of shorter ones, so that they nest.
"""

import numpy as np
from numpy.typing import NDArray

LENGTHS6: dict[int, float] = {
    20: 0.0002, 24: 0.0002, 26: 0.0001, 28: 0.0012, 29: 0.027, 30: 0.004, 31: 0.002, 32: 0.141, 33: 0.018, 34: 0.016,
    35: 0.0065, 36: 0.0375, 37: 0.0055, 38: 0.01, 39: 0.0086, 40: 0.0838, 41: 0.0056, 42: 0.0144, 43: 0.0063,
    44: 0.0897, 45: 0.0097, 46: 0.019, 47: 0.0197, 48: 0.4713, 56: 0.0005, 64: 0.0011,
}  # fmt: skip
"""Length of a prefix and its share of an IPv6 table."""

_BLOCKS = 120


def internet6(count: int, seed: int) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
    """(high words, lengths) of ``count`` different IPv6 prefixes, none longer than /64; the same for the same seed."""
    random = np.random.default_rng(seed)
    shares = np.array(list(LENGTHS6.values()))
    blocks = random.integers(0x2000 << 7, 0x3000 << 7, _BLOCKS, dtype=np.uint64) << np.uint64(41)  # /23s
    allocations = random.choice(blocks, max(count // 4, 1)) | (
        random.integers(0, 1 << 9, max(count // 4, 1), dtype=np.uint64) << np.uint64(32)
    )
    highs, lengths = np.empty(0, np.uint64), np.empty(0, np.uint8)
    while len(highs) < count:
        more = count - len(highs) + 64
        bits = random.choice(np.array(list(LENGTHS6), np.uint64), more, p=shares / shares.sum())
        words = random.choice(allocations, more) | random.integers(0, 1 << 32, more, dtype=np.uint64)
        free = np.uint64(64) - bits
        words = words >> free << free
        both = np.concatenate([np.stack([highs, lengths.astype(np.uint64)], 1), np.stack([words, bits], 1)])
        _, first = np.unique(both, axis=0, return_index=True)
        both = both[np.sort(first)]
        highs, lengths = both[:, 0], both[:, 1].astype(np.uint8)
    return np.ascontiguousarray(highs[:count]), lengths[:count]

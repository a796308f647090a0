"""SipHash and xxHash64 against their published vectors; every length, compiled and from Python, in bulk."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirespeed.errors import TableError
from wirespeed.hashes import (
    siphash24,
    siphash24_at,
    siphash24_many,
    siphash_key,
    xxhash64,
    xxhash64_at,
    xxhash64_many,
)
from wirespeed.jit import kernel, signed64, write_bytes

VECTORS = Path(__file__).parents[1] / "vectors" / "siphash-2-4.txt"
KEY = bytes(range(16))


@kernel
def in_node(address, length, seed, k0, k1):
    return xxhash64_at(address, length, seed), siphash24_at(address, length, k0, k1)


def test_siphash_vectors():
    lines = [line for line in VECTORS.read_text().splitlines() if not line.startswith("#")]
    assert len(lines) == 64
    for size, line in enumerate(lines):
        assert siphash24(bytes(range(size)), KEY).to_bytes(8, "little").hex() == line
    assert siphash24(bytes(range(15)), KEY) == 0xA129CA6149BE45E5  # the paper, appendix A


def sanity_buffer(size):
    """The pseudo-random bytes of xxHash's own sanity check (tests/sanity_test.c)."""
    generator, out = 2654435761, bytearray()
    for _ in range(size):
        out.append(generator >> 56)
        generator = generator * 11400714785074694797 & 0xFFFF_FFFF_FFFF_FFFF
    return bytes(out)


@pytest.mark.parametrize(
    ("size", "seed", "expect"),
    [  # xxHash's sanity check, XSUM_XXH64_testdata of version 0.8.0 (cli/xsum_sanity_check.c)
        (0, 0, 0xEF46DB3751D8E999),
        (0, 2654435761, 0xAC75FDA2929B17EF),
        (1, 0, 0xE934A84ADB052768),
        (1, 2654435761, 0x5014607643A9B4C3),
        (4, 0, 0x9136A0DCA57457EE),
        (14, 0, 0x8282DCC4994E35C8),
        (14, 2654435761, 0xC3BD6BF63DEB6DF0),
        (222, 0, 0xB641AE8CB691C174),
        (222, 2654435761, 0x20CB8AB7AE10C14A),
    ],
)
def test_xxhash64_sanity_check(size, seed, expect):
    assert xxhash64(sanity_buffer(size), seed) == expect


def test_xxhash64_of_words():
    assert xxhash64(b"a") == 0xD24EC4F1A98C6E5B
    assert xxhash64(b"abc") == 0x44BC2CF5AD770999


@given(st.binary(max_size=150), st.integers(0, (1 << 64) - 1))
def test_xxhash64_against_the_package(data, seed):
    theirs = pytest.importorskip("xxhash")
    assert xxhash64(data, seed) == theirs.xxh64_intdigest(data, seed)


@given(st.binary(max_size=100), st.integers(0, (1 << 64) - 1), st.binary(min_size=16, max_size=16))
def test_in_a_node(memory, data, seed, key):
    write_bytes(memory + 1, data)
    got = in_node(memory + 1, len(data), signed64(seed), *siphash_key(key))
    assert got == (signed64(xxhash64(data, seed)), signed64(siphash24(data, key)))


def test_bulk():
    table = np.random.default_rng(4).integers(0, 256, (40, 70), dtype=np.uint8)
    for keys in (table[:, 2:45], table[::-1], table[:, :8].copy().view(np.int64)[:, 0]):
        assert xxhash64_many(keys, 9).tolist() == [xxhash64(row.tobytes(), 9) for row in keys]
        assert siphash24_many(keys, KEY).tolist() == [siphash24(row.tobytes(), KEY) for row in keys]


def test_keys():
    with pytest.raises(TableError, match="15 bytes is not possible: it has 16"):
        siphash24(b"", KEY[:15])
    assert siphash_key() != siphash_key()
    assert siphash_key(KEY) == (0x0706050403020100, 0x0F0E0D0C0B0A0908)

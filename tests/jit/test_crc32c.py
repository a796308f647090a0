"""CRC32C steps: published vectors, and the table against the instruction against the twin."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba.core import types

from wirespeed import jit
from wirespeed.jit import crc32c, kernel
from wirespeed.jit.primitive import primitive

int64 = st.integers(-(1 << 63), (1 << 63) - 1)


@primitive(crc32c.by_table(64), types.int64, types.int64, types.int64)
def table_word(crc, word):
    return jit.crc32c_word(crc, word)


@primitive(crc32c.by_table(32), types.int64, types.int64, types.int64)
def table_half(crc, half):
    return jit.crc32c_half(crc, half)


@primitive(crc32c.by_table(8), types.int64, types.int64, types.int64)
def table_byte(crc, byte):
    return jit.crc32c_byte(crc, byte)


@kernel
def chosen(crc, data):
    return jit.crc32c_word(crc, data), jit.crc32c_half(crc, data), jit.crc32c_byte(crc, data)


@kernel
def by_table(crc, data):
    return table_word(crc, data), table_half(crc, data), table_byte(crc, data)


def twins(crc, data):
    return jit.crc32c_word(crc, data), jit.crc32c_half(crc, data), jit.crc32c_byte(crc, data)


@given(int64, int64)
def test_instruction_table_and_twin_agree(crc, data):
    assert chosen(crc, data) == by_table(crc, data) == twins(crc, data)


VECTORS = [  # RFC 3720 appendix B.4, CRCs as little-endian words; the last is the catalogue's check value
    (bytes(32), 0x8A9136AA),
    (b"\xff" * 32, 0x62A8AB43),
    (bytes(range(32)), 0x46DD794E),
    (bytes(range(31, -1, -1)), 0x113FDB5C),
    (b"123456789", 0xE3069283),
]


@pytest.mark.parametrize("step", [chosen, by_table, twins])
@pytest.mark.parametrize(("data", "expect"), VECTORS)
def test_published_vectors(step, data, expect):
    for width, which in ((8, 0), (4, 1), (1, 2)):
        crc = 0xFFFF_FFFF
        whole = len(data) - len(data) % width
        for at in range(0, whole, width):
            crc = step(crc, jit.signed64(int.from_bytes(data[at : at + width], "little")))[which]
        for byte in data[whole:]:
            crc = step(crc, byte)[2]
        assert crc ^ 0xFFFF_FFFF == expect

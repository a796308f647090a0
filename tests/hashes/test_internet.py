"""The Internet checksum from Python: the RFCs' vectors, a plain model at every length and alignment, in bulk."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirespeed.hashes import checksum, checksum_at, checksum_many, update16
from wirespeed.jit import COMPILED, kernel, write_bytes


def model(data):
    """RFC 1071 section 4.1, word by word."""
    data += b"\0" * (len(data) % 2)
    total = sum(int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@kernel
def in_node(address, length):
    return checksum_at(address, length)


def test_rfc_1071_section_3():
    assert checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0xDDF2 ^ 0xFFFF
    assert checksum(b"") == 0xFFFF


def test_rfc_1624_section_4():
    """HC = DD2F, a 16-bit field goes from 5555 to 3285; the new checksum is 0000."""
    assert update16(0xDD2F, 0x5555, 0x3285) == 0x0000


@given(st.binary(max_size=400), st.integers(0, 40))
def test_anything(memory, data, offset):
    write_bytes(memory + offset, data)
    assert in_node(memory + offset, len(data)) == checksum(data) == model(data)


@pytest.mark.parametrize("fill", [0x00, 0xFF])
def test_every_length(memory, fill):
    data = bytes([fill]) * 300
    write_bytes(memory, data)
    for length in range(300 if COMPILED else 70):
        assert in_node(memory, length) == model(data[:length])


def test_long_and_bulk():
    random = np.random.default_rng(5)
    data = random.integers(0, 256, 200_001 if COMPILED else 5_001, dtype=np.uint8)
    assert checksum(data) == model(data.tobytes())
    blocks = random.integers(0, 256, (30, 1501), dtype=np.uint8)
    assert checksum_many(blocks).tolist() == [model(row.tobytes()) for row in blocks]
    assert checksum_many(blocks[:, 1:21]).tolist() == [model(row.tobytes()) for row in blocks[:, 1:21]]

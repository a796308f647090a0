"""Sums of blocks, compiled against the twin, at every count around a turn of the loop and every alignment."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirespeed.jit import COMPILED, kernel, sum_blocks, sum_tail, write_bytes

MANY = 40 if COMPILED else 9


@kernel
def summed(address, count):
    return sum_blocks(address, count)


@pytest.mark.parametrize("count", range(MANY))
@pytest.mark.parametrize("offset", [0, 1, 31])
def test_counts(memory, count, offset):
    data = bytes((7 * i + 1) % 256 for i in range(32 * MANY))
    write_bytes(memory + offset, data)
    expect = sum(int.from_bytes(data[i : i + 4], "little") for i in range(0, 32 * count, 4))
    assert summed(memory + offset, count) == expect == sum_blocks(memory + offset, count)


@given(st.binary(min_size=160, max_size=160))
def test_anything(memory, data):
    write_bytes(memory, data)
    assert summed(memory, 5) == sum_blocks(memory, 5)


def test_all_ones_do_not_overflow(memory):
    write_bytes(memory, b"\xff" * 4096)
    assert summed(memory, 128) == 1024 * 0xFFFF_FFFF
    assert summed(memory, 0) == 0


@kernel
def tail(end, count):
    return sum_tail(end, count)


@pytest.mark.parametrize("count", range(32))
def test_tails(memory, count):
    """RFC 1071: bytes at odd places of the words weigh the same once the total's bytes are exchanged."""
    data = bytes((11 * i + 3) % 256 for i in range(64))
    write_bytes(memory, data)
    part = data[64 - count :]
    plain = sum(int.from_bytes(part[i : i + 2], "little") for i in range(0, count, 2))
    assert tail(memory + 64, count) == sum_tail(memory + 64, count)
    assert tail(memory + 64, count) % 65535 == plain % 65535

"""Primitives that are one instruction: compiled, each says what its plain-Python twin says."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wirespeed import jit
from wirespeed.jit import kernel

int64 = st.integers(-(1 << 63), (1 << 63) - 1)
EDGES = (0, 1, -1, 0x7F, 0x80, 0xFF, 0x8000, 0xFFFF, 1 << 31, (1 << 32) - 1, 1 << 62, (1 << 63) - 1, -(1 << 63))


@kernel
def one(value):
    return (
        jit.bswap16(value),
        jit.bswap32(value),
        jit.bswap64(value),
        jit.popcount(value),
        jit.trailing_zeros(value),
        jit.leading_zeros(value),
        jit.bit_reverse32(value),
    )


@kernel
def two(a, b):
    return (
        jit.add(a, b),
        jit.multiply(a, b),
        jit.shift_right(a, b & 63),
        jit.multiply_high(a, b),
        jit.rotate_left(a, b & 63),
    )


def twins(value):
    return (
        jit.bswap16(value),
        jit.bswap32(value),
        jit.bswap64(value),
        jit.popcount(value),
        jit.trailing_zeros(value),
        jit.leading_zeros(value),
        jit.bit_reverse32(value),
    )


@given(int64)
def test_one_argument(value):
    assert one(value) == twins(value)


@pytest.mark.parametrize("value", EDGES)
def test_one_argument_at_the_edges(value):
    assert one(value) == twins(value)


@given(int64, int64)
@example(-(1 << 63), -1)
@example((1 << 63) - 1, (1 << 63) - 1)
@example(-1, 63)
@example(-1, 0)
def test_two_arguments(a, b):
    assert two(a, b) == (
        jit.add(a, b),
        jit.multiply(a, b),
        jit.shift_right(a, b & 63),
        jit.multiply_high(a, b),
        jit.rotate_left(a, b & 63),
    )


def test_literally():
    assert one(0x0102030405060708) == (0x0807, 0x08070605, 0x0807060504030201, 13, 3, 7, 0x10E060A0)
    assert one(0) == (0, 0, 0, 0, 64, 64, 0)
    assert two(-1, 60) == (59, -60, 15, 59, -1)
    assert two(1 << 62, 1 << 62)[0] == -(1 << 63)  # wraps


@given(int64)
def test_signed64_is_what_a_register_holds(value):
    assert jit.signed64(value) == value
    assert jit.signed64(value + (1 << 64)) == value
    assert jit.signed64(value - (1 << 64)) == value


def test_multiply_high_is_unsigned():
    assert two(-1, -1)[3] == -2  # (2^64 - 1)^2 = 2^128 - 2 * 2^64 + 1
    assert two(1 << 62, 4)[3] == 1
    assert two(-(1 << 63), 10)[3] == 5  # half of range(10)

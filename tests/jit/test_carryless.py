"""Carry-less products: instruction, shifts and twin say the same; known products."""

from hypothesis import given
from hypothesis import strategies as st
from numba.core import types

from wirespeed.jit import carryless, carryless_multiply, kernel, signed64
from wirespeed.jit.primitive import primitive

int64 = st.integers(-(1 << 63), (1 << 63) - 1)


@primitive(carryless.by_shifts, types.int64, types.int64, types.int64)
def shifted(a, b):
    return carryless_multiply(a, b)


@kernel
def both(a, b):
    return carryless_multiply(a, b), shifted(a, b)


@given(int64, int64)
def test_three_ways(a, b):
    assert both(a, b) == (carryless_multiply(a, b), carryless_multiply(a, b))


def test_known_products():
    assert both(0b11, 0b11)[0] == 0b101  # (x + 1)^2 = x^2 + 1
    assert both(-1, 1)[0] == -1
    # Intel's white paper on PCLMULQDQ (Gueron and Kounavis, 2010), figure 4: a * b, its low half
    a, b = signed64(0x7B5B546573745665), signed64(0x4869285368617929)
    assert both(a, b)[0] == carryless_multiply(b, a)

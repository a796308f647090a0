"""Loads, stores and copies by address, and the bounds that interpreted code is held to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirespeed import jit
from wirespeed.jit import COMPILED, kernel

int64 = st.integers(-(1 << 63), (1 << 63) - 1)


@kernel
def store_all(at, value):
    jit.store8(at, value)
    jit.store16(at + 8, value)
    jit.store32(at + 16, value)
    jit.store64(at + 24, value)


@kernel
def load_all(at):
    return jit.load8(at), jit.load16(at + 8), jit.load32(at + 16), jit.load64(at + 24)


@kernel
def copies(to, source, size):
    jit.copy(to, source, size)
    jit.copy64(to + 256, source)
    jit.prefetch(source)


@kernel
def moves(to, source, size):
    jit.move(to, source, size)


@kernel
def fills(to, value, size):
    jit.fill(to, value, size)


@given(int64)
def test_loads_widen_without_sign_and_stores_truncate(memory, value):
    jit.fill(memory, 0xAA, 64)
    store_all(memory, value)
    said = load_all(memory)
    assert said == (value & 0xFF, value & 0xFFFF, value & 0xFFFF_FFFF, value)
    raw = (value & (1 << 64) - 1).to_bytes(8, "little")
    padding = bytes([0xAA])
    assert jit.read_bytes(memory, 32) == (raw[:1] + padding * 7 + raw[:2] + padding * 6 + raw[:4] + padding * 4 + raw)
    jit.store16(memory + 40, value)
    assert jit.load16(memory + 40) == value & 0xFFFF
    jit.store32(memory + 40, value)
    assert jit.load32(memory + 40) == value & 0xFFFF_FFFF


def test_any_alignment(memory):
    jit.write_bytes(memory, bytes(range(64)))
    for offset in range(9):
        assert load_all(memory + offset) == tuple(
            int.from_bytes(bytes(range(64))[offset + 8 * i : offset + 8 * i + (1 << i)], "little") for i in range(4)
        )


@given(st.binary(min_size=64, max_size=200), st.integers(0, 200))
def test_copy(memory, data, size):
    size = min(size, len(data))
    jit.fill(memory + 1024, 0, 512)
    jit.write_bytes(memory, data)
    copies(memory + 1024, memory, size)
    assert jit.read_bytes(memory + 1024, 256) == data[:size] + bytes(256 - size)
    assert jit.read_bytes(memory + 1280, 64) == data[:64]


@given(st.binary(min_size=1, max_size=100), st.integers(0, 60), st.integers(0, 60))
def test_move_overlapping(memory, data, to, source):
    model = bytearray(200)
    model[source : source + len(data)] = data
    jit.write_bytes(memory, bytes(model))
    moves(memory + to, memory + source, len(data))
    model[to : to + len(data)] = data
    assert jit.read_bytes(memory, 200) == bytes(model)


@given(int64, st.integers(0, 100))
def test_fill(memory, value, size):
    jit.fill(memory, 0x55, 128)
    fills(memory, value, size)
    assert jit.read_bytes(memory, 128) == bytes([value & 0xFF]) * size + bytes([0x55]) * (128 - size)


# The address sanitiser: twins are what interpreted runs call ----------------------------------------------


@pytest.fixture
def window(memory):
    """100 bytes that may be touched, in a region of their own far from others."""
    start = 0x10_0000
    jit.register(start, 100, "a window")
    yield start
    jit.unregister(start)


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_outside_a_region(window, size):
    load = {1: jit.load8, 2: jit.load16, 4: jit.load32, 8: jit.load64}[size]
    store = {1: jit.store8, 2: jit.store16, 4: jit.store32, 8: jit.store64}[size]
    for address in (window - 1, window + 101 - size, window + 100, 0, -8):
        with pytest.raises(AssertionError, match="outside every known region"):
            load(address)
        with pytest.raises(AssertionError, match="outside every known region"):
            store(address, 0)


def test_outside_names_the_region_below(window):
    with pytest.raises(AssertionError, match=r"access to 8 bytes at 0x10005d.* a window"):
        jit.load64(window + 93)


def test_check_at_the_borders(window):
    jit.check(window, 100)
    jit.check(window + 99, 1)
    with pytest.raises(AssertionError):
        jit.check(window, 101)
    with pytest.raises(AssertionError):
        jit.check(window - 1, 2)


@pytest.mark.parametrize("call", [jit.copy, jit.move])
def test_copies_are_checked_at_both_ends(memory, window, call):
    with pytest.raises(AssertionError):
        call(memory, window + 96, 8)
    with pytest.raises(AssertionError):
        call(window + 96, memory, 8)
    call(window + 200, window + 300, 0)  # nothing is touched
    with pytest.raises(AssertionError):
        jit.fill(window + 96, 0, 8)
    with pytest.raises(AssertionError):
        jit.copy64(memory, window + 64)


def test_regions_come_and_go(window):
    jit.register(window + 100, 10, "the next")
    jit.check(window + 100, 10)
    with pytest.raises(AssertionError):
        jit.check(window + 96, 8)  # across two regions: no object lies in both
    jit.unregister(window + 100)
    with pytest.raises(AssertionError):
        jit.check(window + 100, 1)
    jit.check(window, 100)
    jit.unregister(window + 1)  # no region starts there
    jit.check(window, 100)


@pytest.mark.skipif(COMPILED, reason="a kernel checks nothing")
def test_kernels_are_checked_when_interpreted(window):
    with pytest.raises(AssertionError, match="outside"):
        load_all(window + 100)

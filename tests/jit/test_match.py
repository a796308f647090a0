"""match16 and multiply_fold, compiled, interpreted and against plain Python."""

from hypothesis import given
from hypothesis import strategies as st

from wirespeed.jit import kernel, match16, multiply_fold, signed64, store16
from wirespeed.mem.region import Region

WORDS = st.lists(st.sampled_from([0, 1, 2, 0x7FFF, 0x8000, 0xFFFF]), min_size=8, max_size=8)


@kernel
def compiled_match(address, tag):
    return match16(address, tag)


@kernel
def compiled_fold(a, b):
    return multiply_fold(a, b)


@given(WORDS, st.sampled_from([0, 1, 2, 0x7FFF, 0x8000, 0xFFFF, 0x1_0000, -1]), st.sampled_from([0, 2, 14]))
def test_match16(words, tag, offset):
    with Region(4096, "test-match", huge=False) as region:
        for lane, value in enumerate(words):
            store16(region.address + offset + 2 * lane, value)
        wanted = sum(1 << lane for lane, value in enumerate(words) if value == tag & 0xFFFF)
        assert compiled_match(region.address + offset, tag) == wanted
        assert match16(region.address + offset, tag) == wanted


INTS = st.one_of(st.integers(-(1 << 63), (1 << 63) - 1), st.sampled_from([0, 1, -1, 1 << 32, -(1 << 63)]))


@given(INTS, INTS)
def test_multiply_fold(a, b):
    product = (a % (1 << 64)) * (b % (1 << 64))
    wanted = signed64(product % (1 << 64) ^ product >> 64)
    assert compiled_fold(a, b) == multiply_fold(a, b) == wanted

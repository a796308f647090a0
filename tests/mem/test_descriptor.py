"""The word that is a packet in flight."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from wirespeed.jit import COMPILED, kernel, signed64
from wirespeed.mem import descriptor as d

cells = st.integers(0, (1 << 32) - 1)
offsets = st.integers(0, 4095)
lengths = st.integers(0, 65535)
flags = st.sampled_from([0, d.CHAINED, d.META, d.SHARED, d.CHAINED | d.SHARED, d.FLAGS])


@kernel
def parts(base, desc):
    return d.cell_of(desc), d.offset_of(desc), d.length_of(desc), d.header_of(base, desc), d.address_of(base, desc)


@kernel
def changed(desc, offset, length):
    return d.blank(desc), d.with_data(desc, offset, length)


@given(cells, offsets, lengths, flags)
def test_round_trip(cell, offset, length, flag):
    desc = d.describe(cell, offset, length, flag)
    assert -(1 << 63) <= desc < 1 << 63
    base = 1 << 40
    expected = (cell, offset, length, base + cell * 2048, base + cell * 2048 + offset)
    assert parts(base, desc) == expected
    assert desc & d.FLAGS == flag
    if COMPILED:
        assert (d.cell_of(desc), d.offset_of(desc), d.length_of(desc)) == expected[:3]


@given(cells, offsets, lengths, flags, offsets, lengths)
def test_changes(cell, offset, length, flag, new_offset, new_length):
    blank, moved = changed(d.describe(cell, offset, length, flag), new_offset, new_length)
    colour = (cell >> 1 & 3) * 64
    assert blank == d.describe(cell, d.HEADROOM + colour)
    # Interpreted, an int has no sixty-fourth bit to fall off; the descriptor is its low 64.
    assert signed64(moved) == d.describe(cell, new_offset, new_length, flag)


def test_literally():
    assert d.describe(1) == 0x0000_0000_0000_1100
    assert d.describe(0xABCDEF01, 0x234, 0x5678, d.META) == 0x5678_2ABC_DEF0_1234
    assert d.describe(0, 0, 0xFFFF) == -0x0001_0000_0000_0000


def test_a_cell():
    assert d.CELL_HEADER == d.CellHeader.SIZE == 64
    assert d.HEADROOM + 3 * 64 + d.ROOM == d.CELL == 2048
    assert {d.offset_of(d.blank(d.describe(cell))) for cell in range(8)} == {256, 320, 384, 448}
    ends = sorted((field.offset, field.end) for field in d.CellHeader.fields.values())
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(ends))

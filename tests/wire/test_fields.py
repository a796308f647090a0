"""Bit fields against a plain big integer: RFC diagrams count from the first bit sent."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wirespeed.jit import COMPILED, View, bits, kernel

PLACES = [(0, 1), (0, 4), (3, 1), (4, 12), (7, 2), (12, 20), (49, 1), (51, 13), (5, 57), (63, 1), (16, 16), (8, 24)]


class Diagram(View):
    a = bits(0, 1)
    b = bits(0, 4)
    c = bits(3, 1)
    d = bits(4, 12)
    e = bits(7, 2)
    f = bits(12, 20)
    g = bits(49, 1)
    h = bits(51, 13)
    i = bits(5, 57)
    j = bits(63, 1)
    k = bits(16, 16)
    m = bits(8, 24)
    SIZE = 8


@kernel
def read(at):
    v = Diagram(at)
    return v.a, v.b, v.c, v.d, v.e, v.f, v.g, v.h, v.i, v.j, v.k, v.m


@kernel
def write(at, which, value):
    v = Diagram(at)
    if which == 0:
        v.a = value
    elif which == 1:
        v.b = value
    elif which == 2:
        v.c = value
    elif which == 3:
        v.d = value
    elif which == 4:
        v.e = value
    elif which == 5:
        v.f = value
    elif which == 6:
        v.g = value
    elif which == 7:
        v.h = value
    elif which == 8:
        v.i = value
    elif which == 9:
        v.j = value
    elif which == 10:
        v.k = value
    else:
        v.m = value


quick = settings(
    max_examples=300 if COMPILED else 80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@quick
@given(st.binary(min_size=8, max_size=8))
def test_reads(cells, data):
    cells.put(data)
    whole = int.from_bytes(data, "big")
    expected = tuple(whole >> (64 - first - width) & ((1 << width) - 1) for first, width in PLACES)
    assert read(cells.base + 256) == expected
    view = Diagram(cells.base + 256)
    assert tuple(getattr(view, name) for name in Diagram.fields) == expected


@quick
@given(st.binary(min_size=8, max_size=8), st.integers(0, len(PLACES) - 1), st.integers(-(2**63), 2**63 - 1))
def test_writes_leave_the_neighbours(cells, data, which, value):
    first, width = PLACES[which]
    shift, mask = 64 - first - width, (1 << width) - 1
    expected = int.from_bytes(data, "big") & ~(mask << shift) | (value & mask) << shift
    desc = cells.put(data)
    write(cells.base + 256, which, value)
    assert cells.read(desc) == expected.to_bytes(8, "big")
    cells.put(data)
    setattr(Diagram(cells.base + 256), list(Diagram.fields)[which], value)
    assert cells.read(desc) == expected.to_bytes(8, "big")

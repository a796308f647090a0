"""A payload knows where it ends: nothing outside is read or written, whatever the index."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wirespeed import jit
from wirespeed.jit import COMPILED, kernel
from wirespeed.mem.descriptor import CELL
from wirespeed.wire.payload import Payload, pack_payload


@kernel
def read(start, end, at):
    p = Payload(pack_payload(start, end))
    return p.u8(at), p.be16(at), p.be32(at), p.be64(at), p.length, p.start


@kernel
def write(start, end, at, value, size):
    p = Payload(pack_payload(start, end))
    if size == 1:
        p.put_u8(at, value)
    elif size == 2:
        p.put_be16(at, value)
    elif size == 4:
        p.put_be32(at, value)
    else:
        p.put_be64(at, value)


@kernel
def truth(start, end):
    return 1 if Payload(pack_payload(start, end)) else 0


index = st.one_of(st.integers(-9, 40), st.integers(-(2**63), 2**63 - 9))
quick = settings(
    max_examples=200 if COMPILED else 60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def model(data: bytes, at: int, size: int) -> int:
    inside = at >= 0 and at + size <= len(data)
    return int.from_bytes(data[at : at + size], "big", signed=size == 8) if inside else 0


@quick
@given(st.binary(max_size=32), index)
def test_reads(cells, data, at):
    cells.put(data, offset=CELL - len(data))
    end = cells.base + CELL
    start = end - len(data)
    expected = tuple(model(data, at, size) for size in (1, 2, 4, 8))
    assert read(start, end, at) == (*expected, len(data), start if data else 0)
    view = Payload(pack_payload(start, end))
    assert (view.u8(at), view.be16(at), view.be32(at), view.be64(at)) == expected
    assert bytes(view) == data
    assert bool(view) == bool(data) == bool(truth(start, end))


@quick
@given(st.binary(max_size=32), index, st.integers(-(2**63), 2**63 - 1), st.sampled_from([1, 2, 4, 8]))
def test_writes(cells, data, at, value, size):
    desc = cells.put(b"\xee" * 8 + data + b"\xee" * 8)
    start = cells.base + 256 + 8
    write(start, start + len(data), at, value, size)
    expected = bytearray(data)
    if at >= 0 and at + size <= len(data):
        expected[at : at + size] = (value & ((1 << size * 8) - 1)).to_bytes(size, "big")
    assert cells.read(desc) == b"\xee" * 8 + bytes(expected) + b"\xee" * 8


def test_nothing_is_false():
    assert not Payload(0)
    assert (truth(100, 100), truth(100, 99)) == (0, 0)
    assert repr(Payload(0)) == "Payload(b'')"
    assert jit.signed64(pack_payload(0x7F00_0000_0000, 0x7F00_0000_FFFF)) < 0  # the longest there may be

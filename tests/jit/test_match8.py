"""match8: eight rules in vector registers are what the checked twin says, lane by lane."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirespeed.jit import COMPILED, kernel, store8, store16, store32, store64
from wirespeed.jit.match8 import V4_PORTS, V6_BYTES, V6_PORTS, match8_v4, match8_v6
from wirespeed.mem.region import Region

WORD = st.integers(0, 2**64 - 1).map(lambda word: word - (1 << 64) if word >> 63 else word)
PORT = st.integers(0, 65535)
BYTE = st.integers(0, 255)
SPARSE = st.sampled_from([0, 1, 0xFF00, 1 << 31, -(1 << 63), 1 << 40, -1])


@kernel
def compiled_v4(block, src, dst, ports, protocol):
    return match8_v4(block, src, dst, ports, protocol)


@kernel
def compiled_v6(block, a, b, c, d, ports, protocol):
    return match8_v6(block, a, b, c, d, ports, protocol)


@pytest.fixture(scope="module")
def block():
    with Region(V6_BYTES, "block", huge=False) as region:
        yield region.address


def write_ports(at, lane, low, high, protocol, mask):
    for port in range(2):
        store16(at + lane * 4 + 2 * port, low[port])
        store16(at + lane * 4 + 2 * port + 32, high[port])
    store8(at + 64 + lane, protocol)
    store8(at + 72 + lane, mask)


LANE = st.tuples(
    st.tuples(SPARSE, SPARSE, SPARSE, SPARSE),
    st.tuples(SPARSE, SPARSE, SPARSE, SPARSE),
    st.tuples(PORT, PORT),
    st.tuples(PORT, PORT),
    BYTE,
    BYTE,
)


@given(st.lists(LANE, min_size=8, max_size=8), st.tuples(SPARSE | WORD, SPARSE, SPARSE, SPARSE), PORT, PORT, BYTE)
def test_compiled_is_the_twin(block, lanes, words, sport, dport, protocol):
    packet = (sport << 16 | dport, protocol)
    for lane, (values, masks, low, high, kind, mask) in enumerate(lanes):
        for word in range(2):
            store32(block + word * 64 + lane * 4, values[word])
            store32(block + word * 64 + lane * 4 + 32, masks[word])
        write_ports(block + V4_PORTS, lane, low, high, kind, mask)
    found = match8_v4(block, *words[:2], *packet)
    assert compiled_v4(block, *words[:2], *packet) == found
    for lane, (values, masks, low, high, kind, mask) in enumerate(lanes):
        fits = all((words[i] ^ values[i]) & masks[i] & 0xFFFF_FFFF == 0 for i in range(2))
        fits = fits and low[1] <= sport <= high[1] and low[0] <= dport <= high[0] and (protocol ^ kind) & mask == 0
        assert found >> lane & 1 == fits
    for lane, (values, masks, low, high, kind, mask) in enumerate(lanes):
        for word in range(4):
            store64(block + word * 64 + lane * 8, values[word])
            store64(block + word * 64 + lane * 8 + 256, masks[word])
        write_ports(block + V6_PORTS, lane, low, high, kind, mask)
    found = match8_v6(block, *words, *packet)
    assert compiled_v6(block, *words, *packet) == found
    for lane, (values, masks, low, high, kind, mask) in enumerate(lanes):
        fits = all((words[i] ^ values[i]) & masks[i] == 0 for i in range(4))
        fits = fits and low[1] <= sport <= high[1] and low[0] <= dport <= high[0] and (protocol ^ kind) & mask == 0
        assert found >> lane & 1 == fits


@pytest.mark.skipif(COMPILED, reason="a kernel checks nothing")
def test_twin_checks_the_block(block):
    with pytest.raises(AssertionError, match="outside every known region"):
        match8_v4(block - (1 << 30), 0, 0, 0, 0)

"""macswap: the two addresses change places, nothing else does; what is too short for Ethernet stays as it is."""

from feed import Collect, Feed, hexed, ipv4_udp
from hypothesis import given
from hypothesis import strategies as st

import wirespeed as ws
from wirespeed.nodes import macswap

WHOLE = ipv4_udp(payload=b"as it was")
FRAMES = [
    WHOLE, b"", b"\x01", bytes(range(13)), bytes(range(14)), b"\xff" * 6 + WHOLE[6:], WHOLE.ljust(1600, b"\xee"),
]  # fmt: skip


def swapped(frame):
    return frame[6:12] + frame[:6] + frame[12:] if len(frame) >= 14 else frame


def test_literal_bytes():
    """IEEE 802.3 section 3.1.1: destination first."""
    seen = macswap.trace(bytes.fromhex("020000000002 020000000001 88b5 00"))
    assert (seen.door, seen.data.hex()) == ("", "02000000000102000000000288b500")


@given(st.binary(max_size=64))
def test_twice_is_as_before(frame):
    once = macswap.trace(frame)
    assert once.data == swapped(frame)
    assert macswap.trace(once.data).data == frame


def test_compiled_is_the_same():
    graph, out = ws.Graph(), Collect()
    graph.add(Feed(FRAMES * 20) >> macswap >> out)
    ws.run(graph)
    assert hexed(out.packets) == hexed(map(swapped, FRAMES * 20)) == hexed(macswap.trace(f).data for f in FRAMES * 20)

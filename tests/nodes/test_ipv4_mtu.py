"""ipv4_mtu: the boundary, and the super-packets whose segments fit although they themselves do not."""

import pytest
from feed import Collect, Feed, hexed, ipv4_udp

import wirespeed as ws
from wirespeed.graph.node import Node
from wirespeed.mem.descriptor import META, CellHeader, header_of
from wirespeed.nodes import ipv4_mtu
from wirespeed.tables.adjacency import FORWARD, Adjacencies, Adjacency

MTU = 600
OFFLOADED, STALE = 0x02, 0x04  # what the first byte of the source address asks of ``said``


@ws.node
def said(pkt):
    """The source address says what a port would: 1 byte of flags, 1 unused, 2 of headers_length, 2 of gso_size."""
    flags = pkt.eth.src >> 40
    line = CellHeader(header_of(pkt.cells, pkt.desc))
    line.gso_size = pkt.eth.src & 0xFFFF
    line.headers_length = (pkt.eth.src >> 16) & 0xFFFF
    if flags == OFFLOADED:
        pkt.desc |= META
        pkt.parse()


def frame(ip_bytes, flags=0, headers=0, gso=0, tag=b"", length_field=None):
    """A frame whose IP packet has so many bytes; what ``said`` is to say is in its source address."""
    data = ipv4_udp(payload=bytes(ip_bytes - 28))
    source = bytes([flags, 0]) + headers.to_bytes(2, "big") + gso.to_bytes(2, "big")
    field = data[16:18] if length_field is None else length_field.to_bytes(2, "big")
    return data[:6] + source + tag + data[12:16] + field + data[18:]


TAG = bytes.fromhex("81000005")
CASES = [  # frame, whether it fits
    (frame(28), True),
    (frame(MTU - 1), True),
    (frame(MTU), True),
    (frame(MTU + 1), False),
    (frame(MTU, tag=TAG), True),  # the tag is the link's, not the packet's
    (frame(MTU + 1, tag=TAG), False),
    (frame(1500), False),
    (frame(MTU) + bytes(300), True),  # padding is not the packet's
    # Whose header line is stale: what it says does not count.
    (frame(MTU + 1, STALE, 14 + 28, 100), False),
    # Offloaded, but no super-packet: a checksum to be filled in, say.
    (frame(MTU + 1, OFFLOADED, 14 + 28, 0), False),
    (frame(MTU, OFFLOADED, 14 + 28, 0), True),
    # Each segment is headers without the link's 14 bytes, and gso_size: exactly the MTU, and one byte more.
    (frame(1500, OFFLOADED, 14 + 28, MTU - 28), True),
    (frame(1500, OFFLOADED, 14 + 28, MTU - 27), False),
    (frame(1500, OFFLOADED, 18 + 28, MTU - 28, TAG), True),
    (frame(1500, OFFLOADED, 18 + 28, MTU - 27, TAG), False),
    (frame(4000, OFFLOADED, 14 + 28, MTU - 28), True),  # over three cells
    (frame(4000, OFFLOADED, 14 + 28, MTU - 27), False),
    (frame(4000), False),
    (frame(65535, OFFLOADED, 14 + 28, MTU - 28), True),
]  # fmt: skip


@pytest.fixture(scope="module")
def adjacencies():
    made = Adjacencies(4)
    made.set(0, Adjacency(FORWARD, mtu=MTU))
    yield made
    made.close()


@pytest.mark.parametrize("mtu", [28, 68, 576, 1500, 1586])
def test_the_boundary_traced(adjacencies, mtu):
    """RFC 791: every link carries 68 bytes; 1586 is the largest packet that one cell takes."""
    adjacencies.set(0, Adjacency(FORWARD, mtu=mtu))
    inner = ipv4_mtu(adjacencies)

    def marked(pkt):
        pkt.mark = 0
        return inner.function(pkt)

    node = Node(marked, inner.outputs, inner.drops)
    try:
        assert node.trace(frame(mtu)).door == ""
        if mtu < 1586:
            assert node.trace(frame(mtu + 1)).door == "too-big"
        if mtu > 28:
            assert node.trace(frame(mtu - 1)).door == ""
    finally:
        adjacencies.set(0, Adjacency(FORWARD, mtu=MTU))


def test_a_traced_packet_has_mark_0(adjacencies):
    assert ipv4_mtu(adjacencies).trace(frame(MTU)).door == ""


def test_super_packets_pass_if_their_segments_fit(adjacencies):
    graph, fits, too_big = ws.Graph(), Collect("fits"), Collect("too big")
    node = ipv4_mtu(adjacencies)
    graph.add(Feed([data for data, _ in CASES]) >> said >> node >> fits)
    graph.add(node["too-big"] >> too_big)
    report = ws.run(graph)
    assert hexed(fits.packets) == hexed(data for data, fit in CASES if fit)
    assert hexed(too_big.packets) == hexed(data for data, fit in CASES if not fit)
    assert report.in_use == 0

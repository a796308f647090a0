"""Through ports in graphs that run: what goes in comes out, cut, joined, in order, or at its rate; nothing is lost."""

import os
import random

import pytest
from feed import Collect, Feed
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

import wirespeed as ws
from wirespeed.errors import PortError
from wirespeed.traffic.scheduler import Rates

LINK = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
DATA = random.Random(2).randbytes(20_000)


def datagram(number, size):
    return bytes(LINK / IP(src="10.0.0.1", dst="10.0.0.2", id=number) / UDP(sport=1, dport=2) / DATA[:size])


def run(*parts):
    """A graph of parts in a row, with through ports between them; the report."""
    graph = ws.Graph()
    row = parts[0]
    for part in parts[1:]:
        row = row >> part
        if isinstance(part, ws.Port) and part is not parts[-1]:
            graph.add(row)
            row = part
    graph.add(row)
    report = ws.run(graph)
    assert report.in_use == 0
    return report


def test_cut_and_put_together_again():
    frames = [datagram(number, size) for number, size in enumerate((10, 1472, 1473, 4000, 9000, 60))]
    pieces, whole = ws.through(ws.Fragment(1500)), ws.through(ws.Reassembly(64))
    report = run(Feed(frames), pieces, whole, out := Collect())
    assert out.packets == frames
    assert report.ports[pieces.spec].rx_packets == 1 + 1 + 2 + 3 + 7 + 1


def test_what_cannot_be_cut_is_an_error():
    frame = bytes(LINK / IP(src="10.0.0.1", dst="10.0.0.2", flags="DF") / UDP() / DATA[:3000])
    port, whole = ws.through(ws.Fragment(1500)), ws.through(ws.Reassembly(64))
    report = run(Feed([frame, datagram(1, 10)]), port, whole, out := Collect())
    assert out.packets == [datagram(1, 10)]
    assert report.ports[port.spec].tx_errors == 1


def test_merged_and_cut_again():
    frames = []
    for at in range(0, 14_000, 1400):
        ip = IP(src="10.0.0.1", dst="10.0.0.2", id=1 + at // 1400, flags="DF")
        frames.append(bytes(LINK / ip / TCP(sport=1, dport=2, seq=at, ack=3, flags="A") / Raw(DATA[at : at + 1400])))
    merge, cut = ws.through(ws.Gro(64)), ws.through(ws.Segment())
    report = run(Feed(frames), merge, cut, out := Collect())
    assert out.packets == frames
    assert report.ports[merge.spec].rx_packets < len(frames)


@ws.node
def number(pkt):
    """The sequence number of a packet is its second byte."""
    pkt.with_meta().mark = pkt.eth.dst >> 32 & 0xFF


def test_reordered():
    order = [1, 0, 2, 5, 3, 4, 7, 6]
    frames = [bytes([0, n]) + bytes(58) for n in order]
    run(Feed(frames), number, ws.through(ws.Reorder(16, patience_ns=10**9, first=0)), out := Collect())
    assert [frame[1] for frame in out.packets] == sorted(order)


def test_scheduled():
    fast = Rates(10**9, 10**6)
    inside = ws.Scheduler(fast, [fast], fast, 4, queue_size=64)
    frames = [bytes([0, n]) + bytes(58) for n in (3 << 4 | 3 << 2, 1 << 4, 0, 9 << 4)]
    port = ws.through(inside)
    report = run(Feed(frames), number, port, out := Collect())
    assert sorted(frame[1] for frame in out.packets) == [0, 1 << 4, 3 << 4 | 3 << 2]
    assert report.ports[port.spec].tx_errors == 1  # there is no pipe 9
    assert inside.stats().stray == 1


@pytest.mark.parametrize(
    "row",
    [
        lambda: (number, ws.through(ws.Scheduler(Rates(100, 1), [Rates(100, 1)], Rates(100, 1), 4))),
        lambda: (number, ws.through(ws.Reorder(64, patience_ns=10**15))),
        lambda: (ws.through(ws.Fragment(1500)), ws.through(ws.Reassembly(64))),
        lambda: (ws.through(ws.Gro(64, wait_ns=10**15)), ws.through(ws.Segment())),
    ],
    ids=["scheduler", "reorder", "reassembly", "gro"],
)
def test_what_is_still_inside_at_the_end_is_freed(row):
    """In the graphs of the tests above, which are compiled already."""
    pieces = [LINK / piece for piece in IP(datagram(1, 4000)[14:]).fragment(1480)][:2]
    segment = LINK / IP(src="10.0.0.1", dst="10.0.0.2") / TCP(flags="A") / Raw(DATA[:100])
    frames = [*map(bytes, pieces), bytes(segment), *(bytes([0, 8]) + bytes(58) for _ in range(8))]
    parts = row()
    if parts[0] is not number:
        frames = frames[:3]  # whatever is no IP packet cannot be cut
    report = run(Feed(frames), *parts, out := Collect())
    lost = sum(port.tx_errors for port in report.ports.values())
    assert len(out.packets) + lost < len(frames)


def test_what_packets_cannot_go_through():
    with pytest.raises(PortError, match=r"cannot go through 5: give one of Fragment, Segment"):
        ws.through(5)
    with pytest.raises(PortError, match="an MTU of 27 is not possible"):
        ws.through(ws.Fragment(27))


def test_what_belongs_to_another_process():
    """It is mapped read-only here."""
    name = f"through-{os.getpid()}"
    refusal = pytest.raises(PortError, match=f"belongs to process {os.getpid()}")
    with ws.Gro(64, name=name), ws.Gro.attach(name) as theirs, refusal:
        ws.through(theirs)

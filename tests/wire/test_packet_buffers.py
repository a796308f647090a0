"""What nodes do with packets as buffers, in a graph that runs: copies and clones go another way, words travel along."""

import pytest
from feed import Collect, Feed

import wirespeed as ws
from wirespeed.mem.descriptor import ROOM

FRAMES = [bytes([i]) * (60 + i) for i in range(8)]
LONG = bytes(range(256)) * 20


@ws.node
def stamp(pkt):
    """Say something about the packet, in its header line."""
    line = pkt.with_meta()
    line.user0 = 1000 + pkt.length
    line.mark = 7
    line.timestamp = 123


@ws.node(drops=["unsaid", "said"])
def check(pkt):
    """Is it still said?"""
    if not pkt.meta:
        return "unsaid"
    if pkt.meta.user0 == 1000 + pkt.length and pkt.meta.mark == 7 and pkt.meta.timestamp == 123 and not pkt.meta.user1:
        return "said"
    return "unsaid"


def test_words_travel_with_the_packet():
    graph = ws.Graph()
    graph.add(Feed(FRAMES) >> stamp >> ws.port("ring:words"))
    graph.add(ws.port("ring:words") >> check)
    with ws.Engine(graph) as engine:
        while engine.report().nodes["check"].packets < len(FRAMES):
            engine.wait(0.01)
        report = engine.stop()
    assert report.nodes["check"].drops == {"unsaid": 0, "said": len(FRAMES)}


def test_nobody_said_anything():
    graph = ws.Graph()
    graph.add(Feed(FRAMES) >> check)
    assert ws.run(graph).nodes["check"].drops["unsaid"] == len(FRAMES)


@ws.node(drops=["too-long"])
def straighten(pkt):
    """One cell, so that one header view reaches it all."""
    if not pkt.linearise():
        return "too-long"


def test_linearise_in_a_node():
    graph = ws.Graph()
    graph.add(Feed([LONG[:ROOM], *FRAMES, LONG], segment=200) >> straighten >> (out := Collect()))
    report = ws.run(graph)
    assert out.packets == [LONG[:ROOM], *FRAMES]
    assert report.nodes["straighten"].drops == {"too-long": 1}
    assert report.in_use == 0


@ws.node
def shorten(pkt):
    """Off with the last 50 bytes, whole cells among them."""
    pkt.trim(50)


def test_trim_goes_over_segments():
    graph = ws.Graph()
    graph.add(Feed([LONG[:120], LONG[:45]], segment=40) >> shorten >> (out := Collect()))
    report = ws.run(graph)
    assert out.packets == [LONG[:70], LONG[:45]]
    assert report.in_use == 0


@pytest.mark.parametrize("frame", FRAMES[:1])
def test_in_a_trace_there_are_no_cells_to_copy_to(frame):
    @ws.node(drops=["none"])
    def twice(pkt):
        """A copy, if there is a cell."""
        if not pkt.copy():
            return "none"

    assert twice.trace(frame).door == "none"

"""Checked mode: what is lost is named by the place that had it last; what is not lost changes nothing."""

import os

import pytest
from feed import Collect, CollectQueue, Feed

import wirespeed as ws
from wirespeed.jit import inline
from wirespeed.mem.pool import Pool

FRAME = bytes(12) + b"\x08\x00" + bytes(46)


@inline
def keep_some(queue, cache_address, vector, count):
    """A driver with a bug: it takes what it is given, and forgets it."""
    CollectQueue(queue).packets += count
    return count


class Forgetful(Collect):
    transmit = staticmethod(keep_some)


@ws.node(outputs=["odd"])
def sort(pkt):
    if pkt.length & 1:
        return "odd"


@ws.node
def look(pkt):
    pass


def graph_of(odd, even):
    graph = ws.Graph()
    feed = Feed([FRAME, FRAME + b"1"] * 20 + [FRAME] * 3)
    graph.add(feed >> sort >> look >> even)
    graph.add(sort["odd"] >> odd)
    return graph


@pytest.mark.parametrize("workers", [1, 2])
def test_a_port_that_forgets_packets_is_named(workers):
    odd = Forgetful()
    report = ws.run(graph_of(odd, Collect()), workers=workers, checked=True)
    assert report.in_use == 20
    assert report.leaks == {f"{odd.spec} (out)": 20}
    assert f"20 cells lost, last held by {odd.spec} (out)" in str(report)


def test_nothing_is_lost():
    report = ws.run(graph_of(Collect(), Collect()), checked=True, shape="split")
    assert (report.in_use, report.leaks) == (0, {})
    assert report.nodes["look"].packets == 23


def test_unchecked_the_report_says_how_to_find_out():
    report = ws.run(graph_of(Forgetful(), Collect()))
    assert report.leaks == {"unknown (run with checked=True)": 20}


def test_the_pool_of_a_named_engine_can_be_looked_at():
    engine = ws.Engine(graph_of(Collect(), Collect()), name="test-checked")
    try:
        with Pool.attach("test-checked.pool", os.getpid()) as pool:
            assert (pool.size, pool.in_use, pool.workers) == (engine.pool.size, 0, 1)
    finally:
        engine.close()

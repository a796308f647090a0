"""Ports and nodes that come and go while the graph runs: nothing is lost by the others, and the report counts on."""

import ctypes
import os
import struct
import time

import pytest
from feed import Collect, Feed, ipv4_udp, receive

import wirespeed as ws
from wirespeed.engine.engine import Engine
from wirespeed.errors import GraphError, NodeError, PortError
from wirespeed.jit import COMPILED, inline, load64, store64
from wirespeed.jit.libc import read
from wirespeed.mem.state import MAX_WORKERS
from wirespeed.ports.rules.rules import DROP, mark, to_queue

FRAMES = [ipv4_udp(1000 + i, 53, bytes(8 + i)) for i in range(40)]
SOME = 300 if COMPILED else 30

by_port = ws.Tally(64, workers=MAX_WORKERS, name="change-ports")
marks = ws.per_worker(value=0)


@ws.node(drops=["odd"])
def sort(pkt):
    """Count by port, drop the odd ones."""
    by_port.add(pkt.port + 1)
    if pkt.udp.sport & 1:
        return "odd"


@ws.node
def other(pkt):
    """On it goes."""


@ws.node
def look(pkt):
    """Keep the mark."""
    if pkt.meta:
        marks.value = pkt.meta.mark


_LIBC = ctypes.CDLL(None, use_errno=True)
_TIMER: int = 120  # of the record: the timer's descriptor
_EXPIRED: int = 56  # and what is read from it


@inline
def drip(queue, cache, vector, room):
    """All frames once, each time the timer has expired."""
    got = 0
    if read(load64(queue + _TIMER), queue + _EXPIRED, 8) == 8:
        got = receive(queue, cache, vector, room)
    return got


class Drip(Feed):
    """Gives its frames a thousand times a second, so that workers sleep and the machine can compile meanwhile."""

    receive = staticmethod(drip)

    def __init__(self, name):
        super().__init__(FRAMES, name, endless=True)

    def open(self, pool, rx_queues, tx_queues):
        super().open(pool, rx_queues, tx_queues)
        self.timer = _LIBC.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK)
        period = struct.pack("=4q", 0, 1_000_000, 0, 1_000_000)
        assert self.timer >= 0
        assert _LIBC.timerfd_settime(self.timer, 0, period, None) == 0
        for queue in self.rx:
            store64(queue + _TIMER, self.timer)

    def descriptors(self, queue):
        return [self.timer]

    def close(self):
        super().close()
        os.close(self.timer)


def running(workers=1):
    graph = ws.Graph()
    graph.add(Drip("first") >> sort >> Collect("out", log=0))
    return Engine(graph, workers)


def more(engine, port, packets=SOME):
    """Wait until a port has received or sent so many more."""
    before = port.stats()

    def enough():
        now = port.stats()
        return now.rx_packets - before.rx_packets + now.tx_packets - before.tx_packets >= packets

    for _ in range(200_000):
        if enough():
            return
        assert not engine.ended, engine.workers.failure
        engine.refresh()
        engine.workers.wait(0.001)
    raise AssertionError(f"{port} moves no packets")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_port_comes_and_goes(workers):
    engine = running(workers)
    first, out = engine.graph.ports
    second, side = Drip("second"), Collect("side", log=0)
    with engine:
        more(engine, first)
        engine.add(second >> other >> side)
        assert [engine.graph.number(port) for port in engine.graph.ports] == [0, 1, 2, 3]
        for port in (first, second, side, out):
            more(engine, port)
        assert engine.report().nodes["other"].packets > 0
        engine.remove(second)
        assert engine.graph.ports == [first, out]
        assert side.closed == 1
        more(engine, first)
        third = Drip("third")
        engine.add(third >> sort)
        assert engine.graph.number(third) == 4  # a number is not used twice
        more(engine, third)
    report = engine.stop()
    counted = dict(by_port)
    assert report.departed.keys() == {"second", "side"}
    gone, side_ = report.departed["second"], report.departed["side"]
    assert gone.rx_packets == gone.rx_dropped + side_.tx_packets + side_.tx_dropped
    now = report.ports
    node = report.nodes["sort"]
    assert node.packets == now["first"].rx_packets + now["third"].rx_packets
    assert node.outputs[""] == now["out"].tx_packets
    assert counted[1] >= now["first"].rx_packets
    assert counted[5] > 0
    assert report.packets == sum(each.rx_packets for each in (*now.values(), *report.departed.values()))
    assert report.in_use == 0
    for port in engine.graph.ports:
        assert port.grace is None


def test_packets_for_a_port_that_went_end_at_a_sink_or_where_told():
    engine = running()
    first, out = engine.graph.ports
    with engine:
        more(engine, first)
        engine.remove(out)
        (_, sink) = engine.graph.ports
        assert sink.spec == "sink:instead of out"
        more(engine, sink)
        again = Collect("again", log=0)
        engine.remove(sink, instead=again)
        more(engine, again)
    report = engine.stop()
    sent = [*report.departed.values(), report.ports["again"]]
    assert report.nodes["sort"].outputs[""] == sum(each.tx_packets for each in sent)
    assert report.in_use == 0


def test_another_graph_with_the_same_ports():
    engine = running()
    first, out = engine.graph.ports
    graph = ws.Graph()
    graph.add(first >> other >> sort >> out)
    with engine:
        more(engine, first)
        engine.replace(graph)
        more(engine, out)
    report = engine.stop()
    assert report.nodes["sort"].packets == report.packets
    assert 0 < report.nodes["other"].packets < report.packets
    assert report.in_use == 0


class Broken(Feed):
    """Cannot be opened."""

    def open(self, pool, rx_queues, tx_queues):
        raise PortError("port 'broken': no such thing")


@ws.node
def nonsense(pkt):
    """Does not compile."""
    return pkt.udp.no_such_field


def test_what_cannot_be_added_changes_nothing():
    engine = running()
    first, out = engine.graph.ports
    with pytest.raises(GraphError, match="only a graph that runs"):
        engine.remove(out)
    with engine:
        good = Collect("good")
        for chain, error in (
            (Broken([], "broken") >> good, PortError),
            (Feed(FRAMES, "fine") >> other, GraphError),
            (Feed(FRAMES, "fine") >> nonsense >> good, NodeError),
            (out >> other >> first, (GraphError, PortError)),
        ):
            with pytest.raises(error):
                engine.add(chain)
            assert engine.graph.ports == [first, out]
            more(engine, out, 10)
        with pytest.raises(GraphError, match="is the only source"):
            engine.remove(first)
        with pytest.raises(GraphError, match="is not in this graph"):
            engine.remove(good)
        more(engine, out)
    report = engine.stop()
    assert report.in_use == 0
    with pytest.raises(GraphError, match="only a graph that runs"):
        engine.remove(out)


def test_an_engine_that_has_ended_takes_no_port():
    graph = ws.Graph()
    graph.add(Feed(FRAMES) >> Collect())
    engine = Engine(graph)
    with engine:
        assert engine.wait(30)
        with pytest.raises(GraphError, match="only a graph that runs"):
            engine.add(Feed(FRAMES) >> other >> Collect("late"))
    assert engine.stop().in_use == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_many_changes_lose_nothing(workers):
    engine = running(workers)
    out = engine.graph.ports[1]
    with engine:
        for round_ in range(2):
            extra = Drip(f"extra-{round_}")
            engine.add(extra >> sort)
            more(engine, extra, 50)
            engine.remove(extra)
        more(engine, out)
    report = engine.stop()
    between = sum(each.rx_dropped for each in report.departed.values())  # workers, when their port went
    assert report.nodes["sort"].packets + between == report.packets
    assert report.nodes["sort"].outputs[""] == report.ports["out"].tx_packets
    assert report.in_use == 0


def test_rules_come_to_a_port_that_had_none():
    graph = ws.Graph()
    source, out = Drip("first"), Collect("out", log=0)
    graph.add(source >> look >> out)
    engine = Engine(graph)
    with engine:
        more(engine, out)
        rule = source.rules.add("udp/53", mark(77))
        more(engine, out)
        assert marks.value == [77]
        drop = source.rules.add("udp", DROP)
        sent = out.stats().tx_packets
        more(engine, source, 2000)
        assert out.stats().tx_packets - sent <= 512  # what was under way
        assert source.rules.counts()[drop].packets > 0
        source.rules.clear()
        more(engine, out)
        with pytest.raises(PortError, match="there are 1: run more workers"):
            source.rules.add("udp", to_queue(1))
    report = engine.stop()
    assert rule not in source.rules
    assert report.nodes["look"].packets + source.rules.dropped <= report.packets
    assert report.in_use == 0

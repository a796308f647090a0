"""Ports and nodes that come and go while the graph runs: nothing is lost by the others, and the report counts on."""

import ctypes
import os
import struct
import threading
import time

import pytest
from feed import Collect, Feed, ipv4_udp, receive

import wirespeed as ws
from wirespeed.engine.engine import Engine
from wirespeed.engine.live import Change
from wirespeed.errors import GraphError, NodeError, PortError
from wirespeed.jit import COMPILED, inline, load64, store64
from wirespeed.jit.libc import read
from wirespeed.mem.region import Region
from wirespeed.mem.state import MAX_WORKERS
from wirespeed.ports.rules.rules import COUNT, DROP, mark, to_queue
from wirespeed.sync.ring import mp_enqueue

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


control = pytest.mark.skipif(COMPILED, reason="of control code only: interpreted, no graph after graph is compiled")


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


@control
def test_a_port_that_was_here_before():
    """Its second time is added to its first, and what happened to it is told once."""
    engine = running()
    _first, _ = engine.graph.ports
    second, side = Drip("second"), Collect("side", log=0)
    totals = []
    with engine:
        for _ in range(2):
            engine.add(second >> other >> side)
            more(engine, side, 100)
            second.events.say("error", "once")
            before = engine.report().packets
            engine.remove(second)
            assert engine.report().packets >= before
            totals.append(engine.report().departed["second"].rx_packets)
        engine.add(second >> other >> side)
        assert len(engine.report().events) == 2
    report = engine.stop()
    assert totals[1] >= totals[0] + 100
    assert report.departed["second"].rx_packets == totals[1]
    assert report.packets == sum(each.rx_packets for each in (*report.ports.values(), *report.departed.values()))
    assert report.in_use == 0


class Fragile(Drip):
    """Must not be looked at once it is closed; looking takes it a while, in which others can close it."""

    closed = False
    looked = 0

    def open(self, pool, rx_queues, tx_queues):
        super().open(pool, rx_queues, tx_queues)
        self.closed = False

    def refresh(self):
        self.looked += 1
        os.sched_yield()
        for _ in range(1000):
            assert not self.closed

    def stats(self):
        assert not self.closed or not self.rx
        return super().stats()

    def close(self):
        self.closed = True
        super().close()
        self.rx = []


@control
def test_ports_that_go_while_somebody_looks():
    engine = running()
    (first, _), fragile = engine.graph.ports, Fragile("fragile")
    over, wrong = threading.Event(), []

    def look():
        try:
            while not over.wait(0.0001):  # often, though not so that nobody else comes to it
                engine.refresh()
                engine.report()
                engine.first_packet_cycles()
        except BaseException as error:
            wrong.append(error)

    looking = threading.Thread(target=look)
    with engine:
        looking.start()
        for _ in range(3 if COMPILED else 2):
            engine.add(fragile >> sort)
            engine.remove(fragile)
        more(engine, first, 10)
        over.set()
        looking.join()
        assert wrong == []
    report = engine.stop()
    assert fragile.looked > 0
    assert report.in_use == 0
    engine.refresh()  # there is nothing left to look at
    assert engine.report() == report


@control
def test_a_handler_may_change_the_graph_when_a_port_says_something():
    """While another thread does, too: nobody holds what the other waits for."""
    changes = []

    def hear(event):
        if event.kind == "hear":
            with engine.changing:
                changes.append(event.text)

    graph = ws.Graph()
    talker = Drip("first")
    graph.add(talker >> sort >> Collect("out", log=0))
    engine = Engine(graph, on_event=hear)
    talker.refresh = lambda: talker.events.say("hear", "from refresh")
    extra = Drip("extra")
    with engine:
        changing = threading.Thread(target=lambda: (engine.add(extra >> sort), engine.remove(extra)))
        changing.start()
        while changing.is_alive():
            engine.refresh()
            changing.join(0.0005)
        engine.refresh()
    assert engine.stop().in_use == 0
    assert changes
    assert engine.notes == []


@control
def test_what_is_between_workers_when_its_port_goes():
    """Received packets are counted as received ones, though the port sends, too."""
    graph, both = ws.Graph(), ws.port("null:count=0")
    graph.add(Drip("first") >> sort >> Collect("out", log=0))
    graph.add(both >> other >> both)
    engine = Engine(graph, 2)
    with Region(64, "test-between", huge=False) as vector:
        for channel, many in ((1, 3), (3, 2)):  # sources, then sinks
            assert engine.pool.take(vector.address, many) == many
            mp_enqueue(engine.memory.rings[channel * 2 + 1], vector.address, many)
    assert engine.memory.in_flight() == 5
    Change(engine, graph.without(both, Collect("instead"))).make(unstarted=True)
    assert engine.memory.in_flight() == 0
    gone = engine.report().departed[both.spec]
    assert (gone.rx_dropped, gone.tx_dropped) == (3, 2)
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


@pytest.mark.parametrize("workers", [1, 2])
def test_rules_between_the_making_and_the_start(workers):
    graph = ws.Graph()
    source, out = Drip("first"), Collect("out", log=0)
    graph.add(source >> look >> out)
    engine = Engine(graph, workers)
    drop = source.rules.add("udp", DROP)
    with engine:
        more(engine, source)
        source.rules.add("tcp", DROP)
        source.rules.otherwise = DROP
    report = engine.stop()
    assert report.sent == 0
    assert source.rules.counts()[drop].packets > 0
    assert report.nodes["look"].packets == 0
    assert report.in_use == 0


def test_profiles_of_a_graph_that_becomes_another():
    """The profiling loop is always that of the graph which runs."""
    engine = running()
    first, out = engine.graph.ports
    extra = Drip("extra")

    def profile():
        engine.profile(0.001)
        more(engine, first, 10)
        assert engine.workers.failure is None

    with engine:
        profile()
        engine.add(extra >> sort)
        assert not engine.can_profile
        profile()
        engine.remove(extra)
        profile()
        drop = first.rules.add("udp/53", DROP)
        before = out.stats().tx_packets
        profile()
        assert out.stats().tx_packets - before <= 512  # what was under way
        assert first.rules.counts()[drop].packets > 0
        first.rules.clear()
        profile()
    report = engine.stop()
    engine.profile()  # does nothing any more
    assert report.nodes["sort"].packets + first.rules.dropped <= report.packets
    assert report.nodes["sort"].outputs[""] == report.ports["out"].tx_packets
    assert report.in_use == 0


def test_profiles_without_end_let_the_engine_stop():
    engine = running()
    over = threading.Event()

    def profile():
        while not over.is_set():
            engine.profile(0.0001)

    with engine:
        engine.prepare_profile()
        profiling = threading.Thread(target=profile)
        profiling.start()
        more(engine, engine.graph.ports[0], 10)
        report = engine.stop()
        over.set()
        profiling.join()
    assert report.in_use == 0


def test_rules_go_back_when_no_loop_can_be_made(monkeypatch):
    engine = running()
    first, out = engine.graph.ports
    kept = None

    def cannot(*arguments):
        raise NodeError("no")

    with engine:
        with monkeypatch.context() as patched:
            patched.setattr("wirespeed.engine.live.build", cannot)
            with pytest.raises(NodeError):
                first.rules.add("udp", DROP)
            assert len(first.rules) == 0
        kept = first.rules.add("udp", COUNT)
        more(engine, out, 10)
        with monkeypatch.context() as patched:
            patched.setattr("wirespeed.engine.live.build", cannot)
            with pytest.raises(NodeError):
                first.rules.clear()
            assert list(first.rules) == [kept]
            engine.workers.switch(engine.built)  # binds anew what its loop has
            engine.workers.settle()
        more(engine, out, 10)
        assert first.rules.counts()[kept].packets > 0
    assert engine.stop().in_use == 0


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

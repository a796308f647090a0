"""Timers in a running graph: callbacks compiled with the loop, driven by its workers."""

import os
import threading

import pytest
from feed import Collect, Feed, ipv4_udp

import wirespeed as ws
from wirespeed.engine.engine import Engine
from wirespeed.errors import GraphError, NodeError, TableError
from wirespeed.graph.layout import MAX_WHEELS, Worker
from wirespeed.jit import COMPILED

MS = 1_000_000
timers = ws.Timers(1000, workers=2)
others = ws.Timers(10, workers=2)
beats, expired, early, words = ws.counter(), ws.counter(), ws.counter(), ws.counter()
STEP = 3


@timers.on_expire
def beat(timer):
    """A periodic one; now and then it starts one of the other kind."""
    beats.add(timer.periods)
    if timer.now < timer.deadline:
        early.add(1)
    others.start(others.add(once, timer.word + STEP), MS)


@others.on_expire
def once(timer):
    """One-shot, gone afterwards."""
    expired.add(1)
    words.add(timer.word)
    others.remove(timer.handle)


@ws.node
def start(pkt):
    """Each packet starts a timer for its port."""
    timers.start(timers.add(flow, pkt.udp.dport), 2 * MS)


@timers.on_expire
def flow(timer):
    """A packet's timer."""
    if timer.now < timer.deadline:
        early.add(1)
    words.add(timer.word)
    timers.remove(timer.handle)


class Quiet(Feed):
    """A port that never has anything, and says by a descriptor when it has."""

    def __init__(self):
        super().__init__([], "quiet", endless=True)
        self.readable = os.eventfd(0)

    def descriptors(self, queue):
        return [self.readable]

    def close(self):
        super().close()
        os.close(self.readable)


@pytest.fixture(autouse=True)
def fresh():
    for counter in (beats, expired, early, words):
        counter.reset()


def until(condition, engine, turns=60_000):
    """As in tests/engine/test_live.py: the bound is on turns, not on time."""
    wake = threading.Event()
    for _ in range(turns):
        if condition():
            return
        assert not engine.ended, engine.workers.failure
        engine.refresh()
        wake.wait(0.001)
    raise AssertionError("it did not come")


def quiet_graph():
    """No packets: nothing but timers."""
    graph = ws.Graph()
    graph.add(Quiet() >> Collect("none"))
    graph.drive(timers)
    return graph


def test_a_periodic_callback_counts():
    beating = timers.add(beat, 4)
    engine = Engine(quiet_graph())
    with engine:
        with pytest.raises(TableError, match="a graph's workers drive"):
            timers.advance()
        timers.start(beating, 0, MS)
        until(lambda: beats.value >= 20 and expired.value >= 5, engine)
        timers.stop(beating)
        until(lambda: not timers.waiting and others.armed() == 0, engine)
        count = beats.value
        another = timers.add(beat, 4)
        assert another != beating
        timers.start(another, MS)
        until(lambda: beats.value > count, engine)
        timers.remove(another)
    assert timers.remove(beating) == 1
    assert words.value % 7 == 0
    assert words.value == 7 * expired.value
    assert early.value == 0
    assert (timers.armed(), timers.stats().used) == (0, 0)
    assert others.stats().used == others.armed()
    others.advance()


def test_packets_start_timers():
    frames = [ipv4_udp(dport=port) for port in range(1, 41)]
    graph, out = ws.Graph(), Collect()
    graph.add(Feed(frames) >> start >> out)
    graph.add(ws.port("ring:open") >> Collect("none"))
    engine = Engine(graph, 2)
    with engine:
        until(lambda: words.value == 40 * 41 // 2, engine)
    assert len(out.packets) == 40
    assert early.value == 0
    assert timers.stats().used == 0


@pytest.mark.skipif(not COMPILED, reason="an interpreted turn is longer than what it may block")
def test_a_blocked_worker_wakes_for_its_timer():
    """Nothing but a timer wakes it: the periods go on although it sleeps between them."""
    engine = Engine(quiet_graph(), idle="power")
    for part in engine.memory.workers:
        Worker(part.record).nap_ms = 3_600_000
    with engine:
        record = Worker(engine.memory.workers[0].record)
        beating = timers.add(beat)
        timers.start(beating, 0, 20 * MS)  # a command rouses it
        until(lambda: beats.value >= 10, engine)
        assert record.sleeps >= 5
        timers.remove(beating)
        until(lambda: timers.armed() == 0, engine)
    others.advance()


def test_what_cannot_run():
    graph = ws.Graph()
    graph.add(ws.port("ring:quiet") >> Collect("none"))
    with pytest.raises(GraphError, match=r"graph.drive takes timers"):
        graph.drive(beats)
    with pytest.raises(TableError, match="driven by hand"):
        ws.Timers(10, now_ns=0).prepare(1)
    with pytest.raises(TableError, match="wheels for 1 of 2 workers"):
        ws.Timers(10).prepare(2)
    for _ in range(MAX_WHEELS + 1):
        graph.drive(ws.Timers(10))
    with pytest.raises(GraphError, match="more than 8 sets of timers"):
        Engine(graph)


wrong = ws.Timers(10)


@wrong.on_expire
def reads_a_packet(timer):
    """A timer has no packet."""
    beats.add(timer.length)


@pytest.mark.skipif(not COMPILED, reason="interpreted, it is found when it runs")
def test_a_callback_that_does_not_compile_is_named():
    graph = ws.Graph()
    graph.add(ws.port("ring:quiet") >> Collect("none"))
    graph.drive(wrong)
    with pytest.raises(NodeError, match=r"test_graph.py:\d+: reads_a_packet does not compile"):
        Engine(graph)

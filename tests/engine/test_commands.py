"""The workers' commands, with a loop of Python that does as its record says: none is lost, whatever comes at once."""

import os
import threading

import pytest

from wirespeed.engine.workers import Workers
from wirespeed.errors import WirespeedError
from wirespeed.graph.layout import DRAIN, EXIT, Worker
from wirespeed.jit import load64
from wirespeed.mem.region import Region

_WAIT_S = 20.0


class Loop:
    """A loop that turns until its record says LOOK or EXIT; ``seen`` is what it said before."""

    def __init__(self, name=""):
        self.name, self.turns, self.seen, self.turning = name, 0, set(), threading.Event()

    def run(self, record):
        while (command := load64(record)) < EXIT:
            self.turns += 1
            self.seen.add(command)
            self.turning.set()
            os.sched_yield()
        return command


class Rig:
    """Two workers, two records for each."""

    def __init__(self):
        self.memory = [Region(4096, "test-workers", huge=False) for _ in range(4)]
        self.records = [memory.address for memory in self.memory]
        self.wakeups = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(2)]
        self.bound, self.loop = [], Loop()
        self.workers = Workers(self.records[:2], self.wakeups, self.loop, self.bind, ())

    def bind(self, index, built):
        self.bound.append((index, built))

    def start(self):
        core = min(os.sched_getaffinity(0))
        self.workers.start([core, core])

    def turns(self, loop=None):
        """Wait until a worker is in the loop."""
        loop = loop or self.loop
        loop.turning.clear()
        assert loop.turning.wait(_WAIT_S)

    def stop(self):
        self.workers.resume()
        self.workers.command(EXIT)
        self.workers.join()


@pytest.fixture
def rig():
    rig = Rig()
    yield rig
    rig.stop()
    assert rig.workers.failure is None
    for memory in rig.memory:
        memory.close()
    for wakeup in rig.wakeups:
        os.close(wakeup)


def exchanged(rig, loop):
    """Let the workers go on with another loop; whether none turned meanwhile."""
    seen = []

    def change():
        seen.append(list(rig.workers._parked))
        return rig.workers.records

    rig.workers.exchange(loop, change)
    return seen == [[True, True]]


def test_paused_twice_and_changed(rig):
    rig.start()
    rig.turns()
    rig.workers.pause()
    rig.workers.pause()
    other = Loop("other")
    assert exchanged(rig, other)
    assert other.turns == 0
    rig.workers.resume()
    rig.turns(other)


def test_a_pause_right_behind_the_last_is_a_pause(rig):
    rig.start()
    for _ in range(300):
        rig.workers.pause()
        rig.workers.resume()
        rig.workers.pause()
        assert exchanged(rig, rig.loop)
        turns = rig.loop.turns
        rig.workers.switch(rig.loop)
        assert rig.loop.turns == turns
        rig.workers.resume()
    rig.turns()


def test_a_pause_during_an_exchange_lasts(rig):
    rig.start()
    rig.turns()
    pausing = threading.Thread(target=rig.workers.pause)

    def change():
        pausing.start()
        return rig.workers.records

    rig.workers.exchange(rig.loop, change)
    pausing.join()
    assert rig.workers.paused
    assert exchanged(rig, rig.loop)
    turns = rig.loop.turns
    assert exchanged(rig, rig.loop)
    assert rig.loop.turns == turns
    rig.workers.resume()
    rig.turns()


def test_a_switch_undoes_no_end(rig):
    """Orders are for good: a switch that comes behind them makes nobody forget them."""
    rig.start()
    rig.turns()
    rig.workers.command(DRAIN)
    other = Loop("other")
    rig.workers.switch(other)
    rig.workers.settle(_WAIT_S)
    rig.turns(other)
    assert other.seen == {DRAIN}
    rig.workers.command(EXIT)
    rig.workers.switch(rig.loop)
    rig.workers.command(DRAIN)
    rig.workers.join()
    assert [Worker(record).ended for record in rig.records[:2]] == [1, 1]


def test_switches_without_end_let_the_workers_end(rig):
    rig.start()
    over = threading.Event()

    def switch():
        while not over.is_set():
            rig.workers.switch(Loop())

    switching = threading.Thread(target=switch)
    switching.start()
    rig.stop()
    over.set()
    switching.join()


def test_those_that_returned_are_told_nothing(rig):
    rig.start()
    rig.stop()
    before = [load64(record) for record in rig.records]
    drained = [os.eventfd_read(wakeup) for wakeup in rig.wakeups]
    rig.workers.switch(Loop())
    rig.workers.pause()
    rig.workers.settle()
    assert [load64(record) for record in rig.records] == before
    for wakeup in rig.wakeups:
        with pytest.raises(BlockingIOError):
            os.eventfd_read(wakeup)
    assert min(drained) > 0
    with pytest.raises(WirespeedError, match="the graph has ended"):
        rig.workers.exchange(rig.loop, list)


def test_another_loop_before_the_start(rig):
    other = Loop("other")
    rig.workers.exchange(other, lambda: rig.records[2:])
    rig.start()
    rig.turns(other)
    rig.workers.settle(_WAIT_S)
    assert rig.bound == [(0, other), (1, other)] or rig.bound == [(1, other), (0, other)]
    assert rig.loop.turns == 0
    assert rig.workers.records == rig.records[2:]


def test_a_pause_before_the_start(rig):
    rig.workers.pause()
    rig.start()
    assert exchanged(rig, rig.loop)
    assert rig.loop.turns == 0
    rig.workers.resume()
    rig.turns()

"""Workers without work: they block, they learn how long to spin, and they ask for a wake-up before they block."""

import os
import time
from dataclasses import dataclass

import numba
import pytest

import wirespeed as ws
from wirespeed.engine.engine import Engine
from wirespeed.engine.idle import spin_cycles
from wirespeed.errors import WirespeedError
from wirespeed.graph.graph import Graph
from wirespeed.graph.layout import Worker
from wirespeed.graph.support import tired
from wirespeed.jit import COMPILED, fence, inline, le64, load32, load64, pause, store64
from wirespeed.jit.libc import read
from wirespeed.mem.descriptor import blank
from wirespeed.mem.pool import Cache, take, taken
from wirespeed.mem.region import Region
from wirespeed.ports.options import option, parse_options
from wirespeed.ports.port import Port, port
from wirespeed.ports.queue import Queue

_DEADLINE_S = 30


class BellQueue(Queue):
    """One packet for each ring of the bell. The bell only rings for those who asked for it."""

    due = le64(64, "packets the other side has ready; only it writes")
    asked = le64(128, "1: ring the bell")
    asks = le64(136, "times it was asked")
    unasks = le64(144)
    prevented = le64(152, "times there was something already")
    bell = le64(160, "an eventfd")
    given = le64(168)
    scratch = le64(176)
    SIZE = 256


@inline
def receive(queue, cache, vector, room):
    record = BellQueue(queue)
    if record.given == record.due:
        return 0
    stack = Cache(cache)
    if take(stack, 1) == 0:
        return 0
    store64(vector, blank(load64(taken(stack, 1))) | (60 << 48))
    record.given += 1
    record.packets += 1
    return 1


@inline
def arm(queue, on):
    record = BellQueue(queue)
    record.asked = on
    if on == 0:
        record.unasks += 1
        read(load32(queue + 160), queue + 176, 8)
        return 0
    record.asks += 1
    fence()  # asked first, then looked: otherwise the other side may see no one asking, and we nothing offered
    if record.given != record.due:
        record.prevented += 1
        return 1
    return 0


@dataclass(frozen=True)
class BellOptions:
    """None but a number."""

    number: int = option(0, positional=True)


class Bell(Port):
    """A port whose peer must be asked for a wake-up."""

    Options = BellOptions
    receive = staticmethod(receive)
    arm = staticmethod(arm)

    def open(self, pool, rx_queues, tx_queues):
        self._memory = Region(4096, "bell", huge=False)
        self.rx = [self._memory.address]
        self.bell = os.eventfd(0, os.EFD_NONBLOCK)
        self.record = BellQueue(self.rx[0])
        self.record.bell = self.bell

    def descriptors(self, queue):
        return [self.bell]

    def close(self):
        os.close(self.bell)
        self._memory.close()

    def offer(self):
        """The other side has a packet; it rings if it was asked to."""
        self.record.due += 1
        if self.record.asked:
            os.eventfd_write(self.bell, 1)


def until(condition, what):
    deadline = time.monotonic() + _DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.001)


@pytest.mark.parametrize("idle", ["balanced", "power"])
def test_a_worker_asks_before_it_blocks(idle):
    """However the offers fall between asking and blocking, each is taken long before the nap would end."""
    bell, graph = Bell("bell:0", parse_options("bell:0", "0", BellOptions)), Graph()
    graph.add(bell >> port("sink"))
    with Engine(graph, idle=idle) as engine:
        record = Worker(engine.memory.workers[0].record)
        record.nap_ms = 3_600_000
        for count in range(1, 200):
            bell.offer()
            until(lambda count=count: bell.record.given == count, "a packet waits for a worker that sleeps")
            if count % 50 == 0:
                until(lambda: record.asleep, "the worker has nothing to do and does not block")
        until(lambda: record.asleep, "the worker has nothing to do and does not block")
        asked = bell.record.asks
        assert bell.record.unasks in (asked, asked - 1)
        report = engine.stop()
    assert report.packets == 199
    assert report.in_use == 0


def test_latency_never_blocks():
    """Not even when nothing comes."""
    bell, graph = Bell("bell:0", parse_options("bell:0", "0", BellOptions)), Graph()
    graph.add(bell >> port("sink"))
    with Engine(graph, idle="latency") as engine:
        record = Worker(engine.memory.workers[0].record)
        loops = record.loops
        until(lambda: record.loops > loops + 1000, "the worker polls")
        assert record.sleeps == 0


@pytest.mark.skipif(not COMPILED, reason="interpreted, there is no machine code")
def test_a_turn_without_packets_does_not_pause():
    """What a hypervisor takes for a spin lock (docs/design/0027-whose-core-it-is.md); only the longer waits pause."""

    @numba.njit(error_model="numpy")
    def turn(work, empty_turns):
        return tired(work, empty_turns | 1)  # never one in which it looks at the clock

    @numba.njit(error_model="numpy")
    def long_wait():
        pause()

    turn(0, 0)
    long_wait()
    assert "\tpause\n" not in next(iter(turn.inspect_asm().values()))
    assert "\tpause\n" in next(iter(long_wait.inspect_asm().values()))


def test_a_silence_teaches_not_to_spin():
    """After naps in a long silence spinning has shrunk to nothing."""
    bell, graph = Bell("bell:0", parse_options("bell:0", "0", BellOptions)), Graph()
    graph.add(bell >> port("sink"))
    with Engine(graph) as engine:
        record = Worker(engine.memory.workers[0].record)
        record.nap_ms = 1
        assert record.spin_most == spin_cycles("balanced")
        until(lambda: record.spin == 0, "spinning does not shrink")


def test_an_unknown_policy():
    """The nearest is named, before anything is opened."""
    graph = Graph()
    graph.add(port("null") >> port("sink"))
    with pytest.raises(WirespeedError, match="did you mean 'balanced'"):
        ws.run(graph, idle="balancd")

"""Timers against a sorted list, with time as an argument."""

import heapq

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from wirespeed.errors import TableError
from wirespeed.jit import COMPILED
from wirespeed.timers.layout import LATEST
from wirespeed.timers.timers import Timers

CAPACITY = 40
TICK = 1024
# Delays of all levels: within a slot, at and around the powers of 256 ticks, and beyond the last.
DELAYS = st.one_of(
    st.integers(0, 300 * TICK),
    st.integers(0, 70_000 * TICK),
    st.integers(0, 1 << 50),
    st.builds(lambda level, off: max((TICK << (8 * level)) + off * TICK, 0), st.integers(0, 5), st.integers(-3, 3)),
    st.just(LATEST),
)
STEPS = st.one_of(st.just(0), st.integers(1, 3 * TICK), DELAYS.filter(lambda delay: delay < 1 << 55))


class Model(RuleBasedStateMachine):
    """A heap of (deadline, handle), with what is stale left in it."""

    @initialize(start=st.sampled_from([0, 1, 255 * TICK, (1 << 24) * TICK - 1, (1 << 40) * TICK - 5, 1 << 55]))
    def make(self, start):
        self.timers = Timers(CAPACITY, resolution_ns=1000, now_ns=start)
        self.now = start
        self.words = {}  # handle: word
        self.gone = []
        self.deadline = {}  # handle: deadline, period
        self.heap = []
        self.counts = dict.fromkeys(("started", "restarted", "stopped", "expired", "periodic", "missed", "stale"), 0)
        self.unsure = {}  # handle: it may expire now or with the next tick

    def teardown(self):
        if hasattr(self, "timers"):
            self.timers.close()

    @rule(word=st.integers(-(1 << 63), (1 << 63) - 1))
    def add(self, word):
        if len(self.words) == CAPACITY:
            with pytest.raises(TableError, match="all 40 timers"):
                self.timers.add(0, word)
            self.counts["refused"] = 1
            return
        handle = self.timers.add(0, word)
        assert handle not in self.words and handle not in self.gone
        self.words[handle] = word

    def choose(self, data):
        return data.draw(st.sampled_from(sorted(self.words)))

    @precondition(lambda self: self.words)
    @rule(data=st.data(), delay=DELAYS, period=st.one_of(st.just(0), st.just(0), st.integers(TICK, 1 << 45)))
    def start(self, data, delay, period):
        handle = self.choose(data)
        assert self.timers.start(handle, delay, period) == 1
        self.counts["restarted" if handle in self.deadline else "started"] += 1
        deadline = min(self.now + delay, LATEST)
        self.deadline[handle] = deadline, period
        heapq.heappush(self.heap, (deadline, handle))

    @precondition(lambda self: self.words)
    @rule(data=st.data())
    def stop(self, data):
        handle = self.choose(data)
        armed = self.deadline.pop(handle, None) is not None
        assert self.timers.stop(handle) == armed
        self.counts["stopped"] += armed

    @precondition(lambda self: self.words)
    @rule(data=st.data())
    def remove(self, data):
        handle = self.choose(data)
        assert self.timers.remove(handle) == 1
        self.counts["stopped"] += self.deadline.pop(handle, None) is not None
        del self.words[handle]
        self.gone.append(handle)

    @precondition(lambda self: self.gone)
    @rule(data=st.data(), what=st.sampled_from(["start", "stop", "remove"]))
    def stale(self, data, what):
        handle = data.draw(st.sampled_from(self.gone))
        arguments = (5,) if what == "start" else ()
        assert getattr(self.timers, what)(handle, *arguments) == 0
        self.counts["stale"] += 1

    @rule(step=STEPS)
    def advance(self, step):
        self.now = min(self.now + step, LATEST)
        found = self.timers._expired(self.now)
        tick = self.now // TICK
        must, may = set(), set()
        while self.heap and self.heap[0][0] <= self.now:
            deadline, handle = heapq.heappop(self.heap)
            if self.deadline.get(handle, (None,))[0] == deadline:
                (must if -(-deadline // TICK) <= tick else may).add(handle)
        # A timer filed for a tick that was over when it was started comes with the tick after.
        got = dict(zip(found[1].tolist(), found.T.tolist(), strict=True))
        assert len(got) == found.shape[1], "one expired twice"
        assert set(got) <= must | may
        late = must - set(got)
        for handle in late:
            assert -(-self.deadline[handle][0] // TICK) >= tick, "more than a tick late"
        for handle in (must | may) - set(got):
            heapq.heappush(self.heap, (self.deadline[handle][0], handle))
        for handle, (word, _, _, at, periods) in got.items():
            deadline, period = self.deadline[handle]
            assert (word, at) == (self.words[handle], deadline)
            if period == 0:
                assert periods == 1
                self.counts["expired"] += 1
                del self.deadline[handle]
                continue
            assert periods == (self.now - deadline) // period + 1
            self.counts["periodic"] += 1
            self.counts["missed"] += periods - 1
            self.deadline[handle] = deadline + periods * period, period
            heapq.heappush(self.heap, (deadline + periods * period, handle))

    @invariant()
    def same(self):
        if not hasattr(self, "timers"):
            return
        stats = self.timers.stats()
        assert stats.armed == len(self.timers) == len(self.deadline)
        assert stats.used == len(self.words)
        for name, count in self.counts.items():
            assert getattr(stats, name) >= count if name == "refused" else getattr(stats, name) == count, name
        soonest = self.timers.next_ns()
        if self.deadline:
            first = min(deadline for deadline, _ in self.deadline.values())
            assert soonest is not None
            assert soonest <= max(first, self.now) + TICK
        for handle in self.words:
            assert self.timers.is_armed(handle) == (handle in self.deadline)


TestModel = Model.TestCase
TestModel.settings = settings(
    max_examples=settings().max_examples * (2 if COMPILED else 3), stateful_step_count=60 if COMPILED else 40
)


@pytest.mark.parametrize("reach", [20, 600, 70_000, 1 << 33])
def test_many_moves(reach):
    """Whole ticks only, so that it is known to the tick who expires: hundreds of timers, all to and fro."""
    count, turns = (2000, 400) if COMPILED else (300, 40)
    rng = np.random.default_rng(reach)
    deadlines = np.full(count, -1)
    now = 250
    with Timers(count, now_ns=now * TICK) as timers:
        handles = timers.add_many(np.arange(count))
        for turn in range(turns):
            some = np.unique(rng.integers(0, count, count // 8))
            delays = rng.integers(1, reach, len(some)) if turn % 3 else rng.integers(1, 20, len(some))
            timers.start_many(handles[some], delays * TICK)
            deadlines[some] = now + delays
            some = np.unique(rng.integers(0, count, count // 50))
            timers.stop_many(handles[some])
            deadlines[some] = -1
            now += int(rng.integers(1, max(reach // 20, 3)))
            due = np.flatnonzero((deadlines >= 0) & (deadlines <= now))
            assert sorted(timers.advance(now * TICK).tolist()) == due.tolist()
            deadlines[due] = -1
            assert len(timers) == (deadlines >= 0).sum()
        assert timers.stats().moved > turns

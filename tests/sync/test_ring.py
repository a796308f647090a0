"""Rings against collections.deque, and between threads."""

import os
import threading
from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from wirespeed.errors import ArenaError
from wirespeed.jit import COMPILED, fetch_add, kernel, load64, pause, store64
from wirespeed.mem.region import Region
from wirespeed.sync import ring as rings
from wirespeed.sync.ring import RingView, format_ring, mc_dequeue, mp_enqueue, sc_dequeue, sp_enqueue

ELEMENTS = int(os.environ.get("WIRESPEED_ELEMENTS", 20_000_000 if COMPILED else 2_000))
SIZE = 1024 if COMPILED else 16


@kernel
def put_sp(ring, vector, count):
    return sp_enqueue(ring, vector, count)


@kernel
def put_mp(ring, vector, count):
    return mp_enqueue(ring, vector, count)


@kernel
def get_sc(ring, vector, count):
    return sc_dequeue(ring, vector, count)


@kernel
def get_mc(ring, vector, count):
    return mc_dequeue(ring, vector, count)


@kernel
def look(ring):
    return rings.count(ring), rings.free(ring), RingView(ring).count, RingView(ring).free


@kernel
def produce(ring, vector, tag, total, many):
    """Send tag | 0, tag | 1, ... in bursts of 32."""
    sent = 0
    while sent < total:
        burst = min(32, total - sent)
        for i in range(burst):
            store64(vector + i * 8, tag | (sent + i))
        moved = 0
        while moved < burst:
            at = vector + moved * 8
            got = mp_enqueue(ring, at, burst - moved) if many else sp_enqueue(ring, at, burst - moved)
            moved += got
            if got == 0:
                pause()
        sent += burst
    return sent


@kernel
def consume(ring, vector, total):
    """Receive ``total``; counts elements out of their producer's order."""
    next0 = 0
    next1 = 0
    bad = 0
    taken = 0
    while taken < total:
        got = sc_dequeue(ring, vector, 48)
        if got == 0:
            pause()
        for i in range(got):
            word = load64(vector + i * 8)
            if word >> 32 == 0:
                bad += word != next0
                next0 += 1
            else:
                bad += (word & 0xFFFF_FFFF) != next1
                next1 += 1
        taken += got
    return bad


@kernel
def drain(ring, vector, left):
    """One of many consumers, until the shared count ``left`` is used up; the sum of what it took."""
    total = 0
    while load64(left) > 0:
        got = mc_dequeue(ring, vector, 48)
        if got == 0:
            pause()
        for i in range(got):
            total += load64(vector + i * 8)
        fetch_add(left, -got)
    return total


class Bench:
    """A ring and vectors for four threads."""

    def __init__(self, size=SIZE):
        ring_bytes = RingView.bytes_needed(size)
        self.region = Region(ring_bytes + 8 * 4096, "test-ring", huge=False)
        self.ring = self.region.address
        self.vectors = [self.region.address + ring_bytes + i * 4096 for i in range(8)]
        format_ring(self.ring, size)

    def write(self, values):
        for i, value in enumerate(values):
            store64(self.vectors[0] + i * 8, value)

    def read(self, count):
        return [load64(self.vectors[1] + i * 8) for i in range(count)]


@pytest.fixture
def bench():
    bench = Bench()
    yield bench
    bench.region.close()


def run(*calls):
    """Each call in a thread of its own; their results."""
    results = [None] * len(calls)

    def work(index, function, *arguments):
        results[index] = function(*arguments)

    threads = [threading.Thread(target=work, args=(i, *call)) for i, call in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.parametrize("size", [0, 3, -4, 1000])
def test_size_must_be_a_power_of_two(bench, size):
    with pytest.raises(ArenaError, match=f"{size} slots"):
        format_ring(bench.ring, size)


def test_must_be_aligned(bench):
    with pytest.raises(ArenaError, match="align"):
        format_ring(bench.ring + 64, 4)


def test_bytes_needed():
    assert [RingView.bytes_needed(size) for size in (1, 16, 1024)] == [512, 512, 8576]


@pytest.mark.parametrize("put", [put_sp, put_mp])
@pytest.mark.parametrize("get", [get_sc, get_mc])
def test_burst_moves_what_fits_and_wraps(put, get):
    bench = Bench(size=8)
    with bench.region:
        bench.write([1, 2, 3, 4, 5, -6])
        assert get(bench.ring, bench.vectors[1], 3) == 0
        assert put(bench.ring, bench.vectors[0], 6) == 6
        assert get(bench.ring, bench.vectors[1], 4) == 4
        assert bench.read(4) == [1, 2, 3, 4]
        assert put(bench.ring, bench.vectors[0], 6) == 6  # over the end
        assert put(bench.ring, bench.vectors[0], 6) == 0  # full: all 8 slots are used
        assert look(bench.ring) == (8, 0, 8, 0)
        assert get(bench.ring, bench.vectors[1], 100) == 8
        assert bench.read(8) == [5, -6, 1, 2, 3, 4, 5, -6]
        assert look(bench.ring) == (0, 8, 0, 8)


def test_control_code_uses_lists(bench):
    assert rings.enqueue(bench.ring, range(SIZE + 5)) == SIZE
    assert rings.dequeue(bench.ring, 3) == [0, 1, 2]
    assert rings.dequeue(bench.ring, SIZE) == list(range(3, SIZE))
    assert rings.dequeue(bench.ring, 1) == []
    assert (rings.count(bench.ring), rings.free(bench.ring)) == (0, SIZE)


def test_scratch_is_the_slot_filled_next(bench):
    ring = RingView(bench.ring)
    for value in range(SIZE):
        store64(ring.scratch, value)
        assert put_mp(bench.ring, ring.scratch, 1) == 1
    assert rings.dequeue(bench.ring, SIZE) == list(range(SIZE))


def test_one_producer_one_consumer(bench):
    sent, bad = run(
        (produce, bench.ring, bench.vectors[0], 0, ELEMENTS, False),
        (consume, bench.ring, bench.vectors[1], ELEMENTS),
    )
    assert (sent, bad) == (ELEMENTS, 0)
    assert RingView(bench.ring).count == 0


def test_two_producers_one_consumer(bench):
    each = ELEMENTS // 4
    *_, bad = run(
        (produce, bench.ring, bench.vectors[0], 0, each, True),
        (produce, bench.ring, bench.vectors[1], 1 << 32, each, True),
        (consume, bench.ring, bench.vectors[2], 2 * each),
    )
    assert bad == 0
    assert RingView(bench.ring).count == 0


def test_two_producers_two_consumers(bench):
    each = ELEMENTS // 8
    left = bench.vectors[7]
    store64(left, 2 * each)
    *_, first, second = run(
        (produce, bench.ring, bench.vectors[0], 0, each, True),
        (produce, bench.ring, bench.vectors[1], 0, each, True),
        (drain, bench.ring, bench.vectors[2], left),
        (drain, bench.ring, bench.vectors[3], left),
    )
    assert first + second == each * (each - 1)
    assert (RingView(bench.ring).count, load64(left)) == (0, 0)


class RingMachine(RuleBasedStateMachine):
    """A ring of 8 behaves like a bounded deque, whichever kinds of producer and consumer use it in turn."""

    def __init__(self):
        super().__init__()
        self.bench = Bench(size=8)
        self.model = deque()
        self.serial = 0

    @rule(count=st.integers(0, 12), put=st.sampled_from([put_sp, put_mp]))
    def enqueue(self, count, put):
        values = list(range(self.serial, self.serial + count))
        self.bench.write(values)
        moved = put(self.bench.ring, self.bench.vectors[0], count)
        assert moved == min(count, 8 - len(self.model))
        self.model.extend(values[:moved])
        self.serial += moved

    @rule(count=st.integers(0, 12), get=st.sampled_from([get_sc, get_mc]))
    def dequeue(self, count, get):
        moved = get(self.bench.ring, self.bench.vectors[1], count)
        assert moved == min(count, len(self.model))
        assert self.bench.read(moved) == [self.model.popleft() for _ in range(moved)]

    @precondition(lambda self: len(self.model) < 8)
    @rule()
    def enqueue_from_control(self):
        assert rings.enqueue(self.bench.ring, [self.serial]) == 1
        self.model.append(self.serial)
        self.serial += 1

    @invariant()
    def counts(self):
        assert look(self.bench.ring) == (len(self.model), 8 - len(self.model)) * 2

    def teardown(self):
        self.bench.region.close()


RingMachine.TestCase.settings = settings(max_examples=60 if COMPILED else 20, stateful_step_count=40, deadline=None)
TestRingMachine = RingMachine.TestCase

"""ws.Ring against collections.deque; between threads, and between processes that die."""

import os
import signal
import subprocess
import sys
import threading
from collections import deque
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import wirespeed as ws
from wirespeed.errors import ArenaError, TableError
from wirespeed.jit import COMPILED, View, kernel, le32, load32, load64, pause, store32, store64
from wirespeed.mem.region import Region
from wirespeed.mem.rings import Ring, RingStats
from wirespeed.sync.ring import dequeue_burst, enqueue_burst
from wirespeed.sync.ring_sides import KINDS, MULTI, RTS, SINGLE
from wirespeed.sync.ring_view import ring_view

ELEMENTS = int(os.environ.get("WIRESPEED_ELEMENTS", 1_000_000 if COMPILED else 1_000))
"""Elements that pass between threads and processes; set it to billions for a soak."""

SIZE = 1024 if COMPILED else 16
PAIRS = [(kind, kind) for kind in KINDS] + [("rts", "single"), ("multi", "hts"), ("single", "rts")]


def numbers(ring, first, count):
    """Elements that say their number, of any dtype."""
    serial = np.arange(first, first + count)
    if ring.dtype.names:
        array = np.zeros(count, ring.dtype)
        for name in ring.dtype.names:
            array[name] = serial
        return array
    if ring.dtype.kind == "V":
        words = np.zeros((count, ring.dtype.itemsize // 4), "<u4")
        words[:] = serial[:, None]
        return np.frombuffer(words.tobytes(), ring.dtype)
    return serial.astype(ring.dtype)


# One thread --------------------------------------------------------------------------------------------------


class RingMachine(RuleBasedStateMachine):
    """Any mode, any element, any operation: a bounded deque."""

    ELEMENTS_OF: ClassVar = [4, 8, 12, 16, 20, [("flow", "<u4"), ("bytes", "<u8")]]

    @initialize(
        producers=st.sampled_from(KINDS),
        consumers=st.sampled_from(KINDS),
        element=st.sampled_from(ELEMENTS_OF),
        size=st.integers(1, 9),
        exact=st.booleans(),
        age=st.sampled_from([0, 5, (1 << 32) - 7, (1 << 31) - 3]),
    )
    def make(self, producers, consumers, element, size, exact, age):
        self.ring = Ring(size, producers=producers, consumers=consumers, element=element, exact=exact)
        assert self.ring.size == (size if exact else 1 << (size - 1).bit_length())
        view = self.ring.View(self.ring.address)
        for word in (
            "producer_head",
            "producer_tail",
            "producer_seen",
            "consumer_head",
            "consumer_tail",
            "consumer_seen",
        ):
            setattr(view, word, age)  # as if it had run for long
        self.model, self.serial = deque(), 0
        self.reserved = self.claimed = None

    def teardown(self):
        if hasattr(self, "ring"):
            self.ring.close()

    @property
    def room(self):
        return self.ring.size - len(self.model) - (self.reserved[1] if self.reserved else 0)

    def fresh(self, count):
        array = numbers(self.ring, self.serial, count)
        self.serial += count
        return array

    def took(self, array):
        assert array.tolist() == [self.model.popleft() for _ in range(len(array))]

    @precondition(lambda self: self.reserved is None)
    @rule(count=st.integers(0, 12), bulk=st.booleans())
    def put(self, count, bulk):
        array = self.fresh(count)
        expected = (count if count <= self.room else 0) if bulk else min(count, self.room)
        assert self.ring.put_many(array, bulk=bulk) == expected
        self.model.extend(array[:expected].tolist())

    @precondition(lambda self: self.claimed is None)
    @rule(count=st.integers(0, 12), bulk=st.booleans())
    def get(self, count, bulk):
        expected = (count if count <= len(self.model) else 0) if bulk else min(count, len(self.model))
        array = self.ring.get_many(count, bulk=bulk)
        assert len(array) == expected
        self.took(array)

    @precondition(lambda self: self.reserved is None)
    @rule(count=st.integers(1, 9))
    def reserve(self, count):
        at = self.ring.reserve(count)
        assert (at >= 0) == (count <= self.room)
        if at >= 0:
            self.reserved = at, count

    @precondition(lambda self: self.reserved is not None)
    @rule(fewer=st.integers(0, 9))
    def commit(self, fewer):
        at, count = self.reserved
        if self.ring.stats().producers in ("single", "hts"):
            count = max(0, count - fewer)
        array = self.fresh(count)
        filled = 0
        for part in self.ring.slots(at, count):
            part[:] = array[filled : filled + len(part)]
            filled += len(part)
        assert filled == count
        self.ring.commit(at, count)
        self.model.extend(array.tolist())
        self.reserved = None

    @precondition(lambda self: self.claimed is None)
    @rule(count=st.integers(1, 9))
    def claim(self, count):
        at = self.ring.claim(count)
        assert (at >= 0) == (count <= len(self.model))
        if at >= 0:
            self.claimed = at, count

    @precondition(lambda self: self.claimed is not None)
    @rule(fewer=st.integers(0, 9))
    def release(self, fewer):
        at, count = self.claimed
        parts = self.ring.slots(at, count)
        array = np.concatenate(parts)
        if self.ring.stats().consumers in ("single", "hts"):
            count = max(0, count - fewer)
        self.took(array[:count])
        self.ring.release(at, count)
        self.claimed = None

    @precondition(lambda self: self.ring.stats().consumers == "single")
    @rule(count=st.integers(0, 12))
    def peek(self, count):
        assert self.ring.peek_many(count).tolist() == list(self.model)[:count]
        assert bool(self.ring.peek(count)) == (count < len(self.model))

    @precondition(lambda self: self.reserved and self.ring.stats().producers != "single")
    @rule()
    def producer_dies(self):
        assert self.ring.repair("producers") == self.reserved[1]
        self.reserved = None

    @precondition(lambda self: self.claimed and self.ring.stats().consumers != "single")
    @rule()
    def consumer_dies(self):
        assert self.ring.repair("consumers") == self.claimed[1]
        self.claimed = None

    @invariant()
    def counts(self):
        if hasattr(self, "ring"):
            assert (len(self.ring), self.ring.free) == (len(self.model), self.ring.size - len(self.model))
            stats = self.ring.stats()
            assert (stats.count, stats.free) == (len(self.ring), self.ring.free)
            assert stats.reserved == (self.reserved[1] if self.reserved and stats.producers != "single" else 0)
            assert stats.claimed == (self.claimed[1] if self.claimed and stats.consumers != "single" else 0)


TestRingMachine = RingMachine.TestCase
TestRingMachine.settings = settings(max_examples=100 if COMPILED else 20, stateful_step_count=40, deadline=None)

VIEWS = [
    ring_view(KINDS.index(producers), KINDS.index(consumers), 8)
    for producers, consumers in (("single", "multi"), ("rts", "hts"), ("hts", "rts"))
]


def drive(kind):
    """Every operation of a view of 8-byte elements, as a kernel."""

    @kernel
    def operations(ring, vector):
        r = kind(ring)
        bad = 0
        bad += r.get(-7) != -7
        for i in range(6):
            store64(vector + i * 8, i)
        bad += r.enqueue(vector, 6) != 6
        bad += r.put(6) != 1
        bad += r.enqueue_all(vector, 2) != 0
        bad += r.enqueue(vector, 2) != 1  # 0 again: the ring of 8 is full
        bad += r.put(9) != 0
        bad += r.get() != 0
        bad += r.dequeue_all(vector + 64, 8) != 0
        bad += r.dequeue(vector + 64, 2) != 2
        bad += load64(vector + 64) != 1
        bad += load64(vector + 72) != 2
        at = r.reserve(3)
        for i in range(3):
            store64(r.slot(at, i), 10 + i)
        r.commit(at, 3)
        bad += r.reserve(1) != -1
        at = r.claim(8)
        for i in range(8):
            store64(vector + i * 8, load64(r.slot(at, i)))
        r.release(at, 8)
        bad += r.dequeue(vector + 64, 5) != 0
        bad += r.above_watermark
        return bad

    return operations


@pytest.mark.parametrize("kind", VIEWS, ids=lambda kind: kind.__name__)
def test_a_view_does_what_the_object_does(kind):
    _, producers, consumers, _ = kind.__name__.split("_")
    operations = drive(kind)
    with Ring(8, producers=producers, consumers=consumers) as ring, Region(4096, "test-vector", huge=False) as region:
        for _ in range(3):
            assert operations(ring.address, region.address) == 0
            assert [load64(region.address + i * 8) for i in range(8)] == [3, 4, 5, 6, 0, 10, 11, 12]


Small = ring_view(SINGLE, SINGLE, 4)
Pairs = ring_view(MULTI, RTS, 16)
Records = ring_view(SINGLE, MULTI, 12)


@kernel
def other_sizes(small, pairs, records):
    bad = 0
    bad += Small(small).put(0xFFFF_FFFF) + Small(small).put(-2) != 2
    bad += Small(small).get() != 0xFFFF_FFFF
    bad += load32(Small(small).peek(0)) != 0xFFFF_FFFE
    bad += Small(small).peek(1) != 0
    bad += Pairs(pairs).put_pair(1, -2) != 1
    first, second = Pairs(pairs).get_pair()
    bad += first != 1
    bad += second != -2
    first, second = Pairs(pairs).get_pair()
    bad += first != -1
    at = Records(records).reserve(2)
    store32(Records(records).slot(at, 1) + 8, 77)
    Records(records).commit(at, 2)
    at = Records(records).claim(2)
    bad += load32(Records(records).slot(at, 1) + 8) != 77
    Records(records).release(at, 2)
    return bad


def test_elements_of_other_sizes():
    with (
        Ring(2, producers="single", consumers="single", element=4) as small,
        Ring(2, producers="multi", consumers="rts", element=16) as pairs,
        Ring(2, producers="single", element=12) as records,
    ):
        for _ in range(2):
            assert other_sizes(small.address, pairs.address, records.address) == 0
            assert small.get() == 0xFFFF_FFFE
        assert pairs.put_pair(3, 4) == 1
        assert pairs.get_pair() == (3, 4)
        assert pairs.get_pair() == (-1, -1)
        with pytest.raises(TableError, match="elements of 4 bytes are no pairs"):
            small.put_pair(1, 2)


class Record(View):
    serial = le32(0)
    flow = le32(8)
    SIZE = 12


def test_an_element_is_a_view_or_a_dtype():
    with Ring(5, element=Record, producers="single") as ring:
        at = ring.reserve()
        Record(ring.slot(at)).flow = 9
        ring.commit(at, 1)
        assert ring.dtype == np.dtype("V12")
        at = ring.claim()
        assert Record(ring.slot(at)).flow == 9
        ring.release(at, 1)
    padded = np.dtype([("a", "u1"), ("b", "<u8", (2,))], align=True)
    with Ring(5, "padded", element=padded) as ring:
        assert ring.dtype == padded
        with Ring.attach("padded") as same:
            assert same.dtype == padded


def test_a_node_uses_it():
    lengths = ws.Ring(64, producers="multi", consumers="single")

    @ws.node(drops=["full"])
    def report(pkt):
        if lengths.put(pkt.length) == 0:
            return "full"

    graph = ws.Graph()
    graph.add(ws.port("generator:count=100,size=64") >> report >> ws.port("sink"))
    out = ws.run(graph)
    assert out.nodes["report"].drops == {"full": 36}
    assert lengths.get_many(100).tolist() == [60] * 64
    lengths.close()


# What is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "a ring of 0 elements is not possible: use 1 to 1073741824"),
        ({"producers": "many"}, "producers='many' is not a kind of ring: use one of single, multi, rts, hts"),
        ({"consumers": None}, "consumers=None is not a kind"),
        ({"element": 6}, "an element of 6 bytes is not possible: use a multiple of 4, up to 4096"),
        ({"element": 0}, "an element of 0 bytes"),
        ({"element": 5000}, "an element of 5000 bytes"),
        ({"element": "u1"}, "an element of 1 bytes"),
        ({"element": "O"}, "holds Python objects"),
        ({"element": "nonsense"}, "'nonsense' is no size, dtype or View class"),
        ({"watermark": 17}, "watermark=17 is not a fill of this ring: use 1 to 16"),
        ({"watermark": 10, "exact": True}, "use 1 to 9"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(TableError, match=message):
        Ring(**{"size": 9, **arguments})


def test_bad_values():
    with Ring(8, element=4) as ring:
        for values, message in [
            ([1, -1], "-1 to 1 is not within 0 to 4294967295"),
            ([1 << 32], "4294967296 to 4294967296 is not within"),
            ([1.5], "elements are uint32, not float64"),
            ([[1, 2]], r"an array of shape \(1, 2\)"),
        ]:
            with pytest.raises(TableError, match=message):
                ring.put_many(values)
        with pytest.raises(TableError, match="cannot dequeue -1"):
            ring.get_many(-1)
        with pytest.raises(TableError, match="only a sole consumer can peek, this ring has multi ones"):
            ring.peek_many(1)
        with pytest.raises(TableError, match="has no side 'left'"):
            ring.repair("left")
        assert ring.put_many([]) == 0
        assert len(ring) == 0


def test_rounded_or_exact_with_a_watermark():
    with Ring(1000, watermark=3) as ring:
        assert (ring.size, ring.stats().slots, ring.above_watermark) == (1024, 1024, False)
        ring.put_many([1, 2, 3])
        assert ring.above_watermark
        assert bool(ring)
    with Ring(1000, exact=True) as ring:
        assert ring.put_many(np.arange(2000)) == 1000
        assert ring.stats() == RingStats(1000, 1024, 8, "multi", "multi", 1000, 0, 1000, 1000, 0, 0, 0)
        assert repr(ring) == "<Ring ring: 1000 of 1000 elements of int64, multi/multi>"
        assert ring.get_many(10**9, bulk=True).tolist() == []
        assert ring.get_many(10**9).tolist() == list(range(1000))


# Threads -------------------------------------------------------------------------------------------------------


@kernel
def produce(ring, mode, element, vector, tag, total):
    """Send tag | 0, tag | 1, ... in bursts of 32."""
    sent = 0
    while sent < total:
        burst = min(32, total - sent)
        for i in range(burst):
            store64(vector + i * element, tag | (sent + i))
        moved = 0
        while moved < burst:
            got = enqueue_burst(ring, mode, element, vector + moved * element, burst - moved)
            moved += got
            if got == 0:
                pause()
        sent += burst
    return sent


@kernel
def consume(ring, mode, element, vector, last, stop):
    """Receive until told; each producer's elements must come in rising order. (how many, their sum, disorder)"""
    taken = 0
    total = 0
    bad = 0
    store64(last, -1)
    store64(last + 8, -1)
    while True:
        over = load64(stop)
        got = dequeue_burst(ring, mode, element, vector, 24)
        if got == 0:
            if over:
                break
            pause()
        for i in range(got):
            word = load64(vector + i * element)
            at = last + (word >> 40) * 8
            bad += word <= load64(at)
            store64(at, word)
            total += word
        taken += got
    return taken, total, bad


@pytest.mark.parametrize("element", [8, 16])
@pytest.mark.parametrize(("producers", "consumers"), PAIRS)
def test_threads_keep_order_and_lose_nothing(producers, consumers, element):
    """Two producers and two consumers where the kind allows."""
    each = ELEMENTS // 8
    sources = 1 if producers == "single" else 2
    sinks = 1 if consumers == "single" else 2
    results = {}
    with (
        Ring(SIZE, producers=producers, consumers=consumers, element=element) as ring,
        Region(8 * 4096, "test-vectors", huge=False) as region,
    ):
        stop = region.address + 7 * 4096
        mode = KINDS.index(producers) | KINDS.index(consumers) << 2
        vectors = [region.address + i * 4096 for i in range(6)]

        def source(index):
            produce(ring.address, mode, element, vectors[index], index << 40, each)

        def sink(index):
            vector = vectors[2 + index]
            results[index] = consume(ring.address, mode, element, vector, vector + 2048, stop)

        makers = [threading.Thread(target=source, args=(index,)) for index in range(sources)]
        takers = [threading.Thread(target=sink, args=(index,)) for index in range(sinks)]
        for thread in makers + takers:
            thread.start()
        for thread in makers:
            thread.join()
        store64(stop, 1)
        for thread in takers:
            thread.join()
        assert len(ring) == 0
    assert sum(taken for taken, _, _ in results.values()) == sources * each
    assert sum(total for _, total, _ in results.values()) == sum(
        (index << 40) * each + each * (each - 1) // 2 for index in range(sources)
    )
    assert not any(bad for _, _, bad in results.values())


def test_hts_goes_on_after_a_repair_while_others_wait():
    with Ring(8, producers="hts", consumers="hts") as ring:
        ring.reserve(3)  # and dies
        waiting = threading.Thread(target=ring.put_many, args=([1, 2],))
        waiting.start()
        assert ring.stats().reserved == 3
        assert ring.repair("producers") == 3
        waiting.join()
        assert ring.claim(1) >= 0  # and dies
        assert ring.repair("consumers") == 1
        assert ring.get_many(9).tolist() == [1, 2]


# Processes -------------------------------------------------------------------------------------------------------


def child(script, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", PREFIX + script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


PREFIX = """
import os, sys
import numpy as np
from wirespeed.mem.rings import Ring
ring = Ring.attach(sys.argv[1], int(sys.argv[2]), writable=True)
"""
SEND = """
at, end = int(sys.argv[3]), int(sys.argv[4])
while at < end:
    at += ring.put_many(np.arange(at, min(end, at + 4096)))
    os.sched_yield()
"""
RESERVE = """
at = ring.reserve(3)
for part in ring.slots(at, 3):
    part[:] = -1
print("reserved", flush=True)
sys.stdin.read()
"""
CLAIM = """
at = ring.claim(3)
print([int(n) for part in ring.slots(at, 3) for n in part], flush=True)
sys.stdin.read()
"""
TAKE = """
print(ring.get_many(3).tolist(), flush=True)
"""


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdin.close()
    process.stdout.close()


@pytest.mark.parametrize(("producers", "consumers"), PAIRS[:4])
def test_two_processes(producers, consumers):
    name = f"test-ring-{producers}"
    with Ring(SIZE, name, producers=producers, consumers=consumers) as ring:
        process = child(SEND, name, os.getpid(), 0, ELEMENTS)
        following = 0
        while following < ELEMENTS:
            got = ring.get_many(4096)
            if not len(got):
                assert process.poll() in (None, 0)
                os.sched_yield()
            assert (got == np.arange(following, following + len(got))).all()
            following += len(got)
        process.communicate()
        assert process.returncode == 0


def test_a_producer_dies_between_reserve_and_commit():
    with Ring(4, "test-ring-dies", producers="single", consumers="single") as ring:
        ring.put_many([1, 2])
        assert ring.get_many(1).tolist() == [1]
        process = child(RESERVE, ring.name, os.getpid())
        assert process.stdout.readline() == "reserved\n"
        kill(process)
        assert ring.get_many(9).tolist() == [2]  # the consumer goes on
        process = child(SEND, ring.name, os.getpid(), 10, 14)  # another takes over
        process.communicate()
        assert ring.get_many(9).tolist() == [10, 11, 12, 13]
        assert ring.stats().reserved == 0


def test_a_consumer_dies_between_claim_and_release():
    with Ring(4, "test-ring-dies", producers="single", consumers="single") as ring:
        ring.put_many([1, 2, 3])
        process = child(CLAIM, ring.name, os.getpid())
        assert process.stdout.readline() == "[1, 2, 3]\n"
        kill(process)
        assert ring.put_many([4, 5]) == 1  # the producer goes on
        process = child(TAKE, ring.name, os.getpid())  # another takes over, and finds them again
        assert process.communicate()[0] == "[1, 2, 3]\n"
        assert ring.get_many(9).tolist() == [4]


def test_a_producer_is_killed_at_any_moment():
    """What came through is a gapless beginning of what it sent, and the next producer goes on from there."""
    with Ring(SIZE, "test-ring-killed", producers="single", consumers="single") as ring:
        following = 0
        for _ in range(4 if COMPILED else 2):
            process = child(SEND, ring.name, os.getpid(), following, 1 << 40)
            enough = following + max(SIZE * 4, ELEMENTS // 8)
            while following < enough:
                got = ring.get_many(SIZE)
                assert (got == np.arange(following, following + len(got))).all()
                following += len(got)
            kill(process)
            got = ring.get_many(SIZE)
            assert (got == np.arange(following, following + len(got))).all()
            following += len(got)


def test_a_killed_producer_in_the_middle_is_repaired():
    with Ring(4, "test-ring-hts", producers="hts", consumers="single") as ring:
        process = child(RESERVE, ring.name, os.getpid())
        assert process.stdout.readline() == "reserved\n"
        assert ring.stats().reserved == 3
        kill(process)
        assert ring.repair("producers") == 3
        assert ring.put_many([7]) == 1
        assert ring.get_many(4).tolist() == [7]


def test_attached_read_only():
    with Ring(4, "test-ring-look") as ring:
        ring.put_many([5, 6])
        with Ring.attach("test-ring-look", os.getpid()) as seen:
            assert (len(seen), seen.free, seen.stats()) == (2, 2, ring.stats())
            with pytest.raises(TableError, match="attached read-only"):
                seen.get()
            with pytest.raises(TableError, match="attached read-only"):
                seen.put(1)
    with pytest.raises(ArenaError, match="no memory called"):
        Ring.attach("test-ring-look", os.getpid())

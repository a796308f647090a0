"""Faults: what a seed decides is the same however packets are cut into bursts, and no cell is ever lost."""

import functools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ports.test_pcap_broken import frame
from tests.ports.test_wrap import source

import wirespeed as ws
from wirespeed.eal.clock import tsc_hz
from wirespeed.jit import COMPILED, kernel, load64, store64, tsc
from wirespeed.mem.descriptor import SHARED
from wirespeed.ports.port import port
from wirespeed.ports.wrap.fault_path import FaultQueue

FRAMES = [frame(60 + i % 40, i) for i in range(400)]


def received(worker, path, options, room=32, frames=FRAMES):
    """What comes out of a port with faults, and its counters of them."""
    made = port(f"fault({options}) pcap:{path}")
    made.open(worker.pool, 1, 0)
    got = worker.receive_all(made, room)
    found = made.extended()
    made.close()
    return got, {name.removeprefix("fault_"): value for name, value in found.items()}


@pytest.fixture
def path(tmp_path):
    return source(tmp_path, FRAMES)


NONE = {"lost": 0, "duplicated": 0, "reordered": 0, "corrupted": 0}


def test_without_faults_nothing_changes(worker, path):
    assert received(worker, path, "") == (FRAMES, NONE)


@pytest.mark.parametrize("name", ["drop", "duplicate", "reorder", "corrupt"])
@pytest.mark.parametrize("probability", [0.1, 1.0])
def test_one_fault(worker, path, name, probability):
    got, counts = received(worker, path, f"{name}={probability},seed=5")
    count = counts[{"drop": "lost", "duplicate": "duplicated", "reorder": "reordered", "corrupt": "corrupted"}[name]]
    assert sum(counts.values()) == count
    low, high = (20, 65) if probability < 1 else (400, 400)
    if name == "reorder" and probability == 1:
        low = 16  # no more can be held back at once, and nothing goes first
    assert low <= count <= high
    if name == "drop":
        kept = iter(FRAMES)
        assert len(got) == 400 - count
        assert all(data in kept for data in got)  # in their order
    if name == "duplicate":
        assert len(got) == 400 + count
        assert [data for i, data in enumerate(got) if i == 0 or got[i - 1] != data] == FRAMES
    if name == "reorder":
        assert got != FRAMES
        assert sorted(got) == sorted(FRAMES)
        if probability < 1:
            assert all(abs(FRAMES.index(data) - i) <= 20 for i, data in enumerate(got))
    if name == "corrupt":
        bits = [int.from_bytes(a).__xor__(int.from_bytes(b)).bit_count() for a, b in zip(got, FRAMES, strict=True)]
        assert bits.count(1) == count
        assert bits.count(0) == 400 - count


ALL = "drop=0.1,duplicate=0.1,reorder=0.1,corrupt=0.1"


@given(seed=st.integers(0, 2**40), rooms=st.lists(st.integers(1, 64), min_size=2, max_size=2))
@settings(max_examples=20 if COMPILED else 5, deadline=None)
def test_the_same_seed_is_the_same(tmp_path_factory, worker, seed, rooms):
    path = source(tmp_path_factory.mktemp("faults"), FRAMES[:150])
    first, second = (received(worker, path, f"{ALL},seed={seed}", room, FRAMES[:150]) for room in rooms)
    assert first == second
    assert worker.pool.in_use == 0


def test_another_seed_is_another(worker, path):
    assert received(worker, path, f"{ALL},seed=1") != received(worker, path, f"{ALL},seed=2")


def test_long_packets_and_shared_ones(worker, pool, tmp_path):
    """What somebody else holds is copied before it is changed."""
    made = port("fault(corrupt=1,seed=3) null")
    made.open(pool, 0, 1)
    desc = worker.make(frame(60)) | SHARED
    worker.header(desc).references = 2
    worker.send(made, [desc])
    assert worker.packet(desc) == frame(60)
    worker.free([desc])
    made.close()
    frames = [frame(9000, i) for i in range(10)]
    got, counts = received(worker, source(tmp_path, frames), "duplicate=1", frames=frames)
    assert got == [data for data in frames for _ in range(2)]
    assert counts["duplicated"] == 10


def sent(worker, options, batches):
    """What a driver gets to send."""
    made = port(f"fault({options}) null")
    made.open(worker.pool, 0, 1)
    for batch in batches:
        worker.send(made, [worker.make(data) for data in batch])
    stats, found = made.stats(), made.extended()
    made.close()
    return stats, found


def test_sending(worker, pool):
    stats, found = sent(worker, "drop=0.25,duplicate=0.25,seed=9", [FRAMES[i : i + 50] for i in range(0, 400, 50)])
    assert found["fault_lost"] > 50
    assert found["fault_duplicated"] > 40
    assert stats.tx_packets == 400 - found["fault_lost"] + found["fault_duplicated"]
    assert pool.in_use == 0


@pytest.mark.parametrize("options", ["", "duplicate=1", "reorder=0.5,duplicate=0.5"])
def test_long_bursts_to_send(worker, pool, options):
    """Segmentation makes of a burst as many packets as a vector has. The line never runs over; none is sent twice."""
    made = port(f"fault({options}) null")
    made.open(pool, 0, 1)
    record = FaultQueue(made.tx[0])
    for turn in range(4):
        worker.send(made, [worker.make(FRAMES[i % 400]) for i in range(512)])
        assert record.tail - record.head + record.held <= 1024
        if not options:
            assert made.stats().tx_packets == 512 * (turn + 1)
    stats, found = made.stats(), made.extended()
    waiting = record.tail - record.head + record.held
    assert stats.tx_packets + stats.tx_dropped + waiting == 2048 + found["fault_duplicated"]
    assert pool.in_use == waiting
    made.close()


def flushed(worker, made):
    """One turn of the worker: what ``flush`` returns."""
    return _flush(made.flush)(made.tx[0], worker.cache)


@functools.cache
def _flush(function):
    @kernel
    def call(queue, cache):
        return function(queue, cache)

    return call


def test_sending_later(worker, pool):
    """Time is driven: due times, which are an hour away, are set back."""
    made = port("fault(direction=tx,delay_us=9000000) null")
    made.open(pool, 0, 1)
    record = FaultQueue(made.tx[0])
    record.delay = 3600 * tsc_hz()
    assert flushed(worker, made) == 0  # nothing waits
    begun = tsc()
    assert worker.send(made, [worker.make(data) for data in FRAMES[:5]]) == 5
    assert made.stats().tx_packets == 0
    assert flushed(worker, made) == 1  # do not sleep, do not end
    for at in range(record.head, record.tail):
        due = made.tx[0] + 4608 + (at << 4) + 8
        assert 3500 < (load64(due) - begun) / tsc_hz() <= 3700
    for at in range(record.head, record.head + 3):
        store64(made.tx[0] + 4608 + (at << 4) + 8, begun)
    assert flushed(worker, made) == 4
    assert made.stats().tx_packets == 3
    for at in range(record.head, record.tail):
        store64(made.tx[0] + 4608 + (at << 4) + 8, begun)
    assert flushed(worker, made) == 2
    assert flushed(worker, made) == 0
    assert made.stats().tx_packets == 5
    made.close()


def test_more_to_send_than_can_wait_is_dropped(worker, pool):
    made = port("fault(direction=tx,delay_us=10000000) null")
    made.open(pool, 0, 1)
    for _ in range(3):
        worker.send(made, [worker.make(FRAMES[i]) for i in range(400)])
    assert (made.stats().tx_packets, made.stats().tx_dropped) == (0, 1200 - 1024)
    assert pool.in_use == 1024
    made.close()


def test_what_is_held_back_is_sent_when_it_is_quiet(worker, pool):
    made = port("fault(reorder=1,direction=tx) null")
    made.open(pool, 0, 1)
    worker.send(made, [worker.make(data) for data in FRAMES[:3]])
    FaultQueue(made.tx[0]).last_seen -= tsc_hz()
    assert flushed(worker, made) == 3
    assert made.stats().tx_packets == 3
    made.close()


def test_who_sends_at_once_is_not_asked_each_turn():
    assert port("fault(drop=0.1) null").flush is None
    assert port("fault(delay_us=5,direction=rx) null").flush is None
    assert port("trace() null").flush is None
    assert port("trace() fault(delay_us=5) null").flush is not None
    assert port("fault(delay_us=5) fault(delay_us=5) null").flush is not None


@pytest.mark.parametrize("spec", ["fault(delay_us=2000,jitter_us=100) sink", "trace() fault(delay_us=500) sink"])
def test_a_graph_ends_when_all_have_left(tmp_path, spec):
    graph = ws.Graph()
    sink = ws.port(spec.replace("trace()", f"trace(file={tmp_path / 'lines'})"))
    graph.add(ws.port("null:size=60,count=500") >> swap >> sink)
    report = ws.run(graph)
    assert (report.sent, report.drops, report.in_use) == (500, {}, 0)
    assert report.seconds > 0.0005


def test_what_is_held_back_at_the_end_is_freed(worker, pool):
    stats, found = sent(worker, "reorder=1", [FRAMES[:10]])
    assert (stats.tx_packets, found["fault_reordered"]) == (0, 10)
    assert pool.in_use == 0


def test_directions(worker, path):
    assert received(worker, path, "drop=1,direction=tx")[0] == FRAMES
    assert sent(worker, "drop=1,direction=rx", [FRAMES[:5]])[0].tx_packets == 5


def test_delay(worker, pool, path):
    """Time is driven: due times, which are hours away, are set back."""
    made = port(f"fault(delay_us=9M) pcap:{path}".replace("9M", "9000000"))
    made.open(pool, 1, 0)
    record = FaultQueue(made.rx[0])
    record.delay = 3600 * tsc_hz()
    assert worker.burst(made) == []
    assert made.arm(made.rx[0], 1) == 1  # something is here: do not sleep over it
    begun = tsc()
    for at in range(record.head, record.tail):
        due = made.rx[0] + 4608 + (at << 4) + 8
        assert 3500 < (load64(due) - begun) / tsc_hz() <= 3600
        store64(due, begun)
    record.delay = 0
    record.last_due = 0
    assert worker.receive_all(made) == FRAMES
    made.close()
    assert pool.in_use == 0


def test_what_is_not_due_at_the_end_is_freed(worker, pool, path):
    made = port(f"fault(delay_us=10000000) pcap:{path}")
    made.open(pool, 1, 0)
    assert worker.burst(made) == []
    assert pool.in_use > 0
    made.close()
    assert pool.in_use == 0


def test_a_full_line_holds_the_driver_up(worker, pool, path):
    """No more is received than can wait; nothing is lost."""
    made = port(f"fault(delay_us=10000000,duplicate=1) pcap:{path}")
    made.open(pool, 1, 0)
    for _ in range(100):
        assert worker.burst(made, 64) == []
    assert FaultQueue(made.rx[0]).tail <= 1024
    made.close()


@pytest.mark.skipif(not COMPILED, reason="a lot of packets, interpreted")
def test_in_a_graph(worker):
    graph = ws.Graph()
    graph.add(ws.faults("null:size=60,count=100k", drop=0.01, reorder=0.01, seed=7) >> swap >> ws.port("sink"))
    report = ws.run(graph)
    assert report.in_use == 0
    assert (report.packets, 98_500 < report.sent < 99_500) == (100_000, True)


@ws.node()
def swap(pkt):
    """Let it pass."""

"""The meter: against a model that remembers everything, against known faults, hostile stamps, other processes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wirespeed as ws
from wirespeed.eal.clock import tsc_hz
from wirespeed.errors import PortError, TableError
from wirespeed.jit import COMPILED, cycles, kernel, write_bytes
from wirespeed.mem.descriptor import ROOM, address_of
from wirespeed.mem.region import Region
from wirespeed.ports.meter.path import RESTARTED, MeterView
from wirespeed.ports.meter.port import Meter, MeterPort
from wirespeed.ports.stamp import STAMP, write_stamp

compiled = pytest.mark.skipif(not COMPILED, reason="nothing is compiled: too many packets interpreted")
WRAP = 1 << 32


@kernel
def arrive(meter, packet, stream, sequences, sent, seen):  # type: ignore[no-untyped-def]
    """Stamped packets, one after the other."""
    for i in range(len(sequences)):
        write_stamp(packet + 42, stream, int(sent[i]), int(sequences[i]))
        MeterView(meter).see(packet, 60, int(seen[i]))


@kernel
def stamp(at, stream, time, sequence):  # type: ignore[no-untyped-def]
    write_stamp(at, stream, time, sequence)


@pytest.fixture(scope="module")
def packet():
    with Region(4096, "test-packet", huge=False) as memory:
        yield memory.address


def feed(meter, packet, sequences, stream=0, sent=None, seen=None):
    write_bytes(packet, bytes(128))
    numbers = np.array(sequences, np.int64)
    sent = np.zeros(len(numbers), np.int64) if sent is None else np.array(sent, np.int64)
    seen = sent + 1000 if seen is None else np.array(seen, np.int64)
    arrive(meter.address, packet, stream, numbers, sent, seen)
    return meter[stream]


def model(numbers):
    """(lost, duplicates, reordered, farthest, gaps) by the definitions, all packets remembered."""
    seen, duplicates, reordered, farthest, gaps = set(), 0, 0, 0, 0
    highest = numbers[0] - 1
    for number in numbers:
        if number in seen:
            duplicates += 1
        elif number <= highest:
            reordered += 1
            farthest = max(farthest, highest + 1 - number)
        elif number > highest + 1 and seen:
            gaps += 1
        seen.add(number)
        highest = max(highest, number)
    return max(seen) - min(seen) + 1 - len(seen), duplicates, reordered, farthest, gaps


def found(reading):
    return reading.lost, reading.duplicates, reading.reordered, reading.farthest, reading.gaps


# Each step goes on from the highest number so far, at most a window's certain part away.
STEPS = st.lists(st.one_of(st.just(1), st.integers(-90, 90), st.integers(1, 3000)), min_size=1, max_size=200)


@settings(max_examples=200 if COMPILED else 40)
@given(STEPS, st.sampled_from([0, 5, WRAP - 40, WRAP - 1]), st.sampled_from([128, 1024]))
def test_any_order_is_what_the_model_says(packet, steps, start, window):
    numbers, highest = [start], start
    for step in steps:
        number = max(highest + step, start - 20)
        numbers.append(number)
        highest = max(highest, number)
    with Meter(window=window) as meter:
        reading = feed(meter, packet, [number % WRAP for number in numbers])
        assert found(reading) == model(numbers)
        assert reading.received == len(numbers)
        assert (reading.late, reading.restarts) == (0, 0)


def test_in_order_forever(packet):
    with Meter(window=64) as meter:
        for start in range(WRAP - 1000, WRAP + 1000, 100):
            reading = feed(meter, packet, [number % WRAP for number in range(start, start + 100)])
        assert found(reading) == (0, 0, 0, 0, 0)
        assert reading.received == 2000
        assert meter[0].unique == 2000


def test_too_late_to_tell(packet):
    with Meter(window=64) as meter:
        reading = feed(meter, packet, [*range(1000), 10, 1000])
        assert (reading.late, reading.reordered, reading.duplicates) == (1, 1, 0)
        assert reading.farthest == 990
        reading = feed(meter, packet, [*range(1001, 1101), 1090])  # the window is where it should be
        assert (reading.late, reading.duplicates) == (1, 1)


def test_a_sender_that_begins_anew(packet):
    with Meter() as meter:
        reading = feed(meter, packet, [*range(5000), *range(RESTARTED + 10)])
        assert (reading.restarts, reading.late, reading.reordered, reading.lost) == (1, 0, 0, 0)
        reading = feed(meter, packet, [RESTARTED + 12])
        assert (reading.restarts, reading.lost, reading.received) == (1, 2, 5000 + RESTARTED + 11)


@pytest.mark.parametrize("window", [64, 1024])
@pytest.mark.parametrize("start", [0, 10])
def test_a_new_beginning_forgets_the_old_numbers(packet, window, start):
    """Of them, late ones must not be taken for duplicates, nor the first ones for late when they come twice."""
    with Meter(window=window) as meter:
        last = start + RESTARTED + 6
        reading = feed(meter, packet, [*range(5000), *range(start, last), last + 1, last])
        assert (reading.restarts, reading.duplicates, reading.reordered, reading.lost) == (1, 0, 1, 0)
        reading = feed(meter, packet, [last - 10])
        assert (reading.duplicates, reading.reordered, reading.lost) == (1, 1, 0)


def test_latency_and_jitter(packet):
    hz = tsc_hz()
    random = np.random.default_rng(2)
    sent = np.arange(1, 5001) * 10_000
    taken = random.integers(1000, 1_000_000, 5000)
    with Meter() as meter:
        reading = feed(meter, packet, range(5000), sent=sent, seen=sent + taken)
        ns = taken * 1e9 / hz
        for percent in (50, 90, 99, 99.9):
            exact = np.percentile(ns, percent, method="inverted_cdf")
            assert reading.latency.percentile(percent) == pytest.approx(exact, rel=2e-3)
        assert reading.latency.largest == pytest.approx(ns.max(), rel=1e-4, abs=2)
        assert reading.latency.mean == pytest.approx(ns.mean(), rel=1e-4)
        jitter = 0.0
        for change in np.abs(np.diff(ns)):
            jitter += (change - jitter) / 16
        assert reading.jitter_ns == pytest.approx(jitter, rel=0.01)
        span = sent[-1] + taken[-1] - sent[0] - taken[0]
        assert reading.seconds == pytest.approx(span / hz)
        assert reading.rate == pytest.approx(4999 / (span / hz))


def test_times_that_wrap_and_times_that_are_early(packet):
    with Meter() as meter:
        near = (1 << 48) - 10
        reading = feed(meter, packet, [0, 1, 2], sent=[near, near, 5000], seen=[near + 2000, near + 3000, 4000])
        assert reading.early == 1
        assert reading.latency.smallest == 0
        assert reading.latency.count == 3
        assert reading.latency.largest < 10_000


@settings(max_examples=300 if COMPILED else 60)
@given(st.binary(max_size=80), st.integers(0, 1 << 62))
def test_hostile_bytes(packet, data, now):
    """Whatever it is: counted once, in bounds (the interpreted run checks every access)."""
    with Meter(streams=2) as meter:
        write_bytes(packet, bytes(128))
        write_bytes(packet, data)
        MeterView(meter.address).see(packet, len(data), now)
        assert meter.plain + meter.strangers + sum(reading.received for reading in meter.readings()) == 1


@settings(max_examples=100 if COMPILED else 20)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, WRAP - 1), st.integers(0, 1 << 48)), max_size=60))
def test_hostile_stamps(packet, stamps):
    with Meter(streams=4, window=64) as meter:
        for stream, sequence, time in stamps:
            stamp(packet + 14, stream, time, sequence)
            MeterView(meter.address).see(packet, 14 + STAMP, 12345)
        assert meter.strangers == sum(stream > 3 for stream, _, _ in stamps)
        for reading in meter.readings():
            assert reading.received == sum(stream == reading.stream for stream, _, _ in stamps)
            assert reading.lost >= 0
            assert reading.latency.count == reading.received


def test_streams_are_apart_and_the_meter_forgets(packet):
    with Meter(streams=3) as meter:
        feed(meter, packet, [0, 1, 2, 2], 0)
        feed(meter, packet, [7, 9], 2)
        assert [(r.stream, r.received, r.lost, r.duplicates) for r in meter.readings()] == [(0, 4, 0, 1), (2, 2, 1, 0)]
        assert "2 received, 1 lost" in str(meter[2])
        assert meter[2].to_dict()["latency_ns"]["count"] == 2
        meter.clear()
        assert meter.readings() == []
        assert feed(meter, packet, [5]).received == 1
        with pytest.raises(IndexError, match="not one of 0 to 2"):
            meter[3]


def test_attached_by_another(packet):
    with Meter(name="test-meter", streams=2) as meter:
        feed(meter, packet, [1, 2, 5], 1)
        other = Meter.attach("test-meter")
        assert other[1].to_dict() == meter[1].to_dict()
        with pytest.raises(TableError, match="attached read-only"):
            other.clear()
        other.close()


def test_a_port_by_hand(pool, worker):
    made = ws.port("meter:streams=2")
    made.open(pool, 0, 1)
    first = bytes(42) + b"\0" * STAMP
    descs = [worker.make(first) for _ in range(3)]
    for number, desc in enumerate(descs):
        stamp(address_of(pool.cells, desc) + 42, number, 0, 0)
    descs.append(worker.make(bytes(ROOM + 500)))  # chained, no stamp
    descs.append(worker.make(b""))
    assert worker.send(made, descs) == 5
    assert made.extended() == {
        "plain": 2, "strangers": 1, "stream_0_received": 1, "stream_0_lost": 0, "stream_0_duplicates": 0,
        "stream_0_reordered": 0, "stream_1_received": 1, "stream_1_lost": 0, "stream_1_duplicates": 0,
        "stream_1_reordered": 0,
    }  # fmt: skip
    assert made.stats().tx_packets == 5
    assert made.stats().tx_bytes == 3 * 60 + ROOM + 500
    assert made.meter[0].bytes == 60
    made.close()
    assert made.meter[0].received == 1  # still to be read


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: ws.port("meter:streams=0"), "streams=0 must be 1 to 1024"),
        (lambda: ws.port("meter:window=100"), "window=100 must be a power of two"),
        (lambda: ws.port("meter:digits=5"), "digits=5 must be 1 to 4"),
        (lambda: ws.port("meter:stream=1"), "did you mean 'streams'"),
    ],
)
def test_what_is_refused(make, says):
    with pytest.raises(PortError, match=says):
        make()


# Through graphs --------------------------------------------------------------------------------------------


def run(*chain, **options):
    graph, meter = ws.Graph(), ws.port("meter:streams=4")
    path = chain[0]
    for node in chain[1:]:
        path = path >> node
    graph.add(path >> meter)
    report = ws.run(graph, **options)
    assert report.in_use == 0
    return meter.meter, report


@compiled
@pytest.mark.parametrize("size", ["size=64", "size=1518", "size=9018", "imix=yes", "proto=tcp,vlan=3,dst=::1"])
def test_nothing_is_lost_where_nothing_can_be(size):
    meter, report = run(ws.port(f"generator:{size},stamp=yes,stream=2,count=20000"))
    (reading,) = meter.readings()
    assert (reading.stream, reading.received, *found(reading)) == (2, 20000, 0, 0, 0, 0, 0)
    assert reading.bytes == report.bytes
    assert (meter.plain, meter.strangers, reading.early) == (0, 0, 0)


numbers = ws.per_worker(seen=0)


@ws.node(drops=["every-tenth"])
def drop_some(pkt):
    """Every tenth packet goes."""
    numbers.seen += 1
    if numbers.seen % 10 == 0:
        return "every-tenth"


@compiled
def test_known_losses():
    numbers[0].seen = 0
    meter, report = run(ws.port("generator:stamp=yes,count=10000"), drop_some)
    reading = meter[0]
    assert report.drops == {"drop_some: every-tenth": 1000}
    assert reading.received == 9000
    assert reading.lost == 999  # the last one nobody can miss
    assert reading.gaps == 999


swaps = ws.per_worker(count=0)


@ws.node
def tag(pkt):
    """Put a tag in front: the stamp moves."""
    pkt.push_vlan(0x8100, 7)


@compiled
def test_a_stamp_that_moves():
    meter, _ = run(ws.port("generator:stamp=yes,count=1000"), tag)
    assert (meter[0].received, meter.plain) == (1000, 0)


@ws.node
def swap_sequences(pkt):
    """What a path does that sends each fifth packet late: 0 1 2 4 3 5 6 7 9 8 ... (the stamps are rewritten, so no
    cell has to be kept)."""
    at = pkt.start + 42
    place = swaps.count % 5
    sequence = swaps.count
    if place == 3:
        sequence += 1
    if place == 4:
        sequence -= 1
    swaps.count += 1
    write_stamp(at, 0, 0, sequence)


@ws.node
def double_sequences(pkt):
    """What a path does that doubles each packet: 0 0 1 1 2 2."""
    write_stamp(pkt.start + 42, 1, 0, swaps.count // 2)
    swaps.count += 1


@compiled
def test_known_reordering_and_duplicates():
    swaps[0].count = 0
    meter, _ = run(ws.port("generator:stamp=yes,count=10000"), swap_sequences)
    assert found(meter[0]) == (0, 0, 2000, 2, 2000)  # number 3 comes when 5 is expected: late by 2
    swaps[0].count = 0
    meter, _ = run(ws.port("generator:stamp=yes,count=10000"), double_sequences)
    assert found(meter[1]) == (0, 5000, 0, 0, 0)


looked = Meter(streams=2)


@ws.node
def look(pkt):
    """The meter as a node: packets go on."""
    looked.see(pkt.start, pkt.end - pkt.start, cycles())


@compiled
def test_as_a_node():
    graph = ws.Graph()
    graph.add(ws.port("generator:stamp=yes,count=5000") >> look >> ws.port("sink"))
    assert ws.run(graph).sent == 5000
    assert (looked[0].received, looked[0].lost) == (5000, 0)
    with pytest.raises(TableError, match="give each a meter"):
        looked.prepare(2)


@compiled
def test_one_meter_for_two_ports():
    shared = Meter(streams=4)
    graph = ws.Graph()
    graph.add(ws.port("generator:stamp=yes,count=3000") >> MeterPort.of(shared))
    graph.add(ws.port("generator:stamp=yes,stream=3,count=4000") >> MeterPort("meter:b", MeterPort.Options(), shared))
    ws.run(graph)
    assert [(reading.stream, reading.received) for reading in shared.readings()] == [(0, 3000), (3, 4000)]
    shared.close()

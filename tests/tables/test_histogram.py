"""Histogram: slots and percentiles against the HdrHistogram library and NumPy; merging; other processes; nodes."""

import math

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given, settings
from hypothesis import strategies as st

import wirespeed as ws
from wirespeed.errors import TableError
from wirespeed.jit import COMPILED, kernel
from wirespeed.tables import hdr
from wirespeed.tables.hdr import HdrView

HIGHEST = 10**10
VALUES = st.lists(st.one_of(st.integers(0, 5000), st.integers(0, HIGHEST)), min_size=1, max_size=300)


@kernel
def record_all(address, values):  # type: ignore[no-untyped-def]
    view = HdrView(address)
    for i in range(len(values)):
        view.record(int(values[i]))


@given(VALUES, st.integers(1, 4))
def test_percentiles_are_those_of_the_library(values, digits):
    with ws.Histogram(HIGHEST, digits) as ours:
        theirs = HdrHistogram(1, HIGHEST, digits)
        record_all(ours.address, np.array(values, np.int64))
        for value in values:
            theirs.record_value(value)
        found = ours.snapshot()
        assert found.count == theirs.get_total_count() == len(values)
        for rank in range(1, len(values) + 1):  # whole ranks: the two round others differently
            percent = 100 * rank / len(values)
            expected = min(theirs.get_value_at_percentile(percent), max(values))
            assert found.percentile(percent) == expected or rank == len(values)
        assert found.percentile(100) == max(values) == found.largest
        assert found.smallest == min(values)
        assert found.sum == sum(values)


@given(VALUES, st.floats(0, 100))
def test_percentiles_are_numpys_to_three_digits(values, percent):
    with ws.Histogram(HIGHEST) as histogram:
        histogram.record_many(values)
        exact = int(np.percentile(values, percent, method="inverted_cdf"))
        near = sorted(values)
        found = histogram.percentile(percent)
        rank = percent * len(values) / 100
        if abs(rank - round(rank)) < 1e-6:  # NumPy's rank may be off by one there, for want of digits
            exact = min(near, key=lambda value: abs(value - found))
        assert exact <= found <= exact + exact // 1000


@given(VALUES, st.integers(1, 5))
def test_arrays_and_single_values_find_the_same_slots(values, digits):
    values += [(1 << n) - 1 for n in range(1, 34)] + [1 << n for n in range(33)]
    with ws.Histogram(HIGHEST, digits) as one, ws.Histogram(HIGHEST, digits) as many:
        record_all(one.address, np.array(values, np.int64))
        many.record_many(values)
        assert (one.snapshot().counts == many.snapshot().counts).all()
        assert one.stats() == many.stats()
        low, high, counts = one.arrays()
        assert (low[1:] == high[:-1] + 1).all()
        assert ((high - low) <= low // 10**digits).all()
        for value in values:
            slot = int(np.searchsorted(high, value))
            assert low[slot] <= value <= high[slot] and counts[slot]


@pytest.mark.parametrize("digits", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("highest", [2 * 10**5, 1 << 20, (1 << 36) - 1, 1 << 36, 1 << 62])
def test_the_highest_value_has_the_last_slot(digits, highest):
    slots = hdr.slots_for(highest, digits)
    low, high = hdr.edges(slots, digits)
    assert low[-1] < 2 * highest
    assert int(hdr.slots_of(np.array([highest], np.int64), digits)[0]) < slots
    assert high[-1] >= highest


def test_beyond_and_below():
    with ws.Histogram(5000) as histogram:
        record_all(histogram.address, np.array([-5, 0, 5000, 5001, 1 << 60], np.int64))
        found = histogram.snapshot()
        assert (found.count, found.beyond, found.smallest, found.largest) == (5, 2, 0, 1 << 60)
        assert found.percentile(40) == 0
        assert found.percentile(60) == 5003  # the end of the slot of 5000
        assert found.steps()[-1][1] == 3


@given(VALUES, VALUES)
def test_merging_and_subtracting(first, second):
    with ws.Histogram(HIGHEST) as a, ws.Histogram(HIGHEST) as b, ws.Histogram(HIGHEST) as both:
        a.record_many(first)
        b.record_many(second)
        both.record_many(first + second)
        before = a.snapshot()
        a.merge(b)
        assert a.stats() == both.stats()
        assert (a.snapshot().counts == both.snapshot().counts).all()
        again = before + b.snapshot()
        assert again.to_dict() == both.snapshot().to_dict()
        window = a.snapshot() - before
        assert (window.counts == b.snapshot().counts).all()
        assert window.sum == sum(second)
        assert window.smallest <= min(second) and window.largest >= max(second) * 0.999


def test_workers_are_summed():
    with ws.Histogram(workers=2) as histogram:
        record_all(histogram.address, np.array([1, 2, 3], np.int64))
        record_all(histogram.address + histogram.stride, np.array([10], np.int64))
        assert [len(histogram), histogram.snapshot(0).count, histogram.snapshot(1).count] == [4, 3, 1]
        assert histogram.percentiles((25, 100)) == [1, 10]
        histogram.prepare(2)
        with pytest.raises(TableError, match="make it with workers=3"):
            histogram.prepare(3)
        histogram.clear()
        assert (len(histogram), histogram.percentile(50), histogram.snapshot().smallest) == (0, 0, 0)
        assert math.isnan(histogram.snapshot().mean)


def test_mean_and_deviation():
    random = np.random.default_rng(1)
    values = random.normal(50_000, 4_000, 20_000).astype(np.int64)
    with ws.Histogram() as histogram:
        histogram.record_many(values)
        found = histogram.snapshot()
        assert found.mean == pytest.approx(values.mean())
        assert found.deviation == pytest.approx(values.std(), rel=1e-3)
        assert set(found.to_dict()) >= {"p50", "p99.999", "max", "min", "mean"}


def test_attached_it_is_read_only():
    name = "test-histogram"
    with ws.Histogram(name=name) as histogram:
        histogram.record(7)
        other = ws.Histogram.attach(name)
        assert other.percentile(50) == 7
        for change in (lambda: other.record(1), other.clear, lambda: other.merge(histogram)):
            with pytest.raises(TableError, match="attached read-only"):
                change()
        other.close()


@pytest.mark.skipif(not COMPILED, reason="a graph of 10,000 packets, interpreted")
def test_in_a_node():
    lengths = ws.Histogram(10_000)

    @ws.node
    def measure(pkt):
        """Record how long it is."""
        lengths.record(pkt.length)

    graph = ws.Graph()
    graph.add(ws.port("generator:imix=yes,count=12000") >> measure >> ws.port("sink"))
    ws.run(graph)
    assert lengths.snapshot().steps() == [(60, 7000), (590, 4000), (1514, 1000)]
    assert lengths.percentile(99.999) == 1514
    lengths.close()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: ws.Histogram(digits=6), "6 significant digits are not 1 to 5"),
        (lambda: ws.Histogram(highest=100), "a highest value of 100 is not 2000 to"),
        (lambda: ws.Histogram(workers=0), "0 workers"),
        (lambda: ws.Histogram().merge(ws.Histogram(digits=2)), "merge what has the same digits"),
        (lambda: ws.Histogram().percentile(101), "not all 0 to 100"),
        (lambda: ws.Histogram().snapshot() + ws.Histogram(digits=2).snapshot(), "3 and 2 digits"),
    ],
)
def test_what_is_refused(make, says):
    with pytest.raises(TableError, match=says):
        make()


def test_merging_what_has_no_slots():
    with ws.Histogram(5000) as small, ws.Histogram() as large:
        large.record(4000)
        small.merge(large)
        assert len(small) == 1
        large.record(1 << 30)
        with pytest.raises(TableError, match="no larger values"):
            small.merge(large)


@settings(max_examples=20)
@given(st.integers(1, 5), st.integers(1 << 20, 1 << 62))
def test_memory_is_bounded(digits, highest):
    assert hdr.record_bytes(highest, digits) <= 256 + 8 * (54 << hdr.sub_bits(digits))

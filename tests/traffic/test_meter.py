"""Token buckets and meters against the RFCs' own words in exact fractions (fractions.Fraction)."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirespeed.errors import TableError
from wirespeed.jit import COMPILED
from wirespeed.traffic.bucket import TokenBuckets
from wirespeed.traffic.meter import GREEN, RED, YELLOW, DifferentiatedMeters, SingleRateMeters, TwoRateMeters

S = 1_000_000_000
BURST = 10_000
PACKETS = st.lists(
    st.tuples(st.integers(0, 3 * S // 1000), st.integers(0, 3000), st.sampled_from((GREEN, YELLOW, RED))),
    max_size=200 if COMPILED else 40,
)
"""Gaps in nanoseconds, sizes in bytes, colours before."""


class Model:
    """Buckets that fill continuously; section 3 of RFC 2697 and 2698, section 2 of RFC 4115, as they are written."""

    def __init__(self, kind, rates, bursts):
        self.kind, self.rates, self.bursts = kind, rates, bursts
        self.tokens = [Fraction(burst) for burst in bursts]
        self.at = None

    def color(self, size, now, before):
        elapsed = Fraction(0 if self.at is None else now - self.at, S)
        self.at = now
        if self.kind is SingleRateMeters:
            c, e = self.tokens
            c += elapsed * self.rates[0]
            e = min(e + max(c - self.bursts[0], 0), self.bursts[1])
            self.tokens = [min(c, self.bursts[0]), e]
        else:
            pairs = zip(self.tokens, self.rates, self.bursts, strict=True)
            self.tokens = [min(t + elapsed * rate, burst) for t, rate, burst in pairs]
        margin = min(abs(token - size) for token in self.tokens)
        return self._decide(size, before), margin

    def _decide(self, size, before):
        c, other = self.tokens
        if self.kind is TwoRateMeters:
            if before == RED or other < size:
                return RED
            self.tokens[1] -= size
            if before == YELLOW or c < size:
                return YELLOW
            self.tokens[0] -= size
            return GREEN
        if before == GREEN and c >= size:
            self.tokens[0] -= size
            return GREEN
        if before != RED and other >= size:
            self.tokens[1] -= size
            return YELLOW
        return RED


KINDS = {
    SingleRateMeters: lambda: SingleRateMeters(1, 1_000_000, BURST, 5000),
    TwoRateMeters: lambda: TwoRateMeters(1, 1_000_000, BURST, 3_000_000, 12_000),
    DifferentiatedMeters: lambda: DifferentiatedMeters(1, 1_000_000, BURST, 500_000, 4000),
}
MODELS = {
    SingleRateMeters: ((1_000_000,) * 2, (BURST, 5000)),
    TwoRateMeters: ((1_000_000, 3_000_000), (BURST, 12_000)),
    DifferentiatedMeters: ((1_000_000, 500_000), (BURST, 4000)),
}


@pytest.mark.parametrize("kind", KINDS)
@given(packets=PACKETS)
def test_colours_are_the_rfcs(kind, packets):
    model = Model(kind, *MODELS[kind])
    with KINDS[kind]() as meters:
        now, counts = 5 * S, [0, 0, 0]
        times, sizes, before, expected = [], [], [], []
        for gap, size, color in packets:
            now += gap
            wanted, margin = model.color(size, now, color)
            if margin < Fraction(1, 100):
                break  # rounding may decide from here on
            times.append(now)
            sizes.append(size)
            before.append(color)
            expected.append(wanted)
            counts[wanted] += 1
        found = meters.color_many(0, np.array(sizes), np.array(times), np.array(before))
        assert found.tolist() == expected
        assert meters.counts(0) == tuple(counts)
        assert sum(meters.stats().bytes) == sum(sizes)


@given(packets=PACKETS)
def test_a_bucket_never_grants_more_than_rate_and_burst(packets):
    with TokenBuckets(4, rate=1_000_000, burst=BURST) as buckets:
        now = first = 7 * S
        granted = 0
        for gap, size, _ in packets:
            now += gap
            if buckets.take(2, size, now):
                granted += size
            assert granted <= BURST + (now - first) * 1_000_000 / S + 1
        assert buckets.stats().passed == granted
        assert buckets.level(1) == BURST


def test_a_bucket_grants_all_of_its_rate():
    with TokenBuckets(1, rate=12_500_000_000, burst=1_000_000) as buckets:  # 100 Gb/s
        count = 200_000 if COMPILED else 2000
        times = np.arange(count) * 60  # 750 bytes each 60 ns is the rate; a burst more is granted at first
        granted = buckets.take_many(0, 1500, times)
        assert granted.sum() == pytest.approx((count * 750 + 1_000_000) / 1500, abs=count * 1e-6 + 2)


def test_time_that_runs_backwards_earns_nothing():
    with TokenBuckets(1, rate=1000, burst=1000) as buckets:
        assert buckets.take(0, 1000, 10 * S)
        assert not buckets.take(0, 1, 9 * S)
        assert not buckets.take(0, 1, 10 * S)
        assert buckets.take(0, 1000, 11 * S)


def test_amounts_that_do_not_fit_are_refused():
    with TokenBuckets(1, rate=1, burst=1) as buckets, SingleRateMeters(1, 1000, 1, 1) as meters:
        for amount in (2, 1 << 20, (1 << 62) + 1, -1):
            assert not buckets.take(0, amount, S)
        assert meters.color(0, 1 << 40, S) == RED
        assert buckets.take(0, 1, S)


def test_an_index_outside_wraps():
    with TokenBuckets(3, rate=1000, burst=10) as buckets:
        assert len(buckets) == 4
        assert buckets.take(4, 10, S)
        assert not buckets.take(0, 1, S)
        assert buckets.take(-1, 10, S)
        assert buckets.level(3) == 0


def test_a_bucket_is_changed_live():
    with TokenBuckets(2, rate=1000, burst=10, largest_burst=100) as buckets:
        buckets.set(1, rate=5000, burst=100)
        assert not buckets.take(0, 11, S)
        assert buckets.take(1, 10, S)
        assert buckets.take(1, 100, 2 * S)
        for index, rate, burst, message in (
            (2, 1, 1, "bucket 2 is out of range: 0 to 1"),
            (0, 0, 1, "a rate of 0 a second"),
            (0, 1000, 0, "a burst of 0 is not possible"),
            (0, 1000, 4000, "more than it was made for"),
        ):
            with pytest.raises(TableError, match=message):
                buckets.set(index, rate, burst)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TokenBuckets(0, 1, 1), "0 buckets are not possible"),
        (lambda: TokenBuckets(1, -1, 1), "a rate of -1 a second"),
        (lambda: TokenBuckets(1, 1, 1 << 41), "a burst of 2199023255552"),
        (lambda: TokenBuckets(1, 1, 1 << 40), "too slow for a burst"),
        (lambda: TokenBuckets(1, 1e20, 1), "give a smaller burst"),
        (lambda: SingleRateMeters(0, 1, 1, 1), "0 meters are not possible"),
        (lambda: TwoRateMeters(1, 1000, 1, 999, 1), "a peak rate of 999 is below the committed 1000"),
        (lambda: DifferentiatedMeters(1, 1000, 1, 0, 1), "a rate of 0"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(TableError, match=message):
        make()


@given(
    st.lists(st.tuples(st.integers(0, 2 * S // 1000), st.integers(1, 2000)), max_size=50),
    st.sampled_from((SingleRateMeters, TwoRateMeters, DifferentiatedMeters)),
)
def test_one_by_one_and_in_bulk_are_the_same(packets, kind):
    with KINDS[kind]() as one, KINDS[kind]() as many:
        times = np.cumsum([gap for gap, _ in packets], dtype=np.int64)
        sizes = np.array([size for _, size in packets], dtype=np.int64)
        single = [one.color(0, int(size), int(now)) for size, now in zip(sizes, times, strict=True)]
        assert many.color_many(0, sizes, times).tolist() == single

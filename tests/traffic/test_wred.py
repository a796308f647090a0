"""RED against the paper's formulas in floating point (Floyd and Jacobson 1993, sections 4 and 11)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirespeed.errors import TableError
from wirespeed.jit import COMPILED
from wirespeed.traffic.wred import Thresholds, Wred

MANY = 200_000 if COMPILED else 4000


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 10**7)), max_size=100), st.integers(1, 12))
def test_the_average_is_the_papers(packets, weight):
    with Wred(1, Thresholds(1000, 2000), weight, packet_ns=1000) as queues:
        average, now, empty_since = 0.0, 0, -1
        for length, gap in packets:
            now += gap
            if length:
                average += (length - average) / 2**weight
            else:
                if empty_since >= 0:
                    average *= (1 - 2.0**-weight) ** ((now - empty_since) // 1000)
                average -= average / 2**weight
                empty_since = now
            assert not queues.drops(0, length, now)
            if length == 0:
                queues.emptied(0, now)
            assert queues.average(0) == pytest.approx(average, rel=0.12, abs=0.5)
            average = queues.average(0)  # what rounding does must not add up in the model


def share_dropped(queues, length, color=0):
    """At a steady length: the share that is dropped once the average has settled."""
    queues.drops_many(0, np.full(5000, length), 0, color)
    return queues.drops_many(0, np.full(MANY, length), 0, color)


def test_probability_grows_between_the_thresholds():
    """Gaps between drops are even in 1..1/p (section 7, method 2), so 2p / (1 + p) of the packets go."""
    with Wred(1, Thresholds(100, 200, 0.1), weight=4, seed=1) as queues:
        for length, p in ((50, 0), (100, 0), (125, 0.025), (150, 0.05), (199, 0.099)):
            dropped = share_dropped(queues, length)
            assert dropped.mean() == pytest.approx(2 * p / (1 + p), rel=0.1 if COMPILED else 0.3, abs=0.002)
            if p:
                gaps = np.diff(np.flatnonzero(dropped))
                assert gaps.max() <= 1 / p * 1.05 + 1
        assert share_dropped(queues, 201).all()


def test_colours_have_thresholds_of_their_own():
    three = (Thresholds(300, 400), Thresholds(200, 300), Thresholds(100, 200, 1.0))
    with Wred(1, three, weight=2, seed=2) as queues:
        assert not share_dropped(queues, 150, 0).any()
        assert not share_dropped(queues, 150, 1).any()
        assert 0.6 < share_dropped(queues, 150, 2).mean() < 0.73  # gaps of 1 and 2
        assert share_dropped(queues, 250, 2).all()
        assert share_dropped(queues, 250, 77).all()  # no such colour: the worst
        stats = queues.stats()
        assert stats.kept + stats.dropped == 5 * (MANY + 5000)


def test_queues_are_apart_and_draws_follow_the_seed():
    with Wred(2, Thresholds(10, 100, 0.5), 1, seed=3) as a, Wred(2, Thresholds(10, 100, 0.5), 1, seed=3) as b:
        found = a.drops_many(1, np.full(1000, 50), 0)
        assert found.tolist() == b.drops_many(1, np.full(1000, 50), 0).tolist()
        assert a.average(0) == 0


def test_bad_arguments():
    good = Thresholds(1, 2)
    for make, message in (
        (lambda: Wred(0, good), "0 queues"),
        (lambda: Wred(1, good, weight=13), "weight 13"),
        (lambda: Wred(1, good, packet_ns=0), "a packet of 0 ns"),
        (lambda: Wred(1, [good, good]), "2 thresholds"),
        (lambda: Wred(1, Thresholds(5, 5)), "lowest < highest"),
        (lambda: Wred(1, Thresholds(5, 1 << 25)), "lowest < highest"),
        (lambda: Wred(1, Thresholds(5, 6, 0.0)), "a probability above 0"),
    ):
        with pytest.raises(TableError, match=message):
            make()

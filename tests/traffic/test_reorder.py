"""Reorder against a dict and the promise: what leaves is in order, once, and nothing waits longer than said."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirespeed.errors import TableError
from wirespeed.jit import COMPILED
from wirespeed.traffic.reorder import EARLY, HELD, LATE, Reorder

PATIENCE = 1000


def ahead(a, b):
    return (a - b + (1 << 31)) % (1 << 32) - (1 << 31)


class Model:
    """The promise in a dict: number -> arrival."""

    def __init__(self, size, first):
        self.size, self.next, self.held, self.floor = size, first, {}, 0

    def insert(self, sequence, now):
        distance = ahead(sequence, self.next)
        if distance < 0 or sequence in self.held:
            return LATE
        if distance >= self.size:
            self.floor = max(self.floor, distance - self.size + 1)
            return EARLY
        self.held[sequence] = now
        return HELD

    def drain(self, room, now):
        left = []
        while len(left) < room and (self.held or self.floor):
            if self.next in self.held:
                del self.held[self.next]
                left.append(self.next)
            elif not self.floor:
                first = min(self.held, key=lambda number: ahead(number, self.next))
                if now - self.held[first] < PATIENCE:
                    break
            self.next = (self.next + 1) % (1 << 32)
            self.floor = max(self.floor - 1, 0)
        return left


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("in"), st.integers(-20, 40), st.integers(0, 300)),
        st.tuples(st.just("out"), st.integers(0, 20), st.integers(0, 1500)),
    ),
    max_size=150,
)


@given(OPERATIONS, st.sampled_from((0, 5, (1 << 32) - 10, 1 << 31)))
def test_like_the_model(operations, first):
    model, now = Model(16, first), 0
    with Reorder(16, PATIENCE, first) as window:
        for what, number, gap in operations:
            now += gap
            if what == "in":
                sequence = (model.next + number) % (1 << 32)
                assert window.insert(sequence, sequence + 1, now) == model.insert(sequence, now)
            else:
                assert window.drain_many(number, now).tolist() == [number + 1 for number in model.drain(number, now)]
            assert len(window) == len(model.held)


def test_a_shuffled_stream_comes_out_in_order():
    count = 100_000 if COMPILED else 2000
    rng = np.random.default_rng(3)
    order = np.argsort(np.arange(count) + rng.uniform(0, 50, count), kind="stable")
    with Reorder(128, PATIENCE, 0) as window:
        out = []
        for first in range(0, count, 32):
            numbers = order[first : first + 32]
            assert (window.insert_many(numbers, numbers + 7, first) == HELD).all()
            out.append(window.drain_many(1000, first))
        assert np.concatenate(out).tolist() == (np.arange(count) + 7).tolist()
        assert window.stats().skipped == 0


def test_a_jump_ahead_moves_the_window_at_the_next_drain():
    with Reorder(8, PATIENCE) as window:
        assert window.insert(10, 1, 0) == HELD
        assert window.insert(12, 2, 0) == HELD
        assert window.insert(500, 3, 0) == EARLY
        assert window.drain_many(9, 0).tolist() == [1, 2]
        assert window.insert(500, 3, 0) == HELD
        assert window.insert(11, 4, 0) == LATE
        assert window.drain_many(9, PATIENCE).tolist() == [3]


def test_a_packet_twice_is_late():
    with Reorder(8, PATIENCE, 0) as window:
        assert [window.insert(1, desc, 0) for desc in (5, 6)] == [HELD, LATE]
        assert (window.stats().late, len(window)) == (1, 1)


def test_bad_arguments():
    for arguments, message in (
        ((1, 0), "a window of 1"),
        ((8, -1), "a patience of -1"),
        ((8, 0, 1 << 32), "number 42"),
    ):
        with pytest.raises(TableError, match=message):
            Reorder(*arguments)


def test_a_wide_gap_is_looked_over_once():
    """Looking again costs nothing, and a number in the gap is noticed."""
    with Reorder(1 << 12, patience_ns=100, first=0) as window:
        assert window.insert(4000, 1, 5) == HELD
        assert list(window.drain_many(8, 6)) == []
        assert window._view.front == 4000
        assert window.insert(3000, 2, 7) == HELD
        assert window._view.front == 3000
        assert list(window.drain_many(8, 106)) == []  # patience counts for the one behind the gap
        assert list(window.drain_many(8, 107)) == [2, 1]
        assert window.stats().skipped == 3999

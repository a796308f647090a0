"""Counters and per-worker variables, from Python's side."""

import pytest

import wirespeed as ws
from wirespeed.errors import TableError
from wirespeed.mem.state import MAX_WORKERS, CounterView


def test_counter():
    counter = ws.counter()
    assert (counter.value, counter.by_worker) == (0, [0])
    counter.add()
    counter.add(5)
    CounterView(counter.address + 3 * counter.stride).add(10)
    assert counter.by_worker == [6, 0, 0, 10]
    assert int(counter) == counter.value == 16
    counter.reset()
    assert counter.value == 0
    assert repr(ws.counter("queries")) == "<counter queries: 0>"


def test_workers_have_lines_of_their_own():
    assert ws.counter().stride % 64 == 0
    assert ws.counter().address % 64 == 0
    assert ws.per_worker(a=1).stride == 64
    assert ws.per_worker(**{f"v{i}": i for i in range(9)}).stride == 128


def test_per_worker():
    state = ws.per_worker(seen=0, longest=-1)
    assert (state.seen, state.longest) == ([0], [-1])
    state[0].seen = 4
    state[2].longest = 9
    assert state.seen == [4]
    assert state[2].longest == 9
    assert state[1].longest == -1
    with pytest.raises(AttributeError, match="no variable 'shortest'; it has seen, longest"):
        _ = state.shortest
    for index in (-1, MAX_WORKERS):
        with pytest.raises(IndexError, match=f"worker {index} is not one of"):
            state[index]


def test_names_that_cannot_be():
    with pytest.raises(TableError, match="without variables"):
        ws.per_worker()
    for name in ("View", "__class__", "not a name"):
        with pytest.raises(TableError, match="cannot be called that"):
            ws.per_worker(**{name: 0})


@pytest.mark.parametrize("name", ["address", "stride", "workers", "SIZE", "fields", "_names", "class"])
def test_names_that_mean_something_already(name):
    with pytest.raises(TableError, match="cannot be called that"):
        ws.per_worker(**{name: 0})


def test_assigning_to_all_workers_is_refused():
    state = ws.per_worker(seen=0)
    with pytest.raises(AttributeError, match=r"seen.*\[worker\]"):
        state.seen = 3
    assert state.seen == [0]


def test_two_kinds_do_not_share_a_view():
    a, b = ws.per_worker(x=1), ws.per_worker(y=2)
    assert (a.x, b.y) == ([1], [2])
    with pytest.raises(AttributeError):
        _ = a.y

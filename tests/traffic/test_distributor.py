"""The distributor's promise: a flow is with one worker at a time, and load evens out."""

import threading
from collections import Counter, deque

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wirespeed as ws
from wirespeed.errors import TableError
from wirespeed.jit import COMPILED
from wirespeed.traffic.distributor import Distributor

STEPS = st.lists(st.one_of(st.tuples(st.just("in"), st.integers(0, 40)), st.tuples(st.just("done"), st.integers(0, 3))))


@given(STEPS)
def test_a_flow_in_flight_stays_where_it_is(steps):
    queues = [deque() for _ in range(3)]
    with Distributor(3, 64) as spread:
        for what, number in steps:
            if what == "in":
                holders = [worker for worker, queue in enumerate(queues) if number in queue]
                least = min(len(queue) for queue in queues)
                worker = spread.pick(number)
                assert holders in ([], [worker])
                if not holders:
                    assert len(queues[worker]) == least
                queues[worker].append(number)
            elif number < 3 and queues[number]:
                spread.done(number, queues[number].popleft())
            assert [spread.load(worker) for worker in range(3)] == [len(queue) for queue in queues]


def test_two_heavy_flows_part():
    """The case that a hash loses: both could fall to one worker."""
    with Distributor(2) as spread:
        for _ in range(100):
            a, b = spread.pick(8), spread.pick(16)
            assert a != b
            spread.done(a, 8)
            spread.done(b, 16)


def test_workers_that_answer_while_flows_are_given():
    count = 200_000 if COMPILED else 500
    hashes = np.random.default_rng(1).integers(0, 1 << 32, count)
    chunk = max(count // 200, 1)
    with Distributor(2, 256) as spread:
        boxes = [deque(), deque()]
        over = threading.Event()

        def work(worker):
            while not over.is_set() or boxes[worker]:
                if boxes[worker]:
                    spread.done_many(worker, boxes[worker].popleft())

        threads = [threading.Thread(target=work, args=(worker,)) for worker in range(2)]
        for thread in threads:
            thread.start()
        for first in range(0, count, chunk):
            part = hashes[first : first + chunk]
            picked = spread.pick_many(part)
            for worker in range(2):
                boxes[worker].append(part[picked == worker])
        over.set()
        for thread in threads:
            thread.join()
        stats = spread.stats()
        assert sum(stats.given) == count
        assert stats.loads == (0, 0)


def test_shares_are_even():
    with Distributor(4) as spread:
        picked = spread.pick_many(np.arange(1000))
        assert set(Counter(picked.tolist()).values()) == {250}


def test_another_process_is_a_worker(monkeypatch, tmp_path):
    monkeypatch.setenv("WIRESPEED_RUN", str(tmp_path / "run"))
    with Distributor(2, name="spread") as spread, ws.attach("spread", writable=True) as copy:
        worker = spread.pick(5)
        copy.done(worker, 5)
        assert spread.load(worker) == 0


def test_bad_arguments():
    for make, message in (
        (lambda: Distributor(0), "0 workers"),
        (lambda: Distributor(65), "65 workers"),
        (lambda: Distributor(1, 0), "0 flows"),
        (lambda: Distributor(1).done(1, 5), "worker 1 is out of range: 0 to 0"),
    ):
        with pytest.raises(TableError, match=message):
            make()

"""The scheduler: nothing lost, order kept, rates held at every level, priorities strict, weights and turns fair.

Expectations are the definitions: rates times time plus bursts, priority, weighted shares.
"""

from collections import Counter, deque

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirespeed.errors import TableError
from wirespeed.jit import COMPILED
from wirespeed.mem.descriptor import cell_of, describe, length_of
from wirespeed.traffic.scheduler import Rates, Scheduler

S = 1_000_000_000
FAST = Rates(10_000_000_000, 100_000)
BURST = 4000


def make(port=FAST, subports=(FAST,), pipe=FAST, pipes=1, **options):
    return Scheduler(port, subports, pipe, pipes, overhead=0, **options)


def run(scheduler, seconds, supply, step_ns=100_000):
    """Keep queues full for a while: ``supply`` lists (pipe, class, queue, bytes); bytes sent by each of those."""
    sent, cell = Counter(), 0
    key_of = {}
    for now in range(0, int(seconds * S), step_ns):
        for key in supply:
            pipe, traffic_class, queue, size = key
            while scheduler.length(pipe, traffic_class, queue) < 8:
                cell += 1
                key_of[cell] = key
                assert scheduler.enqueue(pipe, traffic_class, queue, describe(cell, length=size))
        for desc in scheduler.dequeue_many(256, now).tolist():
            key = key_of.pop(cell_of(desc))
            assert length_of(desc) == key[3]
            sent[key] += key[3]
    return sent


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(0, 3), st.integers(60, 1500)),
        st.tuples(st.integers(0, 40), st.integers(0, 10_000_000)),
    ),
    max_size=200 if COMPILED else 50,
)


@given(OPERATIONS)
def test_nothing_is_lost_and_queues_keep_their_order(operations):
    slow = Rates(1_000_000, BURST)
    with make(slow, (slow, slow), slow, 3, queue_size=4) as scheduler:
        queues = {}
        now = cell = total = sent_bytes = 0
        for operation in operations:
            if len(operation) == 4:
                pipe, traffic_class, queue, size = operation
                held = queues.setdefault((pipe, traffic_class, queue), deque())
                cell += 1
                taken = scheduler.enqueue(pipe, traffic_class, queue, describe(cell, length=size))
                assert taken == (len(held) < 4)
                if taken:
                    held.append((cell, size))
                    total += 1
            else:
                room, gap = operation
                now += gap
                for desc in scheduler.dequeue_many(room, now).tolist():
                    key = next(key for key, held in queues.items() if held and held[0][0] == cell_of(desc))
                    _, size = queues[key].popleft()
                    total -= 1
                    sent_bytes += size
                    pipe, traffic_class, _ = key
                assert sent_bytes <= BURST + now / 1000 + 1500
            assert len(scheduler) == total
            assert scheduler.stats().busy == len({key[0] for key, held in queues.items() if held})
        left = 0
        while total - left and now < 10**12:  # given time and room, everything goes
            now += 10_000_000
            left += len(scheduler.dequeue_many(64, now))
        assert len(scheduler) == 0


SECONDS = 0.5 if COMPILED else 0.05


@pytest.mark.parametrize("level", ["port", "subport", "pipe"])
def test_each_level_holds_its_rate(level):
    slow = Rates(2_000_000, BURST)
    levels = {"port": FAST, "subports": (FAST,), "pipe": FAST}
    levels["subports" if level == "subport" else level] = (slow,) if level == "subport" else slow
    with make(**levels) as scheduler:
        sent = sum(run(scheduler, SECONDS, [(0, 3, 0, 500)]).values())
        assert sent <= 2_000_000 * SECONDS + BURST + 500
        assert sent == pytest.approx(2_000_000 * SECONDS + BURST, rel=0.02, abs=2000)
        assert scheduler.sent(0)[1] == sent


def test_higher_classes_go_first():
    with make(port=Rates(2_000_000, BURST)) as scheduler:
        sent = run(scheduler, SECONDS, [(0, 0, 0, 400), (0, 2, 1, 400)])
        assert sent[0, 2, 1, 400] <= BURST  # what was left of it at the very start
        assert sent[0, 0, 0, 400] > 1_900_000 * SECONDS


def test_a_class_at_its_limit_lets_the_lower_ones_go():
    pipe = Rates(2_000_000, BURST, classes=(500_000, 2_000_000, 2_000_000, 2_000_000))
    with make(pipe=pipe) as scheduler:
        sent = run(scheduler, SECONDS, [(0, 0, 0, 400), (0, 3, 0, 400)])
        assert sent[0, 0, 0, 400] == pytest.approx(500_000 * SECONDS + BURST, rel=0.05, abs=800)
        assert sum(sent.values()) == pytest.approx(2_000_000 * SECONDS + BURST, rel=0.02, abs=2000)


def test_a_class_of_a_subport_has_a_limit_over_all_its_pipes():
    subport = Rates(4_000_000, BURST, classes=(400_000, 4_000_000, 4_000_000, 4_000_000))
    with make(subports=(subport, FAST), pipes=2) as scheduler:
        sent = run(scheduler, SECONDS, [(0, 0, 0, 400), (1, 0, 0, 400), (2, 0, 0, 400)])
        assert sent[0, 0, 0, 400] + sent[1, 0, 0, 400] == pytest.approx(400_000 * SECONDS + BURST, rel=0.05, abs=800)
        assert sent[2, 0, 0, 400] > 2_000_000 * SECONDS


def test_queues_of_a_class_share_by_weight():
    with make(port=Rates(4_000_000, BURST), weights=(1, 2, 4, 8)) as scheduler:
        sizes = (1500, 64, 600, 300)  # shares are of bytes, whatever the packets' sizes
        sent = run(scheduler, 3 * SECONDS, [(0, 3, queue, sizes[queue]) for queue in range(4)], step_ns=50_000)
        total = sum(sent.values())
        for queue, weight in enumerate((1, 2, 4, 8)):
            assert sent[0, 3, queue, sizes[queue]] / total == pytest.approx(weight / 15, rel=0.12 if COMPILED else 0.6)


def test_pipes_take_turns_by_bytes():
    with make(port=Rates(4_000_000, BURST), pipes=70) as scheduler:
        supply = [(0, 3, 0, 1500), (1, 3, 0, 100), (69, 3, 0, 700)]
        sent = run(scheduler, SECONDS, supply, step_ns=50_000)
        shares = [sent[key] / sum(sent.values()) for key in supply]
        assert min(shares) > 0.28


def test_an_idle_pipe_saves_no_more_than_its_burst():
    with make(pipe=Rates(1_000_000, BURST)) as scheduler:
        for cell in range(20):
            scheduler.enqueue(0, 0, 0, describe(cell, length=1000))
        assert len(scheduler.dequeue_many(64, 100 * S)) == 4
        assert len(scheduler.dequeue_many(64, 100 * S + 900_000)) == 1  # and owes 100 bytes


def test_what_does_not_exist_is_refused_and_counted():
    with make(pipes=3, queue_size=2) as scheduler:
        desc = describe(1, length=60)
        assert scheduler.enqueue_many([3, -1, 0, 0, 0], [0, 0, 4, 0, -1], [0, 0, 0, 4, 0], desc).tolist() == [0] * 5
        assert scheduler.enqueue_many(0, 0, 0, [desc] * 3).tolist() == [1, 1, 0]
        stats = scheduler.stats()
        assert (stats.stray, stats.dropped, stats.held, stats.busy) == (5, 1, 2, 1)
        assert scheduler.length(9, 0, 0) == 0


def test_a_pipe_is_changed_live():
    with make(pipes=2, pipe=Rates(1_000_000, BURST)) as scheduler:
        scheduler.set_pipe(1, Rates(3_000_000, BURST), weights=(9, 1, 1, 1))
        sent = run(scheduler, SECONDS, [(0, 0, 0, 400), (1, 0, 0, 400)])
        assert sent[1, 0, 0, 400] == pytest.approx(3 * sent[0, 0, 0, 400], rel=0.05 if COMPILED else 0.2)
        for pipe, rates, weights, message in (
            (2, FAST, None, "pipe 2 is out of range: 0 to 1"),
            (0, Rates(1, 0), None, "a burst of 0"),
            (0, Rates(10**9, 1 << 30), None, "more than it was made for"),
            (0, FAST, (0, 1, 1, 1), "give four, each 1 to 64"),
        ):
            with pytest.raises(TableError, match=message):
                scheduler.set_pipe(pipe, rates, weights)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subports": ()}, "0 subports"),
        ({"pipes": 0}, "0 pipes"),
        ({"queue_size": 1 << 15}, "queues of 32768"),
        ({"weights": (1, 1, 1)}, "give four"),
        ({"pipe": Rates(0, 1600)}, "a rate of 0"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(TableError, match=message):
        make(**options)


def test_many_pipes_in_bulk():
    pipes = 4096 if COMPILED else 128
    with make(pipes=pipes, queue_size=4) as scheduler:
        cells = np.arange(pipes * 4)
        descs = (cells << 12) | (100 << 48)
        assert scheduler.enqueue_many(cells % pipes, 1, cells // pipes, descs).all()
        found = []
        for now in range(S, S + 100 * pipes * 400, 10_000):
            found += scheduler.dequeue_many(512, now).tolist()
            if len(found) == len(cells):
                break
        assert sorted(cell_of(desc) for desc in found) == cells.tolist()


def test_super_packets_share_by_weight():
    """A packet of 64 KiB takes many turns of the round robin; no queue may ever owe more than one."""
    with make(weights=(1, 2, 1, 1), queue_size=16) as scheduler:
        sent = run(scheduler, 0.02, [(0, 3, 0, 65535), (0, 3, 1, 65535)])
        assert 1.7 < sent[0, 3, 1, 65535] / sent[0, 3, 0, 65535] < 2.3
    with make(queue_size=16) as scheduler:
        for step in range(200):
            scheduler.enqueue(0, 0, 0, describe(step + 1, length=65535))
            scheduler.dequeue_many(1, step * S)
        credits = scheduler._words(np.uint32, int(scheduler._view.pipe_records) + 288, 1)
        assert int(credits[0]) >= (1 << 30) - 65535 - 1600


def test_super_packets_are_charged_in_full_however_small_the_bursts():
    slow = Rates(1_000_000, 1500)
    with make(pipe=slow, port=slow, subports=(slow,), largest_burst=1500) as scheduler:
        sent = run(scheduler, 1, [(0, 0, 0, 65535)], step_ns=10_000_000)
        assert sum(sent.values()) <= 1_000_000 + 1500 + 65535


def test_users_beyond_a_word_of_the_bitmap():
    with make(pipes=130) as scheduler:
        order = [63, 64, 127, 128, 129, 0]
        for pipe in order:
            assert scheduler.enqueue(pipe, 0, 0, describe(pipe + 1, length=60))
        assert [cell_of(desc) - 1 for desc in scheduler.dequeue_many(16, S).tolist()] == sorted(order)
        assert (len(scheduler), scheduler.stats().busy) == (0, 0)


def test_ends_wrap():
    with make(queue_size=4) as scheduler:
        ends = scheduler._words(np.uint16, int(scheduler._view.pipe_records) + 208, 2)
        ends[:] = 65_530
        for turn in range(20):
            for number in range(1, 5):
                assert scheduler.enqueue(0, 0, 0, describe(number, length=60))
            assert not scheduler.enqueue(0, 0, 0, describe(9, length=60))
            assert scheduler.length(0, 0, 0) == 4
            descs = scheduler.dequeue_many(8, turn * S).tolist()
            assert [cell_of(desc) for desc in descs] == [1, 2, 3, 4]

"""The attendant: descriptors, timers and calls in one thread, and nothing left behind."""

import os
import threading

import pytest

from wirespeed.ports.attendant import Attendant
from wirespeed.ports.status import KEPT, Events

_DEADLINE_S = 10


@pytest.fixture
def events():
    return Events("test:port")


@pytest.fixture
def attendant(events):
    made = Attendant("test-attendant", events)
    yield made
    made.close()


def test_a_descriptor_is_watched_until_forgotten(attendant):
    """Readable means called; forgotten means no more."""
    read, write = os.pipe()
    got, seen = [], threading.Event()

    def readable():
        got.append(os.read(read, 1))
        seen.set()

    attendant.watch(read, readable)
    os.write(write, b"a")
    assert seen.wait(_DEADLINE_S)
    attendant.forget(read)
    os.write(write, b"b")
    done = threading.Event()
    attendant.call(done.set)
    assert done.wait(_DEADLINE_S)
    assert got == [b"a"]
    os.close(read)
    os.close(write)


def test_timers_run_in_order(attendant):
    """The earlier first, whatever was asked first."""
    order, done = [], threading.Event()
    attendant.after(0.02, lambda: (order.append("late"), done.set()))
    attendant.after(0.001, lambda: order.append("early"))
    assert done.wait(_DEADLINE_S)
    assert order == ["early", "late"]


def test_an_error_is_an_event(attendant, events):
    """A callback that raises ends nothing."""
    done = threading.Event()
    attendant.call(lambda: 1 / 0)
    attendant.call(done.set)
    assert done.wait(_DEADLINE_S)
    assert [(event.kind, event.text) for event in events.since()] == [("error", "ZeroDivisionError: division by zero")]


def test_close_leaves_nothing(events):
    """No thread, no descriptor; closing twice, or from a callback, is fine."""
    before = len(os.listdir("/proc/self/fd")), threading.active_count()
    attendant = Attendant("test-closing", events)
    attendant.call(attendant.close)
    attendant.close()
    attendant.close()
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before


def test_events_are_bounded_and_numbered(events):
    """The latest are kept; whoever asks from a number on misses none of those."""
    heard = []
    events.listen(heard.append)
    for number in range(KEPT + 5):
        events.say("lost", str(number))
    kept = events.since()
    assert len(kept) == KEPT
    assert kept[0].number == 6
    assert [event.text for event in events.since(KEPT + 3)] == [str(KEPT + 3), str(KEPT + 4)]
    assert len(heard) == KEPT + 5

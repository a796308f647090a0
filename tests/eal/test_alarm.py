"""Alarms with a clock that the test drives; the thread and an asyncio loop once each."""

import asyncio
import math
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

import wirespeed as ws
from wirespeed.eal import alarm as module
from wirespeed.eal.alarm import Alarm, Alarms
from wirespeed.errors import ConfigError

S = 1_000_000_000


class Clock:
    """Time that passes when told."""

    def __init__(self):
        self.ns = 0

    def __call__(self):
        return self.ns


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def alarms(clock):
    return Alarms(clock)


def test_once(alarms, clock):
    calls = []
    alarm = Alarm(1.5, lambda: calls.append(clock.ns), alarms=alarms)
    assert (len(alarms), alarms.next_ns(), alarm.set) == (1, 1_500_000_000, True)
    clock.ns = 1_499_999_999
    assert alarms.run_due() == 0
    clock.ns = 1_600_000_000
    assert alarms.run_due() == 1
    assert alarms.run_due() == 0
    assert calls == [1_600_000_000]
    assert (alarm.set, alarm.fired, len(alarms), alarms.next_ns()) == (False, 1, 0, None)
    assert not alarm.cancel()


def test_periods_do_not_drift_and_late_ones_are_counted(alarms, clock):
    calls = []
    alarm = Alarm(1.0, lambda: calls.append(alarm.due_ns), every=0.1, alarms=alarms)
    for late_ms in range(1000, 2000, 37):  # never on time
        clock.ns = late_ms * 1_000_000
        alarms.run_due()
    assert alarm.due_ns == 2 * S
    assert (alarm.fired, alarm.missed) == (10, 0)
    clock.ns = 2 * S + 450_000_000
    assert alarms.run_due() == 1
    assert (alarm.missed, alarm.due_ns) == (4, 2 * S + 500_000_000)
    assert alarm.cancel()
    clock.ns = 10 * S
    assert alarms.run_due() == 0
    assert "every 0.1 s: not set, called 11 times" in repr(alarm)


def test_in_order_and_first_set_first(alarms, clock):
    calls = []
    for name, seconds in (("c", 3), ("a", 1), ("b", 2), ("b2", 2)):
        Alarm(seconds, lambda name=name: calls.append(name), alarms=alarms)
    clock.ns = 5 * S
    assert alarms.run_due() == 4
    assert calls == ["a", "b", "b2", "c"]


def test_what_is_cancelled_does_not_pile_up(alarms):
    kept = Alarm(1, print, alarms=alarms)
    for _ in range(10_000):
        Alarm(1000, print, alarms=alarms).cancel()
        kept.reset(1)
    assert len(alarms) == 1
    assert len(alarms._heap) < 3000


def test_cancelled_by_another_that_is_due_at_once(alarms, clock):
    calls = []
    Alarm(1, lambda: second.cancel(), alarms=alarms)
    second = Alarm(1, lambda: calls.append(2), alarms=alarms)
    clock.ns = S
    assert alarms.run_due() == 1
    assert not calls


def test_set_again(alarms, clock):
    calls = []
    alarm = Alarm(1, lambda: calls.append(clock.ns), alarms=alarms)
    alarm.reset(2)
    assert (len(alarms), alarms.next_ns()) == (1, 2 * S)
    clock.ns = S
    assert alarms.run_due() == 0
    clock.ns = 2 * S
    assert alarms.run_due() == 1
    alarm.reset(1)
    alarm.reset(0.5)
    clock.ns = 2 * S + S // 2
    assert alarms.run_due() == 1
    clock.ns = 4 * S
    assert alarms.run_due() == 0


def test_a_function_that_raises_is_logged_and_goes_on(alarms, clock, caplog):
    def fail():
        raise RuntimeError("no")

    alarm = Alarm(1, fail, every=1, alarms=alarms)
    for second in (1, 2):
        clock.ns = second * S
        alarms.run_due()
    assert alarm.fired == 2
    assert caplog.text.count("RuntimeError: no") == 2
    assert "fail every 1 s" in caplog.text


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf, 2e9])
def test_times_out_of_range(alarms, seconds):
    with pytest.raises(ConfigError, match="is not possible: 0 to 1e\\+09"):
        Alarm(seconds, print, alarms=alarms)
    with pytest.raises(ConfigError, match="is not possible"):
        Alarm(1, print, every=seconds, alarms=alarms)
    alarm = Alarm(1, print, alarms=alarms)
    with pytest.raises(ConfigError, match="is not possible"):
        alarm.reset(seconds)


def test_other_bad_input(alarms):
    with pytest.raises(ConfigError, match="every 0 s"):
        Alarm(1, print, every=0, alarms=alarms)
    with pytest.raises(ConfigError, match="calls a function, not a str: 'print'"):
        Alarm(1, "print", alarms=alarms)
    alarms.close()
    with pytest.raises(ConfigError, match="closed"):
        Alarm(1, print, alarms=alarms)


def test_a_coroutine_needs_a_loop(alarms, clock, caplog):
    async def later():
        """Nothing."""

    Alarm(0, later, alarms=alarms)
    alarms.run_due()
    assert "a coroutine needs alarms that an asyncio loop serves" in caplog.text


def test_one_thread_calls_them():
    done = threading.Event()
    names = []

    def call():
        names.append(threading.current_thread().name)
        if len(names) == 3:
            done.set()

    alarms = Alarms(thread=True)
    late = Alarm(3600, print, alarms=alarms)
    alarm = Alarm(0.001, call, every=0.001, alarms=alarms)  # the thread waits for the late one already
    assert done.wait(30)
    alarm.cancel()
    assert set(names) == {"wirespeed-alarms"}
    alarms.close()
    assert not late.set
    assert not alarms._thread.is_alive()


def test_an_asyncio_loop_calls_them():
    threads, awaited = [], []

    async def main():
        alarms = Alarms(thread=True)
        before = Alarm(0.001, lambda: threads.append(threading.get_native_id()), alarms=alarms)
        alarms.serve()
        done = asyncio.Event()

        async def later():
            awaited.append(threading.get_native_id())
            done.set()

        threading.Thread(target=lambda: Alarm(0.002, later, alarms=alarms)).start()
        await asyncio.wait_for(done.wait(), 30)
        alarms.close()
        return before

    before = asyncio.run(main())
    assert before.fired == 1
    assert awaited == [threading.get_native_id()]


def test_those_of_the_process():
    done = threading.Event()
    ws.Alarm(0, done.set)
    assert done.wait(30)
    assert module.alarms() is module.alarms()


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 20) | st.none(), st.booleans()), max_size=20))
def test_against_a_list(planned):
    """Every alarm is called at each of its times, up to a moment, and no other."""
    clock = Clock()
    alarms = Alarms(clock)
    calls = []
    expected = []
    for index, (first, every, cancelled) in enumerate(planned):
        alarm = Alarm(first, lambda index=index: calls.append((clock.ns // S, index)), every=every, alarms=alarms)
        if cancelled:
            alarm.cancel()
        else:
            expected += [(at, index) for at in (range(first, 61, every) if every else [first])]
    for second in range(61):
        clock.ns = second * S
        alarms.run_due()
    assert sorted(calls) == sorted(expected)
    assert [at for at, _ in calls] == sorted(at for at, _ in calls)

"""Atomic operations: one thread sees plain memory, two threads lose nothing."""

import threading

from hypothesis import given
from hypothesis import strategies as st

from wirespeed import jit
from wirespeed.jit import COMPILED, kernel, signed64

ROUNDS = 1_000_000 if COMPILED else 500
int64 = st.integers(-(1 << 63), (1 << 63) - 1)


@kernel
def operations(at, a, b):
    jit.store_release(at, a)
    loaded = jit.load_acquire(at)
    relaxed = jit.load_relaxed(at)
    added = jit.fetch_add(at, b)
    after = jit.load64(at)
    exchanged = jit.exchange(at, b)
    failed = jit.compare_exchange(at, jit.add(b, 1), a)
    kept = jit.load64(at)
    done = jit.compare_exchange(at, b, a)
    jit.fence()
    jit.pause()
    return loaded, relaxed, added, after, exchanged, failed, kept, done, jit.load64(at)


@kernel
def narrow(at, value):
    jit.store64(at, -1)
    jit.store_release32(at, value)
    return jit.load_acquire32(at), jit.load64(at)


@kernel
def count_up(at, rounds):
    for _ in range(rounds):
        jit.fetch_add(at, 1)


@kernel
def count_up_by_exchange(at, rounds):
    done = 0
    while done < rounds:
        before = jit.load_relaxed(at)
        done += jit.compare_exchange(at, before, before + 1)


@given(int64, int64)
def test_operations(memory, a, b):
    total = signed64(a + b)
    assert operations(memory, a, b) == (a, a, a, total, total, 0, b, 1, a)


@given(int64)
def test_narrow_stores_leave_their_neighbours(memory, value):
    low = value & 0xFFFF_FFFF
    assert narrow(memory, value) == (low, signed64(low | 0xFFFF_FFFF_0000_0000))


def test_two_threads_lose_nothing(memory):
    for function in (count_up, count_up_by_exchange):
        function(memory + 64, 0)  # compiled before they race
    jit.store64(memory + 64, 0)
    calls = [count_up, count_up, count_up_by_exchange, count_up_by_exchange]
    threads = [threading.Thread(target=call, args=(memory + 64, ROUNDS)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert jit.load64(memory + 64) == 4 * ROUNDS


def test_clock_goes_forward():
    assert 0 < jit.tsc() < jit.tsc()

"""Thousands of timers in one call, from plain Python: the in-node operations in a loop.

The lines of timers that come next are asked for ahead, since handles may come in any order. A move to an earlier
slot needs two lines more, the chunk the timer leaves and the timer that takes its place there; they are known one
step, and two steps, later, so three stages run behind each other.
"""

from typing import Any

from wirespeed.jit import inline, kernel, load32, prefetch
from wirespeed.timers.commands import post
from wirespeed.timers.layout import CHUNK_BITS, CHUNK_TIMERS, SLOTS, Record, Wheel
from wirespeed.timers.records import begin
from wirespeed.timers.slots import record_of
from wirespeed.timers.timer import Timer
from wirespeed.timers.wheel import TimersView

_AHEAD = 24  # operations: a miss takes about as long as ten of them
_PLACE: int = Record.place.offset
_CONTROL: int = Wheel.control.offset


@kernel
def add_many(base: int, callback: int, words: Any, handles: Any) -> int:
    """``handles[i] = add(callback, words[i])`` until all are in use; how many."""
    timers = TimersView(base)
    for i in range(len(words)):
        handle = timers.add(callback, int(words[i]))
        if handle < 0:
            return i
        handles[i] = handle
    return len(words)


@kernel
def begin_one(base: int, number: int, callback: int, word: int) -> int:
    """A record that is control code's becomes a timer; its handle."""
    return begin(base, number, callback, word)


@inline
def _fetch_chunk(base: int, handle: int) -> None:
    """Second stage: the timer's record is here; ask for its chunk."""
    number = handle & 0xFFFF_FFFF
    if number < Wheel(base).timers:
        place = load32(record_of(base, number) + _PLACE)
        prefetch(base + Wheel(base).chunks + (place << 2))


@inline
def _fetch_last(base: int, handle: int) -> None:
    """Third stage: the chunk is here; ask for the timer that would take this one's place."""
    number = handle & 0xFFFF_FFFF
    if number < Wheel(base).timers:
        chunks = base + Wheel(base).chunks
        place = load32(record_of(base, number) + _PLACE)
        slot = load32(chunks + ((place >> 4) << CHUNK_BITS) + 4) >> 4
        first = chunks + (load32(base + SLOTS + (slot << 2)) << CHUNK_BITS)
        prefetch(record_of(base, load32(first + 4 + ((load32(first + 4) & 15) << 2))))


@kernel
def start_many(base: int, handles: Any, delays: Any, delay_step: int, period_ns: int) -> int:
    """``start(handles[i], delays[i * delay_step], period_ns)``; how many there were."""
    timers = TimersView(base)
    done = 0
    count = len(handles)
    for i in range(count):
        if i + _AHEAD < count:
            timers.prefetch(int(handles[i + _AHEAD]))
            _fetch_chunk(base, int(handles[i + 2 * _AHEAD // 3]))
            _fetch_last(base, int(handles[i + _AHEAD // 3]))
        done += timers.start(int(handles[i]), int(delays[i * delay_step]), period_ns)
    return done


@kernel
def stop_many(base: int, handles: Any, remove: int) -> int:
    """``stop(handles[i])`` or ``remove(handles[i])``; how many were armed, or there."""
    timers = TimersView(base)
    done = 0
    count = len(handles)
    for i in range(count):
        if i + _AHEAD < count:
            timers.prefetch(int(handles[i + _AHEAD]))
        handle = int(handles[i])
        done += timers.remove(handle) if remove else timers.stop(handle)
    return done


@kernel
def post_many(base: int, what: int, handles: Any, first: int, delays: Any, delay_step: int, period_ns: int) -> int:
    """Command the worker, from ``handles[first]`` on, until its ring is full; the index after the last."""
    for i in range(first, len(handles)):
        if post(base, base + _CONTROL, what, int(handles[i]), int(delays[i * delay_step]), period_ns) == 0:
            return i
    return len(handles)


@kernel
def tell(base: int, now_ns: int) -> None:
    """The time, and what others commanded."""
    timers = TimersView(base)
    timers.advance(now_ns)
    timers.ready()
    timers.begin()


@kernel
def expire(base: int, found: Any) -> int:
    """The timers that are due, a column each, until the columns are used up or nothing is left; how many.

    The rows are word, handle, number of the callback, deadline, periods. A chunk is taken only if all its timers have
    room, so fewer than 14 free columns mean that more may be due.
    """
    timers = TimersView(base)
    timer = Timer()
    count = 0
    while count + CHUNK_TIMERS <= found.shape[1]:
        chunk = timers.due()
        if chunk == 0:
            break
        for index in range(timers.size(chunk)):
            if timers.take(chunk, index, timer):
                found[0, count] = timer.word
                found[1, count] = timer.handle
                found[2, count] = timer.number
                found[3, count] = timer.deadline
                found[4, count] = timer.periods
                count += 1
        timers.done(chunk)
    return count

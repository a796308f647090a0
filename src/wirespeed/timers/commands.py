"""Commands: how others than its worker change a wheel, which has no lock.

A command is four words (what, handle, delay, period) in the wheel's ring, which its worker looks at each turn of
its loop. Delays count from there: a timer that was started from outside is never early, and late by the time its
command was on its way. All go through the ring in fours, so its free space is a multiple of four and a command
goes in whole or not at all.
"""

from wirespeed.jit import cold, fence, load64, load_acquire, store64
from wirespeed.jit.libc import write
from wirespeed.sync.ring import RingView, mp_enqueue, sc_dequeue
from wirespeed.timers.layout import COMMAND_WORDS, COMMANDS, Wheel
from wirespeed.timers.records import find, remove_timer, start_timer, stop_timer

START, STOP, REMOVE = 1, 2, 3
_ASLEEP: int = Wheel.asleep.offset
_TAKEN: int = Wheel.taken.offset
_ONE: int = Wheel.one.offset


@cold
def post(base: int, scratch: int, what: int, handle: int, delay_ns: int, period_ns: int) -> int:
    """Send a command to the wheel at ``base``; ``scratch`` is four words of the sender's. 1, or 0: its ring is full."""
    store64(scratch, what)
    store64(scratch + 8, handle)
    store64(scratch + 16, delay_ns)
    store64(scratch + 24, period_ns)
    if mp_enqueue(base + COMMANDS, scratch, COMMAND_WORDS) == 0:
        return 0
    fence()  # pairs with the one before the worker blocks
    wheel = Wheel(base)
    if load_acquire(base + _ASLEEP) != 0 and wheel.wakeup >= 0:
        write(wheel.wakeup, base + _ONE, 8)
    return 1


@cold
def obey(base: int) -> int:
    """Carry out what others commanded, one ring full at the most; how many commands."""
    wheel = Wheel(base)
    taken = base + _TAKEN
    left = RingView(base + COMMANDS).count // COMMAND_WORDS
    for _ in range(left):
        sc_dequeue(base + COMMANDS, taken, COMMAND_WORDS)
        what = load64(taken)
        handle = load64(taken + 8)
        if what == REMOVE:
            remove_timer(base, handle)
            continue
        record = find(base, handle)
        if record == 0:
            wheel.stale += 1
        elif what == START:
            start_timer(base, record, handle & 0xFFFF_FFFF, load64(taken + 16), load64(taken + 24))
        else:
            stop_timer(base, record)
    return left

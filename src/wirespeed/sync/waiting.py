"""How long to spin, and who is spinning: what all locks share.

Waiting spins first, since whoever holds a lock on a core of its own lets go within microseconds; then offers
the core to others, since the holder may be waiting for this very one; then sleeps a millisecond at a time,
which also helps a holder of lower real-time priority. A wait costs a core for some 100 us at most.

A lock notes who holds it as one number of 44 bits, the *identity* of a thread: process and thread as the kernel
numbers them, 22 bits each (PID_MAX_LIMIT, include/linux/threads.h). From another PID namespace they mean nothing.
"""

from wirespeed.jit import cold, getpid, gettid, inline, pause, sched_yield, shift_right
from wirespeed.jit.libc import poll

_SPINS = 2048  # pauses of some 40 cycles on recent CPUs
_OFFERS = 64


@cold
def wait_a_little(spins: int) -> int:
    """One step of waiting; give it 0 first and then what it returned."""
    if spins < _SPINS:
        pause()
    elif spins < _SPINS + _OFFERS:
        sched_yield()
    else:
        poll(0, 0, 1)
        return spins
    return spins + 1


@cold
def identity() -> int:
    """This thread, as a lock notes it: never 0. Two system calls: ask once, keep it."""
    return getpid() << 22 | gettid()


@inline
def process_of(who: int) -> int:
    """The process of an identity."""
    return shift_right(who, 22)


@inline
def thread_of(who: int) -> int:
    """The thread of an identity."""
    return who & 0x3F_FFFF

"""How long to spin, and who is spinning: what all locks share.

Waiting spins first, since whoever holds a lock on a core of its own lets go within microseconds; then offers
the core to others, since the holder may be waiting for this very one; then sleeps a millisecond at a time,
which also helps a holder of lower real-time priority. A wait costs a core for some 100 us at most.

A lock notes who holds it as one number, the *identity* of a thread: process in the upper half, thread in the
lower, both as the kernel numbers them. From another PID namespace the numbers mean nothing.
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
    return getpid() << 32 | gettid()


@inline
def process_of(who: int) -> int:
    """The process of an identity."""
    return shift_right(who, 32)


@inline
def thread_of(who: int) -> int:
    """The thread of an identity."""
    return who & 0xFFFF_FFFF

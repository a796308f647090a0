"""A spin lock in one word: for a few instructions that several cores must not do at once.

    offset  bytes  who writes   what
    0       8      the holder   identity of the thread that has it, 0 if nobody

Taking it is one compare-exchange, giving it back one plain store: what DPDK's rte_spinlock does, which stores
a 1 where we store who it is. A waiter looks with plain loads and tries to take it only when it is free (Rudolph
and Segall 1984), so waiting moves no cache line. It is not fair: see :mod:`wirespeed.sync.ticketlock`.

A thread that dies with it leaves its identity behind: control code can tell (``holder``) and :meth:`break_from`.
"""

from wirespeed.jit import View, compare_exchange, le64, load_relaxed, store_release
from wirespeed.sync.waiting import wait_a_little


class SpinLockView(View):
    """A spin lock at an address; all zeros is a free one. Give it a cache line of its own."""

    holder = le64(0, "identity of the thread that has it, 0 if nobody")
    SIZE = 64

    def lock(self, me: int) -> None:
        """Take it; waits as long as it takes. ``me``: :func:`wirespeed.sync.waiting.identity`."""
        if compare_exchange(self.address, 0, me) == 0:
            spins = 0
            while load_relaxed(self.address) != 0 or compare_exchange(self.address, 0, me) == 0:
                spins = wait_a_little(spins)

    def try_lock(self, me: int) -> int:
        """Take it if it is free; 1 if it was, else 0."""
        return int(load_relaxed(self.address) == 0 and compare_exchange(self.address, 0, me) != 0)

    def unlock(self) -> None:
        """Give it back; only whoever has it may."""
        store_release(self.address, 0)

    def break_from(self, who: int) -> int:
        """Take it away from ``who``, a thread that has ended; 1 if that thread had it."""
        return int(who != 0 and compare_exchange(self.address, who, 0))

"""A sequence lock: readers never write, never wait for each other, and read again if a writer came between.

    offset  bytes  who writes   what
    0       8      the writer   sequence: odd while one writes
    8       8      the writer   identity of the thread that writes, 0 if nobody

For records of a few words that are read often by many and written by few, of which readers make a copy (Hemminger
2002, Linux's seqlock_t; rte_seqlock)::

    while True:                                  # in a node or kernel
        before = lock.read_begin()
        price, volume = record.price, record.volume
        if not lock.read_retry(before):
            break

What is read before ``read_retry`` said 0 may be half of one record and half of another: do not follow an
address or divide by a number from it. Boehm, "Can seqlocks get along with programming language memory models?",
MSPC 2012, for the fences.

A writer that died leaves an odd sequence, and readers wait. :meth:`break_from` lets them go on, with a record
that may be half written: write it anew first.
"""

from wirespeed.jit import (
    View,
    compare_exchange,
    fence_acquire,
    fence_release,
    le64,
    load_acquire,
    load_relaxed,
    store64,
    store_release,
)
from wirespeed.sync.waiting import wait_a_little


class SeqLockView(View):
    """A sequence lock at an address; all zeros is one that nobody writes under. It may share the record's line."""

    sequence = le64(0, "odd while one writes")
    holder = le64(8, "identity of the thread that writes, 0 if nobody")
    SIZE = 16

    def read_begin(self) -> int:
        """Before reading: waits while one writes; give what it returns to :meth:`read_retry`."""
        spins = 0
        sequence = load_acquire(self.address)
        while sequence & 1:
            spins = wait_a_little(spins)
            sequence = load_acquire(self.address)
        return int(sequence)

    def read_retry(self, begun: int) -> int:
        """After reading: 1 if it must be done again."""
        fence_acquire()
        return int(load_relaxed(self.address) != begun)

    def lock(self, me: int) -> None:
        """Write; waits while another does. ``me``: :func:`wirespeed.sync.waiting.identity`."""
        spins = 0
        while self.try_lock(me) == 0:
            spins = wait_a_little(spins)

    def try_lock(self, me: int) -> int:
        """Write if nobody does; 1 if so, else 0."""
        sequence = load_relaxed(self.address)
        if sequence & 1 or compare_exchange(self.address, sequence, sequence + 1) == 0:
            return 0
        store64(self.address + 8, me)
        fence_release()  # the odd sequence before the record
        return 1

    def unlock(self) -> None:
        """Done writing."""
        store64(self.address + 8, 0)
        store_release(self.address, load_relaxed(self.address) + 1)

    def break_from(self, who: int) -> int:
        """Take it away from ``who``, a writer that has ended; 1 if that thread had it."""
        if who == 0 or compare_exchange(self.address + 8, who, 0) == 0:
            return 0
        store_release(self.address, load_relaxed(self.address) + 1)
        return 1

"""A reader-writer lock that prefers writers: many read at once, or one writes.

    offset  bytes  who writes   what
    0       8      everybody    bit 0: a writer waits; bits 1 to 16: how many read; from bit 17 on: identity of the
                                thread that writes, 0 if nobody

Readers add themselves with one atomic addition and look whether a writer has it or waits; if so they take
themselves out and wait, so a stream of readers cannot starve a writer (Courtois, Heymans and Parnas 1971, their
second problem; rte_rwlock since 23.03). Writers that never pause can starve readers: this lock is for what is
read often and written seldom. Where readers are workers and may see the old state for a while, no lock at all is
better: :mod:`wirespeed.sync.rcu`; where they copy a few words, :mod:`wirespeed.sync.seqlock`.

All of it is one word, so that each step is one atomic instruction, and a writer is known from its first moment to
its last. One that died is known by its identity. Readers are only counted: who counts itself elsewhere too (see
:class:`wirespeed.mem.locks.RwLock`) can be taken out with :meth:`read_unlock` by control code.
"""

from wirespeed.jit import View, compare_exchange, fetch_add, le64, load_relaxed, shift_right
from wirespeed.sync.waiting import wait_a_little

WAITING: int = 1
READER: int = 2
READERS: int = 0xFFFF * READER
WRITER: int = 1 << 17
"""The identity of the writer is multiplied by this."""


class RwLockView(View):
    """A reader-writer lock at an address; all zeros is a free one. Give it a cache line of its own."""

    state = le64(0, "bit 0: a writer waits; 16 bits: how many read; then the identity of who writes")
    SIZE = 64

    @property
    def holder(self) -> int:
        """Identity of the thread that writes, 0 if nobody."""
        return shift_right(load_relaxed(self.address), 17)

    @property
    def readers(self) -> int:
        """How many read now."""
        return int(load_relaxed(self.address) >> 1) & 0xFFFF

    def read_lock(self) -> None:
        """Read; waits while one writes or wants to. Not again by a thread that reads already: it may wait for ever."""
        spins = 0
        while self.try_read_lock() == 0:
            spins = wait_a_little(spins)

    def try_read_lock(self) -> int:
        """Read if nobody writes or wants to; 1 if so, else 0."""
        if load_relaxed(self.address) & ~READERS:
            return 0
        if fetch_add(self.address, READER) & ~READERS:
            fetch_add(self.address, -READER)
            return 0
        return 1

    def read_unlock(self) -> None:
        """Done reading."""
        fetch_add(self.address, -READER)

    def lock(self, me: int) -> None:
        """Write; waits until the readers have left. ``me``: :func:`wirespeed.sync.waiting.identity`."""
        spins = 0
        while self.try_lock(me) == 0:
            state = load_relaxed(self.address)
            if state & WAITING == 0:
                compare_exchange(self.address, state, state | WAITING)
            spins = wait_a_little(spins)

    def try_lock(self, me: int) -> int:
        """Write if nobody reads or writes; 1 if so, else 0."""
        if compare_exchange(self.address, 0, me * WRITER):
            return 1
        return compare_exchange(self.address, WAITING, me * WRITER)

    def unlock(self, me: int) -> None:
        """Done writing. Writers that wait have said so, or say so anew."""
        fetch_add(self.address, -me * WRITER)

    def break_from(self, who: int) -> int:
        """Take it away from ``who``, a thread that has ended; 1 if it was writing.

        If it only waited to write, readers need not wait for it any more; writers that still wait say so anew.
        """
        state = load_relaxed(self.address)
        while state & WAITING and compare_exchange(self.address, state, state & ~WAITING) == 0:
            state = load_relaxed(self.address)
        while who != 0 and shift_right(state, 17) == who:
            if compare_exchange(self.address, state, state - who * WRITER):
                return 1
            state = load_relaxed(self.address)
        return 0

"""A ticket lock: first come, first served.

    offset  bytes  who writes   what
    0       8      everybody    next: the ticket that the next one draws
    8       8      the holder   serving: whose turn it is
    16      8      the holder   identity of the thread that has it, 0 if nobody

Draw a ticket, wait until it is served (Reed and Kanodia 1979; Mellor-Crummey and Scott 1991; rte_ticketlock).
Nobody starves, and the price is that a waiter which lost its core holds up all behind it: use it where each
thread has a core of its own.

A holder that died is known by its identity, and :meth:`break_from` serves the next. One that died *waiting*
is known only by its ticket; with the number of the ticket, :meth:`skip` serves the one behind it.
"""

from wirespeed.jit import View, compare_exchange, fetch_add, le64, load_acquire, load_relaxed, store64, store_release
from wirespeed.sync.waiting import wait_a_little


class TicketLockView(View):
    """A ticket lock at an address; all zeros is a free one. Give it a cache line of its own."""

    next = le64(0, "the ticket that the next one draws")
    serving = le64(8, "whose turn it is")
    holder = le64(16, "identity of the thread that has it, 0 if nobody")
    SIZE = 64

    def draw(self) -> int:
        """A ticket; who has drawn one must take the lock with it."""
        return int(fetch_add(self.address, 1))

    def take(self, ticket: int, me: int) -> None:
        """Wait until it is this ticket's turn."""
        spins = 0
        while load_acquire(self.address + 8) != ticket:
            spins = wait_a_little(spins)
        store64(self.address + 16, me)

    def lock(self, me: int) -> None:
        """Take it; waits for all who came before. ``me``: :func:`wirespeed.sync.waiting.identity`."""
        self.take(self.draw(), me)

    def try_lock(self, me: int) -> int:
        """Take it if nobody has it or waits for it; 1 if so, else 0."""
        ticket = load_acquire(self.address + 8)
        if load_relaxed(self.address) != ticket or compare_exchange(self.address, ticket, ticket + 1) == 0:
            return 0
        store64(self.address + 16, me)
        return 1

    def unlock(self) -> None:
        """Serve the next; only whoever has it may."""
        store64(self.address + 16, 0)
        store_release(self.address + 8, load_relaxed(self.address + 8) + 1)

    def break_from(self, who: int) -> int:
        """Take it away from ``who``, a thread that has ended, and serve the next; 1 if that thread had it."""
        if who == 0 or compare_exchange(self.address + 16, who, 0) == 0:
            return 0
        fetch_add(self.address + 8, 1)
        return 1

    def skip(self, ticket: int) -> int:
        """Serve the one after ``ticket``, drawn by a thread that has ended, if it is its turn; 1 if it was."""
        return int(load_relaxed(self.address) > ticket and compare_exchange(self.address + 8, ticket, ticket + 1))

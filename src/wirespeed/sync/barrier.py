"""A barrier: all meet, then all go on.

    offset  bytes  who writes       what
    0       8      its owner        needed: how many must meet
    8       8      everybody        arrived: how many have come this time
    64      8      the last one     generation: how often they have met
    72      8      control code     broken: nobody waits any more

The last to arrive starts the next generation; the others watch its number, not the count, so a fast one that is
back already cannot be taken for a slow one (a sense-reversing barrier: Hensgen, Finkel and Manber 1988).

Whoever waits for a thread that has ended waits for ever: control code that knows breaks the barrier, and all
who wait get -1.
"""

from wirespeed.errors import TableError
from wirespeed.jit import View, fetch_add, le64, load_acquire, load_relaxed, store64, store_release
from wirespeed.sync.waiting import wait_a_little


class BarrierView(View):
    """A barrier at an address, laid out by :func:`format_barrier`."""

    needed = le64(0, "how many must meet")
    arrived = le64(8, "how many have come this time")
    generation = le64(64, "how often they have met")
    broken = le64(72, "not 0: nobody waits any more")
    SIZE = 128

    def wait(self) -> int:
        """Wait until all are here: 1 for the last to arrive, 0 for the others; -1 if the barrier is broken."""
        generation = load_acquire(self.address + 64)
        if load_acquire(self.address + 72):
            return -1
        if fetch_add(self.address + 8, 1) + 1 == self.needed:
            store64(self.address + 8, 0)
            store_release(self.address + 64, generation + 1)
            return 1
        spins = 0
        while load_acquire(self.address + 64) == generation:
            if load_relaxed(self.address + 72):
                return -1
            spins = wait_a_little(spins)
        return 0

    def break_up(self) -> None:
        """Let all who wait go, with -1; also those who come later."""
        store_release(self.address + 72, 1)


def format_barrier(address: int, needed: int) -> BarrierView:
    """Lay out a barrier for ``needed`` threads, or mend a broken one that nobody waits at.

    Raises:
        TableError: ``needed`` is less than 1.
    """
    if needed < 1:
        raise TableError(f"a barrier for {needed} threads: 1 or more must meet")
    barrier = BarrierView(address)
    barrier.needed, barrier.arrived, barrier.generation, barrier.broken = needed, 0, 0, 0
    return barrier

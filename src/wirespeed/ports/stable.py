"""A descriptor that stays while what it leads to comes and goes.

A worker learns once, before the start, on which descriptors to sleep (:meth:`Port.descriptors`). A port whose device
may vanish and return gives it this one: it leads to the device's descriptor while there is one, and to something that
is never ready in between. dup2(2) changes it at once, but a worker that sleeps on it goes on waiting for what was there
before: it sees the new one when its nap is over, a tenth of a second later at the most.
"""

import os
import select


class Stable:
    """``fd`` keeps its number until :meth:`close`; at first it is never ready."""

    def __init__(self) -> None:
        self._quiet = select.epoll()  # of nothing: never readable, and reading or writing it is an error
        self.fd = os.dup(self._quiet.fileno())

    def lead(self, fd: int) -> None:
        """Lead to what ``fd`` leads to."""
        os.dup2(fd, self.fd, inheritable=False)

    def rest(self) -> None:
        """Lead to nothing."""
        self.lead(self._quiet.fileno())

    def close(self) -> None:
        """Close it; a second call does nothing."""
        if self.fd >= 0:
            os.close(self.fd)
            self._quiet.close()
            self.fd = -1


__all__ = ["Stable"]

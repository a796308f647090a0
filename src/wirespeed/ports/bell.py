"""Eventfds that a peer holds, too: control code that waits for nothing in them.

O_NONBLOCK belongs to both holders. Whoever was passed an eventfd, or has passed it to us, can make it block at any
time, also between two system calls of ours; so each single read says that it must not wait (preadv2(2), RWF_NOWAIT;
eventfds know it since Linux 5.8).
"""

import contextlib
import os


def drain(fd: int) -> None:
    """Make an eventfd's counter 0, which lets go on who waits for room in it; waits for nothing itself."""
    with contextlib.suppress(OSError):
        os.preadv(fd, [bytearray(8)], -1, os.RWF_NOWAIT)


def free(fd: int) -> None:
    """Make an eventfd non-blocking again, and let a worker go on that hangs in a write to it."""
    with contextlib.suppress(OSError):
        os.set_blocking(fd, False)
    drain(fd)


__all__ = ["drain", "free"]

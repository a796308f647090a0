"""A queue: one direction of one port, for one worker.

What a worker knows of a port is the address of a queue record and two functions that work on it. Every
driver's record starts with this line of counters, which only the owning worker writes and anybody reads::

    receive(queue, cache, vector, room)   -> packets whose descriptors it put at ``vector``, or ENDED
    transmit(queue, cache, vector, count) -> packets it took, from the front; they are the driver's to free

Both are ``@inline`` functions of int64 addresses: ``cache`` is the worker's :class:`wirespeed.mem.pool.Cache`.
``receive`` returns 0 when there is nothing now and ``ENDED`` when there will never be anything again.
What ``transmit`` does not take is dropped by the worker and counted in ``dropped``.
"""

from wirespeed.jit import View, le64

ENDED: int = -1
"""What ``receive`` returns when its input is over."""


class Queue(View):
    """The first line of every driver's queue record."""

    packets = le64(0, "packets received or sent")
    bytes = le64(8, "their bytes, from the Ethernet header to the last byte of payload")
    dropped = le64(16, "packets lost here: no room to send, no cell to receive into, or the device says so")
    errors = le64(24, "packets that could not be received or sent for what they are")
    calls = le64(32, "bursts that moved at least one packet")
    ended = le64(40, "1 when the input is over")
    SIZE = 64


__all__ = ["ENDED", "Queue"]

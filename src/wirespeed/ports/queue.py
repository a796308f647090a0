"""A queue: one direction of one port, for one worker.

What a worker knows of a port is the address of a queue record and two functions that work on it. Every
driver's record starts with this line of counters, which only the owning worker writes and anybody reads::

    receive(queue, cache, vector, room)   -> packets whose descriptors it put at ``vector``, or ENDED
    transmit(queue, cache, vector, count) -> packets it took, from the front; they are the driver's to free

Both are ``@inline`` functions of int64 addresses: ``cache`` is the worker's :class:`wirespeed.mem.pool.Cache`.
``receive`` returns 0 when there is nothing now and ``ENDED`` when there will never be anything again.
What ``transmit`` does not take is dropped by the worker and counted in ``dropped``. A driver whose peer must be asked
for a wake-up has a third function::

    arm(queue, on)                        -> 1 if something can be received already, else 0

A worker calls it with 1 before it blocks on the port's descriptors, and does not block if there is something; and with
0 when it is awake again. One that keeps packets until their time to be sent comes has a fourth::

    flush(queue, cache)                   -> packets it has sent now, and more than 0 while some wait

A worker calls it once a turn for each of its transmit queues; while it returns more than 0 the worker neither blocks
nor ends.
"""

from wirespeed.jit import View, cold, inline, le64, load64
from wirespeed.mem.descriptor import CHAINED, CellHeader, header_of, length_of

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
    no_buffer = le64(48, "packets not received because no cell was free")
    SIZE = 64


@inline
def bytes_of(cells, vector, count):  # type: ignore[no-untyped-def]
    """Bytes of the ``count`` packets whose descriptors are at ``vector``, chains included."""
    total = 0
    seen = 0
    for i in range(count):
        desc = load64(vector + (i << 3))
        seen |= desc
        total += length_of(desc)
    if seen & CHAINED != 0:
        total += _beyond(cells, vector, count)
    return total


@cold
def _beyond(cells, vector, count):  # type: ignore[no-untyped-def]
    """Bytes of chained packets that lie beyond their first cells."""
    total = 0
    for i in range(count):
        desc = load64(vector + (i << 3))
        if desc & CHAINED != 0:
            total += CellHeader(header_of(cells, desc)).length - length_of(desc)
    return total


@inline
def count_burst(record, packets, total):  # type: ignore[no-untyped-def]
    """Add a burst of ``total`` bytes to a queue's counters."""
    record.packets += packets
    record.bytes += total
    record.calls += 1

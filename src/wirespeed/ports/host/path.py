# mypy: allow-untyped-defs, allow-untyped-calls
"""The host port's packet path: a ring each way between a worker and Python, and how each wakes the other.

Both directions sleep on an eventfd, and a system call is only made for one who sleeps:

- A worker that queued packets looks at ``asleep``. The reader set it after it had found all rings empty, and
  looked once more; so either the worker sees the word, or the reader sees the packets. Whoever takes the word
  back to 0 writes the eventfd.
- Python that queued a packet sets ``signalled``; if it was 0, it writes the eventfd. A worker that finds its
  ring empty takes the word back to 0, empties the eventfd, and looks once more before it may sleep.
"""

from wirespeed.jit import (
    exchange,
    fence,
    inline,
    kernel,
    le64,
    load_relaxed,
    store64,
    store_release,
)
from wirespeed.jit.libc import read, write
from wirespeed.mem.pool import Cache
from wirespeed.ports.queue import Queue, bytes_of, count_burst
from wirespeed.sync.ring import RingView, sc_dequeue, sp_enqueue


class HostQueue(Queue):
    """A queue record: its ring, and how to wake the other side."""

    ring = le64(64, "address of the ring")
    wake = le64(72, "address of asleep, or of signalled")
    eventfd = le64(80, "written to wake Python, or written by it")
    word = le64(88, "what is written to the eventfd, or read from it")
    SIZE = 128


WORD: int = HostQueue.word.offset


@inline
def transmit(queue, cache, vector, count):
    """Queue as many as fit for Python."""
    record = HostQueue(queue)
    cells = Cache(cache).cells
    total = bytes_of(cells, vector, count)  # now: once sent, somebody else may change them
    sent = sp_enqueue(record.ring, vector, count)
    if sent:
        count_burst(record, sent, total - bytes_of(cells, vector + (sent << 3), count - sent))
        fence()
        if load_relaxed(record.wake) and exchange(record.wake, 0):
            record.word = 1
            write(record.eventfd, record.address + WORD, 8)
    return sent


@inline
def receive(queue, cache, vector, room):
    """What Python sent."""
    record = HostQueue(queue)
    got = sc_dequeue(record.ring, vector, room)
    if got == 0 and load_relaxed(record.wake):
        exchange(record.wake, 0)
        read(record.eventfd, record.address + WORD, 8)
        got = sc_dequeue(record.ring, vector, room)
    if got:
        count_burst(record, got, bytes_of(Cache(cache).cells, vector, got))
    return got


# Python's side -------------------------------------------------------------------------------------------


@kernel
def dequeue(queue: int, vector: int, room: int) -> int:
    """Take what a worker queued."""
    return sc_dequeue(HostQueue(queue).ring, vector, room)


@kernel
def declare_asleep(wake: int) -> None:
    """Ask the workers for a wake-up; look at the rings after this."""
    store64(wake, 1)
    fence()


@kernel
def declare_awake(wake: int) -> None:
    """Ask for none."""
    store_release(wake, 0)


@kernel
def enqueue(queue: int, vector: int) -> int:
    """Queue one packet for the worker: -1 if there is no room, 1 if the worker is to be woken, else 0."""
    record = HostQueue(queue)
    if sp_enqueue(record.ring, vector, 1) == 0:
        return -1
    return 1 - exchange(record.wake, 1)


def waiting(queue: int) -> int:
    """Packets in a queue's ring."""
    return RingView(HostQueue(queue).ring).count

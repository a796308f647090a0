"""vhost_user's queues: which of the guest's rings a worker reads from, and which it sends to.

A receive queue polls the rings that were given to it for good. A transmit queue sends to one ring that the guest has
enabled; where a guest has enabled fewer than there are workers, several send to one, a burst at a time, by a lock. Both
look whether a ring is live at the start of a burst and not again until the next.
"""

from wirespeed.jit import cold, compare_exchange, inline, le64, load64, load_acquire, pause, store_release
from wirespeed.jit.entry import enter5, entry
from wirespeed.jit.libc import epoll_wait
from wirespeed.ports.queue import Queue
from wirespeed.ports.vhost.notify import ask
from wirespeed.ports.vhost.packed import receive_packed, transmit_packed
from wirespeed.ports.vhost.ring import OFF, PACKED, SPLIT, VhostRing
from wirespeed.ports.vhost.send import send
from wirespeed.ports.vhost.split import receive_split, transmit_split

MOST_RINGS: int = 64
"""Queue pairs of one port."""

_RINGS = 192
_EVENTS = 128  # four struct epoll_event, which say nothing that matters
_PATIENCE = 10_000  # looks at a lock that another worker holds for the time of a burst
_LOCK = VhostRing.lock.offset


class VhostQueue(Queue):
    """A queue of either direction; its rings' addresses are behind it."""

    rings = le64(64, "how many it has now")
    turn = le64(72, "the ring to receive from first")
    shared = le64(80, "1: other workers send to the same ring")
    epoll = le64(88, "descriptor that is readable when one of its rings was kicked")
    SIZE = 128


_BURSTS = {
    (SPLIT, True): receive_split, (SPLIT, False): transmit_split,
    (PACKED, True): receive_packed, (PACKED, False): transmit_packed,
}  # fmt: skip


def bind(record: VhostRing, layout: int, receives: bool) -> None:
    """Give a ring the kernels that work it."""
    record.burst = entry(_BURSTS[layout, receives], 5)
    record.single = entry(send, 3)
    record.layout = layout


QUEUE_BYTES: int = _RINGS + MOST_RINGS * 8


@inline
def ring_of(queue, number):  # type: ignore[no-untyped-def]
    """Address of the word that holds the address of one of a queue's rings."""
    return queue + _RINGS + (number << 3)


@inline
def receive(queue, cache, vector, room):  # type: ignore[no-untyped-def]
    """What the guest sent, from each ring in turn."""
    return _receive(queue, cache, vector, room)


@cold
def _receive(queue, cache, vector, room):  # type: ignore[no-untyped-def]
    record = VhostQueue(queue)
    rings, turn, packets = record.rings, record.turn, 0
    for _ in range(rings):
        ring = load64(ring_of(queue, turn))
        if load_acquire(ring) != OFF:
            burst = VhostRing(ring).burst
            packets += enter5(burst, ring, queue, cache, vector + (packets << 3), room - packets)
        turn += 1
        if turn == rings:
            turn = 0
    if rings > 1 and packets > 0:
        record.turn = turn + 1 if turn + 1 < rings else 0
    return packets


@inline
def transmit(queue, cache, vector, count):  # type: ignore[no-untyped-def]
    """Give packets to the guest; what it has no buffers for is left to the caller."""
    if count == 0:
        return 0
    return _transmit(queue, cache, vector, count)


@cold
def _transmit(queue, cache, vector, count):  # type: ignore[no-untyped-def]
    record = VhostQueue(queue)
    if record.rings == 0:
        return 0
    ring = load64(ring_of(queue, 0))
    if record.shared == 0:
        return _send(ring, queue, cache, vector, count)
    for _ in range(_PATIENCE):
        if compare_exchange(ring + _LOCK, 0, 1) == 1:
            taken = _send(ring, queue, cache, vector, count)
            store_release(ring + _LOCK, 0)
            return taken
        pause()
    return 0


@cold
def _send(ring, queue, cache, vector, count):  # type: ignore[no-untyped-def]
    if load_acquire(ring) == OFF:
        return 0
    return enter5(VhostRing(ring).burst, ring, queue, cache, vector, count)


@inline
def arm(queue, on):  # type: ignore[no-untyped-def]
    """Ask the guest to kick before the worker sleeps; forget that it did when the worker is awake."""
    return _arm(queue, on)


@cold
def _arm(queue, on):  # type: ignore[no-untyped-def]
    record = VhostQueue(queue)
    ready = 0
    for i in range(record.rings):
        ring = load64(ring_of(queue, i))
        if load_acquire(ring) != OFF:
            ready |= ask(ring, on)
    if on == 0:
        epoll_wait(record.epoll, queue + _EVENTS, 4, 0)  # edge-triggered: heard once, it is quiet again
    return ready


__all__ = ["MOST_RINGS", "QUEUE_BYTES", "VhostQueue", "arm", "bind", "receive", "ring_of", "transmit"]

"""A bounded first-in-first-out ring of 64-bit elements, for one or many producers and consumers.

    offset  bytes  who writes  what
    0       16     nobody      size and mask
    128     24     producers   head, tail, the consumers' tail as last seen
    256     24     consumers   head, tail, the producers' tail as last seen
    384     8*size producers   the slots

Lines that different cores write are 128 bytes apart, because the prefetcher fetches lines in pairs. The
indexes count elements since the beginning and are masked only to find a slot, so ``tail - tail`` is the
number of elements and all slots can be used. Everything is an offset: the same ring works from another
process that maps it elsewhere.

Each side remembers the other's index and looks again only when that says "full" or "empty" (Lee, Bu and
Chandranmenon, "A lock-free, cache-efficient multi-core synchronization mechanism for line-rate network
traffic monitoring", IPDPS 2010): between two cores most bursts then move no line but the slots. A stale
index is always on the safe side, since both only grow.

Many producers use DPDK's scheme (rte_ring, after FreeBSD's buf_ring): reserve by moving the head, copy,
wait until the tail reaches the own reservation, move the tail. A producer that is preempted in the middle
holds up the ones behind it, so waiting spins for a bounded time and then sleeps a millisecond at a time.

All functions take ``(ring, vector, count)``: the ring's address, the address of ``count`` words, and
return how many moved (a burst moves what fits). ``sp``/``mp`` is single or multi producer, ``sc``/``mc``
consumer; one side of a ring uses one kind at a time.
"""

from collections.abc import Iterable

from wirespeed.errors import ArenaError
from wirespeed.jit import (
    View,
    compare_exchange,
    inline,
    kernel,
    le64,
    load64,
    load_acquire,
    pause,
    store64,
    store_release,
)
from wirespeed.jit.libc import poll

_SPINS = 4096  # pauses before a waiting thread sleeps: some 100 us, longer than any copy takes


class Ring(View):
    """The head of a ring; the slots follow at :attr:`SIZE`."""

    size = le64(0, "slots, a power of two")
    mask = le64(8, "size - 1")
    producer_head = le64(128, "reserved up to here")
    producer_tail = le64(136, "filled up to here")
    consumer_seen = le64(144, "consumer_tail as the producers last saw it")
    consumer_head = le64(256, "claimed up to here")
    consumer_tail = le64(264, "emptied up to here")
    producer_seen = le64(272, "producer_tail as the consumers last saw it")
    SIZE = 384

    @property
    def count(self) -> int:
        """Elements in the ring now; anyone may ask, and it may change at once."""
        consumed = load_acquire(self.address + 264)  # first: the difference is then never negative
        return int(load_acquire(self.address + 136) - consumed)

    @property
    def free(self) -> int:
        """Slots free now; anyone may ask, and it may change at once."""
        left = self.size - self.count
        return left if left > 0 else 0

    @property
    def scratch(self) -> int:
        """Address of the slot that a sole producer fills next: a word it may use until it enqueues."""
        return int(self.address + 384 + (self.producer_head & self.mask) * 8)

    @staticmethod
    def bytes_needed(size: int) -> int:
        """Bytes a ring of ``size`` slots takes, rounded up to 128."""
        return -(-(Ring.SIZE + 8 * size) // 128) * 128


_PRODUCER_HEAD: int = Ring.producer_head.offset
_PRODUCER_TAIL: int = Ring.producer_tail.offset
_CONSUMER_HEAD: int = Ring.consumer_head.offset
_CONSUMER_TAIL: int = Ring.consumer_tail.offset
_SLOTS: int = Ring.SIZE


def format_ring(address: int, size: int) -> Ring:
    """Lay out an empty ring of ``size`` slots at ``address`` (aligned to 128, registered with jit).

    Raises:
        ArenaError: ``size`` is not a power of two, or the address is not aligned.
    """
    if size < 1 or size & (size - 1):
        raise ArenaError(f"a ring of {size} slots is not possible: use a power of two, 1 or more")
    if address % 128:
        raise ArenaError(f"a ring at {address:#x} would share cache lines: align it to 128 bytes")
    ring = Ring(address)
    ring.size = size
    ring.mask = size - 1
    for name in ("producer_head", "producer_tail", "consumer_seen"):
        setattr(ring, name, 0)
    for name in ("consumer_head", "consumer_tail", "producer_seen"):
        setattr(ring, name, 0)
    return ring


@inline
def count(ring: int) -> int:
    """:attr:`Ring.count`, by address."""
    return Ring(ring).count


@inline
def free(ring: int) -> int:
    """:attr:`Ring.free`, by address."""
    return Ring(ring).free


# Two plain loops each, without a mask in them, so that LLVM makes vector moves of both.


@inline
def _copy_in(ring: int, at: int, vector: int, count: int) -> None:
    position = at & Ring(ring).mask
    first = Ring(ring).size - position
    if first > count:
        first = count
    slot = ring + _SLOTS + position * 8
    for i in range(first):
        store64(slot + i * 8, load64(vector + i * 8))
    vector += first * 8
    for i in range(count - first):
        store64(ring + _SLOTS + i * 8, load64(vector + i * 8))


@inline
def _copy_out(ring: int, at: int, vector: int, count: int) -> None:
    position = at & Ring(ring).mask
    first = Ring(ring).size - position
    if first > count:
        first = count
    slot = ring + _SLOTS + position * 8
    for i in range(first):
        store64(vector + i * 8, load64(slot + i * 8))
    vector += first * 8
    for i in range(count - first):
        store64(vector + i * 8, load64(ring + _SLOTS + i * 8))


@inline
def sp_enqueue(ring: int, vector: int, count: int) -> int:
    """Enqueue up to ``count`` words; the caller is the only producer."""
    r = Ring(ring)
    at = r.producer_tail
    space = r.consumer_seen + r.size - at
    if space < count:
        r.consumer_seen = load_acquire(ring + _CONSUMER_TAIL)
        space = r.consumer_seen + r.size - at
        if space < count:
            count = space
    if count > 0:
        _copy_in(ring, at, vector, count)
        r.producer_head = at + count  # so that many producers may take over later
        store_release(ring + _PRODUCER_TAIL, at + count)
    return count


@inline
def sc_dequeue(ring: int, vector: int, count: int) -> int:
    """Dequeue up to ``count`` words; the caller is the only consumer."""
    r = Ring(ring)
    at = r.consumer_tail
    filled = r.producer_seen - at
    if filled < count:
        r.producer_seen = load_acquire(ring + _PRODUCER_TAIL)
        filled = r.producer_seen - at
        if filled < count:
            count = filled
    if count > 0:
        _copy_out(ring, at, vector, count)
        r.consumer_head = at + count
        store_release(ring + _CONSUMER_TAIL, at + count)
    return count


@inline
def _reserve(ring: int, count: int) -> tuple[int, int]:
    """Move the producers' head; (where, how many).

    A head read too early makes the space look too big, even bigger than the ring; the exchange then fails.
    """
    while True:
        at = load_acquire(ring + _PRODUCER_HEAD)
        space = load_acquire(ring + _CONSUMER_TAIL) + Ring(ring).size - at
        many = count if count < space else space
        if many <= 0 or compare_exchange(ring + _PRODUCER_HEAD, at, at + many):
            return at, many
        pause()


@inline
def _claim(ring: int, count: int) -> tuple[int, int]:
    """Move the consumers' head; (where, how many)."""
    while True:
        at = load_acquire(ring + _CONSUMER_HEAD)
        filled = load_acquire(ring + _PRODUCER_TAIL) - at
        many = count if count < filled else filled
        if many <= 0 or compare_exchange(ring + _CONSUMER_HEAD, at, at + many):
            return at, many
        pause()


@inline
def _publish(tail: int, at: int, count: int) -> None:
    """Wait for the ones before us, then move the tail at address ``tail`` past our elements."""
    spins = 0
    while load_acquire(tail) != at:
        spins += 1
        if spins < _SPINS:
            pause()
        else:
            poll(0, 0, 1)  # the one before us lost its core: leave it ours
    store_release(tail, at + count)


@inline
def mp_enqueue(ring: int, vector: int, count: int) -> int:
    """Enqueue up to ``count`` words, beside other producers."""
    at, many = _reserve(ring, count)
    if many > 0:
        _copy_in(ring, at, vector, many)
        _publish(ring + _PRODUCER_TAIL, at, many)
    return many


@inline
def mc_dequeue(ring: int, vector: int, count: int) -> int:
    """Dequeue up to ``count`` words, beside other consumers."""
    at, many = _claim(ring, count)
    if many > 0:
        _copy_out(ring, at, vector, many)
        _publish(ring + _CONSUMER_TAIL, at, many)
    return many


# From control code -----------------------------------------------------------------------------------------


@kernel
def _put(ring: int, value: int) -> int:
    at, many = _reserve(ring, 1)
    if many > 0:
        store64(ring + _SLOTS + (at & Ring(ring).mask) * 8, value)
        _publish(ring + _PRODUCER_TAIL, at, 1)
    return many


@kernel
def _take(ring: int) -> tuple[int, int]:
    at, many = _claim(ring, 1)
    value = 0
    if many > 0:
        value = load64(ring + _SLOTS + (at & Ring(ring).mask) * 8)
        _publish(ring + _CONSUMER_TAIL, at, 1)
    return many, value


def enqueue(ring: int, values: Iterable[int]) -> int:
    """Enqueue Python ints, from control code, until the ring is full; returns how many went in.

    Works as one of many producers, or as the only producer of a ring.
    """
    done = 0
    for value in values:
        if not _put(ring, value):
            break
        done += 1
    return done


def dequeue(ring: int, limit: int) -> list[int]:
    """Dequeue up to ``limit`` words, from control code; one of many consumers, or the only one."""
    taken: list[int] = []
    while len(taken) < limit:
        found, value = _take(ring)
        if not found:
            break
        taken.append(value)
    return taken

"""A bounded first-in-first-out ring at an address, for one or many producers and consumers.

    offset  bytes      who writes  what
    0       16         nobody      size (elements it holds) and mask (slots - 1)
    16      16         control     watermark, bytes of an element
    128     32         producers   head, tail, the consumers' tail as last seen, how far RTS may run ahead
    256     32         consumers   head, tail, the producers' tail as last seen, how far RTS may run ahead
    384     slots * e  producers   the slots, ``e`` bytes each

Lines that different cores write are 128 bytes apart, because the prefetcher fetches lines in pairs. Positions count
elements since the beginning and are masked only to find a slot, so ``tail - tail`` is the number of elements and all
slots can be used. Everything is an offset: the same ring works from another process that maps it elsewhere. How
threads share a side, and what happens when one dies, is in :mod:`wirespeed.sync.ring_sides`.

The functions take the ring's address and the address of ``count`` elements, and return how many moved. A *burst*
moves what fits; *bulk* moves all or nothing. ``sp_enqueue`` and its three siblings are for rings of 64-bit elements
without RTS or HTS, which the packet path uses; ``sp``/``mp`` is single or multi producer, ``sc``/``mc`` consumer. A
side uses one kind at a time, but single and multi may take over from each other.
"""

from collections.abc import Iterable

from wirespeed.errors import ArenaError
from wirespeed.jit import View, cold, copy, inline, kernel, le64, load64, load_acquire, store64
from wirespeed.sync.ring_sides import (
    CONSUMERS,
    MULTI,
    PRODUCERS,
    SINGLE,
    begin,
    distance,
    finish,
    mode_of,
    next_position,
    spare,
)

SLOTS: int = 384
"""Where the slots begin, from the ring's address."""

LARGEST: int = 1 << 30
"""Most slots of a ring: a distance of positions must fit 31 bits."""


class RingView(View):
    """The head of a ring; the slots follow at :attr:`SIZE`."""

    size = le64(0, "elements it holds")
    mask = le64(8, "slots - 1; the slots are a power of two")
    watermark = le64(16, "elements from which on the ring counts as nearly full")
    element = le64(24, "bytes of an element")
    producer_head = le64(128, "reserved up to here")
    producer_tail = le64(136, "filled up to here")
    consumer_seen = le64(144, "consumer_tail as the producers last saw it")
    producer_ahead = le64(152, "how far producer_head may be ahead of producer_tail, RTS")
    consumer_head = le64(256, "claimed up to here")
    consumer_tail = le64(264, "emptied up to here")
    producer_seen = le64(272, "producer_tail as the consumers last saw it")
    consumer_ahead = le64(280, "how far consumer_head may be ahead of consumer_tail, RTS")
    SIZE = 384

    @property
    def count(self) -> int:
        """Elements in the ring now; anyone may ask, and it may change at once."""
        consumed = load_acquire(self.address + 264)  # first: the difference is then never negative
        return distance(load_acquire(self.address + 136), consumed)

    @property
    def free(self) -> int:
        """Elements that fit now; anyone may ask, and it may change at once."""
        left = self.size - self.count
        return left if left > 0 else 0

    @property
    def above_watermark(self) -> bool:
        """Whether the ring is nearly full: time to slow down."""
        return self.count >= self.watermark

    @property
    def scratch(self) -> int:
        """Address of the slot that a sole producer fills next: a word it may use until it enqueues."""
        return int(self.address + 384 + (self.producer_tail & self.mask) * 8)

    @staticmethod
    def bytes_needed(slots: int, element: int = 8) -> int:
        """Bytes a ring of ``slots`` slots of ``element`` bytes takes, rounded up to 128."""
        return -(-(SLOTS + element * slots) // 128) * 128


def format_ring(address: int, slots: int, element: int = 8, size: int = 0) -> RingView:
    """Lay out an empty ring of ``slots`` slots at ``address`` (aligned to 128, registered with jit).

    Args:
        address: where; :meth:`RingView.bytes_needed` bytes.
        slots: a power of two.
        element: bytes of each, a multiple of 4.
        size: elements it holds at the most, if fewer than the slots.

    Raises:
        ArenaError: ``slots`` is not a power of two, ``element`` not a multiple of 4, or the address not aligned.
    """
    if not 1 <= slots <= LARGEST or slots & (slots - 1):
        raise ArenaError(f"a ring of {slots} slots is not possible: use a power of two, 1 to {LARGEST}")
    if element < 4 or element % 4:
        raise ArenaError(f"a ring of elements of {element} bytes is not possible: use a multiple of 4")
    if not 0 <= size <= slots:
        raise ArenaError(f"a ring of {slots} slots cannot hold {size} elements")
    if address % 128:
        raise ArenaError(f"a ring at {address:#x} would share cache lines: align it to 128 bytes")
    ring = RingView(address)
    ring.size, ring.mask, ring.watermark, ring.element = size or slots, slots - 1, size or slots, element
    for name in ("producer_head", "producer_tail", "consumer_seen"):
        setattr(ring, name, 0)
    for name in ("consumer_head", "consumer_tail", "producer_seen"):
        setattr(ring, name, 0)
    ring.producer_ahead = ring.consumer_ahead = max(1, slots // 8)
    return ring


@inline
def count(ring: int) -> int:
    """:attr:`RingView.count`, by address."""
    return RingView(ring).count


@inline
def free(ring: int) -> int:
    """:attr:`RingView.free`, by address."""
    return RingView(ring).free


@inline
def slot_of(ring: int, element: int, at: int) -> int:
    """Address of the slot of position ``at``."""
    return ring + SLOTS + (at & RingView(ring).mask) * element


# A copy of a constant size becomes vector moves without a loop or a call: hence the branch, where a whole burst fits.


@inline
def copy_in(ring: int, element: int, at: int, vector: int, count: int) -> None:
    """Fill the ``count`` slots from position ``at`` with the elements at ``vector``."""
    mask = RingView(ring).mask
    position = at & mask
    first = mask + 1 - position
    if first >= count:
        copy(ring + SLOTS + position * element, vector, count * element)
    else:
        _copy_around(ring, element, position, first, vector, count, True)


@inline
def copy_out(ring: int, element: int, at: int, vector: int, count: int) -> None:
    """Copy the ``count`` elements from position ``at`` to ``vector``."""
    mask = RingView(ring).mask
    position = at & mask
    first = mask + 1 - position
    if first >= count:
        copy(vector, ring + SLOTS + position * element, count * element)
    else:
        _copy_around(ring, element, position, first, vector, count, False)


@cold
def _copy_around(ring: int, element: int, position: int, first: int, vector: int, count: int, inwards: bool) -> None:
    """Over the end of the slots: two copies."""
    slot, rest, behind = ring + SLOTS + position * element, ring + SLOTS, vector + first * element
    if inwards:
        copy(slot, vector, first * element)
        copy(rest, behind, (count - first) * element)
    else:
        copy(vector, slot, first * element)
        copy(behind, rest, (count - first) * element)


@inline
def enqueue_bulk(ring: int, mode: int, element: int, vector: int, count: int) -> int:
    """Enqueue all of ``count`` elements, or none if they do not fit."""
    at = begin(ring, mode, PRODUCERS, count)
    if at < 0:
        return 0
    copy_in(ring, element, at, vector, count)
    finish(ring, mode, PRODUCERS, at, count)
    return count


@inline
def dequeue_bulk(ring: int, mode: int, element: int, vector: int, count: int) -> int:
    """Dequeue ``count`` elements, or none if there are not so many."""
    at = begin(ring, mode, CONSUMERS, count)
    if at < 0:
        return 0
    copy_out(ring, element, at, vector, count)
    finish(ring, mode, CONSUMERS, at, count)
    return count


@inline
def enqueue_burst(ring: int, mode: int, element: int, vector: int, count: int) -> int:
    """Enqueue up to ``count`` elements."""
    if enqueue_bulk(ring, mode, element, vector, count):
        return count
    return _some(ring, mode, element, vector, count, PRODUCERS)


@inline
def dequeue_burst(ring: int, mode: int, element: int, vector: int, count: int) -> int:
    """Dequeue up to ``count`` elements."""
    if dequeue_bulk(ring, mode, element, vector, count):
        return count
    return _some(ring, mode, element, vector, count, CONSUMERS)


@cold
def _some(ring: int, mode: int, element: int, vector: int, count: int, own: int) -> int:
    """A burst of which not all fits, or is there; when others come in between, look again."""
    while True:
        count = min(count, spare(ring, mode, own, next_position(ring, mode, own), count))
        if count <= 0:
            return 0
        at = begin(ring, mode, own, count)
        if at >= 0:
            if own == PRODUCERS:
                copy_in(ring, element, at, vector, count)
            else:
                copy_out(ring, element, at, vector, count)
            finish(ring, mode, own, at, count)
            return count


# Rings of 64-bit elements ----------------------------------------------------------------------------------

_ONE: int = mode_of(SINGLE, SINGLE)
_MANY: int = mode_of(MULTI, MULTI)


@inline
def sp_enqueue(ring: int, vector: int, count: int) -> int:
    """Enqueue up to ``count`` words; the caller is the only producer."""
    return enqueue_burst(ring, _ONE, 8, vector, count)


@inline
def sc_dequeue(ring: int, vector: int, count: int) -> int:
    """Dequeue up to ``count`` words; the caller is the only consumer."""
    return dequeue_burst(ring, _ONE, 8, vector, count)


@inline
def mp_enqueue(ring: int, vector: int, count: int) -> int:
    """Enqueue up to ``count`` words, beside other producers."""
    return enqueue_burst(ring, _MANY, 8, vector, count)


@inline
def mc_dequeue(ring: int, vector: int, count: int) -> int:
    """Dequeue up to ``count`` words, beside other consumers."""
    return dequeue_burst(ring, _MANY, 8, vector, count)


# From control code -----------------------------------------------------------------------------------------


@kernel
def _put(ring: int, value: int) -> int:
    at = begin(ring, _MANY, PRODUCERS, 1)
    if at >= 0:
        store64(slot_of(ring, 8, at), value)
        finish(ring, _MANY, PRODUCERS, at, 1)
    return at >= 0


@kernel
def _take(ring: int) -> tuple[int, int]:
    at = begin(ring, _MANY, CONSUMERS, 1)
    value = 0
    if at >= 0:
        value = load64(slot_of(ring, 8, at))
        finish(ring, _MANY, CONSUMERS, at, 1)
    return at >= 0, value


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

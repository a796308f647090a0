"""What nodes and kernels call on a ring: one view class for each mode and element size.

A class knows both as constants, so each method compiles to the instructions of that mode alone::

    Spsc = ring_view(SINGLE, SINGLE, 8)

    @ws.kernel
    def work(ring, vector):
        return Spsc(ring).enqueue(vector, 32)

Elements of 4 and 8 bytes travel as integers (``put``, ``get``), of 16 bytes as pairs; larger ones are filled and
read where they lie (``reserve``/``slot``/``commit`` and ``claim``/``slot``/``release``). All operations are O(1) a
call and O(bytes) to copy; none allocates, none raises.
"""

from functools import cache
from typing import Any

from wirespeed.jit import load32, load64, store32, store64
from wirespeed.sync.ring import (
    RingView,
    dequeue_bulk,
    dequeue_burst,
    enqueue_bulk,
    enqueue_burst,
    slot_of,
)
from wirespeed.sync.ring_sides import CONSUMERS, KINDS, PRODUCERS, begin, finish, finish_some, mode_of, spare


@cache
def ring_view(producers: int, consumers: int, element: int) -> type[RingView]:
    """The class for rings with these kinds of producers and consumers and elements of ``element`` bytes."""
    mode = mode_of(producers, consumers)

    def enqueue(self: Any, vector: int, count: int) -> int:
        """Enqueue up to ``count`` elements from address ``vector``; how many it were."""
        return enqueue_burst(self.address, mode, element, vector, count)

    def dequeue(self: Any, vector: int, count: int) -> int:
        """Dequeue up to ``count`` elements to address ``vector``; how many it were."""
        return dequeue_burst(self.address, mode, element, vector, count)

    def enqueue_all(self: Any, vector: int, count: int) -> int:
        """Enqueue ``count`` elements from address ``vector``, or none; how many it were."""
        return enqueue_bulk(self.address, mode, element, vector, count)

    def dequeue_all(self: Any, vector: int, count: int) -> int:
        """Dequeue ``count`` elements to address ``vector``, or none; how many it were."""
        return dequeue_bulk(self.address, mode, element, vector, count)

    def reserve(self: Any, count: int) -> int:
        """Reserve ``count`` slots to be filled in place: their position, or -1 if there are not so many."""
        return begin(self.address, mode, PRODUCERS, count)

    def commit(self: Any, at: int, count: int) -> None:
        """Enqueue what was filled: all that was reserved, or with single and hts producers the first ``count``."""
        finish_some(self.address, mode, PRODUCERS, at, count)

    def claim(self: Any, count: int) -> int:
        """Claim the ``count`` oldest elements to be read in place: their position, or -1 if there are not so many."""
        return begin(self.address, mode, CONSUMERS, count)

    def release(self: Any, at: int, count: int) -> None:
        """Dequeue what was claimed: all of it, or with single and hts consumers the first ``count``."""
        finish_some(self.address, mode, CONSUMERS, at, count)

    def slot(self: Any, at: int, index: int) -> int:
        """Address of the ``index``-th element of a reservation or claim; the slots go round, so ask for each."""
        return slot_of(self.address, element, at + index)

    def peek(self: Any, index: int) -> int:
        """Address of the ``index``-th oldest element, 0 if there is none; for a sole consumer, who leaves it there."""
        at = self.consumer_tail
        if index < 0 or spare(self.address, mode, CONSUMERS, at, index + 1) <= index:
            return 0
        return slot_of(self.address, element, at + index)

    methods: list[Any] = [
        enqueue, dequeue, enqueue_all, dequeue_all, reserve, commit, claim, release, slot, peek,
    ]  # fmt: skip

    if element in (4, 8):
        load, store = (load32, store32) if element == 4 else (load64, store64)

        def put(self: Any, value: int) -> int:
            """Enqueue one; 1, or 0 if the ring is full."""
            at = begin(self.address, mode, PRODUCERS, 1)
            if at < 0:
                return 0
            store(slot_of(self.address, element, at), value)
            finish(self.address, mode, PRODUCERS, at, 1)
            return 1

        def get(self: Any, otherwise: int = -1) -> int:
            """Dequeue one; ``otherwise`` if the ring is empty. Elements of 4 bytes are unsigned."""
            at = begin(self.address, mode, CONSUMERS, 1)
            if at < 0:
                return otherwise
            value = load(slot_of(self.address, element, at))
            finish(self.address, mode, CONSUMERS, at, 1)
            return value

        methods += [put, get]

    if element == 16:

        def put_pair(self: Any, first: int, second: int) -> int:
            """Enqueue one element, two words; 1, or 0 if the ring is full."""
            at = begin(self.address, mode, PRODUCERS, 1)
            if at < 0:
                return 0
            to = slot_of(self.address, element, at)
            store64(to, first)
            store64(to + 8, second)
            finish(self.address, mode, PRODUCERS, at, 1)
            return 1

        def get_pair(self: Any) -> tuple[int, int]:
            """Dequeue one element, two words; (-1, -1) if the ring is empty."""
            at = begin(self.address, mode, CONSUMERS, 1)
            if at < 0:
                return -1, -1
            source = slot_of(self.address, element, at)
            pair = (load64(source), load64(source + 8))
            finish(self.address, mode, CONSUMERS, at, 1)
            return pair

        methods += [put_pair, get_pair]

    name = f"RingView_{KINDS[producers]}_{KINDS[consumers]}_{element}"
    scope = {method.__name__: method for method in methods}
    return type(name, (RingView,), {**scope, "__module__": __name__, "__doc__": f"A ring: {name}."})

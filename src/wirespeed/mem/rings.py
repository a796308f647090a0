"""``ws.Ring``: a bounded queue in shared memory, between nodes, threads and processes.

::

    jobs = ws.Ring(4096, "jobs", producers="multi", consumers="single")    # one process
    jobs.put_many(numpy.arange(1000))

    jobs = ws.Ring.attach("jobs", writable=True)                           # another
    jobs.get_many(64)

    @ws.node                                                               # a node of either
    def report(pkt):
        jobs.put(pkt.length)

The memory is that of :mod:`wirespeed.sync.ring`: a header of 384 bytes and ``element`` bytes a slot; nothing else is
kept anywhere, so a process that attaches it is as good as the one that made it. All operations are O(1) and a copy.

**Kinds.** ``producers`` and ``consumers`` say how many threads use each side and how they agree
(:mod:`wirespeed.sync.ring_sides`): ``single``, ``multi``, ``rts`` or ``hts``. The kinds are part of the machine
code; each thread of a side uses the kind the ring was made with.

**Death.** A process may die at any instruction, also by SIGKILL.

- single: what it had begun has not happened. The other side goes on, and a new process may take over its side; one
  that dies after having taken elements, before using them, has taken them along.
- hts: if it died inside an operation, its side waits. :meth:`Ring.repair` undoes the operation; the others go on.
- multi, rts: if it died inside an operation, those behind it wait (multi), or nothing that was begun later becomes
  visible and begins stop at an eighth of the ring (rts). :meth:`Ring.repair` undoes everything begun on that side,
  so first stop the others: it is for a restart, not for a running system. (DPDK's rings have no way out at all.)

Followed: DPDK's rte_ring library (programmer's guide) and FreeBSD's buf_ring(9), for what the modes promise.
"""

import ctypes
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wirespeed.errors import TableError
from wirespeed.jit import View, inline, kernel, register, unregister
from wirespeed.mem.shared import Shared
from wirespeed.sync.ring import (
    LARGEST,
    RingView,
    copy_in,
    copy_out,
    dequeue_burst,
    enqueue_burst,
    format_ring,
    slot_of,
)
from wirespeed.sync.ring_sides import CONSUMERS, KINDS, PRODUCERS, RTS, SINGLE, begin, distance, finish_some, mode_of
from wirespeed.sync.ring_view import ring_view

Element = int | type[View] | np.dtype[Any] | str | list[Any]
"""What an element can be said to be."""

_CHUNK = 256  # elements moved at once by a long put_many or get_many, so that the other side need not wait for all
_LOW = 0xFFFF_FFFF


@inline
def _some(ring: int, mode: int, element: int, vector: int, count: int, own: int) -> int:
    if own == PRODUCERS:
        return enqueue_burst(ring, mode, element, vector, count)
    return dequeue_burst(ring, mode, element, vector, count)


@kernel
def _move(ring: int, mode: int, element: int, vector: int, count: int, own: int) -> int:
    """Move elements in chunks, until all have moved or one did not fit."""
    moved = 0
    while moved < count:
        chunk = min(_CHUNK, count - moved)
        done = _some(ring, mode, element, vector + moved * element, chunk, own)
        moved += done
        if done < chunk:
            break
    return moved


@kernel
def _move_all(ring: int, mode: int, element: int, vector: int, count: int, own: int) -> int:
    """All or nothing."""
    at = begin(ring, mode, own, count)
    if at < 0:
        return 0
    if own == PRODUCERS:
        copy_in(ring, element, at, vector, count)
    else:
        copy_out(ring, element, at, vector, count)
    finish_some(ring, mode, own, at, count)
    return count


@kernel
def _begin(ring: int, mode: int, own: int, count: int) -> int:
    return begin(ring, mode, own, count)


@kernel
def _finish(ring: int, mode: int, own: int, at: int, count: int) -> None:
    finish_some(ring, mode, own, at, count)


@dataclass(frozen=True)
class RingStats:
    """A ring at one moment.

    Attributes:
        size: elements it holds at the most.
        slots: slots in memory, ``size`` rounded up to a power of two.
        element_bytes: bytes of each.
        producers, consumers: their kinds.
        count, free: elements in it, and that fit now.
        watermark: from how many elements on it counts as nearly full.
        enqueued, dequeued: elements since the beginning; modulo 2**32 on an ``rts`` side.
        reserved, claimed: begun and not finished by producers and consumers; if that lasts, somebody died inside
            (``single`` sides write nothing down before they finish: always 0).
    """

    size: int
    slots: int
    element_bytes: int
    producers: str
    consumers: str
    count: int
    free: int
    watermark: int
    enqueued: int
    dequeued: int
    reserved: int
    claimed: int


class Ring(Shared):
    """A bounded first-in-first-out queue of equal elements.

    Args:
        size: elements it holds; rounded up to a power of two (``ring.size`` says to what) unless ``exact``.
        name: what other processes attach it by.
        producers, consumers: ``single``, ``multi``, ``rts`` or ``hts``.
        element: what an element is: its bytes (4: unsigned integers, 8: integers, or any other multiple of 4), a
            NumPy dtype, or a View class.
        exact: hold exactly ``size`` elements; the slots are rounded up all the same.
        watermark: elements from which on :attr:`above_watermark` is true; ``size`` unless said.

    Raises:
        TableError: a size, kind, element or watermark that is not possible.
        ArenaError: no memory, or a bad name.
    """

    KIND = "ring"
    VERSION = 1
    ATTACH_WRITABLE = True
    View: ClassVar[type[View]] = RingView

    def __init__(
        self,
        size: int,
        name: str | None = None,
        *,
        producers: str = "multi",
        consumers: str = "multi",
        element: Element = 8,
        exact: bool = False,
        watermark: int | None = None,
    ) -> None:
        for side, kind in (("producers", producers), ("consumers", consumers)):
            if kind not in KINDS:
                raise TableError(f"{side}={kind!r} is not a kind of ring: use one of {', '.join(KINDS)}")
        if not 1 <= size <= LARGEST:
            raise TableError(f"a ring of {size} elements is not possible: use 1 to {LARGEST}")
        item = _dtype(element)
        slots = 1 << (size - 1).bit_length()
        holds = size if exact else slots
        if watermark is not None and not 1 <= watermark <= holds:
            raise TableError(f"watermark={watermark} is not a fill of this ring: use 1 to {holds}")
        self._create(
            RingView.bytes_needed(slots, item.itemsize), name, producers=producers, consumers=consumers,
            element=_description(item),
        )  # fmt: skip
        view = format_ring(self.address, slots, item.itemsize, holds)
        if watermark is not None:
            view.watermark = watermark
        self._attached()

    def _attached(self) -> None:
        """Take the class whose view has this ring's kinds and element."""
        parameters = self.parameters
        self._producers, self._consumers = (KINDS.index(parameters[side]) for side in ("producers", "consumers"))
        self.dtype = _from_description(parameters["element"])
        self._mode = mode_of(self._producers, self._consumers)
        self._element = self.dtype.itemsize
        self.__class__ = _class_for(self._producers, self._consumers, self._element)

    # Arrays ----------------------------------------------------------------------------------------------

    def put_many(self, values: ArrayLike, *, bulk: bool = False) -> int:
        """Enqueue elements, oldest first, until the ring is full; ``bulk``: all or nothing.

        Args:
            values: an array of :attr:`dtype`, or integers that fit it; any number, in one call.
            bulk: enqueue all, as one, or none.

        Returns:
            how many went in.

        Raises:
            TableError: values of another type or range; nothing went in. Or the ring is attached read-only.
        """
        self._check_writable()
        array = self._elements(values)
        return self._moved(array, bulk, PRODUCERS)

    def get_many(self, count: int, *, bulk: bool = False) -> NDArray[Any]:
        """Dequeue up to ``count`` elements, oldest first; ``bulk``: all of them or none.

        Raises:
            TableError: a negative count, or the ring is attached read-only.
        """
        self._check_writable()
        if count < 0:
            raise TableError(f"cannot dequeue {count} elements: ask for 0 or more")
        array = np.empty(min(count, self.size) if not bulk or count <= self.size else 0, self.dtype)
        return array[: self._moved(array, bulk, CONSUMERS)]

    def peek_many(self, count: int) -> NDArray[Any]:
        """Up to ``count`` of the oldest elements, which stay in the ring; for its sole consumer.

        Raises:
            TableError: other consumers could take them meanwhile: the ring is not made with ``consumers="single"``.
        """
        self._check_sole()
        found = min(count, self.count)
        at = RingView(self.address).consumer_tail
        parts = self.slots(at, max(found, 0))
        return np.concatenate(parts) if parts else np.empty(0, self.dtype)

    def _moved(self, array: NDArray[Any], bulk: bool, own: int) -> int:
        if not len(array):
            return 0
        vector = array.ctypes.data
        register(vector, array.nbytes, "array")
        try:
            move = _move_all if bulk else _move
            return int(move(self.address, self._mode, self._element, vector, len(array), own))
        finally:
            unregister(vector)

    def _elements(self, values: ArrayLike) -> NDArray[Any]:
        array = np.asarray(values)
        if not array.size:
            return np.empty(0, self.dtype)
        if array.ndim != 1:
            raise TableError(f"{self.name}: an array of shape {array.shape} is no list of elements: pass one dimension")
        if array.dtype == self.dtype:
            return np.ascontiguousarray(array)
        if self.dtype.kind not in "iu" or array.dtype.kind not in "iu":
            raise TableError(f"{self.name}: elements are {self.dtype}, not {array.dtype}: convert the array")
        least, most = np.iinfo(self.dtype).min, np.iinfo(self.dtype).max
        if int(array.min()) < least or int(array.max()) > most:
            raise TableError(f"{self.name}: {array.min()} to {array.max()} is not within {least} to {most}")
        return np.ascontiguousarray(array, self.dtype)

    # As in a node ----------------------------------------------------------------------------------------

    def put(self, value: int) -> int:
        """Enqueue one element of 4 or 8 bytes; 1, or 0 if the ring is full."""
        return self.put_many([value])

    def get(self, otherwise: int = -1) -> int:
        """Dequeue one element of 4 or 8 bytes; ``otherwise`` if the ring is empty."""
        found = self.get_many(1)
        return int(found[0]) if len(found) else otherwise

    def put_pair(self, first: int, second: int) -> int:
        """Enqueue one element of 16 bytes, as two words; 1, or 0 if the ring is full."""
        self._check_pairs()
        return self.put_many(np.array([first, second], np.int64).view(self.dtype))

    def get_pair(self) -> tuple[int, int]:
        """Dequeue one element of 16 bytes, as two words; (-1, -1) if the ring is empty."""
        self._check_pairs()
        words = self.get_many(1).view(np.int64)
        return (int(words[0]), int(words[1])) if len(words) else (-1, -1)

    def _check_pairs(self) -> None:
        if self._element != 16:
            raise TableError(f"{self.name}: elements of {self._element} bytes are no pairs of words")

    def enqueue(self, vector: int, count: int) -> int:
        """Enqueue up to ``count`` elements from address ``vector``."""
        self._check_writable()
        return int(_move(self.address, self._mode, self._element, vector, count, PRODUCERS))

    def dequeue(self, vector: int, count: int) -> int:
        """Dequeue up to ``count`` elements to address ``vector``."""
        self._check_writable()
        return int(_move(self.address, self._mode, self._element, vector, count, CONSUMERS))

    def enqueue_all(self, vector: int, count: int) -> int:
        """Enqueue ``count`` elements from address ``vector``, or none."""
        self._check_writable()
        return int(_move_all(self.address, self._mode, self._element, vector, count, PRODUCERS))

    def dequeue_all(self, vector: int, count: int) -> int:
        """Dequeue ``count`` elements to address ``vector``, or none."""
        self._check_writable()
        return int(_move_all(self.address, self._mode, self._element, vector, count, CONSUMERS))

    # In place --------------------------------------------------------------------------------------------

    def reserve(self, count: int = 1) -> int:
        """Reserve slots to be filled in place; their position, or -1 if there are not so many. Then :meth:`commit`."""
        self._check_writable()
        return int(_begin(self.address, self._mode, PRODUCERS, count))

    def commit(self, at: int, count: int) -> None:
        """Enqueue what was filled: all that was reserved, or with ``single`` and ``hts`` its first ``count``."""
        self._check_writable()
        _finish(self.address, self._mode, PRODUCERS, at, count)

    def claim(self, count: int = 1) -> int:
        """Claim the oldest elements to be read in place; their position, or -1 if there are not so many. Then
        :meth:`release`."""
        self._check_writable()
        return int(_begin(self.address, self._mode, CONSUMERS, count))

    def release(self, at: int, count: int) -> None:
        """Dequeue what was claimed: all of it, or with ``single`` and ``hts`` its first ``count``."""
        self._check_writable()
        _finish(self.address, self._mode, CONSUMERS, at, count)

    def slot(self, at: int, index: int = 0) -> int:
        """Address of the ``index``-th element of a reservation or claim."""
        return slot_of(self.address, self._element, at + index)

    def slots(self, at: int, count: int) -> list[NDArray[Any]]:
        """The memory of a reservation or claim itself, as one array, or as two where it goes round the end."""
        first = at & RingView(self.address).mask
        slots = RingView(self.address).mask + 1
        spans = [(first, min(count, slots - first)), (0, count - (slots - first))]
        return [self._array()[start : start + many] for start, many in spans if many > 0]

    def _array(self) -> NDArray[Any]:
        slots = RingView(self.address).mask + 1
        memory = (ctypes.c_uint8 * (slots * self._element)).from_address(self.address + RingView.SIZE)
        array = np.frombuffer(memory, self.dtype)
        array.flags.writeable = self.writable
        return array

    def peek(self, index: int = 0) -> int:
        """Address of the ``index``-th oldest element, 0 if there is none; for the ring's sole consumer."""
        self._check_sole()
        if not 0 <= index < self.count:
            return 0
        return self.slot(RingView(self.address).consumer_tail, index)

    def _check_sole(self) -> None:
        if self._consumers != SINGLE:
            raise TableError(f"{self.name}: only a sole consumer can peek, this ring has {KINDS[self._consumers]} ones")

    # State -----------------------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """Elements it holds at the most."""
        return int(RingView(self.address).size)

    @property
    def count(self) -> int:
        """Elements in it now."""
        return RingView(self.address).count

    @property
    def free(self) -> int:
        """Elements that fit now."""
        return RingView(self.address).free

    @property
    def above_watermark(self) -> bool:
        """Whether it is filled to its watermark or above."""
        return bool(RingView(self.address).above_watermark)

    def __len__(self) -> int:
        return self.count

    def __bool__(self) -> bool:
        return True

    def stats(self) -> RingStats:
        """Its state now."""
        view = RingView(self.address)
        begun = {}
        for own, kind, head, tail in (
            (PRODUCERS, self._producers, view.producer_head, view.producer_tail),
            (CONSUMERS, self._consumers, view.consumer_head, view.consumer_tail),
        ):
            begun[own] = 0 if kind == SINGLE else max(0, distance(head, tail))
        counts = [view.producer_tail, view.consumer_tail]
        for index, kind in enumerate((self._producers, self._consumers)):
            if kind == RTS:
                counts[index] &= _LOW
        return RingStats(
            view.size, view.mask + 1, self._element, KINDS[self._producers], KINDS[self._consumers], view.count,
            view.free, view.watermark, counts[0], counts[1], begun[PRODUCERS], begun[CONSUMERS],
        )  # fmt: skip

    def repair(self, side: str) -> int:
        """Undo what a dead process had begun on ``side`` and can never finish; returns how many elements that are.

        What producers had reserved is free again and never seen; what consumers had claimed is delivered again.
        ``hts``: others may go on meanwhile, provided that the one inside is the dead one. ``multi`` and ``rts``: no
        other thread may be inside an operation on that side, and what was begun after the dead one's is undone with
        it. ``single``: nothing is ever to be undone.

        Raises:
            TableError: ``side`` is neither ``producers`` nor ``consumers``, or the ring is attached read-only.
        """
        self._check_writable()
        if side not in ("producers", "consumers"):
            raise TableError(f"a ring has no side {side!r}: say producers or consumers")
        kind = self._producers if side == "producers" else self._consumers
        if kind == SINGLE:
            return 0
        view = RingView(self.address)
        name = side[:-1]
        head, tail = getattr(view, f"{name}_head"), getattr(view, f"{name}_tail")
        setattr(view, f"{name}_head", tail)
        return max(0, distance(head, tail))

    def __repr__(self) -> str:
        producers, consumers = KINDS[self._producers], KINDS[self._consumers]
        return f"<Ring {self.name}: {self.count} of {self.size} elements of {self.dtype}, {producers}/{consumers}>"


_classes: dict[tuple[int, int, int], type[Ring]] = {}


def _class_for(producers: int, consumers: int, element: int) -> type[Ring]:
    """Each kind of ring is a class of its own: that is what the compiler goes by."""
    key = producers, consumers, element
    if key not in _classes:
        _classes[key] = type("Ring", (Ring,), {"View": ring_view(*key), "__module__": __name__, "__qualname__": "Ring"})
    return _classes[key]


def _dtype(element: Any) -> np.dtype[Any]:
    """What an element is, as NumPy says it."""
    if isinstance(element, type) and issubclass(element, View):
        element = element.SIZE
    if isinstance(element, int) and not isinstance(element, bool):
        kind: Any = {4: "<u4", 8: "<i8", 16: [("first", "<i8"), ("second", "<i8")]}.get(element, f"V{element}")
        size = element
    else:
        try:
            kind = np.dtype(element)
        except TypeError as error:
            raise TableError(f"element={element!r} is no size, dtype or View class: {error}") from None
        size = kind.itemsize
        if kind.hasobject:
            raise TableError(f"element={element!r} holds Python objects, which shared memory cannot")
    if not 4 <= size <= 4096 or size % 4:
        raise TableError(f"an element of {size} bytes is not possible: use a multiple of 4, up to 4096")
    return np.dtype(kind)


def _description(dtype: np.dtype[Any]) -> Any:
    """A dtype as JSON can say it: its ``str``, or its fields with their offsets."""
    if dtype.names is None:
        return dtype.str
    fields = []
    for name in dtype.names:
        kind, offset = dtype.fields[name][:2]  # type: ignore[index]
        fields.append([name, _description(kind.base), list(kind.shape), offset])
    return {"fields": fields, "itemsize": dtype.itemsize}


def _from_description(description: Any) -> np.dtype[Any]:
    """The dtype of which :func:`_description` was made."""
    if isinstance(description, str):
        return np.dtype(description)
    names, kinds, shapes, offsets = zip(*description["fields"], strict=True)
    formats = [(_from_description(kind), tuple(shape)) for kind, shape in zip(kinds, shapes, strict=True)]
    return np.dtype(
        {"names": names, "formats": formats, "offsets": offsets, "itemsize": description["itemsize"]}  # type: ignore[arg-type]
    )


__all__ = ["Ring", "RingStats"]

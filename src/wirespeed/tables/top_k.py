"""Top-k: the keys with the highest counts, by the space-saving algorithm, in memory for so many keys and no more.

::

    talkers = ws.TopK(1000, workers=2)
    ...
    talkers.add(pkt.ipv4.src, pkt.length)      # in a node
    talkers.most_common(10)                    # in Python: [TopItem(key, count, error), ...], the highest first

A key that is not among those kept takes the place, and the count, of the one with the lowest count; what it took over
is its ``error``. So with N the sum of all that was added and k keys kept:

- the true count is at most ``count`` and at least ``count - error``; ``error`` is at most N / k;
- each key whose true count is above N / k is kept.

    offset  bytes     what (in each worker's copy)
    0       256       record (:class:`TopKView`)
    256     4 * b     heads of chains, by digest; b is a power of two, 2 to 4 a key
            4 * k     next in the chain
            4 * k     where in the heap
            16 * k    heap: count and slot, the lowest first
            s * k     slots: digest, count, error, version, key; s = 40 for integers

The lowest count is found in a heap: an add is one search by digest and then O(log k), usually one or two steps. (The
paper's list of buckets is O(1) for counts that grow by one; by bytes, as here, it would be O(k), which who chooses the
sizes of packets could choose.) Each worker counts in a copy of its own; reading adds the copies up, where a key that
one copy does not have may have had up to the lowest count of that copy there, which goes into ``count`` and ``error``.

While a worker replaces a key, the version of its slot is odd, and a reader looks again.

A. Metwally, D. Agrawal and A. El Abbadi, "Efficient computation of frequent and top-k elements in data streams", ICDT
2005; P. Agarwal et al., "Mergeable summaries", PODS 2012.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from heapq import nlargest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wirespeed.errors import TableError
from wirespeed.jit import (
    cold,
    copy,
    fence_release,
    fill,
    inline,
    kernel,
    le64,
    lent,
    load32,
    load64,
    load_acquire,
    load_relaxed,
    pause,
    store32,
    store64,
    store_release,
)
from wirespeed.tables.sketch import DATA, Sketch, SketchView

_KEY = 32  # of a slot
_TRIES = 4096  # to read a slot that changes
MAX_SIZE: int = 1 << 24


class TopKView(SketchView):
    """One worker's counts."""

    size = le64(128, "keys it may hold")
    used = le64(136, "keys it holds")
    mask = le64(144, "heads of chains - 1")
    next = le64(152, "offset of the chains' links")
    where = le64(160, "offset of the places in the heap")
    heap = le64(168, "offset of the heap")
    slots = le64(176, "offset of the slots")
    slot_bytes = le64(184, "bytes of a slot")
    total = le64(192, "sum of what was added")
    SIZE = DATA

    def slot(self, index: int) -> int:
        """Address of a slot."""
        return self.address + self.slots + index * self.slot_bytes

    def head(self, digest: int) -> int:
        """Address of the head of a digest's chain."""
        return self.address + DATA + ((digest & self.mask) << 2)

    def find(self, digest: int) -> int:
        """The slot of a key, or -1."""
        at = load32(self.head(digest)) - 1
        while at >= 0 and load64(self.slot(at)) != digest:
            at = load32(self.address + self.next + (at << 2)) - 1
        return at

    def lowest(self) -> int:
        """What a key that is not here may have at most: the lowest count, or 0 while there is room."""
        return load64(self.address + self.heap) if self.used == self.size else 0

    def add(self, key: int, n: int = 1) -> int:
        """Add ``n`` (1 or more; less is ignored) to an integer key; its count now."""
        return _update(self.address, self.digest(key), key, 0, n)

    def add_at(self, address: int, n: int = 1) -> int:
        """:meth:`add` for the key of ``key_bytes`` bytes at an address."""
        return _update(self.address, self.digest_at(address), 0, address, n)

    def clear(self) -> None:
        """Forget all keys; nobody may read meanwhile."""
        self.used = 0
        self.total = 0
        fill(self.address + DATA, 0, self.next - DATA)

    def count_digest(self, digest: int) -> int:
        """What a key has at most, by its digest."""
        at = self.find(digest)
        return load64(self.slot(at) + 8) if at >= 0 else self.lowest()

    def count(self, key: int) -> int:
        """What an integer key has at most in this worker."""
        return self.count_digest(self.digest(key))

    def count_at(self, address: int) -> int:
        """:meth:`count` for the key of ``key_bytes`` bytes at an address."""
        return self.count_digest(self.digest_at(address))


@inline
def _put(view: TopKView, at: int, count: int, slot: int) -> None:
    entry = view.address + view.heap + (at << 4)
    store64(entry, count)
    store64(entry + 8, slot)
    store32(view.address + view.where + (slot << 2), at)


@inline
def _sift_down(view: TopKView, at: int, count: int, slot: int) -> None:
    """Let a count that grew sink to its place."""
    heap, used = view.address + view.heap, view.used
    while True:
        child = 2 * at + 1
        if child >= used:
            break
        least = load64(heap + (child << 4))
        if child + 1 < used:
            other = load64(heap + ((child + 1) << 4))
            if other < least:
                child, least = child + 1, other
        if least >= count:
            break
        _put(view, at, least, load64(heap + (child << 4) + 8))
        at = child
    _put(view, at, count, slot)


@inline
def _sift_up(view: TopKView, at: int, count: int, slot: int) -> None:
    """Let a new count rise to its place."""
    heap = view.address + view.heap
    while at > 0:
        parent = (at - 1) >> 1
        above = load64(heap + (parent << 4))
        if above <= count:
            break
        _put(view, at, above, load64(heap + (parent << 4) + 8))
        at = parent
    _put(view, at, count, slot)


@inline
def _link(view: TopKView, digest: int, slot: int) -> None:
    head = view.head(digest)
    store32(view.address + view.next + (slot << 2), load32(head))
    store32(head, slot + 1)


@inline
def _unlink(view: TopKView, digest: int, slot: int) -> None:
    at = view.head(digest)
    while load32(at) != slot + 1:
        at = view.address + view.next + ((load32(at) - 1) << 2)
    store32(at, load32(view.address + view.next + (slot << 2)))


@cold
def _update(address: int, digest: int, key: int, key_address: int, n: int) -> int:
    """Add to a key, which is at ``key_address`` unless that is 0; its count now."""
    view = TopKView(address)
    if n < 1:
        return view.count_digest(digest)
    view.total += n
    at = view.find(digest)
    if at >= 0:
        count = load64(view.slot(at) + 8) + n
        store64(view.slot(at) + 8, count)
        _sift_down(view, load32(address + view.where + (at << 2)), count, at)
        return count
    lowest = 0
    used = view.used
    full = used == view.size
    at = used
    if full:
        lowest = load64(address + view.heap)
        at = load64(address + view.heap + 8)
        _unlink(view, load64(view.slot(at)), at)
    slot = view.slot(at)
    store64(slot + 24, load64(slot + 24) + 1)
    fence_release()  # readers see the version odd before anything else
    store64(slot, digest)
    store64(slot + 8, lowest + n)
    store64(slot + 16, lowest)
    if key_address == 0:
        store64(slot + _KEY, key)
    else:
        copy(slot + _KEY, key_address, view.key_bytes)
    store_release(slot + 24, load64(slot + 24) + 1)
    _link(view, digest, at)
    if full:
        _sift_down(view, 0, lowest + n, at)
    else:
        store_release(address + 136, used + 1)
        _sift_up(view, used, n, at)
    return lowest + n


@kernel
def _add_rows(sketch: int, address: int, count: int, stride: int, amounts: int, step: int, out: int) -> None:
    view = TopKView(sketch)
    bytes_keys = view.key_bytes
    for i in range(count):
        at = address + i * stride
        amount = load64(amounts + i * step)
        digest = view.digest_row(at)
        if bytes_keys:
            store64(out + i * 8, _update(sketch, digest, 0, at, amount))
        else:
            store64(out + i * 8, _update(sketch, digest, load64(at), 0, amount))


@kernel
def _snapshot(sketch: int, count: int, out: int) -> int:
    """Copy ``count`` slots, each of them whole; how many (one that changes all the time is left out)."""
    view = TopKView(sketch)
    size = view.slot_bytes
    copied = 0
    for i in range(count):
        slot = view.slot(i)
        for _ in range(_TRIES):
            before = load_acquire(slot + 24)
            if before & 1 == 0:
                for at in range(0, size, 8):
                    store64(out + copied * size + at, load_acquire(slot + at))
                if load_relaxed(slot + 24) == before:
                    copied += 1
                    break
            pause()
    return copied


@dataclass(frozen=True)
class TopItem:
    """A key; its true count is at most ``count`` and at least ``count - error``."""

    key: "int | bytes"
    count: int
    error: int

    @property
    def guaranteed(self) -> int:
        """What the key has at least."""
        return self.count - self.error


@dataclass(frozen=True)
class TopKStats:
    """``keys`` kept of at most ``size`` a worker, the ``total`` added, and above which count no key is missed."""

    keys: int
    size: int
    total: int
    never_missed_above: int
    workers: int
    memory_bytes: int
    pages: str


class TopK(Sketch):
    """The keys with the highest counts; iterating gives a :class:`TopItem` for each that is kept, highest first.

    Args:
        size: keys each worker keeps; 72 to 80 bytes each. A count is too high by at most total / size.
        workers: how many count; each has a copy.
        key_bytes: 1 to 64 when keys are bytes, 0 when they are integers of 64 bits.
        seed: for runs that can be repeated; secret by default.
        name: for other processes to attach it by.

    Raises:
        TableError: an argument out of range.
        ArenaError: no memory, or the name is taken.
    """

    View = TopKView
    KIND = "top-k"

    def __init__(
        self, size: int, workers: int = 1, key_bytes: int = 0, seed: int | None = None, name: str | None = None
    ) -> None:
        if not 1 <= size <= MAX_SIZE:
            raise TableError(f"{name or self.KIND}: {size} keys are not possible: 1 to {MAX_SIZE}")
        heads = 1 << (2 * size - 1).bit_length()
        next_ = DATA + 4 * heads
        where = next_ + 4 * size
        heap = -(-(where + 4 * size) // 64) * 64
        slots = heap + 16 * size
        slot_bytes = _KEY + (-(-key_bytes // 8) * 8 or 8)
        self._begin(name, slots + slot_bytes * size - DATA, workers, key_bytes, seed, keys=size, slot_bytes=slot_bytes)
        self._attached()
        for block in self._blocks:
            block.size, block.mask, block.slot_bytes = size, heads - 1, slot_bytes
            block.next, block.where, block.heap, block.slots = next_, where, heap, slots

    def add(self, key: "int | bytes", n: int = 1) -> int:
        """Add ``n`` to a key, as worker 0; its count there now."""
        self._check_writable()
        return int(self.add_many(self._one(key), n)[0])

    def add_at(self, address: int, n: int = 1) -> int:
        """:meth:`add` for the key at an address, when a node runs as plain Python."""
        return int(self._blocks[0].add_at(address, n))

    def count_at(self, address: int) -> int:
        """:meth:`count` for the key at an address, when a node runs as plain Python."""
        return int(self._blocks[0].count_at(address))

    def add_many(self, keys: NDArray[Any], n: "int | NDArray[Any]" = 1) -> NDArray[np.int64]:
        """Add to an array of keys, one after the other, as worker 0; the count of each when it was added.

        Args:
            keys: integers, or rows of bytes.
            n: what to add to all, or to each; less than 1 is ignored.

        Raises:
            TableError: not one amount for each key. Nothing is added then.
        """
        self._check_writable()
        amounts = np.ascontiguousarray(n, dtype=np.int64).reshape(-1)
        if np.ndim(n) and len(amounts) != len(keys):
            raise TableError(f"{self.name}: {len(keys)} keys have {len(amounts)} amounts: give one each")
        with lent(amounts):
            return self._bulk(_add_rows, keys, amounts.ctypes.data, 8 if np.ndim(n) else 0)

    def count(self, key: "int | bytes") -> int:
        """What a key has at most, over all workers."""
        digest = self._digest(key)
        return int(sum(block.count_digest(digest) for block in self._blocks))

    __getitem__ = count

    def most_common(self, n: int | None = None, workers: Iterable[int] | None = None) -> list[TopItem]:
        """The ``n`` keys with the highest counts (all that are kept if None), highest first; of some workers only."""
        found: dict[Any, list[int]] = {}  # key: count, error, and the lowest of the copies that have it
        lowest = 0
        for block in self._blocks if workers is None else [self._blocks[worker] for worker in workers]:
            floor = int(block.lowest())
            lowest += floor
            for key, count, error in self._read(block):
                entry = found.setdefault(key, [0, 0, 0])
                entry[0] += count
                entry[1] += error
                entry[2] += floor
        items = [TopItem(key, count + lowest - own, error + lowest - own) for key, (count, error, own) in found.items()]
        wanted = len(items) if n is None else n
        return nlargest(wanted, items, key=lambda item: item.count)

    def __iter__(self) -> Iterator[TopItem]:
        return iter(self.most_common())

    def __len__(self) -> int:
        return len(self.most_common())

    @property
    def total(self) -> int:
        """The sum of all that was added."""
        return int(sum(block.total for block in self._blocks))

    def stats(self) -> TopKStats:
        """How much was counted, and how well."""
        lowest = int(sum(block.lowest() for block in self._blocks))
        return TopKStats(
            len(self), self.parameters["keys"], self.total, lowest, self.workers, self.memory_bytes, self.pages
        )

    def __repr__(self) -> str:
        return f"<TopK {self.name}: {len(self)} keys, total {self.total}>"

    def _one(self, key: "int | bytes") -> NDArray[Any]:
        self._digest(key)  # says what is wrong with it
        if self.key_bytes:
            return np.frombuffer(bytes(key), dtype=np.uint8).reshape(1, -1)  # type: ignore[arg-type]
        return np.array([int(key) & 0xFFFF_FFFF_FFFF_FFFF], dtype=np.uint64)

    def _read(self, block: TopKView) -> list[tuple[Any, int, int]]:
        used, size = int(load_acquire(block.address + 136)), self.parameters["slot_bytes"]
        out = np.zeros((used, size), dtype=np.uint8)
        with lent(out):
            copied = _snapshot(block.address, used, out.ctypes.data)
        words = out[:copied, :_KEY].copy().view(np.int64)
        counts, errors = words[:, 1].tolist(), words[:, 2].tolist()
        if self.key_bytes:
            keys: list[Any] = [row.tobytes() for row in out[:copied, _KEY : _KEY + self.key_bytes]]
        else:
            keys = out[:copied, _KEY : _KEY + 8].copy().view(np.int64)[:, 0].tolist()
        return list(zip(keys, counts, errors, strict=True))


__all__ = ["TopItem", "TopK", "TopKStats", "TopKView"]

"""Cuckoo filter: a set that is asked whether a key is in it, and from which keys can be deleted again.

B. Fan, D. Andersen, M. Kaminsky and M. Mitzenmacher, "Cuckoo filter: practically better than Bloom", CoNEXT 2014.

    offset  bytes  what
    0       256    record (:class:`CuckooView`)
    256     8192   room for a search
    8448    8      buckets: four fingerprints of 16 bits, 0 is none

A key has a fingerprint and two buckets; the second follows from the first and the fingerprint (here by subtraction,
``other = h(fingerprint) - bucket`` modulo their number, so that it need not be a power of two). A bucket is one word:
it is compared with four fingerprints at once, and changed by one store. A question looks at two words; the error
rate is at most 8 / 65535 = 0.012 % when full, at 16.8 bits a key (4 fingerprints a bucket carry 95 %).

Live: adding searches (breadth first, at most 512 buckets) for the shortest way to a free place, and then moves
fingerprints along it from its end, each stored at its new place before it is taken from the old one. A reader that
looked at the new place before and at the old one after misses it; so a reader that finds nothing looks at a version
that moves change, and asks again (8 times, then it says yes, which a filter may). Adding and deleting take a
spin lock: any worker may.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wirespeed.errors import TableError
from wirespeed.jit import (
    add,
    cold,
    fence_release,
    inline,
    kernel,
    le64,
    load16,
    load64,
    load_acquire,
    load_relaxed,
    multiply,
    multiply_high,
    pause,
    prefetch,
    shift_right,
    signed64,
    store16,
    store64,
    store_release,
    trailing_zeros,
)
from wirespeed.sync.spinlock import SpinLockView
from wirespeed.tables.sketch import DATA, Sketch, SketchView

_SEARCH = 512  # buckets a search may look at
_NODE = 16  # of a search: bucket, where it came from and which of its fingerprints would move
_BUCKETS = DATA + _SEARCH * _NODE
_LANES = 0x0001_0001_0001_0001
_TOPS: int = signed64(0x8000_8000_8000_8000)
_MIXER: int = signed64(0xC2B2AE3D27D4EB4F)
_RETRIES = 8
_BATCH = 16
_LOAD = 0.95
MAX_CAPACITY: int = 1 << 32


@inline
def _lane_of(bucket: int, fingerprint: int) -> int:
    """Which lane (0 to 3) of a bucket holds a fingerprint; 4 if none does.

    ``x`` has a lane of zeros where they are equal; subtracting one from each lane sets its top bit, and it is the
    lowest such that cannot be due to a borrow.
    """
    x = bucket ^ multiply(fingerprint, _LANES)
    return trailing_zeros(add(x, -_LANES) & ~x & _TOPS) >> 4


class CuckooView(SketchView):
    """The filter as nodes see it."""

    buckets = le64(128, "how many")
    capacity = le64(136, "keys it was made for")
    version = le64(144, "odd while fingerprints move")
    keys = le64(152, "how many it holds")
    refused = le64(160, "keys for which no place was found")
    lock = le64(192, "of who changes it")
    SIZE = DATA

    def bucket_of(self, digest: int) -> int:
        """The first bucket of a key."""
        return multiply_high(digest, self.buckets)

    def other(self, bucket: int, fingerprint: int) -> int:
        """The other bucket of a fingerprint; the other of the other is the first."""
        mixed = multiply(add(fingerprint, self.secret2), _MIXER)
        at = multiply_high(mixed ^ shift_right(mixed, 29), self.buckets) - bucket
        return at + self.buckets if at < 0 else at

    def place(self, bucket: int) -> int:
        """Address of a bucket."""
        return self.address + _BUCKETS + (bucket << 3)

    def contains_digest(self, digest: int) -> int:
        """Whether a key is there, 1 or 0, by its digest."""
        fingerprint = fingerprint_of(digest)
        first = self.bucket_of(digest)
        one = self.place(first)
        two = self.place(self.other(first, fingerprint))
        for _ in range(_RETRIES):
            before = load_acquire(self.address + 144)
            if _lane_of(load_acquire(one), fingerprint) < 4 or _lane_of(load_acquire(two), fingerprint) < 4:
                return 1
            if before & 1 == 0 and load_relaxed(self.address + 144) == before:
                return 0
            pause()
        return 1

    def add_digest(self, digest: int) -> int:
        """Add a key by its digest; 1, or 0 if there is no place."""
        return _add(self.address, digest)

    def delete_digest(self, digest: int) -> int:
        """Delete a key by its digest; 1, or 0 if it was not there."""
        return _delete(self.address, digest)

    def contains(self, key: int) -> int:
        """1 if an integer key is there, or seems so; 0 if it certainly is not."""
        return self.contains_digest(self.digest(key))

    def add(self, key: int) -> int:
        """Add an integer key; 1, or 0 and counted in ``refused`` if there is no place."""
        return _add(self.address, self.digest(key))

    def delete(self, key: int) -> int:
        """Delete an integer key, which must have been added; 1, or 0 if it was not there."""
        return _delete(self.address, self.digest(key))

    def contains_at(self, address: int) -> int:
        """:meth:`contains` for the key of ``key_bytes`` bytes at an address."""
        return self.contains_digest(self.digest_at(address))

    def add_at(self, address: int) -> int:
        """:meth:`add` of the key of ``key_bytes`` bytes at an address."""
        return _add(self.address, self.digest_at(address))

    def delete_at(self, address: int) -> int:
        """:meth:`delete` of the key of ``key_bytes`` bytes at an address."""
        return _delete(self.address, self.digest_at(address))


@inline
def fingerprint_of(digest: int) -> int:
    """The 16 bits that are kept of a key; never 0."""
    fingerprint = digest & 0xFFFF
    return fingerprint if fingerprint != 0 else 1


@cold
def _add(address: int, digest: int) -> int:
    view = CuckooView(address)
    SpinLockView(address + 192).lock(1)
    fingerprint = fingerprint_of(digest)
    first = view.bucket_of(digest)
    second = view.other(first, fingerprint)
    done = 1
    one = _lane_of(load64(view.place(first)), 0)
    if one < 4:
        store16(view.place(first) + (one << 1), fingerprint)
    else:
        two = _lane_of(load64(view.place(second)), 0)
        if two < 4:
            store16(view.place(second) + (two << 1), fingerprint)
        else:
            done = _make_room(address, first, second, fingerprint)
    view.keys += done
    view.refused += 1 - done
    SpinLockView(address + 192).unlock()
    return done


@cold
def _make_room(address: int, first: int, second: int, fingerprint: int) -> int:
    """Move fingerprints until there is a place in one of two full buckets, and store one there; 0 if in vain."""
    view = CuckooView(address)
    nodes = address + DATA
    store64(nodes, first)
    store64(nodes + 8, -1)
    store64(nodes + 16, second)
    store64(nodes + 24, -1)
    count = 2
    at = 0
    while at < count:
        bucket = load64(nodes + at * _NODE)
        for lane in range(4):
            moved = load16(view.place(bucket) + (lane << 1))
            target = view.other(bucket, moved)
            free = _lane_of(load64(view.place(target)), 0)
            if free < 4:
                _move(address, target, free, at, lane, fingerprint)
                return 1
            if count < _SEARCH:
                store64(nodes + count * _NODE, target)
                store64(nodes + count * _NODE + 8, (at << 2) | lane)
                count += 1
        at += 1
    return 0


@inline
def _move(address: int, target: int, free: int, at: int, lane: int, fingerprint: int) -> None:
    """Move along the way that was found, from its end; a bucket may come twice, so each move is looked at afresh."""
    view = CuckooView(address)
    view.version += 1
    fence_release()  # readers see the version odd before they can see a move
    nodes = address + DATA
    while at >= 0:
        bucket = load64(nodes + at * _NODE)
        place = view.place(bucket) + (lane << 1)
        store16(view.place(target) + (free << 1), load16(place))
        target, free = bucket, lane
        came = load64(nodes + at * _NODE + 8)
        at, lane = (came >> 2, came & 3) if came >= 0 else (-1, 0)
    store16(view.place(target) + (free << 1), fingerprint)
    store_release(address + 144, view.version + 1)


@cold
def _delete(address: int, digest: int) -> int:
    view = CuckooView(address)
    SpinLockView(address + 192).lock(1)
    fingerprint = fingerprint_of(digest)
    bucket = view.bucket_of(digest)
    lane = _lane_of(load64(view.place(bucket)), fingerprint)
    if lane > 3:
        bucket = view.other(bucket, fingerprint)
        lane = _lane_of(load64(view.place(bucket)), fingerprint)
    done = 0
    if lane < 4:
        store16(view.place(bucket) + (lane << 1), 0)
        view.keys -= 1
        done = 1
    SpinLockView(address + 192).unlock()
    return done


@kernel
def _rows(filter: int, address: int, count: int, stride: int, what: int, out: int) -> None:
    """Look up (0), add (1) or delete (2) each row, in batches: the misses of a batch are in flight together."""
    view = CuckooView(filter)
    for start in range(0, count, _BATCH):
        last = min(start + _BATCH, count)
        for i in range(start, last):
            digest = view.digest_row(address + i * stride)
            bucket = view.bucket_of(digest)
            prefetch(view.place(bucket))
            prefetch(view.place(view.other(bucket, fingerprint_of(digest))))
            store64(out + i * 8, digest)
        for i in range(start, last):
            digest = load64(out + i * 8)
            if what == 0:
                store64(out + i * 8, view.contains_digest(digest))
            elif what == 1:
                store64(out + i * 8, _add(filter, digest))
            else:
                store64(out + i * 8, _delete(filter, digest))


@dataclass(frozen=True)
class CuckooStats:
    """``keys`` of ``capacity``, ``places`` in all, keys ``refused``; ``error_rate`` is its bound at this fill."""

    keys: int
    capacity: int
    places: int
    refused: int
    error_rate: float
    memory_bytes: int
    pages: str


class CuckooFilter(Sketch):
    """A set that is asked only whether a key is in it, and may forget keys again; 16.8 bits a key.

    A key that is added twice is there twice (up to 8 times), and has to be deleted twice. Deleting a key that was
    never added may delete another one that has its fingerprint: delete what you have added.

    Args:
        capacity: keys it can hold.
        key_bytes: 1 to 64 when keys are bytes, 0 when they are integers of 64 bits.
        seed: for runs that can be repeated; secret by default.
        name: for other processes to attach it by, to look.

    Raises:
        TableError: capacity or key size out of range.
        ArenaError: no memory, or the name is taken.
    """

    View = CuckooView
    KIND = "cuckoo-filter"

    def __init__(self, capacity: int, key_bytes: int = 0, seed: int | None = None, name: str | None = None) -> None:
        if not 1 <= capacity <= MAX_CAPACITY:
            raise TableError(f"{name or self.KIND}: capacity {capacity} is not 1 to {MAX_CAPACITY}")
        buckets = max(int(capacity / (4 * _LOAD)) + 1, 4)
        self._begin(name, _BUCKETS - DATA + 8 * buckets, 1, key_bytes, seed, capacity=capacity, buckets=buckets)
        view = CuckooView(self.address)
        view.buckets, view.capacity = buckets, capacity
        self._attached()

    def _attached(self) -> None:
        super()._attached()
        self._view = CuckooView(self.address)

    def prepare(self, workers: int) -> None:
        """Any number of workers may add and delete, one at a time."""

    def contains(self, key: "int | bytes") -> int:
        """1 if a key is there, or seems so; 0 if it certainly is not."""
        return int(self._view.contains_digest(self._digest(key)))

    def __contains__(self, key: "int | bytes") -> bool:
        return self.contains(key) == 1

    def add(self, key: "int | bytes") -> int:
        """Add a key: 1.

        Raises:
            TableError: there is no place for it; nothing is changed but ``stats().refused``.
        """
        self._check_writable()
        if not self._view.add_digest(self._digest(key)):
            raise TableError(
                f"{self.name} is full: {len(self)} keys of {self._view.capacity}; make it with "
                f"CuckooFilter({2 * self._view.capacity})"
            )
        return 1

    def delete(self, key: "int | bytes") -> int:
        """Delete a key that was added; 1, or 0 if it was not there."""
        self._check_writable()
        return int(self._view.delete_digest(self._digest(key)))

    def contains_at(self, address: int) -> int:
        """:meth:`contains` for the key at an address, when a node runs as plain Python."""
        return int(self._view.contains_at(address))

    def add_at(self, address: int) -> int:
        """:meth:`add` for the key at an address, when a node runs as plain Python."""
        return int(self._view.add_at(address))

    def delete_at(self, address: int) -> int:
        """:meth:`delete` for the key at an address, when a node runs as plain Python."""
        return int(self._view.delete_at(address))

    def contains_many(self, keys: NDArray[Any]) -> NDArray[np.bool_]:
        """Which keys of an array are there, or seem so."""
        return self._bulk(_rows, keys, 0).astype(bool)

    def add_many(self, keys: NDArray[Any]) -> NDArray[np.bool_]:
        """Add an array of keys; for which of them there was a place."""
        self._check_writable()
        return self._bulk(_rows, keys, 1).astype(bool)

    def delete_many(self, keys: NDArray[Any]) -> NDArray[np.bool_]:
        """Delete an array of keys; which of them were there."""
        self._check_writable()
        return self._bulk(_rows, keys, 2).astype(bool)

    def clear(self) -> None:
        """Forget all keys; nobody may add or delete at the same moment."""
        self._check_writable()
        words = self.parameters["buckets"]
        self._words(np.uint64, _BUCKETS, words)[:] = 0
        self._view.keys = 0

    def __len__(self) -> int:
        return int(self._view.keys)

    def stats(self) -> CuckooStats:
        """How full it is."""
        view, places = self._view, 4 * self.parameters["buckets"]
        rate = 8 * view.keys / places / 65535
        return CuckooStats(view.keys, view.capacity, places, view.refused, rate, self.memory_bytes, self.pages)

    def __repr__(self) -> str:
        return f"<CuckooFilter {self.name}: {len(self)} of {self._view.capacity} keys>"


__all__ = ["CuckooFilter", "CuckooStats", "CuckooView"]

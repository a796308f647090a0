"""HashTable: keys of 1 to 64 bytes to 64-bit values, for nodes and for Python, changed while others read.

::

    class Flow(ws.Key):
        src = ws.be32(0)
        dst = ws.be32(4)
        SIZE = 8

    flows = ws.HashTable(Flow, 1_000_000)
    flows[0x0A000001, 0x0A000002] = 7
    flows.lookup(pkt.ipv4.src, pkt.ipv4.dst)       # in a node: 7 or -1

The memory, and how readers get along with writers, is :mod:`wirespeed.tables.hash_memory`; what nodes call is made for
the key by :mod:`wirespeed.tables.hash_view`. ``docs/design/0009-cuckoo-hash.md`` says why and what was measured.
"""

import ctypes
import secrets
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from wirespeed.errors import TableError
from wirespeed.jit import View as AnyView
from wirespeed.jit import lent, load64, signed64, store64
from wirespeed.mem import directory
from wirespeed.mem.shared import Shared
from wirespeed.tables import hash_bulk
from wirespeed.tables.hash_memory import BUCKET_BYTES, HEAD_BYTES, HashHead
from wirespeed.tables.hash_view import TableView, extra_words, view_of
from wirespeed.tables.keys import KeyForm, describe_fields, form_of, from_parameters, view_like
from wirespeed.tables.reclaimer import Reclaimer

MAX_CAPACITY: int = 1 << 28
FILL: float = 0.95
"""Share of the places in buckets that are taken when the table is full."""


@dataclass(frozen=True)
class HashStats:
    """What a table holds and what happened to it.

    Attributes:
        entries: keys in it.
        capacity: keys it may hold.
        fill: share of the places in buckets that are taken: 0.95 when it is full.
        memory_bytes: all of its memory.
        entry_bytes: memory of one entry; a bucket's share of 8.4 bytes and 4 for the list of free slots come to it.
        pages: kind of its memory: ``hugetlb``, ``thp`` or ``normal``.
        displaced: keys that were moved to their other bucket to make room.
        refused: additions for which there was no slot or no place.
        retired: slots of deleted keys that wait for a grace period.
        evicted: flow tables: flows that gave way to a new one.
        expired: flow tables: flows that were silent too long.
    """

    entries: int
    capacity: int
    fill: float
    memory_bytes: int
    entry_bytes: int
    pages: str
    displaced: int
    refused: int
    retired: int
    evicted: int
    expired: int


class HashTable(Shared):
    """A hash table of ``capacity`` keys, each with a 64-bit value and a slot number that it keeps while it is there.

    Lookups, additions and deletions take constant time: one cache line for the bucket (two for some), one for the
    entry. Any number of threads, workers and processes may read at any time, without locks: a key that is there
    is always found, with its old or its new value.

    Args:
        key: what keys are: a class derived from :class:`~wirespeed.tables.keys.Key`, ``int``, a NumPy type, or a
            number: keys of that many bytes.
        capacity: keys it may hold; that many fit, but for a chance that nobody meets.
        record: a class derived from ``View``: each entry also has such a record, which starts as zeros;
            ``table.record(slot)``.
        writers: ``"one"``: only one worker or thread changes it at a time. ``"many"``: any number, with a lock in each
            bucket.
        name: shown in /proc/self/maps and errors; other processes attach the table by it if it is given.
        reclaimer: knows when workers have let go of a slot, so that a node may use the number it found until the end
            of its burst; without one a deleted key's slot is used again at once. Set by the engine.

    Raises:
        TableError: keys that cannot be, or a capacity out of range.
        ArenaError: no memory.
    """

    KIND: ClassVar[str] = "hash"
    View: ClassVar[type[AnyView]] = TableView
    FORM: ClassVar[KeyForm | None] = None
    RECORD: ClassVar[type[AnyView] | None] = None
    _FLOW: ClassVar[bool] = False

    reclaimer: Reclaimer | None

    def __new__(cls, key: Any = None, *arguments: Any, record: Any = None, **options: Any) -> Self:
        """Each kind of key and record is a class of its own: that is what the compiler goes by."""
        if cls.FORM is not None:
            return object.__new__(cls)
        name = options.get("name") or cls.KIND
        if record is not None and not (isinstance(record, type) and issubclass(record, AnyView) and record.SIZE):
            raise TableError(f"{name}: record={record!r} is no class derived from View with fields")
        return object.__new__(_kind_of(cls, form_of(key, name), record))

    def __init__(
        self, key: Any, capacity: int, *, record: Any = None, writers: str = "one", name: str | None = None,
        reclaimer: Reclaimer | None = None,
    ) -> None:  # fmt: skip
        self._make(capacity, writers, name)
        self.reclaimer = reclaimer

    def _make(self, capacity: int, writers: str, name: str | None) -> None:
        called = name or self.KIND
        if not 1 <= capacity <= MAX_CAPACITY:
            raise TableError(f"{called}: capacity {capacity} is not 1 to {MAX_CAPACITY}")
        if writers not in ("one", "many"):
            raise TableError(f'{called}: writers={writers!r} is not "one" or "many"')
        form, extra = self._form(), extra_words(self.RECORD, self._FLOW)
        buckets = 2 * (int(capacity / (16 * FILL)) + 1)  # even: see other_bucket()
        entry_bytes = _entry_bytes(8 + 8 * form.words + 8 * extra)
        entries = HEAD_BYTES + buckets * BUCKET_BYTES
        stack = entries + capacity * entry_bytes
        record = describe_fields(self.RECORD) if self.RECORD is not None else None
        self._create(stack + 4 * capacity, name, key=form.to_parameters(), record=record)
        head = HashHead(self.address)
        head.buckets, head.capacity, head.entry_bytes, head.many = buckets, capacity, entry_bytes, writers == "many"
        head.entries, head.stack, head.words = entries, stack, form.words
        for index in range(5):
            setattr(head, f"secret{index}", signed64(secrets.randbits(64)))
        self._attached()

    def _attached(self) -> None:
        self._head = head = HashHead(self.address)
        # What does not change, as plain numbers: a trace shows the packet's fields, not ours.
        self.capacity, self._buckets, self._entry_bytes = int(head.capacity), int(head.buckets), int(head.entry_bytes)
        self._first_entry = self.address + int(head.entries)
        self._lock = threading.RLock() if self.writable and not self._head.many else nullcontext()
        self._bulk = hash_bulk.bulk(self._form().words)
        self._extra = extra_words(self.RECORD, self._FLOW)
        self.reclaimer = None

    @classmethod
    def attach(cls, name: str, pid: int | None = None, writable: bool = False) -> Self:
        """The table called ``name`` of a running process, read-only. See :meth:`Shared.attach`."""
        if cls.FORM is None:
            entry = directory.find(name, pid)
            if entry.kind == cls.KIND and entry.version == cls.VERSION:
                described = entry.parameters["record"]
                record = view_like("Record", AnyView, described) if described else None
                kind = _kind_of(cls, from_parameters(entry.parameters["key"]), record)
                return kind.attach(name, pid, writable)  # type: ignore[no-any-return]
        return super().attach(name, pid, writable)

    # What nodes call too -------------------------------------------------------------------------------------

    def find(self, *key: Any) -> int:
        """The slot of a key, or -1. A slot is a number below the capacity that is the key's own while it is there."""
        return int(self._look(_only(key), 1, -1))

    def lookup(self, *key: Any) -> int:
        """The value of a key, or -1 if it is not there (which is also what a value of -1 reads as: use ``find``)."""
        return int(self._look(_only(key), 0, -1))

    def hash(self, *key: Any) -> int:
        """The hash that :meth:`find_hashed` and :meth:`lookup_hashed` take."""
        return int(self.hash_many([_only(key)])[0])

    def find_hashed(self, hash: int, *key: Any) -> int:
        """:meth:`find`, with the key's hash known."""
        return self.find(*key)

    def lookup_hashed(self, hash: int, *key: Any) -> int:
        """:meth:`lookup`, with the key's hash known."""
        return self.lookup(*key)

    def prefetch(self, *key: Any) -> None:
        """A hint in nodes; nothing in plain Python."""

    def outgrows_cache(self) -> bool:
        """Whether lookups will miss the cache so often that a node should prefetch: more than 256 KiB in use."""
        return len(self) * (self._entry_bytes + 9) > 256 << 10

    def add(self, *key_and_value: Any) -> int:
        """Add a key with a value, or change its value; returns its slot.

        In a node: the key's fields, then the value; -1 and a count in ``stats().refused`` if there is no place. In
        Python also ``add(key, value)``.

        Raises:
            TableError: in Python: it is full, or the key or value cannot be.
        """
        if len(key_and_value) < 2:
            raise TableError(f"{self.name}: add({key_and_value!r}) needs a key and a value")
        return int(self.add_many([_only(key_and_value[:-1])], [key_and_value[-1]])[0])

    def delete(self, *key: Any) -> int:
        """Delete a key; the slot it had, or -1 if it was not there."""
        return int(self.delete_many([_only(key)])[0])

    def value(self, slot: int) -> int:
        """The value of a slot that :meth:`find` has given."""
        return load64(self._entry_address(self._checked(slot)))

    def set_value(self, slot: int, value: int) -> None:
        """Set it."""
        self._check_writable()
        store64(self._entry_address(self._checked(slot)), value)

    def record(self, slot: int) -> Any:
        """The record of a slot, as a view: read and write its fields by name."""
        if self.RECORD is None:
            raise TableError(f"{self.name} has no records: create it with record=")
        head = 8 + 8 * self._form().words + 8 * self._FLOW
        return self.RECORD(self._entry_address(self._checked(slot)) + head)

    def find_at(self, address: int) -> int:
        """:meth:`find`, for the key whose bytes are at an address."""
        return int(self._view().find_at(address))

    def lookup_at(self, address: int) -> int:
        """:meth:`lookup`, for the key whose bytes are at an address."""
        return int(self._view().lookup_at(address))

    # One key, from Python ------------------------------------------------------------------------------------

    def get(self, key: Any, default: Any = None) -> Any:
        """The value of a key, or ``default``."""
        slot = self._look(key, 1, -1)
        return default if slot < 0 else self.value(slot)

    def __getitem__(self, key: Any) -> int:
        found = self.get(key)
        if found is None:
            raise KeyError(key)
        return int(found)

    def __setitem__(self, key: Any, value: int) -> None:
        self.add_many([key], [value])

    def __delitem__(self, key: Any) -> None:
        if self.delete_many([key])[0] < 0:
            raise KeyError(key)

    def __contains__(self, key: Any) -> bool:
        return self._look(key, 1, -1) >= 0

    def __len__(self) -> int:
        head = self._head
        return max(int(head.fresh - head.spare - head.retired), 0)

    def __iter__(self) -> Iterator[tuple[Any, int]]:
        """(key, value) of each key: what was there for the whole time is among them."""
        keys, values = self.arrays()
        return iter(list(zip(self._form().keys(keys), values.tolist(), strict=True)))

    # Many keys, from Python ----------------------------------------------------------------------------------

    def add_many(self, keys: Any, values: Any) -> NDArray[np.int64]:
        """Add many keys, or change their values; returns their slots. Of two equal keys the last counts.

        Args:
            keys: an array of integers, of the key's ``dtype`` or of uint8 with a row for each; or any iterable.
            values: one integer each, or one for all.

        Raises:
            TableError: a key or value that cannot be: nothing is changed then. Or the table is full: the message says
                how many went in.
        """
        self._check_writable()
        rows = self._form().rows(keys, self.name)
        given = self._values(values, len(rows))
        slots = np.empty(len(rows), np.int64)
        with self._lock, lent(rows, given, slots):
            done = self._add(rows, given, slots, 0)
            if done < len(rows) and self._head.retired and self.reclaimer is not None:
                self.reclaimer.synchronize()
                done += self._add(rows, given, slots, done)
        if done < len(rows):
            raise TableError(
                f"{self.name} is full: {len(self)} of {self.capacity} keys are in it, and {len(rows) - done} of "
                f"{len(rows)} could not be added: create it with capacity={2 * self.capacity}"
            )
        return slots

    def lookup_many(self, keys: Any, missing: int = -1, hashes: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """Values of many keys, ``missing`` for those that are not there.

        Args:
            keys: as for :meth:`add_many`.
            missing: what to give for a key that is not there.
            hashes: what :meth:`hash_many` gave for them, if it is known.
        """
        return self._look_many(keys, 0, missing, hashes)

    def find_many(self, keys: Any, hashes: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """Slots of many keys, -1 for those that are not there."""
        return self._look_many(keys, 1, -1, hashes)

    def hash_many(self, keys: Any) -> NDArray[np.int64]:
        """Hashes of many keys, with this table's secrets."""
        rows = self._form().rows(keys, self.name)
        hashes = np.empty(len(rows), np.int64)
        with lent(rows, hashes):
            self._bulk.hash(self.address, rows.ctypes.data, rows.strides[0], len(rows), hashes.ctypes.data)
        return hashes

    def delete_many(self, keys: Any) -> NDArray[np.int64]:
        """Delete many keys; the slots they had, -1 for one that was not there."""
        self._check_writable()
        rows = self._form().rows(keys, self.name)
        slots = np.empty(len(rows), np.int64)
        with self._lock, lent(rows, slots):
            keep = self.reclaimer is not None
            found = self._bulk.delete(
                self.address, rows.ctypes.data, rows.strides[0], len(rows), 0, slots.ctypes.data, int(keep)
            )
            if keep and found:
                self._retire(slots[slots >= 0], self.reclaimer)
        return slots

    def arrays(self) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """(keys, values): keys as words, (n, words); the quick way to read all of it."""
        slots = self.slots()
        words = self._form().words
        table = self._entries()[slots]
        return table[:, 1 : 1 + words].copy(), table[:, 0].astype(np.int64)

    def slots(self) -> NDArray[np.int64]:
        """The slots of all keys."""
        slots = np.empty(self.capacity, np.int64)
        with lent(slots):
            count = hash_bulk.used_slots(self.address, slots.ctypes.data)
        return np.unique(slots[:count])  # one that moved while we looked may have been seen twice

    def clear(self) -> None:
        """Delete every key, one by one: fit for live tables."""
        self.delete_many(self._bytes(self.arrays()[0]))

    def stats(self) -> HashStats:
        """How full it is, and what happened."""
        head = self._head
        return HashStats(
            len(self), self.capacity, len(self) / (8 * self._buckets), self.memory_bytes, self._entry_bytes, self.pages,
            head.displaced, head.refused, head.retired, head.evicted, head.expired,
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {len(self)} of {self.capacity} keys, {self.pages} pages>"

    # Inside --------------------------------------------------------------------------------------------------

    def _form(self) -> KeyForm:
        assert self.FORM is not None
        return self.FORM

    def _view(self) -> Any:
        return type(self).View(self.address)

    def _look(self, key: Any, slots: int, missing: int) -> int:
        return int(self._look_many([key], slots, missing, None)[0])

    def _look_many(self, keys: Any, slots: int, missing: int, hashes: NDArray[np.int64] | None) -> NDArray[np.int64]:
        rows = self._form().rows(keys, self.name)
        found = np.empty(len(rows), np.int64)
        known = None
        if hashes is not None:
            known = np.ascontiguousarray(hashes, np.int64)
            if known.shape != (len(rows),):
                raise TableError(f"{self.name}: {len(rows)} keys have hashes of shape {known.shape}: give one each")
        with lent(rows, found, *(() if known is None else (known,))):
            self._bulk.lookup(
                self.address, rows.ctypes.data, rows.strides[0], len(rows), 0 if known is None else known.ctypes.data,
                found.ctypes.data, missing, slots,
            )  # fmt: skip
        return found

    def _add(self, rows: NDArray[np.uint64], values: NDArray[np.int64], slots: NDArray[np.int64], start: int) -> int:
        return int(self._bulk.add(
            self.address, rows.ctypes.data + start * rows.strides[0], rows.strides[0], len(rows) - start, 0,
            values.ctypes.data + start * 8, 8, slots.ctypes.data + start * 8, self._extra,
        ))  # fmt: skip

    def _values(self, values: Any, count: int) -> NDArray[np.int64]:
        try:
            given = np.asarray(values if isinstance(values, (np.ndarray, int)) else list(values))
            if given.dtype.kind not in "iub" and given.size:
                raise TypeError(given.dtype)
            if given.dtype == np.uint64 and given.size and int(given.max()) >= 1 << 63:
                raise OverflowError(int(given.max()))
        except (TypeError, ValueError, OverflowError) as error:
            raise TableError(f"{self.name}: values must be integers of 64 bits with sign: {error}") from None
        if given.ndim == 0:
            given = np.full(count, given)
        if given.shape != (count,):
            raise TableError(f"{self.name}: {count} keys have values of shape {given.shape}: give one each")
        return np.ascontiguousarray(given, np.int64)

    def _retire(self, slots: NDArray[np.int64], reclaimer: Reclaimer | None) -> None:
        """Let slots be used again once no worker can hold them."""
        assert reclaimer is not None
        self._head.retired += len(slots)

        def reuse() -> None:
            with self._lock, lent(slots):
                hash_bulk.give_many(self.address, slots.ctypes.data, len(slots))
                self._head.retired -= len(slots)

        reclaimer.defer(reuse)

    def _checked(self, slot: int) -> int:
        if not 0 <= slot < self.capacity:
            raise TableError(f"{self.name}: slot {slot} is not 0 to {self.capacity - 1}")
        return slot

    def _entry_address(self, slot: int) -> int:
        return int(self._first_entry + slot * self._entry_bytes)

    def _entries(self) -> NDArray[np.uint64]:
        words = self._entry_bytes // 8
        memory = np.ctypeslib.as_array((ctypes.c_uint64 * (self.capacity * words)).from_address(self._first_entry))
        return memory.reshape(self.capacity, words)

    def _bytes(self, rows: NDArray[np.uint64]) -> NDArray[np.uint8]:
        """Keys as rows of bytes, which every form takes."""
        return np.ascontiguousarray(rows).view(np.uint8)[:, : self._form().size]


_kinds: dict[tuple[Any, ...], Any] = {}


def _kind_of(cls: Any, form: KeyForm, record: Any) -> Any:
    """The class of tables with such keys and records; called like ``cls``, which is what a listing says to import."""
    if (cls, form, record) not in _kinds:
        members = {"FORM": form, "RECORD": record, "View": view_of(form, record, cls._FLOW), "__doc__": cls.__doc__}
        named = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
        _kinds[cls, form, record] = type(cls.__name__, (cls,), {**members, **named})
    return _kinds[cls, form, record]


def _entry_bytes(used: int) -> int:
    """From one entry to the next: what fits in a cache line does not lie across two."""
    return 1 << (used - 1).bit_length() if used <= 64 else used


def _only(key: tuple[Any, ...]) -> Any:
    """One key, given as it is or as its fields."""
    return key[0] if len(key) == 1 else key


__all__ = ["FILL", "MAX_CAPACITY", "HashStats", "HashTable"]

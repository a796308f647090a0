"""Many operations on a hash table in one call, for keys of one to eight words.

A lookup misses the cache twice: for its bucket and for its entry. One after the other that is the latency of memory;
so each key goes through three steps: hash and ask for the bucket; search the bucket and ask for the entry; look up. The
loop takes one step of three keys that are some way apart, so that misses are in flight all the time; taking a whole
burst through one step after the other waits at each step for its first key (65 cycles a key instead of 52).
"""
# mypy: allow-untyped-calls, allow-untyped-defs, no-warn-return-any

from functools import cache
from types import SimpleNamespace

from wirespeed.jit import kernel, load16, load32, load64, prefetch, store64
from wirespeed.tables.flow_memory import sweep, touch
from wirespeed.tables.hash_memory import (
    BUCKET_BYTES,
    HEAD_BYTES,
    PLACES,
    SECOND,
    HashHead,
    KeyWords,
    add,
    delete,
    first_bucket,
    give_slot,
    prefetch_entry,
    search,
)

_SLOTS = 16
_AHEAD = (
    16  # keys between one step and the next: 12 to 24 are the same, 8 is too few for memory, 32 too many for the CPU
)


@cache
def bulk(words: int) -> SimpleNamespace:
    """The kernels for keys of so many words; compiled when first called, then on disk.

    In all of them ``keys`` is the address of the first key, ``stride`` bytes from one to the next, and ``hashes`` the
    address of their hashes, or 0: they are computed.
    """

    @kernel
    def hash_many(table, keys, stride, count, hashes):
        key = KeyWords()
        for i in range(count):
            key.load(keys + i * stride, words)
            store64(hashes + 8 * i, key.hash(table, words))

    @kernel
    def lookup_many(table, keys, stride, count, hashes, values, missing, slots):
        """Values (or slots, if ``slots`` is 1) of keys; ``missing`` for those that are not there."""
        key = KeyWords()
        found = 0
        known = hashes if hashes != 0 else values  # computed ones wait where their results will be
        for ahead in range(count + 2 * _AHEAD):
            if ahead < count:
                if hashes != 0:
                    hash = load64(hashes + 8 * ahead)
                else:
                    key.load(keys + ahead * stride, words)
                    hash = key.hash(table, words)
                    store64(values + 8 * ahead, hash)
                prefetch(first_bucket(table, hash))
            i = ahead - _AHEAD
            if 0 <= i < count:
                prefetch_entry(table, load64(known + 8 * i), words)
            i -= _AHEAD
            if i >= 0:
                key.load(keys + i * stride, words)
                _, slot, value = search(table, load64(known + 8 * i), key, words)
                if slots != 0:
                    value = slot
                found += slot >= 0
                store64(values + 8 * i, value if slot >= 0 else missing)
        return found

    @kernel
    def add_many(table, keys, stride, count, hashes, values, step, slots, extra):
        """Add keys in order with ``values`` (``step`` bytes apart), until one is refused; how many went in."""
        key = KeyWords()
        for i in range(count):
            if i + 8 < count:
                key.load(keys + (i + 8) * stride, words)
                prefetch(first_bucket(table, key.hash(table, words)))
            key.load(keys + i * stride, words)
            hash = load64(hashes + 8 * i) if hashes != 0 else key.hash(table, words)
            slot = add(table, hash, key, words, load64(values + i * step), extra)
            if slot < 0:
                return i
            store64(slots + 8 * i, slot)
        return count

    @kernel
    def delete_many(table, keys, stride, count, hashes, slots, keep):
        """Delete keys; their slots, -1 for one that was not there. With ``keep`` the slots are not free yet."""
        key = KeyWords()
        found = 0
        for i in range(count):
            if i + 8 < count:
                key.load(keys + (i + 8) * stride, words)
                prefetch(first_bucket(table, key.hash(table, words)))
            key.load(keys + i * stride, words)
            hash = load64(hashes + 8 * i) if hashes != 0 else key.hash(table, words)
            slot = delete(table, hash, key, words, keep)
            store64(slots + 8 * i, slot)
            found += slot >= 0
        return found

    @kernel
    def touch_many(table, keys, stride, count, slots, extra, now):
        """Flow tables: a packet of each key, in order."""
        key = KeyWords()
        for i in range(count):
            key.load(keys + i * stride, words)
            store64(slots + 8 * i, touch(table, key.hash(table, words), key, words, extra, now))

    return SimpleNamespace(hash=hash_many, lookup=lookup_many, add=add_many, delete=delete_many, touch=touch_many)


@kernel
def used_slots(table, slots):
    """Write down the slots of all keys, at most as many as the table has capacity; how many."""
    head = HashHead(table)
    count = 0
    for index in range(head.buckets):
        bucket = table + HEAD_BYTES + index * BUCKET_BYTES
        for place in range(PLACES):
            if load16(bucket + (place << 1)) != 0 and count < head.capacity:
                store64(slots + 8 * count, load32(bucket + _SLOTS + (place << 2)) & (SECOND - 1))
                count += 1
    return count


@kernel
def sweep_many(table, now, buckets):
    """Flow tables: delete what is over in the next so many buckets."""
    return sweep(table, now, buckets)


@kernel
def give_many(table, slots, count):
    """Free slots that were kept."""
    for i in range(count):
        if load64(slots + 8 * i) >= 0:
            give_slot(table, load64(slots + 8 * i))

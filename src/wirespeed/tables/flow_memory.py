"""What a flow table adds to a hash table's memory: when each flow was last seen, and who goes when it is full.

The word behind the key is ``seen``: the time of the flow's last packet, in whatever unit the caller counts. A flow
whose silence reached ``idle`` counts as gone: its next packet starts it anew, and a sweep deletes it. A flow that
finds no slot takes that of the one longest silent among those in its two buckets, as a cache with sixteen ways does.
Both are bounded: a packet costs its two buckets and at times a few moves of keys, whatever strangers send.
"""
# mypy: allow-untyped-calls, allow-untyped-defs, no-warn-return-any

from wirespeed.jit import cold, inline, load16, load32, load64, store64
from wirespeed.tables.hash_memory import (
    BUCKET_BYTES,
    HEAD_BYTES,
    KEY,
    PLACES,
    SECOND,
    HashHead,
    count_up,
    entry_of,
    first_bucket,
    give_slot,
    insert,
    lock_pair,
    other_bucket,
    remove,
    search,
    tag_of,
    unlock_pair,
)

_EVICTED: int = HashHead.evicted.offset
_EXPIRED: int = HashHead.expired.offset
_SLOTS = 16
_FAR = 64  # buckets that are looked through for a flow to evict when both of the new one's are empty


@inline
def seen_at(table, slot, words):
    """Address of the word ``seen`` of a slot."""
    return entry_of(table, slot) + KEY + 8 * words


@inline
def find_live(table, hash, key, words, now):
    """The slot of a flow that is not silent too long, or -1; the flow stays as it is."""
    _, slot, _ = search(table, hash, key, words)
    if slot >= 0 and now - load64(seen_at(table, slot, words)) >= HashHead(table).idle:
        return -1
    return slot


@inline
def touch(table, hash, key, words, extra, now):
    """The slot of a flow that has a packet now: found, started anew, or added, for which another may have to go."""
    head = HashHead(table)
    many = head.many
    first = second = 0
    if many != 0:
        first = first_bucket(table, hash)
        second = other_bucket(table, first, tag_of(hash))
        lock_pair(first, second)
    _, slot, _ = search(table, hash, key, words)
    if slot >= 0:
        if now - load64(seen_at(table, slot, words)) >= head.idle:
            _start_anew(table, slot, words, extra)
        store64(seen_at(table, slot, words), now)
    else:
        if head.spare == 0 and head.fresh >= head.capacity:
            _evict(table, hash, words, now)
        slot = insert(table, hash, key, words, 0, extra, now)
    if many != 0:
        unlock_pair(first, second)
    return slot


@cold
def _start_anew(table, slot, words, extra):
    """What was silent too long is another flow with the same key."""
    entry = entry_of(table, slot)
    store64(entry, 0)
    for i in range(1, extra):
        store64(entry + KEY + (words + i) * 8, 0)
    count_up(table, _EXPIRED)


@inline
def _oldest_in(table, bucket, words, now, longest):
    """(silence, place) of the flow in a bucket that is silent longest, and longer than ``longest``; else place is -1.

    With many writers only of those whose first bucket this is: removing another changes the state of a third bucket,
    whose lock may not be taken after the two that are held.
    """
    found = -1
    skipped = SECOND if HashHead(table).many != 0 else 0
    for place in range(PLACES):
        word = load32(bucket + _SLOTS + (place << 2))
        if load16(bucket + (place << 1)) != 0 and word & skipped == 0:
            silence = now - load64(seen_at(table, word & (SECOND - 1), words))
            if silence > longest:
                longest, found = silence, place
    return longest, found


@cold
def _evict(table, hash, words, now):
    """Delete the longest silent flow of a new one's two buckets (locked, with many writers).

    With one writer, where both are empty (a table of few keys), the next buckets are looked through.
    """
    bucket = first = first_bucket(table, hash)
    second = other_bucket(table, first, tag_of(hash))
    longest, place = _oldest_in(table, first, words, now, -(1 << 62))
    longest, there = _oldest_in(table, second, words, now, longest)
    if there >= 0:
        bucket, place = second, there
    if HashHead(table).many == 0:
        last = table + HEAD_BYTES + (HashHead(table).buckets - 1) * BUCKET_BYTES
        for _ in range(_FAR):
            if place >= 0:
                break
            bucket = bucket + BUCKET_BYTES if bucket < last else table + HEAD_BYTES
            longest, place = _oldest_in(table, bucket, words, now, longest)
    if place >= 0:
        slot = load32(bucket + _SLOTS + (place << 2)) & (SECOND - 1)
        remove(table, bucket, place)
        give_slot(table, slot)
        count_up(table, _EVICTED)


@cold
def _sweep(table, words, now, buckets):
    """Delete what is silent too long in the next ``buckets`` buckets; how many flows that were."""
    head = HashHead(table)
    many = head.many
    gone = 0
    index = head.cursor
    for _ in range(min(buckets, head.buckets)):
        bucket = table + HEAD_BYTES + index * BUCKET_BYTES
        for place in range(PLACES):
            tag = load16(bucket + (place << 1))
            if tag == 0:
                continue
            word = load32(bucket + _SLOTS + (place << 2))
            if now - load64(seen_at(table, word & (SECOND - 1), words)) < head.idle:
                continue
            other = other_bucket(table, bucket, tag)
            if many != 0:
                lock_pair(bucket, other)
            if (
                load16(bucket + (place << 1)) == tag
                and load32(bucket + _SLOTS + (place << 2)) == word
                and now - load64(seen_at(table, word & (SECOND - 1), words)) >= head.idle
            ):
                remove(table, bucket, place)
                give_slot(table, word & (SECOND - 1))
                count_up(table, _EXPIRED)
                gone += 1
            if many != 0:
                unlock_pair(bucket, other)
        index = index + 1 if index + 1 < head.buckets else 0
    head.cursor = index
    return gone


@inline
def sweep(table, now, buckets):
    """Delete what is silent too long in the next ``buckets`` buckets; how many flows that were."""
    return _sweep(table, HashHead(table).words, now, buckets)

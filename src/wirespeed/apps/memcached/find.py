"""A key's hash, its bucket, its item.

Keys are 1 to 250 bytes of a datagram, or of an item. In front of both are at least eight bytes that may be read (the
datagram's frame, the item's head), so that the last bytes of a key are one load, shifted.
"""
# mypy: no-warn-return-any

from wirespeed.apps.memcached.layout import TABLE, ItemView, ShardView
from wirespeed.apps.memcached.state import ServerView
from wirespeed.jit import cold, inline, load32, load64, match16, multiply_fold, shift_right, trailing_zeros
from wirespeed.tables.hash_memory import (
    SECOND,
    SLOTS,
    HashHead,
    first_bucket,
    other_bucket,
    overflows,
    tag_of,
)


@inline
def key_hash(store: int, key: int, length: int) -> int:
    """64 bits of a key with the store's secrets, which all shards share: wyhash's construction, as for other tables."""
    head = HashHead(store + TABLE)
    one, two = head.secret1, head.secret2
    h = head.secret0 ^ length
    end = key + length
    while end - key > 16:
        h = multiply_fold(load64(key) ^ one, load64(key + 8) ^ h)
        key += 16
    if end - key >= 8:
        h = multiply_fold(load64(key) ^ two, load64(end - 8) ^ h)
    else:
        h = multiply_fold(last_bytes(end, end - key) ^ two, h)
    return multiply_fold(h, one | 1)


@inline
def last_bytes(end: int, count: int) -> int:
    """The 1 to 8 bytes before ``end`` as a little-endian number; of ``count`` 0, 0."""
    return shift_right(load64(end - 8), 64 - (count << 3)) if count != 0 else 0


@inline
def same_key(a: int, b: int, length: int) -> bool:
    """Whether two keys of one length are equal."""
    at = 0
    while at + 8 <= length:
        if load64(a + at) != load64(b + at):
            return False
        at += 8
    rest = length & 7
    return rest == 0 or last_bytes(a + length, rest) == last_bytes(b + length, rest)


@inline
def _probe(shard: ShardView, bucket: int, tag: int, key: int, length: int) -> tuple[int, int]:
    """(place, address of the item) of a key in a bucket; (-1, 0): it is not there."""
    hits = match16(bucket, tag)
    while hits != 0:
        place = trailing_zeros(hits)
        item = shard.item(load32(bucket + SLOTS + (place << 2)) & (SECOND - 1))
        if item.key_bytes == length and same_key(item.text, key, length):
            return place, item.address
        hits &= hits - 1
    return -1, 0


@inline
def find(shard: ShardView, hash: int, key: int, length: int) -> tuple[int, int, int]:
    """(bucket, place, address of the item) of a key; the address is 0 if it is not there. Also finds dead items."""
    table = shard.address + TABLE
    tag = tag_of(hash)
    bucket = first_bucket(table, hash)
    place, item = _probe(shard, bucket, tag, key, length)
    if item == 0 and overflows(bucket):
        bucket = other_bucket(table, bucket, tag)
        place, item = _probe(shard, bucket, tag, key, length)
    return bucket, place, item


@cold
def locate(shard: ShardView, item: ItemView) -> tuple[int, int]:
    """(bucket, place) of an item that is in the table."""
    table, slot = shard.address + TABLE, shard.slot(item.address)
    hash = key_hash(shard.address, item.text, item.key_bytes)
    tag = tag_of(hash)
    first = first_bucket(table, hash)
    for bucket in (first, other_bucket(table, first, tag)):
        hits = match16(bucket, tag)
        while hits != 0:
            place = trailing_zeros(hits)
            if load32(bucket + SLOTS + (place << 2)) & (SECOND - 1) == slot:
                return bucket, place
            hits &= hits - 1
    return 0, 0


@inline
def item_ahead(state: ServerView, hash: int, bucket: int) -> tuple[int, int]:
    """(the item that a search of one of its key's buckets will compare with, 0), or, if that is the first and the key
    may be in the second, (the bucket, the second). The bucket should be here."""
    shard = state.shard_of(hash)
    tag = tag_of(hash)
    hits = match16(bucket, tag)
    if hits != 0:
        return shard.item(load32(bucket + SLOTS + (trailing_zeros(hits) << 2)) & (SECOND - 1)).address, 0
    if overflows(bucket):
        table = shard.address + TABLE
        if bucket == first_bucket(table, hash):
            return bucket, other_bucket(table, bucket, tag)
    return bucket, 0


__all__ = ["find", "item_ahead", "key_hash", "last_bytes", "locate", "same_key"]

"""Commands that change an item: storing, deleting, counting, touching; each on one key, under its shard's lock.

All of them are one function, :func:`change`, with one search and one place where an item is made: whatever is called
from several places is compiled several times.
"""
# mypy: no-warn-return-any

from wirespeed.apps.memcached.find import find, key_hash
from wirespeed.apps.memcached.items import class_of, drop, is_dead, link, take
from wirespeed.apps.memcached.layout import TEXT, VALUE_MAX, ItemView, ShardView
from wirespeed.apps.memcached.parse import digits_of, is_below, read_number, write_number
from wirespeed.apps.memcached.state import ServerView
from wirespeed.apps.memcached.texts import (
    DELETED,
    EXISTS,
    NOT_A_NUMBER,
    NOT_FOUND,
    NOT_STORED,
    NUMBER,
    STORED,
    TOO_LARGE,
    TOUCHED,
)
from wirespeed.jit import add, cold, copy, fill, inline, store8, store16
from wirespeed.sync.spinlock import SpinLockView

SET, ADD, REPLACE, CAS, APPEND, PREPEND, DELETE, FORGET, TOUCH, INCR, DECR = range(11)
"""What to do with a key; FORGET: what DELETE does, and nobody asked for it."""


@inline
def lock(state: ServerView, shard: ShardView) -> None:
    """Take a shard's lock if there are several workers."""
    if state.locked != 0:
        SpinLockView(shard.address).lock(state.me)


@inline
def unlock(state: ServerView, shard: ShardView) -> None:
    """Give it back."""
    if state.locked != 0:
        SpinLockView(shard.address).unlock()


@cold
def flush_due(shard: ShardView, now: int) -> None:
    """Do the flush that was asked for later, if its time has come."""
    if shard.flush_at != 0 and shard.flush_at <= now:
        shard.flushed, shard.flush_at = shard.cas, 0


@cold
def find_live(state: ServerView, shard: ShardView, hash: int, key: int, length: int) -> tuple[int, int, int]:
    """:func:`~wirespeed.apps.memcached.find.find`; what has died is taken out on the way."""
    if shard.flush_at != 0:
        flush_due(shard, state.now)
    bucket, place, found = find(shard, hash, key, length)
    if found != 0 and is_dead(shard, ItemView(found), state.now):
        drop(shard, bucket, place, ItemView(found))
        return 0, 0, 0
    return bucket, place, found


@inline
def _new_number(shard: ShardView) -> int:
    shard.cas += 1
    return shard.cas


@cold
def _write_head(item: ItemView, flags: int, expiry: int, size: int) -> int:
    """All of an item but its key, number and value; the address of the value. The key's length is there."""
    item.expiry = expiry
    item.flags = flags
    item.value_bytes = size
    at = item.text + item.key_bytes
    start = at
    store8(at, 0x20)
    at = write_number(at + 1, flags, digits_of(flags))
    store8(at, 0x20)
    at = write_number(at + 1, size, digits_of(size))
    store16(at, 0x0A0D)
    item.middle = at + 2 - start
    store16(at + 2 + size, 0x0A0D)
    return at + 2


@inline
def item_bytes(length: int, flags: int, size: int) -> int:
    """Of an item with such a key and value."""
    return TEXT + length + 1 + digits_of(flags) + 1 + digits_of(size) + 2 + size + 2


@cold
def _put(
    state: ServerView, shard: ShardView, hash: int, key: int, length: int, bucket: int, place: int, found: int,
    flags: int, expiry: int, size: int,
) -> int:  # fmt: skip
    """Make the item of a key, in place of what is ``found``; the address for its value, which the caller writes."""
    kind = class_of(shard, item_bytes(length, flags, size))
    if found != 0 and ItemView(found).kind == kind:
        item = ItemView(found)
        shard.used_bytes -= TEXT + item.text_bytes
        value = _write_head(item, flags, expiry, size)
        shard.used_bytes += TEXT + item.text_bytes
        shard.total_items += 1
        item.cas = _new_number(shard)
        return value
    if found != 0:
        drop(shard, bucket, place, ItemView(found))
    item = ItemView(take(shard, kind, state.now))
    item.key_bytes = length
    copy(item.text, key, length)
    value = _write_head(item, flags, expiry, size)
    item.cas = _new_number(shard)
    link(shard, hash, item, state.now)
    return value


@cold
def change(
    state: ServerView, what: int, key: int, length: int, flags: int, expiry: int, size: int, unique: int, data: int
) -> int:
    """Do ``what`` with a key; the text to be said of it, or ``NUMBER``: it is ``state.result``.

    Args:
        flags, expiry, size, data: of what is to be stored: ``size`` bytes at ``data``, at most ``VALUE_MAX``.
        unique: the number of the item that cas replaces, or what incr and decr add and subtract.
    """
    hash = key_hash(state.store, key, length)
    shard = state.shard_of(hash)
    lock(state, shard)
    bucket, place, found = find_live(state, shard, hash, key, length)
    if what <= PREPEND:
        state.cmd_set += 1
        said = _may_store(state, what, found, unique)
    elif what <= FORGET:
        said = _delete(state, shard, what, bucket, place, found)
    elif what == TOUCH:
        said = _touch(state, found, expiry)
    else:
        said = _count(state, shard, what == INCR, found, unique)
    if said == STORED or (said == NUMBER and state.grown != 0):
        if what > CAS:  # the new value is made of the old one
            if what <= PREPEND:
                said, size = _join(state, what, ItemView(found), size, data)
            else:
                size = state.grown
            data, flags, expiry = joined(state), ItemView(found).flags, ItemView(found).expiry
        if said != TOO_LARGE:
            value = _put(state, shard, hash, key, length, bucket, place, found, flags, expiry, size)
            copy(value, data, size)
    unlock(state, shard)
    return said


@inline
def joined(state: ServerView) -> int:
    """Address of memory for a value that is put together from the one that is there: to make room for the new item the
    old one may give way."""
    return state.answer + state.answer_max


@inline
def _may_store(state: ServerView, what: int, found: int, unique: int) -> int:
    """STORED, or why not."""
    if what == CAS:
        if found == 0:
            state.cas_misses += 1
            return NOT_FOUND
        if ItemView(found).cas != unique:
            state.cas_badval += 1
            return EXISTS
        state.cas_hits += 1
        return STORED
    if what == SET or (what == ADD) == (found == 0):
        return STORED
    return NOT_STORED


@inline
def _join(state: ServerView, what: int, item: ItemView, size: int, data: int) -> tuple[int, int]:
    """Put together a value and what goes before or behind it: (STORED, its size), or why not."""
    old = item.value_bytes
    if old + size > VALUE_MAX:
        return TOO_LARGE, 0
    copy(joined(state) + (size if what == PREPEND else 0), item.value, old)
    copy(joined(state) + (old if what == APPEND else 0), data, size)
    return STORED, old + size


@inline
def _delete(state: ServerView, shard: ShardView, what: int, bucket: int, place: int, found: int) -> int:
    if found == 0:
        if what == DELETE:
            state.delete_misses += 1
        return NOT_FOUND
    if what == DELETE:
        state.delete_hits += 1
    drop(shard, bucket, place, ItemView(found))
    return DELETED


@inline
def _touch(state: ServerView, found: int, expiry: int) -> int:
    state.cmd_touch += 1
    if found == 0:
        state.touch_misses += 1
        return NOT_FOUND
    state.touch_hits += 1
    ItemView(found).expiry = expiry
    ItemView(found).used = 1
    return TOUCHED


@inline
def _count(state: ServerView, shard: ShardView, up: bool, found: int, delta: int) -> int:
    """incr and decr: 64 bits, which wrap upwards and stop at 0 downwards.

    A number that became shorter is padded with spaces behind, as memcached does it; for one that became longer
    ``state.grown`` is set to its length, and it is where :func:`joined` says.
    """
    state.grown = 0
    if found == 0:
        if up:
            state.incr_misses += 1
        else:
            state.decr_misses += 1
        return NOT_FOUND
    item = ItemView(found)
    value, good = read_number(item.value, item.value + item.value_bytes, False)
    if not good:
        return NOT_A_NUMBER
    if up:
        state.incr_hits += 1
        value = add(value, delta)
    else:
        state.decr_hits += 1
        value = 0 if is_below(value, delta) else add(value, -delta)
    state.result = value
    digits, size = digits_of(value), item.value_bytes
    if digits > size:
        state.grown = digits
        write_number(joined(state), value, digits)
    else:
        item.cas = _new_number(shard)
        item.used = 1
        fill(write_number(item.value, value, digits), 0x20, size - digits)
    return NUMBER


__all__ = [
    "ADD", "APPEND", "CAS", "DECR", "DELETE", "FORGET", "INCR", "PREPEND", "REPLACE", "SET", "TOUCH", "change",
    "find_live", "item_bytes", "lock", "unlock",
]  # fmt: skip

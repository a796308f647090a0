"""Memory of items: pages cut into chunks of one size each, given out, given back, and taken from what nobody asks for.

A chunk comes from, in this order: the class's free ones; what was never used of its last page; a page that no class
has; a page of a class that has more than its share; or an item gives way to the new one. Which one says a clock
(Corbató, "A paging experiment with the Multics system", 1968): a hand goes round the chunks of the class, spares what
was asked for since it last came by, and takes what was not, or has expired.

A class's share follows what is stored: each counts the bytes it allocated lately, and who evicts although another
class has more than twice as many pages for its demand gets one of that one's pages.

All of this happens under the shard's lock.
"""
# mypy: no-warn-return-any

from wirespeed.apps.memcached.find import locate
from wirespeed.apps.memcached.layout import (
    CHUNKS,
    CLASS_MAP,
    GRANULE_BITS,
    PAGE_BYTES,
    TABLE,
    TEXT,
    ClassView,
    ItemView,
    ShardView,
)
from wirespeed.jit import cold, inline, load8, load16, load32
from wirespeed.tables.hash_memory import (
    PLACES,
    SECOND,
    SLOTS,
    first_bucket,
    make_room,
    other_bucket,
    put_in,
    remove,
    tag_of,
)

_KINDS = len(CHUNKS)
_STEPS = 64  # chunks the hand spares before it takes one all the same
_REVIEW = 64  # evictions of a class between looking whether another has too much
_HALVE = 1 << 16  # chunks given out between halving what counts as lately


@inline
def class_of(shard: ShardView, size: int) -> int:
    """The class of an item of so many bytes, head included."""
    return load8(shard.address + CLASS_MAP + ((size + (1 << GRANULE_BITS) - 1) >> GRANULE_BITS))


@inline
def is_dead(shard: ShardView, item: ItemView, now: int) -> bool:
    """Whether an item has expired or was flushed."""
    expiry = item.expiry
    return (expiry != 0) & (expiry <= now) | (item.cas <= shard.flushed)


# In and out of the table ------------------------------------------------------------------------------------------


@cold
def unlink(shard: ShardView, bucket: int, place: int, item: ItemView) -> None:
    """Take an item out of the table; its chunk is the caller's."""
    remove(shard.address + TABLE, bucket, place)
    item.live = 0
    shard.items -= 1
    shard.used_bytes -= TEXT + item.text_bytes


@cold
def drop(shard: ShardView, bucket: int, place: int, item: ItemView) -> None:
    """Take an item out of the table and give its chunk back."""
    unlink(shard, bucket, place, item)
    give(shard, item)


@cold
def link(shard: ShardView, hash: int, item: ItemView, now: int) -> None:
    """Put an item, whose key is not there, into the table. Where its buckets are full and stay so, one gives way."""
    table = shard.address + TABLE
    tag = tag_of(hash)
    first = first_bucket(table, hash)
    second = other_bucket(table, first, tag)
    slot = shard.slot(item.address)
    if not put_in(table, first, second, tag, slot):
        if shard.items >= shard.capacity or make_room(table, first, second) == 0:
            _clear_place(shard, first, now)
        if not put_in(table, first, second, tag, slot):
            _clear_place(shard, first, now)
            put_in(table, first, second, tag, slot)
    item.live = 1
    shard.items += 1
    shard.total_items += 1
    shard.used_bytes += TEXT + item.text_bytes


@cold
def _clear_place(shard: ShardView, bucket: int, now: int) -> None:
    """Empty a place of a full bucket: of what is dead, or was not asked for, if there is such."""
    chosen = 0
    for place in range(PLACES):
        item = shard.item(load32(bucket + SLOTS + (place << 2)) & (SECOND - 1))
        if is_dead(shard, item, now) or item.used == 0:
            chosen = place
        item.used = 0
    if load16(bucket + (chosen << 1)) != 0:
        item = shard.item(load32(bucket + SLOTS + (chosen << 2)) & (SECOND - 1))
        _count_out(shard, item, now)
        drop(shard, bucket, chosen, item)


@inline
def _count_out(shard: ShardView, item: ItemView, now: int) -> None:
    if is_dead(shard, item, now):
        shard.reclaimed += 1
    else:
        shard.evictions += 1
        shard.class_at(item.kind).evicted += 1


# Chunks -----------------------------------------------------------------------------------------------------------


@cold
def give(shard: ShardView, item: ItemView) -> None:
    """Give a chunk back to its class."""
    kind = shard.class_at(item.kind)
    head, slot = kind.free, shard.slot(item.address)
    item.live = 0
    item.next = head
    item.before = 0
    if head != 0:
        shard.item(head - 1).before = slot + 1
    kind.free = slot + 1


@cold
def _take_free(shard: ShardView, kind: ClassView, item: ItemView) -> None:
    """Take a chunk out of the list of free ones."""
    after, before = item.next, item.before
    if before != 0:
        shard.item(before - 1).next = after
    else:
        kind.free = after
    if after != 0:
        shard.item(after - 1).before = before


@cold
def take(shard: ShardView, number: int, now: int) -> int:
    """Address of a chunk of class ``number``, of which nothing else is known; something may have given way to it."""
    kind = shard.class_at(number)
    shard.allocated += 1
    kind.demand += kind.chunk
    if shard.allocated >= _HALVE:
        shard.allocated = 0
        for each in range(_KINDS):
            shard.class_at(each).demand >>= 1
    if kind.free == 0 and kind.fresh == kind.fresh_end:
        if shard.page_used < shard.page_count:
            shard.page_used += 1
            _adopt(shard, number, shard.page_used - 1)
        else:
            rich = _richest(shard, number) if kind.pages == 0 or kind.evicted & (_REVIEW - 1) == _REVIEW - 1 else -1
            if rich >= 0:
                _adopt(shard, number, _strip(shard, rich, now))
            else:
                _evict(shard, kind, now)
    if kind.free != 0:
        item = shard.item(kind.free - 1)
        _take_free(shard, kind, item)
    else:
        item = ItemView(kind.fresh)
        kind.fresh += kind.chunk
    item.kind = number
    item.used = 0
    return item.address


@cold
def _evict(shard: ShardView, kind: ClassView, now: int) -> None:
    """Give back the chunk of an item of a class that has no free chunk, so that each of its chunks is an item."""
    for step in range(_STEPS):
        page = shard.page(kind.last).next
        item = ItemView(shard.page_start(page) + kind.hand)
        kind.hand += kind.chunk
        if kind.hand + kind.chunk > PAGE_BYTES:
            kind.hand = 0
            kind.last = page
        if item.used == 0 or step == _STEPS - 1 or is_dead(shard, item, now):
            bucket, place = locate(shard, item)
            _count_out(shard, item, now)
            drop(shard, bucket, place, item)
            return
        item.used = 0


# Pages ------------------------------------------------------------------------------------------------------------


@cold
def _adopt(shard: ShardView, number: int, page: int) -> None:
    """Give a page, in which nothing is, to a class that has no chunk left."""
    kind, record = shard.class_at(number), shard.page(page)
    record.kind = number
    if kind.pages == 0:
        record.next = page
        kind.hand = 0
    else:
        before = shard.page(kind.last)
        record.next = before.next
        before.next = page
    kind.last = page  # the hand comes to it last
    kind.pages += 1
    start, count = shard.page_start(page), PAGE_BYTES // kind.chunk
    for index in range(count):
        ItemView(start + index * kind.chunk).live = 0
    kind.fresh, kind.fresh_end = start, start + count * kind.chunk


@cold
def _richest(shard: ShardView, number: int) -> int:
    """The class that has most pages for its demand, if it is more than twice what ``number`` has; else -1."""
    kind = shard.class_at(number)
    best, best_pages, best_demand = -1, kind.pages * 2, kind.demand + 1
    for each in range(_KINDS):
        other = shard.class_at(each)
        if each != number and other.pages > (kind.pages != 0):
            if other.pages * best_demand > best_pages * (other.demand + 1):
                best, best_pages, best_demand = each, other.pages, other.demand + 1
    return best


@cold
def _strip(shard: ShardView, number: int, now: int) -> int:
    """Take the page at the hand from a class, with all that is in it; its number."""
    kind = shard.class_at(number)
    page = shard.page(kind.last).next
    start = shard.page_start(page)
    fresh = kind.fresh if start <= kind.fresh < start + PAGE_BYTES and kind.fresh != kind.fresh_end else 0
    for index in range(PAGE_BYTES // kind.chunk):
        item = ItemView(start + index * kind.chunk)
        if item.live != 0:
            bucket, place = locate(shard, item)
            _count_out(shard, item, now)
            unlink(shard, bucket, place, item)
        elif fresh == 0 or item.address < fresh:
            _take_free(shard, kind, item)
    if fresh != 0:
        kind.fresh = kind.fresh_end = 0
    shard.page(kind.last).next = shard.page(page).next
    kind.hand = 0
    kind.pages -= 1
    shard.moved += 1
    return page


__all__ = ["class_of", "drop", "is_dead", "link", "take"]

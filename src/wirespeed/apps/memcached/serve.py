"""From a request to its answer.

The common request, ``get`` of one key that is there, is answered here: the key is what stands between ``get`` and the
end of the datagram, and if an item has that key it needs no further look, for items have no keys but good ones. All
else is read word by word (:mod:`wirespeed.apps.memcached.commands`), from a copy: the answer is written where the
request lies.
"""
# mypy: no-warn-return-any

from wirespeed.apps.memcached.commands import run
from wirespeed.apps.memcached.find import find, item_ahead, key_hash
from wirespeed.apps.memcached.items import is_dead
from wirespeed.apps.memcached.layout import KEY_MAX, TABLE, ItemView
from wirespeed.apps.memcached.parse import text
from wirespeed.apps.memcached.state import AHEAD, ASKED, GROUP, INCOMPLETE, PLACES, SEVERAL, SHORT, ServerView
from wirespeed.apps.memcached.updates import lock, unlock
from wirespeed.jit import cold, copy, copy32, inline, load8, load16, load32, load64, prefetch, store64
from wirespeed.tables.hash_memory import first_bucket
from wirespeed.wire.memcached import DATAGRAM_MAX, MemcachedFrame

_FRAME = MemcachedFrame.SIZE
_DATAGRAMS = MemcachedFrame.datagrams.offset
_ONE = 0x0100  # as it stands in memory
_GET, _SET, _GAT = text("get "), text("set "), text("gat")
_SPACE = 0x20
_VALUE = text("VALUE ")
_END = text("END\r\n")
_LINE_END = 0x0A0D
_LEAST = _FRAME + 4 + 1 + 2  # "get", a key of one byte
_AROUND = _FRAME + 6 + 5  # what an answer has besides the item's text
_SPARE = 32  # bytes that may be written behind an answer: it is copied in steps of so many


@inline
def serve(state: ServerView, request: int, length: int, reply: int, room: int) -> int:
    """Answer one request. If ``state.left`` is not 0 afterwards, that was the first datagram of the answer: send it,
    and get the others by :func:`more`.

    Args:
        state: the worker's.
        request: address of the datagram's payload, ``length`` bytes.
        reply: where the answer is written, ``room`` bytes at most; may be ``request``.

    Returns:
        Bytes of the reply; 0: none is wanted; negative: ``DROPS[-1 - n]``.
    """
    if state.fetched != state.asked:
        _fetch_buckets(state)
        _fetch_items(state, min(state.fetched + GROUP, state.asked))
    state.requests += 1
    state.bytes_read += length
    size = length - _FRAME - 4 - 2
    if length >= _LEAST and size <= KEY_MAX and load32(request + _FRAME) == _GET:
        if load16(request + _DATAGRAMS) == _ONE and load16(request + length - 2) == _LINE_END:
            done = _get(state, request, request + _FRAME + 4, size, reply, room)
            if done != 0:
                return done
    return _all_else(state, request, length, reply, room)


@inline
def _get(state: ServerView, request: int, key: int, length: int, reply: int, room: int) -> int:
    """The answer to a get of one key that is there, in one datagram; else 0."""
    hash = key_hash(state.store, key, length)
    shard = state.shard_of(hash)
    done = 0
    lock(state, shard)
    _, _, found = find(shard, hash, key, length)
    if found != 0 and shard.flush_at == 0:
        item = ItemView(found)
        size = item.text_bytes
        if not is_dead(shard, item, state.now) and _AROUND + _SPARE + size <= min(room, DATAGRAM_MAX + _SPARE):
            id = load16(request)
            store64(reply, id | _ONE << 32)
            store64(reply + _FRAME, _VALUE)
            for at in range(0, size, 32):
                copy32(reply + _FRAME + 6 + at, item.text + at)
            store64(reply + _FRAME + 6 + size, _END)
            if item.used == 0:
                item.used = 1
            done = _AROUND + size
    unlock(state, shard)
    if done != 0:
        state.cmd_get += 1
        state.get_hits += 1
        state.bytes_written += done
    return done


@inline
def ahead(state: ServerView, request: int, length: int) -> None:
    """Ask for the memory that :func:`serve` will read for a get or set: this request's bucket, and the item of one that
    came ``AHEAD`` requests ago or more. Call it for each request of a burst first; the last items are asked for by the
    first calls of :func:`serve`.

    Keys are only noted, and what they need is asked for in groups. Asking waits until the processor knows the page's
    address, which takes a walk through the page table where items are many, and walks run beside each other only if
    little else is between them.
    """
    if length < _LEAST:
        return
    key, size = request + _FRAME + 4, length - _FRAME - 4 - 2
    word = load32(request + _FRAME)
    if word == _SET:
        size = _key_bytes(key, request + length)
    if (word != _GET and word != _SET) or size > KEY_MAX:
        return
    hash = key_hash(state.store, key, size)
    _ask(state, hash, first_bucket(state.shard_of(hash).address + TABLE, hash))
    if state.asked - state.reached >= GROUP:
        _fetch_buckets(state)
        if state.asked - state.fetched >= AHEAD + GROUP:
            _fetch_items(state, state.asked - AHEAD)


@inline
def _ask(state: ServerView, hash: int, bucket: int) -> None:
    """Note a key and one of its buckets."""
    place = _place(state, state.asked)
    store64(place, hash)
    store64(place + 8, bucket)
    state.asked += 1


@inline
def shard_number(state: ServerView, request: int, length: int) -> int:
    """The number of the shard that a request is about: its first key's; any, if it has none."""
    if length < _LEAST:
        return 0
    key, end = request + _FRAME + 4, request + length - 2
    word = load32(request + _FRAME)
    if word != _GET and word != _SET:
        key = _first_key(request + _FRAME, end)
    size = min(_key_bytes(key, end), KEY_MAX)
    return state.number_of(key_hash(state.store, key, size)) if size > 0 else 0


@cold
def _first_key(at: int, end: int) -> int:
    """Where the second word of a line begins; the third of gat and gats, which have a time before it."""
    skip = 2 if load32(at) & 0xFFFFFF == _GAT else 1
    while skip > 0 and at < end:
        at += _key_bytes(at, end)
        while at < end and load8(at) == _SPACE:
            at += 1
        skip -= 1
    return at


@inline
def _key_bytes(key: int, end: int) -> int:
    """Bytes before the first space; some number beyond the longest key if there is none."""
    size = 0
    while size <= KEY_MAX and key + size < end and load8(key + size) != _SPACE:
        size += 1
    return size


@cold
def _fetch_buckets(state: ServerView) -> None:
    """Ask for the buckets that were noted since the last time."""
    for number in range(state.reached, state.asked):
        prefetch(load64(_place(state, number) + 8))
    state.reached = state.asked


@cold
def _fetch_items(state: ServerView, until: int) -> None:
    """Ask for the items of buckets that were asked for before, or, if one is not there, for its second bucket."""
    for number in range(state.fetched, until):
        place = _place(state, number)
        hash = load64(place)
        item, second = item_ahead(state, hash, load64(place + 8))
        store64(place, item)
        if second != 0 and state.asked - state.fetched < PLACES:
            prefetch(second)
            _ask(state, hash, second)
    for number in range(state.fetched, until):
        prefetch(load64(_place(state, number)))
    for number in range(state.fetched, until):
        item = load64(_place(state, number))
        prefetch(item + 64)
        prefetch(item + 128)
    state.fetched = until


@inline
def _place(state: ServerView, number: int) -> int:
    """Where a key is noted: its hash, later its item; and its bucket."""
    return state.address + ASKED + ((number & (PLACES - 1)) << 4)


@cold
def _all_else(state: ServerView, request: int, length: int, reply: int, room: int) -> int:
    """Any request but the common one."""
    if length < _FRAME + 1 or room < _FRAME + 128:
        state.dropped += 1
        return SHORT
    state.out, state.out_end = state.answer, state.answer + state.answer_max
    state.request_id = load16(request)
    if load16(request + _DATAGRAMS) != _ONE:
        state.multi_packet += 1
        return SEVERAL
    copy(state.scratch, request, length)
    complete = run(state, state.scratch + _FRAME, state.scratch + length)
    state.left = state.out - state.answer
    if state.left == 0:
        if complete == 0:
            state.dropped += 1
            return INCOMPLETE
        return 0
    part = min(room, DATAGRAM_MAX) - _FRAME
    state.sequence = 0
    state.datagrams = (state.left + part - 1) // part
    state.out = state.answer
    return more(state, reply, room)


@cold
def more(state: ServerView, reply: int, room: int) -> int:
    """The next datagram of an answer of several; its bytes. ``state.left`` is 0 behind the last."""
    part = min(min(room, DATAGRAM_MAX) - _FRAME, state.left)
    store64(reply, state.request_id)
    frame = MemcachedFrame(reply)
    frame.sequence = state.sequence
    frame.datagrams = state.datagrams
    copy(reply + _FRAME, state.out, part)
    state.out += part
    state.left -= part
    state.sequence += 1
    state.bytes_written += _FRAME + part
    return _FRAME + part


__all__ = ["ahead", "more", "serve", "shard_number"]

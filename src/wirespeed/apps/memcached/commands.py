"""The text protocol, doc/protocol.txt of memcached: every command, one datagram's worth of them.

Each command reads from the request and appends to the answer, which is elsewhere. How commands that are none are
answered, word for word, is memcached's. A command gives the number of the text to be said, which is said in one place.
"""
# mypy: no-warn-return-any

from wirespeed.apps.memcached import texts
from wirespeed.apps.memcached.find import key_hash
from wirespeed.apps.memcached.layout import KEY_MAX, VALUE_MAX, ItemView, ShardView
from wirespeed.apps.memcached.parse import (
    digits_of,
    next_word,
    read_line,
    read_number,
    text,
    word_text,
    write_number,
)
from wirespeed.apps.memcached.state import COUNTERS, STATE_BYTES, ServerView
from wirespeed.apps.memcached.texts import say, say_figures
from wirespeed.apps.memcached.updates import (
    ADD,
    APPEND,
    CAS,
    DECR,
    DELETE,
    FORGET,
    INCR,
    PREPEND,
    REPLACE,
    SET,
    TOUCH,
    change,
    find_live,
    lock,
    unlock,
)
from wirespeed.jit import cold, copy, fill, load8, load16, store8, store64

_GET, _GETS, _GAT, _GATS = text("get"), text("gets"), text("gat"), text("gats")
_SET, _ADD, _REPLACE, _APPEND, _PREPEND, _CAS = map(text, ("set", "add", "replace", "append", "prepend", "cas"))
_DELETE, _INCR, _DECR, _TOUCH = map(text, ("delete", "incr", "decr", "touch"))
_STATS, _RESET, _FLUSH, _VERSION, _VERBOSITY = map(text, ("stats", "reset", "flush_all", "version", "verbosity"))
_NOREPLY = text("noreply")
_VALUE = text("VALUE ")
_MONTH_S = 60 * 60 * 24 * 30
_COUNTED = ServerView.requests.offset
_COUNTED_BYTES = 8 * len(COUNTERS)
_LINE_END = 0x0A0D


@cold
def run(state: ServerView, at: int, end: int) -> int:
    """All commands from ``at`` to ``end``; 0 if the last one has no end."""
    while at < end:
        words, feed = read_line(state, at, end)
        if feed == 0:
            return 0
        state.quiet = 0
        at = feed + 1
        what = _what(state, words)
        if 0 <= what <= PREPEND:
            said, at = _store(state, what, words, at, end)
        elif what >= 0:
            said = _change(state, what, words)
        else:
            said = _other(state, words, feed)
        if at == 0:
            return 0
        say(state, said)
    return 1


@cold
def _what(state: ServerView, words: int) -> int:
    """Which change a line asks for; -1: another command, or none."""
    if words == 0:
        return -1
    name, length = word_text(state, 0), state.word_bytes(0)
    what = -1
    if length == 3:
        what = SET if name == _SET else ADD if name == _ADD else CAS if name == _CAS else -1
    elif length == 6:
        what = APPEND if name == _APPEND else DELETE if name == _DELETE else -1
    elif length == 7:
        what = REPLACE if name == _REPLACE else PREPEND if name == _PREPEND else -1
    elif length == 4:
        what = INCR if name == _INCR else DECR if name == _DECR else -1
    elif length == 5 and name == _TOUCH:
        what = TOUCH
    return what


@cold
def expiry_of(state: ServerView, given: int) -> int:
    """The time at which an item dies that is to live until ``given``: seconds from now if that is at most 30 days,
    Unix time if it is more. 0 never, and what is over is 1, which always has been."""
    given &= 0xFFFF_FFFF
    if given == 0:
        return 0
    if given >= 1 << 31:
        return 1
    if given > _MONTH_S:
        return given if given > state.started else 1
    return state.now + given


@cold
def _is_quiet(state: ServerView, words: int) -> int:
    """Whether the last word of the line is ``noreply``."""
    return 1 if word_text(state, words - 1) == _NOREPLY and state.word_bytes(words - 1) == 7 else 0


@cold
def _number(state: ServerView, index: int, signed: bool) -> tuple[int, bool]:
    start = state.word(index)
    return read_number(start, start + state.word_bytes(index), signed)


@cold
def _number32(state: ServerView, index: int) -> tuple[int, bool]:
    """The same, of which only 32 bits count."""
    value, good = _number(state, index, True)
    return ((value & 0xFFFF_FFFF) ^ 1 << 31) - (1 << 31), good


@cold
def _other(state: ServerView, words: int, feed: int) -> int:
    """Commands that change no single key."""
    if words == 0:
        return texts.ERROR
    name, length = word_text(state, 0), state.word_bytes(0)
    touching = (name == _GAT and length == 3) or (name == _GATS and length == 4)
    if touching or (name == _GET and length == 3) or (name == _GETS and length == 4):
        return _get(state, words, feed, length == 4, touching)
    if name == _VERSION and length == 7:
        return texts.VERSION
    if name == _STATS and length == 5:
        return _stats(state, words)
    if length != 9 or words > 3:
        return texts.ERROR
    last = load8(state.word(0) + 8)
    if name == _FLUSH and last == 0x6C:
        return _flush(state, words)
    if name == _VERBOSITY and last == 0x79 and words > 1:
        return _verbosity(state, words)
    return texts.ERROR


# Reading ----------------------------------------------------------------------------------------------------------


@cold
def _get(state: ServerView, words: int, feed: int, unique: bool, touching: bool) -> int:
    """get, gets, gat, gats: any number of keys; an answer that is too long becomes a complaint."""
    first = 2 if touching else 1
    expiry, good = 0, True
    if words < 2:
        return texts.ERROR
    if touching:
        expiry, good = _number32(state, 1)
        if not good:
            return texts.BAD_EXPIRY
        expiry = expiry_of(state, expiry)
    begun = state.out
    at = state.word(first - 1) + state.word_bytes(first - 1)
    for _ in range(words - first):
        key, length = next_word(at, feed)
        at = key + length
        done = length <= KEY_MAX and _get_one(state, key, length, unique, touching, expiry) != 0
        if not done:
            state.out = begun
            if length > KEY_MAX:
                return texts.BAD_LINE
            state.answer_too_large += 1
            return texts.NO_ROOM
    return texts.END


@cold
def _get_one(state: ServerView, key: int, length: int, unique: bool, touching: bool, expiry: int) -> int:
    """Append the item of one key if it is there; 0 if there is no room."""
    hash = key_hash(state.store, key, length)
    shard = state.shard_of(hash)
    lock(state, shard)
    _, _, found = find_live(state, shard, hash, key, length)
    done = 1
    if found != 0:
        item = ItemView(found)
        item.used = 1
        if touching:
            item.expiry = expiry
        done = _append_item(state, item, unique)
    unlock(state, shard)
    if touching:
        state.cmd_touch += 1
    state.cmd_get += 1
    if found != 0:
        state.get_hits += 1
        if touching:
            state.touch_hits += 1
    else:
        state.get_misses += 1
        if touching:
            state.touch_misses += 1
    return done


@cold
def _append_item(state: ServerView, item: ItemView, unique: bool) -> int:
    """``VALUE <key> <flags> <bytes> [<unique>]``, the value; 1, or 0: there is no room."""
    out, size, digits = state.out, item.text_bytes, digits_of(item.cas)
    if 6 + size + 1 + digits > state.out_end - out:
        return 0
    store64(out, _VALUE)
    out += 6
    if unique:
        line = item.key_bytes + item.middle - 2
        copy(out, item.text, line)
        store8(out + line, 0x20)
        out = write_number(out + line + 1, item.cas, digits)
        copy(out, item.text + line, size - line)
        state.out = out + size - line
    else:
        copy(out, item.text, size)
        state.out = out + size
    return 1


# Changing ---------------------------------------------------------------------------------------------------------


@cold
def _store(state: ServerView, what: int, words: int, data: int, end: int) -> tuple[int, int]:
    """A command that is followed by a value; what to say, and the address behind that: 0 if it is not complete."""
    least = 6 if what == CAS else 5
    if words != least and words != least + 1:
        return texts.ERROR, data
    state.quiet = _is_quiet(state, words)
    key, length = state.word(1), state.word_bytes(1)
    flags, good_flags = _number(state, 2, False)
    expiry, good_expiry = _number32(state, 3)
    size, good_size = _number32(state, 4)
    unique, good_unique = _number(state, 5, False) if what == CAS else (0, True)
    if length > KEY_MAX or size < 0 or not (good_flags and good_expiry and good_size and good_unique):
        return texts.BAD_LINE, data
    said, behind = texts.BAD_DATA, data + size + 2
    if size > VALUE_MAX:
        state.store_too_large += 1
        state.quiet = 0
        said, behind = texts.TOO_LARGE, min(behind, end)
        what = FORGET if what == SET else -1  # what could not be replaced is not to be had any more
    elif behind > end:
        return texts.NOTHING, 0
    elif load16(data + size) != _LINE_END:
        what = -1
    if what >= 0:
        done = change(
            state, what, key, length, flags & 0xFFFF_FFFF, expiry_of(state, expiry), size, unique, data
        )  # fmt: skip
        said = said if what == FORGET else done
    return said, behind


@cold
def _change(state: ServerView, what: int, words: int) -> int:
    """delete, incr, decr, touch."""
    if words < (2 if what == DELETE else 3) or words > 4:
        return texts.ERROR
    state.quiet = _is_quiet(state, words) if words > 2 else 0
    key, length = state.word(1), state.word_bytes(1)
    number, good, expiry = 0, True, 0
    if what == DELETE:
        # A time was once possible; 0 still is.
        zero = words > 2 and state.word_bytes(2) == 1 and load8(state.word(2)) == 0x30
        if words > 2 and not (words == 3 and (zero or state.quiet != 0)) and not (zero and state.quiet != 0):
            return texts.BAD_DELETE
    elif what == TOUCH:
        number, good = _number32(state, 2)
        expiry = expiry_of(state, number)
    else:
        number, good = _number(state, 2, False)
    if length > KEY_MAX:
        return texts.BAD_LINE
    if not good:
        return texts.BAD_EXPIRY if what == TOUCH else texts.BAD_DELTA
    return change(state, what, key, length, 0, expiry, 0, number, 0)


# The server -------------------------------------------------------------------------------------------------------


@cold
def _flush(state: ServerView, words: int) -> int:
    """flush_all: at once, or after so many seconds."""
    state.quiet = _is_quiet(state, words)
    delay, good = 0, True
    if words > 1 + state.quiet:
        delay, good = _number32(state, 1)
    if not good:
        return texts.BAD_EXPIRY
    state.cmd_flush += 1
    for index in range(state.shards):
        shard = ShardView(state.store + index * state.shard_bytes)
        lock(state, shard)
        if delay > 0:
            shard.flush_at = expiry_of(state, delay)
        else:
            shard.flushed, shard.flush_at = shard.cas, 0
        unlock(state, shard)
    return texts.OK


@cold
def _verbosity(state: ServerView, words: int) -> int:
    state.quiet = _is_quiet(state, words)
    level, good = _number(state, 1, False)
    if good:
        state.verbosity = level
    return texts.OK if good else texts.BAD_LINE


@cold
def _stats(state: ServerView, words: int) -> int:
    """stats, and stats reset; other kinds tell of another's insides."""
    if words == 1:
        say_figures(state)
        return texts.END
    if word_text(state, 1) != _RESET or state.word_bytes(1) != 5:
        return texts.ERROR
    for index in range(state.worker_count):
        fill(state.workers + index * STATE_BYTES + _COUNTED, 0, _COUNTED_BYTES)
    return texts.RESET


__all__ = ["expiry_of", "run"]

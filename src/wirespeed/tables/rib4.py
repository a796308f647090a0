"""The routes of an IPv4 table, in flat memory: what is there, its next hop, and what covers it.

A forwarding table knows the answers; this knows the questions' origin: each prefix with its next hop. Control code
adds to it, deletes from it, and asks which shorter prefix takes over when one goes. Nodes never read it.

    offset     bytes    what
    0          384      record (:class:`RibView`), its counts of routes of each length
    384        512      ancestors: for each place of a heap of 6 levels, the places above it and itself as 64 bits
    1024       8        presence of lengths 0 to 5: a heap of 63 bits, 1 is the /0, 2 and 3 its halves, ...
    1032       512      lengths 6 to 11: such a heap for each /6
    1544       32 Ki    lengths 12 to 17: for each /12
    36864      4 Mi     for each /18 a heap of lengths 18 to 23, and 64 bits for its /24s
    36 Ki+4 Mi 8 * n    slots of a hash table, open addressed, at most half full

    word (64 bits): address << 31 | length << 25 | next hop + 1. Its low 31 bits are the table's *entry*, all above
    them and the length are the prefix's *key*; 0 is an empty slot. Words sort like a routing table.

Which prefixes exist is a tree of bits (W. Eatherton, Z. Dittia, G. Varghese, "Tree bitmap", CCR 34(2), 2004): the
prefixes that cover an address are the set bits on the way from the root, six levels are one ``and``, and the longest
of them is its highest bit. So what covers a prefix costs one cache miss for the bits and one for its slot, where
probing the hash for each shorter length costs up to 24. Prefixes longer than /24 are rare; their lengths are probed.

A slot is written by one store, and a deletion closes its gap by copying downwards (no tombstones: D. E. Knuth, TAOCP
3, 6.4, algorithm R) before it overwrites upwards. So another process that scans the slots from the last to the first
misses nothing that stays; one that looks a key up tries again if ``version`` has changed.
"""

from typing import Any

import numpy as np

from wirespeed.jit import (
    View,
    inline,
    kernel,
    le64,
    leading_zeros,
    load64,
    load_acquire,
    prefetch,
    shift_right,
    store64,
    store_release,
)
from wirespeed.tables.seed import SEED, mix

LENGTH_SHIFT: int = 25
HOP_MASK: int = (1 << LENGTH_SHIFT) - 1
ENTRY_MASK: int = (1 << 31) - 1
MAX_HOP: int = HOP_MASK - 1
"""The largest next hop: 25 bits, less the value that means "no route"."""
MAX_ROUTES: int = 1 << 28
AHEAD: int = 12
"""How many routes ahead a bulk operation asks for its lines: about as many misses as a core has in flight."""

_COUNTS, _ANCESTORS = 64, 384
_HEAPS = (1024, 1032, 1544)
_BLOCKS = 36864  # 16 bytes for each /18
_SLOTS = _BLOCKS + (16 << 18)
_RETRIES = 1000


class RibView(View):
    """The record of the routes."""

    routes = le64(0, "there are")
    limit = le64(8, "there may be")
    mask = le64(16, "slots - 1")
    shift = le64(24, "64 - log2(slots)")
    seed0 = le64(32)
    seed1 = le64(40)
    seed2 = le64(48)
    version = le64(56, "deletions begun and ended: odd while slots move")
    SIZE = _BLOCKS


_VERSION: int = RibView.version.offset


def rib_bytes(limit: int) -> int:
    """Bytes of memory for ``limit`` routes."""
    return _SLOTS + 8 * _slots(limit)


def _slots(limit: int) -> int:
    return 1 << max((2 * limit - 1).bit_length(), 4)


def format_rib(at: int, limit: int) -> None:
    """Lay out the record of no routes in zeroed memory."""
    rib = RibView(at)
    slots = _slots(limit)
    rib.limit, rib.mask, rib.shift = limit, slots - 1, 64 - (slots.bit_length() - 1)
    rib.seed0, rib.seed1, rib.seed2 = SEED
    for place in range(1, 64):
        above = sum(1 << (place >> level) for level in range(place.bit_length()))
        store64(at + _ANCESTORS + place * 8, above)


# One route ----------------------------------------------------------------------------------------------------


@inline
def _home(rib: int, key: int) -> int:
    record = RibView(rib)
    return shift_right(mix(key, record.seed0, record.seed1, record.seed2), record.shift)


@inline
def rib_prefetch(rib: int, word: int) -> None:
    """Ask for what :func:`rib_insert` and :func:`rib_remove` touch first."""
    prefetch(rib + _SLOTS + (_home(rib, word >> LENGTH_SHIFT) << 3))
    prefetch(rib + _BLOCKS + (word >> 45 << 4))


@inline
def rib_find(rib: int, key: int) -> int:
    """The entry of a prefix, or 0."""
    mask = RibView(rib).mask
    at = _home(rib, key)
    held = load64(rib + _SLOTS + (at << 3))
    while held != 0 and held >> LENGTH_SHIFT != key:
        at = (at + 1) & mask
        held = load64(rib + _SLOTS + (at << 3))
    return int(held & ENTRY_MASK)


@inline
def _presence(rib: int, address: int, length: int) -> tuple[int, int]:
    """Where the bit of a prefix of up to /24 is: its word's address, and its number."""
    if length == 24:
        return rib + _BLOCKS + (address >> 14 << 4) + 8, (address >> 8) & 63
    level = length // 6
    above = level * 6
    word = rib + _BLOCKS + (address >> 14 << 4)
    if level == 0:
        word = rib + _HEAPS[0]
    elif level == 1:
        word = rib + _HEAPS[1] + (address >> 26 << 3)
    elif level == 2:
        word = rib + _HEAPS[2] + (address >> 20 << 3)
    depth = 1 << (length - above)
    return word, depth | ((address >> (32 - length)) & (depth - 1))


@inline
def rib_insert(rib: int, word: int) -> int:
    """Put a route in, or change its next hop; the entry it had, 0 for a new one. There must be room."""
    record = RibView(rib)
    key = word >> LENGTH_SHIFT
    mask = record.mask
    at = _home(rib, key)
    held = load64(rib + _SLOTS + (at << 3))
    while held != 0 and held >> LENGTH_SHIFT != key:
        at = (at + 1) & mask
        held = load64(rib + _SLOTS + (at << 3))
    store_release(rib + _SLOTS + (at << 3), word)
    if held == 0:
        record.routes += 1
        length = key & 63
        counted = rib + _COUNTS + (length << 3)
        store64(counted, load64(counted) + 1)
        if length <= 24:
            bits, bit = _presence(rib, key >> 6, length)
            store64(bits, load64(bits) | (1 << bit))
    return int(held & ENTRY_MASK)


@inline
def rib_remove(rib: int, key: int) -> int:
    """Take a route out; the entry it had, 0 if it was not there."""
    record = RibView(rib)
    mask, slots = record.mask, rib + _SLOTS
    at = _home(rib, key)
    held = load64(slots + (at << 3))
    while held != 0 and held >> LENGTH_SHIFT != key:
        at = (at + 1) & mask
        held = load64(slots + (at << 3))
    if held == 0:
        return 0
    entry = held & ENTRY_MASK
    version = record.version
    store_release(rib + _VERSION, version + 1)
    gap = at
    at = (at + 1) & mask
    held = load64(slots + (at << 3))
    while held != 0:
        home = _home(rib, held >> LENGTH_SHIFT)
        if (at - home) & mask >= (at - gap) & mask:  # it may move down to the gap without passing its home
            store_release(slots + (gap << 3), held)
            gap = at
        at = (at + 1) & mask
        held = load64(slots + (at << 3))
    store_release(slots + (gap << 3), 0)
    store_release(rib + _VERSION, version + 2)
    record.routes -= 1
    length = key & 63
    counted = rib + _COUNTS + (length << 3)
    store64(counted, load64(counted) - 1)
    if length <= 24:
        bits, bit = _presence(rib, key >> 6, length)
        store64(bits, load64(bits) & ~(1 << bit))
    return int(entry)


@inline
def rib_cover(rib: int, address: int, length: int) -> int:
    """The entry of the longest prefix that covers ``address`` and is shorter than ``length``; 0 if there is none."""
    below = length - 1
    while below > 24:
        if load64(rib + _COUNTS + (below << 3)) > 0:
            entry = rib_find(rib, (address >> (32 - below) << (32 - below)) << 6 | below)
            if entry != 0:
                return entry
        below -= 1
    if below == 24:
        bits, bit = _presence(rib, address, 24)
        if (load64(bits) >> bit) & 1 == 1:
            return rib_find(rib, (address >> 8 << 8) << 6 | 24)
        below = 23
    while below >= 0:
        bits, place = _presence(rib, address, below)
        there = load64(bits) & load64(rib + _ANCESTORS + (place << 3))
        above = below // 6 * 6
        if there != 0:
            highest = 63 - leading_zeros(there)
            found = above + 63 - leading_zeros(highest)
            return rib_find(rib, (address >> (32 - found) << (32 - found)) << 6 | found)
        below = above - 1
    return 0


# Kernels ------------------------------------------------------------------------------------------------------


@kernel
def rib_get(rib: int, key: int) -> int:
    """:func:`rib_find`, also while the owner, maybe another process, moves slots."""
    entry = 0
    for _ in range(_RETRIES):  # an owner that died in between leaves it odd
        version = load_acquire(rib + _VERSION)
        entry = rib_find(rib, key)
        if entry != 0 or (version & 1 == 0 and load_acquire(rib + _VERSION) == version):
            break
    return entry


@kernel
def rib_missing(rib: int, words: Any) -> tuple[int, int]:
    """(how many of the words' prefixes are no routes, the first of them or -1)."""
    missing, first, end = 0, -1, len(words)
    for i in range(end):
        if i + AHEAD < end:
            prefetch(rib + _SLOTS + (_home(rib, int(words[i + AHEAD]) >> LENGTH_SHIFT) << 3))
        if rib_find(rib, int(words[i]) >> LENGTH_SHIFT) == 0:
            missing += 1
            if first < 0:
                first = i
    return missing, first


@kernel
def rib_words(rib: int, words: Any) -> int:
    """Copy the words of all routes, in no order; one that moves meanwhile may come twice. How many."""
    slots, room, count = rib + _SLOTS, len(words), 0
    last = RibView(rib).mask
    for at in range(last, -1, -1):
        held = load_acquire(slots + (at << 3))
        if held != 0 and count < room:
            words[count] = held
            count += 1
    for at in range(last, max(last - 4096, -1), -1):  # what moved from the first slots to the last
        held = load_acquire(slots + (at << 3))
        if held != 0 and count < room:
            words[count] = held
            count += 1
    return count


def one_each(words: Any) -> Any:
    """The last word of each prefix in a sorted array (``np.unique`` is fifty times slower)."""
    if len(words) < 2:
        return words
    last = np.append(words[1:] >> LENGTH_SHIFT != words[:-1] >> LENGTH_SHIFT, True)
    return words if last.all() else words[last]


def routes_of(rib: int) -> Any:
    """The words of all routes as an int64 array, sorted: by address, shorter prefixes first."""
    words = np.empty(RibView(rib).limit + 8192, np.int64)
    return one_each(np.sort(words[: rib_words(rib, words)]))

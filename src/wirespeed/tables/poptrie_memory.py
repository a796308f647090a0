"""The memory of a Poptrie, an IPv4 forwarding table that fits the cache, and the stores that change it under readers.

H. Asai and Y. Ohara, "Poptrie: a compressed trie with population count for fast and scalable software IP routing
table lookup", SIGCOMM 2015: a first table for the leading 18 bits, then nodes ("chunks" here) that resolve 6 bits
each and store only where the answer changes. A chunk is one vector of 64 bits and its runs:

    offset  bytes   what
    0       8       vector: bit k is set where slot k begins a run; bit 0 always is
    8       4 * n   entry of each run, n of them from 1 to 64

    entry (32 bits)
    bit  31      extended: the rest is the unit (16 bytes) of a chunk in the pool
    bits 30..25  length of the prefix that put the entry here
    bits 24..0   next hop + 1; 0 is "no route"

The run of slot k is the number of set bits up to k. The paper has two vectors, one for inner nodes and one for leaves
of 16 bits; with the flag in the entry, one does, next hops have 25 bits, and a node's children need not lie side by
side, so that each chunk is replaced alone. Slots of the first table resolve bits 0 to 17, chunks below it 18 to 23,
then 24 to 29, and the last two: those have 64 slots of which 16 each are the same.

    offset        bytes  what
    0             2048   record (:class:`Poptrie4View`), and room to unpack chunks in
    2048          1 Mi   first table: 2^18 entries
    1 Mi + 2 Ki   pool   chunks, in blocks of :mod:`wirespeed.tables.buddy`
    then                 that allocator's tags and ring
    then          1 Mi   staged: what the present update will put in the first table; all ones for nothing
    then          1 Mi   touched: where there is something staged
    then                 the routes (:mod:`wirespeed.tables.rib4`)

Each entry carries the length of its prefix, as in :mod:`wirespeed.tables.lpm_memory`, so an update needs to know
nothing else: it unpacks the chunks it reaches into 64 slots, overwrites those whose length is shorter or the same
(adding) or just the same (deleting), and packs them anew. What is packed is a function of the routes alone, so a
table does not grow by being changed. New chunks are staged; if one does not find room, all of them are dropped and
nothing has happened. Else the first table's entries are stored, each by one aligned store of 32 bits from an old
right answer to a new right answer, and the chunks they led to are reused only after a grace period.

``docs/design/0008-poptrie.md`` says why and what was measured.
"""

from typing import Any

from wirespeed.jit import (
    View,
    cold,
    copy,
    inline,
    kernel,
    le64,
    leading_zeros,
    load32,
    load64,
    popcount,
    store32,
    store64,
    store_release32,
)
from wirespeed.jit import prefetch as prefetch_line
from wirespeed.tables.buddy import BuddyView, abort, begin, commit, release, retire, take
from wirespeed.tables.rib4 import (
    AHEAD,
    ENTRY_MASK,
    HOP_MASK,
    LENGTH_SHIFT,
    rib_cover,
    rib_insert,
    rib_prefetch,
    rib_remove,
)

RECORD_BYTES: int = 2048
FIRST_BITS: int = 18
FIRST_TABLE_BYTES: int = 4 << FIRST_BITS
EXTENDED: int = 1 << 31
NOTHING: int = 0xFFFF_FFFF
_POOL = RECORD_BYTES + FIRST_TABLE_BYTES
_SLOTS0, _SLOTS1, _SLOTS2, _PACKED = 1024, 1280, 1536, 1792  # of the record: 256 bytes each
_TABLE_AHEAD, _CHUNK_AHEAD = 32, 16  # lookups: 16 and 8 are slower, 48 and 24 no faster


class Poptrie4View(View):
    """The data side of :class:`~wirespeed.tables.poptrie.Poptrie4`."""

    heap = le64(0, "offset of the allocator")
    staged = le64(8, "offset of what is staged")
    touched = le64(16, "offset of where")
    count = le64(24, "entries that are staged")
    rib = le64(32, "offset of the routes")
    SIZE = RECORD_BYTES

    def lookup(self, ip: int) -> int:
        """Next hop of the longest prefix that covers ``ip`` (the address as an int), or -1."""
        bits = (ip & 0xFFFF_FFFF) << 4  # 36 of them: 18 and three times 6
        entry = load32(self.address + RECORD_BYTES + (bits >> 18 << 2))
        shift = 12
        while entry >= EXTENDED:  # at most three times: chunks of the last two bits hold no pointers
            chunk = self.address + _POOL + ((entry - EXTENDED) << 4)
            up_to = (2 << ((bits >> shift) & 63)) - 1
            entry = load32(chunk + 4 + (popcount(load64(chunk) & up_to) << 2))
            shift -= 6
        return int((entry & HOP_MASK) - 1)

    def prefetch(self, ip: int) -> None:
        """Ask for the line that ``lookup(ip)`` reads first."""
        prefetch_line(self.address + RECORD_BYTES + ((ip & 0xFFFF_FFFF) >> 14 << 2))


# Chunks -------------------------------------------------------------------------------------------------------


@inline
def _order(runs: int) -> int:
    """Of the smallest block for a chunk: 8 + 4 * runs bytes."""
    return max(60 - leading_zeros(7 + 4 * runs), 0)


@cold
def _unpack(table: int, entry: int, slots: int) -> None:
    """Write the 64 slots of an entry, chunk or not, at ``slots``."""
    if entry < EXTENDED:
        for at in range(slots, slots + 256, 4):
            store32(at, entry)
        return
    chunk = table + _POOL + ((entry - EXTENDED) << 4)
    vector, run = load64(chunk), chunk + 4
    for slot in range(64):
        run += ((vector >> slot) & 1) << 2
        store32(slots + (slot << 2), load32(run))


@inline
def _pack(table: int, slots: int) -> int:
    """The entry for 64 slots: a new chunk, or what all of them are; -1 if there is no room."""
    last, runs, vector = -1, 0, 0
    run = table + _PACKED - 4
    for slot in range(64):
        entry = load32(slots + (slot << 2))
        differs = int(entry != last)
        runs += differs
        vector |= differs << slot
        store32(run + (runs << 2), entry)
        last = entry
    if runs == 1:
        return int(last)
    unit = take(table + Poptrie4View(table).heap, _order(runs))
    if unit < 0:
        return -1
    chunk = table + _POOL + (unit << 4)
    store64(chunk, vector)
    copy(chunk + 8, table + _PACKED, runs << 2)
    return int(EXTENDED | unit)


@inline
def _drop(table: int, entry: int) -> None:
    """Retire the chunk that an entry leads to, if it does."""
    if entry >= EXTENDED:
        unit = entry - EXTENDED
        retire(table + Poptrie4View(table).heap, unit, _order(popcount(load64(table + _POOL + (unit << 4)))))


@cold
def _repack(table: int, entry: int, slots: int) -> int:
    """The entry for changed slots, in place of ``entry``; unchanged if there is no room, which is noted."""
    fresh = _pack(table, slots)
    if fresh < 0:
        return entry
    _drop(table, entry)
    return fresh


# Painting -----------------------------------------------------------------------------------------------------


@inline
def _slots(address: int, length: int, resolved: int) -> tuple[int, int]:
    """(first, how many) of the 64 slots below the ``resolved`` leading bits that a prefix covers."""
    if length <= resolved:
        return 0, 64
    first = ((address << 4) >> (30 - resolved)) & 63
    return first, 1 << max(resolved + 6 - length, 0)


@cold
def _paint_last(table: int, entry: int, address: int, length: int, lowest: int, value: int) -> int:
    """Paint below the leading 30 bits; the new entry."""
    slots = table + _SLOTS2
    _unpack(table, entry, slots)
    first, count = _slots(address, length, 30)
    changed = 0
    for at in range(slots + first * 4, slots + (first + count) * 4, 4):
        held = load32(at)
        if lowest <= held >> LENGTH_SHIFT <= length and held != value:
            store32(at, value)
            changed = 1
    return _repack(table, entry, slots) if changed else entry


@cold
def _paint_middle(table: int, entry: int, address: int, length: int, lowest: int, value: int) -> int:
    """Paint below the leading 24 bits; the new entry."""
    slots = table + _SLOTS1
    _unpack(table, entry, slots)
    first, count = _slots(address, length, 24)
    changed = 0
    for at in range(slots + first * 4, slots + (first + count) * 4, 4):
        held = load32(at)
        new = held
        if held >= EXTENDED or length > 30:
            new = _paint_last(table, held, address, length, lowest, value)
        elif lowest <= held >> LENGTH_SHIFT <= length:
            new = value
        if new != held:
            store32(at, new)
            changed = 1
    return _repack(table, entry, slots) if changed else entry


@cold
def _paint(table: int, address: int, length: int, lowest: int, value: int) -> int:
    """Paint the unpacked slots below the leading 18 bits: put ``value`` wherever a prefix of ``lowest`` to ``length``
    bits holds the place. Whether something changed."""
    slots = table + _SLOTS0
    first, count = _slots(address, length, 18)
    changed = 0
    for at in range(slots + first * 4, slots + (first + count) * 4, 4):
        held = load32(at)
        new = held
        if held >= EXTENDED or length > 24:
            new = _paint_middle(table, held, address, length, lowest, value)
        elif lowest <= held >> LENGTH_SHIFT <= length:
            new = value
        if new != held:
            store32(at, new)
            changed = 1
    return changed


# Staging ------------------------------------------------------------------------------------------------------


@inline
def _now(table: int, number: int) -> int:
    """The first table's entry as it will be."""
    staged = load32(table + Poptrie4View(table).staged + (number << 2))
    return staged if staged != NOTHING else load32(table + RECORD_BYTES + (number << 2))


@inline
def _stage(table: int, number: int, entry: int) -> None:
    view = Poptrie4View(table)
    at = table + view.staged + (number << 2)
    if load32(at) == NOTHING:
        store32(table + view.touched + (view.count << 2), number)
        view.count += 1
    store32(at, entry)


@inline
def _stage_short(table: int, address: int, length: int, lowest: int, value: int) -> None:
    """Stage the painting of a prefix of up to /18."""
    first = address >> 14
    for number in range(first, first + (1 << (FIRST_BITS - length))):
        held = _now(table, number)
        if held >= EXTENDED:
            _unpack(table, held, table + _SLOTS0)
            if _paint(table, address, length, lowest, value):
                _stage(table, number, _repack(table, held, table + _SLOTS0))
        elif lowest <= held >> LENGTH_SHIFT <= length and held != value:
            _stage(table, number, value)


@inline
def _publish(table: int, reuse: int) -> int:
    """Store what is staged; how many chunks wait for a grace period: none with ``reuse``."""
    view = Poptrie4View(table)
    for at in range(table + view.touched, table + view.touched + (view.count << 2), 4):
        offset = load32(at) << 2
        store_release32(table + RECORD_BYTES + offset, load32(table + view.staged + offset))
        store32(table + view.staged + offset, NOTHING)
    view.count = 0
    retired = commit(table + view.heap)
    if reuse:
        release(table + view.heap, retired)
        return 0
    return retired


@inline
def _forget(table: int) -> None:
    """Drop what is staged."""
    view = Poptrie4View(table)
    for at in range(table + view.touched, table + view.touched + (view.count << 2), 4):
        store32(table + view.staged + (load32(at) << 2), NOTHING)
    view.count = 0
    abort(table + view.heap)


@inline
def _prefetch_chunk(table: int, address: int) -> None:
    """Ask for the chunk of an address. Without a branch: half of random addresses have none, and for them it is the
    pool's first line."""
    held = load32(table + RECORD_BYTES + (address >> 14 << 2))
    prefetch_line(table + _POOL + ((held & (EXTENDED - 1) & -(held >> 31)) << 4))


# Kernels ------------------------------------------------------------------------------------------------------


@kernel
def insert_words(table: int, words: Any, reuse: int) -> int:
    """Add sorted routes, all or none. How many chunks wait for a grace period, or -1: there is no room."""
    view, end = Poptrie4View(table), len(words)
    rib, heap = table + view.rib, table + view.heap
    begin(heap, BuddyView(heap).units >> 5)  # some room is left for deleting
    for i in range(end):
        word = int(words[i])
        length = (word >> LENGTH_SHIFT) & 63
        if length <= FIRST_BITS and BuddyView(heap).failed == 0:
            _stage_short(table, word >> 31, length, 0, word & ENTRY_MASK)
    i = 0
    while i < end and BuddyView(heap).failed == 0:
        number = int(words[i]) >> 45
        held = _now(table, number)
        if i + AHEAD < end:
            _prefetch_chunk(table, int(words[i + AHEAD]) >> 31)
        _unpack(table, held, table + _SLOTS0)
        changed = 0
        while i < end and int(words[i]) >> 45 == number:
            word = int(words[i])
            length = (word >> LENGTH_SHIFT) & 63
            if length > FIRST_BITS:
                changed |= _paint(table, word >> 31, length, 0, word & ENTRY_MASK)
            i += 1
        if changed:
            _stage(table, number, _repack(table, held, table + _SLOTS0))
    if BuddyView(heap).failed:
        _forget(table)
        return -1
    for k in range(end):
        if k + AHEAD < end:
            rib_prefetch(rib, int(words[k + AHEAD]))
        rib_insert(rib, int(words[k]))
    return _publish(table, reuse)


@kernel
def remove_words(table: int, words: Any, reuse: int) -> int:
    """Delete sorted routes that are there, all or none, as :func:`insert_words`; the words' next hops are 0."""
    view, end = Poptrie4View(table), len(words)
    rib, heap = table + view.rib, table + view.heap
    begin(heap, 0)
    i = 0
    while i < end and BuddyView(heap).failed == 0:
        number = int(words[i]) >> 45
        held = _now(table, number)
        _unpack(table, held, table + _SLOTS0)
        changed = 0
        while i < end and int(words[i]) >> 45 == number:
            word = int(words[i])
            if i + AHEAD < end:
                rib_prefetch(rib, int(words[i + AHEAD]))
                _prefetch_chunk(table, int(words[i + AHEAD]) >> 31)
            address, length = word >> 31, (word >> LENGTH_SHIFT) & 63
            if length > FIRST_BITS:
                words[i] = word | rib_remove(rib, word >> LENGTH_SHIFT)
                changed |= _paint(table, address, length, length, rib_cover(rib, address, length))
            i += 1
        if changed:
            _stage(table, number, _repack(table, held, table + _SLOTS0))
    for k in range(end):
        word = int(words[k])
        address, length = word >> 31, (word >> LENGTH_SHIFT) & 63
        if length <= FIRST_BITS and BuddyView(heap).failed == 0:
            words[k] = word | rib_remove(rib, word >> LENGTH_SHIFT)
            _stage_short(table, address, length, length, rib_cover(rib, address, length))
    if BuddyView(heap).failed == 0:
        return _publish(table, reuse)
    _forget(table)
    for k in range(end):
        if int(words[k]) & HOP_MASK:
            rib_insert(rib, int(words[k]))
            words[k] = int(words[k]) & ~HOP_MASK
    return -1


@kernel
def lookup_array(address: int, ips: Any, hops: Any) -> None:
    """``hops[i] = lookup(ips[i])``, the first table and the chunks asked for ahead."""
    table, end = Poptrie4View(address), len(ips)
    for i in range(min(_TABLE_AHEAD, end)):
        table.prefetch(int(ips[i]))
    for i in range(min(_CHUNK_AHEAD, end)):
        _prefetch_chunk(address, int(ips[i]))
    ahead = max(end - _TABLE_AHEAD, 0)
    for i in range(ahead):
        table.prefetch(int(ips[i + _TABLE_AHEAD]))
        _prefetch_chunk(address, int(ips[i + _CHUNK_AHEAD]))
        hops[i] = table.lookup(int(ips[i]))
    for i in range(ahead, end):
        hops[i] = table.lookup(int(ips[i]))

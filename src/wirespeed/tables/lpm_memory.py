"""The memory of an IPv4 forwarding table (DIR-24-8), and the stores that change it under live readers.

P. Gupta, S. Lin and N. McKeown, "Routing lookups in hardware at memory access speeds", INFOCOM 1998.

    offset       bytes          what
    0            1024           record (:class:`Lpm4View`)
    1024         64 Mi          first table: an entry for each of the 2^24 leading 24 bits
    64 Mi + 1 K  1 Ki * groups  groups of 256 entries, one for each /24 that has longer prefixes
    then         4 * groups     ring of pages: those that are free, then those that wait for a grace period
    then                        the routes (:mod:`wirespeed.tables.rib4`)

    entry (32 bits)
    bit  31      extended: the rest is a page, and the entry to use is number (address & 255) of that page
    bits 30..25  length of the prefix that put the entry here
    bits 24..0   next hop + 1; 0 is "no route"

A page is 256 entries counted from the first table's start, so pages 65536 and up are the groups and one base
serves both. Prefixes of up to /24 cost one cache miss, longer ones two.

Each entry carries the length of its prefix, so an update needs to know nothing else: adding overwrites the
entries in its range whose length is the same or shorter; deleting overwrites those whose length is the same
(only this prefix can have put them there) with the covering prefix. Each entry changes by one aligned store
of 32 bits, straight from an old right answer to a new right answer. A group is filled before the entry that
leads to it is stored; one that is no longer needed is refilled only after a grace period: pages are taken from
the ring's head and come back to its tail, and ``ready`` says how far they may be taken.

``docs/design/0004-dir-24-8.md`` says why and what was measured.
"""

from typing import Any

from wirespeed.jit import View, inline, kernel, le64, load32, store32, store_release32
from wirespeed.jit import prefetch as prefetch_line
from wirespeed.tables.rib4 import (
    AHEAD,
    ENTRY_MASK,
    HOP_MASK,
    LENGTH_SHIFT,
    MAX_HOP,
    rib_cover,
    rib_insert,
    rib_prefetch,
    rib_remove,
)

RECORD_BYTES: int = 1024
GROUP_BYTES: int = 1024
FIRST_GROUP: int = 65536  # pages below are the first table
FIRST_TABLE_BYTES: int = FIRST_GROUP * GROUP_BYTES
EXTENDED: int = 1 << 31


class Lpm4View(View):
    """The data side of :class:`~wirespeed.tables.lpm.Lpm4`."""

    groups = le64(0, "groups there are")
    taken = le64(8, "pages ever taken from the ring")
    ready = le64(16, "pages that have ever been free to take")
    given = le64(24, "pages ever put in the ring; those after ready wait for a grace period")
    ring = le64(32, "offset of the ring")
    rib = le64(40, "offset of the routes")
    SIZE = RECORD_BYTES

    def lookup(self, ip: int) -> int:
        """Next hop of the longest prefix that covers ``ip`` (the address as an int), or -1."""
        base = self.address + RECORD_BYTES
        entry = load32(base + (((ip & 0xFFFF_FFFF) >> 8) << 2))
        if entry >= EXTENDED:
            entry = load32(base + ((entry - EXTENDED) << 10) + ((ip & 0xFF) << 2))
        return int((entry & HOP_MASK) - 1)

    def prefetch(self, ip: int) -> None:
        """Ask for the line that ``lookup(ip)`` reads first."""
        prefetch_line(self.address + RECORD_BYTES + (((ip & 0xFFFF_FFFF) >> 8) << 2))


def format_ring(address: int) -> None:
    """Put every group's page in the ring."""
    table = Lpm4View(address)
    for number in range(table.groups):
        store32(address + table.ring + number * 4, FIRST_GROUP + number)
    table.ready = table.given = table.groups


@inline
def _take(table: int) -> int:
    """A free page; the caller knows that there is one."""
    view = Lpm4View(table)
    page = load32(table + view.ring + (view.taken % view.groups << 2))
    view.taken += 1
    return int(page)


@inline
def _give(table: int, page: int) -> None:
    """Put a page that nothing leads to at the ring's end."""
    view = Lpm4View(table)
    store32(table + view.ring + (view.given % view.groups << 2), page)
    view.given += 1


@inline
def _cover(address: int, count: int, value: int) -> None:
    """Overwrite those of the ``count`` entries at ``address`` whose prefix is no longer than ``value``'s."""
    length = value >> LENGTH_SHIFT
    for at in range(address, address + count * 4, 4):
        if load32(at) >> LENGTH_SHIFT <= length:
            store32(at, value)


@inline
def _paint(table: int, prefix: int, value: int) -> None:
    """Put an entry wherever its prefix is the longest."""
    base = table + RECORD_BYTES
    length = value >> LENGTH_SHIFT
    if length > 24:
        above = base + ((prefix >> 8) << 2)
        held = load32(above)
        page = held - EXTENDED if held >= EXTENDED else _take(table)
        group = base + (page << 10)
        if held < EXTENDED:
            for at in range(group, group + GROUP_BYTES, 4):
                store32(at, held)
        _cover(group + ((prefix & 0xFF) << 2), 1 << (32 - length), value)
        if held < EXTENDED:
            store_release32(above, EXTENDED | page)
        return
    first = base + ((prefix >> 8) << 2)
    for at in range(first, first + (4 << (24 - length)), 4):
        held = load32(at)
        if held >= EXTENDED:
            _cover(base + ((held - EXTENDED) << 10), 256, value)
        elif held >> LENGTH_SHIFT <= length:
            store32(at, value)


@inline
def _uncover(address: int, count: int, length: int, value: int) -> None:
    for at in range(address, address + count * 4, 4):
        if load32(at) >> LENGTH_SHIFT == length:
            store32(at, value)


@inline
def _unpaint(table: int, prefix: int, length: int, value: int) -> None:
    """Replace a prefix by ``value``, the entry of the one that covers it."""
    base = table + RECORD_BYTES
    first = base + ((prefix >> 8) << 2)
    if length <= 24:
        for at in range(first, first + (4 << (24 - length)), 4):
            held = load32(at)
            if held >= EXTENDED:
                _uncover(base + ((held - EXTENDED) << 10), 256, length, value)
            elif held >> LENGTH_SHIFT == length:
                store32(at, value)
        return
    page = int(load32(first) - EXTENDED)
    group = base + (page << 10)
    _uncover(group + ((prefix & 0xFF) << 2), 1 << (32 - length), length, value)
    for at in range(group, group + GROUP_BYTES, 4):
        if load32(at) >> LENGTH_SHIFT > 24:
            return
    store_release32(first, load32(group))  # nothing longer than /24 is left, so all 256 are the same
    _give(table, page)


@kernel
def groups_wanted(table: int, words: Any) -> int:
    """How many groups adding these (sorted) words takes."""
    wanted, last = 0, -1
    for i in range(len(words)):
        word = int(words[i])
        page = word >> 39
        if (word >> LENGTH_SHIFT) & 63 > 24 and page != last:
            last = page
            if load32(table + RECORD_BYTES + (page << 2)) < EXTENDED:
                wanted += 1
    return wanted


@kernel
def insert_words(table: int, words: Any) -> None:
    """Add routes; there is room for them, and enough groups."""
    rib, end = table + Lpm4View(table).rib, len(words)
    for i in range(end):
        if i + AHEAD < end:
            ahead = int(words[i + AHEAD])
            rib_prefetch(rib, ahead)
            prefetch_line(table + RECORD_BYTES + (ahead >> 39 << 2))
        word = int(words[i])
        rib_insert(rib, word)
        _paint(table, word >> 31, word & ENTRY_MASK)


@kernel
def remove_words(table: int, words: Any, reuse: int) -> int:
    """Delete routes that are there; with ``reuse`` groups that fall free may be used at once. How many wait."""
    view = Lpm4View(table)
    rib, end = table + view.rib, len(words)
    given = view.given
    for i in range(end):
        if i + AHEAD < end:
            ahead = int(words[i + AHEAD])
            rib_prefetch(rib, ahead)
            prefetch_line(table + RECORD_BYTES + (ahead >> 39 << 2))
        key = int(words[i]) >> LENGTH_SHIFT
        rib_remove(rib, key)
        _unpaint(table, key >> 6, key & 63, rib_cover(rib, key >> 6, key & 63))
    if reuse:
        view.ready = view.given
        return 0
    return int(view.given - given)


@kernel
def lookup_array(address: int, ips: Any, hops: Any) -> None:
    """``hops[i] = lookup(ips[i])``."""
    table = Lpm4View(address)
    for i in range(len(ips)):
        hops[i] = table.lookup(int(ips[i]))


__all__ = [
    "EXTENDED", "FIRST_GROUP", "FIRST_TABLE_BYTES", "GROUP_BYTES", "HOP_MASK", "LENGTH_SHIFT", "MAX_HOP",
    "RECORD_BYTES", "Lpm4View", "format_ring", "groups_wanted", "insert_words", "lookup_array", "remove_words",
]  # fmt: skip

"""The memory of an IPv4 forwarding table (DIR-24-8), and the stores that change it under live readers.

P. Gupta, S. Lin and N. McKeown, "Routing lookups in hardware at memory access speeds", INFOCOM 1998.

    offset       bytes          what
    0            1024           record (:class:`Lpm4View`)
    1024         64 Mi          first table: an entry for each of the 2^24 leading 24 bits
    64 Mi + 1 K  1 Ki * groups  groups of 256 entries, one for each /24 that has longer prefixes

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
leads to it is stored; one that is no longer needed is refilled only after a grace period.

``docs/design/0004-dir-24-8.md`` says why and what was measured.
"""

from typing import Any

from wirespeed.jit import View, inline, kernel, le64, load32, store32, store_release32
from wirespeed.jit import prefetch as prefetch_line

RECORD_BYTES: int = 1024
GROUP_BYTES: int = 1024
FIRST_GROUP: int = 65536  # pages below are the first table
FIRST_TABLE_BYTES: int = FIRST_GROUP * GROUP_BYTES
EXTENDED: int = 1 << 31
LENGTH_SHIFT: int = 25
HOP_MASK: int = (1 << LENGTH_SHIFT) - 1
MAX_HOP: int = HOP_MASK - 1
"""The largest next hop: 25 bits, less the value that means "no route"."""


class Lpm4View(View):
    """The data side of :class:`~wirespeed.tables.lpm.Lpm4`."""

    groups = le64(0, "groups there are")
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


@inline
def _cover(address: int, count: int, value: int) -> None:
    """Overwrite those of the ``count`` entries at ``address`` whose prefix is no longer than ``value``'s."""
    length = value >> LENGTH_SHIFT
    for at in range(address, address + count * 4, 4):
        if load32(at) >> LENGTH_SHIFT <= length:
            store32(at, value)


@inline
def _paint(base: int, prefix: int, value: int, spare: int) -> int:
    """Put an entry wherever its prefix is the longest. ``spare`` is a page nobody uses; 1 if it was taken."""
    length = value >> LENGTH_SHIFT
    if length > 24:
        above = base + ((prefix >> 8) << 2)
        held = load32(above)
        page = held - EXTENDED if held >= EXTENDED else spare
        group = base + (page << 10)
        if held < EXTENDED:
            for at in range(group, group + GROUP_BYTES, 4):
                store32(at, held)
        _cover(group + ((prefix & 0xFF) << 2), 1 << (32 - length), value)
        if held < EXTENDED:
            store_release32(above, EXTENDED | page)
            return 1
        return 0
    first = base + ((prefix >> 8) << 2)
    for at in range(first, first + (4 << (24 - length)), 4):
        held = load32(at)
        if held >= EXTENDED:
            _cover(base + ((held - EXTENDED) << 10), 256, value)
        elif held >> LENGTH_SHIFT <= length:
            store32(at, value)
    return 0


@kernel
def paint(base: int, prefix: int, value: int, spare: int) -> int:
    """:func:`_paint`, for one route."""
    return _paint(base, prefix, value, spare)


@kernel
def paint_many(base: int, prefixes: Any, values: Any, spares: Any) -> int:
    """:func:`_paint` for arrays of routes; ``spares`` are pages. Returns how many of them were taken."""
    taken = 0
    for i in range(len(prefixes)):
        spare = int(spares[taken]) if taken < len(spares) else 0
        taken += _paint(base, int(prefixes[i]), int(values[i]), spare)
    return taken


@inline
def _uncover(address: int, count: int, length: int, value: int) -> None:
    for at in range(address, address + count * 4, 4):
        if load32(at) >> LENGTH_SHIFT == length:
            store32(at, value)


@kernel
def unpaint(base: int, prefix: int, length: int, value: int) -> int:
    """Replace a prefix by ``value``, the entry of the one that covers it; a page that fell free, or 0."""
    first = base + ((prefix >> 8) << 2)
    if length <= 24:
        for at in range(first, first + (4 << (24 - length)), 4):
            held = load32(at)
            if held >= EXTENDED:
                _uncover(base + ((held - EXTENDED) << 10), 256, length, value)
            elif held >> LENGTH_SHIFT == length:
                store32(at, value)
        return 0
    page = int(load32(first) - EXTENDED)
    group = base + (page << 10)
    _uncover(group + ((prefix & 0xFF) << 2), 1 << (32 - length), length, value)
    for at in range(group, group + GROUP_BYTES, 4):
        if load32(at) >> LENGTH_SHIFT > 24:
            return 0
    store_release32(first, load32(group))  # nothing longer than /24 is left, so all 256 are the same
    return page


@kernel
def lookup_array(address: int, ips: Any, hops: Any) -> None:
    """``hops[i] = lookup(ips[i])``."""
    table = Lpm4View(address)
    for i in range(len(ips)):
        hops[i] = table.lookup(int(ips[i]))

"""The memory of tries of up to 128 bits, and how a prefix is looked up in it.

Used by :class:`~wirespeed.tables.lpm6.Lpm6` (one table) and :class:`~wirespeed.tables.vrf.Vrfs` (many tables in one
memory). All places are offsets from the start, in units of 32 bytes.

    offset    what
    0         record (:class:`Record`) and the writer's scratch, 4 KiB
    4096      root words: 65,536 for Lpm6; for Vrfs a :class:`Table` for each table, whose first word is its root
    then      routes: a binary trie that only control code reads (:mod:`wirespeed.tables.rib6`)
    then      a byte for each unit of the chunks, and the chunks that wait for a grace period
    then      chunks (:mod:`wirespeed.tables.lpm6_chunks`): nodes and lists

    word (64 bits), one for each piece of the address space
    bits 63..32  what is below: unit << 3 | tag; tag 7: a node, 1 to 3: a list of so many routes, 0: nothing
    bits 31..27  length of the prefix that put the next hop here, less the depth of the node
    bits 26..0   next hop + 1 of the longest prefix that ends in this node; 0: what was found above holds

    node: 256 pieces by the next eight bits of the address; runs of equal pieces are stored once
    0         8 words, one for each 32 pieces: bitmap of the pieces where a run begins | runs before << 32
    64        a word for each run

    list: up to 3 routes, longest first; 24 bytes each
    0         high, low    the prefix
    16        length << 32 | next hop + 1

A node at every eighth bit, so a lookup takes one for each eight bits in which routes really differ: a place with up to
three routes below is a list, compared and done (path compression, as in a Patricia trie). The bitmap is the one of the
Lulea trie (Degermark, Brodnik, Carlsson and Pink, "Small forwarding tables for fast routing lookups", SIGCOMM 1997),
counted with the popcount instruction (poptrie: Asai and Ohara, SIGCOMM 2015). Unlike there, next hops are not pushed
down to the leaves: a lookup keeps the last hop it has seen, and an update touches one node, however short the prefix.
A run belongs to one prefix, so deleting can always be done in place and needs no memory.

``docs/design/0013-ipv6-routes.md`` says why and what was measured.
"""
# mypy: no-warn-return-any

from wirespeed.jit import (
    View,
    inline,
    le64,
    leading_zeros,
    load64,
    popcount,
    shift_right,
)  # fmt: skip
from wirespeed.jit import prefetch as prefetch_line

RECORD_BYTES: int = 4096
ROOT_BITS: int = 16
ROOT_BYTES: int = 8 << ROOT_BITS
UNIT_SHIFT: int = 5
NODE: int = 7
LIST_MAX: int = 3
"""Routes in a list; one more makes it a node."""
LIST_MIN: int = 1
"""A node with so few routes below becomes a list, or nothing, again."""
ENTRY_BYTES: int = 24
HEADS_BYTES: int = 64
HOP_BITS: int = 27
HOP_MASK: int = (1 << HOP_BITS) - 1
LOW_MASK: int = 0xFFFF_FFFF
MAX_HOP: int = HOP_MASK - 1
"""The largest next hop: 27 bits, less the value that means "no route"."""


class Record(View):
    """What the writer keeps; sizes and places do not change after creation."""

    version = le64(0, "odd while the routes change")
    units_end = le64(8, "unit after the last chunk")
    units_first = le64(16, "unit of the first chunk")
    frontier = le64(24, "unit from which on nothing was ever used")
    units_used = le64(32, "units in chunks")
    map = le64(40, "offset of the chunks' bytes")
    rib = le64(48, "offset of the routes' nodes")
    rib_limit = le64(56, "how many there are, the unused number 0 included")
    rib_frontier = le64(64, "number from which on none was ever used")
    rib_free = le64(72, "first of the free ones")
    rib_used = le64(80, "how many are used")
    ring = le64(88, "offset of the chunks that wait for a grace period")
    ring_size = le64(96, "how many may wait, a power of two")
    ring_head = le64(104, "first that waits")
    ring_tail = le64(112, "next place")
    units_waiting = le64(120, "units that wait")
    routes = le64(128, "routes, all tables")
    routes_limit = le64(136, "how many there may be")
    tables = le64(144, "how many tables")
    SIZE = RECORD_BYTES


# The writer's scratch, in the record.
FREE_HEADS: int = 256  # 8 words: first free chunk of each order
SLOTS: int = 384  # 17 words: the words that lead to the place of a change
HEADS: int = 576  # 8 words: bitmap of a node to be
ROUTES: int = 640  # 8 entries: routes to be put in a list or a node
STACK: int = 896  # 136 words
RUNS: int = 2048  # 256 words: runs of a node to be


class Table(View):
    """One table."""

    word = le64(0, "its root word, if it has but one")
    rib_root = le64(8, "number of the first of its routes")
    routes = le64(16, "routes")
    roots = le64(24, "offset of its root words")
    SIZE = 32


@inline
def slice8(high: int, low: int, depth: int) -> int:
    """The eight bits of an address from bit ``depth`` (a multiple of 8) on."""
    if depth < 64:
        return shift_right(high, 56 - depth) & 255
    return shift_right(low, 120 - depth) & 255


@inline
def common_bits(high: int, low: int, other_high: int, other_low: int) -> int:
    """How many leading bits two addresses share: 0 to 128."""
    above = leading_zeros(high ^ other_high)
    below = leading_zeros(low ^ other_low)
    return above + (below if above == 64 else 0)


@inline
def piece_word(base: int, word: int, high: int, low: int, depth: int) -> int:
    """Where the node below ``word`` keeps the word for an address."""
    node = base + (shift_right(word, 35) << UNIT_SHIFT)
    piece = slice8(high, low, depth)
    head = load64(node + ((piece >> 5) << 3))
    run = shift_right(head, 32) + popcount(head & ((2 << (piece & 31)) - 1))
    return node + (HEADS_BYTES - 8) + (run << 3)


@inline
def search(base: int, word: int, high: int, low: int) -> int:
    """Next hop of the first route of the list below ``word`` that covers an address, else that of ``word``, or -1."""
    entry = base + (shift_right(word, 35) << UNIT_SHIFT)
    for _ in range(shift_right(word, 32) & 7):
        last = load64(entry + 16)
        if common_bits(high, low, load64(entry), load64(entry + 8)) >= shift_right(last, 32):
            return (last & HOP_MASK) - 1
        entry += ENTRY_BYTES
    return (word & HOP_MASK) - 1


@inline
def find(base: int, word: int, high: int, low: int, depth: int) -> int:
    """Next hop of the longest prefix below ``word``, which stands for the first ``depth`` bits; -1 if there is none."""
    hop = word & HOP_MASK
    below = shift_right(word, 32)
    while below & 7 == NODE:
        word = load64(piece_word(base, word, high, low, depth))
        found = word & HOP_MASK
        hop = found if found != 0 else hop
        below = shift_right(word, 32)
        depth += 8
    return search(base, (below << 32) | hop, high, low)


class Lpm6View(View):
    """The data side of :class:`~wirespeed.tables.lpm6.Lpm6`."""

    SIZE = RECORD_BYTES

    def lookup(self, high: int, low: int) -> int:
        """Next hop of the longest prefix that covers the address (high, low), or -1."""
        base = self.address
        return find(base, load64(base + RECORD_BYTES + (shift_right(high, 48) << 3)), high, low, ROOT_BITS)

    def prefetch(self, high: int, low: int) -> None:
        """Ask for the line that ``lookup(high, low)`` reads first."""
        prefetch_line(self.address + RECORD_BYTES + (shift_right(high, 48) << 3))

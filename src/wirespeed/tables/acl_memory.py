"""The memory of an access list: decision trees of single words, whose leaves are blocks of eight rules.

    region
    offset   bytes     what
    0        128       record (:class:`AclView`): which of the two areas workers read
    128      2 * area  areas: one is read, the other is free for the next set of rules

    area
    0        64        counts (:class:`Area`)
    64       8 * 8     root entries of up to eight trees
    128      ...       actions + 1, a u32 for each rank; after the last one 0, "no rule"
    ...      ...       rule numbers + 1, the same
    ...      ...       the rules in their order of rank (:data:`~wirespeed.tables.acl_rule.RULE`)
    ...      ...       pool of nodes and blocks

    entry (64 bits)
    inner node                                     leaf
    bit  63      0                                 1
    bits 45..41  bits of the packet to take        bits 62..32: number of blocks
    bits 40..38  from which word
    bits 37..32  shifted right by this
    bits 31..0   place / 32 of its children        place / 32 of its blocks, from the area's start

A rule's *rank* is its place in the order of priority: 0 wins over all. A packet is a few words: IPv4 has
(source << 32 | destination) and (protocol << 32 | source port << 16 | destination port), IPv6 has two words for each
address before the latter. A node takes some bits of one word and has a child for each value: one load a level, and an
entry says all about the node it leads to. A leaf's blocks hold all rules that a packet which comes here can match, in
order of rank, each with all its fields, so bits that no node asked for are compared there
(:mod:`wirespeed.jit.match8`). A rank behind the last of a block says "none", so a block needs no branch.

Rules that would be copied into most children of a node are left to the next tree; the best rank of all trees counts.

:func:`classify4` and :func:`classify6` walk with many packets at a time, level by level: their loads overlap.

``docs/design/0010-access-lists.md`` says why and what was measured.
"""
# mypy: no-warn-return-any, allow-untyped-calls

from typing import Any

from wirespeed.jit import (
    View,
    inline,
    kernel,
    le64,
    load8,
    load16,
    load32,
    load64,
    load_acquire,
    prefetch,
    shift_right,
    store64,
    trailing_zeros,
)
from wirespeed.jit.match8 import V4_BYTES, V4_FREE, V6_BYTES, V6_FREE, match8_v4, match8_v6

RECORD_BYTES: int = 128
AREA_HEAD: int = 128
ROOTS: int = 64
MAX_TREES: int = 8
MAX_RULES: int = 1 << 20
"""More were not tried."""

BLOCKS_MASK: int = (1 << 31) - 1
PLACE_MASK: int = 0xFFFF_FFFF
LEAF: int = -(1 << 63)
BATCH: int = 32
"""Packets that are under way at a time in bulk."""


class Area(View):
    """What an area says about itself."""

    count = le64(0, "rules")
    trees = le64(8)
    numbers = le64(16, "place of the rule numbers")
    used = le64(24, "bytes of the area in use")
    depth = le64(32, "levels of the deepest tree")
    longest = le64(40, "rules in the longest leaf")
    copies = le64(48, "rules in all leaves, copies counted")
    nodes = le64(56, "entries of all nodes")
    SIZE = AREA_HEAD


@inline
def follow(area: int, entry: int, word: int) -> int:
    """The entry that an inner node has for ``word``, the one it asks for."""
    bits = shift_right(word, entry >> 32 & 63) & ((1 << (entry >> 41 & 31)) - 1)
    return load64(area + ((entry & PLACE_MASK) << 5) + (bits << 3))


@inline
def _scan4(
    area: int, entry: int, best: int, none: int, src: int, dst: int, ports: int, protocol: int,
) -> int:  # fmt: skip
    """The best rank of ``best`` and of the rules of a leaf. Most leaves have one block: the branch is foreseen."""
    block = area + ((entry & PLACE_MASK) << 5)
    found = match8_v4(block, src, dst, ports, protocol)
    rank = load32(block + V4_FREE + (trailing_zeros(found | 256) << 2))
    blocks = entry >> 32 & BLOCKS_MASK
    while blocks > 1 and rank == none:
        block += V4_BYTES
        blocks -= 1
        found = match8_v4(block, src, dst, ports, protocol)
        rank = load32(block + V4_FREE + (trailing_zeros(found | 256) << 2))
    return min(rank, best)


@inline
def _scan6(
    area: int, entry: int, best: int, none: int,
    src_high: int, src_low: int, dst_high: int, dst_low: int, ports: int, protocol: int,
) -> int:  # fmt: skip
    """The best rank of ``best`` and of the rules of a leaf. Most leaves have one block: the branch is foreseen."""
    block = area + ((entry & PLACE_MASK) << 5)
    found = match8_v6(block, src_high, src_low, dst_high, dst_low, ports, protocol)
    rank = load32(block + V6_FREE + (trailing_zeros(found | 256) << 2))
    blocks = entry >> 32 & BLOCKS_MASK
    while blocks > 1 and rank == none:
        block += V6_BYTES
        blocks -= 1
        found = match8_v6(block, src_high, src_low, dst_high, dst_low, ports, protocol)
        rank = load32(block + V6_FREE + (trailing_zeros(found | 256) << 2))
    return min(rank, best)


@inline
def _rank4(area: int, src: int, dst: int, protocol: int, sport: int, dport: int) -> int:
    """The best rank that matches, or the number of rules."""
    head = Area(area)
    none = head.count
    ports = (sport & 0xFFFF) << 16 | dport & 0xFFFF
    addresses, rest = (src & 0xFFFF_FFFF) << 32 | dst & 0xFFFF_FFFF, (protocol & 0xFF) << 32 | ports
    best = none
    for tree in range(head.trees):
        entry = load64(area + ROOTS + (tree << 3))
        while entry >= 0:
            entry = follow(area, entry, rest if entry >> 38 & 1 != 0 else addresses)
        best = _scan4(area, entry, best, none, src, dst, ports, protocol)
    return best


@inline
def _rank6(
    area: int, src_high: int, src_low: int, dst_high: int, dst_low: int, protocol: int, sport: int, dport: int
) -> int:
    """The best rank that matches, or the number of rules."""
    head = Area(area)
    none = head.count
    ports = (sport & 0xFFFF) << 16 | dport & 0xFFFF
    rest = (protocol & 0xFF) << 32 | ports
    best = none
    for tree in range(head.trees):
        entry = load64(area + ROOTS + (tree << 3))
        while entry >= 0:
            src = src_low if entry >> 38 & 1 != 0 else src_high
            dst = dst_low if entry >> 38 & 1 != 0 else dst_high
            word = dst if entry >> 39 & 1 != 0 else src
            entry = follow(area, entry, rest if entry >> 40 & 1 != 0 else word)
        best = _scan6(area, entry, best, none, src_high, src_low, dst_high, dst_low, ports, protocol)
    return best


@inline
def _said(area: int, table: int, rank: int) -> int:
    """What a table of an area (actions, rule numbers) says for a rank; -1 for "no rule"."""
    return load32(area + table + (rank << 2)) - 1


class AclView(View):
    """The record of an access list: which area is read."""

    current = le64(0, "offset of the area that is read")
    generation = le64(8, "goes up with each set of rules")
    capacity = le64(16, "rules that an area has room for")
    area_bytes = le64(24)
    SIZE = RECORD_BYTES


class Acl4View(AclView):
    """The data side of :class:`~wirespeed.tables.acl.Acl4`."""

    SIZE = RECORD_BYTES

    def classify(self, src: int, dst: int, protocol: int, sport: int, dport: int) -> int:
        """The action of the best rule that matches, or -1."""
        area = self.address + load_acquire(self.address)
        return _said(area, AREA_HEAD, _rank4(area, src, dst, protocol, sport, dport))

    def match(self, src: int, dst: int, protocol: int, sport: int, dport: int) -> int:
        """The number of the best rule that matches, or -1."""
        area = self.address + load_acquire(self.address)
        return _said(area, Area(area).numbers, _rank4(area, src, dst, protocol, sport, dport))

    def classify_packet(self, pkt: Any) -> int:
        """The same as ``classify`` for an IPv4 packet; -1 for what is none. Ports of fragments are 0."""
        if not pkt.ipv4:
            return -1
        ip, tcp, udp = pkt.ipv4, pkt.tcp, pkt.udp
        return self.classify(ip.src, ip.dst, pkt.protocol, tcp.sport | udp.sport, tcp.dport | udp.dport)


class Acl6View(AclView):
    """The data side of :class:`~wirespeed.tables.acl.Acl6`."""

    SIZE = RECORD_BYTES

    def classify(self, src: Any, dst: Any, protocol: int, sport: int, dport: int) -> int:
        """The action of the best rule that matches, or -1; the addresses are pairs (high, low)."""
        area = self.address + load_acquire(self.address)
        return _said(area, AREA_HEAD, _rank6(area, src[0], src[1], dst[0], dst[1], protocol, sport, dport))

    def match(self, src: Any, dst: Any, protocol: int, sport: int, dport: int) -> int:
        """The number of the best rule that matches, or -1."""
        area = self.address + load_acquire(self.address)
        rank = _rank6(area, src[0], src[1], dst[0], dst[1], protocol, sport, dport)
        return _said(area, Area(area).numbers, rank)

    def classify_packet(self, pkt: Any) -> int:
        """The same as ``classify`` for an IPv6 packet; -1 for what is none. Ports of fragments are 0."""
        if not pkt.ipv6:
            return -1
        ip, tcp, udp = pkt.ipv6, pkt.tcp, pkt.udp
        return self.classify(ip.src, ip.dst, pkt.protocol, tcp.sport | udp.sport, tcp.dport | udp.dport)


# Bulk ---------------------------------------------------------------------------------------------------------
# Scratch memory of a call: a line a packet with its words, then its best rank, then its entry.

KEY_BYTES: int = 64
BEST_AT: int = 48
ENTRY_AT: int = 56
SCRATCH_BYTES: int = BATCH * KEY_BYTES


@inline
def _walk(area: int, root: int, keys: int, end: int) -> None:
    """Take every packet between ``keys`` and ``end`` to its leaf of one tree, all a level at a time."""
    for key in range(keys, end, KEY_BYTES):
        store64(key + ENTRY_AT, root)
    leaves = root
    while leaves >= 0:
        leaves = -1
        for key in range(keys, end, KEY_BYTES):
            entry = load64(key + ENTRY_AT)
            word = load64(key + (entry >> 35 & 56))
            bits = shift_right(word, entry >> 32 & 63) & ((1 << (entry >> 41 & 31)) - 1)
            child = area + ((entry & PLACE_MASK) << 5) + (bits << 3)
            entry = load64(child if entry >= 0 else key + ENTRY_AT)  # a leaf stays: a choice of addresses is no branch
            store64(key + ENTRY_AT, entry)
            leaves &= entry


@kernel
def classify4(
    area: int, table: int, scratch: int, src: int, dst: int, protocol: int, sport: int, dport: int, count: int, out: int
) -> None:
    """Classify ``count`` packets whose fields are in columns of u32, u32, u8, u16 and u16; ``out`` is of i64."""
    head = Area(area)
    none = head.count
    for first in range(0, count, BATCH):
        size = min(BATCH, count - first)
        end = scratch + size * KEY_BYTES
        for i in range(size):
            at, key = first + i, scratch + i * KEY_BYTES
            store64(key, load32(src + at * 4) << 32 | load32(dst + at * 4))
            store64(key + 8, load8(protocol + at) << 32 | load16(sport + at * 2) << 16 | load16(dport + at * 2))
            store64(key + BEST_AT, none)
        for tree in range(head.trees):
            _walk(area, load64(area + ROOTS + (tree << 3)), scratch, end)
            for key in range(scratch, end, KEY_BYTES):
                block = area + ((load64(key + ENTRY_AT) & PLACE_MASK) << 5)
                for line in range(0, V4_BYTES, 64):
                    prefetch(block + line)
            for key in range(scratch, end, KEY_BYTES):
                ends, rest = load64(key), load64(key + 8)
                best = load64(key + BEST_AT)
                entry = load64(key + ENTRY_AT)
                store64(key + BEST_AT, _scan4(area, entry, best, none, ends >> 32, ends, rest, rest >> 32))
        for i in range(size):
            store64(out + (first + i) * 8, _said(area, table, load64(scratch + i * KEY_BYTES + BEST_AT)))


@kernel
def classify6(
    area: int, table: int, scratch: int, src: int, dst: int, protocol: int, sport: int, dport: int, count: int, out: int
) -> None:
    """As :func:`classify4`; the addresses are columns of pairs of u64 (high, low)."""
    head = Area(area)
    none = head.count
    for first in range(0, count, BATCH):
        size = min(BATCH, count - first)
        end = scratch + size * KEY_BYTES
        for i in range(size):
            at, key = first + i, scratch + i * KEY_BYTES
            store64(key, load64(src + at * 16))
            store64(key + 8, load64(src + at * 16 + 8))
            store64(key + 16, load64(dst + at * 16))
            store64(key + 24, load64(dst + at * 16 + 8))
            store64(key + 32, load8(protocol + at) << 32 | load16(sport + at * 2) << 16 | load16(dport + at * 2))
            store64(key + BEST_AT, none)
        for tree in range(head.trees):
            _walk(area, load64(area + ROOTS + (tree << 3)), scratch, end)
            for key in range(scratch, end, KEY_BYTES):
                block = area + ((load64(key + ENTRY_AT) & PLACE_MASK) << 5)
                for line in range(0, V6_BYTES, 64):
                    prefetch(block + line)
            for key in range(scratch, end, KEY_BYTES):
                rest, best, entry = load64(key + 32), load64(key + BEST_AT), load64(key + ENTRY_AT)
                best = _scan6(
                    area, entry, best, none,
                    load64(key), load64(key + 8), load64(key + 16), load64(key + 24), rest, rest >> 32,
                )  # fmt: skip
                store64(key + BEST_AT, best)
        for i in range(size):
            store64(out + (first + i) * 8, _said(area, table, load64(scratch + i * KEY_BYTES + BEST_AT)))


@inline
def leaf_entry(place: int, blocks: int) -> int:
    """The entry that leads to a leaf."""
    return LEAF | blocks << 32 | place >> 5


@inline
def node_entry(place: int, word: int, shift: int, width: int) -> int:
    """The entry that leads to an inner node."""
    return width << 41 | word << 38 | shift << 32 | place >> 5

"""The compiler of access lists: rules in order of rank to decision trees (:mod:`wirespeed.tables.acl_memory`).

A node holds the rules that packets of its *region* can match, where a region is some bits that are known and an
interval of either port. It is cut by taking some bits of one field: those that tell most rules apart, judged by how
evenly zeros and ones are spread (:func:`_window`), weighed by the number of rules that a packet then still meets, the
copies made, and the rules sent to the next tree (:func:`_judge`). The ideas and where they come from:

* cuts into equal parts, and rules behind one that covers the whole region are dropped: P. Gupta and N. McKeown,
  "Packet classification using hierarchical intelligent cuttings", Hot Interconnects 1999 (HiCuts);
* rules with wildcards in the cut field go to trees of their own: B. Vamanan, G. Voskuilen and T. Vijaykumar,
  "EffiCuts", SIGCOMM 2010; here each node decides it for its rules, large nodes only;
* any bits of a field, not only the next ones, since leaves compare all fields anyway: T. Woo, "A modular approach to
  packet classification", INFOCOM 2000.

Everything is bounded. A node is cut only if all lists that are then pending still fit into the pool as leaves, so
compiling cannot fail once the rules fit as one list: hostile sets end in long leaves, not in more memory. A list in
``work`` is on top of those pending before it; a node's children overwrite it.
"""
# mypy: no-warn-return-any, allow-untyped-calls

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wirespeed.jit import (
    add,
    cold,
    fill,
    inline,
    kernel,
    leading_zeros,
    load64,
    multiply,
    shift_right,
    store8,
    store32,
    store64,
    trailing_zeros,
)
from wirespeed.jit.match8 import V4_BYTES, V4_FREE, V4_PORTS, V6_BYTES, V6_FREE, V6_PORTS
from wirespeed.tables.acl_memory import (
    BLOCKS_MASK,
    MAX_TREES,
    ROOTS,
    Area,
    follow,
    leaf_entry,
    node_entry,
)

BLOCK: int = 8
"""Rules of a block."""
MAX_WIDTH: int = 13
"""Bits that a node may take: it then has 8,192 children."""
MAX_DEPTH: int = 32
GAIN: float = 1.0
"""A cut must save this many rules."""
NEVER: int = 1 << 30
SHAPES: tuple[tuple[int, int, int], ...] = ((4, 1, 48), (8, 2, 200), (8, 2, 1000), (2, 2, NEVER), (3, 2, NEVER))
"""What is tried. A cut may make *growth* copies of a rule, on the average. From *defer_from* rules on, a node leaves
rules with wildcards in all but *slack* of the bits it takes to the next tree: many trees of few copies, or one
of many. Which is better depends on the rules: each shape that fits is judged by :func:`probe`, and the best is kept."""
IMPOSSIBLE: float = 1e30

# Columns of a pending node.
ENTRY, START, COUNT, DEPTH, LOW, HIGH, KNOWN = 0, 1, 2, 3, 4, 6, 8
COLUMNS: int = KNOWN + 5
# Columns of a cut.
WORD, SHIFT, WIDTH, PORT, LIMIT = 0, 1, 2, 3, 4


@inline
def _length(number: int) -> int:
    """Bits of a number, 0 for 0."""
    return 64 - leading_zeros(number)


@cold
def _narrow(rules: Any, words: int, work: Any, node: Any) -> None:
    """Shrink a node's region to what its rules have in common: a packet outside matches none of them."""
    values, masks, ports = rules
    start, count = int(node[START]), int(node[COUNT])
    for word in range(words):
        cared, ones, some = -1, -1, 0
        for i in range(start, start + count):
            rule = int(work[i])
            value = int(values[rule, word])
            cared &= int(masks[rule, word])
            ones &= value
            some |= value
        node[KNOWN + word] |= cared & ~(ones ^ some)
    for port in range(2):
        low, high = 65535, 0
        for i in range(start, start + count):
            rule = int(work[i])
            low = min(low, max(int(ports[rule, port]), int(node[LOW + port])))
            high = max(high, min(int(ports[rule, 2 + port]), int(node[HIGH + port])))
        bits = _length(low ^ high)
        node[LOW + port] = low >> bits << bits
        node[HIGH + port] = (low >> bits << bits) + (1 << bits) - 1


@inline
def _covers(rules: Any, words: int, rule: int, node: Any) -> bool:
    """Whether every packet of a region matches a rule that some packet of it matches."""
    _, masks, ports = rules
    for word in range(words):
        if int(masks[rule, word]) & ~int(node[KNOWN + word]) != 0:
            return False
    for port in range(2):
        if int(ports[rule, port]) > int(node[LOW + port]) or int(ports[rule, 2 + port]) < int(node[HIGH + port]):
            return False
    return True


@cold
def _window(
    rules: Any, words: int, work: Any, node: Any, first: int, last: int, word: int, width: int, spread: Any
) -> int:
    """Where, from bit ``first`` to ``last`` of a word, ``width`` bits tell most rules apart; -1 if none do."""
    values, masks, _ = rules
    start, count = int(node[START]), int(node[COUNT])
    stride = max(1, count >> 11)  # 2,048 rules are enough to judge by
    for bit in range(first, last):
        spread[bit, 0] = 0
        spread[bit, 1] = 0
    seen = (-1 if last == 64 else (1 << last) - 1) & ~((1 << first) - 1)
    for i in range(start, start + count, stride):
        rule = int(work[i])
        mask, value = int(masks[rule, word]) & seen, int(values[rule, word])
        for side in range(2):
            left = mask & value if side else mask & ~value
            while left != 0:
                bit = trailing_zeros(left)
                spread[bit, side] += 1
                left &= add(left, -1)
    best, at, total = 0, -1, 0
    for bit in range(first, last):
        total += min(int(spread[bit, 0]), int(spread[bit, 1]))
        if bit - width >= first:
            total -= min(int(spread[bit - width, 0]), int(spread[bit - width, 1]))
        if bit - width + 1 >= first and total > best:
            best, at = total, bit - width + 1
    return at


@cold
def _part(rules: Any, rule: int, node: Any, cut: Any) -> tuple[int, int, int]:
    """(first child, free bits, copies) of a rule: children are first | any subset of free bits; for ports, a row."""
    values, masks, ports = rules
    shift, ones = int(cut[SHIFT]), (1 << int(cut[WIDTH])) - 1
    port = int(cut[PORT])
    if port >= 0:
        low = max(int(ports[rule, port]), int(node[LOW + port]))
        high = min(int(ports[rule, 2 + port]), int(node[HIGH + port]))
        place = shift - (16 if port == 0 else 0)
        first = low >> place & ones
        return first, 0, (high >> place & ones) - first + 1
    free = ~shift_right(int(masks[rule, int(cut[WORD])]), shift) & ones
    value = shift_right(int(values[rule, int(cut[WORD])]), shift) & ones & ~free
    bits = 0
    left = free
    while left != 0:
        bits += 1
        left &= left - 1
    return value, free, 1 << bits


@cold
def _judge(
    rules: Any, work: Any, node: Any, cut: Any, defer: bool, growth: int, slack: int, degrees: Any, sizes: Any
) -> float:
    """What a cut is worth: rules that a packet still meets, weighed; sets the cut's limit of copies a rule."""
    start, count, width = int(node[START]), int(node[COUNT]), int(cut[WIDTH])
    for i in range(width + 2):
        degrees[i] = 0
    for i in range(start, start + count):
        first, free, copies = _part(rules, int(work[i]), node, cut)
        degrees[_length(copies - 1)] += 1
    kept, total = count, 0
    for degree in range(width + 1):
        total += int(degrees[degree]) << degree
    limit = width
    while limit >= 0 and (total > growth * kept or (defer and limit > max(width - slack, 0))):
        if not defer:
            return IMPOSSIBLE
        total -= int(degrees[limit]) << limit
        kept -= int(degrees[limit])
        limit -= 1
    cut[LIMIT] = 1 << max(limit, 0)
    if kept * 2 < count:
        return IMPOSSIBLE
    for i in range(1 << width):
        sizes[i] = 0
    for i in range(start, start + count):
        first, free, copies = _part(rules, int(work[i]), node, cut)
        if copies <= int(cut[LIMIT]):
            subset = 0
            for k in range(copies):
                sizes[first + k if free == 0 else first | subset] += 1
                subset = (subset - free) & free
    squares, members = 0, 0
    for i in range(1 << width):
        squares += int(sizes[i]) ** 2
        members += int(sizes[i])
    return squares / members * (members / kept) ** 0.5 * (1.0 + 2.0 * (count - kept) / count)


@cold
def _choose(
    rules: Any, words: int, work: Any, node: Any, defer: bool, growth: int, slack: int,
    cut: Any, trial: Any, spread: Any, degrees: Any, sizes: Any,
) -> float:  # fmt: skip
    """The best cut of a node, in ``cut``; what it is worth, or IMPOSSIBLE."""
    best = IMPOSSIBLE
    wanted = max(1, min(MAX_WIDTH, _length(int(node[COUNT]) - 1) - 1))
    for field in range(words + 4):
        for less in range(0, wanted, 2):
            width = wanted - less
            if field >= words + 2:  # a port
                port = field - words - 2
                bits = _length(int(node[LOW + port]) ^ int(node[HIGH + port]))
                width = min(width, bits)
                word, shift = words - 1, bits - width + (16 if port == 0 else 0)
            else:
                port = -1
                if words == 2:  # destination, source, protocol
                    word, first, last = (0, 32 * field, 32 * field + 32) if field < 2 else (1, 32, 40)
                    if field > 2:
                        break
                else:
                    word, first, last = (field, 0, 64) if field < 4 else (4, 32, 40)
                    if field > 4:
                        break
                width = min(width, last - first)
                shift = _window(rules, words, work, node, first, last, word, width, spread)
            if width == 0 or shift < 0:
                break
            trial[WORD], trial[SHIFT], trial[WIDTH], trial[PORT] = word, shift, width, port
            worth = _judge(rules, work, node, trial, defer, growth, slack, degrees, sizes)
            if worth < best:
                best = worth
                for i in range(5):
                    cut[i] = trial[i]
            if worth < IMPOSSIBLE:
                break
    return best


@inline
def _block_bytes(words: int) -> int:
    return V4_BYTES if words == 2 else V6_BYTES


@inline
def _bytes_for(count: int, words: int) -> int:
    """Bytes of the leaf of a list."""
    return max(1, (count + BLOCK - 1) // BLOCK) * _block_bytes(words)


@cold
def _leaf(rules: Any, words: int, area: int, place: int, lists: Any, start: int, count: int, none: int) -> int:
    """Write a list as blocks at ``place``; its entry."""
    values, masks, ports = rules
    size = _block_bytes(words)
    blocks = max(1, (count + BLOCK - 1) // BLOCK)
    fill(area + place, 0, blocks * size)
    fields, ranks = (V4_PORTS, V4_FREE) if words == 2 else (V6_PORTS, V6_FREE)
    for i in range(blocks * BLOCK):
        block, lane = area + place + i // BLOCK * size, i % BLOCK
        if lane == 0:
            store32(block + ranks + 4 * BLOCK, none)
        at = block + fields + lane * 4
        if i >= count:  # a lane that matches nothing: its lowest port is above its highest
            store32(at, -1)
            continue
        rule = int(lists[start + i])
        store32(block + ranks + lane * 4, rule)
        if words == 2:
            value, mask = int(values[rule, 0]), int(masks[rule, 0])
            store32(block + lane * 4, value >> 32)
            store32(block + lane * 4 + 32, mask >> 32)
            store32(block + lane * 4 + 64, value)
            store32(block + lane * 4 + 96, mask)
        else:
            for word in range(4):
                store64(block + word * 64 + lane * 8, int(values[rule, word]))
                store64(block + word * 64 + lane * 8 + 256, int(masks[rule, word]))
        store32(at, int(ports[rule, 0]) << 16 | int(ports[rule, 1]))
        store32(at + 32, int(ports[rule, 2]) << 16 | int(ports[rule, 3]))
        store8(block + fields + 64 + lane, int(values[rule, words - 1]) >> 32)
        store8(block + fields + 72 + lane, int(masks[rule, words - 1]) >> 32)
    return leaf_entry(place, blocks)


@cold
def _unite(group: Any, held: int, work: Any, start: int, count: int, united: Any) -> int:
    """Merge two ordered lists; the new length, or -1 if it is more than a block (then nothing is changed)."""
    i, k, size = 0, 0, 0
    while i < held or k < count:
        if size == BLOCK:
            return -1
        left = int(group[i]) if i < held else 1 << 60
        right = int(work[start + k]) if k < count else 1 << 60
        united[size] = min(left, right)
        size += 1
        i += left <= right
        k += right <= left
    for i in range(size):
        group[i] = united[i]
    return size


@inline
def _close(
    rules: Any, words: int, area: int, place: int, group: Any, held: int, none: int, entries: int, count: int
) -> None:
    """Write the open leaf, and ``count`` entries that lead to it: those of pending children are overwritten later."""
    entry = _leaf(rules, words, area, place, group, 0, held, none)
    for i in range(count):
        store64(area + entries + 8 * i, entry)


@kernel
def build(
    values: Any, masks: Any, ports: Any, area: int, pool: int, limit: int, work: Any, stack: Any,
    notes: Any, spread: Any, sizes: Any, later: Any,
    growth: int, slack: int, defer_from: int, patient: int,
) -> int:  # fmt: skip
    """Compile rules into an area.

    Args:
        values, masks: the words of each rule, in order of rank; the ports' bits are zero in both.
        ports: lowest source and destination port, highest source and destination port of each rule.
        area: address of it; its tables are written already.
        pool, limit: where in the area nodes and blocks may be, a multiple of 64.
        work: int64, for lists: two for each rule that fits in the pool, and four for each there is.
        stack: rows of COLUMNS int64, one for each block that fits, and MAX_TREES more.
        notes, spread, sizes, later: int64, scratch of the shapes that :func:`scratch` gives.
        growth, slack, defer_from: a row of :data:`SHAPES`.
        patient: whether to go on with long leaves when the pool has no room for another cut.

    Returns:
        1, or 0 if there is no room: never when it is patient and the rules fit as one list.
    """
    rules = (values, masks, ports)
    head = Area(area)
    total, words = len(values), values.shape[1]
    group, united, cut, trial, degrees = notes[0], notes[1], notes[2], notes[3], notes[4]
    place, trees, depth, longest, copies, nodes = pool, 0, 0, 0, 0, 0
    if place + _bytes_for(total, words) > limit:
        return 0
    for i in range(total):
        later[i] = 1
    waiting = total
    while waiting > 0 or trees == 0:
        count = 0
        for i in range(total):
            if later[i] != 0:
                work[count] = i
                count += 1
                later[i] = 0
        waiting = 0
        root = stack[0]
        for i in range(COLUMNS):
            root[i] = 0
        root[ENTRY], root[COUNT] = ROOTS + 8 * trees, count
        root[HIGH], root[HIGH + 1] = 65535, 65535
        trees += 1
        pending, top = _bytes_for(count, words), 1
        while top > 0:
            top -= 1
            node = stack[top]
            start, count = int(node[START]), int(node[COUNT])
            entry_at, level = int(node[ENTRY]), int(node[DEPTH])
            pending -= _bytes_for(count, words)
            depth = max(depth, level)
            worth, defer = IMPOSSIBLE, False
            if count > BLOCK and level < MAX_DEPTH:
                _narrow(rules, words, work, node)
                if count >= defer_from and trees < MAX_TREES:
                    defer = True
                    worth = _choose(rules, words, work, node, True, growth, slack, cut, trial, spread, degrees, sizes)
                if worth + GAIN > count:
                    defer = False
                    worth = _choose(rules, words, work, node, False, growth, slack, cut, trial, spread, degrees, sizes)
            fits = worth + GAIN <= count
            width = int(cut[WIDTH])
            if fits:  # how many rules each child gets, and whether all that could then be pending has room
                for i in range(1 << width):
                    sizes[i] = 0
                left = 0
                for i in range(start, start + count):
                    first, free, each = _part(rules, int(work[i]), node, cut)
                    if defer and each > int(cut[LIMIT]):
                        left += 1
                        continue
                    subset = 0
                    for k in range(each):
                        sizes[first + k if free == 0 else first | subset] += 1
                        subset = (subset - free) & free
                large, small = 0, 0
                for i in range(1 << width):
                    size = int(sizes[i])
                    if size > BLOCK:
                        large += _bytes_for(size, words)
                    else:
                        small += size
                leaves = (2 * small // (BLOCK + 1) + 2) * _block_bytes(words)
                need = place + (8 << width) + 64 + large + leaves + _bytes_for(waiting + left, words) + pending
                fits = need <= limit
                if not fits and patient == 0:
                    return 0
            if not fits:
                place_entry = _leaf(rules, words, area, place, work, start, count, total)
                store64(area + entry_at, place_entry)
                place += _bytes_for(count, words)
                longest, copies = max(longest, count), copies + count
                continue
            children = place
            store64(area + entry_at, node_entry(children, int(cut[WORD]), int(cut[SHIFT]), width))
            place += ((8 << width) + 63) // 64 * 64
            nodes += 1 << width
            # The lists of the children, one after the other, above the node's own.
            at = start + count
            for i in range(1 << width):
                size = int(sizes[i])
                sizes[i] = at
                at += size
            sizes[1 << width] = at
            for i in range(start, start + count):
                rule = int(work[i])
                first, free, each = _part(rules, rule, node, cut)
                if defer and each > int(cut[LIMIT]):
                    waiting += 1 - int(later[rule])
                    later[rule] = 1
                    continue
                subset = 0
                for k in range(each):
                    child = first + k if free == 0 else first | subset
                    work[int(sizes[child])] = rule
                    sizes[child] += 1
                    subset = (subset - free) & free
            # Their regions; short lists are united to leaves, long ones are pending.
            low, high = (int(node[LOW]), int(node[LOW + 1])), (int(node[HIGH]), int(node[HIGH + 1]))
            known = trial
            for word in range(words):
                known[word] = node[KNOWN + word]
            port = int(cut[PORT])
            if port < 0:
                known[int(cut[WORD])] |= add(((1 << width) - 1) << int(cut[SHIFT]), 0)  # wraps in both machines
            part = int(cut[SHIFT]) - (16 if port == 0 else 0)
            begin, write, held, opened = start + count, start, 0, 0
            for child in range(1 << width):
                row = stack[top]
                end = int(sizes[child])
                row[ENTRY], row[START], row[DEPTH] = children + 8 * child, write, level + 1
                row[LOW], row[LOW + 1] = low
                row[HIGH], row[HIGH + 1] = high
                if port >= 0:
                    row[LOW + port] = low[port] + (child << part)
                    row[HIGH + port] = low[port] + (child << part) + (1 << part) - 1
                for word in range(words):
                    row[KNOWN + word] = known[word]
                size = end - begin
                for i in range(begin, end):
                    if _covers(rules, words, int(work[i]), row):
                        size = i - begin + 1
                        break
                if size > BLOCK:
                    for i in range(size):
                        work[write + i] = work[begin + i]
                    row[COUNT] = size
                    write += size
                    pending += _bytes_for(size, words)
                    top += 1
                else:
                    more = _unite(group, held, work, begin, size, united)
                    if more < 0:  # the open leaf is full: close it, begin another
                        _close(rules, words, area, place, group, held, total, children + 8 * opened, child - opened)
                        place += _bytes_for(held, words)
                        longest, copies = max(longest, held), copies + held
                        held, opened = _unite(group, 0, work, begin, size, united), child
                    else:
                        held = more
                begin = end
            _close(rules, words, area, place, group, held, total, children + 8 * opened, (1 << width) - opened)
            place += _bytes_for(held, words)
            longest, copies = max(longest, held), copies + held
    head.trees, head.depth, head.longest, head.copies = trees, depth, longest, copies
    head.nodes, head.used = nodes, place
    return 1


TREE_COST, LEVEL_COST, BLOCK_COST, MORE_COST = 20, 4, 12, 15
"""Cycles: to begin a tree, of a level, of a block, and of a branch that nobody foresaw for a second block."""


@inline
def _some(seed: int) -> int:
    """Any bits, the same for the same seed."""
    word = multiply(seed ^ shift_right(seed, 31), 0x7FB5D329728EA185)
    return word ^ shift_right(word, 27)


@kernel
def probe(values: Any, masks: Any, ports: Any, area: int, tries: int) -> int:
    """What packets that match a rule each cost in an area, in cycles for all ``tries``, roughly; no clock is read."""
    total, words, cost = len(values), values.shape[1], 0
    for i in range(tries):
        rule = i * total // tries
        rest = int(values[rule, words - 1]) | (6 << 32 & ~int(masks[rule, words - 1]))
        for port in range(2):
            low, high = int(ports[rule, port]), int(ports[rule, 2 + port])
            rest |= low + (_some(2 * i + port) & 0xFFFF) % (high - low + 1) << 16 * (1 - port)
        for tree in range(Area(area).trees):
            entry = load64(area + ROOTS + 8 * tree)
            cost += TREE_COST
            while entry >= 0:
                word = entry >> 38 & 7
                free = ~int(masks[rule, word]) & _some(i * 8 + word)
                entry = follow(area, entry, rest if word == words - 1 else int(values[rule, word]) | free)
                cost += LEVEL_COST
            blocks = entry >> 32 & BLOCKS_MASK
            cost += BLOCK_COST * blocks + (MORE_COST if blocks > 1 else 0)
    return cost


def scratch(count: int) -> tuple[NDArray[np.int64], ...]:
    """Scratch for compiling that many rules."""
    shapes: tuple[tuple[int, ...], ...] = ((5, 32), (64, 2), ((1 << MAX_WIDTH) + 1,), (count,))
    return tuple(np.zeros(shape, dtype=np.int64) for shape in shapes)

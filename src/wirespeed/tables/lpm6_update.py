"""Changing a trie (:mod:`wirespeed.tables.lpm6_memory`) under live readers.

What a reader can reach changes by single stores of aligned words: a next hop in place; or a node or list made anew
beside the old one, then the one word that leads to it. The old one is used again after a grace period. So a reader sees
a route's old state or its new one in each place; of a change of several places it may see some.

Adding fails, with nothing changed, when no memory is left. Deleting never needs any: with none left it works in place
and leaves runs unmerged, or a list's entry that matches nothing, until the next change there.
"""
# mypy: no-warn-return-any

from wirespeed.jit import (
    cold,
    copy,
    fill,
    inline,
    kernel,
    load64,
    popcount,
    shift_right,
    store64,
    store_release,
    trailing_zeros,
)  # fmt: skip
from wirespeed.tables.lpm6_chunks import allocate, has_block, order_of, retire
from wirespeed.tables.lpm6_memory import (
    ENTRY_BYTES,
    HEADS,
    HEADS_BYTES,
    HOP_BITS,
    HOP_MASK,
    LIST_MAX,
    LIST_MIN,
    LOW_MASK,
    NODE,
    ROOT_BITS,
    ROUTES,
    RUNS,
    SLOTS,
    STACK,
    UNIT_SHIFT,
    Record,
    Table,
    common_bits,
    slice8,
)  # fmt: skip
from wirespeed.tables.rib6 import below, exact, insert, remove

DONE, FULL, NO_ROOM, WAITING, ABSENT = 0, 1, 2, 3, 4
"""What a change ended with: no chunk left, too many routes, too many chunks wait for a grace period, no such route."""
_RETIRED_MAX: int = 64  # chunks one change may retire: two lists and two branches of 14 nodes
_NO_MATCH: int = 255 << 32  # no two addresses share so many bits
_COVER, _UNCOVER, _LEAD = 0, 1, 2


@inline
def _low(length: int, hop: int) -> int:
    return length << HOP_BITS | hop


@inline
def _below(slot: int) -> int:
    return shift_right(load64(slot), 32)


@inline
def _chunk(base: int, what: int) -> int:
    return base + (shift_right(what, 3) << UNIT_SHIFT)


@inline
def _lead(slot: int, what: int) -> None:
    """Make a word lead elsewhere: the store that publishes a node or list."""
    store_release(slot, what << 32 | load64(slot) & LOW_MASK)


@inline
def _changed(word: int, kind: int, value: int) -> int:
    """A word of the range that a change concerns. ``value``: its new low half, or for _LEAD what it leads to.

    _COVER: a prefix no shorter than the one that is there. _UNCOVER: take away what has the length ``value >> 32``.
    """
    if kind == _LEAD:
        return value << 32 | word & LOW_MASK
    had = (word >> HOP_BITS) & 31
    if kind == _COVER:
        return (word & ~LOW_MASK) | value if had <= value >> HOP_BITS else word
    return (word & ~LOW_MASK) | value & LOW_MASK if had == value >> 32 else word


@inline
def _runs(node: int) -> int:
    last = load64(node + HEADS_BYTES - 8)
    return shift_right(last, 32) + popcount(last & LOW_MASK)


@inline
def _node_order(runs: int) -> int:
    return order_of(HEADS_BYTES + (runs << 3))


@inline
def _emit(base: int, count: int, at: int, word: int) -> int:
    """Append a run that begins at piece ``at``; one with the run before if it is the same prefix. The new count."""
    if count > 0 and shift_right(word, 32) == 0 and load64(base + RUNS + ((count - 1) << 3)) == word:
        piece_bits = 8 - (word >> HOP_BITS)
        if word == 0 or at & ((1 << piece_bits) - 1) != 0:
            return count
    store64(base + RUNS + (count << 3), word)
    head = base + HEADS + ((at >> 5) << 3)
    store64(head, load64(head) | 1 << (at & 31))
    return count + 1


@inline
def _next_run(node: int, at: int) -> int:
    """The piece where the run after piece ``at`` begins, or 256."""
    group, rest = at >> 5, at & 31
    bits = load64(node + (group << 3)) & LOW_MASK & ~((2 << rest) - 1)
    while bits == 0:
        group += 1
        if group == 8:
            return 256
        bits = load64(node + (group << 3)) & LOW_MASK
    return (group << 5) + trailing_zeros(bits)


@inline
def _finish(base: int, count: int) -> int:
    """A node of the runs in the scratch; 0 if there is no memory."""
    unit = allocate(base, _node_order(count))
    if unit != 0:
        node, before = base + (unit << UNIT_SHIFT), 0
        for group in range(8):
            bits = load64(base + HEADS + (group << 3))
            store64(node + (group << 3), before << 32 | bits)
            before += popcount(bits)
        copy(node + HEADS_BYTES, base + RUNS, count << 3)
    return unit


@cold
def _change(base: int, slot: int, first: int, last: int, kind: int, value: int, live: int) -> int:
    """Change pieces ``first`` to ``last`` - 1 of the node that ``slot`` leads to. 1, or 0 if there is no memory."""
    node = _chunk(base, _below(slot))
    fill(base + HEADS, 0, 64)
    count, at, source = 0, 0, node + HEADS_BYTES
    same = True
    while at < 256:
        word = load64(source)
        source += 8
        end = _next_run(node, at)
        if end <= first or at >= last:
            count = _emit(base, count, at, word)
        else:
            if at < first:
                count = _emit(base, count, at, word)
            count = _emit(base, count, max(at, first), _changed(word, kind, value))
            if end > last:
                count = _emit(base, count, last, word)
        at = end
    runs = _runs(node)
    if runs == count:
        for group in range(8):
            same = same and load64(base + HEADS + (group << 3)) == load64(node + (group << 3)) & LOW_MASK
        if same:
            for run in range(count):
                word = load64(base + RUNS + (run << 3))
                if word != load64(node + HEADS_BYTES + (run << 3)):
                    store_release(node + HEADS_BYTES + (run << 3), word)
            return 1
    unit = _finish(base, count)
    if unit == 0:
        return 0
    _lead(slot, unit << 3 | NODE)
    retire(base, (node - base) >> UNIT_SHIFT, _node_order(runs), live)
    return 1


@cold
def _change_in_place(node: int, first: int, last: int, kind: int, value: int) -> None:
    """As :func:`_change` for what only takes away; whole runs concern it, since a run belongs to one prefix."""
    at, place = 0, node + HEADS_BYTES
    while at < last:
        word = load64(place)
        if at >= first:
            new = _changed(word, kind, value)
            if new != word:
                store_release(place, new)
        at = _next_run(node, at)
        place += 8


@inline
def _take_away(base: int, slot: int, first: int, last: int, kind: int, value: int, live: int) -> None:
    if _change(base, slot, first, last, kind, value, live) == 0:
        _change_in_place(_chunk(base, _below(slot)), first, last, kind, value)


# Lists ------------------------------------------------------------------------------------------------------


@inline
def _put_route(at: int, high: int, low: int, length: int, hop: int) -> None:
    store64(at, high)
    store64(at + 8, low)
    store64(at + 16, length << 32 | hop)


@cold
def _make_list(base: int, routes: int, count: int) -> int:
    """A list of routes, longest first; what leads to it, or 0 if there is no memory."""
    unit = allocate(base, order_of(count * ENTRY_BYTES))
    if unit == 0:
        return 0
    made = base + (unit << UNIT_SHIFT)
    for i in range(count):
        entry = routes + i * ENTRY_BYTES
        last, at = load64(entry + 16), made + i * ENTRY_BYTES
        while at > made and load64(at - ENTRY_BYTES + 16) < last:
            copy(at, at - ENTRY_BYTES, ENTRY_BYTES)
            at -= ENTRY_BYTES
        copy(at, entry, ENTRY_BYTES)
    return unit << 3 | count


@inline
def _retire_list(base: int, what: int, live: int) -> None:
    if what != 0:
        retire(base, shift_right(what, 3), order_of((what & 7) * ENTRY_BYTES), live)


@inline
def _list_without(base: int, what: int, high: int, low: int, length: int) -> tuple[int, int]:
    """(routes of a list in the scratch, all but one; address of the entry of that one, or 0)."""
    entry, count, found = _chunk(base, what), 0, 0
    for _ in range(what & 7):
        last = load64(entry + 16)
        if last >> 32 == length and common_bits(high, low, load64(entry), load64(entry + 8)) >= length:
            found = entry
        elif last != _NO_MATCH:
            copy(base + ROUTES + count * ENTRY_BYTES, entry, ENTRY_BYTES)
            count += 1
        entry += ENTRY_BYTES
    return count, found


@cold
def _make_node(base: int, depth: int, count: int) -> int:
    """A node at ``depth`` for the routes in the scratch, with all that is below it; 0 if there is no memory."""
    if not has_block(base):
        return 0
    routes, at = base + ROUTES, depth
    while True:  # eight bits on while all routes go the same way and further
        high, low = load64(routes), load64(routes + 8)
        piece, together = slice8(high, low, at), True
        for i in range(count):
            entry = routes + i * ENTRY_BYTES
            longer = load64(entry + 16) >> 32 > at + 8
            together = together and longer and slice8(load64(entry), load64(entry + 8), at) == piece
        if not together:
            break
        at += 8
    pieces = base + RUNS
    fill(pieces, 0, 2048)
    for longest in range(at + 1, at + 9):  # shorter prefixes first, so that longer ones cover them
        for i in range(count):
            entry = routes + i * ENTRY_BYTES
            last = load64(entry + 16)
            if last >> 32 == longest:
                piece = slice8(load64(entry), load64(entry + 8), at)
                value = _low(longest - at, last & HOP_MASK)
                for n in range(piece, piece + (1 << (8 + at - longest))):
                    store64(pieces + (n << 3), value)
    for i in range(count):
        entry = routes + i * ENTRY_BYTES
        if load64(entry + 16) >> 32 > at + 8:
            piece = slice8(load64(entry), load64(entry + 8), at)
            if shift_right(load64(pieces + (piece << 3)), 32) == 0:
                group, many = base + STACK, 0
                for j in range(i, count):
                    other = routes + j * ENTRY_BYTES
                    if load64(other + 16) >> 32 > at + 8 and slice8(load64(other), load64(other + 8), at) == piece:
                        copy(group + many * ENTRY_BYTES, other, ENTRY_BYTES)
                        many += 1
                _lead(pieces + (piece << 3), _make_list(base, group, many))
    fill(base + HEADS, 0, 64)
    runs = 0
    for n in range(256):  # in place: a run is never behind the piece it begins with
        runs = _emit(base, runs, n, load64(pieces + (n << 3)))
    unit = _finish(base, runs)
    while at > depth:
        at -= 8
        fill(base + HEADS, 0, 64)
        piece = slice8(high, low, at)
        runs = _emit(base, 0, 0, 0)
        runs = 0 if piece == 0 else runs
        runs = _emit(base, runs, piece, (unit << 3 | NODE) << 32)
        if piece < 255:
            runs = _emit(base, runs, piece + 1, 0)
        unit = _finish(base, runs)
    return unit << 3 | NODE


# Routes -----------------------------------------------------------------------------------------------------


@inline
def _root(base: int, table: int, bits: int, high: int) -> int:
    """The root word that an address belongs to."""
    return base + Table(table).roots + ((shift_right(high, 64 - ROOT_BITS) << 3) if bits != 0 else 0)


@inline
def _change_roots(slot: int, bits: int, length: int, kind: int, value: int) -> None:
    for word in range(slot, slot + (8 << (bits - length)), 8):
        store64(word, _changed(load64(word), kind, value))


@inline
def _width(depth: int, length: int) -> int:
    """How many pieces of a node at ``depth`` a prefix has that ends in it."""
    return 1 << (8 + depth - length)


@cold
def _place(base: int, slot: int, depth: int, high: int, low: int, length: int, hop: int, live: int) -> int:
    """Put a route longer than ``depth`` below ``slot``; 1, or 0 if there is no memory."""
    while True:
        what = _below(slot)
        tag = what & 7
        if tag != NODE:
            count, entry = _list_without(base, what, high, low, length)
            if entry != 0:
                store_release(entry + 16, length << 32 | hop)
                return 1
            _put_route(base + ROUTES + count * ENTRY_BYTES, high, low, length, hop)
            if count < LIST_MAX:
                made = _make_list(base, base + ROUTES, count + 1)
            else:
                made = _make_node(base, depth, count + 1)
            if made == 0:
                return 0
            _lead(slot, made)
            _retire_list(base, what, live)
            return 1
        piece = slice8(high, low, depth)
        if length <= depth + 8:
            value = _low(length - depth, hop)
            return _change(base, slot, piece, piece + _width(depth, length), _COVER, value, live)
        node = _chunk(base, what)
        head = load64(node + ((piece >> 5) << 3))
        run = shift_right(head, 32) + popcount(head & ((2 << (piece & 31)) - 1))
        word = node + (HEADS_BYTES - 8) + (run << 3)
        alone = (shift_right(head, piece & 31) & 1) != 0 and _next_run(node, piece) == piece + 1
        if not alone:
            _put_route(base + ROUTES, high, low, length, hop)
            made = _make_list(base, base + ROUTES, 1)
            if made == 0:
                return 0
            if _change(base, slot, piece, piece + 1, _LEAD, made, live) == 0:
                _retire_list(base, made, 0)
                return 0
            return 1
        slot = word
        depth += 8


@inline
def _add(base: int, table: int, bits: int, high: int, low: int, length: int, hop: int, live: int) -> tuple[int, int]:
    record = Record(base)
    if record.ring_tail - record.ring_head + _RETIRED_MAX > record.ring_size:
        return WAITING, 0
    if record.routes >= record.routes_limit and exact(base, table, high, low, length) == 0:
        return NO_ROOM, 0
    slot = _root(base, table, bits, high)
    if length <= bits:
        _change_roots(slot, bits, length, _COVER, _low(length, hop))
    elif _place(base, slot, bits, high, low, length, hop, live) == 0:
        return FULL, 0
    had = insert(base, table, high, low, length, hop)
    if had == 0:
        Table(table).routes += 1
        record.routes += 1
    return DONE, had


@cold
def _retire_below(base: int, what: int, live: int) -> None:
    """Retire a node or list that nothing leads to, and all below it: few, since it held few routes."""
    stack, top = base + STACK, 1
    store64(stack, what)
    while top > 0:
        top -= 1
        what = load64(stack + (top << 3))
        if what & 7 != NODE:
            _retire_list(base, what, live)
        else:
            node = _chunk(base, what)
            runs = _runs(node)
            for run in range(runs):
                under = _below(node + HEADS_BYTES + (run << 3))
                if under != 0:
                    store64(stack + (top << 3), under)
                    top += 1
            retire(base, shift_right(what, 3), _node_order(runs), live)


@inline
def _lead_nowhere(base: int, level: int, bits: int, high: int, low: int, live: int) -> None:
    """Let the word at ``level`` of the way down lead to nothing."""
    slots = base + SLOTS
    if level == 0:
        _lead(load64(slots), 0)
        return
    piece = slice8(high, low, bits + ((level - 1) << 3))
    _take_away(base, load64(slots + ((level - 1) << 3)), piece, piece + 1, _LEAD, 0, live)


@cold
def _displace(base: int, table: int, bits: int, high: int, low: int, length: int, cover: int, live: int) -> None:
    """Take a route longer than ``bits`` out of what packets see; ``cover`` is what covers it, as in the routes."""
    slots, level, depth = base + SLOTS, 0, bits
    slot = _root(base, table, bits, high)
    store64(slots, slot)
    while True:
        what = _below(slot)
        piece = slice8(high, low, depth)
        if what & 7 != NODE:
            count, entry = _list_without(base, what, high, low, length)
            made = _make_list(base, base + ROUTES, count) if count > 0 else 0
            if count == 0:
                _lead_nowhere(base, level, bits, high, low, live)
                _retire_list(base, what, live)
            elif made != 0:
                _lead(slot, made)
                _retire_list(base, what, live)
            elif entry != 0:
                store_release(entry + 16, _NO_MATCH)
            level -= 1
            break
        if length <= depth + 8:
            value = _low((cover >> 32) - depth, cover & HOP_MASK) if cover >> 32 > depth else 0
            _take_away(base, slot, piece, piece + _width(depth, length), _UNCOVER, (length - depth) << 32 | value, live)
            break
        node = _chunk(base, what)
        head = load64(node + ((piece >> 5) << 3))
        run = shift_right(head, 32) + popcount(head & ((2 << (piece & 31)) - 1))
        slot = node + (HEADS_BYTES - 8) + (run << 3)
        depth += 8
        level += 1
        store64(slots + (level << 3), slot)
    while level >= 0:  # nodes with few routes left become lists
        slot = load64(slots + (level << 3))
        what = _below(slot)
        if _runs(_chunk(base, what)) > 2 * LIST_MIN + 1:
            break
        count = below(base, table, high, low, bits + (level << 3), LIST_MIN, base + ROUTES)
        if count > LIST_MIN:
            break
        if count == 0:
            _lead_nowhere(base, level, bits, high, low, live)
        else:
            made = _make_list(base, base + ROUTES, count)
            if made == 0:
                break
            _lead(slot, made)
        _retire_below(base, what, live)
        level -= 1


@inline
def _delete(base: int, table: int, bits: int, high: int, low: int, length: int, live: int) -> tuple[int, int]:
    record = Record(base)
    if record.ring_tail - record.ring_head + _RETIRED_MAX > record.ring_size:
        return WAITING, 0
    had, cover = remove(base, table, high, low, length)
    if had == 0:
        return ABSENT, 0
    Table(table).routes -= 1
    record.routes -= 1
    if length <= bits:
        value = _low(cover >> 32, cover & HOP_MASK)
        _change_roots(_root(base, table, bits, high), bits, length, _UNCOVER, length << 32 | value)
    else:
        _displace(base, table, bits, high, low, length, cover, live)
    return DONE, had


@kernel
def change_many(
    base: int, table: int, bits: int, highs: int, lows: int, lengths: int, hops: int, start: int, count: int, live: int
) -> tuple[int, int]:
    """Add or delete routes ``start`` to ``count`` - 1 of four arrays of words, until one fails.

    ``hops`` holds next hop + 1 to add, 0 to delete; each is replaced by what the route had before (0: it was not
    there), so that the same call with the same arrays, last one first, undoes it. Returns (how many are done, what
    the next one failed with).
    """
    record = Record(base)
    store_release(base, record.version + 1)
    code = DONE
    while start < count:
        at = start << 3
        high, low, length, hop = load64(highs + at), load64(lows + at), load64(lengths + at), load64(hops + at)
        if hop != 0:
            code, had = _add(base, table, bits, high, low, length, hop, live)
        else:
            code, had = _delete(base, table, bits, high, low, length, live)
        if code != DONE:
            break
        store64(hops + at, had)
        start += 1
    store_release(base, record.version + 1)
    return start, code

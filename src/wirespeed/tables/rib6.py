"""The routes of a table: what was added, exactly. Control code changes and reads it, packets do not.

A binary trie without one-way branches (Patricia: Morrison, JACM 1968) in flat memory, one for each table, all from one
array of nodes, so that another process can read it and that kernels can change it.

    node, 32 bytes; number 0 is "none"
    0    high, low    the prefix
    16   two numbers of 32 bits: the node below for a next bit of 0 and of 1
    24   length << 32 | next hop + 1; a hop of 0: no route, only a fork (it then has both nodes below)

n routes take at most 2n - 1 nodes. A walk is at most 129 steps, since lengths grow; about log2(n) in practice.
"""
# mypy: no-warn-return-any

from wirespeed.jit import cold, inline, kernel, load32, load64, shift_right, store32, store64
from wirespeed.tables.lpm6_memory import ENTRY_BYTES, HOP_MASK, LOW_MASK, STACK, Record, Table, common_bits

RIB_NODE_BYTES: int = 32
_BELOW: int = 16
_LAST: int = 24
_ROOT: int = Table.rib_root.offset


@inline
def _at(base: int, number: int) -> int:
    return base + Record(base).rib + (number << 5)


@inline
def _bit(high: int, low: int, at: int) -> int:
    if at < 64:
        return shift_right(high, 63 - at) & 1
    return shift_right(low, 127 - at) & 1


@inline
def _make(base: int, high: int, low: int, last: int) -> int:
    """The number of a fresh node; there is one, since there are twice as many as routes may be."""
    record = Record(base)
    number = record.rib_free
    if number != 0:
        record.rib_free = load32(_at(base, number) + _BELOW)
    else:
        number = record.rib_frontier
        record.rib_frontier = number + 1
    record.rib_used += 1
    node = _at(base, number)
    store64(node, high)
    store64(node + 8, low)
    store64(node + _BELOW, 0)
    store64(node + _LAST, last)
    return number


@inline
def _drop(base: int, number: int) -> None:
    record = Record(base)
    store64(_at(base, number) + _BELOW, record.rib_free)
    record.rib_free = number
    record.rib_used -= 1


@cold
def insert(base: int, table: int, high: int, low: int, length: int, hop: int) -> int:
    """Put a route (``hop`` is next hop + 1); what hop it had before, 0 if it is new."""
    link = table + _ROOT
    number = load32(link)
    while number != 0:
        node = _at(base, number)
        last = load64(node + _LAST)
        bits = last >> 32
        shared = min(common_bits(high, low, load64(node), load64(node + 8)), min(bits, length))
        if shared < bits:
            above = _make(base, high, low, shared << 32)
            store32(_at(base, above) + _BELOW + (_bit(load64(node), load64(node + 8), shared) << 2), number)
            store32(link, above)
            link = _at(base, above) + _BELOW + (_bit(high, low, shared) << 2)
            if shared == length:
                store64(_at(base, above) + _LAST, length << 32 | hop)
                return 0
            break
        if bits == length:
            store64(node, high)  # a fork has further bits of one of the two it was made for
            store64(node + 8, low)
            store64(node + _LAST, length << 32 | hop)
            return last & LOW_MASK
        link = node + _BELOW + (_bit(high, low, bits) << 2)
        number = load32(link)
    store32(link, _make(base, high, low, length << 32 | hop))
    return 0


@cold
def remove(base: int, table: int, high: int, low: int, length: int) -> tuple[int, int]:
    """Take a route away: (its hop, 0 if there was none; length << 32 | hop of what covers it, 0 if nothing does)."""
    above, link = 0, table + _ROOT
    number, cover = load32(link), 0
    while number != 0:
        node = _at(base, number)
        last = load64(node + _LAST)
        bits = last >> 32
        if bits > length or common_bits(high, low, load64(node), load64(node + 8)) < bits:
            return 0, 0
        if bits == length:
            hop = last & LOW_MASK
            if hop != 0:
                _cut(base, above, link, number)
            return hop, cover
        if last & LOW_MASK != 0:
            cover = last
        above, link = link, node + _BELOW + (_bit(high, low, bits) << 2)
        number = load32(link)
    return 0, 0


@inline
def _cut(base: int, above: int, link: int, number: int) -> None:
    """Take the route off a node that ``link`` leads to; the node with it unless it forks."""
    node = _at(base, number)
    left, right = load32(node + _BELOW), load32(node + _BELOW + 4)
    if left != 0 and right != 0:
        store32(node + _LAST, 0)
        return
    store32(link, left | right)
    _drop(base, number)
    if left | right == 0 and above != 0:
        number = load32(above)  # the node that lost a branch: no fork any more
        node = _at(base, number)
        if load32(node + _LAST) == 0:
            store32(above, load32(node + _BELOW) | load32(node + _BELOW + 4))
            _drop(base, number)


@cold
def below(base: int, table: int, high: int, low: int, depth: int, limit: int, out: int) -> int:
    """Put up to ``limit`` routes longer than ``depth`` that share its bits at ``out``; how many, ``limit`` + 1 if more.

    Entries as in a list (:mod:`wirespeed.tables.lpm6_memory`), in no order.
    """
    number = load32(table + _ROOT)
    while number != 0:
        node = _at(base, number)
        bits = load64(node + _LAST) >> 32
        if bits >= depth:
            break
        if common_bits(high, low, load64(node), load64(node + 8)) < bits:
            return 0
        number = load32(node + _BELOW + (_bit(high, low, bits) << 2))
    if number == 0 or common_bits(high, low, load64(_at(base, number)), load64(_at(base, number) + 8)) < depth:
        return 0
    stack, count, depth_now = base + STACK, 0, 1
    store64(stack, number)
    while depth_now > 0:
        depth_now -= 1
        node = _at(base, load64(stack + (depth_now << 3)))
        last = load64(node + _LAST)
        if last & LOW_MASK != 0 and last >> 32 > depth:
            if count == limit:
                return limit + 1
            entry = out + count * ENTRY_BYTES
            store64(entry, load64(node))
            store64(entry + 8, load64(node + 8))
            store64(entry + 16, last)
            count += 1
        for side in range(2):
            next_number = load32(node + _BELOW + (side << 2))
            if next_number != 0:
                store64(stack + (depth_now << 3), next_number)
                depth_now += 1
    return count


@cold
def exact(base: int, table: int, high: int, low: int, length: int) -> int:
    """Next hop + 1 of exactly this route; 0 if there is none."""
    number = load32(table + _ROOT)
    for _ in range(129):
        if number == 0 or number >= Record(base).rib_limit:
            break
        node = _at(base, number)
        last = load64(node + _LAST)
        bits = last >> 32
        if bits > length or common_bits(high, low, load64(node), load64(node + 8)) < bits:
            break
        if bits == length:
            return last & HOP_MASK
        number = load32(node + _BELOW + (_bit(high, low, bits) << 2))
    return 0


@kernel
def get(base: int, table: int, high: int, low: int, length: int) -> int:
    """Next hop of exactly this route, or -1."""
    return exact(base, table, high, low, length) - 1


@kernel
def export(base: int, table: int, stack: int, highs: int, lows: int, lengths: int, hops: int, limit: int) -> int:
    """Up to ``limit`` routes into four arrays of words, by address and then length; how many.

    ``stack`` has room for 130 words. Another process may read while the routes change: each walk is bounded, and the
    caller looks at the version.
    """
    record = Record(base)
    count, top, steps = 0, 0, 2 * limit + 1
    number = load32(table + _ROOT)
    while (number != 0 or top > 0) and count < limit and steps > 0 and top < 129:
        steps -= 1
        if number == 0:
            top -= 1
            number = load64(stack + (top << 3))
        if number >= record.rib_limit:
            break
        node = _at(base, number)
        last = load64(node + _LAST)
        if last & LOW_MASK != 0:
            store64(highs + (count << 3), load64(node))
            store64(lows + (count << 3), load64(node + 8))
            store64(lengths + (count << 3), last >> 32)
            store64(hops + (count << 3), (last & LOW_MASK) - 1)
            count += 1
        right = load32(node + _BELOW + 4)
        if right != 0:
            store64(stack + (top << 3), right)
            top += 1
        number = load32(node + _BELOW)
    return count

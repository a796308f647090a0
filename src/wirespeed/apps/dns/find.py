"""Names in compiled code: how long, their hash, and the node that has this name.

A name is compared and hashed in lower case, eight bytes at a time (RFC 4343: only ASCII letters have a case). A length
byte is at most 63 and so below ``A``: a whole name can be put in lower case, lengths and all.

What a store looks like in memory is :mod:`wirespeed.apps.dns.store`.
"""
# mypy: no-warn-return-any

from wirespeed.jit import (
    View,
    add,
    cold,
    inline,
    le32,
    le64,
    load8,
    load16,
    load32,
    load64,
    multiply_fold,
    prefetch,
    shift_right,
    signed64,
)
from wirespeed.wire.dns import LABEL_MAX

NODE_NAME: int = 8
"""Offset of a node's name."""
NODE_SHIFT: int = 4
"""Nodes are at multiples of 16 bytes."""
CUT: int = 1
"""Node flag: the zone ends here, at a delegation."""
WILD: int = 2
"""Node flag: a wildcard is right below."""
LONG: int = 1 << 31
"""Slot flag: what the node's name leads to is on more than one line."""

_SEVENS = 0x7F7F_7F7F_7F7F_7F7F
_TO_A = (0x80 - ord("A")) * 0x0101_0101_0101_0101
_BEYOND_Z = (0x7F - ord("Z")) * 0x0101_0101_0101_0101
_TOPS = signed64(0x8080_8080_8080_8080)
_LINE = 64
_LONG_AT = 31 - 6  # LONG becomes the distance to a node's second line


class StoreView(View):
    """A store's head."""

    slots = le64(0, "address of the hash table")
    mask = le64(8, "its slots - 1")
    arena = le64(16, "address of nodes and answers")
    unit_mask = le32(24, "bits of a slot that say which node")
    tag_mask = le32(28, "bits of a slot that are its hash's")
    seed0 = le64(32)
    seed1 = le64(40)
    seed2 = le64(48)
    depth = le64(56, "labels of the deepest name")
    SIZE = 64


@inline
def lower(word: int) -> int:
    """Eight bytes, letters in lower case."""
    sevens = word & _SEVENS
    upper = (add(sevens, _TO_A) ^ add(sevens, _BEYOND_Z)) & ~word & _TOPS
    return word | shift_right(upper, 2)


@inline
def tail(end: int, rest: int) -> int:
    """The last ``rest`` bytes (1 to 7) before ``end`` as a word. Reads the 8 - rest bytes before them as well: what is
    hashed here is preceded by a header."""
    return shift_right(load64(end - 8), 64 - (rest << 3))


@inline
def name_end(at: int, end: int) -> int:
    """Address behind the name at ``at``, which must end before ``end``; 0 if it is none, or compressed."""
    while at < end:
        size = load8(at)
        if size == 0:
            return at + 1
        if size > LABEL_MAX:
            return 0
        at += size + 1
    return 0


@inline
def name_hash(store: StoreView, at: int, size: int) -> int:
    """64 bits of which nobody outside can make two names agree: multiplications with secret words, as wyhash does."""
    h = add(store.seed0, size)
    end = at + size
    while at + 8 <= end:
        h = multiply_fold(lower(load64(at)) ^ store.seed1, h ^ store.seed2)
        at += 8
    if at < end:
        h = multiply_fold(lower(tail(end, end - at)) ^ store.seed1, h ^ store.seed2)
    return multiply_fold(h, store.seed2 | 1)


@inline
def same_name(node: int, at: int, size: int) -> bool:
    """Whether the node has that name."""
    if load8(node) != size:
        return False
    own = node + NODE_NAME
    end = at + size
    while at + 8 <= end:
        if lower(load64(at)) != load64(own):
            return False
        at += 8
        own += 8
    rest = end - at
    return rest == 0 or lower(tail(end, rest)) == tail(own + rest, rest)


@inline
def next_slot(store: StoreView, h: int, index: int) -> tuple[int, int]:
    """The first slot from ``index`` on that may be of a name with this hash, and its index; 0: there is none.

    At least half of the slots are free, so that there is an end."""
    tag = shift_right(h, 32)
    slot = load32(store.slots + (index << 2))
    while slot != 0 and (slot ^ tag) & store.tag_mask != 0:
        index = (index + 1) & store.mask
        slot = load32(store.slots + (index << 2))
    return slot, index


@inline
def node_of(store: StoreView, slot: int) -> int:
    """The node that a slot leads to."""
    return store.arena + ((slot & store.unit_mask) << NODE_SHIFT)


@inline
def find_hashed(store: StoreView, h: int, at: int, size: int) -> int:
    """The node of the name of ``size`` bytes at ``at``, whose hash is ``h``; 0 if there is none. With another hash it
    is not found; what is found has that name."""
    slot, index = next_slot(store, h, h & store.mask)
    while slot != 0:
        node = node_of(store, slot)
        if same_name(node, at, size):
            return node
        slot, index = next_slot(store, h, (index + 1) & store.mask)
    return 0


@inline
def find_name(store: StoreView, at: int, size: int) -> int:
    """The same, whose hash is not known."""
    return find_hashed(store, name_hash(store, at, size), at, size)


@inline
def entries_of(node: int) -> int:
    """Address of a node's directory: for each type four bytes, the type and how far from the node its answer is. The
    four before that, if the node has a flag, are what the flag leads to."""
    flagged = 4 if load8(node + 1) != 0 else 0
    return node + ((NODE_NAME + load8(node) + 3) & -4) + flagged


@inline
def answer_of(node: int, kind: int) -> int:
    """Address of a node's answer for a type; 0 if it has none."""
    entry = entries_of(node)
    for _ in range(load16(node + 2)):
        if load16(entry) == kind:
            return node + (load16(entry + 2) << 2)
        entry += 4
    return 0


@inline
def first_answer(node: int) -> int:
    """Address of a node's first answer, of whatever type; 0 if it has none."""
    return node + (load16(entries_of(node) + 2) << 2) if load16(node + 2) != 0 else 0


@inline
def flagged_of(store: StoreView, node: int) -> int:
    """Address of what a node's flag leads to: its referral, or the wildcard's node."""
    return store.arena + (load32(entries_of(node) - 4) << 2)


@inline
def negative_of(store: StoreView, node: int) -> int:
    """Address of the answer of a node's zone for what is not there."""
    return store.arena + (load32(node + 4) << 2)


@cold
def enclosing(store: StoreView, at: int, size: int) -> int:
    """The closest encloser of a name that is not there (RFC 4592 section 3.3.1): its node; 0 if we have no zone around
    the name.

    Names of more labels than any in the store are not looked for, so that a long question costs no more than another.
    """
    labels = 0
    walk = at
    while load8(walk) != 0:
        walk += load8(walk) + 1
        labels += 1
    walk = at
    while load8(walk) != 0:
        walk += load8(walk) + 1
        labels -= 1
        if labels <= store.depth:
            node = find_name(store, walk, at + size - walk)
            if node != 0:
                return node
    return 0


@inline
def fetch_slot(store: StoreView, h: int) -> None:
    """Ask for the first slot of a hash."""
    prefetch(store.slots + ((h & store.mask) << 2))


@inline
def fetch_node(store: StoreView, h: int) -> None:
    """Ask for the first two lines of the node of a hash, or for its only one."""
    slot, _ = next_slot(store, h, h & store.mask)
    node = node_of(store, slot)
    prefetch(node)
    prefetch(node + (slot >> _LONG_AT & _LINE))


__all__ = [
    "CUT", "LONG", "NODE_NAME", "NODE_SHIFT", "WILD", "StoreView", "answer_of", "enclosing", "fetch_node",
    "fetch_slot", "find_hashed", "find_name", "first_answer", "flagged_of", "name_end", "name_hash", "negative_of",
]  # fmt: skip

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
CUT: int = 1
"""Node flag: the zone ends here; entry 0 is its referral."""
WILD: int = 2
"""Node flag: a wildcard is below; entry 0 is its node."""

_SEVENS = 0x7F7F_7F7F_7F7F_7F7F
_TO_A = (0x80 - ord("A")) * 0x0101_0101_0101_0101
_BEYOND_Z = (0x7F - ord("Z")) * 0x0101_0101_0101_0101
_TOPS = signed64(0x8080_8080_8080_8080)
_LOW = 0xFFFF_FFFF


class StoreView(View):
    """A store's head."""

    slots = le64(0, "address of the hash table")
    mask = le64(8, "its slots - 1")
    arena = le64(16, "address of nodes and answers")
    seed0 = le64(24)
    seed1 = le64(32)
    seed2 = le64(40)
    depth = le64(48, "labels of the deepest name")
    names = le64(56, "names in it")
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
    return at == end or lower(tail(end, end - at)) == load64(own)


@inline
def find_hashed(store: StoreView, h: int, at: int, size: int) -> int:
    """The node of the name of ``size`` bytes at ``at``, whose hash is ``h``; 0 if there is none."""
    tag = shift_right(h, 32)
    index = h & store.mask
    slot = load64(store.slots + (index << 3))
    while slot != 0:  # at least half of the slots are free
        if shift_right(slot, 32) == tag:
            node = store.arena + ((slot & _LOW) << 3)
            if same_name(node, at, size):
                return node
        index = (index + 1) & store.mask
        slot = load64(store.slots + (index << 3))
    return 0


@inline
def find_name(store: StoreView, at: int, size: int) -> int:
    """The same, whose hash is not known."""
    return find_hashed(store, name_hash(store, at, size), at, size)


@inline
def entries_of(node: int) -> int:
    """Address of a node's directory: 8 bytes an entry, a type and where its answer (entry 0 of some: node) is."""
    return node + NODE_NAME + ((load8(node) + 7) & -8)


@inline
def answer_of(store: StoreView, node: int, kind: int) -> int:
    """Address of a node's answer for a type, which is not 0; 0 if it has none."""
    entry = entries_of(node)
    for _ in range(load16(node + 2)):
        if load16(entry) == kind:
            return store.arena + (load32(entry + 4) << 3)
        entry += 8
    return 0


@inline
def entry0_of(store: StoreView, node: int) -> int:
    """What entry 0 of a node with a flag leads to."""
    return store.arena + (load32(entries_of(node) + 4) << 3)


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
def fetch_slot(store: StoreView, h: int) -> int:
    """Ask for the first slot of a hash; its address."""
    slot = store.slots + ((h & store.mask) << 3)
    prefetch(slot)
    return slot


@inline
def fetch_node(store: StoreView, slot: int) -> None:
    """Ask for the two lines of the node that a slot leads to."""
    node = store.arena + ((load64(slot) & _LOW) << 3)
    prefetch(node)
    prefetch(node + 64)


__all__ = [
    "CUT", "NODE_NAME", "WILD", "StoreView", "answer_of", "enclosing", "entries_of", "entry0_of", "fetch_node",
    "fetch_slot", "find_hashed", "find_name", "lower", "name_end", "name_hash", "same_name", "tail",
]  # fmt: skip

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

NODE_ENTRIES: int = 8
"""Offset of a node's directory: for each type four bytes, the type and how far from the node its answer is."""
NODE_SHIFT: int = 4
"""Nodes are at multiples of 16 bytes."""
CUT: int = 1
"""Node flag: the zone ends here, at a delegation."""
WILD: int = 2
"""Node flag: a wildcard is right below."""
LONG: int = 1 << 31
"""Slot flag: what the node's name leads to is on more than one line."""

WORD: int = 8
WORDS: int = 32
"""Bytes of a name that four words cover."""

_SMALL = 0x2020_2020_2020_2020
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
    depth = le32(56, "labels of the deepest name")
    serial = le32(60, "which store of the process this is: 16 bits")
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
def _words(at: int, size: int) -> tuple[int, int, int, int]:
    """A name of WORD to WORDS bytes as four words that overlap where it is shorter: no loop, and no byte beyond it."""
    last = size - WORD
    return load64(at), load64(at + min(WORD, last)), load64(at + min(2 * WORD, last)), load64(at + last)


@inline
def name_hash(store: StoreView, at: int, size: int) -> int:
    """64 bits of which nobody outside can make two names agree: multiplications with secret words, as wyhash does.

    Case is forgotten by setting a bit of every byte, letter or not: which names of a zone agree for that is its
    owner's choice, and there are none."""
    if size < WORD or size > WORDS:
        return _hash_by_words(store, at, size)
    one, two, three, four = _words(at, size)
    first = multiply_fold((one | _SMALL) ^ store.seed2, (two | _SMALL) ^ store.seed0)
    second = multiply_fold((three | _SMALL) ^ store.seed1, (four | _SMALL) ^ store.seed2)
    return multiply_fold(first ^ store.seed0, second ^ add(store.seed1, size))


@cold
def _hash_by_words(store: StoreView, at: int, size: int) -> int:
    """The same of names of other lengths."""
    h = add(store.seed0, size)
    end = at + size
    while at + WORD <= end:
        h = multiply_fold((load64(at) | _SMALL) ^ store.seed1, h ^ store.seed2)
        at += WORD
    if at < end:
        h = multiply_fold((tail(end, end - at) | _SMALL) ^ store.seed1, h ^ store.seed2)
    return multiply_fold(h, store.seed2 | 1)


@inline
def same_name(node: int, at: int, size: int) -> bool:
    """Whether the node has that name. Most who ask write it as we do."""
    own = name_of(node)
    if size >= WORD and size <= WORDS:
        one, two, three, four = _words(at, size)
        own_one, own_two, own_three, own_four = _words(own, size)
        odd = one ^ own_one | two ^ own_two | three ^ own_three | four ^ own_four | load8(node) ^ size
        if odd == 0:
            return True
    return _same_by_words(node, at, size)


@cold
def _same_by_words(node: int, at: int, size: int) -> bool:
    """The same with letters of any case, and for names of all lengths."""
    if load8(node) != size:
        return False
    own = name_of(node)
    end = at + size
    while at + WORD <= end:
        if lower(load64(at)) != load64(own):
            return False
        at += WORD
        own += WORD
    rest = end - at
    return rest == 0 or lower(tail(end, rest)) == tail(own + rest, rest)


@inline
def next_slot(store: StoreView, h: int, index: int) -> tuple[int, int]:
    """The first slot from ``index`` on that may be of a name with this hash, and its index; 0: there is none.

    Most slots are free, so that there is an end."""
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
def name_of(node: int) -> int:
    """Address of a node's name, in lower case."""
    return node + load16(node + 2)


@inline
def answer_of(node: int, kind: int) -> int:
    """Address of a node's answer for a type; 0 if it has none."""
    entry, end = node + NODE_ENTRIES, name_of(node)
    while entry < end:
        word = load32(entry)
        if word & 0xFFFF == kind:
            return node + (word >> 16 << 2)
        entry += 4
    return 0


@inline
def first_answer(node: int) -> int:
    """Address of a node's first answer, of whatever type; 0 if it has none."""
    return node + (load16(node + NODE_ENTRIES + 2) << 2) if load16(node + 2) != NODE_ENTRIES else 0


@inline
def flagged_of(store: StoreView, node: int) -> int:
    """Address of what a node's flag leads to: its referral, or the wildcard's node."""
    return store.arena + (load32(name_of(node) + (load8(node) + 3 & -4)) << 2)


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
def fetch_node(store: StoreView, h: int) -> int:
    """Ask for the first two lines of the node of a hash, or for its only one; its slot."""
    slot, _ = next_slot(store, h, h & store.mask)
    node = node_of(store, slot)
    prefetch(node)
    prefetch(node + (slot >> _LONG_AT & _LINE))
    return slot


__all__ = [
    "CUT", "LONG", "NODE_ENTRIES", "NODE_SHIFT", "WILD", "StoreView", "answer_of", "enclosing", "fetch_node",
    "fetch_slot", "find_hashed", "find_name", "first_answer", "flagged_of", "name_end", "name_hash", "name_of",
    "negative_of", "node_of", "same_name",
]  # fmt: skip

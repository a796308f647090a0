"""Answers that take more than a copy: aliases, wildcards, referrals, what is not there, what does not fit.

An answer in a store is rendered as if its owner were the question, its names compressed against that and against each
other. Where it answers something else its pointers move, each with what it points at::

    pointer to                     moves by
    12, in a wildcard's answer     to the name asked for, whatever that is
    the owner                      to where that suffix of the name asked for stands, or of what an alias led to
    the answer itself              the distance of the answer from where it would stand

What an answer looks like in memory is :mod:`wirespeed.apps.dns.store`.
"""
# mypy: no-warn-return-any

from wirespeed.apps.dns.find import (
    CUT,
    WILD,
    StoreView,
    answer_of,
    enclosing,
    find_name,
    first_answer,
    flagged_of,
    negative_of,
)
from wirespeed.apps.dns.state import CHAIN, HOPS, TARGET, DnsView
from wirespeed.jit import bswap16, cold, copy, inline, load8, load16, load32, load64, store16, store64
from wirespeed.wire.dns import (
    QUESTION,
    RCODE_NO_NAME,
    RCODE_REFUSED,
    TYPE_ANY,
    TYPE_CNAME,
    TYPE_DS,
)

AUTHORITATIVE: int = 0x04
TRUNCATED: int = 0x02
"""Flags of a reply as they stand in memory, the rcode 8 bits up."""
ALIKE: int = 0x8000
"""Flag of an answer's first word: all records are the owner's, and no data has pointers."""

_ANSWERS_AT = 16  # bits of a word of counts below that of answers
_POINTER = 0xC000
_COMPRESSED = 0xC0  # a label's length from here on is a pointer's first byte
_RECORD_HEAD = 12  # of a record whose owner is a pointer


@inline
def size_of(answer: int) -> int:
    """Bytes of an answer's records."""
    return load16(answer) & ~ALIKE


@inline
def data_of(answer: int) -> int:
    """Address of an answer's records."""
    return answer + 4 if load16(answer) & ALIKE != 0 else answer + 8


@inline
def counts_of(answer: int) -> int:
    """The word of counts."""
    others = 0 if load16(answer) & ALIKE != 0 else load32(answer + 4) << 32
    return load16(answer + 2) << _ANSWERS_AT | others


@inline
def suffix_at(message: int, at: int, skip: int) -> int:
    """Offset of what is left of the name at offset ``at`` without its first ``skip`` bytes, which are whole labels."""
    while True:
        size = load8(message + at)
        if size >= _COMPRESSED:
            at = bswap16(load16(message + at)) & ~_POINTER
        elif skip == 0:
            return at
        else:
            at += size + 1
            skip -= size + 1


@inline
def whole_name(message: int, at: int, to: int) -> int:
    """Write the name at offset ``at`` to an address, without compression; its bytes. It is one of ours: it ends."""
    size, label = 0, 1
    while label != 0:
        label = load8(message + at)
        if label >= _COMPRESSED:
            at = bswap16(load16(message + at)) & ~_POINTER
        else:
            copy(to + size, message + at, label + 1)
            at += label + 1
            size += label + 1
    return size


@inline
def place(message: int, used: int, answer: int, at: int, whole: int, wild: bool) -> None:
    """Put an answer's records at offset ``used``, and move its pointers.

    ``at`` is the offset of the name that its owner is a suffix of, or that ``wild``, a wildcard, stands for; without
    compression it has ``whole`` bytes.
    """
    size, data = size_of(answer), data_of(answer)
    copy(message + used, data, size)
    if load16(answer) & ALIKE != 0:
        last = message + used + size
        record = message + used
        while record < last:
            store16(record, bswap16(_POINTER | at))
            record += _RECORD_HEAD + bswap16(load16(record + _RECORD_HEAD - 2))
        return
    trailer = data + ((size + 1) & -2)
    own = load16(trailer)
    behind = QUESTION + own + 4
    for i in range(load16(trailer + 2)):
        where = message + used + load16(trailer + 4 + (i << 1))
        pointer = bswap16(load16(where)) & ~_POINTER
        if pointer >= behind:
            pointer += used - behind
        elif wild and pointer == QUESTION:
            pointer = at
        else:
            pointer = suffix_at(message, at, whole - own + pointer - QUESTION)
        store16(where, bswap16(pointer | _POINTER))


@inline
def seen_before(state: DnsView, hop: int, node: int) -> bool:
    """Whether a chain of aliases has come to this node before; if not, it has now."""
    chain = state.address + CHAIN
    for i in range(hop):
        if load64(chain + (i << 3)) == node:
            return True
    store64(chain + (hop << 3), node)
    return False


@cold
def compose(
    state: DnsView, store: StoreView, message: int, used: int, kind: int, node: int, limit: int
) -> tuple[int, int, int, int]:
    """Answer the question in ``message``, ``used`` bytes with its header, whose name has this node (0: none).

    Returns:
        Bytes used; flags and rcode; the word of counts; a number that stands for the answer.
    """
    start, counts, flags, aliases = used, 0, AUTHORITATIVE, 0
    at, size, name = QUESTION, used - QUESTION - 4, message + QUESTION
    answer, wild, key = 0, False, node
    for hop in range(HOPS):
        answer, wild, missing = 0, False, node == 0
        if missing:
            node = enclosing(store, name, size)
            if node == 0:  # of no zone of ours
                if hop == 0:
                    return used, RCODE_REFUSED << 8, 0, 0
                break
            if load8(node + 1) & WILD != 0:
                missing, wild, node = False, True, flagged_of(store, node)
        key, cut = node, load8(node + 1) & CUT != 0
        if cut and (missing or kind != TYPE_DS):
            if hop == 0:
                flags = 0
            answer = flagged_of(store, node)
            break
        if missing:
            flags |= RCODE_NO_NAME << 8
            answer = negative_of(store, node)
            break
        answer = first_answer(node) if kind == TYPE_ANY else answer_of(node, kind)
        if answer != 0:
            break
        alias = 0 if cut else answer_of(node, TYPE_CNAME)
        if alias == 0:
            wild, answer = False, negative_of(store, node)
            break
        if seen_before(state, hop, node):
            break
        length = size_of(alias)
        if used + length > limit:
            return start, flags | TRUNCATED, 0, key
        place(message, used, alias, at, size, wild)
        aliases += 1
        at, name = used + _RECORD_HEAD, state.address + TARGET
        used += length
        size = whole_name(message, at, name)
        node = find_name(store, name, size)
    if answer != 0:
        length = size_of(answer)
        if used + length > limit:
            return start, flags | TRUNCATED, 0, key
        place(message, used, answer, at, size, wild)
        used += length
        counts = counts_of(answer)
    answers = bswap16(bswap16(counts >> _ANSWERS_AT) + aliases)
    return used, flags, counts & ~(0xFFFF << _ANSWERS_AT) | answers << _ANSWERS_AT, key


__all__ = ["ALIKE", "AUTHORITATIVE", "TRUNCATED", "compose", "counts_of", "data_of", "size_of"]

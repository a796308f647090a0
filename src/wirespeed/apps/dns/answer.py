"""Answers that take more than a copy: aliases, wildcards, referrals, what is not there, what does not fit.

An answer in a store is rendered as if its owner were the question, its names compressed against that and against each
other. Where it answers something else its pointers move, each with what it points at::

    pointer to                     moves by
    12, in a wildcard's answer     to the name asked for, whatever that is
    the owner                      the distance of the owner's end from where it would end in its own question
    the answer itself              the distance of the answer from where it would stand

What an answer looks like in memory is :mod:`wirespeed.apps.dns.store`.
"""
# mypy: no-warn-return-any

from wirespeed.apps.dns.find import CUT, WILD, StoreView, answer_of, enclosing, entries_of, entry0_of, find_name
from wirespeed.apps.dns.state import CHAIN, HOPS, DnsView
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

_ANSWERS_AT = 16  # bits of a word of counts below that of answers
_POINTER = 0xC000
_RECORD_HEAD = 12  # of a record whose owner is a pointer


@inline
def data_of(answer: int) -> int:
    """Address of an answer's records."""
    return answer + 8


@inline
def trailer_of(answer: int) -> int:
    """Address of what follows the records."""
    return answer + 8 + ((load16(answer) + 1) & -2)


@inline
def place(message: int, used: int, answer: int, end: int, wild: int) -> None:
    """Put an answer's records at offset ``used``, and move its pointers.

    ``end`` is the offset behind the name that its owner is a suffix of; ``wild`` the offset of the name that a wildcard
    stands for, else 0.
    """
    copy(message + used, data_of(answer), load16(answer))
    trailer = trailer_of(answer)
    own = load16(trailer)
    shift = end - own - QUESTION
    behind = QUESTION + own + 4
    first = wild if wild != 0 else QUESTION + shift
    for i in range(load16(trailer + 2)):
        at = message + used + load16(trailer + 4 + (i << 1))
        pointer = bswap16(load16(at)) & ~_POINTER
        if pointer >= behind:
            pointer += used - behind
        elif pointer != QUESTION:
            pointer += shift
        else:
            pointer = first
        store16(at, bswap16(pointer | _POINTER))


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
    at, size = QUESTION, used - QUESTION - 4
    answer, wild, key = 0, 0, node
    for hop in range(HOPS):
        wild = 0
        missing = node == 0
        if missing:
            node = enclosing(store, message + at, size)
            if node == 0:  # of no zone of ours
                if hop == 0:
                    return used, RCODE_REFUSED << 8, 0, 0
                answer = 0
                break
            if load8(node + 1) & WILD != 0:
                missing, wild, node = False, at, entry0_of(store, node)
        key = node
        if load8(node + 1) & CUT != 0 and (missing or kind != TYPE_DS):
            if hop == 0:
                flags = 0
            answer = entry0_of(store, node)
            break
        if missing:
            flags |= RCODE_NO_NAME << 8
            answer = store.arena + (load32(node + 4) << 3)
            break
        answer = any_of(store, node) if kind == TYPE_ANY else answer_of(store, node, kind) if kind != 0 else 0
        if answer != 0:
            break
        alias = answer_of(store, node, TYPE_CNAME) if load8(node + 1) & CUT == 0 else 0
        if alias == 0:
            wild, answer = 0, store.arena + (load32(node + 4) << 3)
            break
        if seen_before(state, hop, node):
            answer = 0
            break
        length = load16(alias)
        if used + length > limit:
            return start, flags | TRUNCATED, 0, key
        place(message, used, alias, at + size, wild)
        aliases += 1
        at, size = used + _RECORD_HEAD, length - _RECORD_HEAD
        used += length
        node = find_name(store, message + at, size)
        answer = 0
    if answer != 0:
        length = load16(answer)
        if used + length > limit:
            return start, flags | TRUNCATED, 0, key
        place(message, used, answer, at + size, wild)
        used += length
        counts = load64(answer) & ~0xFFFF
    answers = bswap16(bswap16(counts >> _ANSWERS_AT) + aliases)
    return used, flags, counts & ~(0xFFFF << _ANSWERS_AT) | answers << _ANSWERS_AT, key


@inline
def any_of(store: StoreView, node: int) -> int:
    """One of a node's answers: who asks for ANY gets some (RFC 8482 section 4.1); 0 if it has none."""
    entry = entries_of(node)
    for _ in range(load16(node + 2)):
        if load16(entry) != 0:
            return store.arena + (load32(entry + 4) << 3)
        entry += 8
    return 0


__all__ = ["AUTHORITATIVE", "TRUNCATED", "compose", "data_of"]

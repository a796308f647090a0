"""Sets of four entries, found by a tag: what exporters, templates, interfaces and metrics are kept in.

::

    entry:   0  tag, 64 secret bits of the key (0: free)   8  used_ns, when it last served   16 ...

Strangers fill these tables, so they have a fixed size; who comes to a full set takes the place of the entry that served
longest ago, and one that never served goes first. Tags are made with secret words: nobody outside can aim at a set, and
that two keys have the same tag is one chance in 2^63 for each pair.
"""

from typing import Any

from wirespeed.jit import View, cold, fill, inline, le64, load64, shift_right, store64, store_release
from wirespeed.tables.seed import mix

WAYS: int = 4


class EntryView(View):
    """How each entry begins."""

    tag = le64(0)
    used_ns = le64(8)
    SIZE = 16


@inline
def tag_of(state: Any, a: int, b: int, c: int) -> int:
    """The tag of a key of three words, never 0; ``state`` has the three words of the seed."""
    seed0, seed1, seed2 = state.seed0, state.seed1, state.seed2
    word = mix(mix(a, seed0, seed1, seed2) ^ b, seed0, seed1, seed2)
    return mix(word ^ c, seed0, seed1, seed2) | 1


@inline
def find(table: int, mask: int, size: int, tag: int) -> int:
    """Address of the entry with this tag, 0 if there is none; ``size``: bytes of an entry."""
    at = table + (shift_right(tag, 20) & mask) * (WAYS * size)
    for way in range(WAYS):
        if load64(at + way * size) == tag:
            return at + way * size
    return 0


@cold
def claim(table: int, mask: int, size: int, tag: int) -> tuple[int, int]:
    """A new entry, zeros but for its tag; its address, and 1 if another had to go for it."""
    first = table + (shift_right(tag, 20) & mask) * (WAYS * size)
    chosen, oldest = first, 0
    for way in range(WAYS):
        at = first + way * size
        if load64(at) == 0:
            chosen = at
            break
        if way == 0 or load64(at + 8) < oldest:
            chosen, oldest = at, load64(at + 8)
    evicted = 1 if load64(chosen) != 0 else 0
    store64(chosen, 0)
    fill(chosen + 8, 0, size - 8)
    store_release(chosen, tag)
    return chosen, evicted


def sets_for(entries: int) -> int:
    """How many sets hold so many entries: a power of two."""
    return 1 << max(-(-entries // WAYS) - 1, 0).bit_length()


__all__ = ["WAYS", "EntryView", "claim", "find", "sets_for", "tag_of"]

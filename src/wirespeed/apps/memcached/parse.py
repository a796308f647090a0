"""Words and numbers of a line of text.

A line ends with a line feed; a carriage return before it is not part of it. Words are separated by spaces alone, as
memcached does it: every other byte may be in a key. Numbers are what C's strtol makes of a word.
"""
# mypy: no-warn-return-any

from wirespeed.apps.memcached.find import last_bytes
from wirespeed.apps.memcached.state import WORDS, WORDS_MAX, ServerView
from wirespeed.jit import add, cold, inline, load8, load64, multiply, shift_right, store8, store64

_SPACE, _FEED, _RETURN, _ZERO, _MINUS, _PLUS = 0x20, 0x0A, 0x0D, 0x30, 0x2D, 0x2B
_TOP = -(1 << 63)
_TENTH = (1 << 64) // 10


@cold
def read_line(state: ServerView, at: int, end: int) -> tuple[int, int]:
    """(words of the line at ``at``, where its line feed is); the feed is 0 if there is none before ``end``.

    The first ``WORDS_MAX`` are kept in the state; the others are counted.
    """
    count, begin, place = 0, at, state.address + WORDS
    while at < end:
        byte = load8(at)
        if byte in (_SPACE, _FEED):
            stop = at
            if byte == _FEED and stop > begin and load8(stop - 1) == _RETURN:
                stop -= 1
            if stop > begin:
                if count < WORDS_MAX:
                    store64(place + (count << 4), begin)
                    store64(place + (count << 4) + 8, stop - begin)
                count += 1
            if byte == _FEED:
                return count, at
            begin = at + 1
        at += 1
    return count, 0


@cold
def next_word(at: int, feed: int) -> tuple[int, int]:
    """(where the next word from ``at`` on begins, its length) in a line whose feed is there; length 0: no more."""
    while at < feed and load8(at) == _SPACE:
        at += 1
    stop = at
    while stop < feed and load8(stop) != _SPACE:
        stop += 1
    if stop == feed and stop > at and load8(stop - 1) == _RETURN:
        stop -= 1
    return at, stop - at


@inline
def word_text(state: ServerView, index: int) -> int:
    """The first eight bytes of a word of the line, as a little-endian number; fewer if it is shorter."""
    start, length = state.word(index), state.word_bytes(index)
    return load64(start) if length > 8 else last_bytes(start + length, length)


def text(word: str) -> int:
    """What :func:`word_text` gives for a word."""
    return int.from_bytes(word.encode()[:8], "little")


@cold
def read_number(at: int, end: int, signed: bool) -> tuple[int, bool]:
    """(value, whether there is one) of the number that text begins with: 64 bits, ``signed`` or not.

    White space may be before it, and must be behind it if anything is.
    """
    while at < end and is_blank(load8(at)):
        at += 1
    minus = False
    if at < end and (load8(at) == _MINUS or load8(at) == _PLUS):
        minus = load8(at) == _MINUS
        at += 1
    value, digits, good = 0, 0, True
    while at < end and digits < 40:
        digit = load8(at) - _ZERO
        if digit < 0 or digit > 9:
            break
        if value < 0 or value > _TENTH or (value == _TENTH and digit > 5):
            good = False
        value = add(multiply(value, 10), digit)
        digits += 1
        at += 1
    if digits == 0 or (at < end and not is_blank(load8(at))):
        good = False
    if signed:
        good = good and (value >= 0 or (minus and value == _TOP))
        return add(0, -value) if minus else value, good
    return value, good and not (minus and value != 0)


@inline
def is_blank(byte: int) -> bool:
    """C's isspace."""
    return byte == _SPACE or 9 <= byte <= 13


@inline
def is_below(a: int, b: int) -> bool:
    """Whether a is less than b, both unsigned."""
    return (a ^ _TOP) < (b ^ _TOP)


@cold
def digits_of(value: int) -> int:
    """Decimal digits of an unsigned number."""
    count, rest = 1, shift_right(value, 1) // 5
    while rest != 0:
        count += 1
        rest //= 10
    return count


@cold
def write_number(at: int, value: int, digits: int) -> int:
    """Write an unsigned number in decimal, ``digits`` of them; the address behind it."""
    place = at + digits
    while place > at:
        place -= 1
        rest = shift_right(value, 1) // 5
        store8(place, _ZERO + ((value - rest * 10) & 15))
        value = rest
    return at + digits


__all__ = [
    "digits_of", "is_below", "is_blank", "next_word", "read_line", "read_number", "text", "word_text", "write_number",
]  # fmt: skip

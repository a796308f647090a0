"""splitmix64: random words from a counter, for what must be repeatable and fast and need not be secret.

Reference: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
"""

from wirespeed.jit import add, inline, multiply, shift_right

_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_FIRST = 0xBF58476D1CE4E5B9 - (1 << 64)
_SECOND = 0x94D049BB133111EB - (1 << 64)


@inline
def next_state(state: int) -> int:
    """The generator's next state; it may begin with any number."""
    return add(state, _GOLDEN)


@inline
def word_of(state: int) -> int:
    """The 64 random bits of a state."""
    word = multiply(state ^ shift_right(state, 30), _FIRST)
    word = multiply(word ^ shift_right(word, 27), _SECOND)
    return word ^ shift_right(word, 31)


__all__ = ["next_state", "word_of"]

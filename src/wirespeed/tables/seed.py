"""What this process mixes into its hashes, so that nobody outside can choose keys that collide."""

import secrets

from wirespeed.jit import inline, multiply, shift_right, signed64

SEED: tuple[int, int, int] = (
    signed64(secrets.randbits(64)),
    signed64(secrets.randbits(64) | 1),
    signed64(secrets.randbits(64) | 1),
)
"""Three words: one to mask with, two odd ones to multiply with. Tables copy them into their memory."""


@inline
def mix(key: int, mask: int, first: int, second: int) -> int:
    """Mix a word with three secret ones; take the index from the *top* bits.

    Multiply-shift with a secret odd factor is universal (Dietzfelbinger et al., "A reliable randomized
    algorithm for the closest-pair problem", 1997); everything before the last multiplication is a
    bijection, so it keeps that, and it spreads keys that differ in the high bits only.
    """
    word = multiply(key ^ mask, first)
    return multiply(word ^ shift_right(word, 32), second)

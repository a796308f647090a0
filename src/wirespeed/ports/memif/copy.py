"""Copying a packet's bytes, no more and no less: what lies behind it in its buffer is somebody else's.

A frame of 60 to 64 bytes is two moves of 32 bytes, which overlap when it is shorter than 64; a longer one is moves of
64, the last of which overlaps the one before. No call, no loop over bytes, one branch that a stream of equal packets
predicts.
"""

from wirespeed.jit import copy32, copy64, inline

SHORTEST: int = 32
"""Bytes of the shortest packet that may be copied so."""


@inline
def copy_packet(to, source, length):  # type: ignore[no-untyped-def]
    """Copy ``length`` bytes, at least ``SHORTEST``."""
    if length > 64:
        last = length - 64
        at = 0
        while at < last:
            copy64(to + at, source + at)
            at += 64
        copy64(to + last, source + last)
    else:
        copy32(to, source)
        copy32(to + length - 32, source + length - 32)


__all__ = ["SHORTEST", "copy_packet"]

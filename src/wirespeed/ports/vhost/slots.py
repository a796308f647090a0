"""Entries of both ring layouts as the device reads and writes them: what is available, and how it becomes used.

References: virtio 1.2 sections 2.7.6 and 2.7.8 (split), 2.8.1 to 2.8.4 (packed).
"""

from wirespeed.jit import fence_acquire, inline, load16, load_acquire, shift_right, store64
from wirespeed.ports.virtio.vring import AVAIL, USED

RING: int = 4
"""Bytes before the entries of a split queue's available or used ring."""


@inline
def available(record, at):  # type: ignore[no-untyped-def]
    """Split: buffers made available and not used, where ``at`` were; negative if there are more than can be."""
    ready = (load16(record.driver + 2) - at) & 0xFFFF
    fence_acquire()
    return ready if ready <= record.size else -1


@inline
def head_of(record, at):  # type: ignore[no-untyped-def]
    """Split: index of the first descriptor of available buffer number ``at``."""
    return load16(record.driver + RING + ((at & (record.size - 1)) << 1))


@inline
def use(record, at, head, length):  # type: ignore[no-untyped-def]
    """Split: write used entry number ``at``, which counts once the index is published."""
    store64(record.device + RING + ((at & (record.size - 1)) << 3), head | (length << 32))


@inline
def packed_available(record, at, wrap):  # type: ignore[no-untyped-def]
    """Packed: whether the descriptor at a position is the driver's no longer."""
    word = load_acquire(record.descriptors + (at << 4) + 8)
    return is_available(word, wrap)


@inline
def is_available(word, wrap):  # type: ignore[no-untyped-def]
    """Packed: the same of a descriptor's second word."""
    return shift_right(word, 48) & (AVAIL | USED) == (AVAIL if wrap != 0 else USED)


@inline
def mark_of(buffer, length, wrap, flags):  # type: ignore[no-untyped-def]
    """Packed: the second word of a used descriptor."""
    if wrap != 0:
        flags |= AVAIL | USED
    return length | (buffer << 32) | (flags << 48)


@inline
def advance(record, at, wrap, spans):  # type: ignore[no-untyped-def]
    """Packed: the position and wrap counter ``spans`` entries on."""
    at += spans
    if at >= record.size:
        at -= record.size
        wrap ^= 1
    return at, wrap


__all__ = ["RING", "advance", "available", "head_of", "is_available", "mark_of", "packed_available", "use"]

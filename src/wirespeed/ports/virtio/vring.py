"""The two layouts of a virtqueue, as memory: what the driver and the device of virtio write for each other.

Split (virtio 1.2 section 2.7), three areas for a queue of N (a power of two) entries::

    descriptor table  N x 16 bytes            written by the driver        SplitDescriptor
    available ring    2 + 2 + N x 2 + 2       written by the driver        flags, idx, ring[], used_event
    used ring         2 + 2 + N x 8 + 2       written by the device        flags, idx, ring[] (id, len), avail_event

Packed (section 2.8), one ring of N (any number up to 32768) descriptors that both write::

    descriptor ring   N x 16 bytes            written by both in turns     PackedDescriptor
    driver area       4                       written by the driver        EventSuppression: may the device notify?
    device area       4                       written by the device        EventSuppression: may the driver notify?

All fields are little endian, the machine's own order on x86-64.
"""

from wirespeed.jit import View, inline, le16, le32, le64

NEXT, WRITE, INDIRECT = 1, 2, 4
"""Bits of a descriptor's ``flags``: it goes on; the device writes into it; it is a table of descriptors."""
AVAIL, USED = 1 << 7, 1 << 15
"""Bits of a packed descriptor's ``flags``: available when AVAIL is the wrap counter and USED is not, used when both
are (section 2.8.1)."""
NO_NOTIFY: int = 1
"""Split: ``used.flags`` (do not kick) and ``avail.flags`` (do not interrupt), without EVENT_IDX."""
EVENTS_ON, EVENTS_OFF, EVENTS_AT = 0, 1, 2
"""Packed: ``EventSuppression.flags``; EVENTS_AT is for EVENT_IDX and one descriptor."""
LARGEST_SPLIT, LARGEST_PACKED = 32768, 32768
"""Most entries of a queue."""


class SplitDescriptor(View):
    """struct virtq_desc, section 2.7.5."""

    base = le64(0, "address in the driver's memory")
    length = le32(8)
    flags = le16(12)
    next = le16(14, "index of the next descriptor, if NEXT")
    SIZE = 16


class PackedDescriptor(View):
    """struct pvirtq_desc, section 2.8.13."""

    base = le64(0, "address in the driver's memory")
    length = le32(8, "bytes of the buffer; bytes written, once used")
    id = le16(12, "which buffer it is")
    flags = le16(14)
    SIZE = 16


class RingHead(View):
    """The start of an available or a used ring; the entries follow."""

    flags = le16(0)
    idx = le16(2, "where the next entry will be put; counts on and wraps at 65536")
    SIZE = 4


class UsedElement(View):
    """struct virtq_used_elem, section 2.7.8."""

    id = le32(0, "index of the first descriptor of the chain")
    length = le32(4, "bytes written to it")
    SIZE = 8


class EventSuppression(View):
    """struct pvirtq_event_suppress, section 2.8.14."""

    descriptor = le16(0, "EVENTS_AT: offset in the ring, and the wrap counter in the top bit")
    flags = le16(2)
    SIZE = 4


@inline
def split_descriptors_bytes(size):  # type: ignore[no-untyped-def]
    """Bytes of the descriptor table of a split queue; aligned to 16."""
    return size * 16


@inline
def available_bytes(size):  # type: ignore[no-untyped-def]
    """Bytes of a split queue's available ring with ``used_event``; aligned to 2."""
    return 6 + size * 2


@inline
def used_bytes(size):  # type: ignore[no-untyped-def]
    """Bytes of a split queue's used ring with ``avail_event``; aligned to 4."""
    return 6 + size * 8


@inline
def crossed(event, after, before):  # type: ignore[no-untyped-def]
    """Whether moving an index from ``before`` to ``after`` passed ``event``: the other side wants to be told.

    Section 2.7.10 (vring_need_event of linux/virtio_ring.h); all three are 16-bit counters.
    """
    return ((after - event - 1) & 0xFFFF) < ((after - before) & 0xFFFF)


__all__ = [
    "AVAIL", "EVENTS_AT", "EVENTS_OFF", "EVENTS_ON", "INDIRECT", "LARGEST_PACKED", "LARGEST_SPLIT", "NEXT", "NO_NOTIFY",
    "USED", "WRITE", "EventSuppression", "PackedDescriptor", "RingHead", "SplitDescriptor", "UsedElement",
    "available_bytes", "crossed", "split_descriptors_bytes", "used_bytes",
]  # fmt: skip

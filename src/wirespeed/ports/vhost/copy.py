"""The short way between the guest's memory and cells: packets of one descriptor and one cell, a run at a time.

A run has been checked: each of its words says where a buffer is in this process and how long it is. What is left is to
copy, and that is bound by cache lines that the guest's core has just written. They were asked for (prefetch) when the
run was checked, so that many are on their way at once.
"""

from wirespeed.jit import cold, copy, copy32, copy64, inline, load16, load64, shift_right, store16, store32, store64
from wirespeed.mem.descriptor import ROOM, address_of, blank, header_of, length_of
from wirespeed.mem.pool import Cache, take, taken, untake
from wirespeed.ports.scatter import SEGMENTS
from wirespeed.ports.vhost.chain import gather
from wirespeed.ports.vhost.ring import HEADERS, VhostRing, scratch_of, words_of
from wirespeed.ports.virtio.net import HOSTILE, load_offloads

ADDRESS: int = (1 << 48) - 1
"""The part of a word of a run that is an address; above is a length."""


@inline
def copy_frame(to, source, size):  # type: ignore[no-untyped-def]
    """Copy ``size`` bytes and not one more: short frames in two moves that overlap."""
    if 32 <= size <= 64:
        copy32(to, source)
        copy32(to + size - 32, source + size - 32)
    elif 64 < size <= 128:
        copy64(to, source)
        copy64(to + size - 64, source + size - 64)
    else:
        copy(to, source, size)


@cold
def bring(ring, cache, vector, run):  # type: ignore[no-untyped-def]
    """Receive a run: copy packets into cells, as many as there are cells for.

    Args:
        ring: its words hold address and length of each buffer, virtio-net header included.
        vector: where the packets' descriptors go.

    Returns:
        Buffers done with, the packets made of them, their bytes. A packet whose header lies is not made.
    """
    record = VhostRing(ring)
    stack = Cache(cache)
    cells, words, header = stack.cells, words_of(record), record.header
    offloads = record.mode & HEADERS
    got = take(stack, run)
    window = taken(stack, got)
    packets, total = 0, 0
    for i in range(got):
        word = load64(words + (i << 3))
        source = word & ADDRESS
        length = shift_right(word, 48) - header
        desc = blank(load64(window - (packets << 3)))
        copy_frame(address_of(cells, desc), source + header, length)
        said = 0
        if offloads != 0:
            said = _offloads(record, source, cells, desc, length)
        if said != HOSTILE:
            store64(vector + (packets << 3), desc | (length << 48) | said)
            packets += 1
            total += length
    untake(stack, got - packets)
    return got, packets, total


@inline
def _offloads(record, source, cells, desc, length):  # type: ignore[no-untyped-def]
    """What the header before a frame says (:func:`load_offloads`), read once."""
    first = load64(source)
    if first & 0xFFFF == 0:
        return 0
    scratch = scratch_of(record)
    store64(scratch, first)
    store16(scratch + 8, load16(source + 8))
    return load_offloads(scratch, header_of(cells, desc), address_of(cells, desc), length, 0)


@cold
def bring_one(ring, cache, vector, count):  # type: ignore[no-untyped-def]
    """Receive one packet of ``count`` pieces: 1 if its descriptor is at ``vector``, 0 if it was no frame, -1 if there
    are no cells for it now."""
    record = VhostRing(ring)
    stack = Cache(cache)
    got = take(stack, SEGMENTS)
    made = -1
    if got == SEGMENTS:
        made = 0
        window = taken(stack, got)
        desc = gather(ring, count, window, stack.cells, 0)
        if desc != 0:
            said = 0
            if record.mode & HEADERS != 0:
                line, data = header_of(stack.cells, desc), address_of(stack.cells, desc)
                said = load_offloads(scratch_of(record), line, data, length_of(desc), 0)
            if said != HOSTILE:
                store64(vector, desc | said)
                made = 1
                got -= max(1, (record.length + ROOM - 1) // ROOM)
    untake(stack, got)
    return made


@cold
def give(ring, cells, vector, run):  # type: ignore[no-untyped-def]
    """Send a run: a virtio-net header that says nothing, and the packet's bytes, into each buffer; their bytes."""
    record = VhostRing(ring)
    words, header = words_of(record), record.header
    total = 0
    for i in range(run):
        desc = load64(vector + (i << 3))
        to = load64(words + (i << 3))
        length = length_of(desc)
        store64(to, 0)
        if header == 12:
            store32(to + 8, 1 << 16)  # num_buffers
        else:
            store16(to + 8, 0)
        copy_frame(to + header, address_of(cells, desc), length)
        total += length
    return total


__all__ = ["ADDRESS", "bring", "bring_one", "copy_frame", "give"]

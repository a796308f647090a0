"""Packets that go to the guest by the general way: over several cells, buffers or descriptors, or with offloads.

What the guest did not agree to take is finished here first: a checksum is summed, a super-packet is cut.
"""

from wirespeed.jit import cold, inline, kernel, load64, store64, store_release
from wirespeed.mem.buffer import bytes_of_packet
from wirespeed.mem.descriptor import META, NEEDS_CHECKSUM, CellHeader, header_of
from wirespeed.mem.pool import Cache, release
from wirespeed.ports.vhost.chain import bytes_of_pieces, flatten_packed, flatten_split, scatter
from wirespeed.ports.vhost.ring import (
    BURST,
    CHECKSUM,
    EMPTY,
    MERGE,
    SPLIT,
    TSO4,
    TSO6,
    USO,
    VhostRing,
    blame,
    words_of,
)
from wirespeed.ports.vhost.slots import advance, available, head_of, mark_of, packed_available, use
from wirespeed.ports.virtio.net import GSO_ECN, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4
from wirespeed.ports.virtio.vring import WRITE
from wirespeed.traffic.gso import segment
from wirespeed.traffic.sums import complete

SENT, NO_ROOM, REFUSED = 1, 0, -1
"""What :func:`send` says."""

_SEGMENTS = BURST  # of one packet: 64 KiB in pieces of 256 bytes
_BUFFERS = 64  # of one packet in a packed ring


@inline
def takes(mode, kind):  # type: ignore[no-untyped-def]
    """Whether the guest takes super-packets of this ``gso_type``."""
    kind &= ~GSO_ECN
    wanted = 0
    if kind == GSO_TCPV4:
        wanted = TSO4
    elif kind == GSO_TCPV6:
        wanted = TSO6
    elif kind == GSO_UDP_L4:
        wanted = USO
    return mode & wanted != 0


@kernel
def send(ring, cache, slot):  # type: ignore[no-untyped-def]
    """Give the guest the packet whose descriptor is at ``slot``.

    Returns:
        SENT: ``record.packets`` (several, if it was cut) and ``record.length`` say what went, and ``record.lost`` what
        there was no room for; NO_ROOM; or REFUSED: it can never be sent. What is at ``slot`` afterwards is the
        caller's to free.
    """
    record = VhostRing(ring)
    stack = Cache(cache)
    record.packets = record.length = record.lost = 0
    desc = load64(slot)
    if desc & META != 0:
        line = CellHeader(header_of(stack.cells, desc))
        if line.gso_size != 0 and not takes(record.mode, line.gso_type):
            vector = words_of(record) + BURST * 8  # the half of the words that a single packet leaves alone
            count = segment(stack, desc, 0, vector, _SEGMENTS)
            if count != 1:
                return _send_segments(ring, cache, slot, vector, count)
            line.gso_size = 0  # it is no longer than a segment
            line.gso_type = 0
        if line.checksum_state == NEEDS_CHECKSUM and record.mode & CHECKSUM == 0:
            complete(stack.cells, desc)
    return _send_one(ring, stack.cells, desc)


@cold
def _send_segments(ring, cache, slot, vector, count):  # type: ignore[no-untyped-def]
    """Send what a super-packet was cut into, as much as there is room for; the last takes its place at ``slot``."""
    if count == 0:
        return REFUSED
    record, stack = VhostRing(ring), Cache(cache)
    first, done = SENT, 0
    while done < count and first == SENT:
        said = _send_one(ring, stack.cells, load64(vector + (done << 3)))
        if said == SENT:
            done += 1
        elif done == 0:
            first = said
        else:
            record.lost = count - done
            done = count
    store64(slot, load64(vector + ((count - 1) << 3)))
    release(stack, vector, count - 1)
    return first


@cold
def _send_one(ring, cells, desc):  # type: ignore[no-untyped-def]
    record = VhostRing(ring)
    size = bytes_of_packet(cells, desc)
    if record.layout == SPLIT:  # not live: control code may have taken the ring off the air since the burst began
        said = _send_split(ring, cells, desc, record.header + size)
    else:
        said = _send_packed(ring, cells, desc, record.header + size)
    if said == SENT:
        record.packets += 1
        record.length += size
    return said


@cold
def _send_split(ring, cells, desc, need):  # type: ignore[no-untyped-def]
    record = VhostRing(ring)
    pieces, buffers, have = 0, 0, 0
    while have < need:
        if buffers == record.ready:
            return NO_ROOM
        if (buffers > 0 and record.mode & MERGE == 0) or buffers == BURST:
            return REFUSED
        head = head_of(record, record.next + buffers)
        count = flatten_split(ring, head, pieces, WRITE)
        if count < 0:
            blame(record, -count)
            return NO_ROOM
        size = bytes_of_pieces(record, pieces, count)
        if size == 0:
            blame(record, EMPTY)
            return NO_ROOM
        use(record, record.next + buffers, head, min(size, need - have))
        pieces = count
        have += size
        buffers += 1
    scatter(ring, pieces, buffers, cells, desc)
    record.next = (record.next + buffers) & 0xFFFF
    record.ready -= buffers
    return SENT


@cold
def _send_packed(ring, cells, desc, need):  # type: ignore[no-untyped-def]
    record = VhostRing(ring)
    words = words_of(record)
    at, wrap = record.next, record.wrap
    pieces, buffers, have = 0, 0, 0
    while have < need:
        if not packed_available(record, at, wrap):
            return NO_ROOM
        if (buffers > 0 and record.mode & MERGE == 0) or buffers == _BUFFERS:
            return REFUSED
        count = flatten_packed(ring, at, pieces, WRITE)
        if count < 0:
            blame(record, -count)
            return NO_ROOM
        size = bytes_of_pieces(record, pieces, count)
        if size == 0:
            blame(record, EMPTY)
            return NO_ROOM
        store64(words + (buffers << 4), record.descriptors + (at << 4) + 8)
        store64(words + (buffers << 4) + 8, mark_of(record.buffer, min(size, need - have), wrap, WRITE))
        at, wrap = advance(record, at, wrap, record.spans)
        pieces = count
        have += size
        buffers += 1
    scatter(ring, pieces, buffers, cells, desc)
    for i in range(buffers - 1, -1, -1):  # the first one last: the guest looks there
        store_release(load64(words + (i << 4)), load64(words + (i << 4) + 8))
    record.next, record.wrap = at, wrap
    return SENT


__all__ = ["NO_ROOM", "REFUSED", "SENT", "available", "send", "takes"]

"""What a worker knows of one virtqueue that it is the device of, and the guest's memory as it sees it.

Everything in a guest's memory is the guest's to change at any time. So an index, a length, an address is read once,
checked, and used from the register it was read into; what does not lie within a region of the guest's memory is never
touched. The first thing that makes no sense ends the ring: it is taken off the air, its reason goes to ``fault``, and
control code is woken (:func:`blame`).

A ring's memory, :data:`RING_BYTES`::

    0       the record       :class:`VhostRing`: two lines that control code writes while no worker is inside,
                             one that the worker writes, one for the lock
    256     a virtio-net header, read or written once
    320     words            BURST x 16: what one pass over descriptors leaves for the next
    ...     pieces           PIECES x 16: address and length of each piece of a packet in the guest's memory

The regions of the guest's memory are a table (:class:`Region`) that all rings of a port share, in the order of their
addresses; a ring remembers the one it met last.

References: virtio 1.2 sections 2.6 to 2.8; vhost-user specification, "Memory region description".
"""

from wirespeed.jit import View, cold, inline, le64, load64, store64, store_release
from wirespeed.jit.libc import write

OFF, SPLIT, PACKED = 0, 1, 2
"""``VhostRing.live``."""
MERGE, INDIRECT_TABLES, EVENT_IDX, IN_ORDER, HEADERS, CHECKSUM, TSO4, TSO6, USO = (1 << bit for bit in range(9))
"""Bits of ``VhostRing.mode``: what was agreed on. HEADERS: what the guest sends may have offloads. CHECKSUM, TSO, USO:
the guest takes packets with theirs left to it."""

BURST: int = 256
"""Packets of one pass."""
CHAIN: int = 256
"""Descriptors of one packet: a longer chain is a fault, which also ends chains that loop."""
PIECES: int = 512
MOST_REGIONS: int = 32
"""Memory regions of one guest."""

FAULTS: dict[int, str] = {
    1: "its available index jumped beyond the ring",
    2: "a descriptor's index lies outside the ring",
    3: "a chain of descriptors does not end, or is longer than a packet may have",
    4: "a descriptor leads outside its memory",
    5: "a descriptor to read from may only be written, or the other way round",
    6: "a table of indirect descriptors of an impossible size, inside another, or not agreed on",
    7: "buffers with no room for a byte",
}
"""Why a ring was ended, by ``VhostRing.fault``."""
JUMPED, INDEX, ENDLESS, OUTSIDE, DIRECTION, INDIRECTION, EMPTY = FAULTS

_SCRATCH, _WORDS = 256, 320
_PIECES = _WORDS + BURST * 16
RING_BYTES: int = _PIECES + PIECES * 16


class VhostRing(View):
    """One virtqueue."""

    live = le64(0, "OFF: keep away; else the layout")
    size = le64(8, "entries")
    descriptors = le64(16, "descriptor table, or the packed ring")
    driver = le64(24, "available ring, or the driver's event suppression")
    device = le64(32, "used ring, or the device's event suppression")
    header = le64(40, "bytes of the virtio-net header")
    mode = le64(48, "what was agreed on")
    regions = le64(56, "table of the guest's memory")
    call = le64(64, "eventfd: tells the guest; negative: nobody listens")
    alarm = le64(72, "eventfd: tells control code of a fault")
    one = le64(80, "1, to write to an eventfd")
    burst = le64(88, "the kernel that moves a burst, see vhost_queue")
    single = le64(96, "the kernel that sends one packet the general way, see vhost_send")
    layout = le64(104, "SPLIT or PACKED: unlike live it stays what it is while a worker is inside")
    next = le64(128, "split: counter of buffers so far (16 bits); packed: position in the ring")
    wrap = le64(136, "packed: the wrap counter")
    low = le64(144, "the region met last: from here")
    high = le64(152, "to here")
    delta = le64(160, "how much higher it is in this process")
    fault = le64(168, "0, or why it was ended")
    calls = le64(176, "times the guest was told")
    spans = le64(184, "packed: entries of the chain just taken")
    buffer = le64(192, "packed: its buffer id")
    length = le64(200, "bytes of the packet just received, or of the packets just sent")
    packets = le64(208, "packets just sent")
    ready = le64(216, "split: buffers that the guest has made available and are not used yet")
    lost = le64(224, "segments of the packet just cut that there was no room for")
    lock = le64(248, "1 while a worker sends to it, if several may")
    SIZE = 256


class Region(View):
    """One region of the guest's memory, from guest address ``low`` up to ``high``."""

    low = le64(0)
    high = le64(8)
    delta = le64(16, "how much higher it is in this process")
    SIZE = 32


_REGION: int = Region.SIZE
ONE: int = VhostRing.one.offset
REGIONS_BYTES: int = 64 + MOST_REGIONS * _REGION
"""Bytes of a table of regions: how many there are, and from byte 64 on what they are."""


@inline
def scratch_of(record):  # type: ignore[no-untyped-def]
    """Room for a virtio-net header that the guest cannot change."""
    return record.address + _SCRATCH


@inline
def words_of(record):  # type: ignore[no-untyped-def]
    """16 bytes for each packet of a pass."""
    return record.address + _WORDS


@inline
def pieces_of(record):  # type: ignore[no-untyped-def]
    """Address and length of each piece of a packet."""
    return record.address + _PIECES


@cold
def blame(record, fault):  # type: ignore[no-untyped-def]
    """The guest broke the rules: touch its ring no more, and tell control code."""
    record.fault = fault
    store_release(record.address, OFF)
    write(record.alarm, record.address + ONE, 8)


@inline
def inside(low, high, guest, length):  # type: ignore[no-untyped-def]
    """Whether ``length`` bytes from guest address ``guest`` lie in a region. Addresses above 2^63 are negative, regions
    end below, and a length has 32 bits: nothing overflows."""
    return (guest >= low) & (guest <= high - length)


@cold
def seek(record, guest):  # type: ignore[no-untyped-def]
    """Make the region that guest address ``guest`` lies in the ring's own; bytes from there to its end, 0 if none."""
    table = record.regions
    for i in range(load64(table)):
        region = Region(table + 64 + i * _REGION)
        if (guest >= region.low) & (guest < region.high):
            record.low, record.high, record.delta = region.low, region.high, region.delta
            return region.high - guest
    return 0


@cold
def locate(record, guest, length):  # type: ignore[no-untyped-def]
    """Where ``length`` bytes of one region are in this process; 0 if they are in none, or in several."""
    if not inside(record.low, record.high, guest, length):
        if seek(record, guest) < max(length, 1):
            return 0
    return guest + record.delta


@cold
def append(record, count, guest, length):  # type: ignore[no-untyped-def]
    """Note a buffer as pieces of one region each, behind ``count`` that are there; how many there are now, or minus why
    not."""
    while length > 0:
        if count == PIECES:
            return -ENDLESS
        left = record.high - guest
        if not inside(record.low, record.high, guest, 1):
            left = seek(record, guest)
        if left <= 0:
            return -OUTSIDE
        part = min(left, length)
        at = record.address + _PIECES + (count << 4)
        store64(at, guest + record.delta)
        store64(at + 8, part)
        count += 1
        guest += part
        length -= part
    return count


__all__ = [
    "BURST", "CHAIN", "CHECKSUM", "DIRECTION", "EMPTY", "ENDLESS", "EVENT_IDX", "FAULTS", "HEADERS", "INDEX",
    "INDIRECTION", "INDIRECT_TABLES", "IN_ORDER", "JUMPED", "MERGE", "MOST_REGIONS", "OFF", "ONE", "OUTSIDE", "PACKED",
    "PIECES", "REGIONS_BYTES", "RING_BYTES", "SPLIT", "TSO4", "TSO6", "USO", "Region", "VhostRing", "append", "blame",
    "inside", "locate", "pieces_of", "scratch_of", "seek", "words_of",
]  # fmt: skip

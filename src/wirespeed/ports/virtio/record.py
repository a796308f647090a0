"""What a worker knows of one virtqueue that it is the driver of, and where its memory is.

Two memories. The *shared* one holds the rings and is mapped by the back end, who may write anything there at any time.
The *private* one says what was given to the back end; whatever comes out of the rings is checked against it. For a
queue of N entries::

    shared    0         descriptor table or ring     N x 16
              ...60     available ring (driver area) 4 + N x 2 + 2, its entries from a cache line's start
              ...60     used ring (device area)      4 + N x 8 + 2, the same
              ...       headers                      N x 16   virtio-net headers that have no headroom to lie in
              ...       tables                       N x 1024 indirect descriptors (transmit only)

    private   0         the record                   :class:`VirtioQueue`
              272       a virtio-net header, read once; what is read from an eventfd
              320       held                         N x 8    descriptors of the cells in each slot
              ...       order                        N x 2    slots, in the order in which they become free
              ...       spans, following             N x 2    entries of the chain from this slot on; its next slot

A *slot* is a number below N: the entry of a split ring's table, the buffer id of a packed ring. As long as every buffer
had one entry and came back in its turn, slot, ring position and id are the same number, and nothing but ``held`` is
needed: the record is *plain*. The first buffer that is not makes it general, until the next connection.

References: virtio 1.2 sections 2.7, 2.8.
"""

import struct

from wirespeed.jit import (
    cold,
    fence,
    fill,
    inline,
    le64,
    load16,
    load32,
    load64,
    store16,
    store32,
    store64,
    write_bytes,
)
from wirespeed.jit.libc import write
from wirespeed.mem.descriptor import CELL_HEADER, ROOM
from wirespeed.ports.queue import Queue
from wirespeed.ports.scatter import ENTRIES
from wirespeed.ports.virtio.vring import EVENTS_AT, EVENTS_OFF, NO_NOTIFY, WRITE, available_bytes, crossed, used_bytes

PACKED, MERGE, OFFLOADS, INDIRECT_TABLES, EVENT_IDX, IN_ORDER, CHECKSUM, SEGMENTATION = (1 << n for n in range(8))
"""Bits of ``mode``: what was agreed on."""

HEADER: int = 12
"""Bytes of the virtio-net header of virtio 1.0 and later (section 5.1.6.1)."""
LARGEST: int = 32768
"""Most entries of a queue; a power of two."""

LONGEST: int = ROOM - HEADER
"""Bytes of the largest packet that one buffer takes."""
SHORTEST: int = 14
"""Bytes of an Ethernet header; shorter packets are errors."""
LEAST_OFFSET: int = CELL_HEADER + HEADER
"""Where data must begin in its cell for the header to fit before it."""

FAULTS: dict[int, str] = {
    1: "its used index jumped beyond what it was given",
    2: "it used a buffer that does not exist",
    3: "it used a buffer that it does not have",
    4: "it wrote more than a buffer holds, or less than a header",
    5: "it spread a packet over more buffers than a packet can take",
    6: "it used buffers out of order after agreeing not to",
}
"""Why a back end is disconnected, by ``VirtioQueue.fault``."""
JUMPED, UNKNOWN, NOT_HELD, LENGTH, SPREAD, DISORDER = FAULTS

_ONE = 256  # where in the record the number 1 is, to write to an eventfd
_RECEIVE = struct.Struct("<QIHH")
_SCRATCH, _HELD = 272, 320
_TABLE_BYTES = ENTRIES * 16
_LINE = 64


class VirtioQueue(Queue):
    """One queue; the first two lines after the counters are control code's, the third is the worker's."""

    live = le64(64, "1 while both ends agree about the rings; 0: keep off")
    mode = le64(72, "what was agreed on")
    size = le64(80, "entries, a power of two")
    descriptors = le64(88, "descriptor table, or the packed ring")
    driver = le64(96, "available ring, or the driver's event suppression")
    device = le64(104, "used ring, or the device's event suppression")
    kick = le64(112, "eventfd: tells the device")
    call = le64(120, "eventfd: tells us")
    held = le64(128, "the descriptors of what each slot holds; 0 for nothing, once the record is general")
    order = le64(136, "general: slots in the order in which they become free")
    spans = le64(144, "general: ring entries of the chain that begins in a slot")
    following = le64(152, "general: the next slot of a chain")
    headers = le64(160, "shared: a virtio-net header for each slot")
    tables = le64(168, "shared: a table of indirect descriptors for each slot")
    alarm = le64(176, "eventfd: tells control code of a fault")
    batch = le64(184, "free entries from which on a receive queue is refilled")
    given = le64(192, "entries given to the device so far")
    taken = le64(200, "entries that came back so far")
    offered = le64(208, "split: buffers made available so far")
    seen = le64(216, "split: buffers found used so far")
    plain = le64(224, "slot, position and id are the same number")
    fault = le64(232, "0, or why the device cannot be trusted")
    kicks = le64(240, "times the device was told")
    merged = le64(248, "packets received in several buffers")
    one = le64(_ONE, "1, to write to an eventfd")
    epoll = le64(264, "what a sleeping worker blocks on: edge-triggered, the call eventfd and one of ours")
    SIZE = 320


def shared_bytes(size: int, transmits: bool) -> int:
    """Bytes of shared memory of a queue of ``size`` entries."""
    return _shared(size, transmits)[-1]


def _shared(size: int, transmits: bool) -> tuple[int, int, int, int, int]:
    """Where the driver's area, the device's, headers and tables are, and the end; descriptors are at 0."""
    driver = _entries_at_line(size * 16)
    device = _entries_at_line(driver + available_bytes(size))
    headers = -(-(device + used_bytes(size)) // _LINE) * _LINE
    tables = headers + (size * 16 if transmits else 0)
    end = tables + (size * _TABLE_BYTES if transmits else 0)
    return driver, device, headers, tables, -(-end // 4096) * 4096


def _entries_at_line(after: int) -> int:
    """Where a ring begins whose entries, four bytes on, begin a cache line; nothing else is in the head's line."""
    return -(-after // _LINE) * _LINE + _LINE - 4


def private_bytes(size: int) -> int:
    """Bytes of private memory of a queue of ``size`` entries."""
    return -(-(_HELD + size * 14) // _LINE) * _LINE


def format_queue(address: int, shared: int, size: int, kick: int, call: int, alarm: int, transmits: bool) -> None:
    """Lay out a queue in ``private_bytes`` of zeros; it is not live."""
    queue = VirtioQueue(address)
    driver, device, headers, tables, _ = _shared(size, transmits)
    queue.size = size
    queue.descriptors, queue.driver, queue.device = shared, shared + driver, shared + device
    queue.headers, queue.tables = shared + headers, shared + tables
    queue.kick, queue.call, queue.alarm, queue.one = kick, call, alarm, 1
    queue.batch = max(1, min(64, size // 4))
    queue.held = address + _HELD
    queue.order = queue.held + size * 8
    queue.spans = queue.order + size * 2
    queue.following = queue.spans + size * 2


def reset_queue(address: int, mode: int, transmits: bool) -> None:
    """Make the rings as new, for a connection that agreed on ``mode``. No worker is inside, no cell is held."""
    queue = VirtioQueue(address)
    size = queue.size
    queue.mode = mode
    queue.given = queue.taken = queue.offered = queue.seen = 0
    queue.fault = 0
    queue.plain = 1
    for start, length in (
        (queue.descriptors, size * 16), (queue.driver, available_bytes(size)), (queue.device, used_bytes(size)),
        (queue.held, size * 8),
    ):  # fmt: skip
        fill(start, 0, length)
    if mode & PACKED:
        store16(queue.driver + 2, EVENTS_OFF)
        return
    if not mode & EVENT_IDX:
        store16(queue.driver, NO_NOTIFY)
    if not transmits:  # only the addresses of its buffers will change
        write_bytes(queue.descriptors, _RECEIVE.pack(0, ROOM, WRITE, 0) * size)
    numbers = b"".join(slot.to_bytes(2, "little") for slot in range(size))
    write_bytes(queue.driver + 4, numbers)  # plain: position p of the available ring is always slot p


@inline
def scratch_of(record):  # type: ignore[no-untyped-def]
    """Private room for a header that the other side may change while it is looked at."""
    return record.address + _SCRATCH


@inline
def table_of(record, slot):  # type: ignore[no-untyped-def]
    """A slot's table of indirect descriptors."""
    return record.tables + slot * _TABLE_BYTES


@cold
def blame(queue, fault):  # type: ignore[no-untyped-def]
    """The device broke the rules: touch its rings no more, and tell control code."""
    record = VirtioQueue(queue)
    if record.fault == 0:
        record.fault = fault
        write(record.alarm, queue + _ONE, 8)


@cold
def generalize(queue):  # type: ignore[no-untyped-def]
    """From now on slots, positions and ids may differ: write down what a plain record need not."""
    record = VirtioQueue(queue)
    mask = record.size - 1
    for slot in range(record.size):
        store16(record.order + (slot << 1), slot)
        store16(record.spans + (slot << 1), 1)
    for position in range(record.given, record.taken + record.size):
        store64(record.held + ((position & mask) << 3), 0)
    record.plain = 0


@cold
def notify(queue, before, after):  # type: ignore[no-untyped-def]
    """Tell the device of what was given since counter ``before``, if it asked to be told.

    Section 2.7.10 (split) and 2.8.10 (packed); the counters are entries of a packed ring, buffers of a split one.
    """
    record = VirtioQueue(queue)
    fence()  # what was made available must be visible before we look whether the device sleeps
    wanted = False
    if record.mode & PACKED:
        event = load32(record.device)
        flags = (event >> 16) & 3
        wanted = flags != EVENTS_OFF
        if flags == EVENTS_AT:
            offset = event & 0x7FFF
            wrapped = ((event >> 15) & 1) ^ 1  # the wrap counter starts at 1
            start = after & ~(record.size - 1)
            if wrapped != ((after // record.size) & 1):
                start -= record.size
            wanted = crossed(start + offset, after, before)
    elif record.mode & EVENT_IDX:
        wanted = crossed(load16(record.device + 4 + (record.size << 3)), after, before)
    else:
        wanted = load16(record.device) & NO_NOTIFY == 0
    if wanted:
        record.kicks += 1
        write(record.kick, queue + _ONE, 8)


@inline
def clear(header):  # type: ignore[no-untyped-def]
    """Make a header to send say nothing. Where it does already, its line may stay in the device's cache, too."""
    if load64(header) != 0 or load32(header + 8) != 0:
        store64(header, 0)
        store32(header + 8, 0)


@inline
def oddities(record):  # type: ignore[no-untyped-def]
    """What :func:`is_odd` looks at in a header: masks of its offloads and, above, of its number of buffers."""
    mask = 0
    if record.mode & OFFLOADS:
        mask |= 0xFFFF
    if record.mode & MERGE:
        mask |= 0xFFFF_0000
    return mask


@inline
def is_odd(data, mask):  # type: ignore[no-untyped-def]
    """Whether the header before a received packet says anything: offloads, or more than one buffer."""
    header = data - HEADER
    return (load16(header) | ((load16(header + 10) ^ 1) << 16)) & mask


@inline
def held_at(record, slot):  # type: ignore[no-untyped-def]
    """What a slot holds."""
    return load64(record.held + (slot << 3))


__all__ = [
    "CHECKSUM", "DISORDER", "EVENT_IDX", "FAULTS", "HEADER", "INDIRECT_TABLES", "IN_ORDER", "JUMPED", "LARGEST",
    "LEAST_OFFSET", "LENGTH", "LONGEST", "MERGE", "NOT_HELD", "OFFLOADS", "PACKED", "SEGMENTATION", "SHORTEST",
    "SPREAD", "UNKNOWN", "VirtioQueue", "blame", "clear", "format_queue", "generalize", "held_at", "is_odd", "notify",
    "oddities", "private_bytes", "reset_queue", "scratch_of", "shared_bytes", "table_of",
]  # fmt: skip

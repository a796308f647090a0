"""memif's shared memory: rings, their slots, and what a worker knows of one.

A ring lies in a region that the client made (its memfd is passed over the socket) and both sides map::

    0     cookie, flags, head     written by the client (flags: by whoever receives from the ring)
    64    tail                    written by the server
    128   slots, 16 bytes each: flags, region, length, offset, metadata

The client owns all buffers, whichever way packets go, and moves ``head``; the server moves ``tail``:

==========================  ================================  ======================================
ring                        head (client)                     tail (server)
==========================  ================================  ======================================
S2M, from client to server  filled up to here                 taken up to here
M2S, from server to client  given, empty, up to here          filled up to here
==========================  ================================  ======================================

Seen from either side a ring is one thing: slots from ``position`` up to a limit that the peer's index gives, and an
index of ours that says how far we are. What differs are two constants: a client that sends may use a whole ring more
than the peer has taken (``gift``), a client that receives gives each buffer back as it takes it, a whole ring ahead
(``lead``). So one receive and one transmit serve both roles.

The record of a queue (:class:`MemifQueue`)::

    0     the counters of every queue
    64    where the ring is: nobody writes it while the queue lives
    128   how far the worker is, and what it has to say to control code
    192   where buffers are: ours, and the peer's region that they were in last
    256   the kernel that works it, and what it knows of cells in the ring (:mod:`.zero_copy`)
    320   pieces of the packet at hand (:data:`PIECES`), each an address and a length

References: libmemif's memif.h (protocol 2.0); drivers/net/memif of DPDK. The names server and client are DPDK's;
the rings keep the protocol's: S2M, M2S.
"""

from wirespeed.jit import View, inline, le16, le32, le64, load_acquire16
from wirespeed.ports.queue import Queue

COOKIE: int = 0x3E31F20
"""First word of every ring."""
RING_BYTES: int = 128
"""Bytes of a ring before its slots."""
SLOT_BYTES: int = 16
LARGEST_LOG2: int = 14
"""Slots of the largest ring, as a power of two: what DPDK and VPP take; indexes have 16 bits."""
NEXT: int = 1
"""Flag of a slot: the packet goes on in the next one."""
MASK_INTERRUPT: int = 1
"""Flag of a ring: whoever receives from it polls, and wants no notification."""
PIECES_AT: int = 320
"""Where the pieces begin in a queue's record."""
PIECES: int = 256
"""Most slots of one packet that is received; a longer chain is an error."""

GOOD, BAD_INDEX, BAD_REGION, BAD_RANGE, BAD_CHAIN = range(5)
FAULTS: tuple[str, ...] = (
    "",
    "its ring index is further ahead than the ring is long",
    "a slot names a region that was never added",
    "a slot's buffer does not lie in its region",
    "a chain goes on past what was filled",
)
"""Why a worker refuses to go on with a peer, by ``MemifQueue.fault``."""


class Ring(View):
    """The head of a ring in shared memory."""

    cookie = le32(0)
    flags = le16(4)
    head = le16(6, "moved by the client")
    tail = le16(64, "moved by the server")
    SIZE = RING_BYTES


class Slot(View):
    """A slot: one buffer."""

    flags = le16(0)
    region = le16(2, "which region the buffer is in")
    length = le32(4, "bytes of the packet in it; of the buffer, when it is given empty")
    offset = le32(8, "where in the region it starts")
    metadata = le32(12)
    SIZE = SLOT_BYTES


class MemifQueue(Queue):
    """One direction of a port over one ring."""

    live = le64(64, "1: connected; 0: nothing of the rest may be looked at")
    theirs = le64(72, "address of the index that the peer moves")
    ours = le64(80, "address of the index that we move")
    slots = le64(88, "address of the first slot")
    mask = le64(96, "slots less one")
    gift = le64(104, "slots that we may use beyond the peer's index")
    lead = le64(112, "how far our index is ahead of our position")
    flags = le64(120, "address of the ring's flags")

    position = le64(128, "slots handled since the connection was made")
    limit = le64(136, "how far the peer had let us go when we last looked")
    fault = le64(144, "why this worker stopped: an index of FAULTS")
    doorbell = le64(152, "eventfd of the ring; -1 for none")
    sleeps = le64(160, "1: the receiver has been seen to sleep, so notifications matter")
    notified = le64(168, "notifications sent")
    epoll = le64(176, "what a sleeping worker blocks on")
    one = le64(184, "1, which is written to ring the bell; a sleeper's events are read to here, too")

    first = le64(192, "address of slot 0's buffer where the buffers are ours; 0 where they are lent")
    pitch = le64(200, "bytes from one of our buffers to the next")
    capacity = le64(208, "bytes of one of our buffers")
    hot = le64(216, "the region that slots named last, as in a slot's first word")
    hot_base = le64(224, "its address")
    hot_size = le64(232, "its bytes")
    regions = le64(240, "address of a table of regions: address, size")
    region_count = le64(248)

    burst = le64(256, "the kernel that moves a burst, see jit.entry")
    hungry = le64(264, "1: nothing can come before the peer is given cells")
    held = le64(272, "cells that are lent: address of a table of their descriptors, by slot")
    given = le64(280, "receiving into cells: given to the peer so far")
    freed = le64(288, "sending cells: the slots before this one hold none any more")
    lent = le64(296, "sending cells: the slots from this one on hold none yet, or copies")
    room = le64(304, "most cells that may wait to be received into")
    batch = le64(312, "how many of them are given at once")
    SIZE = PIECES_AT + 16 * PIECES


@inline
def look(record):  # type: ignore[no-untyped-def]
    """How many slots there are now, from the peer's index; 0 too if that cannot be."""
    index = load_acquire16(record.theirs)
    ready = (index + record.gift - record.position) & 0xFFFF
    if ready > record.mask + 1:
        record.fault = BAD_INDEX
        record.live = 0
        return 0
    record.limit = record.position + ready
    return ready


__all__ = [
    "BAD_CHAIN", "BAD_INDEX", "BAD_RANGE", "BAD_REGION", "COOKIE", "FAULTS", "GOOD", "LARGEST_LOG2",
    "MASK_INTERRUPT", "NEXT", "PIECES", "PIECES_AT", "RING_BYTES", "SLOT_BYTES", "MemifQueue", "Ring", "Slot", "look",
]  # fmt: skip

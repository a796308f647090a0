"""AF_XDP's rings and the queue records that workers drive them by.

The packet memory (UMEM) that the kernel knows is the pool itself: chunks of 2048 bytes, which are its cells. An address
in a ring counts bytes from cell 0, so cell and offset are in it, and no packet is copied between driver and graph::

    cell   0        64                 256                                  2048
           header   headroom (XDP's)   a received frame ...                 the next cell
           address in a ring = cell * 2048 + offset

Each socket has four rings, all of one shape: the kernel and we each move one 32-bit index.

    ring        an entry                                     who fills it    who empties it
    fill        8 bytes: a free cell                         we              the kernel
    rx          16 bytes (:class:`Desc`)                     the kernel      we
    tx          16 bytes                                     we              the kernel
    completion  8 bytes: a cell whose packet has been sent   the kernel      we

Which cells the kernel has is written down in a *ledger*, a byte for each cell, one for each direction of a socket; a
closed socket tells nobody. Of a transmit ledger, a byte counts how often a cell is in the ring, since a packet that has
several holders may be sent several times at once; ``HELD`` says that it has holders.

References: Documentation/networking/af_xdp.rst; include/uapi/linux/if_xdp.h; net/xdp/xsk_queue.h.
"""

from wirespeed.jit import View, le32, le64
from wirespeed.ports.queue import Queue

CONTINUED: int = 1
"""XDP_PKT_CONTD: the packet goes on in the next descriptor."""
NEED_WAKEUP: int = 1
"""In a ring's flags: the kernel wants to be told."""
DONT_WAIT: int = 0x40
EAGAIN, EBUSY, ENOBUFS = 11, 16, 105

BATCH: int = 512
"""Cells that are moved between a ring and the pool at once."""
HELD: int = 0x80
MOST_SENT: int = 0x7F
"""How often one cell may be in a transmit ring at a time."""


class Desc(View):
    """struct xdp_desc."""

    address = le64(0)
    length = le32(8)
    options = le32(12)
    SIZE = 16


class Leg(View):
    """What is received from one socket. A queue's worker takes its legs in turn, which are linked in a circle."""

    next = le64(0, "the next leg")
    fd = le64(8)
    live = le64(16, "0: there is no socket now, nothing here may be touched")
    busy = le64(24, "1: an empty ring is no reason to wait, ask the interface")
    producer = le64(32, "address of the kernel's index of the rx ring")
    consumer = le64(40, "address of ours")
    ring = le64(48)
    mask = le64(56)
    received = le64(64, "our index, 32 bits of it")
    fill_producer = le64(72)
    fill_ring = le64(80)
    fill_mask = le64(88)
    fill_flags = le64(96)
    filled = le64(104, "our index of the fill ring")
    held = le64(112, "cells that the kernel has to receive into")
    target = le64(120, "how many it should have")
    ledger = le64(128)
    meta = le64(136, "1: the program puts time and hash before each packet")
    few = le64(144, "fewer missing ones are not worth a trip to the fill ring while packets come")
    behind = le64(152, "nanoseconds from the program's clock to CLOCK_REALTIME")
    SIZE = 192


class RxQueue(Queue):
    """A receive queue."""

    leg = le64(64, "the leg whose turn it is")
    legs = le64(72)
    burst = le64(80, "the kernel that receives")
    lost = le64(128, "what the kernel dropped; only control code writes this line")
    starved = le64(136, "what it had no cell for")
    SIZE = 192


class TxQueue(Queue):
    """A transmit queue: one socket."""

    fd = le64(64)
    live = le64(72, "0: there is no socket now")
    synchronous = le64(80, "1: the kernel sends during our call and not at other times (copy mode)")
    producer = le64(88)
    consumer = le64(96)
    ring = le64(104)
    size = le64(112)
    flags = le64(120)
    produced = le64(128, "our index of the tx ring")
    done_producer = le64(136, "of the completion ring")
    done_consumer = le64(144)
    done_ring = le64(152)
    done_mask = le64(160)
    completed = le64(168, "our index of it")
    ledger = le64(176)
    longest = le64(184, "bytes of the longest frame the interface sends")
    segments = le64(192, "descriptors that a packet may take")
    scratch = le64(200, "room for BATCH descriptors")
    burst = le64(208, "the kernel that sends")
    SIZE = 256


TX_BYTES: int = TxQueue.SIZE + 8 * BATCH

__all__ = [
    "BATCH", "CONTINUED", "DONT_WAIT", "EAGAIN", "EBUSY", "ENOBUFS", "HELD", "MOST_SENT", "NEED_WAKEUP", "TX_BYTES",
    "Desc", "Leg", "RxQueue", "TxQueue",
]  # fmt: skip

"""Receiving from AF_XDP sockets: descriptors become packets, and the kernel gets as many free cells.

The cell that a frame was received into is the packet's; nothing is copied, and of a frame nothing is read here. Cells
go to the kernel a few at a time, those the worker freed last first, so that a frame is written where the processor's
cache is warm.

References: Documentation/networking/af_xdp.rst; net/xdp/xsk.c (xsk_recvmsg).
"""

from wirespeed.jit import (
    cold,
    inline,
    kernel,
    load32,
    load64,
    load_acquire32,
    store8,
    store32,
    store64,
    store_release32,
)
from wirespeed.jit.entry import enter4
from wirespeed.jit.libc import recvfrom
from wirespeed.mem.buffer import describe_meta
from wirespeed.mem.descriptor import CELL, CHAINED, CellHeader, address_of, cell_of, header_of
from wirespeed.mem.pool_cache import Cache, take, taken
from wirespeed.ports.af_xdp.metadata import HARDWARE, HASH, MARK, SIZE, SOFTWARE
from wirespeed.ports.af_xdp.rings import BATCH, CONTINUED, DONT_WAIT, NEED_WAKEUP, Leg, RxQueue
from wirespeed.ports.queue import count_burst

_INDEX = 0xFFFF_FFFF
_ALL = HARDWARE | HASH | SOFTWARE


@inline
def receive(queue, cache, vector, room):  # type: ignore[no-untyped-def]
    """Packets from the next of the queue's sockets that has some."""
    return enter4(RxQueue(queue).burst, queue, cache, vector, room)


@kernel
def receive_burst(queue, cache, vector, room):  # type: ignore[no-untyped-def]
    record = RxQueue(queue)
    for _ in range(record.legs):
        leg = record.leg
        record.leg = Leg(leg).next
        if load64(leg + _LIVE) != 0:
            got = _from_leg(queue, leg, cache, vector, room)
            if got:
                return got
    return 0


_LIVE = Leg.live.offset


@inline
def _from_leg(queue, address, cache, vector, room):  # type: ignore[no-untyped-def]
    leg = Leg(address)
    received = leg.received
    waiting = (load_acquire32(leg.producer) - received) & _INDEX
    # A driver whose queue ran out of cells has stopped, and says so here, perhaps before it was given the last ones.
    if waiting == 0 and (leg.busy != 0 or load32(leg.fill_flags) & NEED_WAKEUP):
        recvfrom(leg.fd, 0, 0, DONT_WAIT, 0, 0)
        waiting = (load_acquire32(leg.producer) - received) & _INDEX
    got = min(waiting, room)
    if got:
        ring, mask, ledger = leg.ring, leg.mask, leg.ledger
        total = 0
        seen = 0
        for i in range(got):
            slot = ring + (((received + i) & mask) << 4)
            at = load64(slot)
            about = load64(slot + 8)
            length = about & 0xFFFF
            seen |= about
            total += length
            cell = at >> 11
            store8(ledger + cell, 0)
            store64(vector + (i << 3), (cell << 12) | (at & (CELL - 1)) | (length << 48))
        used = got
        if (seen >> 32) & CONTINUED:
            used, got, total = _in_chains(queue, address, cache, vector, waiting, got)
        received = (received + used) & _INDEX
        leg.received = received
        store_release32(leg.consumer, received)
        leg.held -= used
        if got:
            count_burst(RxQueue(queue), got, total)
            if leg.meta != 0:
                _note_metadata(Cache(cache).cells, vector, got, leg.behind)
    missing = leg.target - leg.held
    if missing >= leg.few or (got == 0 and missing > 0):
        _fill(address, cache, missing)
    return got


@cold
def _fill(address, cache, missing):  # type: ignore[no-untyped-def]
    """Give the kernel free cells."""
    leg = Leg(address)
    stack = Cache(cache)
    while missing > 0:
        wanted = min(missing, BATCH)
        got = take(stack, wanted)
        source = taken(stack, got)
        ring, mask, ledger, filled = leg.fill_ring, leg.fill_mask, leg.ledger, leg.filled
        for i in range(got):
            cell = cell_of(load64(source - (i << 3)))
            store8(ledger + cell, 1)
            store64(ring + (((filled + i) & mask) << 3), cell << 11)
        filled = (filled + got) & _INDEX
        leg.filled = filled
        leg.held += got
        store_release32(leg.fill_producer, filled)
        missing -= got
        if got < wanted:
            break
    if load32(leg.fill_flags) & NEED_WAKEUP:
        recvfrom(leg.fd, 0, 0, DONT_WAIT, 0, 0)


@cold
def _note_metadata(cells, vector, got, behind):  # type: ignore[no-untyped-def]
    """Move what the program wrote in front of each packet into its header line (:mod:`.metadata`)."""
    for i in range(got):
        desc = load64(vector + (i << 3))
        front = address_of(cells, desc) - SIZE
        there = load32(front + 12)
        if there & ~_ALL == MARK:
            store32(front + 12, 0)
            store64(vector + (i << 3), describe_meta(cells, desc))
            line = CellHeader(header_of(cells, desc))
            if there & (HARDWARE | SOFTWARE):
                line.timestamp = load64(front) + (behind if there & SOFTWARE else 0)
            if there & HASH:
                line.rss_hash = load32(front + 8)


@cold
def _in_chains(queue, address, cache, vector, waiting, looked):  # type: ignore[no-untyped-def]
    """Read the same descriptors again, now with packets over several of them: used, packets, bytes.

    The last packet's rest may lie beyond the ``looked`` at; a packet that is not whole yet stays for the next time.
    """
    leg = Leg(address)
    cells = Cache(cache).cells
    ring, mask = leg.ring, leg.mask
    packets, total, used, at = 0, 0, 0, 0
    first, last, whole = 0, 0, 0
    while at < waiting and packets < looked:
        slot = ring + (((leg.received + at) & mask) << 4)
        place = load64(slot)
        about = load64(slot + 8)
        length = about & 0xFFFF
        at += 1
        desc = ((place >> 11) << 12) | (place & (CELL - 1)) | (length << 48)
        more = (about >> 32) & CONTINUED
        desc |= CHAINED if more else 0
        whole += length
        if first == 0:
            first = desc
        else:
            CellHeader(header_of(cells, last)).next = desc
        last = desc
        if more == 0:
            if first & CHAINED:
                CellHeader(header_of(cells, first)).length = whole
            store64(vector + (packets << 3), first)
            packets += 1
            total += whole
            used = at
            first, whole = 0, 0
    for i in range(max(used, looked)):
        cell = load64(ring + (((leg.received + i) & mask) << 4)) >> 11
        store8(leg.ledger + cell, 0 if i < used else 1)
    return used, packets, total


__all__ = ["receive", "receive_burst"]

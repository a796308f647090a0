"""af_packet's transmit path for small packets: a ring of slots the kernel sends from, PACKET_TX_RING.

A burst is copied into slots and one call sends it. By itself the kernel would not copy a slot: it hangs the slot's page
under the packet, and copies it later, at more cost, when the packet crosses into another stack. The virtio-net header
of a slot says how much to copy at once (``hdr_len``); we say: all. That is a third faster than either way as it is
usually used (docs/design/0005).

::

    slot   0              32            42                        slot_size
           tpacket2_hdr   virtio-net    frame ...

What does not fit a slot (super-packets, long chains) goes by a call of its own, in its place
(:mod:`wirespeed.ports.af_packet.send`).

The kernel stops at a slot that it refuses. It leaves the slot marked, and what stands behind it unsent: the refused
packet is counted and taken out, the rest sent again.

References: Documentation/networking/packet_mmap.rst; net/packet/af_packet.c (tpacket_snd, tpacket_fill_skb).
"""

from wirespeed.jit import (
    View,
    cold,
    copy,
    inline,
    kernel,
    le32,
    load16,
    load64,
    load_acquire32,
    store16,
    store64,
    store_release32,
)
from wirespeed.jit.libc import errno, sendto
from wirespeed.mem.descriptor import CHAINED, META, CellHeader, address_of, header_of, length_of
from wirespeed.mem.pool import Cache, release
from wirespeed.ports.af_packet.calls import DONT_WAIT, ENETDOWN, ENODEV, ENXIO
from wirespeed.ports.af_packet.send import TxQueue, send_calls
from wirespeed.ports.scatter import ENTRIES
from wirespeed.ports.virtio.net import HEADER_BYTES, VirtioNet, store_offloads

_AVAILABLE, _SEND, _WRONG = 0, 1, 4  # TP_STATUS_AVAILABLE, _SEND_REQUEST, _WRONG_FORMAT
_HEADER = 32  # where the virtio-net header is in a slot
FRAME: int = _HEADER + HEADER_BYTES
"""Where the frame is in a slot."""
_ETHERNET, _TAG, _TPID = 14, 4, 0x0081  # the type of an 802.1Q tag, as it lies in memory
_LARGE, _BAD = -1, -2


class Slot(View):
    """struct tpacket2_hdr, of a slot to be sent."""

    status = le32(0)
    length = le32(4, "bytes, the virtio-net header included")
    SIZE = 32


@kernel
def transmit_slots(queue, cache, vector, count):  # type: ignore[no-untyped-def]
    record = TxQueue(queue)
    cells = Cache(cache).cells
    before = record.packets
    done = 0
    if record.fd < 0:
        record.dropped += count
        done = count
    while done < count:
        start = record.head
        filled = 0
        head = start
        kind = 0
        while done + filled < count:
            slot = record.ring + head * record.slot_size
            if filled == record.slots or load_acquire32(slot) != _AVAILABLE:
                break
            kind = _fill(queue, cells, load64(vector + ((done + filled) << 3)), slot)
            if kind < 0:
                break
            filled += 1
            head = head + 1 if head + 1 < record.slots else 0
        record.head = head
        sent = _ring(queue, start, filled)
        done += sent
        if sent < filled:
            break
        if kind == _BAD:
            record.errors += 1
            done += 1
        elif kind == _LARGE:
            if send_calls(queue, cells, vector + (done << 3), 1) == 0:
                break
            done += 1
        elif filled == 0:  # no room
            break
    release(Cache(cache), vector, done)
    if record.packets != before:
        record.calls += 1
    return done


@inline
def _fill(queue, cells, desc, slot):  # type: ignore[no-untyped-def]
    """Put a packet into a slot; 0, or _LARGE: it takes the other way, or _BAD: it cannot be sent."""
    record = TxQueue(queue)
    length = length_of(desc)
    header = slot + _HEADER
    segmented = 0
    if desc & (CHAINED | META):
        line = header_of(cells, desc)
        if desc & CHAINED:
            length = _length(cells, desc)
        if desc & META:
            segmented = CellHeader(line).gso_size
            store_offloads(line, header)
        else:
            store64(header, 0)
            store16(header + 8, 0)
    else:
        store64(header, 0)
        store16(header + 8, 0)
    if length > record.slot_size - FRAME:
        return _LARGE
    to = slot + FRAME
    if desc & CHAINED:
        _join(cells, desc, to)
    else:
        copy(to, address_of(cells, desc), length)
    if length < _ETHERNET:
        return _BAD
    if length > record.limit and segmented == 0:
        if length > record.limit + _TAG or load16(to + 12) != _TPID:  # as packet_snd: above the MTU
            return _BAD
    VirtioNet(header).hdr_len = length
    Slot(slot).length = length + HEADER_BYTES
    store_release32(slot, _SEND)
    return 0


@cold
def _length(cells, desc):  # type: ignore[no-untyped-def]
    """Bytes of a chain; more than any slot has if it takes too many cells."""
    total = length_of(desc)
    for _ in range(ENTRIES):
        if not desc & CHAINED:
            return total
        desc = CellHeader(header_of(cells, desc)).next
        total += length_of(desc)
    return 1 << 32


@cold
def _join(cells, desc, to):  # type: ignore[no-untyped-def]
    """Copy a chain, whose length was looked at, to one place."""
    more = True
    while more:
        copy(to, address_of(cells, desc), length_of(desc))
        to += length_of(desc)
        more = (desc & CHAINED) != 0
        if more:
            desc = CellHeader(header_of(cells, desc)).next


@inline
def _ring(queue, start, filled):  # type: ignore[no-untyped-def]
    """Send ``filled`` slots from ``start`` on; returns how many packets were dealt with, from the front."""
    if filled == 0:
        return 0
    record = TxQueue(queue)
    result = sendto(record.doorbell, 0, 0, DONT_WAIT, 0, 0)
    return _account(queue, start, filled, result)


@cold
def _account(queue, start, filled, result):  # type: ignore[no-untyped-def]
    """Count what was sent; send again past slots that the kernel refuses; take back what it had no room for."""
    record = TxQueue(queue)
    handled = 0
    at = start
    while True:
        reason = 0 if result >= 0 else errno()
        total, sent = 0, 0
        status = _AVAILABLE
        while handled + sent < filled:
            slot = record.ring + at * record.slot_size
            status = load_acquire32(slot)
            if status == _SEND or status & _WRONG:
                break
            total += Slot(slot).length
            sent += 1
            at = at + 1 if at + 1 < record.slots else 0
        handled += sent
        record.packets += sent
        record.bytes += total - sent * HEADER_BYTES
        if handled == filled:
            return handled
        if not status & _WRONG:
            _withdraw(queue, at, filled - handled)
            if reason in (ENETDOWN, ENXIO, ENODEV):
                record.dropped += filled - handled
                return filled
            return handled  # EAGAIN, ENOBUFS: the socket or the interface's queue is full
        record.errors += 1
        handled += 1
        _close_up(queue, at, filled - handled)
        if handled == filled:
            return handled
        result = sendto(record.doorbell, 0, 0, DONT_WAIT, 0, 0)


@cold
def _withdraw(queue, at, count):  # type: ignore[no-untyped-def]
    """Empty ``count`` slots from ``at`` on, the last that were filled."""
    record = TxQueue(queue)
    record.head = at
    for _ in range(count):
        store_release32(record.ring + at * record.slot_size, _AVAILABLE)
        at = at + 1 if at + 1 < record.slots else 0


@cold
def _close_up(queue, at, count):  # type: ignore[no-untyped-def]
    """Move the ``count`` packets behind slot ``at`` one slot to the front, over the one that is there."""
    record = TxQueue(queue)
    for _ in range(count):
        following = at + 1 if at + 1 < record.slots else 0
        slot, source = record.ring + at * record.slot_size, record.ring + following * record.slot_size
        length = Slot(source).length
        copy(slot + _HEADER, source + _HEADER, length)
        Slot(slot).length = length
        store_release32(slot, _SEND)
        at = following
    store_release32(record.ring + at * record.slot_size, _AVAILABLE)
    record.head = at


__all__ = ["FRAME", "Slot", "transmit_slots"]

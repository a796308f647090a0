"""tap's packet path: packets in and out of a TUN/TAP device, many for one system call.

The device has no call for several packets, so bursts go through an io_uring (:mod:`wirespeed.ports.uring`); where there
is none, one call a packet. What the host sends with its checksum or its segmentation left to hardware is one read, and
one write the other way.

**In.** A read says how long a packet is only afterwards, and the longest has 64 KiB. Telling the kernel of forty cells
for each packet costs more than copying a small one; so packets are read into a scratch area, where each finds room
whatever its length, and copied to cells from there. While super-packets come, they are read by readv, one by one,
straight into cells (:mod:`wirespeed.ports.scatter`). As many reads are asked for at once as packets came last time, or
twice as many if none was in vain.

**Out.** The virtio-net header is written into the cell, in front of the frame, and both are one write. A packet of
several cells, or of a shared one, is a writev.

A TUN device has no Ethernet header. Nodes expect one: it is put in front of what comes and taken off what leaves.

References: Documentation/networking/tuntap.rst; drivers/net/tun.c (tun_put_user, tun_get_user).
"""

from wirespeed.jit import cold, inline, kernel, le64, load8, load16, load64, store16, store32, store64
from wirespeed.jit.entry import enter4, entry
from wirespeed.jit.libc import errno, read, readv, write, writev
from wirespeed.mem.descriptor import (
    CELL_HEADER,
    CHAINED,
    META,
    NEEDS_CHECKSUM,
    ROOM,
    SHARED,
    CellHeader,
    address_of,
    header_of,
    length_of,
    offset_of,
    with_data,
)
from wirespeed.mem.pool import MAX_BURST, Cache, release, take, taken, untake
from wirespeed.ports.queue import Queue
from wirespeed.ports.scatter import (
    ENTRIES,
    SEGMENTS,
    VECTORS,
    Iovec,
    aim,
    arm,
    assemble,
    cells_for,
    copy_in,
    gather,
)
from wirespeed.ports.uring import READ, WRITE, WRITEV, ask, enter
from wirespeed.ports.virtio.net import HEADER_BYTES, HOSTILE, VirtioNet, load_offloads, store_offloads

SLOTS: int = 64
"""Packets of one system call."""
STRIDE: int = (66 << 10) + 64
"""Bytes of the scratch area for each: no power of two, or all first lines would share a set of the cache."""

_LONGEST = 65535 + 14 + 8 + HEADER_BYTES
_ETHERNET = 14
_IPV4, _IPV6 = 0x0008, 0xDD86  # EtherTypes, as they lie in memory
_EIO, _EAGAIN, _EBADFD, _ENOBUFS = 5, 11, 77, 105


class TapQueue(Queue):
    """A queue of a TUN/TAP device, of either direction; its memory follows it (:func:`format_queue`)."""

    fd = le64(64, "-1: there is no interface")
    uring = le64(72, "0: there is none")
    lead = le64(80, "bytes of the virtio-net header; 0: without")
    bare = le64(88, "bytes of Ethernet header that the device does not have; 0: it has it")
    wanted = le64(96, "reads to ask for at once")
    next = le64(104, "the packet of the scratch area that is delivered next")
    filled = le64(112, "packets there")
    large = le64(120, "1: super-packets come")
    header = le64(128, "a virtio-net header, as readv left it")
    blank = le64(136, "a virtio-net header of zeros")
    headers = le64(144, "one of 16 bytes for each packet to send")
    results = le64(152, "what each read or write returned")
    vector = le64(160)
    scratch = le64(168)
    to = le64(176, "addresses of the Ethernet header of a bare packet: 12 bytes")
    burst = le64(184, "the kernel that receives or sends, as entry() gave it")
    SIZE = 192


_URING, _HEADER, _BLANK, _TO, _RESULTS = 192, 256, 320, 384, 448
_HEADERS = _RESULTS + SLOTS * 8
_VECTOR = _HEADERS + SLOTS * 16
QUEUE_BYTES: int = _VECTOR + VECTORS * 16
SCRATCH_BYTES: int = SLOTS * STRIDE


def format_queue(address: int, scratch: int, offloads: bool, bare: bool) -> int:
    """Lay out a queue in QUEUE_BYTES of zeros; returns where its :class:`wirespeed.ports.uring.Uring` is to lie.

    Args:
        scratch: address of SCRATCH_BYTES for a queue that receives; 0: it sends.
    """
    queue = TapQueue(address)
    queue.fd, queue.wanted, queue.scratch = -1, 1, scratch
    queue.lead, queue.bare = HEADER_BYTES if offloads else 0, _ETHERNET if bare else 0
    queue.header, queue.blank, queue.to = address + _HEADER, address + _BLANK, address + _TO
    queue.results, queue.headers, queue.vector = address + _RESULTS, address + _HEADERS, address + _VECTOR
    queue.burst = entry(_receive if scratch else _transmit, 4)
    return address + _URING


# Receiving ---------------------------------------------------------------------------------------------


@inline
def receive(queue, cache, vector, room):  # type: ignore[no-untyped-def]
    """What the host sent, as much as is there."""
    record = TapQueue(queue)
    if record.fd < 0:
        return 0
    return enter4(record.burst, queue, cache, vector, room)


@kernel
def _receive(queue, cache, vector, room):  # type: ignore[no-untyped-def]
    record = TapQueue(queue)
    if record.next == record.filled:
        if record.large != 0:
            return _receive_large(queue, cache, vector, room)
        _fetch(queue, min(room, SLOTS))
        if record.filled == 0:
            return 0
    stack = Cache(cache)
    got = take(stack, min(MAX_BURST, max(room, SEGMENTS)))
    window = taken(stack, got)
    used, packets, total = 0, 0, 0
    at, filled, lead = record.next, record.filled, record.lead
    while at < filled and packets < room:
        length = load64(record.results + (at << 3)) - lead
        if length >= 0:
            if used + cells_for(length) > got:
                break
            source = record.scratch + at * STRIDE
            copy_in(window, stack.cells, used, source + lead, length)
            desc = _deliver(queue, window, stack.cells, used, length, source)
            if desc != HOSTILE:
                store64(vector + (packets << 3), desc)
                packets += 1
                total += length + record.bare
                used += cells_for(length)
                if length > ROOM:
                    record.large = 1
        at += 1
    record.next = at
    untake(stack, got - used)
    if packets:
        record.packets += packets
        record.bytes += total
        record.calls += 1
    return packets


@cold
def _fetch(queue, most):  # type: ignore[no-untyped-def]
    """Read up to ``most`` packets into the scratch area."""
    record = TapQueue(queue)
    good = 0
    wanted = min(record.wanted, most)
    if record.uring != 0 and wanted > 1:
        for i in range(wanted):
            ask(record.uring, i, READ, record.fd, record.scratch + i * STRIDE, _LONGEST)
        filled = enter(record.uring, wanted, record.results)
        for i in range(filled):
            if load64(record.results + (i << 3)) > 0:
                good += 1
    else:
        if record.uring == 0:
            wanted = most
        result = 1
        while good < wanted and result > 0:
            result = read(record.fd, record.scratch + good * STRIDE, _LONGEST)
            if result > 0:
                store64(record.results + (good << 3), result)
                good += 1
        filled = good
    record.next = 0
    record.filled = filled if good else 0
    record.wanted = min(2 * wanted, SLOTS) if good == wanted else max(good, 1)


@inline
def _deliver(queue, window, cells, first, length, header):  # type: ignore[no-untyped-def]
    """The descriptor of the packet that lies in the window; HOSTILE if it cannot be one, which is counted."""
    record = TapQueue(queue)
    if length + record.bare < _ETHERNET:
        record.errors += 1
        return HOSTILE
    desc = assemble(window, cells, first, length)
    if record.bare != 0:
        desc = _put_ethernet(queue, cells, desc)
    meta = 0
    if record.lead != 0:
        line = header_of(cells, desc)
        meta = load_offloads(header, line, address_of(cells, desc), length_of(desc), record.bare)
        if meta == HOSTILE:
            record.errors += 1
            return HOSTILE
    return desc | meta


@cold
def _put_ethernet(queue, cells, desc):  # type: ignore[no-untyped-def]
    """An Ethernet header in front of an IP packet; its type is the packet's version."""
    record = TapQueue(queue)
    start = address_of(cells, desc) - _ETHERNET
    version = load8(start + _ETHERNET) >> 4
    store64(start, load64(record.to))
    store32(start + 8, load64(record.to + 8))
    store16(start + 12, _IPV6 if version == 6 else _IPV4)
    if desc & CHAINED:
        CellHeader(header_of(cells, desc)).length += _ETHERNET
    return with_data(desc, offset_of(desc) - _ETHERNET, length_of(desc) + _ETHERNET)


@cold
def _receive_large(queue, cache, vector, room):  # type: ignore[no-untyped-def]
    """One call a packet, straight into cells, until one comes that fits a cell."""
    record = TapQueue(queue)
    stack = Cache(cache)
    cells = stack.cells
    got = take(stack, min(MAX_BURST, room + SEGMENTS))
    window = taken(stack, got)
    used, armed, packets, total = 0, 0, 0, 0
    skip = 0 if record.lead else 1
    while packets < room and used + SEGMENTS <= got:
        arm(record.vector, window, cells, max(armed, used), used + SEGMENTS)
        armed = used + SEGMENTS
        entries = aim(record.vector, used, record.header)
        length = readv(record.fd, entries + (skip << 4), SEGMENTS + 1 - skip) - record.lead
        if length < 0:  # nothing there, or the device is gone
            record.large = 0
            break
        desc = _deliver(queue, window, cells, used, length, record.header)
        if desc != HOSTILE:
            store64(vector + (packets << 3), desc)
            packets += 1
            total += length + record.bare
            used += cells_for(length)
        if length <= ROOM:
            record.large = 0
            break
    untake(stack, got - used)
    if packets:
        record.packets += packets
        record.bytes += total
        record.calls += 1
    return packets


# Sending -----------------------------------------------------------------------------------------------


@inline
def transmit(queue, cache, vector, count):  # type: ignore[no-untyped-def]
    """Give packets to the host."""
    if count == 0:
        return 0
    return enter4(TapQueue(queue).burst, queue, cache, vector, count)


@kernel
def _transmit(queue, cache, vector, count):  # type: ignore[no-untyped-def]
    record = TapQueue(queue)
    cells = Cache(cache).cells
    before = record.packets
    done = 0
    if record.fd < 0:
        record.dropped += count
        done = count
    while done < count:
        wanted = min(count - done, SLOTS)
        direct = record.uring == 0 or wanted == 1
        entries, prepared = 0, 0
        while prepared < wanted and entries + ENTRIES <= VECTORS:
            entries += _give(queue, cells, load64(vector + ((done + prepared) << 3)), prepared, entries, direct)
            prepared += 1
        if not direct:
            carried = enter(record.uring, prepared, record.results)
            for i in range(carried, prepared):
                store64(record.results + (i << 3), -_ENOBUFS)
        _count(queue, prepared)
        done += prepared
    release(Cache(cache), vector, done)
    if record.packets != before:
        record.calls += 1
    return done


@inline
def _give(queue, cells, desc, number, entries, direct):  # type: ignore[no-untyped-def]
    """Write one packet, or ask for it; returns how many entries of the vector it took."""
    record = TapQueue(queue)
    lead, bare = record.lead, record.bare
    data = address_of(cells, desc)
    operation, place, size, took = WRITE, data + bare - lead, length_of(desc) - bare + lead, 0
    if bare != 0 or (desc & META != 0 and lead == 0):
        if _unfit(queue, cells, desc):
            size = 0  # refused by the kernel like other nonsense
    if desc & (CHAINED | SHARED) == 0 and offset_of(desc) + bare >= CELL_HEADER + lead:
        if lead != 0:
            if desc & META:
                store_offloads(header_of(cells, desc), place)
                if bare != 0:
                    _shift(place, bare)
            else:
                store64(place, 0)
                store16(place + 8, 0)
    elif size > 0:
        header = record.headers + (number << 4)
        place = record.vector + (entries << 4)
        operation, took = WRITEV, gather(place, cells, desc, header, record.blank)
        first = Iovec(place + 16)
        first.base += bare
        first.size -= bare
        if desc & META and bare != 0:
            _shift(header, bare)
        size = took
        if lead == 0:
            place += 16
            size = max(took - 1, 0)
    if direct:
        result = write(record.fd, place, max(size, 0)) if operation == WRITE else writev(record.fd, place, size)
        store64(record.results + (number << 3), result if result >= 0 else -errno())
    else:
        ask(record.uring, number, operation, record.fd, place, max(size, 0))
    return took


@cold
def _unfit(queue, cells, desc):  # type: ignore[no-untyped-def]
    """1 for a packet that this device cannot take: no IP on a bare one, work left to hardware without a header."""
    record = TapQueue(queue)
    if desc & META and record.lead == 0:
        meta = CellHeader(header_of(cells, desc))
        if meta.gso_size != 0 or meta.checksum_state == NEEDS_CHECKSUM:
            return 1
    if record.bare != 0:
        if length_of(desc) <= _ETHERNET:
            return 1
        kind = load16(address_of(cells, desc) + 12)
        if kind != _IPV4 and kind != _IPV6:
            return 1
    return 0


@cold
def _shift(header, bare):  # type: ignore[no-untyped-def]
    """A virtio-net header for a frame without its first ``bare`` bytes."""
    virtio = VirtioNet(header)
    if virtio.flags:
        virtio.csum_start -= bare
    if virtio.gso_type:
        virtio.hdr_len -= bare


@inline
def _count(queue, prepared):  # type: ignore[no-untyped-def]
    """Count what became of the packets just written."""
    record = TapQueue(queue)
    sent, total = 0, 0
    for i in range(prepared):
        result = load64(record.results + (i << 3))
        if result > 0:
            sent += 1
            total += result + record.bare - record.lead
        elif result in (-_EIO, -_EAGAIN, -_EBADFD, -_ENOBUFS):  # the interface is down or gone, or full
            record.dropped += 1
        else:  # EINVAL: no frame, or offloads that make no sense
            record.errors += 1
    record.packets += sent
    record.bytes += total


__all__ = ["QUEUE_BYTES", "SCRATCH_BYTES", "SLOTS", "TapQueue", "format_queue", "receive", "transmit"]

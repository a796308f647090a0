"""af_packet's packet path: a ring of frames in, sendmmsg out.

**In.** The kernel copies each frame into the next slot of a ring we map (TPACKET_V2) and sets its status;
we copy it into a cell and give the slot back. A frame too large for a slot, in practice a super-packet of
up to 64 KiB, is marked TP_STATUS_COPY and waits, whole, in the socket's queue: recvmsg puts it straight
into cells. So slots are small (the ring stays in the cache) and large packets are copied once.

::

    slot   0     32          52        macoff-10    macoff                   frame_size
           tpacket2_hdr      sockaddr  virtio-net   frame ...

Why not TPACKET_V3: its blocks are handed over when they are full or after a timeout of at least a
millisecond. A lone packet then waits 0.5 ms (median; 1 ms at worst) where V2 shows it in 8 us.

**Out.** sendmmsg: one call a burst, each message pointing at the packet's own cells. Why not
PACKET_TX_RING: measured over veth it is no faster for 64-byte frames and half as fast for 64 KiB ones (the
kernel copies the ring's pages again when a packet crosses into another stack), a slot is held until the far
side lets go of the packet, and chains would have to be copied together first.

References: Documentation/networking/packet_mmap.rst; net/packet/af_packet.c (tpacket_rcv, packet_snd).
"""

from wirespeed.jit import (
    View,
    bswap16,
    cold,
    copy,
    inline,
    le16,
    le32,
    le64,
    load32,
    load64,
    load_acquire32,
    move,
    prefetch,
    store16,
    store64,
    store_release32,
)
from wirespeed.jit.libc import errno, recvmsg, sendmmsg
from wirespeed.mem.descriptor import (
    CHAINED,
    ROOM,
    CellHeader,
    address_of,
    header_of,
    length_of,
    offset_of,
    with_data,
)
from wirespeed.mem.pool import MAX_BURST, Cache, release, take, taken, untake
from wirespeed.ports.af_packet_calls import (
    AUXILIARY_BYTES,
    DONT_WAIT,
    EAGAIN,
    ENETDOWN,
    ENOBUFS,
    ENODEV,
    ENXIO,
    TRUNCATED,
    Auxiliary,
    Message,
)
from wirespeed.ports.queue import Queue
from wirespeed.ports.scatter import ENTRIES, SEGMENTS, VECTORS, aim, arm, assemble, cells_for, gather
from wirespeed.ports.virtio_net import HEADER_BYTES, HOSTILE, load_offloads

_USER, _COPY, _VLAN_VALID, _TPID_VALID = 0x1, 0x2, 0x10, 0x40  # TP_STATUS_*
_ETHERNET = 14
_TAG = 4
BATCH: int = 256
"""Messages of one sendmmsg."""


class Frame(View):
    """struct tpacket2_hdr."""

    status = le32(0)
    length = le32(4, "bytes on the wire")
    captured = le32(8, "bytes here")
    mac = le16(12, "where the frame starts")
    tci = le16(24)
    tpid = le16(26)
    SIZE = 32


class RxQueue(Queue):
    """A receive queue. Its vector for recvmsg and so on follow the record (:func:`format_rx`)."""

    fd = le64(64)
    ring = le64(72)
    frames = le64(80)
    frame_size = le64(88)
    head = le64(96, "the slot that is filled next")
    overruns = le64(104, "large frames whose copy the socket's queue had no room for")
    lost = le64(128, "what the kernel dropped before the ring; only control code writes this line")
    header = le64(192, "a virtio-net header, as recvmsg left it")
    message = le64(200)
    control = le64(208)
    vector = le64(216)
    SIZE = 256


class TxQueue(Queue):
    """A transmit queue."""

    fd = le64(64)
    blank = le64(72, "a virtio-net header of zeros")
    headers = le64(80, "one of 16 bytes for each message")
    messages = le64(88)
    vector = le64(96)
    SIZE = 128


RX_BYTES: int = 512 + VECTORS * 16
TX_BYTES: int = 256 + BATCH * (16 + Message.SIZE) + VECTORS * 16


def format_rx(address: int, fd: int, ring: int, frames: int, frame_size: int) -> None:
    """Lay out a receive queue in RX_BYTES of zeros."""
    queue = RxQueue(address)
    queue.fd, queue.ring, queue.frames, queue.frame_size = fd, ring, frames, frame_size
    queue.header, queue.message, queue.control = address + 256, address + 320, address + 384
    queue.vector = address + 512
    Message(queue.message).control = queue.control


def format_tx(address: int, fd: int) -> None:
    """Lay out a transmit queue in TX_BYTES of zeros."""
    queue = TxQueue(address)
    queue.fd, queue.blank = fd, address + 128
    queue.headers = address + 256
    queue.messages = queue.headers + BATCH * 16
    queue.vector = queue.messages + BATCH * Message.SIZE


# Receiving ---------------------------------------------------------------------------------------------


@inline
def receive(queue, cache, vector, room):  # type: ignore[no-untyped-def]
    """Packets from the ring, as many as are there."""
    record = RxQueue(queue)
    if load_acquire32(record.ring + record.head * record.frame_size) & _USER:
        return _receive(queue, cache, vector, room)
    return 0


@cold
def _receive(queue, cache, vector, room):  # type: ignore[no-untyped-def]
    record = RxQueue(queue)
    stack = Cache(cache)
    cells = stack.cells
    got = take(stack, min(MAX_BURST, max(room, 2 * SEGMENTS)))
    window = taken(stack, got)
    used, armed, packets, total = 0, 0, 0, 0
    head = record.head
    for _ in range(record.frames):
        if packets == room:
            break
        slot = record.ring + head * record.frame_size
        status = load_acquire32(slot)
        if not status & _USER:
            break
        following = head + 1 if head + 1 < record.frames else 0
        prefetch(record.ring + following * record.frame_size)
        prefetch(record.ring + following * record.frame_size + 64)
        frame = Frame(slot)
        length = frame.captured
        header = slot + frame.mac - HEADER_BYTES
        tci, tpid = frame.tci, frame.tpid
        if status & _COPY:
            if used + SEGMENTS > got:
                break
            armed = max(armed, used)
            arm(record.vector, window, cells, armed, used + SEGMENTS)
            armed = used + SEGMENTS
            length = _receive_whole(queue, used)
            header = record.header
            tags = Auxiliary(record.control)
            status, tci, tpid = tags.status, tags.tci, tags.tpid
        elif length < frame.length:
            length = -1
        else:
            if used + cells_for(length) > got:
                break
            _copy_in(window, cells, used, slot + frame.mac, length)
        if length < 0:
            record.overruns += 1
        elif length < _ETHERNET:
            record.errors += 1
        else:
            desc = assemble(window, cells, used, length)
            tag = 0
            if status & _VLAN_VALID:
                tag = _TAG
                desc = _put_tag(cells, desc, tci, tpid if status & _TPID_VALID else 0x8100)
            line = header_of(cells, desc)
            meta = load_offloads(header, line, address_of(cells, desc), length_of(desc), tag)
            if meta == HOSTILE:
                record.errors += 1
            else:
                store64(vector + (packets << 3), desc | meta)
                packets += 1
                total += length + tag
                used += cells_for(length)
        store_release32(slot, 0)
        head = following
    untake(stack, got - used)
    record.head = head
    if packets:
        record.packets += packets
        record.bytes += total
        record.calls += 1
    return packets


@inline
def _copy_in(window, cells, first, source, length):  # type: ignore[no-untyped-def]
    """Copy a frame into the window's cells from ``first`` on."""
    left = length
    at = first
    while left > ROOM:
        copy(address_of(cells, load64(window - (at << 3))), source, ROOM)
        left -= ROOM
        source += ROOM
        at += 1
    copy(address_of(cells, load64(window - (at << 3))), source, left)


@cold
def _receive_whole(queue, first):  # type: ignore[no-untyped-def]
    """Read the next packet of the socket's queue into the window; returns its length, -1 if there is none.

    Its order among such packets is that of the queue, which two CPUs may fill in another order than the ring;
    everything about the packet, its tag too, therefore comes from the call and nothing from the slot.
    """
    record = RxQueue(queue)
    message = Message(record.message)
    message.vector = aim(record.vector, first, record.header)
    message.vectors = SEGMENTS + 1
    message.control_size = AUXILIARY_BYTES
    Auxiliary(record.control).status = 0
    got = recvmsg(record.fd, record.message, DONT_WAIT)
    if got < 0 and errno() != EAGAIN:  # an error kept for us, such as ENETDOWN; the packet comes after it
        message.control_size = AUXILIARY_BYTES
        got = recvmsg(record.fd, record.message, DONT_WAIT)
    if got < HEADER_BYTES or message.flags & TRUNCATED:
        return -1
    if not Auxiliary(record.control).present:
        Auxiliary(record.control).status = 0
    return got - HEADER_BYTES


@cold
def _put_tag(cells, desc, tci, tpid):  # type: ignore[no-untyped-def]
    """Put back the VLAN tag that the kernel took off, behind the two addresses: IEEE 802.1Q, clause 9.3."""
    start = address_of(cells, desc)
    move(start - _TAG, start, 12)
    store16(start + 8, bswap16(tpid))
    store16(start + 10, bswap16(tci))
    if desc & CHAINED:
        CellHeader(header_of(cells, desc)).length += _TAG
    return with_data(desc, offset_of(desc) - _TAG, length_of(desc) + _TAG)


# Sending -----------------------------------------------------------------------------------------------


@inline
def transmit(queue, cache, vector, count):  # type: ignore[no-untyped-def]
    """Send packets; what the socket's send buffer has no room for is left to the caller."""
    if count == 0:
        return 0
    return _transmit(queue, cache, vector, count)


@cold
def _transmit(queue, cache, vector, count):  # type: ignore[no-untyped-def]
    record = TxQueue(queue)
    cells = Cache(cache).cells
    done = 0
    before = record.packets
    more = True
    while more and done < count:
        prepared = _prepare(queue, cells, vector + (done << 3), count - done)
        handled = _send(queue, prepared)
        done += handled
        more = handled == prepared
    release(Cache(cache), vector, done)
    if record.packets != before:
        record.calls += 1
    return done


@inline
def _prepare(queue, cells, vector, count):  # type: ignore[no-untyped-def]
    """Describe as many packets as one call takes; returns how many (at least one)."""
    record = TxQueue(queue)
    entries = 0
    prepared = 0
    while prepared < min(count, BATCH) and entries + ENTRIES <= VECTORS:
        at = record.vector + (entries << 4)
        desc = load64(vector + (prepared << 3))
        message = Message(record.messages + (prepared << 6))
        message.vector = at
        # Too many segments: an empty message, which the kernel refuses; an error like others.
        message.vectors = gather(at, cells, desc, record.headers + (prepared << 4), record.blank)
        entries += message.vectors
        prepared += 1
    return prepared


@inline
def _send(queue, prepared):  # type: ignore[no-untyped-def]
    """Send the prepared messages; returns how many were dealt with: all, unless the socket is full."""
    record = TxQueue(queue)
    at = 0
    while at < prepared:
        sent = sendmmsg(record.fd, record.messages + (at << 6), prepared - at, DONT_WAIT)
        if sent > 0:
            total = 0
            for i in range(at, at + sent):
                total += load32(record.messages + (i << 6) + 56)
            record.bytes += total - sent * HEADER_BYTES
            record.packets += sent
            at += sent
        else:
            reason = errno()
            if reason == EAGAIN:
                return at
            if reason in (ENETDOWN, ENXIO, ENODEV):
                record.dropped += prepared - at
                return prepared
            if reason == ENOBUFS:  # the interface's queue dropped it
                record.dropped += 1
            else:  # EMSGSIZE: above the MTU; EINVAL: no frame, or offloads that make no sense
                record.errors += 1
            at += 1
    return at


__all__ = [
    "BATCH", "RX_BYTES", "TX_BYTES", "Frame", "RxQueue", "TxQueue", "format_rx", "format_tx", "receive",
    "transmit",
]  # fmt: skip

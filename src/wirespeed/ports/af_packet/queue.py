"""af_packet's receive path for low latency: a ring of slots, TPACKET_V2.

The kernel copies each frame into the next slot of a ring we map and sets its status; we copy it into a cell and give
the slot back. A frame too large for a slot, in practice a super-packet of up to 64 KiB, is marked TP_STATUS_COPY and
waits, whole, in the socket's queue: recvmsg puts it straight into cells. So slots are small (the ring stays in the
cache) and large packets are copied once.

::

    slot   0     32          52        macoff-10    macoff                   frame_size
           tpacket2_hdr      sockaddr  virtio-net   frame ...

References: Documentation/networking/packet_mmap.rst; net/packet/af_packet.c (tpacket_rcv).
"""

from wirespeed.jit import (
    View,
    cold,
    inline,
    kernel,
    le16,
    le32,
    le64,
    load_acquire32,
    prefetch,
    store64,
    store_release32,
)
from wirespeed.jit.entry import enter4
from wirespeed.jit.libc import errno, recvmsg
from wirespeed.mem.pool import MAX_BURST, Cache, take, taken, untake
from wirespeed.ports.af_packet.calls import AUXILIARY_BYTES, DONT_WAIT, EAGAIN, TRUNCATED, Auxiliary, Message
from wirespeed.ports.af_packet.frame import ETHERNET, TAG, VLAN_VALID, dress
from wirespeed.ports.queue import Queue
from wirespeed.ports.scatter import SEGMENTS, VECTORS, aim, arm, cells_for, copy_in
from wirespeed.ports.virtio.net import HEADER_BYTES, HOSTILE

_USER, _COPY = 0x1, 0x2  # TP_STATUS_USER, TP_STATUS_COPY
_SECOND_NS = 1_000_000_000


class Frame(View):
    """struct tpacket2_hdr."""

    status = le32(0)
    length = le32(4, "bytes on the wire")
    captured = le32(8, "bytes here")
    mac = le16(12, "where the frame starts")
    seconds = le32(16)
    nanoseconds = le32(20)
    tci = le16(24)
    tpid = le16(26)
    SIZE = 32


class RxQueue(Queue):
    """A receive queue of slots. Its vector for recvmsg and so on follow the record (:func:`format_rx`)."""

    fd = le64(64)
    ring = le64(72, "the first slot; 0: there is no interface")
    frames = le64(80)
    frame_size = le64(88)
    head = le64(96, "the slot that is filled next")
    overruns = le64(104, "large frames whose copy the socket's queue had no room for")
    stamps = le64(112, "1 if packets get their time of receipt")
    burst = le64(120, "the kernel that reads slots")
    lost = le64(128, "what the kernel dropped before the ring; only control code writes this line")
    header = le64(192, "a virtio-net header, as recvmsg left it")
    message = le64(200)
    control = le64(208)
    vector = le64(216)
    SIZE = 256


RX_BYTES: int = 512 + VECTORS * 16


def format_rx(address: int, stamps: bool) -> None:
    """Lay out a receive queue in RX_BYTES of zeros."""
    queue = RxQueue(address)
    queue.stamps = int(stamps)
    queue.header, queue.message, queue.control = address + 256, address + 320, address + 384
    queue.vector = address + 512
    Message(queue.message).control = queue.control


@inline
def receive(queue, cache, vector, room):  # type: ignore[no-untyped-def]
    """Packets from the ring, as many as are there."""
    record = RxQueue(queue)
    ring = record.ring
    if ring != 0:
        if load_acquire32(ring + record.head * record.frame_size) & _USER:
            return enter4(record.burst, queue, cache, vector, room)
    return 0


@kernel
def receive_burst(queue, cache, vector, room):  # type: ignore[no-untyped-def]
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
        time_ns = 0
        if record.stamps != 0:
            time_ns = frame.seconds * _SECOND_NS + frame.nanoseconds
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
            copy_in(window, cells, used, slot + frame.mac, length)
        if length < 0:
            record.overruns += 1
        elif length < ETHERNET:
            record.errors += 1
        else:
            desc = dress(window, cells, used, length, status, tci, tpid, header, time_ns)
            if desc == HOSTILE:
                record.errors += 1
            else:
                store64(vector + (packets << 3), desc)
                packets += 1
                total += length
                if status & VLAN_VALID:
                    total += TAG
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


__all__ = ["RX_BYTES", "Frame", "RxQueue", "format_rx", "receive", "receive_burst"]

"""af_packet's receive path for capture: a ring of blocks, TPACKET_V3.

The kernel packs frames of any length behind each other into a block and hands the block over when it is full, or a
time after its first frame (``retire``). We walk the block, copy each frame into cells and give the block back when its
last frame is taken. Small frames lie close together and a super-packet lies in the block like any other; but a frame
that comes alone waits for the time to pass.

::

    block  0          48                                              block_size
           header     tpacket3_hdr  ..  virtio-net  frame  tpacket3_hdr ...

References: Documentation/networking/packet_mmap.rst; net/packet/af_packet.c (prb_*).
"""

from wirespeed.jit import View, inline, kernel, le16, le32, le64, load_acquire32, prefetch, store64, store_release32
from wirespeed.jit.entry import enter4
from wirespeed.mem.descriptor import ROOM
from wirespeed.mem.pool import MAX_BURST, Cache, take, taken, untake
from wirespeed.ports.af_packet.frame import ETHERNET, TAG, VLAN_VALID, dress
from wirespeed.ports.queue import Queue
from wirespeed.ports.scatter import SEGMENTS, cells_for, copy_in
from wirespeed.ports.virtio.net import HEADER_BYTES, HOSTILE

_USER = 0x1  # TP_STATUS_USER
_LONGEST = SEGMENTS * ROOM  # what other ways take, too; BIG TCP makes longer ones
_SECOND_NS = 1_000_000_000
_STATUS = 8  # struct tpacket_block_desc: version, offset of the private part, then struct tpacket_hdr_v1


class Block(View):
    """struct tpacket_block_desc, of version 1."""

    status = le32(8)
    packets = le32(12)
    first = le32(16, "where the first frame's header is")
    SIZE = 48


class BlockFrame(View):
    """struct tpacket3_hdr."""

    following = le32(0, "from here to the next frame's header")
    seconds = le32(4)
    nanoseconds = le32(8)
    captured = le32(12, "bytes here")
    length = le32(16, "bytes on the wire")
    status = le32(20)
    mac = le16(24, "where the frame starts")
    tci = le32(32)
    tpid = le16(36)
    SIZE = 48


class BlockQueue(Queue):
    """A receive queue of blocks."""

    fd = le64(64)
    ring = le64(72, "the first block; 0: there is no interface")
    blocks = le64(80)
    block_size = le64(88)
    head = le64(96, "the block that is handed over next, or being read")
    at = le64(104, "address of the next frame's header in it")
    left = le64(112, "frames of it still to be read; 0: not begun")
    stamps = le64(120, "1 if packets get their time of receipt")
    lost = le64(128, "what the kernel dropped before the ring; only control code writes this line")
    burst = le64(192, "the kernel that reads blocks")
    SIZE = 256


BLOCK_QUEUE_BYTES: int = BlockQueue.SIZE


@inline
def receive_blocks(queue, cache, vector, room):  # type: ignore[no-untyped-def]
    """Packets from the blocks that were handed over."""
    record = BlockQueue(queue)
    ring = record.ring
    if ring != 0:
        if record.left != 0 or load_acquire32(ring + record.head * record.block_size + _STATUS) & _USER:
            return enter4(record.burst, queue, cache, vector, room)
    return 0


@kernel
def receive_blocks_burst(queue, cache, vector, room):  # type: ignore[no-untyped-def]
    record = BlockQueue(queue)
    stack = Cache(cache)
    cells = stack.cells
    got = take(stack, min(MAX_BURST, max(room, SEGMENTS)))
    window = taken(stack, got)
    used, packets, total = 0, 0, 0
    while packets < room:
        block = record.ring + record.head * record.block_size
        if record.left == 0:
            if not load_acquire32(block + _STATUS) & _USER:
                break
            record.left = Block(block).packets
            record.at = block + Block(block).first
        left = record.left
        at = record.at
        while left > 0 and packets < room:
            frame = BlockFrame(at)
            length = frame.captured
            if used + cells_for(length) > got and length <= _LONGEST:
                room = packets  # no cell is left: end here
                break
            following = at + frame.following
            prefetch(following)
            prefetch(following + 64)
            time_ns = 0
            if record.stamps != 0:
                time_ns = frame.seconds * _SECOND_NS + frame.nanoseconds
            if length < frame.length or length < ETHERNET or length > _LONGEST:
                record.errors += 1
            else:
                source = at + frame.mac
                copy_in(window, cells, used, source, length)
                status = frame.status
                desc = dress(window, cells, used, length, status, frame.tci, frame.tpid, source - HEADER_BYTES, time_ns)
                if desc == HOSTILE:
                    record.errors += 1
                else:
                    store64(vector + (packets << 3), desc)
                    packets += 1
                    total += length
                    if status & VLAN_VALID:
                        total += TAG
                    used += cells_for(length)
            at = following
            left -= 1
        record.left = left
        record.at = at
        if left == 0:
            store_release32(block + _STATUS, 0)
            record.head = record.head + 1 if record.head + 1 < record.blocks else 0
    untake(stack, got - used)
    if packets:
        record.packets += packets
        record.bytes += total
        record.calls += 1
    return packets


__all__ = ["BLOCK_QUEUE_BYTES", "Block", "BlockFrame", "BlockQueue", "receive_blocks", "receive_blocks_burst"]

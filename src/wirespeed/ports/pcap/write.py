"""Writing pcap and pcapng, the worker's part: packets laid out as records in a stream (:mod:`wirespeed.mem.stream`).

::

    pcap      0: seconds  4: fraction  8: captured  12: on the wire  16: data
    pcapng    0: type 6   4: length    8: interface 12: time, high  16: time, low
                                      20: captured  24: on the wire 28: data, padded to 4   options   length

A packet is copied once, chains and all, and its cell is free at once. The worker makes no system call and waits for
nobody: a thread (:mod:`pcap_writer`) takes the records to the disk, and a packet that finds no room is dropped and
counted. Only while that thread sleeps and much has come does the worker knock, with one write to an eventfd.

A burst has one time, that of the call, in nanoseconds since 1970: the processor's counter since the file was opened.
A packet that carries its own time (``META``) keeps it. A packet longer than the snap length is cut to it; its length
on the wire stays.
"""
# mypy: allow-untyped-calls, no-warn-return-any

import time

from wirespeed.eal.clock import tsc_hz
from wirespeed.jit import cold, copy, copy64, cycles, inline, kernel, le64, load32, load64, store32, store64, tsc
from wirespeed.jit.entry import entry
from wirespeed.jit.libc import write
from wirespeed.mem.descriptor import (
    CELL,
    CHAINED,
    META,
    NEEDS_CHECKSUM,
    CellHeader,
    address_of,
    header_of,
    length_of,
    offset_of,
)
from wirespeed.mem.pool import Cache, release
from wirespeed.mem.stream import StreamView, consumed, place_of, produce, set_asleep, wants_waking
from wirespeed.ports.pcap.called import CalledQueue, call
from wirespeed.ports.pcap.format import ENHANCED, MAX_CAPTURED
from wirespeed.wire.checksum import complete_checksum

_SLACK = 192  # a record's own bytes, and what copying in pieces of 64 writes too much
_NS = 1_000_000_000
_FLAGS = 2 | 4 << 16  # option 2 of a packet block, four bytes
_TRAILER = 12  # that option, and the end of the options


class LaneQueue(CalledQueue):
    """A queue record that lays out packets for one interface of one file."""

    stream = le64(64, "address of the stream's head")
    pcapng = le64(72, "1 for blocks, 0 for records")
    interface = le64(80, "its number in the file")
    direction = le64(88, "1: packets were received, 2: sent; 0: nothing is said about it (pcapng)")
    snap = le64(96, "bytes kept of each packet")
    tick_ns = le64(104, "nanoseconds of a timestamp's unit (pcap)")
    hz = le64(112, "the counter's rate")
    anchor_cycles = le64(120, "the counter when the clock showed anchor_ns")
    anchor_ns = le64(128, "nanoseconds since 1970")
    bell = le64(136, "eventfd that wakes the writer")
    enough = le64(144, "bytes that are worth waking it for")
    one = le64(152, "1, to be written to the eventfd")
    SIZE = 192


_ONE: int = LaneQueue.one.offset


def format_lane(address: int, stream: int, snap: int, tick_ns: int) -> LaneQueue:
    """Make a record of LaneQueue.SIZE zeros one for packets that are laid out in ``stream``, from now on."""
    lane = LaneQueue(address)
    lane.stream, lane.snap, lane.tick_ns, lane.kernel = stream, snap, tick_ns, entry(lay_out, 4)
    lane.hz, lane.anchor_cycles, lane.anchor_ns = tsc_hz(), tsc(), time.time_ns()
    return lane


@inline
def transmit(queue: int, cache: int, vector: int, count: int) -> int:
    """Lay out all ``count`` packets, and free them."""
    if count > 0:
        call(queue, cache, vector, count)
        release(Cache(cache), vector, count)
    return count


@kernel
def lay_out(queue: int, cache: int, vector: int, count: int) -> int:
    """Copy the packets at ``vector`` into the stream and count them; they stay the caller's. Returns the lost ones."""
    lane = LaneQueue(queue)
    cells = Cache(cache).cells
    stream = StreamView(lane.stream)
    pcapng = lane.pcapng != 0
    snap = lane.snap
    direction = lane.direction
    overhead = (32 if direction == 0 else 32 + _TRAILER) if pcapng else 16
    now = _now_ns(lane)
    stamp = _stamp(now, lane.tick_ns, pcapng)
    start = stream.produced
    if stream.size - (start - stream.consumed_seen) < count * 2048 + MAX_CAPTURED + _SLACK:
        stream.consumed_seen = consumed(lane.stream)
    first = place_of(lane.stream, start)
    limit = first + stream.size - (start - stream.consumed_seen) - _SLACK
    at = first
    total = 0
    lost = 0
    for i in range(count):
        desc = load64(vector + (i << 3))
        length = length_of(desc)
        most = min(length, snap) if desc & CHAINED == 0 else min(MAX_CAPTURED, snap)
        if at + most > limit:
            stream.consumed_seen = consumed(lane.stream)
            limit = first + stream.size - (start - stream.consumed_seen) - _SLACK
            if at + most > limit:
                lost += 1
                continue
        data = at + (28 if pcapng else 16)
        when = stamp
        kept = min(length, snap)
        if desc & (CHAINED | META) == 0:
            _copy_out(data, cells, desc, kept)
        else:
            length = _whole_length(cells, desc)
            kept = _copy_special(data, cells, desc, min(length, snap))
            own = CellHeader(header_of(cells, desc)).timestamp if desc & META != 0 else 0
            if own > 0:
                when = _stamp(own, lane.tick_ns, pcapng)
        if pcapng:
            padded = (kept + 3) & -4
            store32(data + kept, 0)
            size = overhead + padded
            store64(at, ENHANCED | (size << 32))
            store64(at + 8, lane.interface | (when >> 32) << 32)
            store64(at + 16, (when & 0xFFFF_FFFF) | (kept << 32))
            store32(at + 24, length)
            if direction != 0:
                store64(data + padded, _FLAGS | (direction << 32))
                store32(data + padded + 8, 0)
            at += size
            store32(at - 4, size)
        else:
            store64(at, when)
            store64(at + 8, kept | (length << 32))
            at = data + kept
        total += length
    produce(lane.stream, start + (at - first))
    if wants_waking(lane.stream):
        _knock(lane, start + (at - first))
    lane.dropped += lost
    lane.packets += count - lost
    lane.bytes += total
    lane.calls += 1
    return lost


@inline
def _stamp(time_ns: int, tick_ns: int, pcapng: bool) -> int:
    """A time as a record has it: nanoseconds since 1970, or the seconds and above them the fraction."""
    if pcapng:
        return time_ns
    seconds = time_ns // _NS
    return seconds | ((time_ns - seconds * _NS) // tick_ns) << 32


@inline
def _now_ns(lane: LaneQueue) -> int:
    """Nanoseconds since 1970. Whole seconds apart, so that no product exceeds 63 bits (up to 9 GHz)."""
    passed = cycles() - lane.anchor_cycles
    seconds = passed // lane.hz
    return lane.anchor_ns + seconds * _NS + (passed - seconds * lane.hz) * _NS // lane.hz


@cold
def _knock(lane: LaneQueue, position: int) -> None:
    """Wake the writer if enough waits for it."""
    if position - consumed(lane.stream) >= lane.enough:
        set_asleep(lane.stream, 0)
        write(lane.bell, lane.address + _ONE, 8)


@inline
def _copy_out(to: int, cells: int, desc: int, length: int) -> None:
    """Copy one cell's data; in pieces of 64 when the last of them ends within the cell."""
    source = address_of(cells, desc)
    if offset_of(desc) + ((length + 63) & -64) > CELL:
        copy(to, source, length)
        return
    for at in range(0, length, 64):
        copy64(to + at, source + at)


@inline
def _whole_length(cells: int, desc: int) -> int:
    if desc & CHAINED != 0:
        return CellHeader(header_of(cells, desc)).length
    return length_of(desc)


@cold
def _copy_special(to: int, cells: int, desc: int, limit: int) -> int:
    """Copy up to ``limit`` bytes of a packet that is chained or has metadata, its checksum completed; how many."""
    first = desc
    size = 0
    more = True
    while more:
        part = min(length_of(desc), limit - size)
        copy(to + size, address_of(cells, desc), part)
        size += part
        more = desc & CHAINED != 0 and size < limit
        if more:
            desc = CellHeader(header_of(cells, desc)).next
    header = CellHeader(header_of(cells, first))
    if first & META != 0 and header.checksum_state == NEEDS_CHECKSUM and size == _whole_length(cells, first):
        complete_checksum(to, size, header.checksum_start, header.checksum_offset)
    return size


@kernel
def whole_records(at: int, end: int, pcapng: int, found: int) -> int:
    """Walk records that we laid out: how many bytes from ``at`` on are whole ones that end at ``end`` or before.

    Args:
        found: address of two words: the packets, and their bytes on the wire are added there.
    """
    begin = at
    packets = 0
    size = 0
    while at + 16 <= end:
        length = load32(at + 4) if pcapng != 0 else 16 + load32(at + 8)
        if length > end - at:
            break
        size += load32(at + 24) if pcapng != 0 else load32(at + 12)
        packets += 1
        at += length
    store64(found, load64(found) + packets)
    store64(found + 8, load64(found + 8) + size)
    return at - begin


__all__ = ["LaneQueue", "format_lane", "lay_out", "transmit", "whole_records"]

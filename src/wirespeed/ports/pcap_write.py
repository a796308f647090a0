"""Writing pcap and pcapng: records formatted into a buffer, the buffer written when it is full.

::

    pcap     0: seconds  4: fraction  8: captured  12: on the wire  16: data
    pcapng   0: type 6   4: length    8: interface 0   12: time, high  16: time, low
                                     20: captured     24: on the wire  28: data, padded to 4   length

A packet is copied once, into the buffer, chains and all; the buffer is small enough to stay in the second
level cache. write(2) runs in the worker and blocks it while the disk (or the pipe to :mod:`pcap_gzip`) is
slower than the packets. The buffer always ends with a whole record: after a failed write the file is cut
back to one when it is closed, and everything from then on is an error.

A burst has one time, that of the call, in nanoseconds since 1970: the processor's counter since the file was
opened. A packet that carries its own time (``META``) keeps it.
"""
# mypy: allow-untyped-calls, no-warn-return-any

from wirespeed.jit import cold, copy, copy64, cycles, inline, kernel, le64, load64, store32
from wirespeed.jit.libc import errno, write
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
from wirespeed.ports.pcap_format import ENHANCED, MAX_CAPTURED
from wirespeed.ports.queue import Queue
from wirespeed.wire.checksum import complete_checksum

BUFFER: int = 512 << 10
"""Bytes of the buffer: more than the longest record."""

_SLACK = 128  # a record's own bytes, and what copying in pieces of 64 writes too much
_EINTR, _EIO = 4, 5
_NS = 1_000_000_000


class WriteQueue(Queue):
    """A queue record that formats packets."""

    buffer = le64(64, "address of the buffer")
    at = le64(72, "address in it where the next record goes")
    fd = le64(80, "where it is written")
    pcapng = le64(88, "1 for blocks, 0 for records")
    tick_ns = le64(96, "nanoseconds of a timestamp's unit")
    at_once = le64(104, "1 to write after each burst")
    hz = le64(112, "the counter's rate")
    anchor_cycles = le64(120, "the counter when the clock showed anchor_ns")
    anchor_ns = le64(128, "nanoseconds since 1970")
    waiting = le64(136, "packets in the buffer")
    waiting_bytes = le64(144, "their bytes")
    written = le64(152, "bytes written, whole records only")
    failed = le64(160, "errno of the write that failed; nothing is written after it")
    SIZE = 192


@inline
def transmit(queue: int, cache: int, vector: int, count: int) -> int:
    """Write all ``count`` packets, and free them."""
    record = WriteQueue(queue)
    stack = Cache(cache)
    cells = stack.cells
    pcapng = record.pcapng != 0
    tick_ns = record.tick_ns
    now = _now_ns(record)
    limit = record.buffer + BUFFER - _SLACK
    at = record.at
    total = 0
    unwritten = count if record.failed != 0 else 0
    for i in range(count - unwritten):
        desc = load64(vector + (i << 3))
        length = length_of(desc)
        if at + (length if desc & CHAINED == 0 else MAX_CAPTURED) > limit:
            record.at = at
            write_out(record)
            at = record.at
        data = at + (28 if pcapng else 16)
        time = now
        if desc & (CHAINED | META) == 0:
            _copy_out(data, cells, desc, length)
        else:
            length = _copy_special(data, cells, desc)
            if desc & META != 0:
                own = CellHeader(header_of(cells, desc)).timestamp
                time = own if own > 0 else now
        ticks = time // tick_ns
        if pcapng:
            size = 32 + ((length + 3) & -4)
            store32(at, ENHANCED)
            store32(at + 4, size)
            store32(at + 8, 0)
            store32(at + 12, ticks >> 32)
            store32(at + 16, ticks)
            store32(at + 20, length)
            store32(at + 24, length)
            store32(data + length, 0)
            at += size
            store32(at - 4, size)
        else:
            seconds = time // _NS
            store32(at, seconds)
            store32(at + 4, (time - seconds * _NS) // tick_ns)
            store32(at + 8, length)
            store32(at + 12, length)
            at = data + length
        total += length
        record.waiting += 1
        record.waiting_bytes += length
    record.at = at
    if record.at_once != 0:
        write_out(record)
    release(stack, vector, count)
    record.errors += unwritten
    record.packets += count - unwritten
    record.bytes += total
    record.calls += 1
    return count


@inline
def _now_ns(record: WriteQueue) -> int:
    """Nanoseconds since 1970. Whole seconds apart, so that no product exceeds 63 bits (up to 9 GHz)."""
    passed = cycles() - record.anchor_cycles
    seconds = passed // record.hz
    return record.anchor_ns + seconds * _NS + (passed - seconds * record.hz) * _NS // record.hz


@inline
def _copy_out(to: int, cells: int, desc: int, length: int) -> None:
    """Copy one cell's data; in pieces of 64 when the last of them ends within the cell."""
    source = address_of(cells, desc)
    if offset_of(desc) + ((length + 63) & -64) > CELL:
        copy(to, source, length)
        return
    for at in range(0, length, 64):
        copy64(to + at, source + at)


@cold
def _copy_special(to: int, cells: int, desc: int) -> int:
    """Copy a packet that is chained or has metadata, its checksum completed; how many bytes."""
    first = desc
    size = 0
    more = True
    while more:
        part = min(length_of(desc), MAX_CAPTURED - size)
        copy(to + size, address_of(cells, desc), part)
        size += part
        more = desc & CHAINED != 0 and size < MAX_CAPTURED
        if more:
            desc = CellHeader(header_of(cells, desc)).next
    header = CellHeader(header_of(cells, first))
    if first & META != 0 and header.checksum_state == NEEDS_CHECKSUM:
        complete_checksum(to, size, header.checksum_start, header.checksum_offset)
    return size


@cold
def write_out(record: WriteQueue) -> None:
    """Write the buffer. When that fails, its packets were not sent after all."""
    at = record.buffer
    while at < record.at and record.failed == 0:
        done = write(record.fd, at, record.at - at)
        if done > 0:
            at += done
        elif done == 0 or errno() != _EINTR:
            record.failed = errno() if done < 0 else _EIO
    if record.failed == 0:
        record.written += record.at - record.buffer
    else:
        record.packets -= record.waiting
        record.bytes -= record.waiting_bytes
        record.errors += record.waiting
    record.at = record.buffer
    record.waiting = 0
    record.waiting_bytes = 0


@kernel
def write_rest(queue: int) -> None:
    """:func:`write_out` from control code, once the worker has stopped."""
    write_out(WriteQueue(queue))

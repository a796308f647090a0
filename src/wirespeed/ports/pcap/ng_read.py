"""Reading pcapng: blocks of a mapped file or a stream, the packets among them into cells.

::

    section header    0: type  4: length   8: byte order  12: major  14: minor  16: section length
    interface         0: type  4: length   8: link type   12: snap length  16: options
    enhanced packet   0: type  4: length   8: interface   12: time, high  16: time, low
                                          20: captured    24: on the wire  28: data
    packet (obsolete) as enhanced, but the interface has 16 bits and a drop count follows it
    simple packet     0: type  4: length   8: on the wire  12: data

Each block ends with its length once more. Blocks of other types are passed over. A new section starts with
no interfaces, perhaps in the other byte order. Packets of an interface that is not Ethernet are errors.

One interface's place in the table behind the queue record, 32 bytes, is :class:`Interface`. Its time unit
is kept as what a timestamp is multiplied with, divided by, and shifted by.

Reference: draft-ietf-opsawg-pcapng.
"""
# mypy: allow-untyped-calls, no-warn-return-any

from wirespeed.jit import (
    View,
    bswap16,
    bswap32,
    cold,
    inline,
    kernel,
    le32,
    le64,
    load8,
    load16,
    load32,
    load64,
    shift_right,
    store64,
)
from wirespeed.mem.descriptor import ROOM, CellHeader, header_of
from wirespeed.mem.pool import Cache, take, taken, untake
from wirespeed.ports.pcap.cells import chain, copy_in, fresh_address, stamp
from wirespeed.ports.pcap.format import (
    BYTE_ORDER,
    ENHANCED,
    ETHERNET,
    INTERFACE,
    MAX_PACKET,
    OLD_PACKET,
    SECTION,
    SIMPLE,
)
from wirespeed.ports.pcap.read import (
    BAD_CAPTURED,
    BAD_LENGTH,
    BAD_SECTION,
    CUT_OFF,
    NO_INTERFACE,
    PAST_END,
    PATIENCE,
    TRAILER,
    FileQueue,
    finish,
    look,
)
from wirespeed.ports.queue import ENDED

MAX_INTERFACES: int = 4096
"""Interfaces of one section that are remembered; packets of later ones are errors."""

_NS = 1_000_000_000
_SECTION_SWAPPED = 0x4D3C2B1A
_TSRESOL, _TSOFFSET = 9, 14  # options of an interface block


class Interface(View):
    """What an interface block says."""

    link_type = le32(0)
    snap_length = le32(4, "0: packets are whole")
    unit = le64(8, "n for 10**-n seconds, -n for 2**-n seconds")
    offset_s = le64(16, "seconds to add to each time")
    SIZE = 32


_TABLE: int = FileQueue.SIZE
_ENTRY: int = Interface.SIZE
BYTES: int = _TABLE + MAX_INTERFACES * _ENTRY
"""Memory of a queue record with its table."""


@inline
def _u32(at: int, swapped: bool) -> int:
    value = load32(at)
    return bswap32(value) if swapped else value


@inline
def _u16(at: int, swapped: bool) -> int:
    value = load16(at)
    return bswap16(value) if swapped else value


@kernel
def read_blocks(queue: int, cache: int, vector: int, room: int) -> int:
    """The next packets, copied; fewer than ``room`` when the pool is short of cells."""
    record = FileQueue(queue)
    if record.ended != 0:
        return ENDED
    stack = Cache(cache)
    cells = stack.cells
    wanted = room if record.left < 0 else min(room, record.left)
    spare = take(stack, wanted)
    source = taken(stack, spare)
    look(record)
    at = record.at
    end = record.end
    swapped = record.swapped != 0
    timestamps = record.timestamps != 0
    marks = record.marks != 0
    table = queue + _TABLE
    done = 0
    total = 0
    skipped = 0
    passed = 0
    fault = 0
    while spare > 0 and passed < PATIENCE:
        if at + 12 > end:
            fault = CUT_OFF
            break
        kind = load32(at)
        if kind == SECTION:  # the same in both orders
            fault = _section(record, at, end)
            if fault != 0:
                break
            swapped = record.swapped != 0
        elif swapped:
            kind = bswap32(kind)
        size = _u32(at + 4, swapped)
        if size < 12 or size & 3 != 0:
            fault = BAD_LENGTH
            break
        if size > end - at:
            fault = PAST_END
            break
        if _u32(at + size - 4, swapped) != size:
            fault = TRAILER
            break

        if kind in (ENHANCED, OLD_PACKET):
            if size < 32:
                fault = BAD_LENGTH
                break
            number = _u32(at + 8, swapped) if kind == ENHANCED else _u16(at + 8, swapped)
            data = at + 28
            length = _u32(at + 20, swapped)
            if length > size - 32:
                fault = BAD_CAPTURED
                break
        elif kind == SIMPLE:
            if size < 16:
                fault = BAD_LENGTH
                break
            number = 0
            data = at + 12
            length = _u32(at + 8, swapped)
            snap_length = Interface(table).snap_length
            if record.interfaces > 0 and snap_length > 0:
                length = min(length, snap_length)
            if length > size - 16:
                fault = BAD_CAPTURED
                break
        else:
            if kind == INTERFACE:
                if size < 20:
                    fault = BAD_LENGTH
                    break
                _interface(record, at, size)
            at += size
            passed += 1
            continue

        if number >= record.interfaces:
            fault = NO_INTERFACE
            break
        if length > MAX_PACKET or length == 0 or not _is_ethernet(table, number):
            at += size
            skipped += 1
            passed += 1
            continue
        if length <= ROOM:
            desc = load64(source)
            copy_in(fresh_address(cells, desc), data, length, end)
            desc |= length << 48
            source -= 8
            spare -= 1
        else:
            untake(stack, spare)
            desc = chain(stack, data, length)
            if desc == 0:
                spare = 0
                break
            spare = take(stack, wanted - done - 1)
            source = taken(stack, spare)
        if marks or (timestamps and kind != SIMPLE):  # a simple packet has no time
            when = 0
            if timestamps and kind != SIMPLE:
                high = _u32(at + 12, swapped)
                low = _u32(at + 16, swapped)
                when = time_ns(table + number * _ENTRY, high << 32 | low)
            desc = stamp(cells, desc, when)
            if marks:
                CellHeader(header_of(cells, desc)).mark = number
        store64(vector + (done << 3), desc)
        at += size
        done += 1
        total += length
    untake(stack, spare)
    finish(record, at, fault, done, total, skipped)
    return done


@inline
def _is_ethernet(table: int, number: int) -> bool:
    if number >= MAX_INTERFACES:
        return False
    return Interface(table + number * _ENTRY).link_type == ETHERNET


@cold
def _section(record: FileQueue, at: int, end: int) -> int:
    """Begin the section whose header is at ``at``; a fault code, or 0."""
    if at + 28 > end:
        return CUT_OFF
    magic = load32(at + 8)
    if magic != BYTE_ORDER and magic != _SECTION_SWAPPED:
        return BAD_SECTION
    swapped = magic == _SECTION_SWAPPED
    if _u16(at + 12, swapped) != 1:
        return BAD_SECTION
    if _u32(at + 4, swapped) < 28:
        return BAD_LENGTH
    record.swapped = 1 if swapped else 0
    record.interfaces = 0
    return 0


@cold
def _interface(record: FileQueue, at: int, size: int) -> None:
    """Remember the interface whose block of ``size`` bytes (20 or more) is at ``at``."""
    number = record.interfaces
    record.interfaces = number + 1
    if number >= MAX_INTERFACES:
        return
    swapped = record.swapped != 0
    known = Interface(record.address + _TABLE + number * _ENTRY)
    known.link_type = _u16(at + 8, swapped)
    known.snap_length = _u32(at + 12, swapped)
    known.unit = 6
    known.offset_s = 0
    option = at + 16
    last = at + size - 4
    while option + 4 <= last:
        code = _u16(option, swapped)
        length = _u16(option + 2, swapped)
        if code == 0 or option + 4 + length > last:
            return
        if code == _TSRESOL and length == 1:
            unit = load8(option + 4)
            known.unit = -(unit & 0x7F) if unit & 0x80 != 0 else unit
        if code == _TSOFFSET and length == 8:
            high = _u32(option + (4 if swapped else 8), swapped)
            low = _u32(option + (8 if swapped else 4), swapped)
            known.offset_s = high << 32 | low
        option += 4 + ((length + 3) & -4)


@cold
def time_ns(interface: int, ticks: int) -> int:
    """A timestamp in the interface's unit as nanoseconds since 1970; units nobody can mean give 0."""
    known = Interface(interface)
    unit = known.unit
    if unit < 0:
        shift = -unit
        if shift > 63:
            return 0
        whole = shift_right(ticks, shift)
        part = ticks - (whole << shift)
        if shift > 30:  # keep the product within 63 bits
            part = shift_right(part, shift - 30)
            shift = 30
        return (whole + known.offset_s) * _NS + ((part * _NS) >> shift)
    factor = 1
    for _ in range(min(unit, 18)):
        factor *= 10
    if unit > 18 or ticks < 0:
        return 0
    whole = ticks // factor
    part = ticks - whole * factor
    nanoseconds = part * (_NS // factor) if unit <= 9 else part // (factor // _NS)
    return (whole + known.offset_s) * _NS + nanoseconds

"""Reading pcap: records one after the other, out of a mapped file or a stream, into cells.

Each record is checked before it is believed: its header and then its data must end within what is there. What
cannot be a record ends the input with a :data:`FAULTS` code and place in the queue and is counted as an error;
packets before it have been delivered. Records that are well-formed but no packet (no bytes at all, or more than
65,535) are errors and passed over. In a stream that still grows, a record that is not all there yet is waited for.
"""
# mypy: allow-untyped-calls, no-warn-return-any

from wirespeed.jit import bswap32, cold, fence, inline, kernel, le64, load32, load64, store64
from wirespeed.jit.libc import read
from wirespeed.mem.descriptor import ROOM
from wirespeed.mem.pool import Cache, take, taken, untake
from wirespeed.mem.stream import StreamView, consume, is_over, place_of, produced, set_asleep
from wirespeed.ports.pcap.called import CalledQueue
from wirespeed.ports.pcap.cells import chain, copy_in, fresh_address, stamp
from wirespeed.ports.pcap.format import MAX_CAPTURED, MAX_PACKET
from wirespeed.ports.queue import ENDED, count_burst

PATIENCE: int = 4096
"""Records or blocks without a packet that one call passes over before it lets the worker go on."""

CUT_OFF: int = 1
TOO_LONG: int = 2
BAD_LENGTH: int = 3
PAST_END: int = 4
TRAILER: int = 5
BAD_CAPTURED: int = 6
NO_INTERFACE: int = 7
BAD_SECTION: int = 8
TOO_LARGE: int = 9
FAULTS = {
    CUT_OFF: "the file ends in the middle of it",
    TOO_LONG: f"it claims more than {MAX_CAPTURED} bytes, which no capture has",
    BAD_LENGTH: "the block's length is not possible",
    PAST_END: "it is longer than what is left of the file",
    TRAILER: "the block's two lengths differ",
    BAD_CAPTURED: "the packet is longer than its block",
    NO_INTERFACE: "it names an interface that the file does not describe",
    BAD_SECTION: "the section's byte order or version is not known",
    TOO_LARGE: "the block is larger than a stream holds: unpack the file, or save it, and read that",
}
"""What is wrong with a record, by the code the data plane leaves."""


class FileQueue(CalledQueue):
    """A queue record that walks a capture. For pcapng, a table of interfaces follows at ``SIZE``."""

    at = le64(64, "address of the next record or block")
    end = le64(72, "address after the last byte that is there")
    left = le64(80, "packets still wanted; negative: all")
    swapped = le64(88, "1 when numbers are in the other byte order")
    record_header = le64(96, "bytes before a record's data")
    tick_ns = le64(104, "nanoseconds of one unit of a record's fraction of a second")
    timestamps = le64(112, "1 when packets carry the time they were captured at")
    fault = le64(120, "code of what is wrong with the record at `at`; 0: nothing")
    interfaces = le64(128, "interfaces described in this section so far")
    marks = le64(136, "1 when packets carry the number of their interface as flow mark")
    position = le64(144, "bytes of the capture before `at`")
    stream = le64(152, "address of the stream it comes from; 0: a mapped file")
    growing = le64(160, "1 when more may come than up to `end`")
    bell = le64(168, "eventfd by which the stream's thread wakes a worker")
    drained = le64(176, "what was read from it")
    SIZE = 192


_DRAINED: int = FileQueue.drained.offset


@inline
def look(record: FileQueue) -> None:
    """See how far the stream is by now."""
    if record.stream != 0:
        _look(record)


@cold
def _look(record: FileQueue) -> None:
    over = is_over(record.stream)  # first: the end that is seen then is the last
    ahead = produced(record.stream) - record.position
    record.at = place_of(record.stream, record.position)
    record.end = record.at + ahead
    record.growing = 0 if over else 1


@inline
def arm(queue: int, on: int) -> int:
    """Ask the stream's thread for a wake-up, or no longer; 1 if there is something to look at already."""
    return _arm(FileQueue(queue), on)


@cold
def _arm(record: FileQueue, on: int) -> int:
    set_asleep(record.stream, on)
    if on == 0:
        read(record.bell, record.address + _DRAINED, 8)
        return 0
    fence()
    seen = record.position + record.end - record.at
    return 1 if produced(record.stream) != seen or (is_over(record.stream) and record.growing != 0) else 0


@kernel
def publish(stream: int, position: int) -> bool:
    """The stream's thread: everything before ``position`` is there; true if a worker must be woken."""
    StreamView(stream).produced = position
    fence()
    return StreamView(stream).asleep != 0


@kernel
def read_records(queue: int, cache: int, vector: int, room: int) -> int:
    """The next records' data, copied; fewer than ``room`` when the pool is short of cells."""
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
    before_data = record.record_header
    timestamps = record.timestamps != 0
    done = 0
    total = 0
    skipped = 0
    fault = 0
    while spare > 0:
        data = at + before_data
        if data > end:
            fault = CUT_OFF
            break
        length = load32(at + 8)
        if swapped:
            length = bswap32(length)
        if length > end - data:
            fault = TOO_LONG if length > MAX_CAPTURED else PAST_END
            break
        if length > MAX_PACKET or length == 0:
            if length > MAX_CAPTURED:
                fault = TOO_LONG
                break
            at = data + length
            skipped += 1
            if skipped == PATIENCE:
                break
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
        if timestamps:
            desc = stamp(cells, desc, _time_ns(at, swapped, record.tick_ns))
        store64(vector + (done << 3), desc)
        at = data + length
        done += 1
        total += length
    untake(stack, spare)
    finish(record, at, fault, done, total, skipped)
    return done


@inline
def _time_ns(at: int, swapped: bool, tick_ns: int) -> int:
    """The time of the record at ``at``, nanoseconds since 1970."""
    seconds = load32(at)
    fraction = load32(at + 4)
    if swapped:
        seconds = bswap32(seconds)
        fraction = bswap32(fraction)
    return seconds * 1_000_000_000 + fraction * tick_ns


@inline
def finish(record: FileQueue, at: int, fault: int, done: int, total: int, skipped: int) -> None:
    """Count a burst that came to ``at``; note the end of the input, a fault unless it falls between two records."""
    record.position += at - record.at
    record.at = at
    record.errors += skipped
    if done > 0:
        count_burst(record, done, total)
    if record.left > 0:
        record.left -= done
    if record.stream != 0:
        consume(record.stream, record.position)
        if record.growing != 0 and record.left != 0:
            fault = _missing(record, fault)
    if record.left == 0 or (at == record.end and record.growing == 0):
        record.ended = 1
    elif fault != 0:
        record.fault = fault
        record.ended = 1
        record.errors += 1


@cold
def _missing(record: FileQueue, fault: int) -> int:
    """What is cut off may only not have come yet, unless there is no room for the rest to come."""
    if fault != CUT_OFF and fault != PAST_END:
        return fault
    return TOO_LARGE if record.end - record.at >= StreamView(record.stream).size else 0

"""A capture in memory, received over and over: what a speed test is fed with (DPDK's net_pcap infinite_rx).

One table for all queues, packets in the order of the file, each in its own 64-byte lines without gaps, so
that every queue reads the table straight through and the processor's prefetcher runs ahead of it::

    lengths   2 B a packet
    times     8 B a packet, nanoseconds since the first; only where they are replayed
    lines     packet 0 | packet 1 | ...   each from a 64-byte boundary on

Where no packet is longer than a line, :func:`read_lines` copies each with two vector moves and stores
its descriptor, nothing else; :func:`read_table` takes what comes. The table is filled by the reader of the
file's format itself, through the pool's cells.
"""
# mypy: allow-untyped-calls, no-warn-return-any

import ctypes
import time
from collections.abc import Callable, Iterator

import numpy as np

from wirespeed.errors import CaptureError
from wirespeed.jit import cold, copy, copy64, inline, kernel, le64, load16, load64, store16, store64
from wirespeed.mem.descriptor import CHAINED, META, ROOM, CellHeader, address_of, header_of, length_of
from wirespeed.mem.pool import Cache, Pool, release, take, taken, untake
from wirespeed.mem.region import Region
from wirespeed.ports.pcap.called import CalledQueue
from wirespeed.ports.pcap.cells import chain, fresh_address, stamp
from wirespeed.ports.pcap.ng_read import read_blocks
from wirespeed.ports.pcap.read import FileQueue, read_records
from wirespeed.ports.queue import ENDED

_LINE = 64
_BURST = 64
_LOOK_S = 0.0005


class LoopQueue(CalledQueue):
    """A queue record with its place in the table."""

    lengths = le64(64, "address of the packets' lengths")
    lines = le64(72, "address of the packets' lines")
    packets_in_lap = le64(80, "packets in the table")
    left = le64(88, "packets still wanted; negative: no end")
    index = le64(96, "the next packet")
    next_line = le64(104, "address of its lines")
    times = le64(112, "address of the packets' times; 0: they have none")
    lap_ns = le64(120, "time between two laps")
    passed_ns = le64(128, "of the laps that are over")
    SIZE = 192


@kernel
def read_lines(queue: int, cache: int, vector: int, room: int) -> int:
    """The next packets, none of which is longer than 64 bytes."""
    record = LoopQueue(queue)
    if record.left == 0:
        return ENDED
    stack = Cache(cache)
    got = take(stack, room if record.left < 0 else min(room, record.left))
    source = taken(stack, got)
    cells = stack.cells
    lap = record.packets_in_lap
    index = record.index
    total = 0
    left = got
    while left > 0:
        run = min(left, lap - index)
        lengths = record.lengths + (index << 1)
        line = record.lines + (index << 6)
        for i in range(run):
            desc = load64(source - (i << 3))
            length = load16(lengths + (i << 1))
            copy64(fresh_address(cells, desc), line + (i << 6))
            store64(vector + (i << 3), desc | (length << 48))
            total += length
        source -= run << 3
        vector += run << 3
        left -= run
        index += run
        if index == lap:
            index = 0
    record.index = index
    _count(record, got, total)
    return got


@kernel
def read_table(queue: int, cache: int, vector: int, room: int) -> int:
    """The next packets, of any length; fewer than ``room`` when the pool is short of cells."""
    record = LoopQueue(queue)
    if record.left == 0:
        return ENDED
    stack = Cache(cache)
    wanted = room if record.left < 0 else min(room, record.left)
    spare = take(stack, wanted)
    source = taken(stack, spare)
    cells = stack.cells
    lengths = record.lengths
    lap = record.packets_in_lap
    index = record.index
    line = record.next_line
    done = 0
    total = 0
    while spare > 0:
        length = load16(lengths + (index << 1))
        if length <= ROOM:
            desc = load64(source)
            to = fresh_address(cells, desc)
            copy64(to, line)
            for at in range(_LINE, length, _LINE):
                copy64(to + at, line + at)
            desc |= length << 48
            source -= 8
            spare -= 1
        else:
            untake(stack, spare)
            desc = chain(stack, line, length)
            if desc == 0:
                spare = 0
                break
            spare = take(stack, wanted - done - 1)
            source = taken(stack, spare)
        store64(vector + (done << 3), desc)
        done += 1
        total += length
        line += (length + _LINE - 1) & -_LINE
        index += 1
        if index == lap:
            index = 0
            line = record.lines
    untake(stack, spare)
    record.index = index
    record.next_line = line
    _count(record, done, total)
    return done


@inline
def _count(record: LoopQueue, done: int, total: int) -> None:
    if done > 0:
        record.packets += done
        record.bytes += total
        record.calls += 1
    if record.left > 0:
        record.left -= done
        if record.left == 0:
            record.ended = 1


@cold
def stamp_times(queue: int, cells: int, vector: int, count: int, index: int) -> None:
    """Give ``count`` packets at ``vector``, the first of them number ``index`` of the lap, their times."""
    record = LoopQueue(queue)
    for i in range(count):
        desc = load64(vector + (i << 3))
        store64(vector + (i << 3), stamp(cells, desc, record.passed_ns + load64(record.times + (index << 3))))
        index += 1
        if index == record.packets_in_lap:
            index = 0
            record.passed_ns += record.lap_ns


# Filling the table -----------------------------------------------------------------------------------------


@inline
def _packet_length(cells: int, desc: int) -> int:
    if desc & CHAINED != 0:
        return CellHeader(header_of(cells, desc)).length
    return length_of(desc)


@kernel
def _measure(cache: int, vector: int, count: int) -> int:
    """Bytes of lines that the packets take; frees them."""
    stack = Cache(cache)
    size = 0
    for i in range(count):
        size += (_packet_length(stack.cells, load64(vector + (i << 3))) + _LINE - 1) & -_LINE
    release(stack, vector, count)
    return size


@kernel
def _lay_out(cache: int, vector: int, count: int, lengths: int, times: int, line: int, end: int) -> int:
    """Copy packets to their lines and free them; the address after the last line, 0 if they do not end by ``end``.

    Args:
        times: where theirs go; 0: none are kept.
    """
    stack = Cache(cache)
    for i in range(count):
        desc = load64(vector + (i << 3))
        length = _packet_length(stack.cells, desc)
        if ((length + _LINE - 1) & -_LINE) > end - line:
            line = 0
            break
        store16(lengths + (i << 1), length)
        if times != 0:
            own = CellHeader(header_of(stack.cells, desc)).timestamp if desc & META != 0 else 0
            store64(times + (i << 3), own)
        to = line
        more = True
        while more:
            copy(to, address_of(stack.cells, desc), length_of(desc))
            to += length_of(desc)
            more = desc & CHAINED != 0
            if more:
                desc = CellHeader(header_of(stack.cells, desc)).next
        line += (length + _LINE - 1) & -_LINE
    release(stack, vector, count)
    return line


class Table:
    """All packets of a file, laid out.

    Args:
        name: the file, for messages.
        reader: a queue record; read twice, to measure and to copy.
        rewind: makes the reader stand before the file's first packet.
        pcapng: which of the readers the record is for.
        pool: whose cells the reader may use meanwhile.
        memory: the most bytes the table may take.
        timed: whether to keep times; the reader gives them.

    Attributes:
        packets, errors: packets in the table, and records that were none.
        lengths, times, lines: addresses of the parts; ``times`` is 0 if there are none.
        only_lines: no packet is longer than 64 bytes.
        lap_ns: time from one lap to the next: from the first packet to the last, and a mean gap.

    Raises:
        CaptureError: the packets need more than ``memory`` bytes, or there are none, or not the same ones twice.
    """

    def __init__(
        self,
        name: str,
        reader: FileQueue,
        rewind: Callable[[], None],
        pcapng: bool,
        pool: Pool,
        memory: int,
        timed: bool = False,
    ) -> None:
        self._read = read_blocks if pcapng else read_records
        self._cache = pool.cache(pool.workers)
        each = 10 if timed else 2
        rewind()
        with Region(8 * _BURST, "wirespeed-pcap-burst", huge=False) as burst:
            size = 0
            for count in self._bursts(name, reader, burst.address):
                size += _measure(self._cache, burst.address, count)
                if size + each * reader.packets > memory:
                    raise CaptureError(
                        f"{name}: its packets take more than memory={memory} bytes to loop over: "
                        "allow more (memory=1Gi), or take a smaller file"
                    )
            self.packets: int = reader.packets
            self.errors: int = reader.errors
            if not self.packets:
                raise CaptureError(f"{name}: has no packets to loop over: record some")
            lengths = -(-2 * self.packets // _LINE) * _LINE
            times = -(-8 * self.packets // _LINE) * _LINE if timed else 0
            whole = lengths + times + size
            self._memory = Region(whole, "wirespeed-pcap-loop", huge=whole > 1 << 20)
            self.lengths = self._memory.address
            self.times = self.lengths + lengths if timed else 0
            self.lines = self.lengths + lengths + times
            self.only_lines = size == self.packets * _LINE
            reader.ended, reader.interfaces, reader.packets, reader.errors = 0, 0, 0, 0
            rewind()
            try:
                self._fill(name, reader, burst.address, self.lines + size, timed)
            except BaseException:
                self._memory.close()
                raise
        self.lap_ns = self._count_from_the_first() if timed else 0

    def _fill(self, name: str, reader: FileQueue, vector: int, end: int, timed: bool) -> None:
        """Read once more, and lay out; ``end`` is the address after the last line."""
        done, line = 0, self.lines
        for count in self._bursts(name, reader, vector):
            times = self.times + 8 * done if timed else 0
            within = end if done + count <= self.packets else 0
            line = _lay_out(self._cache, vector, count, self.lengths + 2 * done, times, line, within)
            done += count
            if not line:
                break
        if line != end or done != self.packets:
            raise CaptureError(f"{name}: changed while it was read: loop over a copy that nobody writes to")

    def _count_from_the_first(self) -> int:
        """Make times count from the first packet; how long a lap is."""
        times = np.ctypeslib.as_array((ctypes.c_int64 * self.packets).from_address(self.times))
        times -= times[0]
        last = int(times.max())
        return last + last // max(self.packets - 1, 1)

    def _bursts(self, name: str, reader: FileQueue, vector: int) -> Iterator[int]:
        """Read to the end; how many packets each burst left at ``vector``."""
        while True:
            before = reader.position
            count = self._read(reader.address, self._cache, vector, _BURST)
            if count > 0:
                yield count
            elif count == ENDED:
                return
            elif reader.growing:
                time.sleep(_LOOK_S)  # the thread that unpacks it is at work
            elif reader.position == before and not reader.ended:
                raise CaptureError(f"{name}: the pool has no free cells to read it with: give it more")

    def close(self) -> None:
        """Give the memory back."""
        self._memory.close()

"""A capture in memory, received over and over: what a speed test is fed with (DPDK's net_pcap infinite_rx).

One table for all queues, packets in the order of the file, each in its own 64-byte lines without gaps, so
that every queue reads the table straight through and the processor's prefetcher runs ahead of it::

    lengths   2 B a packet
    lines     packet 0 | packet 1 | ...   each from a 64-byte boundary on

Where no packet is longer than a line, :func:`receive_lines` copies each with two vector moves and stores
its descriptor, nothing else; :func:`receive` takes what comes. The table is filled by the reader of the
file's format itself, through the pool's cells.
"""
# mypy: allow-untyped-calls, no-warn-return-any

from collections.abc import Iterator

from wirespeed.errors import CaptureError
from wirespeed.jit import copy, copy64, inline, kernel, le64, load16, load64, store16, store64
from wirespeed.mem.descriptor import CHAINED, ROOM, CellHeader, address_of, header_of, length_of
from wirespeed.mem.pool import Cache, Pool, release, take, taken, untake
from wirespeed.mem.region import Region
from wirespeed.ports import pcap_read, pcapng_read
from wirespeed.ports.pcap_cells import chain, fresh_address
from wirespeed.ports.queue import ENDED, Queue

_LINE = 64
_BURST = 64


class LoopQueue(Queue):
    """A queue record with its place in the table."""

    lengths = le64(64, "address of the packets' lengths")
    lines = le64(72, "address of the packets' lines")
    packets_in_lap = le64(80, "packets in the table")
    left = le64(88, "packets still wanted; negative: no end")
    index = le64(96, "the next packet")
    next_line = le64(104, "address of its lines")
    SIZE = 128


@inline
def receive_lines(queue: int, cache: int, vector: int, room: int) -> int:
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


@inline
def receive(queue: int, cache: int, vector: int, room: int) -> int:
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


# Filling the table -----------------------------------------------------------------------------------------


@kernel
def _read_pcap(queue: int, cache: int, vector: int, room: int) -> int:
    return pcap_read.receive(queue, cache, vector, room)


@kernel
def _read_pcapng(queue: int, cache: int, vector: int, room: int) -> int:
    return pcapng_read.receive(queue, cache, vector, room)


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
def _lay_out(cache: int, vector: int, count: int, lengths: int, line: int) -> int:
    """Copy packets to their lines and free them; the address after the last line."""
    stack = Cache(cache)
    for i in range(count):
        desc = load64(vector + (i << 3))
        length = _packet_length(stack.cells, desc)
        store16(lengths + (i << 1), length)
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
        reader: a queue record that stands before the file's first packet; read twice, to measure and to copy.
        pcapng: which of the readers the record is for.
        pool: whose cells the reader may use meanwhile.
        memory: the most bytes the table may take.

    Attributes:
        packets, errors: packets in the table, and records that were none.
        lengths, lines: addresses of the two parts.
        only_lines: no packet is longer than 64 bytes.

    Raises:
        CaptureError: the packets need more than ``memory`` bytes, or there are none.
    """

    def __init__(self, name: str, reader: pcap_read.FileQueue, pcapng: bool, pool: Pool, memory: int) -> None:
        first = reader.at
        self._read = _read_pcapng if pcapng else _read_pcap
        self._cache = pool.cache(pool.workers)
        with Region(8 * _BURST, "wirespeed-pcap-burst", huge=False) as burst:
            size = 0
            for count in self._bursts(name, reader, burst.address):
                size += _measure(self._cache, burst.address, count)
                if size + 2 * reader.packets > memory:
                    raise CaptureError(
                        f"{name}: its packets take more than memory={memory} bytes to loop over: "
                        "allow more (memory=1Gi), or take a smaller file"
                    )
            self.packets: int = reader.packets
            self.errors: int = reader.errors
            if not self.packets:
                raise CaptureError(f"{name}: has no packets to loop over: record some")
            before_lines = -(-2 * self.packets // _LINE) * _LINE
            self._memory = Region(before_lines + size, "wirespeed-pcap-loop", huge=before_lines + size > 1 << 20)
            self.lengths = self._memory.address
            self.lines = self.lengths + before_lines
            self.only_lines = size == self.packets * _LINE
            reader.at, reader.ended, reader.interfaces = first, 0, 0
            reader.packets, reader.errors = 0, 0
            at, line = self.lengths, self.lines
            for count in self._bursts(name, reader, burst.address):
                line = _lay_out(self._cache, burst.address, count, at, line)
                at += 2 * count

    def _bursts(self, name: str, reader: pcap_read.FileQueue, vector: int) -> Iterator[int]:
        """Read to the end; how many packets each burst left at ``vector``."""
        while True:
            before = reader.at
            count = self._read(reader.address, self._cache, vector, _BURST)
            if count > 0:
                yield count
            elif count == ENDED:
                return
            elif reader.at == before and not reader.ended:
                raise CaptureError(f"{name}: the pool has no free cells to read it with: give it more")

    def close(self) -> None:
        """Give the memory back."""
        self._memory.close()

"""Test ports: literal bytes in, literal bytes out.

::

    graph.add(Feed([frame, frame]) >> node >> (out := Collect()))
    ws.run(graph)
    assert out.packets == [...]

Both are real ports: their functions run in the workers' compiled loop. ``Feed`` copies its frames into cells
of the pool, in order; a frame longer than a cell (or than ``segment`` bytes) comes as a chain. ``Collect``
copies what it is given, chain and all, and frees it; with ``capacity`` it refuses what does not fit, so the
worker must drop it.

    Feed's memory, for each queue          Collect's memory, for each queue
    0     record                           0     record
    128   (address, length) of frames      128   log: 8 bytes of length, the bytes, padded to 8
          the frames' bytes
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from wirespeed.jit import copy, inline, le64, load64, read_bytes, store64, write_bytes
from wirespeed.mem.descriptor import CHAINED, ROOM, CellHeader, address_of, header_of, length_of
from wirespeed.mem.pool import Cache, Pool, release, take, taken, untake
from wirespeed.mem.region import Region
from wirespeed.ports.offloads import Offload
from wirespeed.ports.port import Port
from wirespeed.ports.queue import ENDED, Queue

_RECORD = 128


class FeedQueue(Queue):
    """What is left to give."""

    next = le64(64, "address of the next entry")
    left = le64(72, "frames left")
    segment = le64(80, "bytes a cell takes")
    most = le64(88, "frames given in one call")
    endless = le64(96, "1: starts again instead of ending")
    first = le64(104, "address of the first entry")
    all = le64(112, "frames there are")
    SIZE = _RECORD


class CollectQueue(Queue):
    """What was taken."""

    log = le64(64, "address of the next entry")
    limit = le64(72, "end of the log")
    room = le64(80, "packets it still takes; negative: no limit")
    keep = le64(88, "0: count and free only")
    SIZE = _RECORD


@inline
def receive(queue, cache_address, vector, room):  # type: ignore[no-untyped-def]
    """Copy the next frames into cells; a frame needs as many as its length says."""
    record = FeedQueue(queue)
    cache = Cache(cache_address)
    if record.left == 0:
        if record.endless == 0:
            return ENDED
        record.left = record.all
        record.next = record.first
    room = min(room, record.most, record.left)
    done = 0
    while done < room:
        length = load64(record.next + 8)
        source = load64(record.next)
        segment = record.segment
        wanted = max(1, (length + segment - 1) // segment)
        got = take(cache, wanted)
        if got < wanted:
            untake(cache, got)
            break
        stack = taken(cache, got)
        first = 0
        above = 0
        for i in range(got):
            size = min(segment, length - i * segment)
            desc = load64(stack - (i << 3)) | (size << 48)
            if i < got - 1:
                desc |= CHAINED
            if above:
                CellHeader(above).next = desc
            else:
                first = desc
            copy(address_of(cache.cells, desc), source + i * segment, size)
            above = header_of(cache.cells, desc)
        CellHeader(header_of(cache.cells, first)).length = length
        store64(vector + (done << 3), first)
        record.next += 16
        record.left -= 1
        record.packets += 1
        record.bytes += length
        done += 1
    record.calls += 1 if done > 0 else 0
    return done


@inline
def transmit(queue, cache_address, vector, count):  # type: ignore[no-untyped-def]
    """Copy packets to the log, free them; stop where the log or the limit says so."""
    record = CollectQueue(queue)
    cache = Cache(cache_address)
    done = 0
    while done < count and record.room != 0:
        desc = load64(vector + (done << 3))
        length = length_of(desc)
        if desc & CHAINED:
            length = CellHeader(header_of(cache.cells, desc)).length
        if record.keep:
            if record.log + 8 + length + 8 > record.limit:
                break
            store64(record.log, length)
            at = record.log + 8
            piece = desc
            more = True
            while more:
                copy(at, address_of(cache.cells, piece), length_of(piece))
                at += length_of(piece)
                more = piece & CHAINED != 0
                if more:
                    piece = CellHeader(header_of(cache.cells, piece)).next
            record.log += 8 + ((length + 7) & -8)
        record.room -= 1
        record.packets += 1
        record.bytes += length
        done += 1
    release(cache, vector, done)
    record.calls += 1 if done > 0 else 0
    return done


@dataclass(frozen=True)
class NoOptions:
    """Test ports are made from Python, not from text."""


class Feed(Port):
    """Gives ``frames`` and ends.

    Args:
        frames: bytes; with ``queues`` > 1, frame ``i`` goes to queue ``i % queues``.
        name: what reports call it.
        segment: bytes of a frame in one cell; longer frames come as chains.
        most: frames given in one call.
        endless: start again from the first frame instead of ending.
        queues: receive queues.
    """

    Options = NoOptions
    receive = staticmethod(receive)
    transmit = None

    def __init__(
        self,
        frames: Iterable[bytes],
        name: str = "feed",
        segment: int = ROOM,
        most: int = 256,
        endless: bool = False,
        queues: int = 1,
    ) -> None:
        super().__init__(name, NoOptions())
        self.frames = [bytes(frame) for frame in frames]
        self.segment, self.most, self.endless = segment, most, endless
        self.rx_queues = queues

    def open(self, pool: Pool, rx_queues: int, tx_queues: int) -> None:
        self.rx, self._memories = [], []
        for queue in range(rx_queues):
            frames = self.frames[queue::rx_queues]
            index = _RECORD + 16 * len(frames)
            memory = Region(index + sum(map(len, frames)) + 1, "test-feed", huge=False)
            self._memories.append(memory)
            at = memory.address + index
            for i, frame in enumerate(frames):
                store64(memory.address + _RECORD + 16 * i, at)
                store64(memory.address + _RECORD + 16 * i + 8, len(frame))
                write_bytes(at, frame)
                at += len(frame)
            record = FeedQueue(memory.address)
            record.next = record.first = memory.address + _RECORD
            record.left = record.all = len(frames)
            record.segment, record.most = self.segment, self.most
            record.endless = int(self.endless)
            self.rx.append(memory.address)

    def close(self) -> None:
        for memory in self._memories:
            memory.close()


class Collect(Port):
    """Keeps what it is given.

    Args:
        name: what reports call it.
        capacity: packets it takes before it refuses all others; -1: no limit.
        log: bytes kept for each queue; 0: packets are counted and freed, not kept.
        queues: transmit queues; 0: one for every worker.

    Attributes:
        packets: after the run, every packet's bytes; queue by queue, in order.
        by_queue: the same, a list for each queue.
    """

    Options = NoOptions
    receive = None
    transmit = staticmethod(transmit)
    offloads = Offload.TX_CHECKSUM | Offload.TX_TCP_SEGMENTATION | Offload.TX_UDP_SEGMENTATION  # kept as they come

    def __init__(self, name: str = "collect", capacity: int = -1, log: int = 1 << 22, queues: int = 1) -> None:
        super().__init__(name, NoOptions())
        self.capacity, self.log = capacity, log
        self.tx_queues = queues
        self.by_queue: list[list[bytes]] = []
        self.opened = self.closed = 0

    @property
    def packets(self) -> list[bytes]:
        return [packet for queue in self.by_queue for packet in queue]

    def open(self, pool: Pool, rx_queues: int, tx_queues: int) -> None:
        self.opened += 1
        self.tx, self._memories = [], []
        for _ in range(tx_queues):
            memory = Region(_RECORD + self.log, "test-collect", huge=False, populate=False)
            self._memories.append(memory)
            record = CollectQueue(memory.address)
            record.log, record.limit = memory.address + _RECORD, memory.address + _RECORD + self.log
            record.room, record.keep = self.capacity, int(self.log > 0)
            self.tx.append(memory.address)

    def close(self) -> None:
        self.closed += 1
        self.by_queue = [self._read(memory) for memory in self._memories]
        for memory in self._memories:
            memory.close()

    def _read(self, memory: Region) -> list[bytes]:
        packets, at, end = [], memory.address + _RECORD, CollectQueue(memory.address).log
        while at < end:
            length = load64(at)
            packets.append(read_bytes(at + 8, length))
            at += 8 + ((length + 7) & -8)
        return packets


def ipv4_udp(
    sport: int = 1234,
    dport: int = 53,
    payload: bytes = b"",
    src: str = "10.0.0.1",
    dst: str = "10.0.0.2",
    ttl: int = 64,
) -> bytes:
    """An Ethernet frame with IPv4 (header checksum right) and UDP (no checksum), byte by byte."""
    addresses = bytes(int(part) for part in f"{src}.{dst}".split("."))
    udp = b"".join(part.to_bytes(2, "big") for part in (sport, dport, 8 + len(payload), 0)) + payload
    ip = bytes([0x45, 0]) + (20 + len(udp)).to_bytes(2, "big") + bytes([0, 0, 0x40, 0, ttl, 17, 0, 0]) + addresses
    total = sum(int.from_bytes(ip[i : i + 2], "big") for i in range(0, 20, 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    ip = ip[:10] + (0xFFFF - total).to_bytes(2, "big") + ip[12:]
    return bytes.fromhex("020000000002 020000000001 0800") + ip + udp


def hexed(packets: Sequence[bytes]) -> list[str]:
    """Packets as text, for failures one can read."""
    return [packet.hex() for packet in packets]


__all__ = ["Collect", "Feed", "hexed", "ipv4_udp"]

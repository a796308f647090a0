"""null and sink: packets from nowhere, and to nowhere. What is left is the cost of the graph itself.

``null`` receives empty frames of one size (cells as they come, bytes as they lie there) as fast as they are
asked for, and frees what it is given; ``sink`` only frees.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from wirespeed.errors import PortError
from wirespeed.jit import inline, le64, load64, store64
from wirespeed.mem.descriptor import ROOM
from wirespeed.mem.pool import Cache, Pool, release, take, taken
from wirespeed.mem.region import Region
from wirespeed.ports.offloads import Offload
from wirespeed.ports.options import option
from wirespeed.ports.port import Port
from wirespeed.ports.queue import ENDED, Queue, bytes_of, count_burst

_RECORD = 128


class NullQueue(Queue):
    """A queue record with the size of its frames, and how many are left."""

    frame = le64(64, "bytes of each frame")
    left = le64(72, "frames still to come; negative: no end")
    SIZE = _RECORD


@inline
def receive(queue, cache, vector, room):  # type: ignore[no-untyped-def]
    """Cells as they come."""
    record = NullQueue(queue)
    if record.left == 0:
        return ENDED
    wanted = room
    if record.left > 0:
        wanted = min(room, record.left)
    stack = Cache(cache)
    got = take(stack, wanted)
    source = taken(stack, got)
    frame = record.frame
    for i in range(got):
        store64(vector + (i << 3), load64(source - (i << 3)) | (frame << 48))
    record.left -= got
    count_burst(record, got, got * frame)
    return got


@inline
def transmit(queue, cache, vector, count):  # type: ignore[no-untyped-def]
    """Free everything."""
    stack = Cache(cache)
    total = bytes_of(stack.cells, vector, count)
    release(stack, vector, count)
    count_burst(Queue(queue), count, total)
    return count


@dataclass(frozen=True)
class NullOptions:
    """Options of ``null``."""

    size: int = option(64, "bytes of each frame received, without the checksum at its end")
    count: int = option(-1, "how many to receive; -1: no end")


class Null(Port):
    """Empty frames in, nothing out."""

    Options: ClassVar[type[Any]] = NullOptions
    receive: Callable[..., Any] | None = staticmethod(receive)
    transmit = staticmethod(transmit)
    offloads = Offload.HANDED_ON
    rx_queues = 0
    tx_queues = 0

    def open(self, pool: Pool, rx_queues: int, tx_queues: int) -> None:
        if not 14 <= self.options.size <= ROOM:
            raise PortError(f"port {self.spec!r}: size={self.options.size} must be 14 to {ROOM} bytes")
        self._memory = Region((rx_queues + tx_queues) * _RECORD, "wirespeed-null", huge=False)
        at = self._memory.address
        self.rx = [at + i * _RECORD for i in range(rx_queues)]
        self.tx = [at + (rx_queues + i) * _RECORD for i in range(tx_queues)]
        for index, address in enumerate(self.rx):
            record = NullQueue(address)
            record.frame = self.options.size
            count = self.options.count
            share = count // rx_queues + (index < count % rx_queues)
            record.left = share if count >= 0 else -1

    def close(self) -> None:
        self._memory.close()


@dataclass(frozen=True)
class SinkOptions:
    """A sink has no options."""


class Sink(Null):
    """Where packets end: counted and freed."""

    Options = SinkOptions
    receive = None
    rx_queues = 0

    def open(self, pool: Pool, rx_queues: int, tx_queues: int) -> None:
        self._memory = Region(max(1, tx_queues) * _RECORD, "wirespeed-sink", huge=False)
        self.tx = [self._memory.address + i * _RECORD for i in range(tx_queues)]

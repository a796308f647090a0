# mypy: allow-untyped-defs, allow-untyped-calls
"""ring: out at one place of the graph and in at another. With it a graph may contain a cycle.

``ring:NAME,size=1024``. All ports of one name in this process share one ring (:mod:`wirespeed.sync.ring`):
every worker may send to it and one queue receives, so that packets come out in the order they went in.
What does not fit stays with the sender, who drops and counts it.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from wirespeed.errors import PortError
from wirespeed.jit import inline, kernel, le64
from wirespeed.mem.pool import MAX_BURST, Cache, Pool
from wirespeed.mem.region import Region
from wirespeed.ports.offloads import Offload
from wirespeed.ports.options import option
from wirespeed.ports.port import Port
from wirespeed.ports.queue import Queue, bytes_of, count_burst
from wirespeed.sync.ring import RingView, format_ring, mp_enqueue, sc_dequeue

LARGEST: int = 1 << 20
"""Most packets a ring may hold."""

_RECORD = 128


class RingQueue(Queue):
    """A queue record with its ring."""

    ring = le64(64, "address of the ring")
    SIZE = _RECORD


@inline
def receive(queue, cache, vector, room):
    """What was sent to the ring, oldest first."""
    record = RingQueue(queue)
    got = sc_dequeue(record.ring, vector, room)
    if got:
        count_burst(record, got, bytes_of(Cache(cache).cells, vector, got))
    return got


@inline
def transmit(queue, cache, vector, count):
    """As many as fit."""
    record = RingQueue(queue)
    cells = Cache(cache).cells
    total = bytes_of(cells, vector, count)  # now: once sent, somebody else may change them
    sent = mp_enqueue(record.ring, vector, count)
    if sent:
        count_burst(record, sent, total - bytes_of(cells, vector + (sent << 3), count - sent))
    return sent


@kernel
def _drain(ring, vector, room):
    return sc_dequeue(ring, vector, room)


def drain(ring: int, pool: Pool) -> int:
    """Free what is left in a ring nobody uses any more; returns how many packets that were."""
    freed = 0
    with Region(MAX_BURST * 8, "wirespeed-drain", huge=False) as vector:
        while left := int(_drain(ring, vector.address, MAX_BURST)):
            pool.release(vector.address, left)
            freed += left
    return freed


@dataclass
class _Shared:
    """One ring and who uses it."""

    memory: Region
    pool: Pool
    size: int
    users: int = 0
    receiver: str = ""


_rings: dict[str, _Shared] = {}


@dataclass(frozen=True)
class RingOptions:
    """Options of ``ring``."""

    ring: str = option(doc="name of the ring", positional=True)
    size: int = option(1024, "packets it holds, a power of two")


class RingPort(Port):
    """One end of a ring, or both."""

    Options: ClassVar[type[Any]] = RingOptions
    receive = staticmethod(receive)
    transmit = staticmethod(transmit)
    offloads = Offload.HANDED_ON
    rx_queues = 1
    tx_queues = 0

    def __init__(self, spec: str, options: RingOptions) -> None:
        super().__init__(spec, options)
        size = options.size
        if not options.ring:
            raise PortError(f"port {spec!r} lacks a name: ring:NAME")
        if not 2 <= size <= LARGEST or size & (size - 1):
            raise PortError(f"port {spec!r}: size={size} must be a power of two, 2 to {LARGEST}")

    def open(self, pool: Pool, rx_queues: int, tx_queues: int) -> None:
        shared = self._join(pool, rx_queues)
        self._memory = Region(max(1, rx_queues + tx_queues) * _RECORD, "wirespeed-ring-port", huge=False)
        records = [self._memory.address + i * _RECORD for i in range(rx_queues + tx_queues)]
        self.rx, self.tx = records[:rx_queues], records[rx_queues:]
        for address in records:
            RingQueue(address).ring = shared.memory.address

    def _join(self, pool: Pool, rx_queues: int) -> _Shared:
        name, size = self.options.ring, self.options.size
        shared = _rings.get(name)
        if shared is None:
            memory = Region(RingView.bytes_needed(size), "wirespeed-ring", huge=False)
            format_ring(memory.address, size)
            shared = _Shared(memory, pool, size)
        if shared.size != size:
            raise PortError(f"port {self.spec!r}: size={size} must be {shared.size}, which ring {name!r} has")
        if shared.pool is not pool:
            raise PortError(f"port {self.spec!r}: ring {name!r} belongs to another engine: use another name")
        if rx_queues and shared.receiver:
            raise PortError(
                f"port {self.spec!r}: {shared.receiver!r} receives from ring {name!r} already: "
                "one port does, send on from there"
            )
        if rx_queues:
            shared.receiver = self.spec
        _rings[name] = shared
        shared.users += 1
        return shared

    @property
    def waiting(self) -> int:
        """Packets in the ring now."""
        shared = _rings.get(self.options.ring)
        return RingView(shared.memory.address).count if shared else 0

    def close(self) -> None:
        """Let go of the ring; the last port frees what is still in it."""
        shared = _rings[self.options.ring]
        shared.users -= 1
        if self.rx:
            shared.receiver = ""
        if not shared.users:
            del _rings[self.options.ring]
            drain(shared.memory.address, shared.pool)
            shared.memory.close()
        self._memory.close()

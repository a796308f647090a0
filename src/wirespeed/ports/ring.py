# mypy: allow-untyped-defs, allow-untyped-calls
"""ring: out at one place of a graph and in at another, of the same graph or of another one.

``ring:NAME,size=1024``. All ports of one name in this process share one ring (:mod:`wirespeed.sync.ring`):
every worker may send to it and one queue receives, so that packets come out in the order they went in.
What does not fit stays with the sender, who drops and counts it.

A graph whose engine takes ``guests`` lists its rings, and another graph, here or in another process, that joined its
pool (``Engine(graph, guest_of="edge")``) finds them by the same text. Packets are handed over as they are, nothing is
copied.

A receiver that has nothing to do sleeps: it says so in the ring's memory, looks once more, and blocks on the ring's
bell (:mod:`wirespeed.ports.ring_memory`); who sends next rings it.
"""

import os
from dataclasses import dataclass
from typing import Any, ClassVar

from wirespeed.errors import ArenaError, PortError
from wirespeed.jit import cold, fence, inline, kernel, le64
from wirespeed.jit.libc import read, write
from wirespeed.mem.pool import MAX_BURST, Cache, Pool
from wirespeed.mem.region import Region
from wirespeed.ports.offloads import Offload
from wirespeed.ports.options import option
from wirespeed.ports.port import Port
from wirespeed.ports.queue import Queue, bytes_of, count_burst
from wirespeed.ports.ring_memory import Bell, PacketRing, rings_of
from wirespeed.ports.status import Link
from wirespeed.sync.ring import RingView, mp_enqueue, sc_dequeue

LARGEST: int = 1 << 20
"""Most packets a ring may hold."""

_SIZE = 1024

_RECORD = 128
_WORD = 88  # where RingQueue.word is


class RingQueue(Queue):
    """A queue record with its ring."""

    ring = le64(64, "address of the ring")
    bell = le64(72, "address of what says that the receiver sleeps")
    pipe = le64(80, "descriptor that wakes it")
    word = le64(88, "1, to write there, and to read into")
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
        fence()  # sent first, then looked whether the receiver sleeps
        if Bell(record.bell).armed != 0:
            _wake(record)
    return sent


@cold
def _wake(record):
    Bell(record.bell).armed = 0
    write(record.pipe, record.address + _WORD, 8)


@inline
def arm(queue, on):
    """See :mod:`wirespeed.ports.queue`."""
    return _arm(RingQueue(queue), on)


@cold
def _arm(record, on):
    Bell(record.bell).armed = on
    if on == 0:
        read(record.pipe, record.address + _WORD, 8)
        return 0
    fence()
    return 1 if RingView(record.ring).count > 0 else 0


def check_size(spec: str, size: int) -> None:
    """Raises PortError: a ring cannot hold ``size`` packets."""
    if not 2 <= size <= LARGEST or size & (size - 1):
        raise PortError(f"port {spec!r}: size={size} must be a power of two, 2 to {LARGEST}")


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
    """One ring and who in this process uses it; ``arena`` tells its pool's memory from others'."""

    memory: PacketRing
    arena: int
    users: int = 0
    receiver: str = ""


_rings: dict[str, _Shared] = {}


@dataclass(frozen=True)
class RingOptions:
    """Options of ``ring``."""

    ring: str = option(doc="name of the ring", positional=True)
    size: int = option(0, f"packets it holds, a power of two; {_SIZE} unless said, or what it has already")


class RingPort(Port):
    """One end of a ring, or both."""

    Options: ClassVar[type[Any]] = RingOptions
    receive = staticmethod(receive)
    transmit = staticmethod(transmit)
    arm = staticmethod(arm)
    offloads = Offload.HANDED_ON
    rx_queues = 1
    tx_queues = 0

    def __init__(self, spec: str, options: RingOptions) -> None:
        super().__init__(spec, options)
        size = options.size
        if not options.ring:
            raise PortError(f"port {spec!r} lacks a name: ring:NAME")
        if size:
            check_size(spec, size)
        self._pool: Pool | None = None

    def open(self, pool: Pool, rx_queues: int, tx_queues: int) -> None:
        memory = self._join(pool, rx_queues).memory
        self._pool, self._said = pool, False
        self._memory = Region(max(1, rx_queues + tx_queues) * _RECORD, "wirespeed-ring-port", huge=False)
        records = [self._memory.address + i * _RECORD for i in range(rx_queues + tx_queues)]
        self.rx, self.tx = records[:rx_queues], records[rx_queues:]
        for address in records:
            record = RingQueue(address)
            record.ring, record.bell, record.pipe, record.word = memory.ring, memory.address, memory.bell, 1

    def _join(self, pool: Pool, rx_queues: int) -> _Shared:
        name, size = self.options.ring, self.options.size
        arena = os.fstat(pool.region.fd).st_ino
        shared = _rings.get(name)
        if shared is not None and shared.arena != arena:
            raise PortError(
                f"port {self.spec!r}: ring {name!r} belongs to another engine: use another name, or make this engine "
                "its guest (guest_of=)"
            )
        if shared is None:
            shared = _Shared(self._memory_of(pool), arena)
        try:
            if size not in (0, shared.memory.size):
                raise PortError(
                    f"port {self.spec!r}: size={size} must be {shared.memory.size}, which ring {name!r} has"
                )
            if rx_queues and (shared.receiver or not shared.memory.claim()):
                raise PortError(
                    f"port {self.spec!r}: {shared.receiver or 'another process'!r} receives from ring {name!r} "
                    "already: one port does, send on from there"
                )
        except PortError:
            if not shared.users:
                shared.memory.close()
            raise
        if rx_queues:
            shared.receiver = self.spec
        _rings[name] = shared
        shared.users += 1
        return shared

    def _memory_of(self, pool: Pool) -> PacketRing:
        """A new ring, or that of the graph whose pool it is."""
        name = f"{pool.name}.{self.options.ring}"
        try:
            if pool.guest:
                return PacketRing.join(name, pool.owner)
            return PacketRing(self.options.size or _SIZE, name if pool.guests else None)
        except ArenaError as error:
            there = rings_of(pool.name, pool.owner) if pool.guest else []
            hint = f"; it has {', '.join(there)}" if there else ""
            raise PortError(f"port {self.spec!r}: {error}{hint}") from error

    @property
    def waiting(self) -> int:
        """Packets in the ring now."""
        shared = _rings.get(self.options.ring)
        return RingView(shared.memory.ring).count if shared else 0

    def descriptors(self, queue: int) -> list[int]:
        """The bell."""
        return [_rings[self.options.ring].memory.bell]

    def link(self) -> Link:
        """Whether the graph that made the ring still runs."""
        shared = _rings.get(self.options.ring)
        up = shared is not None and shared.memory.alive
        return Link(up, detail="" if up else "the process that made the ring has ended")

    def facts(self) -> dict[str, str]:
        """Its size, and whose it is."""
        memory = _rings[self.options.ring].memory
        whose = {"of": f"process {memory.owner}"} if memory.owner != os.getpid() else {}
        return {"size": str(memory.size), **whose}

    def refresh(self) -> None:
        """Say once when the process that made the ring has ended."""
        if not self._said and not self.link().up:
            self._said = True
            self.events.say("gone", "the process that made the ring has ended")

    def close(self) -> None:
        """Let go of the ring; the last port frees what is still in it."""
        shared, pool = _rings[self.options.ring], self._pool
        assert pool is not None
        shared.users -= 1
        if self.rx:
            shared.receiver = ""
            shared.memory.unclaim()
        if not shared.users:
            del _rings[self.options.ring]
            if not pool.guest:
                drain(shared.memory.ring, pool)
            shared.memory.close()
        self._memory.close()

"""host: the way between the packet path and Python. What the graph sends here, Python polls; what Python
sends comes in here.

::

    worker 0 ──ring──▶ ┐
    worker 1 ──ring──▶ ┴──▶ poll()           fileno() is readable when there is something to poll
    worker   ◀──ring─────── send()           the worker's descriptor is readable when something was sent

For slow-path traffic: routing protocols, ARP, ping, tests. One thread may poll and send. Packets keep
their cells until they are polled, so ``size`` also bounds how many cells Python can hold up.
"""

import os
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from wirespeed.errors import PortError
from wirespeed.jit import load64, read_bytes, store64, write_bytes
from wirespeed.mem.descriptor import (
    CHAINED,
    META,
    NEEDS_CHECKSUM,
    ROOM,
    CellHeader,
    address_of,
    header_of,
    length_of,
)
from wirespeed.mem.pool import Pool
from wirespeed.mem.region import Region
from wirespeed.ports.finish import complete, segments
from wirespeed.ports.host import path as host_path
from wirespeed.ports.host.path import HostQueue
from wirespeed.ports.offloads import Offload
from wirespeed.ports.options import option
from wirespeed.ports.port import Port, PortStats
from wirespeed.ports.ring import LARGEST, drain
from wirespeed.sync.ring import RingView, format_ring

LONGEST: int = 65535
"""Bytes of the longest packet that can be sent."""

_SHORTEST = 14
_LINE = 128
_AT_ONCE = 64


class Received(NamedTuple):
    """A packet from the graph: its bytes, and the index of the port it came in by (-1: nobody noted it)."""

    data: bytes
    port: int


@dataclass(frozen=True)
class HostOptions:
    """Options of ``host``."""

    host: str = option("", "a name, to tell several apart", positional=True)
    size: int = option(512, "packets each direction holds, a power of two")


class Host(Port):
    """Packets to and from Python."""

    Options = HostOptions
    receive = staticmethod(host_path.receive)
    transmit = staticmethod(host_path.transmit)
    offloads = Offload.HANDED_ON
    rx_queues = 1
    tx_queues = 0

    def __init__(self, spec: str, options: HostOptions) -> None:
        super().__init__(spec, options)
        size = options.size
        if not 2 <= size <= LARGEST or size & (size - 1):
            raise PortError(f"port {spec!r}: size={size} must be a power of two, 2 to {LARGEST}")
        self._memory: Region | None = None
        self._refused = 0
        self._next = 0  # the queue to poll first, so that none starves

    def open(self, pool: Pool, rx_queues: int, tx_queues: int) -> None:
        """Lay out, from the start: two wake words, a vector for us, the records, the rings."""
        queues = rx_queues + tx_queues
        ring = RingView.bytes_needed(self.options.size)
        vector = max(_AT_ONCE, -(-LONGEST // ROOM)) * 8
        records = 2 * _LINE + -(-vector // _LINE) * _LINE
        rings = records + queues * HostQueue.SIZE
        self._memory = Region(rings + queues * ring, "wirespeed-host", huge=False)
        base = self._memory.address
        self._asleep, self._vector, self._pool = base, base + 2 * _LINE, pool
        self._readable = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._sent = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        all_records = [base + records + i * HostQueue.SIZE for i in range(queues)]
        self.rx, self.tx = all_records[:rx_queues], all_records[rx_queues:]
        for index, address in enumerate(all_records):
            format_ring(base + rings + index * ring, self.options.size)
            record = HostQueue(address)
            record.ring = base + rings + index * ring
            received = address in self.rx
            record.wake = base + _LINE if received else self._asleep
            record.eventfd = self._sent if received else self._readable
        host_path.declare_asleep(self._asleep)
        # What poll and send will need is compiled now, not when somebody waits for an answer.
        pool.release(self._vector, pool.take(self._vector, 1))

    def descriptors(self, queue: int) -> list[int]:
        return [self._sent]

    def fileno(self) -> int:
        """Readable when :meth:`poll` has something; for select, asyncio's ``add_reader`` and the like."""
        self._check()
        return self._readable

    def poll(self, limit: int = 64) -> list[Received]:
        """Up to ``limit`` packets that the graph sent here; never waits.

        Until it has returned less than ``limit``, :meth:`fileno` stays readable.

        Raises:
            PortError: the port is not open.
        """
        self._check()
        self._quieten()
        found = self._collect(limit)
        if len(found) < limit:
            host_path.declare_asleep(self._asleep)
            found += self._collect(limit - len(found))  # sent before the workers could know that we sleep
        if len(found) >= limit:
            self._rearm()
        return found

    def send(self, data: Any) -> bool:
        """Put a packet in the graph.

        Args:
            data: bytes from the Ethernet header on, or what ``bytes()`` makes them of (a scapy packet).

        Returns:
            False if there was no room or no cell; ``stats().rx_dropped`` counts it.

        Raises:
            PortError: the port is not open for receiving, or the packet is too short or too long.
        """
        self._check()
        frame = bytes(data)
        if not self.rx:
            raise PortError(f"port {self.spec!r} leads nowhere: the graph receives nothing from it")
        if not _SHORTEST <= len(frame) <= LONGEST:
            raise PortError(f"port {self.spec!r}: a packet of {len(frame)} bytes must have {_SHORTEST} to {LONGEST}")
        wake = -1
        if host_path.waiting(self.rx[0]) < self.options.size and self._compose(frame):
            wake = int(host_path.enqueue(self.rx[0], self._vector))
        if wake > 0:
            self._wake()
        self._refused += wake < 0
        return wake >= 0

    def stats(self) -> PortStats:
        """Counters now; what :meth:`send` could not place counts as dropped on receipt."""
        counted = super().stats()
        return replace(counted, rx_dropped=counted.rx_dropped + self._refused)

    def close(self) -> None:
        """Free what nobody polled or received."""
        self._check()
        assert self._memory
        for queue in (*self.rx, *self.tx):
            drain(HostQueue(queue).ring, self._pool)
        os.close(self._readable)
        os.close(self._sent)
        self._memory.close()
        self._memory = None

    # ---------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        if self._memory is None:
            raise PortError(f"port {self.spec!r} is not open: its graph does not run")

    def _quieten(self) -> None:
        """We are awake: no more wake-ups, and forget those that came."""
        host_path.declare_awake(self._asleep)
        with suppress(BlockingIOError):
            os.eventfd_read(self._readable)

    def _rearm(self) -> None:
        """Perhaps there is more: :meth:`fileno` says so, and we will be asked again."""
        os.eventfd_write(self._readable, 1)

    def _wake(self) -> None:
        """The worker slept, and there is something for it."""
        os.eventfd_write(self._sent, 1)

    def _collect(self, limit: int) -> list[Received]:
        """Take packets from all queues in turn."""
        found: list[Received] = []
        for _ in self.tx:
            queue = self.tx[self._next % len(self.tx)]
            self._next += 1
            while len(found) < limit:
                got = int(host_path.dequeue(queue, self._vector, min(_AT_ONCE, limit - len(found))))
                for i in range(got):
                    found += self._read(load64(self._vector + i * 8))
                self._pool.release(self._vector, got)
                if not got:
                    break
        return found

    def _read(self, desc: int) -> list[Received]:
        """A packet as frames, chain and all: what it left to hardware is done, so it may be several."""
        cells, parts = self._pool.cells, []
        meta = CellHeader(header_of(cells, desc)) if desc & META else None  # type: ignore[no-untyped-call]
        while True:
            parts.append(read_bytes(address_of(cells, desc), length_of(desc)))  # type: ignore[no-untyped-call]
            if not desc & CHAINED:
                break
            desc = CellHeader(header_of(cells, desc)).next  # type: ignore[no-untyped-call]
        frame = b"".join(parts)
        if meta is None:
            return [Received(frame, -1)]
        frames = [frame]
        if meta.gso_size:
            frames = segments(frame, meta.headers_length, meta.gso_size)
        elif meta.checksum_state == NEEDS_CHECKSUM:
            frames = [complete(frame, meta.checksum_start, meta.checksum_offset)]
        return [Received(each, meta.port) for each in frames]

    def _compose(self, frame: bytes) -> bool:
        """Put a frame in cells, the first one's descriptor at our vector. False if there are none."""
        cells = self._pool.cells
        wanted = -(-len(frame) // ROOM)
        got = self._pool.take(self._vector, wanted)
        if got < wanted:
            self._pool.release(self._vector, got)
            return False
        following = 0
        for index in reversed(range(wanted)):
            part = frame[index * ROOM : (index + 1) * ROOM]
            desc = load64(self._vector + index * 8) | len(part) << 48
            write_bytes(address_of(cells, desc), part)  # type: ignore[no-untyped-call]
            if following:
                header = CellHeader(header_of(cells, desc))  # type: ignore[no-untyped-call]
                header.next, header.length = following, len(frame)
                desc |= CHAINED
            following = desc
        store64(self._vector, following)
        return True

"""What tests of drivers share: a pool that must be whole afterwards, and a worker without a graph."""

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from wirespeed.jit import kernel, load64, read_bytes, store64, write_bytes
from wirespeed.mem.descriptor import (
    CHAINED,
    META,
    ROOM,
    CellHeader,
    address_of,
    header_of,
    length_of,
)
from wirespeed.mem.pool import Pool
from wirespeed.mem.region import Region
from wirespeed.ports.queue import ENDED

_VECTOR = 512


@functools.cache
def _kernel(function: Callable[..., int]) -> Callable[..., int]:
    """A kernel that calls ``function(queue, cache, vector, count)`` once."""

    @kernel
    def call(queue, cache, vector, count):  # type: ignore[no-untyped-def]
        return function(queue, cache, vector, count)

    return call  # type: ignore[no-any-return]


class Worker:
    """A worker's view of ports: bursts in, bursts out; packets as bytes."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.cache = pool.cache(0)
        self._memory = Region(8 * _VECTOR, "test-vector", huge=False)
        self.vector = self._memory.address

    def close(self) -> None:
        self._memory.close()

    def burst(self, port: Any, room: int = 32, queue: int = 0) -> list[int] | None:
        """Descriptors of one call of ``receive``; None when the input is over."""
        got = _kernel(port.receive)(port.rx[queue], self.cache, self.vector, room)
        return None if got == ENDED else [load64(self.vector + 8 * i) for i in range(got)]

    def send(self, port: Any, descriptors: list[int], queue: int = 0) -> int:
        """One call of ``transmit``; how many it took."""
        for i, desc in enumerate(descriptors):
            store64(self.vector + 8 * i, desc)
        return int(_kernel(port.transmit)(port.tx[queue], self.cache, self.vector, len(descriptors)))

    def stage(self, function: Callable[..., int], record: int, descriptors: list[int]) -> list[int]:
        """One call of a stage behind ``receive``; the descriptors that stay."""
        for i, desc in enumerate(descriptors):
            store64(self.vector + 8 * i, desc)
        kept = _kernel(function)(record, self.cache, self.vector, len(descriptors))
        return [load64(self.vector + 8 * i) for i in range(kept)]

    def free(self, descriptors: list[int]) -> None:
        for i, desc in enumerate(descriptors):
            store64(self.vector + 8 * i, desc)
        self.pool.release(self.vector, len(descriptors))

    def packet(self, desc: int) -> bytes:
        """The bytes of a packet, chain and all; checks what a chain says of itself."""
        first, cells, data = desc, self.pool.cells, b""
        while True:
            data += read_bytes(address_of(cells, desc), length_of(desc))
            if not desc & CHAINED:
                break
            desc = CellHeader(header_of(cells, desc)).next
        if first & CHAINED:
            assert CellHeader(header_of(cells, first)).length == len(data)
        return data

    def header(self, desc: int) -> CellHeader:
        return CellHeader(header_of(self.pool.cells, desc))

    def make(self, data: bytes, **metadata: int) -> int:
        """A packet of these bytes, in a chain if one cell is too small, with these header fields."""
        pieces = [data[i : i + ROOM] for i in range(0, len(data), ROOM)] or [b""]
        assert self.pool.take(self.vector, len(pieces)) == len(pieces)
        descs = [load64(self.vector + 8 * i) for i in range(len(pieces))]
        for i, piece in enumerate(pieces):
            write_bytes(address_of(self.pool.cells, descs[i]), piece)
            descs[i] |= len(piece) << 48 | (CHAINED if i < len(pieces) - 1 else 0)
        for desc, following in itertools.pairwise(descs):
            self.header(desc).next = following
        header = self.header(descs[0])
        header.length = len(data)
        if metadata:
            write_bytes(header.address + 16, bytes(48))
            descs[0] |= META
        for name, value in metadata.items():
            setattr(header, name, value)
        return descs[0]

    def packet_list(self, port: Any, room: int = 32, queue: int = 0) -> list[bytes]:
        """The packets of one burst; they are freed."""
        descs = self.burst(port, room, queue) or []
        packets = [self.packet(desc) for desc in descs]
        self.free(descs)
        return packets

    def receive_all(self, port: Any, room: int = 32, calls: int = 100_000) -> list[bytes]:
        """Every packet until the input is over; each is freed. ``calls`` bounds the wait."""
        packets: list[bytes] = []
        for _ in range(calls):
            descs = self.burst(port, room)
            if descs is None:
                return packets
            assert len(descs) <= room
            packets += [self.packet(desc) for desc in descs]
            self.free(descs)
        raise AssertionError(f"{port} did not end within {calls} calls")


@pytest.fixture
def pool() -> Iterator[Pool]:
    """A pool for one worker; every packet must be back at the end."""
    pool = Pool(2048)
    try:
        yield pool
        assert pool.in_use == 0
    finally:
        pool.close()


@pytest.fixture
def worker(pool: Pool) -> Iterator[Worker]:
    """A worker on that pool."""
    worker = Worker(pool)
    yield worker
    worker.close()


@pytest.fixture
def worker_of() -> Iterator[Callable[[Pool], Worker]]:
    """``worker_of(pool)``: a worker on another pool."""
    made: list[Worker] = []

    def make(pool: Pool) -> Worker:
        made.append(Worker(pool))
        return made[-1]

    yield make
    for worker in made:
        worker.close()

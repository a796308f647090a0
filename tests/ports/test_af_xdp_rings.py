"""af_xdp's rings by hand: records and rings in plain memory, and a kernel that is not there."""

import contextlib
import errno
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from wirespeed.jit import COMPILED, load32, load64, store32, store64
from wirespeed.mem.pool import Pool
from wirespeed.mem.region import Region
from wirespeed.ports.af_xdp import socket as xsk
from wirespeed.ports.af_xdp import transmit
from wirespeed.ports.af_xdp.receive import receive_burst
from wirespeed.ports.af_xdp.rings import NEED_WAKEUP, TX_BYTES, Leg, RxQueue, TxQueue
from wirespeed.ports.af_xdp.socket import Wish, Xsk

if TYPE_CHECKING:
    from tests.ports.conftest import Worker

interpreted = pytest.mark.skipif(COMPILED, reason="the kernel's part is played in Python")
RING = 256
_INDEXES, _SENT, _DONE, _LEDGER = TX_BYTES, TX_BYTES + 256, TX_BYTES + 256 + 16 * RING, TX_BYTES + 256 + 24 * RING


class Kernel:
    """A transmit queue and, behind ``sendto``, what net/xdp/xsk.c and xsk_queue.h do with its rings in copy mode.

    It reads the producer index when it has seen all up to the one it knows, and not before; it writes its own then, and
    when a packet was sent.

    Attributes:
        room: packets that the interface still takes; EAGAIN then.
        drops: numbers of packets that the interface drops.
        sent: the first byte of each packet that left.
        down: the interface is.
    """

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self._memory = Region(_LEDGER + pool.size, "test-xsk", huge=False)
        at = self._memory.address
        self.queue = TxQueue(at)
        queue = self.queue
        queue.live = queue.synchronous = queue.segments = 1
        queue.producer, queue.consumer, queue.flags = at + _INDEXES, at + _INDEXES + 64, at + _INDEXES + 8
        queue.done_producer, queue.done_consumer = at + _INDEXES + 128, at + _INDEXES + 192
        queue.ring, queue.size, queue.done_ring, queue.done_mask = at + _SENT, RING, at + _DONE, RING - 1
        queue.ledger, queue.longest, queue.scratch = at + _LEDGER, 1518, at + TxQueue.SIZE
        self.known = self.seen = self.done = 0
        self.room, self.budget, self.down = 1 << 30, 32, False
        self.drops: set[int] = set()
        self.sent: list[int] = []
        self._number = 0
        self.reason = 0

    def close(self) -> None:
        self._memory.close()

    def sendto(self, *_: Any) -> int:
        if self.down:
            return self._failed(errno.ENETDOWN, False)
        sent = False
        for _ in range(self.budget):
            if self.seen == self.known:
                store32(self.queue.consumer, self.seen)
                self.known = load32(self.queue.producer)
            if self.seen == self.known:
                return 0
            if self.room == 0:
                return self._failed(errno.EAGAIN, sent)
            slot = self.queue.ring + (self.seen % RING) * 16
            self.seen += 1
            self._number += 1
            store64(self.queue.done_ring + (self.done % RING) * 8, load64(slot))
            self.done += 1
            store32(self.queue.done_producer, self.done)
            if self._number - 1 in self.drops:
                return self._failed(errno.EBUSY, sent)
            self.sent.append(load64(self.pool.cells + load64(slot)) & 0xFF)
            self.room -= 1
            sent = True
        return self._failed(errno.EAGAIN, sent)

    def _failed(self, reason: int, sent: bool) -> int:
        self.reason = reason
        if sent:
            store32(self.queue.consumer, self.seen)
        return -1


@pytest.fixture
def kernel(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    with contextlib.closing(Kernel(pool)) as made:
        monkeypatch.setattr(transmit, "sendto", made.sendto)
        monkeypatch.setattr(transmit, "errno", lambda: made.reason)
        yield made


def _send(worker: "Worker", kernel: Kernel, numbers: range) -> int:
    """Offer packets that begin with these numbers; what is not taken is freed."""
    descs = [worker.make(bytes([number]) + bytes(59)) for number in numbers]
    for i, desc in enumerate(descs):
        store64(worker.vector + 8 * i, desc)
    taken = int(transmit.transmit_burst(kernel.queue.address, worker.cache, worker.vector, len(descs)))
    worker.free(descs[taken:])
    return taken


@interpreted
def test_what_the_kernel_has_seen_stays_in_the_ring(worker: "Worker", kernel: Kernel) -> None:
    """Each packet leaves once, in order, with its own bytes, also when the interface stopped in the middle."""
    kernel.room = 10
    assert _send(worker, kernel, range(64)) == 64
    assert kernel.sent == [*range(10)]
    kernel.room = 1 << 30
    assert _send(worker, kernel, range(64, 65)) == 1
    assert kernel.sent == [*range(65)]
    assert _send(worker, kernel, range(65, 66)) == 1  # takes back what was sent before
    transmit._complete(kernel.queue.address, worker.cache)
    assert kernel.queue.packets == 66


@interpreted
@pytest.mark.parametrize("drops", [{0}, {0, 1, 2}, {31, 32, 63}, set(range(64))])
def test_drops_that_are_seen_late(worker: "Worker", kernel: Kernel, drops: set[int]) -> None:
    """The kernel says EBUSY and does not always write how far it is."""
    kernel.drops = drops
    assert _send(worker, kernel, range(64)) == 64
    assert kernel.sent == [number for number in range(64) if number not in drops]
    transmit._complete(kernel.queue.address, worker.cache)
    assert (kernel.queue.packets, kernel.queue.dropped) == (64 - len(drops), len(drops))


@interpreted
def test_what_is_refused_unseen_is_the_callers(worker: "Worker", kernel: Kernel) -> None:
    kernel.room = 3
    assert _send(worker, kernel, range(5)) == 5
    kernel.down = True
    assert _send(worker, kernel, range(5, 9)) == 0
    kernel.down, kernel.room = False, 1 << 30
    assert _send(worker, kernel, range(9, 11)) == 2
    transmit._complete(kernel.queue.address, worker.cache)
    assert kernel.sent == [*range(5), 9, 10]


def test_a_driver_that_waits_for_cells_is_told(worker: "Worker") -> None:
    """It has them all already: nothing is missing, so only the empty ring is a reason to look at its flag."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs, contextlib.closing(Region(4096, "test-leg", huge=False)) as memory:
        theirs.send(b"woken")
        ours.setblocking(False)
        queue, leg = RxQueue(memory.address), Leg(memory.address + 512)
        queue.leg, queue.legs, leg.next = leg.address, 1, leg.address
        leg.fd, leg.live, leg.held, leg.target, leg.few = ours.fileno(), 1, 64, 64, 8
        leg.producer, leg.consumer, leg.fill_flags = (memory.address + 1024 + 64 * i for i in range(3))
        leg.ring = memory.address + 2048
        assert receive_burst(queue.address, worker.cache, worker.vector, 32) == 0
        assert ours.recv(16) == b"woken"
        theirs.send(b"woken")
        store32(leg.fill_flags, NEED_WAKEUP)
        assert receive_burst(queue.address, worker.cache, worker.vector, 32) == 0
        with pytest.raises(BlockingIOError):
            ours.recv(16)


@pytest.mark.parametrize(
    ("most", "needs", "zero_copy", "segments"),
    [(1, False, True, False), (1, True, False, True), (5, False, True, True), (0, False, False, True)],
)
def test_zero_copy_before_segments(
    most: int, needs: bool, zero_copy: bool, segments: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver whose zero-copy takes packets of ``most`` descriptors (0: it has none); as xp_assign_dev answers."""
    tried: list[int] = []

    def bind(self: Xsk, flags: int, index: int, shared: int) -> None:
        tried.append(flags)
        if flags & xsk._ZERO_COPY and (most == 0 or (most == 1 and flags & xsk._SEGMENTS)):
            raise OSError(errno.EOPNOTSUPP, "not supported")

    class Options:
        def getsockopt(self, *_: int) -> bytes:
            return (tried[-1] & xsk._ZERO_COPY and 1).to_bytes(4, "little")

    monkeypatch.setattr(Xsk, "_bind_as", bind)
    made = Xsk.__new__(Xsk)
    made.socket = Options()  # type: ignore[assignment]
    made._bind(1, Wish(64, 64, 64, 128, None, True, needs, 0, 0), None)
    assert (made.zero_copy, made.segments) == (zero_copy, segments)

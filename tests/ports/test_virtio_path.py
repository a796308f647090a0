"""Virtqueues seen from their driver: bursts against a device in plain Python, well-behaved and hostile."""

import contextlib
import itertools
import os
import random
import select
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from virtio_device import Buffer, Device

from wirespeed.jit import COMPILED, kernel, write_bytes
from wirespeed.mem.descriptor import ROOM, SHARED
from wirespeed.mem.pool import Pool, share
from wirespeed.mem.region import Region
from wirespeed.ports.virtio.path import arm, receive, transmit
from wirespeed.ports.virtio.port import _reclaim
from wirespeed.ports.virtio.record import (
    CHECKSUM,
    DISORDER,
    EVENT_IDX,
    HEADER,
    IN_ORDER,
    INDIRECT_TABLES,
    JUMPED,
    LENGTH,
    MERGE,
    NOT_HELD,
    OFFLOADS,
    PACKED,
    SEGMENTATION,
    SPREAD,
    UNKNOWN,
    VirtioQueue,
    format_queue,
    private_bytes,
    reset_queue,
    shared_bytes,
)

SIZE = 16
LAYOUTS = pytest.mark.parametrize("layout", [0, PACKED], ids=["split", "packed"])
FRAME = bytes(range(60))


class Queues:
    """A receive and a transmit queue with a device behind each; a port as far as a worker needs one."""

    receive, transmit = staticmethod(receive), staticmethod(transmit)

    def __init__(self, pool: Any, mode: int, size: int = SIZE) -> None:
        self.pool = pool
        self.private = Region(2 * private_bytes(size), "test-private", huge=False)
        self.shared = Region(shared_bytes(size, False) + shared_bytes(size, True), "test-rings", huge=False)
        self.fds = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(5)]
        addresses = [self.private.address, self.private.address + private_bytes(size)]
        rings = [self.shared.address, self.shared.address + shared_bytes(size, False)]
        for transmits in (False, True):
            address = addresses[transmits]
            format_queue(address, rings[transmits], size, *self.fds[2 * transmits :][:2], self.fds[4], transmits)
            reset_queue(address, mode, transmits)
            VirtioQueue(address).live = 1
        self.rx, self.tx = addresses[:1], addresses[1:]
        self.incoming, self.outgoing = Device(VirtioQueue(self.rx[0])), Device(VirtioQueue(self.tx[0]))

    def deliver(self, *frames: bytes, header: bytes = bytes(10), pieces: list[int] | None = None) -> None:
        """Let the device send frames, each cut into buffers of these sizes if ``pieces`` says so."""
        for frame in frames:
            cuts = pieces or [len(frame)]
            data = header + struct.pack("<H", len(cuts)) + frame
            given = []
            for number, size in enumerate(cuts):
                part, data = (data[: size + HEADER * (number == 0)], data[size + HEADER * (number == 0) :])
                buffer = self.incoming.take()
                assert buffer is not None
                buffer.put(part)
                given.append((buffer, len(part)))
            self.incoming.give(*given)

    def sent(self) -> list[bytes]:
        """What the driver has sent, without headers; given back in order."""
        buffers = self.outgoing.take_all()
        frames = [buffer.data()[HEADER:] for buffer in buffers]
        self.outgoing.give(*[(buffer, 0) for buffer in buffers])
        return frames

    @property
    def faults(self) -> tuple[int, int]:
        return VirtioQueue(self.rx[0]).fault, VirtioQueue(self.tx[0]).fault

    def close(self) -> None:
        for address in (*self.rx, *self.tx):
            VirtioQueue(address).live = 0
            _reclaim(address, self.pool.cache(0))
        for region in (self.private, self.shared):
            region.close()
        for fd in self.fds:
            os.close(fd)


@pytest.fixture
def queues(pool: Any) -> Iterator[Any]:
    """``queues(mode)``; every cell must be back at the end."""
    made: list[Queues] = []

    def make(mode: int, size: int = SIZE) -> Queues:
        made.append(Queues(pool, mode, size))
        return made[-1]

    yield make
    for each in made:
        each.close()


def receive_now(worker: Any, port: Queues, room: int = 32) -> list[bytes]:
    descs = worker.burst(port, room)
    frames = [worker.packet(desc) for desc in descs]
    worker.free(descs)
    return frames


# As it should be -----------------------------------------------------------------------------------------

EXTRAS = [0, MERGE, OFFLOADS | CHECKSUM, MERGE | OFFLOADS | INDIRECT_TABLES | IN_ORDER, EVENT_IDX]


@LAYOUTS
@pytest.mark.parametrize("extra", EXTRAS)
def test_receive(queues, worker, layout, extra):
    port = queues(layout | extra)
    assert receive_now(worker, port) == []  # and the ring is filled
    for turn in range(3 * SIZE):  # three laps
        frames = [bytes([turn, i]) + FRAME for i in range(1 + turn % 5)]
        port.deliver(*frames)
        assert receive_now(worker, port) == frames
    record = VirtioQueue(port.rx[0])
    assert record.plain == 1
    assert record.packets == sum(1 + turn % 5 for turn in range(3 * SIZE))
    assert record.bytes == record.packets * 62


@LAYOUTS
@pytest.mark.parametrize("extra", EXTRAS)
def test_transmit(queues, worker, layout, extra):
    port = queues(layout | extra)
    for turn in range(3 * SIZE):
        frames = [bytes([turn, i]) + FRAME for i in range(1 + turn % 5)]
        assert worker.send(port, [worker.make(frame) for frame in frames]) == len(frames)
        assert port.sent() == frames
    record = VirtioQueue(port.tx[0])
    assert record.plain == 1
    assert record.packets == sum(1 + turn % 5 for turn in range(3 * SIZE))
    assert record.bytes == record.packets * 62


@LAYOUTS
def test_room_bounds_a_burst(queues, worker, layout):
    port = queues(layout)
    receive_now(worker, port)
    frames = [bytes([i]) + FRAME for i in range(10)]
    port.deliver(*frames)
    assert receive_now(worker, port, 4) == frames[:4]
    assert receive_now(worker, port, 4) == frames[4:8]
    assert receive_now(worker, port, 4) == frames[8:]


@LAYOUTS
def test_a_full_ring_leaves_packets_to_the_caller(queues, worker, layout):
    port = queues(layout)
    descs = [worker.make(bytes([i]) + FRAME) for i in range(SIZE + 3)]
    assert worker.send(port, descs) == SIZE
    assert worker.send(port, descs[SIZE:]) == 0
    assert port.sent() == [bytes([i]) + FRAME for i in range(SIZE)]
    assert worker.send(port, descs[SIZE:]) == 3
    assert port.sent() == [bytes([i]) + FRAME for i in range(SIZE, SIZE + 3)]


@LAYOUTS
def test_a_queue_that_is_not_live_does_nothing(queues, worker, layout):
    port = queues(layout)
    for queue in (*port.rx, *port.tx):
        VirtioQueue(queue).live = 0
    desc = worker.make(FRAME)
    assert worker.burst(port) == []
    assert worker.send(port, [desc]) == 0
    worker.free([desc])
    assert port.incoming.take() is None


@LAYOUTS
@pytest.mark.parametrize("ordered", [0, IN_ORDER])
def test_a_packet_in_several_buffers(queues, worker, layout, ordered):
    port = queues(layout | MERGE | ordered)
    receive_now(worker, port)
    for turn in range(20):
        frame = os.urandom(4000)
        port.deliver(FRAME)
        port.deliver(frame, pieces=[1500, 1, 1500, 999])
        port.deliver(FRAME)
        assert receive_now(worker, port) == [FRAME, frame, FRAME], turn
    assert VirtioQueue(port.rx[0]).merged == 20


@LAYOUTS
def test_half_a_packet_waits(queues, worker, layout):
    """The buffers of a packet may become used one after the other."""
    port = queues(layout | MERGE)
    receive_now(worker, port)
    first, second = port.incoming.take(), port.incoming.take()
    first.put(bytes(10) + b"\2\0" + FRAME)
    second.put(b"more")
    port.incoming.give((first, HEADER + 60))
    assert receive_now(worker, port) == []
    port.incoming.give((second, 4))
    assert receive_now(worker, port) == [FRAME + b"more"]


@LAYOUTS
@pytest.mark.parametrize("indirect", [0, INDIRECT_TABLES], ids=["chain", "indirect"])
@pytest.mark.parametrize("ordered", [0, IN_ORDER])
def test_chains_are_sent(queues, worker, layout, indirect, ordered):
    port = queues(layout | indirect | ordered)
    for turn in range(20):
        frames = [FRAME, os.urandom(3 * ROOM - turn), bytes([turn]) + FRAME, os.urandom(2 * ROOM)]
        assert worker.send(port, [worker.make(frame) for frame in frames]) == 4, turn
        assert port.sent() == frames
    assert VirtioQueue(port.tx[0]).plain == (1 if indirect else 0)


@LAYOUTS
@pytest.mark.parametrize("indirect", [0, INDIRECT_TABLES], ids=["chain", "indirect"])
def test_a_packet_that_is_held_elsewhere_keeps_its_headroom(queues, worker, layout, indirect):
    port = queues(layout | indirect)
    desc = _share(worker.pool.cells, worker.make(FRAME))
    assert desc & SHARED
    before = desc & ~(0xFFF | 0xFFFF << 48) | (desc & 0xFFF) - 20 | 20 << 48
    mark = worker.packet(before)
    assert worker.send(port, [desc]) == 1
    assert port.sent() == [FRAME]
    assert worker.packet(before) == mark
    assert worker.packet(desc) == FRAME
    worker.free([desc])


@kernel
def _share(cells, desc):  # type: ignore[no-untyped-def]
    return share(cells, desc)


@LAYOUTS
def test_a_packet_without_headroom(queues, worker, layout):
    port = queues(layout)
    desc = worker.make(FRAME)
    desc = desc & ~(0xFFF | 0xFFFF << 48) | 64 | ((desc & 0xFFF) - 64 + 60) << 48
    data = worker.packet(desc)
    assert worker.send(port, [desc]) == 1
    assert port.sent() == [data]


@LAYOUTS
def test_offloads_both_ways(queues, worker, layout):
    port = queues(layout | OFFLOADS | CHECKSUM | SEGMENTATION | MERGE)
    receive_now(worker, port)
    header = struct.pack("<BBHHHH", 1, 1, 54, 1448, 34, 16)
    frame = bytes(46) + b"\x50" + bytes(3000)  # the TCP header says that it has 20 bytes
    port.deliver(frame, header=header, pieces=[1500, len(frame) - 1500])
    (desc,) = worker.burst(port)
    line = worker.header(desc)
    assert (line.gso_size, line.gso_type, line.checksum_start, line.checksum_offset) == (1448, 1, 34, 16)
    assert worker.send(port, [desc]) == 1
    (buffer,) = port.outgoing.take_all()
    assert buffer.data() == header + bytes(2) + frame
    port.outgoing.give((buffer, 0))


@LAYOUTS
def test_offloads_that_were_not_agreed_on_are_errors(queues, worker, layout):
    port = queues(layout)
    summed = worker.make(FRAME, checksum_state=1, checksum_start=34, checksum_offset=16)
    cut = worker.make(FRAME, gso_size=20, gso_type=1)
    stamped = worker.make(FRAME, timestamp=17)
    assert worker.send(port, [summed, stamped, cut]) == 3
    assert port.sent() == [FRAME]
    record = VirtioQueue(port.tx[0])
    assert (record.packets, record.errors, record.bytes) == (1, 2, 60)


@LAYOUTS
def test_frames_that_are_none_are_errors(queues, worker, layout):
    port = queues(layout | OFFLOADS | MERGE)
    receive_now(worker, port)
    port.deliver(b"short", FRAME)
    port.deliver(FRAME, header=struct.pack("<BBHHHH", 1, 0, 0, 0, 59, 16))  # a checksum beyond the end
    port.deliver(FRAME)
    assert receive_now(worker, port) == [FRAME, FRAME]
    assert VirtioQueue(port.rx[0]).errors == 2
    assert port.faults == (0, 0)


# Notifications -------------------------------------------------------------------------------------------


def _told(fd: int) -> bool:
    try:
        return os.eventfd_read(fd) > 0
    except BlockingIOError:
        return False


@LAYOUTS
@pytest.mark.parametrize("events", [0, EVENT_IDX])
def test_kicks_only_when_asked_for(queues, worker, layout, events):
    port = queues(layout | events)
    kick = VirtioQueue(port.tx[0]).kick
    for turn in range(40):
        wanted = turn % 3 == 0
        port.outgoing.wants_kicks(wanted)
        assert worker.send(port, [worker.make(FRAME)] * 1) == 1
        assert _told(kick) == wanted, turn
        assert port.sent() == [FRAME]


@kernel
def _arm(queue, on):  # type: ignore[no-untyped-def]
    return arm(queue, on)


@LAYOUTS
@pytest.mark.parametrize("events", [0, EVENT_IDX])
def test_arm_asks_for_interrupts(queues, worker, layout, events):
    port = queues(layout | events)
    receive_now(worker, port)
    record = VirtioQueue(port.rx[0])
    bell = select.epoll()
    bell.register(record.call, select.EPOLLIN | select.EPOLLET)
    record.epoll = bell.fileno()
    for turn in range(40):
        before = port.incoming.used
        assert _arm(port.rx[0], 1) == 0
        assert port.incoming.may_interrupt(before), turn
        os.eventfd_write(record.call, 1)
        assert _arm(port.rx[0], 0) == 0
        assert bell.poll(0) == []
        if not events or layout:
            assert not port.incoming.may_interrupt(before)
        port.deliver(FRAME)
        assert _arm(port.rx[0], 1) == 1  # something came meanwhile: do not sleep
        _arm(port.rx[0], 0)
        assert receive_now(worker, port) == [FRAME]
    bell.close()


# Against a model: any device that keeps the rules ---------------------------------------------------------


@LAYOUTS
@pytest.mark.parametrize("indirect", [0, INDIRECT_TABLES], ids=["chain", "indirect"])
@pytest.mark.parametrize("order", ["in turn", "agreed", "any"])
def test_any_order_that_was_agreed_on(queues, worker, layout, indirect, order):
    """Random bursts, sizes and completions; every packet arrives once, every cell comes back."""
    chance = random.Random(f"{layout} {indirect} {order}")
    port = queues(layout | indirect | MERGE | (IN_ORDER if order == "agreed" else 0))
    numbers = itertools.count()
    held: list[Buffer] = []
    lent: list[Buffer] = []
    expected_out: list[bytes] = []
    expected_in: list[bytes] = []
    for _ in range(400 if COMPILED else 80):
        frames = [next(numbers).to_bytes(4) + os.urandom(chance.choice([10, 56, 1500, 3500])) for _ in range(3)]
        descs = [worker.make(frame) for frame in frames]
        sent = worker.send(port, descs)
        expected_out += frames[:sent]
        worker.free(descs[sent:])
        held += port.outgoing.take_all()
        if order == "any":
            chance.shuffle(held)
        many = chance.randrange(len(held) + 1)
        back, held = held[:many], held[many:]
        for buffer in back:
            expected_out.remove(buffer.data()[HEADER:])
        if order == "agreed" and back and chance.random() < 0.5:
            port.outgoing.skip_to(back)
        else:
            port.outgoing.give(*[(buffer, 0) for buffer in back])
        lent += port.incoming.take_all()
        if order == "any":
            chance.shuffle(lent)
        while lent and chance.random() < 0.6:
            parts = min(chance.choice([1, 1, 1, 3]), len(lent))
            data = [next(numbers).to_bytes(4) + os.urandom(20 + at) for at in range(parts)]
            given = []
            for at, part in enumerate(data):
                part = (bytes(10) + struct.pack("<H", parts) if at == 0 else b"") + part
                lent[at].put(part)
                given.append((lent[at], len(part)))
            port.incoming.give(*given)
            lent = lent[parts:]
            expected_in.append(b"".join(data))
        got = receive_now(worker, port, chance.choice([1, 5, 32]))
        assert got == expected_in[: len(got)]
        expected_in = expected_in[len(got) :]
        assert port.faults == (0, 0)


# Hostile devices -----------------------------------------------------------------------------------------


def _blamed(worker: Any, port: Queues, transmits: bool) -> int:
    """Let the driver look; what it found, that it says so once, and that it keeps off from then on."""
    queue = (port.tx if transmits else port.rx)[0]
    assert not _told(port.fds[4])
    if transmits:
        for _ in range(SIZE):
            worker.free([desc for desc in [worker.make(FRAME)] if not worker.send(port, [desc])])
    else:
        assert receive_now(worker, port) == []
        assert receive_now(worker, port) == []
    found = VirtioQueue(queue).fault
    assert _told(port.fds[4]) == (found != 0)
    return found


def _ready(queues: Any, worker: Any, mode: int, transmits: bool) -> tuple[Queues, Device]:
    """A queue in which the device has buffers."""
    port = queues(mode)
    receive_now(worker, port)
    worker.send(port, [worker.make(FRAME) for _ in range(10)])
    device = port.outgoing if transmits else port.incoming
    assert device.take_all()
    return port, device


BOTH = pytest.mark.parametrize("transmits", [False, True], ids=["receive", "transmit"])


@LAYOUTS
@BOTH
@pytest.mark.parametrize("order", [0, IN_ORDER])
@pytest.mark.parametrize("id", [SIZE, SIZE + 1, 0xFFFF, 0x7FFF])
def test_an_id_that_does_not_exist(queues, worker, layout, transmits, id, order):
    port, device = _ready(queues, worker, layout | order, transmits)
    device.give_raw(id, 100)
    if not layout and order and transmits:
        assert _blamed(worker, port, transmits) == 0  # nobody looks at ids of an order that was agreed on
    else:
        assert _blamed(worker, port, transmits) == (DISORDER if order and transmits else UNKNOWN)


@LAYOUTS
@BOTH
def test_an_id_that_was_used_already(queues, worker, layout, transmits):
    port, device = _ready(queues, worker, layout, transmits)
    device.give_raw(0, 100)
    if not transmits:
        assert len(receive_now(worker, port)) == 1
        port.incoming.take_all()
    device.give_raw(0, 100)
    assert _blamed(worker, port, transmits) == NOT_HELD


@LAYOUTS
def test_an_id_that_was_never_given(queues, worker, layout):
    port, device = _ready(queues, worker, layout, True)
    device.give_raw(12, 0)
    assert _blamed(worker, port, True) == NOT_HELD


def test_a_used_index_that_jumps(queues, worker):
    for transmits, jump in itertools.product((False, True), (SIZE + 1, 1000, 0x8000, 0xFFFF)):
        port, device = _ready(queues, worker, 0, transmits)
        device.used = jump - 1
        device.give_raw(0, 100)
        assert _blamed(worker, port, transmits) == JUMPED


@LAYOUTS
@pytest.mark.parametrize("length", [0, HEADER - 1, ROOM + 1, 0xFFFF, 0xFFFF_FFFF])
def test_a_length_that_no_buffer_has(queues, worker, layout, length):
    port, device = _ready(queues, worker, layout, False)
    device.give_raw(0, length)
    assert _blamed(worker, port, False) == LENGTH


@LAYOUTS
@pytest.mark.parametrize("buffers", [0, 65, 0xFFFF])
def test_more_buffers_than_a_packet_can_have(queues, worker, layout, buffers):
    port = queues(layout | MERGE)
    receive_now(worker, port)
    buffer = port.incoming.take()
    buffer.put(bytes(10) + struct.pack("<H", buffers) + FRAME)
    port.incoming.give((buffer, 72))
    assert _blamed(worker, port, False) == SPREAD


@LAYOUTS
def test_disorder_after_order_was_agreed_on(queues, worker, layout):
    port, device = _ready(queues, worker, layout | IN_ORDER, False)
    device.give_raw(3, 100)
    assert _blamed(worker, port, False) == DISORDER


@LAYOUTS
@BOTH
@given(data=st.data())
def test_whatever_a_device_writes(worker, layout, transmits, data):
    """Any bytes in everything that the device can write: no access outside (interpreted), no cell lost or doubled."""
    with Pool(256, cache=32, batch=16) as pool, contextlib.closing(type(worker)(pool)) as own:
        _let_it_write(pool, own, layout, transmits, data)
        assert pool.in_use == 0
        assert len(pool.used_cells()) == 0  # as many as there are, and each of them: none is there twice


def _let_it_write(pool, worker, layout, transmits, data):
    extra = data.draw(st.sampled_from([0, MERGE, IN_ORDER, MERGE | OFFLOADS | IN_ORDER, INDIRECT_TABLES, EVENT_IDX]))
    port = Queues(pool, layout | extra)
    outstanding: list[int] = []
    try:
        receive_now(worker, port)
        record = VirtioQueue(port.tx[0] if transmits else port.rx[0])
        for _ in range(data.draw(st.integers(1, 6))):
            for _ in range(data.draw(st.integers(0, 3))):
                place = data.draw(st.sampled_from(["ring", "device", "honest", "header", "index"]))
                if place == "honest":
                    device = port.outgoing if transmits else port.incoming
                    device.give_raw(device.used & (SIZE - 1), 72)
                    continue
                base, size = {
                    "ring": (record.descriptors, 16 * SIZE),
                    "device": (record.device, 6 + 8 * SIZE),
                    "header": (port.pool.cells, 4096),
                    "index": (record.device, 4),
                }[place]
                bytes_ = data.draw(st.binary(min_size=1, max_size=16))
                at = data.draw(st.integers(0, size - 1))
                if place == "header":
                    at = 256 + at % 12
                write_bytes(base + at, bytes_[: size - at])
            outstanding += worker.burst(port, 8)
            assert len({desc >> 12 & 0xFFFF_FFFF for desc in outstanding}) == len(outstanding)
            descs = [worker.make(os.urandom(60)) for _ in range(3)]
            worker.free(descs[worker.send(port, descs) :])
        for desc in outstanding:
            assert len(worker.packet(desc)) <= 64 * ROOM
    finally:
        worker.free(outstanding)
        port.close()

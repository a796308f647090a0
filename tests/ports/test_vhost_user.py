"""vhost_user against a guest played in Python: every shape of packet, negotiation, notification, errors."""

import os
import select
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from vhost_guest import BASIC, GUEST, PLAIN, SIZE, USER, Guest, eventually

from wirespeed.errors import PortError
from wirespeed.jit import kernel, load64, store64
from wirespeed.jit.entry import enter3
from wirespeed.mem.pool import Pool
from wirespeed.ports.port import port
from wirespeed.ports.vhost.channel import Channel
from wirespeed.ports.vhost.messages import (
    Config,
    MemoryRegion,
    Message,
    Request,
    VringState,
    pack_memory,
    pack_slot,
    pack_u64,
    pack_vring_fd,
    unpack_u64,
)
from wirespeed.ports.vhost.port import VhostUser
from wirespeed.ports.vhost.queue import arm
from wirespeed.ports.vhost.send import SENT
from wirespeed.ports.virtio.features import Feature

LAYOUTS = {
    "split": BASIC,
    "split-mergeable": BASIC | Feature.MRG_RXBUF,
    "split-in-order": BASIC | Feature.IN_ORDER | Feature.MRG_RXBUF,
    "packed": BASIC | Feature.RING_PACKED,
    "packed-mergeable": BASIC | Feature.RING_PACKED | Feature.MRG_RXBUF,
    "packed-in-order": BASIC | Feature.RING_PACKED | Feature.IN_ORDER | Feature.MRG_RXBUF,
}
OFFLOADS = Feature.CSUM | Feature.GUEST_CSUM | Feature.HOST_TSO4 | Feature.GUEST_TSO4


@kernel
def _arm(queue, on):  # type: ignore[no-untyped-def]
    return arm(queue, on)


def opened(path: Path, pool: Pool, options: str = "", queues: int = 1) -> VhostUser:
    made = port(f"vhost_user:{path}{options}")
    assert isinstance(made, VhostUser)
    made.open(pool, queues, queues)
    return made


@pytest.fixture
def at(tmp_path: Path) -> Path:
    return tmp_path / "vm.sock"


@pytest.fixture
def device(at: Path, pool: Pool) -> Iterator[VhostUser]:
    made = opened(at, pool)
    yield made
    made.close()
    assert not at.exists()


@pytest.fixture
def guests(at: Path, device: VhostUser) -> Iterator[Callable[..., Guest]]:
    made: list[Guest] = []

    def make(features: int = BASIC, **options: int) -> Guest:
        made.append(Guest(str(at), features, **options).start())
        return made[-1]

    yield make
    for guest in made:
        guest.leave()


def frame(size: int, first: int = 2) -> bytes:
    return bytes((first + i * 7) & 0xFF for i in range(size))


def said(device: VhostUser) -> str:
    return "\n".join(f"{event.kind}: {event.text}" for event in device.events.since(0))


# From the guest ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_shape_of_packet_from_the_guest(guests, device, worker, layout) -> None:
    guest = guests(LAYOUTS[layout])
    shapes = [
        (14, ()), (60, ()), (64, ()), (65, ()), (128, ()), (129, ()), (1500, ()), (1600, ()), (1601, ()), (9000, ()),
        (60, (12,)), (60, (5, 12, 13, 20)), (1500, (12, 700)), (5000, (12, 2000, 4000)), (60, tuple(range(1, 30))),
    ]  # fmt: skip
    sent = []
    for indirect in (False, True):
        for size, cuts in shapes:
            sent.append(frame(size, len(sent)))
            guest.send(sent[-1], cuts, indirect)
            if len(guest.rings[1].chains) % 3 == 0 or len(cuts) > 10:
                got = worker.burst(device)
                for desc in got:
                    assert worker.packet(desc) == sent.pop(0)
                worker.free(got)
                guest.rings[1].used()
    while sent:
        got = worker.burst(device)
        assert [worker.packet(desc) for desc in got] == [sent.pop(0) for _ in got]
        worker.free(got)
    assert device.stats().rx_packets == 2 * len(shapes)
    assert device.stats().rx_bytes == 2 * sum(size for size, _ in shapes)
    assert device.stats().rx_errors == 0


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rings_go_round_and_round(guests, device, worker, layout) -> None:
    guest = guests(LAYOUTS[layout], entries=16)
    for turn in range(30):
        sent = [frame(60 + i, turn) for i in range(turn % 16 + 1)]
        for data in sent:
            guest.send(data)
        got = []
        while len(got) < len(sent):
            got += worker.burst(device)
        assert [worker.packet(desc) for desc in got] == sent
        assert worker.burst(device) == []
        echoed = [guest.give(2000) for _ in got]
        assert worker.send(device, got) == len(got) == len(echoed)
        assert [data for _, data in guest.received()] == sent
        assert len(guest.rings[1].used()) == len(sent)


def test_room_is_respected(guests, device, worker) -> None:
    for layout in ("split", "packed"):
        guest = guests(LAYOUTS[layout])
        sent = [frame(60, i) for i in range(40)]
        for data in sent:
            guest.send(data)
        found = []
        while len(found) < len(sent):
            got = worker.burst(device, room=7)
            assert 0 < len(got) <= 7
            found += [worker.packet(desc) for desc in got]
            worker.free(got)
        assert found == sent
        guest.leave()
        eventually(lambda: device.session is None, "the guest to be gone")


@pytest.mark.parametrize("size", [0, 1, 13])
def test_runts_are_errors(guests, device, worker, size) -> None:
    for layout in ("split", "packed"):
        guest = guests(LAYOUTS[layout])
        guest.send(frame(size))
        guest.send(frame(60))
        got = worker.burst(device)
        assert [worker.packet(desc) for desc in got] == [frame(60)]
        worker.free(got)
        assert len(guest.rings[1].used()) == 2
        guest.leave()
        eventually(lambda: device.session is None, "the guest to be gone")
    assert device.stats().rx_errors == 2


def test_a_packet_longer_than_any_is_an_error(guests, device, worker) -> None:
    guest = guests()
    buffer = guest.buffer(60000)
    guest.rings[1].offer((buffer, 60000, 0), (buffer, 60000, 0))
    guest.send(frame(60))
    got = worker.burst(device)
    assert [worker.packet(desc) for desc in got] == [frame(60)]
    worker.free(got)
    assert (device.stats().rx_errors, len(guest.rings[1].used())) == (1, 2)


# To the guest --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("indirect", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_shape_of_buffer_for_the_guest(guests, device, worker, layout, indirect) -> None:
    guest = guests(LAYOUTS[layout])
    for size in (14, 31, 32, 60, 64, 65, 128, 129, 1500, 1600, 1601, 5000):
        for sizes in ((size + 12,), (12, size), (1, 20, size + 12), (5, 7, size, 100)):
            guest.give(*sizes, indirect=indirect)
            assert worker.send(device, [worker.make(frame(size, size))]) == 1
            assert guest.received() == [(PLAIN, frame(size, size))]
    assert device.stats().tx_packets == 48
    assert (device.stats().tx_errors, device.stats().tx_dropped) == (0, 0)


@pytest.mark.parametrize("layout", ["split-mergeable", "packed-mergeable"])
def test_a_packet_takes_several_buffers(guests, device, worker, layout) -> None:
    guest = guests(LAYOUTS[layout])
    for _ in range(8):
        guest.give(1000)
    sent = [frame(60), frame(3500), frame(988), frame(989), frame(100)]
    made = [worker.make(data) for data in sent]
    assert worker.send(device, made) == 4  # 1, 4, 1, 2 buffers: none is left
    worker.free(made[4:])
    found = guest.received()
    assert [data for _, data in found] == sent[:4]
    assert [header[10] for header, _ in found] == [1, 4, 1, 2]


@pytest.mark.parametrize("layout", ["split", "packed"])
def test_a_packet_too_large_for_a_buffer_is_an_error(guests, device, worker, layout) -> None:
    guest = guests(LAYOUTS[layout])
    for _ in range(3):
        guest.give(1000)
    sent = [worker.make(frame(size)) for size in (60, 1200, 61)]
    assert worker.send(device, sent) == 3
    assert [data for _, data in guest.received()] == [frame(60), frame(61)]
    assert (device.stats().tx_packets, device.stats().tx_errors) == (2, 1)


def test_without_buffers_nothing_is_taken(guests, device, worker) -> None:
    guest = guests()
    guest.give(2000)
    sent = [worker.make(frame(60)) for _ in range(3)]
    assert worker.send(device, sent) == 1
    assert worker.send(device, sent[1:]) == 0
    worker.free(sent[1:])


# Offloads ------------------------------------------------------------------------------------------------

TCP = bytes.fromhex(
    "020000000002020000000001 0800 4500 137a 0001 4000 4006 0000 0a010001 0a010002"
    "1000 2000 00000001 00000001 5018 ffff 1234 0000"
) + frame(4946)


def test_offloads_are_passed_on(guests, device, worker) -> None:
    for layout in ("split", "packed"):
        guest = guests(LAYOUTS[layout] | OFFLOADS)
        header = struct.pack("<BBHHHHH", 1, 1, 54, 1000, 34, 16, 0)
        guest.send(TCP, header=header)
        guest.send(TCP[:1200], header=struct.pack("<BBHHHHH", 1, 0, 0, 0, 34, 16, 0))
        guest.send(TCP, header=struct.pack("<BBHHHHH", 1, 1, 54, 1000, 5000, 16, 0))  # the checksum is outside
        got = worker.burst(device)
        assert [worker.packet(desc) for desc in got] == [TCP, TCP[:1200]]
        lines = [worker.header(desc) for desc in got]
        assert (lines[0].gso_size, lines[0].gso_type, lines[0].headers_length) == (1000, 1, 54)
        assert [(x.checksum_state, x.checksum_start, x.checksum_offset) for x in lines] == [(1, 34, 16)] * 2
        guest.give(12, 6000)
        guest.give(2000)
        assert worker.send(device, got) == 2
        assert guest.received() == [
            (header[:10] + b"\1\0", TCP), (struct.pack("<BBHHHHH", 1, 0, 0, 0, 34, 16, 1), TCP[:1200])
        ]  # fmt: skip
        guest.leave()
        eventually(lambda: device.session is None, "the guest to be gone")
    assert device.stats().rx_errors == 2


def test_without_offloads_a_header_means_nothing(guests, device, worker) -> None:
    guest = guests()
    guest.send(frame(60), header=b"\xff" * 12)
    (desc,) = worker.burst(device)
    assert worker.packet(desc) == frame(60)
    worker.free([desc])


def test_what_the_guest_does_not_take_is_finished_first(guests, device, worker) -> None:
    guest = guests()
    for _ in range(6):
        guest.give(2000)
    fields = {"checksum_state": 1, "checksum_start": 34, "checksum_offset": 16}
    whole = TCP[:16] + struct.pack(">H", 54 - 14 + 100) + TCP[18:154]
    cut = worker.make(TCP, gso_size=1000, gso_type=1, headers_length=54, **fields)
    assert worker.send(device, [worker.make(whole, **fields), cut]) == 2
    found = guest.received()
    assert [header for header, _ in found] == [PLAIN] * 6
    assert [len(data) for _, data in found] == [154, 1054, 1054, 1054, 1054, 1000]
    assert b"".join(data[54:] for _, data in found[1:]) == TCP[54:]
    for _, data in found:
        if len(data) > 154:
            assert total(data[26:34] + struct.pack(">HH", 6, len(data) - 34) + data[34:]) == 0xFFFF
    assert device.stats().tx_packets == 6


def test_segments_that_there_is_no_room_for_are_counted(guests, device, worker) -> None:
    guest = guests()
    for _ in range(2):
        guest.give(2000)
    cut = worker.make(TCP, gso_size=1000, gso_type=1, headers_length=54)
    assert worker.send(device, [cut]) == 1
    assert [len(data) for _, data in guest.received()] == [1054, 1054]
    stats = device.stats()
    assert (stats.tx_packets, stats.tx_dropped, stats.tx_errors) == (2, 3, 0)


def test_a_super_packet_of_one_segment_is_finished_first(guests, device, worker) -> None:
    guest = guests()
    guest.give(2000)
    pseudo = TCP[26:34] + struct.pack(">HH", 6, 120)
    whole = TCP[:16] + struct.pack(">H", 140) + TCP[18:50] + struct.pack(">H", total(pseudo)) + TCP[52:154]
    fields = {"checksum_state": 1, "checksum_start": 34, "checksum_offset": 16}
    assert worker.send(device, [worker.make(whole, gso_size=1000, gso_type=1, headers_length=54, **fields)]) == 1
    ((header, data),) = guest.received()
    assert header == PLAIN
    assert total(pseudo + data[34:]) == 0xFFFF


def test_a_super_packet_of_many_small_segments(guests, device, worker) -> None:
    guest = guests(entries=256)
    for _ in range(200):
        guest.give(2000)
    cut = worker.make(TCP, gso_size=25, gso_type=1, headers_length=54)
    assert worker.send(device, [cut]) == 1
    assert b"".join(data[54:] for _, data in guest.received()) == TCP[54:]


@kernel
def _send_single(single, ring, cache, vector):  # type: ignore[no-untyped-def]
    return enter3(single, ring, cache, vector)


def test_a_ring_that_is_stopped_in_the_middle_of_a_burst(guests, device, worker) -> None:
    """``live`` is OFF already, the worker still inside: the ring's layout is what it was."""
    guest = guests(LAYOUTS["split-mergeable"])
    for _ in range(4):
        guest.give(256)
    record = device.session.vrings[0].record
    store64(worker.vector, worker.make(bytes(900)))
    record.ready, live, record.live = 4, record.live, 0
    assert _send_single(record.single, record.address, worker.cache, worker.vector) == SENT
    record.live = live
    assert record.next == 4
    worker.free([load64(worker.vector)])


def total(data: bytes) -> int:
    """The ones' complement sum, RFC 1071."""
    summed = sum(struct.unpack(f">{(len(data) + 1) // 2}H", data + b"\0" * (len(data) & 1)))
    while summed > 0xFFFF:
        summed = (summed & 0xFFFF) + (summed >> 16)
    return summed


# Notifications -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["split", "packed"])
def test_the_guest_is_told_unless_it_asked_not_to_be(guests, device, worker, layout) -> None:
    guest = guests(LAYOUTS[layout])
    for quiet in (False, True, False):
        for ring in guest.rings:
            ring.suppress(quiet)
        guest.give(100)
        guest.send(frame(60))
        got = worker.burst(device)
        assert guest.called(1) is not quiet
        assert worker.send(device, got) == 1
        assert guest.called(0) is not quiet
        assert worker.burst(device) == []
        assert not guest.called(1)


def test_event_index(guests, device, worker) -> None:
    guest = guests(BASIC | Feature.EVENT_IDX)
    ring = guest.rings[0]
    guest.write(ring.driver + 4 + 2 * ring.entries, struct.pack("<H", 2))  # tell me of the third
    told = []
    for _ in range(5):
        guest.give(100)
        assert worker.send(device, [worker.make(frame(60))]) == 1
        told.append(guest.called(0))
    assert told == [False, False, True, False, False]


def test_packed_event_suppression_at_a_descriptor(guests, device, worker) -> None:
    guest = guests(BASIC | Feature.EVENT_IDX | Feature.RING_PACKED, entries=4)
    ring = guest.rings[0]
    guest.write(ring.driver, struct.pack("<HH", 1, 2))  # position 1, the wrap counter's second round (0)
    told = []
    for _ in range(8):
        guest.give(100)
        assert worker.send(device, [worker.make(frame(60))]) == 1
        ring.used()
        told.append(guest.called(0))
    assert told == [False] * 5 + [True, False, False]


@pytest.mark.parametrize("layout", ["split", "packed"])
def test_a_worker_that_sleeps_is_kicked(guests, device, worker, layout) -> None:
    guest = guests(LAYOUTS[layout])
    (fd,) = device.descriptors(0)
    ring, queue = guest.rings[1], device.rx[0]
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    assert poll.poll(1000)  # a ring that starts rouses the worker
    assert _arm(queue, 0) == 0
    assert not poll.poll(0)
    assert not ring.wants_kicks
    assert _arm(queue, 1) == 0
    assert ring.wants_kicks
    guest.send(frame(60))
    assert _arm(queue, 1) == 1  # it came meanwhile
    for _ in range(2):
        os.eventfd_write(ring.kick, 1)
        assert poll.poll(1000)
        _arm(queue, 0)
        assert not poll.poll(0)
    assert not ring.wants_kicks
    worker.free(worker.burst(device))


# The protocol --------------------------------------------------------------------------------------------


def test_what_is_offered(at, pool, guests) -> None:
    guest = guests()
    offered = unpack_u64(guest.ask(Request.GET_FEATURES))
    assert offered & (Feature.RING_PACKED | Feature.MRG_RXBUF | Feature.CSUM)
    assert not offered & (Feature.MQ | Feature.MAC | Feature.LOG_ALL | Feature.ACCESS_PLATFORM)
    assert unpack_u64(guest.ask(Request.GET_QUEUE_NUM)) == 1
    assert unpack_u64(guest.ask(Request.GET_MAX_MEM_SLOTS)) == 32


def test_options_decide_what_is_offered(tmp_path, pool) -> None:
    at = tmp_path / "b.sock"
    options = ",packed=no,mergeable=no,offloads=no,queues=4,mac=02:00:00:00:00:07,mtu=9000"
    device = opened(at, pool, options)
    guest = Guest(str(at), BASIC | Feature.MAC | Feature.MQ)
    guest.agree()
    offered = unpack_u64(guest.ask(Request.GET_FEATURES))
    assert offered & Feature.MQ
    assert offered & Feature.MAC
    assert not offered & (Feature.RING_PACKED | Feature.MRG_RXBUF | Feature.CSUM | Feature.HOST_TSO4)
    assert unpack_u64(guest.ask(Request.GET_QUEUE_NUM)) == 4
    config = Config.unpack(guest.ask(Request.GET_CONFIG, Config(0, bytes(12)).pack()))
    assert config.data == bytes.fromhex("020000000007 0100 0400 2823")
    assert guest.tell(Request.NET_SET_MTU, pack_u64(2000)) == 0
    guest.leave()
    device.close()


def test_a_port_may_demand_packed_rings(tmp_path, pool) -> None:
    at = tmp_path / "b.sock"
    device = opened(at, pool, ",packed=yes")
    guest = Guest(str(at), BASIC)
    guest.agree()
    eventually(lambda: "the port demands RING_PACKED" in said(device), "the refusal")
    guest.leave()
    device.close()


def test_a_ring_stops_and_goes_on_where_it_was(guests, device, worker) -> None:
    for layout in ("split", "packed"):
        guest = guests(LAYOUTS[layout])
        for i in range(5):
            guest.send(frame(60, i))
        worker.free(worker.burst(device, room=3))
        base = VringState.unpack(guest.ask(Request.GET_VRING_BASE, VringState(1, 0).pack()))
        assert base.number == (3 if layout == "split" else 3 | 1 << 15 | 3 << 16 | 1 << 31)
        assert worker.burst(device) == []
        guest.tell(Request.SET_VRING_BASE, base.pack())
        guest.tell(Request.SET_VRING_KICK, pack_vring_fd(1), guest.rings[1].kick)
        guest.tell(Request.SET_VRING_ENABLE, VringState(1, 1).pack())
        got = worker.burst(device)
        assert [worker.packet(desc) for desc in got] == [frame(60, 3), frame(60, 4)]
        worker.free(got)
        guest.leave()
        eventually(lambda: device.session is None, "the guest to be gone")


def test_a_disabled_ring_is_left_alone(guests, device, worker) -> None:
    guest = guests()
    guest.send(frame(60))
    guest.tell(Request.SET_VRING_ENABLE, VringState(1, 0).pack())
    assert worker.burst(device) == []
    guest.tell(Request.SET_VRING_ENABLE, VringState(1, 1).pack())
    worker.free(worker.burst(device))
    assert device.stats().rx_packets == 1


def test_memory_comes_and_goes_in_slots(guests, device, worker) -> None:
    guest = guests()
    more = os.memfd_create("more")
    os.ftruncate(more, 1 << 20)
    os.pwrite(more, PLAIN + frame(60), 4096 + 100)
    region = MemoryRegion(1 << 40, 1 << 19, 1 << 45, 4096)
    assert guest.tell(Request.ADD_MEM_REG, pack_slot(region), more) == 0
    guest.rings[1].offer(((1 << 40) + 100, 72, 0))
    guest.send(frame(61))
    got = worker.burst(device)
    assert [worker.packet(desc) for desc in got] == [frame(60), frame(61)]
    worker.free(got)
    assert guest.tell(Request.REM_MEM_REG, pack_slot(region)) == 0
    guest.rings[1].offer(((1 << 40) + 100, 72, 0))
    assert worker.burst(device) == []
    eventually(lambda: "leads outside its memory" in said(device), "the fault")
    os.close(more)


def test_buffers_across_two_regions(guests, device, worker) -> None:
    guest = guests()
    halves = [
        MemoryRegion(GUEST, SIZE // 2, USER, 0),
        MemoryRegion(GUEST + SIZE // 2, SIZE // 2, USER + SIZE, SIZE // 2),
    ]
    guest.tell(Request.SET_MEM_TABLE, pack_memory(halves), guest.fd, guest.fd)
    at = SIZE // 2 - 40
    guest.write(at, PLAIN + frame(60))
    guest.rings[1].offer((GUEST + at, 72, 0))
    got = worker.burst(device)
    assert [worker.packet(desc) for desc in got] == [frame(60)]
    guest.rings[0].offer((GUEST + at, 100, 2))
    assert worker.send(device, got) == 1
    assert guest.received()[0][1] == frame(60)


def test_many_queues(tmp_path, pool, worker) -> None:
    at = tmp_path / "b.sock"
    device = opened(at, pool, ",queues=4", queues=2)
    guest = Guest(str(at), BASIC | Feature.MQ, pairs=4).start()
    for index in range(4):
        ring = guest.rings[2 * index + 1]
        ring.offer((guest.buffer(72, PLAIN + frame(60, index)), 72, 0))
    found = []
    for queue in (0, 1):
        got = [desc for _ in range(2) for desc in worker.burst(device, queue=queue)]
        found.append(sorted(worker.packet(desc) for desc in got))
        worker.free(got)
    assert found == [sorted([frame(60, 0), frame(60, 2)]), sorted([frame(60, 1), frame(60, 3)])]
    for index in (4, 6):
        guest.rings[index].offer((guest.buffer(100), 100, 2))
    for index in (0, 2):
        guest.tell(Request.SET_VRING_ENABLE, VringState(index, 0).pack())
    for queue in (0, 1):
        assert worker.send(device, [worker.make(frame(60))], queue=queue) == 1
    assert [len(guest.rings[index].used()) for index in (0, 2, 4, 6)] == [0, 0, 1, 1]
    guest.tell(Request.SET_VRING_ENABLE, VringState(4, 0).pack())
    for queue in (0, 1):  # both workers share what is left
        guest.rings[6].offer((guest.buffer(100), 100, 2))
        assert worker.send(device, [worker.make(frame(60))], queue=queue) == 1
    assert len(guest.rings[6].used()) == 2
    guest.leave()
    device.close()


# Coming and going ----------------------------------------------------------------------------------------


def test_guests_come_and_go(guests, device, worker) -> None:
    before = len(os.listdir("/proc/self/fd"))
    assert not device.link().up
    for turn in range(10):
        guest = guests(LAYOUTS[list(LAYOUTS)[turn % len(LAYOUTS)]])
        assert device.link().up
        guest.send(frame(60, turn))
        got = worker.burst(device)
        assert [worker.packet(desc) for desc in got] == [frame(60, turn)]
        guest.leave()
        eventually(lambda: device.session is None, "the guest to be gone")
        assert worker.send(device, got) == 0
        worker.free(got)
        assert not device.link().up
    assert said(device).count("disconnected: the other end closed") == 10
    assert len(os.listdir("/proc/self/fd")) <= before
    assert "test-guest" not in maps_of_guests()


def maps_of_guests() -> str:
    """What of guests' memory is mapped in this process."""
    return "".join(line for line in Path("/proc/self/maps").read_text().splitlines() if "test-guest" in line)


def test_a_second_front_end_is_refused(at, guests, device) -> None:
    guest = guests()
    with socket.socket(socket.AF_UNIX) as other:
        other.connect(str(at))
        assert other.recv(1) == b""
    assert guest.tell(Request.SET_OWNER) == 0
    assert "refused: a second front end" in said(device)


def test_as_client_it_waits_for_the_socket(tmp_path, pool) -> None:
    at = tmp_path / "c.sock"
    device = opened(at, pool, ",role=client")
    assert not device.link().up
    for _ in range(3):
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(at))
            listener.listen()
            listener.settimeout(30)
            connected, _ = listener.accept()
            channel = Channel(connected)
            assert unpack_u64(channel.ask(Message(Request.GET_FEATURES)).payload) & Feature.VERSION_1
            channel.close()
        at.unlink()
    device.close()


def test_a_stale_socket_is_replaced(at, pool) -> None:
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(at))
    stale.close()
    opened(at, pool).close()
    assert not at.exists()


# Errors --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("vhost_user:{}/x.sock,role=serfer", "did you mean 'server'"),
        ("vhost_user:{}/x.sock,packed=maybe", "packed='maybe'"),
        ("vhost_user:{}/x.sock,queues=0", "queues=0 must be 1 to 64"),
        ("vhost_user:{}/x.sock,queues=65", "queues=65"),
        ("vhost_user:{}/x.sock,mtu=67", "68 to 65535"),
        ("vhost_user:{}/x.sock,mac=01:00:00:00:00:01", "station"),
        ("vhost_user:{}/x.sock,pakced=no", "did you mean 'packed'"),
        ("vhost_user:{}/" + "x" * 108, "1 to 107 bytes"),
        ("vhost_user:", "lacks path"),
        ("vhost_user:{}/no/x.sock", "mkdir -p"),
        ("vhost_user:{}/file", "no socket"),
        ("vhost_user:{}/busy", "another program listens"),
    ],
)
def test_errors_before_the_start(tmp_path, pool, spec, expected) -> None:
    (tmp_path / "file").write_text("")
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(str(tmp_path / "busy"))
        busy.listen()
        with pytest.raises(PortError, match=expected):
            port(spec.format(tmp_path)).open(pool, 1, 1)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.tuples(st.integers(14, 4000), st.lists(st.integers(1, 4000), max_size=5), st.booleans()), max_size=8)
)
def test_any_packets_in_any_pieces_are_echoed(guests, device, worker, packets) -> None:
    for layout in ("split-mergeable", "packed-mergeable"):
        guest = guests(LAYOUTS[layout])
        sent = [frame(size, number) for number, (size, _, _) in enumerate(packets)]
        for data, (_, cuts, indirect) in zip(sent, packets, strict=True):
            guest.send(data, tuple(sorted(set(cuts))), indirect)
        got = []
        while len(got) < len(sent):
            got += worker.burst(device)
        for number in range(60):
            guest.give(100 + number * 20)
        assert worker.send(device, got) == len(sent)
        assert [data for _, data in guest.received()] == sent
        guest.leave()
        eventually(lambda: device.session is None, "the guest to be gone")

"""loop=yes: the same packets, over and over, on any number of queues."""

import gzip
import itertools
import struct

import pytest

from wirespeed.errors import CaptureError, PortError
from wirespeed.jit.entry import entry
from wirespeed.mem.descriptor import CELL, FLAGS, HEADROOM, ROOM, length_of, offset_of
from wirespeed.ports.pcap.loop import LoopQueue, read_lines, read_table
from wirespeed.ports.pcap.stream import CaptureStream
from wirespeed.ports.port import port

HEADER = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)


def capture(frames):
    return HEADER + b"".join(struct.pack("<IIII", 1, 2, len(f), len(f)) + f for f in frames)


def frame(size, seed=0):
    return bytes((seed + i * 7) & 0xFF for i in range(size))


SHORT = [frame(60 + i % 5, i) for i in range(37)]
MIXED = [frame(size, size) for size in (60, 64, 65, 1500, ROOM, ROOM + 1, 14, 9000, 128, 65535, 61)]


@pytest.fixture
def opened(tmp_path, pool):
    ports = []

    def open_(data, options="", queues=1):
        path = tmp_path / "in.pcap"
        path.write_bytes(data)
        made = port(f"pcap:{path},loop=yes{options}")
        assert made.rx_queues == 0
        made.open(pool, queues, 0)
        ports.append(made)
        return made

    yield open_
    for made in ports:
        made.close()


def receive_some(worker, made, wanted, room, queue=0):
    packets = []
    while len(packets) < wanted:
        descs = worker.burst(made, min(room, wanted - len(packets)), queue)
        packets += [worker.packet(desc) for desc in descs]
        worker.free(descs)
    return packets


@pytest.mark.parametrize("room", [1, 7, 32, 100])
@pytest.mark.parametrize("frames", [SHORT, MIXED, SHORT[:1]], ids=["short", "mixed", "one"])
def test_lap_after_lap(opened, worker, frames, room):
    made = opened(capture(frames))
    wanted = 150
    expected = list(itertools.islice(itertools.cycle(frames), wanted))
    assert receive_some(worker, made, wanted, room) == expected
    stats = made.stats()
    assert (stats.rx_packets, stats.rx_bytes) == (wanted, sum(map(len, expected)))
    assert made.fault() == ""


def test_the_function_is_chosen_by_the_longest_packet(opened):
    short, long = opened(capture([frame(64)])), opened(capture([frame(64), frame(65)]))
    assert LoopQueue(short.rx[0]).kernel == entry(read_lines, 4)
    assert LoopQueue(long.rx[0]).kernel == entry(read_table, 4)
    assert short.receive is long.receive  # one graph serves both


def test_descriptors_are_of_fresh_cells(opened, worker):
    (desc,) = worker.burst(opened(capture([frame(60)])), 1)
    assert (desc & FLAGS, length_of(desc)) == (0, 60)
    assert HEADROOM <= offset_of(desc) <= CELL - ROOM
    worker.free([desc])


def test_each_queue_has_its_own_place(opened, worker):
    made = opened(capture(SHORT), queues=2)
    assert receive_some(worker, made, 10, 8, 0) == SHORT[:10]
    assert receive_some(worker, made, 5, 8, 1) == SHORT[:5]
    assert receive_some(worker, made, 3, 8, 0) == SHORT[10:13]
    assert made.stats().rx_packets == 18


@pytest.mark.parametrize("frames", [SHORT, MIXED], ids=["short", "mixed"])
def test_count_is_shared_by_the_queues(opened, worker, frames):
    made = opened(capture(frames), ",count=25", queues=2)
    got = [receive_some(worker, made, 13, 32, 0), receive_some(worker, made, 12, 32, 1)]
    expected = list(itertools.islice(itertools.cycle(frames), 13))
    assert got == [expected, expected[:12]]
    assert worker.burst(made, 32, 0) is None
    assert worker.burst(made, 32, 1) is None
    assert made.stats().rx_packets == 25


def test_count_of_nothing(opened, worker):
    assert worker.receive_all(opened(capture(SHORT), ",count=0")) == []


def test_from_gzip_and_errors_are_counted_once(opened, worker):
    made = opened(gzip.compress(capture([*SHORT, b"", frame(65536)])))
    assert receive_some(worker, made, len(SHORT) + 1, 32) == [*SHORT, SHORT[0]]
    assert made.stats().rx_errors == 2


@pytest.mark.parametrize("frames", [SHORT, MIXED], ids=["short", "mixed"])
def test_a_dry_pool_makes_it_wait(opened, worker, pool, frames):
    made = opened(capture(frames))
    held = []
    while True:
        descs = worker.burst(made, 100)
        if not descs:
            break
        held += descs
    expected = list(itertools.islice(itertools.cycle(frames), len(held) + 20))
    assert [worker.packet(desc) for desc in held] == expected[: len(held)]
    for start in range(0, len(held), 100):
        worker.free(held[start : start + 100])
    assert receive_some(worker, made, 20, 10) == expected[-20:]


@pytest.mark.parametrize(
    ("data", "options", "says"),
    [
        (HEADER, "", "no packets to loop over"),
        (capture([b""]), "", "no packets to loop over"),
        (capture(MIXED), ",memory=8Ki", "more than memory=8192 bytes"),
        (gzip.compress(capture(MIXED), mtime=0), ",memory=8Ki", "more than memory=8192 bytes"),
        (capture(SHORT)[:-1], "", "cannot be looped over"),
        (gzip.compress(capture(SHORT), mtime=0)[:-9], "", "ends early.*cannot be looped over"),
    ],
)
def test_what_cannot_be_looped(opened, data, options, says):
    with pytest.raises(CaptureError, match=says):
        opened(data, options)


@pytest.mark.parametrize(
    "now", [[*SHORT, frame(60)], SHORT[:-1], [*SHORT[:-1], frame(65)], MIXED], ids=["more", "fewer", "longer", "others"]
)
def test_a_file_that_changes_between_the_two_readings(opened, tmp_path, pool, monkeypatch, now):
    """It is measured, then copied; another program writes to it meanwhile."""
    again = CaptureStream._again

    def changed(stream):
        (tmp_path / "in.pcap").write_bytes(gzip.compress(capture(now), mtime=0))
        again(stream)

    monkeypatch.setattr(CaptureStream, "_again", changed)
    with pytest.raises(CaptureError, match="changed while it was read: loop over a copy"):
        opened(gzip.compress(capture(SHORT), mtime=0))
    assert pool.in_use == 0


def test_no_timestamps(opened):
    with pytest.raises(PortError, match="leave timestamps and interfaces out"):
        opened(capture(SHORT), ",timestamps=yes")

"""Replaying: by the capture's times and at a rate. Time is driven: the pacer's clock is set back before each call.

Gaps are hours, so that what passes between two lines of a test makes no difference.
"""

import struct

import pytest
from tests.ports.test_pcap_broken import frame

from wirespeed.eal.clock import tsc_hz
from wirespeed.errors import PortError
from wirespeed.jit import tsc
from wirespeed.mem.descriptor import META
from wirespeed.ports.pcap.headers import pcapng_header
from wirespeed.ports.pcap.pace import FRACTION, PacedQueue
from wirespeed.ports.port import port

HOUR = 3600


def pcap(path, times, size=60):
    header = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)
    records = (struct.pack("<IIII", int(t), 0, size, size) + frame(size, i) for i, t in enumerate(times))
    path.write_bytes(header + b"".join(records))
    return path


def pcapng(path, times):
    def block(i, t):
        high, low = divmod(int(t * 10**9), 1 << 32)
        return struct.pack("<IIIIIII", 6, 92, 0, high, low, 60, 60) + frame(60, i) + struct.pack("<I", 92)

    path.write_bytes(pcapng_header([""], 0) + b"".join(block(i, t) for i, t in enumerate(times)))
    return path


class Replay:
    """A port that is replayed, and the time that has passed for it."""

    def __init__(self, worker, path, options, pool):
        self.worker, self.port = worker, port(f"pcap:{path},{options}")
        self.port.open(pool, 1, 0)
        self.record = PacedQueue(self.port.rx[0])

    def at(self, seconds, room=32):
        """How many packets leave when so many seconds have passed since the first; None when it is over."""
        if self.record.begun:
            self.record.begun = tsc() - int(seconds * tsc_hz())
        return self.burst(room)

    def burst(self, room=32):
        descs = self.worker.burst(self.port, room)
        if descs is None:
            return None
        assert not any(desc & META for desc in descs)
        self.worker.free(descs)
        return len(descs)

    def close(self):
        self.port.close()
        return self.port.stats().rx_packets


TIMES = [0, 0, 1 * HOUR, 1 * HOUR, 3 * HOUR, 2 * HOUR, 4 * HOUR]  # one goes back: it is due with the one before
BEGIN = 1_600_000_000


@pytest.mark.parametrize("make", [pcap, pcapng])
def test_at_the_captures_times(tmp_path, worker, pool, make):
    replay = Replay(worker, make(tmp_path / "in", [BEGIN + t for t in TIMES]), "speed=1", pool)
    moments = [0, 0.9, 1.1, 2.5, 3.1, 3.9, 4.1, 4.2]
    assert [replay.at(hours * HOUR) for hours in moments] == [2, 0, 2, 0, 2, 0, 1, None]
    assert replay.close() == 7


@pytest.mark.parametrize(("speed", "scale"), [("2", 0.5), ("0.25", 4), ("1000", 0.001)])
def test_faster_and_slower(tmp_path, worker, pool, speed, scale):
    times = [BEGIN + 100_000 * i for i in range(10)]
    replay = Replay(worker, pcap(tmp_path / "in", times), f"speed={speed}", pool)
    assert replay.burst() == 1
    for packet in range(1, 10):
        assert replay.at((packet - 0.1) * 100_000 * scale) == 0
        assert replay.at((packet + 0.1) * 100_000 * scale) == 1
    assert replay.close() == 10


def test_who_is_late_makes_up(tmp_path, worker, pool):
    replay = Replay(worker, pcap(tmp_path / "in", [BEGIN + HOUR * i for i in range(200)]), "speed=1", pool)
    assert replay.at(0) == 1
    assert [replay.at(99.5 * HOUR, 64) for _ in range(4)] == [63, 36, 0, 0]
    replay.close()


def test_looping_by_time(tmp_path, worker, pool):
    """A lap takes as long as from the first packet to the last, and a mean gap."""
    replay = Replay(worker, pcap(tmp_path / "in", [BEGIN, BEGIN + HOUR, BEGIN + 2 * HOUR]), "loop=yes,speed=1", pool)
    assert replay.at(0) == 1
    assert [replay.at((hour + 0.1) * HOUR) for hour in range(1, 9)] == [1] * 8
    assert replay.at(18.1 * HOUR) == 10
    replay.close()


def left_at(replay, steps, room=32):
    """Packets that leave when, each time, the next one has been due for so many gaps."""
    counts = []
    for gaps in steps:
        replay.record.late = 1 << 60
        replay.record.due = tsc() - int(gaps * replay.record.per_packet) // (1 << FRACTION)
        counts.append(replay.burst(room))
    return counts


@pytest.mark.parametrize("loop", ["", ",loop=yes,memory=1M"])
def test_at_a_rate(tmp_path, worker, pool, loop):
    """A packet a second; half a second more or less does not matter to a test."""
    replay = Replay(worker, pcap(tmp_path / "in", [BEGIN] * 500), f"rate=1{loop}", pool)
    assert [replay.burst() for _ in range(3)] == [1, 0, 0]
    assert left_at(replay, [0.5, 3.5, -0.5, 10.5, 40.5]) == [1, 4, 0, 11, 32]
    assert replay.close() == 1 + 1 + 4 + 11 + 32


def test_bits_are_those_on_the_wire(tmp_path, worker, pool):
    """84 bytes of a packet of 60, 1,524 of one of 1,500."""
    for size in (60, 1500):
        replay = Replay(worker, pcap(tmp_path / "in", [BEGIN] * 500, size), f"bits={(size + 24) * 8}", pool)
        record = replay.record
        assert record.per_packet + size * record.per_byte == pytest.approx(tsc_hz() << FRACTION, rel=1e-3)
        assert replay.burst() == 1
        record.late = 1 << 60
        record.due = tsc() - int(9.5 * tsc_hz())
        assert replay.burst() == 10
        replay.close()


def test_what_is_missed_is_not_made_up_for_ever(tmp_path, worker, pool):
    replay = Replay(worker, pcap(tmp_path / "in", [BEGIN] * 500), "rate=1", pool)
    assert replay.burst() == 1
    replay.record.due = tsc() - 1000 * tsc_hz()
    assert replay.burst() == 1
    assert replay.burst() == 0
    replay.close()


def test_times_on_request(tmp_path, worker, pool):
    made = port(f"pcap:{pcap(tmp_path / 'in', [BEGIN])},speed=1,timestamps=yes")
    made.open(pool, 1, 0)
    (desc,) = worker.burst(made)
    assert worker.header(desc).timestamp == BEGIN * 10**9
    worker.free([desc])
    made.close()


def test_broken_files_say_so(tmp_path, worker, pool):
    path = pcap(tmp_path / "in", [BEGIN, BEGIN])
    path.write_bytes(path.read_bytes()[:-1])
    replay = Replay(worker, path, "speed=1", pool)
    assert [replay.burst(), replay.burst()] == [1, None]
    assert "packet 2, at byte 100" in replay.port.fault()
    assert replay.port.stats().rx_errors == 1
    replay.close()


def test_options_of_several_kinds(tmp_path, pool):
    path = pcap(tmp_path / "in", [BEGIN])
    with pytest.raises(PortError, match="exclude each other"):
        port(f"pcap:{path},rate=1k,bits=1M")
    with pytest.raises(PortError, match="speed is for files that are read"):
        port(f"pcap:{path},speed=1").open(pool, 0, 1)
    with pytest.raises(PortError, match="a pcap has no interfaces"):
        port(f"pcap:{path},interfaces=yes").open(pool, 1, 0)

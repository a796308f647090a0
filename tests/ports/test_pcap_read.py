"""Reading pcap: files written here byte by byte, packets compared with what was put in."""

import gzip
import os
import struct

import pytest

from wirespeed.errors import CaptureError, PortError
from wirespeed.jit import store64
from wirespeed.mem.descriptor import CHAINED, META, ROOM, length_of
from wirespeed.ports.port import port

MICRO, NANO, MODIFIED = 0xA1B2C3D4, 0xA1B23C4D, 0xA1B2CD34


def header(order="<", magic=MICRO, link=1, major=2):
    return struct.pack(order + "IHHiIII", magic, major, 4, 0, 0, 262144, link)


def record(data, order="<", seconds=1, fraction=2, wire=None, extra=b""):
    return struct.pack(order + "IIII", seconds, fraction, len(data), wire or len(data)) + extra + data


def frame(size, seed=0):
    return bytes((seed + i * 7) & 0xFF for i in range(size))


SIZES = [14, 60, 63, 64, 65, 127, 128, 129, 1, 2, 1500, ROOM - 1, ROOM]
FRAMES = [frame(size, i) for i, size in enumerate(SIZES)]


@pytest.fixture
def opened(tmp_path, pool):
    """Write bytes to a file and open a port on it; closed afterwards."""
    ports = []

    def open_(data, options="", name="in.pcap", queues=1):
        path = tmp_path / name
        path.write_bytes(data)
        made = port(f"pcap:{path}{options}")
        made.open(pool, queues, 0)
        ports.append(made)
        return made

    yield open_
    for made in ports:
        made.close()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("magic", [MICRO, NANO, MODIFIED])
def test_every_magic_in_both_orders(opened, worker, order, magic):
    extra = bytes(8) if magic == MODIFIED else b""
    data = header(order, magic) + b"".join(record(f, order, extra=extra) for f in FRAMES)
    made = opened(data)
    assert worker.receive_all(made) == FRAMES
    assert made.fault() == ""
    stats = made.stats()
    assert (stats.rx_packets, stats.rx_bytes, stats.rx_errors) == (len(FRAMES), sum(SIZES), 0)


def test_the_descriptor_of_a_short_packet_has_nothing_but_its_length(opened, worker):
    made = opened(header() + record(frame(60)))
    (desc,) = worker.burst(made)
    assert desc & (CHAINED | META) == 0
    assert length_of(desc) == 60
    worker.free([desc])


@pytest.mark.parametrize("room", [1, 3, 32, 256])
def test_bursts_are_as_long_as_there_is_room(opened, worker, room):
    frames = [frame(60 + i % 200, i) for i in range(300)]
    assert worker.receive_all(opened(header() + b"".join(map(record, frames))), room) == frames


@pytest.mark.parametrize("size", [ROOM + 1, 2 * ROOM, 2 * ROOM + 1, 9000, 65535])
@pytest.mark.parametrize("room", [1, 4])
def test_long_packets_come_in_chains(opened, worker, size, room):
    frames = [frame(60), frame(size, 3), frame(61), frame(size, 4), frame(62)]
    assert worker.receive_all(opened(header() + b"".join(map(record, frames))), room) == frames


def test_too_long_and_empty_records_are_errors(opened, worker):
    data = header() + record(frame(60)) + record(frame(65536)) + record(b"") + record(frame(61))
    made = opened(data)
    assert worker.receive_all(made) == [frame(60), frame(61)]
    assert made.stats().rx_errors == 2
    assert made.fault() == ""


def test_nothing_but_errors_ends_too(opened, worker):
    made = opened(header() + record(b"") * 10_000)
    assert worker.receive_all(made) == []
    assert made.stats().rx_errors == 10_000


def test_cut_to_the_snap_length_is_delivered_as_captured(opened, worker):
    assert worker.receive_all(opened(header() + record(frame(96), wire=1500))) == [frame(96)]


def test_no_packets(opened, worker):
    made = opened(header())
    assert worker.receive_all(made) == []
    assert made.fault() == ""


@pytest.mark.parametrize("count", [0, 1, 5, 13, 14])
def test_count(opened, worker, count):
    made = opened(header() + b"".join(map(record, FRAMES)), f",count={count}")
    assert worker.receive_all(made, 4) == FRAMES[:count]


def test_count_is_no_fault_where_the_rest_is_broken(opened, worker):
    made = opened(header() + record(frame(60)) + b"junk", ",count=1")
    assert worker.receive_all(made) == [frame(60)]
    assert made.fault() == ""


@pytest.mark.parametrize(("magic", "expected_ns"), [(MICRO, 7_000_009_000), (NANO, 7_000_000_009)])
@pytest.mark.parametrize("order", ["<", ">"])
def test_timestamps_on_request(opened, worker, magic, expected_ns, order):
    data = header(order, magic) + record(frame(60), order, 7, 9) + record(frame(4000), order, 7, 9)
    made = opened(data, ",timestamps=yes")
    descs = worker.burst(made)
    for desc, size in zip(descs, (60, 4000), strict=True):
        line = worker.header(desc)
        assert desc & META
        assert line.timestamp == expected_ns
        assert (line.checksum_state, line.gso_size, line.vlan_tci, line.user1) == (0, 0, 0, 0)
        assert worker.packet(desc) == frame(size)
    worker.free(descs)


def test_a_dry_pool_makes_the_file_wait(opened, worker, pool):
    frames = [frame(4000, 1), frame(60, 2)]
    made = opened(header() + b"".join(map(record, frames)))
    held = []
    while pool.free:
        got = pool.take(worker.vector, 1)
        assert got == 1 or pool.free == 0
        held.append(worker_word(worker))
    assert worker.burst(made) == []
    worker.free(held[:2])  # a chain of three cells does not fit
    del held[:2]
    assert worker.burst(made) == []
    for start in range(0, len(held), 256):
        worker.free(held[start : start + 256])
    assert worker.receive_all(made) == frames
    assert made.stats().rx_dropped == 0


def worker_word(worker):
    from wirespeed.jit import load64

    word = load64(worker.vector)
    store64(worker.vector, 0)
    return word


@pytest.mark.parametrize("name", ["in.pcap.gz", "in.pcap"])
def test_gzip_by_its_content(opened, worker, name):
    data = header() + b"".join(map(record, FRAMES))
    assert worker.receive_all(opened(gzip.compress(data), name=name)) == FRAMES


def test_gzip_of_several_members(opened, worker):
    parts = [header(), *map(record, FRAMES)]
    assert worker.receive_all(opened(b"".join(map(gzip.compress, parts)) + bytes(512))) == FRAMES


def test_gzip_cut_off(opened, worker):
    frames = [os.urandom(1000) for _ in range(50)]
    data = gzip.compress(header() + b"".join(map(record, frames)))
    made = opened(data[: len(data) // 2])
    got = worker.receive_all(made)
    assert got == frames[: len(got)]
    assert 20 < len(got) < 30
    assert "compressed data ends early" in made.fault()


def test_the_fault_says_where(opened, worker):
    data = header() + record(frame(60)) + record(frame(61))
    made = opened(data[:-1])
    assert worker.receive_all(made) == [frame(60)]
    text = made.fault()
    assert "packet 2, at byte 100: it is longer than what is left of the file" in text
    made.close()
    assert made.fault() == text
    assert made.stats().rx_packets == 1


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"\x89PNG\r\n\x1a\n", "89 50 4e 47"),
        (b"a", "not a capture"),
        (header()[:23], "cut off after 23 bytes"),
        (header(link=127), "802.11 with radiotap"),
        (header(">", link=113), "Linux cooked"),
        (header(link=4321), "4321"),
        (header(major=1), "version 1.4"),
        (b"\xfd7zXZ\x00rest", "xz -dk"),
        (b"\x28\xb5\x2f\xfdrest", "compressed data"),
        (gzip.compress(b"", mtime=0), "empty"),
        (gzip.compress(b"hello", mtime=0), "not a capture"),
        (b"\x1f\x8bxx", "damaged"),
    ],
)
def test_what_is_no_capture_says_what_it_is(opened, data, says):
    with pytest.raises(CaptureError, match=says):
        opened(data)


def test_the_upper_bits_of_the_link_type_are_something_else(opened, worker):
    assert worker.receive_all(opened(header(link=0x1400_0001) + record(frame(64)))) == [frame(64)]


def test_files_that_cannot_be_read(tmp_path, pool):
    for path, says in [
        (tmp_path / "none.pcap", "No such file.*check the name"),
        (tmp_path, "is a folder"),
    ]:
        with pytest.raises(CaptureError, match=says):
            port(f"pcap:{path}").open(pool, 1, 0)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path, pool):
    path = tmp_path / "secret.pcap"
    path.write_bytes(header())
    path.chmod(0)
    with pytest.raises(CaptureError, match=r"Permission denied.*chmod"):
        port(f"pcap:{path}").open(pool, 1, 0)


def test_options_that_make_no_sense(tmp_path, pool):
    path = tmp_path / "in.pcap"
    path.write_bytes(header())
    with pytest.raises(PortError, match="lacks path"):
        port("pcap:")
    with pytest.raises(PortError, match="format='csv' must be pcap or pcapng"):
        port(f"pcap:{path},format=csv")
    with pytest.raises(PortError, match="nano is for files that are written"):
        port(f"pcap:{path},nano=yes").open(pool, 1, 0)
    with pytest.raises(PortError, match="loop is for files that are read"):
        port(f"pcap:{path},loop=yes").open(pool, 0, 1)
    with pytest.raises(PortError, match="read and written in one graph"):
        port(f"pcap:{path}").open(pool, 1, 1)

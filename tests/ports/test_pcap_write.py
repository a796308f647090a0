"""Writing: packets in, the bytes of a file out."""

import errno
import gzip
import os
import random
import resource
import signal
import struct
import time

import pytest
import zstandard

from wirespeed.errors import CaptureError
from wirespeed.jit import load64, write_bytes
from wirespeed.mem.descriptor import CELL, NEEDS_CHECKSUM, address_of, cell_of, with_data
from wirespeed.mem.stream import StreamView, consume
from wirespeed.ports.pcap.write import LaneQueue
from wirespeed.ports.port import port

PCAP_HEADER = bytes.fromhex("d4c3b2a1 0200 0400 00000000 00000000 00000400 01000000")
NANO_HEADER = bytes.fromhex("4d3cb2a1 0200 0400 00000000 00000000 00000400 01000000")
PCAPNG_HEADER = (
    bytes.fromhex("0a0d0d0a 30000000 4d3c2b1a 0100 0000 ffffffffffffffff 0400 0900")
    + b"wirespeed\0\0\0"
    + bytes.fromhex("0000 0000 30000000")
    + bytes.fromhex("01000000 20000000 0100 0000 00000400 0900 0100 09000000 0000 0000 20000000")
)


def frame(size, seed=0):
    return bytes((seed + i * 7) & 0xFF for i in range(size))


def until(condition):
    """Wait for the writer's thread."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def written(path, worker, batches, options=""):
    """Write batches of descriptors; the port, closed, and the file's bytes."""
    made = port(f"pcap:{path}{options}")
    made.open(worker.pool, 0, 1)
    made.begin()
    for batch in batches:
        assert worker.send(made, batch) == len(batch)
    made.close()
    return made, path.read_bytes()


def test_a_record(tmp_path, worker):
    _, data = written(tmp_path / "o.pcap", worker, [[worker.make(frame(61), timestamp=7_000_009_999)]])
    assert data == PCAP_HEADER + struct.pack("<IIII", 7, 9, 61, 61) + frame(61)


def test_a_record_in_nanoseconds(tmp_path, worker):
    packet = worker.make(frame(61), timestamp=7_000_009_999)
    _, data = written(tmp_path / "o.pcap", worker, [[packet]], ",nano=yes")
    assert data == NANO_HEADER + struct.pack("<IIII", 7, 9999, 61, 61) + frame(61)


@pytest.mark.parametrize("size", [60, 61, 62, 63, 64])
def test_a_block(tmp_path, worker, size):
    ticks = 1_600_000_000_123_456_789
    packet = worker.make(frame(size), timestamp=ticks)
    _, data = written(tmp_path / "o.pcapng", worker, [[packet]])
    padded = frame(size) + bytes(-size % 4)
    length = 32 + len(padded)
    words = struct.pack("<IIIIIII", 6, length, 0, ticks >> 32, ticks & 0xFFFFFFFF, size, size)
    data, statistics = data[:-88], data[-88:]
    assert data == PCAPNG_HEADER + words + padded + struct.pack("<I", length)
    assert statistics[:12] == struct.pack("<III", 5, 88, 0)
    options = [struct.unpack_from("<HHQ", statistics, at) for at in range(20, 80, 12)]
    assert [(code, size) for code, size, _ in options] == [(2, 8), (3, 8), (4, 8), (5, 8), (8, 8)]


def test_format_over_name_and_gzip(tmp_path, worker):
    packet = worker.make(frame(60), timestamp=1)
    _, data = written(tmp_path / "o.pcap.gz", worker, [[packet]], ",format=pcapng")
    assert gzip.decompress(data).startswith(PCAPNG_HEADER)
    packet = worker.make(frame(60), timestamp=1)
    _, data = written(tmp_path / "o.pcapng", worker, [[packet]], ",format=pcap")
    assert data.startswith(PCAP_HEADER)


@pytest.mark.parametrize(("name", "header"), [("o.pcap", PCAP_HEADER), ("o.pcapng", PCAPNG_HEADER)])
@pytest.mark.parametrize("packed", ["", ".gz", ".zst"])
def test_no_packets_is_a_whole_file_too(tmp_path, worker, name, header, packed):
    made, data = written(tmp_path / (name + packed), worker, [])
    if packed == ".zst":
        data = zstandard.ZstdDecompressor().decompressobj().decompress(data)
    data = gzip.decompress(data) if packed == ".gz" else data
    assert data[: len(header)] == header
    assert len(data) - len(header) == ("pcapng" in name) * 88  # an interface's statistics
    assert made.fault() == ""


def test_the_time_is_now(tmp_path, worker):
    before = time.time_ns() // 1000
    _, data = written(tmp_path / "o.pcap", worker, [[worker.make(frame(60)), worker.make(frame(60))]])
    after = time.time_ns() // 1000
    times = [struct.unpack_from("<II", data, at) for at in (24, 100)]
    assert times[0] == times[1]
    assert before - 1000 <= times[0][0] * 1_000_000 + times[0][1] <= after + 1000


@pytest.mark.parametrize("name", ["o.pcap", "o.pcapng", "o.pcap.gz", "o.pcapng.gz", "o.pcap.zst", "o.pcapng.zst"])
def test_what_is_written_is_read(tmp_path, worker, pool, name):
    sizes = [60, 64, 65, 1, 1500, 1792, 1793, 9000, 65535, 14, 2000, 63]
    frames = [frame(size, i) for i, size in enumerate(sizes * 3)]
    batches = [[worker.make(f) for f in frames[i : i + 6]] for i in range(0, 36, 6)]
    made, _ = written(tmp_path / name, worker, batches)
    assert (made.stats().tx_packets, made.stats().tx_bytes) == (36, sum(sizes) * 3)
    assert pool.in_use == 0
    source = port(f"pcap:{tmp_path / name}")
    source.open(pool, 1, 0)
    assert worker.receive_all(source) == frames
    assert source.fault() == ""
    source.close()


def test_more_than_a_buffer(tmp_path, worker, pool):
    """The ring goes around three times; the writer is waited for, so that nothing is dropped."""
    frames = [frame(1500, i) for i in range(3 * (1 << 20) // 1500)]
    path = tmp_path / "o.pcap"
    made = port(f"pcap:{path},buffer=1Mi")
    made.open(pool, 0, 1)
    made.begin()
    for i in range(0, len(frames), 50):
        until(lambda: made.extended()["waiting_bytes"] < 500_000)
        worker.send(made, [worker.make(f) for f in frames[i : i + 50]])
    made.close()
    assert made.stats().tx_dropped == 0
    data = path.read_bytes()
    assert len(data) == 24 + 1516 * len(frames)
    assert [data[40 + i * 1516 :][:1500] for i in range(len(frames))] == frames


def test_what_does_not_fit_is_dropped_and_counted(tmp_path, worker, pool):
    """Nobody writes: the ring of a mebibyte fills up, and the worker goes on."""
    path = tmp_path / "o.pcap"
    made = port(f"pcap:{path},buffer=1Mi")
    made.open(pool, 0, 1)
    frames = [frame(1500, i) for i in range(1000)]
    for i in range(0, len(frames), 50):
        assert worker.send(made, [worker.make(f) for f in frames[i : i + 50]]) == 50
    assert pool.in_use == 0
    stats = made.stats()
    assert stats.tx_packets + stats.tx_dropped == 1000
    assert 1500 * stats.tx_packets == stats.tx_bytes
    assert 500 < stats.tx_packets < 700
    made.begin()  # now somebody does
    made.close()
    assert (path.stat().st_size - 24) == 1516 * stats.tx_packets
    assert made.stats() == stats


def test_room_that_is_made_meanwhile_is_seen(tmp_path, worker, pool):
    """A chain may need 256 KiB of room: what was free at the last look is looked at again before one is dropped."""
    made = port(f"pcap:{tmp_path / 'o.pcap'},buffer=1Mi")
    made.open(pool, 0, 1)
    stream = StreamView(LaneQueue(made.tx[0]).stream)
    while stream.size - stream.produced > 450_000:
        worker.send(made, [worker.make(frame(1484)) for _ in range(20)])
    consume(stream.address, stream.produced)  # the writer has taken all of it
    assert stream.consumed_seen == 0
    worker.send(made, [worker.make(frame(60_000)) for _ in range(8)])
    assert made.stats().tx_dropped == 0
    made.close()


def test_flush_after_each_burst(tmp_path, worker):
    path = tmp_path / "o.pcap"
    made = port(f"pcap:{path},flush=yes")
    made.open(worker.pool, 0, 1)
    made.begin()
    assert path.stat().st_size == 24
    for size in (100, 176):
        worker.send(made, [worker.make(frame(60))])
        until(lambda size=size: path.stat().st_size == size)
    made.close()


def test_data_anywhere_in_the_cell(tmp_path, worker, pool):
    """The last bytes of the last cell of the pool: nothing behind it may be read."""
    held = []
    while pool.take(worker.vector, 1):
        held.append(load64(worker.vector))
    last = next(desc for desc in held if cell_of(desc) == pool.size - 1)
    held.remove(last)
    for start in range(0, len(held), 256):
        worker.free(held[start : start + 256])
    last = with_data(last, CELL - 61, 61)
    write_bytes(address_of(pool.cells, last), frame(61))
    _, data = written(tmp_path / "o.pcap", worker, [[last]])
    assert data[40:] == frame(61)


UDP = bytes.fromhex(  # pseudo header total 0x1c3e folded into the checksum field, as virtio-net leaves it
    "020000000001 020000000002 08004500 0020 0000 4000 4011 0000 0a000001 0a0000020035 0035 000c 0000 61626364"
)


def ones_complement(data):
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@pytest.mark.parametrize("payload", [b"abcd", frame(5000)], ids=["one cell", "chain"])
def test_checksums_left_to_hardware_are_completed(tmp_path, worker, payload):
    length = 8 + len(payload)
    pseudo = bytes.fromhex("0a000001 0a000002 0011") + struct.pack(">H", length)
    udp = struct.pack(">HHHH", 53, 53, length, ones_complement(pseudo)) + payload
    packet = worker.make(
        UDP[:34] + udp, checksum_state=NEEDS_CHECKSUM, checksum_start=34, checksum_offset=6, timestamp=1
    )
    _, data = written(tmp_path / "o.pcap", worker, [[packet]])
    assert data[40 + 42 :] == payload
    assert ones_complement(pseudo + data[40 + 34 :]) == 0xFFFF


def test_a_checksum_outside_the_packet_changes_nothing(tmp_path, worker):
    packet = worker.make(frame(60), checksum_state=NEEDS_CHECKSUM, checksum_start=50, checksum_offset=9)
    _, data = written(tmp_path / "o.pcap", worker, [[packet]])
    assert data[40:] == frame(60)


@pytest.mark.parametrize("name", ["none/o.pcap", "."])
def test_files_that_cannot_be_written(tmp_path, pool, name):
    with pytest.raises(CaptureError, match=r"cannot be written: .*: name a file where you may write"):
        port(f"pcap:{tmp_path / name}").open(pool, 0, 1)


def send_many(made, worker, count):
    for _ in range(0, count, 20):
        assert worker.send(made, [worker.make(frame(1484)) for _ in range(20)]) == 20


def test_a_disk_that_is_full(tmp_path, worker, pool):
    """All pool memory is made before the limit: memory of a memfd is a file, too."""
    path = tmp_path / "o.pcap"
    made = port(f"pcap:{path},buffer=1Mi")
    made.open(pool, 0, 1)
    made.begin()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    try:
        send_many(made, worker, 400)
        until(lambda: "writing fails: File too large" in made.fault())
        send_many(made, worker, 1000)
        assert pool.in_use == 0
        assert made.stats().tx_dropped > 500
        made.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    stats = made.stats()
    whole = (200_000 - 24) // 1500
    assert path.stat().st_size == 24 + 1500 * whole  # whole records only
    assert (stats.tx_packets, stats.tx_bytes) == (whole, 1484 * whole)
    assert stats.tx_packets + stats.tx_dropped + stats.tx_errors == 1400
    assert made.fault() == f"{path}: writing failed: File too large; {stats.tx_errors} packets are not in the file"
    (event,) = made.events.since()
    assert (event.kind, "writing fails: File too large" in event.text) == ("lost", True)


def test_room_again_on_the_disk(tmp_path, worker, pool):
    path = tmp_path / "o.pcap"
    made = port(f"pcap:{path},buffer=1Mi")
    made.open(pool, 0, 1)
    made.begin()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        send_many(made, worker, 200)
        until(made.fault)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    until(lambda: not made.fault() and not made.extended()["waiting_bytes"])
    send_many(made, worker, 100)
    made.close()
    assert [event.kind for event in made.events.since()] == ["lost", "returned"]
    assert (made.fault(), made.stats().tx_packets, made.stats().tx_dropped) == ("", 300, 0)
    assert path.stat().st_size == 24 + 300 * 1500
    source = port(f"pcap:{path}")
    source.open(pool, 1, 0)
    assert worker.receive_all(source) == [frame(1484)] * 300
    source.close()


@pytest.mark.parametrize("ending", ["pcap", "pcapng", "pcap.gz", "pcapng.zst"])
def test_a_disk_with_one_bad_moment(tmp_path, worker, pool, monkeypatch, ending):
    """An error in the middle of a record: what is written afterwards follows the last whole one."""
    made = port(f"pcap:{tmp_path / 'o'}.{ending}")
    made.open(pool, 0, 1)
    made.begin()
    until(lambda: not made._sink.files._pending)
    os_write, answers = os.write, [2000, OSError(errno.EIO, "Input/output error")]

    def write(fd, data):
        if fd != made._sink.files._fd or not answers:
            return os_write(fd, data)
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return os_write(fd, data[:answer])

    monkeypatch.setattr("wirespeed.ports.pcap.files.os.write", write)
    sent = [random.Random(seed).randbytes(1484) for seed in range(120)]  # more than a compressor keeps
    worker.send(made, [worker.make(data) for data in sent])
    until(lambda: not answers and not made.extended()["waiting_bytes"])
    later = [frame(60, seed) for seed in range(3)]
    for data in later:
        worker.send(made, [worker.make(data)])
    until(lambda: not made.extended()["waiting_bytes"])
    lost = made._sink.writer.lanes[0].lost
    made.close()
    assert 0 < lost <= 120
    source = port(f"pcap:{tmp_path / 'o'}.{ending}")
    source.open(pool, 1, 0)
    read = worker.receive_all(source)
    source.close()
    assert read[-3:] == later
    assert read[:-3] == sent[: len(read) - 3]


@pytest.mark.parametrize("packing", ["gz", "zst"])
def test_a_full_disk_behind_a_compressor(tmp_path, worker, pool, packing):
    if not os.path.exists("/dev/full"):
        pytest.skip("this machine has no /dev/full")
    (tmp_path / f"o.pcap.{packing}").symlink_to("/dev/full")
    made = port(f"pcap:{tmp_path / 'o.pcap'}.{packing}")
    made.open(pool, 0, 1)
    said = ""
    try:
        made.begin()  # gzip's header may be enough
        send_many(made, worker, 20)
    except CaptureError as error:
        said = str(error)
    made.close()
    assert "No space left on device" in said + made.fault()


def test_a_full_device(pool, tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("this machine has no /dev/full")
    made = port("pcap:/dev/full")
    made.open(pool, 0, 1)
    with pytest.raises(CaptureError, match="No space left"):
        made.begin()
    made.close()


@pytest.mark.parametrize("name", ["o.pcap", "o.pcap.gz"])
@pytest.mark.parametrize("before", [b"what somebody wants to keep", None])
def test_a_file_is_left_alone_until_the_graph_begins(tmp_path, pool, name, before):
    path = tmp_path / name
    if before is not None:
        path.write_bytes(before)
    made = port(f"pcap:{path}")
    made.open(pool, 0, 1)
    made.close()
    assert (path.read_bytes() if path.exists() else None) == before


def test_a_port_is_opened_again(tmp_path, worker, pool):
    sink, source = port(f"pcap:{tmp_path / 'o.pcap'}"), port(f"pcap:{tmp_path / 'o.pcap'}")
    for seed in (1, 2):
        sink.open(pool, 0, 1)
        sink.begin()
        worker.send(sink, [worker.make(frame(60, seed))])
        sink.close()
        source.open(pool, 1, 0)
        assert worker.receive_all(source) == [frame(60, seed)]
        source.close()
        source.close()
        assert (sink.stats().tx_packets, source.stats().rx_packets) == (1, 1)

"""Files that are rotated, several interfaces, statistics, snap length, pipes: what a file is besides its packets."""

import gzip
import os
import signal
import struct
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ports.test_pcap_write import frame, until, written

import wirespeed as ws
from wirespeed.errors import CaptureError, PortError
from wirespeed.jit import COMPILED
from wirespeed.ports.port import port


def opened(path, pool, options="", queues=1):
    made = port(f"pcap:{path}{options}")
    made.open(pool, 0, queues)
    made.begin()
    return made


def read(path, worker, options=""):
    made = port(f"pcap:{path}{options}")
    made.open(worker.pool, 1, 0)
    packets, deadline = [], time.monotonic() + 60
    while (descs := worker.burst(made)) is not None:
        assert time.monotonic() < deadline
        packets += [worker.packet(desc) for desc in descs]
        worker.free(descs)
    made.close()
    assert made.fault() == ""
    return packets


def settled(made):
    """Everything that was sent is in a file."""
    until(lambda: not made.extended()["waiting_bytes"])


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# Rotation --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["pcap", "pcapng", "pcap.gz", "pcapng.zst"])
def test_by_size(tmp_path, worker, pool, ending):
    """As many packets as fit go into a file; one that is longer than a file may be has its own."""
    made = opened(tmp_path / f"o.{ending}", pool, ",rotate=1000")
    frames = [frame(200, i) for i in range(10)] + [frame(3000), frame(100)]
    for part in (frames[:7], frames[7:]):
        worker.send(made, [worker.make(data) for data in part])
    made.close()
    expected = [frames[:4], frames[4:8], frames[8:10], frames[10:11], frames[11:]]
    if "pcapng" in ending:  # 104 bytes of header, 32 more for each packet
        expected = [frames[:3], frames[3:6], frames[6:9], frames[9:10], frames[10:11], frames[11:]]
    assert names(tmp_path) == [f"o-{number:05}.{ending}" for number in range(1, len(expected) + 1)]
    assert [read(path, worker) for path in sorted(tmp_path.iterdir())] == expected
    assert made.stats().tx_packets == 12
    assert sorted(path.stat().st_size for path in tmp_path.iterdir())[-2] <= 1000


def test_a_ring_of_files(tmp_path, worker, pool):
    made = opened(tmp_path / "o.pcap", pool, ",rotate=1000,files=3")
    for number in range(40):
        worker.send(made, [worker.make(frame(200, number))])
    made.close()
    assert made.extended() == {}
    assert names(tmp_path) == ["o-00008.pcap", "o-00009.pcap", "o-00010.pcap"]
    kept = [data for path in sorted(tmp_path.iterdir()) for data in read(path, worker)]
    assert kept == [frame(200, number) for number in range(28, 40)]


def test_by_time(tmp_path, worker, pool):
    """The clock is the test's; it starts with a file's first packet, and an empty file is not rotated."""
    made = opened(tmp_path / "o.pcapng", pool, ",every=60")
    now = 1000.0
    made._sink.files.clock = lambda: now
    contents = []
    for step, count in ((500.0, 2), (59.0, 1), (1.0, 3), (60.0, 1), (1000.0, 2)):
        now += step
        frames = [frame(60 + len(contents) + i) for i in range(count)]
        worker.send(made, [worker.make(data) for data in frames])
        settled(made)
        contents.append(frames)
    assert made.extended()["files"] == 4
    assert made.facts()["file"].endswith("o-00004.pcapng")
    made.close()
    assert [read(path, worker) for path in sorted(tmp_path.iterdir())] == [
        contents[0] + contents[1], contents[2], contents[3], contents[4],
    ]  # fmt: skip


@pytest.mark.parametrize("path", ["-", "/dev/null"])
def test_a_device_is_not_rotated(pool, path):
    with pytest.raises(CaptureError, match="is no file, and cannot be rotated"):
        port(f"pcap:{path},rotate=1M").open(pool, 0, 1)


def test_the_next_file_cannot_be_made(tmp_path, worker, pool):
    """Packets wait in memory, and go into it when it can."""
    made = opened(tmp_path / "o.pcap", pool, ",rotate=1000")
    (tmp_path / "o-00002.pcap").mkdir()
    for number in range(10):
        worker.send(made, [worker.make(frame(200, number))])
    until(lambda: "Is a directory" in made.fault())
    (tmp_path / "o-00002.pcap").rmdir()
    until(lambda: not made.fault())
    made.close()
    kept = [data for path in sorted(tmp_path.iterdir()) for data in read(path, worker)]
    assert kept == [frame(200, number) for number in range(10)]
    assert [event.kind for event in made.events.since()] == ["lost", "returned"]


# Interfaces ------------------------------------------------------------------------------------------------


def test_each_queue_is_an_interface(tmp_path, worker, pool):
    made = opened(tmp_path / "o.pcapng", pool, ",queues=3,comment=three of them", 3)
    for queue in (2, 0, 1, 2):
        worker.send(made, [worker.make(frame(60 + queue)) for _ in range(queue + 1)], queue)
        settled(made)
    made.close()
    source = port(f"pcap:{tmp_path / 'o.pcapng'},interfaces=yes")
    source.open(pool, 1, 0)
    descs = worker.burst(source)
    found = [(worker.header(desc).mark, worker.packet(desc)) for desc in descs]
    assert found == [(q, frame(60 + q)) for q in (2, 2, 2, 0, 1, 1, 2, 2, 2)]
    worker.free(descs)
    source.close()
    data = (tmp_path / "o.pcapng").read_bytes()
    assert b"three of them" in data
    assert all(f"queue {number}".encode() in data for number in range(3))
    assert statistics(data) == {0: (1, 0), 1: (2, 0), 2: (6, 0)}


def statistics(data):
    """By interface: packets received and dropped, as the blocks at the end say."""
    found, at = {}, 0
    while at < len(data):
        kind, length, interface = struct.unpack_from("<III", data, at)
        if kind == 5:
            received, dropped, delivered = (struct.unpack_from("<Q", data, at + 48 + 12 * i)[0] for i in range(3))
            assert delivered == received - dropped
            found[interface] = (received, dropped)
        at += length
    return found


def test_statistics_of_each_file(tmp_path, worker, pool):
    made = opened(tmp_path / "o.pcapng", pool, ",rotate=1000")
    worker.send(made, [worker.make(frame(200, i)) for i in range(7)])
    made.close()
    assert [statistics(path.read_bytes()) for path in sorted(tmp_path.iterdir())] == [
        {0: (3, 0)}, {0: (3, 0)}, {0: (1, 0)},
    ]  # fmt: skip


def test_drops_are_in_the_statistics(tmp_path, worker, pool):
    made = port(f"pcap:{tmp_path / 'o.pcapng'},buffer=1Mi")
    made.open(pool, 0, 1)
    for _ in range(20):
        worker.send(made, [worker.make(frame(1500)) for _ in range(50)])
    made.begin()
    made.close()
    stats = made.stats()
    assert stats.tx_dropped > 300
    assert statistics((tmp_path / "o.pcapng").read_bytes()) == {0: (1000, stats.tx_dropped)}


# Snap length -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["o.pcap", "o.pcapng"])
def test_the_snap_length(tmp_path, worker, name):
    frames = [frame(60), frame(96), frame(97), frame(1500), frame(9000)]
    made, data = written(tmp_path / name, worker, [[worker.make(f) for f in frames]], ",snap=96")
    assert read(tmp_path / name, worker) == [f[:96] for f in frames]
    assert made.stats().tx_bytes == sum(map(len, frames))
    wire = [struct.unpack_from("<II", data, data.index(f[:60]) - 8) for f in frames[:1]]
    assert wire == [(60, 60)]
    assert data.count(struct.pack("<II", 96, 9000)) == 1


# Pipes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pipe", "pipe.gz"])
def test_into_a_pipe(tmp_path, worker, pool, name):
    path = tmp_path / name
    os.mkfifo(path)
    got = []
    reader = threading.Thread(target=lambda: got.append(path.read_bytes()))
    reader.start()
    made = opened(path, pool, ",format=pcap")
    for number in range(100):
        worker.send(made, [worker.make(frame(1500, number))])
    made.close()
    reader.join(20)
    data = gzip.decompress(got[0]) if name.endswith("gz") else got[0]
    assert len(data) == 24 + 100 * 1516
    assert made.fault() == ""


def test_a_pipe_whose_reader_goes_away(tmp_path, worker, pool):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    made = opened(path, pool, ",format=pcap")
    assert len(os.read(fd, 100)) == 24
    os.close(fd)
    worker.send(made, [worker.make(frame(60))] * 1)
    until(lambda: "Broken pipe" in made.fault())
    worker.send(made, [worker.make(frame(60))] * 1)
    settled(made)
    made.close()
    assert (made.stats().tx_packets, made.stats().tx_errors) == (0, 2)
    assert "Broken pipe; 2 packets are not in the file" in made.fault()


# Killed ----------------------------------------------------------------------------------------------------

_ENDLESS = """
import sys, time, wirespeed as ws
from tests.ports.test_pcap_rotate import nothing
graph = ws.Graph()
graph.add(ws.port("generator:size=64,rate=100k") >> nothing >> ws.port("pcap:" + sys.argv[1]))
with ws.Engine(graph):
    print("runs", flush=True)
    time.sleep(60)
"""


@ws.node()
def nothing(pkt):
    """Let it pass."""


@pytest.mark.skipif(not COMPILED, reason="a lot of packets, interpreted")
@pytest.mark.parametrize("name", ["o.pcap", "o.pcapng.gz"])
def test_killed(tmp_path, worker, name):
    """What is left is a file; the last packet may be cut off."""
    path = tmp_path / name
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen([sys.executable, "-c", _ENDLESS, path], stdout=subprocess.PIPE, env=env)
    assert child.stdout.readline() == b"runs\n"
    deadline = time.monotonic() + 60
    while path.stat().st_size < 20_000:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    made = port(f"pcap:{path}")
    made.open(worker.pool, 1, 0)
    seen = 0
    while (descs := worker.burst(made)) is not None:
        assert {len(worker.packet(desc)) for desc in descs} <= {60}
        seen += len(descs)
        worker.free(descs)
    assert seen > 200
    said = made.fault()
    assert not said or any(part in said for part in ("ends early", "the file ends", "what is left of the file"))
    assert made.stats().rx_errors <= 1
    made.close()


# Bad input, and everything together ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("o.pcap,snap=0", "snap=0 must be 1 to 262144 bytes"),
        ("o.pcap,rotate=10", "rotate=10 must be at least 1000 bytes"),
        ("o.pcap,files=3", "give rotate or every too"),
        ("o.pcap,buffer=1k", "buffer=1000 must be 1048576 to"),
        ("o.pcap,comment=x", "a comment needs pcapng"),
        ("o.pcap,queues=2", "several interfaces, which need pcapng"),
        ("o.pcapng,queues=65", "queues=65 must be 1 to 64"),
        ("o.pcap,speed=1,rate=1k", "exclude each other"),
        ("o.pcap,speed=-1", "speed=-1 must be 0.001 to 1000"),
        ("o.pcap,rat=5", "did you mean 'rate'"),
    ],
)
def test_options_that_make_no_sense(options, says):
    with pytest.raises(PortError, match=says):
        port(f"pcap:{options}")


@given(
    sizes=st.lists(st.integers(1, 5000) | st.sampled_from([60, 64, 1500, 65535]), max_size=30),
    bursts=st.integers(1, 12),
    name=st.sampled_from(["o.pcap", "o.pcapng", "o.pcap.gz", "o.pcapng.zst"]),
    snap=st.sampled_from([262144, 1500, 64, 1]),
    rotate=st.sampled_from([0, 1000, 5000, 100_000]),
)
@settings(max_examples=40 if COMPILED else 15, deadline=None)
def test_what_is_written_is_read(tmp_path_factory, worker, sizes, bursts, name, snap, rotate):
    folder = tmp_path_factory.mktemp("round")
    frames = [frame(size, i) for i, size in enumerate(sizes)]
    made = opened(folder / name, worker.pool, f",snap={snap},rotate={rotate},buffer=4Mi,nano=yes")
    for i in range(0, len(frames), bursts):
        worker.send(made, [worker.make(data, timestamp=10**18 + i) for data in frames[i : i + bursts]])
    made.close()
    assert made.fault() == ""
    back = [data for path in sorted(folder.iterdir()) for data in read(path, worker, ",timestamps=yes")]
    assert back == [data[:snap] for data in frames]
    assert worker.pool.in_use == 0

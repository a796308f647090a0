"""Captures that come bit by bit: pipes, the standard input, compressed data."""

import gzip
import os
import select
import subprocess
import sys
import threading
import time

import pytest
import zstandard
from tests.ports.test_pcap_broken import FRAMES, frame, pcap, pcapng

import wirespeed as ws
from wirespeed.errors import CaptureError
from wirespeed.jit import COMPILED
from wirespeed.ports.pcap import stream as pcap_stream
from wirespeed.ports.pcap.read import FileQueue
from wirespeed.ports.port import port

needs_compiler = pytest.mark.skipif(not COMPILED, reason="a lot of packets, interpreted")


@pytest.fixture
def fifo(tmp_path):
    """A pipe with a name, and what writes pieces to it from a thread: one when told to."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    threads, fds = [], []

    def write(data, keep_open=False):
        def run():
            fd = os.open(path, os.O_WRONLY)
            fds.append(fd)
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            if not keep_open:
                os.close(fds.pop())

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        return threads[-1]

    yield path, write, fds
    for thread in threads:
        thread.join(20)
    for fd in fds:
        os.close(fd)


def patiently(worker, made):
    """Everything until the end; a stream may have nothing for now."""
    packets, deadline = [], time.monotonic() + 60
    while (descs := worker.burst(made, 32)) is not None:
        assert time.monotonic() < deadline
        packets += [worker.packet(desc) for desc in descs]
        worker.free(descs)
    return packets


def zstd(data):
    return zstandard.ZstdCompressor().compress(data)


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd])
@pytest.mark.parametrize("make", [pcap, pcapng])
def test_a_pipe(worker, pool, fifo, pack, make):
    path, write, _ = fifo
    write(pack(make(frames=FRAMES * 20)))
    made = port(f"pcap:{path}")
    made.open(pool, 1, 0)
    expected = FRAMES * 20 + ([frame(60)] if make is pcapng else [])
    assert patiently(worker, made) == expected
    assert made.fault() == ""
    made.close()
    assert made.stats().rx_packets == len(expected)


def test_a_pipe_that_gives_a_byte_at_a_time(worker, pool, fifo):
    path, write, fds = fifo
    data = pcap()
    write(data[:24], keep_open=True).join(1)
    made = port(f"pcap:{path}")
    made.open(pool, 1, 0)
    (fd,) = fds
    packets = []
    for byte in data[24:]:
        os.write(fd, bytes([byte]))
        descs = worker.burst(made, 32)
        packets += [worker.packet(desc) for desc in descs]
        worker.free(descs)
    os.close(fds.pop())
    assert packets + patiently(worker, made) == FRAMES
    assert made.fault() == ""
    made.close()


@pytest.mark.parametrize("cut", [1, 70])
def test_a_pipe_that_breaks_off(worker, pool, fifo, cut):
    path, write, _ = fifo
    write(pcap()[:-cut])
    made = port(f"pcap:{path}")
    made.open(pool, 1, 0)
    assert patiently(worker, made) == FRAMES[:-1]
    assert "packet 4, at byte 198: " in made.fault()
    assert made.stats().rx_errors == 1
    made.close()


def test_a_pipe_that_is_no_capture(pool, fifo):
    path, write, _ = fifo
    write(b"x" * 100)
    with pytest.raises(CaptureError, match="not a capture"):
        port(f"pcap:{path}").open(pool, 1, 0)


def test_a_pipe_cannot_be_looped(pool, fifo):
    path, write, _ = fifo
    write(pcap())
    with pytest.raises(CaptureError, match="comes only once"):
        port(f"pcap:{path},loop=yes").open(pool, 1, 0)


def test_closing_while_more_may_come(pool, fifo, open_files):
    path, write, fds = fifo
    write(pcap(), keep_open=True)
    before = open_files()
    made = port(f"pcap:{path}")
    made.open(pool, 1, 0)
    made.close()
    assert open_files() == before + len(fds)


def test_a_worker_is_woken(worker, pool, fifo):
    """It says that it sleeps; then the descriptor becomes readable when there is something, and not before."""
    path, write, fds = fifo
    write(pcap()[:24], keep_open=True).join(1)
    made = port(f"pcap:{path}")
    made.open(pool, 1, 0)
    assert worker.burst(made) == []
    (bell,) = made.descriptors(0)
    assert made.arm(made.rx[0], 1) == 0
    with pytest.raises(BlockingIOError):
        os.eventfd_read(bell)
    os.write(fds[0], pcap()[24:])
    assert select.select([bell], [], [], 20)[0]
    assert made.arm(made.rx[0], 0) == 0
    with pytest.raises(BlockingIOError):
        os.eventfd_read(bell)
    descs = []
    while len(descs) < 4:
        descs += worker.burst(made)
    worker.free(descs)
    os.close(fds.pop())
    assert patiently(worker, made) == []
    assert made.arm(made.rx[0], 1) == 0  # over, and the worker knows
    made.close()


def test_a_whole_graph_reads_a_pipe(fifo):
    path, write, _ = fifo
    write(pcap(frames=FRAMES * 100))
    graph = ws.Graph()
    graph.add(ws.port(f"pcap:{path}") >> nothing >> ws.port("sink"))
    report = ws.run(graph)
    assert (report.packets, report.in_use, report.faults) == (400, 0, ())


@ws.node()
def nothing(pkt):
    """Let it pass."""


def test_the_standard_input(tmp_path):
    code = (
        "import wirespeed as ws\n"
        "from tests.ports.test_pcap_stream import nothing\n"
        "graph = ws.Graph()\n"
        f"graph.add(ws.port('pcap:-') >> nothing >> ws.port('pcap:{tmp_path / 'o.pcap'}'))\n"
        "print(ws.run(graph).packets)\n"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], input=pcap(), capture_output=True, env=env, timeout=120)
    assert done.stdout == b"4\n", done.stderr.decode()
    assert (tmp_path / "o.pcap").stat().st_size == len(pcap())


# Compressed data -------------------------------------------------------------------------------------------


def test_zstd_by_its_content_and_in_frames(tmp_path, worker, pool):
    parts = [pcap()[:30], pcap()[30:100], pcap()[100:]]
    (tmp_path / "in").write_bytes(b"".join(map(zstd, parts)) + bytes(100))
    made = port(f"pcap:{tmp_path / 'in'}")
    made.open(pool, 1, 0)
    assert patiently(worker, made) == FRAMES
    assert made.fault() == ""
    made.close()


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
@pytest.mark.parametrize(("maim", "says"), [(lambda d: d[: len(d) // 2], "ends early"), (None, "is damaged")])
def test_compressed_data_that_is_not_whole(tmp_path, worker, pool, pack, maim, says):
    frames = [os.urandom(1000) for _ in range(600)]
    data = pack(pcap(frames=frames))
    if maim is None:
        middle = len(data) // 2
        data = data[:middle] + b"\xff" * 1000 + data[middle + 1000 :]
    else:
        data = maim(data)
    (tmp_path / "in").write_bytes(data)
    made = port(f"pcap:{tmp_path / 'in'}")
    made.open(pool, 1, 0)
    got = patiently(worker, made)
    assert 100 < len(got) < 400
    if says == "ends early":
        assert got == frames[: len(got)]
    assert f"compressed data {says}" in made.fault() or made.stats().rx_errors
    made.close()


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_looping_over_compressed_data(tmp_path, worker, pool, pack):
    (tmp_path / "in").write_bytes(pack(pcap()))
    made = port(f"pcap:{tmp_path / 'in'},loop=yes,count=10")
    made.open(pool, 1, 0)
    assert patiently(worker, made) == (FRAMES * 3)[:10]
    made.close()


@needs_compiler
@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd])
def test_more_than_a_ring(worker, pool, fifo, pack):
    """The ring goes around twice; the thread waits for the worker, and the worker for it."""
    path, write, _ = fifo
    frames = [frame(1500, i) for i in range(100)]
    write(pack(pcap(frames=frames * 200)))
    made = port(f"pcap:{path}")
    made.open(pool, 1, 0)
    seen = 0
    while (descs := worker.burst(made, 32)) is not None:
        if seen % 3200 == 0:
            assert [worker.packet(desc) for desc in descs] == frames[seen % 100 :][: len(descs)]
        seen += len(descs)
        worker.free(descs)
    assert (seen, made.fault()) == (20_000, "")
    assert pcap_stream.RING < 20_000 * 1516
    made.close()


def test_a_block_that_is_larger_than_the_ring(tmp_path, worker, pool, monkeypatch):
    monkeypatch.setattr(pcap_stream, "RING", 1 << 16)
    data = pcapng(frames=[])[:56] + (77).to_bytes(4, "little") + (1 << 20).to_bytes(4, "little") + bytes(1 << 20)
    (tmp_path / "in").write_bytes(gzip.compress(data))
    made = port(f"pcap:{tmp_path / 'in'}")
    made.open(pool, 1, 0)
    assert patiently(worker, made) == []
    assert "at byte 56: the block is larger than a stream holds" in made.fault()
    assert FileQueue(made.rx[0]).errors == 1
    made.close()


def test_zstd_without_its_package(tmp_path, pool, monkeypatch):
    monkeypatch.setitem(sys.modules, "zstandard", None)
    (tmp_path / "in").write_bytes(zstd(pcap()))
    for make in (lambda: port(f"pcap:{tmp_path / 'in'}").open(pool, 1, 0),
                 lambda: port(f"pcap:{tmp_path / 'o.pcap.zst'}").open(pool, 0, 1)):  # fmt: skip
        with pytest.raises(CaptureError, match="zstd needs a package: pip install zstandard"):
            make()
    assert not (tmp_path / "o.pcap.zst").exists()

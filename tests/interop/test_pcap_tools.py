"""Captures and other people's programs: Wireshark's tools, tcpdump, head, and a disk that is full."""

import os
import re
import shutil
import subprocess
import time

import pytest

import wirespeed as ws
from wirespeed.jit import COMPILED

pytestmark = pytest.mark.skipif(not COMPILED, reason="traffic, interpreted")


def needs(*programs):
    missing = [name for name in programs if shutil.which(name) is None]
    return pytest.mark.skipif(
        bool(missing), reason=f"{', '.join(missing)} not installed: apt-get install tshark tcpdump"
    )


def run(*command):
    return subprocess.run([*map(str, command)], capture_output=True, text=True, check=True).stdout


@ws.node()
def nothing(pkt):
    """Let it pass."""


def pump(source, sink):
    """Run a graph from one port to another; its report."""
    graph = ws.Graph()
    graph.add(source >> nothing >> sink)
    report = ws.run(graph)
    assert report.in_use == 0
    return report


@pytest.fixture
def ours(tmp_path):
    """A pcapng of a thousand packets that we wrote, in both directions of a port and with a comment."""
    path = tmp_path / "ours.pcapng"
    source = ws.capture("generator:size=128,count=1000,flows=10", str(path), comment="a thousand")
    pump(source, ws.port("sink"))
    return path


@needs("capinfos", "tshark")
def test_their_tools_read_what_we_say_of_it(ours):
    told = run("capinfos", ours)
    assert re.search(r"Number of packets:\s+1000", told)
    assert re.search(r"Capture comment:\s+a thousand", told)
    assert "Time precision = nanoseconds (9)" in told
    assert "Number of stat entries = 1" in told
    assert re.search(r"Name = generator:size=128,count=1000,flows=10", told)
    fields = run(
        "tshark", "-r", ours, "-T", "fields", "-e", "frame.interface_name", "-e", "frame.packet_flags_direction"
    )
    assert set(fields.splitlines()) == {"generator:size=128,count=1000,flows=10\t0x00000001"}  # inbound


@needs("editcap", "capinfos")
@pytest.mark.parametrize("kind", ["nsecpcap", "pcap", "pcapng"])
def test_their_files_are_read(tmp_path, ours, kind):
    run("editcap", "-F", kind, "-s", 60, ours, tmp_path / "theirs")
    (tmp_path / "gz").write_bytes(b"")
    run("sh", "-c", f"gzip -c {tmp_path / 'theirs'} > {tmp_path / 'gz'}")
    for name in ("theirs", "gz"):
        report = pump(ws.port(f"pcap:{tmp_path / name}"), ws.port("sink"))
        assert (report.packets, report.bytes, report.faults) == (1000, 60_000, ())


@needs("mergecap")
def test_several_interfaces_of_theirs(tmp_path, ours):
    pump(ws.port("generator:size=64,count=500"), ws.port(f"pcap:{tmp_path / 'b.pcap'}"))
    run("mergecap", "-I", "none", "-w", tmp_path / "both", ours, tmp_path / "b.pcap")
    marks = ws.counter()

    @ws.node()
    def count(pkt):
        """Packets of the second interface."""
        if pkt.with_meta().mark == 1:
            marks.add(1)

    graph = ws.Graph()
    graph.add(ws.port(f"pcap:{tmp_path / 'both'},interfaces=yes") >> count >> ws.port("sink"))
    report = ws.run(graph)
    assert (report.packets, int(marks)) == (1500, 500)


@needs("zstd", "head")
def test_zstd_and_a_file_cut_off(tmp_path, ours):
    run("zstd", "-q", ours, "-o", tmp_path / "in.zst")
    assert pump(ws.port(f"pcap:{tmp_path / 'in.zst'}"), ws.port("sink")).packets == 1000
    size = ours.stat().st_size // 2
    run("sh", "-c", f"head -c {size} {ours} > {tmp_path / 'half'}")
    report = pump(ws.port(f"pcap:{tmp_path / 'half'}"), ws.port("sink"))
    assert 480 < report.packets < 520
    assert "is longer than what is left of the file" in report.faults[0] or "ends in the middle" in report.faults[0]


@needs("tcpdump")
def test_tcpdump_reads_rotated_files(tmp_path):
    pump(ws.port("generator:size=128,count=5000"), ws.port(f"pcap:{tmp_path / 'o.pcap'},rotate=100k"))
    counts = []
    for path in sorted(tmp_path.iterdir()):
        assert path.stat().st_size <= 100_000
        done = subprocess.run(["tcpdump", "--count", "-r", path], capture_output=True, text=True)
        counts.append(int(re.search(r"(\d+) packets?", done.stdout + done.stderr)[1]))
    assert counts == [(100_000 - 24) // 140] * (5000 // 714) + [5000 % 714]


@needs("mount")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount: run as root")
def test_a_full_tmpfs(tmp_path):
    """Packets are dropped while it is full; when there is room, writing goes on where it stopped."""
    disk = tmp_path / "disk"
    disk.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk)
    try:
        (disk / "filler").write_bytes(bytes(2 << 20))
        graph = ws.Graph()
        sink = ws.port(f"pcap:{disk / 'o.pcap'},buffer=1Mi")
        graph.add(ws.port("generator:size=1024,rate=200k") >> nothing >> sink)
        engine = ws.Engine(graph)
        with engine:
            until(lambda: any(event.kind == "lost" for event in sink.events.since()))
            until(lambda: sink.stats().tx_dropped > 100)
            (disk / "filler").unlink()
            until(lambda: any(event.kind == "returned" for event in sink.events.since()))
            until(lambda: sum(event.kind == "lost" for event in sink.events.since()) == 2)
            report = engine.stop()
        assert report.in_use == 0
        stats = sink.stats()
        data = (disk / "o.pcap").read_bytes()
        assert (len(data) - 24) % 1036 == 0  # whole records only
        assert (len(data) - 24) // 1036 == stats.tx_packets
        assert "No space left on device" in sink.fault()
        assert stats.tx_errors > 0
    finally:
        run("umount", disk)


def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)

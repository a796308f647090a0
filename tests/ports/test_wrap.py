"""Ports that wrap ports: their text, what they hand on, capture and trace. Faults: test_wrap_fault.py."""

import gc
import io
import re
import struct

import pytest
from tests.ports.test_pcap_broken import frame
from tests.ports.test_pcap_rotate import read, until

import wirespeed as ws
from wirespeed.errors import PortError
from wirespeed.jit import COMPILED
from wirespeed.ports.null import Null, NullOptions
from wirespeed.ports.offloads import Offload
from wirespeed.ports.port import port
from wirespeed.ports.summary import summary
from wirespeed.ports.wrap import tee
from wirespeed.ports.wrap.tee import TeeQueue

UDP = bytes.fromhex(
    "020000000001 020000000002 0800 4500 0020 0000 4000 4011 0000 0a000001 0a000002 0035 1000 000c 0000 61626364"
)
TCP = UDP[:23] + b"\x06" + UDP[24:34] + bytes.fromhex("0050 1f90 00000001 00000002 5012 0100 0000 0000")


@pytest.fixture
def opened(pool):
    ports = []

    def open_(made, rx=1, tx=1):
        made = port(made) if isinstance(made, str) else made
        ports.append(made)
        made.open(pool, rx, tx)
        made.begin()
        return made

    yield open_
    for made in ports:
        made.close()


# Text ------------------------------------------------------------------------------------------------------


def test_the_outermost_stands_first(tmp_path):
    made = port(f"capture({tmp_path / 'o.pcapng'},snap=64) fault(drop=0.5,seed=7)trace() null:size=100,count=3")
    kinds = [type(made).__name__, type(made.inner).__name__, type(made.inner.inner).__name__]
    assert kinds == ["CapturePort", "FaultPort", "TracePort"]
    assert (made.options.snap, made.inner.options.seed, made.inner.inner.inner.options.size) == (64, 7, 100)
    assert isinstance(made.inner.inner.inner, Null)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("fualt(drop=1) null", "no wrapper is called 'fualt' .*did you mean 'fault'"),
        ("fault(drp=1) null", "no option 'drp': did you mean 'drop'"),
        ("fault(drop=2) null", "drop=2.0 must be a probability, 0 to 1"),
        ("fault(delay_us=-1) null", "delay_us=-1.0 must be 0 to"),
        ("fault(direction=in) null", "direction='in' must be one of both, rx, tx"),
        ("fault(drop=0.1) nul", "no port is called 'nul' .*did you mean 'null'"),
        ("capture() null", "lacks path"),
        ("capture(x,match=upd/53) null", "there is no 'upd'"),
        ("capture(x,snap=0) null", "snap=0 must be"),
        ("trace(rate=0) null", "rate=0 must be at least 1"),
        ("fault(drop=0.1", "no port is called"),
    ],
)
def test_text_that_makes_no_sense(spec, says):
    with pytest.raises(PortError, match=says):
        port(spec)


def test_nothing_is_left_when_the_driver_refuses(pool, open_files, tmp_path):
    gc.collect()
    before = open_files()
    made = port(f"capture({tmp_path / 'o.pcapng'}) trace() pcap:{tmp_path / 'none'}")
    with pytest.raises(PortError, match="check the name"):
        made.open(pool, 1, 0)
    assert open_files() == before


# What is handed on -----------------------------------------------------------------------------------------


def test_a_wrapped_port_is_the_same_to_who_asks(opened):
    inner = Null("null", NullOptions(size=60, count=100))
    made = opened(ws.faults(inner))
    assert (made.rx_queues, made.tx_queues, made.passive) == (0, 0, False)
    made.grace = grace = object()
    assert inner.grace is grace
    made.grace = None
    assert made.events is inner.events
    assert (made.link(), made.facts(), made.descriptors(0)) == (inner.link(), inner.facts(), [])
    with pytest.raises(PortError, match="the MTU of port 'null' cannot be changed"):
        made.set_mtu(9000)


def test_rules_in_the_text_of_the_wrapped_port(tmp_path):
    graph = ws.Graph()
    source_ = ws.port(f"fault(seed=1) pcap:{source(tmp_path, [UDP, TCP, UDP])},match=tcp")
    graph.add(source_ >> nothing >> ws.port("sink"))
    report = ws.run(graph)
    assert (report.sent, report.in_use) == (1, 0)


def test_counters_are_the_drivers(opened, worker):
    made = opened("trace(rate=1000) null:size=60,count=10")
    assert len(worker.receive_all(made)) == 10
    worker.send(made, [worker.make(frame(60)) for _ in range(3)])
    stats = made.stats()
    assert (stats.rx_packets, stats.rx_bytes, stats.tx_packets, stats.tx_bytes) == (10, 600, 3, 180)
    assert made.queue_stats() == [stats]
    made.close()


# Capture ---------------------------------------------------------------------------------------------------


def directions(data):
    """(interface, direction) of each packet of our pcapng."""
    found, at = [], 0
    while at < len(data):
        kind, length, interface = struct.unpack_from("<III", data, at)
        if kind == 6:
            found.append((interface, struct.unpack_from("<I", data, at + length - 12)[0]))
        at += length
    return found


def test_both_directions_are_captured(opened, worker, tmp_path):
    path = tmp_path / "o.pcapng"
    made = opened(f"capture({path}) pcap:{source(tmp_path, [frame(60), frame(3000)])}", tx=0)
    assert worker.receive_all(made) == [frame(60), frame(3000)]
    made.close()
    assert read(path, worker) == [frame(60), frame(3000)]
    made = opened(f"capture({path}) null")
    worker.send(made, [worker.make(frame(61)), worker.make(frame(62))])
    worker.free(worker.burst(made, 3))
    assert made.facts() == {"capture": str(path)}
    made.close()
    assert sorted(directions(path.read_bytes())) == [(0, 1)] * 3 + [(0, 2)] * 2
    assert b"null" in path.read_bytes()
    assert [len(data) for data in read(path, worker)][-5:].count(64) == 3


def source(folder, frames):
    data = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)
    data += b"".join(struct.pack("<IIII", 1, 2, len(f), len(f)) + f for f in frames)
    (folder / "in.pcap").write_bytes(data)
    return folder / "in.pcap"


def test_only_what_matches(opened, worker, tmp_path):
    frames = [UDP, TCP, frame(60), UDP, TCP]
    made = opened(f"capture({tmp_path / 'o.pcap'},match=udp/4096|tcp/1) pcap:{source(tmp_path, frames)}", tx=0)
    assert worker.receive_all(made) == frames
    assert made.extended() == {"captured": 2, "not_captured": 0}
    made.close()
    assert read(tmp_path / "o.pcap", worker) == [UDP, UDP]


def test_started_and_stopped_while_packets_pass(opened, worker, tmp_path):
    made = opened(ws.capture("null", str(tmp_path / "1.pcapng"), on=False))
    send = lambda count: worker.send(made, [worker.make(frame(60)) for _ in range(count)])  # noqa: E731
    send(1)
    assert made.facts() == {"capture": "off"}
    made.start()
    send(2)
    with pytest.raises(PortError, match="captures already"):
        made.start()
    assert made.stop() == ""
    send(3)
    made.start(str(tmp_path / "2.pcapng"))
    send(4)
    made.close()
    assert made.stop() == ""
    counts = [len(read(tmp_path / name, worker)) for name in ("1.pcapng", "2.pcapng")]
    assert counts == [2, 4]
    assert made.extended() == {"captured": 6, "not_captured": 0}


@pytest.mark.skipif(COMPILED, reason="what comes between two lines of the packet path is put there by Python")
def test_the_lane_is_read_once_a_burst(opened, worker, tmp_path, monkeypatch):
    """Control code takes it away while the burst is looked at, and waits: the burst still goes into it."""
    made = opened(f"capture({tmp_path / 'o.pcapng'},match=udp) pcap:{source(tmp_path, [UDP, TCP, UDP])}", tx=0)
    asked = []

    def fits(fields, rule):
        lane = TeeQueue(made.rx[0]).lane
        asked.append(lane)
        TeeQueue(made.rx[0]).lane = 0
        return real(fields, rule)

    real = tee.fits
    monkeypatch.setattr(tee, "fits", fits)
    worker.free(worker.burst(made))
    TeeQueue(made.rx[0]).lane = asked[0]
    assert asked[0] != 0
    assert asked[1:] == [0, 0]
    made.close()
    assert made.extended() == {"captured": 2, "not_captured": 0}


def test_what_packets_may_ask_for_is_asked_through_a_wrapper():
    for wrap in (ws.faults, ws.trace):
        assert wrap(ws.through(ws.Gro(64))).asks == Offload.HANDED_ON
        assert wrap("null").asks == Offload.NONE


def test_in_a_graph(tmp_path):
    """The loop has the wrapper inside, and so has the next run's, which finds it compiled."""
    loops = set()
    for number in range(2):
        path = tmp_path / f"{number}.pcapng"
        graph = ws.Graph()
        sink = ws.capture("sink", str(path), match="any")
        graph.add(ws.port("fault(drop=0.5,seed=3) null:size=60,count=1000") >> nothing >> sink)
        engine = ws.Engine(graph)
        loops.add(engine.built.source)
        with engine:
            engine.wait(60)
            report = engine.stop()
        assert report.in_use == 0
        assert 400 < report.sent < 600
        assert path.stat().st_size > 400 * 104
    assert len(loops) == 1


@ws.node()
def nothing(pkt):
    """Let it pass."""


# Trace -----------------------------------------------------------------------------------------------------


def test_a_line_for_each_packet(opened, worker, tmp_path):
    text = tmp_path / "lines"
    made = opened(f"trace(file={text}) pcap:{source(tmp_path, [UDP, TCP])}", tx=0)
    assert worker.receive_all(made) == [UDP, TCP]
    made.close()
    lines = text.read_text().splitlines()
    assert [re.sub(r"^[\d:.]{15} ", "", line) for line in lines] == [
        f"pcap:{tmp_path / 'in.pcap'} in  46 10.0.0.1:53 > 10.0.0.2:4096 udp",
        f"pcap:{tmp_path / 'in.pcap'} in  54 10.0.0.1:80 > 10.0.0.2:8080 tcp [SA] seq 1 ack 2",
    ]


def test_no_more_lines_than_wanted(opened, worker):
    """Time stands still, then a second passes."""
    now = 5.0
    made = ws.trace("null", rate=3)
    made.clock = lambda: now
    opened(made)
    made._out = out = io.StringIO()
    for _ in range(4):
        worker.send(made, [worker.make(UDP) for _ in range(5)])
    until(lambda: out.getvalue().count("\n") == 3 and not backlog(made))
    now = 6.0
    worker.send(made, [worker.make(UDP)])
    until(lambda: "... 17 more" in out.getvalue() and out.getvalue().count("out 46 10.0.0.1:53") == 4)


def backlog(made):
    return sum(stream.view.produced - stream.view.consumed for _, _, stream in made._streams)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (UDP[:12] + bytes.fromhex("8100 0007") + UDP[12:], "vlan 7 10.0.0.1:53 > 10.0.0.2:4096 udp"),
        (UDP[:20] + b"\x00\x02" + UDP[22:], "10.0.0.1 > 10.0.0.2 udp fragment at 16"),
        (UDP[:23] + b"\x01" + UDP[24:34] + b"\x08\x00", "10.0.0.1 > 10.0.0.2 icmp type 8 code 0"),
        (UDP[:23] + b"\x2f" + UDP[24:], "10.0.0.1 > 10.0.0.2 protocol 47"),
        (bytes(12) + b"\x88\xb5" + bytes(46), "00:00:00:00:00:00 > 00:00:00:00:00:00 ethertype 0x88b5"),
        (bytes(5), "runt 0000000000"),
        (
            UDP[:12] + bytes.fromhex("86dd 60000000 0008 11 40") + bytes(15) + b"\x01" + bytes(15) + b"\x02" + UDP[34:],
            "[::1]:53 > [::2]:4096 udp",
        ),
        (
            bytes(12) + bytes.fromhex("0806 0001 0800 06 04 0001 020000000001 0a000001 000000000000 0a000002"),
            "arp who has 10.0.0.2, tell 10.0.0.1",
        ),
    ],
)
def test_summaries(data, text):
    assert summary(data) == text
    for size in range(len(data)):
        assert summary(data[:size])

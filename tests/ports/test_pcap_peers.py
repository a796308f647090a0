"""Against other programs' eyes: scapy, dpkt, Wireshark's and tcpdump's tools, and the captures in ../shared."""

import gzip
import itertools
import shutil
import subprocess
import warnings
from pathlib import Path

import pytest

from wirespeed.errors import CaptureError
from wirespeed.ports.port import port

CAPTURES = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "captures"
needs_captures = pytest.mark.skipif(not CAPTURES.is_dir(), reason=f"no captures at {CAPTURES}")


def needs(program):
    return pytest.mark.skipif(not shutil.which(program), reason=f"{program} is not installed")


def run(*command):
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True).stdout


def frame(size, seed=0):
    return bytes((seed + i * 7) & 0xFF for i in range(size))


FRAMES = [frame(size, i) for i, size in enumerate([60, 64, 65, 1500, 1514, 9000, 61, 14, 128])]
NAMES = ["f.pcap", "f.pcapng", "f.pcap.gz", "f.pcapng.gz"]


def read(path, worker, options=""):
    made = port(f"pcap:{path}{options}")
    made.open(worker.pool, 1, 0)
    try:
        return worker.receive_all(made, 64), made.fault(), made.stats()
    finally:
        made.close()


def write(path, worker, frames, options=""):
    made = port(f"pcap:{path}{options}")
    made.open(worker.pool, 0, 1)
    made.begin()
    for seconds, data in enumerate(frames):
        worker.send(made, [worker.make(data, timestamp=(1_600_000_000 + seconds) * 10**9 + 123_456_789)])
    made.close()
    assert made.fault() == ""


# Their files, read by us -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("nano", [False, True])
def test_scapy_writes(tmp_path, worker, name, nano):
    utils = pytest.importorskip("scapy.utils")
    raw = pytest.importorskip("scapy.packet").Raw
    path = tmp_path / name.removesuffix(".gz")
    if "pcapng" in name:
        with utils.PcapNgWriter(str(path)) as writer:
            writer.linktype = 1
            for data in FRAMES:
                writer.write(raw(data))
    else:
        utils.wrpcap(str(path), [raw(data) for data in FRAMES], linktype=1, nano=nano)
    if name.endswith(".gz"):
        path = shutil.move(path, tmp_path / "plain")
        (tmp_path / name).write_bytes(gzip.compress(Path(path).read_bytes()))
    assert read(tmp_path / name, worker)[:2] == (FRAMES, "")


@pytest.mark.parametrize("options", [{}, {"nano": True}])
def test_dpkt_writes(tmp_path, worker, options):
    pcap = pytest.importorskip("dpkt.pcap")
    with (tmp_path / "f").open("wb") as file:
        writer = pcap.Writer(file, snaplen=65535, linktype=1, **options)
        for data in FRAMES:
            writer.writepkt(data, 1.5)
    assert read(tmp_path / "f", worker)[:2] == (FRAMES, "")


def test_dpkt_writes_pcapng(tmp_path, worker):
    pcapng = pytest.importorskip("dpkt.pcapng")
    with (tmp_path / "f").open("wb") as file:
        writer = pcapng.Writer(file, linktype=1)
        for data in FRAMES:
            writer.writepkt(data, 1.5)
    assert read(tmp_path / "f", worker)[:2] == (FRAMES, "")


@needs("editcap")
@pytest.mark.parametrize("kind", ["pcap", "nsecpcap", "modpcap", "pcapng"])
@pytest.mark.parametrize("snap", [0, 100])
def test_editcap_writes(tmp_path, worker, kind, snap):
    write(tmp_path / "ours.pcapng", worker, FRAMES)
    cut = ["-s", snap] if snap else []
    run("editcap", "-F", kind, *cut, tmp_path / "ours.pcapng", tmp_path / "theirs")
    expected = [data[:snap] if snap else data for data in FRAMES]
    assert read(tmp_path / "theirs", worker)[:2] == (expected, "")


@needs("mergecap")
def test_mergecap_writes_several_interfaces(tmp_path, worker):
    write(tmp_path / "a.pcap", worker, FRAMES)
    write(tmp_path / "b.pcapng", worker, FRAMES, ",nano=yes")
    run("mergecap", "-I", "none", "-w", tmp_path / "both", tmp_path / "a.pcap", tmp_path / "b.pcapng")
    both = [data for data in FRAMES for _ in range(2)]
    assert read(tmp_path / "both", worker)[:2] == (both, "")


@needs("tcpdump")
def test_tcpdump_writes(tmp_path, worker):
    write(tmp_path / "ours.pcap", worker, FRAMES)
    run("tcpdump", "-r", tmp_path / "ours.pcap", "-w", tmp_path / "theirs")
    assert read(tmp_path / "theirs", worker)[:2] == (FRAMES, "")


# Our files, read by them -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("options", "fraction"), [("", 0.123456), (",nano=yes", 0.123456789)])
def test_scapy_reads(tmp_path, worker, name, options, fraction):
    utils = pytest.importorskip("scapy.utils")
    write(tmp_path / name, worker, FRAMES, options)
    fraction = 0.123456789 if "pcapng" in name else fraction
    with utils.RawPcapReader(str(tmp_path / name)) as reader:
        got = [(data, meta) for data, meta in reader]
    assert [data for data, _ in got] == FRAMES
    with utils.PcapReader(str(tmp_path / name)) as reader, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        times = [packet.time for packet in reader]
    assert [round(float(t) % 1, 6) for t in times] == [round(fraction, 6)] * len(FRAMES)
    assert [int(t) for t in times] == [1_600_000_000 + i for i in range(len(FRAMES))]


@pytest.mark.parametrize("name", NAMES[:2])
@pytest.mark.parametrize("options", ["", ",nano=yes"])
def test_dpkt_reads(tmp_path, worker, name, options):
    dpkt = pytest.importorskip("dpkt")
    write(tmp_path / name, worker, FRAMES, options)
    with (tmp_path / name).open("rb") as file:
        reader = dpkt.pcapng.Reader(file) if "pcapng" in name else dpkt.pcap.Reader(file)
        got = list(reader)
    assert [data for _, data in got] == FRAMES
    assert [int(t) for t, _ in got] == [1_600_000_000 + i for i in range(len(FRAMES))]


@needs("tshark")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("options", "fraction"), [("", "123456000"), (",nano=yes", "123456789")])
def test_tshark_reads(tmp_path, worker, name, options, fraction):
    write(tmp_path / name, worker, FRAMES, options)
    fraction = "123456789" if "pcapng" in name else fraction
    fields = ["frame.time_epoch", "frame.len", "frame.cap_len", "eth.dst"]
    chosen = itertools.chain.from_iterable(("-e", field) for field in fields)
    lines = run("tshark", "-r", tmp_path / name, "-T", "fields", *chosen).splitlines()
    expected = [
        f"{1_600_000_000 + i}.{fraction}\t{len(data)}\t{len(data)}\t{data[:6].hex(':')}"
        for i, data in enumerate(FRAMES)
    ]
    assert lines == expected


@needs("capinfos")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("frames", [FRAMES, []], ids=["packets", "none"])
def test_capinfos_reads(tmp_path, worker, name, frames):
    write(tmp_path / name, worker, frames)
    shown = run("capinfos", "-T", "-r", "-c", "-d", "-E", tmp_path / name)
    assert shown.split("\t")[1:] == ["ether", str(len(frames)), f"{sum(map(len, frames))}\n"]


# The captures of others --------------------------------------------------------------------------------------


def dpkt_list(path):
    """dpkt's packets without the empty and the too long; a last one that is cut off may be among them."""
    dpkt = pytest.importorskip("dpkt")
    packets = []
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for _, data in dpkt.pcap.UniversalReader(file):
                packets.append(bytes(data))
        except (dpkt.Error, ValueError):
            pass  # a broken file: what came before is compared
    return [data for data in packets if 0 < len(data) <= 65535]


@needs_captures
def test_every_shared_capture_against_dpkt(worker):
    opened = faults = 0
    refusals = []
    for path in sorted(path for path in CAPTURES.rglob("*") if path.is_file()):
        try:
            packets, fault, stats = read(path, worker)
        except CaptureError as error:
            refusals.append((path, str(error)))
            continue
        opened += 1
        theirs = dpkt_list(path)
        if fault:
            faults += 1
            assert packets == theirs[: len(packets)], path
            assert len(theirs) <= len(packets) + 1, (path, fault)
        else:
            assert packets == theirs, path
        assert stats.rx_packets == len(packets)
        assert stats.rx_bytes == sum(map(len, packets))
    assert opened > 200
    assert len(refusals) > 100
    for path, text in refusals:
        assert text.startswith(f"{path}: link type "), text
        assert "is not Ethernet" in text
    assert faults < opened // 10


@needs_captures
@needs("capinfos")
def test_every_shared_capture_against_capinfos(worker):
    paths = sorted(path for path in CAPTURES.rglob("*") if path.is_file())
    shown = subprocess.run(
        ["capinfos", "-T", "-r", "-E", "-c", *map(str, paths)], capture_output=True, text=True
    ).stdout
    compared = 0
    for line in shown.splitlines():
        name, link, count = line.split("\t")
        if link == "ether" and Path(name).suffix != ".pcapng":
            packets, fault, stats = read(name, worker)
            if not fault:
                assert len(packets) + stats.rx_errors == int(count), name
                compared += 1
    assert compared > 200


@needs_captures
@pytest.mark.parametrize("name", ["o.pcap", "o.pcapng"])
def test_shared_captures_survive_a_round(tmp_path, worker, name):
    for path in sorted((CAPTURES / "applications").iterdir())[:4]:
        packets, _, _ = read(path, worker)
        write(tmp_path / name, worker, packets[:2000])
        assert read(tmp_path / name, worker)[0] == packets[:2000]

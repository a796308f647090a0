"""Files cut off anywhere, and files with any bytes changed: never a crash, never a packet that is not there."""

import gzip
import itertools
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wirespeed.errors import CaptureError
from wirespeed.jit import COMPILED
from wirespeed.ports.port import port

SAME_POOL = settings(
    max_examples=300 if COMPILED else 60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def frame(size, seed=0):
    return bytes((seed + i * 7) & 0xFF for i in range(size))


FRAMES = [frame(60, 1), frame(65, 2), frame(1, 3), frame(130, 4)]


def pcap(order="<", frames=FRAMES):
    data = struct.pack(order + "IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)
    return data + b"".join(struct.pack(order + "IIII", 1, 2, len(f), len(f)) + f for f in frames)


def block(kind, body, order):
    body += bytes(-len(body) % 4)
    length = struct.pack(order + "I", 12 + len(body))
    return struct.pack(order + "I", kind) + length + body + length


def pcapng(order="<", frames=FRAMES):
    data = block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)
    data += block(1, struct.pack(order + "HHI", 1, 0, 0) + struct.pack(order + "HHB3x", 9, 1, 9), order)
    for f in frames:
        data += block(6, struct.pack(order + "IIIII", 0, 1, 2, len(f), len(f)) + f, order)
    return data + block(3, struct.pack(order + "I", 60) + frame(60), order)


def read(path, worker, data, options=""):
    """Packets and the fault; None where opening refuses."""
    path.write_bytes(data)
    made = port(f"pcap:{path}{options}")
    try:
        made.open(worker.pool, 1, 0)
    except CaptureError:
        return None
    try:
        return worker.receive_all(made), made.fault()
    finally:
        made.close()


def model(data):
    """pcap the simple way: packets, and whether the input ends in a fault."""
    order = "<" if data[:4] == b"\xd4\xc3\xb2\xa1" else ">"
    at, packets = 24, []
    while at < len(data):
        if at + 16 > len(data):
            return packets, True
        length = struct.unpack_from(order + "I", data, at + 8)[0]
        at += 16
        if length > 262144 or at + length > len(data):
            return packets, True
        if 0 < length <= 65535:
            packets.append(data[at : at + length])
        at += length
    return packets, False


@pytest.mark.parametrize("order", ["<", ">"])
def test_pcap_cut_off_at_every_byte(tmp_path, worker, order):
    data = pcap(order)
    ends = [24, *itertools.accumulate((16 + len(f) for f in FRAMES), initial=24)][1:]
    for size in range(len(data) + 1):
        result = read(tmp_path / "in", worker, data[:size])
        if size < 24:
            assert result is None
            continue
        whole = sum(end <= size for end in ends) - 1
        assert result is not None
        assert result[0] == FRAMES[:whole]
        assert (result[1] == "") == (size in ends)
        assert result[1] == "" or f"packet {whole + 1}, at byte {ends[whole]}: " in result[1]


@pytest.mark.parametrize("order", ["<", ">"])
def test_pcapng_cut_off_at_every_byte(tmp_path, worker, order):
    data = pcapng(order)
    expected, _ = read(tmp_path / "in", worker, data)
    assert expected == [*FRAMES, frame(60)]
    clean = set()
    for size in range(len(data) + 1):
        result = read(tmp_path / "in", worker, data[:size])
        assert (result is None) == (size < 28)
        if result:
            assert result[0] == expected[: len(result[0])]
            if not result[1]:
                clean.add(size)
    assert len(clean) == 7  # after the section, the interface, and each packet


def test_gzip_cut_off_at_every_byte(tmp_path, worker):
    data = gzip.compress(pcap(), mtime=0)
    for size in range(2, len(data)):
        result = read(tmp_path / "in", worker, data[:size])
        if result:
            assert result[0] == FRAMES[: len(result[0])]
            assert "compressed data" in result[1]
    assert read(tmp_path / "in", worker, data) == (FRAMES, "")


changes = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=12)
words = st.lists(
    st.tuples(
        st.integers(0, 2500),
        st.sampled_from([0, 1, 3, 11, 12, 16, 28, 32, 64, 65535, 65536, 262144, 262145, 2**31, 2**32 - 1]),
    ),
    max_size=3,
)


def changed(data, bytes_, words_):
    data = bytearray(data)
    for at, value in bytes_:
        data[at % len(data)] = value
    for at, value in words_:
        struct.pack_into("<I", data, min(at * 4, len(data) - 4), value)
    return bytes(data)


@given(bytes_=changes, words_=words, order=st.sampled_from("<>"))
@SAME_POOL
def test_pcap_with_anything_in_it(tmp_path, worker, bytes_, words_, order):
    data = pcap(order)
    data = data[:24] + changed(data[24:], bytes_, words_)
    packets, broken = model(data)
    result = read(tmp_path / "in", worker, data)
    assert result is not None
    assert result[0] == packets
    assert bool(result[1]) == broken
    assert worker.pool.in_use == 0


@given(bytes_=changes, words_=words, order=st.sampled_from("<>"))
@SAME_POOL
def test_pcapng_with_anything_in_it(tmp_path, worker, bytes_, words_, order):
    data = changed(pcapng(order), bytes_, words_)
    result = read(tmp_path / "in", worker, data, ",timestamps=yes")
    for packet in result[0] if result else []:
        assert packet in data
    assert worker.pool.in_use == 0


@given(data=st.binary(max_size=300), start=st.sampled_from([b"", pcap()[:24], pcapng()[:28], b"\x1f\x8b\x08"]))
@SAME_POOL
def test_noise(tmp_path, worker, data, start):
    read(tmp_path / "in", worker, start + data)
    assert worker.pool.in_use == 0


@given(data=st.binary(min_size=1, max_size=60))
@SAME_POOL
def test_gzip_of_noise_in_the_middle(tmp_path, worker, data):
    good = bytearray(gzip.compress(pcap() * 3, mtime=0))
    at = len(good) // 2
    good[at : at + len(data)] = data
    result = read(tmp_path / "in", worker, bytes(good))
    assert result is None or result[1]


def test_a_file_that_ends_with_its_page(tmp_path, worker):
    """Nothing is readable behind a mapping of whole pages: the last packets must not be copied too far."""
    page = 4096
    for last in (1, 14, 60, 63, 64, 65, 100, 127, 1500):
        fill = page - 24 - 16 - 16 - last
        frames = [frame(fill - 16 - 60), frame(60), frame(last)]
        size = len(pcap(frames=frames))
        assert size % page == 0, size
        assert read(tmp_path / "in", worker, pcap(frames=frames)) == (frames, "")


def test_no_file_is_left_open(tmp_path, worker):
    before = len(list(Path("/proc/self/fd").iterdir()))
    for data in (pcap(), pcapng(), gzip.compress(pcap()), b"", b"junk", gzip.compress(b"junk"), pcap()[:30]):
        read(tmp_path / "in", worker, data)
        read(tmp_path / "in", worker, data, ",loop=yes,count=3")
    assert len(list(Path("/proc/self/fd").iterdir())) == before

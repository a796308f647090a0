"""The capture holds every Ethernet frame of its sources, in order, and other tools read it."""

import re
import struct
import subprocess
from pathlib import Path

import pytest

from wirespeed.bench.capture import FILE_HEADER, build_capture, write_capture
from wirespeed.bench.errors import BenchError
from wirespeed.bench.frames import Frame, read_frames
from wirespeed.bench.synthetic import checksum, forward_frames, mixed_frames

A = bytes.fromhex("020000000002 020000000001 88b5") + b"a" * 46
B = bytes.fromhex("020000000002 020000000001 88b5") + b"b" * 51


def pcap(order: str, magic: int, link: int, *records: tuple[bytes, int]) -> bytes:
    out = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, link)
    for data, wire in records:
        out += struct.pack(order + "IIII", 1, 2, len(data), wire) + data
    return out


def block(order: str, kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    return struct.pack(order + "II", kind, 12 + len(body)) + body + struct.pack(order + "I", 12 + len(body))


def pcapng(order: str) -> bytes:
    section = struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1)
    return b"".join(
        (
            block(order, 0x0A0D0D0A, section),
            block(order, 1, struct.pack(order + "HHI", 101, 0, 0)),  # raw IP: passed over
            block(order, 1, struct.pack(order + "HHI", 1, 0, 0)),
            block(order, 6, struct.pack(order + "IIIII", 0, 0, 0, 20, 20) + bytes(20)),
            block(order, 6, struct.pack(order + "IIIII", 1, 0, 0, len(A), 900) + A),
            block(order, 6, struct.pack(order + "IIIII", 7, 0, 0, len(A), len(A)) + A),  # no such interface
            block(order, 6, struct.pack(order + "IIIII", 1, 0, 0, 5000, 5000) + A),  # longer than its block
            block(order, 0x0A0D0D0A, section),
            block(order, 1, struct.pack(order + "HHI", 1, 0, 40)),
            block(order, 3, struct.pack(order + "I", len(B)) + B[:40]),
        )
    )


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("magic", [0xA1B2C3D4, 0xA1B23C4D])
def test_reads_pcap_of_either_order_and_resolution(tmp_path: Path, order: str, magic: int) -> None:
    path = tmp_path / "x.pcap"
    path.write_bytes(pcap(order, magic, 0x3000_0001, (A, 60), (B[:20], 65)))  # FCS bits in the link type
    assert list(read_frames(path)) == [Frame(A, 60), Frame(B[:20], 65)]


@pytest.mark.parametrize("order", ["<", ">"])
def test_reads_pcapng_with_interfaces_and_sections(tmp_path: Path, order: str) -> None:
    path = tmp_path / "x.pcapng"
    path.write_bytes(pcapng(order))
    assert list(read_frames(path)) == [Frame(A, 900), Frame(B[:40], len(B))]


def test_broken_tails_other_link_types_and_runts_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    whole = pcap("<", 0xA1B2C3D4, 1, (A, 60), (b"runt", 4), (B, 65))
    for cut, frames in ((0, [A, B]), (1, [A]), (70, [A]), (90, [A]), (110, [])):
        path.write_bytes(whole[: len(whole) - cut])
        assert [frame.data for frame in read_frames(path)] == frames[:2], cut
    path.write_bytes(pcap("<", 0xA1B2C3D4, 101, (A, 60)))
    assert list(read_frames(path)) == []
    path.write_bytes(pcap("<", 0xA1B2C3D4, 1, (A, 60)) + struct.pack("<IIII", 0, 0, 0xFFFFFFFF, 0) + A)
    assert [frame.data for frame in read_frames(path)] == [A]
    path.write_bytes(b"no capture")
    with pytest.raises(BenchError, match="not a capture"):
        list(read_frames(path))


def test_the_file_is_these_bytes(tmp_path: Path) -> None:
    write_capture(tmp_path / "x.pcap", [Frame(A, 60), Frame(B, 70)])
    assert (tmp_path / "x.pcap").read_bytes() == (
        bytes.fromhex("d4c3b2a1 0200 0400 00000000 00000000 00000400 01000000")
        + bytes.fromhex("00b95569 00000000 3c000000 3c000000")
        + A
        + bytes.fromhex("00b95569 01000000 41000000 46000000")
        + B
    )


def test_repeats_up_to_the_target_and_is_found_again(tmp_path: Path) -> None:
    source, cache = tmp_path / "in", tmp_path / "cache"
    source.mkdir()
    write_capture(source / "1.pcap", [Frame(A, 60), Frame(B, 65)])
    told: list[tuple[int, int]] = []
    made = build_capture(1000, source, cache, lambda *what: told.append(what))
    # 24 + 6 * (76 + 81) = 966, and no room for another 76
    assert (made.size, made.packets, made.path.stat().st_size) == (966, 12, 966)
    assert told[-1] == (966, 966)
    assert [frame.data for frame in read_frames(made.path)] == [A, B] * 6
    raw = made.path.read_bytes()
    assert raw[:24] == FILE_HEADER and struct.unpack_from("<II", raw, 24 + 157) == (1_767_225_600, 2)
    assert build_capture(1020, source, tmp_path / "other").packets == 12
    assert build_capture(1050, source, tmp_path / "other").packets == 13
    told.clear()
    assert build_capture(1000, source, cache, lambda *what: told.append(what)) == made
    assert told == [] and len(list(cache.iterdir())) == 1


def test_a_folder_without_packets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="no Ethernet packets"):
        build_capture(1000, tmp_path, tmp_path)
    with pytest.raises(BenchError, match="no such folder"):
        build_capture(1000, tmp_path / "nowhere", tmp_path)


def test_synthetic_frames_are_the_same_every_time_and_valid() -> None:
    frames = mixed_frames(64)
    assert frames == mixed_frames(64) and frames != mixed_frames(64, seed=2)
    for frame in frames + forward_frames(4):
        if frame.data[12:14] == b"\x08\x00":
            assert checksum(frame.data[14:34]) == 0xFFFF  # a valid header sums to 0, sent as all ones
    assert {len(frame.data) for frame in forward_frames()} == {60}
    assert len({frame.data for frame in forward_frames(512)}) == 512


def test_tcpdump_and_dpkt_see_every_packet(tmp_path: Path, captures: Path, tcpdump: str) -> None:
    dpkt = pytest.importorskip("dpkt", reason="dpkt is not installed (pip install dpkt)")
    made = build_capture(20_000_000, captures, tmp_path)
    run = subprocess.run([tcpdump, "-r", str(made.path), "--count"], capture_output=True, text=True, check=True)
    counted = re.match(r"(\d+) packets", run.stdout)
    assert counted and int(counted[1]) == made.packets
    assert "EN10MB" in run.stderr and "truncated" not in run.stderr
    with made.path.open("rb") as file:
        sizes = [len(frame) for _, frame in dpkt.pcap.Reader(file)]
    assert len(sizes) == made.packets and 24 + sum(sizes) + 16 * len(sizes) == made.size

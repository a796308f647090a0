"""The peers answer the same question: their counts agree, on the shared captures and on edge cases."""

from collections import Counter
from pathlib import Path

import pytest

from wirespeed.bench.capture import Capture, build_capture, write_capture
from wirespeed.bench.errors import BenchError
from wirespeed.bench.frames import Frame
from wirespeed.bench.pcap_peers import dpkt_count, read_ahead, tcpdump_count, tcpdump_version, tcpdump_write
from wirespeed.bench.synthetic import mixed_frames, udp4, udp6

pytestmark = pytest.mark.usefixtures("tcpdump")
ONE, TWO = bytes((192, 0, 2, 1)), bytes((192, 0, 2, 2))
SIX = bytes.fromhex("20010db8000000000000000000000006")


def capture_of(path: Path, frames: list[bytes]) -> Capture:
    write_capture(path, [Frame(data, len(data)) for data in frames])
    return Capture(path, path.stat().st_size, len(frames), "literal frames")


def patched(frame: bytes, at: int, to: str) -> bytes:
    new = bytes.fromhex(to)
    return frame[:at] + new + frame[at + len(new) :]


QUERY = udp4(ONE, TWO, 1024, 53, b"question")
QUERY6 = udp6(SIX, SIX, 1024, 53, b"question")

COUNTED = {
    "plain": QUERY,
    "ipv6": QUERY6,
    "first fragment": patched(QUERY, 20, "2000"),
    "total length 0 (segmentation offload)": patched(QUERY, 16, "0000"),
    "total length beyond the captured bytes": patched(QUERY, 16, "0500"),
    "IPv4 options": patched(QUERY, 14, "46")[:34] + bytes.fromhex("01010101") + QUERY[34:],
    "padded": QUERY + bytes(10),
    "header only": QUERY[:42],
}
NOT_COUNTED = {
    "answer": udp4(ONE, TWO, 53, 1024, b"answer"),
    "other port": udp4(ONE, TWO, 53, 5353, b"question"),
    "TCP": patched(QUERY, 23, "06"),
    "later fragment": patched(QUERY, 20, "0001"),
    "VLAN": QUERY[:12] + bytes.fromhex("8100 0064") + QUERY[12:],
    "QinQ": QUERY[:12] + bytes.fromhex("88a8 0064 8100 0065") + QUERY[12:],
    "MPLS": QUERY[:12] + bytes.fromhex("8847 00010140") + QUERY[14:],
    "total length below the UDP header": patched(QUERY, 16, "001b"),
    "IPv6 with hop-by-hop options": QUERY6[:20] + b"\x00" + QUERY6[21:54] + b"\x11\x00" + bytes(6) + QUERY6[54:],
    "cut before the port": QUERY[:36],
    "cut within IPv4": QUERY[:30],
    "nothing behind Ethernet": QUERY[:14],
}


@pytest.mark.parametrize("name", COUNTED)
def test_is_a_query(name: str, tmp_path: Path) -> None:
    pytest.importorskip("dpkt")
    capture = capture_of(tmp_path / "x.pcap", [COUNTED[name]])
    assert tcpdump_count(capture).queries == 1
    assert dpkt_count(capture).clients == Counter([SIX if "ipv6" in name else ONE])


@pytest.mark.parametrize("name", NOT_COUNTED)
def test_is_no_query(name: str, tmp_path: Path) -> None:
    pytest.importorskip("dpkt")
    capture = capture_of(tmp_path / "x.pcap", [NOT_COUNTED[name]])
    assert tcpdump_count(capture).queries == dpkt_count(capture).queries == 0


def test_peers_agree_on_the_shared_captures(captures: Path, tmp_path: Path) -> None:
    pytest.importorskip("dpkt")
    capture = build_capture(20_000_000, captures, tmp_path)
    read_ahead(capture)
    ours, theirs = tcpdump_count(capture), dpkt_count(capture)
    assert theirs.scaled_from is None and theirs.clients is not None
    assert ours.queries == theirs.queries == theirs.clients.total() > 0
    assert ours.packets == theirs.packets == capture.packets


def test_peers_agree_on_the_synthetic_frames(tmp_path: Path) -> None:
    pytest.importorskip("dpkt")
    frames = [frame.data for frame in mixed_frames(1024)]
    capture = capture_of(tmp_path / "x.pcap", frames)
    answer = dpkt_count(capture)
    assert tcpdump_count(capture).queries == answer.queries == 1024 // 16 + 1024 // 32
    assert answer.clients is not None and {len(client) for client in answer.clients} == {4, 16}


def test_dpkt_reads_a_slice_and_scales_its_time_by_packets(tmp_path: Path) -> None:
    pytest.importorskip("dpkt")
    capture = capture_of(tmp_path / "x.pcap", [QUERY] * 100)
    answer = dpkt_count(capture, sample=24 + 10 * (16 + len(QUERY)))
    assert (answer.scaled_from, answer.packets, answer.queries) == (10, 100, 10)
    assert answer.seconds > 0


def test_tcpdump_writing_and_pinning(tmp_path: Path) -> None:
    capture = capture_of(tmp_path / "x.pcap", [QUERY])
    assert tcpdump_write(capture, core=0).seconds > 0
    assert tcpdump_version().startswith("tcpdump ")


def test_errors_say_what_ran_and_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = Capture(tmp_path / "missing.pcap", 0, 0, "nothing")
    with pytest.raises(BenchError, match="No such file"):
        tcpdump_count(missing)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BenchError, match="apt-get install tcpdump"):
        tcpdump_count(missing)

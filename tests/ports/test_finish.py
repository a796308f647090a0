"""Checksums and cutting in software, with scapy as the judge."""

import random

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from wirespeed.ports.finish import MOST, complete, segments

HEAD = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / IP(src="10.1.0.2", dst="10.2.0.2", id=100)


def _partial(frame: bytes, field: int) -> bytes:
    """As a kernel leaves it: the pseudo header's sum, not complemented, in the checksum field."""
    length = len(frame) - 34
    words = frame[26:34] + bytes((0, frame[23])) + length.to_bytes(2)
    total = sum(int.from_bytes(words[i : i + 2]) for i in range(0, 12, 2))
    total = (total & 0xFFFF) + (total >> 16)
    return frame[: 34 + field] + ((total & 0xFFFF) + (total >> 16)).to_bytes(2) + frame[36 + field :]


@pytest.mark.parametrize("size", [0, 1, 2, 99, 1400])
@pytest.mark.parametrize(("layer", "field"), [(UDP(sport=5, dport=6), 6), (TCP(sport=5, dport=6), 16)])
def test_the_checksum_is_completed(layer, field, size):
    expected = bytes(HEAD / layer / Raw(random.Random(size).randbytes(size)))
    assert complete(_partial(expected, field), 34, field) == expected


def test_a_field_outside_the_frame_is_left_alone():
    assert complete(bytes(60), 58, 16) == bytes(60)


def test_tcp_is_cut():
    """What Linux's tcp_gso_segment does: sequence numbers, identification, flags, lengths, checksums."""
    data = random.Random(1).randbytes(5000)
    tcp = TCP(sport=5, dport=6, seq=0xFFFF_FF00, flags="FPAC", options=[("Timestamp", (1, 2))])
    frame = bytes(HEAD / tcp / Raw(data))
    pieces = [Ether(each) for each in segments(frame, 66, 1448)]
    assert [len(piece[TCP].payload) for piece in pieces] == [1448, 1448, 1448, 656]
    assert b"".join(bytes(piece[TCP].payload) for piece in pieces) == data
    assert [piece[IP].id for piece in pieces] == [100, 101, 102, 103]
    assert [piece[TCP].seq for piece in pieces] == [(0xFFFF_FF00 + 1448 * i) & 0xFFFF_FFFF for i in range(4)]
    assert [str(piece[TCP].flags) for piece in pieces] == ["AC", "A", "A", "FPA"]
    for piece in pieces:
        data = bytes(piece)
        piece[IP].chksum = piece[TCP].chksum = piece[IP].len = None
        assert bytes(piece) == data


def test_udp_is_cut():
    data = random.Random(2).randbytes(2500)
    pieces = [Ether(each) for each in segments(bytes(HEAD / UDP(sport=5, dport=6) / Raw(data)), 42, 1000)]
    assert [piece[UDP].len for piece in pieces] == [1008, 1008, 508]
    for piece in pieces:
        data = bytes(piece)
        piece[IP].chksum = piece[UDP].chksum = None
        assert bytes(piece) == data


@pytest.mark.parametrize("headers", [0, 33, 34, 41, 5000, 65535])
def test_header_lengths_that_lie(headers):
    assert segments(bytes(HEAD / UDP() / Raw(bytes(2000))), headers, 1000) == []


def test_too_many_pieces_are_not_made():
    frame = bytes(HEAD / UDP() / Raw(bytes(2000)))
    assert segments(frame, 42, 0) == segments(frame, 42, 2000 // MOST) == []
    assert len(segments(frame, 42, 2000 // MOST + 1)) <= MOST


def test_hostile_frames():
    source = random.Random(3)
    for _ in range(2000):
        frame = bytearray(bytes(HEAD / UDP() / Raw(bytes(200)))[: source.randrange(250)])
        for _ in range(4):
            if frame:
                frame[source.randrange(len(frame))] = source.randrange(256)
        segments(bytes(frame), source.randrange(300), source.randrange(300))
        complete(bytes(frame), source.randrange(300), source.randrange(300))

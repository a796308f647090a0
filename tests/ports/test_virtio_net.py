"""The virtio-net header: literal bytes from veth and TAP, and hostile ones."""

import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirespeed.jit import kernel, read_bytes, write_bytes
from wirespeed.mem.descriptor import META, CellHeader
from wirespeed.mem.region import Region
from wirespeed.ports.virtio.net import HOSTILE, load_offloads, store_offloads

# First ten bytes of ring frames, captured with PACKET_VNET_HDR on a veth of Linux 6.18: iperf3 over TCP and
# over IPv6, a UDP datagram, a send with UDP_SEGMENT=1000.
TCP_SUPER = bytes.fromhex("01 01 42 00 a8 05 22 00 10 00")
TCP6_SUPER = bytes.fromhex("01 04 56 00 94 05 36 00 10 00")
UDP_PLAIN = bytes.fromhex("01 00 00 00 00 00 22 00 06 00")
UDP_SUPER = bytes.fromhex("01 05 2a 00 e8 03 22 00 06 00")
VALID = bytes.fromhex("02 00 00 00 00 00 00 00 00 00")
FIELDS = ("gso_size", "gso_type", "checksum_state", "checksum_start", "checksum_offset", "headers_length")


@kernel
def load(header, line, data, contiguous, tag):  # type: ignore[no-untyped-def]
    return load_offloads(header, line, data, contiguous, tag)


@kernel
def store(line, header):  # type: ignore[no-untyped-def]
    store_offloads(line, header)


@pytest.fixture(scope="module")
def memory() -> Iterator[Region]:
    with Region(4096, "test-virtio", huge=False) as made:
        yield made


def read(memory: Region, header: bytes, size: int = 1500, tag: int = 0, data_offset: int = 0x80) -> tuple[int, tuple]:
    """What load_offloads says of ``header`` before ``size`` bytes, and the fields it left."""
    line, at, data = memory.address, memory.address + 64, memory.address + 128
    write_bytes(line, b"\xee" * 64)  # a cell's header line is stale until somebody writes it
    write_bytes(at, header)
    write_bytes(data, b"\0" * 2000)
    for start in (0x22, 0x26, 0x36):
        write_bytes(data + start + 12, bytes([data_offset]))
    said = load(at, line, data, size, tag)
    return said, tuple(getattr(CellHeader(line), name) for name in FIELDS)


@pytest.mark.parametrize(
    ("header", "fields"),
    [
        (TCP_SUPER, (1448, 1, 1, 34, 16, 66)),
        (TCP6_SUPER, (1428, 4, 1, 54, 16, 86)),
        (UDP_PLAIN, (0, 0, 1, 34, 6, 0)),
        (UDP_SUPER, (1000, 5, 1, 34, 6, 42)),
        (VALID, (0, 0, 2, 0, 0, 0)),
    ],
    ids=["TCP", "TCP over IPv6", "UDP", "UDP_SEGMENT", "verified"],
)
def test_what_the_kernel_says(memory: Region, header: bytes, fields: tuple[int, ...]) -> None:
    assert read(memory, header) == (META, fields)


def test_there_and_back(memory: Region) -> None:
    for header in (TCP_SUPER, TCP6_SUPER, UDP_SUPER, UDP_PLAIN):
        assert read(memory, header)[0] == META
        store(memory.address, memory.address + 64)
        assert read_bytes(memory.address + 64, 10) == header


def test_what_was_verified_is_not_said_again(memory: Region) -> None:
    read(memory, VALID)
    store(memory.address, memory.address + 64)
    assert read_bytes(memory.address + 64, 10) == bytes(10)


def test_a_plain_packet_leaves_the_line_alone(memory: Region) -> None:
    assert read(memory, bytes(10))[0] == 0
    assert read_bytes(memory.address, 64) == b"\xee" * 64


def test_other_fields_of_the_line_are_cleared(memory: Region) -> None:
    read(memory, TCP_SUPER)
    line = CellHeader(memory.address)
    assert (line.timestamp, line.rss_hash, line.vlan_tci, line.port, line.mark) == (0, 0, 0, 0, 0)


def test_a_tag_put_back_moves_the_offsets(memory: Region) -> None:
    assert read(memory, TCP_SUPER, tag=4) == (META, (1448, 1, 1, 38, 16, 70))


@pytest.mark.parametrize(
    ("header", "size", "data_offset"),
    [
        ("01 00 00 00 00 00 ff ff 10 00", 1500, 0x80),  # the sum would start outside
        ("01 00 00 00 00 00 22 00 ff ff", 1500, 0x80),  # or be stored there
        ("01 00 00 00 00 00 22 00 06 00", 41, 0x80),  # by one byte
        ("00 01 42 00 00 00 00 00 00 00", 1500, 0x80),  # segments of no bytes
        ("01 01 42 00 00 00 22 00 10 00", 1500, 0x80),
        ("01 02 42 00 a8 05 22 00 10 00", 1500, 0x80),  # a type nobody defined
        ("01 03 42 00 a8 05 22 00 06 00", 1500, 0x80),  # fragments of UDP: gone since Linux 4.14
        ("01 7f 42 00 a8 05 22 00 10 00", 1500, 0x80),
        ("01 80 42 00 a8 05 22 00 10 00", 1500, 0x80),  # ECN, but of what?
        ("01 01 42 00 a8 05 22 00 10 00", 53, 0x80),  # half a TCP header
        ("01 01 42 00 a8 05 22 00 10 00", 60, 0xF0),  # a TCP header that says it is longer than the packet
        ("01 01 42 00 a8 05 22 00 10 00", 1500, 0x40),  # or shorter than a TCP header
        ("01 05 42 00 a8 05 22 00 02 00", 41, 0x80),  # half a UDP header
    ],
)
def test_hostile_headers_are_refused(memory: Region, header: str, size: int, data_offset: int) -> None:
    assert read(memory, bytes.fromhex(header), size, data_offset=data_offset)[0] == HOSTILE


@given(st.binary(min_size=10, max_size=10), st.integers(14, 1792), st.integers(0, 255), st.sampled_from([0, 4]))
def test_whatever_is_accepted_lies_within_the_packet(
    memory: Region, header: bytes, size: int, data_offset: int, tag: int
) -> None:
    said, (gso_size, gso_type, state, start, offset, headers) = read(memory, header, size, tag, data_offset)
    assert said in (0, META, HOSTILE)
    if said == META:
        assert headers <= size
        assert state in (0, 1, 2)
        assert state != 1 or start + offset + 2 <= size
        assert (gso_size > 0) == (gso_type > 0) == (headers > 0)
        assert gso_type & 0x7F in (0, 1, 4, 5)
    flags, kind = struct.unpack_from("BB", header)
    if said == 0:
        assert kind == 0
        assert not flags & 3

"""Checksums: the RFCs' own numbers, a plain model, scapy's, and the incremental forms against the whole."""

import random

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from wirespeed.jit import COMPILED, kernel
from wirespeed.mem.descriptor import CELL, CHAINED
from wirespeed.wire import checksum as sums
from wirespeed.wire.ipv4 import Ipv4
from wirespeed.wire.packet import Packet
from wirespeed.wire.parse import parse_transport

quick = settings(
    max_examples=300 if COMPILED else 60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


MAC = "02:00:00:00:00:01"  # named, so that scapy asks nobody


def model(data: bytes) -> int:
    """RFC 1071 section 4.1, word by word."""
    data += b"\0" * (len(data) % 2)
    total = sum(int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@kernel
def whole(address, length):
    return sums.checksum(address, length)


def test_rfc_1071_section_3(cells):
    """The example bytes 00 01 f2 03 f4 f5 f6 f7 sum to ddf2; the checksum is its complement."""
    cells.put(bytes.fromhex("0001f203f4f5f6f7"))
    assert whole(cells.base + 256, 8) == ~0xDDF2 & 0xFFFF == 0x220D


@quick
@example(b"")
@example(b"\xff" * 1500)
@example(b"\x01")
@given(st.binary(max_size=1500))
def test_any_bytes(cells, data):
    cells.put(data, offset=CELL - len(data))  # interpreted: reads nothing beyond the end
    assert whole(cells.base + CELL - len(data), len(data)) == model(data)


@kernel
def update(how, old_checksum, old, new):
    if how == 16:
        return sums.update16(old_checksum, old, new)
    if how == 32:
        return sums.update32(old_checksum, old, new)
    return sums.update64(old_checksum, old, new)


def test_rfc_1624_section_4():
    """The case that RFC 1141's equation gets wrong: HC = dd2f, m = 5555, m' = 3285; HC' is 0000, not ffff."""
    assert update(16, 0xDD2F, 0x5555, 0x3285) == 0x0000


@pytest.mark.parametrize("width", [16, 32, 64])
def test_incremental_is_the_same_as_anew(width):
    dice = random.Random(width)
    for _ in range(3000 if COMPILED else 300):
        data = bytearray(dice.randbytes(20) if dice.random() < 0.7 else dice.choice([b"\0", b"\xff"]) * 20)
        data[0] = 1  # never all zero, like any real header: RFC 1624 section 3
        at = 2 * dice.randrange(1, (20 - width // 8) // 2 + 1)
        old = bytes(data[at : at + width // 8])
        before = model(bytes(data))
        new = dice.choice([dice.randbytes(width // 8), bytes(width // 8), b"\xff" * (width // 8)])
        data[at : at + width // 8] = new
        numbers = (int.from_bytes(part, "big", signed=True) for part in (old, new))
        assert update(width, before, *numbers) == model(bytes(data))


@kernel
def hop(at):
    sums.decrement_ttl(Ipv4(at))


@kernel
def ipv4_sums(at):
    ip = Ipv4(at)
    return sums.ipv4_header_checksum(ip), sums.ipv4_header_valid(ip)


def test_ipv4_header_and_ttl(cells):
    dice = random.Random(3)
    for _ in range(2000 if COMPILED else 100):
        words = dice.randrange(5, 16)
        data = bytearray(dice.randbytes(words * 4))
        data[0] = 0x40 | words
        data[8] = dice.choice([1, 255, dice.randrange(1, 256)])
        right = model(bytes(data[:10]) + b"\0\0" + bytes(data[12:]))
        desc = cells.put(bytes(data))
        at = cells.base + 256
        assert ipv4_sums(at)[0] == right
        Ipv4(at).checksum = right
        assert ipv4_sums(at) == (right, True)
        hop(at)
        after = cells.read(desc)
        assert after[8] == data[8] - 1
        assert ipv4_sums(at) == (int.from_bytes(after[10:12], "big"), True)
        Ipv4(at).ttl += 1
        assert ipv4_sums(at)[1] is False or not ipv4_sums(at)[1]


@kernel
def transport(cells, desc, how):
    pkt = Packet()
    pkt.cells, pkt.desc, pkt.port = cells, desc, 0
    parse_transport(pkt)
    if how == 0:
        return 1 if sums.transport_valid(pkt) else 0
    sums.fill_transport(pkt)
    return 2


def built(scapy):
    """Frames of every transport over both versions, with scapy's checksums."""
    dice = random.Random(11)
    for size in (*range(9), 31, 32, 33, 64, 500, 1400):
        for network in (
            scapy.IP(src="10.1.2.3", dst="192.0.2.9", options=[scapy.IPOption(b"\x94\x04\0\0")] * (size % 3)),
            scapy.IPv6(src="2001:db8::1", dst="2001:db8::ffff:2"),
            scapy.IPv6(src="2001:db8::1", dst="2001:db8::ffff:2") / scapy.IPv6ExtHdrDestOpt(),
        ):
            six = isinstance(network, scapy.IPv6)
            echo = scapy.ICMPv6EchoRequest(id=1, seq=2) if six else scapy.ICMP(id=1, seq=2)
            for layer in (scapy.UDP(sport=1, dport=2), scapy.TCP(options=[("MSS", 1460)] * (size % 2)), echo):
                data = dice.randbytes(size)
                frame = scapy.Ether(src=MAC, dst=MAC) / network / layer
                yield bytes(frame / data if not isinstance(layer, scapy.ICMPv6EchoRequest) else frame / scapy.Raw(data))


def field(frame: bytes, cells, twin) -> int:
    """Where the transport checksum is."""
    found = dict(zip(twin.NAMES, twin.places(cells.base, cells.put(frame)), strict=True))
    for name, offset in (("udp", 6), ("tcp", 16), ("icmp", 2), ("icmp6", 2)):
        if found[name] >= 0:
            return found[name] + offset
    raise AssertionError("no transport header")


def test_transport_sums_are_scapys(cells, twin):
    scapy = pytest.importorskip("scapy.all", reason="scapy is not installed")
    for frame in built(scapy):
        at = field(frame, cells, twin)
        desc = cells.put(frame)
        assert transport(cells.base, desc, 0) == 1
        wrong = frame[:at] + b"\x12\x34" + frame[at + 2 :]
        if frame[at : at + 2] != b"\x12\x34":
            cells.put(wrong)
            assert transport(cells.base, desc, 0) == 0
        transport(cells.base, desc, 1)
        assert cells.read(desc) == frame


def udp_frame(version: int, checksum: bytes, payload: bytes = b"", fragment: bytes = b"\0\0") -> bytes:
    udp = b"\0\1\0\2" + (8 + len(payload)).to_bytes(2, "big") + checksum + payload
    if version == 4:
        head = b"\x45\0" + (20 + len(udp)).to_bytes(2, "big") + b"\0\0" + fragment + bytes([64, 17]) + bytes(10)
        return bytes(12) + b"\x08\0" + head + udp
    return bytes(12) + b"\x86\xdd\x60\0\0\0" + len(udp).to_bytes(2, "big") + bytes([17, 64]) + bytes(32) + udp


def test_udp_without_checksum(cells):
    """None is right in IPv4 (RFC 768) and wrong in IPv6 (RFC 8200 section 8.1)."""
    assert transport(cells.base, cells.put(udp_frame(4, b"\0\0")), 0) == 1
    assert transport(cells.base, cells.put(udp_frame(6, b"\0\0")), 0) == 0


def test_udp_never_sends_zero(cells):
    """A payload chosen to make the sum all ones: the checksum is sent as ffff."""
    total = ~model(bytes.fromhex("0011 000a 0001 0002 000a".replace(" ", ""))) & 0xFFFF
    payload = (0xFFFF - total).to_bytes(2, "big")
    desc = cells.put(udp_frame(4, b"\0\0", payload))
    transport(cells.base, desc, 1)
    assert cells.read(desc)[40:42] == b"\xff\xff"
    assert transport(cells.base, desc, 0) == 1


def test_what_goes_on_elsewhere_is_not_valid(cells):
    first = cells.put(udp_frame(4, b"\x12\x34", bytes(8), b"\x20\0"))
    assert transport(cells.base, first, 0) == 0
    cells.header().length = 14 + 20 + 1000
    frame = bytearray(udp_frame(4, b"\x12\x34", bytes(8)))
    frame[16:18] = (1000).to_bytes(2, "big")
    assert transport(cells.base, cells.put(bytes(frame), flags=CHAINED), 0) == 0
    assert transport(cells.base, cells.put(bytes(60)), 0) == 0  # nothing to check


@kernel
def complete(start, length, csum_start, csum_offset):
    return sums.complete_checksum(start, length, csum_start, csum_offset)


def test_what_was_left_to_hardware(cells, twin):
    """As Linux hands it over: the field holds the pseudo header's sum, not complemented."""
    scapy = pytest.importorskip("scapy.all", reason="scapy is not installed")
    for frame in built(scapy):
        at = field(frame, cells, twin)
        found = dict(zip(twin.NAMES, twin.places(cells.base, cells.put(frame)), strict=True))
        begin = found["l4"]
        if found["icmp"] >= 0:
            partial = b"\0\0"
        else:
            length = found["limit"] - begin
            ip = found["ipv4"]
            addresses = frame[ip + 12 : ip + 20] if ip >= 0 else frame[found["ipv6"] + 8 : found["ipv6"] + 40]
            head = addresses + length.to_bytes(4, "big") + found["protocol"].to_bytes(4, "big")
            partial = (~model(head) & 0xFFFF).to_bytes(2, "big")
        desc = cells.put(frame[:at] + partial + frame[at + 2 :])
        assert complete(cells.base + 256, len(frame), begin, at - begin) == 1
        assert cells.read(desc) == frame


@pytest.mark.parametrize(("start", "offset"), [(34, 100), (59, 0), (-1, 4), (34, -1), (60, 0), (1 << 15, 1 << 15)])
def test_a_field_outside_the_frame(cells, start, offset):
    desc = cells.put(bytes(range(60)))
    assert complete(cells.base + 256, 60, start, offset) == 0
    assert cells.read(desc) == bytes(range(60))

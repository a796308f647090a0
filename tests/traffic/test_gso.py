"""Segmentation: scapy takes the segments apart and sums them anew; together they are the packet they were."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packets import Bench
from scapy.layers.inet import IP, TCP, UDP, IPOption_NOP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Raw

from wirespeed.jit import COMPILED, kernel, write_bytes
from wirespeed.mem.buffer import describe_meta
from wirespeed.mem.descriptor import CHAINED, CHECKSUM_VALID, address_of, with_data
from wirespeed.mem.pool import Cache
from wirespeed.traffic.gso import segment

LINK = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
FOUR, SIX = IP(src="10.0.0.1", dst="10.0.0.2", id=0xFFFE, ttl=7), IPv6(src="fd00::1", dst="fd00::2", hlim=7)


@kernel
def cut(cache, desc, size, vector, room):
    return segment(Cache(cache), desc, size, vector, room)


def cut_up(bench, packet, size, room=256):
    desc = bench.make(bytes(packet))
    count = cut(bench.cache, desc, size, bench.vector, room)
    if count == 0:
        assert bench.data(desc) == bytes(packet)
        bench.release(desc)
        return None
    descs = bench.at(count)
    found = [bench.data(each) for each in descs]
    bench.release(*descs)
    return found


def summed(frame):
    """The frame as scapy would have made it: all lengths and checksums left to it."""
    again = Ether(frame)
    for layer, fields in ((IP, ("len", "chksum")), (IPv6, ("plen",)), (TCP, ("chksum",)), (UDP, ("len", "chksum"))):
        if layer in again:
            for field in fields:
                delattr(again[layer], field)
    return bytes(again)


@settings(max_examples=60 if COMPILED else 15)
@given(
    st.integers(0, 20_000), st.integers(536, 9000), st.sampled_from((FOUR, SIX, SIX / IPv6ExtHdrDestOpt())),
    st.booleans(), st.randoms(use_true_random=False),
)  # fmt: skip
def test_tcp(length, size, network, tag, rng):
    options = [("Timestamp", (1, 2)), ("NOP", None), ("NOP", None)]
    flags = rng.choice(("A", "FPA", "PA", "CA", "FPCA"))
    payload = rng.randbytes(length)
    link = LINK / Dot1Q(vlan=3) if tag else LINK
    packet = link / network / TCP(sport=1, dport=2, seq=0xFFFF_FF00, ack=5, flags=flags, options=options) / Raw(payload)
    bench = Bench()
    parts = cut_up(bench, packet, size)
    if length <= size:
        assert parts == [bytes(packet)]
    else:
        assert len(parts) == -(-length // size)
        joined = b""
        for number, part in enumerate(parts):
            frame = Ether(part)
            assert part == summed(part)
            tcp = frame[TCP]
            assert tcp.seq == (0xFFFF_FF00 + len(joined)) & 0xFFFF_FFFF
            assert ("F" in tcp.flags, "P" in tcp.flags) == (
                number == len(parts) - 1 and "F" in flags, number == len(parts) - 1 and "P" in flags
            )  # fmt: skip
            assert ("C" in tcp.flags) == (number == 0 and "C" in flags)
            if IP in frame:
                assert frame[IP].id == (0xFFFE + number) & 0xFFFF
            joined += bytes(tcp.payload)
        assert joined == payload
    bench.close()


@pytest.mark.parametrize("network", [FOUR, SIX])
def test_udp(bench, network):
    payload = random.Random(1).randbytes(5000)
    parts = cut_up(bench, LINK / network / UDP(sport=1, dport=2) / payload, 1400)
    assert [summed(part) for part in parts] == parts
    assert b"".join(bytes(Ether(part)[UDP].payload) for part in parts) == payload
    assert [Ether(part)[UDP].len for part in parts] == [1408, 1408, 1408, 808]


def test_the_size_is_in_the_header_line(bench):
    desc = bench.make(bytes(LINK / FOUR / TCP() / Raw(b"x" * 3000)))
    desc = describe_meta(bench.pool.cells, desc)
    line = bench.line(desc)
    line.gso_size, line.gso_type, line.mark = 1000, 1, 9
    count = cut(bench.cache, desc, 0, bench.vector, 8)
    assert count == 3
    for each in bench.at(count):
        line = bench.line(each)
        assert (line.gso_size, line.gso_type, line.checksum_state, line.mark) == (0, 0, CHECKSUM_VALID, 9)
    bench.release(*bench.at(count))


def test_what_cannot_be_cut(bench):
    long = b"x" * 3000
    assert cut_up(bench, LINK / Raw(long), 1000) is None
    assert cut_up(bench, LINK / FOUR / Raw(long), 1000) is None
    assert cut_up(bench, LINK / IP(flags="MF") / TCP() / Raw(long), 1000) is None
    assert cut_up(bench, LINK / FOUR / TCP() / Raw(long), 1000, room=2) is None
    assert cut_up(bench, LINK / FOUR / TCP() / Raw(long), 0) is None


def test_a_fragment_is_not_segmented(bench):
    for network in (FOUR.__class__(src="10.0.0.1", dst="10.0.0.2", flags="MF"), SIX / IPv6ExtHdrFragment(m=1)):
        assert cut_up(bench, LINK / network / UDP(sport=1, dport=2) / Raw(bytes(3000)), 1000) is None


def test_tags_and_options_together(bench):
    network = IP(src="10.0.0.1", dst="10.0.0.2", id=7, options=[IPOption_NOP()] * 8)
    frame = LINK / Dot1Q(vlan=3) / Dot1Q(vlan=4) / network / TCP(seq=5) / Raw(bytes(range(200)) * 15)
    found = cut_up(bench, frame, 1000)
    assert found == [summed(each) for each in found]
    assert b"".join(bytes(Ether(each)[TCP].payload) for each in found) == bytes(range(200)) * 15
    assert [Ether(each)[IP].id for each in found] == [7, 8, 9]


def test_bytes_behind_a_datagram_are_not_its_payload(bench):
    udp = UDP(sport=1, dport=2, len=8 + 1500) / Raw(bytes(1500) + b"behind")
    found = cut_up(bench, LINK / FOUR / udp, 1000)
    assert [len(each) - 42 for each in found] == [1000, 500]


def test_headers_longer_than_a_fresh_cell_takes(bench):
    options = bytes((17, 199)) + b"\x01\x04" + bytes(1596)
    raw = bytes(LINK / IPv6(src="fd00::1", dst="fd00::2", nh=60) / Raw(options) / UDP(len=2008) / Raw(bytes(2000)))
    cell = bench.make(raw[:1000])
    write_bytes((address_of(bench.pool.cells, cell) & ~2047) + 64, raw[:1900])
    line = bench.line(cell)
    line.next, line.length = bench.make(raw[1900:]), len(raw)
    long = with_data(cell, 64, 1900) | CHAINED
    assert bench.data(long) == raw
    assert cut(bench.cache, long, 1000, bench.vector, 8) == 0
    bench.release(long)

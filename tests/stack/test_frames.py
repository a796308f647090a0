"""Frames of the router's own, with scapy as the judge; and hostile bytes."""

import random
import zlib

import pytest
from scapy.layers.inet import ICMP, IP, UDP, IPOption_NOP, IPOption_Router_Alert, IPOption_RR, fragment
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

from wirespeed.stack import frames

OURS, THEIRS = 0x0200_0000_0001, 0x0200_0000_0002


def ip(text: str) -> int:
    return int.from_bytes(bytes(map(int, text.split("."))))


def whole(packet: IP) -> IP:
    """The packet as scapy reads it, with checksums that scapy agrees with."""
    data = bytes(packet)
    again = IP(data)
    for layer in (IP, ICMP, UDP):
        if layer in again and (layer is not UDP or not (again.flags.MF or again.frag)):
            again[layer].chksum = None
    assert bytes(again) == data
    return IP(data)


def test_arp_request():
    frame = Ether(frames.arp_request(OURS, ip("10.1.0.1"), ip("10.1.0.2")))
    assert (frame.dst, frame.src, frame.type) == ("ff:ff:ff:ff:ff:ff", "02:00:00:00:00:01", 0x806)
    arp = frame[ARP]
    assert (arp.op, arp.hwsrc, arp.psrc, arp.pdst) == (1, "02:00:00:00:00:01", "10.1.0.1", "10.1.0.2")
    assert Ether(frames.arp_request(OURS, 1, 2, THEIRS)).dst == "02:00:00:00:00:02"
    assert len(bytes(frame)) == 60


def test_arp_reply_to_what_scapy_asks():
    asked = Ether(src="02:00:00:00:00:02", dst="ff:ff:ff:ff:ff:ff") / ARP(
        hwsrc="02:00:00:00:00:02", psrc="10.1.0.2", pdst="10.1.0.1"
    )
    request = frames.read_arp(bytes(asked))
    assert request == frames.ArpPacket(1, THEIRS, ip("10.1.0.2"), 0, ip("10.1.0.1"))
    reply = Ether(frames.arp_reply(request, OURS))
    assert (reply.dst, reply[ARP].op, reply[ARP].hwsrc) == ("02:00:00:00:00:02", 2, "02:00:00:00:00:01")
    assert (reply[ARP].psrc, reply[ARP].pdst, reply[ARP].hwdst) == ("10.1.0.1", "10.1.0.2", "02:00:00:00:00:02")


def test_echo_reply_has_the_same_data():
    request = IP(src="10.1.0.2", dst="10.1.0.1", tos=0x10) / ICMP(id=7, seq=9) / Raw(b"abc")
    reply = whole(IP(frames.echo_reply(frames.parse_ipv4(bytes(request)))))
    assert (reply.src, reply.dst, reply.tos, reply.ttl) == ("10.1.0.1", "10.1.0.2", 0x10, 64)
    assert (reply[ICMP].type, reply[ICMP].id, reply[ICMP].seq, reply[Raw].load) == (0, 7, 9, b"abc")


def test_an_error_quotes_up_to_576_bytes():
    about = frames.parse_ipv4(bytes(IP(src="10.1.0.2", dst="10.2.0.2") / UDP(dport=33434) / Raw(bytes(1000))))
    error = whole(IP(frames.icmp_error(ip("10.1.0.1"), 3, 4, 1400, about)))
    assert len(error) == 576
    assert (error[ICMP].type, error[ICMP].code, error[ICMP].nexthopmtu) == (3, 4, 1400)
    assert bytes(error)[28:] == about.data[:548]


def test_ttl_keeps_the_checksum_right():
    packet = frames.parse_ipv4(bytes(IP(src="10.1.0.2", dst="10.2.0.2", ttl=9) / UDP() / Raw(b"x")))
    assert whole(IP(frames.with_ttl(packet, 8))).ttl == 8


@pytest.mark.parametrize("mtu", [68, 576, 1400, 1499])
def test_fragments_are_those_of_scapy(mtu):
    packet = IP(src="10.1.0.2", dst="10.2.0.2", id=77) / UDP() / Raw(random.Random(1).randbytes(1472))
    pieces = frames.fragments(frames.parse_ipv4(bytes(packet)), mtu)
    expected = fragment(packet, fragsize=(mtu - 20) // 8 * 8)
    assert pieces == [bytes(each) for each in expected]
    assert all(len(piece) <= mtu for piece in pieces)


def test_a_fragment_can_be_cut_again():
    payload = random.Random(2).randbytes(1480)
    first = IP(src="10.1.0.2", dst="10.2.0.2", id=1, flags="MF", frag=185, proto=17) / Raw(payload)
    pieces = [IP(each) for each in frames.fragments(frames.parse_ipv4(bytes(first)), 600)]
    assert [piece.frag for piece in pieces] == [185, 257, 329]
    assert all(piece.flags.MF for piece in pieces)
    assert b"".join(bytes(piece.payload) for piece in pieces) == payload


def test_only_copied_options_are_in_later_fragments():
    """RFC 791 section 3.1: router alert (148) has the copied flag, record route (7) has not."""
    options = [IPOption_Router_Alert(), IPOption_NOP(), IPOption_RR(routers=["0.0.0.0"])]
    packet = IP(src="10.1.0.2", dst="10.2.0.2", options=options) / UDP() / Raw(bytes(1000))
    first, second = (whole(IP(each)) for each in frames.fragments(frames.parse_ipv4(bytes(packet)), 600))
    assert [option.option for option in first.options if option.option] == [20, 1, 7]
    assert [option.option for option in second.options if option.option] == [20]
    assert second.ihl == 6


def test_what_must_not_be_cut_is_not():
    packet = frames.parse_ipv4(bytes(IP(src="10.1.0.2", dst="10.2.0.2", flags="DF") / UDP() / Raw(bytes(1000))))
    assert frames.fragments(packet, 600) == []
    assert frames.fragments(packet, 1500) == [packet.data]


def test_padding_is_no_part_of_a_packet():
    packet = bytes(IP(src="10.1.0.2", dst="10.2.0.2") / UDP())
    assert frames.read_ipv4(bytes(12) + b"\x08\x00" + packet + bytes(18)).data == packet


def test_hostile_bytes_are_none_or_whole():
    """Every reader takes anything; what it gives can be written again."""
    source = random.Random(zlib.crc32(b"hostile"))
    seed = bytes(12) + b"\x08\x00" + bytes(IP(src="10.1.0.2", dst="10.2.0.2", options=[IPOption_RR()]) / UDP())
    for _ in range(3000):
        data = bytearray(seed[: source.randrange(len(seed) + 1)] + source.randbytes(source.randrange(40)))
        for _ in range(source.randrange(6)):
            if data:
                data[source.randrange(len(data))] = source.randrange(256)
        if source.random() < 0.5 and len(data) > 14:
            data[12:15] = b"\x08\x00" + bytes([0x40 | source.randrange(16)])
        frames.read_arp(bytes(data))
        packet = frames.read_ipv4(bytes(data))
        if packet is not None:
            assert 20 <= packet.header_bytes <= len(packet.data) <= len(data) - 14
            frames.fragments(packet, 68)
            frames.echo_reply(packet)
            frames.icmp_error(1, 11, 0, 0, packet)
            assert len(frames.with_ttl(packet, 3)) == len(packet.data)

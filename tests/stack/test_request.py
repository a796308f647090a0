"""Requests turned into replies, against scapy's packets: addresses, lengths, checksums; nothing else changes."""

import ipaddress

import pytest
from scapy.layers.inet import IP, UDP, IPOption_RR
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, PadN
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Raw

import wirespeed as ws
from wirespeed.graph.trace import laid_out
from wirespeed.stack.desk import Desk
from wirespeed.stack.interface import Interface
from wirespeed.stack.interface_settings import Settings
from wirespeed.stack.outbox import Outbox
from wirespeed.stack.udp import udp_handler

US, PEER = "02:77:73:00:00:01", "02:00:00:00:00:02"
HERE, THERE = "10.7.0.1", "10.7.0.2"
HERE6, THERE6 = "fd07::1", "fd07::2"


class Query(ws.Header):
    """A protocol of a user's own."""

    kind = ws.u8(0)
    value = ws.be32(4)
    SIZE = 8


@pytest.fixture
def face():
    made = Interface(
        Settings(
            mac=0x0277_7300_0001,
            addresses=(ipaddress.ip_interface(f"{HERE}/24"), ipaddress.ip_interface(f"{HERE6}/64")),
        )
    )
    yield made
    made.close()


def echo(request, reply):
    reply.write(request.payload)


def answered(face, function, packet, drops=(), **options):
    """The frame that the handler made of a packet; the name of the door if it made none."""
    found = udp_handler(function, face, Outbox(), drops, **options).trace(packet)
    return found.door or Ether(found.data)


def four(payload, **fields):
    return Ether(src=PEER, dst=US) / IP(src=THERE, dst=HERE, **fields) / UDP(sport=4000, dport=7) / payload


def six(payload):
    return Ether(src=PEER, dst=US) / IPv6(src=THERE6, dst=HERE6) / UDP(sport=4000, dport=7) / payload


def sound(frame):
    """Whether scapy, asked to compute lengths and checksums anew, comes to the same bytes."""
    again = frame.copy()
    for layer in (IP, IPv6, UDP):
        if layer in again:
            for field in ("len", "chksum", "plen"):
                if field in again[layer].default_fields:
                    delattr(again[layer], field)
    return bytes(again) == bytes(frame)


@pytest.mark.parametrize("size", [0, 1, 2, 7, 8, 9, 31, 32, 33, 64, 100, 511, 1400])
@pytest.mark.parametrize("make", [four, six])
def test_an_echo_of_any_size(face, make, size):
    payload = bytes(i * 7 % 256 for i in range(size))
    reply = answered(face, echo, make(payload))
    ip = reply[IP] if IP in reply else reply[IPv6]
    assert (ip.src, ip.dst) == ((HERE, THERE) if IP in reply else (HERE6, THERE6))
    assert (reply[UDP].sport, reply[UDP].dport) == (7, 4000)
    assert bytes(reply[UDP].payload) == payload
    assert sound(reply)


def test_a_reply_may_be_longer_or_shorter(face):
    def longer(request, reply):
        reply.be32(0x11223344)
        reply.be16(0x5566)
        reply.u8(0x77)

    def shorter(request, reply):
        reply.keep(2)

    reply = answered(face, longer, four(b"a"))
    assert bytes(reply[UDP].payload) == bytes.fromhex("11223344556677")
    assert sound(reply)
    reply = answered(face, shorter, four(b"abcdef"))
    assert bytes(reply[UDP].payload) == b"ab"
    assert sound(reply)


def test_no_more_than_the_cell_holds(face):
    def endless(request, reply):
        while reply.u8(0xAA):
            pass

    reply = answered(face, endless, four(b"a"))
    assert 1600 < len(reply) <= 1792
    assert sound(reply)


def test_declared_headers_on_the_payload(face):
    def answer(request, reply):
        query = request[Query]
        if not query:
            return "short"
        query.value += 1
        reply.write(request.payload)
        return None

    payload = bytes([1, 0, 0, 0]) + (41).to_bytes(4) + b"rest"
    reply = answered(face, answer, four(payload), ["short"])
    assert bytes(reply[UDP].payload) == bytes([1, 0, 0, 0]) + (42).to_bytes(4) + b"rest"
    assert sound(reply)
    assert answered(face, answer, four(payload[:7]), ["short"]) == "short"


def test_what_a_request_tells(face):
    seen = {}

    def look(request, reply):
        seen.update(
            source=request.source, destination=request.destination, ports=(request.source_port, request.port),
            length=request.length, six=request.six, arrival=request.arrival,
        )  # fmt: skip

    assert answered(face, look, four(b"abc")) == "no-answer"
    assert seen == {
        "source": int(ipaddress.ip_address(THERE)), "destination": int(ipaddress.ip_address(HERE)),
        "ports": (4000, 7), "length": 3, "six": 0, "arrival": 0,
    }  # fmt: skip
    assert answered(face, look, six(b"abcd")) == "no-answer"
    assert (seen["source"], seen["six"], seen["length"]) == (0, 1, 4)


def test_what_travelled_with_the_request_does_not_travel_back(face):
    """IPv4 options become No Operation, IPv6 extension headers go; TTL, TOS and identification are our own."""
    reply = answered(face, echo, four(b"data", ttl=3, tos=7, id=9, options=[IPOption_RR(routers=["1.2.3.4"])]))
    assert (reply[IP].ttl, reply[IP].tos, reply[IP].id, reply[IP].flags) == (64, 0, 0, "DF")
    assert {option.option for option in reply[IP].options} == {1}
    assert sound(reply)
    request = Ether(src=PEER, dst=US) / IPv6(src=THERE6, dst=HERE6, hlim=3, tc=7)
    request /= IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 12)]) / UDP(sport=4000, dport=7) / Raw(b"data")
    reply = answered(face, echo, request)
    assert (reply[IPv6].nh, reply[IPv6].hlim, reply[IPv6].tc) == (17, 64, 0)
    assert bytes(reply[UDP].payload) == b"data"
    assert sound(reply)


def test_a_tag_stays(face):
    request = Ether(src=PEER, dst=US) / Dot1Q(vlan=5) / IP(src=THERE, dst=HERE) / UDP(sport=4000, dport=7) / b"x"
    reply = answered(face, echo, request)
    assert reply[Dot1Q].vlan == 5
    assert sound(reply)


def test_what_was_sent_to_a_group_is_answered_from_our_address(face):
    request = four(b"anybody?")
    request[Ether].dst, request[IP].dst = "01:00:5e:00:00:01", "224.0.0.1"
    reply = answered(face, echo, request)
    assert (reply[IP].src, reply[IP].dst) == (HERE, THERE)
    assert sound(reply)


def test_what_was_sent_to_an_ipv6_group_is_answered_from_our_address(face):
    request = six(b"anybody?")
    request[Ether].dst, request[IPv6].dst = "33:33:00:00:00:01", "ff02::1"
    reply = answered(face, echo, request)
    assert (reply[IPv6].src, reply[IPv6].dst) == (HERE6, THERE6)
    assert sound(reply)


def test_padding_is_not_payload(face):
    request = Ether(bytes(four(b"ab")) + b"\xff" * 16)
    reply = answered(face, echo, request)
    assert len(reply) == 14 + 20 + 8 + 2
    assert sound(reply)


@pytest.mark.parametrize("make", [four, six])
@pytest.mark.parametrize(("length", "door"), [(0, ""), (6, ""), (7, "amplified")])
def test_no_answer_is_longer_than_the_limit(face, make, length, door):
    def answer(request, reply):
        reply.start  # noqa: B018
        reply.length = length

    found = answered(face, answer, make(b"ab"), amplification=3)
    assert found == door or (door == "" and len(found[UDP].payload) == length)


def test_all_datagrams_together_are_within_the_limit(face):
    """The second is beyond it; after that not even a shorter one is sent."""
    sent = []

    def answer(request, reply):
        for size in (4, 3, 1):
            reply.keep(min(size, 2))
            reply.keep(size - min(size, 2))
            sent.append((reply.send(), reply.allowed))
        reply.u8(0)

    assert answered(face, answer, four(b"ab"), amplification=3) == "amplified"
    assert [allowed for _, allowed in sent] == [2, -1, -1]


def test_no_limit_for_whom_a_cookie_has_shown(face):
    def answer(request, reply):
        if request.payload.u8(0) == 7:
            reply.verified()
        while reply.length < 100:
            reply.u8(1)

    assert answered(face, answer, four(b"\x00"), amplification=3) == "amplified"
    assert len(answered(face, answer, four(b"\x07"), amplification=3)[UDP].payload) == 100


def test_a_request_chooses_its_worker(face):
    def first_byte(request):
        return request.payload.u8(0) if request.length > 0 else -1

    for desk in (None, Desk()):
        node = udp_handler(echo, face, Outbox(), desk=desk, worker=first_byte)
        for payload, number in ((b"\x05a", 5), (b"", -1)):
            with laid_out(four(payload)) as pkt:
                assert node.worker(pkt) == number

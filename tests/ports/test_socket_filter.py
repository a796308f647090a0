"""Filter programs: run by the kernel, on frames of all kinds, beside the reference."""

import ctypes
import itertools
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wirespeed.errors import PortError
from wirespeed.ports.af_packet.filter import Program, compile_matches, pack, read_program
from wirespeed.ports.match import Match, matches, parse_match, parse_matches

ETHER = bytes.fromhex("020000000002 020000000001")
RULES = [
    "any", "arp", "ip", "ip6", "ether/0x88b5", "vlan/7", "vlan/0", "tcp", "udp", "icmp", "icmp6", "proto/47", "udp/53",
    "tcp/80-443", "sport/1024-65535", "dport/0-52", "sctp/9", "from/10.0.0.0/8", "to/192.0.2.1", "from/0.0.0.0/0",
    "to/2001:db8::/33", "from/2001:db8::1", "teid/42", "vni/7", "vlan/7&udp/53&from/10.0.0.0/8", "ip6&udp/53",
    "arp&udp", "udp/53|tcp/80-443", "vlan/7|arp|to/2001:db8::/33", "teid/42|vni/7|icmp",
]  # fmt: skip


def tag(vlan: int, kind: int = 0x8100) -> bytes:
    return struct.pack(">HH", kind, vlan)


def ipv4(protocol: int, body: bytes, source: bytes = b"\x0a\1\2\3", words: int = 5, fragment: int = 0) -> bytes:
    head = struct.pack(">BBHHHBBH", 0x40 | words, 0, 20 + len(body), 1, fragment, 64, protocol, 0)
    return b"\x08\0" + head + source + b"\xc0\0\2\1" + bytes(max(words - 5, 0) * 4) + body


def ipv6(protocol: int, body: bytes) -> bytes:
    source, target = bytes.fromhex("20010db8" + "00" * 11 + "01"), bytes.fromhex("20010db8" + "00" * 11 + "02")
    return b"\x86\xdd" + struct.pack(">IHBB", 6 << 28, len(body), protocol, 64) + source + target + body


def ports(source: int, target: int, rest: bytes = b"\0\x0c\0\0") -> bytes:
    return struct.pack(">HH", source, target) + rest


GTP, VXLAN = b"\0\0\0\0\x30\xff\0\0\0\0\0\x2a", b"\0\0\0\0\x08\0\0\0\0\0\7\0"
INNER = [
    b"\x88\xb5payload",
    b"\x08\x06" + bytes(28),
    b"\x08\0",
    b"\x86\xdd\x60",
    b"\x08\0" + b"\x55" + bytes(30),
    ipv4(1, b"\x08\0\0\0"),
    ipv4(47, b""),
    ipv4(17, ports(5000, 53)),
    ipv4(17, ports(5000, 53), words=7),
    ipv4(17, ports(5000, 53), words=4),
    ipv4(17, ports(5000, 53), source=b"\x0b\0\0\1"),
    ipv4(17, ports(5000, 53), fragment=0x2000),
    ipv4(17, ports(5000, 53), fragment=9),
    ipv4(17, b"\0\x35"),
    ipv4(6, ports(80, 443)),
    ipv4(6, ports(80, 444)),
    ipv4(132, ports(9, 9)),
    ipv4(17, ports(2152, 2152, GTP)),
    ipv4(17, ports(2152, 2152, GTP[:-1])),
    ipv4(17, ports(2152, 4789, VXLAN)),
    ipv6(17, ports(1, 53)),
    ipv6(58, b"\x80\0"),
    ipv6(0, b"\x11\0\0\0\0\0\0\0" + ports(1, 53)),
    ipv6(6, ports(80, 80)),
]
TAGS = [
    b"",
    tag(7),
    tag(8),
    tag(0x2007),
    tag(7, 0x88A8) + tag(8),
    tag(8) + tag(7),
    tag(7) + tag(8) + tag(9),
    b"\x81\0\0",
]
FRAMES = [ETHER + outer + inner for outer, inner in itertools.product(TAGS, INNER)] + [ETHER, ETHER + b"\x08"]


class Sieve:
    """A socket that takes what a program takes."""

    def __init__(self) -> None:
        self.into, self.out = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.out.setblocking(False)

    def use(self, program: Program) -> None:
        code = ctypes.create_string_buffer(pack(program))
        self.out.setsockopt(1, 26, struct.pack("@HP", len(program), ctypes.addressof(code)))  # SO_ATTACH_FILTER

    def takes(self, frame: bytes) -> bool:
        self.into.send(frame)
        try:
            return self.out.recv(65536) == frame
        except BlockingIOError:
            return False

    def close(self) -> None:
        self.into.close()
        self.out.close()


@pytest.fixture
def sieve() -> Iterator[Sieve]:
    made = Sieve()
    yield made
    made.close()


@pytest.mark.parametrize("text", RULES)
def test_the_kernel_takes_what_the_reference_takes(sieve: Sieve, text: str) -> None:
    alternatives = parse_matches(text)
    sieve.use(compile_matches(alternatives))
    for frame in FRAMES:
        assert sieve.takes(frame) is any(matches(each, frame) for each in alternatives), frame.hex(" ")


@settings(max_examples=200, deadline=None)
@given(
    text=st.sampled_from(RULES),
    frame=st.sampled_from(FRAMES),
    changes=st.lists(st.tuples(st.integers(12, 70), st.integers(0, 255)), max_size=3),
    cut=st.integers(0, 100),
)
def test_broken_frames(text: str, frame: bytes, changes: list[tuple[int, int]], cut: int) -> None:
    altered = bytearray(frame)
    for at, value in changes:
        if at < len(altered):
            altered[at] = value
    frame = bytes(altered[: max(len(altered) - cut, 1)])
    sieve = Sieve()
    try:
        sieve.use(compile_matches(parse_matches(text)))
        assert sieve.takes(frame) is any(matches(each, frame) for each in parse_matches(text))
    finally:
        sieve.close()


def test_many_alternatives(sieve: Sieve) -> None:
    text = "|".join(f"udp/{port}" for port in range(50, 100))
    sieve.use(compile_matches(parse_matches(text)))
    assert sieve.takes(ETHER + ipv4(17, ports(1, 99)))
    assert not sieve.takes(ETHER + ipv4(17, ports(1, 100)))


def test_too_many_alternatives() -> None:
    with pytest.raises(PortError, match="the most is 4096"):
        compile_matches((parse_match("udp/1"),) * 200)


def test_programs_of_tcpdump(tmp_path: Path, sieve: Sieve) -> None:
    """``tcpdump -ddd arp``."""
    file = tmp_path / "arp"
    file.write_text("4\n40 0 0 12\n21 0 1 2054\n6 0 0 262144\n6 0 0 0\n")
    sieve.use(read_program(str(file)))
    assert sieve.takes(ETHER + b"\x08\x06" + bytes(28))
    assert not sieve.takes(ETHER + b"\x08\0" + bytes(28))


@pytest.mark.parametrize("text", ["", "2\n6 0 0 0\n", "1\n6 0 0\n", "1\n6 0 0 x\n", "1\n6 0 999 0\n"])
def test_what_is_no_program(tmp_path: Path, text: str) -> None:
    file = tmp_path / "bad"
    file.write_text(text)
    with pytest.raises(PortError, match="tcpdump -ddd udp port 53"):
        read_program(str(file))


def test_no_such_file() -> None:
    with pytest.raises(PortError, match="no filter program"):
        read_program("/nowhere/program")


def test_a_match_of_nothing_takes_all(sieve: Sieve) -> None:
    sieve.use(compile_matches((Match(),)))
    assert sieve.takes(FRAMES[0])

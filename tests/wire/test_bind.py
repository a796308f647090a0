"""Headers that users declare: found behind what carries them, absent otherwise."""

import pytest

from wirespeed.errors import WirespeedError
from wirespeed.jit import COMPILED, be16, be32, kernel, u8
from wirespeed.mem.descriptor import HEADROOM
from wirespeed.wire.ethernet import Ethernet
from wirespeed.wire.header import BindError, Header
from wirespeed.wire.ipv4 import Ipv4
from wirespeed.wire.ipv6 import Ipv6
from wirespeed.wire.packet import Packet
from wirespeed.wire.parse import LEVEL, PARSERS, parse_transport
from wirespeed.wire.tcp import Tcp
from wirespeed.wire.udp import Udp


class Telemetry(Header):
    """Four bytes, then as many as ``more`` says."""

    kind = u8(0)
    more = u8(1)
    hop = be16(2)
    SIZE = 4

    @property
    def header_bytes(self):
        return 4 + self.more


class Inner(Header):
    value = be16(0)


class Timing(Header):
    stamp = be32(0)


class Sctp(Header):
    sport = be16(0)
    dport = be16(2)
    tag = be32(4)
    checksum = be32(8)


class Vxlan(Header):
    flags = u8(0)
    vni = be32(4)


class InnerEthernet(Ethernet):
    pass


class InnerIpv4(Ipv4):
    pass


Telemetry.bind(Udp, dport=4242)
Telemetry.bind(Tcp, dport=4242, syn=0)
Inner.bind(Telemetry, kind=7)
Timing.bind(Ethernet, ethertype=0x88F7)
Sctp.bind(Ipv4, protocol=132)
Sctp.bind(Ipv6, next_header=132)
Vxlan.bind(Udp, dport=4789)
InnerEthernet.bind(Vxlan)
InnerIpv4.bind(InnerEthernet, ethertype=0x0800)


@kernel
def find_all(cells, desc):
    pkt = Packet()
    pkt.cells, pkt.desc, pkt.port = cells, desc, 0
    parse_transport(pkt)
    s = pkt.start
    pkt[Telemetry].hop += 1
    return (
        pkt[Telemetry].address - s if pkt[Telemetry] else -1,
        pkt[Telemetry].hop,
        pkt[Inner].value,
        pkt[Timing].stamp,
        pkt[Sctp].dport,
        pkt[Udp].dport,
        pkt[InnerEthernet].src,
        pkt[InnerIpv4].dst,
    )


def ether(ethertype: int, rest: bytes) -> bytes:
    return bytes(12) + ethertype.to_bytes(2, "big") + rest


def ipv4(protocol: int, payload: bytes, destination: bytes = bytes(4)) -> bytes:
    total = (20 + len(payload)).to_bytes(2, "big")
    return b"\x45\0" + total + bytes(5) + bytes([protocol, 0, 0]) + bytes(4) + destination + payload


def udp(port: int, payload: bytes) -> bytes:
    return b"\0\1" + port.to_bytes(2, "big") + (8 + len(payload)).to_bytes(2, "big") + b"\0\0" + payload


def tcp(port: int, flags: int, payload: bytes) -> bytes:
    return b"\0\1" + port.to_bytes(2, "big") + bytes(8) + bytes([0x60, flags]) + bytes(10) + payload


NOTHING = (-1, 0, 0, 0, 0, 0, 0, 0)
BODY = bytes.fromhex("07 02 0041 ffff 1234")


def test_behind_udp_and_inside_itself(cells):
    desc = cells.put(ether(0x0800, ipv4(17, udp(4242, BODY))))
    assert find_all(cells.base, desc) == (42, 0x42, 0x1234, 0, 0, 4242, 0, 0)
    assert cells.read(desc)[42:46] == bytes.fromhex("07020042")  # the write went through


def test_the_second_binding(cells):
    there = cells.put(ether(0x0800, ipv4(6, tcp(4242, 0x10, BODY))))
    assert find_all(cells.base, there)[:3] == (14 + 20 + 24, 0x42, 0x1234)
    syn = cells.put(ether(0x0800, ipv4(6, tcp(4242, 0x02, BODY))))
    assert find_all(cells.base, syn) == NOTHING


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        ether(0x0800, ipv4(17, udp(4243, BODY))),
        ether(0x0800, ipv4(17, udp(4242, BODY[:3]))),
        ether(0x0800, ipv4(17, udp(4242, BODY)))[:-1],
    ],
    ids=["empty", "another port", "fewer than SIZE bytes", "cut"],
)
def test_absent(cells, frame):
    found = find_all(cells.base, cells.put(frame))
    assert (found[0], *found[1:5], *found[6:]) == (-1, 0, 0, 0, 0, 0, 0)


def test_inner_needs_its_own_bytes_and_condition(cells):
    other = cells.put(ether(0x0800, ipv4(17, udp(4242, b"\x08" + BODY[1:]))))
    assert find_all(cells.base, other)[2] == 0
    long = cells.put(ether(0x0800, ipv4(17, udp(4242, b"\x07\xff" + BODY[2:]))).ljust(400, b"\x11"))
    assert find_all(cells.base, long)[2] == 0  # padding is not the packet's


def test_behind_tags_and_extension_headers(cells):
    tagged = bytes(12) + bytes.fromhex("8100 0005 88f7 01020304")
    assert find_all(cells.base, cells.put(tagged))[3] == 0x01020304
    sctp = bytes.fromhex("0001 0d96 00000000 00000000")
    assert find_all(cells.base, cells.put(ether(0x0800, ipv4(132, sctp))))[4] == 0x0D96
    six = b"\x60\0\0\0" + (8 + len(sctp)).to_bytes(2, "big") + bytes([60, 64]) + bytes(32) + b"\x84" + bytes(7) + sctp
    assert find_all(cells.base, cells.put(ether(0x86DD, six)))[4] == 0x0D96


def test_a_later_fragment_carries_nothing(cells):
    frame = bytearray(ether(0x0800, ipv4(132, bytes(12).replace(b"\0", b"\1"))))
    frame[20:22] = b"\0\1"
    assert find_all(cells.base, cells.put(bytes(frame)))[4] == 0


def test_a_tunnel(cells):
    inside = bytes(6) + bytes.fromhex("020000000009 0800") + ipv4(17, b"", b"\x0a\0\0\x09")
    frame = ether(0x0800, ipv4(17, udp(4789, bytes.fromhex("08000000 00000100") + inside)))
    assert find_all(cells.base, cells.put(frame))[6:] == (0x020000000009, 0x0A000009)
    assert find_all(cells.base, cells.put(frame[:-1]))[6:] == (0, 0)  # UDP's length lies


def test_the_interpreted_way(cells):
    """``pkt[H]`` calls the same function; here on what a kernel would have parsed."""
    if COMPILED:
        pytest.skip("needs NUMBA_DISABLE_JIT=1: a finder is compiled")
    pkt = Packet()
    pkt.cells, pkt.desc, pkt.port = cells.base, cells.put(ether(0x0800, ipv4(17, udp(4242, BODY)))), 0
    parse_transport(pkt)
    assert pkt[Telemetry].hop == 0x41
    assert pkt[Telemetry].address == cells.base + HEADROOM + 42
    assert not pkt[Sctp]


def test_levels():
    assert (Timing.level(), Telemetry.level(), Inner.level(), Sctp.level(), Udp.level()) == (1, 3, 3, 3, 3)
    assert (Ethernet.level(), Ipv4.level()) == (LEVEL["eth"], LEVEL["ipv4"])
    assert set(LEVEL.values()) == set(range(len(PARSERS)))
    assert set(Packet.slots) <= set(LEVEL)


def test_source_can_be_read():
    assert Timing.finder_source() == (
        "def find_timing(pkt):\n"
        '    """Timing: after Ethernet where ethertype == 0x88f7."""\n'
        "    address = 0\n"
        "    ethernet_0 = pkt.eth\n"
        "    if address == 0 and ethernet_0 and pkt.ethertype == 35063:\n"
        "        inside = pkt.l3\n"
        "        if ethernet_0.address <= inside and inside <= pkt.end - 4:\n"
        "            address = inside\n"
        "    return maybe(address)\n"
    )


def test_mistakes_say_what_would_be_right():
    class Fresh(Header):
        a = u8(0)

    with pytest.raises(BindError, match=r"Fresh.bind\(Udp\): Udp has no field 'dprt'; did you mean 'dport'\?"):
        Fresh.bind(Udp, dprt=1)
    with pytest.raises(BindError, match=r"has no field 'zzzz'; it has sport, dport, length, checksum"):
        Fresh.bind(Udp, zzzz=1)
    with pytest.raises(BindError, match=r"dport='4242' must be an integer"):
        Fresh.bind(Udp, dport="4242")
    with pytest.raises(BindError, match=r"a carrier is a class derived from Header"):
        Fresh.bind(int)
    with pytest.raises(BindError, match=r"call Fresh.bind\(Carrier\) first"):
        Fresh.finder()
    with pytest.raises(BindError, match="nothing carries Fresh yet"):
        Inner.bind(Fresh)
    with pytest.raises(BindError, match="itself inside"):
        Telemetry.bind(Inner)
    with pytest.raises(BindError, match=r"class InnerUdp\(Udp\)"):
        Udp.bind(Ipv4)
    Fresh.bind(Udp, dport=9)
    with pytest.raises(BindError, match="already bound to after Udp where dport == 0x9"):
        Fresh.bind(Udp, dport=9)
    assert issubclass(BindError, WirespeedError)

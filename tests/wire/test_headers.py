"""Field by field against scapy: what it builds we read, what we write it reads; compiled and interpreted.

``read_*`` and ``write_*`` are kernels; the views called from plain Python are their interpreted twins.
"""

import random

import pytest

scapy = pytest.importorskip("scapy.all", reason="scapy is not installed (pip install wirespeed[dev])")

from wirespeed.jit import COMPILED, kernel  # noqa: E402
from wirespeed.wire.arp import Arp  # noqa: E402
from wirespeed.wire.ethernet import Ethernet, mac_address, mac_text  # noqa: E402
from wirespeed.wire.icmp import Icmp, Icmp6  # noqa: E402
from wirespeed.wire.ipv4 import Ipv4  # noqa: E402
from wirespeed.wire.ipv6 import Ipv6  # noqa: E402
from wirespeed.wire.packet import Packet  # noqa: E402
from wirespeed.wire.parse import parse_transport  # noqa: E402
from wirespeed.wire.tcp import Tcp  # noqa: E402
from wirespeed.wire.udp import Udp  # noqa: E402
from wirespeed.wire.vlan import Vlan  # noqa: E402

ROUNDS = 40 if COMPILED else 8
dice = random.Random(7)


ETHER = scapy.Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")  # named, so that scapy asks nobody


def number(bits: int) -> int:
    """Random, with the extremes more often than chance."""
    return dice.choice([dice.getrandbits(bits), dice.getrandbits(bits), 0, (1 << bits) - 1])


def signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def pair(address: int) -> tuple[int, int]:
    return signed(address >> 64), signed(address & ((1 << 64) - 1))


def four(address: int) -> str:
    return ".".join(str(byte) for byte in address.to_bytes(4, "big"))


def six(address: int) -> str:
    return ":".join(f"{address >> shift & 0xFFFF:x}" for shift in range(112, -1, -16))


def by_hand(view, names):
    """The same fields through the interpreted view."""
    return tuple(getattr(view, name) for name in names)


@kernel
def read_link(cells, desc):
    pkt = Packet()
    pkt.cells, pkt.desc, pkt.port = cells, desc, 0
    parse_transport(pkt)
    e, v = pkt.eth, pkt.vlan
    return e.dst, e.src, e.ethertype, v.tci, v.pcp, v.dei, v.vid, v.ethertype


@kernel
def write_link(at, dst, src, pcp, dei, vid, ethertype):
    e, v = Ethernet(at), Vlan(at + 14)
    e.dst, e.src, e.ethertype = dst, src, 0x8100
    v.pcp, v.dei, v.vid, v.ethertype = pcp, dei, vid, ethertype


def test_ethernet_and_vlan(cells):
    for _ in range(ROUNDS):
        dst, src, pcp, dei, vid = number(48), number(48), number(3), number(1), number(12)
        frame = scapy.Ether(dst=mac_text(dst), src=mac_text(src)) / scapy.Dot1Q(
            prio=pcp, dei=dei, vlan=vid, type=0x88F7
        )
        desc = cells.put(bytes(frame))
        tci = pcp << 13 | dei << 12 | vid
        assert read_link(cells.base, desc) == (dst, src, 0x8100, tci, pcp, dei, vid, 0x88F7)
        vlan = Vlan(cells.base + 256 + 14)
        assert by_hand(vlan, ("tci", "pcp", "dei", "vid")) == (tci, pcp, dei, vid)
        cells.put(bytes(18))
        write_link(cells.base + 256, dst, src, pcp, dei, vid, 0x88F7)
        assert cells.read(desc) == bytes(frame)


def test_mac_text():
    assert mac_address("02:00:00:00:00:01") == 0x020000000001
    assert mac_address("2-0-0-0-0-1") == 0x020000000001
    assert mac_text(0x020000000001) == "02:00:00:00:00:01"
    for bad in ("", "02:00:00:00:00", "02:00:00:00:00:001", "zz:00:00:00:00:01"):
        with pytest.raises(ValueError, match=r"."):
            mac_address(bad)


def test_groups_and_broadcast(cells):
    eth = Ethernet(cells.base + 256)
    for address, group, everyone in (
        (0xFFFFFFFFFFFF, True, True),
        (0x01005E000001, True, False),
        (2 << 40, False, False),
    ):
        eth.dst = address
        assert (eth.is_multicast, eth.is_broadcast) == (group, everyone)


ARP = ("htype", "ptype", "hlen", "plen", "oper", "sha", "spa", "tha", "tpa")


@kernel
def read_arp(cells, desc):
    pkt = Packet()
    pkt.cells, pkt.desc, pkt.port = cells, desc, 0
    parse_transport(pkt)
    a = pkt.arp
    return a.htype, a.ptype, a.hlen, a.plen, a.oper, a.sha, a.spa, a.tha, a.tpa


@kernel
def write_arp(at, oper, sha, spa, tha, tpa):
    a = Arp(at)
    a.htype, a.ptype, a.hlen, a.plen = 1, 0x0800, 6, 4
    a.oper, a.sha, a.spa, a.tha, a.tpa = oper, sha, spa, tha, tpa


def test_arp(cells):
    for _ in range(ROUNDS):
        oper, sha, spa, tha, tpa = number(16), number(48), number(32), number(48), number(32)
        packet = scapy.ARP(op=oper, hwsrc=mac_text(sha), psrc=four(spa), hwdst=mac_text(tha), pdst=four(tpa))
        desc = cells.put(bytes(scapy.Ether(type=0x0806) / packet))
        expected = (1, 0x0800, 6, 4, oper, sha, spa, tha, tpa)
        assert read_arp(cells.base, desc) == expected
        assert by_hand(Arp(cells.base + 256 + 14), ARP) == expected
        cells.put(bytes(28), offset=512)
        write_arp(cells.base + 512, oper, sha, spa, tha, tpa)
        assert Arp(cells.base + 512).tpa == tpa
        assert cells.read(28 << 48 | 512) == bytes(packet)


IPV4 = (
    "version", "ihl", "tos", "dscp", "ecn", "total_length", "identification", "flags_fragment", "dont_fragment",
    "more_fragments", "fragment_offset", "ttl", "protocol", "checksum", "src", "dst",
)  # fmt: skip


@kernel
def read_ipv4(cells, desc):
    pkt = Packet()
    pkt.cells, pkt.desc, pkt.port = cells, desc, 0
    parse_transport(pkt)
    p = pkt.ipv4
    return (
        p.version, p.ihl, p.tos, p.dscp, p.ecn, p.total_length, p.identification, p.flags_fragment, p.dont_fragment,
        p.more_fragments, p.fragment_offset, p.ttl, p.protocol, p.checksum, p.src, p.dst,
    ), (p.header_bytes, p.options_bytes, p.options - p.address, p.is_fragment)  # fmt: skip


@kernel
def write_ipv4(at, dscp, ecn, length, ident, df, mf, offset, ttl, protocol, checksum, src, dst):
    p = Ipv4(at)
    p.version, p.ihl = 4, 5
    p.dscp, p.ecn, p.total_length, p.identification = dscp, ecn, length, ident
    p.dont_fragment, p.more_fragments, p.fragment_offset = df, mf, offset
    p.ttl, p.protocol, p.checksum, p.src, p.dst = ttl, protocol, checksum, src, dst


def test_ipv4(cells):
    for _ in range(ROUNDS):
        dscp, ecn, ident, df, mf, offset = number(6), number(2), number(16), number(1), number(1), number(13)
        ttl, protocol, checksum, src, dst = number(8), number(8), number(16), number(32), number(32)
        options = [scapy.IPOption(b"\x94\x04\0\0")] * dice.randrange(3)
        packet = scapy.IP(
            tos=dscp << 2 | ecn, id=ident, flags=df << 1 | mf, frag=offset, ttl=ttl, proto=protocol,
            chksum=checksum, src=four(src), dst=four(dst), options=options,
        ) / scapy.Raw(bytes(dice.randrange(9)))  # fmt: skip
        data = bytes(packet)
        ihl = 5 + len(options)
        expected = (
            4, ihl, dscp << 2 | ecn, dscp, ecn, len(data), ident, df << 14 | mf << 13 | offset, df,
            mf, offset, ttl, protocol, checksum, src, dst,
        )  # fmt: skip
        desc = cells.put(bytes(scapy.Ether(type=0x0800)) + data)
        more = (ihl * 4, ihl * 4 - 20, 20, mf != 0 or offset != 0)
        assert read_ipv4(cells.base, desc) == (expected, more)
        view = Ipv4(cells.base + 256 + 14)
        assert by_hand(view, IPV4) == expected
        assert (view.header_bytes, view.options_bytes, view.options - view.address, view.is_fragment) == more
        cells.put(b"\xff" * 20, offset=512)
        write_ipv4(cells.base + 512, dscp, ecn, 20, ident, df, mf, offset, ttl, protocol, checksum, src, dst)
        again = scapy.IP(cells.read(20 << 48 | 512))
        got = (again.tos, again.id, int(again.flags) & 3, again.frag, again.ttl, again.proto, again.chksum)
        assert got == (dscp << 2 | ecn, ident, df << 1 | mf, offset, ttl, protocol, checksum)
        assert (again.src, again.dst, again.len, again.ihl) == (four(src), four(dst), 20, 5)


IPV6 = (
    "version",
    "traffic_class",
    "dscp",
    "ecn",
    "flow_label",
    "payload_length",
    "next_header",
    "hop_limit",
    "src",
    "dst",
)


@kernel
def read_ipv6(cells, desc):
    pkt = Packet()
    pkt.cells, pkt.desc, pkt.port = cells, desc, 0
    parse_transport(pkt)
    p = pkt.ipv6
    return (
        p.version, p.traffic_class, p.dscp, p.ecn, p.flow_label, p.payload_length, p.next_header, p.hop_limit,
        p.src, p.dst,
    )  # fmt: skip


@kernel
def write_ipv6(at, traffic_class, label, length, following, hops, src, dst):
    p = Ipv6(at)
    p.version, p.traffic_class, p.flow_label = 6, traffic_class, label
    p.payload_length, p.next_header, p.hop_limit, p.src, p.dst = length, following, hops, src, dst


def test_ipv6(cells):
    for _ in range(ROUNDS):
        tc, label, following, hops, src, dst = (
            number(8),
            number(20),
            number(8),
            number(8),
            number(128),
            number(128),
        )
        packet = scapy.IPv6(tc=tc, fl=label, nh=following, hlim=hops, src=six(src), dst=six(dst)) / scapy.Raw(b"abc")
        desc = cells.put(bytes(scapy.Ether(type=0x86DD)) + bytes(packet))
        expected = (6, tc, tc >> 2, tc & 3, label, 3, following, hops, pair(src), pair(dst))
        assert read_ipv6(cells.base, desc) == expected
        assert by_hand(Ipv6(cells.base + 256 + 14), IPV6) == expected
        cells.put(bytes(40), offset=512)
        write_ipv6(cells.base + 512, tc, label, 3, following, hops, pair(src), pair(dst))
        assert cells.read(40 << 48 | 512) == bytes(packet)[:40]


@kernel
def read_udp(cells, desc):
    pkt = Packet()
    pkt.cells, pkt.desc, pkt.port = cells, desc, 0
    parse_transport(pkt)
    u = pkt.udp
    return u.sport, u.dport, u.length, u.checksum


@kernel
def write_udp(at, sport, dport, length, checksum):
    u = Udp(at)
    u.sport, u.dport, u.length, u.checksum = sport, dport, length, checksum


def test_udp(cells):
    for _ in range(ROUNDS):
        sport, dport, checksum = number(16), number(16), number(16)
        packet = scapy.UDP(sport=sport, dport=dport, chksum=checksum) / scapy.Raw(bytes(dice.randrange(30)))
        expected = (sport, dport, len(packet), checksum)
        desc = cells.put(bytes(ETHER / scapy.IP() / packet))
        assert read_udp(cells.base, desc) == expected
        assert by_hand(Udp(cells.base + 256 + 34), ("sport", "dport", "length", "checksum")) == expected
        write_udp(cells.base + 512, *expected)
        assert cells.read(8 << 48 | 512) == bytes(packet)[:8]


TCP = (
    "sport", "dport", "seq", "ack", "data_offset", "flags", "cwr", "ece", "urg", "ack_flag", "psh", "rst", "syn", "fin",
    "window", "checksum", "urgent",
)  # fmt: skip


@kernel
def read_tcp(cells, desc):
    pkt = Packet()
    pkt.cells, pkt.desc, pkt.port = cells, desc, 0
    parse_transport(pkt)
    t = pkt.tcp
    return (
        t.sport, t.dport, t.seq, t.ack, t.data_offset, t.flags, t.cwr, t.ece, t.urg, t.ack_flag, t.psh, t.rst, t.syn,
        t.fin, t.window, t.checksum, t.urgent,
    ), (t.header_bytes, t.options_bytes, t.options - t.address)  # fmt: skip


@kernel
def write_tcp(at, sport, dport, seq, ack, offset, flags, window, checksum, urgent):
    t = Tcp(at)
    t.sport, t.dport, t.seq, t.ack, t.data_offset, t.flags = sport, dport, seq, ack, offset, flags
    t.window, t.checksum, t.urgent = window, checksum, urgent


def test_tcp(cells):
    for _ in range(ROUNDS):
        sport, dport, seq, ack, flags = number(16), number(16), number(32), number(32), number(8)
        window, checksum, urgent, options = (
            number(16),
            number(16),
            number(16),
            [("NOP", None)] * dice.choice([0, 4, 40]),
        )
        packet = scapy.TCP(
            sport=sport, dport=dport, seq=seq, ack=ack, flags=flags, window=window, chksum=checksum, urgptr=urgent,
            options=options,
        )  # fmt: skip
        offset = 5 + len(options) // 4
        bits = tuple(flags >> shift & 1 for shift in range(7, -1, -1))
        expected = (sport, dport, seq, ack, offset, flags, *bits, window, checksum, urgent)
        desc = cells.put(bytes(ETHER / scapy.IP() / packet))
        assert read_tcp(cells.base, desc) == (expected, (offset * 4, len(options), 20))
        assert by_hand(Tcp(cells.base + 256 + 34), TCP) == expected
        cells.put(bytes(20), offset=512)
        write_tcp(cells.base + 512, sport, dport, seq, ack, offset, flags, window, checksum, urgent)
        assert cells.read(20 << 48 | 512) == bytes(packet)[:20]


@kernel
def read_icmp(cells, desc):
    pkt = Packet()
    pkt.cells, pkt.desc, pkt.port = cells, desc, 0
    parse_transport(pkt)
    i, j = pkt.icmp, pkt.icmp6
    return (
        (i.type, i.code, i.checksum, i.identifier, i.sequence, i.rest, i.mtu, i.gateway, i.pointer),
        (j.type, j.code, j.checksum, j.identifier, j.sequence, j.rest, j.mtu, j.pointer),
    )


def test_icmp(cells):
    for _ in range(ROUNDS):
        code, checksum, ident, seq = number(8), number(16), number(16), number(16)
        rest = ident << 16 | seq
        packet = scapy.ICMP(type=8, code=code, chksum=checksum, id=ident, seq=seq)
        desc = cells.put(bytes(ETHER / scapy.IP() / packet))
        assert read_icmp(cells.base, desc) == (
            (8, code, checksum, ident, seq, rest, seq, rest, ident >> 8),
            (0,) * 8,
        )
        packet = scapy.ICMPv6EchoRequest(code=code, cksum=checksum, id=ident, seq=seq)
        desc = cells.put(bytes(ETHER / scapy.IPv6() / packet))
        assert read_icmp(cells.base, desc) == ((0,) * 9, (128, code, checksum, ident, seq, rest, rest, rest))
        view = Icmp6(cells.base + 256 + 54)
        view.rest = 0x01020304
        assert (Icmp(view.address).identifier, view.sequence) == (0x0102, 0x0304)

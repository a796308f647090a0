"""What a host takes from its link and what it drops, by name: RFC 1122 sections 3.2.1 and 4.1.3, RFC 8504."""

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    PadN,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Raw

from wirespeed.graph.node import Node
from wirespeed.hashes.internet import checksum
from wirespeed.stack.echo import icmp_echo
from wirespeed.stack.input import host_input, udp_input, udp_to
from wirespeed.stack.interface import Interface
from wirespeed.stack.interface_settings import Route, Settings
from wirespeed.stack.links import Links
from wirespeed.stack.output import ip_output
from wirespeed.stack.plain_udp import plain_udp

US, PEER = "02:77:73:00:00:01", "02:00:00:00:00:02"
HERE, THERE, AWAY = "10.7.0.1", "10.7.0.2", "192.0.2.9"
HERE6, THERE6, AWAY6 = "fd07::1", "fd07::2", "2001:db8::9"
SETTINGS = Settings(
    mac=0x0277_7300_0001,
    addresses=tuple(map(ipaddress.ip_interface, (f"{HERE}/24", f"{HERE6}/64", "10.8.0.1/24", "fd08::1/64"))),
    local=(ipaddress.ip_network("10.9.0.0/16"),),
    groups=frozenset(map(ipaddress.ip_address, ("239.1.1.1", "ff02::fb"))),
)
TO_US = Ether(src=PEER, dst=US)
TO_ALL = Ether(src=PEER, dst="ff:ff:ff:ff:ff:ff")
DATA = UDP(sport=4000, dport=7) / b"data"


FACE = Interface(SETTINGS)


@pytest.fixture
def face():
    made = Interface(SETTINGS)
    yield made
    made.close()


def to_group(address):
    """Ethernet to an IP group (RFC 1112 section 6.4, RFC 2464 section 7)."""
    raw = ipaddress.ip_address(address).packed
    mac = "33:33:" + raw[-4:].hex(":") if len(raw) == 16 else f"01:00:5e:{raw[1] & 127:02x}:{raw[2:].hex(':')}"
    return Ether(src=PEER, dst=mac)


def cut(packet, size):
    return Raw(bytes(packet)[:size])


def options4(text):
    """A packet whose header goes on so; scapy would put options right."""
    raw = bytes.fromhex(text)
    whole = IP(src=THERE, dst=HERE, ihl=5 + len(raw) // 4, len=20 + len(raw) + len(bytes(DATA)), proto=17, chksum=0)
    header = bytearray(bytes(whole)[:20] + raw)
    header[10:12] = checksum(bytes(header)).to_bytes(2, "big")
    return Ether(src=PEER, dst=US, type=0x0800) / Raw(bytes(header))


def option6(kind):
    """A header with one option of four bytes."""
    return Raw(bytes([17, 0, kind, 4, 0, 0, 0, 0]))


ROUTE6 = b"\x11\2\0%c" + bytes(20)
BEHIND = TO_US / IPv6(src=THERE6, dst=HERE6) / IPv6ExtHdrHopByHop(options=[PadN(optdata=bytes(4))])
BEHIND6 = TO_US / IPv6(src=THERE6, dst=HERE6) / IPv6ExtHdrDestOpt(nh=0, options=[PadN(optdata=bytes(4))])

CASES = {
    "udp": (TO_US / IP(src=THERE, dst=HERE) / DATA, ""),
    "udp, second address": (TO_US / IP(src=THERE, dst="10.8.0.1") / DATA, ""),
    "udp, local prefix": (TO_US / IP(src=THERE, dst="10.9.200.3") / DATA, ""),
    "udp over IPv6": (TO_US / IPv6(src=THERE6, dst=HERE6) / DATA, ""),
    "udp over IPv6, second address": (TO_US / IPv6(src=THERE6, dst="fd08::1") / DATA, ""),
    "broadcast": (TO_ALL / IP(src=THERE, dst="255.255.255.255") / DATA, ""),
    "subnet's broadcast": (TO_ALL / IP(src=THERE, dst="10.7.0.255") / DATA, ""),
    "a group we joined": (to_group("239.1.1.1") / IP(src=THERE, dst="239.1.1.1") / DATA, ""),
    "a group we did not": (to_group("239.1.1.2") / IP(src=THERE, dst="239.1.1.2") / DATA, "not-for-us"),
    "an IPv6 group we joined": (to_group("ff02::fb") / IPv6(src=THERE6, dst="ff02::fb") / DATA, ""),
    "an IPv6 group we did not": (to_group("ff02::fc") / IPv6(src=THERE6, dst="ff02::fc") / DATA, "not-for-us"),
    "our address by link broadcast": (TO_ALL / IP(src=THERE, dst=HERE) / DATA, "not-for-us"),
    "another station": (Ether(src=PEER, dst=PEER) / IP(src=THERE, dst=HERE) / DATA, "not-for-us"),
    "another address": (TO_US / IP(src=THERE, dst="10.7.0.3") / DATA, "not-for-us"),
    "another IPv6 address": (TO_US / IPv6(src=THERE6, dst="fd07::3") / DATA, "not-for-us"),
    "a tag": (TO_US / Dot1Q(vlan=5) / IP(src=THERE, dst=HERE) / DATA, "not-for-us"),
    "from nobody": (TO_US / IP(src="0.0.0.0", dst=HERE) / DATA, "martian"),
    "from loopback": (TO_US / IP(src="127.0.0.1", dst=HERE) / DATA, "martian"),
    "from a group": (TO_US / IP(src="224.0.0.1", dst=HERE) / DATA, "martian"),
    "from broadcast": (TO_US / IP(src="255.255.255.255", dst=HERE) / DATA, "martian"),
    "from an IPv6 group": (TO_US / IPv6(src="ff02::1", dst=HERE6) / DATA, "martian"),
    "from IPv6 loopback": (TO_US / IPv6(src="::1", dst=HERE6) / DATA, "martian"),
    "bad header checksum": (TO_US / IP(src=THERE, dst=HERE, chksum=1) / DATA, "bad-checksum"),
    "short UDP": (TO_US / IP(src=THERE, dst=HERE, proto=17) / b"1234567", "malformed"),
    "UDP longer than its packet": (TO_US / IP(src=THERE, dst=HERE) / UDP(dport=7, len=99) / b"1", "malformed"),
    "short UDP over IPv6": (TO_US / IPv6(src=THERE6, dst=HERE6, nh=17) / b"1234567", "malformed"),
    "first fragment": (TO_US / IP(src=THERE, dst=HERE, flags="MF") / DATA, "fragment"),
    "later fragment": (TO_US / IP(src=THERE, dst=HERE, frag=9, proto=17) / b"abcd", "fragment"),
    "IPv6 fragment": (TO_US / IPv6(src=THERE6, dst=HERE6) / IPv6ExtHdrFragment(m=1) / DATA, "fragment"),
    "IPv6 first fragment behind options": (BEHIND / IPv6ExtHdrFragment(m=1) / DATA, "fragment"),
    "IPv6 later fragment behind options": (BEHIND / IPv6ExtHdrFragment(offset=9, nh=17) / b"abcd", "fragment"),
    "IPv6 options": (BEHIND / DATA, ""),
    "IPv6 option to be passed over": (TO_US / IPv6(src=THERE6, dst=HERE6, nh=60) / option6(0x1E) / DATA, ""),
    "IPv6 option to be dropped for": (TO_US / IPv6(src=THERE6, dst=HERE6, nh=60) / option6(0x5E) / DATA, "bad-option"),
    "IPv6 option to be told of": (TO_US / IPv6(src=THERE6, dst=HERE6, nh=60) / option6(0x9E) / DATA, "other"),
    "IPv6 option to be told of, for all": (TO_US / IPv6(src=THERE6, dst=HERE6, nh=0) / option6(0xC5) / DATA, "other"),
    "IPv6 option for routers, not first": (BEHIND6 / option6(0x1E) / DATA, "other"),
    "IPv6 route through us": (TO_US / IPv6(src=THERE6, dst=HERE6, nh=43) / Raw(ROUTE6 % 1) / DATA, "other"),
    "IPv6 route that ends here": (TO_US / IPv6(src=THERE6, dst=HERE6, nh=43) / Raw(ROUTE6 % 0) / DATA, ""),
    "IPv6 authentication": (TO_US / IPv6(src=THERE6, dst=HERE6, nh=51) / Raw(b"\x11\2" + bytes(14)) / DATA, "other"),
    "option": (options4("44040500") / DATA, ""),
    "option without length": (options4("01010144") / DATA, "other"),
    "option longer than the header": (options4("44050500") / DATA, "other"),
    "option of one byte": (options4("44010500") / DATA, "other"),
    "options behind their end": (options4("00440101") / DATA, ""),
    "record route": (options4("0707040000000000") / DATA, ""),
    "record route from nowhere": (options4("0707030000000000") / DATA, "other"),
    "source route that ends here": (options4("8307080a07000100") / DATA, ""),
    "source route through us": (options4("8307040a08000100") / DATA, "other"),
    "ping": (TO_US / IP(src=THERE, dst=HERE) / ICMP(), "icmp"),
    "ping over IPv6": (TO_US / IPv6(src=THERE6, dst=HERE6) / ICMPv6EchoRequest(), "icmp6"),
    "TCP": (TO_US / IP(src=THERE, dst=HERE) / TCP(), "other"),
    "TCP over IPv6": (TO_US / IPv6(src=THERE6, dst=HERE6) / TCP(), "other"),
    "ARP": (TO_ALL / ARP(pdst=HERE), "arp"),
    "something else": (Ether(src=PEER, dst=US, type=0x88B5) / b"data", "not-ip"),
    "runt": (cut(TO_US, 13), "runt"),
    "cut in the IP header": (cut(TO_US / IP(src=THERE, dst=HERE) / DATA, 30), "not-ip"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_who_deals_with_it(face, case):
    packet, door = CASES[case]
    found = host_input(face).trace(packet)
    assert found.door == door
    assert not found.changed


FOUND = ("eth", "ethertype", "l3", "ipv4", "ip_bytes", "protocol", "l4", "udp", "limit", "payload")


def plain_and_general(face, packet):
    """What both ways say of a packet; that they find the same headers if the plain one takes it."""
    plain, said = plain_udp(face), []

    def look(pkt):
        parsed = [int(getattr(getattr(pkt, name), "address", getattr(pkt, name))) for name in FOUND]
        said.append(plain(pkt))
        found = [int(getattr(getattr(pkt, name), "address", getattr(pkt, name))) for name in FOUND]
        assert found == parsed or said[0] == "unusual"

    Node(look).trace(packet)
    return said[0] is None, host_input(face).trace(packet).door == "" == udp_input.trace(packet).door


@pytest.mark.parametrize("case", CASES)
def test_only_the_plain_case_goes_the_plain_way(face, case):
    plain, general = plain_and_general(face, CASES[case][0])
    assert plain == (case == "udp")
    assert general or not plain


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, 45), st.integers(1, 255)), max_size=3), st.integers(0, 40), st.booleans())
def test_what_goes_the_plain_way_is_sound(changes, size, summed):
    """Whatever bytes are other than they were, and wherever the frame ends."""
    udp = UDP(sport=4000, dport=7) if summed else UDP(sport=4000, dport=7, chksum=0)
    data = bytearray(bytes(TO_US / IP(src=THERE, dst=HERE) / udp / bytes(size)))
    for at, change in changes:
        data[at % len(data)] ^= change
    for packet in (bytes(data), bytes(data[:-1]), bytes(data) + b"\0"):
        plain, general = plain_and_general(FACE, packet)
        assert general or not plain
    assert changes or plain_and_general(FACE, bytes(data)) == (True, True)


def test_tagged_packets_and_tagged_interfaces_take_the_general_way(face):
    packet = IP(src=THERE, dst=HERE) / DATA
    face.set(Settings(**{**SETTINGS.__dict__, "vlan": 5}))
    assert plain_and_general(face, TO_US / packet) == (False, False)
    assert plain_and_general(face, TO_US / Dot1Q(vlan=5) / packet) == (False, True)


def test_with_a_tag_only_that_tag(face):
    face.set(Settings(**{**SETTINGS.__dict__, "vlan": 5}))
    packet = IP(src=THERE, dst=HERE) / DATA
    doors = [host_input(face).trace(TO_US / each / packet).door for each in (Dot1Q(vlan=5), Dot1Q(vlan=6))]
    assert [*doors, host_input(face).trace(TO_US / packet).door] == ["", "not-for-us", "not-for-us"]


@pytest.mark.parametrize(("ip", "checksum", "door"), [
    (IP(src=THERE, dst=HERE), None, ""), (IP(src=THERE, dst=HERE), 0, ""), (IP(src=THERE, dst=HERE), 5, "bad-checksum"),
    (IPv6(src=THERE6, dst=HERE6), None, ""), (IPv6(src=THERE6, dst=HERE6), 5, "bad-checksum"),
    (IPv6(src=THERE6, dst=HERE6), 0, "bad-checksum"),
])  # fmt: skip
def test_checksums(ip, checksum, door):
    """RFC 768: 0 means none, in IPv4; RFC 8200 section 8.1: such a datagram is dropped in IPv6."""
    udp = UDP(sport=4000, dport=7) if checksum is None else UDP(sport=4000, dport=7, chksum=checksum)
    assert udp_input.trace(TO_US / ip / udp / b"data").door == door


def test_ports():
    assert udp_to(7, "to_7").trace(TO_US / IP() / DATA).door == "here"
    assert udp_to(8, "to_8").trace(TO_US / IP() / DATA).door == ""


def test_echo(face):
    """RFC 1122 section 3.2.2.6: the data comes back whole; RFC 4443 section 4.2."""
    request = TO_US / IP(src=THERE, dst=HERE, ttl=3, tos=7) / ICMP(id=5, seq=6) / b"some data"
    reply = Ether(icmp_echo(face).trace(request).data)
    expect = Ether(src=PEER, dst=US) / IP(src=HERE, dst=THERE, tos=7) / ICMP(type=0, id=5, seq=6) / b"some data"
    assert bytes(reply) == bytes(expect)
    request = TO_US / IPv6(src=THERE6, dst=HERE6, hlim=3) / ICMPv6EchoRequest(id=5, seq=6, data=b"some data")
    reply = Ether(icmp_echo(face).trace(request).data)
    answer = ICMPv6EchoReply(id=5, seq=6, data=b"some data")
    assert bytes(reply) == bytes(Ether(src=PEER, dst=US) / IPv6(src=HERE6, dst=THERE6) / answer)
    for other in (ICMP(type=0), ICMP(type=13), ICMP(chksum=1)):
        assert icmp_echo(face).trace(TO_US / IP(src=THERE, dst=HERE) / other).door == "other"
    everybody = TO_ALL / IP(src=THERE, dst="10.7.0.255") / ICMP()
    assert icmp_echo(face).trace(everybody).door == "other"


def test_the_way_out(face):
    """On the link to the neighbour itself, else to the gateway; no neighbour: resolved; no way: dropped."""
    given_settings = {**SETTINGS.__dict__}
    given_settings["routes"] = (
        Route(ipaddress.ip_network("192.0.2.0/24"), ipaddress.ip_address("10.7.0.254")),
        Route(ipaddress.ip_network("2001:db8::/32"), ipaddress.ip_address("fd07::fe")),
    )
    face.set(Settings(**given_settings))
    links = Links(16)
    try:
        node = ip_output(face, links)
        cases = {
            (HERE, THERE): (THERE, 4),
            (HERE, AWAY): ("10.7.0.254", 4),
            (HERE6, THERE6): (THERE6, 6),
            (HERE6, AWAY6): ("fd07::fe", 6),
        }
        for (source, target), (gateway, version) in cases.items():
            hop = int(ipaddress.ip_address(gateway))
            packet = TO_US / (IP if version == 4 else IPv6)(src=source, dst=target) / DATA
            assert node.trace(packet).door == "resolve"
            links.install(hop, version, 0x0200_0000_0009)
            sent = Ether(node.trace(packet).data)
            assert (sent.dst, sent.src, bytes(sent.payload)) == ("02:00:00:00:00:09", US, bytes(packet.payload))
            assert Ether(node.trace(packet).data).dst == "02:00:00:00:00:09"  # as remembered
            links.install(hop, version, 0x0200_0000_000A)
            assert Ether(node.trace(packet).data).dst == "02:00:00:00:00:0a"
            face.set(Settings(**{**given_settings, "routes": (), "addresses": ()}))
            assert node.trace(packet).door == "no-route"
            face.set(Settings(**given_settings))
            links.withdraw(hop, version)
            assert node.trace(packet).door == "resolve"
        assert node.trace(TO_US / IP(src=HERE, dst="203.0.113.1") / DATA).door == "no-route"
        assert node.trace(TO_US / IPv6(src=HERE6, dst="2001:db9::1") / DATA).door == "no-route"
    finally:
        links.close()

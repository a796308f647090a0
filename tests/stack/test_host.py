"""The host's control code: which errors it tells, which it believes, and what floods do to it. Packets are scapy's."""

import ipaddress
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    ICMPv6PacketTooBig,
    ICMPv6ParamProblem,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    PadN,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

from wirespeed.stack.host import Door, Host
from wirespeed.stack.interface import Interface
from wirespeed.stack.interface_settings import Route, Settings
from wirespeed.stack.links import Links
from wirespeed.stack.path_mtu import AGE_S, MIN4, MIN6
from wirespeed.stack.refused import refused

US, PEER = "02:77:73:00:00:01", "02:00:00:00:00:02"
HERE, THERE, AWAY = "10.7.0.1", "10.7.0.2", "192.0.2.9"
HERE6, THERE6, AWAY6 = "fd07::1", "fd07::2", "2001:db8::9"
LIMIT = 64
BARE = Ether(src=PEER, dst=US)  # without addresses scapy would ask the network for them
IN4, IN6 = Ether(src=PEER, dst=US) / IP(src=THERE, dst=HERE), Ether(src=PEER, dst=US) / IPv6(src=THERE6, dst=HERE6)


class Machine:
    """A host, and the frames it sent."""

    def __init__(self):
        settings = Settings(
            mac=0x0277_7300_0001, addresses=tuple(map(ipaddress.ip_interface, (f"{HERE}/16", f"{HERE6}/64"))),
            routes=(Route(ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_address(THERE)),
                    Route(ipaddress.ip_network("::/0"), ipaddress.ip_address(THERE6))),
        )  # fmt: skip
        self.face, self.links = Interface(settings), Links(LIMIT)
        self.frames = []
        self.host = Host(self.face, self.links, self.frames.append, LIMIT, icmp_per_second=100)
        self.now_s = 1.0
        self.take(Door.ARP, Ether(src=PEER, dst=US) / ARP(op=1, hwsrc=PEER, psrc=THERE, pdst=HERE))
        self.host.icmp.ours = {7, 8}.__contains__
        solicit = ICMPv6ND_NS(tgt=HERE6) / ICMPv6NDOptSrcLLAddr(lladdr=PEER)
        self.take(Door.LINK, Ether(src=PEER, dst=US) / IPv6(src=THERE6, dst=HERE6, hlim=255) / solicit)
        self.frames.clear()

    def take(self, door, packet):
        self.host.take(door, bytes(packet), self.now_s)

    def answer(self, door, packet):
        """The frames that a packet causes, dissected."""
        self.frames.clear()
        self.take(door, packet)
        return [Ether(frame) for frame in self.frames]

    def close(self):
        self.face.close()
        self.links.close()


@pytest.fixture
def machine():
    made = Machine()
    yield made
    made.close()


# What is told ----------------------------------------------------------------------------------------------


def test_errors_that_are_told(machine):
    data = UDP(sport=4000, dport=9) / b"data"
    (told,) = machine.answer(Door.NO_PORT, IN4 / data)
    assert (told[ICMP].type, told[ICMP].code, told.dst, told[IP].dst) == (3, 3, PEER, THERE)
    (told,) = machine.answer(Door.OTHER, Ether(src=PEER, dst=US) / IP(src=THERE, dst=HERE, proto=132) / b"sctp")
    assert (told[ICMP].type, told[ICMP].code) == (3, 2)
    late = Ether(src=PEER, dst=US) / IP(src=THERE, dst=HERE, flags="MF") / data
    (told,) = machine.answer(Door.OTHER, late)
    assert (told[ICMP].type, told[ICMP].code) == (11, 1)
    (told,) = machine.answer(Door.NO_PORT, IN6 / data)
    assert (told[ICMPv6DestUnreach].code, told[IPv6].dst) == (4, THERE6)
    (told,) = machine.answer(Door.OTHER, Ether(src=PEER, dst=US) / IPv6(src=THERE6, dst=HERE6, nh=132) / b"sctp")
    assert (told[ICMPv6ParamProblem].code, told[ICMPv6ParamProblem].ptr) == (1, 6)
    behind = IN6 / IPv6ExtHdrDestOpt(nh=200, options=[PadN(optdata=b"\0" * 4)]) / b"what"
    (told,) = machine.answer(Door.OTHER, behind)
    assert (told[ICMPv6ParamProblem].code, told[ICMPv6ParamProblem].ptr) == (1, 40)
    unknown = Raw(bytes([17, 0, 0x9E, 4, 0, 0, 0, 0]))
    (told,) = machine.answer(Door.OTHER, Ether(src=PEER, dst=US) / IPv6(src=THERE6, dst=HERE6, nh=60) / unknown / data)
    assert (told[ICMPv6ParamProblem].code, told[ICMPv6ParamProblem].ptr) == (2, 42)
    (told,) = machine.answer(Door.OTHER, IN6 / IPv6ExtHdrFragment(m=1, nh=17) / data)
    assert told[ICMPv6TimeExceeded].code == 1


def test_options_that_are_malformed_are_told_and_where(machine):
    """RFC 1122 sections 3.2.2.5 and 3.3.5; RFC 8200 sections 4.1 to 4.4."""
    data = UDP(sport=4000, dport=7) / b"data"
    for options, told_of in {
        "44050500": (12, 0, 21), "01010144": (12, 0, 23), "44010500": (12, 0, 21), "0707030000000000": (12, 0, 22),
        "8302080a07000100": (12, 0, 21), "8907040a08000100": (3, 5, 0),
    }.items():  # fmt: skip
        raw = bytes.fromhex(options)
        size = 20 + len(raw) + len(bytes(data))
        header = bytes(IP(src=THERE, dst=HERE, ihl=5 + len(raw) // 4, len=size, proto=17))[:20] + raw
        link = Ether(src=PEER, dst=US, type=0x0800)
        (told,) = machine.answer(Door.OTHER, link / Raw(header + bytes(data)))
        assert (told[ICMP].type, told[ICMP].code, told[ICMP].ptr or 0) == told_of, options
        assert bytes(told[ICMP])[8:][: len(header)] == header
    for kind, behind, told_of in (
        (60, "11009e0400000000", (2, 42)), (60, "1100010000009e00", (2, 46)), (0, "11000100c5020000", (2, 44)),
        (60, "00000104000000001100010400000000", (1, 40)), (43, "1102000100000000" + "00" * 16, (0, 42)),
        (51, "1102000000000000" + "00" * 8, (1, 6)),
    ):  # fmt: skip
        packet = Ether(src=PEER, dst=US) / IPv6(src=THERE6, dst=HERE6, nh=kind) / Raw(bytes.fromhex(behind)) / data
        (told,) = machine.answer(Door.OTHER, packet)
        assert (told[ICMPv6ParamProblem].code, told[ICMPv6ParamProblem].ptr) == told_of, behind


@given(st.binary(min_size=4, max_size=40), st.sampled_from([0, 43, 51, 60]), st.integers(0, 2))
def test_any_options_are_refused_within_their_headers(options, kind, more):
    """Whatever they are: nothing behind them is read, and what is told points at them."""
    options = options[: len(options) & ~3]
    found = refused(bytes([0x45 + len(options) // 4]) + bytes(19) + options)
    assert found is None or found[0] == 3 or (found[0] == 12 and 20 <= found[2] < 20 + len(options))
    header = bytes([60, more]) + options
    found = refused(bytes([0x60, 0, 0, 0, 0, 0, kind, 64]) + bytes(32) + header)
    assert found is None or found[0] == -1 or (found[0] == 4 and (found[2] == 6 or 40 <= found[2] < 40 + len(header)))


def test_errors_that_are_not(machine):
    """RFC 1122 section 3.2.2, RFC 4443 section 2.4 (e)."""
    data = UDP(sport=4000, dport=9) / b"data"
    for packet in (
        Ether(src=PEER, dst="ff:ff:ff:ff:ff:ff") / IP(src=THERE, dst=HERE) / data,
        Ether(src=PEER, dst=US) / IP(src=THERE, dst="10.7.255.255") / data,
        Ether(src=PEER, dst=US) / IP(src="10.7.255.255", dst=HERE) / data,
        Ether(src=PEER, dst=US) / IP(src=THERE, dst=HERE, frag=5) / data,
        IN4 / ICMP(type=3, code=3) / b"quoted",
        IN6 / IPv6ExtHdrFragment(offset=5, nh=17) / b"data",
        Ether(src=PEER, dst=US) / IPv6(src="::", dst=HERE6) / data,
        Ether(src=PEER, dst=US) / IPv6(src=THERE6, dst="ff02::1") / data,
        IN6 / ICMPv6DestUnreach() / b"quoted",
        Ether(src=PEER, dst=US) / IPv6(src=THERE6, dst=HERE6, nh=59),
    ):
        assert machine.answer(Door.OTHER, packet) == [], packet.summary()


# What is believed ------------------------------------------------------------------------------------------


def too_big(mtu, to=AWAY, sport=7, own=HERE, length=1400, protocol=17, **more):
    quoted = IP(src=own, dst=to, proto=protocol, len=length, flags="DF") / UDP(sport=sport, dport=4000, len=length - 20)
    return IN4 / ICMP(type=3, code=4, nexthopmtu=mtu, **more) / Raw(bytes(quoted)[:28])


def too_big6(mtu, to=AWAY6, sport=7, own=HERE6, length=1400):
    quoted = IPv6(src=own, dst=to, plen=length - 40, nh=17) / UDP(sport=sport, dport=4000, len=length - 40, chksum=1)
    return IN6 / ICMPv6PacketTooBig(mtu=mtu) / Raw(bytes(quoted)[:48])


def test_path_mtu_is_lowered_and_tried_again_after_ten_minutes(machine):
    machine.take(Door.ICMP, too_big(1200))
    machine.take(Door.ICMP, too_big6(1300))
    mtus, away, away6 = machine.links.mtus, int(ipaddress.ip_address(AWAY)), int(ipaddress.ip_address(AWAY6))
    assert (mtus.get(away, 4), mtus.get(away6, 6)) == (1200, 1300)
    machine.host.tick(machine.now_s + AGE_S - 1)
    assert len(mtus) == 2
    machine.host.tick(machine.now_s + AGE_S)
    assert len(mtus) == 0 and mtus.stats.expired == 2


@pytest.mark.parametrize("packet", [
    too_big(1200, sport=9), too_big(1200, own="10.7.0.3"), too_big(1400), too_big(1500), too_big(300, length=MIN4),
    too_big(1200, chksum=1), too_big(1200, protocol=6), IN4 / ICMP(type=3, code=4, nexthopmtu=1200) / b"short",
    too_big6(1300, sport=9), too_big6(1300, own="fd07::3"), too_big6(1400), too_big6(1200, length=MIN6),
    IN6 / ICMPv6PacketTooBig(mtu=1300) / b"short",
])  # fmt: skip
def test_what_we_cannot_have_sent_is_not_believed(machine, packet):
    machine.take(Door.ICMP, packet)
    assert len(machine.links.mtus) == 0


def test_it_never_gets_lower_than_every_path_carries(machine):
    mtus = machine.links.mtus
    machine.take(Door.ICMP, too_big(68))
    machine.take(Door.ICMP, too_big6(200))
    assert mtus.get(int(ipaddress.ip_address(AWAY)), 4) == MIN4
    assert mtus.get(int(ipaddress.ip_address(AWAY6)), 6) == MIN6
    machine.take(Door.ICMP, too_big(1300))  # nor higher again
    assert mtus.get(int(ipaddress.ip_address(AWAY)), 4) == MIN4


def test_an_old_router_does_not_say_what_fits(machine):
    """RFC 1191 section 5: the next plateau."""
    machine.take(Door.ICMP, too_big(0, length=1500))
    assert machine.links.mtus.get(int(ipaddress.ip_address(AWAY)), 4) == 1492


def test_redirects_are_counted_and_ignored(machine):
    quoted = IP(src=HERE, dst=AWAY) / UDP(sport=7, dport=4000)
    assert machine.answer(Door.ICMP, IN4 / ICMP(type=5, code=1, gw="10.7.0.66") / quoted) == []
    assert machine.host.icmp.heard["redirect"] == 1
    assert machine.face.route4(int(ipaddress.ip_address(AWAY))) == int(ipaddress.ip_address(THERE))


def test_other_errors_are_counted_by_kind(machine):
    quoted = IP(src=HERE, dst=AWAY) / UDP(sport=7, dport=4000)
    machine.take(Door.ICMP, IN4 / ICMP(type=3, code=3) / quoted)
    machine.take(Door.ICMP, IN4 / ICMP(type=11, code=0) / quoted)
    reply = IPv6(src=HERE6, dst=AWAY6) / ICMPv6EchoReply(id=1, seq=2)
    machine.take(Door.ICMP, IN6 / ICMPv6TimeExceeded() / reply)
    assert machine.host.icmp.heard == {"unreachable": 1, "time-exceeded": 2}


# Floods ----------------------------------------------------------------------------------------------------


def known(machine):
    """The neighbour that was there before is still in the workers' tables, and we answer it."""
    asked = Ether(src=PEER, dst=US) / ARP(op=1, hwsrc=PEER, psrc=THERE, pdst=HERE)
    return (
        machine.links.four.get(int(ipaddress.ip_address(THERE))) is not None
        and machine.links.six.get(ipaddress.ip_address(THERE6).packed) is not None
        and len(machine.answer(Door.ARP, asked)) == 1
    )


def test_a_flood_of_strangers_who_ask_for_us(machine):
    random = Random(1)
    for _ in range(1000):
        machine.now_s += 0.0001
        source = f"10.7.{random.randrange(1, 255)}.{random.randrange(256)}"
        machine.take(
            Door.ARP, BARE / ARP(op=1, hwsrc=f"02:00:00:{random.randrange(256):02x}:00:07", psrc=source, pdst=HERE)
        )
        assert len(machine.host.four) <= LIMIT
    assert known(machine)


def test_a_flood_of_packets_to_strangers(machine):
    """Answers to spoofed senders of our link wait for neighbours that are not there."""
    for number in range(600):
        machine.now_s += 0.001
        machine.take(Door.RESOLVE, BARE / IP(src=HERE, dst=f"10.7.{1 + number // 250}.{number % 250}") / b"answer")
        machine.take(Door.RESOLVE, BARE / IPv6(src=HERE6, dst=f"fd07::1:{number:x}") / b"answer")
        machine.host.tick(machine.now_s)
        assert len(machine.host.four) <= LIMIT and len(machine.host.six) <= LIMIT
    held = sum(len(each.held) for table in (machine.host.four, machine.host.six) for each in table)
    assert held <= 2 * LIMIT * 16
    assert known(machine)


def test_a_flood_of_advertisements_makes_no_neighbours(machine):
    for number in range(300):
        said = ICMPv6ND_NA(tgt=f"fd07::2:{number:x}") / ICMPv6NDOptDstLLAddr(lladdr=PEER)
        machine.take(Door.LINK, Ether(src=PEER, dst=US) / IPv6(src=f"fd07::2:{number:x}", dst=HERE6, hlim=255) / said)
    assert len(machine.host.six) == 1 and known(machine)


def test_errors_are_limited_in_rate(machine):
    sent = sum(
        len(machine.answer(Door.NO_PORT, IN4 / UDP(sport=4000, dport=number + 10000) / b"data"))
        for number in range(500)
    )
    assert sent == 50
    machine.now_s += 0.1
    assert len(machine.answer(Door.NO_PORT, IN4 / UDP(dport=9))) == 1


def test_a_flood_of_too_big_is_bounded(machine):
    for number in range(300):
        machine.now_s += 0.1
        machine.take(Door.ICMP, too_big(600 + number % 100, to=f"192.0.{number // 250}.{number % 250}"))
        assert len(machine.links.mtus) <= LIMIT
    generation = machine.links.paths.generation
    for number in range(300):
        machine.take(Door.ICMP, too_big(600, to=f"198.51.{number // 250}.{number % 250}"))
    assert machine.links.paths.generation - generation <= 100  # each makes workers look again: so many a second


def test_noise_at_every_door(machine):
    """Packets changed at random: nothing raises, and the host still answers."""
    random = Random(7)
    options = IPv6ExtHdrDestOpt(nh=17, options=[PadN(optdata=b"0" * 4)])
    sound = [
        too_big(1200), too_big6(1300), IN4 / UDP(dport=9) / (b"x" * 20), IN6 / UDP(dport=9) / b"x",
        IN6 / options / UDP(), BARE / ARP(hwsrc=PEER, psrc=THERE, pdst=HERE),
    ]  # fmt: skip
    sound = [bytes(each) for each in sound]
    for _ in range(3000):
        changed = bytearray(random.choice(sound))
        for _ in range(random.randint(1, 5)):
            changed[random.randrange(12, len(changed))] = random.randrange(256)
        cut = bytes(changed[: random.randint(14, len(changed))])
        machine.host.take(random.choice([door for door in Door if door is not Door.RESOLVE]), cut, machine.now_s)
    assert known(machine)

"""What a host has, from everything that says so: no clock, no packets but those that the machines make."""

import ipaddress
from ipaddress import IPv4Address, IPv6Address
from random import Random

import pytest

from wirespeed.stack.acd import AcdTimes
from wirespeed.stack.addressing import Addressing, Wanted
from wirespeed.stack.fixed import RETRY_S
from wirespeed.stack.interface import Interface
from wirespeed.stack.interface_settings import Settings
from wirespeed.stack.interface_view import MAX_ADDRESSES, MAX_ROUTES
from wirespeed.wire.nd import advertise_neighbour

MAC, OTHER = 0x0277_7300_0001, 0x0200_0000_0009
HERE, HERE6 = "10.7.0.1/24", "fd07::1/64"
LINK_LOCAL = IPv6Address("fe80::77:73ff:fe00:1")
ROUTER = int(IPv6Address("fe80::99"))


class Machine:
    """An interface, and what was sent for it."""

    def __init__(self, *addresses, groups=(), **wanted):
        self.face = Interface()
        base = Settings(
            mac=MAC, addresses=tuple(map(ipaddress.ip_interface, addresses)),
            groups=frozenset(map(ipaddress.ip_address, groups)),
        )  # fmt: skip
        self.packets, self.probes, self.announced = [], [], []
        self.it = Addressing(
            self.face, base, Wanted(**wanted), self.packets.append, self.probes.append, self.announced.append, Random(1)
        )
        self.now_s = 0.0

    def own(self):
        return [str(each.ip) for each in self.face.settings.addresses]

    def wait(self, seconds):
        end_s = self.now_s + seconds
        while (due_s := self.it.due_s) <= end_s:
            self.now_s = max(self.now_s, due_s)
            self.it.tick(self.now_s)
        self.now_s = end_s

    def sent_to(self, group):
        raw = ipaddress.ip_address(group).packed
        return [each for each in self.packets if (each[16:20] if len(raw) == 4 else each[24:40]) == raw]


@pytest.fixture
def machine():
    made = []

    def make(*arguments, **options):
        made.append(Machine(*arguments, **options))
        return made[-1]

    yield make
    for each in made:
        each.face.close()


def advertisement(prefixes, lifetime=1800, on_link=True):
    body = bytes([134, 0, 0, 0, 64, 0]) + lifetime.to_bytes(2) + bytes(8)
    flags = 0x40 | (0x80 if on_link else 0)
    for prefix in prefixes:
        seconds = (86400).to_bytes(4) * 2
        body += bytes([3, 4, 64, flags]) + seconds + bytes(4) + IPv6Address(prefix).packed
    return body


def test_fixed_addresses_are_used_at_once_and_announced(machine):
    made = machine(HERE, HERE6)
    made.it.start(0.0)
    assert made.own() == ["10.7.0.1", "fd07::1", str(LINK_LOCAL)]
    assert [(str(p.sender), str(p.target)) for p in made.probes] == [("10.7.0.1", "10.7.0.1")]
    assert set(map(str, made.announced)) <= {"fd07::1", str(LINK_LOCAL)}
    made.wait(10)
    assert len(made.probes) == 2


def test_checked_ones_are_looked_for_first(machine):
    made = machine(HERE, HERE6, check=True)
    made.it.start(0.0)
    assert made.own() == []
    made.wait(2.5)
    assert made.own() == ["fd07::1", str(LINK_LOCAL)]
    assert sorted(map(str, made.announced)) == ["fd07::1", str(LINK_LOCAL)]
    made.wait(10)
    assert made.own() == ["10.7.0.1", "fd07::1", str(LINK_LOCAL)]
    assert [str(p.sender) for p in made.probes] == ["0.0.0.0"] * 3 + ["10.7.0.1"] * 2


def test_what_another_host_has_is_not_used_until_it_is_gone(machine):
    made = machine(HERE, HERE6, check=True)
    made.it.start(0.0)
    made.wait(1.05)
    made.it.arp(OTHER, int(IPv4Address("10.7.0.1")), 0, made.now_s)
    said = advertise_neighbour(IPv6Address("fd07::1"), OTHER, False, True)
    message = bytes((136, 0, 0, 0)) + said
    made.it.discovery(int(IPv6Address("fd07::1")), 255, message, made.now_s)
    made.wait(RETRY_S - 2)
    assert made.own() == [str(LINK_LOCAL)]
    made.wait(12)
    assert made.own() == ["10.7.0.1", "fd07::1", str(LINK_LOCAL)]


def test_an_address_in_use_is_defended_not_too_often(machine):
    """RFC 5227 section 2.4 (c)."""
    made = machine(HERE)
    made.it.start(0.0)
    made.wait(20)
    made.probes.clear()
    for _ in range(100):
        made.it.arp(OTHER, int(IPv4Address("10.7.0.1")), 0, made.now_s)
        made.wait(0.01)
    assert made.own() == ["10.7.0.1"]
    assert len(made.probes) == 1
    made.wait(30)
    made.it.arp(OTHER, int(IPv4Address("10.7.0.1")), 0, made.now_s)
    assert len(made.probes) == 2


def test_routers_make_addresses_and_routes(machine):
    made = machine(auto=True)
    made.it.start(0.0)
    made.wait(3)
    assert made.own() == [str(LINK_LOCAL)]
    made.it.discovery(ROUTER, 255, advertisement(["fd09::"]), made.now_s)
    made.wait(3)
    assert made.own() == ["fd09::77:73ff:fe00:1", str(LINK_LOCAL)]
    pair = made.face.route6(0x2001 << 48, 1)
    assert pair == (0xFE80 << 48 | -1 << 64, 0x99)
    made.it.discovery(ROUTER, 255, advertisement(["fd0a::"], on_link=False), made.now_s)
    made.wait(3)
    beyond = IPv6Address("fd0a::5")
    assert made.face.route6(int(beyond) >> 64, 5)[1] == 0x99  # RFC 5942: not known to be on this link


def test_a_flood_of_prefixes_leaves_what_is_configured(machine):
    made = machine("fd01::1/64", "fd02::1/64", auto=True)
    made.it.start(0.0)
    made.wait(3)
    for number in range(100):
        prefixes = [f"fd99:{number:x}:{i:x}::" for i in range(10)]
        made.it.discovery(ROUTER + number, 255, advertisement(prefixes), made.now_s)
        made.wait(0.1)
    made.wait(10)
    own = made.own()
    assert own[:2] == ["fd01::1", "fd02::1"] and str(LINK_LOCAL) in own
    assert len(own) <= MAX_ADDRESSES
    assert len(made.face.settings.all_routes(6)) <= MAX_ROUTES


def test_groups_are_joined_reported_and_left(machine):
    made = machine(HERE, HERE6, groups=("239.1.1.1", "ff02::fb"))
    made.it.start(0.0)
    assert made.face.in_group4(int(IPv4Address("239.1.1.1")))
    assert made.face.in_group6(0xFF02 << 48 | -1 << 64, 0xFB)
    made.wait(5)
    assert len(made.sent_to("224.0.0.22")) >= 2
    assert len(made.sent_to("ff02::16")) >= 2
    before = len(made.packets)
    made.it.stop(made.now_s)
    assert len(made.packets) >= before + 2


def test_queries_are_answered(machine):
    """RFC 3376 section 4.1.12: with the router alert option and a TTL of 1, else not."""
    made = machine(HERE, groups=("239.1.1.1",))
    made.it.start(0.0)
    made.wait(10)
    before = len(made.packets)
    query = bytes.fromhex("1164ee9b0000000000000000")
    total = sum(int.from_bytes(query[i : i + 2]) for i in (0, 4, 6, 8, 10))
    query = query[:2] + (~((total >> 16) + total) & 0xFFFF).to_bytes(2) + query[4:]
    made.it.groups4(1, False, query, made.now_s)
    made.it.groups4(2, True, query, made.now_s)
    made.wait(20)
    assert len(made.packets) == before
    made.it.groups4(1, True, query, made.now_s)
    made.wait(20)
    assert len(made.packets) == before + 1


def test_without_probes_a_lease_is_used_at_once_and_lost_when_refused(machine):
    made = machine(dhcp=True, times=AcdTimes(probes=0, announcements=0))
    made.it.start(0.0)
    (packet,) = made.packets
    discover = packet[28:]
    made.it.udp68(reply(discover, 2), 0.1)
    request = made.packets[-1][28:]
    made.it.udp68(reply(request, 5), 0.2)
    assert made.own() == ["10.9.0.7"]
    assert made.face.route4(int(IPv4Address("192.0.2.1"))) == int(IPv4Address("10.9.0.1"))
    assert made.it.dns == (IPv4Address("10.9.0.3"),)
    made.now_s = 0.2
    made.wait(1800)
    renewal = made.packets[-1][28:]
    made.it.udp68(reply(renewal, 6), made.now_s)
    assert made.own() == []
    made.it.udp68(b"noise" * 100, made.now_s)


def reply(question, kind):
    """What a server answers: offer, acknowledgement or refusal of 10.9.0.7."""
    head = b"\2" + question[1:16] + (bytes(4) if kind == 6 else IPv4Address("10.9.0.7").packed) + question[20:236]
    options = bytes([53, 1, kind, 54, 4, 10, 9, 0, 1])
    if kind != 6:
        options += bytes([51, 4]) + (3600).to_bytes(4) + bytes([1, 4, 255, 255, 255, 0, 3, 4, 10, 9, 0, 1])
        options += bytes([6, 4, 10, 9, 0, 3])
    return head + bytes.fromhex("63825363") + options + b"\xff"

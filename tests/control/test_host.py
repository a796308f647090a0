"""What the router itself says, frame by frame; scapy writes the questions and reads the answers."""

from ipaddress import IPv4Address

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, ICMPerror, IPerror
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

from wirespeed.control.config import parse
from wirespeed.control.forwarding import HERE, NOWHERE, Forwarding
from wirespeed.control.host import Reason, RouterHost
from wirespeed.tables.adjacency import FORWARD, GLEAN

LEFT, RIGHT = "02:00:00:00:00:01", "02:00:00:00:00:02"
HOST, PEER = "02:00:00:00:01:02", "02:00:00:00:02:02"

CONFIG = """
app = "router"
[[port]]
name = "left"
spec = "ring:left"
addresses = ["10.1.0.1/24"]
[[port]]
name = "right"
spec = "ring:right"
addresses = ["10.2.0.1/24"]
[[route]]
prefix = "192.0.2.0/24"
via = "10.2.0.7"
[limits]
neighbours = 8
icmp_per_second = 5
"""


class Router:
    """The host half of a router: frames it sent, as (port, scapy frame)."""

    def __init__(self) -> None:
        self.forwarding = Forwarding(parse(CONFIG))
        self.sent: list[tuple[int, Ether]] = []
        self.host = RouterHost(
            self.forwarding, lambda port, frame: self.sent.append((port, Ether(frame))), limit=8, icmp_per_second=5
        )
        for port in range(2):
            self.forwarding.connect(port, port + 0x0200_0000_0001, (1500, 1400)[port])
        self.host.neighbours.pin(int(IPv4Address("10.2.0.7")), 1)
        self.forwarding.route(self.forwarding.config.routes[0].prefix, int(IPv4Address("10.2.0.7")), 1)

    def arp(self, port=0, now=0.0, **fields):
        fields = {"hwsrc": HOST, "psrc": "10.1.0.2", "pdst": "10.1.0.1"} | fields
        self.host.arp(port, bytes(Ether(src=fields["hwsrc"], dst="ff:ff:ff:ff:ff:ff") / ARP(**fields)), now)
        return self.take()

    def knows_both(self):
        self.arp()
        self.arp(1, hwsrc=PEER, psrc="10.2.0.2", pdst="10.2.0.1")
        return self

    def packet(self, reason, packet, now=0.0):
        self.host.packet(reason, bytes(Ether(src=HOST, dst=LEFT) / packet), now)
        return self.take()

    def take(self):
        sent, self.sent[:] = list(self.sent), []
        return sent

    def lookup(self, address):
        return self.forwarding.next_hop(int(IPv4Address(address)))


@pytest.fixture
def router():
    made = Router()
    yield made
    made.forwarding.close()


# ARP -------------------------------------------------------------------------------------------------------


def test_who_asks_for_us_is_answered_and_learned(router):
    [(port, reply)] = router.arp()
    assert (port, reply.dst, reply.src, reply[ARP].op) == (0, HOST, LEFT, 2)
    assert (reply[ARP].psrc, reply[ARP].hwsrc, reply[ARP].pdst) == ("10.1.0.1", LEFT, "10.1.0.2")
    hop = router.lookup("10.1.0.2")
    assert (hop.kind, hop.port) == (FORWARD, 0)
    assert router.forwarding.adjacencies[hop.index].dst == int(HOST.replace(":", ""), 16)


@pytest.mark.parametrize(
    "fields",
    [
        {"pdst": "10.1.0.9"},  # for somebody else
        {"pdst": "10.2.0.1"},  # ours, but not on this link
        {"psrc": "10.2.0.9"},  # a sender that is not on this link
        {"psrc": "8.8.8.8"},
        {"psrc": "10.1.0.1"},  # our own address
        {"hwsrc": "01:00:5e:00:00:01"},  # a group as sender
        {"hwsrc": "00:00:00:00:00:00"},
        {"op": 2},  # an answer that nobody asked for
        {"hwlen": 8},
        {"ptype": 0x86DD},
    ],
)
def test_nothing_is_learned_from(router, fields):
    router.arp(**fields)
    assert {n.address for n in router.host.neighbours} == {int(IPv4Address("10.2.0.7"))}
    assert router.lookup("10.1.0.2").kind == GLEAN
    assert router.lookup("10.1.0.1").index == HERE


def test_a_probe_is_answered_but_not_learned(router):
    """RFC 5227: a host that wants our address must hear that it is taken."""
    assert len(router.arp(psrc="0.0.0.0")) == 1
    assert len(router.host.neighbours) == 1


def test_a_conflict_is_counted(router):
    router.arp(psrc="10.1.0.1", pdst="10.1.0.1")
    assert router.host.stats.conflicts == 1


def test_short_frames(router):
    for size in range(42):
        router.host.arp(0, bytes(size), 0.0)
    assert router.take() == []


def test_announcement(router):
    router.host.announce()
    sent = router.take()
    assert [(port, frame[ARP].psrc, frame[ARP].pdst) for port, frame in sent] == [
        (0, "10.1.0.1", "10.1.0.1"),
        (1, "10.2.0.1", "10.2.0.1"),
    ]


# Forwarding to a neighbour that must be found first ---------------------------------------------------------


def test_glean_asks_then_sends_and_installs(router):
    packet = IP(src="10.1.0.2", dst="10.2.0.2", ttl=9, id=5) / UDP(sport=1, dport=2) / Raw(b"held")
    [(port, request)] = router.packet(Reason.GLEAN, packet)
    assert (port, request.dst, request[ARP].psrc, request[ARP].pdst) == (1, "ff:ff:ff:ff:ff:ff", "10.2.0.1", "10.2.0.2")
    assert router.packet(Reason.GLEAN, packet) == []
    sent = router.arp(1, op=2, hwsrc=PEER, psrc="10.2.0.2", pdst="10.2.0.1", hwdst=RIGHT)
    assert [port for port, _ in sent] == [1, 1]
    frame = sent[0][1]
    assert (frame.dst, frame.src, frame[IP].ttl, frame[Raw].load[:4]) == (PEER, RIGHT, 8, b"held")
    frame[IP].chksum, before = None, frame[IP].chksum
    assert IP(bytes(frame[IP])).chksum == before
    assert router.lookup("10.2.0.2").kind == FORWARD


def test_a_route_asks_for_its_next_hop(router):
    [(port, request)] = router.packet(Reason.GLEAN, IP(src="10.1.0.2", dst="192.0.2.9") / UDP())
    assert (port, request[ARP].pdst) == (1, "10.2.0.7")
    [(_, frame)] = router.arp(1, op=2, hwsrc=PEER, psrc="10.2.0.7", pdst="10.2.0.1")
    assert (frame.dst, frame[IP].dst) == (PEER, "192.0.2.9")
    assert router.lookup("192.0.2.1").kind == FORWARD
    assert router.lookup("10.2.0.7").index == router.lookup("192.0.2.1").index


def test_a_neighbour_that_is_not_there(router):
    router.knows_both()
    router.packet(Reason.GLEAN, IP(src="10.1.0.2", dst="10.2.0.99") / UDP(dport=7))
    for tenth in range(1, 35):
        router.host.tick(tenth * 0.1)
    sent = router.take()
    assert [frame[ARP].pdst for _, frame in sent if ARP in frame] == ["10.2.0.99"] * 2
    [(port, error)] = [(port, frame) for port, frame in sent if ICMP in frame]
    assert (port, error.dst, error[IP].src, error[IP].dst) == (0, HOST, "10.1.0.1", "10.1.0.2")
    assert (error[ICMP].type, error[ICMP].code, error[IPerror].dst) == (3, 1, "10.2.0.99")
    assert router.lookup("10.2.0.99").kind == GLEAN


def test_a_neighbour_that_goes_gives_its_index_back_after_a_grace_period(router):
    waiting = []
    router.forwarding.defer = waiting.append
    router.arp()
    index = router.lookup("10.1.0.2").index
    for second in range(40):
        router.host.tick(float(second))
    assert router.lookup("10.1.0.2").kind == GLEAN
    assert index not in router.forwarding._free
    waiting.pop()()
    assert index in router.forwarding._free


def test_ttl_counts_for_gleaned_packets_too(router):
    router.knows_both()
    [(_, error)] = router.packet(Reason.GLEAN, IP(src="10.1.0.2", dst="10.2.0.50", ttl=1) / UDP())
    assert (error[ICMP].type, error[ICMP].code) == (11, 0)


# What the router answers ------------------------------------------------------------------------------------


def test_ping(router):
    router.knows_both()
    [(port, reply)] = router.packet(Reason.LOCAL, IP(src="10.1.0.2", dst="10.2.0.1") / ICMP(id=3, seq=4) / Raw(b"hi"))
    assert (port, reply.dst, reply.src) == (0, HOST, LEFT)
    assert (reply[IP].src, reply[IP].dst, reply[ICMP].type, reply[ICMP].id) == ("10.2.0.1", "10.1.0.2", 0, 3)


def test_ping_of_a_host_that_must_be_found_first(router):
    [(_, request)] = router.packet(Reason.LOCAL, IP(src="10.1.0.2", dst="10.1.0.1") / ICMP())
    assert request[ARP].pdst == "10.1.0.2"
    sent = router.arp()
    assert [(ARP in frame, ICMP in frame) for _, frame in sent] == [(False, True), (True, False)]


@pytest.mark.parametrize(
    "packet",
    [
        IP(src="10.1.0.2", dst="10.1.0.1") / ICMP(chksum=1),
        IP(src="10.1.0.2", dst="10.1.0.1") / ICMP(type=0),
        IP(src="10.1.0.2", dst="10.1.0.1", flags="MF") / ICMP(),
        IP(src="10.2.0.1", dst="10.1.0.1") / ICMP(),  # from ourselves
        IP(src="224.0.0.1", dst="10.1.0.1") / ICMP(),
        IP(src="10.1.0.2", dst="10.1.0.1") / TCP(),
        IP(src="10.1.0.2", dst="10.1.0.1", proto=1) / Raw(b"\x08"),
    ],
)
def test_not_answered(router, packet):
    router.knows_both()
    assert router.packet(Reason.LOCAL, packet) == []
    assert router.host.stats.ignored == 1


def test_nobody_listens_on_udp(router):
    router.knows_both()
    [(_, error)] = router.packet(Reason.LOCAL, IP(src="10.1.0.2", dst="10.1.0.1") / UDP(dport=33434))
    assert (error[ICMP].type, error[ICMP].code) == (3, 3)


# What the router tells the sender ---------------------------------------------------------------------------


def test_time_exceeded(router):
    router.knows_both()
    packet = IP(src="10.1.0.2", dst="10.2.0.2", ttl=1, id=77) / UDP(sport=5, dport=6) / Raw(b"x" * 20)
    [(port, error)] = router.packet(Reason.TTL_EXPIRED, packet)
    assert (port, error[IP].src, error[IP].dst, error[IP].tos) == (0, "10.1.0.1", "10.1.0.2", 0xC0)
    assert (error[ICMP].type, error[ICMP].code) == (11, 0)
    assert (error[IPerror].id, error[IPerror].dst) == (77, "10.2.0.2")


def test_no_route(router):
    router.knows_both()
    [(_, error)] = router.packet(Reason.NO_ROUTE, IP(src="10.1.0.2", dst="99.0.0.1") / TCP())
    assert (error[ICMP].type, error[ICMP].code) == (3, 0)


def test_too_big_with_df(router):
    """RFC 1191: the sender learns the MTU of the next hop."""
    router.knows_both()
    packet = IP(src="10.1.0.2", dst="10.2.0.2", flags="DF") / UDP() / Raw(bytes(1472))
    [(port, error)] = router.packet(Reason.TOO_BIG, packet)
    assert (port, error[ICMP].type, error[ICMP].code, error[ICMP].nexthopmtu) == (0, 3, 4, 1400)


def test_too_big_without_df_is_cut(router):
    router.knows_both()
    packet = IP(src="10.1.0.2", dst="10.2.0.2", id=3) / UDP() / Raw(bytes(1472))
    sent = router.packet(Reason.TOO_BIG, packet)
    assert [(port, frame.dst, frame[IP].frag, len(frame[IP])) for port, frame in sent] == [
        (1, PEER, 0, 1396),
        (1, PEER, 172, 124),
    ]
    assert router.host.stats.fragmented == 1


@pytest.mark.parametrize(
    "packet",
    [
        IP(src="10.1.0.2", dst="99.0.0.1") / ICMP(type=11) / Raw(bytes(28)),  # an error about an error
        IP(src="10.1.0.2", dst="99.0.0.1") / ICMP(type=3) / IPerror() / ICMPerror(),
        IP(src="10.1.0.2", dst="99.0.0.1", frag=5) / Raw(bytes(28)),  # a later fragment
        IP(src="10.1.0.2", dst="224.0.0.5") / UDP(),
        IP(src="10.1.0.2", dst="255.255.255.255") / UDP(),
        IP(src="0.0.0.0", dst="99.0.0.1") / UDP(),
        IP(src="127.0.0.1", dst="99.0.0.1") / UDP(),
        IP(src="240.0.0.1", dst="99.0.0.1") / UDP(),
        IP(src="10.1.0.255", dst="99.0.0.1") / UDP(),  # a directed broadcast
        IP(src="77.0.0.1", dst="99.0.0.1") / UDP(),  # no route back
    ],
)
def test_no_error_is_sent_about(router, packet):
    """RFC 1812 section 4.3.2.7."""
    router.knows_both()
    assert router.packet(Reason.NO_ROUTE, packet) == []
    assert router.host.stats.icmp_errors == 0


def test_but_about_pings_it_is(router):
    router.knows_both()
    assert len(router.packet(Reason.NO_ROUTE, IP(src="10.1.0.2", dst="99.0.0.1") / ICMP())) == 1


def test_errors_are_limited_in_rate(router):
    router.knows_both()
    packet = IP(src="10.1.0.2", dst="99.0.0.1") / UDP()
    assert sum(len(router.packet(Reason.NO_ROUTE, packet, now=1.0)) for _ in range(50)) == 5
    assert sum(len(router.packet(Reason.NO_ROUTE, packet, now=2.0)) for _ in range(50)) == 5
    assert router.host.errors.refused == 90


def test_truncated_packets_of_every_length(router):
    data = bytes(Ether() / IP(src="10.1.0.2", dst="10.2.0.50") / UDP() / Raw(b"abc"))
    for reason in Reason:
        for size in range(len(data)):
            router.host.packet(reason, data[:size], 0.0)
    assert router.host.stats.ignored == len(Reason) * len(data)


# Tables -----------------------------------------------------------------------------------------------------


def test_what_the_tables_say_at_the_start(router):
    assert router.lookup("10.1.0.1").index == router.lookup("10.2.0.1").index == HERE
    for nowhere in ("10.1.0.255", "10.1.0.0", "224.0.0.5", "255.255.255.255", "127.0.0.1", "0.1.2.3"):
        assert router.lookup(nowhere).index == NOWHERE
    assert (router.lookup("10.1.0.77").kind, router.lookup("10.1.0.77").port) == (GLEAN, 0)
    assert router.lookup("10.1.0.77").neighbour == int(IPv4Address("10.1.0.77"))
    assert router.lookup("192.0.2.77").neighbour == int(IPv4Address("10.2.0.7"))
    assert router.lookup("9.9.9.9") is None


def test_strangers_cannot_fill_the_tables(router):
    for number in range(2, 250):
        router.packet(Reason.GLEAN, IP(src="10.1.0.2", dst=f"10.2.0.{number}") / UDP(), now=number * 0.001)
    assert len(router.host.neighbours) <= 8
    for number in range(2, 250):
        router.arp(hwsrc=f"02:00:00:00:01:{number:02x}", psrc=f"10.1.0.{number}", now=1.0)
    assert len(router.host.neighbours) <= 8
    assert router.host.neighbours.stats.refused > 200

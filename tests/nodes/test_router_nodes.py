"""The router's nodes, each alone and all in one graph: literal frames in; the door and literal frames out.

Doors come from RFC 1812 (the paragraph is beside each case), frames from scapy: what leaves is built by scapy with
its own checksum, TTL and addresses, and compared byte by byte.
"""

import functools

import pytest
from feed import Collect, Feed, hexed
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_Router_Alert
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Raw

import wirespeed as ws
from wirespeed.engine.engine import Engine
from wirespeed.graph.node import Node
from wirespeed.nodes import (
    ethernet_input,
    ipv4_kind,
    ipv4_lookup,
    ipv4_mtu,
    ipv4_rewrite,
    ipv4_ttl,
    ipv4_validate,
    to_port,
)
from wirespeed.tables.adjacency import FORWARD, GLEAN, LOCAL, Adjacencies, Adjacency
from wirespeed.tables.lpm import Lpm4
from wirespeed.tables.station import Station

US, THEM, HOST = "02:00:00:00:00:01", "02:00:00:00:00:99", "02:00:00:00:01:01"
OWN = ["02:00:00:00:00:10", "02:00:00:00:00:11", "02:00:00:00:00:12"]  # of the ports that packets leave by
NEAR = ["02:00:00:00:02:10", "02:00:00:00:02:11", "02:00:00:00:02:12"]  # their neighbours
MTU = [1500, 576, 1500]
ROUTES = {
    "192.0.2.0/24": 10, "198.51.100.0/24": 11, "203.0.113.0/24": 12, "203.0.113.128/25": 10,
    "10.0.0.1/32": 1, "10.0.0.0/24": 2, "10.9.0.0/24": 3,
}  # fmt: skip


def number(mac):
    return int(mac.replace(":", ""), 16)


def ether(**fields):
    return Ether(src=HOST, dst=fields.pop("dst", US), **fields)


def ip(dst="192.0.2.1", src="10.0.0.9", ttl=64, **fields):
    return IP(src=src, dst=dst, ttl=ttl, **fields)


def broken(packet, at, value):
    """The frame with one byte set, whatever that breaks."""
    data = bytearray(bytes(packet))
    data[at] = value
    return bytes(data)


def forwarded(packet, port):
    """What scapy makes of it behind the router: TTL one less, its own checksum, the addresses of the next link."""
    out = Ether(bytes(packet))
    out.src, out.dst = OWN[port], NEAR[port]
    out[IP].ttl -= 1
    del out[IP].chksum
    return bytes(out)


UDP9 = UDP(sport=9, dport=9, chksum=0)
PLAIN = ether() / ip() / UDP9 / b"payload"
FORWARDS = {  # name: packet, port that it leaves by
    "plain": (PLAIN, 0),
    "second port": (ether() / ip("198.51.100.7") / TCP(dport=80), 1),
    "third port": (ether() / ip("203.0.113.7") / ICMP(), 2),
    "the longer prefix": (ether() / ip("203.0.113.200") / UDP9, 0),
    "ttl 2": (ether() / ip(ttl=2) / UDP9, 0),
    "ttl 255": (ether() / ip(ttl=255) / UDP9, 0),
    "options": (ether() / ip(options=[IPOption_Router_Alert()]) / UDP9, 0),
    "sixty bytes of header": (ether() / ip(options=[IPOption_Router_Alert()] * 10) / UDP9, 0),
    "fragment": (ether() / ip(flags="MF", frag=100) / Raw(bytes(64)), 0),
    "padded": (PLAIN / Raw(b""), 0),
    "tagged": (Ether(src=HOST, dst=US) / Dot1Q(vlan=5) / ip() / UDP9, 0),
    "as large as the MTU": (ether() / ip("198.51.100.7") / Raw(bytes(576 - 20)), 1),
    "checksum 0 after": (ether() / ip(id=0) / UDP9, 0),
}
CASES = {  # name: frame, node, door
    **{name: (bytes(packet), f"to {port}", "") for name, (packet, port) in FORWARDS.items()},
    "empty": (b"", "ethernet_input", "runt"),
    "13 bytes": (bytes(PLAIN)[:13], "ethernet_input", "runt"),
    "arp": (bytes(Ether(src=HOST, dst="ff:ff:ff:ff:ff:ff") / ARP(psrc="10.0.0.9", pdst="10.0.0.1")), "ethernet_input",
            "arp"),
    "arp that lies": (bytes(ether(type=0x0806) / Raw(b"\xff")), "ethernet_input", "arp"),
    "ipv6": (bytes(ether() / IPv6(src="fe80::1", dst="fe80::2")), "ethernet_input", "not-ip"),
    # RFC 1812 section 5.3.4: a link broadcast is not forwarded; 802.3 3.2.3: the first bit makes a group.
    "broadcast": (bytes(ether(dst="ff:ff:ff:ff:ff:ff") / ip() / UDP9), "ethernet_input", "not-for-us"),
    "multicast": (bytes(ether(dst="01:00:5e:00:00:01") / ip() / UDP9), "ethernet_input", "not-for-us"),
    "other station": (bytes(ether(dst=THEM) / ip() / UDP9), "ethernet_input", "not-for-us"),
    # RFC 1812 section 5.2.2 (1), (3), (4), (5)
    "no header": (bytes(PLAIN)[:14], "ipv4_validate", "malformed"),
    "19 bytes": (bytes(PLAIN)[:33], "ipv4_validate", "malformed"),
    "version 5": (broken(PLAIN, 14, 0x55), "ipv4_validate", "malformed"),
    "ihl 4": (broken(PLAIN, 14, 0x44), "ipv4_validate", "malformed"),
    "ihl beyond the packet": (bytes(ether() / ip())[:14] + b"\x4f" + bytes(ether() / ip())[15:], "ipv4_validate",
                              "malformed"),
    "total below the header": (broken(broken(PLAIN, 16, 0), 17, 19), "ipv4_validate", "malformed"),
    "total beyond the frame": (broken(PLAIN, 17, 200), "ipv4_validate", "malformed"),
    # (2)
    "checksum": (broken(PLAIN, 24, bytes(PLAIN)[24] ^ 1), "ipv4_validate", "bad-checksum"),
    "checksum in the options": (broken(FORWARDS["options"][0], 37, 0x77), "ipv4_validate", "bad-checksum"),
    # section 5.3.7
    "from 0/8": (bytes(ether() / ip(src="0.1.2.3") / UDP9), "ipv4_validate", "martian"),
    "from loopback": (bytes(ether() / ip(src="127.0.0.1") / UDP9), "ipv4_validate", "martian"),
    "from multicast": (bytes(ether() / ip(src="224.0.0.1") / UDP9), "ipv4_validate", "martian"),
    "from broadcast": (bytes(ether() / ip(src="255.255.255.255") / UDP9), "ipv4_validate", "martian"),
    "to 0/8": (bytes(ether() / ip("0.0.0.0") / UDP9), "ipv4_validate", "martian"),
    "to loopback": (bytes(ether() / ip("127.9.9.9") / UDP9), "ipv4_validate", "martian"),
    # sections 4.3.3.1, 5.2.4.3
    "no route": (bytes(ether() / ip("172.16.0.1") / UDP9), "ipv4_lookup", "no-route"),
    "for the router": (bytes(ether() / ip("10.0.0.1") / UDP9), "ipv4_kind", "local"),
    "for the router, ttl 1": (bytes(ether() / ip("10.0.0.1", ttl=1) / UDP9), "ipv4_kind", "local"),
    "unresolved": (bytes(ether() / ip("10.0.0.77") / UDP9), "ipv4_kind", "glean"),
    "nowhere": (bytes(ether() / ip("10.9.0.77") / UDP9), "ipv4_kind", "unreachable"),
    # section 5.3.1
    "ttl 1": (bytes(ether() / ip(ttl=1) / UDP9), "ipv4_ttl", "ttl-expired"),
    "ttl 0": (bytes(ether() / ip(ttl=0) / UDP9), "ipv4_ttl", "ttl-expired"),
    # section 4.2.2.7: with TTL already taken, as it stands in the packet that the answer quotes
    "one byte too long": (bytes(ether() / ip("198.51.100.7") / Raw(bytes(577 - 20))), "ipv4_mtu", "too-big"),
}  # fmt: skip
for name, (frame, node, door) in CASES.items():
    if name == "padded":
        CASES[name] = (frame.ljust(100, b"\xee"), node, door)


def leaves(name):
    """What a case looks like where it leaves the router."""
    frame, node, _ = CASES[name]
    if name in FORWARDS:
        out = forwarded(FORWARDS[name][0], FORWARDS[name][1])
        return out.ljust(len(frame), b"\xee")
    if node == "ipv4_mtu":
        out = Ether(frame)
        out[IP].ttl -= 1
        del out[IP].chksum
        return bytes(out)
    return frame


class Router:
    """The tables and the nodes, and what both ways of running need of them."""

    def __init__(self, more_routes=0):
        self.fib = Lpm4(groups=8)
        for prefix, hop in ROUTES.items():
            self.fib.add(prefix, hop)
        for i in range(more_routes):
            self.fib.add(((100 << 24) + (64 << 16) + (i << 8), 24), 3)
        self.adjacencies = Adjacencies(16)
        self.adjacencies.set(1, Adjacency(LOCAL))
        self.adjacencies.set(2, Adjacency(GLEAN, 0, src=number(OWN[0])))
        for port in range(3):
            self.adjacencies.set(10 + port, Adjacency(FORWARD, port, number(NEAR[port]), number(OWN[port]), MTU[port]))
        self.station = Station(number(US))
        self.input = ethernet_input(self.station)
        self.chain = [
            self.input, ipv4_validate, ipv4_lookup(self.fib, answer=True), ipv4_kind(self.adjacencies),
            ipv4_ttl(answer=True), ipv4_mtu(self.adjacencies), ipv4_rewrite(self.adjacencies),
            to_port(self.adjacencies, 0), to_port(self.adjacencies, 1),
        ]  # fmt: skip

    def close(self):
        self.fib.close()
        self.adjacencies.close()
        self.station.close()

    def trace(self, frame):
        """(node, door, bytes) where the frame leaves, node after node interpreted; the mark is carried on."""
        mark = 0

        def carry(node):
            def function(pkt):
                nonlocal mark
                pkt.mark = mark
                door = node.function(pkt)
                mark = pkt.mark
                return door

            return Node(function, node.outputs, node.drops, name=node.name)

        for node in self.chain:
            seen = carry(node).trace(frame)
            frame = seen.data
            if seen.door == "here":
                return f"to {node.name[-1]}", "", frame
            if seen.door:
                return node.name, seen.door, frame
        return "to 2", "", frame

    def run(self, frames, shape="fused", burst=8):
        """Every door joined to a port that collects: ({(node, door): frames}, {(node, reason): dropped}, engine)."""
        graph, doors = ws.Graph(), {}
        at = Feed(frames)
        for node in self.chain:
            graph.add(at >> node)
            for door in node.outputs:
                key = (f"to {node.name[-1]}", "") if door == "here" else (node.name, door)
                doors[key] = Collect(f"{key[0]} {key[1]}")
                graph.add(node[door] >> doors[key])
            at = node
        doors["to 2", ""] = Collect("to 2")
        graph.add(at >> doors["to 2", ""])
        engine = Engine(graph, shape=shape, burst=burst)
        engine.start()
        assert engine.wait()
        report = engine.stop()
        assert report.in_use == 0
        drops = {(n.name, reason): count for n in report.nodes.values() for reason, count in n.drops.items() if count}
        return {key: port.packets for key, port in doors.items()}, drops, engine


@pytest.fixture(scope="module")
def router():
    made = Router()
    yield made
    made.close()


@pytest.mark.parametrize("name", CASES)
def test_each_case_traced(router, name):
    frame, node, door = CASES[name]
    seen = router.trace(frame)
    assert seen[:2] == (node, door)
    assert seen[2].hex() == leaves(name).hex()


@functools.cache
def shuffled():
    """Every case several times, so that a burst has all kinds side by side."""
    names = list(CASES)
    return [names[(i * 7) % len(names)] for i in range(3 * len(names))]


@pytest.mark.parametrize(("routes", "shape"), [(0, "fused"), (4097, "fused"), (4097, "split")])
def test_all_cases_in_one_graph(routes, shape):
    """More than 4096 routes: the lookup prefetches, in a region of its own. Split: the mark crosses each border."""
    router = Router(routes)
    names = shuffled()
    wanted, dropped = {}, {}
    for name in names:
        _, node, door = CASES[name]
        if node in ("ethernet_input", "ipv4_validate", "ipv4_kind") and door not in ("arp", "local", "glean"):
            dropped[node, door] = dropped.get((node, door), 0) + 1
        else:
            wanted.setdefault((node, door), []).append(leaves(name))
    try:
        doors, drops, engine = router.run([CASES[name][0] for name in names], shape)
        assert router.fib.outgrows_cache() == (routes > 0)
        assert (router.chain[2] in engine.plan.entries) == (routes > 0)
        assert len(engine.plan.entries) == {(0, "fused"): 1, (4097, "fused"): 2}.get((routes, shape), 9)
    finally:
        router.close()
    assert {key: hexed(packets) for key, packets in doors.items()} == {key: hexed(wanted[key]) for key in doors}
    assert drops == dropped


def test_the_address_of_a_station_changes_between_packets(router):
    frame = bytes(ether(dst=THEM) / ip() / UDP9)
    assert router.input.trace(frame).door == "not-for-us"
    router.station.mac = number(THEM)
    try:
        assert router.input.trace(frame).door == ""
        assert router.input.trace(bytes(PLAIN)).door == "not-for-us"
    finally:
        router.station.mac = number(US)


def test_ethernet_input_without_an_address_takes_every_station_but_no_group():
    node = ethernet_input()
    assert node.name == "ethernet_input" and ethernet_input(port="wan").name == "ethernet_input_wan"
    for dst, door in ((US, ""), (THEM, ""), ("00:00:00:00:00:00", ""), ("01:00:5e:00:00:01", "not-for-us")):
        assert node.trace(ether(dst=dst) / ip() / UDP9).door == door
    assert ethernet_input(number(US)).trace(PLAIN).door == ""
    assert ethernet_input(number(THEM)).trace(PLAIN).door == "not-for-us"


def test_doors_are_drops_unless_somebody_answers():
    fib = Lpm4(groups=1)
    for made, door, frame in (
        (ipv4_lookup(fib), "no-route", PLAIN), (ipv4_lookup(fib, answer=True), "no-route", PLAIN),
        (ipv4_ttl(), "ttl-expired", ether() / ip(ttl=1)), (ipv4_ttl(answer=True), "ttl-expired", ether() / ip(ttl=1)),
    ):  # fmt: skip
        seen = made.trace(frame)
        assert seen.door == door and seen.dropped == (door in made.drops) and not seen.changed
        assert (door in made.drops) != (door in made.outputs)
    fib.close()


def test_what_each_node_touches():
    """A node that reads what it need not makes the loop parse more."""
    seen = ipv4_ttl().trace(PLAIN)
    assert [str(touch) for touch in seen.touched] == [
        "read Ipv4.ttl", "write Ipv4.ttl", "read Ipv4.checksum", "write Ipv4.checksum",
    ]  # fmt: skip
    assert str(ethernet_input().trace(b"")) == "ethernet_input: drop 'runt', 0 bytes"

"""The router as a whole, with ports that are Python's: literal frames in, literal frames out; no root, no sleeping."""

import random
import time

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Raw

from wirespeed.apps.router import build
from wirespeed.control.config import parse
from wirespeed.engine.engine import Engine
from wirespeed.stack.neighbours import TRIES

LEFT, RIGHT = "02:77:73:00:00:01", "02:00:00:00:00:02"
HOST, PEER = "02:00:00:00:01:02", "02:00:00:00:02:02"
NEXT_HOP = 0xC0000201  # an address behind the route to the right
TO_US = Ether(src=HOST, dst=LEFT)
CONFIG = """
app = "router"
[[port]]
name = "left"
spec = "host:wire-left"
addresses = ["10.1.0.1/24"]
[[port]]
name = "right"
spec = "host:wire-right"
addresses = ["10.2.0.1/24"]
mac = "02:00:00:00:00:02"
mtu = 1400
[[route]]
prefix = "192.0.2.0/24"
via = "10.2.0.2"
[[neighbour]]
address = "10.1.0.2"
mac = "02:00:00:00:01:02"
"""


class Bench:
    """A running router and both of its wires."""

    def __init__(self, workers):
        self.app = build(parse(CONFIG))
        self.engine = Engine(self.app.graph, workers, symmetric=True)
        self.app.attach(self.engine)
        self.engine.start()
        self.left, self.right = self.app.ports

    def expect(self, port, wanted, deadline_s=30.0):
        """The next frames of a port for which ``wanted`` holds; polls the control plane meanwhile."""
        until = time.monotonic() + deadline_s
        while time.monotonic() < until:
            self.app.poll(0.001)
            found = [frame for received in port.poll() if wanted(frame := Ether(received.data))]
            if found:
                return found
        raise AssertionError("nothing came")

    def quiet(self):
        """Forget what is on the wires."""
        self.left.poll()
        self.right.poll()

    def ping(self, marker):
        """Something behind which everything sent before has gone through."""
        self.left.send(Ether(src=HOST, dst=LEFT) / IP(src="10.1.0.2", dst="10.1.0.1") / ICMP(id=marker))
        return self.expect(self.left, lambda frame: ICMP in frame and frame[ICMP].id == marker)

    def know_the_peer(self):
        """Tell it the right neighbour's address, as often as it asks, until it sends a packet there."""
        if self.app.forwarding.next_hop(NEXT_HOP).kind != 1:
            self.left.send(Ether(src=HOST, dst=LEFT) / IP(src="10.1.0.2", dst="192.0.2.9") / UDP())
            self.expect(self.right, lambda frame: ARP in frame and frame[ARP].pdst == "10.2.0.2")
            self.answer_for_the_peer()
            self.expect(self.right, lambda frame: IP in frame)

    def answer_for_the_peer(self):
        reply = ARP(op=2, hwsrc=PEER, psrc="10.2.0.2", hwdst=RIGHT, pdst="10.2.0.1")
        self.right.send(Ether(src=PEER, dst=RIGHT) / reply)

    def forget_the_peer(self):
        """Time is the table's argument: half a minute passes in no time."""
        now_s = time.monotonic()
        for second in range(31 + TRIES):
            self.app.host.tick(now_s + 31 + second)

    def close(self):
        report = self.engine.stop()
        self.app.close()
        assert report.in_use == 0
        return report


@pytest.fixture(scope="module", params=[1, 2], ids=["one-worker", "two-workers"])
def running(request):
    made = Bench(request.param)
    for port, address in ((made.left, "10.1.0.1"), (made.right, "10.2.0.1")):  # it announces itself
        [said] = made.expect(port, lambda frame, a=address: ARP in frame and frame[ARP].psrc == a)
        assert said[ARP].pdst == address
    yield made
    report = made.close()
    assert report.faults == ()


@pytest.fixture
def bench(running):
    """It knows both neighbours, whatever ran before, and the wires are quiet."""
    running.know_the_peer()
    running.ping(1)
    running.quiet()
    return running


def drops(bench):
    return {f"{n.name}:{door}": c for n in bench.engine.report().nodes.values() for door, c in n.drops.items() if c}


def test_it_finds_a_neighbour_and_forwards(bench):
    bench.forget_the_peer()
    bench.quiet()
    before = bench.engine.report().nodes["ipv4_rewrite"].packets
    packet = IP(src="10.1.0.2", dst="192.0.2.9", ttl=9, id=7) / UDP(sport=1, dport=2) / Raw(b"payload")
    bench.left.send(Ether(src=HOST, dst=LEFT) / packet)
    asked = bench.expect(bench.right, lambda frame: ARP in frame and frame[ARP].pdst == "10.2.0.2")[-1]
    assert (asked.src, asked[ARP].psrc) == (RIGHT, "10.2.0.1")
    bench.answer_for_the_peer()
    [first] = bench.expect(bench.right, lambda frame: IP in frame)
    bench.left.send(Ether(src=HOST, dst=LEFT) / packet)
    [second] = bench.expect(bench.right, lambda frame: IP in frame)
    packet.ttl = 8
    assert bytes(first)[:49] == bytes(second)[:49] == bytes(Ether(src=RIGHT, dst=PEER) / packet)
    rewritten = bench.engine.report().nodes["ipv4_rewrite"].packets - before
    assert rewritten == 1  # the second one, in the packet path


def test_what_the_router_answers(bench):
    def ask(packet, wanted):
        bench.left.send(Ether(src=HOST, dst=LEFT) / packet)
        [answer] = bench.expect(bench.left, lambda frame: ICMP in frame and frame[ICMP].type == wanted)
        assert (answer.dst, answer.src, answer[IP].dst) == (HOST, LEFT, "10.1.0.2")
        return answer[ICMP]

    assert ask(IP(src="10.1.0.2", dst="10.2.0.1") / ICMP(id=5), 0).id == 5
    assert ask(IP(src="10.1.0.2", dst="192.0.2.1", ttl=1) / UDP(), 11).code == 0
    assert ask(IP(src="10.1.0.2", dst="203.0.113.1") / UDP(), 3).code == 0
    assert ask(IP(src="10.1.0.2", dst="10.1.0.1") / UDP(), 3).code == 3
    assert ask(IP(src="10.1.0.2", dst="192.0.2.1", flags="DF") / UDP() / Raw(bytes(1400)), 3).nexthopmtu == 1400


@pytest.mark.parametrize(
    ("frame", "drop"),
    [
        (Ether(src=HOST, dst=RIGHT) / IP(src="10.1.0.2", dst="192.0.2.1") / UDP(), "ethernet_input_left:not-for-us"),
        (Ether(src=HOST, dst="01:00:5e:00:00:05") / IP(dst="224.0.0.5") / UDP(), "ethernet_input_left:not-for-us"),
        (Ether(src=HOST, dst=LEFT, type=0x86DD) / Raw(bytes(60)), "ethernet_input_left:not-ip"),
        (TO_US / IP(src="10.1.0.2", dst="192.0.2.1", chksum=1) / UDP(), "ipv4_validate:bad-checksum"),
        (TO_US / IP(src="127.0.0.1", dst="192.0.2.1") / UDP(), "ipv4_validate:martian"),
        (TO_US / IP(src="10.1.0.2", dst="192.0.2.1", len=99) / UDP(), "ipv4_validate:malformed"),
        (TO_US / IP(src="10.1.0.2", dst="10.2.0.255") / UDP(), "ipv4_kind:unreachable"),
        (TO_US / IP(src="10.1.0.2", dst="224.0.0.5") / UDP(), "ipv4_kind:unreachable"),
    ],
)
def test_dropped_by_reason(bench, frame, drop):
    before = drops(bench).get(drop, 0)
    bench.left.send(frame)
    until = time.monotonic() + 30
    while drops(bench).get(drop, 0) == before:
        assert time.monotonic() < until
        bench.app.poll(0.001)


def test_hostile_frames_leave_it_alive(bench):
    source = random.Random(7)
    seed = bytes(Ether(src=HOST, dst=LEFT) / Dot1Q(vlan=3) / IP(src="10.1.0.2", dst="192.0.2.1") / TCP())
    other = bytes(Ether(src=HOST, dst=LEFT) / ARP(hwsrc=HOST, psrc="10.1.0.2", pdst="10.1.0.1"))
    for number in range(400):
        data = bytearray((seed[:12] + seed[16:], other, seed)[number % 3])
        data = data[: source.randrange(14, len(data) + 1)]
        for _ in range(source.randrange(5)):
            data[source.randrange(12, len(data))] = source.randrange(256)
        bench.left.send(bytes(data))
        if number % 50 == 0:
            bench.ping(number + 1)
            bench.quiet()
    assert bench.ping(9999)


def test_a_neighbour_that_leaves_is_forgotten(bench):
    assert bench.app.forwarding.next_hop(NEXT_HOP).kind == 1
    bench.forget_the_peer()
    asked = bench.expect(bench.right, lambda frame: ARP in frame)
    assert all(frame.dst == PEER for frame in asked)
    assert bench.app.forwarding.next_hop(NEXT_HOP).kind == 3
    bench.left.send(Ether(src=HOST, dst=LEFT) / IP(src="10.1.0.2", dst="192.0.2.9") / UDP())
    bench.expect(bench.right, lambda frame: ARP in frame and frame.dst == "ff:ff:ff:ff:ff:ff")

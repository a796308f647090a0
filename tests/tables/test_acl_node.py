"""Access lists in nodes: a firewall, compiled and traced, and a set replaced while packets go through it."""

import threading

import pytest
from feed import Collect, Feed, ipv4_udp

import wirespeed as ws
from wirespeed.jit import COMPILED

acl = ws.Acl4(rules=16)
acl6 = ws.Acl6(rules=16)
old, new, neither = ws.counter(), ws.counter(), ws.counter()

LINK = bytes(12)
_LONG = ipv4_udp(5, 80, bytes(12))
TCP = _LONG[:23] + b"\x06" + _LONG[24:46] + b"\x50" + _LONG[47:]  # the length of its header is 5 words
LATER_FRAGMENT = ipv4_udp(5, 80)[:20] + b"\x00\x02" + ipv4_udp(5, 80)[22:]


def ipv6_udp(src, sport, dport):
    """An Ethernet frame with IPv6 and UDP; the destination is ::2."""
    addresses = src.to_bytes(16, "big") + (2).to_bytes(16, "big")
    udp = sport.to_bytes(2, "big") + dport.to_bytes(2, "big") + b"\x00\x08\x00\x00"
    return LINK + b"\x86\xdd" + b"\x60\x00\x00\x00\x00\x08\x11\x40" + addresses + udp


@ws.node(outputs=["web"], drops=["denied"])
def firewall(pkt):
    """Two lists; what both do not know is denied."""
    action = acl6.classify_packet(pkt) if pkt.ipv6 else acl.classify_packet(pkt)
    if action <= 0:
        return "denied"
    if action == 7:
        return "web"


@ws.node(drops=["denied"])
def fields(pkt):
    """The same list, asked with fields that the node takes itself."""
    if acl.classify(pkt.ipv4.src, pkt.ipv4.dst, pkt.ipv4.protocol, pkt.udp.sport, pkt.udp.dport) != 1:
        return "denied"
    if acl.match(pkt.ipv4.src, pkt.ipv4.dst, pkt.ipv4.protocol, pkt.udp.sport, pkt.udp.dport) != 1:
        return "denied"


@ws.node
def judge(pkt):
    """Count by the set that was asked."""
    action = acl.classify_packet(pkt)
    if action == 1:
        old.add(1)
    elif action == 2:
        new.add(1)
    else:
        neither.add(1)


FRAMES = [
    (ipv4_udp(5, 53), ""),
    (ipv4_udp(5, 54), "denied"),
    (ipv4_udp(5, 53, src="10.0.0.9"), "denied"),
    (TCP, "web"),
    (LATER_FRAGMENT, ""),  # port 0
    (LINK + b"\x08\x06" + bytes(46), "denied"),
    (b"", "denied"),
    (ipv6_udp(0x20010DB8 << 96 | 1, 1, 53), ""),
    (ipv6_udp(0x20010DB9 << 96 | 1, 1, 53), "denied"),
]


@pytest.fixture
def rules():
    acl.replace(
        [
            "deny ip host 10.0.0.9 any",
            "permit udp any any eq 53",
            "permit udp any any eq 0",
            ws.Rule(protocol="tcp", dport=(80, 88), action=7),
        ]
    )
    acl6.replace(["permit udp 2001:db8::/32 ::/64 lt 1024"])


def test_traced(rules):
    for frame, door in FRAMES:
        assert firewall.trace(frame).door == door
    assert [fields.trace(frame).door for frame, _ in FRAMES[:3]] == ["", "denied", "denied"]


def test_compiled_is_the_same(rules):
    graph, out, web = ws.Graph(), Collect(), Collect()
    graph.add(Feed([frame for frame, _ in FRAMES] * 30) >> firewall >> out)
    graph.add(firewall["web"] >> web)
    report = ws.run(graph)
    kept = [frame for frame, door in FRAMES if door == ""]
    assert out.packets == kept * 30
    assert web.packets == [TCP] * 30
    assert report.nodes["firewall"].drops["denied"] == 30 * sum(door == "denied" for _, door in FRAMES)
    graph, out = ws.Graph(), Collect()
    graph.add(Feed([FRAMES[0][0], FRAMES[1][0]] * 20) >> fields >> out)
    ws.run(graph)
    assert out.packets == [FRAMES[0][0]] * 20


def test_replaced_while_packets_go_through():
    for count in (old, new, neither):
        count.reset()
    acl.replace([ws.Rule(action=1)])
    graph = ws.Graph()
    graph.add(Feed([ipv4_udp(port, 53) for port in range(1, 64)], endless=True) >> judge >> Collect(log=0))
    turns = 200 if COMPILED else 4
    with ws.Engine(graph) as engine:
        wake = threading.Event()
        for turn in range(turns):
            seen = old.value + new.value
            acl.replace([ws.Rule(sport=(0, 65535 - turn), action=1 + turn % 2), ws.Rule(action=1 + turn % 2)])
            for _ in range(100_000):
                if old.value + new.value > seen + 64:
                    break
                assert not engine.ended, engine.workers.failure
                wake.wait(0.0001)
        assert acl.reclaimer is engine.grace
        engine.stop()
    assert acl.reclaimer is None
    assert old.value > 0
    assert new.value > 0
    assert neither.value == 0

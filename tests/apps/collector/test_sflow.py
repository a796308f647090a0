"""sFlow version 5: what pmacct sent, samples packed by hand as the specification has them, and hostile bytes."""

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt
from scapy.layers.l2 import ARP, Dot1Q, Ether

from wirespeed.apps.collector.flow import SFLOW, shown
from wirespeed.apps.collector.state import InterfaceView

VECTORS = Path(__file__).parents[2] / "vectors"


def vectors(name):
    return [bytes.fromhex(line) for line in (VECTORS / name).read_text().splitlines() if not line.startswith("#")]


def part(kind, body):
    return struct.pack("!II", kind, len(body)) + body


def raw(frame, length=None, protocol=1):
    """A raw packet header, padded as XDR has it."""
    data = bytes(frame)
    return part(1, struct.pack("!4I", protocol, length or len(data) + 4, 4, len(data)) + data + bytes(-len(data) % 4))


def flow(*records, rate=100, into=3, out=4):
    return part(1, struct.pack("!8I", 1, 3, rate, 1000, 0, into, out, len(records)) + b"".join(records))


def expanded(*records, rate=100):
    return part(3, struct.pack("!11I", 1, 0, 3, rate, 1000, 0, 0, 3, 0, 4, len(records)) + b"".join(records))


def datagram(*samples, sequence=1, agent="4s", count=None):
    where = struct.pack("!I4s", 1, bytes([192, 0, 2, 9])) if agent == "4s" else struct.pack("!I", 2) + agent
    head = struct.pack("!4I", 0, sequence, 60_000, len(samples) if count is None else count)
    return struct.pack("!I", 5) + where + head + b"".join(samples)


FRAME = Ether() / IP(src="10.0.0.1", dst="10.0.1.1", tos=8) / TCP(sport=1001, dport=443, flags="SA")


def test_what_pmacct_sends(rig):
    for message in vectors("pmacct-sflow.txt"):
        assert rig.feed(message) == ""
    rows = rig.rows()
    counted = {}
    for row in rows:
        key = (
            shown(bytes(row["src"])),
            int(row["sport"]),
            shown(bytes(row["dst"])),
            int(row["dport"]),
            int(row["octets"]),
        )
        counted[key] = counted.get(key, 0) + 1
    wanted = {(f"10.0.0.{i}", 1000 + i, "10.0.1.1", 53, 146): i for i in range(1, 6)}
    assert counted == {**wanted, ("2001:db8::1", 4000, "2001:db8::2", 443, 78): 1}
    assert {shown(bytes(row["exporter"])) for row in rows} == {"192.0.2.9"}
    assert (rig.totals("sflow").lost, rig.totals("sflow").datagrams) == (0, 3)


@pytest.mark.parametrize("sample", [flow, expanded])
def test_a_sampled_packet(rig, sample):
    assert rig.feed(datagram(sample(raw(FRAME, 1518)))) == ""
    (row,) = rig.rows()
    assert (shown(bytes(row["src"])), shown(bytes(row["dst"]))) == ("10.0.0.1", "10.0.1.1")
    assert (row["sport"], row["dport"], row["protocol"], row["tcp_flags"], row["tos"]) == (1001, 443, 6, 0x12, 8)
    assert (row["octets"], row["packets"], row["sampling"], row["kind"]) == (1518, 1, 100, SFLOW)
    assert (row["input"], row["output"]) == (3, 4)
    assert (rig.totals("sflow").octets, rig.totals("sflow").packets) == (151_800, 100)


@pytest.mark.parametrize(
    ("frame", "wanted"),
    [
        (Ether() / Dot1Q(vlan=7) / IP(src="10.0.0.1") / UDP(sport=5, dport=6), ("10.0.0.1", 17, 5, 6, 7)),
        (Ether() / Dot1Q(vlan=7) / Dot1Q(vlan=8) / IP(src="10.0.0.1") / UDP(sport=5), ("10.0.0.1", 17, 5, 53, 7)),
        (Ether() / IPv6(src="2001:db8::1") / IPv6ExtHdrDestOpt() / UDP(sport=5, dport=6), ("2001:db8::1", 17, 5, 6, 0)),
        (Ether() / IP(src="10.0.0.1", frag=100, proto=17) / b"abcdefgh", ("10.0.0.1", 17, 0, 0, 0)),
        (Ether() / ARP(), ("", 0, 0, 0, 0)),
        (bytes(Ether() / IP(src="10.0.0.1", dst="10.0.0.2", proto=6))[:34] + b"ab", ("10.0.0.1", 6, 0, 0, 0)),
    ],
    ids=["vlan", "qinq", "ipv6", "fragment", "arp", "cut"],
)  # fmt: skip
def test_headers(rig, frame, wanted):
    assert rig.feed(datagram(flow(raw(frame)))) == ""
    (row,) = rig.rows()
    assert (shown(bytes(row["src"])), row["protocol"], row["sport"], row["dport"], row["vlan"]) == wanted


@pytest.mark.parametrize(("protocol", "ip"), [(11, IP(src="10.0.0.1")), (12, IPv6(src="2001:db8::1"))])
def test_headers_without_ethernet(rig, protocol, ip):
    assert rig.feed(datagram(flow(raw(ip / UDP(sport=5), protocol=protocol)))) == ""
    (row,) = rig.rows()
    assert (shown(bytes(row["src"])), row["sport"]) == (ip.src, 5)


def test_what_an_agent_found_itself(rig):
    four = part(3, struct.pack("!II4s4sIIII", 1400, 17, bytes([10, 0, 0, 1]), bytes([10, 0, 1, 1]), 53, 5353, 0, 8))
    six = part(4, struct.pack("!II16s16sIIII", 1280, 6, bytes(15) + b"\1", bytes(15) + b"\2", 80, 8080, 0x10, 4))
    assert rig.feed(datagram(flow(four), flow(six))) == ""
    a, b = rig.rows()
    assert (shown(bytes(a["src"])), a["sport"], a["dport"], a["octets"], a["tos"]) == ("10.0.0.1", 53, 5353, 1400, 8)
    assert (shown(bytes(b["dst"])), b["sport"], b["dport"], b["octets"], b["tcp_flags"]) == ("::2", 80, 8080, 1280, 16)


def test_what_switches_and_routers_add(rig):
    switch = part(1001, struct.pack("!4I", 42, 0, 43, 0))
    router = part(1002, struct.pack("!I4sII", 1, bytes([10, 9, 9, 9]), 24, 16))
    gateway = part(1003, struct.pack("!I4s4I", 1, bytes([10, 9, 9, 8]), 65000, 65001, 65002, 0))
    strange = part(5 << 12 | 77, b"??")
    assert rig.feed(datagram(flow(switch, raw(FRAME), router, strange, gateway))) == ""
    (row,) = rig.rows()
    assert (row["vlan"], row["src_mask"], row["dst_mask"], row["src_as"]) == (42, 24, 16, 65001)
    assert shown(bytes(row["next_hop"])) == "10.9.9.8"


def counters(index, head=(1, 3)):
    body = struct.pack("!IIQIIQ6IQ6I", index, 6, 10**10, 1, 3, 1000, 1, 2, 3, 4, 5, 6, 2000, 7, 8, 9, 10, 11, 12)
    return struct.pack(f"!{len(head) + 1}I", *head, 1) + part(1, body)


def test_counters_of_interfaces(rig):
    assert rig.feed(datagram(part(2, counters(3)), part(4, counters(5, (1, 0, 3))), part(2, counters(3)))) == ""
    view = rig.collector.views[0]
    entries = [InterfaceView(view.interfaces + 128 * i) for i in range(4 * (view.interface_mask + 1))]
    found = {entry.index: entry for entry in entries if entry.tag}
    assert sorted(found) == [3, 5]
    kept = found[3]
    assert (kept.in_octets, kept.in_packets, kept.in_discards, kept.in_errors) == (1000, 6, 4, 5)
    assert (kept.out_octets, kept.out_packets, kept.out_discards, kept.out_errors) == (2000, 24, 10, 11)
    assert (kept.speed, kept.status) == (10**10, 3)
    assert rig.totals("sflow").samples == 3


def test_lost_datagrams_and_agents(rig):
    six = bytes.fromhex("20010db8000000000000000000000009")
    for sequence in (1, 2, 5):
        rig.feed(datagram(flow(raw(FRAME)), sequence=sequence))
        rig.feed(datagram(flow(raw(FRAME)), sequence=sequence + 100, agent=six))
    assert rig.totals("sflow").lost == 4
    assert {shown(bytes(row["exporter"])) for row in rig.rows()} == {"192.0.2.9", "2001:db8::9"}


GOOD = datagram(flow(raw(FRAME)))


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (struct.pack("!I", 4) + bytes(60), "version"),
        (GOOD[:4], "short"),
        (GOOD[:20], "short"),
        (struct.pack("!II", 5, 3) + bytes(40), "short"),
        (struct.pack("!II", 5, 2) + bytes(12), "short"),
        (datagram(flow(raw(FRAME)), count=1000), "count"),
        (datagram(flow(raw(FRAME)), count=2), "sample"),
        (GOOD[:-1], "sample"),
        (datagram(part(1, bytes(28))), "sample"),
        (datagram(part(3, bytes(40))), "sample"),
        (datagram(part(2, bytes(8))), "sample"),
        (datagram(part(2, struct.pack("!III", 1, 3, 1))), "sample"),
        (datagram(part(2, struct.pack("!IIIII", 1, 3, 1, 1, 88))), "sample"),
        (datagram(flow(struct.pack("!II", 1, 400) + bytes(20))), "sample"),
        (datagram(flow(part(1, struct.pack("!4I", 1, 100, 0, 64) + bytes(60)))), "sample"),
        (datagram(flow(part(1, bytes(12)))), "sample"),
        (datagram(flow(part(3, bytes(28)))), "sample"),
        (datagram(flow(part(4, bytes(52)))), "sample"),
        (datagram(flow(raw(bytes(10)))), "sampled-header"),
        (datagram(flow(raw(bytes(FRAME)[:30]))), "sampled-header"),
        (datagram(flow(raw(bytes(12) + b"\x08\x00\x10" + bytes(40)))), "sampled-header"),
        (datagram(flow(raw(bytes(12) + b"\x86\xdd\x10" + bytes(40)))), "sampled-header"),
        (datagram(flow(raw(FRAME, protocol=9))), "sampled-protocol"),
        (datagram(flow()), "sampled-protocol"),
        (datagram(flow(raw(FRAME, 0xFFFF_FFFF), rate=1 << 20)), "implausible"),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)  # fmt: skip
def test_refusals(rig, message, reason):
    assert rig.feed(message) == reason
    assert rig.refusals() == {reason: 1}
    assert rig.feed(datagram(flow(raw(FRAME)), sequence=2)) == ""


def test_the_rest_of_a_datagram_is_read(rig):
    assert rig.feed(datagram(flow(), flow(raw(FRAME)), flow(raw(bytes(5))), flow(raw(FRAME)))) == "sampled-protocol"
    assert len(rig.rows()) == 2
    assert rig.refusals() == {"sampled-protocol": 1, "sampled-header": 1}


SEEDS = [
    GOOD,
    datagram(expanded(raw(FRAME), part(1002, bytes(16))), part(2, counters(3))),
    *vectors("pmacct-sflow.txt"),
]
changes = st.lists(st.tuples(st.integers(0, 1400), st.integers(0, 255)), max_size=8)


@given(st.sampled_from(SEEDS), changes, st.integers(0, 200))
def test_mutations_are_counted_never_read_beyond(endless, seed, changes, cut):
    """Interpreted, a read outside of the datagram is an error."""
    data = bytearray(seed)
    for at, value in changes:
        data[at % len(data)] = value
    if cut < 40:
        del data[len(data) - cut :]
    before = sum(endless.refusals().values())
    said = endless.feed(data)
    assert (said != "") == (sum(endless.refusals().values()) > before)
    endless.rows()

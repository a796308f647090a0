"""Rules in software: each frame meets what the reference says it does; counts, marks, drops, queues; changes live."""

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import wirespeed as ws
from wirespeed.errors import PortError
from wirespeed.jit import COMPILED, load64
from wirespeed.mem.descriptor import META
from wirespeed.ports.match import matches, parse_match
from wirespeed.ports.port import port
from wirespeed.ports.rules import path as rules_path
from wirespeed.ports.rules.rules import COUNT, DROP, KERNEL, TAKE, Action, RuleCount, mark, to_queue
from wirespeed.ports.rules.text import parse_rules

ETHER = bytes.fromhex("020000000002 020000000001")


def ip4(protocol, payload, source="10.0.0.1", target="10.0.0.2", fragment=0, options=b""):
    header = bytes([0x45 + len(options) // 4, 0]) + (20 + len(options) + len(payload)).to_bytes(2, "big")
    header += bytes(2) + fragment.to_bytes(2, "big") + bytes([64, protocol, 0, 0])
    addresses = b"".join(bytes(map(int, each.split("."))) for each in (source, target))
    return bytes.fromhex("0800") + header + addresses + options + payload


def ip6(protocol, payload, source=bytes(15) + b"\1", target=bytes(15) + b"\2"):
    header = bytes.fromhex("60000000") + len(payload).to_bytes(2, "big") + bytes([protocol, 64])
    return bytes.fromhex("86dd") + header + source + target + payload


def transport(sport, dport, payload=bytes(8)):
    return sport.to_bytes(2, "big") + dport.to_bytes(2, "big") + bytes(4) + payload


GTP = transport(2152, 2152, bytes.fromhex("30ff 0004 0000002a") + bytes(4))
VXLAN = transport(50000, 4789, bytes.fromhex("08000000 00000700") + bytes(14))
FRAMES = [
    ETHER + ip4(17, transport(1000, 53)),
    ETHER + ip4(6, transport(80, 1000, bytes(20))),
    ETHER + bytes.fromhex("8100 0007") + ip4(17, transport(53, 53)),
    ETHER + bytes.fromhex("88a8 0003 8100 0007") + ip4(6, transport(1, 443, bytes(20)), "192.0.2.7"),
    ETHER + ip4(17, GTP),
    ETHER + ip4(17, VXLAN),
    ETHER + ip4(17, transport(1000, 53), fragment=0x2000),
    ETHER + ip4(17, transport(1000, 53), fragment=0x0005),
    ETHER + ip4(17, transport(1000, 53), options=bytes(8)),
    ETHER + ip6(17, transport(1000, 53)),
    ETHER + ip6(6, transport(443, 9, bytes(20)), source=bytes.fromhex("20010db8") + bytes(12)),
    ETHER + ip6(44, bytes(8) + transport(1000, 53)),
    ETHER + bytes.fromhex("0806 0001 0800 0604 0001") + bytes(20),
    ETHER + bytes.fromhex("88b5") + bytes(46),
    ETHER + ip4(17, b"")[:-12],
    ETHER + ip4(47, bytes(20)),
    ETHER,
    ETHER + b"\x08",
    b"",
    ETHER + bytes.fromhex("8100"),
    ETHER + bytes.fromhex("8100 0001 0800"),
]
MATCHES = [
    "any", "udp/53", "tcp", "udp", "vlan/7", "vlan/3&tcp/443", "from/10.0.0.0/8", "to/10.0.0.2", "from/2001:db8::/32",
    "ether/0x88b5", "arp", "ip", "ip6", "sport/1000-65535", "teid/42", "teid/43", "vni/7", "vni/8", "proto/47",
    "ip6&udp/53", "from/0.0.0.0/0", "to/::/0", "sport/0-65535", "ether/0x88b5&udp", "proto/44", "udp&sport/2152",
    "ip&tcp",
]  # fmt: skip


class Bench:
    """A port with rules, and a worker that applies them."""

    def __init__(self, worker, spec: str = "null:", workers: int = 1) -> None:
        self.port, self.worker = port(spec), worker
        self.port.rules.open(workers, workers)
        self.state = self.port.rules.address

    def run(self, *frames: bytes, **meta: int) -> list[int]:
        """Descriptors that stay."""
        made = [self.worker.make(frame, **meta) for frame in frames]
        return self.worker.stage(rules_path.apply_rules, self.state, made)

    def takes(self, frame: bytes) -> bool:
        kept = self.run(frame)
        self.worker.free(kept)
        return bool(kept)


@pytest.fixture
def bench(worker):
    made = Bench(worker)
    yield made
    made.port.rules.close()


@pytest.mark.parametrize("text", MATCHES)
def test_every_match_is_what_the_reference_says(bench, text):
    bench.port.rules.add(text, TAKE)
    bench.port.rules.otherwise = DROP
    wanted = parse_match(text)
    found = [bench.takes(frame) for frame in FRAMES]
    assert found == [matches(wanted, frame) for frame in FRAMES]
    if text not in ("teid/43", "vni/8", "ether/0x88b5&udp"):
        assert any(found)


@settings(
    max_examples=300 if COMPILED else 60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_mangled_frames_too(bench, data):
    frame = bytearray(data.draw(st.sampled_from(FRAMES)))
    for _ in range(data.draw(st.integers(0, 4))):
        if frame:
            frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(frame[: data.draw(st.integers(0, len(frame)))])
    text = "&".join(data.draw(st.lists(st.sampled_from(MATCHES), min_size=1, max_size=2, unique=True)))
    try:
        wanted = parse_match(text)
    except PortError:
        return
    bench.port.rules.clear()
    bench.port.rules.add(wanted, TAKE)
    bench.port.rules.otherwise = DROP
    assert bench.takes(cut) == matches(wanted, cut)


def test_order_marks_counts_and_drops(bench, worker):
    rules = bench.port.rules
    counted = rules.add("udp", COUNT)
    marked = rules.add("udp/53", mark(0xFFFF_FFFF))
    remarked = rules.add("vlan/7", mark(9))
    taken = rules.add("from/10.0.0.0/8&udp", TAKE)
    dropped = rules.add("ip|arp", DROP)
    kept = bench.run(*FRAMES[:6], FRAMES[12], FRAMES[13])
    assert [worker.header(desc).mark if desc & META else None for desc in kept] == [0xFFFF_FFFF, 9, None, None, None]
    assert worker.packet(kept[-1]) == FRAMES[13]
    worker.free(kept)
    counts = {rule.number: count.packets for rule, count in rules.counts().items()}
    assert counts == {1: 4, 2: 2, 3: 1, 4: 4, 5: 3}
    assert rules.counts()[dropped].bytes == sum(len(FRAMES[i]) for i in (1, 3, 12))
    assert rules.dropped == 3
    rules.remove(dropped)
    assert [rule.number for rule in rules] == [counted.number, marked.number, remarked.number, taken.number]
    kept = bench.run(FRAMES[1])
    assert len(kept) == 1
    worker.free(kept)
    rules.add("tcp", DROP, before=counted)
    assert str(rules).startswith("drop:tcp;count:udp;mark:4294967295:udp&dport/53;")
    assert bench.run(FRAMES[1]) == []
    assert rules.counts()[counted].packets == 4


def test_a_stripped_tag_counts_as_a_tag(bench, worker):
    bench.port.rules.add("vlan/5", TAKE)
    bench.port.rules.otherwise = DROP
    kept = bench.run(FRAMES[0], vlan_tci=0x6005)
    assert len(kept) == 1
    worker.free(kept)
    assert bench.run(FRAMES[0], vlan_tci=0x6006) == []


def test_the_queue_a_rule_chose(worker):
    made = Bench(worker, workers=3)
    made.port.rules.add("tcp", to_queue(2))
    made.port.rules.add("arp", DROP)
    kept = made.run(FRAMES[0], FRAMES[12], FRAMES[1])
    targets = rules_path.targets_of(made.state)
    assert [load64(targets + 8 * i) for i in range(len(kept))] == [-1, 2]
    worker.free(kept)
    with pytest.raises(PortError, match="rule queue:3:udp leads to queue 3, and there are 3: run more workers"):
        made.port.rules.add("udp", to_queue(3))
    assert len(made.port.rules) == 2
    made.port.rules.close()


def test_what_nobody_here_can_do(bench):
    rules = bench.port.rules
    with pytest.raises(PortError, match="rule kernel:udp&dport/53 cannot be carried out"):
        rules.add("udp/53", KERNEL)
    with pytest.raises(PortError, match="else:kernel cannot be carried out"):
        rules.otherwise = KERNEL
    with pytest.raises(PortError, match="can be taken, dropped or left"):
        rules.otherwise = mark(1)
    with pytest.raises(PortError, match="there is no 'upd'; did you mean 'udp'"):
        rules.add("upd/53", DROP)
    first = rules.add("any", DROP)
    rules.remove(first)
    with pytest.raises(PortError, match="has no rule 1"):
        rules.remove(first)
    for index in range(rules_path.MAX_RULES // 2):
        rules.add("udp|tcp", Action(rules_path.COUNT)) if index < 3 else None
    with pytest.raises(PortError, match="rules are too many"):
        rules.add("|".join(["udp"] * rules_path.MAX_RULES), DROP)
    assert len(rules) == 3
    for value in (-1, 1 << 32):
        with pytest.raises(PortError, match="mark"):
            mark(value)
    with pytest.raises(PortError, match="queue"):
        to_queue(-1)


def test_counters_of_many_rules_stay_with_their_rule(bench):
    rules, randomly = bench.port.rules, random.Random(5)
    mine = [rules.add(f"udp/{1000 + i}", COUNT) for i in range(20)]
    sent = dict.fromkeys(mine, 0)
    for _ in range(60):
        rule = randomly.choice(list(sent))
        index = mine.index(rule)
        bench.worker.free(bench.run(ETHER + ip4(17, transport(1, 1000 + index))))
        sent[rule] += 1
        if randomly.random() < 0.2 and len(sent) > 2:
            gone = randomly.choice(list(sent))
            rules.remove(gone)
            del sent[gone]
            mine.append(rules.add(f"udp/{1000 + len(mine)}", COUNT))
            sent[mine[-1]] = 0
    assert {rule: count.packets for rule, count in rules.counts().items()} == sent


class Device(type(port("null:"))):  # type: ignore[misc]
    """A port whose device carries out rules that drop."""

    installed = ()

    def install(self, rules, otherwise):
        if any(rule.action is not DROP for rule in rules):
            return False
        self.installed = (rules, otherwise)
        return True

    def rule_counts(self):
        return {rule.number: RuleCount(7, 700) for rule in self.installed[0]}


def test_a_device_that_can_does_it():
    made = Device("null:", port("null:").options)
    made.rules.add("udp", DROP)
    made.rules.open(2, 2)
    rules = made.rules
    assert rules.by_device
    assert not rules.in_software
    assert [count.packets for count in rules.counts().values()] == [7]
    taken = rules.add("tcp", mark(1))
    assert rules.in_software
    assert made.installed == ((), TAKE)
    rules.remove(taken)
    assert rules.by_device
    rules.close()
    assert [count.packets for count in rules.counts().values()] == [7]


def test_text():
    rules, otherwise = parse_rules("x", "drop:tcp/23; queue:1:udp;mark:0x10:arp|icmp;count:any;else:drop")
    assert rules == [("tcp/23", DROP), ("udp", to_queue(1)), ("arp|icmp", mark(16)), ("any", COUNT)]
    assert otherwise is DROP
    made = ws.port("null:rules=drop:tcp/23;else:take,count=3")
    assert [str(rule) for rule in made.rules] == ["drop:tcp&dport/23"]
    assert made.options.count == 3
    assert str(ws.port("null:match=udp/53|arp").rules) == "take:udp&dport/53|arp;else:drop"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rules=drip:udp", "rule 'drip:udp': no action is called 'drip'; did you mean 'drop'?"),
        ("rules=drop:upd", "there is no 'upd'; did you mean 'udp'?"),
        ("rules=queue:x:udp", "action 'queue:x' needs a number"),
        ("rules=mark:-1:udp", "a mark of -1 is not possible"),
        ("match=udp/99999", "udp/99999"),
        ("match=udp,rules=drop:tcp", "give one of them"),
        ("mtach=udp", "has no option 'mtach': did you mean 'match'?"),
    ],
)
def test_bad_text(text, said):
    with pytest.raises(PortError, match="null:") as raised:
        ws.port(f"null:{text}")
    assert said in str(raised.value)

"""Rules carried out by the XDP program: the kernel runs it on frames, and says what the reference says."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from netns import LEFT_ADDRESS, cable, eventually, hand, needs_namespaces, spaces
from test_rules import ETHER, FRAMES, MATCHES, ip4, transport

from wirespeed.errors import PortError
from wirespeed.ports.af_xdp import bpf
from wirespeed.ports.af_xdp.rules import expressible, make_rules
from wirespeed.ports.match import matches, parse_match, parse_matches
from wirespeed.ports.rules.rules import COUNT, DROP, KERNEL, TAKE, Rule, mark

pytestmark = needs_namespaces

_DROP, _PASS = 1, 2  # what the program returns; a frame for a socket that is not there is passed, too
LONG = [frame for frame in FRAMES if len(frame) >= 14]


class Program:
    """Rules in the kernel, without a device."""

    def __init__(self, rules, otherwise):
        self.slots = {rule.number: rule.number * 3 for rule in rules}
        self.sockets = bpf.create_map(bpf.XSKMAP, 4, 4, 1, "t_sockets")
        self.passed = bpf.create_map(bpf.PER_CPU_ARRAY, 4, 8, 1, "t_passed")
        self.counters = bpf.create_map(bpf.PER_CPU_ARRAY, 4, 16, 256, "t_rules")
        code = make_rules(rules, otherwise, self.slots, self.sockets, self.passed, self.counters)
        self.fd = bpf.load_xdp(code, "test")

    def drops(self, frame):
        return bpf.run_xdp(self.fd, frame)[0] == _DROP

    def count(self, rule):
        words = bpf.lookup(self.counters, self.slots[rule.number], 16 * bpf.possible_cpus())
        numbers = [int.from_bytes(words[i : i + 8], "little") for i in range(0, len(words), 8)]
        return sum(numbers[::2]), sum(numbers[1::2])

    def close(self):
        with bpf.closing(self.fd, self.counters, self.passed, self.sockets):
            pass


@pytest.fixture
def program():
    made = []

    def load(*rules, otherwise=TAKE):
        made.append(
            Program([Rule(i, parse_matches(text), action) for i, (text, action) in enumerate(rules)], otherwise)
        )
        return made[-1]

    yield load
    for each in made:
        each.close()


@pytest.mark.parametrize("text", MATCHES)
@pytest.mark.parametrize("otherwise", [TAKE, KERNEL])
def test_every_match_is_what_the_reference_says(program, text, otherwise):
    made = program((text, DROP), otherwise=otherwise)
    wanted = parse_match(text)
    assert [made.drops(frame) for frame in LONG] == [matches(wanted, frame) for frame in LONG]


def test_order_and_counts(program):
    rules = [
        ("udp", COUNT),
        ("udp/53", KERNEL),
        ("from/10.0.0.0/8&udp", TAKE),
        ("any", COUNT),
        ("ip|arp", DROP),
        ("any", TAKE),
    ]
    made = program(*rules)
    frames = [*LONG[:6], FRAMES[12], FRAMES[13]]
    assert [made.drops(frame) for frame in frames] == [False, True, False, True, False, False, True, False]
    numbered = [Rule(i, parse_matches(text), action) for i, (text, action) in enumerate(rules)]
    assert [made.count(rule)[0] for rule in numbered] == [4, 2, 2, 4, 3, 1]
    assert made.count(numbered[4])[1] == sum(len(frame) for frame in (frames[1], frames[3], frames[6]))


def test_many_rules(program):
    made = program(*[(f"udp/{1000 + i}&from/10.{i}.0.0/16", DROP) for i in range(200)], otherwise=KERNEL)
    assert made.drops(ETHER + ip4(17, transport(5, 1199), "10.199.0.1"))
    assert not made.drops(ETHER + ip4(17, transport(5, 1199), "10.198.0.1"))


def test_what_a_program_cannot_say():
    rule = Rule(1, parse_matches("udp"), mark(7))
    assert not expressible([rule], TAKE)
    assert expressible([], KERNEL)


def test_a_port_leaves_to_the_kernel_what_its_rules_say_and_changes_live():
    with spaces("l", "m") as (left, middle):
        cable(left, middle, "left", LEFT_ADDRESS)
        with hand(f"af_xdp:left,netns={middle.name}") as port:
            rules = port.port.rules
            rules.open(1, 1)
            wire, kernel = left.raw(), middle.raw("left")
            taken = rules.add("ether/0x88b5", TAKE)
            rules.otherwise = KERNEL
            assert rules.by_device
            port.port.begin()

            def arrives(ethertype):
                frame = bytes.fromhex("020000000002 020000000001") + ethertype + bytes(46)
                wire.send(frame)
                return lambda: [data for data, _ in port.receive() if data == frame]

            eventually(arrives(b"\x88\xb5"), "what a rule takes to come to us")
            assert rules.counts()[taken].packets == 1
            arrives(b"\x88\xb6")
            kernel.recv(2048)  # it went there
            rules.otherwise = TAKE
            eventually(arrives(b"\x88\xb6"), "what no rule ends to come to us now")
            with pytest.raises(PortError, match="leave mark and queue out"):
                rules.add("udp", mark(1)) and setattr(rules, "otherwise", KERNEL)
            for each in (wire, kernel):
                each.close()
            rules.close()

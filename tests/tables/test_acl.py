"""Acl4 and Acl6 against a linear scan: literals, hypothesis, large sets, hostile sets, readers during replacement."""

import multiprocessing
import os
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wirespeed.bench.acl_rules import columns, generate, trace
from wirespeed.errors import ArenaError, TableError
from wirespeed.jit import COMPILED, kernel, load64, load_acquire, pause, store64, store_release
from wirespeed.mem.region import Region
from wirespeed.sync.rcu import Grace, format_slot, offline, online, quiescent
from wirespeed.tables.acl import Acl4, Acl6
from wirespeed.tables.acl_memory import Acl4View, Acl6View
from wirespeed.tables.acl_rule import RULE, Rule, prefix_masks, rule_array

FAMILIES = {32: Acl4, 128: Acl6}


@kernel
def compiled4(acl, src, dst, protocol, sport, dport):
    return Acl4View(acl).classify(src, dst, protocol, sport, dport)


@kernel
def compiled6(acl, src_high, src_low, dst_high, dst_low, protocol, sport, dport):
    return Acl6View(acl).match((src_high, src_low), (dst_high, dst_low), protocol, sport, dport)


def scan(rules, packets, bits):
    """The model: the number of the first rule of highest priority that matches, or -1, by comparing all."""
    order = np.argsort(-rules["priority"].astype(np.int64), kind="stable")
    rules = rules[order]
    src, dst, protocol, sport, dport = packets
    found = np.full(len(protocol), -1)
    masks = {end: prefix_masks(rules[f"{end}_length"], bits) for end in ("src", "dst")}
    for rank in range(len(rules) - 1, -1, -1):
        rule = rules[rank]
        fits = (sport >= rule["sport_low"]) & (sport <= rule["sport_high"])
        fits &= (dport >= rule["dport_low"]) & (dport <= rule["dport_high"])
        fits &= ((protocol ^ rule["protocol"]) & rule["protocol_mask"]) == 0
        for end, ends in (("src", src), ("dst", dst)):
            high, low = (mask[rank] for mask in masks[end])
            if bits == 32:
                fits &= ((ends.astype(np.uint64) ^ rule[f"{end}_low"]) & low) == 0
            else:
                fits &= ((ends[:, 0] ^ rule[f"{end}_high"]) & high) == 0
                fits &= ((ends[:, 1] ^ rule[f"{end}_low"]) & low) == 0
        found[fits] = order[rank]
    return found


def lines_array(lines):
    """Generated rules as an array; the action is 3 * number + 5."""
    low = (1 << 64) - 1
    rows = [
        (a >> 64, a & low, b >> 64, b & low, la, lb, kind, mask, *sports, *dports, 3 * number + 5, 0, 0)
        for number, (a, la, b, lb, sports, dports, kind, mask) in enumerate(lines)
    ]
    return np.array(rows, dtype=RULE)


def corners(rules, bits, seed=1):
    """Packets on the edges of rules: first and last address and port, and one beside."""
    chance = np.random.default_rng(seed)
    count = len(rules)
    ends = []
    for end in ("src", "dst"):
        sides = []
        for half, mask in zip(("high", "low"), prefix_masks(rules[f"{end}_length"], bits), strict=True):
            last = rules[f"{end}_{half}"] | (~mask if bits == 128 or half == "low" else np.uint64(0))
            pick = np.where(chance.random(count) < 0.5, last, rules[f"{end}_{half}"])
            sides.append(pick + (chance.integers(-1, 2, count) * (chance.random(count) < 0.2)).astype(np.uint64))
        ends.append(sides[1].astype(np.uint32) if bits == 32 else np.stack(sides, axis=1))
    ports = []
    for end in ("sport", "dport"):
        port = np.where(chance.random(count) < 0.5, rules[f"{end}_low"], rules[f"{end}_high"]).astype(np.int64)
        ports.append(((port + chance.integers(-1, 2, count)) & 0xFFFF).astype(np.uint16))
    kind = np.where(chance.random(count) < 0.8, rules["protocol"], 6).astype(np.uint8)
    return (*ends, kind, *ports)


def joined(*sets):
    return tuple(np.concatenate(column) for column in zip(*sets, strict=True))


def assert_is_a_scan(acl, rules, packets):
    wanted = scan(rules, packets, acl.BITS)
    assert (acl.match_many(*packets) == wanted).all()
    actions = np.where(wanted < 0, -1, rules["action"][wanted].astype(np.int64)) if len(rules) else wanted
    assert (acl.classify_many(*packets) == actions).all()
    for i in range(0, len(wanted), max(1, len(wanted) // 50)):
        kind, sport, dport = (int(column[i]) for column in packets[2:])
        if acl.BITS == 32:
            src, dst = int(packets[0][i]), int(packets[1][i])
            assert compiled4(acl.address, src, dst, kind, sport, dport) == actions[i]
        else:
            src, dst = (tuple(int(half) for half in packets[end].view(np.int64)[i]) for end in (0, 1))
            assert compiled6(acl.address, *src, *dst, kind, sport, dport) == wanted[i]
        assert acl.match(src, dst, kind, sport, dport) == wanted[i]


def test_first_rule_that_matches_counts():
    with Acl4(rules=8) as acl:
        assert (len(acl), acl.classify("1.2.3.4", "5.6.7.8", 6, 1, 2)) == (0, -1)
        acl.replace(
            [
                "deny tcp any host 192.0.2.1 eq 22",
                Rule(dst="192.0.2.0/24", dport=(80, 443), protocol="tcp", action=7),
                "permit udp 10.0.0.0/8 any",
                Rule(protocol=(0x30, 0xF0), action=2**32 - 2),
            ]
        )
        wanted = [
            (("9.9.9.9", "192.0.2.1", "tcp", 1, 22), 0, 0),
            (("9.9.9.9", "192.0.2.2", "tcp", 1, 22), -1, -1),
            (("9.9.9.9", "192.0.2.1", "tcp", 1, 80), 7, 1),
            (("9.9.9.9", "192.0.2.255", "tcp", 1, 443), 7, 1),
            (("9.9.9.9", "192.0.2.255", "tcp", 1, 444), -1, -1),
            (("9.9.9.9", "192.0.2.255", "tcp", 1, 79), -1, -1),
            (("10.255.255.255", "1.1.1.1", 17), 1, 2),
            (("11.0.0.0", "1.1.1.1", 17), -1, -1),
            (("11.0.0.0", "1.1.1.1", 0x3F), 2**32 - 2, 3),
        ]
        for packet, action, number in wanted:
            assert (acl.classify(*packet), acl.match(*packet)) == (action, number)
        assert [str(rule) for rule in acl] == [
            "deny tcp any 192.0.2.1/32 eq 22", "7 tcp any 192.0.2.0/24 range 80 443", "permit udp 10.0.0.0/8 any",
            f"{2**32 - 2} 48/0xf0 any any",
        ]  # fmt: skip
        acl.clear()
        assert acl.classify(*wanted[0][0]) == -1


def test_priorities_and_ties():
    with Acl4(rules=8) as acl:
        acl.replace(
            [Rule(action=1), Rule(action=2, priority=5), Rule(action=3, priority=5), Rule(action=4, priority=-1)]
        )
        assert (acl.classify(0, 0, 6), acl.match(0, 0, 6)) == (2, 1)
        assert [rule.action for rule in acl] == [1, 2, 3, 4]
        assert (acl.array()["priority"] == [0, 5, 5, -1]).all()


def test_ipv6_addresses():
    with Acl6(rules=4) as acl:
        acl.replace(
            ["deny tcp 2001:db8:0:1::/64 any", Rule(src="2001:db8::/32", dst="::1", action=9), "permit ip any any"]
        )
        assert acl.classify("2001:db8:0:1::5", "::2", "tcp", 1, 1) == 0
        assert acl.classify("2001:db8:0:1:ffff:ffff:ffff:ffff", "::2", "tcp", 1, 1) == 0
        assert acl.classify("2001:db8:0:2::", "::1", "tcp", 1, 1) == 9
        assert acl.classify((0x20010DB8 << 32, 1), (0, 1), 17, 1, 1) == 9
        assert acl.classify(1, 2, 17, 1, 1) == 1


CLOSE = st.sampled_from([0, 1, 53, 79, 80, 81, 1023, 1024, 32768, 65534, 65535])
RANGE = st.none() | st.tuples(CLOSE, CLOSE).map(lambda pair: (min(pair), max(pair)))
KIND = st.sampled_from([None, "tcp", "udp", 0, 255, (0x10, 0xF0), (0, 0)])


def near(bits):
    """Addresses that share most of their bits."""
    spots = [0, 1, bits - 8, bits - 1]
    return st.lists(st.sampled_from(spots), max_size=3).map(
        lambda at: (1 << (bits - 2)) | sum({1 << bit for bit in at})
    )


def prefixes(bits):
    lengths = st.sampled_from([0, 1, 2, 8, 9, bits // 2, bits - 7, bits - 1, bits])
    return st.tuples(near(bits), lengths).map(lambda pair: (pair[0] >> bits - pair[1] << bits - pair[1], pair[1]))


def rules_of(bits):
    return st.builds(
        Rule, src=prefixes(bits), dst=prefixes(bits), sport=RANGE, dport=RANGE, protocol=KIND,
        action=st.integers(0, 9), priority=st.sampled_from([0, 0, 0, 1, -1]),
    )  # fmt: skip


@pytest.mark.parametrize("bits", [32, 128])
def test_random_lists_are_scans(bits):
    acl = FAMILIES[bits](rules=128)

    @settings(max_examples=60 if COMPILED else 6)
    @given(st.lists(rules_of(bits), max_size=120 if COMPILED else 30), st.integers(0, 99))
    def check(rules, seed):
        array = rule_array(rules, bits)
        acl.replace(array)
        chance = np.random.default_rng(seed)
        packets = corners(array, bits, seed) if len(array) else ()
        spots = [1 << bits - 2, 1 << bits - 1, (1 << bits - 2) + 1, (1 << bits) - 1, 0]
        size = 30
        ends = [[spots[i] for i in chance.integers(0, len(spots), size)] for _ in range(2)]
        any_ = columns([(a, b, int(p), int(q), int(k)) for a, b, p, q, k in zip(
            *ends, chance.integers(0, 65536, size), chance.choice([80, 1024], size), chance.choice([6, 17, 0x1F], size),
            strict=True)], bits)  # fmt: skip
        assert_is_a_scan(acl, array, joined(packets, any_) if len(array) else any_)

    with acl:
        check()


@pytest.mark.parametrize("bits", [32, 128])
@pytest.mark.parametrize("kind", ["acl", "fw", "ipc"])
def test_large_sets_are_scans(kind, bits):
    count, packets = (10_000, 100_000) if COMPILED and bits == 32 else (2_000, 20_000) if COMPILED else (60, 100)
    lines = generate(kind, count, seed=3, bits=bits)
    rules = lines_array(lines)
    with FAMILIES[bits](rules=count) as acl:
        acl.replace(rules)
        wanted = scan_compiled(rules, all_ := packets_for(lines, rules, packets, bits), bits)
        assert (acl.match_many(*all_) == wanted).all()
        few = tuple(column[:64] for column in all_)
        assert_is_a_scan(acl, rules, few)
        assert acl.stats().longest <= count
        assert (acl.array() == rules).all()


def packets_for(lines, rules, count, bits):
    """One of ten inside a rule or anywhere, the others at the corners of the rules."""
    few = columns(trace(lines, count // 10, seed=5, bits=bits), bits)
    return joined(few, *(corners(rules, bits, seed) for seed in range((count - count // 10) // len(rules))))


@kernel
def scan_kernel(values, masks, ports, words, points, kinds, found):
    """The model again, compiled: for a thousand million comparisons."""
    for i in range(len(found)):
        for rule in range(len(values)):
            fits = True
            for word in range(values.shape[1]):
                if (words[i, word] ^ values[rule, word]) & masks[rule, word] != 0:
                    fits = False
                    break
            if fits and (kinds[i] ^ ports[rule, 4]) & ports[rule, 5] == 0:
                if (
                    ports[rule, 0] <= points[i, 0] <= ports[rule, 1]
                    and ports[rule, 2] <= points[i, 1] <= ports[rule, 3]
                ):
                    found[i] = rule
                    break


def scan_compiled(rules, packets, bits):
    values, masks = [], []
    for end in ("src", "dst"):
        values += [rules[f"{end}_high"], rules[f"{end}_low"]]
        masks += prefix_masks(rules[f"{end}_length"], bits)
    names = ("sport_low", "sport_high", "dport_low", "dport_high", "protocol", "protocol_mask")
    ports = np.stack([rules[name].astype(np.int64) for name in names], axis=1)
    src, dst, kinds, sport, dport = packets
    if bits == 32:
        src, dst = (np.stack([np.zeros(len(side), np.uint64), side.astype(np.uint64)], axis=1) for side in (src, dst))
    words = np.ascontiguousarray(np.concatenate([src, dst], axis=1))
    points = np.stack([sport.astype(np.int64), dport.astype(np.int64)], axis=1)
    found = np.full(len(kinds), -1)
    scan_kernel(np.stack(values, axis=1), np.stack(masks, axis=1), ports, words, points, kinds.astype(np.int64), found)
    return found


# Hostile sets -------------------------------------------------------------------------------------------------


def hostile(kind, count):
    """Sets that nothing separates: nested ranges, crossing ranges, wildcards crossing prefixes, all the same."""
    rules = np.zeros(count, dtype=RULE)
    rules["sport_high"] = rules["dport_high"] = 65535
    i = np.arange(count)
    rules["action"] = i
    if kind == "nested":
        rules["sport_low"], rules["sport_high"] = i % 32768, 65535 - i % 32768
        rules["dport_low"], rules["dport_high"] = (i * 7) % 32768, 65535 - (i * 11) % 32768
        rules[:] = rules[::-1]
    elif kind == "crossing":
        half = i < count // 2
        rules["sport_low"] = rules["sport_high"] = np.where(half, i * 13 % 65536, 0)
        rules["sport_high"][~half] = 65535
        rules["dport_low"] = rules["dport_high"] = np.where(half, 0, i * 17 % 65536)
        rules["dport_high"][half] = 65535
    elif kind == "grid":
        left = i % 2 == 0
        rules["src_low"] = np.where(left, i.astype(np.uint64) * 40503 & 0xFFFF_FFFF, 0)
        rules["dst_low"] = np.where(left, 0, i.astype(np.uint64) * 2654435761 & 0xFFFF_FFFF)
        rules["src_length"], rules["dst_length"] = np.where(left, 32, 0), np.where(left, 0, 32)
    return rules


@pytest.mark.parametrize("kind", ["nested", "crossing", "grid", "same"])
@pytest.mark.parametrize("room", [None, "least"])
def test_hostile_sets_stay_in_their_memory(kind, room):
    count = 3000 if COMPILED else 40
    rules = hostile(kind, count)
    least = 2 * (32 * (count + 16) + 56 * count + 8 * (count + 2) + 1024)
    with Acl4(rules=count, memory_bytes=room and least) as acl:
        acl.replace(rules)
        stats = acl.stats()
        assert stats.used_bytes <= stats.bound_bytes
        assert stats.memory_bytes < 2 * count * 1024 + (4 << 20)
        packets = corners(rules, 32)
        assert (acl.match_many(*packets) == scan_compiled(rules, packets, 32)).all()


def test_too_many_rules_and_too_little_memory_are_refused():
    with Acl4(rules=2, name="acl-small") as acl:
        acl.replace(["permit ip any any"])
        with pytest.raises(TableError, match="acl-small: 3 rules do not fit into 2: create it with rules=3"):
            acl.replace(["deny ip any any"] * 3)
        with pytest.raises(TableError, match="rule 1: protocol 'x'"):
            acl.replace(["deny ip any any", Rule(protocol="x")])
        assert acl.classify(0, 0, 6) == 1
        assert acl.stats().generation == 1
    with pytest.raises(TableError, match="100000 bytes are too few for 10000 rules: two sets need"):
        Acl4(rules=10_000, memory_bytes=100_000)
    for count in (0, (1 << 20) + 1):
        with pytest.raises(TableError, match="use 1 to 1048576"):
            Acl4(rules=count)


@pytest.mark.parametrize(
    ("packet", "message"),
    [
        (("1.2.3.4", "x", 6, 0, 0), "address 'x' is not an IPv4"),
        (("1.2.3.4", "1.2.3.0/24", 6, 0, 0), "is a prefix"),
        (("1.2.3.4", 1 << 32, 6, 0, 0), "address 0x100000000 is out of range"),
        (("1.2.3.4", 0, 256, 0, 0), "protocol 256 is out of range"),
        (("1.2.3.4", 0, "tpc", 0, 0), "protocol 'tpc' is not known"),
        (("1.2.3.4", 0, 6, 65536, 0), "source port 65536 is out of range"),
    ],
)
def test_bad_packets_are_refused(packet, message):
    with Acl4(rules=1) as acl, pytest.raises(TableError, match=message):
        acl.classify(*packet)


def test_bad_columns_are_refused():
    with Acl4(rules=1) as acl, Acl6(rules=1) as six:
        acl.replace(["5 ip any any"])
        ones = np.ones(3, dtype=np.int64)
        assert acl.classify_many(ones, ones, 6, 1, ones).tolist() == [5, 5, 5]
        assert acl.classify_many([], [], [], [], []).tolist() == []
        for packet, message in [
            ((ones, ones[:2], 6, 0, 0), r"dst has shape \(2,\)"),
            ((ones, ones * 0.5, 6, 0, 0), "dst has dtype float64"),
            ((ones, ones << 32, 6, 0, 0), "dst 4294967296 is out of range"),
            ((ones, ones, 256, 0, 0), "protocol 256 is out of range"),
            ((ones, ones, 6, -ones, 0), "sport -1 is out of range"),
        ]:
            with pytest.raises(TableError, match=message):
                acl.classify_many(*packet)
        with pytest.raises(TableError, match=r"src has shape \(3,\), and 3 packets need \(3, 2\)"):
            six.classify_many(ones, ones, 6, 0, 0)


# Replacement ----------------------------------------------------------------------------------------------------

TWO_SETS = [
    [Rule(src=(i << 24, 8), action=set_ * 1000 + i) for i in range(64)] + [Rule(action=set_ * 1000 + 999)]
    for set_ in (1, 2)
]


@kernel
def read_on(acl, slot, mailbox, rounds):
    """A worker: classify until told to stop; [mailbox + 8] counts answers, [mailbox + 16] wrong ones."""
    view = Acl4View(acl)
    online(slot)
    while load_acquire(mailbox) == 0:
        for i in range(rounds):
            wanted = i & 127
            action = view.classify(wanted << 24, 5, 6, 7, 8)
            low = action % 1000
            right = wanted if wanted < 64 else 999
            if low != right or action < 1000:
                store64(mailbox + 16, load64(mailbox + 16) + 1)
        store_release(mailbox + 8, load64(mailbox + 8) + rounds)
        quiescent(slot)
        pause()
    offline(slot)


def test_workers_see_the_old_or_the_new_set():
    with Region(4096, "acl-test", huge=False) as region, Acl4(rules=65) as acl:
        slot, mailbox = region.address, region.address + 1024
        format_slot(slot)
        acl.replace(TWO_SETS[0])
        acl.reclaimer = grace = Grace([slot])
        worker = threading.Thread(target=read_on, args=(acl.address, slot, mailbox, 256 if COMPILED else 2))
        worker.start()
        try:
            for turn in range(300 if COMPILED else 6):
                acl.replace(TWO_SETS[turn & 1])
            while load_acquire(mailbox + 8) == 0:
                pass
        finally:
            store_release(mailbox, 1)
            worker.join()
        assert load64(mailbox + 16) == 0
        grace.synchronize()
        assert grace.pending == 0


@pytest.mark.skipif(not COMPILED, reason="what interpreted code may touch is listed without a lock")
def test_python_threads_may_classify_meanwhile():
    src = np.arange(20_000 if COMPILED else 40, dtype=np.uint32) << 24
    wrong, done = [], threading.Event()
    with Acl4(rules=65) as acl:
        acl.replace(TWO_SETS[0])

        def read():
            while not done.is_set():
                sets = set((acl.classify_many(src, 0, 6, 0, 0) // 1000).tolist())
                if len(sets) != 1:
                    wrong.append(sets)

        readers = [threading.Thread(target=read) for _ in range(2)]
        for reader in readers:
            reader.start()
        for turn in range(200 if COMPILED else 6):
            acl.replace(TWO_SETS[turn & 1])
        done.set()
        for reader in readers:
            reader.join()
    assert not wrong


def test_thousand_replacements_take_no_more_memory(open_files):
    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    with Acl4(rules=512) as acl:
        arrays = [lines_array(generate("fw", 60 if COMPILED else 10, seed=seed)) for seed in (1, 2)]
        for turn in range(20):
            acl.replace(arrays[turn & 1])
        files, before, used = open_files(), resident(), acl.stats().used_bytes
        for turn in range(1000 if COMPILED else 4):
            acl.replace(arrays[turn & 1])
        assert acl.stats().used_bytes == used
        assert open_files() == files
        assert resident() - before < 8 << 20


# Another process ------------------------------------------------------------------------------------------------


def _other(name, pipe):
    with Acl4.attach(name) as acl:
        pipe.send((len(acl), acl.classify("5.0.0.1", 0, 6), [str(rule) for rule in acl][:2]))
        pipe.recv()
        many = acl.classify_many(np.arange(3, dtype=np.uint32) << 24, 0, 6, 0, 0).tolist()
        try:
            acl.replace([])
        except TableError as error:
            refused = str(error)
        pipe.send((many, acl.stats().rules, acl.stats().generation, refused, acl.alive, acl.refresh()))


def test_another_process_attaches():
    name = f"acl-attach-{os.getpid()}"
    with Acl4(rules=65, name=name) as acl:
        acl.replace(TWO_SETS[0])
        here, there = multiprocessing.Pipe()
        other = multiprocessing.get_context("spawn").Process(target=_other, args=(name, there))
        other.start()
        assert here.recv() == (65, 1005, ["1000 ip 0.0.0.0/8 any", "1001 ip 1.0.0.0/8 any"])
        acl.replace(TWO_SETS[1])
        here.send("go on")
        many, rules, generation, refused, alive, another = here.recv()
        other.join()
    assert (many, rules, generation, alive, another) == ([2000, 2001, 2002], 65, 2, True, False)
    assert "attached read-only" in refused
    with pytest.raises(ArenaError):
        Acl4.attach(name)

"""Rules as text, objects, arrays and ClassBench lines; what is wrong with a rule is said with its number."""

import ipaddress

import numpy as np
import pytest

from wirespeed.errors import TableError
from wirespeed.tables.acl_rule import RULE, Rule, load_rules, prefix_masks, rule_array, rule_of


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("permit ip any any", Rule(action=1, protocol="ip")),
        ("deny tcp any host 192.0.2.1 eq 22", Rule(None, "192.0.2.1", None, (22, 22), "tcp", 0)),
        ("7 udp 10.0.0.0/8 gt 1023 any lt 53", Rule("10.0.0.0/8", None, (1024, 65535), (0, 52), "udp", 7)),
        ("permit 89 any range 1 2 any", Rule(None, None, (1, 2), None, 89, 1)),
    ],
)
def test_text_is_a_rule(text, rule):
    assert Rule.parse(text) == rule
    assert Rule.parse(str(rule)) == Rule.parse(str(Rule.parse(text)))
    assert rule_array([text], 32) == rule_array([rule], 32)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("permit tcp any", "too short"),
        ("allow tcp any any", "action 'allow'"),
        ("permit tpc any any", "protocol 'tpc' is not known"),
        ("permit tcp any any eq", "destination port is missing"),
        ("permit tcp any any eq http", "destination port 'http' is not a number"),
        ("permit tcp any any eq 80 log", "'log' comes after the end"),
        ("permit tcp any host", "the destination is missing"),
        ("permit tcp 10.0.0.1/8 any", r"source '10.0.0.1/8' has host bits set: did you mean 10.0.0.0/8"),
        ("permit tcp any 10.0.0.0/33", "destination .* has length 33: it must be 0 to 32"),
        ("permit tcp any 10.0.0.0/x", "has no prefix length"),
        ("permit tcp any 2001:db8::/32", "is not an IPv4 prefix"),
        (Rule(src=ipaddress.ip_network("2001:db8::/32")), "is not an IPv4 prefix"),
        (Rule(src=ipaddress.ip_address("2001:db8::")), "is not an IPv4 address"),
        (Rule(src=(1 << 32, 32)), "source address 0x100000000 is out of range"),
        (Rule(src=4.5), "source 4.5 is no prefix"),
        (Rule(sport=(2, 1)), "source port range 2 to 1 is reversed"),
        (Rule(sport=(2, 1, 3)), "is no range"),
        (Rule(dport=65536), "destination port 65536 is out of range"),
        (Rule(dport="80"), "cannot be interpreted as an integer"),
        (Rule(protocol=256), "protocol 256 with mask 255 is out of range"),
        (Rule(protocol=(3, 1)), "protocol 0x3 has bits outside its mask 0x1"),
        (Rule(action=-1), "action -1 is not 0 to"),
        (Rule(action=2**32 - 1), "action 4294967295 is not 0 to"),
        (Rule(priority=2**31), "priority 2147483648"),
        (5, "5 is no rule"),
    ],
)
def test_bad_rule_is_named(rule, message):
    with pytest.raises(TableError, match=f"^rule 1: .*{message}"):
        rule_array([Rule(), rule], 32)


def test_array_is_checked_like_rules():
    good = rule_array(["permit tcp 10.0.0.0/8 any eq 80", Rule(protocol=(16, 0xF0))], 32)
    assert rule_array(good, 32) is good
    assert [str(rule_of(record, 32)) for record in good] == [
        "permit tcp 10.0.0.0/8 any eq 80",
        "permit 16/0xf0 any any",
    ]
    for field, value, message in [
        ("src_low", 0x0A000001, "host bits"),
        ("src_high", 1, "out of range"),
        ("dst_length", 33, "length 33"),
        ("sport_low", 9, "reversed"),
        ("protocol", 7, None),
        ("action", 2**32 - 1, "action"),
        ("protocol_mask", 1, "outside its mask"),
    ]:
        bad = good.copy()
        bad[field][0] = value
        if field == "sport_low":
            bad["sport_high"][0] = 8
        if message is None:
            rule_array(bad, 32)
            continue
        with pytest.raises(TableError, match=f"rule 0: .*{message}"):
            rule_array(bad, 32)
    with pytest.raises(TableError, match="dtype RULE"):
        rule_array(np.zeros(3, dtype=np.int64), 32)


def test_masks_of_all_lengths():
    for bits in (32, 128):
        high, low = prefix_masks(np.arange(bits + 1, dtype=np.uint8), bits)
        for length in range(bits + 1):
            mask = ((1 << bits) - 1) >> (bits - length) << (bits - length)
            assert (int(high[length]) << 64 | int(low[length])) == mask


def test_classbench_file(tmp_path):
    file = tmp_path / "rules"
    file.write_text(
        "# comment\n\n@10.0.0.0/8\t192.0.2.1/32\t0 : 65535\t80 : 80\t0x06/0xff\t0x0000/0x0200\n"
        "@0.0.0.0/0 0.0.0.0/0 1024 : 65535 0 : 65535 0x00/0x00\n"
    )
    rules = load_rules(file)
    assert [str(rule_of(record, 32)) for record in rules] == [
        "deny tcp 10.0.0.0/8 any range 0 65535 eq 80".replace("any range 0 65535", "192.0.2.1/32"),
        "permit ip any range 1024 65535 any",
    ]
    assert rules["action"].tolist() == [0, 1]
    assert rules.dtype == RULE
    for line, message in [
        ("10.0.0.0/8 1 2", "a rule is '@SRC/LENGTH"),
        ("@10.0.0.0/8 0.0.0.0/0 0 : x 0 : 1 6/255", "must be numbers"),
        ("@10.0.0.1/8 0.0.0.0/0 0 : 1 0 : 1 6/255", "source '10.0.0.1/8' has host bits"),
        ("@10.0.0.0/8 0.0.0.0/0 2 : 1 0 : 1 6/255", "source port range 2 to 1 is reversed"),
    ]:
        file.write_text(f"# one\n{line}\n")
        with pytest.raises(TableError, match=f"line 2: .*{message}"):
            load_rules(file)
    file.write_text("@2001:db8::/32 ::/0 0 : 65535 53 : 53 17/0xFF\n")
    assert str(rule_of(load_rules(file, 128)[0], 128)) == "deny udp 2001:db8::/32 any eq 53"

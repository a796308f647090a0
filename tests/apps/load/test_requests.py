"""What is asked: names from files and zones, and loads that cannot be."""

import ipaddress
from pathlib import Path

import dns.message
import dns.name
import pytest
from scapy.layers.dns import DNS

from wirespeed.apps.load import state
from wirespeed.apps.load.load import Load
from wirespeed.apps.load.requests import dns_requests, memcached_requests, udp_requests, zone_requests
from wirespeed.errors import ConfigError

HERE, THERE = ipaddress.ip_address("10.7.0.1"), ipaddress.ip_address("10.7.0.2")
THERE6 = ipaddress.ip_address("fd07::2")


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: udp_requests(7), lambda: udp_requests(1401), lambda: memcached_requests(gets=0, sets=0),
        lambda: memcached_requests(keys=0), lambda: memcached_requests(value_bytes=2000),
        lambda: Load(udp_requests(8), (HERE, 1), (THERE, 7), connections=0),
        lambda: Load(udp_requests(8), (HERE, 65000), (THERE, 7), connections=1000),
        lambda: Load(udp_requests(8), (HERE, 1), (THERE6, 7)),
        lambda: Load(udp_requests(8), (HERE, 1), (THERE, 7), connections=2, workers=3),
        lambda: memcached_requests(keys=101, key_bytes=3), lambda: memcached_requests(keys=2 * 10**9),
    ],
)  # fmt: skip
def test_what_cannot_be(wrong):
    with pytest.raises(ConfigError):
        wrong()


def test_a_file_with_an_error(tmp_path):
    file = tmp_path / "names"
    file.write_text("www.example.com A\nwww.example.com NOTYPE\n")
    with pytest.raises(ConfigError, match=r"names:2: .*NOTYPE"):
        dns_requests(file)


def test_names(tmp_path):
    """As dnspython has them, escapes, the root and the longest included; and what is none is said."""
    names = [".", "a", "a.b.", r"a\.b.c", r"\000.x", "münchen.example", f"{'x' * 63}.y", ".".join(["abcdefg"] * 31)]
    file = tmp_path / "names"
    file.write_text("\n".join(names))
    asked = [dns.message.from_wire(each).question[0].name for each in dns_requests(file)]
    assert asked == [dns.name.from_text(name) for name in names]
    for wrong in ("a..b", "x" * 64, ".".join(["abcdefg"] * 33)):
        file.write_text(wrong)
        with pytest.raises(ConfigError, match=r"names:1: .* is no question"):
            dns_requests(file)


def test_a_zone():
    """Every name and type of the file, once."""
    found = [DNS(each) for each in zone_requests(Path(__file__).parents[3] / "examples/zone/example.zone")]
    asked = {(each.qd[0].qname, each.qd[0].qtype) for each in found}
    assert len(asked) == len(found) > 10
    assert {(b"example.com.", 6), (b"mail.example.com.", 1)} <= asked
    assert {each.arcount for each in found} == {1}


def test_numbers_that_come_round_too_soon():
    load = Load([bytes(12)], (HERE, 20000), (THERE, 53), connections=1, protocol=state.DNS, timeout_s=1)
    with pytest.raises(ConfigError, match="use 17 connections"):
        load.send(10, 1_000_000)
    load.close()

"""Limits of rates: who gets how much of the same, and in what form."""

import dns.flags
import pytest

from wirespeed.apps.dns.server import DnsServer
from wirespeed.apps.dns.state import DROPS
from wirespeed.apps.dns.zone import DnsError

ZONE = "$ORIGIN a.\n$TTL 60\n@ SOA ns h 1 2 3 4 5\n@ NS ns\nns A 192.0.2.1\nb A 192.0.2.2\nc CNAME b\n*.w A 192.0.2.3\n"
NS_PER_S = 1_000_000_000


def peer(text):
    """An IPv4 address as it stands in memory."""
    return int.from_bytes(bytes(map(int, text.split("."))), "little")


def test_equal_answers_to_one_network(serving):
    asker = serving(ZONE, rate=10, slip=0)
    names = ["192.0.2.1", "192.0.2.200"]  # a /24 is one
    sent = [asker.query("b.a", now=5, peer=peer(names[i % 2])) for i in range(25)]
    assert [each == -1 - DROPS.index("rate-limited") for each in sent] == [False] * 10 + [True] * 15
    assert asker.query("b.a", now=5, peer=peer("192.0.3.1")).answer
    assert asker.query("ns.a", now=5, peer=peer("192.0.2.1")).answer
    assert asker.query("b.a", now=5 + NS_PER_S // 10, peer=peer("192.0.2.1")).answer
    assert asker.query("b.a", now=5 + NS_PER_S // 10, peer=peer("192.0.2.1")) < 0
    assert asker.server.stats().limited == 16


def test_ipv6_networks_have_56_bits(serving):
    asker = serving(ZONE, rate=1, slip=0)

    def network(high):
        return int.from_bytes(high.to_bytes(8, "big"), "little", signed=True)

    assert asker.query("b.a", now=1, peer=network(0x20010DB8_00000001)).answer
    assert asker.query("b.a", now=1, peer=network(0x20010DB8_000000FF)) < 0
    assert asker.query("b.a", now=1, peer=network(0x20010DB8_00000101)).answer


@pytest.mark.parametrize("name", ["b.a", "c.a", "nobody.a", "x.w.a", "elsewhere.b"])
def test_slip(serving, name):
    """Each second answer beyond is a truncated one, no longer than its question: who is real asks again."""
    asker = serving(ZONE, rate=1, slip=2)
    assert not asker.query(name, now=7).flags & dns.flags.TC
    later = [asker.query(name, now=7) for _ in range(6)]
    assert [not isinstance(each, int) for each in later] == [False, True] * 3
    assert all(each.flags & dns.flags.TC and not each.answer and not each.authority for each in later[1::2])
    stats = asker.server.stats()
    assert (stats.limited, stats.slipped) == (6, 3)


def test_names_that_are_not_there_are_one_answer(serving):
    """Names made up at random are one flood (NXDOMAIN), and so are those of a wildcard."""
    asker = serving(ZONE, rate=5, slip=0)
    for suffix in ("a", "w.a"):
        sent = [asker.query(f"r{i}.{suffix}", now=3) for i in range(20)]
        assert sum(not isinstance(each, int) for each in sent) == 5


def test_many_networks_do_not_lock_each_other_out(serving):
    """The table is smaller than the Internet: who does not fit is answered, the busiest are still limited."""
    asker = serving(ZONE, rate=1, slip=0)
    view = asker.server[0]
    view.rates_mask = 0  # one set of four
    answered = [not isinstance(asker.query("b.a", now=9, peer=peer(f"10.0.{i}.1")), int) for i in range(20)]
    assert all(answered)


def test_settings(tmp_path):
    for options in ({"rate": -1}, {"rate": 0.5}, {"slip": -1}, {"slip": 1001}, {"size_max": 511}, {"size_max": 65508}):
        with pytest.raises(DnsError, match="not possible"):
            DnsServer([], **options)

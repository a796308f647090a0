"""Loading, several zones, reloading while somebody may be reading, counting."""

import dns.rcode
import pytest

from wirespeed.apps.dns.server import DnsServer
from wirespeed.apps.dns.store import Store
from wirespeed.apps.dns.zone import DnsError, read_zone

HEAD = "$TTL 60\n@ SOA ns h 1 2 3 4 5\n@ NS ns\n"


class Later:
    """A reclaimer that waits to be told."""

    def __init__(self):
        self.actions = []

    def defer(self, action):
        self.actions.append(action)

    def synchronize(self):
        for action in self.actions:
            action()
        self.actions.clear()


@pytest.fixture
def zone(tmp_path):
    def make(text, origin="a"):
        file = tmp_path / "zone"
        file.write_text(HEAD + text)
        return read_zone(file, origin)

    return make


def test_reload(serving, zone):
    asker = serving(f"$ORIGIN a.\n{HEAD}x A 192.0.2.1\n")
    asker.server.reclaimer = later = Later()
    old = asker.server._store
    asker.server.reload([zone("x A 192.0.2.2\ny A 192.0.2.3\n")])
    assert str(asker.query("x.a").answer[0][0]) == "192.0.2.2"
    assert asker.query("y.a").answer
    assert old.address in {old._region.address} and old._region.fd >= 0  # workers may still read it
    later.synchronize()
    assert old._region.fd < 0
    asker.server.reload([zone("", "b")])
    assert asker.query("x.a").rcode() == dns.rcode.REFUSED
    assert asker.server.stats().loads == 3 and asker.server.zones == ["b."]
    later.synchronize()


def test_a_zone_that_cannot_be_changes_nothing(serving, zone):
    asker = serving(f"$ORIGIN a.\n{HEAD}x A 192.0.2.1\n")
    many = "".join(f'x TXT "{i:0200}"\n' for i in range(400))
    with pytest.raises(DnsError, match=r"x\.a\.: 8\d,\d+ bytes of records of one type"):
        asker.server.reload([zone(many)])
    with pytest.raises(DnsError, match="is here twice"):
        asker.server.reload([zone(""), zone("")])
    assert asker.query("x.a").answer and asker.server.stats().loads == 1


def test_a_zone_below_a_zone(serving, zone):
    """The child answers for itself; what the parent says below the cut is not looked at."""
    asker = serving(f"$ORIGIN a.\n{HEAD}x A 192.0.2.1\nsub NS ns.sub\nns.sub A 192.0.2.9\nalias CNAME y.sub\n")
    parent = zone("x A 192.0.2.1\nsub NS ns.sub\nns.sub A 192.0.2.9\nalias CNAME y.sub\n")
    asker.server.reload([parent, zone("y A 192.0.2.2\n", "sub.a")])
    assert str(asker.query("y.sub.a").answer[0][0]) == "192.0.2.2"
    assert str(asker.query("n.sub.a").authority[0].name) == "sub.a."
    assert str(asker.query("n.a").authority[0].name) == "a."
    assert len(asker.query("alias.a").answer) == 2


def test_many_names(serving):
    """The hash table: all are found, each its own, and none beside them."""
    names = [f"h{i}.{'d' * (i % 40 + 1)}" for i in range(2000)]
    lines = "".join(f"{name} A 10.0.{i >> 8}.{i & 255}\n" for i, name in enumerate(names))
    asker = serving(f"$ORIGIN a.\n{HEAD}{lines}")
    for i in range(0, 2000, 7):
        assert str(asker.query(f"{names[i]}.a").answer[0][0]) == f"10.0.{i >> 8}.{i & 255}"
        assert asker.query(f"x{names[i]}.a").rcode() == dns.rcode.NXDOMAIN
    stats = asker.server.stats()
    assert stats.names == 2041 and stats.answered == stats.no_name == 286


def test_nothing_leaks(zone, open_files):
    before = open_files()
    with DnsServer([zone("")]) as server:
        server.reload([zone("x A 192.0.2.1\n")])
    Store([zone("")]).close()
    assert open_files() == before

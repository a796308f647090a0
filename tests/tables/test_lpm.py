"""Lpm4: literals, errors, a model, pytricia, the whole Internet, and readers during updates."""

import ipaddress

import numpy as np
import pytest
from hypothesis import settings
from table_model import TableMachine, against_pytricia, needs_the_internet, watched
from table_model import lookup_lpm4 as compiled_lookup

from wirespeed.errors import TableError
from wirespeed.jit import COMPILED, load32
from wirespeed.mem.region import Region
from wirespeed.sync.rcu import Grace, GraceTimeout, format_slot, online, quiescent
from wirespeed.tables.lpm import MAX_HOP, Lpm4
from wirespeed.tables.lpm_memory import EXTENDED, HOP_MASK, RECORD_BYTES


@pytest.fixture
def table():
    with Lpm4(groups=4, routes=1024) as table:
        yield table


def test_longest_prefix_wins(table):
    table.add("10.0.0.0/12", 1)
    table.add("10.1.0.0/16", 2)
    table.add("10.1.2.0/24", 3)
    table.add("10.1.2.128/25", 4)
    table.add("10.1.2.129/32", 5)
    wanted = {
        "10.0.0.0": 1, "10.15.255.255": 1, "10.16.0.0": -1, "9.255.255.255": -1, "10.1.0.0": 2, "10.1.3.0": 2,
        "10.1.2.0": 3, "10.1.2.127": 3, "10.1.2.128": 4, "10.1.2.129": 5, "10.1.2.130": 4, "10.1.2.255": 4,
    }  # fmt: skip
    assert {ip: table.lookup(ip) for ip in wanted} == wanted
    ints = [int(ipaddress.IPv4Address(ip)) for ip in wanted]
    assert [compiled_lookup(table.address, ip) for ip in ints] == list(wanted.values())
    assert table.lookup_many(np.array(ints)).tolist() == list(wanted.values())
    assert table.stats().groups == 1


def test_first_and_last_address_and_largest_hop(table):
    table.add("0.0.0.0/32", 0)
    table.add("255.255.255.255/32", MAX_HOP)
    assert [table.lookup(ip) for ip in (0, 1, 0xFFFF_FFFE, 0xFFFF_FFFF)] == [0, -1, -1, MAX_HOP]
    assert compiled_lookup(table.address, -1) == MAX_HOP  # only the low 32 bits count
    assert compiled_lookup(table.address, 1 << 40) == 0


@pytest.mark.skipif(not COMPILED, reason="2^24 interpreted stores")
def test_default_route(table):
    table.add("0.0.0.0/0", 9)
    table.add("192.0.2.0/25", 1)
    assert [table.lookup(ip) for ip in ("0.0.0.0", "192.0.2.1", "192.0.2.128", "255.255.255.255")] == [
        9,
        1,
        9,
        9,
    ]
    table.delete("0.0.0.0/0")
    assert [table.lookup(ip) for ip in ("0.0.0.0", "192.0.2.1", "192.0.2.128", "255.255.255.255")] == [
        -1,
        1,
        -1,
        -1,
    ]
    table.delete("192.0.2.0/25")
    assert not table._first_table().any()


def test_deleting_restores_what_was_covered(table):
    for hop, prefix in enumerate(["10.0.0.0/16", "10.0.0.0/20", "10.0.1.0/24", "10.0.1.64/26", "10.0.1.64/32"]):
        table.add(prefix, hop)
    seen = []
    for prefix in ["10.0.1.64/32", "10.0.0.0/20", "10.0.1.64/26", "10.0.1.0/24", "10.0.0.0/16"]:
        seen.append(table.lookup("10.0.1.64"))
        table.delete(prefix)
    assert [*seen, table.lookup("10.0.1.64")] == [4, 3, 3, 2, 0, -1]
    assert table.stats().groups == 0
    assert not table._first_table().any()


def test_shorter_route_added_later_does_not_cover_a_longer_one(table):
    table.add("10.0.0.128/25", 1)
    table.add("10.0.0.0/24", 2)
    table.add("10.0.0.0/18", 3)
    assert [table.lookup(ip) for ip in ("10.0.0.128", "10.0.0.1", "10.0.1.0")] == [1, 2, 3]
    table.add("10.0.0.128/25", 7)  # a route again: its hop changes
    assert table.lookup("10.0.0.128") == 7
    assert len(table) == 3


def test_behaves_like_a_collection(table):
    table.add("10.0.0.0/24", 1)
    table.add(ipaddress.ip_network("10.0.1.0/24"), 2)
    table.add((0x0A000200, 24), np.int64(3))
    table.add(ipaddress.ip_address("10.0.3.1"), 4)
    table.add("10.0.3.2", 5)
    assert dict(table) == {
        "10.0.0.0/24": 1,
        "10.0.1.0/24": 2,
        "10.0.2.0/24": 3,
        "10.0.3.1/32": 4,
        "10.0.3.2/32": 5,
    }
    assert len(table) == 5
    assert "10.0.0.0/24" in table
    assert "10.0.0.0/23" not in table
    assert (table.get("10.0.1.0/24"), table.get("10.9.0.0/24")) == (2, None)
    assert table.lookup(ipaddress.ip_address("10.0.1.9")) == 2
    assert table.lookup(np.uint32(0x0A000201)) == 3
    assert repr(table).startswith("<Lpm4 lpm4: 5 routes, ")
    table.clear()
    assert (len(table), table.stats().groups) == (0, 0)


def test_add_many_takes_arrays_or_anything(table):
    table.add_many((np.array([0x0A000000, 0x0A000080], np.uint32), np.array([24, 25], np.uint8)), range(2))
    table.add_many(["10.0.1.0/24", (0x0A000180, 25)], [2, 3])
    table.add_many([], [])
    table.add_many(["10.0.2.0/24", "10.0.2.0/24"], [4, 5])  # the last counts
    assert [table.lookup(0x0A000000 + i * 128) for i in range(5)] == [0, 1, 2, 3, 5]
    assert (len(table), table.stats().groups) == (5, 2)


@pytest.mark.parametrize(
    ("prefix", "hop", "message"),
    [
        ("10.0.0.1/8", 1, r"'10.0.0.1/8' has host bits set: did you mean 10.0.0.0/8\?"),
        ("10.0.0.0/33", 1, "length 33: it must be 0 to 32"),
        ("10.0.0.0/-1", 1, "no length"),
        ((10 << 24, 40), 1, "length 40"),
        ((1 << 32, 8), 1, "4294967296 is out of range"),
        ("10.0.0/8", 1, "'10.0.0' is not an IPv4 address"),
        ("10.0.0.0/8", MAX_HOP + 1, f"next hop {MAX_HOP + 1} of 10.0.0.0/8 is not 0 to {MAX_HOP}"),
        ("10.0.0.0/8", -1, "next hop -1"),
        (None, 1, "None is not an IPv4 prefix"),
    ],
)
def test_bad_routes_change_nothing(table, prefix, hop, message):
    with pytest.raises(TableError, match=message):
        table.add(prefix, hop)
    with pytest.raises(TableError, match=message):
        table.add_many(["11.0.0.0/24", prefix], [1, hop])
    assert len(table) == 0
    assert table.lookup("11.0.0.0") == -1


def test_bad_arrays_change_nothing(table):
    addresses, lengths = np.array([10 << 24, (10 << 24) + 1], np.uint32), np.array([24, 24], np.uint8)
    with pytest.raises(TableError, match=r"host bits set: did you mean 10\.0\.0\.0/24"):
        table.add_many((addresses, lengths), [1, 1])
    with pytest.raises(TableError, match="2 prefixes have 1 next hops"):
        table.add_many((addresses & 0xFFFFFF00, lengths), [1])
    with pytest.raises(TableError, match="2 addresses have 1 lengths"):
        table.add_many((addresses, lengths[:1]), [1, 1])
    assert len(table) == 0


def test_full_changes_nothing(table):
    for i in range(4):
        table.add((10 << 24 | i << 8, 32), i)
    table.add("10.0.0.255/32", 9)  # its /24 has a group already
    with pytest.raises(TableError, match=r"1 more /24s need a group .* 0 of 4 are free: .*groups=8"):
        table.add("10.0.4.0/25", 1)
    table.delete("10.0.3.0/32")
    with pytest.raises(TableError, match=r"2 more /24s need a group"):
        table.add_many(["10.0.4.0/25", "10.0.5.0/25", "10.0.4.128/25"], [1, 1, 1])
    assert [table.lookup(f"10.0.{i}.0") for i in range(6)] == [0, 1, 2, -1, -1, -1]
    assert len(table) == 4


def test_deleting_what_is_not_there(table):
    with pytest.raises(TableError, match=r"no route 10\.0\.0\.0/8 to delete"):
        table.delete("10.0.0.0/8")


@pytest.mark.parametrize("groups", [0, (1 << 24) + 1])
def test_groups_out_of_range(groups):
    with pytest.raises(TableError, match=f"{groups} groups"):
        Lpm4(groups=groups)


# A model ------------------------------------------------------------------------------------------------


class LpmMachine(TableMachine):
    def fits(self):
        long = {address >> 8 for address, length in self.model if length > 24}
        assert self.table.stats().groups == len(long)


LpmMachine.TestCase.settings = settings(max_examples=60 if COMPILED else 10, stateful_step_count=30, deadline=None)


@pytest.fixture(autouse=True, scope="module")
def _shared_table():
    with Lpm4(groups=1024, routes=1024) as table:
        LpmMachine.table = table
        yield
        assert not table._first_table().any()


TestLpmMachine = LpmMachine.TestCase


@needs_the_internet
def test_the_internet_table_against_pytricia():
    with Lpm4() as table:
        against_pytricia(table)
        assert table.stats().groups == 0


# Readers during updates ---------------------------------------------------------------------------------


def test_readers_only_ever_see_legal_hops():
    """One group serves many /24s in turn: what one leaves behind in it would be wrong for each other one."""
    nets = 8
    with Lpm4(groups=1) as table:
        legal = {}
        for net in range(nets):
            base = 0x0A000000 | net << 8
            table.add((base, 24), 300 + net)
            legal[base | 5] = 300 + net, 100 + net  # under a /28 that comes and goes
            legal[base | 200] = 300 + net, 200 + net  # under a /26 that comes and goes
        with watched(table, legal):
            for turn in range(3_000 if COMPILED else 20):
                base = 0x0A000000 | (turn % nets) << 8
                table.add((base, 28), 100 + turn % nets)
                table.add((base | 192, 26), 200 + turn % nets)
                table.delete((base | 192, 26))
                table.add((base, 28), 100 + turn % nets)
                table.delete((base, 28))
                assert table.lookup(base) == 300 + turn % nets
        assert (table.stats().groups, table.stats().groups_retired) == (0, 0)


def test_a_stalled_reader_keeps_its_group():
    """The reader stops between its two loads: the second must still find what the first led to."""
    with Lpm4(groups=1) as table, Region(4096, "test-lpm", huge=False) as region:
        clock = iter(range(1000))
        format_slot(region.address)
        table.reclaimer = grace = Grace([region.address], clock=lambda: next(clock), sleep=lambda _: None)
        table.add("10.0.0.0/24", 1)
        table.add("10.0.0.0/28", 2)
        online(region.address)
        page = int(table._first_table()[0x0A0000]) - EXTENDED  # the reader's first load
        second = table.address + RECORD_BYTES + (page << 10)
        table.delete("10.0.0.0/28")
        with pytest.raises(GraceTimeout, match="worker 0"):
            table.add("10.0.1.0/25", 7)
        assert (len(table), table.lookup("10.0.1.0")) == (1, -1)
        assert (load32(second) & HOP_MASK) - 1 == 1
        quiescent(region.address)
        assert grace.reclaim() > 0
        table.add("10.0.1.0/25", 7)
        assert (table.lookup("10.0.1.0"), table.lookup("10.0.0.0")) == (7, 1)


def test_a_full_table_waits_for_the_grace_period():
    """A retired group is not reused while a worker may read it."""
    waits = []

    class Reclaimer:
        def __init__(self):
            self.deferred = []

        def defer(self, action):
            self.deferred.append(action)

        def synchronize(self):
            waits.append(len(self.deferred))
            while self.deferred:
                self.deferred.pop()()

    with Lpm4(groups=1, reclaimer=Reclaimer()) as table:
        table.add("10.0.0.1/32", 1)
        table.delete("10.0.0.1/32")
        assert (table.stats().groups, table.stats().groups_retired) == (0, 1)
        table.add("10.0.1.1/32", 2)
        assert waits == [1]
        assert [table.lookup(ip) for ip in ("10.0.0.1", "10.0.1.1")] == [-1, 2]
        with pytest.raises(TableError, match="is full"):
            table.add("10.0.2.1/32", 3)

"""Lpm6: literals, errors, a model, full tables; tests/tables/test_lpm6_live.py has readers and a second process."""

import ipaddress

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from wirespeed.errors import TableError
from wirespeed.jit import COMPILED, kernel, signed64
from wirespeed.tables.lpm6 import MAX_HOP, Lpm6, Lpm6View
from wirespeed.tables.lpm6_memory import HOP_MASK, RECORD_BYTES, ROOT_BYTES

SHORTEST = 0 if COMPILED else 12  # painting a /0 interpreted is 2^16 checked stores
WORD = (1 << 64) - 1


@kernel
def compiled_lookup(table, high, low):
    view = Lpm6View(table)
    view.prefetch(high, low)
    return view.lookup(high, low)


def look(table, address):
    """Compiled, as a node does."""
    number = int(ipaddress.IPv6Address(address))
    return compiled_lookup(table.address, signed64(number >> 64), signed64(number & WORD))


@pytest.fixture
def table():
    with Lpm6(routes=64) as table:
        yield table


def test_longest_prefix_wins(table):
    table.add("2001:db8::/32", 1)
    table.add("2001:db8:8000::/33", 2)
    table.add("2001:db8:0:1::/64", 3)
    table.add("2001:db8:0:1::8/125", 4)
    table.add("2001:db8:0:1::9/128", 5)
    table.add("2001::/16", 6)
    wanted = {
        "2001:db8::": 1, "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff": 6, "2001:db8:8000::": 2, "2001:db8:7fff:ffff::1": 1,
        "2001:db9::": 6, "2001:db8:0:1::": 3, "2001:db8:0:1::7": 3, "2001:db8:0:1::8": 4, "2001:db8:0:1::9": 5,
        "2001:db8:0:1::f": 4, "2001:db8:0:1::10": 3, "2001:db8:0:2::": 1, "2002::": -1, "::": -1,
    }  # fmt: skip
    assert {ip: table.lookup(ip) for ip in wanted} == wanted
    assert {ip: look(table, ip) for ip in wanted} == wanted
    numbers = [int(ipaddress.IPv6Address(ip)) for ip in wanted]
    pairs = np.array([(number >> 64, number & WORD) for number in numbers], np.uint64)
    hops = list(wanted.values())
    assert table.lookup_many(pairs).tolist() == hops
    assert table.lookup_many(pairs.view(np.int64)).tolist() == hops
    assert table.lookup_many((pairs[:, 0], pairs[:, 1])).tolist() == hops
    assert table.lookup_many(pairs[::2]).tolist() == hops[::2]
    assert table.lookup_many(list(wanted)).tolist() == hops
    assert table.lookup_many([]).tolist() == []


def test_each_form_of_an_address(table):
    table.add("2001:db8::/32", 7)
    number = 0x20010DB8 << 96 | 5
    high, low = number >> 64, 5
    for address in ("2001:db8::5", number, ipaddress.IPv6Address(number), (high, low), (np.uint64(high), np.uint64(5))):
        assert table.lookup(address) == 7
    assert table.lookup(high, low) == table.lookup(signed64(0x20010DB8 << 32), -1) == 7  # as nodes call it
    table.add((0xFE80 << 112, 10), 1)
    assert table.lookup((signed64(0xFE80 << 48), -1)) == 1


def test_first_and_last_address_and_largest_hop(table):
    table.add("::/128", 0)
    table.add("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128", MAX_HOP)
    assert [look(table, n) for n in (0, 1, (1 << 128) - 2, (1 << 128) - 1)] == [0, -1, -1, MAX_HOP]


@pytest.mark.skipif(not COMPILED, reason="2^16 interpreted stores, several times")
def test_short_prefixes(table):
    table.add("::/0", 9)
    table.add("8000::/1", 8)
    table.add("2000::/3", 7)
    table.add("2001:db8::/32", 1)
    assert [look(table, ip) for ip in ("::", "8000::", "2001::", "2001:db8::", "ffff::")] == [9, 8, 7, 1, 8]
    table.delete("::/0")
    assert [look(table, ip) for ip in ("::", "8000::", "2001::", "2001:db8::", "ffff::")] == [-1, 8, 7, 1, 8]
    table.delete("2000::/3")
    table.delete("8000::/1")
    assert [look(table, ip) for ip in ("::", "8000::", "2001::", "2001:db8::", "ffff::")] == [-1, -1, -1, 1, -1]


def test_deleting_restores_what_was_covered(table):
    prefixes = ["2001:db8::/24", "2001:db8::/32", "2001:db8::/44", "2001:db8::/48", "2001:db8::/64", "2001:db8::1/128"]
    prefixes[0] = "2001:d00::/24"
    for hop, prefix in enumerate(prefixes):
        table.add(prefix, hop)
    seen = []
    for prefix in [prefixes[i] for i in (5, 2, 4, 1, 3, 0)]:
        seen.append(look(table, "2001:db8::1"))
        table.delete(prefix)
    assert [*seen, look(table, "2001:db8::1")] == [5, 4, 4, 3, 3, 0, -1]
    assert table.stats().node_bytes == 0


def test_behaves_like_a_collection(table):
    table.add("2001:db8:1::/48", 1)
    table.add(ipaddress.ip_network("2001:db8:2::/48"), 2)
    table.add((0x20010DB80003 << 80, 48), np.int64(3))
    table.add(ipaddress.ip_address("2001:db8:4::1"), 4)
    table.add("2001:db8:4::2", 5)
    table.add(((0x20010DB8_00000000, 0), 32), 6)
    table.add((0x20010DB8_00050000, 0, 64), 7)
    assert list(table) == [
        ("2001:db8::/32", 6), ("2001:db8:1::/48", 1), ("2001:db8:2::/48", 2), ("2001:db8:3::/48", 3),
        ("2001:db8:4::1/128", 4), ("2001:db8:4::2/128", 5), ("2001:db8:5::/64", 7),
    ]  # fmt: skip
    assert len(table) == 7
    assert "2001:db8:1::/48" in table
    assert "2001:db8:1::/49" not in table
    assert (table.get("2001:db8:1::/48"), table.get("2001:db9::/32")) == (1, None)
    addresses, lengths, hops = table.to_arrays()
    assert (addresses.shape, addresses.dtype, lengths.dtype) == ((7, 2), np.uint64, np.uint8)
    with Lpm6(routes=7) as other:
        other.add_many((addresses, lengths), hops)
        assert list(other) == list(table)
        other.delete_many((addresses[:, 0], addresses[:, 1], lengths))
        assert list(other) == []
    assert repr(table).startswith("<Lpm6 lpm6: 7 routes, ")
    table.clear()
    assert (len(table), table.stats().node_bytes, table.get("2001:db8:1::/48")) == (0, 0, None)


def test_of_two_equal_prefixes_the_last_counts(table):
    table.add_many(["2001:db8::/40", "2001:db8::/40"], [4, 5])
    assert (len(table), table.get("2001:db8::/40"), look(table, "2001:db8::")) == (1, 5, 5)
    table.add("2001:db8::/40", 6)
    assert (len(table), look(table, "2001:db8::")) == (1, 6)
    table.add("2001:db8::/48", 7)
    table.delete_many(["2001:db8::/40", "2001:db8::/48", "2001:db8::/40"])
    assert (len(table), look(table, "2001:db8::")) == (0, -1)


@pytest.mark.parametrize(
    ("prefix", "hop", "message"),
    [
        ("2001:db8::1/32", 1, r"'2001:db8::1/32' has host bits set: did you mean 2001:db8::/32\?"),
        ("2001:db8::/129", 1, "length 129: it must be 0 to 128"),
        ("2001:db8::/-1", 1, "no length"),
        ("2001:db8::/", 1, "no length"),
        ((1 << 120, 200), 1, "length 200"),
        ((1 << 128, 8), 1, "is out of range: an IPv6 address is 0 to"),
        ((1 << 64, 0, 8), 1, "18446744073709551616 is out of range"),
        ("10.0.0.0/8", 1, r"'10\.0\.0\.0' is not an IPv6 address"),
        ("2001:db8::/32", MAX_HOP + 1, f"next hop {MAX_HOP + 1} of 2001:db8::/32 is not 0 to {MAX_HOP}"),
        ("2001:db8::/32", -1, "next hop -1"),
        ("2001:db8::/32", 1.5, "a next hop is no integer"),
        ("2001:db8::/32", "gw", "a next hop is no integer"),
        (None, 1, "None is not an IPv6 prefix"),
    ],
)
def test_bad_routes_change_nothing(table, prefix, hop, message):
    with pytest.raises(TableError, match=message):
        table.add(prefix, hop)
    with pytest.raises(TableError, match=message):
        table.add_many(["2001:db9::/48", prefix], [1, hop])
    assert len(table) == 0
    assert table.lookup("2001:db9::") == -1


def test_bad_arrays_change_nothing(table):
    addresses, lengths = np.array([(1 << 61, 0), (1 << 61, 1)], np.uint64), np.array([24, 64], np.uint8)
    with pytest.raises(TableError, match=r"host bits set: did you mean 2000::/64"):
        table.add_many((addresses, lengths), [1, 1])
    with pytest.raises(TableError, match="2 prefixes have 1 next hops"):
        table.add_many((addresses[:1].repeat(2, 0), lengths), [1])
    with pytest.raises(TableError, match="2 addresses have 1 lengths"):
        table.add_many((addresses, lengths[:1]), [1, 1])
    with pytest.raises(TableError, match="address words are float64"):
        table.add_many((addresses.astype(float), lengths), [1, 1])
    with pytest.raises(TableError, match="lengths are float64"):
        table.add_many((addresses, lengths.astype(float)), [1, 1])
    with pytest.raises(TableError, match=r"array of shape \(2,\) has no IPv6 addresses"):
        table.lookup_many(addresses[:, 0])
    with pytest.raises(TableError, match="2 high words have 1 low words"):
        table.lookup_many((addresses[:, 0], addresses[:1, 1]))
    with pytest.raises(TableError, match="is not many prefixes"):
        table.add_many("2001:db8::/32", [1])
    assert len(table) == 0


def test_deleting_what_is_not_there(table):
    table.add_many(["2001:db8::/32", "2001:db8::/40"], [1, 2])
    for prefix in ("2001:db8::/36", "2001:db8::/33", "2001:db8:1::/48", "::/0", "2001:db8::/128"):
        with pytest.raises(TableError, match=f"there is no route {prefix} to delete"):
            table.delete(prefix)
    with pytest.raises(TableError, match="there is no route 2001:db9::/32 to delete"):
        table.delete_many(["2001:db8::/32", "2001:db8::/40", "2001:db9::/32"])
    assert list(table) == [("2001:db8::/32", 1), ("2001:db8::/40", 2)]
    assert [look(table, ip) for ip in ("2001:db8::", "2001:db8:ff00::")] == [2, 1]


def test_too_many_routes_change_nothing():
    with Lpm6(routes=3) as table:
        table.add_many(["2001:db8::/32", "2001:db8:1::/48"], [1, 2])
        with pytest.raises(TableError, match=r"it holds 3 routes, and 2001:db8:3::/48 would be one more .*routes=6"):
            table.add_many([f"2001:db8:{i}::/48" for i in range(1, 5)], [7, 8, 9, 10])
        assert list(table) == [("2001:db8::/32", 1), ("2001:db8:1::/48", 2)]
        assert look(table, "2001:db8:2::") == look(table, "2001:db8:3::") == 1
        table.add("2001:db8:1::/48", 3)
        table.add("2001:db8:2::/48", 4)
        table.add("2001:db8:2::/48", 5)  # full: routes that are there may change
        assert look(table, "2001:db8:2::") == 5


def _add_all(table, prefixes):
    for hop, prefix in enumerate(prefixes):
        table.add(prefix, hop)


def test_no_memory_for_nodes_changes_nothing_and_deleting_needs_none():
    count = 400
    prefixes = [f"2001:db8:{i:x}:{i * 7 % 13:x}::/{48 + 16 * (i % 2)}" for i in range(count)]
    prefixes = [str(ipaddress.ip_network(prefix, strict=False)) for prefix in prefixes]
    with Lpm6(routes=1000, memory=8192) as table:
        with pytest.raises(TableError, match=r"is full: no node for .*memory=16384"):
            _add_all(table, prefixes)
        full = len(table)
        assert 20 < full < count
        before = table.stats().node_bytes
        with pytest.raises(TableError, match="is full: no node"):
            table.add_many(prefixes, range(count))
        assert [hop for _, hop in table] == [
            hop for _, hop in sorted(
                zip(prefixes[:full], range(full), strict=True),
                key=lambda route: int(ipaddress.ip_network(route[0]).network_address),
            )
        ]  # fmt: skip
        assert table.stats().node_bytes >= before - 1024
        for gone, prefix in enumerate(prefixes[:full]):
            table.delete(prefix)
            for hop, other in enumerate(prefixes[:full]):
                if hop % 5 == gone % 5:
                    assert table.lookup(other.split("/")[0]) == (hop if hop > gone else -1)
        assert table.stats().node_bytes == 0
        table.add_many(prefixes[:full], range(full))


@pytest.mark.parametrize(("kind", "value"), [("routes", 0), ("routes", 1 << 40), ("memory", 0), ("memory", 1 << 50)])
def test_sizes_out_of_range(kind, value):
    with pytest.raises(TableError, match=f"{value} "):
        Lpm6(**{kind: value})


# A model ------------------------------------------------------------------------------------------------


def _mask(address, length):
    return address >> (128 - length) << (128 - length)


CROWDED = st.integers(0, 0xFFFF_FFFF).map(lambda low: 0x20010DB8 << 96 | (low >> 16 & 0xFFF) << 76 | (low & 0xFFF))
ADDRESSES = st.one_of(CROWDED, st.integers(0, (1 << 128) - 1))
LENGTHS = st.one_of(st.integers(SHORTEST, 128), st.integers(30, 56), st.integers(116, 128))
PREFIXES = st.tuples(ADDRESSES, LENGTHS).map(lambda pair: (_mask(*pair), pair[1]))


class Lpm6Machine(RuleBasedStateMachine):
    """Against a dict that is searched from /128 to /0."""

    table: Lpm6  # one for all runs

    def __init__(self):
        super().__init__()
        self.model = {}

    def lookup(self, address):
        fits = [route for route in self.model if _mask(address, route[1]) == route[0]]
        return self.model[max(fits, key=lambda route: route[1])] if fits else -1

    @rule(prefix=PREFIXES, hop=st.integers(0, MAX_HOP))
    def add(self, prefix, hop):
        self.table.add(prefix, hop)
        self.model[prefix] = hop

    @rule(routes=st.lists(st.tuples(PREFIXES, st.integers(0, 3)), max_size=16))
    def add_many(self, routes):
        self.table.add_many([prefix for prefix, _ in routes], [hop for _, hop in routes])
        self.model.update(routes)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), upto=st.integers(1, 8))
    def delete(self, data, upto):
        prefixes = data.draw(st.lists(st.sampled_from(sorted(self.model)), max_size=upto, unique=True))
        self.table.delete_many(prefixes)
        for prefix in prefixes:
            del self.model[prefix]

    @rule(addresses=st.lists(ADDRESSES, min_size=1, max_size=20))
    def look_up(self, addresses):
        wanted = [self.lookup(address) for address in addresses]
        assert self.table.lookup_many(addresses).tolist() == wanted
        assert [look(self.table, address) for address in addresses] == wanted

    @invariant()
    def edges(self):
        """The first and last address of each route, and their neighbours outside."""
        edges = set()
        for address, length in self.model:
            last = address | ((1 << 128) - 1 >> length)
            edges |= {address, last, max(address - 1, 0), min(last + 1, (1 << 128) - 1)}
        edges = sorted(edges)
        assert self.table.lookup_many(edges).tolist() == [self.lookup(edge) for edge in edges]
        assert len(self.table) == len(self.model)

    @invariant()
    def listing(self):
        highs, lows, lengths, hops = (array.tolist() for array in self.table._export(self.table._table))
        found = [((h & WORD) << 64 | low & WORD, n) for h, low, n in zip(highs, lows, lengths, strict=True)]
        assert list(zip(found, hops, strict=True)) == sorted(self.model.items())

    def teardown(self):
        self.table.clear()
        assert self.table.stats().node_bytes == 0


Lpm6Machine.TestCase.settings = settings(max_examples=40 if COMPILED else 8, stateful_step_count=30, deadline=None)


@pytest.fixture(autouse=True, scope="module")
def _shared_table():
    with Lpm6(routes=4096) as table:
        Lpm6Machine.table = table
        yield
        assert not (table._words(np.int64, RECORD_BYTES, ROOT_BYTES // 8) & HOP_MASK).any()


TestLpm6Machine = Lpm6Machine.TestCase

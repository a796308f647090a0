"""Vrfs: IPv4 and IPv6 tables of many VRFs in one memory."""

import ipaddress
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from wirespeed.errors import TableError
from wirespeed.jit import COMPILED, kernel, signed64
from wirespeed.tables.vrf import MAX_HOP, Vrfs, VrfsView

WORD = (1 << 64) - 1
LAST6 = (1 << 128) - 1


@kernel
def compiled_lookup(tables, vrf, ip):
    view = VrfsView(tables)
    view.prefetch(vrf)
    return view.lookup(vrf, ip)


@kernel
def compiled_lookup6(tables, vrf, high, low):
    return VrfsView(tables).lookup6(vrf, high, low)


def look(tables, vrf, address):
    """Compiled, as a node does."""
    number, six = int(ipaddress.ip_address(address)), ":" in address
    if six:
        return compiled_lookup6(tables.address, vrf, signed64(number >> 64), signed64(number))
    return compiled_lookup(tables.address, vrf, number)


@pytest.fixture
def tables():
    with Vrfs(vrfs=4, routes=64) as tables:
        yield tables


def test_each_vrf_has_its_own_routes_of_both_families(tables):
    tables.add(0, "10.0.0.0/8", 1)
    tables.add(1, "10.0.0.0/8", 2)
    tables.add(1, "10.1.0.0/16", 3)
    tables.add(1, "0.0.0.0/0", 4)
    tables.add(3, "2001:db8::/32", 5)
    tables.add(3, "2001:db8::1/128", 6)
    tables.add(3, "::/0", 7)
    wanted = {
        (0, "10.1.2.3"): 1, (0, "11.0.0.0"): -1, (1, "10.1.2.3"): 3, (1, "10.2.0.0"): 2, (1, "11.0.0.0"): 4,
        (2, "10.1.2.3"): -1, (3, "10.1.2.3"): -1, (0, "2001:db8::1"): -1, (3, "2001:db8::1"): 6,
        (3, "2001:db8::2"): 5, (3, "2001:db9::"): 7, (1, "2001:db8::1"): -1, (1, "255.255.255.255"): 4,
    }  # fmt: skip
    assert {key: tables.lookup(*key) for key in wanted} == wanted
    assert {key: look(tables, *key) for key in wanted} == wanted
    assert list(tables) == [
        (0, "10.0.0.0/8", 1), (1, "0.0.0.0/0", 4), (1, "10.0.0.0/8", 2), (1, "10.1.0.0/16", 3), (3, "::/0", 7),
        (3, "2001:db8::/32", 5), (3, "2001:db8::1/128", 6),
    ]  # fmt: skip
    assert (len(tables), tables.stats().vrfs_used, tables.stats().routes) == (7, 3, 7)
    tables.clear(1)
    assert (len(tables), tables.routes(1), tables.lookup(1, "10.1.2.3")) == (4, [], -1)
    tables.clear()
    assert (len(tables), tables.stats().node_bytes, tables.stats().vrfs_used) == (0, 0, 0)


def test_a_vrf_that_is_not_there_has_no_routes_in_nodes_and_is_an_error_in_python(tables):
    tables.add(3, "0.0.0.0/0", 1)
    assert [compiled_lookup(tables.address, vrf, 5) for vrf in (-1, 3, 4, 1 << 40, -(1 << 63))] == [-1, 1, -1, -1, -1]
    assert compiled_lookup6(tables.address, 4, 0, 0) == -1
    for call in (tables.lookup, tables.add, tables.delete, tables.get):
        with pytest.raises(TableError, match="VRF 4 is not 0 to 3"):
            call(4, "10.0.0.0/8", *((1,) if call == tables.add else ()))
    with pytest.raises(TableError, match="VRF -1 is not 0 to 3"):
        tables.clear(-1)
    with pytest.raises(TableError, match="0 VRFs are not possible"):
        Vrfs(vrfs=0)


def test_bulk(tables):
    four = np.array([0x0A000000, 0x0A010000], np.uint32)
    tables.add_many(2, (four, np.array([8, 16], np.uint8)), [1, 2])
    six = np.array([(0x20010DB8 << 32, 0), (0x20010DB8 << 32, 1)], np.uint64)
    tables.add_many(2, (six, np.array([32, 128], np.uint8)), [3, 4])
    assert tables.lookup_many(2, four).tolist() == tables.lookup_many(2, ["10.0.0.0", 0x0A010000]).tolist() == [1, 2]
    assert (
        tables.lookup_many(2, six).tolist() == tables.lookup_many(2, ["2001:db8::", "2001:db8::1"]).tolist() == [3, 4]
    )
    assert tables.lookup_many(2, (six[:, 0], six[:, 1])).tolist() == [3, 4]
    assert tables.lookup_many(np.array([2, 1]), four).tolist() == [1, -1]
    assert tables.lookup_many(np.array([9, 2]), four).tolist() == [-1, 2]
    assert tables.lookup6(2, 0x20010DB8 << 32, 1) == 4
    assert tables.lookup(2, ipaddress.ip_address("2001:db8::2")) == 3
    assert (2, "10.1.0.0/16") in tables
    assert (1, "10.1.0.0/16") not in tables
    assert (tables.get(2, (0x0A010000, 16)), tables.get(2, "2001:db8::/32")) == (2, 3)
    with pytest.raises(TableError, match="2 addresses have 3 VRFs"):
        tables.lookup_many(np.zeros(3, int), four)
    with pytest.raises(TableError, match="out of range"):
        tables.lookup_many(2, np.array([1 << 32]))
    tables.delete_many(2, ["10.0.0.0/8", "10.1.0.0/16"])
    tables.delete_many(2, (six, np.array([32, 128])))
    assert list(tables) == []


def test_bad_routes_change_nothing(tables):
    with pytest.raises(TableError, match="IPv4 and IPv6 prefixes in one call"):
        tables.add_many(0, ["10.0.0.0/8", "::/0"], [1, 2])
    with pytest.raises(TableError, match=r"next hop \d+ of 10.0.0.0/8 is not 0 to"):
        tables.add(0, "10.0.0.0/8", MAX_HOP + 1)
    with pytest.raises(TableError, match=r"did you mean 10\.0\.0\.0/8"):
        tables.add(0, "10.0.0.1/8", 1)
    with pytest.raises(TableError, match=r"no route 10\.0\.0\.0/8 to delete"):
        tables.delete(0, "10.0.0.0/8")
    with pytest.raises(TableError, match=r"no route 2001:db8::/32 to delete"):
        tables.delete(0, "2001:db8::/32")
    with pytest.raises(TableError, match=r"it holds 64 routes, and 10\.0\.64\.0/24 would be one more"):
        tables.add_many(1, [f"10.0.{i}.0/24" for i in range(70)], range(70))
    assert (len(tables), tables.stats().node_bytes) == (0, 0)


def test_an_empty_vrf_costs_next_to_nothing():
    with Vrfs(vrfs=1000, routes=3000) as tables:
        assert tables.memory_bytes < 1 << 20
        for vrf in range(0, 1000, 1 if COMPILED else 50):
            tables.add(vrf, "10.0.0.0/8", vrf)
            tables.add(vrf, "0.0.0.0/0", 5)
        stats = tables.stats()
        assert stats.node_bytes == 32 * stats.vrfs_used


# A model ------------------------------------------------------------------------------------------------

SOME4 = st.one_of(st.integers(0, 0xFFFF).map(lambda low: 0x0A000000 | low), st.integers(0, 0xFFFF_FFFF))
PREFIXES = st.one_of(
    st.tuples(SOME4, st.integers(0, 32)).map(lambda p: ipaddress.IPv4Network((p[0] >> 32 - p[1] << 32 - p[1], p[1]))),
    st.tuples(st.integers(0, LAST6), st.integers(0, 128)).map(
        lambda p: ipaddress.IPv6Network((p[0] >> 128 - p[1] << 128 - p[1], p[1]))
    ),
)
VRFS = st.integers(0, 3)


class VrfsMachine(RuleBasedStateMachine):
    """Against a dict of (VRF, network), searched whole."""

    def __init__(self):
        super().__init__()
        self.tables, self.model = Vrfs(vrfs=4, routes=300), {}

    def lookup(self, vrf, address):
        fits = [net for (of, net) in self.model if of == vrf and net.version == address.version and address in net]
        return self.model[vrf, max(fits, key=lambda net: net.prefixlen)] if fits else -1

    @rule(vrf=VRFS, prefixes=st.lists(PREFIXES, min_size=1, max_size=8), hop=st.integers(0, MAX_HOP - 8))
    def add(self, vrf, prefixes, hop):
        prefixes = [prefix for prefix in prefixes if prefix.version == prefixes[0].version]
        self.tables.add_many(vrf, prefixes, range(hop, hop + len(prefixes)))
        self.model.update({(vrf, prefix): hop + n for n, prefix in enumerate(prefixes)})

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def delete(self, data):
        vrf, prefix = data.draw(st.sampled_from(list(self.model)))
        self.tables.delete(vrf, prefix)
        del self.model[vrf, prefix]

    @invariant()
    def edges(self):
        for address in {edge for _, net in self.model for edge in (net[0], net[-1])}:
            for vrf in range(4):
                wanted = self.lookup(vrf, address)
                assert self.tables.lookup(vrf, address) == look(self.tables, vrf, str(address)) == wanted
        assert {(vrf, ipaddress.ip_network(prefix)): hop for vrf, prefix, hop in self.tables} == self.model
        assert len(self.tables) == len(self.model)

    def teardown(self):
        self.tables.clear()
        assert self.tables.stats().node_bytes == 0
        self.tables.close()


VrfsMachine.TestCase.settings = settings(max_examples=30 if COMPILED else 8, stateful_step_count=20, deadline=None)
TestVrfsMachine = VrfsMachine.TestCase


# A second process ---------------------------------------------------------------------------------------

ATTACH = """
import sys
from wirespeed.tables.vrf import Vrfs
with Vrfs.attach(sys.argv[1]) as tables:
    hops = tables.lookup(1, "10.9.9.9"), tables.lookup(2, "2001:db8::5")
    print(list(tables), *hops, tables.vrfs, tables.stats().routes)
"""


def test_another_process_attaches_all_tables_by_one_name():
    name = f"vrfs-{os.getpid()}"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    with Vrfs(vrfs=3, name=name, routes=100) as tables:
        tables.add_many(1, [f"10.{n}.0.0/16" for n in range(20)], range(20))
        tables.add(2, "2001:db8::/32", 1)
        command = [sys.executable, "-c", ATTACH, name]
        run = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
        assert run.stdout == f"{list(tables)} 9 1 3 21\n"

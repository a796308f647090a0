"""Poptrie4: literals, room, a model, pytricia, the whole Internet, and readers during updates."""

import ipaddress

import numpy as np
import pytest
from hypothesis import settings
from table_model import LOOKUP, TableMachine, against_pytricia, needs_the_internet, watched

from wirespeed.errors import TableError
from wirespeed.jit import COMPILED
from wirespeed.mem.region import Region
from wirespeed.sync.rcu import Grace, format_slot, online, quiescent
from wirespeed.tables.poptrie import MAX_HOP, Poptrie4


@pytest.fixture
def table():
    with Poptrie4(routes=4096, memory=1 << 16) as table:
        yield table


def test_longest_prefix_wins_at_every_level(table):
    prefixes = ["10.0.0.0/12", "10.1.0.0/18", "10.1.0.0/19", "10.1.2.0/24", "10.1.2.128/25", "10.1.2.128/30"]
    prefixes += ["10.1.2.129/32", "10.1.2.130/31"]
    for hop, prefix in enumerate(prefixes):
        table.add(prefix, hop)
    wanted = {
        "10.0.0.0": 0, "10.15.255.255": 0, "10.16.0.0": -1, "9.255.255.255": -1, "10.1.63.255": 1, "10.1.31.255": 2,
        "10.1.2.0": 3, "10.1.2.127": 3, "10.1.2.128": 5, "10.1.2.129": 6, "10.1.2.130": 7, "10.1.2.131": 7,
        "10.1.2.132": 4, "10.1.2.255": 4, "10.1.3.0": 2,
    }  # fmt: skip
    assert {ip: table.lookup(ip) for ip in wanted} == wanted
    ints = [int(ipaddress.IPv4Address(ip)) for ip in wanted]
    assert [LOOKUP[Poptrie4](table.address, ip) for ip in ints] == list(wanted.values())
    assert table.lookup_many(np.array(ints * 5)).tolist() == list(wanted.values()) * 5


def test_first_and_last_address_and_largest_hop(table):
    table.add("0.0.0.0/32", 0)
    table.add("255.255.255.255/32", MAX_HOP)
    assert [table.lookup(ip) for ip in (0, 1, 0xFFFF_FFFE, 0xFFFF_FFFF)] == [0, -1, -1, MAX_HOP]
    assert LOOKUP[Poptrie4](table.address, -1) == MAX_HOP  # only the low 32 bits count
    assert LOOKUP[Poptrie4](table.address, 1 << 40) == 0


def test_chunks_take_what_their_runs_need(table):
    def taken():
        return table.stats().chunk_bytes

    table.add("10.0.0.0/18", 1)
    assert taken() == 0
    table.add("10.0.0.0/19", 2)
    assert taken() == 16  # 8 + 2 runs of 4
    table.add("10.0.16.0/24", 3)
    assert taken() == 32  # 8 + 4 runs
    table.add("10.0.16.1/32", 4)
    assert taken() == 80  # below it 2 runs for 6 bits, and 3 for the last 2
    table.delete("10.0.16.1/32")
    assert taken() == 32
    table.add_many([(10 << 24 | net << 8, 24) for net in range(64)], range(64))
    assert taken() == 512  # 8 + 64 runs
    table.delete_many([(10 << 24 | net << 8, 24) for net in range(64)])
    assert taken() == 16
    table.clear()
    assert (taken(), table._first_table().any()) == (0, False)


def test_full_changes_nothing():
    with Poptrie4(routes=1024, memory=4096) as table:
        added = 0
        while table.stats().chunk_bytes < 4096 * 31 // 32 - 63:  # each takes 64, and the last 32nd is for deleting
            table.add((added << 22 | 1, 32), added)
            added += 1
        assert added >= 20
        with pytest.raises(TableError, match=r"no room for the chunks of 1 more routes, \d+ of 4096 .*memory=8192"):
            table.add((added << 22 | 1, 32), added)
        before = table.stats()
        with pytest.raises(TableError, match="no room for the chunks of 30 more routes"):
            table.add_many([(i << 20 | 1, 32) for i in range(1, 31)], range(30))
        assert table.stats() == before
        assert table.lookup_many([i << 22 | 1 for i in range(added + 1)]).tolist() == [*range(added), -1]
        assert (table._staged() == 0xFFFF_FFFF).all()
        table.clear()  # also where there is no room for all the new chunks at once
        assert (table.stats().chunk_bytes, table._first_table().any()) == (0, False)


def test_room_that_cannot_be():
    for memory in (0, 1 << 33):
        with pytest.raises(TableError, match=f"{memory} bytes of chunks are not possible"):
            Poptrie4(memory=memory)
    with Poptrie4(routes=10, memory=1) as table:
        assert table.stats().chunk_bytes_limit == 512


@pytest.mark.skipif(not COMPILED, reason="2^18 interpreted stores")
def test_default_route(table):
    table.add("192.0.2.0/25", 1)
    table.add("0.0.0.0/0", 9)
    ips = ("0.0.0.0", "192.0.2.1", "192.0.2.128", "255.255.255.255")
    assert [table.lookup(ip) for ip in ips] == [9, 1, 9, 9]
    table.delete("0.0.0.0/0")
    assert [table.lookup(ip) for ip in ips] == [-1, 1, -1, -1]
    table.delete("192.0.2.0/25")
    assert not table._first_table().any()


# A model ------------------------------------------------------------------------------------------------


class PoptrieMachine(TableMachine):
    twin: Poptrie4

    def fits(self):
        """It takes as much as one that was made of the same routes at once."""
        addresses, lengths, hops = self.table.to_arrays()
        self.twin.add_many((addresses, lengths), hops)
        assert self.table.stats().chunk_bytes == self.twin.stats().chunk_bytes
        self.twin.clear()
        assert self.twin.stats().chunk_bytes == 0


PoptrieMachine.TestCase.settings = settings(
    max_examples=60 if COMPILED else 5, stateful_step_count=30 if COMPILED else 15, deadline=None
)


@pytest.fixture(autouse=True, scope="module")
def _shared_tables():
    with Poptrie4(routes=1024, memory=1 << 18) as table, Poptrie4(routes=1024, memory=1 << 18) as twin:
        PoptrieMachine.table, PoptrieMachine.twin = table, twin
        yield
        assert not table._first_table().any()


TestPoptrieMachine = PoptrieMachine.TestCase


@needs_the_internet
def test_the_internet_table_against_pytricia():
    with Poptrie4() as table:
        against_pytricia(table)
        assert table.stats().chunk_bytes == 0


# Readers during updates ---------------------------------------------------------------------------------


def test_readers_only_ever_see_legal_hops():
    """Little memory: a block is soon another chunk's, whose answers would be wrong."""
    nets = 8
    with Poptrie4(routes=256, memory=2048) as table:
        legal = {}
        for net in range(nets):
            base = 0x0A000000 | net << 14
            table.add((base, 18), 300 + net)
            legal[base | 5] = 300 + net, 100 + net  # under a /28 that comes and goes
            legal[base | 256 | 200] = 300 + net, 200 + net  # under a /24 that comes and goes
            legal[base | 0x3FFF] = 300 + net, 300 + net
        with watched(table, legal):
            for turn in range(3_000 if COMPILED else 20):
                base = 0x0A000000 | (turn % nets) << 14
                table.add((base, 28), 100 + turn % nets)
                table.add_many([(base | 256, 24), (base | 512, 24)], [200 + turn % nets] * 2)
                table.delete((base, 28))
                table.delete_many([(base | 256, 24), (base | 512, 24)])
                assert table.lookup(base) == 300 + turn % nets
        assert (table.stats().chunk_bytes, table.stats().chunks_retired) == (0, 0)


def test_a_stalled_reader_keeps_its_chunk():
    """The reader has loaded the first table's entry: the chunk must stay what it was."""
    with Poptrie4(routes=16, memory=512) as table, Region(4096, "test-poptrie", huge=False) as region:
        format_slot(region.address)
        table.reclaimer = grace = Grace([region.address])
        table.add("10.0.0.0/20", 1)
        taken = table.stats().chunk_bytes
        online(region.address)
        table.add("10.0.16.0/20", 2)
        assert table.stats().chunks_retired == 1
        assert table.stats().chunk_bytes > taken
        table.delete("10.0.16.0/20")
        assert table.stats().chunks_retired == 2
        quiescent(region.address)
        grace.reclaim()
        assert (table.stats().chunks_retired, table.stats().chunk_bytes) == (0, taken)


def test_a_full_table_waits_for_the_grace_period():
    """Retired chunks are not reused while a worker may read them."""
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

    with Poptrie4(routes=64, memory=512, reclaimer=Reclaimer()) as table:
        for turn in range(100):
            table.add("10.0.0.0/20", turn)
            assert table.lookup("10.0.0.1") == turn
        assert waits
        assert min(waits) > 10
        table.clear()
        waits.clear()

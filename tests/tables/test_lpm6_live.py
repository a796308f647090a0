"""Lpm6 at work: whole tables against pytricia, readers during updates, a soak, a second process."""

import ipaddress
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from wirespeed.errors import ArenaError, TableError
from wirespeed.jit import COMPILED, kernel, load64, load_acquire, pause, signed64, store64, store_release
from wirespeed.mem.region import Region
from wirespeed.sync.rcu import Grace, GraceTimeout, Slot, format_slot, offline, online, quiescent
from wirespeed.tables.lpm6 import Lpm6, Lpm6View
from wirespeed.tables.lpm6_memory import LIST_MAX
from wirespeed.tables.routes_synthetic import internet6

WORD = (1 << 64) - 1


def network(high, low, length):
    return ipaddress.IPv6Network((int(high) << 64 | int(low), int(length)))


# Whole tables -------------------------------------------------------------------------------------------


LONG = pytest.mark.skipif(not COMPILED, reason="interpreted, it takes minutes")


@pytest.mark.parametrize("count", [3_000, pytest.param(200_000, marks=LONG)])
def test_a_full_table_against_pytricia(count):
    """As many addresses as fit the time, in and around the routes; before and after half of them are deleted."""
    pytricia = pytest.importorskip("pytricia")
    count = count if COMPILED else 300
    highs, lengths = internet6(count, seed=6)
    addresses = np.stack([highs, np.zeros_like(highs)], axis=1)
    hops = np.arange(count) % 65_521
    random = np.random.default_rng(2026)
    model = pytricia.PyTricia(128)
    for high, length, hop in zip(highs.tolist(), lengths.tolist(), hops.tolist(), strict=True):
        model.insert((high << 64).to_bytes(16, "big"), length, hop)
    with Lpm6(routes=count) as table:
        table.add_many((addresses, lengths), hops)
        assert len(table) == count
        many = 5 * min(count, 100_000)
        picks = random.integers(0, count, many)
        free = np.clip(lengths[picks].astype(np.int64) + random.integers(-6, 12, many), 0, 63).astype(np.uint64)
        noise = random.integers(0, WORD, (many, 2), dtype=np.uint64, endpoint=True)
        noise[:, 0] >>= free
        wanted = addresses[picks] ^ noise

        def agree():
            found = table.lookup_many(wanted).tolist()
            for (high, low), hop in zip(wanted.tolist(), found, strict=True):
                assert hop == model.get((high << 64 | low).to_bytes(16, "big"), -1), hex(high)

        agree()
        order = random.permutation(count)
        half, rest = order[: count // 2], order[count // 2 :]
        table.delete_many((addresses[half], lengths[half]))
        for at in half.tolist():
            model.delete(str(network(highs[at], 0, lengths[at])))
        agree()
        table.delete_many((addresses[rest], lengths[rest]))
        assert (len(table), table.stats().node_bytes) == (0, 0)
        assert (table.lookup_many(wanted) == -1).all()


def test_a_soak_at_ninety_percent_does_not_grow():
    """Routes come and go at random; memory in use follows the routes, and the frontier stops moving."""
    count = 20_000 if COMPILED else 200
    highs, lengths = internet6(count, seed=7)
    addresses = np.stack([highs, np.zeros_like(highs)], axis=1)
    random = np.random.default_rng(7)
    with Lpm6(routes=count) as table:
        held = np.zeros(count, bool)
        peaks = []
        for turn in range(60):
            wanted = random.random(count) < 0.9
            gone, new = np.flatnonzero(held & ~wanted), np.flatnonzero(wanted & ~held)
            table.delete_many((addresses[gone], lengths[gone]))
            table.add_many((addresses[new], lengths[new]), new)
            held = wanted
            assert len(table) == held.sum()
            if turn % 20 == 19:
                peaks.append(table.stats().node_bytes)
        assert max(peaks) < 1.1 * min(peaks)
        live = np.flatnonzero(held)
        with Lpm6(routes=count) as fresh:
            fresh.add_many((addresses[live], lengths[live]), live)
            assert table.stats().node_bytes < 1.3 * fresh.stats().node_bytes
            assert list(table) == list(fresh)
        table.clear()
        assert table.stats().node_bytes == 0


# Readers during updates ---------------------------------------------------------------------------------


@kernel
def watch(table, slot, stop, addresses, legal, count):
    """Look ``count`` addresses up until stopped; how often a hop was neither of the two legal ones."""
    view = Lpm6View(table)
    online(slot)
    bad = 0
    while load_acquire(stop) == 0:
        for i in range(count):
            at = addresses + i * 16
            hop = view.lookup(load64(at), load64(at + 8))
            if hop != load64(legal + i * 16) and hop != load64(legal + i * 16 + 8):
                bad += 1
        quiescent(slot)
        pause()
    offline(slot)
    return bad


def test_readers_only_ever_see_legal_hops():
    """Nodes and lists are made, unmade and used again for other places all the time, in little memory."""
    rounds = 2_000 if COMPILED else 4
    nets = 8
    with Lpm6(routes=200, memory=16384) as table, Region(16384, "test-lpm6", huge=False) as region:
        slot, stop, addresses, legal = (region.address + at for at in (0, Slot.SIZE, 4096, 8192))
        format_slot(slot)
        grace = Grace([slot])
        table.reclaimer = grace
        watched = []
        for net in range(nets):
            table.add(f"2001:db8:{net:x}::/48", 300 + net)
            watched.append((f"2001:db8:{net:x}:5::1", 300 + net, 100 + net))  # under a /64 that comes and goes
            watched.append((f"2001:db8:{net:x}:8000::1", 300 + net, 200 + net))  # under a /49 that comes and goes
        for i, (text, *hops) in enumerate(watched):
            number = int(ipaddress.IPv6Address(text))
            store64(addresses + i * 16, signed64(number >> 64))
            store64(addresses + i * 16 + 8, signed64(number))
            store64(legal + i * 16, hops[0])
            store64(legal + i * 16 + 8, hops[1])
        bad = []
        arguments = (table.address, slot, stop, addresses, legal, len(watched))
        reader = threading.Thread(target=lambda: bad.append(watch(*arguments)))
        reader.start()
        try:
            for turn in range(rounds):
                net = turn % nets
                around = [f"2001:db8:{net:x}:{n:x}::/64" for n in range(9)]  # a list, then a node
                table.add_many(around, [100 + net] * 9)
                table.add(f"2001:db8:{net:x}:8000::/49", 200 + net)
                assert table.lookup(f"2001:db8:{net:x}:5::1") == 100 + net
                table.delete_many([*around, f"2001:db8:{net:x}:8000::/49"])
                assert table.lookup(f"2001:db8:{net:x}:5::1") == 300 + net
        finally:
            store_release(stop, 1)
            reader.join()
        assert bad == [0]
        grace.synchronize()
        table.clear()
        grace.synchronize()
        assert (table.stats().node_bytes, table.stats().node_bytes_waiting) == (0, 0)


class Late:
    """Grace periods that are over when so many of them are asked for."""

    def __init__(self, every):
        self.every = every
        self.actions = []

    def defer(self, action):
        self.actions.append(action)
        if len(self.actions) == self.every:
            self.synchronize()

    def synchronize(self):
        for action in self.actions:
            action()
        self.actions.clear()


@pytest.mark.parametrize("every", range(1, 17))
def test_room_that_comes_back_while_it_is_asked_for_is_used(every):
    """The change that finds the table full hands over what it freed, and with that all that waited comes back."""
    around = [f"2001:db8:7:{n:x}::/64" for n in range(9)]
    with Lpm6(routes=100, memory=16384, reclaimer=Late(every)) as table:
        for hop in range(every):
            table.add_many(around, [hop] * len(around))
            assert {table.lookup(prefix.removesuffix("/64") + "1") for prefix in around} == {hop}
            table.delete_many(around)


def test_a_stalled_reader_keeps_its_nodes():
    """The reader stops in the middle of a lookup: what it was led to must stay as it is, even if the table is full."""
    with Lpm6(routes=1000, memory=8192) as table, Region(4096, "test-lpm6", huge=False) as region:
        clock = iter(range(1_000_000))
        format_slot(region.address)
        table.reclaimer = grace = Grace([region.address], clock=lambda: next(clock), sleep=lambda _: None)
        table.add("2001:db8::/32", 1)
        online(region.address)
        free = []

        def fill():
            for n in range(1000):
                table.add(f"2001:db8:{n * 37 % 256:x}::/48", n)
                table.delete(f"2001:db8:{n * 37 % 256:x}::/48")
                free.append(table.stats().node_bytes_waiting)

        with pytest.raises((GraceTimeout, TableError)) as caught:
            fill()
        assert "worker 0" in str(caught.value) or "grace period" in str(caught.value)
        assert free == sorted(free)  # nothing was used again
        assert len(table) in (1, 2)  # the last prefix may be there; none is half there
        assert dict(table).keys() <= {"2001:db8::/32", f"2001:db8:{len(free) * 37 % 256:x}::/48"}
        quiescent(region.address)
        assert grace.reclaim() > 0
        table.add("2001:db8:ffff::/48", 7)
        assert (table.lookup("2001:db8:ffff::"), table.lookup("2001:db8:fff0::")) == (7, 1)


def test_a_table_that_is_full_of_retired_nodes_waits_for_the_grace_period():
    waits = []

    class Reclaimer:
        def __init__(self):
            self.deferred = []

        def defer(self, action):
            self.deferred.append(action)

        def synchronize(self):
            waits.append(len(self.deferred))
            while self.deferred:
                self.deferred.pop(0)()

    with Lpm6(routes=200, memory=16384, reclaimer=Reclaimer()) as table:
        for turn in range(1000):
            table.add(f"2001:db8:{turn:x}::/48", turn)
            assert table.lookup(f"2001:db8:{turn:x}::1") == turn
            if turn >= LIST_MAX:
                table.delete(f"2001:db8:{turn - LIST_MAX:x}::/48")
        assert waits
        assert len(table) == LIST_MAX


# A second process ---------------------------------------------------------------------------------------


ATTACH = """
import sys, numpy as np
from wirespeed.errors import TableError
from wirespeed.tables.lpm6 import Lpm6
with Lpm6.attach(sys.argv[1]) as table:
    print(len(table), table.lookup("2001:db8:1::9"), table.get("2001:db8::/32"), list(table), flush=True)
    print(table.lookup_many(["2001:db8::", "::"]).tolist(), table.stats().routes, table.alive, flush=True)
    try:
        table.add("::/64", 1)
    except TableError as error:
        print(error, flush=True)
    input()
    print(len(table), table.lookup("2001:db8:1::9"), list(table), flush=True)
"""


def test_another_process_attaches_it_by_name():
    name = f"lpm6-{os.getpid()}"
    sources = str(Path(__file__).parents[2] / "src")
    environment = {**os.environ, "PYTHONPATH": sources}
    with Lpm6(name, routes=100) as table:
        table.add_many(["2001:db8::/32", "2001:db8:1::/48"], [1, 2])
        command, pipe = [sys.executable, "-c", ATTACH, name], subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == "2 2 1 [('2001:db8::/32', 1), ('2001:db8:1::/48', 2)]\n"
            assert other.stdout.readline() == "[1, -1] 2 True\n"
            assert "is attached read-only" in other.stdout.readline()
            table.delete("2001:db8:1::/48")
            out, _ = other.communicate("\n")
            assert out == "1 1 [('2001:db8::/32', 1)]\n"
            assert other.returncode == 0
    with pytest.raises(ArenaError, match="no memory called"):
        Lpm6.attach(name)

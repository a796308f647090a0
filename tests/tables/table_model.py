"""What tests of IPv4 tables share: a model, random prefixes, the Internet, and readers that watch updates."""

import contextlib
import ipaddress
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from wirespeed.jit import COMPILED, inline, kernel, load64, load_acquire, pause, store64, store_release
from wirespeed.mem.region import Region
from wirespeed.sync.rcu import Grace, Slot, format_slot, offline, online, quiescent
from wirespeed.tables.lpm import Lpm4, Lpm4View
from wirespeed.tables.poptrie import Poptrie4, Poptrie4View
from wirespeed.tables.rib4 import MAX_HOP
from wirespeed.tables.routes import load_routes

INTERNET = Path(
    os.environ.get("WIRESPEED_ROUTES")
    or Path(__file__).parents[3] / "shared" / "data" / "routes" / "internet-2026.txt.gz"
)
needs_the_internet = pytest.mark.skipif(
    not COMPILED or not INTERNET.exists(), reason="900,000 routes, compiled only; set WIRESPEED_ROUTES to a file"
)
SHORTEST = 0 if COMPILED else 18  # painting a /0 interpreted is millions of checked stores

ADDRESSES = st.one_of(
    st.integers(0, 0xFFF).map(lambda low: 0x0A000000 | low),  # crowded: a few /24s
    st.integers(0, 0xFFFF_FFFF),
)
PREFIXES = st.tuples(ADDRESSES, st.one_of(st.integers(SHORTEST, 32), st.integers(22, 32))).map(
    lambda pair: (pair[0] >> (32 - pair[1]) << (32 - pair[1]), pair[1])
)


@kernel
def lookup_lpm4(table, ip):
    view = Lpm4View(table)
    view.prefetch(ip)
    return view.lookup(ip)


@kernel
def lookup_poptrie4(table, ip):
    view = Poptrie4View(table)
    view.prefetch(ip)
    return view.lookup(ip)


LOOKUP = {Lpm4: lookup_lpm4, Poptrie4: lookup_poptrie4}
"""The lookup of a node, compiled."""


class TableMachine(RuleBasedStateMachine):
    """Against a dict that is searched from /32 to /0."""

    table: Lpm4 | Poptrie4  # one for all runs: making one takes longer than a run

    def __init__(self):
        super().__init__()
        self.model = {}

    def lookup(self, ip):
        for length in range(32, -1, -1):
            hop = self.model.get((ip >> (32 - length) << (32 - length), length))
            if hop is not None:
                return hop
        return -1

    @rule(prefix=PREFIXES, hop=st.integers(0, MAX_HOP))
    def add(self, prefix, hop):
        self.table.add(prefix, hop)
        self.model[prefix] = hop

    @rule(routes=st.lists(st.tuples(PREFIXES, st.integers(0, MAX_HOP)), max_size=8))
    def add_many(self, routes):
        self.table.add_many([prefix for prefix, _ in routes], [hop for _, hop in routes])
        self.model.update(routes)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def delete(self, data):
        prefix = data.draw(st.sampled_from(sorted(self.model)))
        self.table.delete(prefix)
        del self.model[prefix]

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def delete_many(self, data):
        prefixes = data.draw(st.lists(st.sampled_from(sorted(self.model)), max_size=8))
        self.table.delete_many(prefixes)
        for prefix in set(prefixes):
            del self.model[prefix]

    @rule(ips=st.lists(ADDRESSES, min_size=1, max_size=50))
    def look_up(self, ips):
        wanted = [self.lookup(ip) for ip in ips]
        assert self.table.lookup_many(np.array(ips, np.uint32)).tolist() == wanted
        compiled = LOOKUP[type(self.table)]
        assert [compiled(self.table.address, ip) for ip in ips] == wanted

    @rule()
    def list(self):
        addresses, lengths, hops = self.table.to_arrays()
        assert list(zip(addresses.tolist(), lengths.tolist(), strict=True)) == sorted(self.model)
        assert hops.tolist() == [hop for _, hop in sorted(self.model.items())]

    @rule(prefix=PREFIXES)
    def get(self, prefix):
        assert self.table.get(prefix) == self.model.get(prefix)

    @invariant()
    def edges(self):
        """The first and last address of each route, and their neighbours outside."""
        for address, length in self.model:
            last = address + (0xFFFF_FFFF >> length)
            for ip in (address, last, max(address - 1, 0), min(last + 1, 0xFFFF_FFFF)):
                assert self.table.lookup(ip) == self.lookup(ip)
        assert len(self.table) == len(self.model)
        self.fits()

    def fits(self):
        """The structure is no larger than its routes need."""

    def teardown(self):
        self.table.clear()
        self.model.clear()
        self.edges()


def against_pytricia(table):
    """The whole Internet in the table: a million addresses, and each prefix deleted again; it is empty then."""
    pytricia = pytest.importorskip("pytricia")
    addresses, lengths, _ = load_routes(INTERNET)
    assert len(addresses) > 800_000
    hops = np.arange(len(addresses)) % 65_521
    model = pytricia.PyTricia(32)
    for address, length, hop in zip(addresses.tolist(), lengths.tolist(), hops.tolist(), strict=True):
        model.insert(ipaddress.IPv4Address(address).packed, length, hop)
    table.add_many((addresses, lengths), hops)
    assert len(table) == len(addresses)
    random = np.random.default_rng(2026)

    def compare(anywhere, near):
        ips = np.concatenate([
            random.integers(0, 1 << 32, anywhere, dtype=np.uint32),
            random.choice(addresses, near) + random.integers(0, 256, near, dtype=np.uint32),
        ])  # fmt: skip
        got = table.lookup_many(ips).tolist()
        for ip, hop in zip(ips.tolist(), got, strict=True):
            assert hop == model.get(ip.to_bytes(4, "big"), -1), ipaddress.IPv4Address(ip)

    compare(600_000, 400_000)
    order = random.permutation(len(addresses))
    single, third = order[:20_000], len(order) // 3
    for position in single.tolist():
        table.delete((int(addresses[position]), int(lengths[position])))
    table.delete_many((addresses[order[20_000:third]], lengths[order[20_000:third]]))
    for address, length in zip(addresses[order[:third]].tolist(), lengths[order[:third]].tolist(), strict=True):
        model.delete(ipaddress.IPv4Network((address, length)))
    compare(50_000, 100_000)
    table.delete_many((addresses[order[third:]], lengths[order[third:]]))
    assert len(table) == 0
    assert not table._first_table().any()


@inline
def _watch(view, slot, stop, ips, legal, count):
    """Look ``count`` addresses up until stopped; how often a hop was neither of the two legal ones."""
    online(slot)
    bad = 0
    while load_acquire(stop) == 0:
        for i in range(count):
            hop = view.lookup(load64(ips + i * 8))
            if hop != load64(legal + i * 16) and hop != load64(legal + i * 16 + 8):
                bad += 1
        quiescent(slot)
        pause()
    offline(slot)
    return bad


@kernel
def watch_lpm4(table, slot, stop, ips, legal, count):
    return _watch(Lpm4View(table), slot, stop, ips, legal, count)


@kernel
def watch_poptrie4(table, slot, stop, ips, legal, count):
    return _watch(Poptrie4View(table), slot, stop, ips, legal, count)


WATCH = {Lpm4: watch_lpm4, Poptrie4: watch_poptrie4}


@contextlib.contextmanager
def watched(table, legal):
    """A reader in a thread of its own looks up each address of ``legal``, {address: (hop, other legal hop)}, while
    the body changes the table; at the end it must have seen nothing else."""
    with Region(32768, "test-table", huge=False) as region:
        slot, stop, ips, hops = (region.address + at for at in (0, Slot.SIZE, 4096, 12288))
        assert len(legal) <= 1024
        format_slot(slot)
        table.reclaimer = grace = Grace([slot])
        for i, (ip, pair) in enumerate(legal.items()):
            store64(ips + i * 8, ip)
            store64(hops + i * 16, pair[0])
            store64(hops + i * 16 + 8, pair[1])
        bad = []
        watch = WATCH[type(table)]
        reader = threading.Thread(target=lambda: bad.append(watch(table.address, slot, stop, ips, hops, len(legal))))
        reader.start()
        try:
            yield grace
        finally:
            store_release(stop, 1)
            reader.join()
        assert bad == [0]
        grace.synchronize()
        table.reclaimer = None

"""The pool: every cell is somewhere, once. Against a model, and between threads."""

import os
import subprocess
import sys
import threading

import numba
import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from wirespeed.errors import ArenaError, TableError
from wirespeed.jit import COMPILED, kernel, load64, pause, python_function, store64
from wirespeed.mem.descriptor import CELL, CHAINED, META, SHARED, CellHeader, blank, cell_of, header_of
from wirespeed.mem.pool import (
    BATCH,
    MAX_BURST,
    Cache,
    CacheStats,
    Pool,
    get,
    get_all,
    get_shared,
    hold,
    hold_all,
    put,
    put_shared,
    release,
    share,
    take,
    taken,
    untake,
)
from wirespeed.mem.region import Region
from wirespeed.sync.ring import RingView, format_ring, sc_dequeue, sp_enqueue

PACKETS = 2_000_000 if COMPILED else 3_000


@kernel
def take_into(cache_address, vector, wanted, unused):
    """Take, use all but the last ``unused``; returns how many are used."""
    cache = Cache(cache_address)
    got = take(cache, wanted)
    source = taken(cache, got)
    used = max(got - unused, 0)
    for i in range(used):
        store64(vector + (i << 3), load64(source - (i << 3)))
    untake(cache, got - used)
    return used


@kernel
def release_from(cache_address, vector, count):
    release(Cache(cache_address), vector, count)


@kernel
def share_one(cells, desc):
    return share(cells, desc)


@kernel
def send(cache_address, ring, vector, packets):
    """Take cells and pass them on."""
    cache = Cache(cache_address)
    sent = 0
    while sent < packets:
        got = take(cache, min(32, packets - sent))
        source = taken(cache, got)
        for i in range(got):
            store64(vector + (i << 3), load64(source - (i << 3)))
        done = 0
        while done < got:
            moved = sp_enqueue(ring, vector + (done << 3), got - done)
            done += moved
            if moved == 0:
                pause()
        sent += got
        if got == 0:
            pause()
    return sent


@kernel
def receive(cache_address, ring, vector, packets):
    """Free what comes."""
    cache = Cache(cache_address)
    freed = 0
    while freed < packets:
        got = sc_dequeue(ring, vector, 48)
        release(cache, vector, got)
        freed += got
        if got == 0:
            pause()
    return freed


@kernel
def release_many(cache_address, first, packets):
    """Free one by one, from a list of descriptors."""
    cache = Cache(cache_address)
    for i in range(packets):
        release(cache, first + (i << 3), 1)


class Bench:
    """A pool with two workers, and a vector."""

    def __init__(self, cells=2304, workers=2):
        self.pool = Pool(cells, workers)
        self.region = Region(1 << 16, "test-vectors", huge=False)
        self.vector = self.region.address

    def close(self):
        self.pool.close()
        self.region.close()

    def take(self, wanted, worker=0, unused=0):
        got = take_into(self.pool.cache(worker), self.vector, wanted, unused)
        return [load64(self.vector + 8 * i) for i in range(got)]

    def release(self, descs, worker=0):
        for at in range(0, len(descs), MAX_BURST):
            part = descs[at : at + MAX_BURST]
            for i, desc in enumerate(part):
                store64(self.vector + 8 * i, desc)
            release_from(self.pool.cache(worker), self.vector, len(part))

    def header(self, desc):
        return CellHeader(header_of(self.pool.cells, desc))

    def chain(self, descs):
        """One packet over these cells; returns its descriptor."""
        for desc, following in zip(descs[-2::-1], descs[:0:-1], strict=True):
            self.header(desc).next = following | (0 if following == descs[-1] else CHAINED)
        return descs[0] | (CHAINED if len(descs) > 1 else 0)

    def everything(self):
        """Take all cells there are, by the control thread's stack and every worker's."""
        found = []
        for worker in range(self.pool.workers + 1):
            while got := self.take(256, worker):
                found += got
        return found


@pytest.fixture
def bench():
    bench = Bench()
    yield bench
    assert bench.pool.in_use == 0
    cells = sorted(map(cell_of, bench.everything()))
    assert cells == list(range(bench.pool.size))  # each once
    bench.close()


def test_blank_cells_come_and_go(bench):
    descs = bench.take(32)
    assert len(set(descs)) == 32
    assert all(desc == blank(desc) for desc in descs)
    assert bench.pool.in_use == 32
    bench.release([desc | 100 << 48 | 7 for desc in descs])
    assert bench.pool.in_use == 0


def test_the_cell_freed_last_comes_first(bench):
    descs = bench.take(8)
    bench.release(descs)
    assert bench.take(1) == descs[-1:]
    bench.release(descs[-1:])


def test_sizes():
    assert Pool(16384).size == 16384
    pool = Pool(2000)
    assert (pool.size, pool.free, pool.in_use) == (2048, 2048, 0)
    assert pool.cells % CELL % 64 == 0
    with pytest.raises(ArenaError, match="a pool of 1000 cells starves 1 workers: give it at least 1536"):
        Pool(1000)
    pool.close()


def test_untake(bench):
    kept = bench.take(32, unused=12)
    assert len(kept) == 20
    assert bench.pool.in_use == 20
    more = bench.take(12)
    assert not set(map(cell_of, kept)) & set(map(cell_of, more))
    bench.release(kept + more)


def test_exhaustion_is_counted_and_passes(bench):
    held = []
    while got := bench.take(256):
        held += got
    assert bench.pool.free == 0
    assert bench.pool.in_use == bench.pool.size == len(held)
    before = bench.pool.refused
    assert bench.take(7) == []
    assert bench.take(9, worker=1) == []
    assert bench.pool.refused == before + 16
    bench.release(held)
    bench.release(bench.take(5))


def test_what_one_worker_holds_spills_to_the_others(bench):
    held = []
    while got := bench.take(256):
        held += got
    bench.release(held, worker=0)
    assert Cache(bench.pool.cache(0)).top <= 2 * MAX_BURST
    got = bench.take(256, worker=1)
    assert len(got) == 256
    bench.release(got, worker=0)


def test_the_largest_bursts_stay_in_the_stack(bench):
    held = []
    while got := bench.take(256):
        held += got
    neighbour = bench.pool.cache(1)
    before = Cache(neighbour).top
    for at in range(0, len(held), MAX_BURST):
        bench.release(held[at : at + MAX_BURST])
        assert Cache(bench.pool.cache(0)).top <= 512 + MAX_BURST
    assert Cache(neighbour).top == before
    while got := bench.take(MAX_BURST):
        bench.release(got)
        if len(got) == MAX_BURST:
            break


def test_the_control_thread(bench):
    got = bench.pool.take(bench.vector, 300)
    assert got == 300
    assert bench.pool.in_use == 300
    bench.pool.release(bench.vector, got)
    held = []
    while got := bench.take(256):
        held += got
    for i, desc in enumerate(held):
        store64(bench.vector + 8 * i, desc)
    bench.pool.release(bench.vector, len(held))  # many bursts at once


def test_chains(bench):
    descs = bench.take(5)
    packet = bench.chain(descs)
    bench.release([packet, *bench.take(2)])
    assert bench.pool.in_use == 0


def test_metadata_alone_frees_one_cell(bench):
    (desc,) = bench.take(1)
    bench.header(desc).next = 0x7FFF_FFFF_FFFF  # stale
    bench.header(desc).references = 77
    bench.release([desc | META])
    assert bench.pool.in_use == 0


@pytest.mark.parametrize("length", [1, 3])
def test_shared_packets_are_freed_by_the_last_holder(bench, length):
    packet = bench.chain(bench.take(length))
    both = share_one(bench.pool.cells, packet)
    assert both & SHARED
    third = share_one(bench.pool.cells, both)
    assert third == both
    bench.release([both], worker=0)
    assert bench.pool.in_use == length
    bench.release([both], worker=1)
    assert bench.pool.in_use == length
    bench.release([both])
    assert bench.pool.in_use == 0


def test_a_shared_cell_is_fresh_afterwards(bench):
    for _ in range(3):
        packet = bench.chain(bench.take(2))
        packet = share_one(bench.pool.cells, packet)
        bench.release([packet, packet])
        assert bench.pool.in_use == 0


def test_references_leave_the_length_beside_them(bench):
    (desc,) = bench.take(1)
    bench.header(desc).length = 0xFFFF_FFFF
    shared = share_one(bench.pool.cells, desc)
    shared = share_one(bench.pool.cells, shared)
    bench.release([shared])
    assert (bench.header(desc).references, bench.header(desc).length) == (2, 0xFFFF_FFFF)
    bench.release([shared, shared])


def run(*calls):
    results = [None] * len(calls)

    def work(index, function, *arguments):
        results[index] = function(*arguments)

    threads = [threading.Thread(target=work, args=(i, *call)) for i, call in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_two_threads_exchange_cells(bench):
    """One only takes, the other only frees: cells travel back through the shared ring."""
    with Region(RingView.bytes_needed(1024) + 2048, "test-ring", huge=False) as region:
        format_ring(region.address, 1024)
        vectors = region.address + RingView.bytes_needed(1024)
        sent, freed = run(
            (send, bench.pool.cache(0), region.address, vectors, PACKETS),
            (receive, bench.pool.cache(1), region.address, vectors + 512, PACKETS),
        )
    assert sent == freed == PACKETS


def test_two_threads_let_go_of_the_same_packets(bench):
    """Each packet has two holders in two threads; whoever is last frees it."""
    packets = []
    for length in (1, 2) * (300 if COMPILED else 40):
        packets.append(share_one(bench.pool.cells, bench.chain(bench.take(length))))
    with Region(16 * len(packets), "test-list", huge=False) as region:
        for i, packet in enumerate(packets):
            store64(region.address + 8 * i, packet)
        run(
            (release_many, bench.pool.cache(0), region.address, len(packets)),
            (release_many, bench.pool.cache(1), region.address, len(packets)),
        )


class Accounting(RuleBasedStateMachine):
    """Any sequence of takes, chains, shares and releases against a dict of what is held."""

    def __init__(self):
        super().__init__()
        self.bench = Bench(workers=2)
        self.held = []  # [descriptor, cells, holders]

    def teardown(self):
        for desc, _, holders in self.held:
            self.bench.release([desc] * holders)
        assert self.bench.pool.in_use == 0
        assert sorted(map(cell_of, self.bench.everything())) == list(range(self.bench.pool.size))
        self.bench.close()

    @property
    def cells(self):
        return sum(cells for _, cells, _ in self.held)

    @rule(wanted=st.integers(0, MAX_BURST), unused=st.integers(0, 40), worker=st.integers(0, 2))
    def take(self, wanted, unused, worker):
        stacks = [Cache(self.bench.pool.cache(w)).top for w in range(3)]
        reach = self.bench.pool.free - sum(stacks) + stacks[worker]
        descs = self.bench.take(wanted, worker, unused)
        # Two refills bring 2 * BATCH; more is taken only from what the stack has.
        assert len(descs) == max(min(wanted, reach) - unused, 0) or reach < wanted or wanted > 2 * BATCH
        assert all(desc == blank(desc) for desc in descs)
        self.held += [[desc, 1, 1] for desc in descs]

    @rule(length=st.integers(2, 6), worker=st.integers(0, 2))
    def chain(self, length, worker):
        descs = self.bench.take(length, worker)
        if len(descs) == length:
            self.held.append([self.bench.chain(descs), length, 1])
        else:
            self.held += [[desc, 1, 1] for desc in descs]

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def share(self, data):
        entry = data.draw(st.sampled_from(self.held))
        entry[0] = share_one(self.bench.pool.cells, entry[0])
        entry[2] += 1

    @precondition(lambda self: self.held)
    @rule(data=st.data(), count=st.integers(1, 300), worker=st.integers(0, 2))
    def release(self, data, count, worker):
        start = data.draw(st.integers(0, len(self.held) - 1))
        entries = self.held[start : start + count]
        self.bench.release([desc for desc, _, _ in entries], worker)
        for entry in entries:
            entry[2] -= 1
        self.held = [entry for entry in self.held if entry[2]]

    @invariant()
    def every_cell_is_accounted_for(self):
        assert self.bench.pool.in_use == self.cells


TestAccounting = Accounting.TestCase
TestAccounting.settings = settings(max_examples=40 if COMPILED else 4, stateful_step_count=40 if COMPILED else 10)


# Vectors of blank cells, statistics, other processes -------------------------------------------------------------


@kernel
def vectors(cache_address, vector):
    """get and put of every kind; how many things were not as they should be. The pool has 64 cells, a stack 16."""
    cache = Cache(cache_address)
    bad = 0
    bad += get(cache, vector, 32) != 32
    bad += get_all(cache, vector + 256, 33) != 0
    bad += get(cache, vector + 256, 40) != 32
    bad += get(cache, vector + 512, 1) != 0
    bad += get_shared(cache, vector + 512, 1) != 0
    put_shared(cache, vector, 32)
    bad += get_shared(cache, vector, 33) != 0
    bad += get_shared(cache, vector, 32) != 32
    put(cache, vector, 32)
    put(cache, vector + 256, 32)
    bad += get_all(cache, vector, 64) != 64
    put(cache, vector, 64)
    return bad


def test_vectors_of_blank_cells():
    with Pool(64, 1, cache=16, batch=16) as pool, Region(8192, "test-vector", huge=False) as region:
        for _ in range(3):
            assert vectors(pool.cache(0), region.address) == 0
            assert pool.in_use == 0


def test_arrays_of_cells(bench):
    pool = bench.pool
    first = pool.get_many(1000)
    assert len(set(first.tolist())) == 1000
    assert (first == [blank(desc) for desc in first.tolist()]).all()
    assert len(pool.get_many(pool.size, bulk=True)) == 0
    assert len(pool.get_many(10**9, bulk=True)) == 0
    assert pool.in_use == 1000
    rest = pool.get_many(10**9)
    assert pool.in_use == pool.size
    assert len(pool.get_many(1)) == 0
    pool.put_many(first)
    pool.put_many(rest | META)
    pool.put_many(rest[:0])
    for wrong, message in [
        (rest.astype(np.int32), "not int32"),
        (rest.reshape(1, -1), "one dimension"),
        (np.array([pool.size << 12]), f"cell {pool.size} is not one of the {pool.size} cells"),
    ]:
        with pytest.raises(TableError, match=message):
            pool.put_many(wrong)
    with pytest.raises(TableError, match="cannot take -1 cells"):
        pool.get_many(-1)


@pytest.mark.skipif(not COMPILED, reason="interpreted, there is no machine code")
def test_a_release_is_vector_code(bench):
    fresh = numba.njit(error_model="numpy")(python_function(release_from))  # of cached code there is no text
    fresh(bench.pool.cache(0), bench.vector, 0)
    (text,) = fresh.inspect_asm().values()
    assert "psrlq" in text  # the colour of several cells at once


def test_stats_by_worker(bench):
    bench.release(bench.take(32))
    bench.release(bench.take(32))
    stats = bench.pool.stats()
    assert stats.workers[0] == CacheStats(cells=BATCH, hits=1, misses=1, refills=BATCH, spills=0, refused=0)
    assert stats.workers[1] == stats.control == CacheStats(0, 0, 0, 0, 0, 0)
    assert (stats.cells, stats.free, stats.in_use, stats.shared) == (
        bench.pool.size,
        bench.pool.size,
        0,
        bench.pool.size - BATCH,
    )
    held = []
    while got := bench.take(256):
        held += got
    bench.release(held)
    after = bench.pool.stats()
    assert after.refused == after.workers[0].refused == 256
    assert after.workers[0].spills > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cache": 16, "batch": 17}, "spills above cache=16 cannot move batch=17 cells: use 1 to 16"),
        ({"cache": -1}, "cache=-1"),
        ({"batch": 0}, "batch=0"),
        ({"cells": 1 << 40}, "a pool of 1099511627776 cells is not possible"),
    ],
)
def test_bad_sizes(arguments, message):
    with pytest.raises(ArenaError, match=message):
        Pool(**arguments)


def test_leaks_by_place():
    with Pool(2048, 1, places=["in", "node"]) as pool, Region(4096, "test-vector", huge=False) as region:
        held = pool.get_many(5).tolist()
        cache = Cache(pool.cache(0))
        CellHeader(header_of(pool.cells, held[1])).next = held[2]
        hold(cache, held[0], 2)
        hold(cache, held[1] | CHAINED, 1)
        assert pool.leaks() == {"the control thread": 2, "in": 2, "node": 1}
        assert sorted(pool.used_cells().tolist()) == sorted(map(cell_of, held))
        for i, desc in enumerate(held):
            store64(region.address + 8 * i, desc)
        hold_all(cache, region.address, 4, 2)
        pool.put_many(np.array(held[1:]))
        assert pool.leaks() == {"node": 1}
        pool.put_many(np.array(held[:1]))
        assert pool.leaks() == {}


LOOK = """
import sys
from wirespeed.errors import TableError
from wirespeed.mem.pool import Pool
pool = Pool.attach("test-pool", int(sys.argv[1]))
print(pool.size, pool.free, pool.in_use, pool.stats().workers[1].misses, pool.leaks())
try:
    pool.get_many(1)
except TableError as error:
    print(error)
"""


def test_another_process_looks_at_it():
    with Pool(2048, 2, "test-pool", cache=64, batch=32, places=["in"]) as pool, Region(4096, "v", huge=False) as region:
        assert take_into(pool.cache(1), region.address, 3, 0) == 3
        out = subprocess.run(
            [sys.executable, "-c", LOOK, str(os.getpid())], capture_output=True, text=True, check=True
        ).stdout
    assert out.splitlines()[0] == "2048 2045 3 1 {'nobody': 3}"
    assert "attached read-only" in out

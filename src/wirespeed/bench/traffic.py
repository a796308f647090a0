"""What does shaping, ordering, cutting and joining cost? One core, compiled loops over the operations that nodes have.

Beside DPDK only the distributor has figures: its ``distributor_perf_autotest`` hands packets to a worker on another
core in bursts of 64 and takes them back. Ours of the same row does that work with a ring: the one core picks and
enqueues bursts of 64, the other dequeues and says that each is done, which is what gives a flow free; the packets
themselves do not go back. The peer's single and burst modes do the same work, the better one counts. The row on one
core is the arithmetic alone.

Packets of the scheduler are 64 bytes, in bursts of 32, to random classes and queues of random pipes. With 4,096 pipes
their queues and records are 36 MiB, so each packet misses the caches for its pipe's record and its queue's slot; with
16 pipes it does not. Fragments and segments are cut from a packet and joined to one again, over and over; each side is
timed. GRO with checksums sums each segment's bytes anew, as it must when the port has not.
"""

import os
import struct
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from wirespeed.bench.beside import beside
from wirespeed.bench.result import Row
from wirespeed.bench.settings import Settings
from wirespeed.jit import cycles, kernel, lent, load64, store64, write_bytes
from wirespeed.mem.buffer import chain_of
from wirespeed.mem.descriptor import CHAINED, META, CellHeader, address_of, describe, header_of, length_of
from wirespeed.mem.pool import Cache, Pool
from wirespeed.mem.pool_cache import release_one
from wirespeed.mem.region import Region
from wirespeed.sync.ring import RingView, format_ring, sc_dequeue, sp_enqueue
from wirespeed.tables.maglev import Maglev, MaglevView
from wirespeed.traffic import gro, reassembly
from wirespeed.traffic.bucket import TokenBuckets, TokenBucketsView
from wirespeed.traffic.distributor import Distributor, DistributorView
from wirespeed.traffic.fragment import fragment
from wirespeed.traffic.gro import Gro, GroView
from wirespeed.traffic.gso import segment
from wirespeed.traffic.meter import TwoRateMeters, TwoRateView
from wirespeed.traffic.reassembly import Reassembly, ReassemblyView
from wirespeed.traffic.reorder import Reorder, ReorderView
from wirespeed.traffic.scheduler import Rates, Scheduler, SchedulerView
from wirespeed.traffic.wred import Thresholds, Wred, WredView

AUTOTEST = "distributor_perf_autotest"
_BURST = 32
_HANDED = 64  # packets of the peer's burst
_PEERS = tuple(rf"{mode} mode\) ===\s+Time per burst:\s+\d+\s+Time per packet:\s+(\d+)" for mode in ("single", "burst"))
_SEGMENTS, _MSS = 44, 1448


@kernel
def single(which: int, address: int, keys: int, mask: int, times: int) -> int:
    """``times`` operations of one table, their keys in turn from the ``mask + 1`` at ``keys``; cycles."""
    total = 0
    buckets, meters, queues = TokenBucketsView(address), TwoRateView(address), WredView(address)
    backends, spread = MaglevView(address), DistributorView(address)
    began = cycles()
    now_ns = began  # goes on from run to run
    if which == 0:
        for i in range(times):
            total += buckets.take(load64(keys + ((i & mask) << 3)), 64, now_ns + i)
    elif which == 1:
        for i in range(times):
            total += meters.color(load64(keys + ((i & mask) << 3)), 64, now_ns + i, 0)
    elif which == 2:
        for i in range(times):
            key = load64(keys + ((i & mask) << 3))
            total += queues.drops(key, key & 63, now_ns + i, 0)
    elif which == 3:
        for i in range(times):
            total += backends.pick(load64(keys + ((i & mask) << 3)))
    else:
        for i in range(times):
            key = load64(keys + ((i & mask) << 3))
            spread.done(spread.pick(key), key)
    spent = cycles() - began
    return spent if total >= 0 else 0


@kernel
def schedule(address: int, keys: int, mask: int, bursts: int, vector: int) -> int:
    """Bursts of 32 packets of 64 bytes to pipe, class and queue of a key, and out again; cycles."""
    inside = SchedulerView(address)
    pipes = inside.pipes - 1
    began = cycles()
    now_ns = began  # goes on from run to run
    for turn in range(bursts):
        for i in range(_BURST):
            key = load64(keys + (((turn * _BURST + i) & mask) << 3))
            inside.enqueue((key >> 4) & pipes, (key >> 2) & 3, key & 3, (64 << 48) | (i << 12) | 256)
        now_ns += 1000
        inside.dequeue(vector, _BURST, now_ns, 0)
    return cycles() - began


@kernel
def reorder(address: int, order: int, bursts: int, vector: int) -> int:
    """Bursts of 32 numbers, in the order of the offsets at ``order``, and out again; cycles."""
    window = ReorderView(address)
    first = window.next
    began = cycles()
    for _ in range(bursts):
        for i in range(_BURST):
            window.insert(first + load64(order + (i << 3)), i + 1, 0)
        first = (first + window.drain(vector, _BURST, 0)) & 0xFFFF_FFFF
    return cycles() - began


@kernel
def fragments(address: int, cache_address: int, desc: int, times: int, vector: int) -> tuple[int, int, int]:
    """Cut a packet to 1,500 bytes and put it together again; cycles of the two, and the packet."""
    table, cache = ReassemblyView(address), Cache(cache_address)
    cutting, joining = 0, 0
    for turn in range(times):
        began = cycles()
        count = fragment(cache, desc, 1500, turn, vector, 128)
        between = cycles()
        for i in range(count):
            desc = reassembly.add(table, cache, load64(vector + (i << 3)), turn)
        joining += cycles() - between
        cutting += between - began
    return cutting, joining, desc


@kernel
def segments(address: int, cache_address: int, desc: int, times: int, vector: int, known: int) -> tuple[int, int, int]:
    """Cut a super-packet and merge it again; cycles of the two, and the packet. ``known``: checksums are."""
    table, cache = GroView(address), Cache(cache_address)
    cutting, joining = 0, 0
    for turn in range(times):
        began = cycles()
        count = segment(cache, desc, _MSS, vector, 256)
        between = cycles()
        cutting += between - began
        if known == 0:
            for i in range(count):
                store64(vector + (i << 3), load64(vector + (i << 3)) & ~META)
        between = cycles()
        for i in range(count):
            gro.add(table, cache, load64(vector + (i << 3)), turn, vector + 4096)
        gro.flush(table, cache.cells, 1 << 60, vector + 4096, 8)
        joining += cycles() - between
        desc = load64(vector + 4096)
    return cutting, joining, desc


@kernel
def free(cache_address: int, desc: int) -> None:
    """Give a packet back."""
    release_one(Cache(cache_address), desc)


@kernel
def chain(cache_address: int, length: int) -> int:
    """A packet of so many bytes, whatever they are."""
    return chain_of(Cache(cache_address), length)


@kernel
def hand_over(address: int, ring: int, vector: int, bursts: int) -> int:
    """Pick a worker for each of 64 packets and enqueue them, until the other side has finished them all; cycles."""
    spread = DistributorView(address)
    began = cycles()
    for _ in range(bursts):
        for i in range(_HANDED):
            spread.pick(load64(vector + (i << 3)))
        sent = 0
        while sent < _HANDED:
            sent += sp_enqueue(ring, vector + (sent << 3), _HANDED - sent)
    while spread.load(0) > 0:
        pass
    return cycles() - began


@kernel
def take_over(address: int, ring: int, vector: int, packets: int) -> int:
    """Dequeue packets and say that each is done."""
    spread = DistributorView(address)
    left = packets
    while left > 0:
        got = sc_dequeue(ring, vector, _HANDED)
        for i in range(got):
            spread.done(0, load64(vector + (i << 3)))
        left -= got
    return left


def rows(settings: Settings, tell: Callable[[str], None]) -> Sequence[Row]:
    """Measure every row."""
    times = 1 << (12 if settings.quick else 20)
    found: list[Row] = []
    with Region(1 << 16, "traffic-vector", huge=False) as region:

        def row(metric: str, ours: Callable[[], float], *patterns: str) -> None:
            tell(metric)
            found.append(beside(settings, tell, "traffic", metric, ours, AUTOTEST, *patterns))

        _tables(row, times)
        _queues(row, times, region.address)
        _packets(row, 50 if settings.quick else 1000, region.address)
        if len(os.sched_getaffinity(0)) > 1:
            with Distributor(1, 4096) as spread:
                row("distributor, to another core and done", lambda: _two_cores(spread, times >> 6), *_PEERS)
    return found


Measure = Callable[..., None]


def _tables(row: Measure, times: int) -> None:
    """What looks at one record of 4,096, at random."""
    rng = np.random.default_rng(1)
    keys = rng.integers(0, 1 << 32, 4096)
    with (
        TokenBuckets(4096, 2e7, 64_000) as buckets,
        TwoRateMeters(4096, 1e7, 64_000, 2e7, 64_000) as meters,
        Wred(4096, Thresholds(16, 48)) as queues,
        Maglev([f"10.0.0.{i}" for i in range(100)]) as backends,
        Distributor(4, 4096) as spread,
        lent(keys) as (at,),
    ):
        row("token bucket, 4,096", lambda: single(0, buckets.address, at, 4095, times) / times)
        row("meter (RFC 2698), 4,096", lambda: single(1, meters.address, at, 4095, times) / times)
        row("WRED, 4,096 queues", lambda: single(2, queues.address, at, 4095, times) / times)
        row("Maglev pick, 65,537 entries", lambda: single(3, backends.address, at, 4095, times) / times)
        row(
            "distributor pick and done, 4 workers, one core", lambda: single(4, spread.address, at, 4095, times) / times
        )


def _queues(row: Measure, times: int, vector: int) -> None:
    """What holds packets: the scheduler and the reorder window."""
    rng = np.random.default_rng(2)
    keys, order = rng.integers(0, 1 << 32, 1 << 16), rng.permutation(_BURST)
    fast = Rates(1e12, 1 << 20)
    bursts = times // _BURST
    with lent(keys) as (at,), lent(order) as (steps,):
        for pipes in (16, 4096):
            with Scheduler(fast, [fast], fast, pipes) as inside:
                row(
                    f"scheduler enqueue and dequeue, {pipes:,} pipes",
                    lambda inside=inside: (
                        schedule(inside.address, at, (1 << 16) - 1, bursts, vector) / (bursts * _BURST)
                    ),
                )
        with Reorder(1024, 1_000_000, first=0) as window:
            row("reorder, bursts of 32", lambda: reorder(window.address, steps, bursts, vector) / (bursts * _BURST))


def _packets(row: Measure, times: int, vector: int) -> None:
    """What cuts and joins."""
    pool = Pool(2304, 1)
    cache = pool.cache(0)
    whole = _make(pool, _frame(4000, 17))
    with Reassembly(64) as waiting:

        def datagram(side: int) -> float:
            nonlocal whole
            *spent, whole = fragments(waiting.address, cache, whole, times, vector)
            return spent[side] / times

        row("fragment 4,000 bytes", lambda: datagram(0))
        row("reassemble 4,000 bytes", lambda: datagram(1))
    large = _make(pool, _frame(40 + _SEGMENTS * _MSS, 6))
    CellHeader(header_of(pool.cells, large)).gso_size = _MSS
    large |= META
    with Gro(64) as streams:

        def stream(side: int, known: int) -> float:
            nonlocal large
            *spent, large = segments(streams.address, cache, large, max(times // 10, 1), vector, known)
            return spent[side] / (max(times // 10, 1) * _SEGMENTS)

        row("GSO, a segment of 1,448 bytes", lambda: stream(0, 1))
        row("GRO, a segment of 1,448 bytes", lambda: stream(1, 1))
        row("GRO, a segment of 1,448 bytes, with its checksum", lambda: stream(1, 0))
    free(cache, whole)
    free(cache, large)
    pool.close()


def _frame(total: int, protocol: int) -> bytes:
    """An Ethernet frame of an IPv4 packet of ``total`` bytes."""
    link = bytes.fromhex("0200000000020200000000010800")
    ip = struct.pack("!BBHHHBBHII", 0x45, 0, total, 1, 0, 64, protocol, 0, 0x0A000001, 0x0A000002)
    transport = struct.pack("!HHHH", 1, 2, total - 20, 0)
    if protocol == 6:
        transport = struct.pack("!HHIIBBHHH", 1, 2, 3, 4, 0x50, 0x10, 5, 0, 0)
    return link + ip + transport + bytes(total - 20 - len(transport))


def _make(pool: Pool, data: bytes) -> int:
    """A packet of these bytes."""
    desc = part = int(chain(pool.cache(0), len(data)))
    at = 0
    while True:
        write_bytes(address_of(pool.cells, part), data[at : at + length_of(part)])
        at += length_of(part)
        if part & CHAINED == 0:
            return desc
        part = CellHeader(header_of(pool.cells, part)).next


def _two_cores(spread: Distributor, bursts: int) -> float:
    """Cycles a packet from one core to another."""
    cores = sorted(os.sched_getaffinity(0))
    started = threading.Barrier(2)
    with Region(1 << 16, "traffic-ring", huge=False) as region:
        ring, here, there = region.address, region.address + (1 << 14), region.address + (1 << 15)
        format_ring(ring, 1024)
        assert RingView.bytes_needed(1024) <= 1 << 14
        for i in range(_HANDED):
            store64(here + 8 * i, describe(i + 1, length=60))
        spent: list[Any] = []

        def work(index: int) -> None:
            os.sched_setaffinity(0, {cores[-1 - index]})
            started.wait()
            if index == 0:
                spent.append(hand_over(spread.address, ring, here, bursts))
            else:
                take_over(spread.address, ring, there, bursts * _HANDED)

        threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return float(spent[0] / (bursts * _HANDED))


__all__ = ["AUTOTEST", "rows"]

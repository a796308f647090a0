"""What does a cell cost to get and put back? Beside DPDK's rte_mempool (``mempool_perf_autotest``), the same work.

Get ``keep`` cells in bulks of 32 into a vector, then put them back in bulks of 32; the figure is cycles for the get
and the put together, by cell. *Cached* goes to the worker's own stack, *shared* through the ring of all workers (the
peer's ``cache=0``). The counts are arguments here and variables there (``constant_n=0``). The last row is what the
packet path does instead of a put: a release, which blanks each descriptor and looks for chains; it has no peer.

What bounds it: cached, a bulk of 32 is eight 32-byte loads and stores each way, about one store a cycle, and the
stack's top goes through memory from call to call (one store forwarding each). Shared, two locked exchanges of about
18 core cycles for 32 cells, and the same copies through the ring, whose slots go round 16 times the first cache.

The peer's autotest runs every line for five seconds, and the cached ones come after half an hour. Its seconds are
those of its own clock: we tell the process that its time-stamp counter is a hundred times slower than it is, by
writing that into the variable that rte_get_tsc_hz() returns (found by that function's one instruction), and multiply
the rates it prints. A line then takes 50 ms; the loop that is measured is untouched.
"""

import ctypes
import functools
import os
import re
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from wirespeed.bench.dpdk_test import figures, peer, recall
from wirespeed.bench.errors import BenchError
from wirespeed.bench.pairing import Pair, summarise
from wirespeed.bench.result import Row
from wirespeed.bench.settings import Settings
from wirespeed.eal.clock import tsc_hz
from wirespeed.jit import cycles, kernel
from wirespeed.mem.pool import Cache, Pool, get_all, get_shared, put, put_shared, release
from wirespeed.mem.region import Region

BULK: int = 32
CELLS: int = 1024
"""As many as the peer has for one core: 512 to keep and 512 in its cache, less one."""

_COMMAND = "mempool_perf_autotest"
_SLOWER = 100
_ROUNDED_HZ = 10_000_000  # to so many the peer rounds the frequency that it counts its five seconds by
_REPEATS = 5
_LINE = r"cache={cache} cores=1 n_get_bulk=32 n_put_bulk=32 n_keep={keep} constant_n=0 rate_persec=(\d+)"


@kernel
def _cached(cache_address: int, vector: int, keep: int, bulk: int, turns: int) -> int:
    cache = Cache(cache_address)
    start = cycles()
    for _ in range(turns):
        for at in range(0, keep, bulk):
            get_all(cache, vector + (at << 3), bulk)
        for at in range(0, keep, bulk):
            put(cache, vector + (at << 3), bulk)
    return cycles() - start


@kernel
def _shared(cache_address: int, vector: int, keep: int, bulk: int, turns: int) -> int:
    cache = Cache(cache_address)
    start = cycles()
    for _ in range(turns):
        for at in range(0, keep, bulk):
            get_shared(cache, vector + (at << 3), bulk)
        for at in range(0, keep, bulk):
            put_shared(cache, vector + (at << 3), bulk)
    return cycles() - start


@kernel
def _released(cache_address: int, vector: int, keep: int, bulk: int, turns: int) -> int:
    cache = Cache(cache_address)
    start = cycles()
    for _ in range(turns):
        for at in range(0, keep, bulk):
            get_all(cache, vector + (at << 3), bulk)
        for at in range(0, keep, bulk):
            release(cache, vector + (at << 3), bulk)
    return cycles() - start


_CASES: tuple[tuple[str, Any, int, int | None], ...] = (
    ("get and put of 32, cached", _cached, 32, 512),
    ("get and put of 32, cached, 128 kept", _cached, 128, 512),
    ("get and put of 32, shared", _shared, 32, 0),
    ("get and put of 32, shared, 128 kept", _shared, 128, 0),
    ("get and release of 32, cached", _released, 32, None),
)


def rows(settings: Settings, tell: Callable[[str], None]) -> Sequence[Row]:
    """Measure every row; ours and the peer's autotest take turns."""
    found: dict[str, list[Pair]] = {metric: [] for metric, *_ in _CASES}
    allowed = os.sched_getaffinity(0)
    core = max(allowed)
    turns = 1_000 if settings.quick else 40_000
    with Pool(CELLS, 1, cache=256, batch=128) as pool, Region(4096, "wirespeed-bench-pool") as region:
        for _, run, keep, _ in _CASES:
            tell("compiling")
            run(pool.cache(0), region.address, keep, BULK, 1)
        for turn in range(settings.pairs):
            text = ""
            if settings.peer:
                tell(f"turn {turn + 1}: peer")
                text = _peer_text(turn, core)
            for metric, run, keep, cache in _CASES:
                tell(f"turn {turn + 1}: {metric}")
                os.sched_setaffinity(0, {core})
                try:
                    spent = median(int(run(pool.cache(0), region.address, keep, BULK, turns)) for _ in range(_REPEATS))
                finally:
                    os.sched_setaffinity(0, allowed)
                theirs = None if not text or cache is None else _theirs(text, cache, keep)
                found[metric].append(Pair(spent / turns / keep, theirs))
    beside = peer(_COMMAND) if settings.peer else None
    return [
        Row.of("pool", metric, "cycles", summarise(pairs, lower_is_better=True), beside)
        for metric, pairs in found.items()
    ]


def _peer_text(turn: int, core: int) -> str:
    """What the autotest printed up to the last line that stands beside one of ours."""
    until = _LINE.format(cache=512, keep=128)
    return recall(_COMMAND, turn, cores=(core,), until=until, timeout_s=300.0, before=slow_clock, memory_mib=256)


def _theirs(text: str, cache: int, keep: int) -> float:
    """Cycles by cell, from a rate a fifth of what was done while the peer's clock counted five seconds."""
    rate = figures(text, rate=_LINE.format(cache=cache, keep=keep))["rate"] * _SLOWER
    return round(tsc_hz() / _ROUNDED_HZ) * _ROUNDED_HZ / rate


def slow_clock(pid: int) -> None:
    """Tell the DPDK process ``pid`` that its time-stamp counter is ``_SLOWER`` times slower than it is."""
    found = re.search(r"^([0-9a-f]+)-\S+ \S+ 0+ .*/(librte_eal\.so\S*)$", Path(f"/proc/{pid}/maps").read_text(), re.M)
    if found is None:
        raise BenchError(f"process {pid} has no librte_eal.so: is dpdk-test linked statically?")
    at = int(found[1], 16) + _tsc_hz_offset(found[2])
    with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
        memory.seek(at)
        hz = struct.unpack("<Q", memory.read(8))[0]
        if not 0.9 < hz / tsc_hz() < 1.1:
            raise BenchError(f"dpdk-test: {hz} is not the frequency of its clock, which should be about {tsc_hz():.0f}")
        memory.seek(at)
        memory.write(struct.pack("<Q", hz // _SLOWER))


@functools.cache
def _tsc_hz_offset(library: str) -> int:
    """Where in the library the variable is that rte_get_tsc_hz() returns: ``mov rax, [rip + offset]; ret``."""
    function = ctypes.CDLL(library).rte_get_tsc_hz
    address = ctypes.cast(function, ctypes.c_void_p).value or 0
    code = ctypes.string_at(address, 12)
    if code[:4] == b"\xf3\x0f\x1e\xfa":  # endbr64
        address, code = address + 4, ctypes.string_at(address + 4, 12)
    if code[:3] != b"\x48\x8b\x05" or code[7:8] != b"\xc3":
        raise BenchError(f"{library}: rte_get_tsc_hz() is not the one instruction it used to be")
    base = re.search(rf"^([0-9a-f]+)-\S+ \S+ 0+ .*/{re.escape(library)}\S*$", Path("/proc/self/maps").read_text(), re.M)
    assert base is not None  # it was just loaded
    return int(address + 7 + struct.unpack("<i", code[3:7])[0] - int(base[1], 16))

"""What do IPv4 routes cost? Lookups, adding, deleting and memory of Lpm4 and Poptrie4, beside rte_fib and rte_lpm.

All sides hold the Internet's table (``../shared/data/routes``; made-up routes without it) with 65,521 next hops, and
look up the same 2^20 addresses, so that nothing is in a cache by chance:

- random: of all 2^32. A third has no route, more than half end in Poptrie's first table.
- in the table: a random address below a random prefix, as traffic that follows the routes would.

Rows and their peers:

- lookup, bulk: ``lookup_many`` in bursts of 256, answers into a buffer in the cache, as a worker or
  ``rte_fib_lookup_bulk`` (DIR-24-8, 32-bit entries, the fastest of its scalar lookups) has it. ``dpdk-test-fib`` has
  our routes and our addresses.
- lookup: one at a time, as in a node; the peer is ``rte_lpm_lookup`` of ``lpm_perf_autotest``, whose 1,076,806 routes
  and random addresses are its own.
- lookup, dependent: the address depends on the last answer: the latency.
- add, delete: all routes in one call, arrays in; sorting and checking them is included. ``dpdk-test-fib`` adds them
  in the same order, one by one; the figure of rte_lpm is its autotest's.
- from Python: arrays in and out, against a loop over ``pytricia``.

What bounds them (2.4 GHz TSC, Zen 3 with 512 KiB of L2): a DIR-24-8 lookup is 12 instructions and one miss in a table
of 64 MiB, twice the third-level cache: its cost is the memory's latency over the some 20 misses that fit the reorder
buffer. Poptrie is 1 MiB and 6 MiB, so its two misses end in L3; asked for 32 and 16 lookups ahead they cost their
share of L3's throughput, and what is left are about 35 instructions and a mispredicted branch in every fourth lookup
(does this address end in the first table?). Deciding without a branch costs as much as it saves. Adding and deleting
are misses in the hash of routes, asked for 12 routes ahead, and the stores.
"""

import re
import statistics
import tempfile
from collections.abc import Callable, Sequence
from importlib import import_module, metadata
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wirespeed.bench import dpdk_test
from wirespeed.bench.errors import BenchError
from wirespeed.bench.pairing import Pair, summarise
from wirespeed.bench.result import Row
from wirespeed.bench.settings import Settings
from wirespeed.jit import cycles, inline, kernel, tsc
from wirespeed.tables import lpm_memory, poptrie_memory
from wirespeed.tables.lpm import Lpm4, Lpm4View
from wirespeed.tables.poptrie import Poptrie4, Poptrie4View
from wirespeed.tables.prefix import prefix_text
from wirespeed.tables.routes import load_routes

BURST: int = 256
HOPS: int = 65_521
_LPM_TURNS = 2
_UNTIL = r"^Average LPM Delete.*"

Tell = Callable[[str], None]
Figures = dict[str, float]


# Kernels ------------------------------------------------------------------------------------------------------


@kernel
def bulk_lpm4(table: int, ips: Any, hops: Any) -> int:
    """Cycles for all of ``ips``, in bursts."""
    begun = cycles()
    for at in range(0, len(ips), BURST):
        lpm_memory.lookup_array(table, ips[at : at + BURST], hops)
    return cycles() - begun


@kernel
def bulk_poptrie4(table: int, ips: Any, hops: Any) -> int:
    """Cycles for all of ``ips``, in bursts."""
    begun = cycles()
    for at in range(0, len(ips), BURST):
        poptrie_memory.lookup_array(table, ips[at : at + BURST], hops)
    return cycles() - begun


@inline
def _each(view: Any, ips: Any) -> int:
    """Cycles for lookups one at a time, none of which waits for another."""
    begun = cycles()
    total = 0
    for i in range(len(ips)):
        total += view.lookup(int(ips[i]))
    return int(cycles() - begun + (total >> 60))  # the sum is less than that; without a use it would not be made


@inline
def _chain(view: Any, ips: Any, zero: int) -> int:
    """Cycles for lookups each of which waits for the answer before; the compiler does not know that ``zero`` is 0."""
    begun = cycles()
    hop = 0
    for i in range(len(ips)):
        hop = view.lookup(int(ips[i]) ^ (hop & zero))
    return int(cycles() - begun + (hop & zero))


@kernel
def single_lpm4(table: int, ips: Any, dependent: int, zero: int) -> int:
    """:func:`_chain` or :func:`_each` of an Lpm4."""
    view = Lpm4View(table)
    return _chain(view, ips, zero) if dependent else _each(view, ips)


@kernel
def single_poptrie4(table: int, ips: Any, dependent: int, zero: int) -> int:
    """:func:`_chain` or :func:`_each` of a Poptrie4."""
    view = Poptrie4View(table)
    return _chain(view, ips, zero) if dependent else _each(view, ips)


_KERNELS: dict[type, tuple[Any, Any]] = {Lpm4: (bulk_lpm4, single_lpm4), Poptrie4: (bulk_poptrie4, single_poptrie4)}


# Inputs -------------------------------------------------------------------------------------------------------


class Inputs:
    """Routes and addresses, the same for all sides.

    Args:
        settings: of the bench.
        folder: where files for the peer are written.
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        path, random = settings.routing_table(), np.random.default_rng(2026)
        if path is not None:
            self.addresses, self.lengths, _ = load_routes(path)
        else:
            settings.notes.append("no Internet routing table at hand (--routes FILE): made-up routes instead")
            self.addresses, self.lengths = _made_up(900_000, random)
        if settings.quick:
            kept = slice(0, len(self.addresses), 50)
            self.addresses, self.lengths = self.addresses[kept], self.lengths[kept]
        self.hops = np.arange(len(self.addresses)) % HOPS
        count = 1 << 14 if settings.quick else 1 << 20
        self.random = random.integers(0, 1 << 32, count, dtype=np.uint32)
        chosen = random.integers(0, len(self.addresses), count)
        below = random.integers(0, 1 << 32, count, dtype=np.uint64) >> self.lengths[chosen].astype(np.uint64)
        self.near = (self.addresses[chosen] | below.astype(np.uint32)).astype(np.uint32)
        self.routes_file = folder / "routes.txt"
        keys = self.addresses.astype(np.int64) << 6 | self.lengths
        lines = (f"{prefix_text(key)} {hop}\n" for key, hop in zip(keys.tolist(), self.hops.tolist(), strict=True))
        self.routes_file.write_text("".join(lines))
        self.random_file, self.near_file = folder / "random.txt", folder / "near.txt"
        for file, ips in ((self.random_file, self.random), (self.near_file, self.near)):
            parts = ips.astype(">u4").view(np.uint8).reshape(-1, 4).tolist()
            file.write_text("".join(f"{a}.{b}.{c}.{d}\n" for a, b, c, d in parts))
        self.long = len(np.unique(self.addresses[self.lengths > 24] >> np.uint32(8)))

    @property
    def about(self) -> str:
        """For the metrics' names."""
        return f"{len(self.addresses):,} routes"


def _made_up(count: int, random: np.random.Generator) -> tuple[NDArray[np.uint32], NDArray[np.uint8]]:
    """Prefixes with the lengths of the Internet's, in unicast space."""
    share = {16: 0.02, 18: 0.02, 19: 0.03, 20: 0.05, 21: 0.06, 22: 0.12, 23: 0.1, 24: 0.6}
    lengths = random.choice(np.array(list(share), np.uint32), count, p=list(share.values()))
    addresses = random.integers(1 << 24, 0xDF << 24, count, dtype=np.uint32) >> (32 - lengths) << (32 - lengths)
    keys = np.sort(addresses.astype(np.int64) << 6 | lengths)
    keys = keys[np.append(True, keys[1:] != keys[:-1])]
    return (keys >> 6).astype(np.uint32), (keys & 63).astype(np.uint8)


# Turns --------------------------------------------------------------------------------------------------------


def _ours(table: Lpm4 | Poptrie4, inputs: Inputs) -> Figures:
    """One turn: the table is filled, asked and emptied."""
    routes, (bulk, single) = (inputs.addresses, inputs.lengths), _KERNELS[type(table)]
    hops, found = np.empty(BURST, np.int64), {}
    stamps = [tsc()]
    table.add_many(routes, inputs.hops)
    stamps.append(tsc())
    for name, ips in (("random", inputs.random), ("near", inputs.near)):
        bulk(table.address, ips[: len(ips) // 8], hops)  # what is not evicted by the rest is there from now on
        found[f"bulk {name}"] = bulk(table.address, ips, hops) / len(ips)
        found[f"single {name}"] = single(table.address, ips, 0, 0) / len(ips)
        found[f"chain {name}"] = single(table.address, ips, 1, 0) / len(ips)
        begun = tsc()
        table.lookup_many(ips)
        found[f"python {name}"] = (tsc() - begun) / len(ips)
    stamps.append(tsc())
    table.delete_many(routes)
    stamps.append(tsc())
    took = [after - before for before, after in pairwise(stamps)]
    return {**found, "add": took[0] / len(inputs.hops), "delete": took[2] / len(inputs.hops)}


def _fib(inputs: Inputs, kind: str) -> Figures:
    """One turn of ``dpdk-test-fib``: both files of addresses."""
    found: Figures = {}
    for name, ips in (("random", inputs.random_file), ("near", inputs.near_file)):
        options = ["-f", str(inputs.routes_file), "-t", str(ips), "-b", "dir", "-e", "4", "-v", kind]
        text = dpdk_test.program("dpdk-test-fib", [*options, "-g", str(max(2 * inputs.long, 64))], timeout_s=300)
        found[f"bulk {name}"] = _mean(text, r"AVG FIB lookup ([\d.]+)")
        found["add"], found["delete"] = _mean(text, r"AVG FIB add (\d+)"), _mean(text, r"AVG FIB delete (\d+)")
    return found


def _mean(text: str, pattern: str) -> float:
    figures = [float(figure) for figure in re.findall(pattern, text)]
    if not figures:
        raise BenchError(f"dpdk-test-fib did not say {pattern!r}; it last said: {text[-200:]}")
    return statistics.fmean(figures)


def _lpm(turn: int) -> Figures:
    """One turn of the autotest."""
    text = dpdk_test.recall("lpm_perf_autotest", turn, timeout_s=1800, until=_UNTIL)
    number = r"([\d.e+]+) cycles"
    return dpdk_test.figures(
        text, **{
            "add": rf"Average LPM Add: {number}", "delete": rf"Average LPM Delete: {number}",
            "single random": rf"Average LPM Lookup: {number}", "bulk random": rf"BULK LPM Lookup: {number}",
        }
    )  # fmt: skip


def _pytricia(inputs: Inputs) -> Callable[[NDArray[np.uint32]], float] | None:
    """Cycles for each lookup by ``pytricia``, in a loop; None if it is not installed."""
    try:
        pytricia = import_module("pytricia")
    except ImportError:
        return None
    tree = pytricia.PyTricia(32)
    keys = inputs.addresses.astype(">u4").tobytes()
    for at, (length, hop) in enumerate(zip(inputs.lengths.tolist(), inputs.hops.tolist(), strict=True)):
        tree.insert(keys[4 * at : 4 * at + 4], length, hop)

    def measure(ips: NDArray[np.uint32]) -> float:
        asked = [ip.to_bytes(4, "big") for ip in ips[: 1 << 17].tolist()]
        get, begun = tree.get, tsc()
        for ip in asked:
            get(ip)
        return (tsc() - begun) / len(asked)

    return measure


# Rows ---------------------------------------------------------------------------------------------------------

_METRICS = {
    "bulk random": "lookup, bulk, random addresses", "bulk near": "lookup, bulk, addresses in the table",
    "single random": "lookup, one at a time, random addresses", "single near": "lookup, one at a time, in the table",
    "chain random": "lookup, dependent, random addresses", "chain near": "lookup, dependent, in the table",
    "python random": "lookup from Python, random addresses", "python near": "lookup from Python, in the table",
    "add": "add", "delete": "delete",
}  # fmt: skip


def rows(settings: Settings, tell: Tell) -> Sequence[Row]:
    """Measure every row."""
    with tempfile.TemporaryDirectory(prefix="wirespeed-lpm-") as folder:
        tell("reading routes")
        inputs = Inputs(settings, Path(folder))
        groups = max(2 * inputs.long, 64)
        limit = max(len(inputs.hops), 1 << 20)
        with Lpm4(groups=groups, routes=limit) as lpm, Poptrie4(routes=limit) as poptrie:
            return _measure(settings, tell, inputs, (lpm, poptrie))


def _measure(settings: Settings, tell: Tell, inputs: Inputs, tables: tuple[Lpm4 | Poptrie4, ...]) -> list[Row]:
    python, peers = _pytricia(inputs), {}
    if settings.peer:
        tell("which lookup of dpdk-test-fib is the fastest")
        kinds = {kind: _fib(inputs, kind)["bulk random"] for kind in ("s1", "s2", "s3")}
        best = min(kinds, key=lambda kind: kinds[kind])
        peers["fib"] = f"{dpdk_test.version('dpdk-test-fib')} dpdk-test-fib dir24_8 -v {best}"
        if not settings.quick:
            peers["lpm"] = dpdk_test.peer("lpm_perf_autotest")
    if python:
        peers["pytricia"] = f"pytricia {metadata.version('pytricia')}"
    for table in tables:
        tell(f"{table.KIND}: compiling")
        _ours(table, inputs)
    turns: list[dict[str, Figures]] = []
    for turn in range(settings.pairs):
        tell(f"turn {turn + 1} of {settings.pairs}")
        figures = {table.KIND: _ours(table, inputs) for table in tables}
        if "fib" in peers:
            figures["fib"] = _fib(inputs, best)
        if "lpm" in peers:
            tell(f"turn {turn + 1} of {settings.pairs}: {peers['lpm']}, a minute or more")
            try:
                figures["lpm"] = _lpm(min(turn, _LPM_TURNS - 1))
            except BenchError as error:  # on a busy machine it takes hours; the other peers' turns stay
                settings.notes.append(f"{peers.pop('lpm')} is left out: {error}")
        if python:
            figures["pytricia"] = {"python random": python(inputs.random), "python near": python(inputs.near)}
        turns.append(figures)
    found = [row for table in tables for row in _rows(inputs, table, turns, peers)]
    for table in tables:
        table.add_many((inputs.addresses, inputs.lengths), inputs.hops)
        size = table.memory_bytes / len(table)
        found.append(Row("lpm", f"{type(table).__name__}, memory, {inputs.about}", "bytes/route", size))
    stats = tables[1].stats()
    size = (poptrie_memory.FIRST_TABLE_BYTES + stats.chunk_bytes) / stats.routes  # type: ignore[union-attr]
    found.append(Row("lpm", f"Poptrie4, memory that lookups read, {inputs.about}", "bytes/route", size))
    return found


def _rows(inputs: Inputs, table: Lpm4 | Poptrie4, turns: list[dict[str, Figures]], peers: dict[str, str]) -> list[Row]:
    """A row for each metric and each peer that has it; without a peer where none has."""
    found = []
    for metric, text in _METRICS.items():
        name = f"{type(table).__name__} {text}, {inputs.about}"
        having = [peer for peer in peers if metric in turns[0][peer]]
        for peer in having:
            pairs = [Pair(turn[table.KIND][metric], turn[peer][metric]) for turn in turns]
            found.append(Row.of("lpm", name, "cycles", summarise(pairs, lower_is_better=True), peers[peer]))
        if not having:
            alone = [Pair(turn[table.KIND][metric], None) for turn in turns]
            found.append(Row.of("lpm", name, "cycles", summarise(alone, lower_is_better=True)))
    return found

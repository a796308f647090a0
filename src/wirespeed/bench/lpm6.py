"""IPv6 routes: lookup in bulk, add and delete, cycles each. Beside rte_lpm6 and rte_fib6 (its trie).

1,000 routes are what ``lpm6_perf_autotest`` and ``fib6_perf_autotest`` do: random prefixes, every length from 1 to
128 equally often; added one after the other to an empty table; 100,000 addresses, a hundred in a row below each
route; the routes deleted in the same order. Ours are made the same way (the autotests' own are compiled into them).

The whole table is the Internet's (``--routes``) or, without it, one of 200,000 routes with its lengths; a million
random addresses, each below a random route, beside ``dpdk-test-fib -6`` with the same two files.

Ours are the kernels that ``add_many``, ``delete_many`` and ``lookup_many`` call; what these check before in NumPy is
not in the figure, as it is not in the autotests', which give structures in C.

What bounds a lookup: with 1,000 routes, a root word, 24 bytes of a list of one, and the comparison: some 25
instructions and no branch that goes wrong but where a route's length changes between list and root, once in a
hundred; at four or five instructions a cycle, that is 6 cycles of the core. In the whole table it is misses: a root
word, two lines in each of three to four nodes, one list, each known only after the one before; 5 MB are more than the
second-level cache, so some six loads from the third, of which those of different lookups overlap until a mispredicted
end of the walk (one a lookup: the depth is as random as the address) stops the next ones from starting.
"""

from __future__ import annotations

import ipaddress
import tempfile
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from statistics import mean

import numpy as np
from numpy.typing import NDArray

from wirespeed.bench.dpdk_test import figures, peer, program, recall, version
from wirespeed.bench.pairing import Paired, interleave
from wirespeed.bench.result import Row
from wirespeed.bench.settings import Settings
from wirespeed.jit import lent, tsc
from wirespeed.tables.lpm6 import Lpm6, lookup_array
from wirespeed.tables.lpm6_memory import ROOT_BITS
from wirespeed.tables.lpm6_update import change_many
from wirespeed.tables.prefix6 import prefix_text6
from wirespeed.tables.routes import read_routes
from wirespeed.tables.routes_synthetic import internet6

ROUTES: int = 1000
PER_ROUTE: int = 100
SYNTHETIC: int = 200_000
_WORD = (1 << 64) - 1

Tell = Callable[[str], None]
Words = NDArray[np.uint64]


class Work:
    """Routes, and addresses to look up; a turn adds them, looks up and deletes them again."""

    def __init__(self, addresses: Words, lengths: NDArray[np.uint8], wanted: Words, rounds: int) -> None:
        self.highs = np.ascontiguousarray(addresses[:, 0]).view(np.int64)
        self.lows = np.ascontiguousarray(addresses[:, 1]).view(np.int64)
        self.lengths = lengths.astype(np.int64)
        self.wanted, self.rounds = np.ascontiguousarray(wanted), rounds
        self.node_bytes = 0.0

    def turn(self) -> dict[str, float]:
        """Cycles of each operation, and what the nodes take, in a fresh table."""
        routes, many = len(self.lengths), len(self.wanted)
        hops = np.arange(routes, dtype=np.int64) % 65_521 + 1
        found = np.empty(many, np.int64)
        cost = {}
        with (
            Lpm6(routes=routes) as table,
            lent(self.highs, self.lows, self.lengths, hops, self.wanted, found) as (high, low, length, hop, at, out),
        ):
            begin = tsc()
            change_many(table.address, table._table, ROOT_BITS, high, low, length, hop, 0, routes, 0)
            cost["add"] = (tsc() - begin) / routes
            self.node_bytes = table.stats().node_bytes / routes
            begin = tsc()
            for _ in range(self.rounds):
                lookup_array(table.address, at, at + 8, 16, out, many)
            cost["lookup"] = (tsc() - begin) / (self.rounds * many)
            hops[:] = 0
            begin = tsc()
            change_many(table.address, table._table, ROOT_BITS, high, low, length, hop, 0, routes, 0)
            cost["delete"] = (tsc() - begin) / routes
            assert len(table) == 0
        return cost


def random_routes(seed: int = 6) -> tuple[Words, NDArray[np.uint8], Words]:
    """(prefixes, lengths, addresses): as in DPDK's test_lpm6_data.h, lengths of 1 to 128 and all bits random."""
    random = np.random.default_rng(seed)
    lengths = np.tile(np.arange(1, 129), -(-ROUTES // 128) + 1)
    words = random.integers(0, _WORD, (len(lengths), 2), dtype=np.uint64, endpoint=True)
    prefixes: dict[tuple[int, int, int], None] = {}
    for (high, low), length in zip(words.tolist(), lengths.tolist(), strict=True):
        number = (high << 64 | low) >> (128 - length) << (128 - length)
        prefixes[number >> 64, number & _WORD, length] = None
    chosen = [list(prefixes)[at] for at in random.permutation(len(prefixes))[:ROUTES]]
    addresses = np.array([(high, low) for high, low, _ in chosen], np.uint64)
    bits = np.array([length for *_, length in chosen], np.uint8)
    each = np.repeat(np.arange(ROUTES), PER_ROUTE)
    return addresses, bits, below(addresses[each], bits[each], random)


def below(addresses: Words, lengths: NDArray[np.uint8], random: np.random.Generator) -> Words:
    """The addresses with random bits after the prefix."""
    noise = random.integers(0, _WORD, addresses.shape, dtype=np.uint64, endpoint=True)
    bits = lengths.astype(np.uint64)
    noise[:, 0] = np.where(bits < 64, noise[:, 0] >> np.minimum(bits, 63), 0)
    noise[:, 1] = np.where(bits < 128, noise[:, 1] >> np.clip(bits, 64, 127) - np.uint64(64), 0)
    return np.asarray(addresses | noise)


def rows(settings: Settings, tell: Tell) -> Sequence[Row]:
    """Measure every row."""
    small = Work(*random_routes(), rounds=1 if settings.quick else 100)
    tell("compiling")
    small.turn()
    found = []
    beside = bool(settings.peer) and not settings.quick
    for autotest, what, memory in (("lpm6_perf_autotest", "LPM", 512), ("fib6_perf_autotest", "FIB", 1536)):
        lines = {
            "lookup": rf"BULK {what} Lookup: ([\d.]+) cycles",
            "add": rf"Average {what} Add: ([\d.e+]+) cycles",
            "delete": rf"Average {what} Delete: ([\d.e+]+) cycles",
        }
        turns = count()

        def theirs(autotest: str = autotest, memory: int = memory, turns: count[int] = turns) -> str:
            return recall(autotest, next(turns), memory_mib=memory)

        pairs = _interleave(small, theirs if beside else None, lines, settings, tell, autotest)
        for what_, paired in pairs.items():
            metric = f"{what_}{' bulk' if what_ == 'lookup' else ''}, {ROUTES:,} routes"
            found.append(Row.of("lpm6", metric, "cycles", paired, peer(autotest) if beside else None))
        if not beside:
            break
    return [*found, *_whole(settings, tell)]


def _interleave(
    work: Work, theirs: Callable[[], str] | None, lines: dict[str, str], settings: Settings, tell: Tell, title: str
) -> dict[str, Paired]:
    """Each operation's pairs. One turn of either side is all three operations; they are measured once and shared."""
    ours = [work.turn() for _ in range(1)] if settings.quick else []
    texts: list[str] = []
    done: dict[str, Paired] = {}
    for operation, line in lines.items():
        at, beside = count(), count()

        def mine(operation: str = operation, at: count[int] = at) -> float:
            turn = next(at)
            while len(ours) <= turn:
                ours.append(work.turn())
            return ours[turn][operation]

        def peers(line: str = line, beside: count[int] = beside) -> float:
            turn = next(beside)
            while len(texts) <= turn:
                assert theirs is not None
                texts.append(theirs())
            return _mean(texts[turn], line)

        done[operation] = interleave(
            mine, peers if theirs else None, settings.pairs, warmup=0 if settings.quick else 1,
            progress=lambda n, of, text: tell(f"{title}: pair {n}/{of} {text}"), lower_is_better=True,
        )  # fmt: skip
    return done


def _mean(text: str, line: str) -> float:
    """The figure of an autotest's line; of dpdk-test-fib's ten lines, one for each tenth of the routes, their mean."""
    lines = [part for part in text.splitlines() if part.startswith("AVG ")] or [text]
    wanted = [figures(part, it=line)["it"] for part in lines if part is text or line.split(" (")[0] in part]
    return mean(wanted)


def _whole(settings: Settings, tell: Tell) -> list[Row]:
    path, random = settings.routing_table(), np.random.default_rng(60)
    if path is not None:
        file = read_routes(path)
        addresses, lengths, name = file.addresses6, file.lengths6, "the Internet's"
    else:
        highs, lengths = internet6(SYNTHETIC, seed=60)
        addresses, name = np.stack([highs, np.zeros_like(highs)], axis=1), "made-up"
    if settings.quick:
        addresses, lengths = addresses[:2000], lengths[:2000]
    picks = random.integers(0, len(lengths), 10_000 if settings.quick else 1_000_000)
    work = Work(addresses, lengths, below(addresses[picks], lengths[picks], random), rounds=1)
    title = f"{len(lengths):,} routes ({name})"
    beside = bool(settings.peer) and not settings.quick
    with tempfile.TemporaryDirectory(prefix="wirespeed-bench-") as folder:
        if beside:
            _write(Path(folder), work)

        def theirs() -> str:
            arguments = ["-6", "-f", f"{folder}/routes", "-t", f"{folder}/addresses", "-b", "trie", "-e", "4"]
            return program("dpdk-test-fib", [*arguments, "-g", "600000"], memory_mib=1400)

        lines = {what: rf"AVG FIB {what} ([\d.]+)" for what in ("lookup", "add", "delete")}
        pairs = _interleave(work, theirs if beside else None, lines, settings, tell, title)
    peer_name = f"{version('dpdk-test-fib')} dpdk-test-fib -6 -b trie" if beside else None
    found = [Row.of("lpm6", f"{what}, {title}", "cycles", paired, peer_name) for what, paired in pairs.items()]
    return [*found, Row("lpm6", f"nodes and lists a route, {title}", "bytes", work.node_bytes)]


def _write(folder: Path, work: Work) -> None:
    """The files of dpdk-test-fib: prefixes with next hops, and addresses."""
    routes = zip(work.highs.tolist(), work.lows.tolist(), work.lengths.tolist(), strict=True)
    lines = (f"{prefix_text6(*route)} {hop % 65_521 + 1}\n" for hop, route in enumerate(routes))
    (folder / "routes").write_text("".join(lines))
    addresses = (f"{ipaddress.IPv6Address(high << 64 | low)}\n" for high, low in work.wanted.tolist())
    (folder / "addresses").write_text("".join(addresses))

"""What does a key cost in a hash table? Beside DPDK's rte_hash (``hash_perf_autotest``), the same work; and dict.

The peer's table has 2^19 places and 3/4 of as many keys: counters, least significant byte first, which lie 64 bytes
apart in one array. They are added in that order; then shuffled; then looked up five times over, and deleted, in the
array's order. Ours does the same on an array of the same form. The peer's figures are those with 8-byte data, without
locks, and with keys in either bucket: with random secrets it cannot be had that all are in their first. Hash computed
or given; one at a time, as a node does it, or in bulk (the peer's bursts are 16).

What bounds it (2.4 GHz TSC, Zen 3, 32 MiB of L3 shared with others): a lookup is about 35 instructions for the hash,
the tags and the key, 12 cycles from warm cache, 16 with the hash; through the three steps of bulk, about 80 and 24
cycles. It touches three lines: the key's (read ahead by the hardware), the bucket's (4.4 MiB) and the entry's (12 of
16 MiB). A random line of so much memory costs 6 to 9 cycles with all of the core's 24 misses in flight, 13 from beyond
the L3, so bulk lookups are bounded by 15 to 25 cycles of misses, of which the rest of the work hides part. A lookup
by itself waits for its entry after its bucket; as many overlap as fit the reorder buffer, four or five, and each
mispredicted branch (the key is in its second bucket: one of fifteen) empties it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import median
from types import SimpleNamespace
from typing import Any

import numpy as np

from wirespeed.bench.dpdk_test import peer, recall, section
from wirespeed.bench.errors import BenchError
from wirespeed.bench.pairing import Pair, summarise
from wirespeed.bench.result import Row
from wirespeed.bench.settings import Settings
from wirespeed.jit import cycles, kernel, load64, tsc
from wirespeed.tables.hash import HashTable
from wirespeed.tables.hash_memory import KeyWords, add, delete, search

PLACES: int = 1 << 19
STRIDE: int = 64
"""Bytes from one key to the next, the peer's MAX_KEYSIZE."""
SIZES: tuple[int, ...] = (16, 8, 40, 64)
ROUNDS: int = 5
_COMMAND = "hash_perf_autotest"
_UNTIL = "^With locks in the code"
_TURNS = 2
_REPEATS = 3

Figures = dict[str, float]


@cache
def turns(words: int) -> SimpleNamespace:
    """Kernels for keys of so many words: one operation at a time; each returns (cycles, sum of the results)."""

    @kernel
    def add_all(table: int, keys: int, count: int, hashes: int, values: int) -> Any:
        key = KeyWords()
        total = 0
        start = cycles()
        for i in range(count):
            key.load(keys + i * STRIDE, words)
            hash = load64(hashes + 8 * i) if hashes != 0 else key.hash(table, words)
            total += add(table, hash, key, words, load64(values + 8 * i), 0)
        return cycles() - start, total

    @kernel
    def look_all(table: int, keys: int, count: int, hashes: int) -> Any:
        key = KeyWords()
        total = 0
        start = cycles()
        for i in range(count):
            key.load(keys + i * STRIDE, words)
            hash = load64(hashes + 8 * i) if hashes != 0 else key.hash(table, words)
            _, slot, value = search(table, hash, key, words)
            total += value if slot >= 0 else -1
        return cycles() - start, total

    @kernel
    def delete_all(table: int, keys: int, count: int, hashes: int) -> Any:
        key = KeyWords()
        total = 0
        start = cycles()
        for i in range(count):
            key.load(keys + i * STRIDE, words)
            hash = load64(hashes + 8 * i) if hashes != 0 else key.hash(table, words)
            total += delete(table, hash, key, words, 0)
        return cycles() - start, total

    return SimpleNamespace(add=add_all, look=look_all, delete=delete_all)


def ours(size: int, places: int) -> Figures:
    """Cycles an operation, by the names of rows."""
    count = places * 3 // 4
    rows = np.zeros((count, STRIDE // 8), np.uint64)
    rows[:, 0] = np.arange(count)
    values = np.arange(count, dtype=np.int64)
    out = np.empty(count, np.int64)
    found: dict[str, list[float]] = {}
    with HashTable(size, places) as table:
        run, bulk, words = turns(-(-size // 8)), table._bulk, table.address
        shuffled = np.random.default_rng(1).permutation(count)
        for given, how in ((False, "computed"), (True, "given")):
            hashes = np.empty(count, np.int64)
            bulk.hash(words, rows.ctypes.data, STRIDE, count, hashes.ctypes.data)
            at = hashes.ctypes.data if given else 0
            spent, total = run.add(words, rows.ctypes.data, count, at, values.ctypes.data)
            _check(total == count * (count - 1) // 2 and len(table) == count)  # slots in order: nothing was refused
            found.setdefault(f"add, hash {how}", []).append(spent / count)
            mixed, mixed_values = rows[shuffled], values[shuffled]
            bulk.hash(words, mixed.ctypes.data, STRIDE, count, hashes.ctypes.data)
            for _ in range(ROUNDS):
                spent, total = run.look(words, mixed.ctypes.data, count, at)
                _check(total == int(mixed_values.sum()))
                found.setdefault(f"lookup, hash {how}", []).append(spent / count)
            for _ in range(ROUNDS):
                start = tsc()
                hits = bulk.lookup(words, mixed.ctypes.data, STRIDE, count, at, out.ctypes.data, -1, 0)
                found.setdefault(f"lookup bulk, hash {how}", []).append((tsc() - start) / count)
                _check(hits == count)
            _check(bool((out == mixed_values).all()))
            spent, total = run.delete(words, mixed.ctypes.data, count, at)
            _check(len(table) == 0)
            found.setdefault(f"delete, hash {how}", []).append(spent / count)
            table._head.fresh = table._head.spare = 0  # the next round takes slots in order, as a new table does
    return {name: sum(each) / len(each) for name, each in found.items()}


def theirs(text: str, size: int) -> Figures:
    """The same out of what the autotest printed."""
    part = section(text, "ELEMENTS IN PRIMARY OR SECONDARY LOCATION")
    part = section(part, "Operations with 8-byte data")
    found: Figures = {}
    for how, begin in (("computed", "Without pre-computed"), ("given", "With pre-computed")):
        for line in section(part, begin).splitlines():
            numbers = line.split()
            if len(numbers) == 5 and numbers[0] == str(size):
                for name, number in zip(("add", "lookup", "lookup bulk", "delete"), numbers[1:], strict=True):
                    found.setdefault(f"{name}, hash {how}", float(number))
    if len(found) != 8:
        raise BenchError(f"no figures of keys of {size} bytes in what the peer said")
    return found


@dataclass(frozen=True)
class _FromPython:
    """Integers from Python, in bulk: our table and a dict."""

    count: int

    def measure(self) -> Pair:
        """Cycles a key for looking all of them up in random order."""
        keys = np.arange(self.count) * 7919
        wanted = np.random.default_rng(2).permutation(keys)
        with HashTable(int, self.count) as table:
            table.add_many(keys, keys)
            start = tsc()
            got = table.lookup_many(wanted)
            value = (tsc() - start) / self.count
        known = dict(zip(keys.tolist(), keys.tolist(), strict=True))
        listed = wanted.tolist()
        start = tsc()
        answers = [known[key] for key in listed]
        peer_value = (tsc() - start) / self.count
        _check(got.tolist() == answers)
        return Pair(value, peer_value)


def rows(settings: Settings, tell: Callable[[str], None]) -> Sequence[Row]:
    """Measure every row; ours and the peer's autotest, which has all its figures in one run, take turns."""
    beside = settings.peer == "dpdk" and not settings.quick  # the autotest has no quick way
    places = 1 << 12 if settings.quick else PLACES
    found: dict[tuple[int, str], list[Pair]] = {}
    for size in SIZES:
        tell(f"compiling for keys of {size} bytes")
        ours(size, 64)
    for turn in range(min(settings.pairs, _TURNS) if beside else settings.pairs):
        text = ""
        if beside:
            tell(f"turn {turn + 1}: peer")
            text = recall(_COMMAND, turn, until=_UNTIL, timeout_s=900.0)
        for size in SIZES:
            tell(f"turn {turn + 1}: keys of {size} bytes")
            measured = [ours(size, places) for _ in range(1 if settings.quick else _REPEATS)]
            other = theirs(text, size) if text else {}
            for name in measured[0]:
                value = median(each[name] for each in measured)
                found.setdefault((size, name), []).append(Pair(value, other.get(name)))
    tell("dict")
    python = _FromPython(places * 3 // 4)
    pairs = [python.measure() for _ in range(settings.pairs)]
    return [
        *(
            Row.of("hash", f"{size}-byte key, {name}", "cycles", summarise(each, lower_is_better=True), peer(_COMMAND))
            if beside
            else Row("hash", f"{size}-byte key, {name}", "cycles", median(pair.value for pair in each))
            for (size, name), each in found.items()
        ),
        Row.of(
            "hash", "lookup_many of integers, from Python", "cycles", summarise(pairs, lower_is_better=True), "dict"
        ),
        *(Row("hash", f"{size}-byte key, memory of a key", "bytes", _memory(size, places)) for size in SIZES),
    ]


def _memory(size: int, places: int) -> float:
    """Bytes for each key of a full table."""
    with HashTable(size, places) as table:
        head = table._head
        return float((head.stack + 4 * head.capacity) / head.capacity)


def _check(good: bool) -> None:
    if not good:
        raise BenchError("hash: a table gave a wrong answer, so its figures mean nothing")


__all__ = ["ours", "rows", "theirs"]

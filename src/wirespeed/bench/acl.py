"""What does it cost to classify a packet? Beside DPDK's rte_acl (``dpdk-test-acl``): the same rules, the same trace.

Rule sets are ClassBench-like (:mod:`wirespeed.bench.acl_rules`), written to a file that both read; the trace is 32,768
packets, nine of ten inside a rule. Both classify it again and again in bulk, the peer by its best algorithm of this
machine and 256 packets a call, as its own default is. The row *one packet a call* is our in-node lookup beside the
peer with one packet a call. *File to compiled set* is reading the rules and compiling them, *bytes a rule* what the
compiled set takes (the peer's by its own log).

What bounds ours. Of each tree: a level is 13 instructions a packet (load the entry, load the word, shift, mask, load
the next, store it) and no branch: some 4 cycles, since up to 18 packets fit in the reorder buffer at a time; a leaf is
one block of eight rules, 25 instructions, 12 cycles, most of them to spread four words over vectors. A leaf of
several blocks adds a branch that nobody foresees, 15 to 20 cycles. In sets of 1,000 rules one tree of up to nine
levels makes 60 to 80 cycles; large firewalls are three or four trees. The compiler counts all that for packets made
from the rules (:func:`wirespeed.tables.acl_build.probe`) and keeps the cheapest of five ways to cut. From 100,000 rules
on, blocks come from the third-level cache: 32 packets' blocks are asked for before the first is compared.

What bounds the peer: a trie takes a byte a step, 13 dependent gathers for IPv4 and 37 for IPv6, for up to 16 packets at
a time; rule sets that would make it too large are split into as many as four tries.
"""

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from wirespeed.bench.acl_rules import columns, generate, trace, write_rules, write_trace
from wirespeed.bench.dpdk_test import figures, program, version
from wirespeed.bench.pairing import Pair, interleave, summarise
from wirespeed.bench.result import Row
from wirespeed.bench.settings import Settings
from wirespeed.eal.cpu import flags
from wirespeed.jit import cycles, kernel, load8, load16, load32, load64
from wirespeed.tables.acl import Acl4, Acl6
from wirespeed.tables.acl_memory import AREA_HEAD, Acl4View, Acl6View, classify4, classify6
from wirespeed.tables.acl_rule import load_rules

PACKETS: int = 32_768
_PROGRAM = "dpdk-test-acl"
_FIGURE = r"([\d.]+) cycles/pkt"
_REPEATS = 5

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Case:
    """A rule set."""

    kind: str
    count: int
    bits: int = 32

    def __str__(self) -> str:
        return f"IPv{4 if self.bits == 32 else 6} {self.kind}, {self.count:,} rules"


_CASES = (
    *(Case(kind, count, bits) for bits in (32, 128) for kind in ("acl", "fw") for count in (10, 1_000, 10_000)),
    Case("ipc", 1_000),
    Case("ipc", 10_000),
    Case("acl", 100_000),
)
_QUICK = (Case("acl", 10), Case("acl", 1_000), Case("acl", 100, 128))
_DETAILS = (Case("acl", 1_000), Case("fw", 10_000), Case("acl", 1_000, 128), Case("acl", 100_000))
"""Sets with rows of their own for the rest."""


@kernel
def _bulk4(area: int, scratch: int, packets: Any, count: int, out: int, turns: int) -> int:
    start = cycles()
    for _ in range(turns):
        classify4(area, AREA_HEAD, scratch, packets[0], packets[1], packets[2], packets[3], packets[4], count, out)
    return cycles() - start


@kernel
def _bulk6(area: int, scratch: int, packets: Any, count: int, out: int, turns: int) -> int:
    start = cycles()
    for _ in range(turns):
        classify6(area, AREA_HEAD, scratch, packets[0], packets[1], packets[2], packets[3], packets[4], count, out)
    return cycles() - start


@kernel
def _single4(acl: int, packets: Any, count: int, turns: int) -> int:
    view, found = Acl4View(acl), 0
    src, dst, protocol, sport, dport = packets[0], packets[1], packets[2], packets[3], packets[4]
    start = cycles()
    for _ in range(turns):
        for i in range(count):
            found += view.classify(
                load32(src + i * 4),
                load32(dst + i * 4),
                load8(protocol + i),
                load16(sport + i * 2),
                load16(dport + i * 2),
            )
    spent = cycles() - start
    return spent if found != -1 else 0


@kernel
def _single6(acl: int, packets: Any, count: int, turns: int) -> int:
    view, found = Acl6View(acl), 0
    src, dst, protocol, sport, dport = packets[0], packets[1], packets[2], packets[3], packets[4]
    start = cycles()
    for _ in range(turns):
        for i in range(count):
            found += view.classify(
                (load64(src + i * 16), load64(src + i * 16 + 8)), (load64(dst + i * 16), load64(dst + i * 16 + 8)),
                load8(protocol + i), load16(sport + i * 2), load16(dport + i * 2),
            )  # fmt: skip
    spent = cycles() - start
    return spent if found != -1 else 0


def rows(settings: Settings, tell: Tell) -> Sequence[Row]:
    """Measure every row."""
    found: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="wirespeed-acl-") as folder:
        for case in _QUICK if settings.quick else _CASES:
            tell(f"{case}: generating")
            with _Measured(case, Path(folder), settings, tell) as measured:
                found += measured.rows()
    return found


class _Measured:
    """A rule set, compiled, and in files for the peer."""

    def __init__(self, case: Case, folder: Path, settings: Settings, tell: Tell) -> None:
        self.case, self.settings, self.tell = case, settings, tell
        self.rules, self.trace = folder / f"{case}.rules", folder / f"{case}.trace"
        lines = generate(case.kind, case.count, bits=case.bits)
        self.count = 2_048 if settings.quick else PACKETS
        packets = trace(lines, self.count, bits=case.bits)
        write_rules(lines, self.rules, case.bits)
        write_trace(packets, self.trace, case.bits)
        self.columns = columns(packets, case.bits)
        self.addresses = np.array([column.ctypes.data for column in self.columns])
        self.out = np.empty(self.count, dtype=np.int64)
        self.scratch = np.empty(8 * 40 * 8, dtype=np.int64)
        self.acl = (Acl4 if case.bits == 32 else Acl6)(rules=case.count)
        self.acl.replace(load_rules(self.rules, case.bits))
        self.logs: list[str] = []
        self.core = max(os.sched_getaffinity(0))

    def __enter__(self) -> "_Measured":
        return self

    def __exit__(self, *_: object) -> None:
        self.acl.close()

    def rows(self) -> list[Row]:
        settings, case = self.settings, self.case
        found = [self._row(str(case), self._bulk, partial(self._peer, 256))]
        if case not in _DETAILS and not settings.quick:
            return found
        found.append(self._row(f"{case}, one packet a call", self._single, partial(self._peer, 1)))
        beside = self._beside() if settings.peer else None
        builds, theirs = [], None
        for _ in range(1 if settings.quick else 3):
            began = time.perf_counter()
            self.acl.replace(load_rules(self.rules, case.bits))
            builds.append(time.perf_counter() - began)
        if settings.peer:
            theirs = self._peer_build()
        build = summarise([Pair(median(builds), theirs)], lower_is_better=True)
        found.append(Row.of("acl", f"{case}, file to compiled set", "s", build, beside))
        used = self.acl.stats().used_bytes / case.count
        taken = figures(self.logs[-1], total=r"^total: (\d+) bytes")["total"] / case.count if settings.peer else None
        found.append(
            Row.of(
                "acl", f"{case}, bytes a rule", "bytes", summarise([Pair(used, taken)], lower_is_better=True), beside
            )
        )
        return found

    def _row(self, metric: str, ours: Callable[[], float], theirs: Callable[[], float]) -> Row:
        few = self.case.count >= 100_000  # the peer compiles for half a minute
        paired = interleave(
            ours,
            theirs if self.settings.peer else None,
            min(self.settings.pairs, 2) if few else self.settings.pairs,
            warmup=0 if few or self.settings.quick else 1,
            progress=lambda done, wanted, text: self.tell(f"{metric}: pair {done}/{wanted} {text}"),
            lower_is_better=True,
        )
        self.settings.notes.append(f"{metric}: {paired.note}")
        return Row.of("acl", metric, "cycles", paired, self._beside() if self.settings.peer else None)

    def _bulk(self) -> float:
        acl = self.acl
        area = acl.address + acl.View(acl.address).current
        scratch = (self.scratch.ctypes.data + 63) & ~63
        run = _bulk4 if self.case.bits == 32 else _bulk6
        return self._pinned(lambda turns: run(area, scratch, self.addresses, self.count, self.out.ctypes.data, turns))

    def _single(self) -> float:
        run = _single4 if self.case.bits == 32 else _single6
        return self._pinned(lambda turns: run(self.acl.address, self.addresses, self.count, turns))

    def _pinned(self, run: Callable[[int], int]) -> float:
        """Cycles a packet on the core where the peer runs too; the median of some runs."""
        turns = 1 if self.settings.quick else 8
        run(1)
        allowed = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {self.core})
        try:
            return median(run(turns) / turns / self.count for _ in range(_REPEATS))
        finally:
            os.sched_setaffinity(0, allowed)

    def _peer(self, step: int) -> float:
        return figures(self._run_peer(step), cost=_FIGURE)["cost"]

    def _run_peer(self, step: int, progress: Callable[[str], None] | None = None) -> str:
        arguments = [
            f"--rulesf={self.rules}", f"--tracef={self.trace}", f"--tracenum={self.count + 64}", "--rulenum=200000",
            f"--iter={1 if self.settings.quick else 40}", f"--tracestep={step}", f"--alg={algorithm()}",
            "--bldcat=1", "--verbose=0", *(["--ipv6"] if self.case.bits == 128 else []),
        ]  # fmt: skip
        text = program(
            _PROGRAM, arguments, cores=(self.core,), options=("--log-level=lib.acl:debug",), memory_mib=1024,
            timeout_s=300.0, progress=progress,
        )  # fmt: skip
        self.logs.append(text)
        return text

    def _peer_build(self) -> float:
        """Seconds from its configuration, which it prints before it reads the rules, to the end of its build."""
        when: dict[str, float] = {}

        def seen(line: str) -> None:
            for mark in ("dump_config", "rte_acl_build"):
                if line.startswith(mark):
                    when[mark] = time.perf_counter()

        self._run_peer(256, seen)
        return when["rte_acl_build"] - when["dump_config"]

    def _beside(self) -> str:
        return f"{version(_PROGRAM)} {_PROGRAM} {algorithm()}"


def algorithm() -> str:
    """The peer's best algorithm of this machine."""
    have = flags()
    return "avx512x32" if {"avx512bw", "avx512vl"} <= have else "avx2" if "avx2" in have else "sse"

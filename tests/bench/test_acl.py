"""The acl bench: its inputs are what it says, and dpdk-test-acl gives the very answers that we give."""

import os
import re
import shutil

import numpy as np
import pytest

from wirespeed.bench import acl as bench
from wirespeed.bench.acl_rules import ANY, FAMILIES, columns, generate, trace, write_rules, write_trace
from wirespeed.bench.dpdk_test import program
from wirespeed.bench.settings import Settings
from wirespeed.jit import COMPILED
from wirespeed.tables.acl import Acl4, Acl6
from wirespeed.tables.acl_rule import load_rules


@pytest.mark.parametrize("bits", [32, 128])
@pytest.mark.parametrize("kind", FAMILIES)
def test_rules_differ_and_only_the_last_is_open(kind, bits):
    lines = generate(kind, 300, bits=bits)
    assert len(set(lines)) == 300
    assert lines == generate(kind, 300, bits=bits)
    assert lines != generate(kind, 300, seed=2, bits=bits)
    opens = [i for i, line in enumerate(lines) if line[1] == line[3] == 0 and line[4] == line[5] == ANY]
    assert opens == [299]


def test_trace_is_mostly_inside_the_rules():
    lines = generate("acl", 100)[:-1]
    packets = trace(lines, 1000)
    inside = sum(
        any(
            (src ^ a) >> (32 - la) == 0
            and (dst ^ b) >> (32 - lb) == 0
            and p[0] <= sport <= p[1]
            and q[0] <= dport <= q[1]
            for a, la, b, lb, p, q, _, _ in lines
        )
        for src, dst, sport, dport, _ in packets
    )
    assert inside >= 880


@pytest.mark.skipif(shutil.which("dpdk-test-acl") is None, reason="dpdk-test-acl is not installed")
@pytest.mark.parametrize("bits", [32, 128])
def test_the_peer_gives_the_same_answers(tmp_path, bits):
    """rte_acl, by its scalar code: the number of the rule that wins, for each packet."""
    lines = generate("fw", 200 if COMPILED else 40, seed=7, bits=bits)
    packets = trace(lines, 1000 if COMPILED else 60, seed=7, bits=bits)
    rules, packets_file = tmp_path / "rules", tmp_path / "trace"
    write_rules(lines, rules, bits)
    write_trace(packets, packets_file, bits)
    arguments = [f"--rulesf={rules}", f"--tracef={packets_file}", f"--tracenum={len(packets) + 64}", "--bldcat=1",
                 "--verbose=2", "--alg=scalar", *(["--ipv6"] if bits == 128 else [])]  # fmt: skip
    said = program("dpdk-test-acl", arguments, cores=(max(os.sched_getaffinity(0)),), memory_mib=256)
    theirs = [int(number) for number in re.findall(r"category: 0, result: (\d+)", said)]
    with (Acl4 if bits == 32 else Acl6)(rules=len(lines)) as acl:
        acl.replace(load_rules(rules, bits))
        ours = acl.match_many(*columns(packets, bits))
    assert np.where(ours < 0, 2**32 - 1, ours).tolist() == theirs


@pytest.mark.skipif(not COMPILED, reason="a bench of interpreted code says nothing")
def test_quick_bench_has_its_rows():
    told = []
    rows = bench.rows(Settings(quick=True, pairs=1), told.append)
    assert [row.metric for row in rows][:4] == [
        "IPv4 acl, 10 rules", "IPv4 acl, 10 rules, one packet a call", "IPv4 acl, 10 rules, file to compiled set",
        "IPv4 acl, 10 rules, bytes a rule",
    ]  # fmt: skip
    assert all(row.bench == "acl" and row.value > 0 and row.peer is None for row in rows)
    assert told

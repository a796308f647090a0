"""Capabilities against masks by hand (capability.h) ; the limit against /proc."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from wirespeed.eal import privileges


@pytest.mark.parametrize(
    ("mask", "names"),
    [
        ("0000000000000000", set()),
        ("0000000000003000", {"CAP_NET_ADMIN", "CAP_NET_RAW"}),
        ("000000c000804000", {"CAP_BPF", "CAP_PERFMON", "CAP_SYS_NICE", "CAP_IPC_LOCK"}),
        ("00000000a80425fb", {"CAP_NET_RAW"}),  # what Docker gives by default
        ("000001ffffffffff", set(privileges.CAPABILITIES)),
    ],
)
def test_masks(machine, mask, names):
    root = machine({"proc/self/status": f"CapPrm:\t000001ffffffffff\nCapEff:\t{mask}\nSeccomp:\t0\n"})
    assert privileges.capabilities(root) == names


def test_no_proc_means_no_capabilities(tmp_path):
    assert privileges.capabilities(tmp_path) == frozenset()


def limits(column):
    row = next(line for line in Path("/proc/self/limits").read_text().splitlines() if "locked memory" in line)
    word = row.split()[3 + column]
    return privileges.UNLIMITED if word == "unlimited" else int(word)


def test_the_limit_is_that_of_proc():
    limit = privileges.memlock()
    assert (limit.soft_bytes, limit.hard_bytes) == (limits(0), limits(1))


def test_allows():
    assert privileges.Memlock(privileges.UNLIMITED, privileges.UNLIMITED).allows(1 << 60)
    assert privileges.Memlock(65536, 65536).allows(65536)
    assert not privileges.Memlock(65536, 1 << 20).allows(65537)


def raised(*before):
    """What raise_memlock() says in a process of its own, and what the kernel then thinks."""
    script = [
        "import os, resource, subprocess",
        "from wirespeed.eal import privileges",
        "resource.setrlimit(resource.RLIMIT_MEMLOCK, (4096, 65536))",
        *before,
        "limit = privileges.raise_memlock()",
        "print(limit.soft_bytes, limit.hard_bytes, bool(limit.why_not))",
    ]
    out = subprocess.run([sys.executable, "-c", "\n".join(script)], capture_output=True, text=True, check=True)
    return out.stdout.split()


def may_change_user():
    row = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff"))
    return int(row.split()[1], 16) >> 7 & 1  # CAP_SETUID


@pytest.mark.skipif(not may_change_user(), reason="drops from root to nobody: needs CAP_SETUID")
def test_an_ordinary_user_gets_the_hard_limit():
    assert raised("os.setuid(65534)") == ["65536", "65536", "True"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_root_gets_it_lifted():
    assert raised() in (["-1", "-1", "False"], ["65536", "65536", "True"])  # the latter in a container

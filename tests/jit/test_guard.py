"""Memory that is taken away while it is read."""

import mmap
import os
import subprocess
import sys

import pytest

from wirespeed.eal.mapping import map_file, unmap
from wirespeed.jit import COMPILED, kernel, load8, register, store8, unregister
from wirespeed.jit.guard import guard, lost, unguard

SIZE = 4 * mmap.PAGESIZE


@kernel
def touch(address, size):  # type: ignore[no-untyped-def]
    total = 0
    for at in range(address, address + size, 512):
        total += load8(at)
        store8(at, 1)
    return total


@pytest.mark.skipif(not COMPILED, reason="interpreted there is no guard")
def test_pages_that_are_gone_are_zeros() -> None:
    fd = os.memfd_create("test-guard")
    os.ftruncate(fd, SIZE)
    os.pwrite(fd, b"\1" * SIZE, 0)
    address = map_file(fd, SIZE)
    register(address, SIZE, "guarded")
    slot = guard(address, SIZE, mmap.PAGESIZE)
    assert touch(address, SIZE) == SIZE // 512
    os.ftruncate(fd, mmap.PAGESIZE)
    assert touch(address, SIZE) == mmap.PAGESIZE // 512
    assert lost(slot) == 3
    assert touch(address, SIZE) == SIZE // 512  # its own pages from now on
    assert lost(slot) == 3
    unguard(slot)
    unregister(address)
    unmap(address, SIZE)
    os.close(fd)


@pytest.mark.skipif(not COMPILED, reason="interpreted there is no guard")
def test_other_accesses_end_the_process_as_ever() -> None:
    program = """
import os, mmap
from wirespeed.eal.mapping import map_file
from wirespeed.jit.guard import guard
import ctypes
fd = os.memfd_create("test-guard")
os.ftruncate(fd, 4096)
address = map_file(fd, 8192)
guard(address - (1 << 30), 4096, 4096)
ctypes.string_at(address + 4096, 1)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=120)
    assert done.returncode == -7  # SIGBUS


def test_a_slot_that_is_none() -> None:
    assert lost(-1) == 0
    unguard(-1)

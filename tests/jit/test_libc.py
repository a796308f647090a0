"""System calls from kernels: a pipe carries bytes, poll says when, errno says why not."""

import errno as errors
import os
import select
import struct

import pytest

from wirespeed import jit
from wirespeed.jit import kernel, libc


@kernel
def write_read(out, into, source, to, size):
    return libc.write(out, source, size), libc.read(into, to, size)


@kernel
def writev_readv(out, into, vectors, count):
    return libc.writev(out, vectors, count), libc.readv(into, vectors + 16 * count, count)


@kernel
def poll_one(at, timeout):
    return libc.poll(at, 1, timeout)


@kernel
def read_fails(fd, at):
    said = libc.read(fd, at, 1)
    return said, libc.errno()


@kernel
def sendto(fd, at, size):
    return libc.sendto(fd, at, size, 0, 0, 0)


@pytest.fixture
def pipe():
    """(read end, write end)."""
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_write_and_read(memory, pipe):
    into, out = pipe
    jit.write_bytes(memory, b"through the pipe")
    assert write_read(out, into, memory, memory + 512, 16) == (16, 16)
    assert jit.read_bytes(memory + 512, 16) == b"through the pipe"


def test_writev_and_readv(memory, pipe):
    into, out = pipe
    jit.write_bytes(memory + 512, b"abcdefgh")
    entries = [(memory + 512, 3), (memory + 515, 5), (memory + 600, 7), (memory + 620, 1)]
    for index, (address, size) in enumerate(entries):
        jit.store64(memory + 16 * index, address)
        jit.store64(memory + 16 * index + 8, size)
    assert writev_readv(out, into, memory, 2) == (8, 8)
    assert jit.read_bytes(memory + 600, 7) == b"abcdefg"
    assert jit.read_bytes(memory + 620, 1) == b"h"


def test_poll(memory, pipe):
    into, out = pipe
    jit.write_bytes(memory, struct.pack("=ihh", into, select.POLLIN, 0))
    assert poll_one(memory, 0) == 0
    os.write(out, b"x")
    assert poll_one(memory, 1000) == 1
    assert struct.unpack("=ihh", jit.read_bytes(memory, 8)) == (into, select.POLLIN, select.POLLIN)


def test_failures_are_minus_one_and_have_a_reason(memory, pipe):
    assert read_fails(-1, memory) == (-1, errors.EBADF)
    assert poll_one(8, 0) == -1  # no such address
    assert read_fails(pipe[1], memory) == (-1, errors.EBADF)  # the wrong end
    assert sendto(pipe[1], memory, 1) == -1


def test_the_twins_work_from_control_code(memory, pipe):
    into, out = pipe
    jit.write_bytes(memory, b"xyz")
    assert libc.write(out, memory, 3) == 3
    assert libc.read(into, memory + 8, 3) == 3
    assert libc.read(-1, memory, 1) == -1
    assert libc.errno() == errors.EBADF

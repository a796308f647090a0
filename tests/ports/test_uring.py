"""io_uring: many reads and writes at once, in order, none of which waits."""

import os
from collections.abc import Iterator

import pytest

from wirespeed.jit import kernel, load64, read_bytes, store64, write_bytes
from wirespeed.mem.region import Region
from wirespeed.ports.uring import READ, WRITE, WRITEV, Made, Uring, ask, enter

EAGAIN, EBADF = 11, 9
_RESULTS, _DATA = 1024, 4096


@kernel
def carry_out(uring, operation, fd, data, size, count, results):  # type: ignore[no-untyped-def]
    for number in range(count):
        ask(uring, number, operation, fd, data + number * size, size)
    return enter(uring, count, results)


class Bench:
    """A ring for eight operations, with memory to read and write."""

    def __init__(self) -> None:
        self.memory = Region(16384, "test-uring", huge=False)
        self.made = Made(8, self.memory.address)
        self.data = self.memory.address + _DATA

    def run(self, operation: int, fd: int, size: int, count: int) -> list[int]:
        results = self.memory.address + _RESULTS
        done = carry_out(self.memory.address, operation, fd, self.data, size, count, results)
        return [load64(results + number * 8) for number in range(done)]

    def close(self) -> None:
        self.made.close()
        self.made.close()
        self.memory.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    try:
        made = Bench()
    except OSError as error:
        pytest.skip(f"no io_uring here: {error}")
    yield made
    made.close()


@pytest.fixture
def pair() -> Iterator[tuple[int, int]]:
    into, out = os.pipe2(os.O_NONBLOCK)[::-1]
    yield into, out
    os.close(into)
    os.close(out)


def test_writes_come_in_order(bench: Bench, pair: tuple[int, int]) -> None:
    for turn in range(50):  # round the ring many times
        count = turn % 8 + 1
        words = [b"%04d" % (turn * 10 + number) for number in range(count)]
        write_bytes(bench.data, b"".join(words))
        assert bench.run(WRITE, pair[0], 4, count) == [4] * count
        assert os.read(pair[1], 100) == b"".join(words)


def test_reads_that_find_nothing_do_not_wait(bench: Bench, pair: tuple[int, int]) -> None:
    os.write(pair[0], b"abcdef")
    assert bench.run(READ, pair[1], 4, 5) == [4, 2, -EAGAIN, -EAGAIN, -EAGAIN]
    assert read_bytes(bench.data, 6) == b"abcdef"


def test_errors_are_answers(bench: Bench) -> None:
    assert bench.run(WRITE, 1_000_000, 1, 3) == [-EBADF] * 3


def test_vectors(bench: Bench, pair: tuple[int, int]) -> None:
    write_bytes(bench.data + 1024, b"onetwo")
    for number, (at, size) in enumerate(((1024, 3), (1027, 3))):
        store64(bench.data + number * 16, bench.data + at)
        store64(bench.data + number * 16 + 8, size)
    assert bench.run(WRITEV, pair[0], 2, 1) == [6]
    assert os.read(pair[1], 100) == b"onetwo"


def test_nothing_stays(bench: Bench) -> None:
    assert Uring(bench.memory.address).fd == bench.made.fd
    before = len(os.listdir("/proc/self/fd"))
    with Region(4096, "test-uring", huge=False) as memory:
        Made(4, memory.address).close()
    assert len(os.listdir("/proc/self/fd")) == before

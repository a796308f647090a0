"""Buffers: bytes are what they were, wherever the cells end; nothing is lost when there is no cell."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wirespeed.jit import COMPILED, fill, kernel, load64, read_bytes, store64, write_bytes
from wirespeed.mem.buffer import (
    LONGEST,
    bytes_of_packet,
    chain_of,
    copy_bytes,
    copy_packet,
    cut,
    describe_meta,
    join,
    linearise,
)
from wirespeed.mem.descriptor import CHAINED, META, ROOM, SHARED, CellHeader, address_of, header_of, length_of
from wirespeed.mem.pool import Cache, Pool, share
from wirespeed.mem.region import Region

CHAIN, COPY, LINEARISE, JOIN, CUT, SHARE, DESCRIBE = range(7)


@kernel
def act(cache_address, what, desc, other):
    cache = Cache(cache_address)
    if what == CHAIN:
        return chain_of(cache, other)
    if what == COPY:
        return copy_packet(cache, desc)
    if what == LINEARISE:
        return linearise(cache, desc)
    if what == JOIN:
        return join(cache.cells, desc, other)
    if what == CUT:
        return cut(cache, desc, other)
    if what == SHARE:
        return share(cache.cells, desc)
    return describe_meta(cache.cells, desc)


@kernel
def move_bytes(cache_address, to, to_at, source, source_at, count):
    return copy_bytes(Cache(cache_address).cells, to, to_at, source, source_at, count)


class Bench:
    """A pool, and packets as bytes."""

    def __init__(self):
        self.pool = Pool(2304, 1)
        self.word = Region(4096, "test-word", huge=False)

    def act(self, what, desc=0, other=0):
        return int(act(self.pool.cache(0), what, desc, other))

    def make(self, data, sizes=()):
        """A packet of these bytes; with ``sizes``, joined of packets of so many bytes each."""
        if sizes:
            made, at = 0, 0
            for size in sizes:
                part = self.make(data[at : at + size])
                made = self.act(JOIN, made, part) if made else part
                at += size
            return made
        desc = self.act(CHAIN, 0, len(data))
        at = 0
        for segment in self.segments(desc):
            write_bytes(address_of(self.pool.cells, segment), data[at : at + length_of(segment)])
            at += length_of(segment)
        return desc

    def segments(self, desc):
        found = [desc]
        while found[-1] & CHAINED:
            found.append(CellHeader(header_of(self.pool.cells, found[-1])).next)
        return found

    def data(self, desc):
        parts = [read_bytes(address_of(self.pool.cells, part), length_of(part)) for part in self.segments(desc)]
        data = b"".join(parts)
        assert bytes_of_packet(self.pool.cells, desc) == len(data)
        return data

    def release(self, *descs):
        for desc in descs:
            store64(self.word.address, desc)
            self.pool.release(self.word.address, 1)


@pytest.fixture
def bench():
    bench = Bench()
    yield bench
    assert bench.pool.in_use == 0
    bench.pool.close()
    bench.word.close()


def pattern(length, start=0):
    return bytes((start + i * 7 + (i >> 8)) & 255 for i in range(length))


@pytest.mark.parametrize("length", [0, 1, ROOM, ROOM + 1, 3 * ROOM, LONGEST])
def test_a_copy_is_the_same_in_other_cells(bench, length):
    desc = bench.make(pattern(length))
    made = bench.act(COPY, desc)
    assert bench.data(made) == bench.data(desc) == pattern(length)
    assert not set(bench.segments(made)) & set(bench.segments(desc))
    bench.release(desc)
    assert bench.data(made) == pattern(length)
    bench.release(made)


def test_a_copy_takes_along_what_the_header_line_says(bench):
    desc = bench.act(DESCRIBE, bench.make(pattern(60)))
    line = CellHeader(header_of(bench.pool.cells, desc))
    line.timestamp, line.mark, line.user1 = 123456789, 7, -1
    made = bench.act(COPY, desc)
    copied = CellHeader(header_of(bench.pool.cells, made))
    assert made & META
    assert (copied.timestamp, copied.mark, copied.user1, copied.rss_hash) == (123456789, 7, -1, 0)
    bench.release(desc, made)


def test_what_was_stale_in_the_header_line_is_zeros(bench):
    desc = bench.make(pattern(60))
    address = header_of(bench.pool.cells, desc)
    clear_to(address, 0xAB)
    described = bench.act(DESCRIBE, desc)
    line = CellHeader(address)
    assert (line.timestamp, line.rss_hash, line.vlan_tci, line.mark, line.gso_size, line.user0) == (0,) * 6
    line.mark = 9
    assert bench.act(DESCRIBE, described) == described
    assert line.mark == 9
    bench.release(described)


@kernel
def clear_to(address, value):
    fill(address + 16, value, 48)


SIZES = st.lists(st.integers(0, 700), min_size=1, max_size=6)


@settings(max_examples=100 if COMPILED else 15)
@given(SIZES, st.data())
def test_chains_of_all_shapes(sizes, data):
    bench = Bench()
    whole = pattern(sum(sizes))
    desc = bench.make(whole, sizes)
    assert bench.data(desc) == whole
    to, source, count = (data.draw(st.integers(0, sum(sizes))) for _ in range(3))
    other = bench.make(bytes(sum(sizes)), sizes[::-1])
    expected = min(count, sum(sizes) - to, sum(sizes) - source)
    assert move_bytes(bench.pool.cache(0), other, to, desc, source, count) == expected
    assert bench.data(other)[to : to + expected] == whole[source : source + expected]
    less = data.draw(st.integers(0, sum(sizes)))
    shorter = bench.act(CUT, desc, less)
    assert bench.data(shorter) == whole[: len(whole) - less]
    straight = bench.act(LINEARISE, shorter)
    if straight:
        assert not straight & CHAINED
        shorter = straight
    else:
        assert len(whole) - less > ROOM
    assert bench.data(shorter) == whole[: len(whole) - less]
    bench.release(shorter, other)
    assert bench.pool.in_use == 0
    bench.pool.close()
    bench.word.close()


def test_linearise_moves_what_others_hold_too(bench):
    desc = bench.make(pattern(300), (100, 200))
    held = bench.act(SHARE, desc)
    made = bench.act(LINEARISE, held)
    assert made and not made & (CHAINED | SHARED)
    assert bench.data(made) == bench.data(held) == pattern(300)
    bench.release(held, made)


def test_what_cannot_be_done_changes_nothing(bench):
    long = bench.make(pattern(LONGEST))
    one = bench.make(pattern(10))
    assert bench.act(LINEARISE, long) == 0
    assert bench.act(JOIN, long, one) == 0
    assert bench.act(CUT, one, 11) == bench.act(CUT, one, -1) == 0
    held = bench.act(SHARE, bench.make(pattern(20), (10, 10)))
    assert bench.act(JOIN, held, one) == bench.act(CUT, held, 3) == 0
    assert bench.data(long) == pattern(LONGEST)
    assert bench.act(CHAIN, 0, LONGEST + 1) == bench.act(CHAIN, 0, -1) == 0
    bench.release(long, one, held, held)


def test_an_empty_pool_gives_nothing_and_takes_nothing(bench):
    desc = bench.make(pattern(2 * ROOM))
    taken = []
    while made := bench.act(CHAIN, 0, ROOM):
        taken.append(made)
    assert bench.act(COPY, desc) == 0
    bench.release(taken.pop())
    assert bench.act(COPY, desc) == 0  # one cell of the two it needs
    assert bench.data(desc) == pattern(2 * ROOM)
    bench.release(desc, *taken)


def test_words_are_where_load64_sees_them(bench):
    desc = bench.make(pattern(8))
    assert load64(address_of(bench.pool.cells, desc)) == int.from_bytes(pattern(8), "little")
    bench.release(desc)

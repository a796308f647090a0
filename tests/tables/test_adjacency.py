"""Adjacencies: what is set is what nodes read, bad values are refused, and no reader sees half an address."""

import threading

import pytest

from wirespeed.errors import TableError
from wirespeed.jit import COMPILED, kernel, load16, load32, load64, load_acquire, read_bytes, store_release, write_bytes
from wirespeed.mem.region import Region
from wirespeed.tables.adjacency import DROP, FORWARD, GLEAN, LOCAL, Adjacencies, AdjacenciesView, Adjacency

# The bytes a, b, c, d ... of an address are all different, and those of the two are too: a mixture is recognised.
A = Adjacency(FORWARD, 1, 0x02A1A2A3A4A5, 0x02A6A7A8A9AA, 1500)
B = Adjacency(FORWARD, 2, 0x02B1B2B3B4B5, 0x02B6B7B8B9BA, 9000)


@pytest.fixture
def table():
    made = Adjacencies(4)
    yield made
    made.close()


@pytest.fixture
def frame():
    with Region(4096, "test-frame", huge=False) as region:
        yield region.address


@kernel
def compiled_read(table, frame, index):
    view = AdjacenciesView(table)
    view.rewrite(frame, index)
    return view.kind(index) << 32 | view.port(index) << 16 | view.mtu(index)


def test_the_frame_gets_twelve_bytes_and_no_more(table, frame):
    """IEEE 802.3 section 3.2.3: destination, then source, first byte first; the EtherType stays."""
    table.set(2, A)
    for rewrite in (table.rewrite, lambda at, index: compiled_read(table.address, at, index)):
        write_bytes(frame, bytes(range(64)))
        rewrite(frame + 16, 2)
        wanted = bytes.fromhex("02a1a2a3a4a5 02a6a7a8a9aa")
        assert read_bytes(frame, 64) == bytes(range(16)) + wanted + bytes(range(28, 64))


@pytest.mark.parametrize("adjacency", [
    A, B, Adjacency(LOCAL), Adjacency(GLEAN, 0xFFFF, (1 << 48) - 1, (1 << 48) - 1, 0xFFFF), Adjacency(DROP, mtu=0),
])  # fmt: skip
def test_what_is_set_is_read(table, frame, adjacency):
    table.set(0, adjacency)
    assert table[0] == adjacency and 0 in table and len(table) == 1
    assert (table.kind(0), table.port(0), table.mtu(0)) == (adjacency.kind, adjacency.port, adjacency.mtu)
    read = compiled_read(table.address, frame, 0)
    assert read == adjacency.kind << 32 | adjacency.port << 16 | adjacency.mtu
    assert read_bytes(frame, 12) == adjacency.dst.to_bytes(6, "big") + adjacency.src.to_bytes(6, "big")


def test_neighbouring_records_do_not_touch(table, frame):
    table.set(1, A)
    table.set(0, B)
    table.set(2, B)
    assert compiled_read(table.address, frame, 1) == A.kind << 32 | A.port << 16 | A.mtu
    assert [table.kind(index) for index in range(4)] == [FORWARD, FORWARD, FORWARD, DROP]


def test_clear_drops_and_forgets(table):
    table.set(1, A)
    table.clear(1)
    table.clear(3)  # never set
    assert table.kind(1) == DROP and 1 not in table and len(table) == 0
    with pytest.raises(KeyError):
        table[1]
    table.set(1, A)  # and comes back
    assert table.kind(1) == FORWARD and table[1] == A


def test_the_size_is_rounded_up_to_a_power_of_two():
    for asked, got in ((1, 1), (3, 4), (4, 4), (5, 8)):
        table = Adjacencies(asked)
        assert table.size == got
        table.set(got - 1, A)
        with pytest.raises(TableError, match=f"next hop {got} is out of range: 0 to {got - 1}"):
            table.set(got, A)
        table.close()


@pytest.mark.parametrize("size", [0, -1, (1 << 24) + 1])
def test_impossible_sizes(size):
    with pytest.raises(TableError, match=f"{size} adjacencies are not possible"):
        Adjacencies(size)


@pytest.mark.parametrize("bad", [
    Adjacency(-1), Adjacency(4), Adjacency(256),
    Adjacency(FORWARD, port=-1), Adjacency(FORWARD, port=1 << 16),
    Adjacency(FORWARD, mtu=-1), Adjacency(FORWARD, mtu=1 << 16),
    Adjacency(FORWARD, dst=-1), Adjacency(FORWARD, dst=1 << 48),
    Adjacency(FORWARD, src=-1), Adjacency(FORWARD, src=1 << 48),
])  # fmt: skip
def test_bad_fields_are_refused_and_nothing_changes(table, frame, bad):
    table.set(0, A)
    with pytest.raises(TableError, match="adjacencies"):
        table.set(0, bad)
    assert table[0] == A and table.kind(0) == FORWARD and table.mtu(0) == A.mtu
    table.rewrite(frame, 0)
    assert read_bytes(frame, 12) == bytes.fromhex("02a1a2a3a4a5 02a6a7a8a9aa")


@pytest.mark.parametrize("index", [-1, 4, 1 << 40])
def test_bad_indices_are_refused(table, index):
    for change in (lambda: table.set(index, A), lambda: table.clear(index)):
        with pytest.raises(TableError, match=f"next hop {index} is out of range: 0 to 3"):
            change()


@pytest.mark.parametrize("index", [-1, 4, 5, -(1 << 63), (1 << 63) - 1, (1 << 25) - 2])
def test_an_index_outside_reads_another_record(table, frame, index):
    """Never other memory: interpreted, an access outside the region fails."""
    for i in range(4):
        table.set(i, Adjacency(FORWARD, i, 0x020000000000 + i, 0x020000000100 + i, 1000 + i))
    assert table.port(index) == index & 3
    assert compiled_read(table.address, frame, index) == FORWARD << 32 | (index & 3) << 16 | 1000 + (index & 3)


@kernel
def torn(table, stop, frame, old_dst, old_src, new_dst, new_src):
    """Rewrite and look until told to stop: how many addresses were neither the old nor the new one."""
    view = AdjacenciesView(table)
    bad = 0
    while load_acquire(stop) == 0:
        for _ in range(1000):
            if view.kind(0) == 1:
                view.rewrite(frame, 0)
                dst = load64(frame) & 0xFFFF_FFFF_FFFF
                src = load16(frame + 6) | load32(frame + 8) << 16
                if (dst != old_dst and dst != new_dst) or (src != old_src and src != new_src):
                    bad += 1
    return bad


@pytest.mark.skipif(not COMPILED, reason="interpreted threads take turns")
def test_no_reader_sees_half_an_address(table, frame):
    """The kind was read before the addresses were: they may be the next ones by then, but each is whole."""
    table.set(0, A)
    stop = frame + 64
    words = [int.from_bytes(mac.to_bytes(6, "big"), "little") for mac in (A.dst, A.src, B.dst, B.src)]
    bad = []
    reader = threading.Thread(target=lambda: bad.append(torn(table.address, stop, frame, *words)))
    store_release(stop, 1)
    assert torn(table.address, stop, frame, *words) == 0  # compiled before the race begins
    store_release(stop, 0)
    reader.start()
    try:
        for turn in range(50_000):
            table.set(0, (B, A)[turn & 1])
    finally:
        store_release(stop, 1)
        reader.join()
    assert bad == [0]


@pytest.mark.skipif(not COMPILED, reason="interpreted threads take turns")
def test_what_is_said_again_drops_no_packet(table, frame):
    """A neighbour that answers ARP anew is set anew, with what is known: it must not go away for a moment."""
    table.set(0, A)
    stop, bad = frame + 64, []
    store_release(stop, 1)
    assert dropped(table.address, stop) == 0
    store_release(stop, 0)
    reader = threading.Thread(target=lambda: bad.append(dropped(table.address, stop)))
    reader.start()
    try:
        for _ in range(20_000):
            table.set(0, Adjacency(A.kind, A.port, A.dst, A.src, A.mtu))
    finally:
        store_release(stop, 1)
        reader.join()
    assert bad == [0]


@kernel
def dropped(table, stop):
    """How often the kind was not FORWARD, until told to stop."""
    view = AdjacenciesView(table)
    bad = 0
    while load_acquire(stop) == 0:
        for _ in range(1000):
            bad += view.kind(0) != 1
    return bad

"""memif with the pool's cells in the rings: what comes and goes is the same, every cell comes back, and a server that
writes what it likes into slots changes only what is in the packets."""

import os
import random
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from memif_peer import RawServer, closing, event, graceful, hello, up
from netns import eventually

from wirespeed.errors import PortError
from wirespeed.jit import store16
from wirespeed.mem.descriptor import CELL, ROOM, SHARED, address_of, cell_of
from wirespeed.mem.pool import Pool
from wirespeed.mem.pool_cache import share
from wirespeed.ports.memif.channel import Channel
from wirespeed.ports.memif.ring import FAULTS, MemifQueue
from wirespeed.ports.memif.zero_copy import SHORT
from wirespeed.ports.offloads import Offload
from wirespeed.ports.port import port

NEXT = 1
SLOTS = 16


@pytest.fixture
def path(tmp_path: Any) -> str:
    """A socket's path."""
    return str(tmp_path / "memif.sock")


def frame(length: int, seed: int = 0) -> bytes:
    return random.Random(length * 1000 + seed).randbytes(length)


def lender(pool: Pool, path: str, more: str = "") -> Any:
    made = port(f"memif:{path},size={SLOTS},zero_copy=on{more}")
    made.open(pool, 1, 1)
    return made


def server_of(pool: Pool, path: str) -> Any:
    made = port(f"memif:{path},role=server")
    made.open(pool, 1, 1)
    return made


def fault(name: str) -> str:
    """The one whose text has this in it."""
    (found,) = [each for each in FAULTS if name in each]
    return found


# Packets ---------------------------------------------------------------------------------------------------


def test_lengths(pool: Pool, worker: Any, path: str) -> None:
    """Everything from a bare Ethernet header to a ring full of cells, both ways."""
    server, client = server_of(pool, path), lender(pool, path)
    with closing(server, client):
        up(server, client)
        for length in (14, 31, 32, 60, SHORT, SHORT + 1, 1514, ROOM, ROOM + 1, 9000, 16 * ROOM):
            data = frame(length)
            for source, target in ((client, server), (server, client)):
                assert worker.send(source, [worker.make(data)]) == 1
                assert worker.packet_list(target) == [data], length
        assert client.stats().rx_bytes == client.stats().tx_bytes == server.stats().rx_bytes


def test_no_byte_is_copied(pool: Pool, worker: Any, path: str) -> None:
    """The server finds packets where they were made, and we find ours where it wrote them."""
    with closing(RawServer(path), lender(pool, path)) as (raw, client):
        raw.connect()
        up(client)
        desc = worker.make(frame(1000))
        assert worker.send(client, [desc]) == 1
        assert raw.rings[1, 0].read_slot(0) == (0, 1, 1000, address_of(pool.cells, desc) - pool.region.address)
        assert raw.rings[0, 0].head == SLOTS
        flags, region, length, offset = raw.rings[0, 0].read_slot(0)
        assert (flags, region, length) == (0, 1, ROOM)
        raw.regions[1].map[offset : offset + 70] = frame(70)
        raw.rings[0, 0].slot(0, 70, offset, region=1)
        raw.rings[0, 0].tail = 1
        (got,) = worker.burst(client)
        assert worker.packet(got) == frame(70)
        assert address_of(pool.cells, got) == pool.region.address + offset
        worker.free([got])
        assert client.offloads & Offload.ZERO_COPY
        assert client.facts()["zero copy"] == "yes"


def _wind(made: Any, at: int) -> None:
    """As if ``at`` slots had been used already."""
    for queue in (*made.rx, *made.tx):
        record = MemifQueue(queue)
        record.given += at  # what was given stays where it is: ``at`` is so many whole rings
        record.position = record.limit = record.freed = record.lent = at
        store16(record.ours, record.given if queue in made.rx and made.client else at)
        store16(record.theirs, at)


@pytest.mark.parametrize("length", [60, 300])
def test_indexes_have_16_bits(pool: Pool, worker: Any, path: str, length: int) -> None:
    """Past their end, with the ring filled to the brim again and again; no more cells are out than there are slots."""
    server, client = server_of(pool, path), lender(pool, path)
    data = [frame(length + n) for n in range(20)]
    with closing(server, client):
        up(server, client)
        assert pool.in_use == SLOTS
        for made in (server, client):
            _wind(made, 65536 - 4 * SLOTS)
        for source, target in ((server, client), (client, server)):
            for _ in range(10):
                descs = [worker.make(each) for each in data]
                assert worker.send(source, descs) == SLOTS
                worker.free(descs[SLOTS:])
                assert worker.packet_list(target, 10) + worker.packet_list(target, 10) == data[:SLOTS]
                assert pool.in_use <= 2 * SLOTS
        assert server.stats().rx_packets == client.stats().rx_packets == 10 * SLOTS


def test_short_and_long_and_chained_in_one_burst(pool: Pool, worker: Any, path: str) -> None:
    """Short ones are copied, others lent; what is copied is free at once."""
    server, client = server_of(pool, path), lender(pool, path)
    with closing(server, client):
        up(server, client)
        data = [frame(n) for n in (60, 1000, 20, 3000, 64, 300)]
        for _ in range(10):
            before = pool.in_use
            assert worker.send(client, [worker.make(each) for each in data]) == len(data)
            assert pool.in_use <= before + 5
            assert (
                worker.packet_list(server) + worker.packet_list(server) == data
            )  # short of 32 bytes goes the other way


def test_a_chain_that_does_not_fit_waits(pool: Pool, worker: Any, path: str) -> None:
    server, client = server_of(pool, path), lender(pool, path)
    with closing(server, client):
        up(server, client)
        for source, target in ((server, client), (client, server)):
            long = worker.make(frame(15 * ROOM))
            assert worker.send(source, [worker.make(frame(60)), worker.make(frame(300)), long]) == 2
            assert [len(each) for each in worker.packet_list(target)] == [60, 300]
            assert worker.send(source, [long]) == 1
            assert worker.packet_list(target) == [frame(15 * ROOM)]


def test_cells_that_others_hold(pool: Pool, worker: Any, path: str) -> None:
    """A packet that went to two ports is not freed before both are done with it."""
    server, client = server_of(pool, path), lender(pool, path)
    with closing(server, client):
        up(server, client)
        desc = share(pool.cells, worker.make(frame(4000)))
        assert desc & SHARED
        assert worker.send(client, [desc]) == 1
        assert worker.packet_list(server) == [frame(4000)]
        for _ in range(SLOTS):
            assert worker.send(client, [worker.make(frame(300))]) == 1
            worker.packet_list(server)
        assert worker.packet(desc) == frame(4000)
        worker.free([desc])


def test_no_free_cell(pool: Pool, worker: Any, path: str) -> None:
    """The ring stays empty, and is filled when there are cells again."""
    taken = pool.get_many(pool.size)
    server, client = server_of(pool, path), lender(pool, path)
    with closing(server, client):
        up(server, client)
        assert worker.burst(client) == []
        pool.put_many(taken)
        assert worker.burst(client) == []
        assert worker.send(server, [worker.make(frame(60))]) == 1
        assert worker.packet_list(client) == [frame(60)]


def test_cells_come_back_when_the_peer_leaves(pool: Pool, worker: Any, path: str) -> None:
    """Those it never took, and those it never filled; then the next one gets others."""
    with closing(lender(pool, path)) as client:
        for _ in range(3):
            with closing(RawServer(path)) as raw:
                raw.connect()
                up(client)
                said = client.events.said
                assert worker.send(client, [worker.make(frame(n)) for n in (60, 900, 5000)]) == 3
                assert pool.in_use == SLOTS + 1 + 4
            event(client, "disconnected", said)
            os.unlink(path)
            assert worker.burst(client) == []
            assert pool.in_use == 0


# Whether ---------------------------------------------------------------------------------------------------


def test_auto_lends_to_one_of_us(pool: Pool, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for ours, says in ((True, "yes"), (False, "no: the server is a stranger")):
        monkeypatch.setattr(Channel, "is_one_of_us", lambda _, ours=ours: ours)
        server, client = server_of(pool, path), port(f"memif:{path},size=16")
        client.open(pool, 1, 1)
        with closing(server, client):
            up(server, client)
            assert client.facts()["zero copy"] == says
            assert bool(client.offloads & Offload.ZERO_COPY) is ours


def test_on_lends_to_anybody_who_takes_it(pool: Pool, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Channel, "is_one_of_us", lambda _: False)
    with closing(RawServer(path), lender(pool, path)) as (raw, client):
        raw.accept().send(hello(regions=0))
        assert "it takes one region only" in raw.line.refused()
        assert "it takes one region only" in event(client, "refused")
        raw.connect()
        up(client)
        assert client.facts()["zero copy"] == "yes"


def test_auto_copies_for_a_server_of_one_region(pool: Pool, path: str) -> None:
    client = port(f"memif:{path},size=16")
    client.open(pool, 1, 1)
    with closing(RawServer(path), client) as (raw, _):
        raw.connect(hello(regions=0))
        up(client)
        assert len(raw.regions) == 1
        assert client.facts()["zero copy"] == "no: the server takes one region only"


def test_on_and_it_cannot_be(pool: Pool, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = port(f"memif:{path},zero_copy=on")
    with pytest.raises(PortError, match="1536 of the pool's 2048 cells: give it 3072 cells, or the rings a smaller"):
        made.open(pool, 1, 1)
    monkeypatch.setattr("wirespeed.ports.memif.options._REACH", pool.region.size - 1)
    with pytest.raises(PortError, match="GiB that slots can reach: give it fewer cells"):
        lender(pool, path)


# A server that lies ----------------------------------------------------------------------------------------


@pytest.fixture
def pair(pool: Pool, worker: Any, path: str) -> Any:
    """A server and a lender, connected."""
    with closing(RawServer(path), lender(pool, path)) as (raw, client):
        graceful(worker, client)
        raw.connect()
        up(client)
        yield raw, client


@pytest.mark.parametrize("tail", [17, 0x8000, 0xFFFF])
def test_it_filled_more_than_it_was_given(pair: Any, worker: Any, tail: int) -> None:
    raw, client = pair
    raw.rings[0, 0].tail = tail
    assert worker.burst(client) == []
    assert event(client, "refused") == fault("index")


def test_it_filled_more_than_there_were_cells(pool: Pool, worker: Any, path: str) -> None:
    """Fewer than slots: what it says lies in the ring, but nothing is in those slots."""
    taken = pool.get_many(pool.size)
    with closing(RawServer(path), lender(pool, path)) as (raw, client):
        raw.connect()
        up(client)
        raw.rings[0, 0].tail = 5
        assert worker.burst(client) == []
        assert event(client, "refused") == fault("index")
        pool.put_many(taken)


@pytest.mark.parametrize(
    ("length", "flags", "why"),
    [(ROOM + 1, 0, "does not lie"), (0xFFFF_FFFF, 0, "does not lie"), (64, NEXT, "chain")],
)
def test_slots_that_cannot_be(pair: Any, worker: Any, length: int, flags: int, why: str) -> None:
    raw, client = pair
    for index in range(SLOTS):
        raw.rings[0, 0].slot(index, length, 0, flags)
    raw.rings[0, 0].tail = SLOTS
    assert worker.burst(client) == []
    assert event(client, "refused") == fault(why)


def test_where_a_packet_is_we_know_better(pair: Any, pool: Pool, worker: Any) -> None:
    """Offsets and regions that it changes are not looked at."""
    raw, client = pair
    places = [raw.rings[0, 0].read_slot(index)[3] for index in range(3)]
    for index in range(3):
        raw.rings[0, 0].slot(index, 64, 0xFFFF_FFF0, 0, 0xFFFF)
    raw.rings[0, 0].tail = 3
    got = worker.burst(client)
    assert [address_of(pool.cells, desc) - pool.region.address for desc in got] == places
    worker.free(got)


def test_what_we_send_by_is_not_read_again(pair: Any, pool: Pool, worker: Any) -> None:
    """It may write into slots whose packets it has taken: the cells that are freed are those that we gave."""
    raw, client = pair
    ring = raw.rings[1, 0]
    for turn in range(4):
        descs = [worker.make(frame(300)) for _ in range(SLOTS)]
        assert worker.send(client, descs) == SLOTS
        for index in range(SLOTS):
            ring.slot(index, 0xFFFF_FFFF, 0xFFFF_FFF0, 0xFFFF, 0xFFFF)
        ring.tail = (turn + 1) * SLOTS
    assert pool.in_use == 2 * SLOTS


def test_it_takes_back_what_it_has_taken(pair: Any, pool: Pool, worker: Any) -> None:
    """An index that goes backwards: nothing is freed twice, nothing is lost."""
    raw, client = pair
    ring = raw.rings[1, 0]
    sent = 0
    for tail in (12, 3, 14, 0, 16, 9):
        descs = [worker.make(frame(300)) for _ in range(SLOTS)]
        took = worker.send(client, descs)
        worker.free(descs[took:])
        sent += took
        ring.tail = min(tail, sent)
    assert len({int(cell) for cell in pool.used_cells()}) == pool.in_use


def test_packets_that_are_none(pair: Any, worker: Any) -> None:
    """Too short, empty, and pieces in which there is nothing: counted, or left out; their cells come back."""
    raw, client = pair
    ring = raw.rings[0, 0]
    for index, (length, flags) in enumerate([(13, 0), (0, 0), (0, NEXT), (20, NEXT), (0, NEXT), (30, 0), (64, 0)]):
        ring.slot(index, length, 0, flags)
    ring.tail = 7
    assert [len(each) for each in worker.packet_list(client)] == [50, 64]
    assert client.stats().rx_errors == 2


SLOT = st.tuples(
    st.sampled_from([0, 0, 0, NEXT]) | st.integers(0, 0xFFFF),
    st.sampled_from([0, 13, 14, 64, ROOM, ROOM + 1]) | st.integers(0, 0xFFFF_FFFF),
    st.integers(0, 0xFFFF_FFFF),
)


class Rig:
    """One lender for all examples: opening one for each would take most of the time."""

    def __init__(self, folder: Path) -> None:
        from tests.ports.conftest import Worker

        self.pool = Pool(2048)
        self.worker = Worker(self.pool)
        self.path = str(folder / "s")
        self.client = lender(self.pool, self.path)
        graceful(self.worker, self.client)

    def close(self) -> None:
        self.client.close()
        self.worker.close()
        self.pool.close()


@pytest.fixture(scope="module")
def rig(tmp_path_factory: Any) -> Any:
    with pytest.MonkeyPatch.context() as patch, closing(Rig(tmp_path_factory.mktemp("memif"))) as made:
        for name in ("_LOOK_S", "_RETRY_S"):
            patch.setattr(f"wirespeed.ports.memif.port.{name}", 0.005)
        yield made


@given(
    slots=st.lists(SLOT, min_size=SLOTS, max_size=SLOTS),
    tails=st.lists(st.tuples(*[st.integers(0, 17) | st.integers(0, 0xFFFF)] * 2), min_size=1, max_size=4),
    lengths=st.lists(st.sampled_from([14, 60, 300, 1500, 4000]), max_size=8),
)
def test_any_slots(rig: Rig, slots: list[Any], tails: list[Any], lengths: list[int]) -> None:
    """Whatever a server writes: the port goes on or sends it away; every cell is there exactly once, and comes back."""
    with closing(RawServer(rig.path)) as raw:
        raw.connect()
        up(rig.client)
        rig.worker.burst(rig.client)
        for back, out in tails:
            for index in range(SLOTS):
                flags, length, offset = slots[index]
                raw.rings[0, 0].slot(index, length, offset, flags, flags)
                raw.rings[1, 0].slot(index, length, offset, flags, flags)
            raw.rings[0, 0].tail, raw.rings[1, 0].tail = back, out
            got = rig.worker.burst(rig.client) or []
            assert all(0 <= cell_of(desc) < rig.pool.size and desc & 0xFFF < CELL for desc in got)
            rig.worker.free(got)
            descs = [rig.worker.make(bytes(length)) for length in lengths]
            rig.worker.free(descs[rig.worker.send(rig.client, descs) :] if descs else [])
        os.unlink(rig.path)
    eventually(lambda: not rig.client.busy, "the client to notice")
    assert rig.pool.in_use == len(rig.pool.used_cells()) == 0

"""memif against peers that lie: in messages, descriptors, indexes and slots. Each is sent away with a reason, and a
run that is interpreted checks that nothing outside the shared memory was touched."""

import fcntl
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from memif_peer import (
    ACK,
    CONNECT,
    CONNECTED,
    HELLO,
    Memory,
    RawClient,
    RawServer,
    add_region,
    add_ring,
    closing,
    event,
    hello,
    init,
    message,
    up,
)
from memif_rig import Rig
from netns import eventually

from wirespeed.mem.buffer import LONGEST
from wirespeed.mem.pool import Pool
from wirespeed.ports.memif.ring import FAULTS, PIECES
from wirespeed.ports.port import port

NEXT = 1
BODY = bytes(range(64))


@pytest.fixture
def path(tmp_path: Any) -> str:
    """A socket's path."""
    return str(tmp_path / "memif.sock")


@pytest.fixture
def server(pool: Pool, path: str) -> Iterator[Any]:
    """A server that must have let go of everything in the end."""
    made = port(f"memif:{path},role=server")
    made.open(pool, 1, 1)
    with closing(made):
        yield made
    with open("/proc/self/maps") as maps:
        assert "memfd:raw" not in maps.read()


@pytest.fixture
def raw(server: Any, path: str) -> Iterator[RawClient]:
    """A client that is not connected yet."""
    with closing(RawClient(path)) as made:
        yield made


# Slots, as client ------------------------------------------------------------------------------------------


def fault(name: str) -> str:
    """The one whose text has this in it."""
    (found,) = [each for each in FAULTS if name in each]
    return found


def _sent_away(server: Any, raw: RawClient, worker: Any, why: str) -> None:
    for _ in range(3):
        worker.packet_list(server)
    assert event(server, "refused") == why
    assert raw.line.refused() == why
    assert not server.link().up
    assert server.extended()["refusals"] == 1


@pytest.mark.parametrize(
    ("slot", "why"),
    [
        ({"length": 64, "offset": RawClient.SIZE - 63}, "does not lie"),
        ({"length": 64, "offset": 0xFFFF_FFFF}, "does not lie"),
        ({"length": 0xFFFF_FFFF, "offset": 0}, "does not lie"),
        ({"length": RawClient.SIZE + 1, "offset": 0}, "does not lie"),
        ({"length": 64, "offset": 0, "region": 1}, "never added"),
        ({"length": 64, "offset": 0, "region": 0xFFFF}, "never added"),
        ({"length": 64, "offset": 4096, "flags": NEXT}, "chain"),
    ],
)
@pytest.mark.parametrize("before", [0, 3])
def test_slots_that_cannot_be(
    server: Any, raw: RawClient, worker: Any, slot: dict[str, int], why: str, before: int
) -> None:
    """Alone, and behind good packets, which are still received."""
    raw.connect()
    for index in range(before):
        raw.put(index, BODY)
    raw.out.slot(before, **slot)
    raw.out.head = before + 1
    assert worker.packet_list(server) == [BODY] * before
    _sent_away(server, raw, worker, fault(why))


@pytest.mark.parametrize("head", [17, 0x8000, 0xFFFF])
def test_an_index_too_far_ahead(server: Any, raw: RawClient, worker: Any, head: int) -> None:
    raw.connect()
    raw.out.head = head
    _sent_away(server, raw, worker, fault("index"))


def test_an_endless_chain(server: Any, raw: RawClient, worker: Any) -> None:
    """All slots lead to the next: a chain ends where what was filled ends."""
    raw.connect()
    for index in range(16):
        raw.out.slot(index, 64, raw.buffer(index), NEXT)
    raw.out.head = 16
    _sent_away(server, raw, worker, fault("chain"))


def test_packets_too_short_and_too_long_are_errors(server: Any, raw: RawClient, worker: Any) -> None:
    """No breach of the protocol: counted, and the ring goes on."""
    raw.connect()
    raw.out.slot(0, 13, raw.buffer(0))
    raw.out.slot(1, 0, raw.buffer(1))
    raw.out.slot(2, RawClient.SIZE, 0)
    raw.out.slot(3, LONGEST - 40_000, 0, NEXT)
    raw.out.slot(4, 40_001, 0)
    raw.put(5, BODY)
    raw.out.head = 6
    assert worker.packet_list(server) == [BODY]
    assert server.stats().rx_errors == 4
    assert raw.out.tail == 6
    assert server.link().up
    assert RawClient.SIZE > LONGEST


def test_more_pieces_than_a_packet_may_have(pool: Pool, worker: Any, path: str) -> None:
    class Long(RawClient):
        LOG2 = 10
        BUFFERS = 65536
        SIZE = BUFFERS + 64 * 2048

        def __init__(self, address: str) -> None:
            super().__init__(address)
            self.back = type(self.back)(self.memory, 32768, self.LOG2)
            self.back.format()

    made = port(f"memif:{path},role=server")
    made.open(pool, 1, 1)
    with closing(made, Long(path)) as (server, raw):
        raw.connect()
        for index in range(PIECES + 1):
            raw.out.slot(index, 1, raw.buffer(0), NEXT if index < PIECES else 0)
        for index in range(PIECES):
            raw.out.slot(PIECES + 1 + index, 1, raw.buffer(0), NEXT if index < PIECES - 1 else 0)
        raw.out.head = 2 * PIECES + 1
        assert [len(each) for each in worker.packet_list(server)] == [PIECES]
        assert server.stats().rx_errors == 1


def test_wrong_buffers_to_send_into(server: Any, raw: RawClient, worker: Any) -> None:
    for slot in (
        {"length": 64, "offset": RawClient.SIZE - 63},
        {"length": 0, "offset": 4096},
        {"length": 63, "offset": RawClient.SIZE - 62},
    ):
        with closing(RawClient(server.options.socket)) as other:
            other.connect()
            before = server.events.said
            other.back.slot(0, **slot)
            desc = worker.make(BODY)
            assert worker.send(server, [desc]) == 0
            worker.free([desc])
            assert event(server, "refused", before) == fault("does not lie")
            eventually(lambda: not server.busy, "the server to be free again")


def test_a_good_buffer_and_a_bad_one(server: Any, raw: RawClient, worker: Any) -> None:
    raw.connect()
    raw.back.slot(1, 2048, 0, region=3)
    bad = worker.make(BODY)
    assert worker.send(server, [worker.make(BODY), bad]) == 1
    worker.free([bad])
    assert raw.back.tail == 1
    assert event(server, "refused") == fault("never added")


# Slots, as server ------------------------------------------------------------------------------------------


def _client(pool: Pool, path: str, **more: Any) -> Any:
    made = port(f"memif:{path},size=16,zero_copy=off")
    made.open(pool, 1, 1)
    return made


@pytest.mark.parametrize("tail", [17, 0x8000, 0xFFFF])
def test_a_server_that_filled_more_than_there_is(pool: Pool, worker: Any, path: str, tail: int) -> None:
    with closing(RawServer(path), _client(pool, path)) as (raw, client):
        raw.connect()
        up(client)
        raw.rings[0, 0].tail = tail
        assert worker.burst(client) == []
        assert event(client, "refused") == fault("index")


def test_a_server_that_took_more_than_was_sent(pool: Pool, worker: Any, path: str) -> None:
    with closing(RawServer(path), _client(pool, path)) as (raw, client):
        raw.connect()
        up(client)
        raw.rings[1, 0].tail = 5
        desc = worker.make(BODY)
        assert worker.send(client, [desc]) == 0
        worker.free([desc])
        assert event(client, "refused") == fault("index")


def test_a_server_that_writes_into_slots(pool: Pool, worker: Any, path: str) -> None:
    """What it writes into those it sends by is checked; those we send by are ours, whatever it writes there."""
    with closing(RawServer(path), _client(pool, path)) as (raw, client):
        raw.connect()
        up(client)
        for index in range(16):
            raw.rings[1, 0].slot(index, 0xFFFF_FFFF, 0xFFFF_FFF0, 0xFFFF, 0xFFFF)
        assert worker.send(client, [worker.make(BODY), worker.make(b"long" * 1000)]) == 2
        flags, region, length, _ = raw.rings[1, 0].read_slot(0)
        assert (flags, region, length) == (0, 0, 64)
        raw.rings[0, 0].slot(0, 64, raw.memory.size - 63)
        raw.rings[0, 0].tail = 1
        assert worker.burst(client) == []
        assert event(client, "refused") == fault("does not lie")


# Messages --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        ([b""], ""),
        ([b"\3\0"], "a message of 2 bytes, not 128"),
        ([init() + b"x"], "a message of 129 bytes, not 128"),
        ([message(99)], "unknown message type 99"),
        ([message(ACK)], "Ack before Init"),
        ([message(CONNECT, "32s", b"")], "Connect before Init"),
        ([init(version=0x100)], "version 0x100, not 0x200"),
        ([init(mode=1)], "mode 1: only Ethernet (0) is spoken here"),
        ([init(number=5)], "no interface 5 here"),
        ([init(), init()], "Init out of turn"),
        ([init(), message(ACK)], "Ack out of turn"),
        ([init(), hello()], "Hello out of turn"),
        ([init(), message(CONNECTED, "32s", b"")], "Connected out of turn"),
        ([init(), message(CONNECT, "32s", b"")], "no region was added"),
        ([init(), add_region(0, 4096)], "AddRegion with 0 descriptors, not 1"),
        ([init(), add_ring(True, 0, 0, 4)], "AddRing with 0 descriptors, not 1"),
    ],
)
def test_messages_out_of_turn(server: Any, raw: RawClient, steps: list[bytes], why: str) -> None:
    raw.line.expect(HELLO)
    for step in steps:
        raw.line.send(step)
    assert raw.line.refused() == why
    eventually(lambda: not server.busy, "the server to be free")


def test_descriptors_where_none_belong(server: Any, raw: RawClient, open_files: Any) -> None:
    before = open_files()
    raw.line.expect(HELLO)
    raw.line.send(init(), raw.memory.fd)
    assert raw.line.refused() == "Init with 1 descriptors, not 0"
    eventually(lambda: open_files() <= before, "our copies to be closed")


def test_too_many_descriptors(server: Any, raw: RawClient, open_files: Any) -> None:
    before = open_files()
    raw.greet()
    raw.line.expect(ACK)
    raw.line.send(add_region(0, RawClient.SIZE), *[raw.memory.fd] * 100)
    assert "descriptors, not 1" in raw.line.refused()
    eventually(lambda: open_files() <= before, "our copies to be closed")


def _region(server: Any, raw: RawClient, index: int, size: int, fd: int) -> str:
    raw.greet()
    raw.line.expect(ACK)
    raw.line.send(add_region(index, size), fd)
    return raw.line.refused()


def test_a_region_that_can_shrink(server: Any, raw: RawClient) -> None:
    """Sealed against more seals, so that we cannot seal it either."""
    memory = Memory(65536, seal=False)
    fcntl.fcntl(memory.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL)
    with closing(memory):
        assert "not sealed" in _region(server, raw, 0, 65536, memory.fd)
        os.close(memory.fd)


def test_a_region_that_nobody_sealed_is_sealed_here(server: Any, raw: RawClient) -> None:
    raw.greet()
    raw.line.expect(ACK)
    memory = Memory(65536, seal=False)
    with closing(memory):
        raw.line.send(add_region(0, 65536), memory.fd)
        raw.line.expect(ACK)
        with pytest.raises(OSError, match="not permitted"):
            os.ftruncate(memory.fd, 4096)
        os.close(memory.fd)


@pytest.mark.parametrize("size", [0, 127, RawClient.SIZE + 1, 1 << 40, (1 << 64) - 1])
def test_sizes_of_regions(server: Any, raw: RawClient, size: int) -> None:
    assert f"a region of {size} bytes" in _region(server, raw, 0, size, raw.memory.fd)


def test_regions_that_are_no_memory(server: Any, raw: RawClient, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(65536))
    with open(file, "r+b") as opened:
        assert _region(server, raw, 0, 65536, opened.fileno()) == "the region is no memfd"
    with closing(RawClient(server.options.socket)) as other:
        assert "no memory file" in _region(server, other, 0, 65536, other.bells[0])


@pytest.mark.parametrize("index", [1, 0xFFFF])
def test_region_numbers(server: Any, raw: RawClient, index: int) -> None:
    assert _region(server, raw, index, RawClient.SIZE, raw.memory.fd) == f"region {index} when 0 are known"


@pytest.mark.parametrize(
    ("ring", "why"),
    [
        (add_ring(True, 1, 0, 4), "ring 1 of at most 1"),
        (add_ring(False, 0xFFFF, 0, 4), "ring 65535 of at most 1"),
        (add_ring(True, 0, 0, 4, region=1), "a ring in region 1, which was never added"),
        (add_ring(True, 0, 0, 0), "a ring of 2^0 slots"),
        (add_ring(True, 0, 0, 15), "a ring of 2^15 slots"),
        (add_ring(True, 0, 0, 255), "a ring of 2^255 slots"),
        (add_ring(True, 0, 0, 14), "a ring at 0, which does not lie in its region"),
        (add_ring(True, 0, RawClient.SIZE - 128, 4), f"a ring at {RawClient.SIZE - 128}, which does not lie"),
        (add_ring(True, 0, 0xFFFF_FFF0, 4), "a ring at 4294967280, which does not lie"),
        (add_ring(True, 0, 2050, 4), "a ring at 2050, which does not lie"),
    ],
)
def test_rings_that_cannot_be(server: Any, raw: RawClient, ring: bytes, why: str) -> None:
    raw.greet()
    raw.line.expect(ACK)
    raw.line.send(add_region(0, RawClient.SIZE), raw.memory.fd)
    raw.line.expect(ACK)
    raw.line.send(ring, raw.bells[0])
    assert raw.line.refused().startswith(why)


def test_a_ring_twice_and_a_bell_that_is_none(server: Any, raw: RawClient) -> None:
    for first, second, why in (
        (raw.bells[0], raw.bells[0], "ring 0 twice"),
        (raw.memory.fd, -1, "a ring's descriptor is no eventfd"),
    ):
        with closing(RawClient(server.options.socket)) as other:
            other.greet()
            other.line.expect(ACK)
            other.line.send(add_region(0, RawClient.SIZE), other.memory.fd)
            other.line.expect(ACK)
            other.line.send(add_ring(True, 0, 0, 4), first)
            if second >= 0:
                other.line.expect(ACK)
                other.line.send(add_ring(True, 0, 0, 4), second)
            assert other.line.refused() == why
            eventually(lambda: not server.busy, "the server to be free")


def test_a_wrong_cookie(server: Any, raw: RawClient) -> None:
    raw.out.format(0x3E31F21)
    with pytest.raises(AssertionError):
        raw.connect()
    assert "cookie 0x3e31f21, not 0x3e31f20" in event(server, "refused")


def test_a_word_after_the_connection(server: Any, raw: RawClient) -> None:
    raw.connect()
    raw.line.send(add_region(1, RawClient.SIZE), raw.memory.fd)
    assert raw.line.refused() == "AddRegion after the connection was made"


def test_a_bell_made_to_block(server: Any, raw: RawClient) -> None:
    """An eventfd that is full and blocks would hold a worker that rings it."""
    raw.connect()
    up(server)
    os.eventfd_write(raw.bells[1], (1 << 64) - 2)
    os.set_blocking(raw.bells[1], True)
    assert raw.line.refused() == "it made an eventfd blocking"


def test_a_server_out_of_turn(pool: Pool, path: str) -> None:
    with closing(RawServer(path), _client(pool, path)) as (raw, client):
        for said, why in (
            (message(ACK), "Ack out of turn"),
            (message(CONNECTED, "32s", b""), "Connected out of turn"),
            (init(), "Init out of turn"),
            (hello(log2=0), "rings of at most 1 slots"),
            (b"", ""),
        ):
            line = raw.accept()
            before = client.events.said
            line.send(said)
            assert line.refused() == why
            assert event(client, "refused", before)


# Chance ----------------------------------------------------------------------------------------------------

WORD16, WORD32 = st.integers(0, 0xFFFF), st.integers(0, 0xFFFF_FFFF)
SLOT = st.tuples(
    st.sampled_from([0, 0, 0, NEXT, 0xFFFF]) | WORD16,
    st.sampled_from([0, 0, 0, 1]) | WORD16,
    st.sampled_from([0, 13, 14, 60, 64, 1500, 1601, 2048, 5000, RawClient.SIZE]) | WORD32,
    st.sampled_from([0, 4096, 6144, RawClient.SIZE - 2048, RawClient.SIZE - 1, RawClient.SIZE]) | WORD32,
)


@given(
    slots=st.lists(SLOT, min_size=16, max_size=16),
    head=st.integers(1, 16) | WORD16,
    back=st.lists(SLOT, min_size=16, max_size=16),
    given_back=st.integers(1, 16) | WORD16,
    lengths=st.lists(st.sampled_from([14, 60, 64, 1500, 4000]), max_size=8),
)
def test_any_slots(slots: list[Any], head: int, back: list[Any], given_back: int, lengths: list[int]) -> None:
    """Whatever is in the rings: the port goes on or sends the peer away, and every cell comes back."""
    rig = Rig.get()
    with closing(RawClient(rig.path)) as raw:
        raw.connect()
        before = bytes(raw.memory.map[: RawClient.BUFFERS])
        assert len(before) == RawClient.BUFFERS
        for index in range(16):
            raw.out.slot(index, slots[index][2], slots[index][3], slots[index][0], slots[index][1])
            raw.back.slot(index, back[index][2], back[index][3], back[index][0], back[index][1])
        raw.out.head, raw.back.head = head, given_back
        rig.exercise(lengths)
    rig.settle()
    assert rig.pool.in_use == 0


@given(data=st.data())
def test_any_messages(data: Any) -> None:
    """Any sequence of messages, whole or spoilt, with any descriptors."""
    rig = Rig.get()
    seed = data.draw(st.integers(0, 1 << 32))
    chance = random.Random(seed)
    with closing(RawClient(rig.path)) as raw:
        raw.line.expect(HELLO)
        good = [
            (init(), ()),
            (add_region(0, RawClient.SIZE), (raw.memory.fd,)),
            (add_ring(True, 0, 0, 4), (raw.bells[0],)),
            (add_ring(False, 0, 2048, 4), (raw.bells[1],)),
            (message(CONNECT, "32s", b"x"), ()),
        ]
        for said, descriptors in good:
            spoilt = bytearray(said)
            if chance.random() < 0.4:
                spoilt[chance.randrange(40)] = chance.randrange(256)
            if chance.random() < 0.1:
                descriptors = (raw.memory.fd, raw.bells[0])[: chance.randrange(3)]
            try:
                for _ in range(chance.choice([1, 1, 1, 1, 0, 2])):
                    raw.line.send(bytes(spoilt), *descriptors)
            except OSError:
                break
        rig.exercise([60])
    rig.settle()
    assert rig.pool.in_use == 0

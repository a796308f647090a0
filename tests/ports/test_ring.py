"""The ring port: order, sharing by name, and that nothing stays behind."""

import functools
import os
import select
import subprocess
import sys
import time

import pytest

from wirespeed.engine.engine import Engine
from wirespeed.errors import ArenaError, PortError, WirespeedError
from wirespeed.graph.graph import Graph
from wirespeed.jit import COMPILED, kernel
from wirespeed.mem.pool import Pool
from wirespeed.ports.port import port
from wirespeed.ports.ring import _rings, arm


@pytest.fixture
def opened(pool):
    """``opened(text, rx, tx)``: an open ring port; all are closed at the end."""
    ports = []

    def make(text, rx, tx, of=None):
        made = port(text)
        made.open(of or pool, rx, tx)
        ports.append(made)
        return made

    yield make
    for made in ports:
        made.close()
    assert not _rings


def frames(worker, count, start=0):
    return [worker.make(bytes([start + i]) * (20 + i)) for i in range(count)]


def test_packets_come_out_as_they_went_in(worker, opened):
    out, back = opened("ring:a,size=8", 0, 2), opened("ring:a,size=8", 1, 0)
    sent = frames(worker, 5)
    assert worker.send(out, sent[:3], 0) == 3
    assert worker.send(out, sent[3:], 1) == 2
    assert back.waiting == 5
    assert worker.burst(back, 2) == sent[:2]
    assert worker.burst(back, 8) == sent[2:]
    assert worker.burst(back, 8) == []
    worker.free(sent)
    assert (out.stats().tx_packets, out.stats().tx_bytes) == (5, 110)
    assert (back.stats().rx_packets, back.stats().rx_bytes) == (5, 110)


def test_what_does_not_fit_stays_with_the_sender(worker, opened):
    both = opened("ring:a,size=4", 1, 1)
    sent = frames(worker, 6)
    assert worker.send(both, sent) == 4
    assert worker.send(both, sent[4:]) == 0
    assert both.stats().tx_packets == 4
    assert both.stats().tx_bytes == 20 + 21 + 22 + 23
    worker.free(sent[4:])
    assert worker.burst(both) == sent[:4]
    worker.free(sent[:4])


def test_the_last_to_close_frees_what_is_left(pool, worker):
    first, second = port("ring:a,size=4"), port("ring:a,size=4")
    first.open(pool, 1, 0)
    second.open(pool, 0, 1)
    worker.send(second, [worker.make(b"long" * 1000), worker.make(b"short" * 9, mark=1)])
    first.close()
    assert pool.in_use == 4  # three cells of the chain and one
    second.close()
    assert pool.in_use == 0
    assert not _rings


def test_names_keep_rings_apart(worker, opened):
    a, b = opened("ring:a", 1, 1), opened("ring:b", 1, 1)
    worker.send(a, frames(worker, 1))
    assert worker.burst(b) == []
    worker.free(worker.burst(a))


def test_one_receiver_one_size_one_pool(pool, opened):
    opened("ring:a,size=8", 1, 0)
    with pytest.raises(PortError, match="receives from ring 'a' already"):
        port("ring:a,size=8").open(pool, 1, 0)
    with pytest.raises(PortError, match="size=16 must be 8"):
        port("ring:a,size=16").open(pool, 0, 1)
    opened("ring:a", 0, 1)
    other = Pool(2048)
    with pytest.raises(PortError, match="another engine"):
        port("ring:a,size=8").open(other, 0, 1)
    other.close()


def test_the_next_receiver_may_come_when_the_first_has_gone(pool, opened):
    opened("ring:a", 0, 1)
    first = port("ring:a")
    first.open(pool, 1, 0)
    first.close()
    opened("ring:a", 1, 0)


@pytest.mark.parametrize("options", ["a,size=3", "a,size=1", "a,size=2097152"])
def test_bad_sizes(options):
    with pytest.raises(PortError, match="must be a power of two, 2 to 1048576"):
        port(f"ring:{options}")


def test_a_ring_has_a_name():
    with pytest.raises(PortError, match="name"):
        port("ring:")


# Sleeping ------------------------------------------------------------------------------------------------


@functools.cache
def _arming():
    @kernel
    def call(queue, on):
        return arm(queue, on)

    return call


def test_who_sends_wakes_a_receiver_that_sleeps(worker, opened):
    out, back = opened("ring:a", 0, 1), opened("ring:a", 1, 0)
    [bell] = back.descriptors(0)
    worker.send(out, frames(worker, 1))
    assert not select.select([bell], [], [], 0)[0]  # it looks by itself
    assert _arming()(back.rx[0], 1) == 1  # and looks once more before it sleeps
    worker.free(worker.burst(back))
    assert _arming()(back.rx[0], 1) == 0
    worker.send(out, frames(worker, 2))
    worker.send(out, frames(worker, 2))  # one ring is enough
    assert select.select([bell], [], [], 0)[0]
    _arming()(back.rx[0], 0)
    assert not select.select([bell], [], [], 0)[0]
    worker.free(worker.burst(back))


# Other graphs --------------------------------------------------------------------------------------------


@pytest.fixture
def hosting():
    """A pool that takes guests, and what it is called."""
    name = f"ring-test-{os.getpid()}.pool"
    pool = Pool(16384, 1, name, guests=2)
    yield pool
    assert pool.in_use == 0
    pool.close()


def test_a_guest_takes_and_frees_what_its_host_sends(hosting, worker_of):
    host, out, back = worker_of(hosting), port("ring:a,size=8"), port("ring:a")
    joined = Pool.join(hosting.name)
    guest = worker_of(joined)
    out.open(hosting, 0, 1)
    back.open(joined, 1, 0)
    assert host.send(out, [host.make(b"there" * 20), host.make(b"long" * 1000)]) == 2
    got = guest.burst(back)
    assert [guest.packet(desc) for desc in got] == [b"there" * 20, b"long" * 1000]
    guest.free(got)
    assert hosting.in_use == 0
    for each in (back, out, joined):
        each.close()


def test_there_is_room_for_so_many_guests(hosting):
    first = Pool.join(hosting.name, workers=2)
    second = Pool.join(hosting.name, workers=0)
    with pytest.raises(ArenaError, match="takes 2 in all, say so there by guests="):
        Pool.join(hosting.name)
    first.close()
    Pool.join(hosting.name, workers=2).close()
    second.close()
    with Pool(16384, 1, f"{hosting.name}2") as alone, pytest.raises(ArenaError, match="takes 0 in all"):
        Pool.join(alone.name)


GUEST = """
import sys, wirespeed as ws

@ws.node
def turn(pkt):
    pkt.eth.src, pkt.eth.dst = pkt.eth.dst, pkt.eth.src

graph = ws.Graph()
graph.add(ws.port("ring:there") >> turn >> ws.port("ring:back"))
engine = ws.Engine(graph, guest_of=sys.argv[1])
engine.start()
print("ready", flush=True)
engine.wait()
"""


@pytest.mark.skipif(not COMPILED, reason="interpreted there is one process")
def test_another_process_works_with_the_same_packets(hosting, worker_of, tmp_path):
    """Ours sends, a graph of another process turns the addresses round and sends back; killed, it leaves its stacks."""
    host, out, back = worker_of(hosting), port("ring:there"), port("ring:back")
    out.open(hosting, 0, 1)
    back.open(hosting, 1, 0)
    edge = hosting.name.removesuffix(".pool")
    (tmp_path / "guest.py").write_text(GUEST)
    guest = subprocess.Popen([sys.executable, str(tmp_path / "guest.py"), edge], stdout=subprocess.PIPE)
    try:
        assert guest.stdout.readline() == b"ready\n"
        for turn in range(3):
            host.send(out, [host.make(bytes(range(turn, turn + 60))) for _ in range(20)])
            got = []
            deadline = time.monotonic() + 20
            while len(got) < 20 and time.monotonic() < deadline:
                got += host.burst(back)
            assert {host.packet(desc) for desc in got} == {
                bytes([*range(turn + 6, turn + 12), *range(turn, turn + 6), *range(turn + 12, turn + 60)])
            }
            assert len(got) == 20
            host.free(got)
        assert hosting.in_use == 0
        with pytest.raises(PortError, match="another process' receives from ring 'there' already"):
            port("ring:there").open(hosting, 1, 0)
    finally:
        guest.kill()
        guest.wait()
    with Pool.join(hosting.name, workers=2):
        assert hosting.in_use == 0
    third = port("ring:there")
    third.open(hosting, 1, 0)
    for each in (out, back, third):
        each.close()


def test_a_guest_is_told_what_there_is(hosting):
    made = port("ring:there")
    made.open(hosting, 1, 0)
    with Pool.join(hosting.name) as joined, pytest.raises(PortError, match="it has there"):
        port("ring:their").open(joined, 0, 1)
    made.close()


def test_guests_need_a_name_to_find():
    with pytest.raises(WirespeedError, match="guests= needs a name="):
        Engine(Graph(), guests=1)
    with pytest.raises(WirespeedError, match="packet pool to itself"):
        Engine(Graph(), name="edge", guests=1, checked=True)

"""The host port: bytes both ways, wake-ups, and two threads that echo."""

import select
import threading

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from wirespeed.errors import PortError
from wirespeed.jit import COMPILED, kernel, load_acquire, pause, store64, store_release
from wirespeed.mem.region import Region
from wirespeed.ports.host import path as host_path
from wirespeed.ports.host.port import Received
from wirespeed.ports.port import port

ECHOES = 20_000 if COMPILED else 300


@pytest.fixture
def host(pool):
    made = port("host:control,size=8")
    made.open(pool, 1, 2)
    yield made
    made.close()


def readable(fd):
    return bool(select.select([fd], [], [], 0)[0])


def test_from_the_graph_to_python(pool, worker, host):
    sent = [worker.make(b"one" * 10), worker.make(b"two" * 10, port=3), worker.make(b"long" * 1000)]
    assert worker.send(host, sent[:2], 0) == 2
    assert worker.send(host, sent[2:], 1) == 1
    assert pool.in_use == 5
    found = host.poll()
    assert sorted(found) == sorted([Received(b"one" * 10, -1), Received(b"two" * 10, 3), Received(b"long" * 1000, -1)])
    assert pool.in_use == 0
    assert host.poll() == []
    assert host.stats().tx_packets == 3


def test_from_python_to_the_graph(pool, worker, host):
    packet = Ether() / IP(dst="192.0.2.1") / UDP() / b"payload"
    assert host.send(packet)
    assert host.send(b"j" * 9000)
    assert host.send(bytearray(b"k" * 14))
    descs = worker.burst(host)
    assert [worker.packet(desc) for desc in descs] == [bytes(packet), b"j" * 9000, b"k" * 14]
    worker.free(descs)
    assert worker.burst(host) == []
    assert host.stats().rx_packets == 3


def test_full_both_ways(pool, worker, host):
    assert [host.send(b"x" * 60) for _ in range(10)] == [True] * 8 + [False] * 2
    assert host.stats().rx_dropped == 2
    packets = [worker.make(b"y" * 60) for _ in range(9)]
    assert worker.send(host, packets) == 8
    worker.free(packets[8:])
    assert host.stats().tx_packets == 8
    assert host.stats().tx_bytes == 480
    assert pool.in_use == 16  # close frees them; the fixture looks


def test_no_cell_is_counted(pool, worker, host):
    vector = Region(2048 * 8, "test-cells", huge=False)
    taken = 0
    while got := pool.take(vector.address + taken * 8, 256):
        taken += got
    assert not host.send(b"x" * 9000)
    assert host.stats().rx_dropped == 1
    for start in range(0, taken, 256):
        pool.release(vector.address + start * 8, min(256, taken - start))
    vector.close()
    assert host.send(b"x" * 9000)


def test_the_limit_of_a_poll(worker, host):
    for queue in (0, 1):
        worker.send(host, [worker.make(bytes([queue, i]) * 10) for i in range(5)], queue)
    parts = [host.poll(4), host.poll(4), host.poll(4)]
    assert [len(part) for part in parts] == [4, 4, 2]
    assert len({packet.data for part in parts for packet in part}) == 10


def test_the_descriptor_of_python_tells_of_packets(worker, host):
    assert not readable(host.fileno())
    worker.send(host, [worker.make(b"a" * 20)])
    assert readable(host.fileno())
    assert len(host.poll(1)) == 1
    assert readable(host.fileno())  # as many as asked for: there may be more
    assert host.poll(1) == []
    assert not readable(host.fileno())
    worker.send(host, [worker.make(b"b" * 20)])
    worker.send(host, [worker.make(b"c" * 20)])
    assert readable(host.fileno())
    assert len(host.poll()) == 2
    assert not readable(host.fileno())


def test_the_descriptor_of_the_worker_tells_of_packets(worker, host):
    (fd,) = host.descriptors(0)
    assert not readable(fd)
    host.send(b"a" * 20)
    host.send(b"b" * 20)
    assert readable(fd)
    worker.free(worker.burst(host))
    assert worker.burst(host) == []  # only now may the worker sleep
    assert not readable(fd)
    host.send(b"c" * 20)
    assert readable(fd)
    worker.free(worker.burst(host))


@kernel
def echo(rx, tx, cache, vector, stop):
    """Send back what comes until told to stop; returns how many."""
    done = 0
    while load_acquire(stop) == 0:
        got = host_path.receive(rx, cache, vector, 32)
        sent = 0
        while sent < got:
            moved = host_path.transmit(tx, cache, vector + sent * 8, got - sent)
            sent += moved
            if moved == 0:
                pause()
        done += got
        if got == 0:
            pause()
    return done


def test_a_worker_that_echoes(pool, worker):
    host = port("host:,size=64")
    host.open(pool, 1, 1)
    with Region(4096, "test-stop", huge=False) as stop:
        store64(stop.address, 0)
        args = (host.rx[0], host.tx[0], worker.cache, worker.vector, stop.address)
        thread = threading.Thread(target=echo, args=args)
        thread.start()
        sent, found = 0, []
        try:
            while len(found) < ECHOES:
                while sent < ECHOES and sent - len(found) < 100 and host.send(sent.to_bytes(16, "big")):
                    sent += 1
                select.select([host], [], [], 60)  # a lost wake-up would stop us here
                found += host.poll(16)
        finally:
            store_release(stop.address, 1)
            thread.join()
    assert [int.from_bytes(packet.data, "big") for packet in found] == list(range(ECHOES))
    host.close()


def test_a_closed_port_says_so():
    made = port("host:control")
    for use in (made.poll, made.fileno, lambda: made.send(b"x" * 60)):
        with pytest.raises(PortError, match="is not open"):
            use()


def test_bad_packets_and_options(pool, host):
    for size in (0, 13, 65536):
        with pytest.raises(PortError, match=f"a packet of {size} bytes must have 14 to 65535"):
            host.send(bytes(size))
    with pytest.raises(PortError, match="size=7 must be a power of two"):
        port("host:control,size=7")
    one_way = port("host:")
    one_way.open(pool, 0, 1)
    with pytest.raises(PortError, match="leads nowhere"):
        one_way.send(bytes(60))
    one_way.close()

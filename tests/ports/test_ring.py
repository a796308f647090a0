"""The ring port: order, sharing by name, and that nothing stays behind."""

import pytest

from wirespeed.errors import PortError
from wirespeed.mem.pool import Pool
from wirespeed.ports.port import port
from wirespeed.ports.ring import _rings


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
    assert a.descriptors(0) == []


def test_one_receiver_one_size_one_pool(opened):
    opened("ring:a,size=8", 1, 0)
    with pytest.raises(PortError, match="receives from ring 'a' already"):
        port("ring:a,size=8").open(_rings["a"].pool, 1, 0)
    with pytest.raises(PortError, match="size=16 must be 8"):
        port("ring:a,size=16").open(_rings["a"].pool, 0, 1)
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

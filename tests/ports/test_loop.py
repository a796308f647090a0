"""The loop port: a cable from a port to itself. The ring's own tests say the rest."""

import pytest

import wirespeed as ws
from wirespeed.errors import PortError

turns = ws.per_worker(packets=0)


@ws.node(outputs=["again"])
def three_times(pkt):
    """Round and round."""
    turns.packets += 1
    pkt.eth.src = pkt.eth.src + 1
    if pkt.eth.src & 3 != 3:
        return "again"


@ws.node
def start(pkt):
    """Turn 0."""
    pkt.eth.src = 0


def test_what_goes_out_comes_in(worker, pool):
    first, second = ws.port("loop:size=8"), ws.port("loop:size=8")
    for port in (first, second):
        port.open(pool, 1, 1)
    sent = [worker.make(bytes([i]) * 60) for i in range(5)]
    assert worker.send(first, sent[:3]) == 3
    assert worker.send(second, sent[3:]) == 2
    assert worker.burst(first, 8) == sent[:3]
    assert worker.burst(second, 8) == sent[3:]
    assert worker.send(first, sent) == 5
    for port in (first, second):
        port.close()  # frees what is still in it


def test_packets_go_round_in_a_graph_which_ends():
    turns[0].packets = 0
    loop = ws.port("loop")
    graph = ws.Graph()
    graph.add(ws.port("null:count=100") >> start >> three_times >> ws.port("sink:"))
    graph.add(three_times["again"] >> loop)
    graph.add(loop >> three_times)
    report = ws.run(graph)
    assert report.in_use == 0
    stats = report.ports["loop"]
    left = report.ports["sink:"].tx_packets
    assert stats.tx_packets + stats.tx_dropped + left == report.nodes["three_times"].packets
    assert left + stats.tx_dropped + (stats.tx_packets - stats.rx_packets) == 100


@pytest.mark.parametrize("size", [0, 1, 3, 1 << 21])
def test_a_size_that_is_none(size):
    with pytest.raises(PortError, match=f"size={size} must be a power of two"):
        ws.port(f"loop:size={size}")

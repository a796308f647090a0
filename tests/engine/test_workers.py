"""Two workers: flows spread in software, in order, each seen by one of them; nothing lost between them."""

import random

import pytest
from feed import Collect, Feed, ipv4_udp

import wirespeed as ws
from wirespeed.engine.engine import Engine
from wirespeed.errors import WirespeedError
from wirespeed.jit import COMPILED
from wirespeed.mem.state import MAX_WORKERS

FLOWS = 50 if COMPILED else 12
EACH = 200 if COMPILED else 10

mine = ws.per_worker(packets=0)
flows = ws.Tally(1024, workers=MAX_WORKERS, name="flows")
by_port = ws.Tally(64, workers=MAX_WORKERS, name="ports")


@ws.node(drops=["odd"])
def note(pkt):
    """Which worker saw which flow."""
    mine.packets += 1
    flows.add(pkt.udp.sport << 16 | pkt.udp.dport)
    by_port.add(pkt.port + 1)
    pkt.eth.src = pkt.port
    if pkt.payload.be16(0) & 0x8000:
        return "odd"


def traffic(seed, both_ways=False):
    """Packets of many flows, mixed; each carries the number it has in its flow."""
    counts = dict.fromkeys(range(FLOWS), 0)
    order = [flow for flow in counts for _ in range(EACH)]
    random.Random(seed).shuffle(order)
    frames = []
    for flow in order:
        ends = ((1000 + flow, f"10.0.0.{flow % 200}"), (2000, "10.1.0.1"))
        if both_ways and counts[flow] % 2:
            ends = ends[::-1]
        (sport, src), (dport, dst) = ends
        frames.append(ipv4_udp(sport, dport, counts[flow].to_bytes(2, "big"), src, dst))
        counts[flow] += 1
    return frames


def per_flow(packets):
    """Numbers in the order they left, by (ports)."""
    found = {}
    for packet in packets:
        found.setdefault(packet[34:38], []).append(int.from_bytes(packet[42:44], "big"))
    return found


def blocks():
    """For each worker, the flows it counted."""
    return [{key for key, _ in zip(*map(list, flows._read(block)), strict=True)} for block in flows._blocks[:2]]


@pytest.fixture(autouse=True)
def fresh():
    """State is the module's: count from zero."""
    for tally in (flows, by_port):
        for block in tally._blocks[:2]:
            ws.jit.fill(block.address + 128, 0, tally.stride - 128)
            block.used = 0
    for worker in range(2):
        mine[worker].packets = 0


def test_null_ports_have_a_queue_for_each():
    graph = ws.Graph()
    graph.add(ws.port(f"null:count={FLOWS * EACH + 1}") >> ws.port("sink:"))
    report = ws.run(graph, workers=2)
    assert (report.packets, report.sent) == (FLOWS * EACH + 1, FLOWS * EACH + 1)
    assert report.in_use == 0


def test_a_single_queue_is_spread_by_flow():
    frames = traffic(1)
    graph, out = ws.Graph(), Collect()
    graph.add(Feed(frames, most=29) >> note >> out)
    engine = Engine(graph, workers=2)
    with engine:
        assert engine.wait(60)
    report = engine.stop()
    assert report.packets == report.sent == len(frames)
    assert report.nodes["note"].outputs == {"": len(frames)}
    assert all(numbers == list(range(EACH)) for numbers in per_flow(out.packets).values())
    assert sorted(packet[42:] for packet in out.packets) == sorted(frame[42:] for frame in frames)
    first, second = blocks()
    assert first
    assert second
    assert not first & second  # each flow was seen by one worker
    assert len(first | second) == FLOWS
    assert sum(mine.packets) == len(frames)
    assert min(mine.packets) > 0
    assert report.in_use == 0


def test_both_directions_of_a_flow_meet():
    frames = traffic(2, both_ways=True)
    graph, out = ws.Graph(), Collect()
    graph.add(Feed(frames) >> note >> out)
    report = ws.run(graph, workers=2, symmetric=True)
    assert report.sent == len(frames)
    first, second = ({frozenset((key >> 16, key & 0xFFFF)) for key in block} for block in blocks())
    assert not first & second
    assert len(first | second) == FLOWS
    assert report.in_use == 0


def test_two_single_queues_and_what_port_they_came_by():
    one, two = traffic(3), traffic(4)
    graph, out = ws.Graph(), Collect()
    graph.add(Feed(one, "one") >> note >> out)
    graph.add(Feed(two, "two") >> note)
    report = ws.run(graph, workers=2)
    assert report.sent == len(one) + len(two)
    ports = {graph.ports.index(port): port for port in graph.sources}
    assert dict(by_port) == {number + 1: len(one) for number in ports}
    for number, port in ports.items():
        mark = number.to_bytes(6, "big")
        got = [packet[:6] + packet[12:] for packet in out.packets if packet[6:12] == mark]
        assert sorted(got) == sorted(frame[:6] + frame[12:] for frame in port.frames)
    assert report.in_use == 0


def test_a_queue_for_each_worker_is_not_spread():
    frames = traffic(5)
    graph, out = ws.Graph(), Collect(queues=0)
    graph.add(Feed(frames, queues=2) >> note >> out)
    report = ws.run(graph, workers=2)
    assert report.sent == len(frames)
    assert mine.packets == [len(frames) // 2, len(frames) // 2]
    assert [len(queue) for queue in out.by_queue] == [len(frames) // 2] * 2
    assert report.in_use == 0


def test_what_is_no_ip_stays_where_it_came_in():
    graph, out = ws.Graph(), Collect()
    frames = [bytes([i]) * 60 for i in range(40)] + [b"", bytes(13)]
    graph.add(Feed(frames) >> out)
    report = ws.run(graph, workers=2)
    assert sorted(out.packets) == sorted(frames)
    assert report.in_use == 0


def test_chains_change_workers_whole():
    frames = [ipv4_udp(1000 + i, payload=bytes([i]) * 500) for i in range(60)]
    graph, out = ws.Graph(), Collect()
    graph.add(Feed(frames, segment=100) >> out)
    report = ws.run(graph, workers=2)
    assert sorted(out.packets) == sorted(frames)
    assert report.in_use == 0


def test_a_sink_with_no_room_between_workers():
    frames = traffic(6)
    graph, out = ws.Graph(), Collect(capacity=20)
    graph.add(Feed(frames) >> note >> out)
    report = ws.run(graph, workers=2)
    assert len(out.packets) == 20
    assert report.ports["collect"].tx_dropped == len(frames) - 20
    assert report.in_use == 0


@pytest.mark.parametrize("round_", range(10 if COMPILED else 2))
def test_the_end_waits_for_what_is_between_workers(round_):
    """Few packets, ended at once: the last are on their way when the input is over."""
    frames = traffic(100 + round_)[: 20 + round_]
    graph, out = ws.Graph(), Collect()
    graph.add(Feed(frames) >> note >> out)
    report = ws.run(graph, workers=2)
    assert report.sent == len(frames)
    assert report.in_use == 0


@ws.node(outputs=["never"])
def slow(pkt):
    """Takes as long as the packet says."""
    for i in range(pkt.payload.be32(0)):
        mine.packets = (mine.packets * 31 + i) & 0xFFFF_FFFF
    if pkt.length == 9:
        return "never"


@pytest.mark.parametrize("flow", [4, 5, 13, 14])  # the first on one worker, the second on the other
def test_the_end_waits_for_a_slow_worker(flow):
    """The input is over while the other worker has the last packet in its hands, to be handed back for sending."""
    rounds = (20_000_000 if COMPILED else 5_000).to_bytes(4, "big")  # long enough for the other to be idle first
    frames = [ipv4_udp(1000 + flow, payload=rounds), ipv4_udp(3000 + flow * 7, payload=rounds)]
    graph, out = ws.Graph(), Collect()
    graph.add(Feed(frames, most=1) >> slow)
    graph.add(slow["never"] >> Collect("never"))
    graph.add(slow >> out)
    report = ws.run(graph, workers=2)
    assert sorted(out.packets) == sorted(frames)
    assert report.in_use == 0


def test_stopped_in_full_flight():
    graph = ws.Graph()
    graph.add(Feed(traffic(7), endless=True) >> note >> Collect(log=0))
    report = ws.run(graph, workers=2, seconds=0.1)
    assert report.packets == report.sent == report.nodes["note"].packets
    assert report.in_use == 0


def test_a_table_for_fewer_workers_is_refused():
    small = ws.Tally(64)  # one worker's

    @ws.node
    def counts(pkt):
        """In a block of its own."""
        small.add(1)

    graph = ws.Graph()
    graph.add(Feed([bytes(60)]) >> counts >> Collect())
    with pytest.raises(WirespeedError, match=r"tally.*workers"):
        ws.run(graph, workers=2)

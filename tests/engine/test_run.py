"""Whole graphs, from literal bytes to literal bytes."""

import json
import os

import pytest
from feed import Collect, Feed, ipv4_udp

import wirespeed as ws
from wirespeed.engine.engine import Engine
from wirespeed.errors import GraphError, WirespeedError
from wirespeed.jit import COMPILED

MANY = 200_000 if COMPILED else 500


class Telemetry(ws.Header):
    """A protocol of one's own."""

    kind = ws.bits(0, 4)
    device = ws.be16(2)
    station = ws.mac(4)
    SIZE = 10


Telemetry.bind(ws.Udp, dport=4242)

queries = ws.counter()
seen = ws.per_worker(packets=0, devices=0)


@ws.node(outputs=["dns", "telemetry"], drops=["not-udp"])
def classify(pkt):
    """Send DNS one way, telemetry another, drop what is no UDP."""
    seen.packets += 1
    if not pkt.udp:
        return "not-udp"
    if pkt.udp.dport == 53 or pkt.udp.sport == 53:
        queries.add(1)
        return "dns"
    if pkt[Telemetry]:
        seen.devices = pkt[Telemetry].device
        pkt[Telemetry].kind = 15
        return "telemetry"


@ws.node
def mark(pkt):
    """A node that many lead to."""
    pkt.eth.src = 0x0200_0000_00FF


MARK = bytes.fromhex("0200000000ff")


def marked(frame):
    return frame[:6] + MARK + frame[12:]


DNS = [ipv4_udp(dport=53, payload=bytes([i] * i)) for i in range(40)]
TELEMETRY = [ipv4_udp(dport=4242, payload=bytes([0, 0, 0, i]) + bytes(6)) for i in range(7)]
OTHER = [ipv4_udp(dport=99, payload=b"x"), ipv4_udp(dport=4242, payload=b"short")]
JUNK = [b"", b"\x00" * 13, bytes(60)]
FRAMES = [frame for group in zip(DNS[:3], TELEMETRY[:3], JUNK, strict=True) for frame in group] + OTHER
FRAMES += DNS[3:] + TELEMETRY[3:]


def classified(feeds, **options):
    """Run: two sources may lead to one node, two doors lead to one node, and the default stands alone."""
    graph, out, rest = ws.Graph(), Collect(), Collect("rest")
    for feed in feeds:
        graph.add(feed >> classify)
    graph.add(classify["dns"] >> mark >> out)
    graph.add(classify["telemetry"] >> mark)
    graph.add(classify >> rest)
    return ws.run(graph, **options), out, rest


def test_bytes_in_bytes_out():
    queries.reset()
    seen[0].packets = 0
    report, out, rest = classified([Feed(FRAMES)])
    kinds = [frame[:42] + bytes([0xF0]) + frame[43:] if frame in TELEMETRY else frame for frame in FRAMES]
    assert out.packets == [marked(frame) for frame in kinds if frame not in JUNK + OTHER]
    assert rest.packets == OTHER
    assert queries.value == len(DNS)
    assert seen.packets == [len(FRAMES)]
    assert seen.devices == [6]
    node = report.nodes["classify"]
    assert node.outputs == {"": 2, "dns": 40, "telemetry": 7}
    assert node.drops == {"not-udp": 3}
    assert node.packets == len(FRAMES)
    assert report.nodes["mark"].outputs == {"": 47}
    assert (report.packets, report.bytes) == (len(FRAMES), sum(map(len, FRAMES)))
    assert report.sent == 49
    assert report.drops == {"classify: not-udp": 3}
    assert (report.in_use, report.refused, report.faults, report.interrupted) == (0, 0, (), False)
    assert report.ports["collect"].tx_packets == 47
    assert report.ports["feed"].rx_bytes == report.bytes


def test_the_report_reads(capsys):
    report, *_ = classified([Feed(FRAMES)])
    print(report)
    text = capsys.readouterr().out
    assert text.startswith(f"{len(FRAMES)} packets, {sum(map(len, FRAMES)):,} bytes in ")
    assert "packets/s)" in text
    assert "node classify: default 2, dns 40, telemetry 7, drop not-udp 3\n" in text
    assert "node mark: default 47\n" in text
    assert f"port feed: in {len(FRAMES)} packets, {sum(map(len, FRAMES)):,} bytes\n" in text
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["nodes"]["classify"]["drops"] == {"not-udp": 3}
    assert plain["drops"] == {"classify: not-udp": 3}
    assert plain["rate"] >= 0


def test_several_sources_to_one_node():
    report, _, rest = classified([Feed(FRAMES, "one"), Feed(FRAMES[::-1], "two", most=3)])
    assert report.nodes["classify"].packets == 2 * len(FRAMES)
    assert sorted(rest.packets) == sorted(OTHER * 2)
    assert report.ports["one"].rx_packets == report.ports["two"].rx_packets == len(FRAMES)
    assert report.in_use == 0


@pytest.mark.parametrize("segment", [64, 100, 1500])
def test_packets_over_several_cells(segment):
    frames = [ipv4_udp(dport=53, payload=bytes(range(256)) * n) for n in (0, 1, 5, 11)]
    report, out, _ = classified([Feed(frames, segment=segment)])
    assert out.packets == [marked(frame) for frame in frames]
    assert report.bytes == sum(map(len, frames))
    assert report.in_use == 0


def test_a_sink_with_no_room():
    graph, out = ws.Graph(), Collect(capacity=10)
    graph.add(Feed(DNS) >> out)
    report = ws.run(graph)
    assert out.packets == DNS[:10]
    assert report.sent == 10
    assert report.ports["collect"].tx_dropped == 30
    assert report.drops == {"collect: not sent": 30}
    assert "dropped 30" in str(report)
    assert report.in_use == 0


def test_a_port_to_a_port():
    graph, out = ws.Graph(), Collect()
    graph.add(Feed(FRAMES) >> out)
    report = ws.run(graph)
    assert out.packets == FRAMES
    assert report.nodes == {}
    assert report.in_use == 0


def test_null_to_sink_by_text():
    graph = ws.Graph()
    graph.add(ws.port(f"null:count={MANY},size=100") >> ws.port("sink:"))
    report = ws.run(graph)
    assert (report.packets, report.bytes, report.sent) == (MANY, MANY * 100, MANY)
    assert list(report.ports) == [f"null:count={MANY},size=100", "sink:"]
    assert report.in_use == 0


def test_two_ports_of_one_text_are_told_apart():
    graph = ws.Graph()
    graph.add(ws.port("null:count=3") >> ws.port("sink:"))
    graph.add(ws.port("null:count=4") >> ws.port("sink:"))
    assert sorted(ws.run(graph).ports) == ["null:count=3", "null:count=4", "sink:", "sink: (2)"]


def test_nothing_to_do():
    report, out, rest = classified([Feed([])])
    assert (report.packets, out.packets, rest.packets) == (0, [], [])
    assert report.nodes["classify"].packets == 0


def test_seconds():
    graph = ws.Graph()
    graph.add(ws.port("null:") >> ws.port("sink:"))
    report = ws.run(graph, seconds=0.05)
    assert report.packets == report.sent
    assert report.seconds >= 0.05
    assert (report.in_use, report.interrupted) == (0, False)


@pytest.mark.parametrize("burst", [1, 7, 256])
def test_bursts_of_any_size(burst):
    report, out, _ = classified([Feed(DNS)], burst=burst)
    assert out.packets == [marked(frame) for frame in DNS]
    assert report.in_use == 0


def test_numbers_out_of_range():
    graph = ws.Graph()
    graph.add(Feed([]) >> Collect())
    for options, message in (
        ({"workers": 0}, "workers=0 must be 1 to 64"),
        ({"workers": 65}, "workers=65 must be 1 to 64"),
        ({"burst": 0}, "burst=0 must be 1 to 256"),
        ({"burst": 257}, "burst=257 must be 1 to 256"),
    ):
        with pytest.raises(WirespeedError, match=message):
            ws.run(graph, **options)


def test_an_empty_pool_is_counted_not_fatal():
    """Each frame takes 400 cells; a burst of them takes more than there are, so some wait for the next."""
    frames = [ipv4_udp(payload=bytes([i]) * 6358) for i in range(40)]
    graph, out = ws.Graph(), Collect()
    graph.add(Feed(frames, segment=16) >> out)
    report = ws.run(graph, cells=2048)
    assert out.packets == frames
    assert report.refused > 0
    assert "no cell was free" in str(report)
    assert report.in_use == 0


def test_an_engine_runs_once():
    graph = ws.Graph()
    graph.add(Feed(DNS) >> (out := Collect()))
    engine = Engine(graph)
    with engine:
        with pytest.raises(GraphError, match="runs already"):
            engine.start()
        assert engine.wait(10)
    report = engine.report()
    assert engine.stop() is report
    assert out.packets == DNS
    assert (out.opened, out.closed) == (1, 1)


def test_who_waits_for_the_workers_keeps_off_their_cores():
    graph = ws.Graph()
    graph.add(ws.port("null:count=0") >> ws.port("null"))
    engine, before = Engine(graph), os.sched_getaffinity(0)
    engine.start()
    with engine.aside():
        inside = os.sched_getaffinity(0)
    engine.stop()
    assert inside == before - set(engine.cores) or inside == before <= set(engine.cores)
    assert os.sched_getaffinity(0) == before


def test_everything_is_given_back(open_files):
    classified([Feed(FRAMES)])
    before = open_files()
    for _ in range(3):
        classified([Feed(FRAMES)])
    assert open_files() == before


def test_a_port_that_does_not_open(open_files):
    class Broken(Collect):
        def open(self, pool, rx_queues, tx_queues):
            raise WirespeedError("broken: it is")

    out = Collect()
    graph = ws.Graph()
    graph.add(Feed(DNS) >> classify)
    graph.add(classify["dns"] >> out)
    graph.add(classify["telemetry"] >> Broken("broken"))
    graph.add(classify >> Collect("rest"))
    before = open_files()
    with pytest.raises(WirespeedError, match="broken: it is"):
        ws.run(graph)
    assert open_files() == before
    assert (out.opened, out.closed) == (1, 1)
    assert out.packets == []


def test_a_graph_may_run_again():
    feed, out = Feed(DNS), Collect()
    graph = ws.Graph()
    graph.add(feed >> out)
    for _ in range(2):
        assert ws.run(graph).packets == len(DNS)
        assert out.packets == DNS

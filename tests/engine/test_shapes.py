"""Fused, split and profiled loops give the packets that the interpreted nodes give: random graphs, random packets."""

import pytest
from feed import Collect, Feed, hexed, ipv4_udp
from hypothesis import given, settings
from hypothesis import strategies as st

import wirespeed as ws
from wirespeed.engine.engine import Engine
from wirespeed.jit import COMPILED

hits = ws.counter("hits")


@ws.node(outputs=["even"])
def parity(pkt):
    """By the last bit of the length."""
    if pkt.length & 1 == 0:
        return "even"


@ws.node(drops=["expired"])
def ttl(pkt):
    """Count down."""
    if pkt.ipv4:
        if pkt.ipv4.ttl <= 1:
            return "expired"
        pkt.ipv4.ttl -= 1
    hits.add(1)


@ws.node(outputs=["udp", "other"])
def kind(pkt):
    """UDP or not, no default."""
    if pkt.udp:
        return "udp"
    return "other"


@ws.node(outputs=["low"], drops=["zero"])
def port(pkt):
    """By the destination port, which goes up."""
    if not pkt.udp:
        return
    if pkt.udp.dport == 0:
        return "zero"
    pkt.udp.dport += 1
    return "low" if pkt.udp.dport < 1000 else None


@ws.node
def cut(pkt):
    """Take a byte off, put two on in front."""
    pkt.trim(1)
    if pkt.prepend(2):
        pkt.eth.src = 7


@ws.node(drops=["all"])
def end(pkt):
    """Nothing goes on."""
    return "all"


NODES = (parity, ttl, kind, port, cut, end)
DOORS = {
    "parity": ["", "even"],
    "ttl": [""],
    "kind": ["udp", "other"],
    "port": ["", "low"],
    "cut": [""],
    "end": [],
}

frames = st.lists(
    st.one_of(
        st.binary(max_size=80),
        st.builds(
            ipv4_udp,
            dport=st.sampled_from([0, 53, 998, 999, 1000, 65535]),
            payload=st.binary(max_size=30),
            ttl=st.integers(0, 3),
        ),
    ),
    max_size=100,
)


@st.composite
def layouts(draw):
    """Nodes, and for each of their doors one of the nodes behind, or a sink; at most one of each door."""
    nodes = [draw(st.sampled_from(NODES)).named(f"n{i}") for i in range(draw(st.integers(1, 5)))]
    edges = []
    for i, node in enumerate(nodes):
        for door in DOORS[node.function.__name__]:
            edges.append((i, door, draw(st.integers(i + 1, len(nodes) + 1))))
    return nodes, edges


def assemble(layout, data):
    """The graph, its sinks; nodes that nothing leads to are left out."""
    nodes, edges = layout
    graph, sinks = ws.Graph(), {}
    reached = {0}
    graph.add(Feed(data, most=17) >> nodes[0])
    for i, door, to in edges:
        if i not in reached:
            continue
        if to < len(nodes):
            target = nodes[to]
            reached.add(to)
        else:
            target = sinks.setdefault(to, Collect(f"sink{to}"))
        graph.add((nodes[i][door] if door else nodes[i]) >> target)
    return graph, sinks


def oracle(layout, data):
    """What the nodes do one by one, interpreted: packets by sink, doors by node."""
    nodes, edges = layout
    leads = {(i, door): to for i, door, to in edges}
    out, doors = {}, {}
    for packet in data:
        at = 0
        while at is not None and at < len(nodes):
            said = nodes[at].trace(packet)
            doors[nodes[at].name, said.door] = doors.get((nodes[at].name, said.door), 0) + 1
            packet, at = said.data, leads.get((at, said.door))
        if at is not None:
            out.setdefault(at, []).append(packet)
    return out, doors


def check(layout, data, shape, **options):
    expected, doors = oracle(layout, data)
    graph, sinks = assemble(layout, data)
    engine = Engine(graph, shape=shape, **options)
    with engine:
        assert engine.wait(60)
    report = engine.stop()
    for to, sink in sinks.items():
        got, wanted = hexed(sink.packets), hexed(expected.get(to, []))
        assert sorted(got) == sorted(wanted), f"{shape}: {graph}"
    counted = {
        (node.name, door): n for node in report.nodes.values() for door, n in (node.outputs | node.drops).items() if n
    }
    assert counted == doors
    assert (report.packets, report.in_use) == (len(data), 0)
    return [hexed(sink.packets) for _, sink in sorted(sinks.items())]


# Each layout is three loops to compile: few of them, each with one list of packets.
@settings(max_examples=3 if COMPILED else 12)
@given(layouts(), frames)
def test_random_graphs(layout, data):
    for shape in ("fused", "split", "profile"):
        check(layout, data, shape)


def straight():
    """All kinds, with two joins."""
    nodes = [node.named(f"s{i}") for i, node in enumerate((parity, ttl, kind, port, cut))]
    edges = [(0, "", 1), (0, "even", 2), (1, "", 2), (2, "udp", 3), (2, "other", 4), (3, "", 5), (3, "low", 4)]
    return nodes, [*edges, (4, "", 6)]


@settings(max_examples=40 if COMPILED else 10)
@given(frames)
def test_random_packets(data):
    """One graph, many packets."""
    check(straight(), data, "fused")


@pytest.mark.parametrize("shape", ["fused", "split", "profile"])
def test_one_flow_stays_in_order(shape):
    """Packets that take the same way leave in the order they came."""
    data = [ipv4_udp(dport=2000, payload=i.to_bytes(2, "big")) for i in range(300)]
    plain, _ = check(straight(), data, shape)
    assert plain == sorted(plain, key=lambda packet: packet[84:88])
    assert len(plain) == 300

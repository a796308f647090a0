"""Graphs that cannot run, each with the remedy; and those that can."""

import pytest
from feed import Collect, Feed

import wirespeed as ws
from wirespeed.errors import GraphError, PortError
from wirespeed.graph.plan import make_plan


@ws.node
def a(pkt):
    """On."""


@ws.node
def b(pkt):
    """On."""


@ws.node(outputs=["left", "right"])
def fork(pkt):
    """Two ways, no default."""
    if pkt.length & 1:
        return "left"
    return "right"


@ws.node(drops=["all"])
def end(pkt):
    """Nothing leaves."""
    return "all"


def built(*chains):
    graph = ws.Graph()
    for chain in chains:
        graph.add(chain)
    return graph


def refuse(message, *chains):
    with pytest.raises(GraphError, match=message):
        built(*chains).check()


def test_no_source():
    refuse(r"no source: join a port to its first node, ws.port\(...\) >> node")
    refuse("no source", a >> Collect())


def test_a_dangling_output():
    refuse(
        r"fork\['right'\] leads nowhere \(.*test_graph.py:\d+\): join it, graph.add.*, or declare",
        Feed([]) >> fork,
        fork["left"] >> Collect(),
    )


def test_a_default_output_that_leads_nowhere():
    refuse(r"a's default output leads nowhere .*join it, graph.add\(a >> ...\), or return the name", Feed([]) >> a)


def test_a_place_nobody_reaches():
    refuse("no packet can reach <node b>: nothing that starts at a port leads there", Feed([]) >> end, b >> Collect())


def test_a_circle():
    refuse(r"in a circle: a >> b >> a; put a queue in it: >> ws.port\('ring:again'\)", Feed([]) >> a >> b, b >> a)


def test_a_circle_of_one():
    refuse("in a circle: a >> a", Feed([]) >> a, a >> a)


def test_ports_that_cannot():
    refuse("port 'sink:' gives no packets: it can only stand at the end of a chain", ws.port("sink:") >> end)
    refuse("port 'feed' takes no packets: it can only stand at the start", Feed([]) >> a >> Feed([]))


def test_two_nodes_of_one_name():
    other = b.named("a")
    refuse(r"two nodes are called 'a'; .*node.named\('...'\)", Feed([]) >> a >> other >> Collect())
    built(Feed([]) >> a >> a.named("a2") >> Collect()).check()


def test_a_door_joined_twice():
    graph = built(Feed([]) >> fork, fork["left"] >> a)
    with pytest.raises(GraphError, match=r"fork\['left'\] already leads to <node a>; a door leads to one place"):
        graph.add(fork["left"] >> b)
    graph.add(fork["left"] >> a)  # the same again says nothing new
    feed = Feed([])
    graph = built(feed >> a)
    with pytest.raises(GraphError, match="<port feed> already leads to <node a>"):
        graph.add(feed >> b)
    with pytest.raises(GraphError, match="a's default output already leads to"):
        built(feed >> a >> b, a >> Collect())


def test_what_is_no_chain():
    for nothing in (a, fork["left"], None, "a >> b"):
        with pytest.raises(GraphError, match=r"graph.add takes a chain such as `port >> node >> port`"):
            ws.Graph().add(nothing)
    with pytest.raises(TypeError, match="cannot stand after >>: join ports and nodes"):
        Feed([]) >> (lambda pkt: None)


def test_a_failed_add_changes_nothing():
    graph = built(Feed([]) >> a >> (out := Collect()))
    before = str(graph)
    with pytest.raises(GraphError):
        graph.add(Feed([]) >> b >> a >> Collect())
    assert str(graph) == before
    assert graph.sinks == [out]


def test_ports_of_no_kind():
    with pytest.raises(PortError, match="no port is called 'nul'"):
        ws.port("nul:")
    with pytest.raises(PortError, match="has no option 'sise'"):
        ws.port("null:sise=3")


def test_chains_join_at_either_end():
    feed, out, other = Feed([]), Collect(), Collect("other")
    graph = built(feed >> a >> fork["left"] >> out, fork["right"] >> end)
    graph.check()
    assert (graph.nodes, graph.sources, graph.sinks) == ([a, fork, end], [feed], [out])
    assert [node.name for node in graph.order()][:2] == ["a", "fork"]
    assert str(graph).splitlines() == ["feed >> a", "a >> fork", "fork['left'] >> collect", "fork['right'] >> end"]
    tail = b >> other
    graph = built(feed >> a >> tail)
    assert list(graph.targets(a)) == [b]


def test_order_is_topological():
    chains = [Feed([]) >> fork, fork["right"] >> b, fork["left"] >> a >> b, b >> end]
    order = built(*chains).order()
    for first, then in ((fork, a), (fork, b), (a, b), (b, end)):
        assert order.index(first) < order.index(then)


def test_regions():
    """One pass for what is fused; a join begins another, and split makes every node one."""
    chains = [Feed([]) >> fork, fork["right"] >> b, fork["left"] >> a >> b, b >> end]
    graph = built(*chains)
    assert [node.name for node in make_plan(graph, "fused").entries] == ["fork", "b"]
    assert len(make_plan(graph, "split").entries) == 4
    doors = [exit_.counter for exits in make_plan(graph).exits.values() for exit_ in exits]
    assert sorted(doors) == list(range(len(doors)))


def test_a_port_to_a_port():
    feed, out = Feed([]), Collect()
    graph = built(feed >> out)
    graph.check()
    assert graph.order() == []

"""Nodes that choose their worker: packets of one number meet, whoever received them, and none is lost."""

from collections import Counter

import pytest
from feed import Collect, Feed, ipv4_udp

import wirespeed as ws
from wirespeed.engine.engine import Engine
from wirespeed.errors import GraphError, NodeError
from wirespeed.jit import COMPILED
from wirespeed.mem.state import MAX_WORKERS

KEYS = 64 if COMPILED else 16
FRAMES = [ipv4_udp(1000 + i % 7, 53, bytes([i % KEYS]) + bytes(7), f"10.0.0.{i % 5 + 1}") for i in range(KEYS * 12)]
keys = ws.Tally(1024, workers=MAX_WORKERS, name="choosing-keys")
ports = ws.Tally(1024, workers=MAX_WORKERS, name="choosing-ports")


def by_key(pkt):
    """The first byte of the payload, below zero: any number will do."""
    return pkt.payload.u8(0) - 7


@ws.node(worker=by_key)
def keep(pkt):
    """Which worker saw which key, and by which port it came."""
    keys.add(pkt.payload.u8(0))
    ports.add(pkt.port)


@ws.node
def before(pkt):
    """A node ahead of the choice."""


def seen(tally):
    """For each of two workers, what it counted."""
    return [dict(zip(*map(list, tally._read(block)), strict=True)) for block in tally._blocks[:2]]


@pytest.fixture(autouse=True)
def fresh():
    for tally in (keys, ports):
        for block in tally._blocks[:2]:
            ws.jit.fill(block.address + 128, 0, tally.stride - 128)
            block.used = 0


def run(*chains, workers=2, **options):
    graph = ws.Graph()
    for chain in chains:
        graph.add(chain)
    with Engine(graph, workers, **options) as engine:
        assert engine.wait(60)
    return engine.stop()


@pytest.mark.parametrize("shape", ["fused", "profile"])
def test_packets_of_one_number_meet(shape):
    final = run(Feed(FRAMES) >> before >> keep >> Collect(log=0), shape=shape)
    assert (final.sent, final.in_use) == (len(FRAMES), 0)
    first, second = seen(keys)
    assert first.keys().isdisjoint(second)
    assert first == {key: 12 for key in range(KEYS) if (key - 7) & 1 == 0}
    assert second == {key: 12 for key in range(KEYS) if (key - 7) & 1 == 1}
    assert final.nodes["before"].packets == final.nodes["keep"].packets == len(FRAMES)


def test_one_worker_has_them_all():
    final = run(Feed(FRAMES) >> before >> keep >> Collect(log=0), workers=1)
    assert (final.sent, final.in_use) == (len(FRAMES), 0)
    assert len(seen(keys)[0]) == KEYS


def test_a_node_right_behind_several_ports_knows_the_port():
    out = Collect(log=0)
    final = run(Feed(FRAMES) >> keep >> out, Feed(FRAMES[: KEYS * 6]) >> keep)
    assert (final.sent, final.in_use) == (KEYS * 18, 0)
    both = sum((Counter(worker) for worker in seen(ports)), Counter())
    assert sorted(both.values()) == [KEYS * 6, KEYS * 12]


def test_a_choice_behind_a_choice():
    def other_way(pkt):
        return pkt.udp.sport

    again = ws.node(worker=other_way, name="again")(keep.function)
    final = run(Feed(FRAMES) >> keep >> again >> Collect(log=0))
    assert (final.sent, final.in_use) == (len(FRAMES), 0)
    assert sum(sum(worker.values()) for worker in seen(keys)) == 2 * len(FRAMES)


def test_what_is_asked_for_ahead_is_asked_for_where_it_is_used():
    asked = ws.Tally(1024, workers=MAX_WORKERS, name="choosing-asked")

    def ask(pkt):
        asked.add(pkt.payload.u8(0))

    node = ws.node(worker=by_key, prefetch=ask, name="keep")(keep.function)
    run(Feed(FRAMES) >> before >> node >> Collect(log=0))
    assert seen(asked) == seen(keys)


@pytest.mark.skipif(COMPILED, reason="of control code only: interpreted, no graph after graph is compiled")
def test_the_graph_changes_while_packets_are_between_workers():
    """A port is added and removed, then the node that chooses goes: all that came was sent, or is counted."""
    out = Collect(log=0)
    graph = ws.Graph()
    graph.add(Feed(FRAMES, endless=True) >> before >> keep >> out)
    with Engine(graph, 2) as engine:
        for _ in range(3):
            added = Feed(FRAMES, endless=True)
            engine.add(added >> keep)
            engine.remove(added)
        other = ws.Graph()
        other.add(graph.sources[0] >> before >> out)
        engine.replace(other)
    final = engine.stop()
    assert final.in_use == 0
    stats = [*final.ports.values(), *final.departed.values()]
    assert final.sent + sum(each.rx_dropped + each.tx_dropped for each in stats) == final.packets > 0


def test_marks_stay_where_they_are():
    @ws.node
    def marking(pkt):
        pkt.mark = 1

    with pytest.raises(GraphError, match=r"pkt\.mark does not go to another worker, and keep may"):
        run(Feed(FRAMES) >> marking >> keep >> Collect(log=0))


@pytest.mark.skipif(not COMPILED, reason="nothing is compiled")
def test_a_choice_that_does_not_compile_is_told_by_its_line():
    def unsound(pkt):
        return pkt.payload.nothing_such

    node = ws.node(worker=unsound, name="keep")(keep.function)
    with pytest.raises(NodeError, match=r"test_choosing\.py:\d+: unsound does not compile"):
        run(Feed(FRAMES) >> node >> Collect(log=0))

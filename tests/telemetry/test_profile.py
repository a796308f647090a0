"""Costs of each place, from the profiling loop of an engine that runs."""

import io
import threading

import pytest
from feed import Collect, Feed, ipv4_udp
from rich.console import Console

import wirespeed as ws
from wirespeed.eal.perf import SOFTWARE, Event, PerfCounters
from wirespeed.engine.engine import Engine
from wirespeed.nodes import ipv4_ttl, ipv4_validate
from wirespeed.telemetry.live import table
from wirespeed.telemetry.profile import places

FRAMES = [ipv4_udp(payload=bytes(10)), ipv4_udp(ttl=1), b"short"]


def run_until(engine, condition, turns=20_000):
    """Profile again and again until something is so; the bound is on turns, not on time."""
    wake = threading.Event()
    for _ in range(turns):
        if condition():
            return
        assert not engine.ended, engine.workers.failure
        engine.profile(0.001)
        engine.refresh()
        wake.wait(0.001)
    raise AssertionError(f"it did not come: {places(engine)}")


@pytest.fixture(scope="module")
def profiled():
    """Two sources and two sinks, called the same by pairs, two nodes: (places, report, table) of a run."""
    graph, ttl = ws.Graph(), ipv4_ttl(answer=True)
    graph.add(Feed(FRAMES, "feed:", endless=True) >> ipv4_validate >> ttl >> Collect("out:", log=0))
    graph.add(Feed(FRAMES[:1], "feed:", endless=True) >> ipv4_validate)
    graph.add(ttl["ttl-expired"] >> Collect("out:", log=0))
    engine = Engine(graph)
    assert places(engine) == []
    with engine:
        assert not engine.can_profile
        run_until(engine, lambda: len(places(engine)) == 6)
        assert engine.can_profile
        found = places(engine)
        console = Console(file=io.StringIO(), width=140, color_system=None)
        console.print(table(engine.report(), 1e6, found))
    return found, engine.stop(), console.file.getvalue()


def test_every_place_has_packets_and_cycles(profiled):
    found, _, _ = profiled
    assert [place.kind for place in found] == ["in", "in", "node", "node", "out", "out"]
    assert [place.name for place in found[2:4]] == ["ipv4_validate", "ipv4_ttl"]
    for place in found:
        assert place.packets > 0 and place.cycles > 0
        assert place.instructions is None or place.instructions > 0


def test_places_are_called_what_the_report_calls_them(profiled):
    found, report, _ = profiled
    assert list(report.nodes) == [place.name for place in found if place.kind == "node"]
    ports = [place.name for place in found if place.kind != "node"]
    assert sorted(ports) == sorted(report.ports) == ["feed:", "feed: (2)", "out:", "out: (2)"]


def test_packets_add_up(profiled):
    """What the sources gave the first node saw; what the second let go, by either door, went out."""
    found, report, _ = profiled
    received = sum(place.packets for place in found[:2])
    assert found[2].packets == received <= report.packets
    assert found[3].packets == sum(place.packets for place in found[4:]) < received
    assert report.nodes["ipv4_validate"].packets == report.packets
    assert report.in_use == 0


def test_the_table_has_a_cost_in_every_row(profiled):
    shown = profiled[2]
    assert "…" not in shown
    for name in ("feed:", "feed: (2)", "ipv4_validate", "ipv4_ttl", "out:", "out: (2)", "ipv4_validate: malformed"):
        assert name in shown


def test_counters_of_the_kernel_are_charged_to_places():
    """Software events stand in for the hardware's, which a virtual machine may lack: their way is the same."""
    events = (Event("cycles", SOFTWARE, 1), Event("instructions", SOFTWARE, 2))  # task clock and page faults
    with PerfCounters.open(events=events) as counters:
        if not counters.available:
            pytest.skip(counters.reason)
    graph = ws.Graph()
    graph.add(Feed(FRAMES, endless=True) >> ipv4_validate >> Collect(log=0))
    engine = Engine(graph, counters=events)
    with engine:
        run_until(engine, lambda: len(places(engine)) == 3)
        found = places(engine)
        assert engine.counts_instructions
    assert all(place.cycles > 0 and place.instructions is not None for place in found)

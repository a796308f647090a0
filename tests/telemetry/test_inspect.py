"""Inspection: what it finds, keeps and shows."""

import json

import pytest
from feed import Collect, Feed
from typer.testing import CliRunner

import wirespeed as ws
from wirespeed.cli import app
from wirespeed.errors import WirespeedError
from wirespeed.nodes import macswap
from wirespeed.telemetry.inspect import Inspection, figures


@pytest.fixture(autouse=True)
def own_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("WIRESPEED_RUN", str(tmp_path / "run"))


def test_objects_come_and_go():
    with Inspection() as inspection:
        assert inspection.look() == []
        counter = ws.counter("packets")
        counter.add(3)
        (found,) = inspection.look()
        assert (found.entry.name, found.entry.kind, found.alive, found.fault) == ("packets", "counter", True, "")
        assert found.stats == {"value": 3, "by_worker": (3,)}
        counter.add(1)
        assert inspection.look()[0].stats["value"] == 4
        counter.close()
        assert inspection.look() == []


def test_names_choose():
    a, b, c = ws.counter("edge"), ws.counter("edge.drops"), ws.counter("edges")
    with Inspection("edge") as inspection:
        assert [found.entry.name for found in inspection.look()] == ["edge", "edge.drops"]
    with Inspection(pid=1) as inspection:
        assert inspection.look() == []
    for each in (a, b, c):
        each.close()


def test_a_graph_that_runs():
    graph = ws.Graph()
    graph.add(Feed([bytes(60)] * 32, endless=False) >> macswap >> Collect(log=0))
    engine = ws.Engine(graph, name="swap")
    engine.start()
    engine.wait(20)
    with Inspection("swap") as inspection:
        found = inspection.look()[0]
        assert found.entry.kind == "graph"
        assert found.stats["nodes"] == {"macswap": {"default": 32}}
        assert dict(figures(found.stats))["nodes.macswap.default"] == 32
        engine.stop()
        assert inspection.look() == []


def test_an_object_that_cannot_be_read_says_why(monkeypatch):
    counter = ws.counter("packets")
    monkeypatch.setattr(ws.Counter, "VERSION", 7)
    with Inspection() as inspection:
        assert "has layout 1 of counter" in inspection.look()[0].fault
    counter.close()


def run(*arguments):
    from wirespeed.cli import _register

    if not app.registered_commands:
        _register()
    return CliRunner().invoke(app, ["inspect", *arguments])


def test_the_command():
    assert "nothing is listed" in run().output
    counter = ws.counter("packets")
    counter.add(1_234_567)
    shown = run().output
    assert "packets" in shown and "1,234,567" in shown
    (told,) = json.loads(run("--json").output)
    assert (told["name"], told["kind"], told["alive"], told["stats"]["value"]) == (
        "packets",
        "counter",
        True,
        1_234_567,
    )
    assert isinstance(run("drops").exception, WirespeedError)
    counter.close()


def test_figures_that_fail_while_their_owner_changes_them(monkeypatch):
    """A copy may be read in the middle of a change: whatever that raises is said of that object only."""

    def torn(self):
        raise ValueError("zip() argument 2 is longer than argument 1")

    with ws.Maglev(["a"], name="backends"), ws.counter("packets"), Inspection() as inspection:
        monkeypatch.setattr(ws.Maglev, "stats", torn)
        first, second = inspection.look()
        assert (first.fault, first.stats) == ("ValueError: zip() argument 2 is longer than argument 1", {})
        assert second.stats["value"] == 0

"""The ports command: a graph of this process as another one would see it; events, rules, ports that come and go."""

import json

import pytest
import typer
from typer.testing import CliRunner

import wirespeed as ws
from wirespeed.cli import ports
from wirespeed.engine.engine import Engine
from wirespeed.errors import WirespeedError
from wirespeed.jit import COMPILED
from wirespeed.ports.port import Port
from wirespeed.ports.rules.rules import COUNT
from wirespeed.telemetry.ports import PortsWatch

COUNTED = 1000 if COMPILED else 100


@pytest.fixture
def run(monkeypatch, tmp_path):
    monkeypatch.setenv("WIRESPEED_RUN", str(tmp_path / "run"))
    monkeypatch.setenv("COLUMNS", "160")
    application = typer.Typer()
    application.command()(ports.command)
    return lambda *arguments: CliRunner().invoke(application, list(arguments))


def engine(**options) -> tuple[Engine, list[Port]]:
    graph = ws.Graph()
    source = ws.port(f"null:count={COUNTED},checksum=verify")
    source.rules.add("any", COUNT)
    graph.add(source >> ws.port("sink:"))
    return Engine(graph, **options), graph.ports


def test_nothing_runs(run):
    assert "no graph of this user runs under a name" in run().output
    assert json.loads(run("--json").output) == []
    answer = run("mine")
    assert isinstance(answer.exception, WirespeedError)
    assert "no running graph is called 'mine'" in str(answer.exception)


def test_everything_a_port_says(run):
    heard = []
    made, (source, _) = engine(name="mine", on_event=heard.append)
    with made:
        assert made.wait(60)
        source.events.say("link-down", "the cable is out")
        made.refresh()
        (found,) = json.loads(run("--json").output)
        text, full = run().output, run("mine").output
    assert (found["name"], found["alive"], found["fault"]) == ("mine", True, "")
    null, out = found["ports"]
    assert (null["port"], null["ways"], out["ways"]) == (source.spec, ["in"], ["out"])
    assert null["stats"]["rx_packets"] == out["stats"]["tx_packets"] == COUNTED
    assert null["queues"][0]["rx_packets"] == COUNTED
    assert null["software"] == ["verify", "rules"]
    assert null["rules"] == [{"rule": "count:any", "packets": COUNTED, "bytes": 64 * COUNTED}]
    assert null["events"][0]["kind"] == "link-down"
    assert f"{COUNTED:,}" in text
    assert "link-down: the cable is out" in text
    assert "rule count:any" not in text
    assert f"rule count:any: {COUNTED:,} packets" in full
    assert f"queue 0: rx packets {COUNTED:,}" in full
    assert [event.kind for event in heard] == ["link-down"]
    report = made.stop()
    assert [event.text for event in report.events] == ["the cable is out"]
    assert "event: null:" in str(report)
    assert json.loads(run("--json").output) == []


def test_rates_and_ports_that_come(run):
    graph = ws.Graph()
    graph.add(ws.port("null:") >> ws.port("sink:"))
    with Engine(graph, name="mine") as running, PortsWatch("mine") as watch:
        running.refresh()
        (first,) = watch.look()
        assert [port["rx_rate"] for port in first.ports] == [None, None]
        before = first.ports[0]["stats"]["rx_packets"]
        rate = None
        while not rate:
            running.refresh()
            running.workers.wait(0.02)
            (now,) = watch.look()
            rate = now.ports[0]["rx_rate"]
        assert now.ports[0]["stats"]["rx_packets"] > before
        assert now.ports[1]["tx_rate"] >= 0
        running.add(ws.port("null:") >> ws.port("sink:"))
        running.refresh()
        (now,) = watch.look()
        assert [port["number"] for port in now.ports] == [0, 1, 2, 3]

        said = ws.attach("mine.ports").stats()
        assert (said.ports, said.up) == (4, 4)


def test_an_on_event_that_raises_is_a_note():
    def bad(event):
        raise ValueError("not mine")

    made, (source, _) = engine(on_event=bad)
    with made:
        source.events.say("gone", "away")
    assert "on_event: ValueError: not mine" in made.stop().notes


def test_before_anything_was_said(run):
    made, _ = engine(name="quiet")
    try:
        (found,) = json.loads(run("--json").output)
        assert "has said nothing about its ports yet" in found["fault"]
    finally:
        made.close()

"""A graph that runs while Python looks on: counters, changed numbers, signals."""

import dataclasses
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from feed import Collect, Feed, ipv4_udp

import wirespeed as ws
from wirespeed.engine.engine import Engine
from wirespeed.errors import WirespeedError

passed = ws.counter("passed")
last = ws.per_worker(count=0, limit=0)
LIMIT = 100
FRAMES = [ipv4_udp(payload=bytes(n)) for n in (10, 50, 100)]


@ws.node(drops=["long"])
def limit(pkt):
    """Drop what is longer than LIMIT."""
    passed.add(1)
    last.count += 1
    last.limit = LIMIT
    if pkt.length > LIMIT:
        return "long"


def endless():
    graph = ws.Graph()
    graph.add(Feed(FRAMES, endless=True) >> limit >> Collect(log=0))
    return graph


def until(condition, engine, turns=200_000):
    """Let control code do its work until something is so; the bound is on turns, not on time."""
    wake = threading.Event()
    for _ in range(turns):
        if condition():
            return
        assert not engine.ended, engine.workers.failure
        engine.refresh()
        wake.wait(0.001)
    raise AssertionError("it did not come")


def test_state_is_live_and_a_changed_number_is_compiled_in(monkeypatch):
    passed.reset()
    engine = Engine(endless())
    with engine:
        until(lambda: passed.value > 1000, engine)
        assert last.count[0] > 1000
        before = engine.report()
        assert before.nodes["limit"].drops["long"] > 0
        assert last.limit == [100]
        monkeypatch.setitem(globals(), "LIMIT", 10_000)
        until(lambda: last.limit == [10_000], engine)
        dropped = engine.report().nodes["limit"].drops["long"]
        count = passed.value
        until(lambda: passed.value > count + 1000, engine)
        assert engine.report().nodes["limit"].drops["long"] == dropped
    report = engine.stop()
    node = report.nodes["limit"]
    assert node.packets == report.packets == passed.value  # the swap lost none and counted none twice
    assert report.sent == node.outputs[""]
    assert report.in_use == 0


def test_the_profiling_loop_gives_the_same_packets():
    passed.reset()
    engine = Engine(endless())
    with engine:
        until(lambda: passed.value > 100, engine)
        engine.profile(0.001)
        count = passed.value
        until(lambda: passed.value > count + 100, engine)
        engine.profile(0.001)
    report = engine.stop()
    assert report.nodes["limit"].packets == report.packets == passed.value
    assert report.in_use == 0


def test_a_stop_right_after_a_switch_is_not_lost():
    for _ in range(20):
        passed.reset()
        engine = Engine(endless())
        with engine:
            until(lambda: passed.value > 0, engine)
            engine.workers.switch(engine.built)
        assert engine.stop().in_use == 0


PROGRAM = """
import sys
import wirespeed as ws

@ws.node(drops=["short"])
def check(pkt):
    if pkt.length < 20:
        return "short"

graph = ws.Graph()
graph.add(ws.port("null:") >> check >> ws.port("sink:"))

start = ws.Engine.start

def started(self):
    start(self)
    print("ready", flush=True)

ws.Engine.start = started

report = ws.run(graph)
print(report)
print("interrupted", report.interrupted, "in use", report.in_use, "equal", report.packets == report.sent)
sys.exit(7)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals(tmp_path, number):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    environment = {**os.environ, "PYTHONPATH": str(Path(ws.__file__).parent.parent)}
    with subprocess.Popen(
        [sys.executable, program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as child:
        assert child.stdout.readline() == "ready\n", child.stderr.read()
        child.send_signal(number)
        out, err = child.communicate(timeout=60)  # it ends at all; how soon is for the bench
    assert child.returncode == 7, err
    assert "node check: default" in out
    assert "interrupted True in use 0 equal True" in out
    assert "Traceback" not in err


def test_signal_handlers_are_put_back():
    graph = ws.Graph()
    graph.add(Feed(FRAMES) >> Collect())
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    ws.run(graph)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_running_beside_the_main_thread():
    graph = ws.Graph()
    graph.add(Feed(FRAMES) >> Collect())
    reports = []
    thread = threading.Thread(target=lambda: reports.append(ws.run(graph)))
    thread.start()
    thread.join()
    assert reports[0].packets == 3


def test_a_failure_in_a_worker_ends_the_run():
    graph = ws.Graph()
    graph.add(Feed(FRAMES, endless=True) >> Collect())
    engine = Engine(graph)

    def fail(record):
        raise WirespeedError("worker: it failed")

    engine.workers._running = [dataclasses.replace(engine.built, run=fail)]
    engine.start()
    assert engine.wait(10)
    with pytest.raises(WirespeedError, match="worker: it failed"):
        engine.stop()
    assert [port.closed for port in graph.sinks] == [1]

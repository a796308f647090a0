"""The searches of RFC 2544 against devices that are arithmetic: what must be found is known."""

import json
from dataclasses import dataclass, field
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wirespeed.apps.measure import Trial
from wirespeed.apps.measure_report import CAVEAT, sizes_dict, sizes_text, trial_text
from wirespeed.apps.measure_svg import Chart, figure, nice_step, plot, short
from wirespeed.apps.rfc2544 import (
    SIZES,
    BackToBack,
    Settings,
    find_back_to_back,
    find_loss,
    find_throughput,
    measure_size,
)
from wirespeed.apps.rfc2544_mlr import find_throughput as find_by_mlr
from wirespeed.tables.hdr import Distribution

NOTHING = Distribution(np.zeros(2048, np.int64), 3, 0, 0, 0)


@dataclass
class Device:
    """It forwards ``capacity`` packets a second, and holds ``buffer`` more for a while.

    Attributes:
        fastest: what the tester can do, packets a second.
        stalls: of a list of trials, the share that the tester offers; 1 after the end.
    """

    capacity: float
    fastest: float = 20e6
    buffer: int = 0
    stalls: list[float] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)

    def run(self, rate=0.0, seconds=1.0, count=0):
        offered = min(rate or self.fastest, self.fastest)
        if self.stalls:
            offered *= self.stalls.pop(0)
        sent = count or max(1, round(offered * seconds))
        lasts = sent / offered
        received = min(sent, int(self.capacity * lasts + 1e-6) + self.buffer)
        counts = np.zeros(2048, np.int64)
        counts[700] = received
        latency = Distribution(counts, 3, 700 * received, 700, 700)
        trial = Trial(rate, offered, lasts, sent, received, 0, 0, 0, 0, 0, 64, latency, 0.0)
        self.trials.append(trial)
        return trial


QUICK = Settings(seconds=1.0, confirm=2.0)


@settings(max_examples=300)
@given(st.floats(100, 40e6), st.floats(1e5, 30e6), st.sampled_from([0.005, 0.02, 0.001]), st.booleans())
def test_the_throughput_is_found_within_the_resolution(capacity, fastest, resolution, told):
    device = Device(capacity, fastest)
    found = find_throughput(device.run, Settings(1.0, 2.0, resolution, top=fastest if told else 0.0))
    if capacity >= fastest:
        assert found.rate == fastest
        assert found.tester_limited
        assert len(found.trials) == 2
    else:
        assert found.rate <= capacity * (1 + 1e-6) + 1
        assert found.rate >= capacity * (1 - resolution) - 2
        assert not found.tester_limited
    assert found.confirmed
    assert found.bits == pytest.approx(found.rate * 84 * 8)


@settings(max_examples=200)
@given(st.floats(1e4, 10e6), st.lists(st.floats(0.2, 1.0), max_size=8))
def test_a_tester_that_stalls_finds_nothing_that_is_not_there(capacity, stalls):
    device = Device(capacity, 12e6, stalls=stalls)
    found = find_throughput(device.run, QUICK)
    assert 0 < found.rate <= capacity * (1 + 1e-6) + 1
    assert any(trial.offered == found.rate and trial.lost == 0 for trial in device.trials)


def test_loss_may_be_tolerated():
    device = Device(1e6, 5e6)
    found = find_throughput(device.run, Settings(1.0, 1.0, 0.001, tolerance=0.1))
    assert found.rate == pytest.approx(1e6 / 0.9, rel=0.002)


def test_nothing_gets_through():
    found = find_throughput(Device(0.0).run, QUICK)
    assert (found.rate, found.confirmed, found.tester_limited) == (0.0, False, False)
    assert len(found.trials) < 60


def test_what_passes_short_trials_only():
    """A buffer hides a lower capacity from short trials; the longer one finds out, and the search goes on below."""
    device = Device(1e6, 5e6, buffer=100_000)
    found = find_throughput(device.run, Settings(0.5, 10.0, 0.005))
    assert found.confirmed
    assert found.rate <= 1e6 + 100_000 / 10 + 1
    assert found.rate > 0.9e6


def test_the_loss_curve_ends_after_two_without_loss():
    trials = find_loss(Device(0.65e6).run, 1e6, QUICK)
    assert [round(trial.offered) for trial in trials] == [1_000_000, 900_000, 800_000, 700_000, 600_000, 500_000]
    assert [trial.loss for trial in trials] == pytest.approx(
        [0.35, 1 - 65 / 90, 1 - 65 / 80, 1 - 65 / 70, 0, 0], abs=1e-4
    )


@settings(max_examples=100)
@given(st.integers(1, 1_000_000))
def test_back_to_back_is_the_buffer_and_what_leaves_meanwhile(buffer):
    device = Device(1e6, 10e6, buffer=buffer)
    longest = buffer / 0.9  # of n sent at ten times the capacity, n / 10 have left
    found = find_back_to_back(device.run, Settings(seconds=1.0, bursts=2))
    assert not found.tester_limited
    assert longest * 0.94 - 2 <= found.frames <= longest + 1
    assert found.rate == (10e6 if max(trial.sent for trial in device.trials if not trial.lost) >= 1024 else 0)


def test_back_to_back_without_end():
    found = find_back_to_back(Device(20e6, 10e6).run, Settings(seconds=0.5, bursts=1))
    assert found.tester_limited
    assert found.frames >= 10e6 * 0.25
    assert find_back_to_back(Device(0.0).run, Settings(bursts=1)) == BackToBack(0.0)


def test_bursts_leave_at_the_rate_of_the_line():
    """10 Gb/s take 14.88 million of the shortest frames a second (RFC 2544, appendix B: 14880 at 10 Mb/s)."""
    chosen = Settings(seconds=1.0, bursts=1, line_bits=10e9, tests=("back_to_back",))
    assert round(Settings(line_bits=10e6).line(64)) == 14881
    device = Device(1e6, 20e6, buffer=50_000)
    found = measure_size(device.run, 64, chosen).back_to_back
    assert {round(trial.rate) for trial in device.trials} == {14_880_952}
    assert found.rate == found.line == pytest.approx(10e9 / 84 / 8)
    assert not found.fell_short
    assert found.frames == pytest.approx(50_000 / (1 - 1e6 / found.line), rel=0.06)
    slow = measure_size(Device(1e6, 2e6, buffer=50_000).run, 64, chosen)
    assert slow.back_to_back.fell_short
    assert slow.to_dict()["back_to_back"]["packets_per_second"] == 2e6
    assert "at 2M" in sizes_text([slow])
    assert "bursts slower than the line" in sizes_text([slow])


def results():
    return [measure_size(Device(1e8 / size, 20e6, buffer=300).run, size, QUICK) for size in (64, 512, 1518)]


def test_a_size_has_all_tests_or_those_asked_for():
    for each in results():
        assert each.throughput.rate == pytest.approx(1e8 / each.size, rel=0.006)
        assert each.latency.offered == each.throughput.rate
        assert each.loss[-1].lost == 0
        assert each.back_to_back.frames > 200
    only = measure_size(Device(1e6).run, 64, Settings(1.0, 0.0, tests=("loss",)))
    assert (only.throughput, only.latency, only.back_to_back) == (None, None, None)
    assert len(only.loss) > 2


def test_the_report_as_text_and_json():
    found = results()
    text = sizes_text(found)
    for part in ("frame", "packets/s", "p99.9 us", "0.7", "loss, 512 B: 99.02% at 20M", CAVEAT):
        assert part in text
    said = json.loads(json.dumps(sizes_dict(found, tx="a", rx="b")))
    assert said["tx"] == "a"
    first = said["sizes"][0]
    assert set(first) == {"size", "throughput", "latency", "loss", "back_to_back"}
    assert first["throughput"]["trials"][0]["offered"] == 20e6
    assert first["latency"]["latency_ns"]["p99.999"] == 700
    trial = Device(5e5).run(rate=1e6)
    assert "lost      500,000 (50.0000%)" in trial_text(trial)
    short_of = Trial(1e6, 9e5, 1.0, 10, 10, 0, 0, 3, 2, 1, 64, NOTHING, 0.0)
    assert short_of.fell_short
    for part in ("3 the sending port had no room for", "2 the generator was too late for", "1 came and were not ours"):
        assert part in trial_text(short_of)
    assert SIZES == (64, 128, 256, 512, 1024, 1280, 1518)


def test_the_plot_is_svg_with_all_lines():
    root = ElementTree.fromstring(plot(results()))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    for part in ("Throughput", "Latency at the throughput", "p99.9", "Frame loss", "512 B", "Back-to-back frames"):
        assert part in texts
    lines = [path for path in root.iter("{http://www.w3.org/2000/svg}path") if path.get("class") == "line"]
    assert len(lines) == 1 + 1 + 3 + 3 + 1
    for circle in root.iter("{http://www.w3.org/2000/svg}circle"):
        assert 0 <= float(circle.get("cx")) <= 560
    assert ElementTree.fromstring(plot([])).tag.endswith("svg")


@given(st.floats(1e-3, 1e12))
def test_ticks_are_few_and_round(most):
    step = nice_step(most)
    assert most / step * 1.0001 >= 1 and most / step <= 5.0001
    assert f"{step:e}"[0] in "125"


def test_labels():
    assert [short(v) for v in (0, 7, 1500, 2e6, 1e10)] == ["0", "7", "1.5k", "2M", "10G"]
    assert "&lt;" in figure([Chart("a < b", "x", "y", {"one": [(1, 2)]})])


@settings(max_examples=40)
@given(st.floats(1000, 10e6))
def test_mlrsearch_finds_the_same(capacity):
    pytest.importorskip("MLRsearch", reason="needs MLRsearch")
    device = Device(capacity, 8e6)
    found = find_by_mlr(device.run, Settings(1.0, 3.0, 0.01))
    least = min(capacity, 8e6)
    assert least * 0.98 - 20 <= found.rate <= least * 1.001
    assert found.tester_limited == (capacity >= 8e6)
    assert find_by_mlr(Device(0.0).run, Settings(0.1, 0.2)).rate == 0.0

"""Counters of a piece of code: with a PMU, without one, and always the time."""

import pytest

import wirespeed as ws
from wirespeed.eal import measure, perf


def test_time_always_counters_or_why_not():
    with ws.perf() as p:
        inside = p.tsc_cycles
        sum(range(100_000))
    assert 0 < inside < p.tsc_cycles
    assert p.tsc_cycles == p.tsc_cycles  # it stands still afterwards
    assert p.ns > 0
    if p.cycles is None:
        assert p.why_not
        assert (p.instructions, p.ipc, p.cache_misses, p.branch_misses) == (None, None, None, None)
        assert p.why_not in repr(p)
    else:
        assert p.cycles > 0
        assert "cycles" in repr(p)


class Counters:
    """A machine with a PMU: each reading is 100 instructions and 50 cycles later."""

    reason = "not counted here: branch_misses"

    def __init__(self):
        self.readings = 0
        self.closed = False

    def read(self):
        self.readings += 1
        return perf.Sample(cycles=50 * self.readings, instructions=100 * self.readings, cache_misses=7)

    def close(self):
        self.closed = True


@pytest.fixture
def counters(monkeypatch):
    made = []

    def start(tid):
        made.append((tid, Counters()))
        return made[-1][1]

    monkeypatch.setattr(measure.PerfCounters, "open", start)
    return made


def test_with_counters(counters):
    with ws.perf(tid=5) as p:
        pass
    assert counters[0][0] == 5
    assert counters[0][1].closed
    assert (p.cycles, p.instructions, p.ipc, p.cache_misses, p.branch_misses) == (50, 100, 2.0, 0, None)
    assert p.why_not == "not counted here: branch_misses"
    assert "cycles 50, instructions 100, cache_misses 0>" in repr(p)


def test_used_again_and_closed_after_an_error(counters):
    p = ws.perf()
    assert "nothing has been measured yet" in p.why_not
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), p:
            _ = 1 // 0
    assert [each.closed for _, each in counters] == [True, True]
    assert p.instructions == 100

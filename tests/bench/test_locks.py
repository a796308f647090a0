"""The benches of locks and of grace periods run, and read what DPDK 22.11.11 prints."""

import pytest

from wirespeed.bench import dpdk_test, locks, rcu
from wirespeed.bench.settings import Settings
from wirespeed.eal import cores
from wirespeed.jit import COMPILED

# printed by DPDK 22.11.11 (Debian 12) on two cores, shortened
PRINTED = {
    "spinlock_autotest": """
Test with no lock on single core...
Core [0] Cost Time = 3 us

Test with lock on single core...
Core [0] Cost Time = 49 us

Test with lock on 2 cores...
Core [0] Cost Time = 497 us
Core [1] Cost Time = 493 us
Total Cost Time = 990 us
Test OK
""",
    "ticketlock_autotest": """
Test with no lock on single core...
Core [0] cost time = 0 us

Test with lock on single core...
Core [0] cost time = 36 us

Test with lock on 2 cores...
Core [0] cost time = 4195 us
Core [1] cost time = 4195 us
Total cost time = 8390 us
Test OK
""",
    "rwlock_test1_autotest": """
Rwlock Perf Test on 2 cores...
Core [0] cost time = 1061 us
Core [1] cost time = 1169 us
Total cost time = 2230 us
Test OK
""",
    "rcu_qsbr_perf_autotest": """
Number of cores provided = 2
Perf test with all reader threads registered
--------------------------------------------

Perf Test: 1 Readers/1 Writer('wait' in qsbr_check == true)
Total quiescent state updates = 305913984
Cycles per 1000 quiescent state updates: 15000
Total RCU checks = 20000000
Cycles per 1000 checks: 233000

Perf Test: 2 Readers
Total quiescent state updates = 200000000
Cycles per 1000 quiescent state updates: 3000

Perf test: 2 Writers ('wait' in qsbr_check == false)
""",
}


@pytest.fixture
def printed(monkeypatch):
    """Not DPDK itself, but what it printed."""

    def recall(command, turn, **settings):
        return PRINTED[command]

    for bench in (locks, rcu):
        monkeypatch.setattr(bench, "recall", recall)
        monkeypatch.setattr(bench, "peer", lambda command: f"DPDK {command}")
    monkeypatch.setattr(locks, "tsc_hz", lambda: 1_000_000_000)
    assert dpdk_test.recall is not recall


def test_locks(printed, monkeypatch):
    monkeypatch.setattr(locks, "ROUNDS", 10_000)
    settings = Settings("dpdk", quick=True, pairs=1)
    rows = {row.metric: row for row in locks.rows(settings, lambda text: None)}
    both = len(cores.allowed()) > 1
    assert len(rows) == (8 if both else 4)
    assert all(row.value > 0 and row.unit == "cycles" for row in rows.values())
    assert rows["spin lock, one core"].peer_value == pytest.approx(4.9)
    assert rows["ticket lock, one core"].peer_value == pytest.approx(3.6)
    assert rows["reader-writer lock, write and read, one core"].peer is None
    if both:
        assert rows["spin lock, two cores"].peer_value == pytest.approx(49.5)
        assert rows["ticket lock, two cores"].peer_value == pytest.approx(419.5)
        assert rows["reader-writer lock, write and read, two cores"].peer_value == pytest.approx(111.5)
        assert rows["spin lock, two cores"].peer == "DPDK spinlock_autotest"


@pytest.mark.skipif(len(cores.allowed()) < 2, reason="needs two cores")
def test_grace_periods(printed, monkeypatch):
    settings = Settings("dpdk", pairs=1)
    monkeypatch.setattr(rcu._Bench, "readers", lambda bench: 1.5)
    monkeypatch.setattr(rcu._Bench, "writer", lambda bench: 200.0)
    state, period = rcu.rows(settings, lambda text: None)
    assert (state.value, state.peer_value, state.ratio) == (1.5, 3.0, 2.0)
    assert (period.value, period.peer_value) == (200.0, 233.0)


@pytest.mark.skipif(len(cores.allowed()) < 2 or not COMPILED, reason="needs two cores, and machine code")
def test_grace_periods_without_a_peer():
    rows = rcu.rows(Settings(quick=True, pairs=1), lambda text: None)
    assert all(row.value > 0 and row.peer is None for row in rows)


@pytest.mark.skipif(len(cores.allowed()) < 2, reason="needs two cores")
def test_a_peer_that_does_not_end_is_left_out(monkeypatch):
    def recall(*arguments, **settings):
        raise rcu.BenchError("not done after 90 s")

    monkeypatch.setattr(rcu, "recall", recall)
    monkeypatch.setattr(rcu._Bench, "readers", lambda bench: 1.5)
    monkeypatch.setattr(rcu._Bench, "writer", lambda bench: 200.0)
    settings = Settings("dpdk", pairs=1)
    rows = rcu.rows(settings, lambda text: None)
    assert [row.peer for row in rows] == [None, None]
    assert any("of no use here: not done after 90 s" in note for note in settings.notes)

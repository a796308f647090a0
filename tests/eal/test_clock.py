"""Calibration with clocks that the test drives; conversions by hand."""

import pytest

from wirespeed.eal import clock

FLAGS = "processor : 0\nflags : fpu tsc {}\n"


class Bench:
    """A counter and a clock that move only when told: the wait, and 30 cycles for each read."""

    def __init__(self, hz):
        self.hz, self.cycle = hz, 1_000_000

    def counter(self):
        self.cycle += 30
        return self.cycle

    def reference_ns(self):
        return self.cycle * 1_000_000_000 // self.hz

    def wait(self, seconds):
        self.cycle += int(seconds * self.hz)


def test_calibration_finds_the_rate(tmp_path):
    bench = Bench(2_500_000_000)
    found = clock.calibrate(bench.counter, bench.reference_ns, bench.wait, tmp_path)
    assert found.source == "measured"
    assert found.hz == pytest.approx(2_500_000_000, rel=2e-6)
    assert found.monotonic_ns(bench.cycle) == pytest.approx(bench.reference_ns(), abs=100)


def test_an_interrupted_read_is_not_used(tmp_path):
    bench = Bench(1_000_000_000)
    reads = iter(range(10_000))

    def interrupted():
        bench.cycle += 0 if next(reads) % 32 == 7 else 5_000_000
        return bench.reference_ns()

    found = clock.calibrate(bench.counter, interrupted, bench.wait, tmp_path)
    assert found.hz == pytest.approx(1_000_000_000, rel=1e-6)


@pytest.mark.parametrize(
    ("told_khz", "source", "hz"),
    [("2500000", "kernel", 2_500_000_000), ("2600000", "measured", 0)],
)
def test_the_kernel_is_trusted_if_it_agrees(machine, told_khz, source, hz):
    bench = Bench(2_500_000_000)
    root = machine({"sys/devices/system/cpu/cpu0/tsc_freq_khz": told_khz + "\n"})
    found = clock.calibrate(bench.counter, bench.reference_ns, bench.wait, root)
    assert found.source == source
    assert hz in (0, found.hz)


def test_conversions_are_exact():
    two_and_a_half = clock.Clock(2_500_000_000, 1000, 5_000_000, "test")
    assert two_and_a_half.ns(5) == 2
    assert two_and_a_half.cycles(2) == 5
    assert two_and_a_half.ns(2_500_000_000 * 86400 * 365) == 86400 * 365 * 10**9
    assert two_and_a_half.monotonic_ns(1250) == 5_000_100
    assert two_and_a_half.monotonic_ns(750) == 4_999_900


def test_this_machine_has_a_clock():
    assert clock.tsc_hz() == clock.clock().hz > 1_000_000
    assert clock.cycles_to_ns(clock.tsc_hz()) == 1_000_000_000
    assert clock.ns_to_cycles(1_000_000_000) == clock.tsc_hz()


@pytest.mark.parametrize(
    ("flags", "invariant"),
    [("constant_tsc nonstop_tsc", True), ("constant_tsc", False), ("nonstop_tsc", False), ("", False)],
)
def test_invariance_needs_both_flags(machine, flags, invariant):
    assert clock.tsc_is_invariant(machine({"proc/cpuinfo": FLAGS.format(flags)})) is invariant


def test_the_arm_counter_is_invariant(machine):
    assert clock.tsc_is_invariant(machine({"proc/cpuinfo": "Features : fp asimd evtstrm\n"}))

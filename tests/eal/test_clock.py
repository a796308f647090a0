"""Calibration with clocks that the test drives; conversions by hand."""

import time

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


def test_the_error_is_stated_and_holds(tmp_path):
    bench = Bench(2_500_000_000)
    found = clock.calibrate(bench.counter, bench.reference_ns, bench.wait, tmp_path)
    assert 0 < found.error_ppm < 5
    assert abs(found.hz / 2_500_000_000 - 1) * 1e6 <= found.error_ppm
    assert found.uncertainty_ns >= 6  # half of 30 cycles
    bench.wait(100)
    off = abs(found.monotonic_ns(bench.cycle) - bench.reference_ns())
    assert off <= found.uncertainty_at(bench.cycle) < 1_000_000


class Steered(Bench):
    """A bench whose reference is steered: it runs ``ppm`` faster than the counter says."""

    def __init__(self, hz):
        super().__init__(hz)
        self.ppm, self.base, self.extra = 0, self.cycle, 0.0
        self.jump_ns = 0

    def wait(self, seconds):
        super().wait(seconds)
        self.extra += seconds * 1e9 * self.ppm / 1e6

    def reference_ns(self):
        return super().reference_ns() + int(self.extra) + self.jump_ns


def follower(bench, tmp_path):
    start = clock.calibrate(bench.counter, bench.reference_ns, bench.wait, tmp_path)
    return clock.Follower(start, bench.counter, bench.reference_ns)


@pytest.mark.parametrize("ppm", [0, 40, -40, 400, -400])
def test_a_follower_stays_close_and_never_goes_back(tmp_path, ppm):
    bench = Steered(2_500_000_000)
    following = follower(bench, tmp_path)
    bench.ppm = ppm
    latest = following.now_ns()
    for second in range(60):
        for _ in range(10):
            bench.wait(0.1)
            now = following.now_ns()
            assert now > latest
            latest = now
        following.follow()
        assert following.now_ns() >= latest
        if second > 3:
            assert abs(following.offset_ns) < 1000
    assert following.clock.source == "followed"


def test_a_follower_that_lost_time_jumps_forward_only(tmp_path):
    bench = Steered(2_500_000_000)
    following = follower(bench, tmp_path)
    bench.wait(1)
    bench.jump_ns = 5_000_000_000  # suspended
    following.follow()
    assert abs(following.now_ns() - bench.reference_ns()) < 1000
    bench.wait(1)
    following.follow()
    bench.jump_ns -= 100_000_000  # it never jumps back, but catches up
    before = following.now_ns()
    for _ in range(400):
        bench.wait(1)
        following.follow()
        assert following.now_ns() > before
        before = following.now_ns()
    assert abs(following.offset_ns) < 1000


def test_a_follower_does_not_take_noise_for_a_rate(tmp_path):
    bench = Steered(2_500_000_000)
    following = follower(bench, tmp_path)
    before = following.clock
    assert following.follow() is before


def test_a_follower_of_this_machine():
    following = clock.Follower()
    assert abs(following.now_ns() - time.monotonic_ns()) < 1_000_000_000

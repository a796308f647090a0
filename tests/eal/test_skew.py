"""Counters of two cores: bounds hold whatever the way takes; this machine's agree."""

import pytest

from wirespeed.eal import clock, cores, skew
from wirespeed.errors import WirespeedError

TWO = pytest.mark.skipif(len(cores.allowed()) < 2, reason="needs two cores")


@TWO
def test_this_machine():
    for found in skew.measure_all():
        assert found.low_cycles <= found.high_cycles
        if clock.tsc_is_invariant():
            assert found.agrees
            assert 0 <= found.bound_cycles < clock.tsc_hz()  # a second: whatever the load


def test_bounds():
    assert skew.Skew(0, 1, -100, 80).agrees
    assert skew.Skew(0, 1, -100, 80).bound_cycles == 100
    assert not skew.Skew(0, 1, 20, 80).agrees


def test_not_two_cores():
    core = cores.allowed()[0]
    with pytest.raises(WirespeedError, match="cannot be compared with itself"):
        skew.measure(core, core)
    with pytest.raises(WirespeedError, match="cannot pin"):
        skew.measure(core, 4095)

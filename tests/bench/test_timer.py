"""What the peer of the timer bench prints, as it printed it."""

import pytest

from wirespeed.bench.errors import BenchError
from wirespeed.bench.timer import measure, peer_figures

# dpdk-test 22.11.11, timer_perf_autotest, its last two parts
TEXT = """\
Appending 100000 timers
Time for 100000 timers: 47289844 (19ms), Time per timer: 472 (0us)
Time for 100000 callbacks: 13922845 (6ms), Time per callback: 139 (0us)
Resetting 100000 timers
Time for 100000 timers: 220451270 (90ms), Time per timer: 2204 (1us)

Appending 1000000 timers
Time for 1000000 timers: 460404123 (188ms), Time per timer: 460 (0us)
Time for 1000000 callbacks: 53832290 (22ms), Time per callback: 53 (0us)
Resetting 1000000 timers
Time for 1000000 timers: 6611849461 (2699ms), Time per timer: 6611 (3us)

All timers processed ok

Time per rte_timer_manage with zero timers: 41 cycles
Time per rte_timer_manage with zero callbacks: 59 cycles
Test OK
"""


def test_figures():
    assert peer_figures(TEXT, 100_000) == {"arm": 472, "fire": 139, "re-arm": 2204}
    assert peer_figures(TEXT, 1_000_000) == {"arm": 460, "fire": 53, "re-arm": 6611}
    with pytest.raises(BenchError, match="Appending 100"):
        peer_figures(TEXT, 100)


def test_our_steps_fire_every_timer():
    found = measure(50)
    assert {"arm", "fire", "re-arm"} <= set(found)
    assert all(cycles > 0 for cycles in found.values())

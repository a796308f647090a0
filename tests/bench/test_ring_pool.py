"""The benches of rings and pools run, and read what DPDK 22.11.11 prints."""

import os
import shutil

import pytest

from wirespeed.bench import dpdk_test, pool, ring
from wirespeed.bench.settings import Settings
from wirespeed.jit import COMPILED

# printed by DPDK 22.11.11 (Debian 12) on two cores, shortened
RING = r"""
### Testing single element enq/deq ###
legacy APIs: SP/SC: single: 15.39
legacy APIs: MP/MC: single: 20.66

### Testing burst enq/deq ###
legacy APIs: SP/SC: burst (size: 8): 32.02
legacy APIs: SP/SC: burst (size: 32): 68.70
legacy APIs: MP/MC: burst (size: 8): 37.07
legacy APIs: MP/MC: burst (size: 32): 90.90

### Testing bulk enq/deq ###
legacy APIs: SP/SC: bulk (size: 8): 32.77
legacy APIs: SP/SC: bulk (size: 32): 70.12
legacy APIs: MP/MC: bulk (size: 8): 76.18
legacy APIs: MP/MC: bulk (size: 32): 106.04

### Testing using two physical cores ###
legacy APIs: SP/SC: bulk (size: 8): 157.48
legacy APIs: MP/MC: bulk (size: 8): 181.31
legacy APIs: SP/SC: bulk (size: 32): 46.34
legacy APIs: MP/MC: bulk (size: 32): 47.55

### Testing single element enq/deq ###
elem APIs: element size 16B: SP/SC: single: 17.07

### Testing burst enq/deq ###
elem APIs: element size 16B: SP/SC: burst (size: 32): 72.54
elem APIs: element size 16B: MP/MC: burst (size: 32): 76.44
"""

POOL = "".join(
    f"mempool_autotest cache={cache} cores=1 n_get_bulk=32 n_put_bulk=32 n_keep={keep} constant_n={constant} "
    f"rate_persec={rate}\n"
    for cache, keep, constant, rate in [
        (0, 32, 0, 9_780_000),
        (0, 32, 1, 1),
        (0, 128, 0, 4_890_000),
        (512, 32, 0, 24_450_000),
        (512, 32, 1, 1),
        (512, 128, 0, 12_225_000),
    ]
)

runs = pytest.mark.skipif(not COMPILED, reason="a bench measures machine code")
quick = Settings("dpdk", quick=True, pairs=1)


def peers(monkeypatch, text):
    monkeypatch.setattr(dpdk_test, "run", lambda command, **settings: text)
    monkeypatch.setattr(dpdk_test, "_turns", {})
    for module in (ring, pool):
        monkeypatch.setattr(module, "peer", lambda command: "DPDK")


@runs
def test_rows_of_rings(monkeypatch):
    peers(monkeypatch, RING)
    rows = {row.metric: row for row in ring.rows(quick, lambda text: None)}
    assert all(row.value > 0 and row.unit == "cycles" for row in rows.values())
    assert rows["SP/SC, one core, bursts of 32"].peer_value == pytest.approx(68.70 / 32)
    assert rows["MP/MC, one core, bulks of 8"].peer_value == pytest.approx(76.18 / 8)
    assert rows["MP/MC, one core, one element"].peer_value == 20.66
    assert rows["SP/SC, one core, bursts of 32, 16-byte elements"].peer_value == pytest.approx(72.54 / 32)
    assert rows["HTS, one core, bursts of 32"].peer is None
    if len(os.sched_getaffinity(0)) > 1:
        assert rows["MP/MC, two cores, bulks of 32"].peer_value == 47.55


@runs
def test_rows_of_pools(monkeypatch):
    peers(monkeypatch, POOL)
    monkeypatch.setattr(pool, "tsc_hz", lambda: 2_446_000_000)
    rows = {row.metric: row for row in pool.rows(quick, lambda text: None)}
    assert all(row.value > 0 and row.unit == "cycles" for row in rows.values())
    assert rows["get and put of 32, shared"].peer_value == pytest.approx(2.5051, 1e-3)
    assert rows["get and put of 32, cached"].peer_value == pytest.approx(1.00204, 1e-3)
    assert rows["get and put of 32, cached, 128 kept"].peer_value == pytest.approx(2.00409, 1e-3)
    assert rows["get and release of 32, cached"].peer is None


@runs
@pytest.mark.skipif(shutil.which("dpdk-test") is None, reason="needs dpdk-test")
def test_the_peers_clock_can_be_slowed():
    text = dpdk_test.run("version_autotest", before=pool.slow_clock, memory_mib=64, timeout_s=60)
    assert "Test OK" in text

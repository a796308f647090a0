"""The lpm6 bench: its inputs are what it says, and the peers' figures are read right."""

import pytest

from wirespeed.bench import lpm6
from wirespeed.bench.errors import BenchError
from wirespeed.bench.settings import Settings
from wirespeed.jit import COMPILED

AUTOTEST = """\
Average LPM Add: 1.12888e+06 cycles
Average LPM Lookup: 152.1 cycles (fails = 0.0%)
BULK LPM Lookup: 110.1 cycles (fails = 0.0%)
Average LPM Delete: 1.19568e+07 cycles
"""  # of dpdk-test 22.11
FIB = "Lookup tuples: 10\nAVG FIB add 3000\nAVG FIB add 5000\nAVG FIB lookup 83.8\nAVG FIB delete 7\n"  # dpdk-test-fib


def test_figures_of_the_peers():
    assert lpm6._mean(AUTOTEST, r"Average LPM Add: ([\d.e+]+) cycles") == 1_128_880
    assert lpm6._mean(AUTOTEST, r"BULK LPM Lookup: ([\d.]+) cycles") == 110.1
    assert lpm6._mean(FIB, r"AVG FIB add ([\d.]+)") == 4000
    assert lpm6._mean(FIB, r"AVG FIB lookup ([\d.]+)") == 83.8
    with pytest.raises(BenchError):
        lpm6._mean("nothing", r"AVG FIB lookup ([\d.]+)")


def test_routes_are_as_in_the_autotest():
    addresses, lengths, wanted = lpm6.random_routes()
    assert (len(addresses), len(wanted)) == (lpm6.ROUTES, lpm6.ROUTES * lpm6.PER_ROUTE)
    assert set(range(9, 129)) <= set(lengths.tolist())
    for at in (0, 500, 999):
        bits, prefix = 128 - int(lengths[at]), int(addresses[at][0]) << 64 | int(addresses[at][1])
        for high, low in wanted[at * 100 : at * 100 + 100].tolist():
            assert (high << 64 | low) >> bits == prefix >> bits


@pytest.mark.skipif(not COMPILED, reason="100,000 lookups")
def test_rows():
    rows = lpm6.rows(Settings(quick=True, pairs=1), lambda text: None)
    assert [row.unit for row in rows] == ["cycles"] * 6 + ["bytes"]
    assert all(row.value > 0 and row.peer is None for row in rows)

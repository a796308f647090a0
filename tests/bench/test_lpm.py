"""The lpm bench: its inputs, our turn, what is read from dpdk-test-fib, and the rows made of turns."""

import shutil

import numpy as np
import pytest

from wirespeed.bench import lpm
from wirespeed.bench.errors import BenchError
from wirespeed.bench.settings import Settings
from wirespeed.jit import COMPILED
from wirespeed.tables.lpm import Lpm4
from wirespeed.tables.poptrie import Poptrie4

# printed by dpdk-test-fib of DPDK 22.11.11 (Debian 12), shortened
FIB = """Routes total: 901899
AVG FIB add 860
AVG FIB add 1036
AVG FIB lookup 38.2
AVG FIB delete 1393
AVG FIB delete 1183
"""

pytestmark = pytest.mark.skipif(not COMPILED, reason="a bench")


@pytest.fixture
def inputs(tmp_path):
    table = tmp_path / "table"
    table.write_text("".join(f"10.{n >> 8}.{n & 255}.0/24\n" for n in range(5000)))
    return lpm.Inputs(Settings(quick=True, routes=str(table)), tmp_path)


def test_inputs(inputs):
    assert inputs.about == "100 routes"
    assert inputs.routes_file.read_text().startswith("10.0.0.0/24 0\n10.0.50.0/24 1\n")
    assert len(inputs.random_file.read_text().splitlines()) == len(inputs.random) == 1 << 14
    assert set(np.unique(inputs.near >> 8)) == set(inputs.addresses >> 8)


def test_made_up_routes():
    addresses, lengths = lpm._made_up(1000, np.random.default_rng(1))
    with Poptrie4(routes=1000) as table:
        table.add_many((addresses, lengths), range(len(addresses)))
        assert len(table) == len(addresses) > 950


@pytest.mark.parametrize("kind", [Lpm4, Poptrie4])
def test_our_turn(inputs, kind):
    with kind(routes=1000) as table:
        figures = lpm._ours(table, inputs)
        assert set(figures) == set(lpm._METRICS)
        assert min(figures.values()) > 0
        assert len(table) == 0


def test_the_peer_is_read():
    assert lpm._mean(FIB, r"AVG FIB add (\d+)") == 948
    assert lpm._mean(FIB, r"AVG FIB lookup ([\d.]+)") == 38.2
    with pytest.raises(BenchError, match="did not say"):
        lpm._mean(FIB, r"AVG RIB (\d+)")


@pytest.mark.skipif(shutil.which("dpdk-test-fib") is None, reason="dpdk-test-fib is not installed")
def test_the_peer_runs(inputs):
    figures = lpm._fib(inputs, "s1")
    assert set(figures) == {"bulk random", "bulk near", "add", "delete"}
    assert min(figures.values()) > 0


def test_rows_name_each_peer(inputs):
    ours = dict.fromkeys(lpm._METRICS, 10.0)
    turns = [{"lpm4": ours, "fib": {"add": 20.0}, "lpm": {"add": 1000.0}}] * 3
    with Lpm4(routes=1000) as table:
        rows = lpm._rows(inputs, table, turns, {"fib": "DPDK fib", "lpm": "DPDK lpm"})
    assert [(row.peer, row.ratio) for row in rows if "add" in row.metric.split(",")[0]] == [
        ("DPDK fib", 2.0),
        ("DPDK lpm", 100.0),
    ]
    assert sum(row.peer is None for row in rows) == len(lpm._METRICS) - 1

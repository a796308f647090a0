"""What `wirespeed run` and the demo show: shares of line rate, and a table from counters and costs."""

import io

import pytest
from rich.console import Console

from wirespeed.engine.report import NodeReport, Report
from wirespeed.ports.port import PortStats
from wirespeed.telemetry.live import LINE_RATES, line_rate, shares, table
from wirespeed.telemetry.profile import Place


# IEEE 802.3: preamble and delimiter 8, frame with FCS 64 at least, gap 12: 84 bytes, 672 bits.
@pytest.mark.parametrize(("bits", "frame", "million"), [
    (10e9, 60, 14.88), (25e9, 60, 37.20), (100e9, 60, 148.81), (1e9, 60, 1.488),
    (10e9, 1514, 0.8127), (100e9, 1514, 8.127), (10e9, 124, 8.446),
])  # fmt: skip
def test_line_rates(bits, frame, million):
    assert line_rate(bits, frame) / 1e6 == pytest.approx(million, rel=5e-4)


def test_shares():
    assert list(LINE_RATES) == ["10 GbE", "25 GbE", "100 GbE"]
    full = 10e9 / 672
    assert shares(full, 60) == pytest.approx({"10 GbE": 1, "25 GbE": 0.4, "100 GbE": 0.1})
    assert shares(full / 2, 60) == pytest.approx({"10 GbE": 0.5, "25 GbE": 0.2, "100 GbE": 0.05})
    assert set(shares(0, 60).values()) == {0}


@pytest.mark.parametrize(("instructions", "cycles", "ipc"), [(30.0, 10.0, 3.0), (None, 10.0, None), (30.0, 0.0, None)])
def test_instructions_per_cycle(instructions, cycles, ipc):
    assert Place("x", "node", 1, cycles, instructions).ipc == ipc


def report(**changed):
    known = {
        "packets": 2_500_000, "bytes": 150_000_000, "sent": 2_000_000, "seconds": 1.0,
        "nodes": {"check": NodeReport("check", {"": 2_000_000}, {"short": 500_000})},
        "ports": {
            "in:": PortStats(rx_packets=2_500_000, rx_bytes=150_000_000),
            "out:": PortStats(tx_packets=2_000_000, tx_bytes=120_000_000),
        },
    }  # fmt: skip
    return Report(**{**known, **changed})


def text(*arguments, **options):
    console = Console(file=io.StringIO(), width=140, color_system=None)
    console.print(table(*arguments, **options))
    return console.file.getvalue()


def row(shown, name):
    """The cells of one row."""
    for line in shown.splitlines():
        cells = [cell.strip() for cell in line.strip("│┃ ").split("│")]
        if cells[0] == name:
            return cells[1:]
    raise AssertionError(f"no row {name} in\n{shown}")


COSTS = [
    Place("in:", "in", 640, 12.34, None), Place("check", "node", 640, 5.0, 15.0), Place("out:", "out", 512, 8.0, None),
]  # fmt: skip


def test_before_the_first_sample():
    shown = text(report(), 14.88e6, [], title="router")
    assert "14.88 million packets/s" in shown and "router" in shown
    assert "100% of 10 GbE" in shown and "40% of 25 GbE" in shown and "10% of 100 GbE" in shown
    assert "(64-byte frames)" in shown
    assert row(shown, "in:") == ["2.50 M", "…", "…", "…"]
    assert row(shown, "check") == ["2.50 M", "…", "…", "…"]
    assert row(shown, "out:") == ["2.00 M", "…", "…", "…"]
    assert shown.splitlines()[-1].split() == ["drop", "check:", "short", "500.00", "k"]


def test_with_costs():
    shown = text(report(), 1e6, COSTS)
    assert row(shown, "in:") == ["2.50 M", "12.3", "-", "-"]
    assert row(shown, "check") == ["2.50 M", "5.0", "15.0", "3.00"]
    assert row(shown, "out:") == ["2.00 M", "8.0", "-", "-"]
    assert float(row(shown, "whole loop, fused")[1]) > 0


def test_before_the_first_packet():
    shown = text(report(packets=0, bytes=0, sent=0, nodes={}, ports={"in:": PortStats()}), 0.0, [])
    assert "0.00 million packets/s" in shown and "0% of 10 GbE" in shown
    assert "whole loop" not in shown and "drop" not in shown and "in:" not in shown


@pytest.mark.parametrize(("count", "said"), [
    (1, "1"), (999, "999"), (1000, "1.00 k"), (1_500_000, "1.50 M"), (2_000_000_000, "2.00 G"),
])  # fmt: skip
def test_counts(count, said):
    assert row(text(report(ports={"in:": PortStats(rx_packets=count)}), 1.0, []), "in:")[0] == said


def test_a_port_that_is_both_ends_has_two_rows_with_costs_of_their_own():
    both = {"tap:x": PortStats(rx_packets=10, tx_packets=20)}
    costs = [Place("tap:x", "in", 10, 1.0, None), Place("tap:x", "out", 20, 2.0, None)]
    shown = text(report(ports=both), 1.0, costs)
    rows = [line for line in shown.splitlines() if "tap:x" in line]
    assert len(rows) == 2 and "1.0" in rows[0] and "2.0" in rows[1]

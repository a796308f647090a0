"""A graph that runs, as a table that fits a terminal: rate, share of line rate, cost of each node, drops."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from wirespeed.eal.clock import tsc_hz
from wirespeed.engine.report import Report
from wirespeed.telemetry.profile import Place

LINE_RATES = {"10 GbE": 10e9, "25 GbE": 25e9, "100 GbE": 100e9}
_OVERHEAD_BYTES = 24  # preamble 8, FCS 4, gap 12: what a frame takes on the wire besides its bytes in a cell


def line_rate(bits_per_second: float, frame_bytes: float) -> float:
    """Packets a second that fill a link, for frames of so many bytes without FCS (IEEE 802.3)."""
    return bits_per_second / (8 * (frame_bytes + _OVERHEAD_BYTES))


def shares(rate: float, frame_bytes: float) -> dict[str, float]:
    """The share of each line rate that ``rate`` packets a second are."""
    return {name: rate / line_rate(bits, frame_bytes) for name, bits in LINE_RATES.items()}


def _count(value: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.2f} {unit}"
    return f"{value:.0f}"


def table(
    report: Report, rate: float, costs: list[Place], title: str = "wirespeed", workers: int = 1
) -> RenderableType:
    """The table for one moment.

    Args:
        report: the counters.
        rate: packets a second over the last interval.
        costs: what :func:`wirespeed.telemetry.profile.places` found.
        workers: how many cores the rate is of.
    """
    frame = report.bytes / report.packets if report.packets else 60.0
    head = Text.assemble(
        (f"{rate / 1e6:8.2f}", "bold green"),
        " million packets/s   ",
        "   ".join(f"{share:.0%} of {name}" for name, share in shares(rate, frame).items()),
        f"   ({frame + 4:.0f}-byte frames)",
    )
    nodes = Table(title=title, title_justify="left", expand=False)
    nodes.add_column("place")
    for name in ("packets", "cycles", "instructions", "per cycle"):
        nodes.add_column(name, justify="right")
    by_name = {(place.kind, place.name): place for place in costs}

    def row(kind: str, name: str, packets: int) -> None:
        place = by_name.get((kind, name))
        cells = ["…", "…", "…"]
        if place:
            cells[0] = f"{place.cycles:.1f}"
            cells[1] = f"{place.instructions:.1f}" if place.instructions is not None else "-"
            cells[2] = f"{place.ipc:.2f}" if place.ipc is not None else "-"
        nodes.add_row(name, _count(packets), *cells)

    for spec, stats in report.ports.items():
        if stats.rx_packets:
            row("in", spec, stats.rx_packets)
    for node in report.nodes.values():
        row("node", node.name, node.packets)
    for spec, stats in report.ports.items():
        if stats.tx_packets:
            row("out", spec, stats.tx_packets)
    if rate:
        nodes.add_section()
        nodes.add_row("whole loop, fused", "", f"{workers * tsc_hz() / rate:.1f}", "", "", style="bold")
    drops = Table(show_header=False, box=None)
    for reason, count in report.drops.items():
        drops.add_row("drop", reason, _count(count))
    return Group(head, nodes, drops) if report.drops else Group(head, nodes)

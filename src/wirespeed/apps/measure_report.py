"""What a measurement says: as text in columns, and as plain values for JSON."""

from collections.abc import Sequence
from typing import Any

from wirespeed.apps.measure import Trial
from wirespeed.apps.measure_svg import short
from wirespeed.apps.rfc2544 import SizeResult

CAVEAT: str = (
    "times are taken by software, where a burst is made and where it is seen: they contain both ports and the wait of "
    "a packet for its burst"
)
"""What latencies are, and are not."""


def microseconds(ns: float) -> str:
    """Nanoseconds as microseconds with three significant digits or more."""
    return f"{ns / 1e3:.3g}" if ns < 1e6 else f"{ns / 1e3:,.0f}"


def trial_text(trial: Trial) -> str:
    """A trial, line by line."""
    asked = f"{trial.rate:,.0f} asked for, " if trial.rate else ""
    lines = [
        f"offered   {trial.offered:,.0f} packets/s ({asked}{trial.bits(trial.offered) / 1e9:.3f} Gb/s on a wire), "
        f"{trial.seconds:.2f} s",
        f"sent      {trial.sent:,}",
        f"received  {trial.received:,} ({trial.received_rate:,.0f} packets/s)",
        f"lost      {trial.lost:,} ({trial.loss:.4%})",
    ]
    for name, what in (
        ("duplicates", "came more than once"),
        ("reordered", "came after a later one"),
        ("refused", "the sending port had no room for"),
        ("missed", "the generator was too late for"),
        ("plain", "came and were not ours"),
    ):
        if getattr(trial, name):
            lines.append(f"          {getattr(trial, name):,} {what}")
    if trial.latency.count:
        shown = trial.latency.to_dict()
        marks = ["min", *[key for key in shown if key.startswith("p")], "max"]
        found = "  ".join(f"{mark} {microseconds(shown[mark] or 0)}" for mark in marks)
        lines.append(f"latency   {found} microseconds; jitter {microseconds(trial.jitter_ns)}")
    if trial.fell_short:
        lines.append(
            "the tester offered less than it was asked: give it a core of its own, a second worker or less to do"
        )
    return "\n".join(lines)


def size_rows(results: Sequence[SizeResult]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of the table by frame size."""
    heads = ["frame", "packets/s", "bits/s", "p50 us", "p99 us", "p99.9 us", "max us", "longest burst", ""]
    rows = []
    for each in results:
        rate = bits = notes = ""
        if each.throughput:
            rate, bits = f"{each.throughput.rate:,.0f}", short(float(f"{each.throughput.bits:.4g}"))
            marks = ((each.throughput.tester_limited, "tester's limit"), (not each.throughput.confirmed, "unconfirmed"))
            notes = ", ".join(text for on, text in marks if on)
        marks_us = ["", "", "", ""]
        if each.latency:
            found = each.latency.latency
            marks_us = [microseconds(ns) for ns in (*found.percentiles([50, 99, 99.9]), found.largest)]
        burst = ""
        if each.back_to_back is not None:
            burst = f"{each.back_to_back.frames:,.0f}{'+' if each.back_to_back.tester_limited else ''}"
            if each.back_to_back.rate:
                burst += f" at {short(float(f'{each.back_to_back.rate:.3g}'))}"
            if each.back_to_back.fell_short:
                notes = ", ".join(part for part in (notes, "bursts slower than the line") if part)
        rows.append([f"{each.size}", rate, bits, *marks_us, burst, notes])
    return heads, rows


def sizes_text(results: Sequence[SizeResult]) -> str:
    """The report by frame size: a table, and loss curves."""
    heads, rows = size_rows(results)
    widths = [max(len(line[column]) for line in (heads, *rows)) for column in range(len(heads))]
    lines = ["  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)) for line in (heads, *rows)]
    for each in results:
        if each.loss:
            curve = ", ".join(f"{t.loss:.2%} at {short(float(f'{t.offered:.3g}'))}" for t in each.loss)
            lines.append(f"loss, {each.size} B: {curve}")
    return "\n".join(line.rstrip() for line in [*lines, CAVEAT])


def sizes_dict(results: Sequence[SizeResult], **about: Any) -> dict[str, Any]:
    """The report by frame size, for JSON."""
    return {**about, "caveat": CAVEAT, "sizes": [each.to_dict() for each in results]}

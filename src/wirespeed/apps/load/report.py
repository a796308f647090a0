"""What a load found, as text."""

import math

from wirespeed.apps.load.load import LoadResult
from wirespeed.apps.measure_report import microseconds
from wirespeed.tables.hdr import PERCENTILES


def load_text(found: LoadResult) -> str:
    """A load, line by line."""
    kinds = ", ".join(f"{name} {count:,}" for name, count in found.kinds.items()) or "none"
    lines = [
        f"offered   {found.offered:,.0f} requests/s ({found.rate:,.0f} asked for), {found.seconds:.2f} s",
        f"sent      {found.sent:,}",
        f"answered  {found.answered:,} ({kinds})",
        f"lost      {found.lost:,} ({found.loss:.4%})",
    ]
    for name, what in (
        ("errors", "of the answers say that something is wrong"),
        ("late", "of the answers came after the time to wait"),
        ("duplicates", "answers came again"),
        ("strangers", "datagrams of the server answered nothing that was asked"),
        ("short", "datagrams of the server had no room for a number"),
        ("refused", "requests found no room in the port"),
    ):
        if getattr(found, name):
            lines.append(f"          {getattr(found, name):,} {what}")
    if found.latency.count:
        shown = {"min": float(found.latency.smallest or 0)}
        shown |= {f"p{percent:g}": found.percentile(percent) for percent in PERCENTILES}
        shown["max"] = math.inf if found.lost else float(found.latency.largest or 0)
        said = "  ".join(f"{mark} {'lost' if math.isinf(ns) else microseconds(ns)}" for mark, ns in shown.items())
        lines.append(f"latency   {said} microseconds, from when a request was due; it left at most "
                     f"{microseconds(found.behind_ns)} after that")  # fmt: skip
    if found.fell_short:
        lines.append("less was offered than asked for: this port or this core cannot; the server may do more")
    return "\n".join(lines)


__all__ = ["load_text"]

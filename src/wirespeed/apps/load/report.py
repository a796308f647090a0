"""What a load found, as text."""

from wirespeed.apps.load.result import LoadResult
from wirespeed.apps.measure_report import microseconds


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
        ("earlier", "answers came to what was asked before this"),
        ("strangers", "datagrams of the server answered nothing that was asked"),
        ("short", "datagrams of the server had no room for a number"),
        ("refused", "requests found no room in the port"),
    ):
        if getattr(found, name):
            lines.append(f"          {getattr(found, name):,} {what}")
    if found.latency.count:
        shown = found.latency.to_dict()
        marks = ["min", *[key for key in shown if key.startswith("p")], "max"]
        said = "  ".join(f"{mark} {microseconds(shown[mark] or 0)}" for mark in marks)
        lines.append(f"latency   {said} microseconds of answered; {found.lost:,} lost")
        lines.append(
            f"          from when a request was due; it left at most {microseconds(found.behind_ns)} after that"
        )
    if found.lost:
        beyond = f"> {microseconds(found.timeout_ns)}"
        said = "  ".join(
            f"{mark} {beyond if value is None else microseconds(value)}" for mark, value in found.percentiles().items()
        )
        lines.append(f"of sent   {said} microseconds; lost is later than the timeout")
    if found.fell_short:
        lines.append("less was offered than asked for: this port or this core cannot; the server may do more")
    return "\n".join(lines)


__all__ = ["load_text"]

"""One line of a bench: what was measured, in which unit, and beside whom.

The JSON form is a list of objects with exactly the keys of :class:`Row`, in this order; scripts may
rely on it::

    [{"bench": "forward", "metric": "macswap 60 B", "unit": "Mpps", "value": 50.1,
      "peer": "DPDK 22.11 testpmd", "peer_value": 46.2, "ratio": 1.08}]

``ratio`` always reads the same way: **above 1, wirespeed is ahead**, whether the unit is one where more
is better (Mpps) or one where less is (seconds). It is the median of the pair-by-pair ratios, so it need
not equal ``value / peer_value``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from wirespeed.bench.pairing import Paired

_LOWER_IS_BETTER = frozenset({"s", "ms", "us", "ns", "cycles", "instructions", "cache misses", "bytes"})


def lower_is_better(unit: str) -> bool:
    """Whether less of `unit` is better: times and costs, also per something (``"ns/packet"``).

    A rate per time (``"packets/s"``, ``"bytes/s"``) is better when higher.
    """
    amount, _, per = unit.partition("/")
    return amount in _LOWER_IS_BETTER and per != "s"


def ratio(value: float, peer_value: float, *, lower_is_better: bool) -> float:
    """How far wirespeed is ahead: above 1 it is, whichever way the unit points."""
    return peer_value / value if lower_is_better else value / peer_value


@dataclass(frozen=True, slots=True)
class Row:
    """One measured line. Without a peer, `peer`, `peer_value` and `ratio` are None."""

    bench: str
    metric: str
    unit: str
    value: float
    peer: str | None = None
    peer_value: float | None = None
    ratio: float | None = None

    @classmethod
    def of(cls, bench: str, metric: str, unit: str, paired: Paired, peer: str | None = None) -> Row:
        """The row of an interleaved run; `peer` names the peer with its version and setting."""
        if paired.peer_value is None:
            return cls(bench, metric, unit, paired.value)
        return cls(bench, metric, unit, paired.value, peer, paired.peer_value, paired.ratio)


def to_json(rows: Iterable[Row]) -> str:
    """The rows as a JSON list; the keys are the fields of :class:`Row`, no more and no fewer."""
    return json.dumps([asdict(row) for row in rows], indent=2, allow_nan=False)


def to_markdown(rows: Iterable[Row]) -> str:
    """The rows as a table for a document."""
    lines = ["| bench | metric | unit | wirespeed | peer | ratio | beside |", "|---|---|---|--:|--:|--:|---|"]
    for row in rows:
        shown = "" if row.ratio is None else f"{row.ratio:.2f}"
        cells = [row.bench, row.metric, row.unit, _figure(row.value), _figure(row.peer_value), shown, row.peer or "-"]
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines)


def to_table(rows: Iterable[Row], title: str | None = None) -> Table:
    """The rows as a rich table; green where wirespeed is ahead, red where it is behind."""
    from rich.table import Table

    table = Table(title=title)
    for heading in ("bench", "metric", "unit"):
        table.add_column(heading)
    for heading in ("wirespeed", "peer", "ratio"):
        table.add_column(heading, justify="right")
    table.add_column("beside")
    for row in rows:
        shown = "" if row.ratio is None else f"[{'green' if row.ratio >= 1 else 'red'}]{row.ratio:.2f}[/]"
        table.add_row(
            row.bench,
            row.metric,
            row.unit,
            _figure(row.value),
            _figure(row.peer_value),
            shown,
            row.peer or "-",
        )
    return table


def _figure(value: float | None) -> str:
    """Four significant digits and thousands separators: more would be noise."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"

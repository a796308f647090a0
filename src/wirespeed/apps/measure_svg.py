"""A report's plot as SVG: lines in frames, written as text. Any browser shows it, and no library is needed."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from wirespeed.apps.rfc2544 import SizeResult

_WIDTH, _HEIGHT = 560, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 130, 36, 46
_COLOURS = ("#1f6feb", "#d1242f", "#1a7f37", "#9a6700", "#8250df", "#bf3989", "#0f7b8a")

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Chart:
    """One frame with lines in it; values from 0 up."""

    title: str
    x_label: str
    y_label: str
    lines: dict[str, Points]


def nice_step(most: float, steps: int = 5) -> float:
    """A distance between ticks that is 1, 2 or 5 times a power of ten."""
    if most <= 0:
        return 1.0
    power = 1.0
    while power * 10 <= most / steps:
        power *= 10
    while power > most / steps:
        power /= 10
    return next((power * factor for factor in (1, 2, 5) if most / (power * factor) <= steps), power * 10)


def short(value: float) -> str:
    """A number as a tick shows it: 1.5M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def _chart(chart: Chart, top: int) -> list[str]:
    xs = [x for points in chart.lines.values() for x, _ in points] or [0.0]
    ys = [y for points in chart.lines.values() for _, y in points] or [0.0]
    most_x, most_y = max(xs) or 1.0, max(ys) or 1.0
    wide, high = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        return _LEFT + wide * x / most_x, top + _TOP + high * (1 - y / most_y)

    made = [f'<text x="{_LEFT}" y="{top + 20}" class="title">{escape(chart.title)}</text>']
    base = place(0, 0)[1]
    for most, vertical in ((most_x, True), (most_y, False)):
        step = nice_step(most)
        for tick in range(int(most / step + 1e-9) + 1):
            value = tick * step
            x, y = place(value, 0) if vertical else place(0, value)
            if vertical:
                made.append(f'<path d="M{x:.1f} {base:.1f}V{base + 4:.1f}" class="axis"/>')
                made.append(f'<text x="{x:.1f}" y="{base + 18:.1f}" class="middle">{short(value)}</text>')
            else:
                made.append(f'<path d="M{x:.1f} {y:.1f}H{_LEFT + wide}" class="grid"/>')
                made.append(f'<text x="{x - 6:.1f}" y="{y + 4:.1f}" class="end">{short(value)}</text>')
    made.append(f'<path d="M{_LEFT} {top + _TOP}V{base:.1f}H{_LEFT + wide}" class="axis"/>')
    middle = _LEFT + wide / 2
    made.append(f'<text x="{middle}" y="{base + 36:.1f}" class="middle">{escape(chart.x_label)}</text>')
    at = top + _TOP + high / 2
    made.append(f'<text transform="translate(16 {at}) rotate(-90)" class="middle">{escape(chart.y_label)}</text>')
    for number, (name, points) in enumerate(chart.lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        placed = [place(*point) for point in sorted(points)]
        path = "".join(f"{'L' if i else 'M'}{x:.1f} {y:.1f}" for i, (x, y) in enumerate(placed))
        made.append(f'<path d="{path}" class="line" stroke="{colour}"/>')
        made += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>' for x, y in placed]
        y = top + _TOP + 12 + 16 * number
        made.append(f'<text x="{_LEFT + wide + 12}" y="{y}" fill="{colour}">{escape(name)}</text>')
    return made


def figure(charts: Sequence[Chart]) -> str:
    """Charts below one another, as a file's text."""
    height = _HEIGHT * len(charts)
    style = (
        "text{font:12px sans-serif}.title{font-weight:bold}.middle{text-anchor:middle}.end{text-anchor:end}"
        ".axis{stroke:#555;fill:none}.grid{stroke:#ddd;fill:none}.line{fill:none;stroke-width:1.5}"
    )
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}">'
    )
    parts = [head, f"<style>{style}</style>", f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>']
    for number, chart in enumerate(charts):
        parts += _chart(chart, number * _HEIGHT)
    return "\n".join([*parts, "</svg>", ""])


def plot(results: Sequence[SizeResult]) -> str:
    """The figure of a report: what was measured of throughput, latency, loss and bursts."""
    charts = []
    rates = [(float(each.size), each.throughput.rate) for each in results if each.throughput]
    bits = [(float(each.size), each.throughput.bits) for each in results if each.throughput]
    if rates:
        charts.append(Chart("Throughput", "frame, bytes", "packets a second", {"no loss": rates}))
        charts.append(Chart("Throughput on the wire", "frame, bytes", "bits a second", {"no loss": bits}))
    latency: dict[str, Points] = {
        name: [(float(each.size), each.latency.latency.percentile(percent) / 1e3) for each in results if each.latency]
        for name, percent in (("p50", 50.0), ("p99", 99.0), ("p99.9", 99.9))
    }
    if latency["p50"]:
        charts.append(Chart("Latency at the throughput", "frame, bytes", "microseconds", latency))
    loss: dict[str, Points] = {
        f"{each.size} B": [(t.offered, 100 * t.loss) for t in each.loss] for each in results if each.loss
    }
    if loss:
        charts.append(Chart("Frame loss", "offered, packets a second", "lost, %", loss))
    bursts = [(float(each.size), each.back_to_back.frames) for each in results if each.back_to_back is not None]
    if bursts:
        charts.append(Chart("Back-to-back frames", "frame, bytes", "frames", {"longest burst": bursts}))
    return figure(charts)

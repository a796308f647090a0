"""Metrics from Python: the memory of each worker's, and what all workers have counted together."""

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np

from wirespeed.apps.collector.metrics import (
    GAUGE,
    HEAD,
    HISTOGRAM,
    KINDS,
    METRIC_BYTES,
    MICRO,
    SET,
    SET_HALF,
    SET_PRECISION,
    TEXT,
    TIMER,
    TIMER_DIGITS,
    TIMER_HIGHEST,
    MetricsView,
    MetricView,
    TextView,
    set_half,
    timer_of,
)
from wirespeed.jit import load_acquire, read_bytes, store32
from wirespeed.mem.region import Region
from wirespeed.tables import hdr
from wirespeed.tables.hdr import Distribution
from wirespeed.tables.hyperloglog import HyperLogLogView, estimate_from
from wirespeed.tables.sketch import DATA as SKETCH_DATA


@dataclass(frozen=True)
class Metric:
    """A metric, over all workers.

    Attributes:
        name, tags: as they were sent; tags in their order, ``("a:b", "c")``.
        kind: counter, gauge, timer, histogram or set.
        value: sum of a counter or timer since the start; value of a gauge; distinct elements of a set in its window.
        updates: samples since the start; of timers, counting those that the client did not send.
        used_ns: when one last came, by the collector's steady clock.
        distribution: of a timer's samples since the start, in thousandths of its unit.
    """

    name: str
    tags: tuple[str, ...]
    kind: str
    value: float
    updates: int
    used_ns: int
    distribution: Distribution | None = None


class Metrics:
    """The memory of ``workers`` workers' metrics.

    Args:
        metrics, timers, sets: how many there may be, of each worker's: 256 bytes, 36 KB and 4.6 KB each.
        idle_ns: a metric that was not sent for so long may give way to a new one.
    """

    def __init__(self, workers: int, metrics: int, timers: int, sets: int, idle_ns: int) -> None:
        bits = max((2 * metrics - 1).bit_length(), 3)
        timer_bytes = hdr.record_bytes(TIMER_HIGHEST, TIMER_DIGITS)
        parts = {
            "index": 4 << bits, "entries": metrics * METRIC_BYTES, "timer_stack": 4 * timers, "set_stack": 4 * sets,
            "timers": timers * timer_bytes, "sets": 2 * sets * SET_HALF,
        }  # fmt: skip
        sizes = {name: -(-size // 64) * 64 for name, size in parts.items()}
        stride = HEAD + sum(sizes.values())
        self.region = Region(workers * stride, "wirespeed-metrics", populate=False)
        self.views = [MetricsView(self.region.address + worker * stride) for worker in range(workers)]
        for view in self.views:
            at = view.address + HEAD
            for name, size in sizes.items():
                setattr(view, name, at)
                at += size
            view.mask, view.shift, view.capacity, view.idle_ns = (1 << bits) - 1, 64 - bits, metrics, idle_ns
            view.timer_bytes, view.timers_free, view.set_bytes, view.sets_free = timer_bytes, timers, 2 * SET_HALF, sets
            for number in range(timers):
                store32(view.timer_stack + 4 * number, timers - 1 - number)
                hdr.format_record(view.timers + number * timer_bytes, TIMER_HIGHEST, TIMER_DIGITS)
            for number in range(sets):
                store32(view.set_stack + 4 * number, sets - 1 - number)
                for half in range(2):
                    HyperLogLogView(view.sets + (2 * number + half) * SET_HALF).precision = SET_PRECISION

    def read(self, window: int) -> list[Metric]:
        """All metrics; sets as they were in a window, the last that ended or the one that runs."""
        found: dict[tuple[str, bytes, int], list[Any]] = {}
        for view in self.views:
            for number in range(view.used):
                at = view.entries + number * METRIC_BYTES
                tag = load_acquire(at)
                if not tag:
                    continue
                metric, text = MetricView(at), TextView(at + TEXT)
                data = read_bytes(at + TEXT + TextView.SIZE, text.length)
                part = [
                    metric.value, metric.updates, metric.used_ns, metric.set_ns, self._pool(view, metric, window),
                ]  # fmt: skip
                key = KINDS[metric.kind], data, int(text.tags)
                if load_acquire(at) == tag:  # else it is another now
                    found[key] = _merged(found[key], part, metric.kind) if key in found else part
        return [_made(*key, part) for key, part in found.items()]

    def _pool(self, view: MetricsView, metric: MetricView, window: int) -> Any:
        """A timer's distribution; a set's registers; None for others."""
        if metric.kind in (TIMER, HISTOGRAM):
            at = timer_of(view, metric)
            counts = _array(at + hdr.DATA, np.dtype(np.int64), hdr.slots_for(TIMER_HIGHEST, TIMER_DIGITS))
            return hdr.read_record(at, counts, TIMER_DIGITS)
        if metric.kind == SET:
            registers = np.zeros(1 << SET_PRECISION, np.uint8)
            if (metric.window1 if window & 1 else metric.window0) == window:
                registers |= _array(set_half(view, metric, window) + SKETCH_DATA, registers.dtype, len(registers))
            return registers
        return None

    def close(self) -> None:
        """Give the memory back."""
        self.region.close()


def _array(address: int, dtype: "np.dtype[Any]", count: int) -> Any:
    memory: Any = (ctypes.c_char * (dtype.itemsize * count)).from_address(address)
    return np.frombuffer(memory, dtype=dtype, count=count)


def _merged(a: list[Any], b: list[Any], kind: int) -> list[Any]:
    """What two workers have counted of one metric."""
    value = a[0] + b[0]
    if kind == GAUGE and (a[3] or b[3]):  # the last that set it; changes of a worker that never did count anyway
        later, earlier = (a, b) if a[3] >= b[3] else (b, a)
        value = later[0] + (0 if earlier[3] else earlier[0])
    pool = None
    if a[4] is not None:
        pool = np.maximum(a[4], b[4]) if kind == SET else a[4] + b[4]
    return [value, a[1] + b[1], max(a[2], b[2]), max(a[3], b[3]), pool]


def _made(kind: str, data: bytes, tags: int, part: list[Any]) -> Metric:
    name, rest = data[:tags].decode(errors="replace"), data[tags:].decode(errors="replace")
    value, updates, used_ns, _, pool = part
    if kind == KINDS[SET]:
        return Metric(name, _tags(rest), kind, estimate_from(pool, SET_PRECISION), updates, used_ns)
    return Metric(name, _tags(rest), kind, value / MICRO, updates, used_ns, pool)


def _tags(text: str) -> tuple[str, ...]:
    return tuple(tag for tag in text.removeprefix("#").split(",") if tag)


__all__ = ["Metric", "Metrics"]

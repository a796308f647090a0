"""Metrics of statsd: counters, gauges, timers and sets by name, as many as there is room for.

::

    0       record (:class:`MetricsView`)
    256     index: 4 bytes a slot, the number of an entry + 1; 0: free, -1: was taken; 2 to 4 slots an entry
            entries of 256 bytes: tag, kind, values, and the text that names it
            stacks of free timers and sets
            timers: a histogram each (:mod:`wirespeed.tables.hdr`)
            sets: registers of two windows each (:mod:`wirespeed.tables.hyperloglog`)

Values are whole millionths: 64 bits hold 9.2 million million units. Strangers choose the names, so there is a limit:
when it is reached a new metric takes the place of one that nobody has sent for ``idle_ns``, if one of the next few is
like that; else it is refused. A tag is SipHash of text and kind under a secret key.
"""

from wirespeed.apps.collector.state import CollectorView
from wirespeed.hashes.siphash import siphash24_at
from wirespeed.jit import (
    View,
    cold,
    copy,
    fill,
    inline,
    le16,
    le32,
    le64,
    load32,
    shift_right,
    store32,
    store_release,
    u8,
)
from wirespeed.tables.hdr import DATA as HDR_DATA
from wirespeed.tables.hdr import HdrView
from wirespeed.tables.hyperloglog import HyperLogLogView
from wirespeed.tables.sketch import DATA as SKETCH_DATA

COUNTER, GAUGE, TIMER, HISTOGRAM, SET = range(1, 6)
KINDS: tuple[str, ...] = ("", "counter", "gauge", "timer", "histogram", "set")

MICRO: int = 1_000_000
"""Values are multiplied by this."""
TIMER_UNIT: int = 1000
"""Histograms count thousandths of a timer's unit: microseconds, where it is milliseconds."""
TIMER_DIGITS: int = 2
TIMER_HIGHEST: int = (1 << 40) - 1
"""Twelve days in microseconds."""
SET_PRECISION: int = 11
"""2,048 registers: a standard error of 2.3 per cent."""
SET_HALF: int = SKETCH_DATA + (1 << SET_PRECISION)

HEAD: int = 256
METRIC_BYTES: int = 256
TEXT: int = 64
TEXT_BYTES: int = METRIC_BYTES - TEXT
"""Longest name and tags together."""

_PROBES = 64
_GONE = 0xFFFF_FFFF
_LOOK = 16  # entries that are looked at for one that is idle
_EMPTY = (1 << 63) - 1  # smallest value of a histogram without values


class MetricsView(View):
    """Where a worker's metrics are."""

    index = le64(0, "address")
    mask = le64(8, "slots - 1")
    shift = le64(16, "64 - log2(slots)")
    entries = le64(24, "address")
    capacity = le64(32)
    used = le64(40, "entries that were ever taken")
    hand = le64(48, "the entry that is looked at next for one to evict")
    evicted = le64(56)
    idle_ns = le64(64)
    timers = le64(72, "address")
    timer_bytes = le64(80)
    timer_stack = le64(88, "address of the numbers of free timers, 4 bytes each")
    timers_free = le64(96)
    sets = le64(104)
    set_bytes = le64(112)
    set_stack = le64(120)
    sets_free = le64(128)
    SIZE = HEAD


class MetricView(View):
    """One metric."""

    tag = le64(0, "0: free")
    used_ns = le64(8)
    kind = u8(16, "COUNTER to SET")
    pool = le32(20, "its timer or set")
    value = le64(24, "millionths: the sum of a counter, the value of a gauge")
    updates = le64(32, "samples, multiplied by what they stand for")
    set_ns = le64(40, "when a gauge was last set, not changed; 0: never")
    window0 = le64(48, "the window that each half of a set is of")
    window1 = le64(56)
    SIZE = TEXT


class TextView(View):
    """A metric's text, behind it."""

    length = le16(0)
    tags = le16(2, "where tags begin: `name`, or `name#tags`")
    SIZE = 4


_HEAD_TEXT: int = TextView.SIZE


@inline
def text_of(metric: MetricView) -> TextView:
    """The text of a metric."""
    return TextView(metric.address + TEXT)


@inline
def _entry(metrics: MetricsView, number: int) -> int:
    return metrics.entries + number * METRIC_BYTES


@cold
def metric_of(state: CollectorView, kind: int, text: int, length: int, tags: int) -> int:
    """Address of the metric of this kind and text, made if there is none; 0 if there is no room for it.

    ``text``: name and tags, ``length`` bytes, of which those from ``tags`` on are tags.
    """
    metrics = MetricsView(state.metrics)
    tag = (siphash24_at(text, length, state.seed0 ^ kind, state.seed1) ^ tags) | 1
    at = shift_right(tag, metrics.shift)
    free = -1
    for _ in range(_PROBES):
        number = load32(metrics.index + (at << 2))
        if number == 0 or number == _GONE:
            if free < 0:
                free = at
            if number == 0:
                break
        elif MetricView(_entry(metrics, number - 1)).tag == tag:
            return _entry(metrics, number - 1)
        at = (at + 1) & metrics.mask
    if free < 0:
        return 0
    number = _room(state, metrics)
    if number < 0:
        return 0
    metric = MetricView(_entry(metrics, number))
    if not _pool(metrics, metric, kind):
        return 0
    fill(metric.address + 24, 0, METRIC_BYTES - 24)
    metric.kind = kind
    copy(metric.address + TEXT + _HEAD_TEXT, text, length)
    words = text_of(metric)
    words.length, words.tags = length, tags
    store32(metrics.index + (free << 2), number + 1)
    if number == metrics.used:
        metrics.used = number + 1
    store_release(metric.address, tag)
    return metric.address


@inline
def _room(state: CollectorView, metrics: MetricsView) -> int:
    """The number of an entry that is free, or was idle and now is; -1 if there is none."""
    if metrics.used < metrics.capacity:
        return metrics.used
    for _ in range(_LOOK):
        number = metrics.hand
        metrics.hand = number + 1 if number + 1 < metrics.capacity else 0
        metric = MetricView(_entry(metrics, number))
        if metric.tag == 0:
            return number
        if state.now_ns - metric.used_ns > metrics.idle_ns:
            _forget(metrics, metric, number)
            return number
    return -1


@cold
def _forget(metrics: MetricsView, metric: MetricView, number: int) -> None:
    """Take an idle metric out."""
    at = shift_right(metric.tag, metrics.shift)
    for _ in range(_PROBES):
        if load32(metrics.index + (at << 2)) == number + 1:
            store32(metrics.index + (at << 2), _GONE)
            break
        at = (at + 1) & metrics.mask
    metric.tag = 0
    kind = metric.kind
    if kind in (TIMER, HISTOGRAM):
        store32(metrics.timer_stack + (metrics.timers_free << 2), metric.pool)
        metrics.timers_free += 1
    elif kind == SET:
        store32(metrics.set_stack + (metrics.sets_free << 2), metric.pool)
        metrics.sets_free += 1
    metrics.evicted += 1


@inline
def _pool(metrics: MetricsView, metric: MetricView, kind: int) -> bool:
    """Give a metric its timer or set; whether there was one."""
    if kind in (TIMER, HISTOGRAM):
        if metrics.timers_free == 0:
            return False
        metrics.timers_free -= 1
        metric.pool = load32(metrics.timer_stack + (metrics.timers_free << 2))
        timer = HdrView(timer_of(metrics, metric))
        fill(timer.address + HDR_DATA, 0, metrics.timer_bytes - HDR_DATA)
        timer.sum = timer.largest = timer.beyond = 0
        timer.smallest = _EMPTY
    elif kind == SET:
        if metrics.sets_free == 0:
            return False
        metrics.sets_free -= 1
        metric.pool = load32(metrics.set_stack + (metrics.sets_free << 2))
    return True


@inline
def timer_of(metrics: MetricsView, metric: MetricView) -> int:
    """Address of a timer's histogram."""
    return metrics.timers + metric.pool * metrics.timer_bytes


@inline
def set_half(metrics: MetricsView, metric: MetricView, window: int) -> int:
    """Address of the half of a set that counts for a window."""
    return metrics.sets + metric.pool * metrics.set_bytes + (window & 1) * SET_HALF


@cold
def add_to_set(state: CollectorView, metric: MetricView, at: int, length: int) -> None:
    """An element of a set; it counts in the window that runs."""
    window = state.window
    half = HyperLogLogView(set_half(MetricsView(state.metrics), metric, window))
    if (metric.window1 if window & 1 != 0 else metric.window0) != window:
        half.clear()
        if window & 1 != 0:
            metric.window1 = window
        else:
            metric.window0 = window
    half.add_digest(siphash24_at(at, length, state.seed0, state.seed1))


__all__ = [
    "COUNTER", "GAUGE", "HEAD", "HISTOGRAM", "KINDS", "METRIC_BYTES", "MICRO", "SET", "SET_HALF", "SET_PRECISION",
    "TEXT", "TEXT_BYTES", "TIMER", "TIMER_DIGITS", "TIMER_HIGHEST", "TIMER_UNIT", "MetricView", "MetricsView",
    "TextView", "add_to_set", "metric_of", "set_half", "text_of", "timer_of",
]  # fmt: skip

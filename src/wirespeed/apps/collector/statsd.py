"""statsd: lines of text, each a sample of a metric. ::

    name:value|type                     c counter, g gauge, ms timer, h or d histogram, s set
    name:value|type|@rate|#tag:x,tag    one of 1/rate samples was sent; tags as DogStatsD has them
    name:value:value|type               several samples
    gauge:+4|g                          a gauge with a sign changes by that

Several lines in a datagram are divided by line feeds. The protocol has no standard: this is what
github.com/statsd/statsd, docs/metric_types.md, and DogStatsD's datagram format, versions 1.0 and 1.1, have in common;
other sections that DogStatsD may send (a container, a time) are passed over. Numbers are decimal, with a point or an
exponent.
"""

from wirespeed.apps.collector.account import totals
from wirespeed.apps.collector.exporters import is_allowed
from wirespeed.apps.collector.metrics import (
    COUNTER,
    GAUGE,
    HISTOGRAM,
    MICRO,
    SET,
    TEXT_BYTES,
    TIMER,
    TIMER_UNIT,
    MetricsView,
    MetricView,
    add_to_set,
    metric_of,
    timer_of,
)
from wirespeed.apps.collector.reasons import (
    METRIC,
    METRIC_KIND,
    METRIC_LIMIT,
    METRIC_VALUE,
    OK,
    STRANGER,
)
from wirespeed.apps.collector.state import LANE_STATSD, CollectorView
from wirespeed.jit import cold, copy, inline, load8, store8
from wirespeed.tables.hdr import HdrView

LARGEST: int = 10**12
"""Units that a sample may be; more is no number here."""

_LINE_FEED, _COLON, _BAR, _AT, _HASH, _PLUS, _MINUS, _POINT = 10, 58, 124, 64, 35, 43, 45, 46
_LONGEST = TEXT_BYTES - 8  # text, as room for its length is in front of it
_DIGITS_MAX = 18
_MOST = LARGEST * MICRO
_BAD = -(1 << 62)


@cold
def serve_statsd(address: int, high: int, low: int, at: int, length: int) -> int:
    """A datagram of statsd: 0, or minus the number of the first reason why something in it was refused.

    Arguments as of :func:`wirespeed.apps.collector.messages.serve_flows`.
    """
    state = CollectorView(address)
    if not is_allowed(state, high, low):
        return state.refuse(STRANGER)
    lane = totals(state, LANE_STATSD)
    lane.datagrams += 1
    lane.octets_received += length
    end = at + length
    first = OK
    while at < end:
        stop = find(at, end, _LINE_FEED)
        if stop != at:
            reason = _line(state, at, stop)
            lane.samples += 1
            if reason != OK:
                first = state.note(first, reason)
        at = stop + 1
    return -first


@inline
def find(at: int, end: int, byte: int) -> int:
    """Where a byte is first; ``end`` if nowhere."""
    while at < end and load8(at) != byte:
        at += 1
    return at


@cold
def _line(state: CollectorView, at: int, end: int) -> int:
    """One line: OK, or why it is refused."""
    name_end = find(at, end, _COLON)
    values_end = find(name_end, end, _BAR)
    if name_end == at or values_end == end or values_end - name_end < 2 or name_end - at > _LONGEST:
        return METRIC
    for i in range(name_end - at):
        if load8(at + i) < 32 or load8(at + i) == 127:
            return METRIC
    type_end = find(values_end + 1, end, _BAR)
    kind = _kind(values_end + 1, type_end)
    if kind == 0:
        return METRIC_KIND
    rate, tags, tags_end = MICRO, 0, 0
    section = type_end
    while section < end:
        start = section + 1
        section = find(start, end, _BAR)
        if start < section and load8(start) == _AT:
            rate = micro(start + 1, section)
            if rate <= 0 or rate > MICRO:
                return METRIC_VALUE
        elif start < section and load8(start) == _HASH:
            tags, tags_end = start, section
    # Name and tags together, in a row that nobody uses now.
    text, size = state.scratch, name_end - at
    if size + tags_end - tags > _LONGEST:
        return METRIC
    copy(text, at, size)
    for i in range(tags_end - tags):
        byte = load8(tags + i)
        store8(text + size + i, byte if byte >= 32 and byte != 127 else 95)
    found = metric_of(state, kind, text, size + tags_end - tags, size)
    if found == 0:
        return METRIC_LIMIT
    metric = MetricView(found)
    metric.used_ns = state.now_ns
    value = name_end + 1
    while value < values_end:
        stop = find(value, values_end, _COLON)
        reason = _sample(state, metric, kind, value, stop, rate)
        if reason != OK:
            return reason
        value = stop + 1
    return OK


@inline
def _kind(at: int, end: int) -> int:
    """The kind of metric that letters name; 0 if none."""
    first = load8(at) if end - at >= 1 else 0
    if end - at == 2:
        return TIMER if first == 109 and load8(at + 1) == 115 else 0  # ms
    if end - at != 1:
        return 0
    if first == 99:  # c
        return COUNTER
    if first == 103:  # g
        return GAUGE
    if first in (104, 100):  # h, d
        return HISTOGRAM
    return SET if first == 115 else 0  # s


@cold
def _sample(state: CollectorView, metric: MetricView, kind: int, at: int, end: int, rate: int) -> int:
    """One value of a metric: OK, or METRIC_VALUE."""
    if at == end:
        return METRIC_VALUE
    if kind == SET:
        add_to_set(state, metric, at, end - at)
        metric.updates += 1
        return OK
    value = micro(at, end)
    if value == _BAD:
        return METRIC_VALUE
    if kind == COUNTER:
        scaled = value
        if rate != MICRO:
            if abs(value) // rate >= LARGEST:
                return METRIC_VALUE
            scaled = value // rate * MICRO + value % rate * MICRO // rate
        metric.value += scaled
        metric.updates += 1
    elif kind == GAUGE:
        if load8(at) in (_PLUS, _MINUS):
            metric.value += value
        else:
            metric.value = value
            metric.set_ns = state.now_ns
        metric.updates += 1
    else:
        if value < 0:
            return METRIC_VALUE
        HdrView(timer_of(MetricsView(state.metrics), metric)).record(value // TIMER_UNIT)
        metric.value += value
        metric.updates += MICRO // rate
    return OK


@cold
def micro(at: int, end: int) -> int:
    """A decimal number in millionths, or _BAD if it is none, or too large."""
    negative = 0
    if at < end and load8(at) in (_PLUS, _MINUS):
        negative = 1 if load8(at) == _MINUS else 0
        at += 1
    mantissa = digits = kept = scale = point = 0
    while at < end:
        byte = load8(at)
        if byte >= 48 and byte <= 57:
            digits += 1
            if kept < _DIGITS_MAX:
                mantissa = mantissa * 10 + byte - 48
                kept += 1 if mantissa != 0 else 0
                scale -= point
            else:
                scale += 1 - point
        elif byte == _POINT and point == 0:
            point = 1
        else:
            break
        at += 1
    if digits == 0:
        return _BAD
    if at < end:
        if load8(at) not in (69, 101) or end - at < 2:  # E, e
            return _BAD
        at += 1
        sign = 1
        if load8(at) in (_PLUS, _MINUS):
            sign = -1 if load8(at) == _MINUS else 1
            at += 1
        if at == end or end - at > 3:
            return _BAD
        exponent = 0
        while at < end:
            byte = load8(at)
            if byte < 48 or byte > 57:
                return _BAD
            exponent = exponent * 10 + byte - 48
            at += 1
        scale += sign * exponent
    scale += 6
    while scale < 0 and mantissa != 0:
        mantissa //= 10
        scale += 1
    while scale > 0 and mantissa != 0:
        if mantissa > _MOST // 10:
            return _BAD
        mantissa *= 10
        scale -= 1
    if mantissa > _MOST:
        return _BAD
    return -mantissa if negative != 0 else mantissa


__all__ = ["LARGEST", "find", "micro", "serve_statsd"]

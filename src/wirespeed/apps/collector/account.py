"""Counting: what becomes of a flow once it is a row.

A row is made where it will stay, in the ring that control code empties; when that is full, or nobody wants rows, in a
row of its own. Then it is counted: totals, protocol, top talkers, distinct hosts.
"""

from wirespeed.apps.collector.flow import LIMIT, FlowRow
from wirespeed.apps.collector.reasons import IMPLAUSIBLE, OK
from wirespeed.apps.collector.state import (
    LINE,
    PROTOCOLS,
    SKETCHES,
    TOTALS,
    CollectorView,
    ExporterView,
    ProtocolView,
    SketchesView,
    TotalsView,
)
from wirespeed.jit import cold, fill, inline, load64, load_acquire, store_release
from wirespeed.tables.hyperloglog import HyperLogLogView
from wirespeed.tables.top_k import TopKView

_ROW_TAIL: int = CollectorView.row_tail.offset
_ROW_HEAD: int = CollectorView.row_head.offset
_EPOCH: int = SketchesView.epoch.offset


@inline
def totals(state: CollectorView, lane: int) -> TotalsView:
    """The totals of a kind of datagram."""
    return TotalsView(state.address + TOTALS + lane * LINE)


@inline
def sketches(state: CollectorView) -> SketchesView:
    """The sketches of the window we are in."""
    if state.epoch != state.window:
        turn(state)
    return SketchesView(state.address + SKETCHES + state.active * LINE)


@cold
def turn(state: CollectorView) -> None:
    """A new window: go on with the other set of sketches, cleared."""
    state.active = 1 - state.active
    now = SketchesView(state.address + SKETCHES + state.active * LINE)
    store_release(now.address + _EPOCH, 0)
    TopKView(now.sources).clear()
    TopKView(now.destinations).clear()
    TopKView(now.conversations).clear()
    TopKView(now.services).clear()
    HyperLogLogView(now.source_count).clear()
    HyperLogLogView(now.destination_count).clear()
    window = state.window
    state.epoch = window
    store_release(now.address + _EPOCH, window)


@inline
def begin_row(state: CollectorView, exporter: ExporterView) -> FlowRow:
    """Where the next flow is put, with what its exporter says of all of its flows."""
    head = state.row_head
    at = state.scratch
    mask = state.row_mask
    if mask >= 0 and head - load_acquire(state.address + _ROW_TAIL) <= mask:
        at = state.rows + (head & mask) * 160
    fill(at, 0, 160)
    row = FlowRow(at)
    row.exporter_high, row.exporter_low = exporter.high, exporter.low
    row.domain = exporter.domain
    row.sampling = exporter.sampling
    row.kind = exporter.kind
    row.received_ms = state.now_ms
    return row


@inline
def end_row(state: CollectorView, lane: int, row: FlowRow) -> int:
    """Count a flow and let control code have its row: OK, or why it is refused."""
    sampling = max(row.sampling, 1)
    most = LIMIT if sampling == 1 else LIMIT // sampling
    octets, packets = row.octets, row.packets
    if octets < 0 or octets > most or packets < 0 or packets > most:
        return IMPLAUSIBLE
    count(state, lane, row, octets * sampling, packets * sampling)
    if row.address != state.scratch:
        store_release(state.address + _ROW_HEAD, state.row_head + 1)
    elif state.row_mask >= 0:
        state.rows_lost += 1
    return OK


@cold
def count(state: CollectorView, lane: int, row: FlowRow, octets: int, packets: int) -> None:
    """Add a flow to all that is counted."""
    sums = totals(state, lane)
    sums.flows += 1
    sums.octets += octets
    sums.packets += packets
    protocol = ProtocolView(state.address + PROTOCOLS + (row.protocol << 5))
    protocol.flows += 1
    protocol.octets += octets
    protocol.packets += packets
    now = sketches(state)
    at = row.address
    if row.src | load64(at + 8) != 0:
        TopKView(now.sources).add_at(at, octets)
        HyperLogLogView(now.source_count).add_at(at)
    if row.dst | load64(at + 24) != 0:
        TopKView(now.destinations).add_at(at + 16, octets)
        HyperLogLogView(now.destination_count).add_at(at + 16)
    TopKView(now.conversations).add_at(at, octets)
    TopKView(now.services).add(row.protocol << 16 | min(row.sport, row.dport), octets)


__all__ = ["begin_row", "count", "end_row", "sketches", "totals", "turn"]

"""Who sends: exporters, found by address and observation domain; what their sequence numbers say was lost."""

from wirespeed.apps.collector.state import CollectorView, ExporterView
from wirespeed.apps.collector.ways import claim, find, tag_of
from wirespeed.jit import cold, inline, load64

_LOW = 0xFFFF_FFFF
_LATE = 1 << 10
"""Datagrams that a network may delay one by: RFC 7011 section 10.3.2 leaves the number to the collector."""
_GAP = 1 << 16
"""A larger step is an exporter that started again."""
UNKNOWN: int = -1
"""The next sequence number after a datagram whose records could not be counted."""


@inline
def is_allowed(state: CollectorView, high: int, low: int) -> bool:
    """Whether the list of exporters has this one; without a list, everybody is on it."""
    if state.allow == 0:
        return True
    at = state.allowed
    found = False
    for _ in range(state.allowed_count):
        if high & load64(at + 16) == load64(at) and low & load64(at + 24) == load64(at + 8):
            found = True
        at += 32
    return found


@cold
def exporter_of(state: CollectorView, high: int, low: int, port: int, domain: int, kind: int) -> int:
    """Address of an exporter's entry; made if this is the first we hear of it.

    Two processes of a host may export with the same domain: RFC 7011 section 3.1 makes domains unique for an exporting
    process, so IPFIX is told apart by ``port`` too. The others are not (RFC 3954 section 5.1: source address and id).
    """
    tag = tag_of(state, high, low, domain | kind << 32 | port << 40)
    at = find(state.exporters, state.exporter_mask, 128, tag)
    if at == 0:
        at, evicted = claim(state.exporters, state.exporter_mask, 128, tag)
        state.exporters_evicted += evicted
        made = ExporterView(at)
        made.high, made.low, made.domain, made.kind, made.port = high, low, domain, kind, port
        made.sequence = UNKNOWN
    ExporterView(at).used_ms = state.now_ms
    return at


@inline
def useful(state: CollectorView, exporter: ExporterView, records: int) -> None:
    """So many of its records were read: who sends none gives way to others first."""
    if records > 0:
        exporter.records += records
        exporter.used_ns = state.now_ns


@inline
def sequence(exporter: ExporterView, number: int, step: int) -> int:
    """A datagram has this sequence number, the next should have ``step`` more; how many are missing before it.

    ``step`` below 0: nobody knows.
    """
    expected = exporter.sequence
    exporter.datagrams += 1
    gap = (number - expected) & _LOW
    missing = 0
    if expected != UNKNOWN and gap != 0:
        if gap > _LOW - _LATE:  # one that was overtaken: it is not lost after all
            exporter.lost = max(exporter.lost - max(step, 0), 0)
            return 0
        if gap < _GAP:
            missing = gap
            exporter.lost += gap
        else:
            exporter.restarts += 1
    exporter.sequence = (number + step) & _LOW if step >= 0 else UNKNOWN
    return missing


__all__ = ["UNKNOWN", "exporter_of", "is_allowed", "sequence", "useful"]

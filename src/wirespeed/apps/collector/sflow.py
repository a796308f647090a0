"""sFlow version 5: from a datagram to rows, one for each sampled packet, and to counters of interfaces.

A row's bytes are those of the sampled frame, and ``sampling`` how many such frames it stands for. An agent is known by
the address in its datagrams, not by the address they come from.
"""

from wirespeed.apps.collector.account import begin_row, end_row, totals
from wirespeed.apps.collector.exporters import exporter_of, sequence, useful
from wirespeed.apps.collector.flow import SFLOW, FlowRow, put_ipv4
from wirespeed.apps.collector.reasons import COUNT, OK, SAMPLE, SHORT, UNKNOWN_PROTOCOL, VERSION
from wirespeed.apps.collector.sampled import sampled
from wirespeed.apps.collector.state import LANE_SFLOW, CollectorView, ExporterView, InterfaceView
from wirespeed.apps.collector.ways import claim, find, tag_of
from wirespeed.jit import bswap32, cold, copy, inline, load32, load64
from wirespeed.wire.sflow import (
    ADDRESS_IPV4,
    ADDRESS_IPV6,
    COUNTER_SAMPLE,
    EXPANDED_COUNTER_SAMPLE,
    EXPANDED_FLOW_SAMPLE,
    EXTENDED_GATEWAY,
    EXTENDED_ROUTER,
    EXTENDED_SWITCH,
    FLOW_SAMPLE,
    INTERFACE_COUNTERS,
    RAW_HEADER,
    SAMPLED_IPV4,
    SAMPLED_IPV6,
    SFLOW_VERSION,
    Sflow,
    SflowExpandedFlowSample,
    SflowFlowSample,
    SflowInterface,
    SflowIpv4,
    SflowIpv6,
    SflowPart,
    SflowRawHeader,
)

_HEAD: int = Sflow.SIZE
_PART: int = SflowPart.SIZE
_FLOW: int = SflowFlowSample.SIZE
_EXPANDED: int = SflowExpandedFlowSample.SIZE
_RAW: int = SflowRawHeader.SIZE
_IPV4: int = SflowIpv4.SIZE
_IPV6: int = SflowIpv6.SIZE
_COUNTERS: int = SflowInterface.SIZE
_INTERFACE: int = InterfaceView.SIZE
_BY_INDEX = 0x3FFF_FFFF
_SALT = 0x6966 << 40  # an interface's tag is never an exporter's
_MOST_RECORDS = 64
"""Records of a sample that are looked at: agents send three or four."""


@inline
def word(at: int) -> int:
    """32 bits in network order."""
    return bswap32(load32(at))


@cold
def serve_sflow(state: CollectorView, at: int, length: int) -> int:
    """A datagram of sFlow, of 4 bytes at least: 0, or minus the number of the first reason of a refusal."""
    end = at + length
    if word(at) != SFLOW_VERSION:
        return state.refuse(VERSION)
    at, scratch = _address(at + 4, end, state.scratch)
    if at == 0 or end - at < _HEAD:
        return state.refuse(SHORT)
    head = Sflow(at)
    count = head.samples
    at += _HEAD
    if count * _PART > end - at:
        return state.refuse(COUNT)
    agent = exporter_of(state, load64(scratch), load64(scratch + 8), 0, head.sub_agent, SFLOW)
    exporter = ExporterView(agent)
    lane = totals(state, LANE_SFLOW)
    lane.datagrams += 1
    lane.octets_received += length
    lane.lost += sequence(exporter, head.sequence, 1)
    first = OK
    for _ in range(count):
        if end - at < _PART:
            return -state.note(first, SAMPLE)
        part = SflowPart(at)
        kind, size = part.format, part.length
        at += _PART
        if size > end - at:
            return -state.note(first, SAMPLE)
        reason = OK
        if kind in (FLOW_SAMPLE, EXPANDED_FLOW_SAMPLE):
            reason = _flow(state, exporter, at, at + size, kind == EXPANDED_FLOW_SAMPLE)
        elif kind in (COUNTER_SAMPLE, EXPANDED_COUNTER_SAMPLE):
            reason = _counters(state, exporter, at, at + size, 12 if kind == COUNTER_SAMPLE else 16)
        if reason != OK:
            first = state.note(first, reason)
        else:
            useful(state, exporter, 1)
        at += size
    return -first


@inline
def _address(at: int, end: int, out: int) -> tuple[int, int]:
    """Copy an address and its type to ``out``, as rows have addresses; where it ends (0: it is none), and ``out``."""
    if end - at < 4:
        return 0, out
    kind = word(at)
    if kind == ADDRESS_IPV4 and end - at >= 8:
        put_ipv4(out, load32(at + 4))
        return at + 8, out
    if kind == ADDRESS_IPV6 and end - at >= 20:
        copy(out, at + 4, 16)
        return at + 20, out
    return 0, out


@cold
def _flow(state: CollectorView, exporter: ExporterView, at: int, end: int, expanded: bool) -> int:
    """A flow sample: OK, or why it is refused."""
    if end - at < (_EXPANDED if expanded else _FLOW):
        return SAMPLE
    row = begin_row(state, exporter)
    row.packets = 1
    if expanded:
        wide = SflowExpandedFlowSample(at)
        row.sampling, count = wide.rate, wide.records
        row.input = wide.input if wide.input_format == 0 else 0
        row.output = wide.output if wide.output_format == 0 else 0
        at += _EXPANDED
    else:
        sample = SflowFlowSample(at)
        row.sampling, count = sample.rate, sample.records
        row.input, row.output = _index(sample.input), _index(sample.output)
        at += _FLOW
    row.start_ms = row.end_ms = state.now_ms
    reason, seen = OK, 0
    for _ in range(min(count, _MOST_RECORDS)):
        if end - at < _PART:
            return SAMPLE
        part = SflowPart(at)
        kind, size = part.format, part.length
        at += _PART
        if size > end - at:
            return SAMPLE
        if kind in (RAW_HEADER, SAMPLED_IPV4, SAMPLED_IPV6):
            seen += 1
            reason = reason or _packet(row, kind, at, at + size)
        else:
            _more(row, kind, at, at + size)
        at += size
    if reason == OK and seen == 0:
        reason = UNKNOWN_PROTOCOL
    return reason or end_row(state, LANE_SFLOW, row)


@inline
def _index(interface: int) -> int:
    """An interface's SNMP index; 0 when it is several, or none."""
    return interface if interface < _BY_INDEX else 0


@cold
def _packet(row: FlowRow, kind: int, at: int, end: int) -> int:
    """What a record says of the packet."""
    if kind == RAW_HEADER:
        if end - at < _RAW:
            return SAMPLE
        raw = SflowRawHeader(at)
        size = raw.header_length
        if size > end - at - _RAW:
            return SAMPLE
        row.octets = raw.frame_length
        return sampled(row, raw.protocol, at + _RAW, at + _RAW + size)
    if kind == SAMPLED_IPV4:
        if end - at < _IPV4:
            return SAMPLE
        four = SflowIpv4(at)
        put_ipv4(row.address, load32(at + 8))
        put_ipv4(row.address + 16, load32(at + 12))
        row.octets, row.protocol, row.sport, row.dport = four.length, four.protocol, four.sport, four.dport
        row.tcp_flags, row.tos = four.tcp_flags, four.tos
        return OK
    if end - at < _IPV6:
        return SAMPLE
    six = SflowIpv6(at)
    copy(row.address, at + 8, 16)
    copy(row.address + 16, at + 24, 16)
    row.octets, row.protocol, row.sport, row.dport = six.length, six.protocol, six.sport, six.dport
    row.tcp_flags, row.tos = six.tcp_flags, six.priority
    return OK


@cold
def _more(row: FlowRow, kind: int, at: int, end: int) -> None:
    """What the switch or router did with the packet, if this record says so and is whole."""
    if kind == EXTENDED_SWITCH and end - at >= 16:
        row.vlan = word(at)
    elif kind in (EXTENDED_ROUTER, EXTENDED_GATEWAY):
        at, _ = _address(at, end, row.address + 112)
        if at != 0 and kind == EXTENDED_ROUTER and end - at >= 8:
            row.src_mask, row.dst_mask = word(at), word(at + 4)
        elif at != 0 and kind == EXTENDED_GATEWAY and end - at >= 8:
            row.src_as = word(at + 4)


@cold
def _counters(state: CollectorView, exporter: ExporterView, at: int, end: int, head: int) -> int:
    """A counter sample, whose records begin ``head`` bytes behind ``at``: OK, or why it is refused."""
    if end - at < head:
        return SAMPLE
    count = word(at + head - 4)
    at += head
    for _ in range(min(count, _MOST_RECORDS)):
        if end - at < _PART:
            return SAMPLE
        part = SflowPart(at)
        kind, size = part.format, part.length
        at += _PART
        if size > end - at:
            return SAMPLE
        if kind == INTERFACE_COUNTERS and size >= _COUNTERS:
            _interface(state, exporter, SflowInterface(at))
        at += size
    totals(state, LANE_SFLOW).samples += 1
    return OK


@cold
def _interface(state: CollectorView, exporter: ExporterView, told: SflowInterface) -> None:
    """Keep an interface's counters as they are told."""
    index = told.index
    tag = tag_of(state, exporter.tag, index, _SALT)
    at = find(state.interfaces, state.interface_mask, _INTERFACE, tag)
    if at == 0:
        at, evicted = claim(state.interfaces, state.interface_mask, _INTERFACE, tag)
        state.interfaces_evicted += evicted
    kept = InterfaceView(at)
    kept.used_ns = state.now_ns
    kept.high, kept.low, kept.index = exporter.high, exporter.low, index
    kept.speed, kept.status = told.speed, told.status
    kept.in_octets, kept.out_octets = told.in_octets, told.out_octets
    kept.in_packets = told.in_unicast + told.in_multicast + told.in_broadcast
    kept.out_packets = told.out_unicast + told.out_multicast + told.out_broadcast
    kept.in_errors, kept.out_errors = told.in_errors, told.out_errors
    kept.in_discards, kept.out_discards = told.in_discards, told.out_discards


__all__ = ["serve_sflow"]

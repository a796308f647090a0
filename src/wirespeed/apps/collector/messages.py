"""NetFlow version 5, version 9 and IPFIX: from a datagram to rows."""

from wirespeed.apps.collector.account import begin_row, end_row, totals
from wirespeed.apps.collector.exporters import exporter_of, is_allowed, sequence, useful
from wirespeed.apps.collector.flow import FlowRow, put_ipv4
from wirespeed.apps.collector.reasons import (
    COUNT,
    LENGTH,
    NO_TEMPLATE,
    OK,
    RECORD,
    SET_LENGTH,
    SHORT,
    STRANGER,
    VERSION,
)
from wirespeed.apps.collector.sflow import serve_sflow
from wirespeed.apps.collector.state import (
    LANE_IPFIX,
    LANE_NETFLOW5,
    LANE_NETFLOW9,
    CollectorView,
    ExporterView,
)
from wirespeed.apps.collector.templates import TemplateView, define_all, learn, run, settle_times, template_of
from wirespeed.jit import bswap16, cold, fill, load16, load32
from wirespeed.wire.netflow import (
    FIRST_DATA_SET,
    IPFIX,
    IPFIX_OPTIONS,
    IPFIX_TEMPLATES,
    NETFLOW5,
    NETFLOW9,
    NETFLOW9_OPTIONS,
    NETFLOW9_TEMPLATES,
    FlowSet,
    Ipfix,
    Netflow5,
    Netflow5Record,
    Netflow9,
)

NETFLOW5_RECORDS: int = 30
"""Of a message of version 5; what says more was not sent by one."""
_SAMPLING5 = 0x3FFF
_HEAD5: int = Netflow5.SIZE
_RECORD5: int = Netflow5Record.SIZE
_HEAD9: int = Netflow9.SIZE
_HEAD10: int = Ipfix.SIZE
_SET: int = FlowSet.SIZE
_ROW: int = FlowRow.SIZE


@cold
def serve_flows(address: int, high: int, low: int, port: int, at: int, length: int) -> int:
    """A datagram of NetFlow, IPFIX or sFlow, whichever its version says.

    Args:
        address: of this worker's record.
        high, low: the sender's address as it lies in memory, IPv4 as ::ffff:a.b.c.d.
        port: its UDP port.
        at, length: the datagram's payload; nothing outside is read.

    Returns:
        0, or minus the number of the first reason why something in it was refused.
    """
    state = CollectorView(address)
    if not is_allowed(state, high, low):
        return state.refuse(STRANGER)
    if length < 4:
        return state.refuse(SHORT)
    version = bswap16(load16(at))
    if version == NETFLOW9:
        return _netflow9(state, high, low, at, length)
    if version == IPFIX:
        return _ipfix(state, high, low, port, at, length)
    if version == NETFLOW5:
        return _netflow5(state, high, low, at, length)
    if version == 0:  # sFlow's version has 32 bits
        return serve_sflow(state, at, length)
    return state.refuse(VERSION)


@cold
def _netflow5(state: CollectorView, high: int, low: int, at: int, length: int) -> int:
    if length < _HEAD5:
        return state.refuse(SHORT)
    message = Netflow5(at)
    count = message.count
    if count == 0 or count > NETFLOW5_RECORDS or length < _HEAD5 + count * _RECORD5:
        return state.refuse(COUNT)
    domain = message.engine_type << 8 | message.engine_id
    exporter = ExporterView(exporter_of(state, high, low, 0, domain, NETFLOW5))
    export_ms = message.seconds * 1000 + message.nanoseconds // 1_000_000
    exporter.boot_ms = export_ms - message.uptime_ms
    exporter.sampling = message.sampling & _SAMPLING5
    lane = totals(state, LANE_NETFLOW5)
    lane.datagrams += 1
    lane.octets_received += length
    lane.lost += sequence(exporter, message.sequence, count)
    first = OK
    for index in range(count):
        record = Netflow5Record(at + _HEAD5 + index * _RECORD5)
        row = begin_row(state, exporter)
        put_ipv4(row.address, load32(record.address))
        put_ipv4(row.address + 16, load32(record.address + 4))
        put_ipv4(row.address + 112, load32(record.address + 8))
        row.sport, row.dport, row.protocol = record.sport, record.dport, record.protocol
        row.octets, row.packets = record.octets, record.packets
        row.start_ms, row.end_ms, row.relative = record.first_ms, record.last_ms, 3
        row.input, row.output = record.input, record.output
        row.src_as, row.dst_as = record.src_as, record.dst_as
        row.src_mask, row.dst_mask = record.src_mask, record.dst_mask
        row.tos, row.tcp_flags = record.tos, record.tcp_flags
        settle_times(row, exporter.boot_ms, export_ms)
        reason = end_row(state, LANE_NETFLOW5, row)
        if reason != OK:
            first = state.note(first, reason)
    useful(state, exporter, count)
    return -first


@cold
def _netflow9(state: CollectorView, high: int, low: int, at: int, length: int) -> int:
    if length < _HEAD9:
        return state.refuse(SHORT)
    message = Netflow9(at)
    exporter = ExporterView(exporter_of(state, high, low, 0, message.source, NETFLOW9))
    export_ms = message.seconds * 1000
    exporter.boot_ms = export_ms - message.uptime_ms
    lane = totals(state, LANE_NETFLOW9)
    lane.datagrams += 1
    lane.octets_received += length
    lane.lost += sequence(exporter, message.sequence, 1)
    _, reason = _sets(
        state, LANE_NETFLOW9, exporter, at + _HEAD9, at + length, NETFLOW9_TEMPLATES, NETFLOW9_OPTIONS, export_ms
    )
    return -reason


@cold
def _ipfix(state: CollectorView, high: int, low: int, port: int, at: int, length: int) -> int:
    if length < _HEAD10:
        return state.refuse(SHORT)
    message = Ipfix(at)
    if message.length != length:  # RFC 7011 section 10.3.3: one message a datagram
        return state.refuse(LENGTH)
    exporter = ExporterView(exporter_of(state, high, low, port, message.domain, IPFIX))
    lane = totals(state, LANE_IPFIX)
    lane.datagrams += 1
    lane.octets_received += length
    number = message.sequence
    records, reason = _sets(
        state,
        LANE_IPFIX,
        exporter,
        at + _HEAD10,
        at + length,
        IPFIX_TEMPLATES,
        IPFIX_OPTIONS,
        message.seconds * 1000,
    )
    lane.lost += sequence(exporter, number, records)
    return -reason


@cold
def _sets(
    state: CollectorView, lane: int, exporter: ExporterView, at: int, end: int, templates: int, options: int,
    export_ms: int,
) -> tuple[int, int]:  # fmt: skip
    """All sets of a message: how many records (-1: some could not be counted), and the first reason of a refusal."""
    records, first = 0, OK
    while end - at >= _SET:
        flow_set = FlowSet(at)
        number, size = flow_set.id, flow_set.length
        if size < _SET or size > end - at:
            return -1, state.note(first, SET_LENGTH)
        start, stop = at + _SET, at + size
        if number >= FIRST_DATA_SET:
            count, reason = _data(state, lane, exporter, number, start, stop, export_ms)
            first = first or reason
            records = -1 if count < 0 or records < 0 else records + count
        elif number in (templates, options):
            reason = define_all(state, exporter, start, stop, 1 if number == options else 0)
            first = first or reason
        # other identifiers are reserved: RFC 7011 section 3.3.2 has them ignored
        at += size
    return records, first


@cold
def _data(
    state: CollectorView, lane: int, exporter: ExporterView, number: int, at: int, end: int, export_ms: int
) -> tuple[int, int]:
    """A set of records: how many (-1: nobody knows), and the first reason of a refusal."""
    program = template_of(state, exporter, number)
    if program == 0:
        return -1, -state.refuse(NO_TEMPLATE)
    template = TemplateView(program)
    minimum, options = template.minimum, template.options
    count, first = 0, OK
    while end - at >= minimum:  # what is less is padding
        row = FlowRow(state.scratch)
        if options == 0:
            row = begin_row(state, exporter)
        else:
            fill(row.address, 0, _ROW)
        at = run(program, at, end, row.address, export_ms)
        if at == 0:
            count = -1
            first = state.note(first, RECORD)
            break
        count += 1
        if options != 0:
            learn(exporter, row)
            totals(state, lane).samples += 1
            continue
        settle_times(row, row.boot_ms if row.boot_ms > 0 else exporter.boot_ms, export_ms)
        reason = end_row(state, lane, row)
        if reason != OK:
            first = state.note(first, reason)
    template.records += max(count, 0)
    useful(state, exporter, count)
    return count, first


__all__ = ["NETFLOW5_RECORDS", "serve_flows"]

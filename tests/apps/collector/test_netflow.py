"""NetFlow 5 and 9 and IPFIX against scapy's messages, RFC 7011's examples, a model, and hostile bytes."""

import ipaddress
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.netflow import (
    NetflowDataflowsetV9,
    NetflowFlowsetV9,
    NetflowHeader,
    NetflowHeaderV5,
    NetflowHeaderV9,
    NetflowHeaderV10,
    NetflowOptionsFlowsetOptionV9,
    NetflowOptionsFlowsetScopeV9,
    NetflowOptionsFlowsetV9,
    NetflowRecordV5,
    NetflowRecordV9,
    NetflowTemplateFieldV9,
    NetflowTemplateV9,
)

from wirespeed.apps.collector.flow import shown
from wirespeed.apps.collector.state import ExporterView
from wirespeed.apps.collector.templates import STEPS, TEMPLATE_BYTES

NOW_S = 1_700_000_000
FIELDS = [(8, 4), (12, 4), (7, 2), (11, 2), (4, 1), (1, 4), (2, 4), (22, 4), (21, 4), (10, 2), (14, 2), (5, 1), (6, 1)]


def record(number=1, octets=1500, packets=3):
    """A record of FIELDS."""
    return struct.pack(
        "!4s4sHHBIIIIHHBB", bytes([10, 0, 0, number]), bytes([10, 0, 1, 1]), 40000 + number, 443, 6, octets, packets,
        59_000, 59_900, 3, 4, 0x10, 0x1B,
    )  # fmt: skip


def flow_set(number, body):
    """A set, padded to four bytes."""
    body += bytes(-len(body) % 4)
    return struct.pack("!HH", number, 4 + len(body)) + body


def template(number, fields):
    return struct.pack("!HH", number, len(fields)) + b"".join(struct.pack("!HH", *field) for field in fields)


def nine(*sets, sequence=0, source=7, uptime=60_000):
    return struct.pack("!HHIIII", 9, len(sets), uptime, NOW_S, sequence, source) + b"".join(sets)


def ten(*sets, sequence=0, domain=7):
    body = b"".join(sets)
    return struct.pack("!HHIII", 10, 16 + len(body), NOW_S, sequence, domain) + body


KINDS = {"netflow9": (nine, 0, 1), "ipfix": (ten, 2, 3)}


# What is right ------------------------------------------------------------------------------------------------


def test_version_5(rig):
    flows = [
        NetflowRecordV5(
            src=f"10.0.0.{i}", dst="10.0.1.1", nexthop="10.0.2.1", input=3, output=4, dpkts=2, dOctets=3000 + i,
            first=50_000, last=59_000, srcport=1000 + i, dstport=443, tcpFlags=0x12, prot=6, tos=8, src_as=65001,
            dst_as=65002, src_mask=24, dst_mask=16,
        )
        for i in range(1, 4)
    ]  # fmt: skip
    message = NetflowHeader(version=5) / NetflowHeaderV5(
        count=3, sysUptime=60_000, unixSecs=NOW_S, flowSequence=100, engineID=2, samplingInterval=0x4000 | 10
    )
    for flow in flows:
        message /= flow
    assert rig.feed(message) == ""
    rows = rig.rows()
    assert [shown(bytes(row["src"])) for row in rows] == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    row = rows[0]
    assert (shown(bytes(row["dst"])), shown(bytes(row["next_hop"]))) == ("10.0.1.1", "10.0.2.1")
    assert (row["sport"], row["dport"], row["protocol"], row["octets"], row["packets"]) == (1001, 443, 6, 3001, 2)
    assert (row["start_ms"], row["end_ms"]) == (NOW_S * 1000 - 10_000, NOW_S * 1000 - 1000)
    assert (row["input"], row["output"], row["src_as"], row["dst_as"]) == (3, 4, 65001, 65002)
    assert (row["src_mask"], row["dst_mask"], row["tos"], row["tcp_flags"]) == (24, 16, 8, 0x12)
    assert (row["sampling"], row["domain"], row["kind"]) == (10, 2, 5)
    assert shown(bytes(row["exporter"])) == "192.0.2.1"
    sums = rig.totals("netflow5")
    assert (sums.datagrams, sums.flows, sums.octets, sums.packets) == (1, 3, 10 * 9006, 10 * 6)
    assert sums.octets_received == len(bytes(message))


def test_uptime_that_started_again(rig):
    """Uptime has 32 bits: a flow that began before it passed them."""
    flow = NetflowRecordV5(first=0xFFFF_FFFF - 999, last=500, dpkts=1, dOctets=1)
    assert rig.feed(NetflowHeader(version=5) / NetflowHeaderV5(count=1, sysUptime=1000, unixSecs=NOW_S) / flow) == ""
    (row,) = rig.rows()
    assert (row["start_ms"], row["end_ms"]) == (NOW_S * 1000 - 2000, NOW_S * 1000 - 500)


def test_version_9_as_scapy_makes_it(rig):
    fields = [NetflowTemplateFieldV9(fieldType=kind, fieldLength=size) for kind, size in FIELDS]
    message = (
        NetflowHeader(version=9)
        / NetflowHeaderV9(count=2, sysUptime=60_000, unixSecs=NOW_S, packageSequence=5, SourceID=7)
        / NetflowFlowsetV9(templates=[NetflowTemplateV9(templateID=256, template_fields=fields)])
        / NetflowDataflowsetV9(templateID=256, records=[NetflowRecordV9(fieldValue=record(i)) for i in (1, 2)])
    )
    assert rig.feed(message) == ""
    rows = rig.rows()
    assert [shown(bytes(row["src"])) for row in rows] == ["10.0.0.1", "10.0.0.2"]
    row = rows[1]
    assert (row["sport"], row["dport"], row["protocol"], row["octets"], row["packets"]) == (40002, 443, 6, 1500, 3)
    assert (row["start_ms"], row["end_ms"]) == (NOW_S * 1000 - 1000, NOW_S * 1000 - 100)
    assert (row["input"], row["output"], row["tos"], row["tcp_flags"], row["kind"]) == (3, 4, 0x10, 0x1B, 9)


def test_ipfix_as_scapy_makes_it(rig):
    fields = [NetflowTemplateFieldV9(fieldType=kind, fieldLength=size) for kind, size in FIELDS[:7]]
    data = struct.pack("!4s4sHHBII", bytes([10, 0, 0, 9]), bytes([10, 0, 1, 1]), 53, 5353, 17, 512, 4)
    message = (
        NetflowHeader(version=10)
        / NetflowHeaderV10(ExportTime=NOW_S, flowSequence=0, ObservationDomainID=7)
        / NetflowFlowsetV9(flowSetID=2, templates=[NetflowTemplateV9(templateID=300, template_fields=fields)])
        / NetflowDataflowsetV9(templateID=300, records=[NetflowRecordV9(fieldValue=data)])
    )
    data = bytearray(bytes(message))
    data[2:4] = len(data).to_bytes(2, "big")
    assert rig.feed(data) == ""
    (row,) = rig.rows()
    assert (shown(bytes(row["src"])), row["sport"], row["octets"], row["kind"]) == ("10.0.0.9", 53, 512, 10)


def test_options_of_version_9_say_how_it_samples(rig):
    options = NetflowOptionsFlowsetV9(
        templateID=258, option_scope_length=4, option_field_length=8,
        scopes=[NetflowOptionsFlowsetScopeV9(scopeFieldType=1, scopeFieldlength=4)],
        options=[
            NetflowOptionsFlowsetOptionV9(optionFieldType=34, optionFieldlength=4),
            NetflowOptionsFlowsetOptionV9(optionFieldType=35, optionFieldlength=1),
        ],
    )  # fmt: skip
    header = NetflowHeader(version=9) / NetflowHeaderV9(count=1, unixSecs=NOW_S, SourceID=7)
    assert rig.feed(header / options) == ""
    sets = flow_set(258, struct.pack("!IIB", 1, 512, 2)), flow_set(0, template(256, FIELDS)), flow_set(256, record())
    assert rig.feed(nine(*sets, sequence=1)) == ""
    (row,) = rig.rows()
    assert row["sampling"] == 512
    assert rig.totals("netflow9").octets == 512 * 1500
    assert rig.totals("netflow9").samples == 1


def test_options_of_ipfix(rig):
    """Packet interval and space, RFC 5476 section 6.5.2.1, and the time that uptimes count from."""
    options = struct.pack("!HHH", 400, 4, 1) + struct.pack("!8H", 149, 4, 305, 4, 306, 4, 160, 8)
    boot_ms = NOW_S * 1000 - 60_000
    data = struct.pack("!IIIQ", 7, 1, 99, boot_ms)
    sets = flow_set(3, options), flow_set(400, data), flow_set(2, template(256, FIELDS)), flow_set(256, record())
    assert rig.feed(ten(*sets)) == ""
    (row,) = rig.rows()
    assert (row["sampling"], row["start_ms"]) == (100, boot_ms + 59_000)


def test_variable_lengths(rig):
    """RFC 7011 section 7: short and long form, before and behind fields that a row has."""
    fields = [(8, 4), (95, 0xFFFF), (1, 8), (96, 0xFFFF), (2, 3)]
    head = flow_set(2, template(500, fields))

    def one(number, name, text):
        sizes = [
            bytes([len(part)]) if len(part) < 255 else b"\xff" + struct.pack("!H", len(part)) for part in (name, text)
        ]
        return (
            bytes([10, 0, 0, number]) + sizes[0] + name + struct.pack("!Q", 1000 + number) + sizes[1] + text + b"\0\0\5"
        )

    body = one(1, b"", b"http") + one(2, b"x" * 254, b"y" * 300) + one(3, b"z" * 255, b"")
    message = ten(head, struct.pack("!HH", 500, 4 + len(body)) + body)
    assert rig.feed(message) == ""
    assert [(shown(bytes(r["src"])), r["octets"], r["packets"]) for r in rig.rows()] == [
        ("10.0.0.1", 1001, 5), ("10.0.0.2", 1002, 5), ("10.0.0.3", 1003, 5)
    ]  # fmt: skip


def test_enterprise_fields_are_stepped_over(rig):
    """RFC 7011 section 3.2: the number of an enterprise's field 1 is not that of octetDeltaCount."""
    specifiers = struct.pack("!HH", 8, 4) + struct.pack("!HHI", 0x8001, 8, 29305) + struct.pack("!HH", 1, 4)
    message = ten(
        flow_set(2, struct.pack("!HH", 256, 3) + specifiers),
        flow_set(256, bytes([10, 0, 0, 1]) + bytes([0xAA] * 8) + struct.pack("!I", 77)),
    )
    assert rig.feed(message) == ""
    (row,) = rig.rows()
    assert row["octets"] == 77


@pytest.mark.parametrize(
    ("fields", "data"),
    [
        ([(150, 4), (151, 4)], struct.pack("!II", NOW_S - 5, NOW_S - 2)),
        ([(152, 8), (153, 8)], struct.pack("!QQ", NOW_S * 1000 - 5000, NOW_S * 1000 - 2000)),
        ([(154, 8), (155, 8)], struct.pack("!IIII", NOW_S - 5 + 2_208_988_800, 0, NOW_S - 2 + 2_208_988_800, 0)),
        ([(156, 8), (157, 8)], struct.pack("!IIII", NOW_S - 5 + 2_208_988_800, 0, NOW_S - 2 + 2_208_988_800, 0)),
        ([(158, 4), (159, 4)], struct.pack("!II", 5_000_000, 2_000_000)),
    ],
)
def test_times(rig, fields, data):
    assert rig.feed(ten(flow_set(2, template(256, fields)), flow_set(256, data))) == ""
    (row,) = rig.rows()
    assert (row["start_ms"], row["end_ms"]) == (NOW_S * 1000 - 5000, NOW_S * 1000 - 2000)


def test_top_talkers_and_distinct_hosts(rig):
    sets = [flow_set(0, template(256, FIELDS))]
    sets += [flow_set(256, record(1 + i % 5, octets=100 * (1 + i % 5))) for i in range(20)]
    assert rig.feed(nine(*sets)) == ""
    sketches, workers = rig.collector.sketches_of(rig.collector.window)
    top = [(shown(item.key), item.count) for item in sketches["sources"].most_common(2, workers)]
    assert top == [("10.0.0.5", 2000), ("10.0.0.4", 1600)]
    assert round(sketches["source_count"].estimate(workers)) == 5
    assert round(sketches["destination_count"].estimate(workers)) == 1
    assert [item.key for item in sketches["services"].most_common(1, workers)] == [6 << 16 | 443]


def test_windows(rig):
    """What ended stays as it is; the next begins empty, whether or not anything came in between."""
    rig.feed(nine(flow_set(0, template(256, FIELDS)), flow_set(256, record(1))))
    first = rig.collector.end_window()
    rig.feed(nine(flow_set(256, record(2)), sequence=1))

    def talkers(window):
        sketches, workers = rig.collector.sketches_of(window)
        return [shown(item.key) for item in sketches["sources"].most_common(workers=workers)]

    assert (talkers(first), talkers(rig.collector.window)) == (["10.0.0.1"], ["10.0.0.2"])
    second = rig.collector.end_window()
    assert talkers(second) == ["10.0.0.2"]
    third = rig.collector.end_window()
    assert talkers(third) == []
    rig.feed(nine(flow_set(256, record(3)), sequence=2))
    assert talkers(rig.collector.window) == ["10.0.0.3"]
    assert talkers(third) == []


# Sequence numbers, exporters, templates -----------------------------------------------------------------------


def exporters(rig):
    view = rig.collector.views[0]
    entries = [ExporterView(view.exporters + 128 * i) for i in range(4 * (view.exporter_mask + 1))]
    return [entry for entry in entries if entry.tag]


def test_lost_datagrams_are_counted(rig):
    for sequence in (10, 11, 14, 13, 15):
        rig.feed(nine(flow_set(0, template(256, FIELDS)), sequence=sequence))
    (exporter,) = exporters(rig)
    assert (exporter.lost, exporter.restarts, exporter.datagrams) == (1, 0, 5)  # 12; 13 came late
    rig.feed(nine(sequence=5_000_000))
    assert (exporter.lost, exporter.restarts) == (1, 1)


def test_lost_records_of_ipfix_are_counted(rig):
    data = flow_set(256, record(1) + record(2))
    assert rig.feed(ten(flow_set(2, template(256, FIELDS)), data, sequence=0)) == ""
    assert rig.feed(ten(data, sequence=2)) == ""
    assert rig.feed(ten(data, sequence=10)) == ""
    (exporter,) = exporters(rig)
    assert (exporter.lost, exporter.records, rig.totals("ipfix").lost) == (6, 6, 6)


@pytest.mark.parametrize("kind", KINDS)
def test_templates_are_each_exporters_own(rig, kind):
    message, templates, _ = KINDS[kind]
    known = message(flow_set(templates, template(256, FIELDS)))
    data = flow_set(256, record())
    assert rig.feed(known) == ""
    assert rig.feed(message(data, sequence=1), source="192.0.2.2") == "no-template"
    other = nine(data, source=8) if kind == "netflow9" else ten(data, domain=8)
    assert rig.feed(other) == "no-template"
    assert rig.feed(message(data, sequence=1), port=4001) == ("no-template" if kind == "ipfix" else "")
    assert rig.feed(message(data, sequence=1)) == ""
    assert rig.refusals() == {"no-template": 3 if kind == "ipfix" else 2}


def test_a_template_holds_for_its_time(make):
    rig = make(template_timeout_s=100)
    start = 10**12
    rig.feed(nine(flow_set(0, template(256, FIELDS))))
    rig.collector.tick(start + 99 * 10**9, 0)
    assert rig.feed(nine(flow_set(256, record()), sequence=1)) == ""
    rig.collector.tick(start + 101 * 10**9, 0)
    assert rig.feed(nine(flow_set(256, record()), sequence=2)) == "no-template"
    assert rig.collector.views[0].templates_expired == 1
    assert rig.feed(nine(flow_set(0, template(256, FIELDS)), flow_set(256, record()), sequence=3)) == ""


def test_a_template_comes_again_and_is_another(rig):
    rig.feed(nine(flow_set(0, template(256, [(1, 4), (2, 4)]))))
    rig.feed(nine(flow_set(256, struct.pack("!II", 5, 6)), sequence=1))
    rig.feed(nine(flow_set(0, template(256, [(2, 4), (1, 4)])), sequence=2))
    rig.feed(nine(flow_set(256, struct.pack("!II", 5, 6)), sequence=3))
    assert [(row["octets"], row["packets"]) for row in rig.rows()] == [(5, 6), (6, 5)]


def test_a_flood_of_templates_leaves_those_in_use(make):
    """Strangers fill the table; who is used stays."""
    rig = make(templates=16, exporters=1024)
    rig.feed(nine(flow_set(0, template(256, FIELDS))))
    for i in range(200):
        rig.collector.tick(10**12 + i, 0)
        assert rig.feed(nine(flow_set(256, record()), sequence=1 + i)) == ""
        stranger = f"198.51.100.{i}"
        rig.feed(nine(*(flow_set(0, template(256 + n, [(1, 4)])) for n in range(3))), source=stranger)
    view = rig.collector.views[0]
    assert view.templates_evicted > 500
    used = [i for i in range(16) if ExporterView(view.templates + TEMPLATE_BYTES * i).tag]
    assert len(used) == 16


def test_a_flood_of_exporters_leaves_those_who_send_records(make):
    rig = make(exporters=16)
    options = flow_set(1, struct.pack("!HHHHHHH", 257, 4, 4, 1, 4, 34, 4)), flow_set(257, struct.pack("!II", 1, 50))
    assert rig.feed(nine(GOOD9, *options)) == ""
    for i in range(1, 200):
        rig.collector.tick(10**12 + i, 0)
        rig.feed(nine(flow_set(256, b"?"), source=i), source=f"198.51.100.{i}")
    assert rig.collector.views[0].exporters_evicted > 150
    assert rig.feed(nine(flow_set(256, record()), sequence=1)) == ""
    assert [row["sampling"] for row in rig.rows()] == [50]


def test_only_listed_exporters(make):
    rig = make(allow=["192.0.2.0/24", "2001:db8::/32"])
    message = nine(flow_set(0, template(256, FIELDS)))
    assert rig.feed(message) == ""
    assert rig.feed(message, source="2001:db8:7::1") == ""
    assert rig.feed(message, source="192.0.3.1") == "stranger"
    assert rig.feed(message, source="2001:db9::1") == "stranger"
    assert rig.refusals() == {"stranger": 2}


def test_a_full_ring_loses_rows_not_counts(make):
    rig = make(rows=4)
    assert rig.feed(nine(flow_set(0, template(256, FIELDS)), flow_set(256, b"".join(map(record, range(6)))))) == ""
    assert [shown(bytes(row["src"])) for row in rig.rows()] == [f"10.0.0.{i}" for i in range(4)]
    assert rig.collector.views[0].rows_lost == 2
    assert rig.totals("netflow9").flows == 6
    rig.feed(nine(flow_set(256, record(9)), sequence=1))
    assert [shown(bytes(row["src"])) for row in rig.rows()] == ["10.0.0.9"]


# What is wrong ------------------------------------------------------------------------------------------------

GOOD9 = flow_set(0, template(256, FIELDS))


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"", "short"),
        (b"\0\5\0", "short"),
        (b"\0\5\0\1" + bytes(19), "short"),
        (b"\0\x09" + bytes(17), "short"),
        (b"\0\x0a" + bytes(13), "short"),
        (b"\0\7" + bytes(40), "version"),
        (struct.pack("!HH", 5, 0) + bytes(68), "count"),
        (struct.pack("!HH", 5, 31) + bytes(20 + 31 * 48), "count"),
        (struct.pack("!HH", 5, 2) + bytes(20 + 95), "count"),
        (ten(flow_set(2, template(256, FIELDS))) + b"\0", "length"),
        (ten(flow_set(2, template(256, FIELDS)))[:-1], "length"),
        (nine(struct.pack("!HH", 0, 3)), "set-length"),
        (nine(struct.pack("!HH", 256, 5)), "set-length"),
        (nine(flow_set(0, template(256, FIELDS)[:-2])[:-2] + b""), "set-length"),
        (nine(flow_set(0, struct.pack("!HHHH", 256, 2, 1, 4))), "template"),
        (nine(flow_set(0, template(255, FIELDS))), "template"),
        (nine(flow_set(0, template(256, []))), "template"),
        (nine(flow_set(0, template(256, [(1, 0), (2, 0)]))), "template"),
        (nine(flow_set(0, template(256, [(1, 0xFFFF), (2, 0xFFFF)]))), "template"),
        (ten(flow_set(2, template(256, []))), "withdrawal"),
        (ten(flow_set(2, struct.pack("!HHHH", 256, 1, 0x8001, 4))), "template"),
        (ten(flow_set(3, struct.pack("!HHHHH", 256, 1, 0, 34, 4))), "template"),
        (ten(flow_set(3, struct.pack("!HHHHH", 256, 1, 2, 34, 4))), "template"),
        (nine(flow_set(1, struct.pack("!HHHHHH", 256, 3, 4, 1, 4, 34))), "template"),
        (nine(flow_set(0, template(256, [(1, 1)] * (STEPS + 1)))), "template-large"),
        (nine(flow_set(256, record())), "no-template"),
        (nine(flow_set(0, template(256, [(1, 8)])), flow_set(256, struct.pack("!Q", 1 << 45))), "implausible"),
        (nine(flow_set(0, template(256, [(2, 8)])), flow_set(256, struct.pack("!Q", 1 << 63))), "implausible"),
        (ten(flow_set(2, template(256, [(95, 0xFFFF)])), flow_set(256, b"\x04abc")), "record"),
        (ten(flow_set(2, template(256, [(95, 0xFFFF)])), flow_set(256, b"\xff\x00\x02\x00")), "record"),
        (ten(flow_set(2, template(256, [(95, 0xFFFF), (1, 4)])), flow_set(256, b"\x05abcdef\0")), "record"),
    ],
)  # fmt: skip
def test_refusals(rig, message, reason):
    assert rig.feed(message) == reason
    assert reason in rig.refusals()
    assert rig.feed(nine(GOOD9, flow_set(256, record()), source=99)) == ""


def test_a_bad_template_replaces_a_good_one(rig):
    """Records that follow are not read by what the template was before."""
    assert rig.feed(nine(GOOD9)) == ""
    assert rig.feed(nine(flow_set(0, template(256, [(1, 0)])), sequence=1)) == "template"
    assert rig.feed(nine(flow_set(256, record()), sequence=2)) == "no-template"


def test_the_rest_of_a_message_is_read(rig):
    """A set without a template, then one with: records behind what is refused are counted."""
    sets = flow_set(300, bytes(12)), GOOD9, flow_set(256, record(1)), flow_set(17, b"????"), flow_set(256, record(2))
    assert rig.feed(nine(*sets)) == "no-template"
    assert len(rig.rows()) == 2


known = st.sampled_from(
    [(8, 4), (12, 4), (27, 16), (28, 16), (1, 8), (1, 4), (2, 3), (7, 2), (4, 1), (999, 5), (95, 0xFFFF)]
)


@given(st.lists(known, min_size=1, max_size=12), st.data())
def test_any_template_against_a_model(endless, fields, data):
    rig = endless
    wanted = {"src": bytes(16), "dst": bytes(16), "octets": 0, "packets": 0, "sport": 0, "protocol": 0}
    names = {1: "octets", 2: "packets", 7: "sport", 4: "protocol"}
    body = b""
    for element, length in fields:
        if length == 0xFFFF:
            value = data.draw(st.binary(max_size=300))
            size = bytes([len(value)]) if len(value) < 255 and data.draw(st.booleans()) else None
            body += (size or b"\xff" + struct.pack("!H", len(value))) + value
            continue
        limit = min(length, 5) if element in (1, 2) else length
        value = bytes(length - limit) + data.draw(st.binary(min_size=limit, max_size=limit))
        body += value
        if element in (8, 12):
            wanted["src" if element == 8 else "dst"] = bytes(10) + b"\xff\xff" + value
        elif element in (27, 28):
            wanted["src" if element == 27 else "dst"] = value
        elif element in names:
            wanted[names[element]] = int.from_bytes(value, "big")
    message = ten(flow_set(2, template(256, fields)), struct.pack("!HH", 256, 4 + len(body)) + body)
    rig.rows()
    assert rig.feed(message) == ""
    row = rig.rows()[0]
    assert {name: bytes(row[name]) if name in ("src", "dst") else int(row[name]) for name in wanted} == wanted
    assert ipaddress.IPv6Address(bytes(row["src"])) is not None


SEEDS = [
    nine(GOOD9, flow_set(256, record(1) + record(2)), flow_set(1, struct.pack("!HHHHHHH", 257, 4, 4, 1, 4, 34, 4))),
    ten(flow_set(2, template(256, [(8, 4), (95, 0xFFFF), (1, 4)])), flow_set(256, b"\x0a\0\0\1\3abc\0\0\0\7" * 3)),
    struct.pack("!HH", 5, 2) + bytes(20 + 96),
]


@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=8),
    st.integers(0, 200),
)
def test_mutations_are_counted_never_read_beyond(endless, seed, changes, cut):
    """Interpreted, a read outside of the datagram is an error."""
    rig = endless
    data = bytearray(seed)
    for at, value in changes:
        data[at % len(data)] = value
    if cut < 40:
        del data[len(data) - cut :]
    before = sum(rig.refusals().values())
    said = rig.feed(data)
    assert (said != "") == (sum(rig.refusals().values()) > before)
    rig.rows()


@pytest.mark.parametrize("name", ["softflowd-netflow9.txt", "softflowd-ipfix.txt"])
def test_what_softflowd_sends(rig, name):
    lines = (Path(__file__).parents[2] / "vectors" / name).read_text().splitlines()
    for line in lines:
        assert line.startswith("#") or rig.feed(bytes.fromhex(line)) == ""
    rows = [
        (shown(bytes(row["src"])), row["sport"], shown(bytes(row["dst"])), row["dport"], row["packets"], row["octets"])
        for row in rig.rows()
    ]
    wanted = [(f"10.0.0.{i}", 1000 + i, "10.0.1.1", 53, i, 128 * i) for i in range(1, 6)]
    assert rows == [*wanted, ("2001:db8::1", 4000, "2001:db8::2", 443, 1, 60)]

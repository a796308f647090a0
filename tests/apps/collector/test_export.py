"""Windows, what Prometheus reads and what Parquet files hold, of the same few datagrams."""

import struct
import urllib.request

import pyarrow.parquet as pq
import pytest
from prometheus_client.parser import text_string_to_metric_families

from wirespeed.apps.collector.collector import Collector, CollectorError
from wirespeed.apps.collector.parquet import Parquet
from wirespeed.apps.collector.prometheus import Prometheus, family_name, labels_of
from wirespeed.apps.collector.report import Reporter
from wirespeed.apps.collector.service import Keeper

NOW_MS = 1_700_000_100_000
FIELDS = [(8, 4), (12, 4), (7, 2), (11, 2), (4, 1), (1, 4), (2, 4)]


def ipfix(sequence, *records, template=False):
    data = b"".join(
        struct.pack("!4s4sHHBII", bytes([10, 0, 0, n]), bytes([10, 0, 1, 1]), 40000 + n, 443, 6, octets, 2)
        for n, octets in records
    )
    sets = struct.pack("!HH", 256, 4 + len(data)) + data
    if template:
        fields = b"".join(struct.pack("!HH", *field) for field in FIELDS)
        sets = struct.pack("!HHHH", 2, 8 + len(fields), 256, len(FIELDS)) + fields + sets
    return struct.pack("!HHIII", 10, 16 + len(sets), 1_700_000_000, sequence, 7) + sets


COUNTERS = struct.pack(
    "!I I4s 4I 2I 3I 2I IIQIIQ6IQ6I", 5, 1, bytes([192, 0, 2, 9]), 0, 1, 1000, 1, 2, 108, 1, 3, 1, 1, 88,
    3, 6, 10**10, 1, 3, 1000, 1, 2, 3, 4, 5, 6, 2000, 7, 8, 9, 10, 11, 12,
)  # fmt: skip


@pytest.fixture
def told(make):
    """A reporter whose collector was told something, ten seconds ago."""
    rig = make(talkers=64, workers=2)
    reporter = Reporter(rig.collector, top=2)
    assert rig.feed(ipfix(0, (1, 100), (2, 5000), (3, 700), template=True), port=9) == ""
    assert rig.feed(ipfix(0, (2, 50), template=True), port=10, worker=1) == ""
    assert rig.feed(COUNTERS) == ""
    assert rig.feed(b"\0\7") == "short"
    for worker in range(2):
        rig.collector.feed(b"app.hits:3|c|#zone:a\napp.wait:20|ms\napp.wait:40|ms\n7up:5|g", statsd=True, worker=worker)
    rig.collector.tick(10**12 + 10**10, NOW_MS + 10_000)
    return rig, reporter


def test_a_window(told):
    rig, reporter = told
    window = reporter.end_window()
    assert (window.start_ms, window.end_ms, window.seconds) == (NOW_MS, NOW_MS + 10_000, 10)
    assert window.lanes["ipfix"]["flows"] == 4
    assert window.rate("ipfix", "octets") == 585
    assert window.protocols == {6: {"flows": 4, "octets": 5850, "packets": 8}}
    assert {reason: n for reason, n in window.refused.items() if n} == {"short": 1}
    assert [(t.key, t.octets) for t in window.sources] == [("10.0.0.2", 5050), ("10.0.0.3", 700)]
    assert window.conversations[0].key == ("10.0.0.2", 40002, "10.0.1.1", 443, 6)
    assert [(t.key, t.octets) for t in window.services] == [((6, 443), 5850)]
    assert (round(window.distinct_sources), round(window.distinct_destinations)) == (3, 1)
    changes = {key[0]: change for key, change in window.metric_changes.items()}
    assert changes["app.hits"][:2] == (6, 2)
    assert changes["app.wait"][2].count == 4
    rig.collector.feed(b"app.wait:80|ms", statsd=True)
    rig.collector.tick(10**12 + 2 * 10**10, NOW_MS + 20_000)
    after = reporter.end_window()
    assert (after.start_ms, after.lanes["ipfix"]["flows"], after.sources, after.distinct_sources) == (
        NOW_MS + 10_000,
        0,
        [],
        0,
    )
    changes = {key[0]: change for key, change in after.metric_changes.items()}
    assert (changes["app.hits"][:2], changes["app.wait"][2].count) == ((0, 0), 1)


def test_exporters_and_interfaces(told):
    _, reporter = told
    listed = {(each.kind, each.port): each for each in reporter.exporters()}
    assert set(listed) == {("ipfix", 9), ("ipfix", 10), ("sflow", 0)}
    assert (listed["ipfix", 9].address, listed["ipfix", 9].records, listed["sflow", 0].address) == (
        "192.0.2.1",
        3,
        "192.0.2.9",
    )
    (interface,) = reporter.interfaces()
    assert (interface.agent, interface.index, interface.counters["in_octets"]) == ("192.0.2.9", 3, 1000)


def scraped(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    return {(s.name, *sorted(s.labels.items())): s.value for family in families for s in family.samples}


def test_prometheus(told):
    _, reporter = told
    served = Prometheus(reporter, "127.0.0.1", 0)
    try:
        before = scraped(served.port)
        assert before["wirespeed_collector_flows_total", ("kind", "ipfix")] == 4
        reporter.end_window()
        found = scraped(served.port)
        with pytest.raises(CollectorError, match="choose another port"):
            Prometheus(reporter, "127.0.0.1", served.port)
    finally:
        served.close()
    assert found["wirespeed_collector_refused_total", ("reason", "short")] == 1
    assert found["wirespeed_collector_protocol_octets_total", ("protocol", "6")] == 5850
    assert found["wirespeed_collector_top_sources_octets", ("address", "10.0.0.2")] == 5050
    assert round(found["wirespeed_collector_distinct_sources",]) == 3
    labels = ("domain", "7"), ("exporter", "192.0.2.1"), ("kind", "ipfix"), ("port", "9")
    assert found["wirespeed_collector_exporter_records_total", *labels] == 3
    labels = ("agent", "192.0.2.9"), ("direction", "out"), ("interface", "3")
    assert found["wirespeed_collector_interface_octets_total", *labels] == 2000
    assert found["app_hits_total", ("zone", "a")] == 6
    assert found["_7up",] == 5
    assert found["app_wait_count",] == 4
    assert found["app_wait_sum",] == pytest.approx(0.12)
    assert found["app_wait", ("quantile", "0.5")] == pytest.approx(0.02, rel=0.01)


def test_names_that_prometheus_knows():
    assert [family_name(name) for name in ("a.b-c", "9lives", "x_total", "ä", "_total")] == [
        "a_b_c",
        "_9lives",
        "x",
        "_",
        "_",
    ]
    assert labels_of(("zone:a", "v6", "1x:y", "__a:b", "quantile:c")) == {
        "zone": "a", "v6": "true", "_1x": "y", "tag__a": "b", "tagquantile": "c"
    }  # fmt: skip


def test_parquet(told, tmp_path):
    rig, reporter = told
    files = Parquet(tmp_path / "out", flows=True)
    files.write_flows(rig.rows())
    files.write_window(reporter.end_window())
    assert not list((tmp_path / "out").glob("*.parquet"))
    files.close()
    found = {path.name.split("-")[0]: pq.read_table(path).to_pylist() for path in (tmp_path / "out").glob("*.parquet")}
    assert not list((tmp_path / "out").glob("*.partial"))
    assert set(found) == {"flows", "totals", "talkers", "metrics"}
    assert sorted((row["src"], row["octets"]) for row in found["flows"]) == [
        ("10.0.0.1", 100), ("10.0.0.2", 50), ("10.0.0.2", 5000), ("10.0.0.3", 700)
    ]  # fmt: skip
    totals = {row["kind"]: row for row in found["totals"]}
    assert (totals["ipfix"]["flows"], totals["all"]["flows"], round(totals["all"]["distinct_sources"])) == (4, 4, 3)
    assert totals["all"]["end_ms"].timestamp() * 1000 == NOW_MS + 10_000
    first = next(row for row in found["talkers"] if row["by"] == "conversation")
    assert (first["rank"], first["source"], first["source_port"], first["octets"]) == (1, "10.0.0.2", 40002, 5050)
    metrics = {row["name"]: row for row in found["metrics"]}
    assert (metrics["app.hits"]["change"], metrics["app.hits"]["tags"]) == (6, ["zone:a"])
    assert metrics["app.wait"]["p50"] == pytest.approx(20, rel=0.01)
    assert metrics["app.wait"]["max"] == pytest.approx(40, rel=0.01)


def test_files_rotate(told, tmp_path):
    _, reporter = told
    files = Parquet(tmp_path, rotate_rows=6, rotate_s=0.0)
    for _ in range(3):
        files.write_window(reporter.end_window())
    assert len(list(tmp_path.glob("totals-*.parquet"))) == 3
    files.rotate()
    assert len(list(tmp_path.glob("metrics-*.parquet"))) == 2
    assert not list(tmp_path.glob("*.partial"))


def test_a_disk_that_fails_costs_files_only(told, tmp_path):
    _, reporter = told
    folder = tmp_path / "out"
    files = Parquet(folder)
    folder.rmdir()
    files.write_window(reporter.end_window())
    assert files.failures == 3
    assert "out" in files.last_failure
    folder.mkdir()
    files.write_window(reporter.end_window())
    files.close()
    assert list(folder.glob("totals-*.parquet"))


def test_keeper(told, tmp_path):
    """A window ends when its time has come, once, also after a pause; what is left is written at the end."""
    rig, reporter = told
    keeper = Keeper(reporter, window_s=1, parquet=Parquet(tmp_path, flows=True), now_ns=0)
    ended = [keeper.step(int(second * 1e9)) is not None for second in (0.5, 1.0, 1.1, 2.0, 7.3, 7.4, 8.2, 8.3)]
    assert ended == [False, True, False, True, True, False, False, True]
    rig.feed(ipfix(3, (9, 100)), port=9)
    assert [talker.key for talker in keeper.close().sources] == ["10.0.0.9"]
    assert sum(pq.read_table(path).num_rows for path in tmp_path.glob("flows-*.parquet")) == 5
    with pytest.raises(CollectorError, match="more than 0"):
        Keeper(reporter, window_s=0)


def test_what_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CollectorError, match="Parquet folder"):
        Parquet(tmp_path / "file")
    for options in ({"workers": 0}, {"talkers": 0}, {"rows": 3}, {"template_timeout_s": 0}, {"allow": ["10.0.0.1/8"]}):
        with pytest.raises(CollectorError):
            Collector(**options)

"""The doctor: every topic is there, what lacks has a remedy, and commands are shown whole."""

import io
import json
import subprocess
import sys

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from wirespeed.cli import doctor
from wirespeed.eal import hugepages, kernel, nics, perf

NIC = nics.Nic("ws0", "i40e", "up", "3c:fd:fe:00:00:01", 1500, 25000, 1, 1, 64, "0000:3b:00.1", 0, False)


@pytest.fixture
def app():
    application = typer.Typer()
    application.command()(doctor.command)
    return application


def by_topic():
    return {finding.topic: finding for finding in doctor.examine()}


def test_every_topic_is_looked_at():
    expected = {"CPU", "SIMD", "frequency governor", "cores", "isolated cores", "NUMA", "huge pages 2M"}
    expected |= {
        "transparent huge pages",
        "privileges",
        "memlock",
        "kernel",
        "AF_PACKET",
        "TUN/TAP",
        "AF_XDP",
    }
    expected |= {"AF_XDP", "BPF", "io_uring", "TSC", "performance counters", "perf_event_paranoid"}
    topics = [finding.topic for finding in doctor.examine()]
    assert expected <= set(topics)
    assert any(topic.startswith("NIC") for topic in topics)
    assert len(topics) == len(set(topics))


def test_what_could_be_better_has_a_remedy_and_what_is_well_has_none():
    for finding in doctor.examine():
        if finding.verdict in ("warn", "missing"):
            assert finding.remedy, finding
        if finding.verdict == "ok":
            assert not finding.remedy, finding


def test_no_huge_pages(monkeypatch):
    pools = (hugepages.PageSize(2 << 20, 0, 0), hugepages.PageSize(1 << 30, 0, 0))
    monkeypatch.setattr(hugepages, "page_sizes", lambda: pools)
    found = by_topic()
    assert found["huge pages 2M"].verdict == "warn"
    assert found["huge pages 2M"].remedy.startswith("sysctl -w vm.nr_hugepages=")
    assert found["huge pages 1G"].verdict == "info"
    assert doctor.suggestions()[0].startswith("huge pages 2M: sysctl -w vm.nr_hugepages=")


def test_a_missing_feature(monkeypatch):
    absent = kernel.Feature("AF_XDP", False, "not permitted", "run with CAP_NET_RAW (or as root)")
    monkeypatch.setattr(kernel, "features", lambda: (absent,))
    expected = doctor.Finding("AF_XDP", "not permitted", "missing", "run with CAP_NET_RAW (or as root)")
    assert by_topic()["AF_XDP"] == expected


def test_a_card_with_unused_queues(monkeypatch):
    monkeypatch.setattr(nics, "interfaces", lambda: (NIC,))
    monkeypatch.setattr(doctor.cores, "online", lambda *_: (0, 1, 2, 3))
    have = "i40e, up, 25 Gb/s, 1 rx queues, PCI 0000:3b:00.1, node 0"
    assert by_topic()["NIC ws0"] == doctor.Finding("NIC ws0", have, "warn", "ethtool -L ws0 combined 4")


def test_restricted_counters(monkeypatch):
    reason = "kernel.perf_event_paranoid=3: sysctl -w kernel.perf_event_paranoid=2"
    monkeypatch.setattr(perf.PerfCounters, "open", lambda: perf.PerfCounters([], (), reason))
    found = by_topic()["performance counters"]
    assert (found.have, found.remedy) == tuple(reason.split(": "))


def test_a_long_command_is_shown_whole_and_brackets_are_not_markup():
    command = "echo 1 > /sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages"
    screen = Console(file=io.StringIO(), width=60)
    screen.print(doctor.render([doctor.Finding("pages", "[red]none[/red]", "warn", command)]))
    text = screen.file.getvalue()
    assert command.replace(" ", "") in "".join(text.split())
    assert "[red]none[/red]" in text
    assert "1 could be better" in text


def test_json_is_the_findings(app):
    result = CliRunner().invoke(app, ["--json"])
    assert result.exit_code == 0
    rows = json.loads(result.stdout)
    assert {"topic", "have", "verdict", "remedy"} == set(rows[0])
    assert [row["topic"] for row in rows] == [finding.topic for finding in doctor.examine()]


def test_the_table_prints(app):
    result = CliRunner().invoke(app, [])
    assert result.exit_code == 0
    assert "performance counters" in result.stdout


def test_it_starts_without_numba():
    script = "import sys; import wirespeed.cli.doctor as d; d.examine(); print('numba' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_features_are_listed_with_what_they_are_for(app):
    found = json.loads(CliRunner().invoke(app, ["--json", "--features"]).output)
    topics = {finding["topic"]: finding for finding in found}
    flags = doctor.cpu.features()
    assert flags
    assert set(flags) <= set(topics)
    for flag, has in flags.items():
        assert topics[flag]["verdict"] == ("ok" if has else "info")
        assert doctor.cpu.USES[flag] in topics[flag]["have"]


def test_the_clock_is_measured_on_request(app):
    found = json.loads(CliRunner().invoke(app, ["--json", "--measure"]).output)
    topics = {finding["topic"]: finding["have"] for finding in found}
    assert "ppm" in topics["clock"]
    for pair in zip(doctor.cores.allowed(), doctor.cores.allowed()[1:], strict=False):
        assert f"cores {pair[0]} and {pair[1]}: the counters differ by at most" in topics[f"clock of core {pair[1]}"]

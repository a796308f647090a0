"""``wirespeed collect`` with exporters of Debian's (softflowd, pmacct) and a statsd client of PyPI's, over TAP."""

import os
import re
import signal
import sys
import urllib.request

import pyarrow.parquet as pq
import pytest
from child import HERE, Command
from prometheus_client.parser import text_string_to_metric_families
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.utils import wrpcap
from topology import eventually

METRICS = 200

STATSD = """
import statsd, sys
client = statsd.StatsClient(sys.argv[1], 8125, prefix="app")
for number in range(int(sys.argv[2])):
    client.incr("hits", 2)
    client.timing("wait", 10)
    client.set("users", f"user-{number % 20}")
client.gauge("queue", 12)
"""


def flows(folder):
    """A capture: i packets from 10.0.0.i for 1 to 5, and a SYN of IPv6."""
    packets = []
    for i in range(1, 6):
        for _ in range(i):
            packets.append(
                Ether() / IP(src=f"10.0.0.{i}", dst="10.0.1.1") / UDP(sport=1000 + i, dport=53) / (b"x" * 100)
            )
    packets.append(Ether() / IPv6(src="2001:db8::1", dst="2001:db8::2") / TCP(sport=4000, dport=443))
    for number, packet in enumerate(packets):
        packet.time = 1_700_000_000 + number / 100
    wrpcap(str(folder / "in.pcap"), packets)
    return folder / "in.pcap"


class Collecting(Command):
    """``wirespeed collect``, scraped by Prometheus, with files."""

    def __init__(self, folder):
        self.parquet = folder / "parquet"
        options = ("--window", "0.5", "--prometheus", "127.0.0.1:0", "--parquet", str(self.parquet), "--flows")
        super().__init__(folder, "collect", *options, ready="/metrics\n")
        self.url = re.search(r"(http://127.0.0.1:\d+/metrics)\n", self.said())[1]

    def scraped(self):
        """What Prometheus would read."""
        with urllib.request.urlopen(self.url, timeout=30) as answer:
            families = text_string_to_metric_families(answer.read().decode())
            return {(s.name, *sorted(s.labels.values())): s.value for family in families for s in family.samples}

    def shows(self, wanted):
        """Wait until these values are what Prometheus reads."""
        eventually(lambda: {key: self.scraped().get(key) for key in wanted} == wanted, f"{wanted}")


@pytest.fixture(scope="module")
def collecting(network, tmp_path_factory):
    made = Collecting(tmp_path_factory.mktemp("collect"))
    yield made
    made.end()


@pytest.mark.parametrize(("version", "port", "kind"), [(9, 2055, "netflow9"), (10, 4739, "ipfix")])
def test_softflowd(collecting, tmp_path, version, port, kind):
    capture = flows(tmp_path)
    collecting.host.start("softflowd", "-r", str(capture), "-n", f"{HERE}:{port}", "-v", str(version), "-d")
    collecting.shows({
        ("wirespeed_collector_flows_total", kind): 6.0,
        ("wirespeed_collector_packets_total", kind): 16.0,
        ("wirespeed_collector_octets_total", kind): 15 * 128.0 + 60,
        ("wirespeed_collector_lost_total", kind): 0.0,
    })  # fmt: skip


def test_pmacct_samples(collecting, tmp_path):
    """sFlow: each packet a sample."""
    capture, settings = flows(tmp_path), tmp_path / "pmacctd.conf"
    settings.write_text(
        f"daemonize: false\npcap_savefile: {capture}\npcap_savefile_wait: true\nplugins: sfprobe[a]\n"
        f"sfprobe_receiver[a]: {HERE}:6343\nsfprobe_agentip[a]: 192.0.2.9\nsampling_rate[a]: 1\n"
    )
    child = collecting.host.start("pmacctd", "-f", str(settings), start_new_session=True)
    try:
        collecting.shows({
            ("wirespeed_collector_flows_total", "sflow"): 16.0,
            ("wirespeed_collector_octets_total", "sflow"): 15 * 146.0 + 78,
            ("wirespeed_collector_lost_total", "sflow"): 0.0,
        })  # fmt: skip
    finally:
        os.killpg(child.pid, signal.SIGKILL)  # its plugin is a process of its own


def test_statsd(collecting):
    collecting.host.run(sys.executable, "-c", STATSD, HERE, str(METRICS))
    collecting.shows({
        ("app_hits_total",): 2.0 * METRICS,
        ("app_wait_count",): float(METRICS),
        ("app_queue",): 12.0,
        ("wirespeed_collector_samples_total", "statsd"): 3.0 * METRICS + 1,
    })  # fmt: skip


def test_nonsense(collecting):
    """Counted under its name; nobody else notices."""
    script = (
        "import socket, sys\n"
        "with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:\n"
        "    client.sendto(b'?', (sys.argv[1], 2055))\n"
        "    client.sendto(bytes(100), (sys.argv[1], 6343))\n"
        "    client.sendto(b'nonsense', (sys.argv[1], 8125))\n"
    )
    collecting.host.run(sys.executable, "-c", script, HERE)
    collecting.shows({("wirespeed_collector_refused_total", each): 1.0 for each in ("short", "version", "metric")})


def test_what_is_left(collecting):
    """The last of these tests: the report, and whole files."""
    report = collecting.report()
    received = report["collector"]["received"]
    assert {name: sums["flows"] for name, sums in received.items()} == {
        "netflow9": 6,
        "ipfix": 6,
        "sflow": 16,
        "statsd": 0,
    }
    assert {each["kind"] for each in report["collector"]["exporters"]} == {"netflow9", "ipfix", "sflow"}
    assert not list(collecting.parquet.glob("*.partial"))
    found = {}
    for path in collecting.parquet.glob("*.parquet"):
        found.setdefault(path.name.split("-")[0], []).extend(pq.read_table(path).to_pylist())
    assert sum(row["packets"] for row in found["flows"]) == 3 * 16
    largest = {(row["source"], row["source_port"]) for row in found["talkers"] if row["by"] == "conversation"}
    assert ("10.0.0.5", 1005) in largest
    assert sum(row["change"] for row in found["metrics"] if row["name"] == "app.hits") == 2 * METRICS

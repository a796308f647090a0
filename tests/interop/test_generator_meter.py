"""The generator and the meter beside others: tshark reads the frames, the kernel counts them, and a kernel's bridge
and a forwarder with a known delay are what is measured."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from topology import CONFIG, SOURCE, WHY_NOT, Host, Router, eventually

import wirespeed as ws
from wirespeed.apps.measure import Tester
from wirespeed.jit import COMPILED
from wirespeed.ports.generator.port import Generator
from wirespeed.ports.netdev import within

DELAY_S = 0.005
_SO_RCVBUFFORCE = 33

needs_tshark = pytest.mark.skipif(not shutil.which("tshark"), reason="needs tshark")
needs_spaces = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "-")


def fields(path, *names, check="TRUE"):
    """What tshark says of each packet, checksums verified."""
    command = ["tshark", "-r", str(path), "-T", "fields", "-E", "separator=|", "-E", "occurrence=f"]
    for option in ("ip.check_checksum", "udp.check_checksum", "tcp.check_checksum"):
        command += ["-o", f"{option}:{check}"]
    for name in names:
        command += ["-e", name]
    said = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert said.returncode == 0, said.stderr
    return [line.split("|") for line in said.stdout.splitlines()]


@needs_tshark
@pytest.mark.skipif(not COMPILED, reason="nothing is compiled: graphs of thousands of packets")
def test_tshark_reads_what_is_generated(tmp_path):
    from scapy.layers.inet import IP, TCP, UDP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.l2 import Dot1Q, Ether

    ether = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    path = tmp_path / "out.pcap"
    made = Generator.from_streams(
        ws.Stream(ether / IP(dst="198.19.0.1") / UDP(sport=4000, dport=9), {"ipv4.dst": ws.Random("198.19.0.0/16")}),
        ws.Stream(ether / Dot1Q(vlan=5) / IPv6(dst="2001:db8::1") / TCP(dport=9), {"tcp.sport": range(50000, 51000)}),
        ws.Stream(ether / IP(dst="198.19.0.2") / UDP(sport=4000, dport=9), sizes={64: 1, 1518: 1}),
        count=3000,
    )
    graph = ws.Graph()
    graph.add(made >> ws.port(f"pcap:{path}"))
    ws.run(graph)
    rows = fields(
        path, "frame.protocols", "ip.checksum.status", "udp.checksum.status", "tcp.checksum.status", "frame.len",
        "_ws.malformed",
    )  # fmt: skip
    assert len(rows) == 3000
    for protocols, ip, udp, tcp, _, malformed in rows:
        assert malformed == ""
        assert (ip or "1", udp or "1", tcp or "1") == ("1", "1", "1"), protocols
    assert {int(row[4]) for row in rows} == {60, 96, 1514}


# Through the kernel ----------------------------------------------------------------------------------------


class Bench:
    """A namespace with two veth pairs: the tester has ``tx0`` and ``rx0``, the device ``in0`` and ``out0``."""

    def __init__(self) -> None:
        self.host = Host("g")
        try:
            self._join()
        except BaseException:
            self.host.remove()
            raise

    def _join(self) -> None:
        for ours, theirs in (("tx0", "in0"), ("rx0", "out0")):
            self.host.run("ip", "link", "add", "name", ours, "type", "veth", "peer", "name", theirs)
            for name in (ours, theirs):
                self.host.run("sh", "-c", f"echo 1 > /proc/sys/net/ipv6/conf/{name}/disable_ipv6")
                self.host.run("ip", "link", "set", "dev", name, "promisc", "on", "up")

    def bridge(self) -> None:
        """The device is a bridge of the kernel's."""
        self.host.run("ip", "link", "add", "name", "bridge0", "type", "bridge", "mcast_snooping", "0")
        self.host.run("sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/bridge0/disable_ipv6")
        for name in ("in0", "out0"):
            self.host.run("ip", "link", "set", "dev", name, "master", "bridge0")
        self.host.run("ip", "link", "set", "dev", "bridge0", "up")

    def spec(self, name: str) -> str:
        return f"af_packet:{name},netns={self.host.name}"

    def statistic(self, interface: str, name: str) -> int:
        return int(self.host.run("cat", f"/sys/class/net/{interface}/statistics/{name}"))


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    try:
        yield made
    finally:
        made.host.remove()


@needs_spaces
def test_the_kernel_counts_what_was_generated(bench):
    before = bench.statistic("in0", "rx_packets"), bench.statistic("in0", "rx_bytes")
    made = Generator.from_options(count=20_000, rate=40_000, imix=True, stamp=True)
    graph = ws.Graph()
    graph.add(made >> ws.port(bench.spec("tx0")))
    begun = time.monotonic()
    report = ws.run(graph)
    spent = time.monotonic() - begun
    assert report.sent == 20_000
    eventually(lambda: bench.statistic("in0", "rx_packets") - before[0] == 20_000, "all packets at the peer")
    assert bench.statistic("in0", "rx_bytes") - before[1] == report.bytes
    pace = made.pace()
    assert pace.packets == 20_000
    # The kernel has them all; our clock cannot be faster than the wall's.
    assert 20_000 / pace.achieved <= spent + 0.1
    if not pace.missed:
        assert abs(pace.error_ppm) < 20_000


@needs_spaces
@pytest.mark.parametrize("workers", [1, 2])
def test_a_bridge_of_the_kernels(bench, workers):
    bench.bridge()
    generator = Generator.from_options(stamp=True, size=128, flows=50)
    with Tester(generator, bench.spec("tx0"), bench.spec("rx0"), workers) as tester:
        trial = tester.trial(rate=5000, seconds=0.5, settle=10)
        assert (trial.lost, trial.duplicates, trial.reordered) == (0, 0, 0)
        assert trial.sent > 0
        assert trial.latency.smallest > 0
        # Half of the next ones do not cross: the bridge's port stops forwarding.
        bench.host.run("ip", "link", "set", "dev", "out0", "nomaster")
        lossy = tester.trial(rate=5000, seconds=0.2, settle=0.2)
        assert lossy.sent > 0
        assert lossy.received == 0
        assert lossy.loss == 1.0


class Forwarder(threading.Thread):
    """Copies frames from in0 to out0, each DELAY_S after it came; of each hundred it drops, doubles and swaps one."""

    def __init__(self, bench: Bench, faults: bool = False) -> None:
        super().__init__(daemon=True)
        self.sockets = [within(bench.host.name, lambda name=name: self._open(name)) for name in ("in0", "out0")]
        self.faults, self.over, self.seen, self.shortest = faults, threading.Event(), 0, 1e9

    def _open(self, name: str) -> socket.socket:
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
        made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 16 << 20)  # nothing is lost that is not meant to be
        made.bind((name, 0x0800))
        made.settimeout(0.05)
        return made

    def run(self) -> None:
        source, target = self.sockets
        held = b""
        while not self.over.is_set():
            try:
                frame, address = source.recvfrom(4096)
            except TimeoutError:
                continue
            if address[2] == socket.PACKET_OUTGOING:
                continue
            came = time.monotonic()
            place = self.seen % 100
            self.seen += 1
            if not self.faults:
                while time.monotonic() < came + DELAY_S:
                    time.sleep(DELAY_S / 50)
                self.shortest = min(self.shortest, time.monotonic() - came)
            if self.faults and place == 10:
                continue
            if self.faults and place == 50:
                held = frame
                continue
            target.send(frame)
            if self.faults and place == 20:
                target.send(frame)
            if held and place == 53:
                target.send(held)
                held = b""

    def stop(self) -> None:
        self.over.set()
        self.join()
        for each in self.sockets:
            each.close()


@needs_spaces
def test_a_known_delay(bench):
    forwarder = Forwarder(bench)
    forwarder.start()
    try:
        with Tester(Generator.from_options(stamp=True), bench.spec("tx0"), bench.spec("rx0")) as tester:
            trial = tester.trial(rate=50, seconds=1.0, settle=20)
        assert trial.sent == trial.received > 0
        assert trial.latency.smallest >= forwarder.shortest * 1e9 >= DELAY_S * 1e9
    finally:
        forwarder.stop()


@needs_spaces
def test_known_faults_of_another_process(bench):
    forwarder = Forwarder(bench, faults=True)
    forwarder.start()
    try:
        with Tester(Generator.from_options(stamp=True), bench.spec("tx0"), bench.spec("rx0")) as tester:
            trial = tester.trial(rate=2000, count=1000, seconds=60, settle=3)
            reading = tester.meter[0]
        assert forwarder.seen == trial.sent == 1000
        assert (trial.lost, trial.duplicates, trial.reordered) == (10, 10, 10)
        assert (reading.lost, reading.farthest, reading.gaps) == (10, 4, 20)
    finally:
        forwarder.stop()


@needs_spaces
def test_the_command_measures_a_bridge(bench):
    bench.bridge()
    command = [sys.executable, "-m", "wirespeed", "measure", bench.spec("tx0"), bench.spec("rx0"), "--rate", "2k",
               "--seconds", "0.3", "--workers", "2", "--json"]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=580)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["sent"] == said["received"] > 0


@needs_spaces
def test_a_wirespeed_router_between_two_namespaces(network, tmp_path):
    """A router of ours in a process of its own, real hosts' kernels answering for their addresses at both ends."""
    text = CONFIG.format(left=network.spec("left"), right=network.spec("right"))
    router = Router(tmp_path, text, "--json")
    try:
        network.left.run("ping", "-n", "-c", "1", "-w", "30", "10.2.0.2")  # both neighbours are known from here on
        mac = network.middle.run("cat", "/sys/class/net/left/address").strip()
        source = Generator.from_options(
            stamp=True, size=128, flows=20, dmac=mac, src="10.1.0.2", dst="10.2.0.2", sport="40000-40019"
        )
        ends = [f"af_packet:eth0,netns={host.name}" for host in (network.left, network.right)]
        with Tester(source, *ends) as tester:
            trial = tester.trial(rate=1000, seconds=0.5, settle=10)
        assert (trial.lost, trial.duplicates, trial.reordered) == (0, 0, 0)
        assert trial.sent == trial.received > 0
    finally:
        router.stop()
    assert router.report()["nodes"]["ipv4_rewrite"]["outputs"][""] >= trial.sent

"""af_xdp beside programs that are not ours: the kernel on the same interface, DPDK at the other end; killed."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from typing import Any

import pytest
from topology import CONFIG, SOURCE, WHY_NOT, Network, Router, eventually

from wirespeed.bench.testpmd import Setting, Testpmd
from wirespeed.engine.engine import Engine
from wirespeed.graph.graph import Graph
from wirespeed.nodes import macswap
from wirespeed.ports.af_xdp.query import attached
from wirespeed.ports.netdev import facts, within
from wirespeed.ports.port import port

pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "-")

_PMD = "net_af_xdp0,iface=eth0,busy_budget=0"


def _needs(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not shutil.which(name), reason=f"needs {name}")


def _config(network: Network, more: str = "") -> str:
    specs = {end: f"af_xdp:{end},netns={network.middle.name}{more}" for end in ("left", "right")}
    return CONFIG.format(**specs)


def _program(network: Network, end: str = "left") -> int:
    return within(network.middle.name, lambda: attached(facts("test", end).index))


def _received(output: str) -> int:
    found = re.search(r"(\d+) (?:packets )?received", output)
    assert found
    return int(found[1])


# Beside the kernel -----------------------------------------------------------------------------------------


class Running:
    """A graph that runs."""

    def __init__(self, graph: Graph) -> None:
        self.engine = Engine(graph)

    def __enter__(self) -> Engine:
        self.engine.start()
        return self.engine

    def __exit__(self, *error: object) -> None:
        report = self.engine.stop()
        assert report.in_use == 0
        assert report.faults == ()


def _echo(network: Network, end: str, more: str = "") -> tuple[Any, Graph]:
    made = port(f"af_xdp:{end},netns={network.middle.name}{more}")
    graph = Graph()
    graph.add(made >> macswap >> made)
    return made, graph


def test_a_connection_to_the_interface_itself_survives(network) -> None:
    """What ssh would be: TCP to the kernel on the very interface whose UDP port 53 is ours."""
    network.middle.run("ip", "address", "add", "10.1.0.1/24", "dev", "left")
    network.middle.run("ip", "link", "set", "left", "arp", "on")
    server = within(network.middle.name, lambda: socket.create_server(("10.1.0.1", 2222)))
    try:
        client = within(network.left.name, lambda: socket.create_connection(("10.1.0.1", 2222), 60))
        served, _ = server.accept()
        queries = within(network.left.name, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)))
        queries.bind(("eth0", 3))
        queries.settimeout(60)
        made, graph = _echo(network, "left", ",match=udp/53")
        with Running(graph), client, served, queries:
            query = bytes.fromhex(
                "020000000002 020000000001 0800 4500001c00000000401100000a0100020a010001 3039003500080000"
            )
            for number in range(50):
                text = f"line {number}\n".encode()
                client.sendall(text)
                assert served.recv(100) == text
                served.sendall(text.upper())
                assert client.recv(100) == text.upper()
                queries.send(query)
                swapped = query[6:12] + query[:6] + query[12:]
                while queries.recv(2048)[: len(query)] != swapped:
                    pass
            assert made.extended()["passed_to_kernel"] >= 50
            eventually(lambda: made.stats().tx_packets >= 50, "the last answer, counted after it was sent")
            assert made.stats().rx_packets == made.stats().tx_packets == 50
        assert client.fileno() == -1
    finally:
        server.close()
        network.middle.run("ip", "address", "del", "10.1.0.1/24", "dev", "left")
        network.middle.run("ip", "link", "set", "left", "arp", "off")


# Beside DPDK -----------------------------------------------------------------------------------------------


@_needs("dpdk-testpmd")
def test_every_packet_of_dpdk_arrives(network) -> None:
    """DPDK's AF_XDP driver at the other end of the veth sends; its counters, the interface's and ours agree."""
    made = port(f"af_xdp:left,netns={network.middle.name}")
    graph = Graph()
    graph.add(made >> port("sink"))
    lost = _lost(network)
    with Running(graph), Testpmd(None, Setting("txonly"), vdevs=[_PMD], netns=network.left.name) as peer:
        peer.start()
        eventually(lambda: peer.stats()["TX-packets"] > 100_000, "many packets sent")
        peer.stop()
        sent = peer.stats()["TX-packets"]

        def counted() -> bool:
            made.refresh()
            stats = made.stats()
            return stats.rx_packets + stats.rx_dropped + stats.rx_no_buffer >= sent

        eventually(counted, "all are accounted for")
        stats = made.stats()
        assert stats.rx_packets + stats.rx_dropped + stats.rx_no_buffer == sent
        assert stats.rx_dropped + stats.rx_no_buffer == _lost(network) - lost
        assert stats.rx_packets > sent / 2
        assert stats.rx_errors == 0


def _lost(network: Network) -> int:
    """What the veth could not give to a socket."""
    said = network.middle.run("ethtool", "-S", "left")
    found = re.search(r"rx_queue_0_drops: (\d+)", said)
    return int(found[1]) if found else 0


@_needs("dpdk-testpmd")
def test_dpdk_gets_every_packet_back(network) -> None:
    """Bursts that both sides throw to and fro."""
    made, graph = _echo(network, "left")
    with Running(graph), Testpmd(None, Setting("io"), vdevs=[_PMD], netns=network.left.name) as peer:
        peer.start("start tx_first 4")
        eventually(lambda: peer.stats()["RX-packets"] > 50_000, "packets go round")
        peer.stop()

        def settled() -> bool:
            made.refresh()
            theirs, ours = peer.stats(), made.stats()
            return bool(ours.rx_packets == theirs["TX-packets"] and ours.tx_packets == theirs["RX-packets"])

        peer.change(mode="rxonly")  # what was on its way when it stopped waits in its ring
        peer.start()
        eventually(settled, "what we sent has come")
        peer.stop()
        stats, theirs = made.stats(), peer.stats()
        assert stats.rx_packets == theirs["TX-packets"]
        assert stats.rx_packets == stats.tx_packets
        assert stats.rx_dropped == stats.tx_dropped == stats.tx_errors == 0


# Killed ----------------------------------------------------------------------------------------------------


def test_killed_while_it_forwards(network, tmp_path) -> None:
    """kill -9, three times, under traffic: nothing stays, and the next start works."""
    for number in range(3):
        folder = tmp_path / str(number)
        folder.mkdir()
        made = Router(folder, _config(network))
        assert _program(network)
        assert _program(network, "right")
        flood = network.left.start("ping", "-n", "-f", "10.2.0.2")
        eventually(lambda: network.middle.run("cat", "/sys/class/net/right/statistics/tx_packets") != "0\n", "traffic")
        made.process.send_signal(signal.SIGKILL)
        made.process.wait()
        flood.kill()
        flood.wait()
        eventually(lambda: not _program(network) and not _program(network, "right"), "the programs are off")
    last = Router(tmp_path, _config(network), "--json")
    assert _received(network.left.run("ping", "-n", "-c", "3", "-i", "0.2", "-w", "30", "10.2.0.2")) == 3
    assert last.stop() == 0
    assert last.report()["in_use"] == 0


def test_a_wrong_option_ends_before_the_start(network, tmp_path) -> None:
    file = tmp_path / "router.toml"
    file.write_text(_config(network, ",match=upd/53"))
    done = subprocess.run(
        [sys.executable, "-m", "wirespeed", "run", str(file)],
        capture_output=True, text=True, timeout=600, env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )  # fmt: skip
    assert done.returncode == 2
    assert "there is no 'upd'; did you mean 'udp'?" in done.stderr
    assert "Traceback" not in done.stderr

"""examples/echo.py on ports whose other end is the kernel, or DPDK before it: ping, ARP, neighbour discovery, UDP."""

import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from topology import COMPILE_S, SOURCE, Host, eventually

from wirespeed.bench.testpmd import Setting, Testpmd

EXAMPLE = Path(__file__).parents[2] / "examples" / "echo.py"
HERE, THERE = "10.7.0.1", "10.7.0.2"
HERE6, THERE6 = "fd07::1", "fd07::2"
WORKERS = {"tap": ["--workers", "2"]}


class Service:
    """The example, running; ``host`` is the namespace of its only client."""

    def __init__(self, kind, host, beyond, folder):
        self.host, self.kind, self.bridge = host, kind, None
        self.device, spec = "ws0", f"tap:ws0,netns={host.name}"
        if kind == "memif":
            spec = f"memif:{folder}/socket,role=server"
        elif kind != "tap":
            host.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "wire", "netns", beyond.name)
            for where, name in ((host, "eth0"), (beyond, "wire")):
                where.run("ip", "link", "set", "dev", name, "up")
            host.run("ethtool", "-K", "eth0", "tx", "off")
            self.device, spec = "eth0", f"{kind}:wire,netns={beyond.name}"
        self.out = folder / "out"
        with self.out.open("w") as out:
            self.child = subprocess.Popen(
                [sys.executable, str(EXAMPLE), spec, f"{HERE}/24", f"{HERE6}/64", *WORKERS.get(kind, [])],
                stdout=out, stderr=subprocess.STDOUT, env={"PYTHONPATH": str(SOURCE), "PATH": "/usr/sbin:/usr/bin"},
            )  # fmt: skip
        if kind == "memif":
            self.join(folder / "socket")
        eventually(lambda: self.device in host.run("ip", "-br", "link") or self.child.poll() is not None, "the device")
        host.run("ip", "address", "add", f"{THERE}/24", "dev", self.device)
        host.run("ip", "address", "add", f"{THERE6}/64", "dev", self.device, "nodad")
        host.run("ip", "link", "set", "dev", self.device, "up")
        eventually(self.answers, f"an answer: {self.out.read_text()}", COMPILE_S)

    def join(self, path):
        """The other end of the memif is a testpmd, which passes packets on to the kernel by a tap of its own."""
        eventually(lambda: path.exists() or self.child.poll() is not None, "the socket", COMPILE_S)
        devices = [f"net_memif0,role=client,socket={path},socket-abstract=no", f"net_tap0,iface={self.device}"]
        self.bridge = Testpmd(None, Setting("io"), vdevs=devices, netns=self.host.name)
        self.bridge.__enter__()
        self.bridge.start()

    def answers(self):
        assert self.child.poll() is None, self.out.read_text()
        return "1 received" in self.host.run("ping", "-n", "-c", "1", "-W", "1", HERE, check=False)

    def stop(self):
        self.child.send_signal(signal.SIGINT)
        assert self.child.wait(30) == 0, self.out.read_text()
        return self.out.read_text()


@pytest.fixture(scope="module", params=["tap", "af_packet", "af_xdp", "memif"])
def service(request, tmp_path_factory, network):
    if request.param == "memif" and not shutil.which("dpdk-testpmd"):
        pytest.skip("needs dpdk-testpmd: apt-get install dpdk")
    host, beyond = Host(f"client-{request.param}"), Host(f"server-{request.param}")
    made = Service(request.param, host, beyond, tmp_path_factory.mktemp(request.param))
    try:
        yield made
    finally:
        if made.bridge is not None:
            made.bridge.__exit__(None, None, None)
        made.child.kill()
        made.child.wait()
        host.remove()
        beyond.remove()


def talk(host, script, *arguments):
    """What a Python program prints that runs in the namespace."""
    return host.run(sys.executable, "-c", script, *map(str, arguments))


ECHO = """
import socket, sys
address, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
six = ":" in address
with socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM) as client:
    client.settimeout(10)
    for number in range(count):
        sent = bytes((number + i) % 256 for i in range(number * 37 % 1400))
        client.sendto(sent, (address, port))
        got, source = client.recvfrom(4096)
        assert (got, source[0], source[1]) == (sent, address, port), (number, len(got), source)
print("all", count)
"""
REFUSED = """
import socket, sys
six = ":" in sys.argv[1]
with socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM) as client:
    client.settimeout(10)
    client.connect((sys.argv[1], 9))
    client.send(b"anybody?")
    try:
        client.recv(10)
    except ConnectionRefusedError:
        print("refused")
"""


@pytest.mark.parametrize("address", [HERE, HERE6])
def test_ping(service, address):
    output = service.host.run("ping", "-n", "-c", "100", "-i", "0.01", "-s", "1000", "-w", "30", address)
    assert "100 received" in output


@pytest.mark.parametrize("address", [HERE, HERE6])
def test_datagrams_come_back(service, address):
    assert talk(service.host, ECHO, address, 7, 200) == "all 200\n"


@pytest.mark.parametrize("address", [HERE, HERE6])
def test_nobody_listens(service, address):
    """RFC 1122 section 4.1.3.1: port unreachable, which the kernel tells the socket."""
    assert talk(service.host, REFUSED, address) == "refused\n"


def test_the_kernel_knows_its_neighbour(service):
    known = service.host.run("ip", "neighbour", "show", "dev", service.device)
    macs = set(re.findall(r"lladdr (\S+)", known))
    assert len(macs) == 1
    for address in (HERE, HERE6):
        service.host.run("ip", "neighbour", "flush", "dev", service.device)
        assert "1 received" in service.host.run("ping", "-n", "-c", "1", "-w", "10", address)


def test_a_stranger_is_asked_for(service):
    """The kernel's answer to our ARP request and solicitation is what the reply goes to."""
    output = service.host.run("ping", "-n", "-c", "3", "-i", "0.2", "-w", "20", HERE)
    assert "3 received" in output


def test_stop_balances(service):
    """The last of this service's tests: nothing is left in the pool."""
    text = service.stop()
    assert "packets" in text
    assert "leak" not in text

"""Datagrams that are longer than a frame, to and from the kernel; path MTU, and errors that the kernel understands.

::

    service ──tap──▶ namespace "near" ──veth, a smaller MTU──▶ namespace "far"
"""

import re
import sys
from pathlib import Path

import pytest
from child import HERE, HERE6, Child, pings
from topology import COMPILE_S, Host, eventually

pytestmark = pytest.mark.long
SERVICE = Path(__file__).with_name("long_service.py")


class Service(Child):
    """The service, and two hosts that reach it: one on its link, one behind that."""

    def __init__(self, folder):
        self.near, self.far = Host("near"), Host("far")
        own, gateways = (f"{HERE}/24", f"{HERE6}/64"), ("10.7.0.2", "fd07::2")
        super().__init__(folder, str(SERVICE), f"tap:ws0,netns={self.near.name}", *own, "via", *gateways)
        eventually(lambda: self.runs() and "ws0" in self.near.run("ip", "-br", "link"), "the device")
        near, far = self.near, self.far
        near.run("ip", "link", "add", "out", "type", "veth", "peer", "name", "eth0", "netns", far.name)
        near.run("ip", "address", "add", "10.7.0.2/24", "dev", "ws0")
        near.run("ip", "address", "add", "fd07::2/64", "dev", "ws0", "nodad")
        near.run("ip", "address", "add", "10.8.0.1/24", "dev", "out")
        near.run("ip", "address", "add", "fd08::1/64", "dev", "out", "nodad")
        far.run("ip", "address", "add", "10.8.0.2/24", "dev", "eth0")
        far.run("ip", "address", "add", "fd08::2/64", "dev", "eth0", "nodad")
        for host, name in ((near, "ws0"), (near, "out"), (far, "eth0")):
            host.run("ip", "link", "set", "dev", name, "up")
        near.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding")
        far.run("ip", "route", "add", "default", "via", "10.8.0.1")
        far.run("ip", "route", "add", "default", "via", "fd08::1")
        eventually(lambda: self.runs() and pings(near, HERE), "an answer", COMPILE_S)
        eventually(lambda: self.runs() and pings(far, HERE6), "an answer")


@pytest.fixture(scope="module")
def service(tmp_path_factory, network):
    made = Service(tmp_path_factory.mktemp("fragments"))
    try:
        yield made
    finally:
        made.end()
        made.near.remove()
        made.far.remove()


CLIENT = """
import socket, sys
address, port, sizes = sys.argv[1], int(sys.argv[2]), list(map(int, sys.argv[3:]))
with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as client:
    client.settimeout(10)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    for size in sizes:
        sent = size.to_bytes(2) if port == 8 else bytes((size + i) % 251 for i in range(size))
        wanted = bytes(i % 256 for i in range(size)) if port == 8 else sent
        client.sendto(sent, (address, port))
        got = client.recv(65536)
        assert got == wanted, (size, len(got))
print("all")
"""


def ask(host, address, port, *sizes):
    return host.run(sys.executable, "-c", CLIENT, address, str(port), *map(str, sizes))


@pytest.mark.parametrize("address", [HERE, HERE6])
@pytest.mark.parametrize("size", [1473, 8000, 65507])
def test_long_pings(service, address, size):
    output = service.near.run("ping", "-n", "-c", "5", "-i", "0.05", "-w", "10", "-s", str(size), address)
    assert "5 received" in output


@pytest.mark.parametrize("address", [HERE, HERE6])
@pytest.mark.parametrize("port", [7, 8, 9])
def test_long_datagrams(service, address, port):
    assert ask(service.near, address, port, 1400, 1472, 1473, 2000, 8192, 8193, 30001, 65507) == "all\n"


@pytest.mark.parametrize("address", [HERE, HERE6])
def test_path_mtu(service, address):
    """The router says that what we sent was too big: from then on it is cut (RFC 1191, RFC 8201)."""
    route = ["ip", "link", "set", "dev"]
    service.near.run(*route, "out", "mtu", "1300")
    service.far.run(*route, "eth0", "mtu", "1300")
    try:
        eventually(lambda: ask_quietly(service.far, address, 8, 1400), "an answer in fragments")
        assert ask(service.far, address, 8, 1400, 5000) == "all\n"
        assert ask(service.near, address, 8, 1400, 5000) == "all\n"
    finally:
        service.near.run(*route, "out", "mtu", "1500")
        service.far.run(*route, "eth0", "mtu", "1500")


def ask_quietly(host, address, port, size):
    script = CLIENT.replace("settimeout(10)", "settimeout(0.5)")
    return "all" in host.run(sys.executable, "-c", script, address, str(port), str(size), check=False)


FLOOD = """
import random, socket, struct, sys
with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
    for number in range(int(sys.argv[2])):
        source = bytes([10, 7, random.randrange(1, 255), random.randrange(1, 255)])
        offset = 0x2000 | random.randrange(2)
        header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 0, number & 0xFFFF, offset, 64, 17, 0, source,
                             socket.inet_aton(sys.argv[1]))
        raw.sendto(header + bytes(random.randrange(1, 180) * 8), (sys.argv[1], 0))
"""


def test_a_flood_of_fragments_of_strangers(service):
    """Datagrams that never come together take their bounded place from each other; others are answered."""
    service.near.run(sys.executable, "-c", FLOOD, HERE, "5000")
    assert ask(service.near, HERE, 7, 8000, 65507) == "all\n"
    output = service.near.run("ping", "-n", "-c", "20", "-i", "0.01", "-w", "10", HERE6)
    assert "20 received" in output


def test_stop_balances(service):
    text = service.stop()
    assert "leak" not in text
    assert re.search("fragmented", text)

"""examples/echo.py on ports whose other end is the kernel, or DPDK before it: ping, ARP, neighbour discovery, UDP."""

import re
import shutil
import sys

import pytest
from echo_service import HERE, HERE6, EchoService, need
from topology import Host


@pytest.fixture(scope="module", params=["tap", "af_packet", "af_xdp", "memif"])
def service(request, tmp_path_factory, network):
    need(request.param)
    host, beyond = Host(f"client-{request.param}"), Host(f"server-{request.param}")
    made = EchoService(request.param, host, beyond, tmp_path_factory.mktemp(request.param))
    try:
        yield made
    finally:
        made.end()
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


@pytest.mark.skipif(not shutil.which("traceroute"), reason="needs traceroute: apt-get install traceroute")
@pytest.mark.parametrize("address", [HERE, HERE6])
@pytest.mark.parametrize("way", ["", "--icmp"], ids=["udp", "icmp"])
def test_traceroute(service, address, way):
    """One hop, which is the host asked for: no hop unknown, no mark of an error (``!N``, ``!H``) behind the time."""
    output = service.host.run("traceroute", "-n", "-q2", "-w", "10", "-N", "1", *filter(None, [way]), address)
    hops = output.splitlines()[1:]
    assert len(hops) == 1
    assert re.fullmatch(rf" *1  {re.escape(address)}(  [\d.]+ ms){{2}} *", hops[0]), hops


@pytest.mark.skipif(not shutil.which("arping"), reason="needs arping: apt-get install iputils-arping")
def test_arping(service):
    """Broadcast first, then to whom answered."""
    output = service.host.run("arping", "-c", "3", "-w", "10", "-I", service.device, HERE)
    assert "Received 3 response(s)" in output


def test_a_stranger_is_asked_for(service):
    """The kernel's answer to our ARP request and solicitation is what the reply goes to."""
    output = service.host.run("ping", "-n", "-c", "3", "-i", "0.2", "-w", "20", HERE)
    assert "3 received" in output


def test_stop_balances(service):
    """The last of this service's tests: nothing is left in the pool."""
    text = service.stop()
    assert "packets" in text
    assert "leak" not in text

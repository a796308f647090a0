"""Addresses that a service gets from others: dnsmasq leases and advertises them, the kernel uses them.

::

    service ──tap──▶ namespace: dnsmasq (DHCPv4, router advertisements), ping, the kernel's neighbour table
"""

import re
import shutil
from pathlib import Path

import pytest
from child import Child, pings
from topology import COMPILE_S, Host, eventually

pytestmark = pytest.mark.long

SERVICE = Path(__file__).with_name("long_service.py")
ROUTER, ROUTER6 = "10.7.0.1", "fd07::1"


class Leased(Child):
    """The service, and the server that has addresses for it."""

    def __init__(self, folder):
        self.folder = folder
        self.host = Host("leases")
        self.log, self.server = folder / "log", None
        super().__init__(folder, str(SERVICE), f"tap:ws0,netns={self.host.name}", "auto")
        eventually(lambda: self.runs() and "ws0" in self.host.run("ip", "-br", "link"), "the device")
        self.host.run("ip", "address", "add", f"{ROUTER}/24", "dev", "ws0")
        self.host.run("ip", "address", "add", f"{ROUTER6}/64", "dev", "ws0", "nodad")
        self.host.run("ip", "link", "set", "dev", "ws0", "up")
        self.capture = self.folder / "capture.pcap"
        self.host.start("tcpdump", "-i", "ws0", "--immediate-mode", "-U", "-w", str(self.capture))

    def serve(self, first, last):
        """Lease these addresses; what was leased before is forgotten."""
        if self.server is not None:
            self.server.kill()
            self.server.wait()
        (self.folder / "leases").unlink(missing_ok=True)
        self.server = self.host.start(
            "dnsmasq", "-k", "-C", "/dev/null", "-p", "0", "-u", "root", "-i", "ws0", "--bind-interfaces",
            f"--dhcp-leasefile={self.folder / 'leases'}", f"--log-facility={self.log}", "--log-dhcp", "--no-ping",
            f"--dhcp-range={first},{last},255.255.255.0,2m", "--dhcp-option=option:T1,3", "--dhcp-authoritative",
            "--dhcp-range=::,constructor:ws0,ra-only,64,10m", "--enable-ra", "--ra-param=ws0,4,600",
        )  # fmt: skip

    def wait(self, pattern, deadline_s=60):
        return eventually(lambda: re.search(pattern, self.said()), f"{pattern} in {self.said()}", deadline_s)

    def pings(self, address):
        return pings(self.host, address)

    def seen(self, *expression):
        return self.host.run("tcpdump", "-n", "-v", "-r", str(self.capture), *expression, check=False)


@pytest.fixture(scope="module")
def leased(tmp_path_factory, network):
    for name in ("dnsmasq", "tcpdump"):
        if not shutil.which(name):
            pytest.skip(f"needs {name}")
    made = Leased(tmp_path_factory.mktemp("leases"))
    try:
        made.serve("10.7.0.50", "10.7.0.60")
        made.wait(r"10\.7\.0\.5\d/24 leased from 10\.7\.0\.1", COMPILE_S)
        yield made
    finally:
        made.end()
        made.host.remove()


def test_the_lease_is_used(leased):
    address = re.search(r"(10\.7\.0\.5\d)/24 leased", leased.said())[1]
    eventually(lambda: leased.pings(address), "an answer")
    probes = leased.seen(f"arp and arp[14:4] = 0 and arp[24:4] = {int.from_bytes(bytes(map(int, address.split('.'))))}")
    assert probes.count("who-has") == 3  # RFC 5227, before it was used


def test_an_advertised_prefix_makes_an_address(leased):
    """RFC 4862: from the prefix and our Ethernet address; the link-local one too."""
    for address in ("fd07::77:73ff:fe00:1", "fe80::77:73ff:fe00:1%ws0"):
        eventually(lambda address=address: leased.pings(address), f"an answer of {address}")
    assert "nonce" in leased.seen("icmp6") or "ff02::1:ff00:1" in leased.seen("icmp6 and ip6[40] = 135")


def test_groups_are_reported(leased):
    eventually(lambda: "239.1.1.1 to_ex" in leased.seen("igmp"), "an IGMPv3 report")
    eventually(lambda: "ff02::fb to_ex" in leased.seen("ip6 and ip6 multicast"), "an MLDv2 report")


def test_the_lease_is_kept_and_follows_the_server(leased):
    """Renewed by unicast at T1; another server that knows nothing of it refuses, and gives another one."""
    eventually(lambda: leased.log.read_text().count("DHCPACK") > 1, "a renewal")
    leased.serve("10.7.0.150", "10.7.0.160")
    found = leased.wait(r"(10\.7\.0\.15\d)/24 leased")
    assert "lost: refused" in leased.said()
    eventually(lambda: leased.pings(found[1]), "an answer from the new address")
    assert not leased.pings("10.7.0.50")


def test_stop_balances(leased):
    assert "leak" not in leased.stop()
    eventually(lambda: "239.1.1.1 to_in" in leased.seen("igmp"), "that it left the group", 5)

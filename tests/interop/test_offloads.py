"""A kernel that leaves checksums and segmentation to hardware, and a port that has none: the workers do both.

::

    <pid>-a: tap eth0 10.9.0.1 (TSO) ── wirespeed: pass_on ── port on a veth ── <pid>-b: eth0 10.9.0.2

TCP through it works at all only if every super-packet of the left kernel is cut and summed before it leaves by a port
that can do neither; the right kernel checks every checksum, and says how many were wrong.
"""

import hashlib
import socket
import subprocess
import threading

import pytest
from topology import WHY_NOT, Host, eventually

import wirespeed as ws
from wirespeed.engine.engine import Engine
from wirespeed.ports.netdev import within
from wirespeed.ports.port import KINDS

BYTES = 4 << 20
_WAIT_S = 60

pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "-")


@ws.node
def pass_on(pkt):
    """To the right."""


@ws.node
def pass_back(pkt):
    """To the left."""


@pytest.fixture
def hosts():
    made = [Host("oa"), Host("ob"), Host("om")]
    _, right, middle = made
    link = ["ip", "link", "add", "eth0", "netns", right.name, "type", "veth", "peer", "name", "right"]
    subprocess.run([*link, "netns", middle.name], check=True)
    for host, interface in ((right, "eth0"), (middle, "right")):
        host.run("sh", "-c", f"echo 1 > /proc/sys/net/ipv6/conf/{interface}/disable_ipv6")
        host.run("ip", "link", "set", interface, "up")
    right.run("ip", "address", "add", "10.9.0.2/24", "dev", "eth0")
    right.run(
        "ethtool", "-K", "eth0", "tx", "off", check=False
    )  # the right kernel sums by itself: generic XDP needs it
    yield made
    for host in made:
        host.remove()


def bad_segments(host):
    """TCP segments that a kernel has thrown away for their checksum."""
    lines = [line.split() for line in host.run("cat", "/proc/net/snmp").splitlines() if line.startswith("Tcp:")]
    return int(dict(zip(*lines, strict=True))["InCsumErrors"])


def transfer(left, right, data):
    """Send bytes by TCP from one namespace to the other; what arrived."""
    found = bytearray()
    listener = within(right.name, lambda: socket.create_server(("10.9.0.2", 5000)))

    def take():
        peer, _ = listener.accept()
        with peer:
            peer.settimeout(_WAIT_S)
            while part := peer.recv(1 << 16):
                found.extend(part)

    taking = threading.Thread(target=take)
    taking.start()
    sender = within(left.name, lambda: socket.create_connection(("10.9.0.2", 5000), _WAIT_S))
    with sender:
        sender.settimeout(_WAIT_S)
        sender.sendall(data)
    taking.join(_WAIT_S)
    listener.close()
    assert not taking.is_alive()
    return bytes(found)


@pytest.mark.parametrize("kind", ["af_xdp", "af_packet"])
def test_tcp_from_a_tap_with_segmentation_to_a_port_without(hosts, kind):
    if kind not in KINDS:
        pytest.skip(f"no port {kind} here")
    left, right, middle = hosts
    tap = ws.port(f"tap:eth0,netns={left.name},address=10.9.0.1/24")
    wire = ws.port(f"{kind}:right,netns={middle.name},promiscuous=yes")
    graph = ws.Graph()
    graph.add(tap >> pass_on >> wire)
    graph.add(wire >> pass_back >> tap)
    engine = Engine(graph)
    with engine:
        eventually(lambda: "1 received" in left.run("ping", "-c1", "-W1", "10.9.0.2", check=False), "a first ping")
        data = b"".join(hashlib.sha256(i.to_bytes(4)).digest() for i in range(BYTES // 32))
        assert transfer(left, right, data) == data
        done = wire.software.counters() if wire.software else {}
        engine.refresh()
    report = engine.stop()
    assert bad_segments(right) == 0
    if kind == "af_xdp":  # which has neither offload; a packet socket with a virtio-net header has both
        assert done["software-tx-cut"] > 0
        assert done["software-tx-segments"] >= BYTES // 1500
        assert done.get("software-tx-refused", 0) == 0
    else:
        assert "software-tx-cut" not in done
    assert report.in_use == 0

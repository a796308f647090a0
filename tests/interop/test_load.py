"""``wirespeed load`` over a TAP: its counts are those of the kernel and of a server that misbehaves."""

import json
import subprocess
import sys

import pytest
from topology import COMPILE_S, SOURCE, WHY_NOT, Host, eventually

pytestmark = [pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "-"), pytest.mark.long]

HERE, THERE = "10.7.0.1", "10.7.0.2"

# An echo that forgets each hundredth datagram, says each fiftieth twice, and stands still for a while at the 500th.
# 33 is SO_RCVBUFFORCE.
SERVER = """
import select, socket
number = 0
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
    server.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)
    server.bind(("0.0.0.0", 7))
    print("ready", flush=True)
    while True:
        data, source = server.recvfrom(2048)
        number += 1
        if number == 500:
            select.select([], [], [], 0.2)
        for _ in range(0 if number % 100 == 0 else 2 if number % 50 == 0 else 1):
            server.sendto(data, source)
"""


@pytest.fixture(scope="module")
def host():
    made = Host("load")
    yield made
    made.remove()


def load(host, *arguments):
    """Run the command with a server beside it; what it printed."""
    child = subprocess.Popen(
        [sys.executable, "-m", "wirespeed", "load", *arguments, "--json"], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, env={"PYTHONPATH": str(SOURCE), "PATH": "/usr/sbin:/usr/bin"},
    )  # fmt: skip
    try:
        eventually(lambda: "ws0" in host.run("ip", "-br", "link") or child.poll() is not None, "the device", COMPILE_S)
        if child.poll() is None:
            host.run("ip", "address", "add", f"{THERE}/24", "dev", "ws0")
            host.run("ip", "link", "set", "dev", "ws0", "up")
        out, errors = child.communicate(timeout=COMPILE_S)
    finally:
        child.kill()
        child.wait()
    assert child.returncode == 0, errors
    return json.loads(out)


def udp(host):
    """The namespace's UDP counters, RFC 4113: (datagrams received, sent, without a port)."""
    names, values = [line.split()[1:] for line in host.run("cat", "/proc/net/snmp").splitlines() if line[:4] == "Udp:"]
    found = dict(zip(names, map(int, values), strict=True))
    return found["InDatagrams"], found["OutDatagrams"], found["NoPorts"]


def test_counts_are_the_kernels(host):
    """Loss, answers twice and a pause of the server, as its program has it; latency counts from when it was due."""
    server = host.start(sys.executable, "-c", SERVER)
    eventually(lambda: ":0007" in host.run("cat", "/proc/net/udp"), "the server listens")
    before = udp(host)
    found = load(
        host, "udp", f"tap:ws0,netns={host.name}", "--to", THERE, "--address", f"{HERE}/24", "--rate", "2k",
        "--seconds", "1", "--connections", "16", "--size", "100",
    )  # fmt: skip
    received, sent, stray = (after - old for after, old in zip(udp(host), before, strict=True))
    server.kill()
    assert (found["sent"], stray) == (2000, 0)
    assert received == found["sent"]
    assert (found["lost"], found["duplicates"]) == (20, 20)
    assert found["answered"] + found["duplicates"] == sent
    names = ("errors", "strangers", "short", "refused")
    assert [found[name] for name in names] == [0, 0, 0, 0]
    assert found["latency_ns"]["max"] > 150e6  # the 500th stood for a fifth of a second,
    assert found["latency_ns"]["p90"] > 20e6  # and some four hundred behind it were due meanwhile


def test_nobody_there(host):
    """An address that does not answer ARP is an error that says so, and nothing was sent."""
    done = subprocess.run(
        [sys.executable, "-m", "wirespeed", "load", "udp", f"tap:ws1,netns={host.name}", "--to", "10.8.0.2",
         "--address", "10.8.0.1/24", "--seconds", "1"], capture_output=True, text=True, timeout=COMPILE_S,
        env={"PYTHONPATH": str(SOURCE), "PATH": "/usr/sbin:/usr/bin"},
    )  # fmt: skip
    assert done.returncode == 2
    assert "10.8.0.2 does not answer" in done.stderr

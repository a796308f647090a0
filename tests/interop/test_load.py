"""``wirespeed load`` over a veth: NSD, memcached and our own services at rates where nothing is lost, a server that
misbehaves, and nobody. All ask by one kind of graph, so that its loop is compiled once."""

import json
import shutil
import subprocess
import sys
from contextlib import contextmanager

import pytest
from child import ENVIRONMENT, Child
from nsd import CONFIGURATION
from topology import COMPILE_S, WHY_NOT, Host, eventually

pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "-")

HERE, THERE = "10.7.0.1", "10.7.0.2"
ZONE = "\n".join(
    ["$ORIGIN example.com.", "$TTL 60", "@ SOA ns root 1 2 3 4 5", "@ NS ns", "ns A 192.0.2.1"]
    + [f"h{number} A 192.0.2.{number}" for number in range(100)]
) + "\n"  # fmt: skip
RATE, SECONDS = 2000, 0.5

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


@contextmanager
def cable(suffix):
    """Two namespaces with a veth between them, ``eth0`` in the first and ``wire``, the load's end, in the second."""
    made = []
    try:
        for name in (f"load-{suffix}", f"load-{suffix}-asks"):
            made.append(Host(name))
        server, beyond = made
        server.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "wire", "netns", beyond.name)
        server.run("ip", "link", "set", "dev", "eth0", "up")
        beyond.run("ip", "link", "set", "dev", "wire", "up")
        yield server, beyond
    finally:
        for host in made:
            host.remove()


@pytest.fixture(scope="module")
def link():
    """One whose server's end is the kernel's."""
    with cable("kernel") as ends:
        ends[0].run("ip", "address", "add", f"{THERE}/24", "dev", "eth0")
        yield ends


def run(link, what, to, address, *arguments):
    """The command, when it has ended."""
    return subprocess.run(
        [sys.executable, "-m", "wirespeed", "load", what, f"af_packet:wire,netns={link[1].name}", "--to", to,
         "--address", address, *arguments], capture_output=True, text=True, timeout=COMPILE_S, env=ENVIRONMENT,
    )  # fmt: skip


def load(link, what, *arguments, seconds=SECONDS):
    """What the command printed, in JSON and beside it."""
    done = run(
        link, what, THERE, f"{HERE}/24", "--rate", str(RATE), "--seconds", str(seconds), *arguments, "--json"
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def sane(found):
    """All was answered, once, by schedule; and the histogram has each answer."""
    assert found["sent"] == RATE * SECONDS
    assert (found["answered"], found["lost"]) == (found["sent"], 0)
    assert found["latency_ns"]["count"] == sum(found["kinds"].values()) == found["answered"]
    assert found["offered"] == pytest.approx(RATE, rel=0.05)
    names = ("errors", "duplicates", "strangers", "earlier", "short", "parts", "refused")
    assert [found[name] for name in names] == [0] * len(names)
    assert 0 < found["latency_ns"]["min"] <= found["latency_ns"]["p50"] <= found["latency_ns"]["max"]
    assert found["latency_of_sent_ns"] == {name: value for name, value in found["latency_ns"].items() if name[0] == "p"}


def udp_listens(host, port):
    """Whether somebody has the port."""
    return f":{port:04X} " in host.run("cat", "/proc/net/udp")


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """A zone, and questions: half of the names are not there."""
    folder = tmp_path_factory.mktemp("zone")
    (folder / "zone").write_text(ZONE)
    (folder / "names").write_text("".join(f"h{number}.example.com A\n" for number in range(200)))
    return folder


def asks_names(link, names, *arguments):
    found, _ = load(link, "dns", "--names", str(names / "names"), *arguments)
    sane(found)
    assert found["kinds"] == {"noerror": RATE * SECONDS / 2, "nxdomain": RATE * SECONDS / 2}


def asks_keys(link, *arguments):
    """All is stored first: then every get is a hit."""
    found, said = load(link, "memcached", "--keys", "1k", "--ratio", "3:1", "--fill-rate", "2k", *arguments)
    sane(found)
    assert "stored 1,000 of 1,000 keys" in said
    assert (found["fill"]["kinds"], found["fill"]["sent"]) == ({"stored": 1000}, 1000)
    assert set(found["kinds"]) == {"hit", "stored"}
    assert 0.65 < found["kinds"]["hit"] / found["answered"] < 0.85


@pytest.mark.skipif(not shutil.which("nsd", path="/usr/sbin:/usr/bin"), reason="needs nsd: apt-get install nsd")
def test_nsd(link, names):
    text = CONFIGURATION.format(port=53, folder=names, origin="example.com", zone=names / "zone")
    (names / "nsd.conf").write_text(text.replace("127.0.0.1@53", f"{THERE}@53"))
    server = link[0].start("nsd", "-d", "-c", str(names / "nsd.conf"))
    eventually(lambda: udp_listens(link[0], 53), "NSD listens")
    asks_names(link, names)
    assert server.poll() is None


@pytest.fixture(scope="module")
def memcached(link):
    if not shutil.which("memcached"):
        pytest.skip("needs memcached: apt-get install memcached")
    link[0].start("memcached", "-U", "11211", "-p", "0", "-u", "nobody", "-l", THERE, "-t", "1", "-m", "64")
    eventually(lambda: udp_listens(link[0], 11211), "memcached listens")


def test_memcached(link, memcached):
    asks_keys(link)


@pytest.mark.long
@pytest.mark.usefixtures("memcached")
def test_keys_that_nobody_stored(link):
    """Misses are answers, and counted."""
    found, said = load(link, "memcached", "--keys", "1M", "--key", "30", "--ratio", "1:0", "--no-fill")
    sane(found)
    assert (found["kinds"], found["fill"]) == ({"miss": RATE * SECONDS}, None)
    assert "stored" not in said


@pytest.mark.long
@pytest.mark.usefixtures("memcached")
def test_two_workers(link):
    """Answers come to whom the kernel's hash says."""
    asks_keys(link, "--workers", "2")


@pytest.mark.long
@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("what", ["dns", "memcached"])
def test_our_own(what, workers, names):
    """The load on one end of a veth, a service of ours on the other."""
    options = {"dns": ["--zone", str(names / "zone"), "--rate", "0"], "memcached": ["--memory", "16M"]}[what]
    with cable(what) as ends:
        port, address = f"af_packet:eth0,netns={ends[0].name}", f"{THERE}/24"
        service = Child(names, "-m", "wirespeed", what, port, "--address", address, *options)
        try:
            eventually(lambda: ": " in service.said(), "the service", COMPILE_S)
            more = ["--workers", workers]
            asks_names(ends, names, *more) if what == "dns" else asks_keys(ends, *more)
        finally:
            service.end()


def udp(host):
    """The namespace's UDP counters, RFC 4113: (datagrams received, sent, without a port)."""
    names, values = [line.split()[1:] for line in host.run("cat", "/proc/net/snmp").splitlines() if line[:4] == "Udp:"]
    found = dict(zip(names, map(int, values), strict=True))
    return found["InDatagrams"], found["OutDatagrams"], found["NoPorts"]


@pytest.mark.long
def test_counts_are_the_kernels(link):
    """Loss, answers twice and a pause of the server, as its program has it; latency counts from when it was due."""
    host = link[0]
    server = host.start(sys.executable, "-c", SERVER)
    eventually(lambda: ":0007" in host.run("cat", "/proc/net/udp"), "the server listens")
    before = udp(host)
    found, _ = load(link, "udp", "--connections", "16", "--size", "100", seconds=1)
    received, sent, stray = (after - old for after, old in zip(udp(host), before, strict=True))
    server.kill()
    assert (found["sent"], stray) == (2000, 0)
    assert received == found["sent"]
    assert (found["lost"], found["duplicates"]) == (20, 20)
    assert found["answered"] + found["duplicates"] == sent
    names = ("errors", "strangers", "earlier", "short", "refused")
    assert [found[name] for name in names] == [0] * 5
    assert found["latency_of_sent_ns"]["p99.9"] is None  # a hundredth is lost
    assert found["latency_ns"]["max"] > 150e6  # the 500th stood for a fifth of a second,
    assert found["latency_ns"]["p90"] > 20e6  # and some four hundred behind it were due meanwhile


@pytest.mark.long
def test_nobody_there(link):
    """An address that does not answer ARP is an error that says so, and nothing was sent."""
    done = run(link, "udp", "10.8.0.2", "10.8.0.1/24")
    assert done.returncode == 2
    assert "10.8.0.2 does not answer" in done.stderr

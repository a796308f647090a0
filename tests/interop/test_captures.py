"""Every capture in ../shared goes through the full parse and the router: compiled, interpreted, and maimed.

The captures are Wireshark's and nDPI's samples, many of them made to break dissectors. What the router should do
with each packet is said once more here, in plain Python over bytes, from the RFCs.
"""

import contextlib
import inspect
import ipaddress
import json
import os
import random
import re
import subprocess
import sys
import warnings
from pathlib import Path

import capture_runs
import pytest
from capture_runs import ROUTES, Runs, frames

import wirespeed as ws
from wirespeed.apps.demo import route
from wirespeed.jit import COMPILED

HERE = Path(__file__).parent
CAPTURES = HERE.parents[2] / "shared" / "data" / "captures"
INTERPRETED_PACKETS = 6  # of each file

pytestmark = [
    pytest.mark.skipif(not CAPTURES.is_dir(), reason="../shared is absent"),
    pytest.mark.skipif(not COMPILED, reason="nothing is compiled: the test runs the interpreter itself"),
]

FILES = sorted(path for path in CAPTURES.rglob("*") if path.is_file())


# The router once more ----------------------------------------------------------------------------------------

NETWORKS = [ipaddress.ip_network(text) for text in ROUTES.split()]
ROUTED = [(int(net.network_address), int(net.netmask)) for net in NETWORKS]
HOPS = {entry: index for index, entry in enumerate(ROUTED)}
ROUTER = bytes.fromhex("020000000001")


def total16(data):
    """Sum of 16-bit words in one's complement (RFC 1071)."""
    total = sum(int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def routed(frame):
    """(node, door, bytes that leave or None)."""
    if len(frame) < 14:
        return "ethernet_input", "runt", None
    at, ethertype = 14, int.from_bytes(frame[12:14], "big")
    for _ in range(2):
        if ethertype in (0x8100, 0x88A8, 0x9100) and len(frame) >= at + 4:
            ethertype, at = int.from_bytes(frame[at + 2 : at + 4], "big"), at + 4
    if ethertype == 0x0806:
        return "ethernet_input", "arp", frame
    if ethertype != 0x0800:
        return "ethernet_input", "not-ip", None
    if frame[0] & 1:
        return "ethernet_input", "not-for-us", None
    ip = frame[at:]
    header, total = (ip[0] & 15) * 4 if ip else 0, int.from_bytes(ip[2:4], "big")
    if len(ip) < 20 or ip[0] >> 4 != 4 or header < 20 or not header <= total <= len(ip):
        return "ipv4_validate", "malformed", None
    if total16(ip[:header]) != 0xFFFF:
        return "ipv4_validate", "bad-checksum", None
    if ip[12] in (0, 127) or ip[12] >= 224 or ip[16] in (0, 127):
        return "ipv4_validate", "martian", None
    target = int.from_bytes(ip[16:20], "big")
    hops = [HOPS[network, mask] for network, mask in ROUTED if target & mask == network]
    if not hops:
        return "ipv4_lookup", "no-route", None
    if ip[8] <= 1:
        return "ipv4_ttl", "ttl-expired", None
    new = bytearray(ip)
    new[8] -= 1
    new[10:12] = bytes(2)
    new[10:12] = (0xFFFF - total16(new[:header])).to_bytes(2, "big")
    station = (0x0200_0000_1000 + hops[0]).to_bytes(6, "big")
    return "ipv4_rewrite", "", station + ROUTER + frame[12:at] + bytes(new)


def same_zero(frame):
    """A frame in which an IPv4 checksum of all ones, which RFC 1624 may leave, is the zero of the same meaning."""
    return frame[:24] + bytes(2) + frame[26:] if frame[24:26] == b"\xff\xff" else frame


def agrees_with_the_model(result, packets, out, path):
    """Doors and bytes of a run against the router above."""
    expected = [routed(frame) for frame in packets]
    for node, doors in result["doors"].items():
        for door, count in doors.items():
            if door or node == "ipv4_rewrite":
                assert count == sum((n, d) == (node, door) for n, d, _ in expected), (path, node, door)
    left = [frame for _, _, frame in expected if frame is not None]
    assert sorted(map(same_zero, out)) == sorted(map(same_zero, left)), path


# Runs --------------------------------------------------------------------------------------------------------


def packets_of(path):
    """dpkt's packets, without the empty and the too long; up to where the file is broken."""
    dpkt = pytest.importorskip("dpkt")
    packets = []
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(dpkt.Error, ValueError):
            for _, data in dpkt.pcap.UniversalReader(file):
                packets.append(bytes(data))
    return [data for data in packets if 0 < len(data) <= 65535]


def write_capture(path, packets):
    header = bytes.fromhex("d4c3b2a1 0200 0400 00000000 00000000 00000400 01000000")
    records = [bytes(8) + len(data).to_bytes(4, "little") * 2 + data for data in packets]
    path.write_bytes(header + b"".join(records))


def maim(packet, chance):
    """Cut, flip bytes (rather in the headers), or both."""
    data = bytearray(packet)
    what = chance.randrange(4)
    if what != 1:
        for _ in range(chance.randint(1, 8)):
            data[chance.randrange(min(len(data), 90) if chance.random() < 0.8 else len(data))] = chance.choice(
                [0, 1, 255, 128, 64, chance.randrange(256)]
            )
    if what != 0:
        del data[chance.randint(1, len(data)) :]
    return bytes(data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("captures")


@pytest.fixture(scope="module")
def maimed(folder):
    """A capture of what was made of up to 40 packets of each file, three times each; and a sample of it."""
    chance = random.Random(20)
    found = [maim(data, chance) for path in FILES for data in packets_of(path)[:40] for _ in range(3)]
    write_capture(folder / "maimed.pcap", found)
    write_capture(folder / "sample.pcap", found[::25])
    return found


@pytest.fixture(scope="module")
def broken(folder):
    """Captures cut off in the middle of a packet: the file, how many packets are whole."""
    chance, found = random.Random(21), []
    for number, path in enumerate(FILES[::8]):
        packets = packets_of(path)[:200]
        whole = chance.randrange(len(packets)) if packets else 0
        name = folder / f"broken-{number}.pcap"
        write_capture(name, packets[: whole + 1])
        if packets:
            name.write_bytes(name.read_bytes()[: -chance.randint(1, len(packets[whole]) + 15)])
            found.append((name, packets[:whole]))
    return found


@pytest.fixture(scope="module")
def jobs(folder, maimed, broken):
    return [
        *((str(path), INTERPRETED_PACKETS) for path in FILES),
        *((str(path), -1) for path, packets in broken if len(packets) < 10),
        (str(folder / "sample.pcap"), -1),
    ]


@pytest.fixture(scope="module")
def interpreter(folder, jobs):
    """The same, interpreted, in a process that works beside the other tests."""
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(Path(ws.__file__).parent.parent)}
    command = [sys.executable, str(HERE / "capture_runs.py"), str(folder / "interpreted")]
    questions, answers, said = (folder / name for name in ("jobs.json", "results.json", "stderr.txt"))
    questions.write_text(json.dumps(jobs))
    with questions.open() as asked, answers.open("w") as told, said.open("w") as errors:
        child = subprocess.Popen(command, stdin=asked, stdout=told, stderr=errors, env=environment)

    def results():
        assert child.wait(580) == 0, said.read_text()[-2000:]
        return json.loads(answers.read_text())

    yield results
    child.kill()
    child.wait()


@pytest.fixture(scope="module")
def runs(folder, interpreter):
    made = Runs(folder / "compiled")
    yield made
    made.close()


def test_look_reads_every_field():
    source = inspect.getsource(capture_runs.look.function)
    names = {
        "eth": ws.Ethernet, "vlan": ws.Vlan, "qinq": ws.Vlan, "arp": ws.Arp, "ip": ws.Ipv4, "ip6": ws.Ipv6,
        "icmp": ws.Icmp, "icmp6": ws.Icmp6, "udp": ws.Udp, "tcp": ws.Tcp,
    }  # fmt: skip
    for name, header in names.items():
        for field in header.fields:
            assert re.search(rf"\b{name}\.{field}\b", source), f"{name}.{field}"


def test_every_capture(runs):
    refused = seen = 0
    ends = {}
    for path in FILES:
        result = runs.one(path)
        if "refused" in result:
            refused += 1
            assert result["refused"].startswith(f"{path}: link type "), result
            assert "is not Ethernet (1), the only one a port reads" in result["refused"]
            continue
        assert (result["in_use"], result["faults"]) == ([0, 0], [[], []]), path
        packets = packets_of(path)
        size = sum(map(len, packets))
        assert result["packets"][:5] == [len(packets), size, len(packets), len(packets), size], path
        assert frames(runs.parsed) == packets, path
        agrees_with_the_model(result, packets, frames(runs.routed), path)
        seen += len(packets)
        for node, doors in result["doors"].items():
            for door, count in doors.items():
                ends[node, door] = ends.get((node, door), 0) + count
    assert refused > 100
    assert seen > 10_000
    never = {end for end, count in ends.items() if not count}
    assert never <= {("ethernet_input", "runt")}, "the captures try every door"


def test_maimed_packets(runs, folder, maimed):
    result = runs.one(folder / "maimed.pcap")
    assert result["in_use"] == [0, 0]
    assert result["faults"] == [[], []]
    assert len(maimed) > 5000
    assert result["packets"][:3] == [len(maimed), sum(map(len, maimed)), len(maimed)]
    assert frames(runs.parsed) == maimed
    agrees_with_the_model(result, maimed, frames(runs.routed), "maimed")
    assert all(count for node, doors in result["doors"].items() for count in doors.values())


def test_captures_that_break_off(runs, broken):
    assert len(broken) > 30
    for path, packets in broken:
        result = runs.one(path)
        assert result["in_use"] == [0, 0]
        for (fault,) in result["faults"]:
            assert fault.startswith(f"{path}: packet {len(packets) + 1}, at byte "), fault
        assert result["packets"][0] == len(packets)
        assert frames(runs.parsed) == packets
        agrees_with_the_model(result, packets, frames(runs.routed), path)


def test_another_file_needs_no_compiling(folder, runs, broken):
    loops = set()
    for path, _ in broken[:2]:
        engine = ws.Engine(route(runs.router, ws.port(f"pcap:{path}"), ws.port(f"pcap:{folder / path.stem}")))
        loops.add(engine.built.source)
        engine.close()
    assert len(loops) == 1


@pytest.mark.long
def test_the_interpreter_agrees(runs, jobs, interpreter):
    ours = [runs.one(*job) for job in jobs]
    for job, compiled, interpreted in zip(jobs, ours, interpreter(), strict=True):
        assert compiled == interpreted, job

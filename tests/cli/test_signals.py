"""SIGINT and SIGTERM end what runs for ever: a report, whole files, nothing left behind."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import wirespeed as ws
from wirespeed.jit import COMPILED

SOURCE = Path(ws.__file__).parents[1]
DEADLINE_S = 60  # it ends at all: how soon is not a test's question
SIGNALS = [signal.SIGINT, signal.SIGTERM]

pytestmark = pytest.mark.skipif(not COMPILED, reason="nothing is compiled: the children compile for themselves")

FILTER = """\
import sys
import time
import wirespeed as ws

@ws.node(outputs=["dns"], drops=["not-dns"])
def classify(pkt):
    '''Send DNS one way, drop the rest.'''
    if pkt.udp and (pkt.udp.dport == 53 or pkt.udp.sport == 53):
        return "dns"
    return "not-dns"

wait = ws.Engine.wait

def ready(engine, *arguments):
    while not engine.first_packet_cycles():
        time.sleep(0.001)
    print("ready", flush=True)
    return wait(engine, *arguments)

ws.Engine.wait = ready
graph = ws.Graph()
graph.add(ws.port(sys.argv[1]) >> classify)
graph.add(classify["dns"] >> ws.port(sys.argv[2]))
report = ws.run(graph, workers=int(sys.argv[3]))
print(report)
print("sent", report.sent, "interrupted", report.interrupted, "in use", report.in_use)
"""


def udp(dport):
    """IPv4 and UDP, checksums left out: the parser asks for lengths."""
    ip = bytes.fromhex("4500 0024 0000 0000 4011 0000 0a000001 0a000002")
    ports = (99).to_bytes(2, "big") + dport.to_bytes(2, "big")
    return bytes.fromhex("020000000001 020000000002 0800") + ip + ports + bytes.fromhex("0010 0000") + bytes(8)


def write_capture(path, frames):
    header = bytes.fromhex("d4c3b2a1 0200 0400 00000000 00000000 ffff0000 01000000")
    path.write_bytes(header + b"".join(bytes(8) + len(f).to_bytes(4, "little") * 2 + f for f in frames))


def records(data):
    """How many packets, all of them whole."""
    at, count = 24, 0
    while at < len(data):
        at += 16 + int.from_bytes(data[at + 8 : at + 12], "little")
        count += 1
    assert at == len(data), "the file ends within a record"
    return count


def start(*command):
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    return subprocess.Popen(
        [sys.executable, *map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment, start_new_session=True,
    )  # fmt: skip


def ended(child, number, ready):
    """Wait until it says that it is ready, signal it, and have what it says to the end."""
    with child:
        try:
            for line in child.stderr if "--json" in child.args else child.stdout:
                if ready in line:
                    break
            else:
                pytest.fail(child.stderr.read())
            child.send_signal(number)
            out, err = child.communicate(timeout=DEADLINE_S)
        finally:
            child.kill()
    assert "Traceback" not in err, err
    with pytest.raises(ProcessLookupError):  # nobody of its session is left
        os.killpg(child.pid, 0)
    return child.returncode, out, err


@pytest.mark.parametrize("number", SIGNALS)
def test_demo(number):
    code, out, _ = ended(start("-m", "wirespeed", "demo", "--seconds", "600"), number, "first packet")
    assert code == 0
    assert "wirespeed demo" in out
    assert "ipv4_lookup" in out
    assert "no drops" in out


@pytest.mark.parametrize("number", SIGNALS)
def test_demo_as_json(number):
    child = start("-m", "wirespeed", "demo", "--seconds", "600", "--json", "--no-profile")
    code, out, _ = ended(child, number, "first packet")
    assert code == 0
    said = json.loads(out)
    assert said["packets"] == said["report"]["sent"] > 0
    assert said["report"]["in_use"] == 0


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """One file for all, so that its loop is compiled once."""
    path = tmp_path_factory.mktemp("program") / "filter.py"
    path.write_text(FILTER)
    return path


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGINT, 1), (signal.SIGTERM, 1), (signal.SIGTERM, 2)])
@pytest.mark.parametrize("name", ["out.pcap", "out.pcap.gz"])
def test_a_filter_on_an_endless_input(tmp_path, program, number, workers, name):
    write_capture(tmp_path / "in.pcap", [udp(4242)] * 999 + [udp(53)])  # few get into the file
    out_file = tmp_path / name
    child = start(program, f"pcap:{tmp_path / 'in.pcap'},loop=yes", f"pcap:{out_file}", workers)
    code, out, err = ended(child, number, "ready")
    assert code == 0, err
    assert "node classify: dns " in out
    sent = int(re.search(r"sent (\d+) interrupted True in use 0", out)[1])
    unpack = ["gzip", "-dc", out_file] if name.endswith("gz") else ["cat", out_file]
    data = subprocess.run(unpack, capture_output=True, check=True).stdout
    assert records(data) == sent
    tshark = shutil.which("tshark")
    if tshark:
        shown = subprocess.run([tshark, "-r", out_file, "-c", "100"], capture_output=True, text=True)
        assert shown.returncode == 0, shown.stderr

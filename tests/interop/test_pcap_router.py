"""The router between captures: scapy writes what comes in and reads what goes out."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import Ether
from scapy.utils import rdpcap, wrpcap

from wirespeed.jit import COMPILED

SOURCE = Path(__file__).parents[2] / "src"
LEFT, RIGHT, HOST = "02:00:00:00:00:11", "02:00:00:00:00:22", "02:00:00:00:00:99"
CONFIG = """
app = "router"
[[port]]
name = "left"
spec = "pcap:{folder}/left-in.pcap,to={folder}/left-out.pcap"
addresses = ["10.1.0.1/24"]
mac = "{left}"
[[port]]
name = "right"
spec = "pcap:{folder}/right-in.pcap,to={folder}/right-out.pcap"
addresses = ["10.2.0.1/24"]
mac = "{right}"
[[neighbour]]
address = "10.2.0.2"
mac = "{host}"
[[neighbour]]
address = "10.1.0.2"
mac = "{host}"
"""


@pytest.mark.skipif(not COMPILED, reason="traffic, interpreted")
def test_a_capture_is_routed(tmp_path):
    """What any network would have done with it can be read in files afterwards."""
    there = [
        Ether(src=HOST, dst=LEFT) / IP(src="10.1.0.2", dst="10.2.0.2", ttl=ttl) / UDP(sport=ttl, dport=7) / (b"x" * 30)
        for ttl in (64, 2, 1)
    ]
    wrpcap(str(tmp_path / "left-in.pcap"), there)
    wrpcap(str(tmp_path / "right-in.pcap"), [Ether(src=HOST, dst=RIGHT) / IP(src="10.2.0.2", dst="10.1.0.2") / ICMP()])
    (tmp_path / "router.toml").write_text(CONFIG.format(folder=tmp_path, left=LEFT, right=RIGHT, host=HOST))
    done = subprocess.run(
        [sys.executable, "-m", "wirespeed", "run", str(tmp_path / "router.toml"), "--json"],
        capture_output=True, text=True, timeout=580, env={**os.environ, "PYTHONPATH": str(SOURCE)}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["in_use"] == 0
    right = [packet for packet in rdpcap(str(tmp_path / "right-out.pcap")) if UDP in packet]
    assert [(p.src, p.dst, p[IP].ttl, p[UDP].sport) for p in right] == [(RIGHT, HOST, 63, 64), (RIGHT, HOST, 1, 2)]
    for packet in right:
        summed = IP(bytes(packet[IP]))
        del summed.chksum
        assert IP(bytes(summed)).chksum == packet[IP].chksum
    [echo] = [
        packet for packet in rdpcap(str(tmp_path / "left-out.pcap")) if IP in packet and packet[IP].src == "10.2.0.2"
    ]
    assert (echo.dst, echo[IP].dst, echo[IP].ttl) == (HOST, "10.1.0.2", 63)

"""Wireshark's dissectors as the judge: the same frames, the same answers."""

import shutil
import struct
import subprocess

import pytest

scapy = pytest.importorskip("scapy.all", reason="scapy is not installed")

TSHARK = shutil.which("tshark")
pytestmark = pytest.mark.skipif(not TSHARK, reason="tshark is not installed (apt-get install tshark)")

FIELDS = (
    "ieee8021ad.id",
    "vlan.id",
    "udp.dstport",
    "tcp.dstport",
    "icmp.type",
    "icmpv6.type",
    "udp.length",
    "tcp.len",
    "arp.opcode",
)


def frames():
    udp = scapy.UDP(sport=5, dport=53000) / scapy.Raw(b"hello")
    tcp = scapy.TCP(dport=8080, options=[("MSS", 1460), ("Timestamp", (1, 2))]) / scapy.Raw(b"hello!")
    echo, echo6 = scapy.ICMP() / b"ping", scapy.ICMPv6EchoRequest(data=b"ping")
    route = scapy.IPv6ExtHdrRouting(addresses=["2001:db8::3"], segleft=0)
    for tags in ((), (5,), (100, 7)):
        link = scapy.Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
        if len(tags) == 2:
            link = link / scapy.Dot1AD(vlan=tags[0]) / scapy.Dot1Q(vlan=tags[1])
        elif tags:
            link = link / scapy.Dot1Q(vlan=tags[0])
        for inner in (udp, tcp, echo):
            yield link / scapy.IP(dst="10.0.0.2") / inner
            yield link / scapy.IP(dst="10.0.0.2", options=[scapy.IPOption(b"\x94\x04\0\0")]) / inner
        for inner in (udp, tcp, echo6):
            yield link / scapy.IPv6(dst="2001:db8::2") / inner
            yield link / scapy.IPv6(dst="2001:db8::2") / scapy.IPv6ExtHdrHopByHop() / route / inner
            yield link / scapy.IPv6(dst="2001:db8::2") / scapy.IPv6ExtHdrFragment(id=3) / inner
        yield link / scapy.ARP(op=2, pdst="10.0.0.9")


def dissected(data, path):
    """One row of FIELDS a frame, as tshark sees them."""
    with open(path, "wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for frame in data:
            file.write(struct.pack("<IIII", 0, 0, len(frame), len(frame)) + frame)
    command = [TSHARK, "-r", str(path), "-T", "fields", *(word for name in FIELDS for word in ("-e", name))]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    return [line.split("\t") for line in run.stdout.splitlines()]


def test_the_same_answers(where, tmp_path):
    data = [bytes(frame) for frame in frames()]
    rows = dissected(data, tmp_path / "frames.pcap")
    assert len(rows) == len(data)
    for frame, row in zip(data, rows, strict=True):
        found = where(frame)

        def at(name, offset, size, frame=frame, found=found):
            return str(int.from_bytes(frame[found[name] + offset :][:size], "big")) if found[name] >= 0 else ""

        vids = [str(int.from_bytes(frame[found[tag] :][:2], "big") & 0xFFF) for tag in ("vlan", "qinq")]
        ours = [
            vids[0] if found["qinq"] >= 0 else "",  # the outer tag is an 802.1ad one here
            vids[1] if found["qinq"] >= 0 else vids[0] if found["vlan"] >= 0 else "",
            at("udp", 2, 2),
            at("tcp", 2, 2),
            at("icmp", 0, 1),
            at("icmp6", 0, 1),
            at("udp", 4, 2),
            str(found["payload_length"]) if found["tcp"] >= 0 else "",
            at("arp", 6, 2),
        ]
        assert ours == row

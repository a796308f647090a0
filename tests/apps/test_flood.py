"""A service that is flooded as fast as its worker can take it, from random sources, with a peer of ours among them."""

import sys
import time
from pathlib import Path
from random import Random

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

import wirespeed as ws
from wirespeed.bench.capture import write_capture
from wirespeed.bench.frames import Frame
from wirespeed.ports.port import port

sys.path.append(str(Path(__file__).parent))
from floods import HERE, HERE6, Strangers, spoofed

US, PEER, THERE, THERE6 = "02:77:73:00:00:01", "02:00:00:00:00:02", "10.7.0.2", "fd07::2"
KINDS = (
    "arp", "solicitation", "fragment", "fragment6", "to_the_handler", "to_the_handler6", "closed_port", "closed_port6",
    "transport", "bad_option", "routed6",
)  # fmt: skip
FRAMES, EVERY = 1 << 15, 32  # of the capture, which is told again and again; one of so many is the peer's
LIMIT = 1024
DEADLINE_S = 300


def capture(path):
    """One of each kind in turn, each from somebody else; between them the peer asks port 8."""
    random, strangers = Random(3), Strangers(US, 3)
    kinds = [bytes(getattr(strangers, kind)()) for kind in KINDS]
    link, data = Ether(src=PEER, dst=US), UDP(sport=4000, dport=8) / b"still here"
    peer = [bytes(link / IP(src=THERE, dst=HERE) / data), bytes(link / IPv6(src=THERE6, dst=HERE6) / data)]
    frames = [
        peer[number // EVERY % 2] if number % EVERY == 0 else spoofed(kinds[number % len(kinds)], random)
        for number in range(FRAMES)
    ]
    write_capture(path, [Frame(frame, len(frame)) for frame in frames])


def peers_share(packets):
    """How many of the first packets are the peer's."""
    return -(-packets // EVERY)  # a round of the capture is a multiple of it


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def flooded(service, packets):
    """Let the service do its work until it has heard so many more."""
    wanted, end_s = service.port.stats().rx_packets + packets, time.monotonic() + DEADLINE_S
    while (heard := service.port.stats().rx_packets) < wanted:
        assert time.monotonic() < end_s, f"{heard} of {wanted} packets"
        service.poll()


@pytest.mark.parametrize("packets", [2_000_000, pytest.param(50_000_000, marks=pytest.mark.long)])
def test_flood(tmp_path, packets):
    """The peer is answered each time, memory is bounded, and every packet was answered or left by a named door."""
    file = tmp_path / "flood.pcap"
    capture(file)
    service = ws.Service(
        f"pcap:{file},loop=yes", address=[f"{HERE}/8", f"{HERE6}/64"], mac=US, neighbours={THERE: PEER, THERE6: PEER}
    )
    service.output = port("sink:")

    @service.udp(port=7)
    def echo(request, reply):
        reply.write(request.payload)

    @service.udp(port=8)
    def established(request, reply):
        reply.write(request.payload)

    service.start()
    try:
        flooded(service, packets // 4)
        before = resident_bytes()
        flooded(service, packets)
        grown = resident_bytes() - before
        host, fragments = service.host, service.fragments
        assert max(len(host.four), len(host.six)) <= LIMIT and len(fragments) <= 64
        held = sum(len(each.held) for table in (host.four, host.six) for each in table)
        assert held <= 2 * LIMIT * 16
    finally:
        report = service.stop()
    assert grown < 32 << 20, f"{grown} bytes"
    assert report.in_use == 0 and not report.faults

    nodes, ports = report.nodes, report.ports
    heard = ports[service.port.spec].rx_packets
    assert nodes["plain_udp"].packets == heard >= packets
    asked = nodes["established"].packets + nodes["established_unusual"].packets
    assert asked == peers_share(heard)  # from the first packet on
    said = sum(each.rx_packets for each in ports.values()) - heard  # by control code
    assert ports["sink:"].tx_packets == asked + said

    ends = sum(each.tx_packets + each.tx_dropped for each in ports.values())
    drops = sum(sum(each.drops.values()) for each in nodes.values())
    again = nodes["reassembled"].packets  # fragments that waited too long
    assert heard + said + again == ends + drops
    pieces = fragments.stats()
    assert pieces.fragments == pieces.evicted + pieces.timeouts > packets // 16

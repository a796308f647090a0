"""Capture files through the full parse and through the router, and what is left to compare afterwards.

``main`` does it for the list of jobs on standard input, in a process that may run the other way (interpreted).
"""

import hashlib
import json
import sys
from pathlib import Path

import wirespeed as ws
from wirespeed.apps.demo import make_router, route
from wirespeed.errors import CaptureError
from wirespeed.wire.checksum import ipv4_header_valid, transport_valid

ROUTES = "10.0.0.0/8 8.0.0.0/8 23.0.0.0/8 52.0.0.0/8 74.0.0.0/8 172.16.0.0/12 192.168.0.0/16 192.0.2.0/24 224.0.0.0/16"
"""Few, since filling the table takes its time interpreted; enough for half of the packets."""

CELLS = 3072

PARTS = (
    "there", "frame", "eth", "vlan", "qinq", "arp", "ipv4", "ipv6", "transport", "icmp", "icmp6", "udp", "tcp",
    "payload",
)  # fmt: skip
read = ws.per_worker(**dict.fromkeys(PARTS, 0))


@ws.inline
def mix(total, value):
    """Order counts: what was read first is multiplied most often. Modulo 2^64, which the variable sees to."""
    return total * 31 + value


@ws.node
def look(pkt):
    """Read every field of every header, present or absent, and write some back as they are."""
    eth, vlan, qinq, arp, ip, ip6 = pkt.eth, pkt.vlan, pkt.qinq, pkt.arp, pkt.ipv4, pkt.ipv6
    icmp, icmp6, udp, tcp, payload = pkt.icmp, pkt.icmp6, pkt.udp, pkt.tcp, pkt.payload
    there = 0
    if eth:
        there |= 1
    if vlan:
        there |= 2
    if qinq:
        there |= 4
    if arp:
        there |= 8
    if ip:
        there |= 16
        if ipv4_header_valid(ip):
            there |= 32
    if ip6:
        there |= 64
    if icmp:
        there |= 128
    if icmp6:
        there |= 256
    if udp:
        there |= 512
    if tcp:
        there |= 1024
    if payload:
        there |= 2048
    if transport_valid(pkt):
        there |= 4096
    if ip.is_fragment:
        there |= 8192
    if eth.is_multicast:
        there |= 16384
    if eth.is_broadcast:
        there |= 32768
    read.there = mix(read.there, there)
    l3 = pkt.l3 - pkt.start if pkt.l3 != 0 else -1
    l4 = pkt.l4 - pkt.start if pkt.l4 != 0 else -1
    limit = pkt.limit - pkt.start if pkt.limit != 0 else -1
    read.frame = mix(read.frame, pkt.length + 3 * (pkt.end - pkt.start) + 5 * l3 + 7 * l4)
    read.frame = mix(read.frame, limit + 3 * pkt.ip_bytes + 5 * pkt.ethertype + 7 * pkt.port + 11 * pkt.mark)
    read.eth = mix(read.eth, eth.dst + 3 * eth.src + 5 * eth.ethertype)
    read.vlan = mix(read.vlan, vlan.tci + 3 * vlan.pcp + 5 * vlan.dei + 7 * vlan.vid + 11 * vlan.ethertype)
    read.qinq = mix(read.qinq, qinq.tci + 3 * qinq.pcp + 5 * qinq.dei + 7 * qinq.vid + 11 * qinq.ethertype)
    read.arp = mix(read.arp, arp.htype + 3 * arp.ptype + 5 * arp.hlen + 7 * arp.plen + 11 * arp.oper)
    read.arp = mix(read.arp, arp.sha + 3 * arp.spa + 5 * arp.tha + 7 * arp.tpa)
    read.ipv4 = mix(read.ipv4, ip.version + 3 * ip.ihl + 5 * ip.version_ihl + 7 * ip.tos + 11 * ip.dscp + 13 * ip.ecn)
    read.ipv4 = mix(read.ipv4, ip.total_length + 3 * ip.identification + 5 * ip.flags_fragment + 7 * ip.dont_fragment)
    read.ipv4 = mix(read.ipv4, ip.more_fragments + 3 * ip.fragment_offset + 5 * ip.ttl + 7 * ip.protocol)
    read.ipv4 = mix(read.ipv4, ip.src + 3 * ip.dst + 5 * ip.header_bytes + 7 * ip.checksum)
    source_high, source_low = ip6.src
    target_high, target_low = ip6.dst
    read.ipv6 = mix(read.ipv6, ip6.version + 3 * ip6.traffic_class + 5 * ip6.dscp + 7 * ip6.ecn + 11 * ip6.flow_label)
    read.ipv6 = mix(read.ipv6, ip6.payload_length + 3 * ip6.next_header + 5 * ip6.hop_limit)
    read.ipv6 = mix(mix(mix(mix(read.ipv6, source_high), source_low), target_high), target_low)
    read.transport = mix(read.transport, pkt.protocol)
    read.icmp = mix(read.icmp, icmp.type + 3 * icmp.code + 5 * icmp.checksum + 7 * icmp.rest + 11 * icmp.identifier)
    read.icmp = mix(read.icmp, icmp.sequence + 3 * icmp.gateway + 5 * icmp.mtu + 7 * icmp.pointer)
    read.icmp6 = mix(read.icmp6, icmp6.type + 3 * icmp6.code + 5 * icmp6.checksum + 7 * icmp6.rest)
    read.icmp6 = mix(read.icmp6, icmp6.identifier + 11 * icmp6.sequence + 3 * icmp6.mtu + 5 * icmp6.pointer)
    read.udp = mix(read.udp, udp.sport + 3 * udp.dport + 5 * udp.length + 7 * udp.checksum)
    read.tcp = mix(read.tcp, tcp.sport + 3 * tcp.dport + 5 * tcp.seq + 7 * tcp.ack + 11 * tcp.data_offset)
    read.tcp = mix(read.tcp, tcp.flags + 17 * tcp.cwr + 3 * tcp.ece + 5 * tcp.urg + 7 * tcp.ack_flag + 11 * tcp.psh)
    read.tcp = mix(read.tcp, tcp.syn + 3 * tcp.fin + 5 * tcp.window + 7 * tcp.checksum + 11 * tcp.urgent)
    read.tcp = mix(read.tcp, tcp.rst + 3 * tcp.header_bytes)
    last = payload.length - 1
    read.payload = mix(read.payload, payload.length + 3 * payload.u8(0) + 5 * payload.be16(1) + 7 * payload.be32(3))
    read.payload = mix(mix(read.payload, payload.u8(last) + 3 * payload.u8(last + 1)), payload.be64(last - 7))
    eth.ethertype = eth.ethertype
    vlan.vid = vlan.vid
    qinq.tci = qinq.tci
    arp.oper = arp.oper
    ip.ttl = ip.ttl
    ip.fragment_offset = ip.fragment_offset
    ip6.dst = ip6.dst
    icmp.rest = icmp.rest
    icmp6.rest = icmp6.rest
    udp.checksum = udp.checksum
    tcp.syn = tcp.syn
    payload.put_be16(last - 1, payload.be16(last - 1))


def frames(path):
    """The packets of a capture that a port wrote in microseconds or nanoseconds, without their times."""
    data, at, found = Path(path).read_bytes(), 24, []
    while at < len(data):
        length = int.from_bytes(data[at + 8 : at + 12], "little")
        found.append(data[at + 16 : at + 16 + length])
        at += 16 + length
    assert at == len(data)
    return found


def digest(packets):
    """Of the packets' bytes and lengths; times are left out, for a packet of 1970 is written with today's."""
    whole = hashlib.sha256()
    for packet in packets:
        whole.update(len(packet).to_bytes(4, "big") + packet)
    return whole.hexdigest()


class Runs:
    """Both graphs, file after file, through the same two loops."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir(exist_ok=True)
        routes = self.folder / "routes.txt"
        routes.write_text("\n".join(ROUTES.split()) + "\n")
        self.router = make_router(routes)
        self.parsed, self.routed = self.folder / "parsed.pcap", self.folder / "routed.pcap"

    def close(self):
        self.router.close()

    def one(self, path, count=-1):
        """What became of one file: a refusal, or counters, what was read, what came out, and the fault if any."""
        for name in PARTS:
            setattr(read[0], name, 0)
        source = f"pcap:{path},timestamps=yes,count={count}"
        graph = ws.Graph()
        graph.add(ws.port(source) >> look >> ws.port(f"pcap:{self.parsed}"))
        try:
            first = ws.run(graph, cells=CELLS)
        except CaptureError as error:
            return {"refused": str(error)}
        second = ws.run(route(self.router, ws.port(source), ws.port(f"pcap:{self.routed}")), cells=CELLS)
        return {
            "in_use": [first.in_use, second.in_use],
            "faults": [list(first.faults), list(second.faults)],
            "packets": [first.packets, first.bytes, first.sent, second.packets, second.bytes, second.sent],
            "read": {name: getattr(read[0], name) for name in PARTS},
            "doors": {name: {**node.outputs, **node.drops} for name, node in second.nodes.items()},
            "bytes": [digest(frames(self.parsed)), digest(frames(self.routed))],
        }


def main():
    """Jobs ``[[path, count], ...]`` as JSON on standard input, a folder to write in as argument; results as JSON."""
    runs = Runs(sys.argv[1])
    results = [runs.one(path, count) for path, count in json.load(sys.stdin)]
    runs.close()
    print(json.dumps(results))


if __name__ == "__main__":
    main()

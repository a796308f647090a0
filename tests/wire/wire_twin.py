"""Where the parser finds what; ``main`` reads frames as lines of hex and prints the answers."""

import sys

from wirespeed.jit import kernel
from wirespeed.wire.packet import Packet
from wirespeed.wire.parse import parse_frame, parse_link, parse_network, parse_transport

NAMES = (
    "length", "end", "ethertype", "protocol", "limit", "ip_bytes",
    "eth", "vlan", "qinq", "l3", "arp", "ipv4", "ipv6", "l4", "icmp", "icmp6", "udp", "tcp",
    "payload", "payload_length",
)  # fmt: skip


@kernel
def places(cells, desc):
    pkt = Packet()
    pkt.cells = cells
    pkt.desc = desc
    pkt.port = 0
    parse_transport(pkt)
    s = pkt.start
    return (
        pkt.length,
        pkt.end - s,
        pkt.ethertype,
        pkt.protocol,
        pkt.limit - s,
        pkt.ip_bytes,
        pkt.eth.address - s if pkt.eth else -1,
        pkt.vlan.address - s if pkt.vlan else -1,
        pkt.qinq.address - s if pkt.qinq else -1,
        pkt.l3 - s if pkt.l3 else -1,
        pkt.arp.address - s if pkt.arp else -1,
        pkt.ipv4.address - s if pkt.ipv4 else -1,
        pkt.ipv6.address - s if pkt.ipv6 else -1,
        pkt.l4 - s if pkt.l4 else -1,
        pkt.icmp.address - s if pkt.icmp else -1,
        pkt.icmp6.address - s if pkt.icmp6 else -1,
        pkt.udp.address - s if pkt.udp else -1,
        pkt.tcp.address - s if pkt.tcp else -1,
        pkt.payload.start - s if pkt.payload else -1,
        pkt.payload.length,
    )


@kernel
def by_level(cells, desc, level):
    """Which of start, l3, ip_bytes, l4 a level fills in, as offsets."""
    pkt = Packet()
    pkt.cells = cells
    pkt.desc = desc
    pkt.port = 0
    if level == 0:
        parse_frame(pkt)
    elif level == 1:
        parse_link(pkt)
    elif level == 2:
        parse_network(pkt)
    else:
        parse_transport(pkt)
    return pkt.end - pkt.start, pkt.ethertype, pkt.ipv4.dst, pkt.udp.dport, pkt.payload.length


def main():
    """Answer for each line of standard input."""
    import numpy as np

    from wirespeed import jit
    from wirespeed.mem.descriptor import CELL, HEADROOM, describe

    memory = np.zeros(CELL + 64, dtype=np.uint8)
    base = (memory.ctypes.data + 63) & ~63
    jit.register(base, CELL, "the cell")
    for line in sys.stdin:
        data = bytes.fromhex(line.strip().strip("-"))
        jit.write_bytes(base + HEADROOM, data)
        print(*places(base, describe(0, HEADROOM, len(data))))

"""The dpkt peer's child process: count DNS queries per client, the way one writes it with dpkt.

Run by :mod:`wirespeed.bench.pcap_peers` as a plain script, so that it measures dpkt and nothing of ours:
``python -P dpkt_count.py CAPTURE MAX_BYTES``. Prints JSON: seconds of the loop alone (no interpreter
start, no imports: in the peer's favour), packets, and the count per client (address in hex).
"""

import json
import sys
import time
from collections import Counter

import dpkt


def count(path: str, max_bytes: int) -> tuple[float, int, Counter[bytes]]:
    """Seconds, packets seen, queries per client address of the first `max_bytes` of `path`."""
    clients: Counter[bytes] = Counter()
    packets, read = 0, 24
    with open(path, "rb") as file:
        start = time.perf_counter()
        for _, frame in dpkt.pcap.Reader(file):
            read += 16 + len(frame)
            if read > max_bytes:
                break
            packets += 1
            try:
                ethernet = dpkt.ethernet.Ethernet(frame)
            except Exception:  # dpkt raises more than its UnpackError on malformed packets (IndexError, ...)
                continue
            ip = ethernet.data
            if ethernet.type == dpkt.ethernet.ETH_TYPE_IP6:
                if not isinstance(ip, dpkt.ip6.IP6) or ip.nxt != dpkt.ip.IP_PROTO_UDP:
                    continue
            elif ethernet.type != dpkt.ethernet.ETH_TYPE_IP or not isinstance(ip, dpkt.ip.IP):
                continue
            udp = ip.data
            if isinstance(udp, dpkt.udp.UDP) and udp.dport == 53:
                clients[ip.src] += 1
        seconds = time.perf_counter() - start
    return seconds, packets, clients


if __name__ == "__main__":
    seconds, packets, clients = count(sys.argv[1], int(sys.argv[2]))
    queries = {address.hex(): n for address, n in clients.items()}
    json.dump({"seconds": seconds, "packets": packets, "clients": queries}, sys.stdout)

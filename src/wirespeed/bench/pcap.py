"""How fast can one question be asked of a gigabyte? DNS queries per client, against tcpdump and dpkt.

All three read the same file from the page cache. tcpdump and dpkt have one thread; our worker has a core, and where
there is a second one a thread of control code fills page tables ahead of it. Ours counts per client in a table;
tcpdump only counts (less work); dpkt does what we do, in Python, on a slice. See :mod:`wirespeed.bench.pcap_peers`
for what exactly a query is and why tcpdump's fastest form is the peer. Our figure is from building the graph to its
report, in a process that has the compiled loop already; tcpdump's is the whole process, some milliseconds more than
its reading.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from wirespeed.bench.capture import GIGABYTE, Capture, build_capture
from wirespeed.bench.errors import BenchError
from wirespeed.bench.pairing import interleave
from wirespeed.bench.pcap_peers import dpkt_count, read_ahead, tcpdump_count, tcpdump_version
from wirespeed.bench.result import Row
from wirespeed.bench.settings import Settings
from wirespeed.eal import cores
from wirespeed.engine.run import run
from wirespeed.graph.graph import Graph
from wirespeed.graph.node import Node, node
from wirespeed.ports.port import port
from wirespeed.tables.tally import Tally
from wirespeed.wire.ethernet import ETHERTYPE_IPV4, ETHERTYPE_IPV6

_QUICK_BYTES = 20_000_000
_CLIENTS = 65536


def count_queries(clients: Tally) -> Node:
    """Make the node that counts DNS queries by client; an IPv6 client is folded to 64 bits."""

    @node(drops=["query", "other"])
    def count_queries(pkt: Any) -> str:
        """Untagged UDP to port 53: count the source address."""
        if pkt.udp and pkt.udp.dport == 53 and not pkt.vlan:
            if pkt.ethertype == ETHERTYPE_IPV4:
                clients.add(pkt.ipv4.src)
                return "query"
            if pkt.ethertype == ETHERTYPE_IPV6:
                high, low = pkt.ipv6.src
                clients.add(high ^ low)
                return "query"
        return "other"

    return count_queries


def ask(path: Path) -> tuple[float, int, int, dict[int, int]]:
    """Ask the question of a capture: seconds, packets, queries, queries by client."""
    clients = Tally(_CLIENTS)
    graph = Graph()
    graph.add(port(f"pcap:{path}") >> count_queries(clients))
    begun = time.perf_counter()
    report = run(graph)
    spent = time.perf_counter() - begun
    if report.faults:
        raise BenchError(f"{path}: {report.faults[0]}")
    found = dict(clients)
    clients.close()
    return spent, report.packets, report.nodes["count_queries"].drops["query"], found


def rows(settings: Settings, tell: Callable[[str], None]) -> Sequence[Row]:
    """Measure every row."""
    folder = settings.capture_folder()
    size = _QUICK_BYTES if settings.quick else GIGABYTE
    capture = build_capture(size, folder, progress=lambda done, full: tell(f"building the capture, {done / full:.0%}"))
    core = cores.choose(1).workers[0]
    settings.notes.append(f"pcap: {capture.packets:,} packets, {capture.size:,} bytes, from {capture.source}")
    tell("compiling")
    _, _, ours, _ = ask(capture.path)
    theirs = tcpdump_count(capture, core).queries
    if ours != theirs:
        settings.notes.append(f"pcap: wirespeed found {ours:,} queries, tcpdump {theirs:,}")
    return [_tcpdump(settings, tell, capture, core), _dpkt(settings, tell, capture, core)]


def _tcpdump(settings: Settings, tell: Callable[[str], None], capture: Capture, core: int) -> Row:
    read_ahead(capture)
    paired = interleave(
        lambda: ask(capture.path)[0],
        lambda: tcpdump_count(capture, core).seconds,
        pairs=settings.pairs,
        progress=lambda done, wanted, text: tell(f"tcpdump: pair {done}/{wanted} {text}"),
        lower_is_better=True,
    )
    return Row.of("pcap", "DNS queries per client", "s", paired, f"{tcpdump_version()} --count")


def _dpkt(settings: Settings, tell: Callable[[str], None], capture: Capture, core: int) -> Row:
    paired = interleave(
        lambda: ask(capture.path)[0],
        lambda: dpkt_count(capture, core).seconds,
        pairs=1 if settings.quick else min(3, settings.pairs),
        warmup=0,
        progress=lambda done, wanted, text: tell(f"dpkt: pair {done}/{wanted} {text}"),
        lower_is_better=True,
    )
    return Row.of("pcap", "DNS queries per client", "s", paired, "dpkt, a slice scaled by packets")

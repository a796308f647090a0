"""wirespeed: write the data plane in Python, run it at wire speed.

The names a program needs::

    import wirespeed as ws

    ws.port("pcap:in.pcap")      where packets come in and go out
    @ws.node(...)                what happens to them on the way
    ws.Graph(), ws.run(graph)    how the two are joined, and run
    ws.Header, ws.be16(0), ...   protocols of one's own
    ws.counter(), ws.per_worker(), ws.Lpm4()
                                 state that nodes hold and Python reads while they run
"""

from wirespeed.engine.engine import Engine
from wirespeed.engine.report import Report
from wirespeed.engine.run import run
from wirespeed.errors import WirespeedError
from wirespeed.graph.graph import Graph
from wirespeed.graph.node import Node, node
from wirespeed.jit import be16, be32, be64, bits, inline, ipv6, kernel, le16, le32, le64, mac, prefetch, u8
from wirespeed.mem.state import Counter, PerWorker
from wirespeed.ports.port import Port, port
from wirespeed.tables.lpm import Lpm4
from wirespeed.tables.tally import Tally
from wirespeed.wire.arp import Arp
from wirespeed.wire.ethernet import Ethernet
from wirespeed.wire.header import Header
from wirespeed.wire.icmp import Icmp, Icmp6
from wirespeed.wire.ipv4 import Ipv4
from wirespeed.wire.ipv6 import Ipv6
from wirespeed.wire.tcp import Tcp
from wirespeed.wire.udp import Udp
from wirespeed.wire.vlan import Vlan

counter = Counter
per_worker = PerWorker

__version__ = "0.1.0"

__all__ = [
    "Arp", "Counter", "Engine", "Ethernet", "Graph", "Header", "Icmp", "Icmp6", "Ipv4", "Ipv6", "Lpm4", "Node",
    "PerWorker", "Port", "Report", "Tally", "Tcp", "Udp", "Vlan", "WirespeedError", "be16", "be32", "be64", "bits",
    "counter", "inline", "ipv6", "kernel", "le16", "le32", "le64", "mac", "node", "per_worker", "port", "prefetch",
    "run", "u8",
]  # fmt: skip

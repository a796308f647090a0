"""wirespeed: write the data plane in Python, run it at wire speed.

The names a program needs::

    import wirespeed as ws

    ws.port("pcap:in.pcap")      where packets come in and go out
    @ws.node(...)                what happens to them on the way
    ws.Graph(), ws.run(graph)    how the two are joined, and run
    ws.Header, ws.be16(0), ...   protocols of one's own
    ws.counter(), ws.per_worker(), ws.Lpm4()
                                 state that nodes hold and Python reads while they run

A name is imported when it is first used: ``wirespeed doctor`` starts without loading a compiler.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wirespeed.apps.service import Service
    from wirespeed.eal.alarm import Alarm
    from wirespeed.eal.measure import perf
    from wirespeed.engine.engine import Engine
    from wirespeed.engine.report import Report
    from wirespeed.engine.run import run
    from wirespeed.errors import WirespeedError
    from wirespeed.graph.graph import Graph
    from wirespeed.graph.node import Node, node
    from wirespeed.hashes import checksum, crc16, crc32c, siphash24, xxhash64
    from wirespeed.jit import View, be16, be32, be64, bits, inline, ipv6, kernel, le16, le32, le64, mac, prefetch, u8
    from wirespeed.mem.locks import RwLock, SpinLock, TicketLock
    from wirespeed.mem.pool import Pool
    from wirespeed.mem.rings import Ring
    from wirespeed.mem.section import Section
    from wirespeed.mem.shared import Shared, attach
    from wirespeed.mem.state import Counter, PerWorker
    from wirespeed.mem.state import Counter as counter
    from wirespeed.mem.state import PerWorker as per_worker
    from wirespeed.mem.zone import Zone
    from wirespeed.ports.generator.port import Generator
    from wirespeed.ports.generator.program import Counting, FromRoutes, Random, Weighted
    from wirespeed.ports.generator.stream import Stream
    from wirespeed.ports.meter.port import Meter
    from wirespeed.ports.port import Port, port
    from wirespeed.ports.through import Fragment, Segment, through
    from wirespeed.ports.wrap.capture import capture
    from wirespeed.ports.wrap.fault import faults
    from wirespeed.ports.wrap.trace import trace
    from wirespeed.tables.acl import Acl4, Acl6
    from wirespeed.tables.acl_rule import Rule, load_rules
    from wirespeed.tables.bloom import Bloom
    from wirespeed.tables.count_min import CountMin
    from wirespeed.tables.cuckoo_filter import CuckooFilter
    from wirespeed.tables.flow import FlowTable
    from wirespeed.tables.hash import HashTable
    from wirespeed.tables.histogram import Histogram
    from wirespeed.tables.hyperloglog import HyperLogLog
    from wirespeed.tables.keys import FiveTuple4, FiveTuple6, Key, MacVlan
    from wirespeed.tables.lpm import Lpm4
    from wirespeed.tables.lpm6 import Lpm6
    from wirespeed.tables.maglev import Maglev
    from wirespeed.tables.poptrie import Poptrie4
    from wirespeed.tables.reservoir import Reservoir
    from wirespeed.tables.reta import Reta
    from wirespeed.tables.routes import read_routes
    from wirespeed.tables.tally import Tally
    from wirespeed.tables.toeplitz import Toeplitz
    from wirespeed.tables.top_k import TopK
    from wirespeed.tables.vrf import Vrfs
    from wirespeed.timers.timers import Timers
    from wirespeed.traffic.bucket import TokenBuckets
    from wirespeed.traffic.distributor import Distributor
    from wirespeed.traffic.gro import Gro
    from wirespeed.traffic.meter import GREEN, RED, YELLOW, DifferentiatedMeters, SingleRateMeters, TwoRateMeters
    from wirespeed.traffic.reassembly import Reassembly
    from wirespeed.traffic.reorder import Reorder
    from wirespeed.traffic.scheduler import Rates, Scheduler
    from wirespeed.traffic.wred import Thresholds, Wred
    from wirespeed.wire.arp import Arp
    from wirespeed.wire.ethernet import Ethernet
    from wirespeed.wire.header import Header
    from wirespeed.wire.icmp import Icmp, Icmp6
    from wirespeed.wire.ipv4 import Ipv4
    from wirespeed.wire.ipv6 import Ipv6
    from wirespeed.wire.tcp import Tcp
    from wirespeed.wire.udp import Udp
    from wirespeed.wire.vlan import Vlan

__version__ = "0.1.0"

_PLACES: dict[str, str] = {
    "apps.service": "Service",
    "eal.alarm": "Alarm",
    "eal.measure": "perf",
    "engine.engine": "Engine",
    "engine.report": "Report",
    "engine.run": "run",
    "errors": "WirespeedError",
    "graph.graph": "Graph",
    "graph.node": "Node node",
    "hashes": "checksum crc16 crc32c siphash24 xxhash64",
    "jit": "View be16 be32 be64 bits inline ipv6 kernel le16 le32 le64 mac prefetch u8",
    "mem.locks": "RwLock SpinLock TicketLock",
    "mem.pool": "Pool",
    "mem.rings": "Ring",
    "mem.section": "Section",
    "mem.shared": "Shared attach",
    "mem.state": "Counter PerWorker counter per_worker",
    "mem.zone": "Zone",
    "ports.generator.port": "Generator",
    "ports.generator.program": "Counting FromRoutes Random Weighted",
    "ports.generator.stream": "Stream",
    "ports.meter.port": "Meter",
    "ports.port": "Port port",
    "ports.through": "Fragment Segment through",
    "ports.wrap.capture": "capture",
    "ports.wrap.fault": "faults",
    "ports.wrap.trace": "trace",
    "tables.acl": "Acl4 Acl6",
    "tables.acl_rule": "Rule load_rules",
    "tables.bloom": "Bloom",
    "tables.count_min": "CountMin",
    "tables.cuckoo_filter": "CuckooFilter",
    "tables.flow": "FlowTable",
    "tables.hash": "HashTable",
    "tables.histogram": "Histogram",
    "tables.hyperloglog": "HyperLogLog",
    "tables.keys": "FiveTuple4 FiveTuple6 Key MacVlan",
    "tables.lpm": "Lpm4",
    "tables.lpm6": "Lpm6",
    "tables.maglev": "Maglev",
    "tables.poptrie": "Poptrie4",
    "tables.reservoir": "Reservoir",
    "tables.reta": "Reta",
    "tables.routes": "read_routes",
    "tables.tally": "Tally",
    "tables.toeplitz": "Toeplitz",
    "tables.top_k": "TopK",
    "tables.vrf": "Vrfs",
    "timers.timers": "Timers",
    "traffic.bucket": "TokenBuckets",
    "traffic.distributor": "Distributor",
    "traffic.gro": "Gro",
    "traffic.meter": "DifferentiatedMeters GREEN RED SingleRateMeters TwoRateMeters YELLOW",
    "traffic.reassembly": "Reassembly",
    "traffic.reorder": "Reorder",
    "traffic.scheduler": "Rates Scheduler",
    "traffic.wred": "Thresholds Wred",
    "wire.arp": "Arp",
    "wire.ethernet": "Ethernet",
    "wire.header": "Header",
    "wire.icmp": "Icmp Icmp6",
    "wire.ipv4": "Ipv4",
    "wire.ipv6": "Ipv6",
    "wire.tcp": "Tcp",
    "wire.udp": "Udp",
    "wire.vlan": "Vlan",
}
_HOME = {name: module for module, names in _PLACES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'wirespeed' has no attribute {name!r}")
    value = getattr(import_module(f"wirespeed.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])


__all__ = [
    "GREEN",
    "RED",
    "YELLOW",
    "Acl4",
    "Acl6",
    "Alarm",
    "Arp",
    "Bloom",
    "CountMin",
    "Counter",
    "Counting",
    "CuckooFilter",
    "DifferentiatedMeters",
    "Distributor",
    "Engine",
    "Ethernet",
    "FiveTuple4",
    "FiveTuple6",
    "FlowTable",
    "Fragment",
    "FromRoutes",
    "Generator",
    "Graph",
    "Gro",
    "HashTable",
    "Header",
    "Histogram",
    "HyperLogLog",
    "Icmp",
    "Icmp6",
    "Ipv4",
    "Ipv6",
    "Key",
    "Lpm4",
    "Lpm6",
    "MacVlan",
    "Maglev",
    "Meter",
    "Node",
    "PerWorker",
    "Pool",
    "Poptrie4",
    "Port",
    "Random",
    "Rates",
    "Reassembly",
    "Reorder",
    "Report",
    "Reservoir",
    "Reta",
    "Ring",
    "Rule",
    "RwLock",
    "Scheduler",
    "Section",
    "Segment",
    "Service",
    "Shared",
    "SingleRateMeters",
    "SpinLock",
    "Stream",
    "Tally",
    "Tcp",
    "Thresholds",
    "TicketLock",
    "Timers",
    "Toeplitz",
    "TokenBuckets",
    "TopK",
    "TwoRateMeters",
    "Udp",
    "View",
    "Vlan",
    "Vrfs",
    "Weighted",
    "WirespeedError",
    "Wred",
    "Zone",
    "attach",
    "be16",
    "be32",
    "be64",
    "bits",
    "capture",
    "checksum",
    "counter",
    "crc16",
    "crc32c",
    "faults",
    "inline",
    "ipv6",
    "kernel",
    "le16",
    "le32",
    "le64",
    "load_rules",
    "mac",
    "node",
    "per_worker",
    "perf",
    "port",
    "prefetch",
    "read_routes",
    "run",
    "siphash24",
    "through",
    "trace",
    "u8",
    "xxhash64",
]

"""One flow, whatever told of it: a row of 160 bytes, the same for kernels and for NumPy.

::

    0    source address          16   destination address      IPv4 as ::ffff:a.b.c.d (RFC 4291 section 2.5.5.2)
    32   ports, protocol, 0                                     0 to 39 are the key of a conversation
    40   bytes, packets          56   first and last packet, ms since 1970
    72   exporter's address      88   domain, sampling          96   interfaces, 104 AS numbers
    112  next hop                128  prefix lengths, TOS, direction, VLAN, TCP flags
    136  protocol that told of it    137  how its times are given    144  when it came, ms since 1970    152  boot time

Addresses are in network order, numbers in the machine's.
"""

import ipaddress

import numpy as np

from wirespeed.jit import View, inline, le16, le32, le64, store32, store64, u8

SFLOW: int = 105
"""``kind`` of a flow that sFlow sampled; NetFlow and IPFIX are their version numbers."""

CONVERSATION_BYTES: int = 40
LIMIT: int = 1 << 44
"""Bytes or packets of one flow, 17 TB: what is more was not measured. Sampling is multiplied in."""

_MAPPED = 0xFFFF_0000  # bytes 00 00 ff ff, as a little-endian number


class FlowRow(View):
    """A flow as kernels see it."""

    src = le64(0, "the first half of the source address, as it lies in memory")
    dst = le64(16)
    sport = le16(32)
    dport = le16(34)
    protocol = u8(36)
    octets = le64(40, "bytes, as measured: not multiplied by sampling")
    packets = le64(48)
    start_ms = le64(56)
    end_ms = le64(64)
    exporter_high = le64(72)
    exporter_low = le64(80)
    domain = le32(88, "observation domain, source id, or sub-agent")
    sampling = le32(92, "one of so many packets was looked at")
    input = le32(96, "interface by SNMP index")
    output = le32(100)
    src_as = le32(104)
    dst_as = le32(108)
    next_hop = le64(112)
    src_mask = u8(128)
    dst_mask = u8(129)
    tos = u8(130)
    direction = u8(131, "0: ingress, 1: egress")
    vlan = le16(132)
    tcp_flags = le16(134)
    kind = u8(136, "5, 9, 10, or SFLOW")
    relative = u8(137, "bit 0: the start, bit 1: the end is in milliseconds of uptime")
    received_ms = le64(144)
    boot_ms = le64(152, "when the exporter started, if the record says so")
    SIZE = 160


def _dtype() -> "np.dtype[np.void]":
    kinds = {1: "u1", 2: "<u2", 4: "<u4", 8: "<u8"}
    wide = {"src": "src", "dst": "dst", "exporter_high": "exporter", "next_hop": "next_hop"}
    names, formats, offsets = [], [], []
    for name, field in FlowRow.fields.items():
        if name in ("relative", "exporter_low", "boot_ms"):
            continue
        names.append(wide.get(name, name))
        formats.append("V16" if name in wide else kinds[field.size])
        offsets.append(field.offset)
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": FlowRow.SIZE})


FLOW_DTYPE = _dtype()
"""A row as NumPy sees it."""


@inline
def put_ipv4(at: int, word: int) -> None:
    """Store an IPv4 address, given as it lies in memory, as IPv4-mapped IPv6."""
    store64(at, 0)
    store32(at + 8, _MAPPED)
    store32(at + 12, word)


def shown(packed: bytes) -> str:
    """An address of a row as text; empty if it was never set."""
    if packed[:12] == bytes(10) + b"\xff\xff":
        return str(ipaddress.IPv4Address(packed[12:]))
    return str(ipaddress.IPv6Address(packed)) if any(packed) else ""


__all__ = ["CONVERSATION_BYTES", "FLOW_DTYPE", "LIMIT", "SFLOW", "FlowRow", "put_ipv4", "shown"]

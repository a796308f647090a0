"""sFlow version 5: datagrams, samples and the records in them (sflow.org, "sFlow Version 5", July 2004).

::

    datagram                        sample                          record of a sample
    +---------------------+         +---------------------+         +---------------------+
    |          5          |         | enterprise | format |         | enterprise | format |
    +---------------------+         +---------------------+         +---------------------+
    | 1: IPv4, 2: IPv6    |         |   bytes that follow |         |   bytes that follow |
    +---------------------+         +---------------------+         +---------------------+
    | agent, 4 or 16 bytes|         |  flow: rate, ports  |           header of a packet,
    +---------------------+         |  counters: source   |           counters of an interface, ...
    | sub-agent, sequence |         +---------------------+
    | uptime, samples     |         |       records       |
    +---------------------+
     samples

Everything is XDR (RFC 4506): words of 32 bits in network order.
"""

from wirespeed.jit import be32, be64
from wirespeed.wire.header import Header

SFLOW_PORT: int = 6343
SFLOW_VERSION: int = 5

ADDRESS_IPV4, ADDRESS_IPV6 = 1, 2

FLOW_SAMPLE, COUNTER_SAMPLE, EXPANDED_FLOW_SAMPLE, EXPANDED_COUNTER_SAMPLE = 1, 2, 3, 4
"""Formats of samples, of enterprise 0."""

RAW_HEADER, SAMPLED_IPV4, SAMPLED_IPV6 = 1, 3, 4
"""Formats of flow records: the first bytes of the packet; or what the agent found in them."""
EXTENDED_SWITCH, EXTENDED_ROUTER, EXTENDED_GATEWAY = 1001, 1002, 1003
INTERFACE_COUNTERS: int = 1
"""Format of a counter record."""

PROTOCOL_ETHERNET, PROTOCOL_IPV4, PROTOCOL_IPV6 = 1, 11, 12
"""What the header of a packet begins with."""


class Sflow(Header):
    """A datagram's header behind the agent's address."""

    sub_agent = be32(0)
    sequence = be32(4, "datagrams sent before, by this sub-agent")
    uptime_ms = be32(8)
    samples = be32(12)
    SIZE = 16


class SflowPart(Header):
    """How a sample, or a record of one, begins."""

    format = be32(0, "enterprise in the upper 20 bits, its format below")
    length = be32(4, "bytes that follow")
    SIZE = 8


class SflowFlowSample(Header):
    """A packet that was looked at, one of ``rate``."""

    sequence = be32(0)
    source = be32(4)
    rate = be32(8)
    pool = be32(12, "packets that could have been looked at")
    drops = be32(16)
    input = be32(20, "how it is numbered in two bits, 0: by SNMP index; then the number")
    output = be32(24)
    records = be32(28)
    SIZE = 32


class SflowExpandedFlowSample(Header):
    """The same for numbers of more than 30 bits."""

    sequence = be32(0)
    source_type = be32(4)
    source = be32(8)
    rate = be32(12)
    pool = be32(16)
    drops = be32(20)
    input_format = be32(24)
    input = be32(28)
    output_format = be32(32)
    output = be32(36)
    records = be32(40)
    SIZE = 44


class SflowRawHeader(Header):
    """The first bytes of a packet follow this."""

    protocol = be32(0)
    frame_length = be32(4, "bytes it had on the wire, with FCS")
    stripped = be32(8, "of these, bytes taken away before the header was kept")
    header_length = be32(12, "bytes that follow")
    SIZE = 16


class SflowIpv4(Header):
    """What an agent found in an IPv4 packet."""

    length = be32(0, "of the IP packet")
    protocol = be32(4)
    src = be32(8)
    dst = be32(12)
    sport = be32(16)
    dport = be32(20)
    tcp_flags = be32(24)
    tos = be32(28)
    SIZE = 32


class SflowIpv6(Header):
    """The same of IPv6: source address at 8, destination at 24."""

    length = be32(0)
    protocol = be32(4)
    sport = be32(40)
    dport = be32(44)
    tcp_flags = be32(48)
    priority = be32(52)
    SIZE = 56


class SflowInterface(Header):
    """Counters of an interface (RFC 2233's, as the agent read them)."""

    index = be32(0)
    type = be32(4)
    speed = be64(8)
    direction = be32(16)
    status = be32(20, "bit 0: ifAdminStatus, bit 1: ifOperStatus")
    in_octets = be64(24)
    in_unicast = be32(32)
    in_multicast = be32(36)
    in_broadcast = be32(40)
    in_discards = be32(44)
    in_errors = be32(48)
    out_octets = be64(56)
    out_unicast = be32(64)
    out_multicast = be32(68)
    out_broadcast = be32(72)
    out_discards = be32(76)
    out_errors = be32(80)
    SIZE = 88


__all__ = [
    "ADDRESS_IPV4", "ADDRESS_IPV6", "COUNTER_SAMPLE", "EXPANDED_COUNTER_SAMPLE", "EXPANDED_FLOW_SAMPLE",
    "EXTENDED_GATEWAY", "EXTENDED_ROUTER", "EXTENDED_SWITCH", "FLOW_SAMPLE", "INTERFACE_COUNTERS", "PROTOCOL_ETHERNET",
    "PROTOCOL_IPV4", "PROTOCOL_IPV6", "RAW_HEADER", "SAMPLED_IPV4", "SAMPLED_IPV6", "SFLOW_PORT", "SFLOW_VERSION",
    "Sflow", "SflowExpandedFlowSample", "SflowFlowSample", "SflowInterface", "SflowIpv4", "SflowIpv6", "SflowPart",
    "SflowRawHeader",
]  # fmt: skip

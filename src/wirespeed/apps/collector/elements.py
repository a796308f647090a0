"""What the fields of a template mean to us: information elements, and where in a row they go.

IANA, "IP Flow Information Export (IPFIX) Entities"; up to 127 they are the field types of NetFlow version 9 (RFC 3954
section 8). What is not listed is skipped. An entry of the table that kernels read has 16 bits: how, and offset in the
row.
"""

from wirespeed.apps.collector.flow import FlowRow
from wirespeed.jit import store16

ELEMENTS: int = 512
"""Elements with a place in the table; later ones are nothing that a row has."""

(
    SKIP, NUMBER8, NUMBER16, NUMBER32, NUMBER64, ADDRESS4, ADDRESS6, SECONDS, NTP, UPTIME, DELTA_US, LEAP,
) = range(12)  # fmt: skip
"""How a field is taken. NUMBERn: an unsigned number of 1 to 8 bytes (RFC 7011 section 6.2) into n bits of the row.
SECONDS, NTP (RFC 7011 section 6.1.9), UPTIME, DELTA_US: times. LEAP: a field of variable
length, which says where the fields behind it are."""

_WIDTH = {1: NUMBER8, 2: NUMBER16, 4: NUMBER32, 8: NUMBER64}

_NUMBERS: dict[int, str] = {
    1: "octets",  # octetDeltaCount
    2: "packets",  # packetDeltaCount
    4: "protocol",  # protocolIdentifier
    5: "tos",  # ipClassOfService
    6: "tcp_flags",  # tcpControlBits
    7: "sport",  # sourceTransportPort
    9: "src_mask",  # sourceIPv4PrefixLength
    10: "input",  # ingressInterface
    11: "dport",  # destinationTransportPort
    13: "dst_mask",  # destinationIPv4PrefixLength
    14: "output",  # egressInterface
    16: "src_as",  # bgpSourceAsNumber
    17: "dst_as",  # bgpDestinationAsNumber
    29: "src_mask",  # sourceIPv6PrefixLength
    30: "dst_mask",  # destinationIPv6PrefixLength
    34: "sampling",  # samplingInterval
    50: "sampling",  # samplerRandomInterval
    58: "vlan",  # vlanId
    61: "direction",  # flowDirection
    85: "octets",  # octetTotalCount
    86: "packets",  # packetTotalCount
    152: "start_ms",  # flowStartMilliseconds
    153: "end_ms",  # flowEndMilliseconds
    180: "sport",  # udpSourcePort
    181: "dport",  # udpDestinationPort
    182: "sport",  # tcpSourcePort
    183: "dport",  # tcpDestinationPort
    305: "src_as",  # samplingPacketInterval, of options records only: see templates.learn()
    306: "dst_as",  # samplingPacketSpace, the same
}
_OTHERS: dict[int, tuple[int, str]] = {
    8: (ADDRESS4, "src"),  # sourceIPv4Address
    12: (ADDRESS4, "dst"),  # destinationIPv4Address
    15: (ADDRESS4, "next_hop"),  # ipNextHopIPv4Address
    18: (ADDRESS4, "next_hop"),  # bgpNextHopIPv4Address
    21: (UPTIME, "end_ms"),  # flowEndSysUpTime
    22: (UPTIME, "start_ms"),  # flowStartSysUpTime
    27: (ADDRESS6, "src"),  # sourceIPv6Address
    28: (ADDRESS6, "dst"),  # destinationIPv6Address
    62: (ADDRESS6, "next_hop"),  # ipNextHopIPv6Address
    150: (SECONDS, "start_ms"),  # flowStartSeconds
    151: (SECONDS, "end_ms"),  # flowEndSeconds
    154: (NTP, "start_ms"),  # flowStartMicroseconds
    155: (NTP, "end_ms"),  # flowEndMicroseconds
    156: (NTP, "start_ms"),  # flowStartNanoseconds
    157: (NTP, "end_ms"),  # flowEndNanoseconds
    158: (DELTA_US, "start_ms"),  # flowStartDeltaMicroseconds
    159: (DELTA_US, "end_ms"),  # flowEndDeltaMicroseconds
    160: (NUMBER64, "boot_ms"),  # systemInitTimeMilliseconds
}


def meanings() -> dict[int, tuple[int, int]]:
    """(how, offset in the row) of each element that is known."""
    known = {number: (_WIDTH[FlowRow.fields[name].size], name) for number, name in _NUMBERS.items()} | _OTHERS
    return {number: (how, FlowRow.fields[name].offset) for number, (how, name) in known.items()}


def write_elements(address: int) -> None:
    """Fill in the table of ``ELEMENTS`` entries that kernels read."""
    for number, (how, offset) in meanings().items():
        store16(address + 2 * number, how | offset << 8)


__all__ = [
    "ADDRESS4", "ADDRESS6", "DELTA_US", "ELEMENTS", "LEAP", "NTP", "NUMBER8", "NUMBER16", "NUMBER32",
    "NUMBER64", "SECONDS", "SKIP", "UPTIME", "meanings", "write_elements",
]  # fmt: skip

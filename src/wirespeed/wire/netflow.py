"""NetFlow versions 5 and 9 (RFC 3954) and IPFIX (RFC 7011): message, set and record headers.

::

    version 5                      version 9                       IPFIX, "version 10"
    +----------+----------+        +----------+----------+         +----------+----------+
    |    5     | records  |        |    9     | records  |         |    10    |  length  |
    +----------+----------+        +----------+----------+         +----------+----------+
    |   milliseconds up   |        |   milliseconds up   |         |   export time, s    |
    +---------------------+        +---------------------+         +---------------------+
    |   export time, s    |        |   export time, s    |         |   sequence number   |
    +---------------------+        +---------------------+         +---------------------+
    | nanoseconds of that |        |   sequence number   |         | observation domain  |
    +---------------------+        +---------------------+         +---------------------+
    |   sequence number   |        |      source id      |          sets: id, length, records
    +-----+-----+---------+        +---------------------+
    |type | id  | sampling|         sets: id, length, records
    +-----+-----+---------+
     records of 48 bytes

The sequence number counts records sent before in version 5 and IPFIX, and messages in version 9.
"""

from wirespeed.jit import be16, be32, bits, u8
from wirespeed.wire.header import Header

NETFLOW_PORT: int = 2055
IPFIX_PORT: int = 4739

NETFLOW5: int = 5
NETFLOW9: int = 9
IPFIX: int = 10

NETFLOW9_TEMPLATES: int = 0
"""Identifier of a set of templates, RFC 3954 section 5.2."""
NETFLOW9_OPTIONS: int = 1
"""RFC 3954 section 6.1."""
IPFIX_TEMPLATES: int = 2
"""RFC 7011 section 3.3.2."""
IPFIX_OPTIONS: int = 3
FIRST_DATA_SET: int = 256
"""From here on the identifier of a set is that of the template its records follow."""

VARIABLE_LENGTH: int = 0xFFFF
"""Length of a field that says in each record how long it is, RFC 7011 section 7."""


class Netflow5(Header):
    """Message header of NetFlow version 5 (Cisco, "NetFlow Services Solutions Guide", table A-1)."""

    version = be16(0)
    count = be16(2, "records that follow, 1 to 30")
    uptime_ms = be32(4, "milliseconds since the exporter started")
    seconds = be32(8, "since 1970, when this was sent")
    nanoseconds = be32(12, "of that second")
    sequence = be32(16, "records sent before")
    engine_type = u8(20)
    engine_id = u8(21)
    sampling = be16(22, "mode in the upper two bits, interval below")
    SIZE = 24


class Netflow5Record(Header):
    """One flow of NetFlow version 5 (the same guide, table A-2)."""

    src = be32(0)
    dst = be32(4)
    next_hop = be32(8)
    input = be16(12, "interface by SNMP index")
    output = be16(14)
    packets = be32(16)
    octets = be32(20, "of layer 3")
    first_ms = be32(24, "uptime at the flow's first packet")
    last_ms = be32(28)
    sport = be16(32)
    dport = be16(34)
    tcp_flags = u8(37)
    protocol = u8(38)
    tos = u8(39)
    src_as = be16(40)
    dst_as = be16(42)
    src_mask = u8(44)
    dst_mask = u8(45)
    SIZE = 48


class Netflow9(Header):
    """Message header of NetFlow version 9, RFC 3954 section 5.1."""

    version = be16(0)
    count = be16(2, "records in all sets together, templates too")
    uptime_ms = be32(4)
    seconds = be32(8)
    sequence = be32(12, "messages sent before")
    source = be32(16, "the exporter's number for the observation domain")
    SIZE = 20


class Ipfix(Header):
    """Message header of IPFIX, RFC 7011 section 3.1."""

    version = be16(0)
    length = be16(2, "bytes of the message, this header included")
    seconds = be32(4)
    sequence = be32(8, "data records sent before, in this domain")
    domain = be32(12, "observation domain")
    SIZE = 16


class FlowSet(Header):
    """Header of a set, RFC 3954 section 5.2, RFC 7011 section 3.3.2."""

    id = be16(0, "kind of set, or the template of its records")
    length = be16(2, "bytes of the set, this header included")
    SIZE = 4


class FlowTemplate(Header):
    """Head of a template record, RFC 3954 section 5.2, RFC 7011 section 3.4.1."""

    id = be16(0)
    count = be16(2, "fields")
    SIZE = 4


class FlowOptions9(Header):
    """Head of an options template record of version 9, RFC 3954 section 6.1."""

    id = be16(0)
    scope_bytes = be16(2, "of the scope fields' specifiers")
    option_bytes = be16(4)
    SIZE = 6


class FlowOptions(Header):
    """Head of an options template record of IPFIX, RFC 7011 section 3.4.2.2."""

    id = be16(0)
    count = be16(2, "fields, those of the scope included")
    scope_count = be16(4)
    SIZE = 6


class FlowField(Header):
    """A field specifier, RFC 7011 section 3.2; four bytes of enterprise number follow if there is one."""

    element = bits(1, 15, "information element")
    enterprise = bits(0, 1, "whose enterprise number follows (IPFIX only)")
    type = be16(0, "both together: the field type of version 9")
    length = be16(2)
    SIZE = 4


__all__ = [
    "FIRST_DATA_SET", "IPFIX", "IPFIX_OPTIONS", "IPFIX_PORT", "IPFIX_TEMPLATES", "NETFLOW5", "NETFLOW9",
    "NETFLOW9_OPTIONS", "NETFLOW9_TEMPLATES", "NETFLOW_PORT", "VARIABLE_LENGTH", "FlowField", "FlowOptions",
    "FlowOptions9", "FlowSet", "FlowTemplate", "Ipfix", "Netflow5", "Netflow5Record", "Netflow9",
]  # fmt: skip

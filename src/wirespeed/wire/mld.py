"""MLD messages: versions 1 (RFC 2710) and 2 (RFC 3810), which are ICMPv6; plain Python.

::

    query                                                report, version 2
     0       8       16              32                   0       8       16              32
    +-------+-------+---------------+                    +-------+-------+---------------+
    |  130  |   0   |   checksum    |                    |  143  |   0   |   checksum    |
    +-------+-------+---------------+                    +-------+-------+---------------+
    | response code |       0       |                    |       0       | records (M)   |
    +---------------+---------------+                    +-------+-------+---------------+
    :        group (16 bytes)       :                    | type  | aux 0 |  sources (N)  |  M times
    +-+-----+-------+---------------+                    :        group (16 bytes)       :
    |S| QRV | QQIC  |  sources (N)  |                    :          N addresses          :
    +-+-----+-------+---------------+                    +-------------------------------+
    :          N addresses          :

Version 1 ends after the group; of it, a report is 131 and done is 132. The checksum covers addresses of the packet:
it is checked by who reads the packet, and written by who builds it.
"""

import struct
from ipaddress import IPv6Address

from wirespeed.wire.icmp import ICMP6_MLD_QUERY, ICMP6_MLD_REPORT
from wirespeed.wire.igmp import GroupRecord, MembershipQuery, MembershipReport, floating


def read_mld(data: bytes) -> MembershipQuery[IPv6Address] | MembershipReport[IPv6Address] | None:
    """The message, from its ICMPv6 header on, of a packet whose checksum is right; None as for IGMP."""
    if len(data) < 24 or data[1] != 0:
        return None
    kind, code, group = data[0], int.from_bytes(data[4:6]), IPv6Address(data[8:24])
    if kind == ICMP6_MLD_REPORT:
        return MembershipReport(group) if group.is_multicast else None
    if kind != ICMP6_MLD_QUERY or not (group.is_multicast or not int(group)):
        return None
    about = group if int(group) else None
    if len(data) == 24:
        return MembershipQuery(1, about, (), code / 1000)
    if len(data) < 28:
        return None
    flags, interval, count = struct.unpack_from("!BBH", data, 24)
    if len(data) < 28 + 16 * count or (count and about is None):
        return None
    sources = tuple(IPv6Address(data[at : at + 16]) for at in range(28, 28 + 16 * count, 16))
    return MembershipQuery(2, about, sources, floating(code, 12) / 1000, flags & 7, float(floating(interval, 4)))


def mld1_body(group: IPv6Address) -> bytes:
    """What follows the checksum in a report or done of version 1."""
    return bytes(4) + group.packed


def mld2_body(records: list[GroupRecord[IPv6Address]]) -> bytes:
    """What follows the checksum in a report of version 2."""
    parts = [struct.pack("!HH", 0, len(records))]
    for record in records:
        parts.append(struct.pack("!BBH16s", record.type, 0, len(record.sources), record.group.packed))
        parts += [source.packed for source in record.sources]
    return b"".join(parts)


__all__ = ["mld1_body", "mld2_body", "read_mld"]

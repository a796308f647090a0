"""IGMP messages: versions 1 (RFC 1112), 2 (RFC 2236) and 3 (RFC 3376, RFC 9776); plain Python.

::

    query, version 3                                     report, version 3
     0       8       16              32                   0       8       16              32
    +-------+-------+---------------+                    +-------+-------+---------------+
    | 0x11  | code  |   checksum    |                    | 0x22  |   0   |   checksum    |
    +-------+-------+---------------+                    +-------+-------+---------------+
    |             group             |                    |       0       | records (M)   |
    +-+-----+-------+---------------+                    +-------+-------+---------------+
    |S| QRV | QQIC  |  sources (N)  |                    | type  | aux 0 |  sources (N)  |  M times
    +-+-----+-------+---------------+                    |             group             |
    |          N addresses          |                    |          N addresses          |
    +-------------------------------+                    +-------------------------------+

Versions 1 and 2 end after the group; of them, reports are 0x12 and 0x16, and leave is 0x17. What queries and group
records say is the same in MLD: :mod:`wirespeed.wire.mld`.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address
from typing import Generic, TypeVar

from wirespeed.hashes.internet import checksum

Address = TypeVar("Address")

IGMP_QUERY = 0x11
IGMP1_REPORT = 0x12
IGMP2_REPORT = 0x16
IGMP2_LEAVE = 0x17
IGMP3_REPORT = 0x22

IGMP1_RESPONSE_S: float = 10.0
"""Version 1 queries do not say how long answers may take (RFC 3376 section 7.2.1)."""


class RecordType(IntEnum):
    """What a group record says, RFC 3376 section 4.2.12."""

    IS_IN = 1
    IS_EX = 2
    TO_IN = 3
    TO_EX = 4
    ALLOW = 5
    BLOCK = 6


@dataclass(frozen=True, slots=True)
class GroupRecord(Generic[Address]):
    """One group of a report."""

    type: RecordType
    group: Address
    sources: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True)
class MembershipQuery(Generic[Address]):
    """Who hears what? ``group`` None: any group; sources None or empty: any source.

    ``robustness`` 0 and ``interval_s`` 0: the querier did not say (an older version, or more than fits).
    """

    version: int
    group: Address | None
    sources: tuple[Address, ...]
    max_response_s: float
    robustness: int = 0
    interval_s: float = 0.0


@dataclass(frozen=True, slots=True)
class MembershipReport(Generic[Address]):
    """Another host said, in an older version, that it is in ``group``."""

    group: Address


def floating(code: int, bits: int) -> int:
    """A number of a query: as it is, or from its upper half on mantissa and exponent (RFC 3376 section 4.1.1).

    Args:
        bits: of the mantissa: 4 in a byte, 12 in two.
    """
    if code < 1 << bits + 3:
        return code
    return (code & (1 << bits) - 1 | 1 << bits) << (code >> bits & 7) + 3


def read_igmp(data: bytes) -> MembershipQuery[IPv4Address] | MembershipReport[IPv4Address] | None:
    """The message in an IP payload; None for what is broken, of another kind, or no concern of a host."""
    if len(data) < 8 or checksum(data) != 0:
        return None
    kind, code, _, group = struct.unpack_from("!BBH4s", data)
    address = IPv4Address(group)
    if kind in (IGMP1_REPORT, IGMP2_REPORT):
        return MembershipReport(address) if address.is_multicast else None
    if kind != IGMP_QUERY or not (address.is_multicast or not int(address)):
        return None
    about = address if int(address) else None
    if len(data) == 8:
        # RFC 3376 section 7.1: eight bytes, and the code tells version 1 from version 2.
        return MembershipQuery(2 if code else 1, about, (), code / 10 if code else IGMP1_RESPONSE_S)
    if len(data) < 12:
        return None
    flags, interval, count = struct.unpack_from("!BBH", data, 8)
    if len(data) < 12 + 4 * count or (count and about is None):
        return None
    sources = tuple(IPv4Address(data[at : at + 4]) for at in range(12, 12 + 4 * count, 4))
    return MembershipQuery(3, about, sources, floating(code, 4) / 10, flags & 7, float(floating(interval, 4)))


def igmp(kind: int, group: IPv4Address) -> bytes:
    """A message of version 1 or 2."""
    return _with_checksum(struct.pack("!BBH4s", kind, 0, 0, group.packed))


def igmp3_report(records: list[GroupRecord[IPv4Address]]) -> bytes:
    """A report of version 3."""
    parts = [struct.pack("!BBHHH", IGMP3_REPORT, 0, 0, 0, len(records))]
    for record in records:
        parts.append(struct.pack("!BBH4s", record.type, 0, len(record.sources), record.group.packed))
        parts += [source.packed for source in record.sources]
    return _with_checksum(b"".join(parts))


def _with_checksum(bare: bytes) -> bytes:
    return bare[:2] + checksum(bare).to_bytes(2) + bare[4:]


__all__ = [
    "IGMP1_REPORT", "IGMP1_RESPONSE_S", "IGMP2_LEAVE", "IGMP2_REPORT", "IGMP3_REPORT", "IGMP_QUERY", "GroupRecord",
    "MembershipQuery", "MembershipReport", "RecordType", "floating", "igmp", "igmp3_report", "read_igmp",
]  # fmt: skip

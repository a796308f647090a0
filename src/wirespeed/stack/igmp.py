"""IGMPv3, the host's side, and versions 2 and 1 beside an older querier (RFC 3376, RFC 9776, RFC 2236, RFC 1112).

What a host does is :class:`~wirespeed.stack.membership.Membership`; here is which queries count, and how it is said.
"""

from ipaddress import IPv4Address
from random import Random

from wirespeed.stack.membership import Membership
from wirespeed.stack.packets import ANY4, INTERNETWORK_CONTROL, ROUTER_ALERT4, SendPacket, ipv4
from wirespeed.wire.igmp import (
    IGMP1_REPORT,
    IGMP2_LEAVE,
    IGMP2_REPORT,
    GroupRecord,
    MembershipReport,
    igmp,
    igmp3_report,
    read_igmp,
)
from wirespeed.wire.ipv4 import PROTOCOL_IGMP

ALL_SYSTEMS = IPv4Address("224.0.0.1")
ALL_ROUTERS = IPv4Address("224.0.0.2")
ALL_REPORTS = IPv4Address("224.0.0.22")
"""Where version 3 reports go."""


class Igmp(Membership[IPv4Address]):
    """The IPv4 groups of one interface.

    Args:
        random: jitter.
        address: the source of reports; 0.0.0.0 while there is none (section 4.2.13).
        mtu: of the interface, in bytes.
        limit: groups at once.
    """

    newest = 3
    address_bytes = 4
    old_interval_s = 10.0

    def __init__(self, random: Random, address: IPv4Address = ANY4, mtu: int = 1500, limit: int = 256) -> None:
        super().__init__(random, limit)
        self.address = address
        self.room = mtu - 20 - len(ROUTER_ALERT4) - 8

    def receive(self, ttl: int, router_alert: bool, message: bytes, now_s: float) -> None:
        """An IGMP packet came in, to us or a group of ours; ``message`` is what follows the IP header.

        A query must not have crossed a router (section 4: TTL 1), and one of version 2 or 3 must have the router
        alert option (section 9.1): who is not on this link cannot make us report.
        """
        read = read_igmp(message)
        if read is None:
            self.stats.ignored["malformed"] += 1
        elif isinstance(read, MembershipReport):
            self.heard(read.group, now_s)
        elif ttl != 1:
            self.stats.ignored["ttl"] += 1
        elif read.version > 1 and not router_alert:
            self.stats.ignored["router-alert"] += 1
        else:
            self.query(read, now_s)

    def silent(self, group: IPv4Address) -> bool:
        """See :class:`Membership`; section 5: all but 224.0.0.1 are reported."""
        return group == ALL_SYSTEMS

    def report(self, records: list[GroupRecord[IPv4Address]]) -> SendPacket:
        """See :class:`Membership`."""
        return self._send(ALL_REPORTS, igmp3_report(records))

    def old_report(self, group: IPv4Address, version: int) -> SendPacket:
        """See :class:`Membership`."""
        return self._send(group, igmp(IGMP1_REPORT if version == 1 else IGMP2_REPORT, group))

    def old_leave(self, group: IPv4Address, version: int) -> SendPacket | None:
        """See :class:`Membership`; version 1 leaves without a word."""
        return None if version == 1 else self._send(ALL_ROUTERS, igmp(IGMP2_LEAVE, group))

    def _send(self, destination: IPv4Address, message: bytes) -> SendPacket:
        return SendPacket(
            ipv4(self.address, destination, PROTOCOL_IGMP, message, 1, INTERNETWORK_CONTROL, ROUTER_ALERT4)
        )


__all__ = ["ALL_REPORTS", "ALL_ROUTERS", "ALL_SYSTEMS", "Igmp"]

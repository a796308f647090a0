"""MLDv2, the host's side, and version 1 beside an older querier (RFC 3810, RFC 2710).

What a host does is :class:`~wirespeed.stack.membership.Membership`; here is which queries count, and how it is said.
Reports come before everything else an interface says: a switch that snoops must know the solicited-node group before
duplicate address detection can be heard.
"""

from ipaddress import IPv6Address
from random import Random

from wirespeed.stack.membership import Membership
from wirespeed.stack.packets import ALL_NODES6, ALL_ROUTERS6, ANY6, ROUTER_ALERT6_MLD, SendPacket, icmp6, ipv6
from wirespeed.wire.icmp import ICMP6_MLD2_REPORT, ICMP6_MLD_DONE, ICMP6_MLD_REPORT
from wirespeed.wire.igmp import GroupRecord, MembershipReport
from wirespeed.wire.ipv4 import PROTOCOL_ICMP6
from wirespeed.wire.mld import mld1_body, mld2_body, read_mld

ALL_REPORTS6 = IPv6Address("ff02::16")
"""Where version 2 reports go (RFC 3810 section 5.2.14)."""


class Mld(Membership[IPv6Address]):
    """The IPv6 groups of one interface.

    Args:
        random: jitter.
        address: the source of reports: the link-local address, ``::`` until it is known to be ours (RFC 3590).
        mtu: of the interface, in bytes.
        limit: groups at once.
    """

    newest = 2
    address_bytes = 16
    old_interval_s = 10.0

    def __init__(self, random: Random, address: IPv6Address = ANY6, mtu: int = 1500, limit: int = 256) -> None:
        super().__init__(random, limit)
        self.address = address
        self.room = mtu - 40 - 8 - 8

    def receive(self, source: IPv6Address, hop_limit: int, router_alert: bool, message: bytes, now_s: float) -> None:
        """An MLD packet came in, to us or a group of ours, its checksum right; ``message`` from the ICMPv6 header on.

        RFC 3810 section 6.2: a query comes from a link-local address, with hop limit 1 and the router alert option.
        """
        read = read_mld(message)
        if read is None:
            self.stats.ignored["malformed"] += 1
        elif isinstance(read, MembershipReport):
            self.heard(read.group, now_s)
        elif hop_limit != 1 or not source.is_link_local:
            self.stats.ignored["ttl"] += 1
        elif not router_alert:
            self.stats.ignored["router-alert"] += 1
        else:
            self.query(read, now_s)

    def silent(self, group: IPv6Address) -> bool:
        """See :class:`Membership`; RFC 3810 section 6: all nodes, and groups that never leave the host."""
        return group == ALL_NODES6 or group.packed[1] & 15 < 2

    def report(self, records: list[GroupRecord[IPv6Address]]) -> SendPacket:
        """See :class:`Membership`."""
        return self._send(ALL_REPORTS6, ICMP6_MLD2_REPORT, mld2_body(records))

    def old_report(self, group: IPv6Address, version: int) -> SendPacket:
        """See :class:`Membership`."""
        return self._send(group, ICMP6_MLD_REPORT, mld1_body(group))

    def old_leave(self, group: IPv6Address, version: int) -> SendPacket | None:
        """See :class:`Membership`."""
        return self._send(ALL_ROUTERS6, ICMP6_MLD_DONE, mld1_body(group))

    def _send(self, destination: IPv6Address, kind: int, body: bytes) -> SendPacket:
        message = icmp6(self.address, destination, kind, 0, body)
        return SendPacket(ipv6(self.address, destination, PROTOCOL_ICMP6, message, 1, ROUTER_ALERT6_MLD))


__all__ = ["ALL_REPORTS6", "Mld"]

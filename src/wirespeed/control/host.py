"""The router as a host: what it answers itself, and what it tells the senders of packets that it cannot forward.

Packets reach this code by the door they left the graph by (:class:`Reason`); what it sends goes out as complete
frames through :attr:`RouterHost.send`. Plain Python, a packet at a time, with time as an argument: the graph has
bounded the queues before it, and errors are limited in rate (RFC 1812 section 4.3.2.8).
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from wirespeed.control.forwarding import Forwarding
from wirespeed.stack import frames
from wirespeed.stack.bucket import Bucket
from wirespeed.stack.frames import Ipv4Packet
from wirespeed.stack.neighbours import Neighbour, Neighbours
from wirespeed.tables.adjacency import FORWARD, GLEAN
from wirespeed.wire.arp import ARP_REPLY, ARP_REQUEST
from wirespeed.wire.ethernet import ETHERTYPE_IPV4, MAC_GROUP_BIT
from wirespeed.wire.icmp import (
    ICMP_ECHO_REPLY,
    ICMP_ECHO_REQUEST,
    ICMP_TIME_EXCEEDED,
    ICMP_TIME_EXCEEDED_TTL,
    ICMP_UNREACHABLE,
    ICMP_UNREACHABLE_HOST,
    ICMP_UNREACHABLE_NET,
    ICMP_UNREACHABLE_PORT,
    ICMP_UNREACHABLE_TOO_BIG,
)
from wirespeed.wire.ipv4 import IPV4_FRAGMENT_OFFSET, PROTOCOL_ICMP, PROTOCOL_UDP

_QUERIES = frozenset({ICMP_ECHO_REPLY, ICMP_ECHO_REQUEST, 13, 14, 15, 16, 17, 18})
"""ICMP types that are no errors; of all others no error is reported."""
_GROUPS = 0xE0 << 24
"""The first multicast address; broadcast is above it."""


class Reason(Enum):
    """Why a packet left the graph for the host."""

    LOCAL = "local"
    GLEAN = "glean"
    TTL_EXPIRED = "ttl-expired"
    NO_ROUTE = "no-route"
    TOO_BIG = "too-big"


@dataclass(slots=True)
class HostStats:
    """What the router said, since the start."""

    arp_replies: int = 0
    arp_requests: int = 0
    arp_ignored: int = 0
    echo_replies: int = 0
    icmp_errors: int = 0
    fragmented: int = 0
    ignored: int = 0
    conflicts: int = 0


class RouterHost:
    """The router's own voice.

    Args:
        forwarding: its tables.
        send: ``send(port, frame)`` puts a frame on the wire of that port.
        limit, held: of the neighbour table.
        icmp_per_second: ICMP errors; at most 50 at once.
    """

    def __init__(
        self,
        forwarding: Forwarding,
        send: Callable[[int, bytes], None],
        limit: int = 1024,
        held: int = 16,
        icmp_per_second: int = 1000,
    ) -> None:
        self.forwarding = forwarding
        self.send = send
        self.neighbours = Neighbours(self, limit, held)
        self.errors = Bucket(icmp_per_second, min(50, icmp_per_second))
        self.stats = HostStats()
        self._now_s = 0.0
        self._identification = 0

    def tick(self, now_s: float) -> None:
        """Let time pass for the neighbour table."""
        self._now_s = now_s
        self.neighbours.tick(now_s)

    def announce(self) -> None:
        """Tell everybody our addresses, in case they remember others (RFC 5227 section 3: ARP announcement)."""
        for interface in self.forwarding.interfaces:
            for own in interface.addresses:
                self.send(interface.index, frames.arp_request(interface.mac, int(own.ip), int(own.ip)))

    # ARP ----------------------------------------------------------------------------------------------------

    def arp(self, port: int, frame: bytes, now_s: float) -> None:
        """An ARP packet came in by ``port`` (RFC 826, "Packet reception")."""
        self._now_s = now_s
        interface = self.forwarding.interfaces[port]
        packet = frames.read_arp(frame)
        if packet is None or packet.sender_mac & MAC_GROUP_BIT or not packet.sender_mac:
            self.stats.arp_ignored += 1
            return
        ours = any(packet.target == int(own.ip) for own in interface.addresses)
        if self.forwarding.is_own(packet.sender):
            self.stats.conflicts += packet.sender_mac != interface.mac
        elif packet.sender and interface.own(packet.sender) is not None:
            asked = ours and packet.operation == ARP_REQUEST
            self.neighbours.heard(packet.sender, port, packet.sender_mac, now_s, create=asked)
        elif packet.sender:  # a sender of 0 asks whether an address is free (RFC 5227): answered, not learned
            self.stats.arp_ignored += 1
            return
        if ours and packet.operation == ARP_REQUEST:
            self.send(port, frames.arp_reply(packet, interface.mac))
            self.stats.arp_replies += 1
        elif packet.operation not in (ARP_REQUEST, ARP_REPLY):
            self.stats.arp_ignored += 1

    # What the neighbour table asks for: Effects

    def solicit(self, neighbour: Neighbour) -> None:
        """See :class:`~wirespeed.stack.neighbours.Effects`."""
        interface = self.forwarding.interfaces[neighbour.port]
        ours = interface.own(neighbour.address)
        if ours is not None:
            self.send(neighbour.port, frames.arp_request(interface.mac, ours, neighbour.address, neighbour.mac))
            self.stats.arp_requests += 1

    def reachable(self, neighbour: Neighbour, held: list[bytes]) -> bool:
        """See :class:`~wirespeed.stack.neighbours.Effects`."""
        if not self.forwarding.install(neighbour.address, neighbour.port, neighbour.mac):
            return False
        interface = self.forwarding.interfaces[neighbour.port]
        for data in held:
            self.send(neighbour.port, frames.ethernet(neighbour.mac, interface.mac, ETHERTYPE_IPV4, data))
        return True

    def gone(self, neighbour: Neighbour, held: list[bytes]) -> None:
        """See :class:`~wirespeed.stack.neighbours.Effects`."""
        self.forwarding.withdraw(neighbour.address, keep=neighbour.pinned)
        for data in held:
            packet = frames.parse_ipv4(data)
            if packet is not None:
                self._error(packet, ICMP_UNREACHABLE, ICMP_UNREACHABLE_HOST)

    # IPv4 -----------------------------------------------------------------------------------------------------

    def packet(self, reason: Reason, frame: bytes, now_s: float) -> None:
        """A packet left the graph by the door ``reason``."""
        self._now_s = now_s
        packet = frames.read_ipv4(frame)
        if packet is None:
            self.stats.ignored += 1
        elif reason is Reason.LOCAL:
            self._local(packet)
        elif reason is Reason.GLEAN:
            self._glean(packet)
        elif reason is Reason.TTL_EXPIRED:
            self._error(packet, ICMP_TIME_EXCEEDED, ICMP_TIME_EXCEEDED_TTL)
        elif reason is Reason.NO_ROUTE:
            self._error(packet, ICMP_UNREACHABLE, ICMP_UNREACHABLE_NET)
        else:
            self._output(packet.data)  # its TTL was taken care of before its size was looked at

    def _local(self, packet: Ipv4Packet) -> None:
        """A packet to one of the router's addresses: answer pings; nobody listens on UDP."""
        whole = packet.flags & 0x3FFF == 0
        body = packet.payload
        if packet.protocol == PROTOCOL_ICMP and whole and len(body) >= 8 and body[0] == ICMP_ECHO_REQUEST:
            if frames.checksum(body) == 0 and self._may_answer(packet):
                self.stats.echo_replies += 1
                self._output(frames.echo_reply(packet))
                return
        elif packet.protocol == PROTOCOL_UDP:
            self._error(packet, ICMP_UNREACHABLE, ICMP_UNREACHABLE_PORT)
            return
        self.stats.ignored += 1

    def _glean(self, packet: Ipv4Packet) -> None:
        """A packet to forward to a neighbour whose address is not known: what the graph had still to do is done."""
        if packet.ttl <= 1:
            self._error(packet, ICMP_TIME_EXCEEDED, ICMP_TIME_EXCEEDED_TTL)
        else:
            self._output(frames.with_ttl(packet, packet.ttl - 1))

    def _output(self, data: bytes) -> None:
        """Send an IPv4 packet where its destination says, in fragments if need be."""
        packet = frames.parse_ipv4(data)
        hop = packet and self.forwarding.next_hop(packet.destination)
        if not packet or not hop or hop.kind not in (FORWARD, GLEAN):
            self.stats.ignored += 1
            return
        interface = self.forwarding.interfaces[hop.port]
        pieces = frames.fragments(packet, interface.mtu)
        if not pieces:
            self._error(packet, ICMP_UNREACHABLE, ICMP_UNREACHABLE_TOO_BIG, interface.mtu)  # RFC 1191 section 4
            return
        self.stats.fragmented += len(pieces) > 1
        for piece in pieces:
            if hop.kind == GLEAN:
                self.neighbours.resolve(hop.neighbour, hop.port, piece, self._now_s)
            else:
                mac = self.forwarding.adjacencies[hop.index].dst
                self.send(hop.port, frames.ethernet(mac, interface.mac, ETHERTYPE_IPV4, piece))

    # Errors -----------------------------------------------------------------------------------------------------

    def _error(self, about: Ipv4Packet, kind: int, code: int, rest: int = 0) -> None:
        """Tell the sender of a packet what became of it."""
        if not self._may_answer(about) or about.flags & IPV4_FRAGMENT_OFFSET:
            self.stats.ignored += 1
            return
        if about.protocol == PROTOCOL_ICMP and (not about.payload or about.payload[0] not in _QUERIES):
            self.stats.ignored += 1
            return
        hop = self.forwarding.next_hop(about.source)
        if hop is None or hop.kind not in (FORWARD, GLEAN):
            self.stats.ignored += 1
            return
        interface = self.forwarding.interfaces[hop.port]
        # RFC 1812 section 4.3.2.4: from an address of the port it leaves by.
        source = interface.own(hop.neighbour) or interface.own(about.source)
        if source is None and interface.addresses:
            source = int(interface.addresses[0].ip)
        if source is None or not self.errors.take(self._now_s):
            return
        self.stats.icmp_errors += 1
        self._output(frames.icmp_error(source, kind, code, rest, about))

    def _may_answer(self, packet: Ipv4Packet) -> bool:
        """RFC 1812 section 4.3.2.7: nothing is said about packets to groups, or from no single host."""
        source = packet.source
        single = 0 < source >> 24 < 224 and source >> 24 != 127 and not self.forwarding.is_own(source)
        return single and packet.destination < _GROUPS


__all__ = ["HostStats", "Reason", "RouterHost"]

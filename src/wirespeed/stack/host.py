"""The host's own voice: ARP and neighbour discovery, what is unreachable, and packets that wait for a neighbour.

What the packet path does not decide reaches this code by the door it left the graph by (:class:`Door`); what it sends
goes out as complete frames through :attr:`Host.send`. Plain Python, a packet at a time, with time as an argument: the
graph has bounded the queues before it, and errors are limited in rate (RFC 1122 section 3.2.2, RFC 4443 section 2.4).
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from random import SystemRandom

from wirespeed.stack import frames, frames6
from wirespeed.stack.acd import SendArp
from wirespeed.stack.addressing import Addressing
from wirespeed.stack.frames import ETHERNET_BYTES, ArpPacket, Ipv4Packet
from wirespeed.stack.frames6 import Ipv6Packet
from wirespeed.stack.icmp_errors import IcmpErrors
from wirespeed.stack.interface import Interface
from wirespeed.stack.interface_settings import Address
from wirespeed.stack.interface_view import NO_ROUTE
from wirespeed.stack.links import Links
from wirespeed.stack.neighbours import Neighbours
from wirespeed.stack.packets import ALL_NODES6, ROUTER_ALERT4, udp4, udp6
from wirespeed.stack.resolution import Four, Six, group_mac
from wirespeed.wire.arp import ARP_REPLY, ARP_REQUEST
from wirespeed.wire.ethernet import ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_VLAN, MAC_BROADCAST, MAC_GROUP_BIT
from wirespeed.wire.icmp import (
    ICMP6_MLD2_REPORT,
    ICMP6_MLD_DONE,
    ICMP6_MLD_QUERY,
    ICMP6_MLD_REPORT,
    ICMP6_NEIGHBOUR_ADVERTISEMENT,
    ICMP6_NEIGHBOUR_SOLICITATION,
    ICMP6_ROUTER_ADVERTISEMENT,
    ICMP6_UNREACHABLE,
    ICMP6_UNREACHABLE_PORT,
    ICMP_UNREACHABLE,
    ICMP_UNREACHABLE_PORT,
)
from wirespeed.wire.ipv4 import PROTOCOL_ICMP6, PROTOCOL_IGMP

_GROUPS4, _GROUP_MAC4 = 0xE, 0x0100_5E00_0000  # RFC 1112 section 6.4
_DISCOVERY = (ICMP6_ROUTER_ADVERTISEMENT, ICMP6_NEIGHBOUR_SOLICITATION, ICMP6_NEIGHBOUR_ADVERTISEMENT)
_MEMBERSHIP = (ICMP6_MLD_QUERY, ICMP6_MLD_REPORT, ICMP6_MLD_DONE, ICMP6_MLD2_REPORT)
_WORD = (1 << 64) - 1


class Door(Enum):
    """Why a packet left the graph for the host's control code."""

    ARP = "arp"
    RESOLVE = "resolve"
    """A packet of ours, complete but for the Ethernet addresses."""
    ICMP = "icmp"
    """ICMP and ICMPv6 that the packet path did not answer."""
    OTHER = "other"
    """Another transport."""
    NO_PORT = "no-port"
    """UDP that nobody listens for."""
    LINK = "link"
    """What the link says of addresses and groups: neighbour and router discovery, MLD, IGMP."""
    DHCP = "dhcp"
    """UDP to the port of DHCP clients, where one is wanted."""


@dataclass(slots=True)
class HostStats:
    """What the host said and heard, since the start."""

    arp_replies: int = 0
    arp_requests: int = 0
    advertisements: int = 0
    solicitations: int = 0
    icmp_errors: int = 0
    conflicts: int = 0
    ignored: int = 0
    """Packets that call for nothing, or cannot be believed."""


class Host:
    """One interface's control code.

    Args:
        interface: our addresses and routes.
        links: the tables of neighbours that workers read.
        send: puts a frame on the wire.
        limit, held: of the neighbour tables: neighbours at once, packets that wait for one.
        icmp_per_second: ICMP errors of both versions together; at most 50 at once.
    """

    def __init__(
        self,
        interface: Interface,
        links: Links,
        send: Callable[[bytes], object],
        limit: int = 1024,
        held: int = 16,
        icmp_per_second: int = 1000,
    ) -> None:
        self.interface = interface
        self.links = links
        self.send = send
        self.four = Neighbours(Four(self), limit, held)
        self.six = Neighbours(Six(self), limit, held)
        self.icmp = IcmpErrors(self, icmp_per_second)
        self.stats = HostStats()
        self.addressing: Addressing | None = None
        """Who says which addresses are ours; None: they never change."""
        self._random = SystemRandom()
        self.now_s = 0.0
        """The time, as it was told last."""

    def tick(self, now_s: float) -> None:
        """Let time pass for the neighbour tables and our addresses; several times a second."""
        self.now_s = now_s
        self.four.tick(now_s)
        self.six.tick(now_s)
        self.links.mtus.expire(now_s)
        if self.addressing is not None:
            self.addressing.tick(now_s)

    def announce6(self, address: IPv6Address) -> None:
        """Tell everybody that an address is ours, in case they remember another host's (RFC 4861 section 7.2.6)."""
        own, everybody = int(address), int(ALL_NODES6)
        self.send_ip(frames6.advertisement(own, everybody, own, self.interface.mac, solicited=False))

    def pin(self, address: int, version: int, mac: int) -> None:
        """This neighbour is at ``mac``, whatever anybody says."""
        (self.four if version == 4 else self.six).pin(address, 0, mac)
        self.links.install(address, version, mac)

    def send_frame(self, frame: bytes) -> None:
        """Send a frame, with the interface's tag if it has one."""
        vlan = self.interface.vlan
        self.send(frame if vlan < 0 else frame[:12] + ETHERTYPE_VLAN.to_bytes(2) + vlan.to_bytes(2) + frame[12:])

    def send_arp(self, probe: SendArp) -> None:
        """Send an ARP request to all."""
        packet = ArpPacket(ARP_REQUEST, self.interface.mac, int(probe.sender), 0, int(probe.target))
        self.send_frame(frames.arp(MAC_BROADCAST, packet))

    def send_ip(self, packet: bytes) -> None:
        """Send a whole IP packet of ours: to all, to a group, or to a neighbour as the routes say."""
        four, six = frames.parse_ipv4(packet), frames6.parse_ipv6(packet)
        if four is not None:
            to = four.destination
            if to >> 28 == _GROUPS4:
                self._send_to(_GROUP_MAC4 | to & 0x7F_FFFF, ETHERTYPE_IPV4, packet)
            elif to == 0xFFFF_FFFF or (self.interface.in_group4(to) and not self.interface.owns4(to)):
                self._send_to(MAC_BROADCAST, ETHERTYPE_IPV4, packet)
            else:
                self.output4(four)
        elif six is not None:
            if six.destination >> 120 == 0xFF:
                self._send_to(group_mac(six.destination), ETHERTYPE_IPV6, packet)
            else:
                self.output6(six)

    def _send_to(self, mac: int, ethertype: int, packet: bytes) -> None:
        self.send_frame(frames.ethernet(mac, self.interface.mac, ethertype, packet))

    def send_packet(self, mac: int, ethertype: int, data: bytes) -> None:
        """Send an IP packet of ours to a neighbour, in fragments if it is longer than the way carries."""
        if ethertype == ETHERTYPE_IPV4:
            four = frames.parse_ipv4(data)
            assert four is not None
            most = self._most(4, four.destination, self.interface.mtu4(four.destination))
            pieces = [data] if len(data) <= most else frames.fragments_of_own(four, most, self._identification(16))
        else:
            six = frames6.parse_ipv6(data)
            assert six is not None
            most = self._most(6, six.destination, self.interface.mtu6(*_pair(six.destination)))
            pieces = [data] if len(data) <= most else frames6.fragments(six, most, self._identification(32))
        for piece in pieces:
            self._send_to(mac, ethertype, piece)

    def _most(self, version: int, destination: int, link: int) -> int:
        return min(self.links.mtus.get(destination, version) or link, link)

    def _identification(self, bits: int) -> int:
        """Not to be guessed from the last ones (RFC 7739)."""
        return self._random.getrandbits(bits)

    # What comes in --------------------------------------------------------------------------------------------

    def take(self, door: Door, frame: bytes, now_s: float) -> None:
        """A frame left the graph by ``door``."""
        self.now_s = now_s
        if frame[12:14] == ETHERTYPE_VLAN.to_bytes(2):
            frame = frame[:12] + frame[16:]
        if door is Door.ARP:
            self._arp(frame)
            return
        data = frame[ETHERNET_BYTES:]
        if data[:1] and data[0] >> 4 == 6:
            packet6 = frames6.parse_ipv6(data)
            if packet6 is None:
                self.stats.ignored += 1
            elif door is Door.RESOLVE:
                self.output6(packet6)
            elif door is Door.LINK:
                self._link6(packet6)
            else:
                self._six(door, packet6, frame)
            return
        packet = frames.parse_ipv4(data)
        if packet is None:
            self.stats.ignored += 1
        elif door is Door.RESOLVE:
            self.output4(packet)
        elif door is Door.NO_PORT:
            self.icmp.tell4(packet, frame, ICMP_UNREACHABLE, ICMP_UNREACHABLE_PORT)
        elif door is Door.LINK or door is Door.DHCP:
            self._link4(packet)
        elif door is Door.ICMP:
            self.icmp.heard4(packet, self.now_s)
        else:
            self.icmp.tell4(packet, frame, *frames.problem(packet))

    def _arp(self, frame: bytes) -> None:
        """RFC 826, "Packet reception"."""
        packet = frames.read_arp(frame)
        if packet is None or packet.sender_mac & MAC_GROUP_BIT or not packet.sender_mac:
            self.stats.ignored += 1
            return
        interface = self.interface
        if self.addressing is not None:
            self.addressing.arp(packet.sender_mac, packet.sender, packet.target, self.now_s)
        ours = bool(interface.owns4(packet.target))
        asked = ours and packet.operation == ARP_REQUEST
        if interface.owns4(packet.sender):
            self.stats.conflicts += packet.sender_mac != interface.mac
        elif packet.sender and interface.route4(packet.sender) == packet.sender:
            self.four.heard(packet.sender, 0, packet.sender_mac, self.now_s, create=asked)
        elif packet.sender:  # a sender of 0 asks whether an address is free (RFC 5227): answered, not learned
            self.stats.ignored += 1
            return
        if asked:
            self.send_frame(frames.arp_reply(packet, interface.mac))
            self.stats.arp_replies += 1
        elif packet.operation not in (ARP_REQUEST, ARP_REPLY):
            self.stats.ignored += 1

    def _six(self, door: Door, packet: Ipv6Packet, frame: bytes) -> None:
        if door is Door.NO_PORT:
            self.icmp.tell6(packet, frame, ICMP6_UNREACHABLE, ICMP6_UNREACHABLE_PORT, 0)
        elif door is Door.OTHER:
            kind, code, pointer = frames6.problem(packet)
            self.icmp.tell6(packet, frame, kind, code, pointer)
        else:
            self.icmp.heard6(packet, self.now_s)

    def _link4(self, packet: Ipv4Packet) -> None:
        """IGMP, or a datagram to the DHCP client, whose checksum is right."""
        if self.addressing is None:
            self.stats.ignored += 1
        elif packet.protocol == PROTOCOL_IGMP:
            alert = ROUTER_ALERT4 in packet.data[20 : packet.header_bytes]
            self.addressing.groups4(packet.ttl, alert, packet.payload, self.now_s)
        else:
            length = int.from_bytes(packet.payload[4:6])
            self.addressing.udp68(packet.payload[8:length], self.now_s)

    def _link6(self, packet: Ipv6Packet) -> None:
        """Neighbour and router discovery, MLD."""
        protocol, message, alert = frames6.upper_layer(packet)
        if protocol != PROTOCOL_ICMP6 or not message:
            self.stats.ignored += 1
            return
        addressing = self.addressing
        if message[0] in _DISCOVERY and protocol == packet.protocol:  # RFC 6980: no extension headers
            if addressing is not None:
                addressing.discovery(packet.source, packet.hop_limit, message, self.now_s)
            if message[0] in (ICMP6_NEIGHBOUR_SOLICITATION, ICMP6_NEIGHBOUR_ADVERTISEMENT):
                self._discovery(packet)
        elif message[0] in _MEMBERSHIP and addressing is not None:
            addressing.groups6(packet.source, packet.hop_limit, alert, message, self.now_s)
        else:
            self.stats.ignored += 1

    def _discovery(self, packet: Ipv6Packet) -> None:
        """RFC 4861 section 7.2.3 and 7.2.5."""
        found = frames6.read_discovery(packet)
        if found is None or found.mac & MAC_GROUP_BIT:
            self.stats.ignored += 1
            return
        interface, mac = self.interface, self.interface.mac
        if found.kind == ICMP6_NEIGHBOUR_ADVERTISEMENT:
            if self.owns6(found.target):
                self.stats.conflicts += 1
            elif found.mac:
                self.six.heard(found.target, 0, found.mac, self.now_s, create=False)
            return
        assert found.kind == ICMP6_NEIGHBOUR_SOLICITATION
        if not self.owns6(found.target):
            self.stats.ignored += 1
            return
        self.stats.advertisements += 1
        if packet.source == 0:  # somebody wants to take our address
            everybody = 0xFF02 << 112 | 1
            answer = frames6.advertisement(found.target, everybody, found.target, mac, solicited=False)
            self.send_frame(frames.ethernet(group_mac(everybody), interface.mac, ETHERTYPE_IPV6, answer))
            return
        if found.mac and self._linked6(packet.source):
            self.six.heard(packet.source, 0, found.mac, self.now_s, create=True)
        answer = frames6.advertisement(found.target, packet.source, found.target, mac, solicited=True)
        sent = frames6.parse_ipv6(answer)
        assert sent is not None
        self.output6(sent)

    def owns6(self, address: int) -> bool:
        """Whether an IPv6 address is ours alone."""
        return bool(self.interface.owns6(*_pair(address)))

    def _linked6(self, address: int) -> bool:
        pair = _pair(address)
        return self.interface.route6(*pair) == pair

    # What goes out --------------------------------------------------------------------------------------------

    def source4(self, towards: int) -> int:
        """Which of our addresses speaks to a neighbour: that of its prefix, else the first."""
        own = self.interface.settings.of(4)
        for each in own:
            if towards & int(each.network.netmask) == int(each.network.network_address):
                return int(each.ip)
        return int(own[0].ip) if own else 0

    def source6(self, towards: int) -> int:
        """Which of our addresses speaks to a host: of the same scope, then of the longest common prefix, then the
        first (RFC 6724 section 5, rules 2 and 8; those that are deprecated are behind the others)."""
        local = towards >> 118 == 0x3FA or (towards >> 120 == 0xFF and towards >> 112 & 15 == 2)  # fe80::/10, ff02
        best, rank = 0, (-1, -1)
        for each in self.interface.settings.of(6):
            own = int(each.ip)
            common = min(128 - (own ^ towards).bit_length(), each.network.prefixlen)
            if (found := (int(each.ip.is_link_local == local), common)) > rank:
                best, rank = own, found
        return best

    def output4(self, packet: Ipv4Packet) -> None:
        """Send a packet of ours when its neighbour's address is known."""
        hop = self.interface.route4(packet.destination)
        if hop == NO_ROUTE or self.four.resolve(hop, 0, packet.data, self.now_s) is None:
            self.stats.ignored += hop == NO_ROUTE

    def output6(self, packet: Ipv6Packet) -> None:
        """The same for IPv6."""
        high, low = self.interface.route6(*_pair(packet.destination))
        hop = (high & _WORD) << 64 | low & _WORD
        if hop == 0 or self.six.resolve(hop, 0, packet.data, self.now_s) is None:
            self.stats.ignored += hop == 0

    def send_udp(
        self,
        source: Address | None,
        port: int,
        to: Address,
        to_port: int,
        data: bytes,
    ) -> bool:
        """Send a datagram; False if no way leads there, or none of our addresses can.

        Args:
            source: our address that it was asked of; a group, or None: the one that fits the way.
        """
        if isinstance(to, IPv4Address):
            hop = self.interface.route4(int(to))
            own = int(source) if source is not None and self.interface.owns4(int(source)) else self.source4(hop)
            if hop == NO_ROUTE or not own:
                return False
            made = frames.parse_ipv4(udp4((IPv4Address(own), port), (to, to_port), data))
            assert made is not None
            self.output4(made)
            return True
        high, low = self.interface.route6(*_pair(int(to)))
        hop = (high & _WORD) << 64 | low & _WORD
        own = int(source) if source is not None and self.owns6(int(source)) else self.source6(int(to))
        if not hop or not own:
            return False
        made6 = frames6.parse_ipv6(udp6((IPv6Address(own), port), (to, to_port), data))
        assert made6 is not None
        self.output6(made6)
        return True


def _pair(address: int) -> tuple[int, int]:
    """As views take and give it: signed words."""
    high, low = address >> 64, address & _WORD
    return high - (high >> 63 << 64), low - (low >> 63 << 64)


__all__ = ["Door", "Host", "HostStats"]

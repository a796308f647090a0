"""What the neighbour tables ask of a host: ARP requests, neighbour solicitations, and packets that may go now."""

from ipaddress import IPv6Address
from typing import TYPE_CHECKING

from wirespeed.stack import frames, frames6
from wirespeed.stack.neighbours import Neighbour
from wirespeed.stack.packets import solicited_node
from wirespeed.wire.ethernet import ETHERTYPE_IPV4, ETHERTYPE_IPV6

if TYPE_CHECKING:
    from wirespeed.stack.host import Host


class Four:
    """What the ARP table asks for (:class:`~wirespeed.stack.neighbours.Effects`)."""

    def __init__(self, host: "Host") -> None:
        self.host = host

    def solicit(self, neighbour: Neighbour) -> None:
        """See :class:`~wirespeed.stack.neighbours.Effects`."""
        host = self.host
        host.stats.arp_requests += 1
        ours = host.source4(neighbour.address)
        host.send_frame(frames.arp_request(host.interface.mac, ours, neighbour.address, neighbour.mac))

    def reachable(self, neighbour: Neighbour, held: list[bytes]) -> bool:
        """See :class:`~wirespeed.stack.neighbours.Effects`."""
        self.host.links.install(neighbour.address, 4, neighbour.mac)
        for data in held:
            self.host.send_packet(neighbour.mac, ETHERTYPE_IPV4, data)
        return True

    def gone(self, neighbour: Neighbour, held: list[bytes]) -> None:
        """See :class:`~wirespeed.stack.neighbours.Effects`."""
        self.host.links.withdraw(neighbour.address, 4)


class Six:
    """The same for neighbour discovery."""

    def __init__(self, host: "Host") -> None:
        self.host = host

    def solicit(self, neighbour: Neighbour) -> None:
        """See :class:`~wirespeed.stack.neighbours.Effects`."""
        host, target = self.host, neighbour.address
        host.stats.solicitations += 1
        group = int(solicited_node(IPv6Address(target)))
        destination = target if neighbour.mac else group
        packet = frames6.solicitation(host.source6(target), destination, target, host.interface.mac)
        host.send_frame(frames.ethernet(neighbour.mac or group_mac(group), host.interface.mac, ETHERTYPE_IPV6, packet))

    def reachable(self, neighbour: Neighbour, held: list[bytes]) -> bool:
        """See :class:`~wirespeed.stack.neighbours.Effects`."""
        self.host.links.install(neighbour.address, 6, neighbour.mac)
        for data in held:
            self.host.send_packet(neighbour.mac, ETHERTYPE_IPV6, data)
        return True

    def gone(self, neighbour: Neighbour, held: list[bytes]) -> None:
        """See :class:`~wirespeed.stack.neighbours.Effects`."""
        self.host.links.withdraw(neighbour.address, 6)


def group_mac(group: int) -> int:
    """The Ethernet address that an IPv6 group is sent to, RFC 2464 section 7."""
    return 0x3333_0000_0000 | group & 0xFFFF_FFFF


__all__ = ["Four", "Six", "group_mac"]

"""ip_output: which neighbour a packet of ours goes to, and its Ethernet header; ip_cut: what is too long for it."""

from typing import Any

from wirespeed.graph.node import Node, node
from wirespeed.jit import bswap16, bswap32, bswap64, load16, load32, load64, shift_right, store32, store64
from wirespeed.mem.descriptor import address_of
from wirespeed.stack.cut import cut_and_post
from wirespeed.stack.desk import Desk
from wirespeed.stack.interface import Interface
from wirespeed.stack.interface_view import NO_ROUTE
from wirespeed.stack.links import UNKNOWN, Links
from wirespeed.stack.outbox import Outbox
from wirespeed.stack.path_mtu import MIN6
from wirespeed.wire.ethernet import ETHERTYPE_IPV4

_MAC = (1 << 48) - 1


def ip_output(interface: Interface, links: Links) -> Node:
    """Make the node for one interface and its neighbours."""
    four, six, paths, mtus4, mtus6 = links.four, links.six, links.paths, links.mtus.four, links.mtus.six

    @node(outputs=["resolve", "long"], drops=["no-route"])
    def ip_output(pkt: Any) -> str | None:
        """Route by the destination (RFC 1122 section 3.3.1), write both Ethernet addresses.

        A packet whose neighbour's address is not known leaves by ``resolve``, one that is longer than the way carries
        by ``long``. Where the headers are is read anew: what made the packet a reply may have moved them.
        """
        frame = address_of(pkt.cells, pkt.desc)
        ip = frame + (pkt.l3 - pkt.start)
        if pkt.ethertype == ETHERTYPE_IPV4:
            target = bswap32(load32(ip + 16))
            generation = paths.generation + interface.generation
            mac = paths.find(target, generation)
            if mac == UNKNOWN:
                hop = interface.route4(target)
                if hop == NO_ROUTE:
                    return "no-route"
                mac = four.lookup(hop)
                if mac == UNKNOWN:
                    return "resolve"
                most, told = interface.mtu4(target), mtus4.lookup(target)
                if told != UNKNOWN:
                    most = min(most, told)
                mac = mac | most << 48
                paths.keep(target, generation, mac)
            if bswap16(load16(ip + 2)) > shift_right(mac, 48):
                return "long"
            mac = mac & _MAC
        else:
            high, low = bswap64(load64(ip + 24)), bswap64(load64(ip + 32))
            hop_high, hop_low = interface.route6(high, low)
            if hop_high | hop_low == 0:
                return "no-route"
            mac = six.lookup(hop_high, hop_low)
            if mac == UNKNOWN:
                return "resolve"
            length = bswap16(load16(ip + 4)) + 40
            if length > MIN6:
                told = mtus6.lookup(high, low)
                if length > interface.mtu6(high, low) or (told != UNKNOWN and length > told):
                    return "long"
        ours = interface.frame_mac
        store64(frame, mac | ours << 48)
        store32(frame + 8, ours >> 16)
        return None

    return ip_output


def ip_cut(interface: Interface, links: Links, outbox: Outbox, desk: Desk) -> Node:
    """Make the node that fragments packets of our own for one interface; the fragments leave by the outbox."""
    mtus4, mtus6 = links.mtus.four, links.mtus.six

    @node(drops=["fragmented", "too-long"])
    def ip_cut(pkt: Any) -> str | None:
        """A packet that is longer than the way carries is sent as fragments: a host may cut its own, in IPv4 and IPv6.

        ``fragmented``: its fragments are on their way; ``too-long``: it cannot be cut (it is a fragment, or there are
        no cells).
        """
        ip = address_of(pkt.cells, pkt.desc) + (pkt.l3 - pkt.start)
        if pkt.ethertype == ETHERTYPE_IPV4:
            target = bswap32(load32(ip + 16))
            most, told = interface.mtu4(target), mtus4.lookup(target)
        else:
            high, low = bswap64(load64(ip + 24)), bswap64(load64(ip + 32))
            most, told = interface.mtu6(high, low), mtus6.lookup(high, low)
        if told != UNKNOWN:
            most = min(most, told)
        sent = cut_and_post(outbox.address, pkt.cache, pkt.desc, pkt.l3 - pkt.start, most, desk.address)
        return "fragmented" if sent > 0 else "too-long"

    return ip_cut


__all__ = ["ip_cut", "ip_output"]

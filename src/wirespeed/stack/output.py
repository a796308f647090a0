"""ip_output: which neighbour a packet of ours goes to, and its Ethernet header."""

from typing import Any

from wirespeed.graph.node import Node, node
from wirespeed.jit import bswap32, bswap64, load32, load64, store32, store64
from wirespeed.mem.descriptor import address_of
from wirespeed.stack.interface import NO_ROUTE, Interface
from wirespeed.stack.links import UNKNOWN, Links
from wirespeed.wire.ethernet import ETHERTYPE_IPV4


def ip_output(interface: Interface, links: Links) -> Node:
    """Make the node for one interface and its neighbours."""
    four, six, paths = links.four, links.six, links.paths

    @node(outputs=["resolve"], drops=["no-route"])
    def ip_output(pkt: Any) -> str | None:
        """Route by the destination (RFC 1122 section 3.3.1), write both Ethernet addresses.

        A packet whose neighbour's address is not known leaves by ``resolve``. Where the headers are is read anew:
        what made the packet a reply may have moved them.
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
                if mac != UNKNOWN:
                    paths.keep(target, generation, mac)
        else:
            high, low = interface.route6(bswap64(load64(ip + 24)), bswap64(load64(ip + 32)))
            if high | low == 0:
                return "no-route"
            mac = six.lookup(high, low)
        if mac == UNKNOWN:
            return "resolve"
        ours = interface.frame_mac
        store64(frame, mac | ours << 48)
        store32(frame + 8, ours >> 16)
        return None

    return ip_output


__all__ = ["ip_output"]

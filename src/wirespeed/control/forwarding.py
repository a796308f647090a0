"""What a router's tables hold: routes to next hops, and what each next hop means; changed while workers read.

A next hop is an index. The first few are fixed::

    0              nowhere: dropped, counted as unreachable
    1              the router itself
    2 + port       on that port's network: the destination is itself the neighbour, and not resolved (glean)
    from there on  one for each neighbour: forward to its address, or glean as long as it is not known

An index that is no longer used is given away again only after a grace period: a worker may be holding it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from wirespeed.control.config import RouterConfig
from wirespeed.errors import TableError
from wirespeed.tables.adjacency import DROP, FORWARD, GLEAN, LOCAL, Adjacencies, Adjacency
from wirespeed.tables.lpm import Lpm4

NOWHERE, HERE, _FIRST_GLEAN = 0, 1, 2

_NEVER_FORWARDED = ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3")
"""RFC 1812 section 5.3.7; multicast needs multicast routing, and there is none."""


@dataclass(slots=True)
class Interface:
    """One port as the router sees it.

    Attributes:
        mac: the router's own Ethernet address there.
        addresses: its own IPv4 addresses there.
    """

    name: str
    index: int
    addresses: tuple[IPv4Interface, ...]
    mac: int = 0
    mtu: int = 1500

    def own(self, near: int) -> int | None:
        """The own address on the network of ``near``; None if it is on none of this port's."""
        address = IPv4Address(near)
        return next((int(each.ip) for each in self.addresses if address in each.network), None)


@dataclass(slots=True)
class NextHop:
    """Where a packet for some destination goes now.

    Attributes:
        index: of the adjacency.
        kind: DROP, FORWARD, LOCAL, GLEAN.
        port: index of the port; -1 for none.
        neighbour: address to resolve, when GLEAN.
    """

    index: int
    kind: int
    port: int = -1
    neighbour: int = 0


@dataclass
class Forwarding:
    """The forwarding table and the adjacencies of one router.

    Args:
        config: what it is made from.
    """

    config: RouterConfig
    fib: Lpm4 = field(init=False)
    adjacencies: Adjacencies = field(init=False)
    interfaces: list[Interface] = field(init=False)
    defer: Callable[[Callable[[], None]], None] = field(init=False)
    """Runs an action after a grace period; at once as long as no worker runs."""

    def __post_init__(self) -> None:
        config = self.config
        self.interfaces = [Interface(p.name, i, p.addresses, p.mac or 0) for i, p in enumerate(config.ports)]
        reserved = _FIRST_GLEAN + len(self.interfaces)
        self.adjacencies = Adjacencies(reserved + config.limits.neighbours + 1)
        self._free = list(range(reserved + config.limits.neighbours, reserved - 1, -1))
        self._hops: dict[int, int] = {}  # a neighbour's address: its index
        self._neighbours: dict[int, int] = {}  # and the other way round
        own = sum(len(interface.addresses) for interface in self.interfaces)
        self.fib = Lpm4(groups=3 * own + len(config.routes) + config.limits.neighbours + 16)
        self.defer = lambda action: action()
        self._never()

    def _never(self) -> None:
        self.adjacencies.set(NOWHERE, Adjacency(DROP))
        self.adjacencies.set(HERE, Adjacency(LOCAL))
        for prefix in _NEVER_FORWARDED:
            self.fib.add(prefix, NOWHERE)
        self.fib.add("127.0.0.1/32", NOWHERE)  # and taken out again: what changes tables is compiled now, not
        self.fib.delete("127.0.0.1/32")  # when the first neighbour answers

    # At the start -------------------------------------------------------------------------------------------

    def connect(self, port: int, mac: int, mtu: int) -> None:
        """A port is open, and its addresses are known: enter its networks."""
        interface = self.interfaces[port]
        interface.mac, interface.mtu = mac, mtu
        glean = _FIRST_GLEAN + port
        self.adjacencies.set(glean, Adjacency(GLEAN, port, src=mac, mtu=mtu))
        for own in interface.addresses:
            self.fib.add(own.network, glean)
            if own.network.prefixlen < 31:  # RFC 3021: both addresses of a /31 are hosts
                # RFC 2644: no directed broadcasts.
                self.fib.add(own.network.broadcast_address, NOWHERE)
                self.fib.add(own.network.network_address, NOWHERE)
            self.fib.add(own.ip, HERE)

    def route(self, prefix: IPv4Network, via: int, port: int) -> None:
        """Packets for ``prefix`` go to the neighbour ``via`` on ``port``."""
        self.fib.add(prefix, self._index_of(via, port))

    # Neighbours -----------------------------------------------------------------------------------------------

    def install(self, address: int, port: int, mac: int) -> bool:
        """Forward to ``address`` at ``mac`` from now on; False if a table is full."""
        interface = self.interfaces[port]
        try:
            index = self._index_of(address, port)
            self.adjacencies.set(index, Adjacency(FORWARD, port, mac, interface.mac, interface.mtu))
            if self.fib.lookup(address) != index:
                self.fib.add((address, 32), index)
        except TableError:
            return False
        return True

    def withdraw(self, address: int, keep: bool) -> None:
        """Forget the address's Ethernet address; with ``keep`` routes still lead to it."""
        index = self._hops.get(address)
        if index is None:
            return
        if self.fib.lookup(address) == index:
            self.fib.delete((address, 32))
        if keep:
            port = self.adjacencies[index].port
            interface = self.interfaces[port]
            self.adjacencies.set(index, Adjacency(GLEAN, port, src=interface.mac, mtu=interface.mtu))
            return
        del self._hops[address], self._neighbours[index]
        self.adjacencies.clear(index)
        self.defer(lambda: self._free.append(index))

    def _index_of(self, address: int, port: int) -> int:
        """The neighbour's index; a new one gleans. Raises TableError when there are none."""
        if address not in self._hops:
            if not self._free:
                raise TableError(f"all {self.config.limits.neighbours} neighbours are taken; raise limits.neighbours")
            index = self._free.pop()
            interface = self.interfaces[port]
            self.adjacencies.set(index, Adjacency(GLEAN, port, src=interface.mac, mtu=interface.mtu))
            self._hops[address], self._neighbours[index] = index, address
        return self._hops[address]

    # Looking up -----------------------------------------------------------------------------------------------

    def next_hop(self, destination: int) -> NextHop | None:
        """What workers would do with a packet for ``destination``; None for no route."""
        index = self.fib.lookup(destination)
        if index < 0:
            return None
        known = self.adjacencies[index] if index in self.adjacencies else Adjacency(DROP)
        port = known.port if known.kind in (FORWARD, GLEAN) else -1
        return NextHop(index, known.kind, port, self._neighbours.get(index, destination))

    def is_own(self, address: int) -> bool:
        """Whether the address is one of the router's."""
        return any(address == int(own.ip) for interface in self.interfaces for own in interface.addresses)

    def close(self) -> None:
        """Give the tables' memory back."""
        self.fib.close()
        self.adjacencies.close()


__all__ = ["HERE", "NOWHERE", "Forwarding", "Interface", "NextHop"]

"""The IPv4 router: two or more ports, routes, neighbours by ARP, and the answers a router owes (RFC 1812).

::

    port k ──▶ ethernet_input ──▶ ipv4_validate ──▶ ipv4_lookup ──▶ ipv4_kind ──▶ ipv4_ttl ──▶ ipv4_mtu ──▶
                     │ arp                               │ no-route     │ local, glean  │ ttl-expired │ too-big
                     ▼                                   ▼              ▼               ▼             ▼
                host:arp-k                        host:no-route   host:local, ...        plain Python: control/host.py

    ──▶ ipv4_rewrite ──▶ to_port ... ──▶ port k ◀── host:arp-k

Whatever the packet path does not decide leaves it by a door of its own and is polled by Python: each reason has a
queue of its own, so a flood of one kind does not keep the others from being heard.
"""

import select
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from wirespeed.control.check import connected
from wirespeed.control.config import PortConfig, RouterConfig
from wirespeed.control.forwarding import Forwarding
from wirespeed.control.host import Reason, RouterHost
from wirespeed.engine.engine import Engine
from wirespeed.graph.graph import Graph
from wirespeed.nodes import (
    ethernet_input,
    ipv4_kind,
    ipv4_lookup,
    ipv4_mtu,
    ipv4_rewrite,
    ipv4_ttl,
    ipv4_validate,
    to_port,
)
from wirespeed.ports.port import Port, port
from wirespeed.tables.station import Station

_TICK_S = 0.1
_OWN_MAC = 0x0277_7300_0000  # locally administered, for ports that have no address of their own
_DEFAULT_MTU = 1500


@dataclass
class RouterApp:
    """A router: build it, give its graph to an engine, :meth:`attach`, start the engine, :meth:`poll`."""

    config: RouterConfig
    graph: Graph = field(default_factory=Graph)
    ports: list[Port] = field(default_factory=list)
    voices: list[Any] = field(default_factory=list)
    """For each port a host port: its ARP packets arrive here, and what Python sends leaves by it."""
    doors: dict[Reason, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        limits = self.config.limits
        self.forwarding = Forwarding(self.config)
        self.host = RouterHost(self.forwarding, self._send, limits.neighbours, limits.held, limits.icmp_per_second)
        self.stations = [Station() for _ in self.config.ports]
        self.doors = {reason: port(f"host:{reason.value},size=256") for reason in Reason}
        self.ports = [port(each.spec) for each in self.config.ports]
        self.voices = [port(f"host:arp-{each.name},size=256") for each in self.config.ports]
        for voice in self.voices:
            voice.passive = True  # between captures, the last packet ends the router
        self._join()

    def _join(self) -> None:
        graph, doors, names = self.graph, self.doors, [each.name for each in self.config.ports]
        fib, adjacencies = self.forwarding.fib, self.forwarding.adjacencies
        lookup, kind = ipv4_lookup(fib, answer=True), ipv4_kind(adjacencies)
        ttl, mtu, rewrite = ipv4_ttl(answer=True), ipv4_mtu(adjacencies), ipv4_rewrite(adjacencies)
        for name, place, station, voice in zip(names, self.ports, self.stations, self.voices, strict=True):
            entry = ethernet_input(station, name)
            graph.add(place >> entry >> ipv4_validate)
            graph.add(entry["arp"] >> voice)
            graph.add(voice >> place)
        graph.add(ipv4_validate >> lookup >> kind >> ttl >> mtu >> rewrite)
        graph.add(lookup["no-route"] >> doors[Reason.NO_ROUTE])
        graph.add(kind["local"] >> doors[Reason.LOCAL])
        graph.add(kind["glean"] >> doors[Reason.GLEAN])
        graph.add(ttl["ttl-expired"] >> doors[Reason.TTL_EXPIRED])
        graph.add(mtu["too-big"] >> doors[Reason.TOO_BIG])
        at: Any = rewrite
        for index, name in enumerate(names[:-1]):
            choose = to_port(adjacencies, index).named(f"to_{name}")
            graph.add(at >> choose)
            graph.add(choose["here"] >> self.ports[index])
            at = choose
        graph.add(at >> self.ports[-1])  # a next hop is behind one of the ports: the last one needs no question

    def attach(self, engine: Engine) -> None:
        """The engine's ports are open: fill the tables with what is known now, and announce ourselves."""
        self.forwarding.defer = engine.grace.defer
        self.forwarding.fib.reclaimer = engine.grace
        for index, (said, place) in enumerate(zip(self.config.ports, self.ports, strict=True)):
            mac = _mac(said, place, index)
            self.stations[index].mac = mac
            self.forwarding.connect(index, mac, said.mtu or getattr(place, "mtu", 0) or _DEFAULT_MTU)
        for each in self.config.neighbours:
            self.host.neighbours.pin(int(each.address), self._port_of(each.address), each.mac)
        for route in self.config.routes:
            behind = self._port_of(route.via)
            self.host.neighbours.pin(int(route.via), behind)
            self.forwarding.route(route.prefix, int(route.via), behind)
        self._listen()
        self.host.announce()

    def _port_of(self, address: Any) -> int:
        found = connected(self.config, address)
        assert found is not None, "the configuration was checked"
        return found[0]

    def _listen(self) -> None:
        self._next_s = 0.0
        self._poller = select.poll()
        self._takers: dict[int, Callable[[float], None]] = {}
        for index, voice in enumerate(self.voices):
            self._takers[voice.fileno()] = lambda now_s, i=index, v=voice: self._take_arp(i, v, now_s)  # type: ignore[misc]
        for reason, door in self.doors.items():
            self._takers[door.fileno()] = lambda now_s, r=reason, d=door: self._take(r, d, now_s)  # type: ignore[misc]
        for descriptor, take in self._takers.items():
            self._poller.register(descriptor, select.POLLIN)
            take(0.0)  # nothing there yet: what polls is compiled now, not when somebody waits for an answer

    def poll(self, timeout_s: float = _TICK_S) -> None:
        """Answer what has come, or wait for it at most ``timeout_s``; let time pass for the tables."""
        wait_s = min(timeout_s, max(self._next_s - time.monotonic(), 0.0))
        ready = self._poller.poll(wait_s * 1000)
        now_s = time.monotonic()
        for descriptor, _ in ready:
            self._takers[descriptor](now_s)
        if now_s >= self._next_s:
            self._next_s = now_s + _TICK_S
            self.host.tick(now_s)

    def _take_arp(self, index: int, voice: Any, now_s: float) -> None:
        for received in voice.poll():
            self.host.arp(index, received.data, now_s)

    def _take(self, reason: Reason, door: Any, now_s: float) -> None:
        for received in door.poll():
            self.host.packet(reason, received.data, now_s)

    def _send(self, index: int, frame: bytes) -> None:
        self.voices[index].send(frame)

    def close(self) -> None:
        """Give the tables' memory back; the engine must have stopped."""
        self.forwarding.close()
        for station in self.stations:
            station.close()


def _mac(said: PortConfig, place: Port, index: int) -> int:
    """The router's address on a port. A TAP interface's own address is that of the host at its other end."""
    own = 0 if said.spec.startswith("tap:") else getattr(place, "mac", 0)
    return said.mac or own or _OWN_MAC + index + 1


def build(config: RouterConfig) -> RouterApp:
    """A router from its configuration; nothing is opened yet."""
    return RouterApp(config)


__all__ = ["RouterApp", "build"]

"""The graph of a service: from its port to who answers, and out again. ::

port ──▶ plain_udp ──▶ to_7 ──▶ ... ──▶ host:no-port
           │ unusual      ▼
           │             echo ──▶ ip_output ──▶ port
           ▼                          ▲
         host_input ──▶ udp_input ──▶ udp_to_7, echo_unusual ...
           │ arp, icmp, other
           ▼
    icmp_echo ──▶ ip_output             outbox ──▲│ resolve
           ▼                                      ▼
    control code (stack/host.py) ◀── host ports: one for each reason, so that no flood silences the others
"""

import dataclasses
from collections.abc import Sequence
from functools import cache, partial
from typing import Any

from wirespeed.apps.service_options import Handler
from wirespeed.graph.graph import Graph
from wirespeed.ports.port import Port, port
from wirespeed.ports.through import through
from wirespeed.stack.addressing import Wanted
from wirespeed.stack.chained import reassembled
from wirespeed.stack.desk import Desk
from wirespeed.stack.echo import icmp_echo
from wirespeed.stack.host import Door
from wirespeed.stack.input import host_input, udp_input, udp_to
from wirespeed.stack.interface import Interface
from wirespeed.stack.links import Links
from wirespeed.stack.outbox import Outbox
from wirespeed.stack.output import ip_cut, ip_output
from wirespeed.stack.plain import PlainPort
from wirespeed.stack.plain_udp import plain_udp, unusual
from wirespeed.stack.udp import udp_handler
from wirespeed.traffic.reassembly import Reassembly
from wirespeed.wire.dhcp4 import DHCP_CLIENT_PORT

_QUEUE = 256
_DATAGRAMS = 64  # of at most 60 cells each: strangers can fill them, so they are less than the pool has


class ServiceGraph:
    """What the graph of a service is made of, and how.

    Args:
        asked: the port that requests come in by.
        interface: our addresses.
        wanted: how they are found; may be changed until the start.
        neighbours_limit: neighbours of each IP version that are known at once.

    Attributes:
        port: what requests come in by.
        output: what answers leave by: the same port, unless another is set before the start.
        outbox: what is sent unasked leaves by it.
        fragments: datagrams that wait for their fragments.
        plain: ports to handlers in plain Python.
    """

    def __init__(self, asked: Port, interface: Interface, wanted: Wanted, neighbours_limit: int) -> None:
        self.port = asked
        self.output: Port = asked
        self.interface = interface
        self.wanted = wanted
        self.links = Links(neighbours_limit)
        self.outbox = Outbox()
        self.fragments = Reassembly(_DATAGRAMS, late=True)
        self._desk = Desk()
        self._handlers: list[Handler] = []
        self.plain: list[PlainPort] = []
        self._doors: dict[Door, Any] = {}

    def build(self) -> Graph:
        """The graph of this service; nothing is opened yet."""
        graph, plain, entry = Graph(), plain_udp(self.interface), host_input(self.interface)
        output = ip_output(self.interface, self.links)
        other, ping = output.named("ip_output_unusual"), icmp_echo(self.interface)
        wanted = [door for door in Door if door is not Door.DHCP or self.wanted.dhcp]
        self._doors = {door: port(f"host:{door.value},size={_QUEUE}") for door in wanted}
        for door in self._doors.values():
            door.passive = door.seldom = door.stays = True
        self.plain = []
        answering = cache(self._answering)  # a function that answers several ports is one node
        answers = [answering(dataclasses.replace(handler, port=0)) for handler in self._handlers]
        graph.add(self.port >> plain)
        self._choose(graph, plain, "to", [usual for usual, _ in answers], output)
        graph.add(plain["unusual"] >> unusual >> entry >> udp_input)
        self._choose(graph, udp_input, "udp_to", [unusual for _, unusual in answers], other)
        graph.add(entry["icmp"] >> ping >> other)
        graph.add(entry["icmp6"] >> ping)
        graph.add(ping["other"] >> self._doors[Door.ICMP])
        graph.add(ping["link"] >> self._doors[Door.LINK])
        graph.add(entry["igmp"] >> self._doors[Door.LINK])
        graph.add(entry["arp"] >> self._doors[Door.ARP])
        graph.add(entry["other"] >> self._doors[Door.OTHER])
        pieces = through(self.fragments)
        pieces.seldom = pieces.stays = True
        graph.add(entry["fragment"] >> pieces)
        graph.add(pieces >> reassembled >> entry)
        graph.add(reassembled["other"] >> self._doors[Door.OTHER])
        cut = ip_cut(self.interface, self.links, self.outbox, self._desk)
        compiled = any(handler.compiled for handler in self._handlers)
        for each in (output, other) if compiled else (other,):
            graph.add(each["resolve"] >> self._doors[Door.RESOLVE])
            graph.add(each["long"] >> cut)
            graph.add(each >> self.output)
        for source in (self.outbox.port, *self.plain):
            graph.add(source >> other)
        graph.add(self._doors[Door.ARP] >> self.output)  # what control code sends
        return graph

    def _choose(self, graph: Graph, at: Any, name: str, answers: Sequence[Any], output: Any) -> None:
        """From ``at``, a datagram goes to who answers its port, then out."""
        for handler, answer in zip(self._handlers, answers, strict=True):
            choose = udp_to(handler.port, f"{name}_{handler.port}")
            graph.add(at >> choose)
            graph.add(choose["here"] >> answer)
            if not isinstance(answer, PlainPort):
                graph.add(answer >> output)
            at = choose
        if self.wanted.dhcp:
            leased = udp_to(DHCP_CLIENT_PORT, f"{name}_dhcp")
            graph.add(at >> leased)
            graph.add(leased["here"] >> self._doors[Door.DHCP])
            at = leased
        graph.add(at >> self._doors[Door.NO_PORT])

    def _answering(self, handler: Handler) -> tuple[Any, Any]:
        """The node, or the port to plain Python, that answers: for plain datagrams, and for all others."""
        if handler.compiled:
            make = partial(
                udp_handler, handler.function, self.interface, self.outbox, handler.drops, prefetch=handler.prefetch,
                long=handler.long, amplification=handler.amplification, worker=handler.worker,
            )  # fmt: skip
            usual = make(desk=self._desk if handler.long else None)
            return usual, make(name=f"{usual.name}_unusual", desk=self._desk)
        plain = PlainPort(handler.function, self.interface, handler.drops, amplification=handler.amplification)
        self.plain.append(plain)
        return plain, plain


__all__ = ["ServiceGraph"]

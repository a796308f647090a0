"""A service: datagrams answered by functions, on any port. ::

    service = ws.Service("tap:ws0", address="10.7.0.1/24")

    @service.udp(port=7)
    def echo(request, reply):
        reply.write(request.payload)

    service.run()

::

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

import argparse
import asyncio
import dataclasses
import inspect
import ipaddress
import select
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import cache, partial
from random import SystemRandom
from typing import Any

from wirespeed.engine.engine import Engine
from wirespeed.engine.report import Report
from wirespeed.engine.run import Interruptible
from wirespeed.errors import WirespeedError
from wirespeed.graph.graph import Graph
from wirespeed.ports.host import path as host_path
from wirespeed.ports.port import Port, port
from wirespeed.ports.status import Event
from wirespeed.ports.through import through
from wirespeed.stack.addressing import Addressing, Wanted
from wirespeed.stack.chained import reassembled
from wirespeed.stack.desk import Desk
from wirespeed.stack.echo import icmp_echo
from wirespeed.stack.endpoint import Endpoint, EndpointError, ephemeral
from wirespeed.stack.host import Door, Host
from wirespeed.stack.input import host_input, udp_input, udp_to
from wirespeed.stack.interface import MTU_MAX, Address, Interface, Route, Settings
from wirespeed.stack.links import Links
from wirespeed.stack.outbox import Outbox
from wirespeed.stack.output import ip_cut, ip_output
from wirespeed.stack.plain import PlainPort, PlainRequest
from wirespeed.stack.plain_udp import plain_udp, unusual
from wirespeed.stack.udp import udp_handler
from wirespeed.traffic.reassembly import Reassembly
from wirespeed.wire.dhcp4 import DHCP_CLIENT_PORT
from wirespeed.wire.ethernet import mac_address

_OWN_MAC = 0x0277_7300_0001  # locally administered, for ports that have no address of their own
_TICK_S = 0.1
_REFRESH_S = 0.2
_LAST_WORDS_S = 0.2
_DATAGRAMS = 64  # of at most 60 cells each: strangers can fill them, so they are less than the pool has
_MTU = 1500  # of ports that do not say
_QUEUE = 256
_KINDS = ("dhcp", "auto")
_BACK = ("link-up", "returned", "connected")


class ServiceError(WirespeedError):
    """A service that cannot be: a port taken twice, an address that is none."""


@dataclasses.dataclass(frozen=True)
class _Handler:
    function: Callable[..., Any]
    port: int
    drops: tuple[str, ...]
    compiled: bool
    prefetch: Callable[..., Any] | None
    long: bool
    worker: Callable[..., Any] | None
    amplification: int


class Service:
    """A host on a port, and what it answers.

    Args:
        spec: the port, as text or as made by :func:`wirespeed.port`.
        address: own address or addresses with their prefix, ``"10.7.0.1/24"``, ``"2001:db8::1/64"``; ``"dhcp"``: one
            leased by a DHCPv4 server; ``"auto"``: those that IPv6 routers advertise.
        groups: multicast groups to hear, ``"239.1.1.1"``, ``"ff02::fb"``.
        check: look for the addresses given on the link before they are used (RFC 5227: six seconds; RFC 4862: two).
            Those of DHCP and routers always are looked for.
        gateway: where packets beyond those prefixes go, one for each IP version.
        local: prefixes of which every address is answered for (IPv4), beside ``address``.
        neighbours: Ethernet addresses of neighbours that are not to be asked for, by IP address.
        mac: own Ethernet address; the port's, or one of our own, unless given.
        vlan: tag that packets carry.
        icmp_per_second: limit of ICMP errors.
        neighbours_limit: neighbours of each IP version that are known at once.

    Attributes:
        port: what requests come in by.
        output: what answers leave by: the same port, unless another is set before the start.

    Raises:
        ServiceError: what was given cannot be.
    """

    def __init__(
        self,
        spec: str | Port,
        address: str | Sequence[str] = (),
        *,
        groups: str | Sequence[str] = (),
        check: bool = False,
        gateway: str | Sequence[str] = (),
        local: str | Sequence[str] = (),
        neighbours: Mapping[str, str] | None = None,
        mac: str | None = None,
        vlan: int | None = None,
        icmp_per_second: int = 1000,
        neighbours_limit: int = 1024,
    ) -> None:
        self.port = port(spec) if isinstance(spec, str) else spec
        self.output: Port = self.port
        self._mac = _parsed("Ethernet address", mac_address, mac) if mac else 0
        given = _listed(address)
        addresses = tuple(_parsed("address", ipaddress.ip_interface, each) for each in given if each not in _KINDS)
        gateways = [_parsed("gateway", ipaddress.ip_address, each) for each in _listed(gateway)]
        self.settings = Settings(
            mac=self._mac,
            addresses=addresses,
            local=tuple(_parsed("prefix", ipaddress.IPv4Network, each) for each in _listed(local)),
            groups=frozenset(_parsed("group", _group, each) for each in _listed(groups)),
            routes=tuple(_default_route(each, addresses) for each in gateways),
            vlan=vlan,
        )
        self.wanted = Wanted("dhcp" in given, "auto" in given, check)
        """How addresses are found; may be changed until the start."""
        self.interface = Interface(self.settings)
        self.links = Links(neighbours_limit)
        self.outbox = Outbox()
        self.fragments = Reassembly(_DATAGRAMS, late=True)
        """Datagrams that wait for their fragments."""
        self._desk = Desk()
        self._pinned = {
            _parsed("neighbour", ipaddress.ip_address, ip): _parsed("Ethernet address", mac_address, at)
            for ip, at in (neighbours or {}).items()
        }
        self._limits = (neighbours_limit, icmp_per_second)
        self._handlers: list[_Handler] = []
        self.plain: list[PlainPort] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._link_back = False
        self._coroutines = False  # whether anything runs in an event loop
        self._doors: dict[Door, Any] = {}
        self.host: Host | None = None
        self.engine: Engine | None = None
        self.report: Report | None = None

    def udp(
        self,
        port: int,
        *,
        drops: Sequence[str] = (),
        compiled: bool = True,
        prefetch: Callable[..., Any] | None = None,
        long: bool = False,
        worker: Callable[..., Any] | None = None,
        amplification: int | None = None,
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Answer datagrams to ``port`` with the function below, ``function(request, reply)``.

        Args:
            port: UDP port, 1 to 65535.
            drops: names of reasons that the function may return, to drop a request.
            compiled: False for what cannot be compiled: the function then runs in the control thread, in plain Python
                (:mod:`wirespeed.stack.plain`). A coroutine function always does.
            prefetch: ``prefetch(pkt)``, which runs over a burst first and asks for the memory that the function will
                read, where a table that it uses outgrows the cache; see :func:`wirespeed.node`.
            long: answers may be longer than 1472 bytes, whatever the request's length; every request is copied then.
            worker: ``worker(request)``, compiled, gives a number: requests of the same number are answered by the same
                worker, whichever received them; a key's hash, so that what is kept by key has one owner.
            amplification: answers are together at most so many times as long as their request's payload, unless the
                handler calls ``reply.verified()``; None: there is no such limit. What is beyond it is not sent, and
                counted as ``amplified``.

        Raises:
            ServiceError: the port is out of range, or taken; what is asked for cannot be.
        """
        if not 1 <= port <= 65535:
            raise ServiceError(f"UDP port {port} must be 1 to 65535")
        taken = next((each for each in self._handlers if each.port == port), None)
        if taken is not None:
            raise ServiceError(f"UDP port {port} is taken by {taken.function.__name__}: choose another")
        if amplification is not None and amplification < 1:
            raise ServiceError(f"amplification={amplification} must be 1 or more, or None for no limit")

        def declare(function: Callable[..., Any]) -> Callable[..., Any]:
            asynchronous = inspect.iscoroutinefunction(function)
            compiles = compiled and not asynchronous
            if worker is not None and not compiles:
                raise ServiceError(
                    f"{function.__name__} runs in the control thread, and worker= chooses among workers: "
                    "let it be compiled, or leave worker= out"
                )
            self._handlers.append(
                _Handler(function, port, tuple(drops), compiles, prefetch, long, worker, amplification or 0)
            )
            self._coroutines |= asynchronous
            return function

        return declare

    def endpoint(self, port: int = 0) -> Endpoint:
        """A UDP port for coroutines to ask others from, to be made before the start; 0: one that is free.

        Raises:
            ServiceError: the port is out of range, or taken.
        """
        made = Endpoint(port or ephemeral({each.port for each in self._handlers}), self._send_udp)
        self.udp(made.port, compiled=False)(made.received)
        self._coroutines = True
        return made

    @property
    def addresses(self) -> tuple[Any, ...]:
        """Those that are ours now, with their prefixes (:mod:`ipaddress`)."""
        return self.interface.settings.addresses

    # The graph ------------------------------------------------------------------------------------------------

    def build(self) -> Graph:
        """The graph of this service; nothing is opened yet."""
        graph, plain, entry = Graph(), plain_udp(self.interface), host_input(self.interface)
        output = ip_output(self.interface, self.links)
        other, ping = output.named("ip_output_unusual"), icmp_echo(self.interface)
        wanted = [door for door in Door if door is not Door.DHCP or self.wanted.dhcp]
        self._doors = {door: port(f"host:{door.value},size={_QUEUE}") for door in wanted}
        for door in self._doors.values():
            door.passive = door.seldom = True
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
        pieces.seldom = True
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

    def _answering(self, handler: _Handler) -> tuple[Any, Any]:
        """The node, or the port to plain Python, that answers: for plain datagrams, and for all others."""
        if handler.compiled:
            make = partial(
                udp_handler, handler.function, self.interface, self.outbox, handler.drops, prefetch=handler.prefetch,
                long=handler.long, amplification=handler.amplification, worker=handler.worker,
            )  # fmt: skip
            usual = make(desk=self._desk if handler.long else None)
            return usual, make(name=f"{usual.name}_unusual", desk=self._desk)
        plain = PlainPort(handler.function, self.interface, handler.drops, amplification=handler.amplification)
        plain.later, plain.spawn = self._answer_later, self._spawn
        self.plain.append(plain)
        return plain, plain

    def start(self, workers: int = 1, **options: Any) -> Engine:
        """Open the port, compile, and answer from now on; :meth:`poll` has to be called, :meth:`stop` ends it."""
        engine = Engine(self.build(), workers, **options)
        self.outbox.lend([engine.pool.cache(index) for index in range(workers)], self.interface.address)
        own = 0 if self.port.kind == "tap" else self.port.mac  # a TAP's own address is that of the host beyond it
        mtu = min(self.port.mtu or _MTU, MTU_MAX)
        self.settings = dataclasses.replace(self.settings, mac=self._mac or own or _OWN_MAC, mtu=mtu)
        voice = self._doors[Door.ARP]
        limit, per_second = self._limits
        self.host = host = Host(self.interface, self.links, voice.send, limit, icmp_per_second=per_second)
        ports = {each.port for each in self._handlers}
        host.icmp.ours = ports.__contains__
        host.addressing = Addressing(
            self.interface, self.settings, self.wanted, host.send_ip, host.send_arp, host.announce6, SystemRandom()
        )
        for address, mac in self._pinned.items():
            self.host.pin(int(address), address.version, mac)
        self._by_descriptor: dict[int, Callable[[], object]] = {}
        self._by_descriptor |= {door.fileno(): partial(self._heard, reason) for reason, door in self._doors.items()}
        for door in self._doors.values():
            door.poll()  # compiled now, not when somebody waits for an answer
        self._by_descriptor |= {plain.fileno(): plain.serve for plain in self.plain}
        for plain in self.plain:
            plain.serve()
        self._poller = select.poll()
        for descriptor in self._by_descriptor:
            self._poller.register(descriptor, select.POLLIN)
        self._tick_s = self._refresh_s = 0.0
        engine.start()
        self.engine = engine
        host.addressing.start(time.monotonic())
        self.port.events.listen(self._noted)
        return engine

    def poll(self, timeout_s: float = _TICK_S) -> None:
        """Deal with what came for control code, or wait for it at most ``timeout_s``; let time pass."""
        wait_s = min(timeout_s, max(self._tick_s - time.monotonic(), 0.0))
        for descriptor, _ in self._poller.poll(wait_s * 1000):
            self._by_descriptor[descriptor]()
        self._let_time_pass()

    def _let_time_pass(self) -> None:
        assert self.host is not None and self.engine is not None
        now_s = time.monotonic()
        if self._link_back and self.host.addressing is not None:
            self._link_back = False
            self.host.addressing.restart(now_s)
        if now_s >= self._tick_s:
            self._tick_s = now_s + _TICK_S
            self.host.tick(now_s)
        if now_s >= self._refresh_s:
            self._refresh_s = now_s + _REFRESH_S
            self.engine.refresh()

    def _noted(self, event: Event) -> None:
        """Something happened to the port; in whichever thread saw it."""
        self._link_back |= event.kind in _BACK

    def _heard(self, reason: Door) -> None:
        """Something came by this door."""
        assert self.host is not None
        now_s = time.monotonic()
        for received in self._doors[reason].poll():
            self.host.take(reason, received.data, now_s)

    def stop(self) -> Report:
        """Close the port; the final counters."""
        assert self.engine is not None
        if self.host is not None and self.host.addressing is not None and not self.engine.stopped:
            self.host.addressing.stop(time.monotonic())
            end_s, unsent = time.monotonic() + _LAST_WORDS_S, self._doors[Door.ARP].rx[0]
            while host_path.waiting(unsent) and time.monotonic() < end_s:
                time.sleep(0.001)
        self.report = self.engine.stop()
        return self.report

    def run(self, workers: int | None = None, seconds: float | None = None, **options: Any) -> Report:
        """Answer until SIGINT or SIGTERM comes, ``seconds`` pass, or the port's input ends.

        Args:
            workers, seconds: unless given, what follows ``--workers`` and ``--seconds`` on the program's command line;
                else one worker, for ever.
            options: the engine's.
        """
        asked = _asked(sys.argv[1:])
        workers = workers if workers is not None else asked.workers
        seconds = seconds if seconds is not None else asked.seconds
        end_s = None if seconds is None else time.monotonic() + seconds
        with Interruptible() as signals:

            def over() -> bool:
                return signals.event.is_set() or (end_s is not None and time.monotonic() >= end_s)

            if self._coroutines:
                report = asyncio.run(self._serve(over, workers, **options))
            else:
                engine = self.start(workers, **options)
                try:
                    while not over() and not engine.ended:
                        self.poll(_TICK_S if end_s is None else max(min(end_s - time.monotonic(), _TICK_S), 0.0))
                finally:
                    report = self.stop()
        return dataclasses.replace(report, interrupted=signals.event.is_set())

    async def serve(self, workers: int = 1, **options: Any) -> Report:
        """The same in a program that has an event loop: until it is cancelled, or the port's input ends."""
        return await self._serve(lambda: False, workers, **options)

    async def _serve(self, over: Callable[[], bool], workers: int, **options: Any) -> Report:
        loop = asyncio.get_running_loop()
        engine = self.start(workers, **options)
        try:
            for descriptor, deal in self._by_descriptor.items():
                loop.add_reader(descriptor, deal)
            while not over() and not engine.ended:
                await asyncio.sleep(_TICK_S)
                self._let_time_pass()
        finally:
            for descriptor in self._by_descriptor:
                loop.remove_reader(descriptor)
            for task in self._tasks:
                task.cancel()
            report = self.stop()
        return report

    # What plain Python sends ----------------------------------------------------------------------------------

    def _spawn(self, answering: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(answering)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _answer_later(self, request: PlainRequest, data: bytes) -> None:
        assert self.host is not None
        self.host.send_udp(request.destination, request.port, request.source, request.source_port, data)

    def _send_udp(self, port: int, to: Address, to_port: int, data: bytes) -> None:
        if self.host is None:
            raise EndpointError("the service does not run yet: await service.serve(), or call service.run()")
        if not self.host.send_udp(None, port, to, to_port, data):
            raise EndpointError(f"no way leads to {to}: give the service a gateway, or an address of that network")


def _asked(arguments: Sequence[str]) -> argparse.Namespace:
    """What a program's user asked of ``run()``; all else on the command line is the program's business."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seconds", type=float)
    return parser.parse_known_args(arguments)[0]


def _listed(given: str | Sequence[str]) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


def _parsed(what: str, read: Callable[[str], Any], text: str) -> Any:
    try:
        return read(text)
    except ValueError as error:
        raise ServiceError(f"{text!r} is no {what}: {error}") from None


def _group(text: str) -> Address:
    group = ipaddress.ip_address(text)
    if not group.is_multicast:
        raise ValueError("multicast groups are 224.0.0.0/4 and ff00::/8")
    return group


def _default_route(gateway: Any, addresses: tuple[Any, ...]) -> Route:
    if not any(gateway in each.network for each in addresses):
        raise ServiceError(f"gateway {gateway} is in none of {', '.join(str(each.network) for each in addresses)}")
    return Route(ipaddress.ip_network("0.0.0.0/0" if gateway.version == 4 else "::/0"), gateway)


__all__ = ["Service", "ServiceError"]

"""A service: datagrams answered by functions, on any port. ::

    service = ws.Service("tap:ws0", address="10.7.0.1/24")

    @service.udp(port=7)
    def echo(request, reply):
        reply.write(request.payload)

    service.run()

Its graph is :mod:`wirespeed.apps.service_graph`.
"""

import asyncio
import dataclasses
import inspect
import ipaddress
import select
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from random import SystemRandom
from typing import Any

from wirespeed.apps.service_graph import ServiceGraph
from wirespeed.apps.service_options import Handler, ServiceError, asked, default_route, group, listed, parsed
from wirespeed.engine.engine import Engine
from wirespeed.engine.report import Report
from wirespeed.engine.run import Interruptible
from wirespeed.ports.host import path as host_path
from wirespeed.ports.port import Port, port
from wirespeed.ports.status import Event
from wirespeed.stack.addressing import Addressing, Wanted
from wirespeed.stack.endpoint import Endpoint, EndpointError, ephemeral
from wirespeed.stack.host import Door, Host
from wirespeed.stack.interface import Interface
from wirespeed.stack.interface_settings import MTU_MAX, Address, Settings
from wirespeed.stack.plain import PlainRequest
from wirespeed.wire.ethernet import mac_address

_OWN_MAC = 0x0277_7300_0001  # locally administered, for ports that have no address of their own
_TICK_S = 0.1
_REFRESH_S = 0.2
_LAST_WORDS_S = 0.2
_MTU = 1500  # of ports that do not say
_KINDS = ("dhcp", "auto")
_BACK = ("link-up", "returned", "connected")


class Service(ServiceGraph):
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
        self._mac = parsed("Ethernet address", mac_address, mac) if mac else 0
        given = listed(address)
        addresses = tuple(parsed("address", ipaddress.ip_interface, each) for each in given if each not in _KINDS)
        gateways = [parsed("gateway", ipaddress.ip_address, each) for each in listed(gateway)]
        self.settings = Settings(
            mac=self._mac,
            addresses=addresses,
            local=tuple(parsed("prefix", ipaddress.IPv4Network, each) for each in listed(local)),
            groups=frozenset(parsed("group", group, each) for each in listed(groups)),
            routes=tuple(default_route(each, addresses) for each in gateways),
            vlan=vlan,
        )
        asked_by = port(spec) if isinstance(spec, str) else spec
        wanted = Wanted("dhcp" in given, "auto" in given, check)
        super().__init__(asked_by, Interface(self.settings), wanted, neighbours_limit)
        self._pinned = {
            parsed("neighbour", ipaddress.ip_address, ip): parsed("Ethernet address", mac_address, at)
            for ip, at in (neighbours or {}).items()
        }
        self._limits = (neighbours_limit, icmp_per_second)
        self._tasks: set[asyncio.Task[None]] = set()
        self._link_back = False
        self._coroutines = False  # whether anything runs in an event loop
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
                Handler(function, port, tuple(drops), compiles, prefetch, long, worker, amplification or 0)
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

    # Running -------------------------------------------------------------------------------------------------

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
            plain.later, plain.spawn = self._answer_later, self._spawn
            plain.serve()
        self._poller = select.poll()
        for descriptor in self._by_descriptor:
            self._poller.register(descriptor, select.POLLIN)
        self._tick_s = self._refresh_s = 0.0
        host.addressing.start(time.monotonic())  # first: workers are to know our addresses
        engine.start()
        self.engine = engine
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
        told = asked(sys.argv[1:])
        workers = workers if workers is not None else told.workers
        seconds = seconds if seconds is not None else told.seconds
        end_s = None if seconds is None else time.monotonic() + seconds
        with Interruptible() as signals:

            def over() -> bool:
                return signals.event.is_set() or (end_s is not None and time.monotonic() >= end_s)

            if self._coroutines:
                report = asyncio.run(self._serve(over, workers, **options))
            else:
                engine = self.start(workers, **options)
                try:
                    with engine.aside():
                        while not over() and not engine.ended:
                            self.poll(_TICK_S if end_s is None else max(min(end_s - time.monotonic(), _TICK_S), 0.0))
                finally:
                    report = self.stop()
        return dataclasses.replace(report, interrupted=signals.event.is_set())

    async def serve(self, workers: int = 1, **options: Any) -> Report:
        """The same in a program that has an event loop: until it is cancelled, or the port's input ends. Meanwhile the
        loop's thread keeps off the workers' cores."""
        return await self._serve(lambda: False, workers, **options)

    async def _serve(self, over: Callable[[], bool], workers: int, **options: Any) -> Report:
        loop = asyncio.get_running_loop()
        engine = self.start(workers, **options)
        try:
            for descriptor, deal in self._by_descriptor.items():
                loop.add_reader(descriptor, deal)
            with engine.aside():
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


__all__ = ["Service", "ServiceError"]

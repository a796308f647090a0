"""The load on a port of a host: who asks for the server's Ethernet address, answers ARP and ping, and sees answers. ::

    with Client("tap:ws0", "10.7.0.1/24", udp_requests(64), server=(ip_address("10.7.0.2"), 7)) as client:
        print(client.run(rate=1_000_000, seconds=2).latency)

A :class:`wirespeed.apps.service.Service` without handlers, to whose graph two things are added::

    load ──▶ port ──▶ ... ──▶ answers ──▶ (what is no answer) host:no-port
"""

import time
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_interface
from typing import Any

from wirespeed.apps.load.load import FIRST_PORT, End, Load, LoadPort, LoadResult
from wirespeed.apps.load.path import see
from wirespeed.apps.load.requests import KeyedRequests
from wirespeed.apps.load.state import UDP
from wirespeed.apps.service import Service
from wirespeed.errors import ConfigError, WirespeedError
from wirespeed.graph.graph import Graph
from wirespeed.graph.node import Node, node
from wirespeed.jit import cycles

_RESOLVE_S = 2.0
_WORD = (1 << 64) - 1
_TICK_S = 0.02


class LoadError(WirespeedError):
    """A server that cannot be reached."""


def answers_of(load: Any) -> Node:
    """Make the node that counts what comes back."""

    @node(drops=["answer"])
    def answers(pkt: Any) -> str | None:
        """Datagrams from the server to one of the load's ports end here; the rest goes on."""
        connection = pkt.udp.dport - load.first_port
        if pkt.udp.sport != load.server_port or connection < 0 or connection >= load.connections:
            return None
        high, low = 0, 0
        if pkt.ipv4:
            low = pkt.ipv4.src
        else:
            high, low = pkt.ipv6.src
        if high != load.server_high or low != load.server_low:
            return None
        see(load.address, pkt.payload.start, pkt.payload.length, connection, cycles())
        return "answer"

    return answers


class _Asking(Service):
    """The service whose graph has the load in it."""

    load: Load

    def build(self) -> Graph:
        self._seen = answers_of(self.load)
        graph = super().build()
        graph.add(LoadPort(self.load) >> self.output)
        return graph

    def _choose(self, graph: Graph, at: Any, name: str, answers: Sequence[Any], output: Any) -> None:
        seen = self._seen.named(f"{name}_answers")
        graph.add(at >> seen)
        super()._choose(graph, seen, name, answers, output)


class Client:
    """A load on a port; a context manager.

    Args:
        spec: the port.
        address: own address with its prefix.
        requests: payloads, see :mod:`wirespeed.apps.load.requests`.
        server: whom to ask.
        gateway: by which, where the server is beyond that prefix.
        mac: the Ethernet address to send to; asked for unless given.
        first_port: of the connections.
        connections, protocol, timeout_s, workers: see :class:`wirespeed.apps.load.load.Load`.
        options: of the engine.

    Raises:
        WirespeedError: the port cannot be opened, the server cannot be reached, an argument is out of range.
    """

    def __init__(
        self,
        spec: str,
        address: str,
        requests: Sequence[bytes] | KeyedRequests,
        server: End,
        *,
        gateway: str = "",
        mac: str = "",
        first_port: int = FIRST_PORT,
        connections: int = 64,
        protocol: int = UDP,
        timeout_s: float = 1.0,
        workers: int = 1,
        **options: Any,
    ) -> None:
        try:
            own = ip_interface(address)
        except ValueError as error:
            raise ConfigError(f"{address!r} is no address with its prefix: 10.7.0.1/24 ({error})") from None
        hop = server[0] if server[0] in own.network else _hop(gateway, server[0], own)
        self.service = _Asking(spec, address, gateway=gateway or (), neighbours={str(hop): mac} if mac else None)
        self.load = Load(requests, (own.ip, first_port), server, connections, protocol, timeout_s, workers)
        self.service.load = self.load
        self._hop, self._timeout_s, self._options = hop, timeout_s, options

    def __enter__(self) -> "Client":
        try:
            self.service.start(self.load.workers, **{"idle": "latency", **self._options})
        except BaseException:
            self.load.close()
            raise
        try:
            self._resolve()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop; the report is ``service.report``."""
        if self.service.engine is not None and not self.service.engine.stopped:
            self.service.stop()
        self.load.close()

    def run(
        self, rate: float, seconds: float, count: int = 0, watch: Callable[[Load], bool] | None = None
    ) -> LoadResult:
        """Ask, and wait for what is on its way.

        Args:
            rate: requests a second.
            seconds: how long.
            count: requests instead, as many as that takes.
            watch: called now and then; it ends the load by returning True.

        Raises:
            ConfigError: see :meth:`wirespeed.apps.load.load.Load.send`.
        """
        return self._ask(count or max(1, round(rate * seconds)), rate, watch)

    def fill(self, rate: float, watch: Callable[[Load], bool] | None = None) -> LoadResult:
        """Store every key once, in order, at ``rate`` a second; ``stored`` of the result's kinds says how many are.

        Raises:
            ConfigError: the requests are not by key; as :meth:`run`.
        """
        keyed = self.load.keyed
        return self._ask(keyed.keys if keyed else 1, rate, watch, filling=True)

    def _ask(self, count: int, rate: float, watch: Callable[[Load], bool] | None, filling: bool = False) -> LoadResult:
        load, port, engine = self.load, self.service.output, self.service.engine
        assert engine is not None
        port.refresh()
        before = port.stats().tx_dropped
        load.send(count, rate, filling)
        with engine.aside():
            while not load.idle and not self._look(watch):
                self.service.poll(_TICK_S)
            load.halt()
            until = time.monotonic() + self._timeout_s
            while load.answered < load.sent and time.monotonic() < until:
                self.service.poll(_TICK_S)
        port.refresh()
        return load.result(port.stats().tx_dropped - before)

    def _look(self, watch: Callable[[Load], bool] | None) -> bool:
        engine = self.service.engine
        assert engine is not None
        if engine.workers.failure is not None:
            raise engine.workers.failure
        return engine.ended or (watch is not None and watch(self.load))

    def _resolve(self) -> None:
        """Find out whom frames go to, as any packet of ours would, but without one."""
        host, interface, hop = self.service.host, self.service.interface, self._hop
        assert host is not None
        table = host.four if hop.version == 4 else host.six
        until = time.monotonic() + _RESOLVE_S
        found = table.get(int(hop))
        while found is None or not found.mac:
            if time.monotonic() >= until:
                raise LoadError(
                    f"{hop} does not answer on {self.service.port.spec}: is it there? Its Ethernet address may be given"
                )
            if found is None and interface.mac:
                found = table.resolve(int(hop), 0, b"", time.monotonic())
                if found is not None:
                    found.held.clear()  # there is nothing to be sent yet
            self.service.poll(_TICK_S)
            found = table.get(int(hop))
        self.load.address_to(found.mac, interface.mac)


def _hop(gateway: str, server: IPv4Address | IPv6Address, own: Any) -> Any:
    if not gateway:
        raise ConfigError(f"{server} is not in {own.network}: give a gateway, or an own address beside it")
    try:
        return ip_interface(gateway).ip
    except ValueError:
        raise ConfigError(f"{gateway!r} is no gateway's address") from None


__all__ = ["Client", "LoadError", "answers_of"]

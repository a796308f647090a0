"""A UDP endpoint for asyncio: requests with retries and a timeout, datagrams as they come. ::

ask = service.endpoint()

@service.udp(port=10)
async def forward(request, reply):
    reply.write(await ask.request(request.payload, ("10.7.0.2", 53), timeout_s=0.5, retries=3))
"""

import asyncio
import ipaddress
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from wirespeed.errors import WirespeedError
from wirespeed.stack.interface_settings import Address

_WAITING = 1024
_FIRST_EPHEMERAL = 49152  # RFC 6335 section 6


class EndpointError(WirespeedError):
    """A request that cannot be made."""


class Datagram(NamedTuple):
    """What came in and answered nothing that was asked."""

    data: bytes
    source: Address
    port: int


class _Waiter(NamedTuple):
    answer: "asyncio.Future[bytes]"
    match: Callable[[bytes], bool]


class Endpoint:
    """One of a service's UDP ports, for coroutines. Made by ``service.endpoint()``.

    Attributes:
        port: our UDP port.
        unasked: datagrams that answered nothing; at most 1024 wait, the next are dropped and counted.
        dropped: those.
    """

    def __init__(self, port: int, send: Callable[[int, Address, int, bytes], None]) -> None:
        self.port = port
        self.unasked: asyncio.Queue[Datagram] = asyncio.Queue(_WAITING)
        self.dropped = 0
        self._send = send
        self._waiters: dict[tuple[Address, int], list[_Waiter]] = {}

    def send(self, data: bytes, to: tuple[str | Address, int]) -> None:
        """Send a datagram to (address, port); when the neighbour is not known yet it waits for him.

        Raises:
            EndpointError: no address of ours is of that IP version, or no way leads there.
            ValueError: that is no address.
        """
        self._send(self.port, ipaddress.ip_address(to[0]), to[1], data)

    async def request(
        self,
        data: bytes,
        to: tuple[str | Address, int],
        *,
        timeout_s: float = 1.0,
        retries: int = 2,
        match: Callable[[bytes], bool] | None = None,
    ) -> bytes:
        """Send a datagram and wait for the one that answers it.

        Args:
            to: (address, port); only datagrams from there are looked at.
            timeout_s: how long to wait for the first time; each time twice as long as before.
            retries: how often it is sent again.
            match: whether a datagram is the answer; without it, the first one is.

        Raises:
            TimeoutError: nobody answered.
            EndpointError: see :meth:`send`.
        """
        key = (ipaddress.ip_address(to[0]), to[1])
        waiter = _Waiter(asyncio.get_running_loop().create_future(), match or (lambda _: True))
        self._waiters.setdefault(key, []).append(waiter)
        try:
            for attempt in range(retries + 1):
                self.send(data, key)
                with suppress(TimeoutError):
                    return await asyncio.wait_for(asyncio.shield(waiter.answer), timeout_s * 2**attempt)
        finally:
            waiters = self._waiters[key]
            waiters.remove(waiter)
            if not waiters:
                del self._waiters[key]
        raise TimeoutError(f"{to[0]} port {to[1]} did not answer: asked {retries + 1} times")

    def received(self, request: Any, reply: Any) -> None:
        """A datagram to our port: the handler of it."""
        for waiter in self._waiters.get((request.source, request.source_port), ()):
            if not waiter.answer.done() and waiter.match(request.payload):
                waiter.answer.set_result(request.payload)
                return
        try:
            self.unasked.put_nowait(Datagram(request.payload, request.source, request.source_port))
        except asyncio.QueueFull:
            self.dropped += 1


def ephemeral(taken: set[int]) -> int:
    """A port that nobody can guess and that is free (RFC 6056)."""
    return random.SystemRandom().choice([port for port in range(_FIRST_EPHEMERAL, 65536) if port not in taken])


__all__ = ["Datagram", "Endpoint", "EndpointError", "ephemeral"]

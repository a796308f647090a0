"""The resolver's transports over the kernel's sockets, for where the kernel has the route; and the hosts file."""

import asyncio
from collections.abc import Iterable
from ipaddress import ip_address

from wirespeed.stack.dns_answer import BadAnswer, IpAddress

DNS_PORT = 53


class _One(asyncio.DatagramProtocol):
    """Waits for one datagram."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, peer: object) -> None:
        if not self.answer.done():
            self.answer.set_result(data)

    def error_received(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


async def ask_kernel(server: IpAddress, payload: bytes, port: int = DNS_PORT) -> bytes:
    """One datagram by a socket of its own: connected, so that the kernel draws the source port at random and lets in
    only what comes from that server; it also says at once when nobody listens there."""
    loop = asyncio.get_running_loop()
    transport, one = await loop.create_datagram_endpoint(_One, remote_addr=(str(server), port))
    try:
        transport.sendto(payload)
        return await one.answer
    finally:
        transport.close()


async def stream_kernel(server: IpAddress, payload: bytes, port: int = DNS_PORT) -> bytes:
    """One question by TCP (RFC 7766): two bytes of length before each message."""
    reader, writer = await asyncio.open_connection(str(server), port)
    try:
        writer.write(len(payload).to_bytes(2) + payload)
        await writer.drain()
        size = int.from_bytes(await reader.readexactly(2))
        return await reader.readexactly(size)
    except asyncio.IncompleteReadError:
        raise BadAnswer(f"{server} closed the connection") from None
    finally:
        writer.close()


def read_hosts(lines: Iterable[str]) -> dict[str, tuple[IpAddress, ...]]:
    """What hosts(5) says: an address and its names on each line; lines that are not that are passed over."""
    found: dict[str, tuple[IpAddress, ...]] = {}
    for line in lines:
        words = line.partition("#")[0].split()
        try:
            address = ip_address(words[0])
        except (IndexError, ValueError):
            continue
        for name in words[1:]:
            key = name.removesuffix(".").lower()
            found[key] = (*found.get(key, ()), address)
    return found


__all__ = ["DNS_PORT", "ask_kernel", "read_hosts", "stream_kernel"]

"""The key-value server on a port of a host. ::

service = ws.Service("tap:ws0", address="10.7.0.1/24")
with MemcachedServer(64 << 20) as server:
    answer_memcached(service, server)
    service.run()
"""

from typing import Any

from wirespeed.apps.memcached.serve import ahead, more, serve, shard_number
from wirespeed.apps.memcached.server import MemcachedServer
from wirespeed.apps.memcached.state import DROPS, SEVERAL, SHORT, ServerView
from wirespeed.apps.service import Service
from wirespeed.wire.memcached import MEMCACHED_PORT


def answer_memcached(
    service: Service, server: MemcachedServer, port: int = MEMCACHED_PORT, amplification: int | None = None
) -> None:
    """Answer memcached's text protocol at a port; from now on the server knows the time by an alarm.

    A request goes to the worker that has the shard of its first key: that shard's memory stays in one core's caches,
    and its lock is wanted by nobody else, but for requests with keys of several shards.

    Args:
        service: the host.
        server: what is stored; with several shards if there will be several workers.
        port: UDP port.
        amplification: answers are at most so many times as long as their requests; None: no limit. A get of a long
            value is what others' names are abused for: limit it where strangers can ask.

    Raises:
        ServiceError: the port is taken, or the limit out of range.
    """

    def look_ahead(pkt: Any) -> None:
        ahead(ServerView(server.address), pkt.payload.start, pkt.payload.length)

    def by_key(request: Any) -> int:
        return shard_number(ServerView(server.address), request.payload.start, request.length)

    @service.udp(port=port, drops=DROPS, prefetch=look_ahead, worker=by_key, amplification=amplification)
    def memcached(request: Any, reply: Any) -> Any:
        """memcached's text protocol over UDP."""
        state = ServerView(server.address)
        length = serve(state, request.payload.start, request.length, reply.start, reply.room)
        if length > 0:
            reply.length = length
            while state.left > 0:
                reply.send()
                reply.length = more(state, reply.start, reply.room)
            return None
        if length == 0:
            return None
        if length == SEVERAL:
            return "several"
        return "short" if length == SHORT else "incomplete"

    server.start()


__all__ = ["answer_memcached"]

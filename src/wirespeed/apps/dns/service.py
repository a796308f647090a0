"""The name server on a port of a host. ::

service = ws.Service("tap:ws0", address="10.7.0.1/24")
server = DnsServer([read_zone("example.zone")], ticks_per_s=tsc_hz())
answer_dns(service, server)
service.run()
"""

from typing import Any

from wirespeed.apps.dns.serve import ahead, serve
from wirespeed.apps.dns.server import DnsServer
from wirespeed.apps.dns.state import DROPS, NO_ROOM, RATE_LIMITED, RESPONSE, DnsView
from wirespeed.apps.service import Service
from wirespeed.jit import cold, cycles
from wirespeed.wire.dns import DNS_PORT


@cold
def _serve(state: DnsView, now: int, peer: int, request: int, length: int, reply: int, room: int) -> int:
    """A call of its own: the handler stands in the loop twice, for plain requests and for others."""
    return serve(state, now, peer, request, length, reply, room)


def answer_dns(service: Service, server: DnsServer, port: int = DNS_PORT) -> None:
    """Answer questions to a port.

    Args:
        service: the host.
        server: what is answered, made with ``ticks_per_s=tsc_hz()``.
        port: UDP port.

    Raises:
        ServiceError: the port is taken.
    """

    def look_ahead(pkt: Any) -> None:
        ahead(DnsView(server.address), pkt.payload.start, pkt.payload.length)

    @service.udp(port=port, drops=DROPS, prefetch=look_ahead)
    def dns(request: Any, reply: Any) -> Any:
        """Authoritative DNS, RFC 1035."""
        state = DnsView(server.address)
        now = cycles() if state.interval != 0 else 0
        length = _serve(state, now, request.peer, request.payload.start, request.length, reply.start, reply.room)
        if length > 0:
            reply.length = length
            return None
        if length == RATE_LIMITED:
            return "rate-limited"
        if length == RESPONSE:
            return "response"
        return "small-room" if length == NO_ROOM else "short"


__all__ = ["answer_dns"]

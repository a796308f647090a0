"""The time server on a port of a host. ::

service = ws.Service("tap:ws0", address="10.7.0.1/24")
server = NtpServer()
answer_ntp(service, server)
service.run()
"""

from typing import Any

from wirespeed.apps.ntp.serve import serve
from wirespeed.apps.ntp.server import NtpServer
from wirespeed.apps.ntp.state import CONTROL, DROPS, MODE, NO_TIME, PRIVATE, RATE_LIMITED, VERSION, NtpView
from wirespeed.apps.service import Service
from wirespeed.jit import cycles
from wirespeed.wire.ntp import NTP_PORT


def answer_ntp(service: Service, server: NtpServer, port: int = NTP_PORT) -> None:
    """Tell the time to who asks a port; from now on the server keeps itself right by an alarm.

    Args:
        service: the host.
        server: what is told.
        port: UDP port.

    Raises:
        ServiceError: the port is taken.
    """

    @service.udp(port=port, drops=DROPS)
    def ntp(request: Any, reply: Any) -> Any:
        """NTP server, RFC 5905."""
        start, arrival = request.payload.start, request.arrival
        length = serve(
            NtpView(server.address), cycles(), arrival, request.peer, start, request.length, reply.start, reply.room
        )
        if length > 0:
            reply.length = length
            return None
        if length == RATE_LIMITED:
            return "rate-limited"
        if length == CONTROL:
            return "control"
        if length == PRIVATE:
            return "private"
        if length == MODE:
            return "mode"
        if length == VERSION:
            return "version"
        return "no-time" if length == NO_TIME else "short"

    server.start()


__all__ = ["answer_ntp"]

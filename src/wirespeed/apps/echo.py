"""Echo and discard, RFC 862 and 863: what one asks to see whether, and how fast, a path works.

There is no chargen (RFC 864): a server that answers a byte with hundreds is of use only to who forges his address.
"""

from typing import Any

from wirespeed.apps.service import Service

ECHO_PORT: int = 7
DISCARD_PORT: int = 9


def answer_echo(service: Service, port: int = ECHO_PORT) -> None:
    """Send back what comes, as it is.

    A datagram from port 7 or below 20 is dropped as ``loop``: an echo that answers another's answers never ends, and
    two of them can be set upon each other by one forged datagram (RFC 862 does not say so; CERT CA-1996-01 does).

    Raises:
        ServiceError: the port is taken.
    """

    @service.udp(port=port, drops=["loop"])
    def echo(request: Any, reply: Any) -> Any:
        """RFC 862."""
        if request.source_port < 20:
            return "loop"
        reply.write(request.payload)
        return None


def answer_discard(service: Service, port: int = DISCARD_PORT) -> None:
    """Take what comes and say nothing.

    Raises:
        ServiceError: the port is taken.
    """

    @service.udp(port=port, drops=["discarded"])
    def discard(request: Any, reply: Any) -> Any:
        """RFC 863."""
        return "discarded"


__all__ = ["DISCARD_PORT", "ECHO_PORT", "answer_discard", "answer_echo"]

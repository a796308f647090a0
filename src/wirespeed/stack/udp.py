"""udp_handler: a function of a request and its reply as a node.

::

    def echo(request, reply):
        reply.write(request.payload)

The packet becomes the reply where it lies, if it lies in one cell; a longer one is copied to the worker's desk
(:mod:`wirespeed.stack.desk`) and its reply to fresh cells. A handler that writes nothing gives no answer; it drops a
request by returning the name of a drop it declares.

A limit of amplification holds for all datagrams that a request causes to be sent to its sender, who may be somebody
else's name: their payloads together are at most so many times the request's (the bandwidth amplification factor of
Rossow, "Amplification Hell", NDSS 2014; RFC 9000 section 8.1 has the same measure).
"""

from collections.abc import Callable, Sequence
from typing import Any

from wirespeed.graph.node import DEFAULT, Around, Node
from wirespeed.jit import Local
from wirespeed.stack.desk import Desk
from wirespeed.stack.interface import Interface
from wirespeed.stack.outbox import Outbox
from wirespeed.stack.reply import UNLIMITED, Reply, answerable, begin, begin_long, turn
from wirespeed.stack.request import Request

NO_ANSWER = "no-answer"
"""Door of requests whose handler wrote nothing."""
SENT = "sent"
"""Door of requests whose answers have been sent already, each by ``reply.send()``."""
TOO_LONG = "too-long"
"""Door of requests in several cells that are longer than any datagram."""
NO_ROOM = "no-room"
"""Door of requests in several cells for whose answer there was no cell, or no room in the outbox."""
AMPLIFIED = "amplified"
"""Door of requests whose answer, or a part of it, was beyond the limit of amplification, and not sent."""

_OWN_DROPS = (NO_ANSWER, SENT, TOO_LONG, NO_ROOM, AMPLIFIED)
_REQUEST_AND_REPLY: tuple[type[Local], ...] = (Request, Reply)


def udp_handler(
    function: Callable[..., Any],
    interface: Interface,
    outbox: Outbox,
    drops: Sequence[str] = (),
    name: str = "",
    prefetch: Callable[..., Any] | None = None,
    desk: Desk | None = None,
    long: bool = False,
    amplification: int = 0,
    worker: Callable[..., Any] | None = None,
) -> Node:
    """Make the node that answers with ``function``.

    Args:
        function: ``function(request, reply)``, compiled into the loop.
        interface: whose address answers what was sent to a group.
        outbox: takes what ``reply.send()`` sends.
        drops: names that the function may return.
        name: of the node; the function's own unless given.
        prefetch: ``prefetch(pkt)``, see :func:`wirespeed.node`.
        desk: where requests lie that are in several cells, and their replies; None: there are none such.
        long: replies may be longer than a cell has room for: every request is copied to the desk.
        amplification: answers to a sender that is not verified are at most so many times its request; 0: no limit.
        worker: ``worker(request)``, a number by which a worker is chosen, see :func:`wirespeed.node`.
    """
    copied, times = int(long), amplification
    own: Any = desk  # in the first of these there is none

    def make(answer: Callable[..., Any]) -> Callable[..., Any]:
        def handle(pkt: Any) -> int:
            if not answerable(pkt):
                return 3
            request = Request()
            reply = Reply()
            begin(pkt, request, reply)
            reply.interface = interface
            reply.outbox = outbox.address
            reply.allowed = request.length * times if times != 0 else UNLIMITED
            door = answer(request, reply)
            if door != 0:
                return door
            if max(reply.length, 0) > reply.allowed:
                return 5
            if reply.length < 0:
                return 2 if reply.sent > 0 else 1
            turn(pkt, request, reply)
            return 0

        return handle

    def make_long(answer: Callable[..., Any]) -> Callable[..., Any]:
        def handle(pkt: Any) -> int:
            request = Request()
            reply = Reply()
            begin(pkt, request, reply)
            if copied or not answerable(pkt):
                if begin_long(pkt, request, reply, own.address) == 0:
                    return 3
            reply.interface = interface
            reply.outbox = outbox.address
            reply.allowed = request.length * times if times != 0 else UNLIMITED
            door = answer(request, reply)
            if door != 0:
                return door
            if max(reply.length, 0) > reply.allowed:
                return 5
            if reply.length < 0:
                return 2 if reply.sent > 0 else 1
            if reply.desk != 0:
                return 2 if reply.send() != 0 else 4
            turn(pkt, request, reply)
            return 0

        return handle

    def choose(pkt: Any) -> int:
        request = Request()
        reply = Reply()
        begin(pkt, request, reply)
        return int(number_of(request))

    def choose_long(pkt: Any) -> int:
        request = Request()
        reply = Reply()
        begin(pkt, request, reply)
        if copied or not answerable(pkt):
            if begin_long(pkt, request, reply, own.address) == 0:
                return 0
        return int(number_of(request))

    number_of: Any = worker
    chooses = None if worker is None else choose if desk is None else choose_long
    around = Around(make if desk is None else make_long, _REQUEST_AND_REPLY, frozenset({DEFAULT, *_OWN_DROPS}))
    return Node(function, (), (*_OWN_DROPS, *drops), prefetch, name or function.__name__, around, worker=chooses)


__all__ = ["AMPLIFIED", "NO_ANSWER", "NO_ROOM", "SENT", "TOO_LONG", "udp_handler"]

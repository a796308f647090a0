"""udp_handler: a function of a request and its reply as a node.

::

    def echo(request, reply):
        reply.write(request.payload)

The packet becomes the reply where it lies, if it lies in one cell; a longer one is copied to the worker's desk
(:mod:`wirespeed.stack.desk`) and its reply to fresh cells. A handler that writes nothing gives no answer; it drops a
request by returning the name of a drop it declares.
"""

from collections.abc import Callable, Sequence
from typing import Any

from wirespeed.graph.node import DEFAULT, Around, Node
from wirespeed.jit import Local
from wirespeed.stack.desk import Desk
from wirespeed.stack.interface import Interface
from wirespeed.stack.outbox import Outbox
from wirespeed.stack.reply import Reply, answerable, begin, begin_long, turn
from wirespeed.stack.request import Request

NO_ANSWER = "no-answer"
"""Door of requests whose handler wrote nothing."""
SENT = "sent"
"""Door of requests whose answers have been sent already, each by ``reply.send()``."""
TOO_LONG = "too-long"
"""Door of requests in several cells that are longer than any datagram."""
NO_ROOM = "no-room"
"""Door of requests in several cells for whose answer there was no cell, or no room in the outbox."""

_OWN_DROPS = (NO_ANSWER, SENT, TOO_LONG, NO_ROOM)
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
    """
    copied = int(long)
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
            door = answer(request, reply)
            if door != 0:
                return door
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
            door = answer(request, reply)
            if door != 0:
                return door
            if reply.length < 0:
                return 2 if reply.sent > 0 else 1
            if reply.desk != 0:
                return 2 if reply.send() != 0 else 4
            turn(pkt, request, reply)
            return 0

        return handle

    around = Around(make if desk is None else make_long, _REQUEST_AND_REPLY, frozenset({DEFAULT, *_OWN_DROPS}))
    return Node(function, (), (*_OWN_DROPS, *drops), prefetch, name or function.__name__, around)


__all__ = ["NO_ANSWER", "NO_ROOM", "SENT", "TOO_LONG", "udp_handler"]

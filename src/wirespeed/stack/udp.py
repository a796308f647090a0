"""udp_handler: a function of a request and its reply as a node.

::

    def echo(request, reply):
        reply.write(request.payload)

The packet becomes the reply where it lies. A handler that writes nothing gives no answer; it drops a request by
returning the name of a drop it declares.
"""

from collections.abc import Callable, Sequence
from typing import Any

from wirespeed.graph.node import DEFAULT, Around, Node
from wirespeed.jit import Local
from wirespeed.stack.interface import Interface
from wirespeed.stack.outbox import Outbox
from wirespeed.stack.reply import Reply, answerable, begin, turn
from wirespeed.stack.request import Request

NO_ANSWER = "no-answer"
"""Door of requests whose handler wrote nothing."""
SENT = "sent"
"""Door of requests whose answers have been sent already, each by ``reply.send()``."""
NOT_IN_ONE_CELL = "chained"
"""Door of requests that lie in several cells, or that somebody else holds: they cannot be answered in place."""

_OWN_DROPS = (NO_ANSWER, SENT, NOT_IN_ONE_CELL)
_REQUEST_AND_REPLY: tuple[type[Local], ...] = (Request, Reply)


def udp_handler(
    function: Callable[..., Any],
    interface: Interface,
    outbox: Outbox,
    drops: Sequence[str] = (),
    name: str = "",
    prefetch: Callable[..., Any] | None = None,
) -> Node:
    """Make the node that answers with ``function``.

    Args:
        function: ``function(request, reply)``, compiled into the loop.
        interface: whose address answers what was sent to a group.
        outbox: takes what ``reply.send()`` sends.
        drops: names that the function may return.
        name: of the node; the function's own unless given.
        prefetch: ``prefetch(pkt)``, see :func:`wirespeed.node`.
    """

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

    around = Around(make, _REQUEST_AND_REPLY, frozenset({DEFAULT, *_OWN_DROPS}))
    return Node(function, (), (*_OWN_DROPS, *drops), prefetch, name or function.__name__, around)


__all__ = ["NOT_IN_ONE_CELL", "NO_ANSWER", "udp_handler"]

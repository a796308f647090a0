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
from wirespeed.stack.request import Reply, Request, answerable, begin, turn4, turn6, untouched
from wirespeed.wire.ethernet import MAC_GROUP_BIT

NO_ANSWER = "no-answer"
"""Door of requests whose handler wrote nothing."""
NOT_IN_ONE_CELL = "chained"
"""Door of requests that lie in several cells, or that somebody else holds: they cannot be answered in place."""

_OWN_DROPS = (NO_ANSWER, NOT_IN_ONE_CELL)
_REQUEST_AND_REPLY: tuple[type[Local], ...] = (Request, Reply)


def udp_handler(
    function: Callable[..., Any],
    interface: Interface,
    drops: Sequence[str] = (),
    name: str = "",
) -> Node:
    """Make the node that answers with ``function``.

    Args:
        function: ``function(request, reply)``, compiled into the loop.
        interface: whose address answers what was sent to a group.
        drops: names that the function may return.
        name: of the node; the function's own unless given.
    """

    def make(answer: Callable[..., Any]) -> Callable[..., Any]:
        def handle(pkt: Any) -> int:
            if not answerable(pkt):
                return 2
            request = Request()
            reply = Reply()
            begin(pkt, request, reply)
            door = answer(request, reply)
            if door != 0:
                return door
            if reply.length < 0:
                return 1
            if request.six == 0:
                group = pkt.eth.dst & MAC_GROUP_BIT
                turn4(pkt, interface.address4 if group != 0 else 0, reply.length, untouched(request, reply))
            else:
                turn6(pkt, 0, 0, reply.length, untouched(request, reply))
            return 0

        return handle

    around = Around(make, _REQUEST_AND_REPLY, frozenset({DEFAULT, *_OWN_DROPS}))
    return Node(function, (), (*_OWN_DROPS, *drops), None, name or function.__name__, around)


__all__ = ["NOT_IN_ONE_CELL", "NO_ANSWER", "udp_handler"]

"""Nodes: a Python function of one packet that says by which door the packet leaves.

::

    @ws.node(outputs=["dns"], drops=["not-dns"])
    def classify(pkt):
        '''Send DNS one way, drop the rest.'''
        if pkt.udp and (pkt.udp.dport == 53 or pkt.udp.sport == 53):
            return "dns"
        return "not-dns"

The declaration is the node's manual: its counters, its help and its place in the drawn graph come from it.
``return "name"`` sends the packet through an output or a drop; no return (or ``return None``) sends it through
the default output, the one that ``a >> b`` joins.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, overload

from wirespeed.errors import NodeError
from wirespeed.jit import Local
from wirespeed.ports.options import nearest
from wirespeed.ports.wiring import Chain, Joinable

DEFAULT: str = ""
"""The name of the default output."""


@dataclass(frozen=True)
class Around:
    """What stands between the packet and a function that takes something else: a request and its reply, say.

    Attributes:
        make: given the function, gives the one of the packet that calls it. The function's answer is the number of its
            door (0 the default one, then outputs, then drops), and so is that of what ``make`` gives.
        takes: the classes of the function's arguments.
        doors: those by which a packet may leave besides the ones that the function names.
    """

    make: Callable[[Callable[..., Any]], Callable[..., Any]]
    takes: tuple[type[Local], ...]
    doors: frozenset[str] = frozenset()


class Node(Joinable):
    """A declared node; made by :func:`node`.

    Attributes:
        name: what reports and errors call it.
        function: the Python function.
        outputs, drops: names of doors, as declared.
        prefetch: a function of the packet that asks for the memory ``function`` will read, or None.
        parses: it finds the headers itself, for all nodes behind it that no other way leads to.
        worker: None, or a function of the packet that says, by a number, which worker runs the node on it.
        around: None, or what makes ``function`` one of something else than a packet (:class:`Around`).
    """

    def __init__(
        self,
        function: Callable[..., Any],
        outputs: Sequence[str] = (),
        drops: Sequence[str] = (),
        prefetch: Callable[..., Any] | None = None,
        name: str = "",
        around: "Around | None" = None,
        parses: bool = False,
        worker: Callable[..., Any] | None = None,
    ) -> None:
        self.function = function
        self.outputs = tuple(outputs)
        self.drops = tuple(drops)
        self.prefetch = prefetch
        self.around = around
        self.parses = parses
        self.worker = worker
        self.name = name or function.__name__
        self.__doc__ = inspect.getdoc(function) or ""
        self.__name__ = self.name
        self._check()

    def _check(self) -> None:
        doors = [*self.outputs, *self.drops]
        for door in doors:
            if not isinstance(door, str) or not door:
                raise NodeError(f"{self.where}: {self.name} declares the door {door!r}; a door is a non-empty name")
            if doors.count(door) > 1:
                raise NodeError(f"{self.where}: {self.name} declares the door {door!r} twice")
        parameters = list(inspect.signature(self.function).parameters)
        if self.around is None and len(parameters) != 1:
            raise NodeError(
                f"{self.where}: {self.name} takes {len(parameters)} arguments; a node takes the packet alone, "
                "and what else it needs it takes from around its definition"
            )

    @property
    def where(self) -> str:
        """``file:line`` of the definition."""
        code = self.function.__code__
        return f"{code.co_filename}:{code.co_firstlineno}"

    @property
    def summary(self) -> str:
        """First line of the manual."""
        return (self.__doc__ or "").partition("\n")[0]

    def named(self, name: str) -> "Node":
        """The same node once more, under another name: each counts for itself and is joined for itself."""
        return Node(
            self.function, self.outputs, self.drops, self.prefetch, name, self.around, self.parses, self.worker
        )  # fmt: skip

    def __getitem__(self, door: str) -> Chain:
        """``node["dns"] >> port``: the chain that starts at this door."""
        if door not in self.outputs:
            if door in self.drops:
                raise NodeError(f"{self.name}[{door!r}] is a drop: it ends there; declare it in outputs to join it")
            raise NodeError(f"{self.name} has no output {door!r}: {nearest(door, list(self.outputs))}")
        return Chain((), self, door)

    def __call__(self, pkt: Any) -> Any:
        """Run the function on a packet, interpreted; returns the name of the door."""
        if self.around is None:
            return self.function(pkt)
        doors: list[Any] = [None, *self.outputs, *self.drops]

        def numbered(*given: Any) -> int:
            return doors.index(self.function(*given))

        return doors[self.around.make(numbered)(pkt)]

    def trace(self, packet: Any, port: int = 0) -> Any:
        """Run interpreted on one packet: bytes or a scapy packet. See :class:`wirespeed.graph.trace.Trace`."""
        from wirespeed.graph.trace import trace

        return trace(self, packet, port)

    def __repr__(self) -> str:
        return f"<node {self.name}>"


@overload
def node(function: Callable[..., Any]) -> Node: ...


@overload
def node(
    *,
    outputs: Sequence[str] = (),
    drops: Sequence[str] = (),
    prefetch: Callable[..., Any] | None = None,
    name: str = "",
    worker: Callable[..., Any] | None = None,
) -> Callable[[Callable[..., Any]], Node]: ...


def node(
    function: Callable[..., Any] | None = None,
    *,
    outputs: Sequence[str] = (),
    drops: Sequence[str] = (),
    prefetch: Callable[..., Any] | None = None,
    name: str = "",
    worker: Callable[..., Any] | None = None,
) -> Node | Callable[[Callable[..., Any]], Node]:
    """Declare a node.

    Args:
        outputs: doors that lead on; each must be joined to something.
        drops: doors that end the packet; each is a counted reason.
        prefetch: ``prefetch(pkt)`` is run over the whole burst before the node itself, where the tables the
            node reads are too large for the cache.
        name: instead of the function's name.
        worker: ``worker(pkt)`` gives a number, and packets of the same number are dealt with by the same worker,
            whichever received them (it is the number modulo the workers): what the node keeps by that number then
            needs no locks, and stays in one core's cache. ``pkt.mark`` does not go with a packet to another worker.
    """
    if function is not None:
        return Node(function)

    def declare(function: Callable[..., Any]) -> Node:
        return Node(function, outputs, drops, prefetch, name, worker=worker)

    return declare

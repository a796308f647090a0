"""``a >> b``: how ports and nodes are joined.

A chain is a list of edges; an edge goes from one door of one place (a port, or a node's output) to
another place. Nothing here knows what a place does: the graph checks that.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Edge:
    """``source[door] >> target``; the default door is the empty string."""

    source: Any
    door: str
    target: Any


class Joinable:
    """Anything that can stand in a chain."""

    def __rshift__(self, other: Any) -> "Chain":
        return Chain((), self, "") >> other


class Chain:
    """Edges so far, and the door that the next ``>>`` leads from."""

    def __init__(self, edges: tuple[Edge, ...], last: Any, door: str) -> None:
        self.edges = edges
        self.first = edges[0].source if edges else last
        self.last = last
        self.door = door

    def __rshift__(self, other: Any) -> "Chain":
        if isinstance(other, Chain):
            joint = Edge(self.last, self.door, other.first)
            return Chain((*self.edges, joint, *other.edges), other.last, other.door)
        if not isinstance(other, Joinable):
            raise TypeError(f"{other!r} cannot stand after >>: join ports and nodes (is it decorated with @node?)")
        return Chain((*self.edges, Edge(self.last, self.door, other)), other, "")

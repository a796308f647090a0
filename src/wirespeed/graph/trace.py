"""One node, one packet, no compiler: for ``breakpoint()``, for teaching and for tests.

The node's own function runs in the interpreter on a real packet in a real cell, with every access checked;
what it called by name runs interpreted too.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from wirespeed.errors import NodeError
from wirespeed.graph.node import DEFAULT, Node
from wirespeed.jit import fields, read_bytes, write_bytes
from wirespeed.mem.descriptor import CELL, HEADROOM, ROOM, address_of, describe, length_of
from wirespeed.mem.region import Region
from wirespeed.ports.options import nearest
from wirespeed.wire.packet import Packet
from wirespeed.wire.parse import parse_transport


@dataclass(frozen=True)
class Touch:
    """One field that was read or written."""

    header: str
    field: str
    access: str

    def __str__(self) -> str:
        return f"{self.access} {self.header}.{self.field}"


@dataclass(frozen=True)
class Trace:
    """What a node did to a packet.

    Attributes:
        node: the node's name.
        door: the door it left by; the empty string is the default output.
        dropped: whether that door is a drop.
        data: the packet's bytes afterwards.
        before: its bytes before.
        touched: fields read and written, in order, each kind of access once.
    """

    node: str
    door: str
    dropped: bool
    data: bytes
    before: bytes
    touched: tuple[Touch, ...]

    @property
    def changed(self) -> bool:
        """Whether the bytes are others now."""
        return self.data != self.before

    def __str__(self) -> str:
        way = f"drop {self.door!r}" if self.dropped else repr(self.door) if self.door else "default output"
        lines = [f"{self.node}: {way}, {len(self.data)} bytes{', changed' if self.changed else ''}"]
        lines += [f"    {touch}" for touch in self.touched]
        return "\n".join(lines)


@contextmanager
def laid_out(packet: Any, port: int = 0) -> Iterator[Packet]:
    """A packet in a cell of its own, as nodes see it, for code that runs interpreted.

    Raises:
        NodeError: it does not fit a cell.
    """
    data = bytes(packet)
    if len(data) > ROOM:
        raise NodeError(f"a trace takes one cell: at most {ROOM} bytes, not {len(data)}")
    with Region(CELL, "wirespeed-trace", huge=False) as memory:
        write_bytes(memory.address + HEADROOM, data)
        pkt = Packet()
        pkt.cells, pkt.cache, pkt.port, pkt.mark = memory.address, 0, port, 0
        pkt.desc = describe(0, HEADROOM, len(data))
        parse_transport(pkt)
        yield pkt


def trace(node: Node, packet: Any, port: int = 0) -> Trace:
    """Run ``node`` interpreted on ``packet`` (bytes, or anything ``bytes()`` takes, such as a scapy packet).

    Raises:
        NodeError: the packet does not fit a cell, or the node returned no door of its own.
    """
    with laid_out(packet, port) as pkt:
        before = read_bytes(address_of(pkt.cells, pkt.desc), length_of(pkt.desc))
        fields.touched = []
        try:
            returned = node(pkt)
        finally:
            touched, fields.touched = fields.touched, None
        door = DEFAULT if returned is None else returned
        if door != DEFAULT and door not in (*node.outputs, *node.drops):
            known = [*node.outputs, *node.drops]
            raise NodeError(f"{node.where}: {node.name} returned {door!r}, which it does not declare; "
                            f"{nearest(str(door), known)}")  # fmt: skip
        after = read_bytes(address_of(pkt.cells, pkt.desc), length_of(pkt.desc))
    seen = dict.fromkeys(Touch(*touch) for touch in touched)
    return Trace(node.name, door, door in node.drops, after, before, tuple(seen))

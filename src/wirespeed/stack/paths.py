"""Paths: which neighbour an IPv4 address was reached through last, for each worker.

A worker's own memory of what routing table and neighbour table said, so that a reply costs two loads::

    0    what was asked for: address | generation << 32       8   the path: Ethernet address, as it stands in a frame,
                                                                  and the largest packet << 48

Whoever changes either table raises its generation afterwards, and nothing kept before is found again. A worker reads
the generation first and the tables then, so what it keeps is never older than it says.
"""
# mypy: allow-untyped-calls, no-warn-return-any

from wirespeed.jit import View, le64, load64, store64
from wirespeed.mem.shared import Shared
from wirespeed.mem.state import MAX_WORKERS

_LINE = 64
_ENTRIES = 1024
_STRIDE = _LINE + _ENTRIES * 16
_SPREAD = 0x9E37_79B1  # 2**32 / golden ratio: neighbours that follow each other do not collide

UNKNOWN: int = -1
"""Nothing is kept for that address."""


class PathsView(View):
    """One worker's."""

    generation = le64(0, "raised by whoever changes a table")
    SIZE = _STRIDE

    def find(self, address: int, generation: int) -> int:
        """The path to ``address``; UNKNOWN.

        Args:
            generation: of the tables, together.
        """
        at = self.address + _LINE + ((address * _SPREAD & 0xFFFF_FFFF) >> 22 << 4)
        return load64(at + 8) if load64(at) == address | generation << 32 else UNKNOWN

    def keep(self, address: int, generation: int, path: int) -> None:
        """Remember it, instead of another one."""
        at = self.address + _LINE + ((address * _SPREAD & 0xFFFF_FFFF) >> 22 << 4)
        store64(at, address | generation << 32)
        store64(at + 8, path)


class Paths(Shared):
    """What the workers remember."""

    KIND = "paths"
    View = PathsView
    stride = _STRIDE

    def __init__(self) -> None:
        self._create(MAX_WORKERS * _STRIDE, None, huge=False)
        self.forget()

    @property
    def generation(self) -> int:
        """As a worker sees it."""
        return int(PathsView(self.address).generation)

    def forget(self) -> None:
        """A table has changed: nothing kept counts any more."""
        after = self.generation + 1
        for worker in range(MAX_WORKERS):
            PathsView(self.address + worker * _STRIDE).generation = after

    def find(self, address: int, generation: int) -> int:
        """As worker 0."""
        return PathsView(self.address).find(address, generation)

    def keep(self, address: int, generation: int, path: int) -> None:
        """As worker 0."""
        PathsView(self.address).keep(address, generation, path)


__all__ = ["UNKNOWN", "Paths", "PathsView"]

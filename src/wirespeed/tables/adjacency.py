"""Adjacencies: what a next hop means. One 32-byte record each, read by nodes and changed live.

::

    0   kind     DROP, FORWARD, LOCAL (the router itself) or GLEAN (on the link, address not resolved yet)
    2   port     index of the port to leave by
    4   mtu      the largest IP packet that port takes
    8   destination MAC, six bytes as they stand in the frame, and two of zeros
    16  source MAC, the same

The kind is written last when an entry comes alive and first when it dies. A worker that read the kind before may
read the addresses after: each is one aligned word, so it is the old one or the new one, never half of each.
"""

from dataclasses import dataclass

from wirespeed.errors import TableError
from wirespeed.jit import View, fence, kernel, le64, load8, load16, load64, store8, store16, store32, store64
from wirespeed.mem.region import Region

DROP, FORWARD, LOCAL, GLEAN = 0, 1, 2, 3

_HEAD = 64
_RECORD = 32
_LARGEST_MTU = 0xFFFF
_LARGEST_MAC = 0xFFFF_FFFF_FFFF


class AdjacenciesView(View):
    """The table as nodes see it. An index outside it wraps: it reads another record, never other memory."""

    mask = le64(0, "records - 1")
    SIZE = _HEAD

    def _record(self, index: int) -> int:
        return self.address + _HEAD + (index & self.mask) * _RECORD  # type: ignore[no-any-return]

    def kind(self, index: int) -> int:
        """DROP, FORWARD, LOCAL or GLEAN."""
        return load8(self._record(index))

    def port(self, index: int) -> int:
        """The port to leave by."""
        return load16(self._record(index) + 2)

    def mtu(self, index: int) -> int:
        """The largest IP packet the port takes."""
        return load16(self._record(index) + 4)

    def rewrite(self, frame: int, index: int) -> None:
        """Write both MAC addresses of the frame at address ``frame``."""
        record = self._record(index)
        source = load64(record + 16)
        store64(frame, load64(record + 8) | (source << 48))
        store32(frame + 8, source >> 16)


@dataclass(frozen=True)
class Adjacency:
    """One record, for control code. MAC addresses are integers."""

    kind: int
    port: int = 0
    dst: int = 0
    src: int = 0
    mtu: int = 1500


@kernel
def _publish(record, kind, port, mtu, dst, src):  # type: ignore[no-untyped-def]
    store8(record, DROP)
    fence()
    store16(record + 2, port)
    store16(record + 4, mtu)
    store64(record + 8, dst)
    store64(record + 16, src)
    fence()
    store8(record, kind)


class Adjacencies:
    """A table of next hops.

    Args:
        size: how many; rounded up to a power of two. The index is the route's next hop.
    """

    View = AdjacenciesView

    def __init__(self, size: int = 1024, name: str = "adjacencies") -> None:
        if not 1 <= size <= 1 << 24:
            raise TableError(f"{name}: {size} adjacencies are not possible: use 1 to {1 << 24}")
        self.name = name
        self.size = 1 << (size - 1).bit_length()
        self._region = Region(_HEAD + self.size * _RECORD, f"wirespeed-{name}", huge=self.size > 4096)
        self.address = self._region.address
        self._view = AdjacenciesView(self.address)
        self._view.mask = self.size - 1
        self._known: dict[int, Adjacency] = {}

    def set(self, index: int, adjacency: Adjacency) -> None:
        """Make ``index`` mean ``adjacency``, live; what it means already disturbs no packet.

        Raises:
            TableError: the index or a field is out of range.
        """
        if not 0 <= index < self.size:
            raise TableError(f"{self.name}: next hop {index} is out of range: 0 to {self.size - 1}")
        if not 0 <= adjacency.mtu <= _LARGEST_MTU or not 0 <= adjacency.port <= 0xFFFF:
            raise TableError(f"{self.name}: {adjacency} has a port or MTU above {_LARGEST_MTU}")
        if not DROP <= adjacency.kind <= GLEAN:
            raise TableError(f"{self.name}: {adjacency} is of no kind: use DROP, FORWARD, LOCAL or GLEAN")
        if not 0 <= adjacency.dst <= _LARGEST_MAC or not 0 <= adjacency.src <= _LARGEST_MAC:
            raise TableError(f"{self.name}: {adjacency} has a MAC address that is not 48 bits")
        if self._known.get(index) == adjacency:
            return
        dst, src = (int.from_bytes(mac.to_bytes(6, "big"), "little") for mac in (adjacency.dst, adjacency.src))
        record = self.address + _HEAD + index * _RECORD
        _publish(record, adjacency.kind, adjacency.port, adjacency.mtu, dst, src)
        self._known[index] = adjacency

    def clear(self, index: int) -> None:
        """Packets for ``index`` are dropped from now on."""
        self.set(index, Adjacency(DROP))
        self._known.pop(index, None)

    def __getitem__(self, index: int) -> Adjacency:
        return self._known[index]

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, index: object) -> bool:
        return index in self._known

    # What nodes call, for traces
    def kind(self, index: int) -> int:
        """See :meth:`AdjacenciesView.kind`."""
        return self._view.kind(index)

    def port(self, index: int) -> int:
        """See :meth:`AdjacenciesView.port`."""
        return self._view.port(index)

    def mtu(self, index: int) -> int:
        """See :meth:`AdjacenciesView.mtu`."""
        return self._view.mtu(index)

    def rewrite(self, frame: int, index: int) -> None:
        """See :meth:`AdjacenciesView.rewrite`."""
        self._view.rewrite(frame, index)

    def close(self) -> None:
        """Give the memory back; no graph may run with it."""
        self._region.close()
